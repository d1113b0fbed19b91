"""The command line's manners: light help, one line for bad input, JSON alone."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.cli.app import main
from selfsup.config import PretrainConfig
from selfsup.errors import Interrupted, UserError

_SOURCES = Path(__file__).parents[2] / "src"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stand_in(patch: pytest.MonkeyPatch, module: str, **functions: Callable[..., Any]) -> None:
    """Puts a small module in the place of a big one."""
    fake = types.ModuleType(module)
    for name, function in functions.items():
        setattr(fake, name, function)
    patch.setitem(sys.modules, module, fake)
    package, _, name = module.rpartition(".")
    patch.setattr(importlib.import_module(package), name, fake, raising=False)


def refused(capsys: Capture, *words: str) -> str:
    """The one line that a bad command gives."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("selfsup: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    return printed.err.removeprefix("selfsup: ").rstrip("\n")


# --- starting


@pytest.mark.parametrize(
    "words", ["--help", "--version", "pretrain --help", "study next-sentence -h", "recipes --json"]
)
def test_nothing_heavy_is_imported(words: str) -> None:
    heavy = "('torch', 'numpy', 'sklearn', 'tokenizers', 'matplotlib')"
    code = (
        "import sys; from selfsup.cli.app import main; "
        f"code = main({words.split()!r}); "
        f"sys.exit(code or [m for m in {heavy} if m in sys.modules] or 0)"
    )
    environment = os.environ | {"PYTHONPATH": str(_SOURCES)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_every_verb_has_help(capsys: Capture) -> None:
    verbs = ["demo", "recipes", "pretrain", "fill", "embed", "info", "runs", "doctor"]
    groups = ["tokenizer train", "data stats", "config show", "config schema"]
    for verb in [*verbs, *groups, "study next-sentence"]:
        assert main([*verb.split(), "--help"]) == 0
        assert f"Usage: selfsup {verb}" in capsys.readouterr().out


# --- refusing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("pretrian", "unknown verb 'pretrian'; did you mean 'pretrain'?"),
        ("tokenizer tran", "tokenizer: unknown command 'tran'; did you mean 'train'?"),
        ("recipes --jsno", "recipes: unknown flag '--jsno'; did you mean '--json'?"),
        ("doctor --train.clip 3", "doctor: unknown flag '--train.clip'; see `selfsup doctor --h"),
        ("pretrain bert-mni --data x", "unknown recipe 'bert-mni'; did you mean 'bert-mini'?"),
        ("pretrain --data x", "no recipe; `selfsup recipes` lists them"),
        ("pretrain bert-tiny", "--data: no corpus; "),
        ("pretrain bert-tiny a.txt", "pretrain: 'a.txt' is one word too many; quote a glob"),
        ("pretrain bert-tiny --data", "pretrain: --data needs a value; see"),
        ("pretrain bert-tiny --steps x", "pretrain: invalid value for --steps"),
        ("pretrain bert-tiny --steps 0", "--steps: must be greater than 0, not 0"),
        (
            "pretrain bert-tiny --steps 1 --minutes 1",
            "--minutes and --steps exclude each other; give one budget",
        ),
        (
            "pretrain bert-tiny --data x --train.batch_sise 3",
            "--train.batch_sise: unknown key 'train.batch_sise'; did you mean 'batch_size'?",
        ),
        (
            "pretrain bert-tiny --data x --precision fp23",
            "--precision: must be one of auto, fp32, bf16, not 'fp23'; did you mean 'fp32'?",
        ),
        ("pretrain bert-tiny --data x --seed=-1", "--seed: must be at least 0, not -1"),
        ("pretrain bert-tiny --data x@0", "--data x@0: a weight must be greater than 0, not 0"),
        ("pretrain bert-tiny --column x", "--column: is about --data, which is missing"),
        ("config show --config nope.yaml", "nope.yaml: no such file"),
        ("fill", "fill: MODEL is missing; see `selfsup fill --help`"),
        ("fill m", "no text; "),
        ("fill m x --top 0", "--top: must be at least 1, not 0"),
        ("fill m --input nope.txt", "nope.txt: "),
        ("embed m --input x", "embed: --output is missing; "),
        ("embed m --input x --output y", "--output y: must end in .npy"),
        ("embed m --input nope.txt --output y.npy", "nope.txt: "),
        ("embed m --input x --output y.npy --pooling max", "embed: invalid value"),
        ("tokenizer train --out t", "--data: no corpus"),
        (
            "tokenizer train --kind bpe --lowercase --data x --out t",
            "unknown flag '--lowercase'; it belongs to kind 'wordpiece' or 'file'",
        ),
        (
            "tokenizer train --vocab-size 3 --data x --out t",
            "--vocab-size: must be at least 32, not 3",
        ),
        ("data stats", "no corpus; "),
        ("demo --minutes 0", "--minutes: must be greater than 0, not 0"),
        ("study next-sentence --seeds 0", "--seeds: must be at least 1, not 0"),
        ("study next-sentence", "--data: no corpus; "),
    ],
)
@pytest.mark.usefixtures("in_folder")
def test_bad_input_is_one_line(capsys: Capture, words: str, message: str) -> None:
    assert refused(capsys, *words.split()).startswith(message)
    assert list(Path().iterdir()) == []


def test_what_exists_is_not_replaced(in_folder: Path, capsys: Capture) -> None:
    (in_folder / "v.npy").write_bytes(b"old")
    message = refused(capsys, "embed", "m", "--input", "x.txt", "--output", "v.npy")
    assert message == "v.npy: exists already; --overwrite replaces it"
    assert (in_folder / "v.npy").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("two\nlines", where="a.txt"), 2, "selfsup: a.txt: two lines\n"),
        (Interrupted("stopped at step 7"), 130, "selfsup: stopped at step 7\n"),
        (KeyboardInterrupt(), 130, "selfsup: interrupted\n"),
    ],
)
def test_how_a_command_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, error: BaseException, code: int, said: str
) -> None:
    def fail() -> None:
        raise error

    stand_in(monkeypatch, "selfsup.uses.inspect", doctor=fail)
    assert main(["doctor"]) == code
    assert capsys.readouterr().err == said


def test_sigterm_before_training_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stand_in(
        monkeypatch,
        "selfsup.uses.inspect",
        doctor=lambda: os.kill(os.getpid(), signal.SIGTERM),
    )
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "selfsup: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EFBIG, "a file would be larger than is allowed (ulimit -f)"),
    ],
)
def test_a_file_that_cannot_get_longer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, number: int, said: str
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "a.npy")

    stand_in(monkeypatch, "selfsup.uses.inspect", doctor=fail)
    message = refused(capsys, "doctor")
    assert message == f"a.npy: {said}; make room or choose another folder, and run it again"


def test_a_defect_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    stand_in(monkeypatch, "selfsup.uses.inspect", doctor=lambda: 1 / 0)
    assert main(["doctor"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


# --- passing on


def test_recipes(capsys: Capture) -> None:
    assert main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"bert-tiny", "modernbert-base"} <= {row["recipe"] for row in rows}
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    assert "modernbert-base" in printed
    assert "\x1b" not in printed


def test_config_show_is_a_config(in_folder: Path, capsys: Capture) -> None:
    words = "config show bert-mini --minutes 3 --data a.txt@2 --train.compile --seed 5"
    assert main(words.split()) == 0
    (in_folder / "mine.yaml").write_text(capsys.readouterr().out)
    assert main(["config", "show", "--config", "mine.yaml", "--json"]) == 0
    config = PretrainConfig.model_validate(json.loads(capsys.readouterr().out))
    assert config.recipe == "bert-mini"
    assert config.model.hidden_size == 256
    assert (config.seed, config.train.compile) == (5, True)
    assert str(config.train.budget) == "3 minutes"
    assert [(s.path, s.weight) for s in config.data.sources] == [("a.txt", 2.0)]


def test_config_schema(capsys: Capture) -> None:
    assert main(["config", "schema"]) == 0
    assert "train" in json.loads(capsys.readouterr().out)["properties"]


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Calls of `pretrain` and `dry_run`, which do nothing here."""
    calls: list[dict[str, Any]] = []

    def pretrain(config: PretrainConfig, out: Path, **options: bool) -> dict[str, Any]:
        calls.append({"config": config, "out": out, **options})
        return {"out": out, "loss": float("nan"), "heldout": {"accuracy": np.float32(0.5)}}

    def dry_run(config: PretrainConfig) -> dict[str, Any]:
        calls.append({"config": config})
        return {"megabytes": 12}

    stand_in(monkeypatch, "selfsup.uses.pretraining", pretrain=pretrain, dry_run=dry_run)
    return calls


def test_pretrain_passes_everything_on(pretrained: list[dict[str, Any]], capsys: Capture) -> None:
    words = "pretrain bert-tiny --data a.jsonl --data b@0.5 --column body --on-bad-row skip"
    words += (
        " --tokens 3e6 --device cpu --processes 2 --train.optimizer.kind muon --json --overwrite"
    )
    assert main(words.split()) == 0
    call = pretrained[0]
    config = call["config"]
    assert [(s.path, s.weight) for s in config.data.sources] == [("a.jsonl", 1), ("b", 0.5)]
    assert {(s.column, s.on_bad_row) for s in config.data.sources} == {("body", "skip")}
    assert config.train.budget.amount == 3e6
    assert config.train.optimizer.kind == "muon"
    assert (config.train.device, config.train.processes) == ("cpu", 2)
    assert (call["out"], call["overwrite"], call["quiet"]) == (Path("runs/bert-tiny"), True, True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "out": "runs/bert-tiny",
        "loss": None,
        "heldout": {"accuracy": 0.5},
    }
    assert printed.err == ""


def test_a_saved_run_is_repeated(
    in_folder: Path, pretrained: list[dict[str, Any]], capsys: Capture
) -> None:
    main(
        [
            "pretrain",
            "bert-tiny",
            "--data",
            "a.txt",
            "--seed",
            "9",
            "--train.optimizer.kind",
            "muon",
        ]
    )
    first = pretrained[0]["config"]
    (in_folder / "config.json").write_text(first.model_dump_json())
    assert main(["pretrain", "--config", "config.json", "--out", "again", "--column", "body"]) == 0
    again = pretrained[1]["config"]
    assert again.data.sources[0].column == "body"
    assert again.model_copy(update={"data": first.data}) == first
    assert pretrained[1]["out"] == Path("again")


def test_dry_run(pretrained: list[dict[str, Any]], capsys: Capture) -> None:
    assert main(["pretrain", "bert-tiny", "--data", "a.txt", "--dry-run"]) == 0
    assert "megabytes  12" in capsys.readouterr().out
    assert "out" not in pretrained[0]


def test_only_the_first_process_talks(
    pretrained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert main(["pretrain", "bert-tiny", "--data", "a.txt"]) == 0
    assert capsys.readouterr().out == ""


@dataclass
class _Candidate:
    token: str
    text: str
    probability: float


@dataclass
class _Filled:
    text: str
    blanks: list[list[_Candidate]]
    best: str
    note: str = ""


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(model: str, texts: list[str], top: int) -> list[_Filled]:
        words = [_Candidate(f"w{i}", f"w{i}", 0.5 / (i + 1)) for i in range(top)]
        return [_Filled(t, [words] * t.count("[MASK]"), t, "cut") for t in texts]

    def embed(
        model: str,
        texts: list[str],
        *,
        notes: list[str],
        progress: Callable[[int], None],
        **options: Any,
    ) -> np.ndarray[Any, Any]:
        progress(len(texts))
        notes.append("cut")
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    stand_in(monkeypatch, "selfsup.models.hub", load_encoder=lambda path, device: path)
    stand_in(monkeypatch, "selfsup.uses.fill", fill=fill)
    stand_in(monkeypatch, "selfsup.uses.embed", embed_telling=embed)


@pytest.mark.usefixtures("models")
def test_fill(in_folder: Path, capsys: Capture) -> None:
    (in_folder / "more.txt").write_text("b [MASK] [MASK]\n\n")
    words = ["fill", "m", "a [MASK]", "--input", "more.txt", "--top", "2"]
    assert main([*words, "--json"]) == 0
    filled = json.loads(capsys.readouterr().out)
    assert [(f["text"], len(f["blanks"])) for f in filled] == [
        ("a [MASK]", 1),
        ("b [MASK] [MASK]", 2),
    ]
    assert filled[0]["blanks"][0][1] == {"token": "w1", "text": "w1", "probability": 0.25}
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "b [MASK] [MASK]" in printed.out
    assert "selfsup: cut" in printed.err


@pytest.mark.usefixtures("models")
def test_embed_writes_whole_files(in_folder: Path, capsys: Capture) -> None:
    (in_folder / "in.jsonl").write_text('{"t": "abc"}\n{"t": "de"}\n')
    words = [
        "embed",
        "m",
        "--input",
        "in.jsonl",
        "--column",
        "t",
        "--output",
        "out/v.npy",
        "--json",
    ]
    assert main(words) == 0
    printed = capsys.readouterr()
    result = {"output": "out/v.npy", "texts": 2, "dimensions": 2, "notes": ["cut"]}
    assert json.loads(printed.out) == result
    assert np.load("out/v.npy").tolist() == [[3, 1], [2, 1]]
    assert [p.name for p in Path("out").iterdir()] == ["v.npy"]
    assert main([*words, "--overwrite"]) == 0


def test_tokenizer_train(in_folder: Path, capsys: Capture) -> None:
    (in_folder / "dna.txt").write_text("ACGT\n")
    words = [
        "tokenizer",
        "train",
        "--data",
        "dna.txt",
        "--kind",
        "symbols",
        "--k",
        "2",
        "--out",
        "t",
        "--json",
    ]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "symbols"
    assert (in_folder / "t/tokenizer.json").exists()
    assert "holds a tokenizer already" in refused(capsys, *words)
    assert main([*words, "--overwrite"]) == 0


def test_data_stats(in_folder: Path, capsys: Capture) -> None:
    (in_folder / "a.txt").write_text("one\ntwo\none\n")
    assert main(["data", "stats", "a.txt", "--unit", "line", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents_read"] == 3
    assert main(["data", "stats", "a.txt", "--unit", "line"]) == 0
    assert "documents" in capsys.readouterr().out


def test_notes_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    from selfsup.cli import render

    render.show(
        {"kind": "predict", "notes": ["one [row]", "two"], "labels": ["a", "b"]}, as_json=False
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["kind", "predict"], ["notes", "one", "[row]"], ["two"], ["labels", "a,", "b"]]


def test_a_column_without_a_file_and_a_seed_too_large(capsys: Capture) -> None:
    assert main(["fill", "nowhere", "a [MASK]", "--column", "x"]) == 2
    assert "--column: is about --input, which is missing" in capsys.readouterr().err
    assert main(["pretrain", "bert-tiny", "--data", "x", "--seed", "99999999999"]) == 2
    assert "--seed: must be less than 4294967296, not 99999999999" in capsys.readouterr().err


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    "words", ["fill m --input rows.jsonl", "embed m --input rows.jsonl --output v.npy"]
)
def test_a_mend_names_no_flag_that_a_verb_lacks(
    in_folder: Path, capsys: Capture, words: str
) -> None:
    (in_folder / "rows.jsonl").write_text('{"text": "a [MASK]"}\n{"text"\n')
    message = refused(capsys, *words.split())
    assert message.startswith("rows.jsonl:2:")
    assert message.endswith("mend the row")


def test_of_many_names_the_first_are_shown(capsys: Capture) -> None:
    from selfsup.cli import render

    names = [f"class-{i}" for i in range(100)]
    render.show({"labels": names, "few": names[:12], "steps": list(range(13))}, as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].endswith("class-10, class-11 … (100)")
    assert lines[1].endswith("class-10, class-11")
    assert lines[2].endswith("10, 11, 12")  # numbers are all told
    assert max(map(len, lines)) < 200
    render.show({"labels": names}, as_json=True)
    assert json.loads(capsys.readouterr().out)["labels"] == names


def test_names_that_are_data_are_printed_as_they_are(capsys: Capture) -> None:
    from selfsup.cli import render

    row = {"max_length": 1, "my_model": "my_text"}
    render.show([row], as_json=False, names=["my_model"])
    assert capsys.readouterr().out.splitlines()[0].split() == ["max", "length", "my_model"]
    render.show({"by_name": {"my_model": 1}, "made_of": [row]}, as_json=False, names=["my_model"])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].split() == ["by", "name.my_model", "1"]
    assert lines[1] == "made of"
    assert lines[2].split() == ["max", "length", "my_model"]


def test_letters_of_sequences_are_counted_by_their_own_names(
    in_folder: Path, capsys: Capture
) -> None:
    (in_folder / "a.txt").write_text("AC_GT_\n")
    assert main(["data", "stats", "a.txt"]) == 0
    assert "letters._" in capsys.readouterr().out
