"""Reading documents: text, JSON lines, CSV, parquet and FASTA files, packed or not, one at a time.

Nothing is held but the document at hand, so a corpus may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from selfsup.config import SourceConfig
from selfsup.data.delimited import no_column, own_name, place_named, read_delimited
from selfsup.data.files import (
    FASTA_SUFFIXES,
    PLAIN_SUFFIXES,
    ReadReport,
    bad_row,
    file_kind,
    find_files,
    import_extra,
    read_lines,
    read_strict_lines,
)
from selfsup.data.parquet import Parquet
from selfsup.data.symbol_files import read_fasta, read_fasta_pieces
from selfsup.errors import UserError

__all__ = ["Document", "ReadReport", "find_files", "read_documents"]


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
    paragraph), `.jsonl`, `.csv` and `.tsv` are no documents; empty values are.  Quotes in `.tsv` files are
    read as they make sense, for which such a file is read twice (`read_delimited`).

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
    if (name := own_name(column, row)) not in row:
        return no_column(column, list(row), where, "set column")
    return checked_text(row[name], column, where)


def json_object(line: str, where: str) -> dict[str, Any] | UserError:
    """The object that a line of JSON holds, or what is wrong with it."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        hint = "one object a line is expected" if line.strip() in ("[", "{") else ""
        return UserError(f"broken JSON: {error.msg}", where=f"{where}:{error.colno}", mend=hint)
    except RecursionError:
        return UserError("broken JSON: nested too deep", where=where)
    except ValueError:  # Python's own limit
        return UserError("broken JSON: a number of too many digits", where=where)
    if not isinstance(row, dict):
        hint = "write one object a line" if isinstance(row, list) else ""
        return UserError(
            f"a JSON object is expected, this is {called(row)}", where=where, mend=hint
        )
    return row


def _read_table(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    table = read_delimited(path, "auto", report)
    header = next(table.rows, None)
    if header is None:
        return
    if table.note:
        report.notes.append(f"{path}: {table.note}")
    names = header.fields
    place = place_named(source.column, names, f"{path}:{header.line}", "set column")
    for row in table.rows:
        where = f"{path}:{row.line}"
        if len(row.fields) == len(names):
            yield Document(row.fields[place], where)
        else:
            problem = table.wrong_width(row, len(names), "the header", where)
            bad_row(source.on_bad_row, report, problem)


def _read_parquet(path: Path, source: SourceConfig, report: ReadReport) -> Iterator[Document]:
    with Parquet(path) as table:
        place = place_named(source.column, table.names, str(path), "set column")
        report.bytes_read += path.stat().st_size
        for number, (value,) in enumerate(table.rows([table.names[place]]), start=1):
            text = checked_text(value, source.column, f"{path}:{number}")
            if isinstance(text, str):
                yield Document(text, f"{path}:{number}")
            else:
                bad_row(source.on_bad_row, report, text)


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
                raise no_column(source.column, list(row), where, "set column")
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
    """What a value of JSON or parquet is, for messages."""
    if value is None:
        return "missing"
    return _CALLED.get(type(value).__name__, "a number")


_CALLED = {
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "str": "a text",
    "bytes": "binary data",
    "date": "a date",
    "datetime": "a date",
    "time": "a time of day",
    "timedelta": "a span of time",
    "UUID": "a UUID",
}
_Reader = Callable[[Path, SourceConfig, ReadReport], Iterator[Document]]
_READERS: dict[str, _Reader] = {
    ".txt": _read_text,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".json": _read_json_lines,
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
    **dict.fromkeys(FASTA_SUFFIXES, _read_fasta),
    **dict.fromkeys(PLAIN_SUFFIXES, _read_text),
}
