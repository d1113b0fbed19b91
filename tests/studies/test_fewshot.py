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
from selfsup.tasks.prompts import Example, PromptTask, read_prompt_task
from selfsup.uses.fewshot import (
    best,
    majority,
    measure,
    options,
    part,
    shown,
    unused,
    with_test,
)
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


def test_the_order_of_choices_does_not_make_them_others() -> None:
    asked = [Example("x", "yes", ("yes", "no"), "f:1")] * 3
    asked.append(Example("y", "no", ("no", "yes"), "f:4"))
    assert majority(asked) == ("yes", 0.75)
    outputs = shown(asked, 4, seed=0, draw=0, labels="shuffled")
    assert Counter(e.output for e in outputs) == Counter(e.output for e in asked)
    asked.append(Example("z", "up", ("up", "down", "left"), "f:5"))
    assert majority(asked) == ("", pytest.approx((4 / 2 + 1 / 3) / 5))


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
    damaged = sorted(before)[:4]  # measured again, whatever became of them
    for path, content in zip(damaged, ('{"shots"', "[1]", '{"shots": 0}', "3"), strict=True):
        path.write_text(content)
    assert main([*words, "--json"]) == 0
    assert all("right_nats" in json.loads(p.read_text()) for p in damaged)
    (out / "study.json").write_text("[]")
    assert main(words) == 2
    assert "study.json: is damaged: not a JSON object; --overwrite" in capsys.readouterr().err


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


# --- what each model is asked, and the floor of it


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_the_floor_is_of_what_each_model_is_asked(
    decoder: PretrainedDecoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tiny_decoder(tmp_path / "small", max_length=24)
    rows: list[dict[str, Any]] = [{"choices": ["good", "bad"]}]
    rows += [{"input": f"{i}", "output": "good" if i < 4 else "bad"} for i in range(6)]
    rows += [{"input": "the lazy dog " * 4 + f"{i}", "output": "bad"} for i in range(8)]
    test = _write(tmp_path / "test.jsonl", rows)
    words = [
        "fewshot",
        str(decoder.path),
        str(small.path),
        "--task",
        str(test),
        "--test",
        str(test),
    ]
    words += ["--shots", "0,1", "--draws", "1", "--out", str(tmp_path / "out"), "-q"]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    wide, narrow = result["models"]
    assert result["examples"] == {"to show": 14, "asked about": {wide: 14, narrow: 6}}
    assert result["majority"] == {
        wide: {"answer": "bad", "accuracy": 10 / 14},
        narrow: {"answer": "good", "accuracy": 4 / 6},
    }
    for row in result["table"]:
        floor = (10 / 14, 14) if row["model"] == wide else (4 / 6, 6)
        assert (row["floor"], row["asked"]) == floor
    assert "the most frequent answer has 0.714. " in result["finding"]
    end = "the most frequent answer has 0.667 (6 of 14 examples were asked about)."
    assert result["finding"].endswith(end)
    lines = (tmp_path / "out" / "figures" / "fewshot.csv").read_text().splitlines()
    assert lines[0].endswith(",accuracy,asked,floor")
    assert {tuple(x.split(",")[-2:]) for x in lines[1:]} == {
        ("14", str(10 / 14)),
        ("6", str(4 / 6)),
    }


def test_a_number_that_would_fit_does(decoder: PretrainedDecoder, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"choices": ["good", "bad"]}]
    rows += [
        {"input": "dog " * (1 + i % 7), "output": "bad" if i % 3 else "good"} for i in range(40)
    ]
    task = _write(tmp_path / "task.jsonl", rows)
    settings = Settings(shots=(0, 16, 20), draws=8)
    result = run([str(decoder.path)], task, tmp_path / "out", settings, quiet=True)
    first, second = result["left_out"]
    assert first["fit"] == second["fit"]
    again = Settings(shots=(first["fit"], first["fit"] + 1), draws=8)
    result = run([str(decoder.path)], task, tmp_path / "again", again, quiet=True)
    assert [x["shots"] for x in result["left_out"]] == [first["fit"] + 1]
    assert result["left_out"][0]["fit"] == first["fit"]


def test_guessing_is_called_so() -> None:
    points = _points(true_0=[0.2], true_8=[0.5, 0.5, 0.52], shuffled_8=[0.5, 0.51, 0.5])
    said = finding(points, "exact", 0.5, 200, floor="guessing among the choices")
    assert "but not beyond guessing among the choices" in said
    assert said.endswith("; guessing among the choices has 0.500.")
    assert "most frequent" not in said


def test_choices_of_their_own_are_guessed_among(decoder: PretrainedDecoder, tmp_path: Path) -> None:
    rows = [
        {"input": f"{i}", "output": f"a{i}", "choices": [f"a{i}", f"b{i}", "c"]} for i in range(8)
    ]
    task = _write(tmp_path / "task.jsonl", rows)
    result = run(
        [str(decoder.path)], task, tmp_path / "out", Settings(shots=(0, 1), draws=1), quiet=True
    )
    assert "guessing among the choices has 0.333" in result["finding"]
    assert "most frequent" not in result["finding"]


# --- the test file


def test_choices_of_the_test_file_may_begin_each_other(tmp_path: Path) -> None:
    rows = [{"input": f"{i}", "output": "a", "choices": ["a", "b"]} for i in range(3)]
    task = read_prompt_task(_write(tmp_path / "task.jsonl", rows))
    rows = [
        {"input": "x", "output": "10", "choices": ["1", "10"]},
        {"input": "y", "output": "c", "choices": ["c", "d"]},
    ]
    test = read_prompt_task(_write(tmp_path / "test.jsonl", rows))
    assert options(task, test.examples[0]) == ["1", "10"]
    assert options(with_test(task, test), test.examples[0]) == ["1\n", "10\n"]


def test_a_begun_choice_of_the_test_file_is_noted(
    decoder: PretrainedDecoder, tmp_path: Path
) -> None:
    rows = [{"input": f"{i}", "output": "a", "choices": ["a", f"b{i}"]} for i in range(3)]
    task = _write(tmp_path / "task.jsonl", rows)
    rows = [{"input": f"{i}", "output": "10", "choices": ["1", "10"]} for i in range(3)]
    test = _write(tmp_path / "test.jsonl", rows)
    settings = Settings(shots=(0,), draws=1)
    where = tmp_path / "out"
    result = run([str(decoder.path)], task, where, settings, test_file=test, quiet=True)
    assert any(note.startswith("a choice begins another") for note in result["notes"])


def test_a_test_file_with_other_choices_is_refused(
    decoder: PretrainedDecoder, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, Any]] = [{"choices": ["yes", "no"]}]
    rows += [{"input": f"{i}", "output": "yes"} for i in range(3)]
    test = _write(tmp_path / "test.jsonl", rows)
    words = ["fewshot", str(decoder.path), "--task", str(file), "--test", str(test)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert f"{test}: the choices are 'yes', 'no', those of the task 'good', 'bad'; give" in said
    assert not (tmp_path / "out").exists()
    own = [{"input": "a", "output": "x", "choices": ["x", "y"]}, {"input": "b", "output": "bad"}]
    _write(test, [{"choices": ["bad", "good"]}, *own])  # some of their own: nothing in common
    part(read_prompt_task(file), read_prompt_task(test), limit=None, seed=0)
    _write(test, [{"choices": ["bad", "good"]}, own[1]])  # the same in another order
    part(read_prompt_task(file), read_prompt_task(test), limit=None, seed=0)


def test_a_layout_of_the_test_file_that_is_not_used_is_said(
    decoder: PretrainedDecoder, file: Path, tmp_path: Path
) -> None:
    head = {"choices": ["good", "bad"], "separator": ": ", "description": "Good?", "ending": "\n"}
    test = _write(tmp_path / "test.jsonl", [head, {"input": "film", "output": "good"}])
    task = read_prompt_task(file)
    assert unused(task, read_prompt_task(test)) == [
        f"'separator' of {test} (': ') is not used: prompts are written as {file} says ('\\t')",
        f"'description' of {test} ('Good?') is not used: prompts are written as {file} says ('')",
    ]
    flagged = (read_prompt_task(path, separator=" ") for path in (file, test))
    assert [note.partition(" ")[0] for note in unused(*flagged)] == ["'description'"]
    _write(test, [{"input": "film", "output": "good", "choices": ["good", "bad"]}])
    assert unused(task, read_prompt_task(test)) == []
    _write(test, [head, {"input": "film", "output": "good"}])
    settings = Settings(shots=(0,), draws=1)
    out = tmp_path / "out"
    result = run([str(decoder.path)], file, out, settings, test_file=test, quiet=True)
    assert sum("is not used" in note for note in result["notes"]) == 2
