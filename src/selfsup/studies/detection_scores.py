"""The scores of a table or of images: worked out block by block, and written beside the rows' names."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import as_texts, no_such_column
from selfsup.data.files import whole_file
from selfsup.data.observations import Observations
from selfsup.errors import UserError
from selfsup.uses.detection.estimators import AutoEncoderDetector

_AT_ONCE = 1 << 15
"""Rows that are encoded together, about."""
TOP = 3
"""Columns that are told of a row."""


class Found(NamedTuple):
    """Everything that is said about rows."""

    strange: NDArray[np.float64]
    p: NDArray[np.float64]
    flagged: NDArray[np.bool_]


def take(rows: Any, places: NDArray[np.int64]) -> Any:
    """Some of the rows, of whatever kind."""
    if isinstance(rows, dict):
        return {name: column[places] for name, column in rows.items()}
    return rows[places]


def judge(
    detector: AutoEncoderDetector, rows: Any, progress: Callable[[int], None] = lambda _: None
) -> Found:
    """Scores, p-values and flags, block by block.

    Args:
        detector: judges.
        rows: of any kind that it takes.
        progress: called with the number of rows that are done.
    """
    count = len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)
    size = detector.engine_.block * max(1, _AT_ONCE // detector.engine_.block)
    numbers = () if detector.table_ is None else detector.table_.numbers
    if isinstance(rows, dict) and any(
        rows.get(n.name, np.zeros(0)).dtype == object for n in numbers
    ):
        size = count  # whether texts are numbers is a question to the whole column
    blocks = [np.arange(i, min(i + size, count)) for i in range(0, count, size)]
    try:
        parts = []
        for block in blocks:
            parts.append(detector.score_samples(take(rows, block)))
            progress(int(block[-1]) + 1)
        usual = np.concatenate(parts)
    except UserError:
        detector.score_samples(rows)  # names the row among them all
        raise
    return Found(-usual, detector.p_values_of(-usual), usual < detector.offset_)


def row_names(observations: Observations, id_column: str) -> dict[str, Sequence[Any]]:
    """What rows are called: the files of pictures, and a column that was asked for."""
    if not id_column:
        return {"file": observations.files} if observations.files else {}
    if not isinstance(observations.values, dict):
        what = "these rows have no column names"
        raise UserError(what, where="--id-column", mend="leave it out")
    if id_column not in observations.values:
        raise no_such_column(id_column, list(observations.values), observations.where)
    column = observations.values[id_column]  # its texts stay as they are written, also moments
    called = [
        raw if isinstance(raw, str) else text
        for raw, text in zip(column, as_texts(column), strict=True)
    ]
    return {id_column: [text or "" for text in called]}


def write_scores(
    path: Path,
    detector: AutoEncoderDetector,
    rows: Any,
    found: Found,
    called: Mapping[str, Sequence[Any]],
    *,
    images: bool,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a row for each: its names, score, p-value, flag, and of a table the columns that made it.

    Args:
        path: the file.
        detector: judged the rows.
        rows: what was judged.
        found: what was said about them.
        called: the rows' names.
        images: whether the rows are.
        progress: called with the number of rows that are written.
    """
    names = detector.column_names()
    count = min(TOP, len(names))
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        more = [] if images else ["columns"]
        table.writerow(["row", *called, "score", "p_value", "flag", *more])
        for first in range(0, len(found.strange), 4096):
            places = np.arange(first, min(first + 4096, len(found.strange)))
            said = [] if images else _columns_of(detector.explain(take(rows, places)), names, count)
            for i, row in enumerate(places.tolist()):
                own = [column[row] for column in called.values()]
                line = [row + 1, *own, f"{found.strange[row]:.9g}", f"{found.p[row]:.6g}"]
                table.writerow([*line, int(found.flagged[row]), *said[i : i + 1]])
            progress(int(places[-1]) + 1)


def _columns_of(shares: NDArray[np.float64], names: Sequence[str], count: int) -> list[str]:
    """(rows,) the columns with the largest of the shares (rows, columns)."""
    top = np.argsort(-shares, axis=1)[:, :count]
    most = np.take_along_axis(shares, top, axis=1).tolist()
    return [
        "; ".join(f"{names[t]} {share:.0%}" for t, share in zip(places, own, strict=True))
        for places, own in zip(top.tolist(), most, strict=True)
    ]
