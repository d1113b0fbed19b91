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
from selfsup.uses.detection.estimators import AutoEncoderDetector, Judged

_AT_ONCE = 1 << 15
"""Rows that are encoded together, about."""
TOP = 3
"""Columns that are told of a row."""


class Found(NamedTuple):
    """Everything that is said about rows."""

    strange: NDArray[np.float64]
    p: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    columns: NDArray[np.int32]
    """(rows, told) which made a row strange, the first most."""
    shares: NDArray[np.float32]
    """(rows, told)."""


def take(rows: Any, places: NDArray[np.int64]) -> Any:
    """Some of the rows, of whatever kind."""
    if isinstance(rows, dict):
        return {name: column[places] for name, column in rows.items()}
    return rows[places]


def judge(
    detector: AutoEncoderDetector,
    rows: Any,
    progress: Callable[[int], None] = lambda _: None,
    *,
    told: int = TOP,
) -> Found:
    """Scores, p-values, flags and what made the rows strange, block by block.

    Args:
        detector: judges.
        rows: of any kind that it takes.
        progress: called with the number of rows that are done.
        told: columns of a row; 0 takes less time.
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
            parts.append(_judged(detector, take(rows, block), told))
            progress(int(block[-1]) + 1)
    except UserError:
        detector.score_samples(rows)  # names the row among them all
        raise
    usual, columns, shares = (np.concatenate(found) for found in zip(*parts, strict=True))
    p_values = detector.p_values_of(-usual)
    return Found(-usual, p_values, usual < detector.offset_, columns, shares)


def _judged(detector: AutoEncoderDetector, rows: Any, told: int) -> Judged:
    if told:
        return detector._judged(rows, told)
    usual = detector.score_samples(rows)
    return Judged(usual, np.zeros((len(usual), 0), np.int32), np.zeros((len(usual), 0), np.float32))


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
    found: Found,
    called: Mapping[str, Sequence[Any]],
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Write a row for each: its names, score, p-value, flag, and the columns that made it, where told.

    Args:
        path: the file.
        detector: judged the rows.
        found: what was said about them.
        called: the rows' names.
        progress: called with the number of rows that are written.
    """
    names = detector.column_names()
    told = found.columns.shape[1] > 0
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        more = ["columns"] if told else []
        table.writerow(["row", *called, "score", "p_value", "flag", *more])
        for first in range(0, len(found.strange), 4096):
            rows = range(first, min(first + 4096, len(found.strange)))
            said = _columns_of(found, rows, names) if told else []
            for i, row in enumerate(rows):
                own = [column[row] for column in called.values()]
                line = [row + 1, *own, f"{found.strange[row]:.9g}", f"{found.p[row]:.6g}"]
                table.writerow([*line, int(found.flagged[row]), *said[i : i + 1]])
            progress(rows[-1] + 1)


def _columns_of(found: Found, rows: range, names: Sequence[str]) -> list[str]:
    """(rows,) the columns that made some of the rows strange, with their shares."""
    part = slice(rows.start, rows.stop)
    return [
        "; ".join(f"{names[t]} {share:.0%}" for t, share in zip(columns, shares, strict=True))
        for columns, shares in zip(
            found.columns[part].tolist(), found.shares[part].tolist(), strict=True
        )
    ]
