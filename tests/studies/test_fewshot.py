"""Few-shot prompting: draws, floors, what does not fit, and the sentence."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from selfsup.cli.app import main
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.studies.fewshot import Settings, run
from selfsup.studies.fewshot_finding import finding
from selfsup.tasks.prompts import PromptTask, read_prompt_task
from selfsup.uses.fewshot import best, majority, measure, options, part, shown
from selfsup.uses.likelihood import Likelihood
from tests.uses.tiny_decoder import tiny_decoder


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> PretrainedDecoder:
    return tiny_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "task.jsonl"
    rows: list[dict[str, Any]] = [{"choices": ["good", "bad"]}]
    rows += [{"input": f"film {i}", "output": "bad" if i % 3 else "good"} for i in range(24)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_draws_are_nested_keyed_and_shuffled(file: Path) -> None:
    task = read_prompt_task(file)
    parts = part(task, None, limit=None, seed=0)
    assert not set(parts.pool) & set(parts.asked)
    assert len(parts.asked) == 12
    eight = shown(parts.pool, 8, seed=0, draw=1, labels="true")
    assert shown(parts.pool, 3, seed=0, draw=1, labels="true") == eight[:3]
    assert eight != shown(parts.pool, 8, seed=0, draw=2, labels="true")
    other = shown(parts.pool, 12, seed=0, draw=1, labels="shuffled")
    whole = shown(parts.pool, 12, seed=0, draw=1, labels="true")
    assert [e.input for e in other] == [e.input for e in whole]
    assert Counter(e.output for e in other) == Counter(e.output for e in whole)
    assert [e.output for e in other] != [e.output for e in whole]
    answer, share = majority(parts.asked)
    assert share == max(Counter(e.output for e in parts.asked).values()) / 12
    assert answer == "bad"


def test_normalization_is_as_stated() -> None:
    found = [
        Likelihood(-4.0, 1, 8, False),
        Likelihood(-6.0, 4, 9, False),
        Likelihood(-5, 1, 20, False),
    ]
    assert [best(found, way) for way in ("none", "tokens", "bytes")] == [0, 1, 2]


def test_a_choice_that_begins_another_can_lose(file: Path) -> None:
    task = read_prompt_task(file)
    assert options(task, task.examples[0]) == ["good", "bad"]
    rows = [{"choices": ["1", "10"]}, {"input": "a", "output": "10"}, {"input": "b", "output": "1"}]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    task = read_prompt_task(file)
    assert options(task, task.examples[0]) == ["1\n", "10\n"]


def test_batch_size_changes_nothing(decoder: PretrainedDecoder, file: Path) -> None:
    task = read_prompt_task(file)
    parts = part(task, None, limit=None, seed=0)
    given = (decoder, task, parts.pool[:3], parts.asked)
    answers = [measure(*given, batch_tokens=size).answers for size in (1, 64, 4096)]
    assert answers[0] == answers[1] == answers[2]


def test_the_study(
    decoder: PretrainedDecoder,
    file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    words = ["fewshot", str(decoder.path), "--task", str(file), "--out", str(out), "-q"]
    words += ["--shots", "0,2,11,99", "--draws", "2"]
    monkeypatch.setattr(sys, "argv", ["selfsup", *words])
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "99 examples are left out: there are 12 to show" in printed.err
    assert "11 examples are left out: the prompt of draw 1" in printed.err
    result = json.loads((out / "result.json").read_text())
    assert result["finding"] in printed.out
    assert [row["shots"] for row in result["table"]] == [0, 2]
    assert {"raw", "by tokens", "by bytes", "shuffled"} <= set(result["table"][1])
    fits = next(x["fit"] for x in result["left_out"] if x["shots"] == 11)
    assert 2 < fits < 11
    assert (out / "figures" / "fewshot.png").stat().st_size > 10_000
    assert len((out / "figures" / "fewshot.csv").read_text().splitlines()) == 1 + 1 + 2 * 2
    before = {p: p.stat().st_mtime_ns for p in (out / "cells").iterdir()}
    assert main([*words, "--json"]) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "cells").iterdir()} == before
    assert main([*words, "--seed", "1"]) == 2


def test_written_answers(decoder: PretrainedDecoder, file: Path, tmp_path: Path) -> None:
    rows = [{"input": str(i), "output": str(i + 1)} for i in range(8)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = Settings(shots=(0, 1), draws=1, max_tokens=4)
    result = run([str(decoder.path)], file, tmp_path / "out", settings, quiet=True)
    assert result["how"] == "exact match of what is written"
    assert [row["accuracy"] for row in result["table"]] == [0, 0]


def test_what_is_refused_leaves_no_folder(
    decoder: PretrainedDecoder, file: Path, tmp_path: Path
) -> None:
    rows = [{"input": str(i), "output": str(i + 1)} for i in range(8)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    long = Settings(shots=(0,), draws=1, max_tokens=decoder.max_length)
    with pytest.raises(UserError, match=r"no example fits into the 96 tokens .* or --max-tokens"):
        run([str(decoder.path)], file, tmp_path / "out", long, quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--shots", "a"], "--shots: 'a' is no number of examples"),
        (["--shots", "-1"], "--shots: must not be negative"),
        (["--draws", "0"], "--draws: must be at least 1"),
        (["--limit", "0"], "--limit: must be at least 1"),
        (["--seed", "99999999999999999999"], "--seed: must be at most 4294967295"),
    ],
)
def test_bad_flags(
    decoder: PretrainedDecoder,
    file: Path,
    flags: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fewshot", str(decoder.path), "--task", str(file), *flags]) == 2
    assert said in capsys.readouterr().err


def _points(**accuracies: list[float]) -> list[dict[str, Any]]:
    points = []
    for name, values in accuracies.items():
        labels, shots = name.split("_")
        points += [
            {"shots": int(shots), "draw": d, "labels": labels, "exact": v}
            for d, v in enumerate(values)
        ]
    return points


def test_the_sentence() -> None:
    rising = _points(true_0=[0.2], true_8=[0.8, 0.85, 0.9], shuffled_8=[0.3, 0.2, 0.4])
    said = finding(rising, "exact", 0.3, 200)
    assert said.startswith("Accuracy rises with the examples: 0.200 with no example, 0.850")
    assert "true labels are better than shuffled ones" in said
    copied = _points(true_0=[0.2], true_8=[0.5, 0.5, 0.52], shuffled_8=[0.5, 0.51, 0.5])
    said = finding(copied, "exact", 0.5, 200)
    assert "but not beyond the most frequent answer" in said
    assert "no better than shuffled ones" in said
    few = _points(true_0=[0.5], true_8=[0.6, 0.6], shuffled_8=[0.5, 0.5])
    assert "does not rise beyond" in finding(few, "exact", 0.5, 10)
    wide = _points(true_0=[0.5], true_8=[0.4, 0.9], shuffled_8=[0.5, 0.5])
    assert "does not rise beyond" in finding(wide, "exact", 0.5, 1000)


def test_parts_of_one_example(file: Path) -> None:
    file.write_text('{"input": "a", "output": "b"}', encoding="utf-8")
    task: PromptTask = read_prompt_task(file)
    with pytest.raises(Exception, match="none is left to ask about"):
        part(task, None, limit=None, seed=0)
