"""Rows of tables: the values of some columns of CSV, TSV, JSON-lines and parquet files, packed or not."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from selfsup.data.files import (
    PACKED_SUFFIXES,
    OnBadRow,
    ReadReport,
    bad_row,
    import_extra,
    plain_suffix,
    read_lines,
    read_strict_lines,
)
from selfsup.data.sources import csv_delimiter, json_object, next_row, no_column
from selfsup.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Quoting = Literal["auto", "none"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BATCH = 1024
_LONGEST_FIELD = 2**31 - 1
_FLAGS = "--text-column, --pair-column or --label-column"
_SETTING = f"{_FLAGS} to one of these names"
_HEADLESS = f"{_SETTING}; if this is no header, --no-header and numbers from 0"


class Row(NamedTuple):
    """Some values of one row, and where it came from."""

    values: tuple[Any, ...]
    """In the order of the columns asked for: texts from CSV and TSV, what JSON and parquet hold."""
    where: str
    """`path:line` (the line the row starts in) or `path:row` (parquet)."""


class _Fields(NamedTuple):
    """One row of a CSV or TSV file."""

    fields: list[str]
    line: int


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
    by commas or semicolons (`csv_delimiter`).
    In a `.tsv` file a quote may be an ordinary character, as in GLUE.  With `quoting="none"` it always is:
    lines are split at tabs and nothing else is done.  With `"auto"` the file is read both ways, and
    the quoted reading is taken unless its quotes are broken, it has more rows of the wrong width, or
    as many but fewer rows in all (a quote has swallowed lines that fit by themselves).  That it was not
    is told in the report's `literal`, and in its `notes` where a field stands in quotes as a whole.

    Args:
        path: the file; its suffix says how to read it.
        columns: names, or numbers from 0 (`"3"` also, where no column has that name); in JSON lines names.
        header: whether the first line of a CSV or TSV file names the columns; without, columns are
            numbers.
        quoting: of `.tsv` files, see above.
        on_bad_row: what to do with a broken row: of another width than the header (or the first
            row), no JSON object, or without one of the columns.  Text that is not UTF-8 stops in
            CSV and TSV files always.
        report: added to while reading.

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
    setting: str = _SETTING,
) -> list[int]:
    """Where each column stands.

    Raises:
        UserError: one is not there.
    """
    found = []
    for column in columns:
        named = header and column in known
        if not named and isinstance(column, str) and column.isdecimal():
            column = int(column)
        if isinstance(column, int):
            if not 0 <= column < len(known):
                what = f"no column {column}: the row has {len(known)}, numbered from 0"
                raise UserError(what, where=where)
        elif not header:
            mend = f"give its number, from 0 ({_FLAGS})"
            raise UserError(f"no column '{column}': there is no header", where=where, mend=mend)
        elif column not in known:
            raise no_column(column, known, where, setting)
        elif known.count(column) > 1:
            what = f"the header names '{column}' {known.count(column)} times"
            raise UserError(
                what, where=where, mend="name them apart, or give the column's number, from 0"
            )
        found.append(column if isinstance(column, int) else known.index(column))
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
    rows = _field_lists(path, quoting, report)
    if not rows:
        return
    first = rows[0]
    width = len(first.fields)
    places = _numbers(
        columns, first.fields, f"{path}:{first.line}", header=header, setting=_HEADLESS
    )
    model = "the header" if header else "the first row"
    for fields, line in rows[1:] if header else rows:
        if len(fields) == width:
            yield Row(tuple(fields[place] for place in places), f"{path}:{line}")
            continue
        what = f"the row has {len(fields)} fields, {model} {width}"
        mend = "quote fields with delimiters"
        bad_row(on_bad_row, report, UserError(what, where=f"{path}:{line}", mend=mend))


def _field_lists(path: Path, quoting: Quoting, report: ReadReport) -> list[_Fields]:
    """All rows, the header among them, read in the way that `read_rows` documents."""
    csv.field_size_limit(_LONGEST_FIELD)  # of the process; 128 kB is less than one article
    lines = [text for _, text in read_strict_lines(path, report)]
    if plain_suffix(path) == ".csv":
        return _quoted(path, lines, csv_delimiter(lines))
    literal = [
        _Fields(text.split("\t"), number)
        for number, text in enumerate(lines, start=1)
        if text.strip() or "\t" in text
    ]
    if quoting == "none" or not any('"' in text for text in lines):
        return literal
    try:
        quoted = _quoted(path, lines, "\t")
    except UserError:
        quoted = []
    worse = _wrong_widths(quoted) - _wrong_widths(literal)
    if quoted and (worse < 0 or (worse == 0 and len(quoted) >= len(literal))):
        return quoted
    report.literal = True
    if line := next((row.line for row in literal if any(map(_in_quotes, row.fields))), 0):
        report.notes.append(
            f"quotes are ordinary characters, also around whole fields (line {line})"
        )
    return literal


def _quoted(path: Path, lines: list[str], delimiter: str) -> list[_Fields]:
    # Strict: else a stray quote at the start of a field silently swallows the lines that follow.
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, strict=True)
    rows = []
    while (row := next_row(reader, path, start := reader.line_num + 1)) is not None:
        # A row of nothing but white space is a blank line, unless it has delimiters.
        if row and not (len(row) == 1 and not row[0].strip() and not lines[start - 1].strip()):
            rows.append(_Fields(row, start))
    return rows


def _in_quotes(field: str) -> bool:
    """Whether a field could be a quoted one, as a whole."""
    return len(field) > 1 and field[0] == field[-1] == '"' not in field[1:-1].replace('""', "")


def _wrong_widths(rows: list[_Fields]) -> int:
    return sum(len(row.fields) != len(rows[0].fields) for row in rows)


def read_table(path: Path) -> dict[str, NDArray[Any]]:
    """All columns of a table with a header, by name, in their order; values as `read_rows` gives them.

    Raises:
        UserError: with file and line, for what cannot be read, and for a header that is none.
    """
    import numpy as np

    from selfsup.data.columns import refuse_twins

    names = _header(path)
    refuse_twins(names, str(path))
    columns: list[list[Any]] = [[] for _ in names]
    for row in read_rows(path, names, report=ReadReport(may_skip=False)):
        for column, value in zip(columns, row.values, strict=True):
            column.append(value)
    if not columns or not columns[0]:
        raise UserError("the table has no rows", where=str(path))
    return {n: np.array(c, object) for n, c in zip(names, columns, strict=True)}


def _header(path: Path) -> list[str]:
    """The columns' names."""
    suffix = _table_suffix(path)
    if suffix == ".parquet":
        with _Parquet(path) as table:
            return table.names
    if suffix in JSON_SUFFIXES:
        for number, text, problem in read_lines(path, ReadReport()):
            if problem is not None:
                raise problem
            if text and not text.isspace():
                row = json_object(text, f"{path}:{number}")
                if isinstance(row, UserError):
                    raise row
                return list(row)
        return []
    rows = _field_lists(path, "auto", ReadReport())
    if not rows:
        raise UserError("the file is empty", where=str(path))
    first = rows[0]
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
            values = _json_values(text, columns, where)
            if isinstance(values, tuple):
                yield Row(values, where)
                continue
            problem = values
        assert problem is not None
        bad_row(on_bad_row, report, problem)


def _json_values(
    text: str, columns: Sequence[str | int], where: str
) -> tuple[Any, ...] | UserError:
    row = json_object(text, where)
    if isinstance(row, UserError):
        return row
    for column in columns:
        if not isinstance(column, str):
            what = f"column {column} is a number, but JSON lines name their values"
            raise UserError(what, where=where, mend=f"it has {', '.join(row)}")
        if column not in row:
            return no_column(column, list(row), where, _SETTING)
    return tuple(row[str(column)] for column in columns)


class _Parquet:
    """A parquet file, open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._duckdb = import_extra("duckdb", "data", str(path))

    def __enter__(self) -> _Parquet:
        settings = {"autoinstall_known_extensions": "false"}
        self._connection = self._duckdb.connect(config=settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query whose `$1` is the file."""
        try:
            answer = self._connection.execute(query, [str(self.path)])
            while batch := answer.fetchmany(_BATCH):
                yield from batch
        except self._duckdb.Error as error:
            what = f"cannot be read as parquet ({str(error).splitlines()[0]})"
            raise UserError(what, where=str(self.path)) from error

    @property
    def names(self) -> list[str]:
        """Its columns."""
        return [str(name) for name, *_ in self.rows("DESCRIBE SELECT * FROM read_parquet($1)")]


def _parquet_rows(path: Path, columns: Sequence[str | int], report: ReadReport) -> Iterator[Row]:
    with _Parquet(path) as table:
        names = table.names
        places = _numbers(columns, names, str(path))
        report.bytes_read += path.stat().st_size
        chosen = ", ".join('"' + names[place].replace('"', '""') + '"' for place in places)
        rows = table.rows(f"SELECT {chosen} FROM read_parquet($1)")
        for number, values in enumerate(rows, start=1):
            yield Row(values, f"{path}:{number}")
