"""finetune, predict, evaluate and the studies of tasks from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.tasks.toy import write_encoder, write_questions, write_tags, write_texts

from selfsup.cli.app import main
from selfsup.cli.task_commands import FineFlags, LayoutFlags, TaskFlags, resolve_finetune
from selfsup.errors import UserError

Capture = pytest.CaptureFixture[str]
QUICK = [
    *("--epochs", "0", "--train.budget", "30 steps", "--train.batch_size", "8"),
    *("--lr", "1e-2", "--precision", "fp32", "--device", "cpu", "--head.dropout", "0"),
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_encoder(tmp_path_factory.mktemp("toy") / "encoder"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(capsys: Capture, *words: str) -> Any:
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *words: str) -> str:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    last = printed.err.splitlines()[-1]
    assert last.startswith("selfsup: ")
    assert "Traceback" not in printed.err
    return last


def test_flags_become_settings() -> None:
    config = resolve_finetune(
        "some/model",
        TaskFlags(task="pairs", train="a.tsv"),
        LayoutFlags(text_column="one", pair_column="two", header=False),
        FineFlags(lora=8, epochs=2.5, precision="fp32", settings=["train.batch_size=16"]),
    )
    assert config.model == "some/model"
    assert (config.data.text_column, config.data.pair_column) == ("one", "two")
    assert config.data.header is False
    assert (config.lora.rank, config.epochs, config.train.batch_size) == (8, 2.5, 16)
    assert config.train.precision == "fp32"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (TaskFlags(task="pairs", train="a.tsv"), "pair_column"),
        (FineFlags(settings=["train.processes=2"]), "one process"),
        (FineFlags(lora=-1), "--lora"),
        (FineFlags(settings=["head.poolin=cls"]), "pooling"),
        (LayoutFlags(pair_column="x"), "for task 'pairs'"),
    ],
)
def test_settings_that_do_not_fit(flags: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_finetune("m", flags)


def test_from_labels_to_answers(encoder: str, folder: Path, capsys: Capture) -> None:
    write_texts(folder / "train.tsv")
    write_texts(folder / "test.tsv", seed=5)
    train = ["finetune", encoder, "--task", "classify", "--train", "train.tsv", *QUICK]
    result = answer(capsys, *train, "--test", "test.tsv", "--out", "runs/good")
    assert result["test"]["accuracy"] > 0.8
    assert result == json.loads(Path("runs/good/result.json").read_text())
    assert "chosen by accuracy on dev" in Path("runs/good/model/README.md").read_text()
    again = answer(capsys, *train, "--test", "test.tsv", "--out", "runs/good")
    assert again == result
    assert "another seed" in refused(
        capsys, *train, "--test", "test.tsv", "--seed", "3", "--out", "runs/good"
    )

    said = answer(capsys, "predict", "runs/good", "the film is fine", "the house is ugly and cold")
    assert [row["label"] for row in said] == ["good", "bad"]
    for row in said:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    wrote = ["predict", "runs/good", "--input", "test.tsv", "--output", "out.jsonl"]
    assert answer(capsys, *wrote)["examples"] == 60
    assert len(Path("out.jsonl").read_text().splitlines()) == 60
    assert "exists already" in refused(capsys, *wrote)
    assert answer(capsys, *wrote, "--overwrite")["examples"] == 60
    scored = answer(capsys, "evaluate", "runs/good", "--data", "test.tsv")
    assert scored["accuracy"] == pytest.approx(result["test"]["accuracy"], abs=1e-6)
    assert main(["predict", "runs/good", "the film is fine"]) == 0
    assert "good" in capsys.readouterr().out


def test_tags_and_questions(encoder: str, folder: Path, capsys: Capture) -> None:
    write_tags(folder / "train.conll")
    result = answer(
        capsys, "finetune", encoder, "--task", "tag", "--train", "train.conll", *QUICK, "-o", "tags"
    )
    assert result["labels"] == ["ADJ", "NOUN", "OTHER"]
    (said,) = answer(capsys, "predict", "tags", "the film")
    assert (said["words"], len(said["labels"])) == (["the", "film"], 2)
    assert main(["predict", "tags", "the film"]) == 0
    assert "words are parted at white space" in capsys.readouterr().err
    (folder / "words.jsonl").write_text('{"words": ["the", "film"]}\n{"words": ["fine"]}\n')
    wrote = answer(
        capsys,
        *("predict", "tags", "--input", "words.jsonl", "--format", "json", "--output", "o.jsonl"),
    )
    assert wrote["examples"] == 2
    rows = [json.loads(x) for x in Path("o.jsonl").read_text().splitlines()]
    assert [len(r["labels"]) for r in rows] == [2, 1]

    write_questions(folder / "train.json")
    spans = ["--span.max_length", "64", "--span.overlap", "8", "--span.max_question", "16"]
    result = answer(
        capsys,
        *("finetune", encoder, "--task", "span", "--train", "train.json", *QUICK, *spans),
        *("-o", "spans"),
    )
    assert result["chosen_by"] == "f1"
    assert "in a file: --input FILE --output FILE" in refused(capsys, "predict", "spans", "who?")
    answer(capsys, "predict", "spans", "--input", "train.json", "--output", "a.jsonl")
    for line, question in zip(
        Path("a.jsonl").read_text().splitlines(),
        json.loads(Path("train.json").read_text())["data"][0]["paragraphs"],
        strict=True,
    ):
        row = json.loads(line)
        if row["text"]:
            assert question["context"][row["begin"] : row["end"]] == row["text"]


def test_bad_words(encoder: str, folder: Path, capsys: Capture) -> None:
    write_texts(folder / "train.tsv")
    assert "--train" in refused(capsys, "finetune", encoder)
    assert "no model" in refused(capsys, "finetune", "--train", "train.tsv")
    assert "classify" in refused(
        capsys, "finetune", encoder, "--task", "clasify", "--train", "train.tsv"
    )
    assert "no column 'txt'" in refused(
        capsys, "finetune", encoder, "--train", "train.tsv", "--text-column", "txt", "-o", "x"
    )
    assert "nothing to read" in refused(capsys, "predict", encoder)
    assert "--output" in refused(capsys, "predict", encoder, "--input", "train.tsv")
    assert "not fine-tuned" in refused(capsys, "predict", encoder, "a text")
    assert "not fine-tuned" in refused(capsys, "evaluate", encoder, "--data", "train.tsv")


def test_sequences_keep_their_names(encoder: str, folder: Path, capsys: Capture) -> None:
    rows = (f"{'+-'[i % 2]}, s{i}, {'ACGT'[i % 2] * 6}\n" for i in range(80))
    (folder / "a.data").write_text("".join(rows))
    train = ["finetune", encoder, "--train", "a.data", *QUICK, "--out", "runs/s"]
    answer(capsys, *train)
    (folder / "new.fas").write_text(">first one\nAAAAAA\n>second\nCCCCCC\n")
    answer(capsys, "predict", "runs/s", "--input", "new.fas", "--output", "new.jsonl")
    lines = [json.loads(line) for line in (folder / "new.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["first", "second"]
    assert all(set(line) == {"name", "label", "probabilities"} for line in lines)
    assert answer(capsys, "evaluate", "runs/s", "--data", "a.data")["f1_of"] == "+"


def test_dotted_flags_of_the_studies(encoder: str, folder: Path, capsys: Capture) -> None:
    (folder / "a.data").write_text(
        "".join(f"{'ab'[i % 2]}, n{i}, {'ACGT'[i % 2] * 6}\n" for i in range(80))
    )
    result = answer(
        capsys,
        *("study", "alphabets", encoder, "--task", "classify", "--train", "a.data", *QUICK),
        *("--draws", "1", "--seeds", "1", "--out", "study"),
    )
    assert {row["start"] for row in result["table"]} >= {"random weights"}
    assert main(["study", "alphabets", encoder, "--train", "a.data", "--draws", "0"]) == 2
