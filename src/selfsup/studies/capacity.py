"""A detector must not be too able: the size of the code against finding kinds never seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.autoencoder_config import ObservationConfig
from selfsup.data.columns import as_columns, as_numbers, fits, truths_as_numbers
from selfsup.data.images import ImageSpec
from selfsup.data.observations import Observations, read_observations
from selfsup.errors import UserError, at_least, counted
from selfsup.studies.autoencoder_cells import Cell, Plan, cells
from selfsup.studies.detection_figures import draw_capacity
from selfsup.studies.report import Page
from selfsup.studies.study_folder import open_folder
from selfsup.training.lock import locked
from selfsup.training.progress import Progress
from selfsup.training.signals import told_how_to_go_on
from selfsup.uses.detection.baselines import PrincipalComponents
from selfsup.uses.detection.estimators import AutoEncoderTransformer
from selfsup.uses.run_folder import write_json

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LEAST = 4
"""Rows of the kinds that train: two to learn from, two to be scored beside the others."""
_SCORES = ("auroc", "floor", "error_seen", "error_unseen")


def run(
    data: ObservationConfig,
    out: Path,
    *,
    seen: Sequence[str] = (),
    sizes: Sequence[int] | None = None,
    seeds: int = 3,
    steps: int = 3000,
    hidden: int = 256,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train plain auto-encoders with codes of several sizes on some kinds, and look for the others.

    The same command again goes on where it stopped.

    Args:
        data: images or a numeric table; its `labels` are the kinds.
        out: the study's folder.
        seen: kinds that train; none: the first half of them.
        sizes: of the code; none: those of `SIZES` that are no larger than the number of rows that train.
        seeds: trainings of each size.
        steps, hidden: of each training; large, so that a wide code is really used.
        overwrite: whether an earlier study may go.
        quiet: print nothing.

    Raises:
        UserError: no labels, kinds that are not there or have too few rows, columns of words, numbers
            below 1, sizes above the number of rows that train, or a folder that cannot be made or holds
            another study.
        Interrupted: stopped; trainings that have finished are kept.
    """
    if sizes is not None and not sizes:
        raise UserError("sizes are whole numbers from 1", where="--sizes", mend="like 2,8,32")
    numbers = {"--seeds": seeds, "--steps": steps, "--sizes": min(sizes or SIZES), "hidden": hidden}
    for flag, value in numbers.items():
        at_least(1, value, flag)
    plan = Plan(data, out, steps, seeds, overwrite, quiet)
    with told_how_to_go_on(overwrite), locked(out):
        observations = read_observations(data)
        rows, kinds = _numbers(observations, data)
        chosen = _chosen(kinds, seen)
        known = np.isin(kinds, chosen)
        fitting, notes = _fitting(sizes, int(known.sum()))
        settings = plan.settings(observations, seen=chosen, sizes=fitting, hidden=hidden)
        open_folder(out, settings, overwrite)
        write_json(out / "study.json", settings)
        _say(notes, quiet)
        wanted = [{"code_size": size, "seed": seed} for seed in range(seeds) for size in fitting]
        found = cells(plan, wanted, _maker(rows, known, steps, hidden), _SCORES)
        return _conclude(out, found, fitting, chosen, notes)


def _chosen(kinds: NDArray[Any], seen: Sequence[str]) -> list[str]:
    """The kinds that train, each once.

    Raises:
        UserError: one is not there, none is left for the others, or they have too few rows.
    """
    names = sorted(set(kinds.tolist()))
    chosen = list(dict.fromkeys(seen)) or names[: max(1, len(names) // 2)]
    unknown = [name for name in chosen if name not in names]
    if unknown or len(chosen) == len(names):
        what = f"no kind '{unknown[0]}'" if unknown else "no kind is left to be found"
        raise UserError(what, where="--seen", mend=f"there are {', '.join(names)}")
    rows = int(np.isin(kinds, chosen).sum())
    if rows < _LEAST:
        what = (
            f"{counted(rows, 'row')} of {', '.join(chosen)} cannot be halved to train and to score"
        )
        mend = f"name kinds that have {_LEAST} rows or more together"
        raise UserError(what, where="--seen", mend=mend)
    return sorted(chosen)  # the same kinds in another order are the same study


def _fitting(sizes: Sequence[int] | None, known: int) -> tuple[list[int], list[str]]:
    """The sizes that half of the `known` rows can train, each once, and what is to be said of the others.

    Raises:
        UserError: sizes that were given are too large.
    """
    most = known // 2
    large = [str(size) for size in sizes or SIZES if size > most]
    train = f"{counted(most, 'row')} of the kinds seen train"
    if sizes and large:
        what = f"{train}, fewer than the code's {large[0]} numbers"
        raise UserError(what, where="--sizes", mend=f"give sizes up to {most}")
    fitting = [size for size in dict.fromkeys(sizes or SIZES) if size <= most]
    notes = [f"no code of {', '.join(large)} numbers: {train}"] if large else []
    return fitting, notes


def _say(notes: Sequence[str], quiet: bool) -> None:
    display = Progress(quiet=quiet, title="")
    for line in notes:
        display.say(line)
    display.close()


def _conclude(
    out: Path, found: Sequence[Cell], sizes: Sequence[int], chosen: list[str], notes: list[str]
) -> dict[str, Any]:
    """Figure, page and result."""
    figure = draw_capacity(out, [{k: v for k, v in c.items() if k != "seconds"} for c in found])
    middle = {s: _median(found, s) for s in sizes}
    said = finding(middle)
    page = Page("How able may a detector be?", said)
    page.image(figure, "Median and range over seeds.")
    page.table([{"code size": s, **v} for s, v in middle.items()])
    page.items(notes)
    page.write(out / "report.html")
    result = {
        "finding": said,
        "table": [{"code_size": s, **v} for s, v in middle.items()],
        "seen": chosen,
        **({"notes": notes} if notes else {}),
    }
    write_json(out / "result.json", result)
    return result


def finding(middle: Mapping[int, Mapping[str, float]]) -> str:
    """What the medians say, by the code's size; principal components beside them."""
    best, last = max(middle, key=lambda size: middle[size]["auroc"]), max(middle)
    auroc, floor = middle[best]["auroc"], middle[best]["floor"]
    size = f"{counted(best, 'number')} in the code"
    if best == last and len(middle) > 1:
        size += ", the most that were tried"
    said = f"Kinds never seen are found best with {size} (AUROC {auroc:.1f})."
    if best != last:
        ratio = middle[last]["error_unseen"] / max(middle[best]["error_unseen"], 1e-12)
        said += (
            f" With {last} the AUROC is {middle[last]['auroc']:.1f}, and the error on kinds never seen "
            f"{ratio:.0%} of that with {best}."
        )
    rank = "better" if floor > auroc else "no better"
    return f"{said} Principal components are {rank} (AUROC {floor:.1f})."


def _numbers(
    observations: Observations, data: ObservationConfig
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Rows (count, width) and their kinds (count,).

    Raises:
        UserError: no kinds, or a column that is not of numbers alone.
    """
    if observations.labels is None:
        raise UserError("the kinds are missing", where="--labels", mend="name where they are")
    if observations.images:
        where = observations.where
        rows = ImageSpec.fit(observations.values, where).transform(observations.values, where)
        return rows.reshape(len(rows), -1).astype(np.float64), np.array(observations.labels)
    columns = []
    for name, column in as_columns(observations.values, data.path).items():
        numbers = as_numbers(column)
        if numbers is None:
            numbers = truths_as_numbers(column)
        if numbers is None or not fits(numbers).all():
            what = f"column '{name}' holds words, gaps or infinite numbers; this study reads numbers alone"
            raise UserError(what, where=data.path, mend="leave it out: --ignore")
        columns.append(numbers)
    return np.column_stack(columns), np.array(observations.labels)


def _maker(
    rows: NDArray[np.float64], known: NDArray[np.bool_], steps: int, hidden: int
) -> Callable[[Mapping[str, Any]], Cell]:
    """What trains one size from one seed and scores it, beside the floor of that seed.

    Args:
        rows: (count, width).
        known: (count,) whether a row's kind trains; half of those train, the others are scored.
        steps, hidden: of each training.
    """
    from sklearn.metrics import roc_auc_score

    @cache
    def floor(seed: int) -> NDArray[np.float64]:
        train, both, _ = _drawn(known, seed)
        return PrincipalComponents().fit(rows[train]).strangeness(rows[both])

    def make(what: Mapping[str, Any]) -> Cell:
        train, both, truth = _drawn(known, what["seed"])
        network = AutoEncoderTransformer(
            code_size=what["code_size"],
            members=1,
            hidden=hidden,
            steps=steps,
            corruption=0.0,
            scaling="common",
            random_state=what["seed"],
        ).fit(rows[train])
        guess = network.inverse_transform(network.transform(rows[both]))
        error = np.square(guess - rows[both]).mean(axis=1)
        return {
            "auroc": 100 * float(roc_auc_score(truth, error)),
            "floor": 100 * float(roc_auc_score(truth, floor(what["seed"]))),
            "error_seen": float(error[truth == 0].mean()),
            "error_unseen": float(error[truth == 1].mean()),
        }

    return make


def _drawn(
    known: NDArray[np.bool_], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which rows train, which are scored, and of the latter (scored,) 1 where the kind is never seen."""
    own = np.random.default_rng(seed).permutation(np.flatnonzero(known))
    train, test = own[: len(own) // 2], own[len(own) // 2 :]
    unseen = np.flatnonzero(~known)
    return train, np.concatenate([test, unseen]), np.repeat([0, 1], [len(test), len(unseen)])


def _median(found: Sequence[Cell], size: int) -> dict[str, float]:
    own = [c for c in found if c["code_size"] == size]
    return {key: float(np.median([c[key] for c in own])) for key in _SCORES}
