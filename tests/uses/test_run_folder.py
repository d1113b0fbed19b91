"""What is drawn and told of a run folder: the same loss for both curves, and that of what was delivered."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from selfsup.uses import run_folder
from selfsup.uses.inspect import runs


def write_metrics(folder: Path, heldout: list[dict[str, float]]) -> None:
    lines = []
    for number, scores in enumerate(heldout):
        at = {"step": 10 * number, "tokens": 1000 * number, "seconds": 1.0 * number}
        lines.append({**at, "split": "heldout", **scores})
        lines.append({**at, "split": "train", "loss": 8.0 - number})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every figure that is saved."""
    found: list[Any] = []
    keep = run_folder.save_figure
    monkeypatch.setattr(
        run_folder, "save_figure", lambda f, path: (found.extend(f.axes), keep(f, path))
    )
    return found


@pytest.mark.parametrize("paired", [True, False])
def test_both_curves_are_of_the_same_loss(tmp_path: Path, drawn: list[Any], paired: bool) -> None:
    pairs = 0.7 if paired else 0.0
    scores = [{"loss": 7.0 + pairs - n, "masked_loss": 7.0 - n} for n in range(3)]
    if paired:
        scores = [{**each, "pair_loss": 0.7} for each in scores]
    write_metrics(tmp_path, scores)
    run_folder.draw_losses(tmp_path, "masked-tokens", 6.5)
    with open(tmp_path / "figures" / "loss.csv", encoding="utf-8") as handle:
        table = list(csv.DictReader(handle))
    found = {
        split: [float(x["loss"]) for x in table if x["split"] == split]
        for split in ("train", "heldout")
    }
    assert found == {"train": [8.0, 7.0, 6.0], "heldout": [each["loss"] for each in scores]}
    (axes,) = drawn
    labels = [line.get_label() for line in axes.lines]
    assert ("guessing by word frequency" in labels) == (not paired)  # it knows nothing of pairs
    assert ("pairs" in axes.get_ylabel()) == paired


def test_a_finished_run_shows_the_loss_of_what_it_delivered(tmp_path: Path) -> None:
    for name in ("pretrained", "finetuned", "unfinished"):
        write_metrics(tmp_path / name, [{"loss": loss} for loss in (5.0, 3.0, 4.0)])
    (tmp_path / "pretrained" / "result.json").write_text('{"heldout": {"loss": 3.0}}')
    (tmp_path / "finetuned" / "result.json").write_text('{"dev": {"loss": 3.5, "accuracy": 1.0}}')
    found = {row["run"]: row["heldout_loss"] for row in runs(tmp_path)}
    assert found == {"pretrained": 3.0, "finetuned": 3.5, "unfinished": 4.0}
