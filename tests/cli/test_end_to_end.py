"""The verbs together, on a corpus of seconds: train, look, fill, embed, list, resume, refuse."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.training.tiny import write_corpus

from selfsup.cli.app import main
from selfsup.models.decoder_hub import load_decoder
from selfsup.training.checkpoints import found
from selfsup.training.metrics import read_metrics

Capture = pytest.CaptureFixture[str]
SMALL = [
    *("--unit", "line", "--precision", "fp32", "--device", "cpu"),
    *("--tokenizer.kind", "characters", "--data.length", "32", "--data.heldout", "0.1"),
    *("--model.hidden_size", "16", "--model.num_heads", "2", "--model.intermediate_size", "32"),
    *("--train.batch_size", "8", "--train.evaluate_rows", "16", "--train.log_every", "1"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus.txt")
    return tmp_path


def answer(capsys: Capture, *words: str) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: Capture, *words: str) -> str:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    *progress, last = printed.err.splitlines()
    assert last.startswith("selfsup: ")
    assert not [line for line in progress if line.startswith(("selfsup: ", "Traceback"))]
    return last


def test_the_whole_way(folder: Path, capsys: Capture) -> None:
    train = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL]
    estimate = answer(capsys, *train, "--steps", "6", "--out", "runs/a", "--dry-run")
    assert estimate["estimated_steps"] == 6
    assert estimate["peak_megabytes"] > 50
    assert not (folder / "runs").exists()

    result = answer(capsys, *train, "--steps", "6", "--out", "runs/a")
    assert result["steps"] == 6
    assert {p.name for p in (folder / "runs" / "a").iterdir()} >= {
        *("config.json", "environment.json", "metrics.jsonl", "checkpoints"),
        *("model", "result.json", "figures"),
    }
    again = answer(capsys, "pretrain", "--config", "runs/a/config.json", "--out", "runs/again")
    assert again["heldout"] == result["heldout"]

    filled = answer(capsys, "fill", "runs/a", "the c[MASK]t", "a d[MASK][MASK]", "--top", "3")
    assert [len(one["blanks"]) for one in filled] == [1, 2]
    assert len(filled[0]["blanks"][0]) == 3
    with gzip.open(folder / "questions.txt.gz", "wt") as lines:
        lines.write("the c[MASK]t\na d[MASK][MASK]\n")
    assert answer(capsys, "fill", "runs/a", "-i", "questions.txt.gz", "--top", "3") == filled

    rows = [{"body": "the cat"}, {"body": "a dog sees her sister " * 9}]
    (folder / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = ["embed", "runs/a", "-i", "texts.jsonl", "-o", "v.npy", "--column", "body"]
    assert answer(capsys, *words)["dimensions"] == 16
    vectors = np.load(folder / "v.npy")
    assert vectors.shape == (2, 16)
    assert "exists already; --overwrite replaces it" in refused(capsys, *words)

    assert answer(capsys, "info", "runs/a")["layers"] == 2
    listed = answer(capsys, "runs", "runs")
    assert {row["run"] for row in listed} == {"a", "again"}
    assert all(row["state"] == "finished" for row in listed)
    assert main(["runs", "runs"]) == 0
    assert "bert-tiny" in capsys.readouterr().out


def test_bad_input_leaves_nothing_half_written(folder: Path, capsys: Capture) -> None:
    train = ["pretrain", "bert-tiny", *SMALL, "--steps", "2", "--out", "runs/a"]
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 50)
    (folder / "broken.jsonl").write_text('{"text": "good"}\n{"text": \n')
    (folder / "columns.csv").write_text("body,label\nhello,1\n")
    (folder / "empty.txt").write_text("\n\n")
    (folder / "short.txt").write_text("\n".join(f"line {i}" for i in range(22)))
    cases = {
        "nothing/*.txt": "no file matches",
        "latin.txt": "latin.txt:1: not UTF-8: byte 0xe9 at offset 3",
        "broken.jsonl": "broken.jsonl:2:10: broken JSON",
        "columns.csv": "no column 'text'",
        "empty.txt": "empty.txt: there is no text to make a tokenizer from (0 documents read); name",
        "short.txt": "at least 8 are needed",
    }
    for data, message in cases.items():
        assert message in refused(capsys, *train, "--data", data), data
        assert not (folder / "runs" / "a" / "config.json").exists()
        assert not (folder / "runs" / "a" / "model").exists()
    big = [*train, "--data", "corpus.txt", "--tokenizer.kind", "wordpiece"]
    assert "the text gives a vocabulary of" in refused(capsys, *big)
    assert "body" in refused(capsys, *train, "--data", "columns.csv")  # says which there are


def test_bad_rows_are_counted_when_they_may_be_skipped(folder: Path, capsys: Capture) -> None:
    lines = [json.dumps({"text": line}) for line in (folder / "corpus.txt").read_text().split("\n")]
    lines[3:3] = ['{"text": ', "[]"]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    stats = answer(capsys, "data", "stats", "rows.jsonl", "--on-bad-row", "skip")
    assert stats["dropped"]["bad_row"] == 2
    words = ["pretrain", "bert-tiny", "--data", "rows.jsonl", *SMALL, "--steps", "1", "--out", "r"]
    assert "rows.jsonl:4:10: broken JSON" in refused(capsys, *words)
    assert main([*words, "--on-bad-row", "skip"]) == 0
    assert "2 rows could not be read and were skipped" in capsys.readouterr().err


def test_two_sources_with_weights(folder: Path, capsys: Capture) -> None:
    write_corpus(folder / "more.txt", seed=9)
    data = ["--data", "corpus.txt@0.5", "--data", "more.txt"]
    result = answer(capsys, "pretrain", "bert-tiny", *data, *SMALL, "--steps", "2", "--out", "r")
    assert result["steps"] == 2
    config = json.loads((folder / "r" / "config.json").read_text())
    assert [s["weight"] for s in config["data"]["sources"]] == [0.5, 1.0]


def test_torchrun_gives_the_curve_of_one_process(folder: Path, capsys: Capture) -> None:
    words = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--steps", "8", "--quiet"]
    assert main([*words, "--out", "one"]) == 0
    source = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    command += ["-m", "selfsup", *words, "--out", "two"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr

    def losses(run: str) -> list[float]:
        lines = read_metrics(folder / run / "metrics.jsonl")
        return [x["loss"] for x in lines if x["split"] == "train"]

    assert len(losses("one")) == 8
    assert losses("two") == pytest.approx(losses("one"), rel=2e-4)
    assert (folder / "two" / "model" / "model.safetensors").is_file()


def test_a_second_run_on_the_folder_is_told_by_whom(folder: Path, capsys: Capture) -> None:
    from selfsup.training.lock import locked

    with locked(folder / "r"):
        told = refused(
            capsys, "pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--out", "r"
        )
    assert f"in use by process {os.getpid()} on " in told


def test_the_unlearned_is_said(folder: Path, capsys: Capture) -> None:
    words = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--steps", "6", "--out", "r"]
    assert main([*words, "--train.optimizer.lr", "1e-9"]) == 0
    assert "nothing learned from context yet" in capsys.readouterr().err


@pytest.mark.parametrize(("processes", "sent"), [(1, "SIGINT"), (2, "SIGTERM")])
def test_a_stopped_run_saves_and_exits_with_130(folder: Path, processes: int, sent: str) -> None:
    words = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--steps", "100000"]
    words += ["--out", "r", "--quiet", "--processes", str(processes)]
    source = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [sys.executable, "-m", "selfsup", *words],
        env={**os.environ, "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = folder / "r" / "metrics.jsonl"
    for _ in range(600):
        if len(read_metrics(log)) > 5 or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(getattr(signal, sent))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "the same command goes on" in err
    assert "Traceback" not in err
    (kept,) = found(folder / "r" / "checkpoints")
    steps = [x["step"] for x in read_metrics(log) if x["split"] == "train"]
    assert kept.name == f"step-{steps[-1]:08d}"


def test_an_error_in_one_of_two_processes_is_said(folder: Path, capsys: Capture) -> None:
    words = [
        "pretrain",
        "bert-tiny",
        "--data",
        "corpus.txt",
        *SMALL,
        "--steps",
        "500",
        "--out",
        "r",
    ]
    words += ["--processes", "2", "--train.optimizer.lr", "1e30", "--train.schedule.warmup", "0"]
    assert "training process" in refused(capsys, *words, "--quiet")


def test_a_missing_extra_is_named(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    words = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--steps", "1", "--out", "r"]
    told = refused(capsys, *words, "--train.tensorboard", "--quiet")
    assert "needs the package tensorboard" in told
    assert "pip install 'selfsup[tensorboard]'" in told
    assert not (folder / "r" / "config.json").exists()


def test_an_out_that_cannot_be_is_one_line(folder: Path, capsys: Capture) -> None:
    (folder / "taken").write_text("a file")
    words = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--steps", "1", "--quiet"]
    assert "no run folder can be made here" in refused(capsys, *words, "--out", "taken")
    assert (folder / "taken").read_text() == "a file"


def test_an_alphabet_fits_its_sequences(folder: Path, capsys: Capture) -> None:
    protein = "MKVLAAGIVGLCAKALLDEWHNRSTFPYQ"
    records = (f">p{i}\n{protein[i % 29 :]}{protein[: i % 23]}\n" for i in range(200))
    (folder / "p.fa").write_text("".join(records))
    symbols = [*SMALL, "--data", "p.fa", "--tokenizer.kind", "symbols", "--steps", "2"]
    dna = ["--tokenizer.alphabet", "ACGT"]
    said = refused(capsys, "pretrain", "bert-tiny", *symbols, *dna, "--out", "runs/dna")
    assert "of the tokens are unknown to the tokenizer: it knows the letters ACGT;" in said
    assert "leave --tokenizer.alphabet out" in said
    assert not (folder / "runs" / "dna" / "model").exists()
    assert main(["pretrain", "bert-tiny", *symbols, "--out", "runs/protein"]) == 0
    capsys.readouterr()
    assert answer(capsys, "info", "runs/protein")["vocabulary"] == 25
    assert main(["fill", "runs/protein", "MKV[mask]"]) == 2
    assert "it is written [MASK]" in capsys.readouterr().err
    assert main(["fill", "runs/protein", "MKV"]) == 2
    assert "write [MASK] where a letter is to be guessed" in capsys.readouterr().err
    assert main(["fill", "runs/protein", "BBB[MASK]BB"]) == 0
    assert "unknown to the model" in capsys.readouterr().err
    train = ["--train", "p.fa", "--format", "symbols"]
    said = refused(capsys, "study", "alphabets", "runs/protein", *train)
    assert "this model reads no words of a language" in said


@pytest.mark.parametrize("recipe", ["gpt2-tiny", "llama-tiny"])
def test_a_decoder_reads_as_much_as_it_was_trained_on(
    recipe: str, folder: Path, capsys: Capture
) -> None:
    train = ["pretrain", recipe, "--data", "corpus.txt", *SMALL, "--steps", "2"]
    answer(capsys, *train, "--out", "runs/a")
    assert load_decoder("runs/a").max_length == 32
    settings = json.loads((folder / "runs" / "a" / "model" / "config.json").read_text())
    assert settings["n_positions" if recipe == "gpt2-tiny" else "max_position_embeddings"] == 32
    longer = [*train, "--init", "runs/a", "--out", "runs/b", "--data.length", "48"]
    if recipe == "gpt2-tiny":  # its positions are weights
        said = refused(capsys, *longer)
        assert "data.length (48) must not exceed its 32 positions" in said
    else:
        answer(capsys, *longer)
        assert load_decoder("runs/b").max_length == 48
        longest = answer(capsys, *train, "--data.length", "1500", "--out", "runs/c", "--dry-run")
        assert longest["estimated_steps"] == 2  # beyond what the recipe's shape says


def test_a_longer_budget_is_another_run_and_the_way_on_is_said(
    folder: Path, capsys: Capture
) -> None:
    train = ["pretrain", "bert-tiny", "--data", "corpus.txt", *SMALL, "--out", "runs/a"]
    answer(capsys, *train, "--steps", "2")
    said = refused(capsys, *train, "--steps", "4")
    assert "another train.budget.amount lies here (2, and 4 is asked for)" in said
    assert "or go on from its model: --init runs/a and another --out" in said


def test_masked_stretches_are_read_and_said(folder: Path, capsys: Capture) -> None:
    bases = "ACGTTGCAAC"
    records = (f">c{i}\n{bases[i % 10 :]}{'N' * 40}{bases[: i % 7]}\n" for i in range(200))
    (folder / "masked.fa").write_text("".join(records))
    data = ["--data", "masked.fa", "--tokenizer.kind", "symbols", "--data.duplicates", "keep"]
    train = ["pretrain", "bert-tiny", *SMALL, *data, "--steps", "2", "--out", "runs/n"]
    assert main(train) == 0
    said = capsys.readouterr().err
    assert (
        "% of the tokens are unknown to the tokenizer: it knows the letters ACGT; they are" in said
    )
    assert "the letters are ACGT" in said
    assert "--tokenizer.kind symbols reads them" not in said
    pieces = ["--tokenizer.kind", "wordpiece", "--tokenizer.vocab_size", "100"]
    assert main([*train[:-1], "runs/pieces", *pieces]) == 0
    assert "--tokenizer.kind symbols reads them letter by letter" in capsys.readouterr().err


def test_quotes_in_tsv_swallow_no_rows(folder: Path, capsys: Capture) -> None:
    rows = ['" opening quote\ta', "middle row\tb", '"\ta', "fourth\tb", '"whole"\ta']
    (folder / "odd.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    note = "odd.tsv: quotes are ordinary characters, also around whole fields (line 6)"
    stats = answer(capsys, "data", "stats", "odd.tsv")
    assert (stats["documents_read"], stats["notes"]) == (5, [note])
    words = ["pretrain", "bert-tiny", "--data", "corpus.txt", "--data", "odd.tsv", *SMALL]
    assert main([*words, "--steps", "1", "--out", "r"]) == 0
    assert note in capsys.readouterr().err
    assert main(["embed", "r", "--input", "odd.tsv", "--output", "v.npy"]) == 0
    assert f"selfsup: {note}" in capsys.readouterr().err
    assert len(np.load(folder / "v.npy")) == 5
    (folder / "dup.csv").write_text("text,text\na,b\n")
    message = "dup.csv:1: the header names 'text' 2 times; name them apart"
    assert message in refused(capsys, "data", "stats", "dup.csv")
    assert message in refused(capsys, "embed", "r", "--input", "dup.csv", "--output", "w.npy")
    assert not (folder / "w.npy").exists()
