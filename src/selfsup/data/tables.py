"""Rows of tables: the values of some columns of CSV, TSV, JSON-lines and parquet files, packed or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from selfsup.data.delimited import Quoting, no_column, own_name, place_named, read_delimited
from selfsup.data.files import (
    PACKED_SUFFIXES,
    OnBadRow,
    ReadReport,
    bad_row,
    plain_suffix,
    read_lines,
)
from selfsup.data.parquet import Parquet
from selfsup.data.sources import json_object
from selfsup.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_FLAGS = "--text-column, --pair-column or --label-column"
_SETTING = f"set {_FLAGS} to one of these names"
_HEADLESS = f"{_SETTING}; if this is no header, --no-header and numbers from 0"
_KEPT_ONCE = 10_000
_TWICE = "name them apart, or give the column's number, from 0"


class Row(NamedTuple):
    """Some values of one row, and where it came from."""

    values: tuple[Any, ...]
    """In the order of the columns asked for: texts from CSV and TSV, what JSON and parquet hold."""
    where: str
    """`path:line` (the line the row starts in) or `path:row` (parquet)."""


def read_rows(
    path: Path,
    columns: Sequence[str | int],
    *,
    header: bool = True,
    quoting: Quoting = "auto",
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> Iterator[Row]:
    r"""The values of some columns, row by row.

    Blank lines are no rows; a byte-order mark and `\r\n` are understood.  A `.csv` file is quoted, and parted
    by commas or semicolons.  In a `.tsv` file a quote may be an ordinary character, as in GLUE.  With
    `quoting="none"` it always is: lines are split at tabs and nothing else is done.  With `"auto"` it is
    where quotes make no sense (`read_delimited`).  That is told in the report's `literal`, and in its
    `notes` where a field stands in quotes as a whole.

    Args:
        path: the file; its suffix says how to read it.
        columns: names, or numbers from 0 (`"3"` also, where no column has that name); in JSON lines names.
        header: whether the first line of a CSV or TSV file names the columns; without, columns are
            numbers.
        quoting: of `.tsv` files, see above.
        on_bad_row: what to do with a broken row: of another width than the header (or the first
            row), no JSON object, or without one of the columns.  Text that is not UTF-8 stops in
            CSV and TSV files always.
        report: added to while reading; its `layout` is told for a column that is not there.

    Raises:
        UserError: with file and line, for what cannot be read, and for a column that is not there.
    """
    report = report if report is not None else ReadReport()
    report.files += 1
    suffix = _table_suffix(path)
    if suffix in JSON_SUFFIXES:
        return _json_rows(path, columns, on_bad_row, report)
    if suffix == ".parquet":
        return _parquet_rows(path, columns, report)
    return _field_rows(path, columns, header, quoting, on_bad_row, report)


def _table_suffix(path: Path) -> str:
    suffix = path.suffix.lower() if path.suffix.lower() == ".parquet" else plain_suffix(path)
    if suffix not in TABLE_SUFFIXES:
        what = f"files of the kind '{suffix or path.name}' are no tables"
        mend = f"known are {', '.join(TABLE_SUFFIXES)}, also packed ({', '.join(PACKED_SUFFIXES)})"
        raise UserError(what, where=str(path), mend=mend)
    return suffix


def _numbers(
    columns: Sequence[str | int],
    known: list[str],
    where: str,
    *,
    header: bool = True,
    layout: str = "",
    setting: str = _SETTING,
) -> list[int]:
    """Where each column stands.

    Raises:
        UserError: one is not there; it tells `layout`, or else `setting`.
    """
    found = []
    for column in columns:
        named = header and column in known
        if not named and isinstance(column, str) and column.isdecimal():
            column = int(column)
        if isinstance(column, int):
            if not 0 <= column < len(known):
                what = f"no column {column}: the row has {len(known)}, numbered from 0"
                raise UserError(what, where=where, mend=layout)
            found.append(column)
        elif not header:
            how = f"give its number, from 0 ({_FLAGS})"
            raise UserError(f"no column '{column}': there is no header", where=where, mend=how)
        else:
            found.append(place_named(column, known, where, layout or setting, layout or _TWICE))
    return found


# CSV and TSV ------------------------------------------------------------------------------------


def _field_rows(
    path: Path,
    columns: Sequence[str | int],
    header: bool,
    quoting: Quoting,
    on_bad_row: OnBadRow,
    report: ReadReport,
) -> Iterator[Row]:
    table = read_delimited(path, quoting, report)
    report.literal = report.literal or table.literal
    if table.note:
        report.notes.append(table.note)
    first = next(table.rows, None)
    if first is None:
        return
    width = len(first.fields)
    where = f"{path}:{first.line}"
    places = _numbers(
        columns, first.fields, where, header=header, layout=report.layout, setting=_HEADLESS
    )
    model = "the header" if header else "the first row"
    for row in table.rows if header else chain([first], table.rows):
        where = f"{path}:{row.line}"
        if len(row.fields) == width:
            yield Row(tuple(row.fields[place] for place in places), where)
        else:
            bad_row(on_bad_row, report, table.wrong_width(row, width, model, where))


def read_table(
    path: Path, settled: Callable[[str], bool] = lambda _: False
) -> dict[str, NDArray[Any]]:
    """All columns of a table with a header, by name, in their order; values as `read_rows` gives them.

    A line of JSON that leaves out a name has a gap there (None); all names that occur are columns.

    Args:
        path: the file.
        settled: says of a column's name whether, if all its values are numbers or gaps, they become
            float64 while they are read, as `settle_numbers` would make them: in a third of the memory.

    Raises:
        UserError: with file and line, for what cannot be read, and for a header that is none.
    """
    import numpy as np

    if _table_suffix(path) in JSON_SUFFIXES:
        columns = _json_columns(path)
        found = {name: np.array(columns.pop(name), object) for name in list(columns)}
    else:
        found = _grown_columns(path, settled)
    if not any(map(len, found.values())):
        raise UserError("the table has no rows", where=str(path), mend="name a file with rows")
    return found


def _grown_columns(path: Path, settled: Callable[[str], bool]) -> dict[str, NDArray[Any]]:
    """The columns of CSV, TSV or parquet."""
    from selfsup.data.columns import refuse_twins
    from selfsup.data.growing import PART, GrowingColumn

    names = _header(path)
    refuse_twins(names, str(path))
    columns = [GrowingColumn(settled(name)) for name in names]
    known: dict[Any, Any] = {}  # a word that repeats is kept once
    for number, row in enumerate(read_rows(path, names, report=ReadReport(may_skip=False)), 1):
        for column, value in zip(columns, row.values, strict=True):
            if type(value) is str:
                value = known.get(value, value)
                if len(known) < _KEPT_ONCE:
                    known[value] = value
            column.open.append(value)
        if number % PART == 0:
            for column in columns:
                column.close()
    return {name: column.whole() for name, column in zip(names, columns, strict=True)}


def _json_columns(path: Path) -> dict[str, list[Any]]:
    """All names of JSON lines, with their values; None where a line has no such name."""
    columns: dict[str, list[Any]] = {}
    report, rows = ReadReport(may_skip=False), 0
    for number, text, problem in read_lines(path, report):
        if text is not None and (not text or text.isspace()):
            continue
        row = problem if text is None else json_object(text, f"{path}:{number}")
        if not isinstance(row, dict):
            assert row is not None
            bad_row("stop", report, row)
            continue
        for name in row:
            columns.setdefault(name, [None] * rows)
        for name, column in columns.items():
            column.append(row.get(name))
        rows += 1
    return columns


def _header(path: Path) -> list[str]:
    """The columns' names, of CSV, TSV or parquet."""
    if _table_suffix(path) == ".parquet":
        with Parquet(path) as table:
            return table.names
    first = next(read_delimited(path, "auto", ReadReport()).rows, None)
    if first is None:
        raise UserError("the file is empty", where=str(path), mend="name a file with rows")
    blank = [i for i, name in enumerate(first.fields) if not name.strip()]
    if len(blank) > 1:
        what = f"the header leaves {len(blank)} columns without a name"
        raise UserError(what, where=f"{path}:{first.line}", mend="name them")
    return first.fields


# JSON lines and parquet -------------------------------------------------------------------------


def _json_rows(
    path: Path, columns: Sequence[str | int], on_bad_row: OnBadRow, report: ReadReport
) -> Iterator[Row]:
    for number, text, problem in read_lines(path, report):
        if text is not None and (not text or text.isspace()):
            continue
        where = f"{path}:{number}"
        if text is not None:
            values = _json_values(text, columns, where, report.layout or _SETTING)
            if isinstance(values, tuple):
                yield Row(values, where)
                continue
            problem = values
        assert problem is not None
        bad_row(on_bad_row, report, problem)


def _json_values(
    text: str, columns: Sequence[str | int], where: str, mend: str
) -> tuple[Any, ...] | UserError:
    row = json_object(text, where)
    if isinstance(row, UserError):
        return row
    values = []
    for column in columns:
        if not isinstance(column, str):
            what = f"column {column} is a number, but JSON lines name their values"
            raise UserError(what, where=where, mend=f"it has {', '.join(row)}")
        if (name := own_name(column, row)) not in row:
            return no_column(column, list(row), where, mend)
        values.append(row[name])
    return tuple(values)


def _parquet_rows(path: Path, columns: Sequence[str | int], report: ReadReport) -> Iterator[Row]:
    with Parquet(path) as table:
        names = table.names
        places = _numbers(columns, names, str(path), layout=report.layout)
        report.bytes_read += path.stat().st_size
        rows = table.rows([names[place] for place in places])
        for number, values in enumerate(rows, start=1):
            yield Row(values, f"{path}:{number}")
