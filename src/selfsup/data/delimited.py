"""Rows of CSV and TSV files, one at a time: what parts the fields, and what quotes mean."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from selfsup.data.files import ReadReport, listed, plain_suffix, read_strict_lines
from selfsup.errors import UserError, nearest

Quoting = Literal["auto", "none"]

_LONGEST_FIELD = 2**31 - 1
_LONGEST_ROW = 1 << 24
"""Characters of a row in quotes beyond which a `.tsv` file is taken for one without a sense of quotes."""


_ORDINARY = "quotes are ordinary characters"


class Fields(NamedTuple):
    """One row."""

    fields: list[str]
    line: int
    """The line that it starts in."""


class Delimited(NamedTuple):
    """The rows of a file, and how they are read."""

    rows: Iterator[Fields]
    """The header among them; blank lines are none."""
    quoted: bool
    """Whether a field may stand in quotes."""
    literal: bool
    """Whether the file has quotes that were taken for ordinary characters, since they make no sense."""
    note: str
    """What is noteworthy about that; mostly empty."""

    def wrong_width(self, row: Fields, width: int, model: str, where: str) -> UserError:
        """That a row has another number of fields than the header or the first row (`model`)."""
        what = f"the row has {len(row.fields)} fields, {model} {width}"
        mend = "quote fields with delimiters" if self.quoted else "mend the row"
        return UserError(what, where=where, mend=mend)


class _BrokenQuotes(UserError):
    """Where a row ends is unknown."""


def read_delimited(path: Path, quoting: Quoting, report: ReadReport) -> Delimited:
    """Open a CSV or TSV file.

    A `.csv` file is quoted.  So is a `.tsv` file, but with `quoting` "none", and where quotes make no sense:
    the quoted reading is broken, has more rows of the wrong width, or as many but fewer rows in all (a
    quote has swallowed lines that fit by themselves).  In a file of one column each line fits by itself:
    there quotes make sense where each stands as a writer of such files would put it.  To know that, the
    file is read once before.

    Args:
        path: the file; its suffix says what it is.
        quoting: of `.tsv` files.
        report: its bytes are added to while reading.

    Raises:
        UserError: with file and line, for what is not UTF-8; while reading, for broken quotes; a pipe, which
            cannot be read twice.
    """
    csv.field_size_limit(_LONGEST_FIELD)  # of the process; 128 kB is less than one article
    if plain_suffix(path) == ".csv":
        lines = (text for _, text in read_strict_lines(path, report))
        ahead = list(_to_first_row(lines))
        return Delimited(_quoted(path, chain(ahead, lines), _csv_delimiter(ahead)), True, False, "")
    lines = (text for _, text in read_strict_lines(path, report))
    if quoting == "none":
        return Delimited(_split(lines), False, False, "")
    sense, note = _sense_of_quotes(path)
    if sense == "quoted":
        return Delimited(_quoted(path, lines, "\t"), True, False, "")
    return Delimited(_split(lines), sense == "absent", sense == "literal", note)


def _split(lines: Iterable[str]) -> Iterator[Fields]:
    for number, text in enumerate(lines, start=1):
        if text.strip() or "\t" in text:
            yield Fields(text.split("\t"), number)


def _quoted(
    path: Path, lines: Iterable[str], delimiter: str, longest: int | None = None
) -> Iterator[Fields]:
    first: str | None = None  # line of the row
    size = 0

    def fed() -> Iterator[str]:
        nonlocal first, size
        for line in lines:
            first = line if first is None else first
            size += len(line)
            if longest is not None and size > longest:
                raise _BrokenQuotes("a row without end", where=str(path))
            yield line + "\n"

    # Strict: else a stray quote at the start of a field silently swallows the lines that follow.
    reader = csv.reader(fed(), delimiter=delimiter, strict=True)
    while (row := _next_row(reader, path, start := reader.line_num + 1)) is not None:
        # A row of nothing but white space is a blank line, unless it has delimiters or quotes.
        if row and not (len(row) == 1 and not row[0].strip() and row[0] == first):
            yield Fields(row, start)
        first, size = None, 0


def _next_row(reader: Iterator[list[str]], path: Path, line: int) -> list[str] | None:
    """The next row, None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        mend = 'a quote inside a quoted field is written ""'
        raise _BrokenQuotes(f"broken CSV: {error}", where=f"{path}:{line}", mend=mend) from error


@dataclass
class _Widths:
    """How many rows a reading has, and how many of them are not as wide as the first."""

    width: int = 0
    rows: int = 0
    wrong: int = 0

    def add(self, width: int) -> None:
        self.width = self.width or width
        self.rows += 1
        self.wrong += width != self.width


def _sense_of_quotes(path: Path) -> tuple[Literal["absent", "quoted", "literal"], str]:
    """How a `.tsv` file is to be read, and what is noteworthy about it."""
    if not path.is_file():
        what = "is no ordinary file, and a .tsv is read twice"
        raise UserError(what, where=str(path), mend="write it to a file first")
    literal, quoted = _Widths(), _Widths()
    has_quotes, enclosed = False, 0
    met = 0  # quotes of the row at hand

    def watched() -> Iterator[str]:
        nonlocal has_quotes, enclosed, met
        for number, text in read_strict_lines(path, ReadReport()):
            if text.strip() or "\t" in text:
                literal.add(text.count("\t") + 1)
            if '"' in text:
                has_quotes = True
                met += text.count('"')
                if not enclosed and any(map(_in_quotes, text.split("\t"))):
                    enclosed = number
            yield text

    lines = watched()
    broken, written = False, True
    try:
        for row in _quoted(path, lines, "\t", _LONGEST_ROW):
            quoted.add(len(row.fields))
            written = written and _is_written_so(row.fields, met)
            met = 0
    except _BrokenQuotes:
        broken = True
        for _ in lines:
            pass
    worse = quoted.wrong - literal.wrong
    whole = quoted.rows >= literal.rows or (literal.width == 1 and written)
    sound = not broken and (worse < 0 or (worse == 0 and whole))
    if not has_quotes:
        return "absent", ""
    if sound:
        return "quoted", ""
    if enclosed:
        return "literal", f"{_ORDINARY}, also around whole fields (line {enclosed})"
    joined = "" if broken or worse > 0 else f"{_ORDINARY}; else they would join lines"
    return "literal", joined


def _is_written_so(fields: list[str], quotes: int) -> bool:
    """Whether a writer that quotes fields would have written so many quotes for them."""
    special = [field for field in fields if any(c in field for c in '"\t\r\n')]
    more = quotes - sum(2 + 2 * field.count('"') for field in special)
    return more % 2 == 0 and 0 <= more <= 2 * (len(fields) - len(special))


def _in_quotes(field: str) -> bool:
    """Whether a field could be a quoted one, as a whole."""
    return len(field) > 1 and field[0] == field[-1] == '"' not in field[1:-1].replace('""', "")


def _to_first_row(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line.strip():
            return


def _csv_delimiter(lines: Iterable[str]) -> str:
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


# Headers ----------------------------------------------------------------------------------------


def place_named(
    column: str, known: list[str], where: str, mend: str, twice: str = "name them apart"
) -> int:
    """Where the column of a name stands (`own_name`).

    Args:
        column: the name.
        known: the columns' names, in order.
        where: for messages.
        mend: what to do where there is none.
        twice: what to do where there are several.

    Raises:
        UserError: there is none, or several.
    """
    column = own_name(column, known)
    if column not in known:
        raise no_column(column, known, where, mend)
    if known.count(column) > 1:
        what = f"the header names '{column}' {known.count(column)} times"
        raise UserError(what, where=where, mend=twice)
    return known.index(column)


def own_name(column: str, known: Collection[str]) -> str:
    """How the file writes a column's name: accents may stand apart from their letters (NFD).

    The name itself where there is such a column, where none is equal to it, or several are.
    """
    if column in known or (column.isascii() and all(map(str.isascii, known))):
        return column
    plain = unicodedata.normalize("NFC", column)
    same = [name for name in known if unicodedata.normalize("NFC", name) == plain]
    return same[0] if len(same) == 1 else column


def no_column(column: str, known: list[str], where: str, mend: str) -> UserError:
    """That a column is not there, what is, and what to do."""
    close = nearest(column, known)
    there = f"it has {listed(known)}" + (f", {close}" if close else "")
    return UserError(f"no column '{column}'", where=where, mend=f"{there}; {mend}")
