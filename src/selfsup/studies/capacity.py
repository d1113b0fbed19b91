"""A detector must not be too able: the size of the code against finding kinds never seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.autoencoder_config import ObservationConfig
from selfsup.data.columns import as_columns, as_numbers, fits, truths_as_numbers
from selfsup.data.images import ImageSpec
from selfsup.data.observations import read_observations
from selfsup.errors import UserError, at_least, counted
from selfsup.studies.detection_figures import draw_capacity
from selfsup.studies.report import Page
from selfsup.studies.study_folder import open_folder
from selfsup.training.lock import locked
from selfsup.uses.detection.baselines import PrincipalComponents
from selfsup.uses.detection.estimators import AutoEncoderTransformer
from selfsup.uses.run_folder import write_json


def run(
    data: ObservationConfig,
    out: Path,
    *,
    seen: Sequence[str] = (),
    sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256),
    seeds: int = 3,
    steps: int = 3000,
    hidden: int = 256,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train plain auto-encoders with codes of several sizes on some kinds, and look for the others.

    Args:
        data: images or a numeric table; its `labels` are the kinds.
        out: the study's folder.
        seen: kinds that train; none: the first half of them.
        sizes: of the code.
        seeds: trainings of each size.
        steps, hidden: of each training; large, so that a wide code is really used.
        overwrite: whether an earlier study may go.

    Raises:
        UserError: no labels, kinds that are not there, columns of words, numbers below 1, or a folder that
            cannot be made.
    """
    for flag, value in (("--seeds", seeds), ("--steps", steps), ("--sizes", min(sizes))):
        at_least(1, value, flag)
    with locked(out):
        rows, kinds = _read(data)
        chosen = _chosen(kinds, seen)
        settings = {
            "data": data.model_dump(mode="json"),
            "seen": chosen,
            "sizes": list(sizes),
            "seeds": seeds,
            "steps": steps,
        }
        open_folder(out, settings, overwrite)
        write_json(out / "study.json", settings)
        cells = []
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            own = random.permutation(np.flatnonzero(np.isin(kinds, chosen)))
            train, test = own[: len(own) // 2], own[len(own) // 2 :]
            cells += _sizes(rows, train, test, np.isin(kinds, chosen), sizes, seed, steps, hidden)
        return _conclude(out, cells, sizes, chosen)


def _chosen(kinds: NDArray[Any], seen: Sequence[str]) -> list[str]:
    """The kinds that train."""
    names = sorted(set(kinds.tolist()))
    chosen = list(seen) or names[: max(1, len(names) // 2)]
    unknown = [name for name in chosen if name not in names]
    if unknown or len(set(chosen)) == len(names):
        what = f"no kind '{unknown[0]}'" if unknown else "no kind is left to be found"
        raise UserError(what, where="--seen", mend=f"there are {', '.join(names)}")
    return chosen


def _conclude(
    out: Path, cells: list[dict[str, Any]], sizes: Sequence[int], chosen: list[str]
) -> dict[str, Any]:
    """Figure, page and result."""
    figure = draw_capacity(out, cells)
    middle = {s: _median(cells, s) for s in sizes}
    said = finding(middle)
    page = Page("How able may a detector be?", said)
    page.image(figure, "Median and range over seeds.")
    page.table([{"code size": s, **v} for s, v in middle.items()])
    page.write(out / "report.html")
    result = {
        "finding": said,
        "table": [{"code_size": s, **v} for s, v in middle.items()],
        "seen": chosen,
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


def _read(data: ObservationConfig) -> tuple[NDArray[np.float64], NDArray[Any]]:
    observations = read_observations(data)
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


def _sizes(
    rows: NDArray[np.float64],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    known: NDArray[np.bool_],
    sizes: Sequence[int],
    seed: int,
    steps: int,
    hidden: int,
) -> list[dict[str, Any]]:
    from sklearn.metrics import roc_auc_score

    unseen = np.flatnonzero(~known)
    both = np.concatenate([test, unseen])
    truth = np.repeat([0, 1], [len(test), len(unseen)])
    floor = PrincipalComponents().fit(rows[train]).strangeness(rows[both])
    cells = []
    for size in sizes:
        network = AutoEncoderTransformer(
            code_size=size,
            members=1,
            hidden=hidden,
            steps=steps,
            corruption=0.0,
            scaling="common",
            random_state=seed,
        ).fit(rows[train])
        guess = network.inverse_transform(network.transform(rows[both]))
        error = np.square(guess - rows[both]).mean(axis=1)
        cells.append(
            {
                "code_size": size,
                "seed": seed,
                "auroc": 100 * float(roc_auc_score(truth, error)),
                "floor": 100 * float(roc_auc_score(truth, floor)),
                "error_seen": float(error[truth == 0].mean()),
                "error_unseen": float(error[truth == 1].mean()),
            }
        )
    return cells


def _median(cells: Sequence[dict[str, Any]], size: int) -> dict[str, float]:
    own = [c for c in cells if c["code_size"] == size]
    return {
        key: float(np.median([c[key] for c in own]))
        for key in ("auroc", "floor", "error_seen", "error_unseen")
    }
