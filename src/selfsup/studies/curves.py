"""Was pre-training worth it on my data, and how many labels does it save?

The same network is fine-tuned from pre-trained and from random weights on nested samples of 16 labels
up to all, beside TF-IDF with a linear model and a linear probe over the frozen encoder; for tags, beside
each word's most frequent one.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfsup.errors import UserError, at_least
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.hub import load_encoder
from selfsup.nn.device import choose_device
from selfsup.studies import curve_report
from selfsup.studies.curve_cells import Bench, Cell, Start, majority_score
from selfsup.studies.curve_finding import (
    Scores,
    equivalents,
    finding,
    largest_saving,
    medians,
    probe_note,
)
from selfsup.studies.curve_samples import Material, label_counts, read_material
from selfsup.studies.study_folder import open_folder, read_cell
from selfsup.training.devices import choose_precision
from selfsup.training.lock import locked
from selfsup.training.progress import Progress, clock
from selfsup.training.signals import told_how_to_go_on
from selfsup.uses.finetuning import depends_on, fingerprint
from selfsup.uses.run_folder import versions, write_json


def run(
    config: FinetuneConfig,
    out: str | Path,
    *,
    labels: Sequence[int] = (),
    seeds: int = 3,
    scratch_lr: float = 0.0,
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Compare a pre-trained encoder with the same network from random weights.

    Every model is trained with the same settings (`with_budget` gives the steps), its last weights
    are scored once on the test part, and no example outside its sample chooses anything.  A seed
    means the same sample for all models.  Each score is a small file of its own, so the same command
    goes on where it stopped, and more seeds or other numbers of labels add to what is there.

    Args:
        config: model, task, files and settings.  Scored on `data.test`, else `data.dev`, else a held-out
            fifth of `data.train`; `data.dev` is looked at along the way for the picture alone.
        out: gets `report.html`, `result.json`, `figures/` with CSV, and `cells/`.
        labels: how many to learn from; empty: 16, 64, 256, … and all.
        seeds: models of each kind, from `config.seed` on.
        scratch_lr: peak learning rate from random weights, which often bear a larger one; 0: as
            from pre-trained weights.
        overwrite: start anew where a study lies already.
        quiet: print nothing.
        command: how it was called, for the report.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: bad data or settings, or a study with other settings lies in `out`.
        Interrupted: by Ctrl-C or SIGTERM; finished cells are kept.
    """
    _check(config, seeds, scratch_lr)
    choose_device(config.train.device)
    config = config.model_copy(update={"select": "last"})
    folder = Path(out)
    with told_how_to_go_on(overwrite), locked(folder):
        display = Progress(quiet=quiet, title="curves")
        try:
            return _run(config, folder, labels, seeds, scratch_lr, overwrite, display, command)
        finally:
            display.close()


def _check(config: FinetuneConfig, seeds: int, scratch_lr: float) -> None:
    at_least(1, seeds, "--seeds")
    if scratch_lr < 0:
        raise UserError(f"must not be negative, not {scratch_lr:g}", where="--scratch-lr")
    if config.scratch or config.frozen:
        which = "scratch" if config.scratch else "frozen"
        what = "the study trains from both starts, and probes the frozen encoder by itself"
        raise UserError(what, where=f"--{which}", mend="leave it out")
    if config.lora.rank:
        what = "random weights cannot be adapted by lora, so there is nothing to compare with"
        raise UserError(what, where="lora.rank", mend="leave it out")


def _run(
    config: FinetuneConfig,
    folder: Path,
    labels: Sequence[int],
    seeds: int,
    scratch_lr: float,
    overwrite: bool,
    display: Progress,
    command: str,
) -> dict[str, Any]:
    started = time.perf_counter()
    pretrained = load_encoder(config.model)
    material = read_material(config, pretrained.max_length)
    counts, notes = label_counts(labels, len(material.pool), material.info)
    parts = material.pool, material.test, material.watched
    settings = {
        "kind": "study curves",
        **depends_on(config, pretrained, *parts),
        "scratch_lr": scratch_lr,
    }
    kept = open_folder(folder, settings, overwrite)
    config = _with_precision(config, kept)
    write_json(folder / "study.json", {**settings, "precision": config.train.precision})
    notes = [*material.notes, *notes]
    display.say(
        f"{material.info.kind}: {len(material.pool):,} examples to learn from, "
        f"{len(material.test):,} to score on ({material.scored_on})"
    )
    for line in notes:
        display.say(line)
    bench = Bench(config, pretrained, material, scratch_lr)
    plan = _plan(material, counts, range(config.seed, config.seed + seeds))
    cells = run_cells(bench, plan, counts[-1], folder, fingerprint(settings), display)
    result = conclude(config, material, counts, cells)
    result |= {
        "notes": notes,
        "command": command,
        "scratch_lr": scratch_lr or None,
        "settings": config.model_dump(mode="json"),
        "versions": versions(),
        "seconds_now": round(time.perf_counter() - started, 1),
        "report": str(folder / "report.html"),
    }
    curve_report.draw(folder, result)
    curve_report.write(folder, result)
    write_json(folder / "result.json", result)
    display.say(f"{clock(result['seconds_now'])}; {folder}/report.html")
    return result


# ---- the folder ----------------------------------------------------------------------------------


def _with_precision(config: FinetuneConfig, kept: dict[str, Any]) -> FinetuneConfig:
    """The same number format for all cells, decided once: a probe of speed may come out either way."""
    if config.train.precision != "auto":
        return config
    device = choose_device(config.train.device)
    name = kept.get("precision") or choose_precision("auto", device).name
    train = config.train.model_copy(update={"precision": name})
    return config.model_copy(update={"train": train})


# ---- the cells -----------------------------------------------------------------------------------


def _plan(material: Material, counts: Sequence[int], seeds: Sequence[int]) -> list[Cell]:
    starts: tuple[Start, ...] = ("pretrained", "random")
    if material.info.answer in {"class", "number"}:
        starts = (*starts, "probe", "tfidf")
    if material.info.answer == "tag":
        starts = (*starts, "lookup")
    return [Cell(start, n, seed) for n in counts for start in starts for seed in seeds]


def run_cells(
    bench: Bench,
    plan: Sequence[Cell],
    most: int,
    folder: Path,
    fingerprint: str,
    display: Progress,
) -> list[dict[str, Any]]:
    """Every cell's result, from its file where it is finished."""
    found: list[dict[str, Any]] = []
    main = bench.material.info.main
    for number, cell in enumerate(plan):
        file = folder / "cells" / f"{cell.name}.json"
        curve = cell.labels == most and cell.start in {"pretrained", "random"}
        result = _finished(file, curve)
        if result is None:
            display.update(
                number / len(plan), f"{cell.labels:,} {bench.material.unit}, {cell.start}"
            )
            work = folder / "work" / cell.name
            result = bench.run(cell, work if curve else None, fingerprint)
            write_json(file, result)
            shutil.rmtree(work, ignore_errors=True)  # checkpoints, for resuming it alone
        found.append(result)
        if number + 1 == len(plan) or plan[number + 1].labels != cell.labels:
            scores = table_of(found, [cell.labels], main)
            said = ", ".join(f"{s} {medians(rows)[0]:.3f}" for s, rows in scores.items())
            display.say(f"{cell.labels:>7,} {bench.material.unit}: {main} {said}")
    shutil.rmtree(folder / "work", ignore_errors=True)
    return found


def _finished(file: Path, curve: bool) -> dict[str, Any] | None:
    try:
        found = read_cell(file, "start", "labels", "seed", "scores")
    except UserError:  # not there, or not whole: it is made again
        return None
    return found if not curve or "curve" in found else None


def table_of(
    cells: Sequence[dict[str, Any]], counts: Sequence[int], main: str
) -> dict[str, list[list[float]]]:
    """For each start, for each number of labels, the score of each seed."""
    starts = dict.fromkeys(c["start"] for c in cells)
    return {
        start: [
            [c["scores"][main] for c in cells if c["start"] == start and c["labels"] == count]
            for count in counts
        ]
        for start in starts
    }


# ---- the conclusion ------------------------------------------------------------------------------


def conclude(
    config: FinetuneConfig,
    material: Material,
    counts: Sequence[int],
    cells: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What the cells say: the sentence, tables, and the numbers behind the figures."""
    info, unit = material.info, material.unit
    scores: Scores = table_of(cells, counts, info.main)
    majority = majority_score(material)
    main = finding(counts, scores, metric=info.main, unit=unit, majority=majority)
    also = [largest_saving(counts, scores, main, unit)]
    if "probe" in scores:
        also.append(probe_note(counts, scores, unit, majority))
    shown = [c for c in cells if "curve" in c and c["labels"] == counts[-1]]
    curves = {
        start: [{"seed": c["seed"], **c["curve"]} for c in shown if c["start"] == start]
        for start in ("pretrained", "random")
    }
    ranked = sorted(
        (c for c in shown if c["start"] == "pretrained"), key=lambda c: c["scores"][info.main]
    )
    middle = ranked[(len(ranked) - 1) // 2]
    saving: dict[str, Any] | None = None
    if main.factor > 1:  # not a number where there is none
        saving = {"labels": main.few, "random_labels": main.many, "score": main.score}
        saving |= {
            "times_fewer": main.factor,
            "bound": main.bound,
            "worst_seed": _number(main.worst),
        }
    return {
        "kind": "study curves",
        "task": info.kind,
        "model": config.model,
        "metric": info.main,
        "finding": main.text,
        "pays": main.pays,
        "saving": saving,
        "also": [line for line in also if line],
        "unit": unit,
        "labels": list(counts),
        "seeds": sorted({c["seed"] for c in cells}),
        "data": {
            "to learn from": len(material.pool),
            "scored": len(material.test),
            "scored on": material.scored_on,
            "watched": material.watched_on,
            "classes": list(info.labels),
        },
        "majority": majority,
        "scores": scores,
        "equivalents": equivalents(counts, scores, main),
        "curves": curves,
        "mistakes": {"seed": middle["seed"], **middle["mistakes"]},
        "cells": [{k: v for k, v in c.items() if k not in {"curve", "mistakes"}} for c in cells],
    }


def _number(value: float) -> float | None:
    """JSON has no number for what was not measured."""
    return None if math.isnan(value) else value
