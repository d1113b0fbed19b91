"""The judge's tasks: our scorer, and (where it is installed) the harness with two models."""

from __future__ import annotations

import gzip
import importlib.util
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from selfsup.cli.app import main
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.uses.judge import adapter, ask_harness, own_scores
from selfsup.uses.judge_tasks import TASKS, find_task, read_rows
from selfsup.uses.likelihood import begin_ids
from tests.uses.tiny_decoder import tiny_decoder

_THINGS = ["the lazy dog", "a brown fox", "good films", "bad reviews", "it"]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> PretrainedDecoder:
    return tiny_decoder(tmp_path_factory.mktemp("decoder"), max_length=128)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    n = range(20)
    rows: dict[str, list[dict[str, Any]]] = {
        "piqa": [
            {
                "query": f"Question: who jumps over number {i}?\n",
                "choices": [_THINGS[i % 5], f"{_THINGS[(i + 1) % 5]} and {i}"],
                "gold": i % 2,
            }
            for i in n
        ],
        "winogrande": [
            {
                "context_options": [f"{i} and the dog", f"{i} and it"],
                "continuation": "jumps.",
                "gold": i % 2,
            }
            for i in n
        ],
        "lambada_openai": [{"context": f"The quick {i}", "continuation": "fox"} for i in n],
        "blimp_all": [
            {"sentence_good": f"The {i} jumps.", "sentence_bad": f"The jumps {i}."} for i in n
        ],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


NAMES = ["piqa", "winogrande", "lambada", "blimp"]


def test_own_scores_do_not_depend_on_the_batch(decoder: PretrainedDecoder, data: Path) -> None:
    for name in NAMES:
        rows = read_rows(find_task(name), data, None)
        first = own_scores(decoder, find_task(name), rows)
        assert own_scores(decoder, find_task(name), rows, batch_tokens=40) == pytest.approx(first)


def test_equal_to_the_harness_with_transformers(decoder: PretrainedDecoder, data: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra `judge` (lm-eval) is not installed")
    from lm_eval.models.huggingface import HFLM

    tasks = [find_task(name) for name in NAMES]
    rows = {task.name: read_rows(task, data, None) for task in tasks}
    own = {task.name: own_scores(decoder, task, rows[task.name]) for task in tasks}
    ours = ask_harness(adapter(decoder), tasks, rows)
    path = str(decoder.path)
    peers = [
        ask_harness(HFLM(pretrained=path, device="cpu", dtype="float32", batch_size=n), tasks, rows)
        for n in (1, 6)
    ]
    for name in NAMES:
        for key in ("acc", "acc_norm", "perplexity"):
            if key in own[name]:
                values = [found[name][key] for found in (ours, *peers)]
                assert values == pytest.approx([own[name][key]] * 3, rel=1e-4)


def test_rolling_and_writing_equal_the_harness(decoder: PretrainedDecoder, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="the extra `judge` (lm-eval) is not installed")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    # Without a frame, as GPT-2's own: else the harness puts the begin token before a text twice.
    folder = shutil.copytree(decoder.path, tmp_path / "bare")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    settings = json.loads((folder / "config.json").read_text())
    del settings["selfsup"]  # else the other tokenizer is refused
    (folder / "config.json").write_text(json.dumps(settings))
    bare = load_decoder(folder)
    assert not len(begin_ids(bare))
    peer = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=2)
    ours = adapter(bare)
    texts = ["The quick brown fox " * 90, "it"]
    asked = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    found, wanted = ours.loglikelihood_rolling(asked), peer.loglikelihood_rolling(asked)
    assert found == pytest.approx(wanted, rel=1e-5)
    settings = {"until": ["\n"], "max_gen_toks": 8, "do_sample": False}
    asked = [Instance("generate_until", {}, (x, settings), 0) for x in ("The quick", "A dog")]
    found, wanted = ours.generate_until(asked), peer.generate_until(asked)
    assert [x.strip() for x in found] == [x.strip() for x in wanted]


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        (
            "piqa",
            {"query": "a", "choices": ["x", "y"], "gold": 2},
            "gold is 2, there are 2 answers",
        ),
        ("piqa", {"query": "a", "choices": ["x", "y"], "gold": -1}, "gold is -1"),
        ("piqa", {"query": "a", "choices": ["x", "y"], "gold": "x"}, "gold is 'x', no number"),
        (
            "piqa",
            {"query": "a", "choices": ["x", "y"], "gold": math.inf},
            "gold is 'inf', no number",
        ),
        ("piqa", {"query": "a", "choices": "xy", "gold": 0}, "'choices' is no list of texts"),
        ("piqa", {"query": "a", "choices": [], "gold": 0}, "'choices' is no list of texts"),
        ("piqa", {"query": "a", "choices": ["x", 3], "gold": 0}, "'choices' holds something"),
        ("piqa", {"query": 7, "choices": ["x", "y"], "gold": 0}, "'query' holds something"),
        ("piqa", {"query": "a", "gold": 0}, "without 'choices'"),
        ("blimp", {"sentence_good": None, "sentence_bad": "b"}, "'sentence_good' holds something"),
        ("piqa", {"query": "a", "choices": ["x", "y"], "gold": 0.9}, "'0.9', no whole number"),
        ("piqa", {"query": "a", "choices": ["x", "y"], "gold": True}, "gold is 'true', no number"),
        ("piqa", {"query": "a", "choices": ["x", ""], "gold": 0}, "a text of 'choices' is empty"),
        ("piqa", {"query": "a", "choices": ["x"], "gold": 0}, "'choices' holds a single text"),
        (
            "winogrande",
            {"context_options": ["x", " "], "continuation": "z", "gold": 0},
            "a text of 'context_options' is empty",
        ),
        ("lambada", {"context": "", "continuation": " "}, "'continuation' is empty"),
        ("blimp", {"sentence_good": "", "sentence_bad": "b"}, "'sentence_good' is empty"),
        (
            "piqa",
            {"query": "a", "choices": ["x", "y\ud800"], "gold": 0},
            "choices: has half of a character",
        ),
    ],
)
def test_a_bad_row_is_named(name: str, row: dict[str, Any], message: str, tmp_path: Path) -> None:
    task = find_task(name)
    good = {"query": "a", "choices": ["x", "y"], "gold": "1"}
    good |= {"sentence_good": "a", "sentence_bad": "b"}
    good |= {"context": "", "continuation": "z", "context_options": ["x", "y"]}
    file = tmp_path / f"{task.file}.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match="jsonl:2: ") as caught:
        read_rows(task, tmp_path, None)
    assert message in str(caught.value)
    (read,) = read_rows(task, tmp_path, 1)
    assert read.get("gold", 1) == 1


@pytest.mark.parametrize("gold", [1, "1", 1.0])
def test_whole_numbers_however_written(gold: Any, tmp_path: Path) -> None:
    row = {"query": "", "choices": ["x", "y"], "gold": gold}
    (tmp_path / "piqa.jsonl").write_text(json.dumps(row))
    assert read_rows(find_task("piqa"), tmp_path, None) == [row | {"gold": 1}]


def test_one_file_and_no_copy_of_it_is_read(tmp_path: Path) -> None:
    task = find_task("copa")
    row = {"query": "a", "choices": ["x", "y"], "gold": 0}
    (tmp_path / "copa.jsonl.bak").write_text(json.dumps(row | {"query": "old"}))
    with pytest.raises(UserError, match=r"holds no copa.jsonl \(packed or not\)"):
        read_rows(task, tmp_path, None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "copa.jsonl").write_text(json.dumps(row))
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "copa.jsonl").write_text(json.dumps(row))
    assert read_rows(task, tmp_path, None) == [row]
    (tmp_path / "copa.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    with pytest.raises(
        UserError, match=r"'copa' has 2 files: 'copa.jsonl.gz', 'in/copa.jsonl'; name the folder"
    ):
        read_rows(task, tmp_path, None)


def test_an_answer_that_is_too_long_is_named(
    decoder: PretrainedDecoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"query": "a", "choices": ["x", "y" * size], "gold": 0} for size in (3, 300)]
    (tmp_path / "piqa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["judge", str(decoder.path), "--data", str(tmp_path), "--tasks", "piqa", "--own"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "piqa.jsonl:2: answer 2: has 301 tokens, the model reads 128; shorten it" in said
    assert "bits_per_byte" not in said
    assert not (tmp_path / "out").exists()


def test_the_command(
    decoder: PretrainedDecoder, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["judge", str(decoder.path), "--data", str(data)]
    assert main([*words, "--tasks", "piqa,lambada", "--own", "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["task"] for row in result["table"]] == ["piqa", "lambada"]
    assert result["table"][0]["guessing"] == 0.5
    assert json.loads((tmp_path / "result.json").read_text())["judge"] == "selfsup's scorer"
    for flags, said in (
        (["--tasks", "pica"], "--tasks: unknown task 'pica'; did you mean 'piqa'?"),
        (["--tasks", "boolq"], "holds no boolq.jsonl"),
        (["--tasks", "piqa", "--own", "--out", str(tmp_path)], "holds a result already"),
    ):
        assert main([*words, *flags]) == 2
        assert said in capsys.readouterr().err
    if importlib.util.find_spec("lm_eval") is None:
        assert main([*words, "--tasks", "piqa"]) == 2
        assert "pip install 'selfsup[judge]'" in capsys.readouterr().err
    assert main(["judge", "x", "--tasks", "list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in TASKS)
