"""The demo of auto-encoders, quick: every part beside its floors, and the pictures."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from selfsup.cli.app import main
from selfsup.studies import autoencoder_demo
from selfsup.training.loop import Loop


def test_the_demo_tells_its_story(tmp_path: Path, capsys: Any) -> None:
    assert main(["demo", "autoencoder", "--quick", "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["quick"] is True
    errors = result["reconstruction"]
    assert 0 < errors["principal components"] < errors["training mean"]
    assert errors["auto-encoder"] > 0
    assert 0.5 < result["classes"]["k-means"] <= 1
    assert 0 < result["classes"]["one-hot code"] <= 1
    assert 0.5 < result["anomalies"]["detector"] <= 1
    for name in ("reconstruction", "classes", "samples"):
        assert (tmp_path / "figures" / f"{name}.png").read_bytes()[1:4] == b"PNG"
    assert json.loads((tmp_path / "result.json").read_text())["finding"] == result["finding"]


def kept(folder: Path) -> dict[Path, bytes]:
    """What lies in a folder, without locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.read_bytes() for path in files}


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path, capsys: Any) -> None:
    for name in ("digits.npy", "result.json", "figures/samples.png"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text("my own")
    before = kept(tmp_path)
    assert main(["demo", "autoencoder", "--quick", "--out", str(tmp_path / "mine")]) == 2
    what = "this folder holds other things ('digits.npy'); choose an empty or new --out"
    assert capsys.readouterr().err == f"selfsup: {tmp_path / 'mine'}: {what}\n"
    assert kept(tmp_path) == before


def test_a_demo_that_was_stopped_goes_on_and_a_whole_one_is_another(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = Loop.step, []

    def watched(self: Loop) -> Any:
        steps.append(self)
        if len(steps) == 40:  # in the second of three
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Loop, "step", watched)
    demo = ["demo", "autoencoder", "--out", str(tmp_path / "demo"), "--quiet"]
    assert main([*demo, "--quick"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
    before = kept(tmp_path)
    assert main([arg for arg in demo if arg != "--quiet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"selfsup: {tmp_path / 'demo'}: a study with another quick lies here; ")
    assert said.count("\n") == 1  # nothing was announced
    assert kept(tmp_path) == before
    assert main([*demo, "--quick"]) == 0
    assert len(steps) < 100  # 3 of 30, of which none was made twice
    after = kept(tmp_path)
    assert main(demo) == 2
    assert kept(tmp_path) == after


def test_a_demo_that_starts_anew_goes_on_when_stopped(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = ["demo", "autoencoder", "--out", str(tmp_path), "--quiet"]
    assert main([*demo, "--quick"]) == 0
    (tmp_path / "figures" / "mine.png").write_text("my own")
    step, asked = Loop.step, []

    def stop(self: Loop) -> Any:
        asked.append(os.kill(os.getpid(), signal.SIGTERM))
        return step(self)

    monkeypatch.setattr(Loop, "step", stop)
    assert main([*demo, "--overwrite"]) == 130
    assert "the same command without --overwrite goes on" in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()
    assert (tmp_path / "figures" / "mine.png").read_text() == "my own"
    for recipe in autoencoder_demo.RECIPES[1:]:  # of the quick demo, which would be in the way
        assert not kept(tmp_path / recipe)
    assert main(demo) == 130
    assert "stopped at step 2; the same command goes on from here" in capsys.readouterr().err
