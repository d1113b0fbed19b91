"""The loop: exact accumulation, exact resume, the same curve on any number of processes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from selfsup.config import PretrainConfig
from selfsup.errors import Interrupted, NonFiniteLoss, RunLocked, UserError
from selfsup.models.tensors import read_tensors
from selfsup.training import checkpoints
from selfsup.training.lock import locked
from selfsup.training.loop import Loop
from selfsup.training.metrics import read_metrics
from selfsup.training.progress import Progress
from selfsup.uses.kinds import build_model
from selfsup.uses.preparing import prepare
from selfsup.uses.pretraining import make_loop, pretrain
from tests.training.tiny import tiny_config, write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


def losses(folder: Path) -> dict[int, float]:
    return {
        x["step"]: x["loss"]
        for x in read_metrics(folder / "metrics.jsonl")
        if x["split"] == "train"
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(checkpoints.found(folder / "checkpoints")[-1] / "model.safetensors")


def assert_same_run(a: Path, b: Path) -> None:
    """Bit for bit: weights, optimizer state, and every logged loss."""
    assert losses(a) == losses(b)
    last_a, last_b = (checkpoints.found(x / "checkpoints")[-1] for x in (a, b))
    assert last_a.name == last_b.name
    for file in ("model.safetensors", "optimizer.safetensors"):
        one, two = read_tensors(last_a / file), read_tensors(last_b / file)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[n], two[n]) for n in one)


def make(config: PretrainConfig, folder: Path | None = None) -> Loop:
    prepared = prepare(config, Progress(quiet=True, title=""))
    return make_loop(prepared, build_model(prepared.config), folder, True)


# ---- one step --------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["bert-tiny", "modernbert-tiny"])
def test_accumulating_equals_one_big_batch(corpus: Path, recipe: str) -> None:
    found = []
    for accumulate in (1, 4):
        loop = make(tiny_config(corpus, recipe, accumulate=accumulate))
        loop.model.double()
        results = [loop.step()[0] for _ in range(3)]
        found.append((results, [p.detach().clone() for p in loop.model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        # the loop's sums of losses are float32, which reaches the weights through the gradient scale
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("recipe", ["bert-tiny", "modernbert-tiny"])
def test_every_parameter_learns(corpus: Path, tmp_path: Path, recipe: str) -> None:
    fast = {"kind": "adamw", "lr": 0.01}
    config = tiny_config(corpus, recipe, budget="80 steps", optimizer=fast)
    result = pretrain(config, tmp_path / "run", quiet=True)
    before = build_model(prepare(config, Progress(quiet=True, title="")).config)
    after = weights(tmp_path / "run")
    same = [n for n, p in before.named_parameters() if torch.equal(p, after[n])]
    assert not same
    assert result["heldout"]["masked_loss"] < result["untrained"]["masked_loss"] - 0.3
    assert result["heldout"]["masked_loss"] < result["unigram"]["masked_loss"] + 0.3


def test_the_global_generator_is_untouched(corpus: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    pretrain(tiny_config(corpus, budget="3 steps"), tmp_path / "run", quiet=True)
    assert torch.equal(torch.rand(3), expected)


# ---- resume ----------------------------------------------------------------------------------


def run_until_stopped(config: PretrainConfig, folder: Path, step: int) -> None:
    """Train in this process and ask the loop to stop after a step, as Ctrl-C does."""
    loop_step = Loop.step

    def watched(self: Loop) -> Any:
        result = loop_step(self)
        if self.state.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "step", watched)
        with pytest.raises(Interrupted):
            pretrain(config, folder, quiet=True)


@pytest.mark.parametrize("recipe", ["bert-tiny", "modernbert-tiny"])
def test_stopped_twice_across_an_epoch_equals_uninterrupted(
    corpus: Path, tmp_path: Path, recipe: str
) -> None:
    config = tiny_config(corpus, recipe, budget="112 steps", save_every="7 steps", accumulate=2)
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"dropout": 0.1, "attention_dropout": 0.1})}
    )
    whole = pretrain(config, tmp_path / "whole", quiet=True)
    assert whole["epochs"] > 1
    for step in (9, 104):  # an epoch has 102 steps and a half
        run_until_stopped(config, tmp_path / "parts", step)
    parts = pretrain(config, tmp_path / "parts", quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert whole["heldout"] == parts["heldout"]


_KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from selfsup.config import PretrainConfig
from selfsup.uses.pretraining import pretrain
config = PretrainConfig.model_validate_json(Path(sys.argv[1]).read_text())
pretrain(config, sys.argv[2], quiet=True)
"""


def start(config: PretrainConfig, folder: Path, script: Path) -> subprocess.Popen[bytes]:
    script.write_text(_KILLED)
    settings = script.with_suffix(".json")
    settings.write_text(config.model_dump_json())
    command = [sys.executable, str(script), str(settings), str(folder)]
    source = str(Path(__file__).parents[2] / "src")
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": source}, stderr=subprocess.PIPE
    )


def kill_often(config: PretrainConfig, folder: Path, times: int, seed: int) -> int:
    """Start the run again and again and kill -9 it at random moments; returns how many hit."""
    rng = random.Random(seed)
    hits = 0
    for _ in range(times):
        process = start(config, folder, folder.parent / "killed.py")
        log = folder / "metrics.jsonl"
        before = log.stat().st_mtime_ns if log.exists() else 0
        while process.poll() is None:
            if log.exists() and log.stat().st_mtime_ns != before:
                break
            time.sleep(0.002)
        time.sleep(rng.random() * 0.25)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            hits += 1
        process.wait()
    return hits


def check_killed(corpus: Path, tmp_path: Path, steps: int, times: int) -> None:
    config = tiny_config(
        corpus, budget=f"{steps} steps", save_every="3 steps", accumulate=2, evaluate_every=0.05
    )
    pretrain(config, tmp_path / "whole", quiet=True)
    hits = kill_often(config, tmp_path / "killed", times, seed=steps)
    assert hits >= max(1, times // 2)
    pretrain(config, tmp_path / "killed", quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_killed_and_resumed_equals_uninterrupted(corpus: Path, tmp_path: Path) -> None:
    check_killed(corpus, tmp_path, steps=60, times=2)


@pytest.mark.slow
def test_killed_at_twenty_random_moments(corpus: Path, tmp_path: Path) -> None:
    check_killed(corpus, tmp_path, steps=600, times=20)


def test_a_finished_run_is_not_run_again(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, budget="3 steps")
    first = pretrain(config, tmp_path / "run", quiet=True)
    stamp = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    assert pretrain(config, tmp_path / "run", quiet=True) == first
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == stamp


# ---- processes -------------------------------------------------------------------------------


def test_two_processes_give_the_curve_of_one(corpus: Path, tmp_path: Path) -> None:
    """Also when a run goes on with another number of processes."""
    pretrain(tiny_config(corpus), tmp_path / "one", quiet=True)
    pretrain(tiny_config(corpus, processes=2), tmp_path / "two", quiet=True)
    run_until_stopped(tiny_config(corpus), tmp_path / "mixed", 5)
    pretrain(tiny_config(corpus, processes=2), tmp_path / "mixed", quiet=True)
    one = losses(tmp_path / "one")
    for other in ("two", "mixed"):
        assert losses(tmp_path / other) == pytest.approx(one, rel=2e-4)
    heldout = [
        [
            x["loss"]
            for x in read_metrics(tmp_path / name / "metrics.jsonl")
            if x["split"] == "heldout"
        ]
        for name in ("one", "two", "mixed")
    ]
    assert heldout[1] == pytest.approx(heldout[0], rel=2e-4)
    assert heldout[2] == pytest.approx(heldout[0], rel=2e-4)


# ---- what goes wrong -------------------------------------------------------------------------


def test_non_finite_loss_stops_with_step_layer_and_documents(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop_step = Loop.step

    def poisoned(self: Loop) -> Any:
        if self.state.step == 6:
            with torch.no_grad():
                self.model.encoder.blocks[1].mlp.up.weight[0, 0] = float("inf")  # type: ignore[union-attr,index]
        return loop_step(self)

    monkeypatch.setattr(Loop, "step", poisoned)
    with pytest.raises(NonFiniteLoss, match=r"step 6: .*blocks\.1\.mlp\.up.*documents \d+"):
        pretrain(tiny_config(corpus), tmp_path / "run", quiet=True)
    (kept,) = checkpoints.found(tmp_path / "run" / "checkpoints")
    assert kept.name == "step-00000004"
    assert all(bool(t.isfinite().all()) for t in weights(tmp_path / "run").values())


def test_full_disk_keeps_the_last_good_checkpoint(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    real, calls = safetensors.torch.save_file, []

    def full(tensors: Any, path: Path, **kwargs: Any) -> None:
        calls.append(path)
        if "step-00000008" in str(path) and "optimizer" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(tensors, path, **kwargs)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match="disk is full"):
        pretrain(tiny_config(corpus), tmp_path / "run", quiet=True)
    monkeypatch.undo()
    folder = tmp_path / "run" / "checkpoints"
    assert [p.name for p in checkpoints.found(folder)] == ["step-00000004"]
    assert not [p for p in folder.iterdir() if p.name.endswith(".tmp")]
    pretrain(tiny_config(corpus), tmp_path / "run", quiet=True)
    pretrain(tiny_config(corpus), tmp_path / "whole", quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_second_process_is_locked_out_and_told_by_whom(corpus: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(RunLocked, match=f"process {os.getpid()} on"):
        pretrain(tiny_config(corpus), tmp_path / "run", quiet=True)


def test_a_refused_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError), locked(tmp_path / "runs" / "a"):
        raise UserError("bad input")
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError), locked(tmp_path / "mine"):
        raise UserError("bad input")
    assert not list((tmp_path / "mine").iterdir())  # the folder was there
    (tmp_path / "mine" / "metrics.jsonl").touch()
    with pytest.raises(UserError), locked(tmp_path / "mine"):
        raise UserError("later")
    assert (tmp_path / "mine" / "metrics.jsonl").is_file()
    with locked(tmp_path / "one"):
        with pytest.raises(RunLocked), locked(tmp_path / "one"):
            pass
        assert (tmp_path / "one" / ".lock").is_file()  # it is not the second one's


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, calls = tmp_path / "a" / ".lock", fcntl.flock, 0

    def then_removed(handle: Any, how: int) -> None:
        nonlocal calls
        calls += 1
        real(handle, how)
        if calls == 1:
            path.unlink()

    monkeypatch.setattr(fcntl, "flock", then_removed)
    with locked(tmp_path / "a"):
        assert calls == 2
        assert path.read_text().startswith(f"process {os.getpid()}")


def test_another_configuration_in_the_same_folder_is_named(corpus: Path, tmp_path: Path) -> None:
    pretrain(tiny_config(corpus, budget="2 steps"), tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"another train\.batch_size"):
        pretrain(tiny_config(corpus, budget="2 steps", batch_size=4), tmp_path / "run", quiet=True)
    pretrain(
        tiny_config(corpus, budget="2 steps", batch_size=4),
        tmp_path / "run",
        quiet=True,
        overwrite=True,
    )


def test_what_cannot_be_trained_overwrites_nothing(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pretrain(tiny_config(corpus, budget="2 steps"), folder, quiet=True)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"}
    start = tiny_config(corpus, budget="2 steps").model_copy(update={"init": str(folder)})
    for config, message in (
        (tiny_config(tmp_path / "none.txt"), "no such file or folder"),
        (tiny_config(corpus, batch_size=100_000), "at least 100000 are needed"),
        (start, "the model to start from lies in the folder"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain(config, folder, quiet=True, overwrite=True)
        after = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"}
        assert after == before


def test_changed_data_is_not_resumed(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "text.txt")
    run_until_stopped(tiny_config(data), tmp_path / "run", 5)
    write_corpus(data, seed=1)
    with pytest.raises(UserError, match="other data"):
        pretrain(tiny_config(data), tmp_path / "run", quiet=True)


def test_a_finished_run_is_given_for_its_own_data_alone(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "text.txt")
    config = tiny_config(data, budget="2 steps")
    first = pretrain(config, tmp_path / "run", quiet=True)
    assert pretrain(config, tmp_path / "run", quiet=True) == first
    write_corpus(data, seed=1)
    with pytest.raises(UserError, match="a run on other data lies here"):
        pretrain(config, tmp_path / "run", quiet=True)
    data.unlink()  # nothing to compare with
    assert pretrain(config, tmp_path / "run", quiet=True) == first


def test_a_run_from_before_a_setting_was_there_goes_on(corpus: Path, tmp_path: Path) -> None:
    config = tiny_config(corpus, budget="2 steps")
    first = pretrain(config, tmp_path / "run", quiet=True)
    file = tmp_path / "run" / "config.json"
    old = json.loads(file.read_text())
    del old["data"]["duplicates"]
    file.write_text(json.dumps(old))
    assert pretrain(config, tmp_path / "run", quiet=True) == first
    changed = config.model_copy(
        update={"data": config.data.model_copy(update={"duplicates": "keep"})}
    )
    with pytest.raises(UserError, match=r"another data\.duplicates"):
        pretrain(changed, tmp_path / "run", quiet=True)


def test_a_folder_with_other_things_is_left_alone(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "photos.txt").write_text("mine")
    with pytest.raises(UserError, match=re.escape("photos.txt")):
        pretrain(tiny_config(corpus), tmp_path, quiet=True)
    assert (tmp_path / "photos.txt").read_text() == "mine"


def test_too_little_text_for_a_batch(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "text.txt", documents=60)
    with pytest.raises(UserError, match="rows of 32; at least 1024 are needed"):
        pretrain(tiny_config(data, batch_size=1024), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors"])
def test_a_truncated_checkpoint_is_refused(corpus: Path, tmp_path: Path, file: str) -> None:
    run_until_stopped(tiny_config(corpus), tmp_path / "run", 5)
    path = checkpoints.found(tmp_path / "run" / "checkpoints")[-1] / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        pretrain(tiny_config(corpus), tmp_path / "run", quiet=True)


def test_the_end_is_evaluated_and_scores_are_those_of_the_delivered_weights(
    corpus: Path, tmp_path: Path
) -> None:
    import selfsup
    from selfsup.training.evaluation import Evaluator

    # the rate explodes at the end of warm-up: the best weights are not the last
    high = {"kind": "adamw", "lr": 0.3}
    warm = {"kind": "constant", "warmup": 0.9}
    config = tiny_config(
        corpus, budget="40 steps", evaluate_every=0.3, optimizer=high, schedule=warm, clip=0
    )
    result = pretrain(config, tmp_path / "run", quiet=True)
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    looks = [x["step"] for x in lines if x["split"] == "heldout"]
    assert looks == [0, 12, 24, 36, 40]
    assert result["best_step"] < 40
    assert result["heldout"]["loss"] == result["best_loss"]
    prepared = prepare(config, Progress(quiet=True, title=""))
    loop = make_loop(prepared, build_model(prepared.config), None, True)
    scored = Evaluator(prepared.evaluation, 8, loop.device, loop.precision)(
        selfsup.load(tmp_path / "run").model
    )
    assert scored["loss"] == pytest.approx(result["heldout"]["loss"], rel=1e-5)


def test_processes_must_divide_the_batch(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selfsup.training import distributed

    prepared = prepare(tiny_config(corpus), Progress(quiet=True, title=""))
    monkeypatch.setattr(distributed, "world_size", lambda: 3)  # as under torchrun
    with pytest.raises(UserError, match=r"batch_size \(8\) must be a multiple"):
        make_loop(prepared, build_model(prepared.config), None, True)


def test_moved_data_goes_on(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "text.txt")
    run_until_stopped(tiny_config(data), tmp_path / "run", 5)
    data.rename(tmp_path / "moved.txt")
    moved = tiny_config(tmp_path / "moved.txt")
    assert pretrain(moved, tmp_path / "run", quiet=True)["steps"] == 12


def test_brackets_are_said_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    display = Progress(quiet=False, title="")
    display.say("[UNK] of data[/x].txt")
    display.close()
    assert capsys.readouterr().err == "[UNK] of data[/x].txt\n"
