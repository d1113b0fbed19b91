"""`selfsup detect`: a detector from a file, scores for another, and a report with its floors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.autoencoder_config import ObservationConfig
from selfsup.data.columns import no_such_column, settle_numbers
from selfsup.data.images import ImageSpec
from selfsup.data.observations import Observations, read_observations
from selfsup.data.outputs import check_output, check_place
from selfsup.data.paths import expanded
from selfsup.errors import UserError
from selfsup.studies.detection_figures import draw_heat_maps, draw_scores
from selfsup.studies.detection_notes import (
    leaks,
    on_flags,
    on_gaps,
    on_labels,
    on_threshold,
    truth_of,
)
from selfsup.studies.detection_scores import TOP, Found, judge, row_names, take, write_scores
from selfsup.studies.report import Page
from selfsup.training.lock import locked
from selfsup.training.progress import Progress, reading
from selfsup.uses.detection.baselines import baseline_scores
from selfsup.uses.detection.column_notes import ColumnWarning
from selfsup.uses.detection.estimators import AutoEncoderDetector
from selfsup.uses.detection.folder import open_detector, save_detector
from selfsup.uses.run_folder import write_json

_BRIEF = 4_000_000
"""Bytes of a file that is read and scored in seconds."""
_REPORTED = 20_000
"""Rows that floors and the figure of scores look at; of more, a random sample."""


class Compared(NamedTuple):
    """The detector beside its floors: of many rows on a sample."""

    places: NDArray[np.int64]
    """The rows that were compared."""
    truth: NDArray[np.int64] | None
    """Of these; None where nothing can be measured."""
    table: list[dict[str, Any]]
    """The detector and its floors."""


def fit(
    data: ObservationConfig,
    out: Path,
    *,
    settings: dict[str, Any],
    columns: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Train a detector on a file or folder and write it with a report.

    Args:
        data: a table, an array, IDX, or a folder of pictures, and how it is read; its labels are left
            out of training, the report measures with them.
        out: the detector's folder.
        settings: of `AutoEncoderDetector`.
        columns: only these; none: all.
        overwrite: whether an earlier detector may go.
        quiet: do not say what is being done.

    Raises:
        UserError: data or settings that cannot be used, or another thing in the folder.
    """
    with locked(out):
        others = [p.name for p in out.iterdir() if p.name != ".lock"]
        if others and not overwrite:
            mend = "choose another --out, or --overwrite"
            raise UserError(f"this folder holds '{min(others)}'", where=str(out), mend=mend)
        display = _display(data.path, quiet)
        display.say(f"reading {data.path}")
        observations = _chosen(read_observations(data, lambda name: True), columns)
        rows, spec = _rows(observations, None)
        remarks = leaks(rows, observations)
        if isinstance(rows, dict):
            settle_numbers(rows, list(rows))
        display.say(f"learning from {len(observations):,} rows")
        scaling = "columns" if spec is None else "pixels"
        with _about(observations.where), warnings.catch_warnings():
            warnings.simplefilter("ignore", ColumnWarning)  # the result has them, with the flag
            detector = AutoEncoderDetector(**settings, scaling=scaling).fit(rows)
        remarks += [n.text("--ignore") for n in detector._notes]
        remarks += on_labels(observations.labels)
        spec_state = None if spec is None else spec.state()
        color = data.color
        if spec is not None and color == "auto":  # settled, whatever the pictures to score are
            color = "grey" if spec.shape[0] == 1 else "rgb"
        read_so = {"key": data.key, "size": data.size, "color": color}
        display.say("scoring them")
        with reading(len(observations), "rows", quiet=display.quiet, what="scored") as tell:
            found = judge(detector, rows, tell, told=0)
        display.say("comparing with PCA, nearest neighbours and isolation forest")
        compared = _compare(detector, rows, found, observations)
        save_detector(out, detector, images=spec_state, reading=read_so)
        result = _report(out, detector, rows, found, compared, spec, f"A detector from {data.path}")
        remarks += on_threshold(detector, result["threshold"])
        result = {"detector": str(out), "warnings": remarks, **result}
        write_json(out / "result.json", result)
        return result


def score(
    folder: Path,
    data: str,
    output: Path,
    *,
    label_column: str = "",
    id_column: str = "",
    overwrite: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Score the rows of another file.

    Args:
        folder: what `fit` made.
        data: with the columns of training, in any order where they have names, when others are left
            alone; read as in training.
        output: a CSV file: row, score, p-value, flag, the columns that made it.
        label_column: measured with, where given.
        id_column: copied beside each score, where given.
        overwrite: whether the file may be replaced.
        quiet: do not say what is being done.

    Raises:
        UserError: data that do not fit the detector.
    """
    place = output.parent / f"{output.stem}-report"
    check_output(output, ".csv", overwrite, data)
    if place.exists() and not overwrite:
        raise UserError("exists already", where=str(place), mend="--overwrite replaces it")
    check_place(place / "report.html")
    detector, kept = open_detector(folder)
    read_so = dict(kept.get("reading") or {})
    learned: list[str] = [] if detector.table_ is None else list(detector.feature_names_in_)
    if label_column in learned:
        what = f"the detector was trained with column '{label_column}' as a part of the rows"
        mend = f"fit again with --label-column {label_column}, or score without it"
        raise UserError(what, where=str(folder), mend=mend)
    display = _display(data, quiet)
    display.say(f"reading {data}")
    # `01` may be a word, and an identifier is copied as it is written
    numbers = {n.name for n in detector.table_.numbers} if detector.table_ else set()
    observations = read_observations(
        ObservationConfig(path=data, labels=label_column, **read_so),
        lambda name: name in numbers and name != id_column,
    )
    image_state = kept.get("images")
    spec = None if image_state is None else ImageSpec.from_state(image_state)
    rows, spec = _rows(observations, spec, known=True)
    names = row_names(observations, id_column)
    if isinstance(rows, dict) and set(detector.column_names()) <= set(rows):
        rows = {name: column for name, column in rows.items() if name in learned}
    if isinstance(rows, dict):
        settle_numbers(rows, numbers & rows.keys())
        observations = replace(observations, values=rows)  # other columns are not kept
    display.say(f"scoring {len(observations):,} rows")
    total = len(observations)
    with (
        _about(observations.where),
        reading(total, "rows", quiet=display.quiet, what="scored") as tell,
    ):
        found = judge(detector, rows, tell, told=0 if spec else TOP)
    display.say("comparing with PCA, nearest neighbours and isolation forest")
    compared = _compare(detector, rows, found, observations)
    display.say("writing the scores")
    with reading(total, "rows", quiet=display.quiet, what="written") as tell:
        write_scores(output, detector, found, names, tell)
    result = _report(place, detector, rows, found, compared, spec, f"Scores of {data}")
    notes = [*on_gaps(rows, learned), *on_threshold(detector, result["threshold"])]
    notes += [*on_flags(detector, found.flagged), *on_labels(observations.labels)]
    result = {"scores": str(output), **result, **({"notes": notes} if notes else {})}
    write_json(place / "result.json", result)
    return result


# ---- reading -----------------------------------------------------------------------------------


def _display(data: str, quiet: bool) -> Progress:
    """Says what is being done where that takes a while."""
    path = expanded(data)
    brief = path.is_file() and path.stat().st_size < _BRIEF
    display = Progress(quiet=quiet or brief or not path.exists(), title="detect")
    display.close()  # lines alone
    return display


@contextmanager
def _about(where: str) -> Iterator[None]:
    """Give errors without a place this one."""
    try:
        yield
    except UserError as error:
        if error.where:
            raise
        raise UserError(error.what, where=where, mend=error.mend) from error


def _chosen(observations: Observations, columns: Sequence[str]) -> Observations:
    if not columns:
        return observations
    if not isinstance(observations.values, dict):
        what = "these rows have no column names"
        raise UserError(what, where="--columns", mend="leave it out")
    unknown = [name for name in columns if name not in observations.values]
    if unknown:
        raise no_such_column(unknown[0], list(observations.values), observations.where)
    values = {name: observations.values[name] for name in columns}
    return Observations(values, observations.labels, observations.where)


def _rows(
    observations: Observations, spec: ImageSpec | None, known: bool = False
) -> tuple[Any, ImageSpec | None]:
    """What the estimator takes: images as flat rows, tables as they are."""
    if not observations.images:
        if spec is not None:
            what = "the detector was trained on images, and these are a table"
            raise UserError(what, where=observations.where)
        if isinstance(observations.values, np.ndarray) and observations.values.dtype.kind in "US":
            mend = "write it as .csv or .jsonl, where a column may hold words"
            raise UserError("the array holds texts", where=observations.where, mend=mend)
        return observations.values, None
    if known and spec is None:
        what = "the detector was trained on a table, and these are images"
        raise UserError(what, where=observations.where)
    if spec is None:
        spec = ImageSpec.fit(observations.values, observations.where)
    else:
        spec.check_range(observations.values, observations.where)
    flat = spec.transform(observations.values, observations.where)
    return flat.reshape(len(flat), -1).astype(np.float64), spec


# ---- judging -----------------------------------------------------------------------------------


def _compare(
    detector: AutoEncoderDetector, rows: Any, found: Found, observations: Observations
) -> Compared:
    """The detector beside its floors on the same rows; nothing is written before they have answered."""
    total = len(observations)
    places = np.arange(total)
    if total > _REPORTED:
        places = np.sort(np.random.default_rng(0).choice(total, _REPORTED, replace=False))
    scaled, ours = detector._scaled(take(rows, places)), found.strange[places]
    others = baseline_scores(detector.engine_.references, scaled)  # scaled as ours are
    truth = truth_of(observations.labels)
    truth = None if truth is None else truth[places]
    if truth is not None and not 0 < truth.sum() < len(truth):
        truth = None
    table = [_line(n, s, ours, truth) for n, s in {"ours": ours, **others}.items()]
    return Compared(places, truth, table)


def _report(
    folder: Path,
    detector: AutoEncoderDetector,
    rows: Any,
    found: Found,
    compared: Compared,
    spec: ImageSpec | None,
    title: str,
) -> dict[str, Any]:
    """The figures and the page."""
    places, truth, table = compared
    total, measured = len(found.strange), len(places)
    threshold = -detector.offset_ if -detector.offset_ < np.finfo(np.float64).max else None
    figure = draw_scores(folder, found.strange[places], threshold, truth)
    share = float(found.flagged.mean())
    lead = f"{share:.1%} of {total:,} rows are flagged."
    if threshold is None:
        rate = detector.false_alarm_rate
        lead = (
            f"No row is flagged: too few rows trained for a threshold with {rate:.2%} false alarms."
        )
    if truth is not None:
        ours, best = table[0], max(table[1:], key=lambda row: row["auroc"])
        lead += f" AUROC {ours['auroc']:.1f}; the best floor is {best['detector']} with {best['auroc']:.1f}."
    page = Page(title, lead)
    page.image(figure, "How strange the rows are; the line, where there is one, is the threshold.")
    page.heading("Beside the floors")
    about = (
        "PCA, nearest neighbours and isolation forest learn from the detector's reference rows. "
        "'agreement' is the rank correlation with the detector; AUROC and AP need labels."
    )
    if measured < total:
        about += f" All are measured on {measured:,} of the rows, drawn at random."
    page.text(about)
    page.table(table)
    _show_strangest(page, folder, detector, rows, found, spec)
    page.write(folder / "report.html")
    return {
        "rows": total,
        "flagged_share": share,
        "threshold": threshold,
        **({"measured_on": measured} if measured < total else {}),
        "table": table,
        "report": str(folder / "report.html"),
    }


def _line(
    name: str, strange: NDArray[Any], ours: NDArray[Any], truth: NDArray[Any] | None
) -> dict[str, Any]:
    from scipy.stats import spearmanr
    from sklearn.metrics import average_precision_score, roc_auc_score

    row: dict[str, Any] = {"detector": name}
    if truth is not None:
        row["auroc"] = 100 * float(roc_auc_score(truth, strange))
        row["ap"] = 100 * float(average_precision_score(truth, strange))
    if np.ptp(strange) and np.ptp(ours):
        row["agreement"] = float(spearmanr(strange, ours).statistic)
    else:
        row["agreement"] = None
    return row


def _show_strangest(
    page: Page,
    folder: Path,
    detector: AutoEncoderDetector,
    rows: Any,
    found: Found,
    spec: ImageSpec | None,
) -> None:
    """The strangest rows with the columns that made them, or images with heat maps."""
    page.heading("The strangest rows")
    top = np.argsort(-found.strange)[:12]
    shares = detector.explain(take(rows, top))
    if spec is None:
        page.table(_strangest(detector, found, shares, top))
        return
    images = take(rows, top).reshape(len(top), *spec.shape)
    heat = shares.reshape(len(top), *spec.shape).sum(axis=1)
    picture = draw_heat_maps(folder, images, heat, top, found.strange[top])
    page.image(picture, "Above the image, below where it is strange.")


def _strangest(
    detector: AutoEncoderDetector,
    found: Found,
    shares: NDArray[np.float64],
    top: NDArray[np.int64],
) -> list[dict[str, Any]]:
    names = detector.column_names()
    lines = []
    for i, place in enumerate(top):
        most = np.argsort(-shares[i])[:TOP]
        lines.append(
            {
                "row": int(place) + 1,
                "score": float(found.strange[place]),
                "p-value": float(found.p[place]),
                "columns": "; ".join(f"{names[t]} {shares[i, t]:.0%}" for t in most),
            }
        )
    return lines
