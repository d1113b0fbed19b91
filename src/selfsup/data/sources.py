"""Reading documents: text, JSON lines, CSV, parquet and FASTA files, packed or not, one at a time.

Nothing is held but the document at hand, so a corpus may be larger than memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from selfsup.config import SourceConfig
from selfsup.data.files import (
    FASTA_SUFFIXES,
    PLAIN_SUFFIXES,
    ReadReport,
    bad_row,
    file_kind,
    find_files,
    import_extra,
    listed,
    read_lines,
    read_strict_lines,
)
from selfsup.data.symbol_files import read_fasta, read_fasta_pieces
from selfsup.errors import UserError, nearest

__all__ = ["Document", "ReadReport", "find_files", "read_documents"]

_PARQUET_ROWS = 1024


class Document(NamedTuple):
    """One text, and where it came from."""

    text: str
    where: str
    """For messages: `path`, `path:line` (the line it starts in) or `path:row` (parquet)."""


def read_documents(
    source: SourceConfig, report: ReadReport, *, whole: bool = False
) -> Iterator[Document]:
    """The documents of a source, one after another, in the order of the sorted files.

    Texts come as they are, except that a byte-order mark is dropped, and in `.txt` files line ends
    become a line feed and line feeds around a document go.  Blank lines of `.txt` (units line and
    paragraph) and `.jsonl` are no documents; empty values are.

    Args:
        source: what to read; `on_bad_row` says whether a broken row stops, or is skipped and
            counted.
        report: added to while reading.
        whole: give FASTA records as they are, one document each, however long.

    Raises:
        UserError: with file and line, for what cannot be read.
    """
    for document in _read(source, report, whole):
        report.documents += 1
        yield document


def _read(source: SourceConfig, report: ReadReport, whole: bool) -> Iterator[Document]:
    if source.path.startswith("docstrings:"):
        yield from _read_docstrings(report)
        return
    if source.path.startswith("hub:"):
        yield from _read_hub(source, report)
        return
    for path in find_files(source):
        report.files += 1
        kind = file_kind(path)
        reader = _read_fasta_records if whole and kind in FASTA_SUFFIXES else _READERS[kind]
        yield from reader(path, source, report)


def _read_text(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    if source.unit == "line":
        for number, text, problem in read_lines(path, report):
            if problem is not None:
                bad_row(source.on_bad_row, report, problem)
            elif text and not text.isspace():
                yield Document(text, f"{path}:{number}")
        return
    lines = read_strict_lines(path, report)
    if source.unit == "file":
        yield Document("\n".join(text for _, text in lines).strip("\n"), str(path))
        return
    paragraph: list[str] = []
    start = 0
    for number, text in lines:
        if text and not text.isspace():
            start = start if paragraph else number
            paragraph.append(text)
        elif paragraph:
            yield Document("\n".join(paragraph), f"{path}:{start}")
            paragraph = []
    if paragraph:
        yield Document("\n".join(paragraph), f"{path}:{start}")


def _read_json_lines(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    for number, text, problem in read_lines(path, report):
        if text is not None and (not text or text.isspace()):
            continue
        if text is not None:
            value = _json_text(text, source.column, f"{path}:{number}")
            if isinstance(value, str):
                yield Document(value, f"{path}:{number}")
                continue
            problem = value
        assert problem is not None
        bad_row(source.on_bad_row, report, problem)


def _json_text(line: str, column: str, where: str) -> str | UserError:
    row = json_object(line, where)
    if isinstance(row, UserError):
        return row
    if column not in row:
        return no_column(column, list(row), where)
    return checked_text(row[column], column, where)


def json_object(line: str, where: str) -> dict[str, Any] | UserError:
    """The object that a line of JSON holds, or what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        hint = "one object a line is expected" if line.strip() in ("[", "{") else ""
        return UserError(f"broken JSON: {error.msg}", where=f"{where}:{error.colno}", mend=hint)
    except RecursionError:
        return UserError("broken JSON: nested too deep", where=where)
    if not isinstance(row, dict):
        hint = "write one object a line" if isinstance(row, list) else ""
        return UserError(
            f"a JSON object is expected, this is {called(row)}", where=where, mend=hint
        )
    return row


def _read_csv(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    csv.field_size_limit(2**31 - 1)  # the limit of the process; 128 kB is less than one article
    lines = (text + "\n" for _, text in read_strict_lines(path, report))
    ahead = list(_to_first_row(lines))
    delimiter = "\t" if file_kind(path) == ".tsv" else csv_delimiter(ahead)
    # Strict: else a stray quote at the start of a field silently swallows the lines that follow.
    reader = csv.reader(chain(ahead, lines), delimiter=delimiter, strict=True)
    header = next_row(reader, path, 1)
    while header == []:  # blank lines before the header
        header = next_row(reader, path, reader.line_num + 1)
    if header is None:
        return
    if source.column not in header:
        raise no_column(source.column, header, f"{path}:{reader.line_num}")
    place = header.index(source.column)
    while (row := next_row(reader, path, start := reader.line_num + 1)) is not None:
        if len(row) == len(header):
            yield Document(row[place], f"{path}:{start}")
        elif row:
            what = f"the row has {len(row)} fields, the header {len(header)}"
            problem = UserError(what, where=f"{path}:{start}", mend="quote fields with delimiters")
            bad_row(source.on_bad_row, report, problem)


def _to_first_row(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip():
            return


def csv_delimiter(lines: Sequence[str]) -> str:
    """What parts the fields of a `.csv`: a comma, or the semicolon of spreadsheets in many countries.

    The semicolon where the first row that is not blank has several fields with it, and but one with
    commas (or broken quotes).
    """
    first = next((line for line in lines if line.strip()), "")

    def width(delimiter: str) -> int:
        try:
            return len(next(csv.reader([first], delimiter=delimiter, strict=True), []))
        except csv.Error:
            return 0

    return ";" if width(",") < 2 <= width(";") else ","


def next_row(reader: Iterator[list[str]], path: Path, line: int) -> list[str] | None:
    """The next row, None at the end.  Broken quoting always stops: where a row ends is unknown."""
    try:
        return next(reader, None)
    except csv.Error as error:
        mend = 'a quote inside a quoted field is written ""'
        raise UserError(f"broken CSV: {error}", where=f"{path}:{line}", mend=mend) from error


def _read_parquet(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    duckdb = import_extra("duckdb", "data", str(path))
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    column = '"' + source.column.replace('"', '""') + '"'
    try:
        table = "FROM read_parquet(?)"
        columns = connection.execute(f"DESCRIBE SELECT * {table}", [str(path)]).fetchall()
        known = [str(name) for name, *_ in columns]
        if source.column not in known:
            raise no_column(source.column, known, str(path))
        rows = connection.execute(f"SELECT {column} {table}", [str(path)])
        report.bytes_read += path.stat().st_size
        number = 0
        while batch := rows.fetchmany(_PARQUET_ROWS):
            for (value,) in batch:
                number += 1
                text = checked_text(value, source.column, f"{path}:{number}")
                if isinstance(text, str):
                    yield Document(text, f"{path}:{number}")
                else:
                    bad_row(source.on_bad_row, report, text)
    except duckdb.Error as error:
        what = f"cannot be read as parquet ({str(error).splitlines()[0]})"
        raise UserError(what, where=str(path)) from error
    finally:
        connection.close()


def _read_fasta(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    for record in read_fasta_pieces(path, report, on_bad_row=source.on_bad_row):
        yield Document(record.sequence, record.where)


def _read_fasta_records(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    for record in read_fasta(path, on_bad_row=source.on_bad_row, report=report):
        yield Document(record.sequence, record.where)


def _read_docstrings(report: ReadReport) -> Iterator[Document]:
    from selfsup.data.docstrings import read_docstrings

    for text, _, module in read_docstrings():
        report.bytes_read += len(text.encode())
        yield Document(text, f"docstrings:{module}")


def _read_hub(source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    name, _, split = source.path.removeprefix("hub:").partition(":")
    datasets = import_extra("datasets", "hub", source.path)
    try:
        rows: Iterable[dict[str, Any]] = datasets.load_dataset(
            name, split=split or "train", streaming=True
        )
        for number, row in enumerate(rows, start=1):
            where = f"{source.path}:{number}"
            if source.column not in row:
                raise no_column(source.column, list(row), where)
            text = checked_text(row[source.column], source.column, where)
            if isinstance(text, str):
                report.bytes_read += len(text.encode())
                yield Document(text, where)
            else:
                bad_row(source.on_bad_row, report, text)
    except (OSError, ValueError, RuntimeError) as error:  # offline, unknown name, unknown split
        raise UserError(f"cannot be loaded ({error})", where=source.path) from error


def checked_text(value: object, column: str, where: str) -> str | UserError:
    """The value when it is a text that UTF-8 can hold, or what is wrong with it."""
    if not isinstance(value, str):
        return UserError(f"'{column}' is {called(value)}, not a text", where=where)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            what = f"'{column}' holds half a surrogate pair at character {error.start}"
            return UserError(what, where=where)
    return value


def called(value: object) -> str:
    """What a JSON value is, for messages."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    names = {"list": "a list", "dict": "an object", "str": "a text", "bytes": "binary data"}
    return names.get(type(value).__name__, "a number")


def no_column(column: str, known: list[str], where: str, setting: str = "column") -> UserError:
    """That a column is not there, what is, and which setting names it."""
    close = nearest(column, known)
    there = f"it has {listed(known)}" + (f", {close}" if close else "")
    return UserError(f"no column '{column}'", where=where, mend=f"{there}; set {setting}")


_Reader = Callable[[Path, SourceConfig, ReadReport], Iterator[Document]]
_READERS: dict[str, _Reader] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
    **dict.fromkeys(FASTA_SUFFIXES, _read_fasta),
    **dict.fromkeys(PLAIN_SUFFIXES, _read_text),
}
