"""What lies around a command: streams that close, paths as shells hand them over, its own output as input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.test_cli import refused
from tests.cli.test_end_to_end import SMALL
from tests.training.tiny import write_corpus

from selfsup.cli.app import main

Capture = pytest.CaptureFixture[str]
_SOURCES = Path(__file__).parents[2] / "src"
_LONG = "a" * 300


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which `$S` is `selfsup`."""
    known = os.environ | {"PYTHONPATH": str(_SOURCES), "S": f"{sys.executable} -m selfsup"}
    known.pop("PYTHONUNBUFFERED", None)  # what stays in buffers is written when Python ends
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        env=known | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


# --- what selfsup wrote is no data


def test_a_run_inside_its_data_goes_on(folder: Path, capsys: Capture) -> None:
    (folder / "in").mkdir()
    write_corpus(folder / "in" / "corpus.txt")
    train = ["pretrain", "bert-tiny", "--data", "in", *SMALL, "--steps", "3", "--out", "in/run"]
    assert main([*train, "--quiet", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (folder / "in/run/figures/loss.csv").is_file()
    assert main([*train, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    for path in ("in", "in/**/*"):
        assert main(["data", "stats", path, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["files"] == 1
    assert main(["data", "stats", "in/run/figures", "--column", "loss", "--json"]) == 0  # as named
    capsys.readouterr()
    assert refused(capsys, "data", "stats", "in/**/*.csv").startswith(
        "in/**/*.csv: no file matches"
    )


# --- streams


def test_training_goes_on_when_nobody_reads_its_display(folder: Path) -> None:
    write_corpus(folder / "corpus.txt")
    flags = " ".join([*SMALL, "--steps", "40"])
    done = shell(f"$S pretrain bert-tiny --data corpus.txt {flags} --out run 2>&1 | head -1")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert json.loads((folder / "run/result.json").read_text())["steps"] == 40


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("recipes >&-", 0),
        ("recipes 2>&-", 0),
        ("recipes | head -1", 0),
        ("recipes --help | head -1", 0),
        ("runs nowhere 2>&-", 2),
        ("runs nowhere >&- 2>&-", 2),
        ("runs nowhere 2>/dev/full", 2),
        ("recipes 2>/dev/full", 0),
    ],
)
def test_closed_streams_change_no_exit_code(folder: Path, command: str, code: int) -> None:
    done = shell(f"$S {command}")
    assert (done.returncode, done.stderr) == (code, "")


def test_every_coding_can_be_printed(folder: Path) -> None:
    (folder / "Wörter").mkdir()
    (folder / "Wörter" / "x.txt").write_text(
        "ein Text von einigen Worten, der lang genug ist\n" * 9
    )
    done = shell("$S data stats Wörter", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("W\\xf6rter")
    (folder / "runs" / "ä").mkdir(parents=True)
    (folder / "runs" / "ä" / "metrics.jsonl").touch()
    done = shell("$S runs --json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)[0]["run"] == "ä"


@pytest.mark.parametrize("columns", ["0", "1"])
def test_help_has_some_width(columns: str) -> None:
    done = shell("$S finetune --help", COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--out" in done.stdout


# --- paths


def test_a_home_is_meant_in_outputs_too(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    (folder / "home").mkdir()
    write_corpus(folder / "home" / "corpus.txt")
    make = ["tokenizer", "train", "--kind", "characters", "--data", "~/corpus.txt"]
    assert main([*make, "--out=~/made"]) == 0
    assert (folder / "home/made/tokenizer.json").is_file()
    assert not (folder / "~").exists()
    assert main(["runs", "~"]) == 0
    capsys.readouterr()
    assert refused(capsys, "runs", "~no-such-user/x") == (
        "~no-such-user/x: nobody's home is '~no-such-user'; write it out"
    )


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["fill", "m", "-i", ""], "-i: "),
        (["data", "stats", ""], "--data: "),
        (["pretrain", "bert-tiny", "--data", ""], "--data: "),
        (["pretrain", "bert-tiny", "--data", "docstrings:", "--out", ""], "--out: "),
        (["runs", ""], ""),
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    folder: Path, capsys: Capture, words: list[str], where: str
) -> None:
    assert refused(capsys, *words).startswith(f"{where}the path is empty; ")


def test_paths_that_no_file_can_have(folder: Path, capsys: Capture) -> None:
    (folder / "t.txt").write_text("a text\n")
    assert "name too long" in refused(capsys, "data", "stats", _LONG)
    train = ["pretrain", "bert-tiny", "--data", "docstrings:", "--out", _LONG]
    assert "name too long" in refused(capsys, *train)
    for name in ("a" * 246, _LONG + "/x", "x/" + _LONG + "/y"):
        said = refused(capsys, "embed", "m", "-i", "t.txt", "-o", f"{name}.npy")
        assert "File name too long" in said
    said = refused(capsys, "data", "stats", "z\udcff.txt")
    assert said == "--data z\\udcff.txt: the name is not UTF-8; rename it"


def test_a_link_is_written_through_or_refused(folder: Path, capsys: Capture) -> None:
    from selfsup.data.files import whole_file
    from selfsup.data.outputs import check_place

    (folder / "link").symlink_to("target.txt")
    check_place(folder / "link")
    assert not (folder / "target.txt").exists()
    with whole_file(folder / "link") as beside:
        beside.write_text("x")
    assert (folder / "link").is_symlink()
    assert (folder / "target.txt").read_text() == "x"
    (folder / "t.txt").write_text("a text\n")
    for name, target in (("far.npy", "nowhere/x.npy"), ("ring.npy", "ring.npy")):
        (folder / name).symlink_to(target)
        said = refused(capsys, "embed", "m", "-i", "t.txt", "-o", name)
        assert said == f"{name}: the link leads nowhere (to '{target}'); mend or remove the link"


def test_pipes_are_not_read_as_texts(folder: Path, capsys: Capture) -> None:
    os.mkfifo(folder / "pipe")
    mend = "a pipe cannot be read twice; write it to a file first"
    assert refused(capsys, "data", "stats", "pipe") == f"pipe: {mend}"
    assert refused(capsys, "fill", "m", "-i", "-") == f"fill: -: {mend}"
    assert refused(capsys, "data", "stats", "-") == f"data stats: -: {mend}"


def test_a_cache_that_cannot_be_made_is_named(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.data.home import cache_folder
    from selfsup.errors import UserError

    (folder / "file").touch()
    monkeypatch.setenv("SELFSUP_HOME", str(folder / "file" / "home"))
    with pytest.raises(UserError, match="set SELFSUP_HOME to a folder that can be written"):
        cache_folder("corpora")


# --- what is no model


def test_what_a_model_is_not(folder: Path, capsys: Capture) -> None:
    def said(name: str) -> str:
        return refused(capsys, "info", name)

    Path("codes.npy").touch()
    assert said("codes.npy").startswith("codes.npy: is a file, not a folder; ")
    for name, file, value in (
        ("det", "detector.json", {"model_type": "selfsup-detector"}),
        ("tok", "tokenizer.json", {}),
        ("study", "study.json", {"kind": "study curves"}),
    ):
        Path(name).mkdir()
        Path(name, file).write_text(json.dumps(value))
    Path("study/cells").mkdir()
    assert said("det") == "det: this folder holds a detector; `selfsup detect score` takes it"
    assert said("tok").startswith("tok: this folder holds a tokenizer alone; `selfsup pretrain ")
    assert said("study").startswith("study: this folder holds a study, not a model; ")


def test_a_models_tokenizer_is_not_replaced(folder: Path, capsys: Capture) -> None:
    write_corpus(folder / "corpus.txt")
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    train = ["tokenizer", "train", "--data", "corpus.txt", "--overwrite", "--out", "."]
    assert refused(capsys, *train).startswith(".: a model lies here, which would no longer be read")
    assert (folder / "tokenizer.json").read_text() == "{}"


# --- detectors


def _rows(path: Path, count: int) -> str:
    np.save(path, np.random.default_rng(0).normal(size=(count, 3)))
    return str(path)


def test_one_row_is_too_few(folder: Path, capsys: Capture) -> None:
    data = _rows(folder / "one.npy", 1)
    said = refused(capsys, "detect", "fit", "-d", data, "--out", "det")
    assert said == f"{data}: n_samples=1: at least 2 rows are needed to learn from"


def test_a_detector_replaces_nothing_else(folder: Path, capsys: Capture) -> None:
    fit: list[Any] = ["detect", "fit", "-d", _rows(folder / "x.npy", 60), "--overwrite", "--out"]
    (folder / "run").mkdir()
    for name in ("config.json", "environment.json", "result.json"):
        (folder / "run" / name).write_text('{"train": {}, "data": {}}')
    said = refused(capsys, *fit, "run")
    assert said.startswith("run: this folder holds 'config.json', and no detector alone")
    assert main([*fit, "det"]) == 0
    assert main([*fit, "det"]) == 0
    capsys.readouterr()
    inside = _rows(folder / "det" / "x.npy", 60)
    said = refused(capsys, "detect", "fit", "-d", inside, "--overwrite", "--out", "det")
    assert said.startswith(f"--data {inside}: lies in the folder that would be overwritten")


def test_pictures_of_a_run_are_no_pictures(tmp_path: Path) -> None:
    from selfsup.data.images import find_pictures

    for place in ("", "run/figures", "other/figures"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "x.png").touch()
    (tmp_path / "run" / "config.json").write_text('{"train": {}, "data": {}}')
    (tmp_path / "other" / "config.json").write_text('{"mine": 1}')
    found = [str(path.relative_to(tmp_path)) for path in find_pictures(tmp_path)]
    assert found == ["other/figures/x.png", "x.png"]


def test_bzip2_is_read(folder: Path, capsys: Capture) -> None:
    import bz2

    Path("x.txt.bz2").write_bytes(bz2.compress(b"a text that is packed\n" * 20))
    assert main(["data", "stats", "x.txt.bz2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["characters"] > 400
    Path("x.txt.bz2").write_bytes(b"no such thing")
    assert "x.txt.bz2: is no complete .bz2 file" in refused(capsys, "data", "stats", "x.txt.bz2")


# --- memory


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 17.9 GiB for an array"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 1 byte\nframe #0"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried 2 GiB"),
    ],
)
def test_memory_that_runs_out_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("selfsup.cli.app.app", fail)
    assert main(["doctor"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("selfsup: there is not enough memory")
    assert said.endswith("; give less at once: smaller files, shorter texts, a smaller batch\n")
    assert str(error).partition("\n")[0] in said
    assert said.count("\n") == 1
