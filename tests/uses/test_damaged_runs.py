"""Files of a run that are damaged, moved or gone: one line says so, or the run makes them again."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from selfsup.errors import Interrupted, UserError
from selfsup.models.model_folder import find_model_folder
from selfsup.training import checkpoints
from selfsup.training.loop import Loop
from selfsup.training.metrics import read_metrics
from selfsup.uses.inspect import runs
from selfsup.uses.pretraining import pretrain
from tests.training.tiny import tiny_config, write_corpus

NOT_UTF8 = b'{"recipe": "\xff\xfe"}'


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("made") / "run"
    pretrain(tiny_config(corpus), run, quiet=True)
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run of one's own."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def stop_at() -> Iterator[Callable[[int], None]]:
    """Sends SIGTERM in a step."""
    with pytest.MonkeyPatch.context() as patch:

        def ask(number: int) -> None:
            step = Loop.step

            def watched(self: Loop) -> Any:
                if self.state.step == number:
                    os.kill(os.getpid(), signal.SIGTERM)
                return step(self)

            patch.setattr(Loop, "step", watched)

        yield ask


def refused(corpus: Path, run: Path) -> str:
    with pytest.raises(UserError) as error:
        pretrain(tiny_config(corpus), run, quiet=True)
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b'{"step": 1', "not valid JSON"),
        (NOT_UTF8, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b'{"step": 3}', "no fingerprint"),
        (b'{"step": "x", "fingerprint": "", "precision": "", "saved": [0, 0, 0]}', "no step"),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    corpus: Path, run: Path, content: bytes, said: str
) -> None:
    first = json.loads((run / "result.json").read_text())
    (run / "result.json").unlink()
    before, newest = checkpoints.found(run / "checkpoints")[-2:]
    (newest / "state.json").write_bytes(content)
    told = refused(corpus, run)
    assert told.startswith(f"{newest / 'state.json'}: is damaged: {said}")
    mend = f"; remove {newest.name}, and the same command goes on from {before.name}"
    assert told.endswith(mend)
    shutil.rmtree(newest)
    assert pretrain(tiny_config(corpus), run, quiet=True)["heldout"] == first["heldout"]


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[1]", NOT_UTF8])
def test_a_damaged_result_is_named_and_made_again(corpus: Path, run: Path, content: bytes) -> None:
    first = json.loads((run / "result.json").read_text())
    (run / "result.json").write_bytes(content)
    told = refused(corpus, run)
    assert told.startswith(f"{run / 'result.json'}: is damaged: not ")
    assert told.endswith("remove it, and the same command makes it again")
    (run / "result.json").unlink()
    again = pretrain(tiny_config(corpus), run, quiet=True)
    assert again["heldout"] == first["heldout"]
    assert again["tokens_per_second"] > 0  # of the steps that were taken before


@pytest.mark.parametrize("file", ["config.json", "environment.json"])
@pytest.mark.parametrize("content", [b"", b'{"a": ', b"[1]", NOT_UTF8])
def test_other_damaged_files_are_named(corpus: Path, run: Path, file: str, content: bytes) -> None:
    (run / file).write_bytes(content)
    told = refused(corpus, run)
    assert told.startswith(f"{run / file}: is damaged: not ")
    assert told.endswith("--overwrite starts anew, or choose another --out")


@pytest.mark.parametrize(
    "settings", [{"train": [1]}, {"data": 3}, {"data": {"sources": 3}}, {"data": {"sources": [3]}}]
)
def test_settings_of_another_kind_are_other_settings(
    corpus: Path, run: Path, settings: dict[str, Any]
) -> None:
    (run / "config.json").write_text(json.dumps(settings))
    assert "lies here" in refused(corpus, run)


def test_damaged_lines_of_the_metrics_are_left_out(corpus: Path, run: Path) -> None:
    file = run / "metrics.jsonl"
    whole = read_metrics(file)
    damage = b'[1]\n3\n"x"\nnull\n{"loss": 1}\n{"step": "x"}\n\xff\xfe\n{"step": 1'
    file.write_bytes(damage + b"\n" + file.read_bytes() + damage)
    assert read_metrics(file) == whole
    (run / "result.json").unlink()
    pretrain(tiny_config(corpus), run, quiet=True)
    assert read_metrics(file) == whole


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *(("config.json", content) for content in (b"", b'{"recipe": ', b"[]", NOT_UTF8)),
        ("result.json", b'{"heldout": '),
        ("metrics.jsonl", b'{"step": 1, "split": "heldout"}\n'),
    ],
)
def test_a_damaged_run_leaves_the_others_in_the_table(
    run: Path, tmp_path: Path, file: str, content: bytes
) -> None:
    shutil.copytree(run, tmp_path / "bad")
    (tmp_path / "bad" / file).write_bytes(content)
    rows = {row["run"]: row for row in runs(tmp_path)}
    assert rows["bad"]["state"] == "damaged"
    assert rows["run"]["state"] == "finished"
    assert rows["run"]["step"] == 12
    assert rows["bad"].keys() == rows["run"].keys()


def test_a_foreign_line_in_the_metrics_damages_no_table(run: Path, tmp_path: Path) -> None:
    with open(run / "metrics.jsonl", "a") as handle:
        handle.write("[1]\n")
    (row,) = runs(tmp_path)
    assert (row["state"], row["step"]) == ("finished", 12)


def test_what_a_killed_first_write_left_does_not_block_the_folder(
    corpus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".config.json.123").write_text('{"half')
    assert pretrain(tiny_config(corpus, budget="2 steps"), run, quiet=True)["steps"] == 2


def test_a_moved_run_says_where_its_model_lies_now(corpus: Path, run: Path, tmp_path: Path) -> None:
    moved = run.rename(tmp_path / "elsewhere")
    assert pretrain(tiny_config(corpus), moved, quiet=True)["model"] == str(moved / "model")


def test_a_model_that_is_gone_is_delivered_again(corpus: Path, run: Path) -> None:
    kept = (run / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "model")
    with pytest.raises(UserError, match="run the same command again, without --overwrite"):
        find_model_folder(run)
    pretrain(tiny_config(corpus), run, quiet=True)
    assert (run / "model" / "model.safetensors").read_bytes() == kept


def test_after_overwrite_the_message_says_to_leave_it_out(
    corpus: Path, run: Path, stop_at: Callable[[int], None]
) -> None:
    stop_at(5)
    with pytest.raises(Interrupted) as stop:
        pretrain(tiny_config(corpus), run, quiet=True, overwrite=True)
    said = "stopped at step 6; the same command without --overwrite goes on from here"
    assert str(stop.value) == said
    stop_at(7)
    with pytest.raises(Interrupted) as stop:
        pretrain(tiny_config(corpus), run, quiet=True)
    assert str(stop.value) == "stopped at step 8; the same command goes on from here"
    pretrain(tiny_config(corpus), run, quiet=True)
    steps = [x["step"] for x in read_metrics(run / "metrics.jsonl") if x["split"] == "train"]
    assert steps == list(range(1, 13))  # it went on


@pytest.mark.parametrize("as_safetensors", [False, True])
def test_a_limit_of_file_sizes_is_said(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_safetensors: bool
) -> None:
    from selfsup.training import checkpoints as module

    def full(path: Path, tensors: Any) -> None:
        if as_safetensors:
            raise RuntimeError(f"I/O error: File too large (os error {errno.EFBIG})")
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))

    monkeypatch.setattr(module, "write_tensors", full)
    told = refused(corpus, tmp_path / "run")
    assert "a file would be larger than is allowed (ulimit -f)" in told
    assert not checkpoints.found(tmp_path / "run" / "checkpoints")
