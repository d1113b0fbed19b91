"""Sequences of letters: FASTA files (DNA, proteins) and UCI's `class, name, sequence` files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from selfsup.data.files import OnBadRow, ReadReport, bad_row, read_lines
from selfsup.errors import UserError

LONG_RECORD = 100_000
"""Letters above which a FASTA record is cut into documents: a genome is one record, and of a single
document nothing could be held out."""
PIECE = 10_000
"""Letters in each of these documents; the last one may be shorter."""

_OTHER = re.compile(r"[^A-Za-z*.\-]")


class SymbolRecord(NamedTuple):
    """One sequence, what it is called, and where it came from."""

    name: str
    """In FASTA the header's first word (`sp|P12345`); empty when the header is."""
    sequence: str
    where: str
    """`path:line`, the line of the header."""
    label: str | None = None
    """The class, in UCI files."""


class _Line(NamedTuple):
    """One line of a FASTA file: a header, letters, or a problem."""

    where: str
    header: str | None
    letters: str
    problem: UserError | None


def read_fasta(
    path: Path,
    *,
    uppercase: bool = False,
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> Iterator[SymbolRecord]:
    """The records of a FASTA file, packed or not, as they stand.

    White space within a sequence is dropped, and so are `;` comments.  A header without letters
    gives an empty sequence.

    Args:
        path: the file.
        uppercase: turn the letters of soft-masked sequences into capitals.
        on_bad_row: what to do with a record that holds anything but letters, `-`, `.` and `*`.
        report: added to while reading.

    Raises:
        UserError: with file and line; always for an empty file and letters before the first header.
    """
    report = report if report is not None else ReadReport()
    for piece in _pieces(path, report, on_bad_row, None):
        yield piece._replace(sequence=piece.sequence.upper()) if uppercase else piece


def read_fasta_pieces(
    path: Path, report: ReadReport, *, on_bad_row: OnBadRow = "stop"
) -> Iterator[SymbolRecord]:
    """The records as documents: those of more than `LONG_RECORD` letters in pieces of `PIECE`.

    Only the pieces at hand are held, so a chromosome needs no memory.  Of a long record with a bad
    line, under `on_bad_row: skip` the pieces before that line stay.

    Raises:
        UserError: as `read_fasta`.
    """
    return _pieces(path, report, on_bad_row, LONG_RECORD)


def _pieces(
    path: Path, report: ReadReport, on_bad_row: OnBadRow, longest: int | None
) -> Iterator[SymbolRecord]:
    name = where = ""
    held: list[str] = []
    size = 0
    cut = broken = False
    for line in _fasta_lines(path, report):
        if line.header is not None:
            if where and not broken and (size or not cut):
                yield SymbolRecord(name, "".join(held), where)
            name, where = (line.header.split() or [""])[0], line.where
            held, size, cut, broken = [], 0, False, False
        elif broken:
            continue  # what follows a bad line is left out up to the next header
        elif line.problem is not None:
            bad_row(on_bad_row, report, line.problem)
            broken = True
        else:
            held.append(line.letters)
            size += len(line.letters)
            cut = cut or (longest is not None and size > longest)
            if cut and size >= PIECE:
                letters = "".join(held)
                whole = size - size % PIECE
                for start in range(0, whole, PIECE):
                    yield SymbolRecord(name, letters[start : start + PIECE], where)
                held, size = [letters[whole:]], size - whole
    if not broken and (size or not cut):
        yield SymbolRecord(name, "".join(held), where)


def _fasta_lines(path: Path, report: ReadReport) -> Iterator[_Line]:
    """Lines that say something.

    Raises:
        UserError: there are none, or they do not begin with a header.
    """
    begun = False
    for number, text, problem in read_lines(path, report):
        where = f"{path}:{number}"
        if text is None:
            if not begun:
                assert problem is not None
                raise problem
            yield _Line(where, None, "", problem)
        elif text.startswith(">"):
            begun = True
            yield _Line(where, text[1:].strip(), "", None)
        elif text.startswith(";"):
            continue
        elif letters := "".join(text.split()):
            if not begun:
                mend = "a FASTA file begins with a line '>name'"
                raise UserError("letters before the first header", where=where, mend=mend)
            yield _Line(where, None, letters, _refused(letters, where))
    if not begun:
        raise UserError("the file is empty", where=str(path), mend="'>name', then letters")


def _refused(letters: str, where: str) -> UserError | None:
    """What is wrong with a sequence, if anything."""
    found = _OTHER.search(letters)
    if found is None:
        return None
    what = f"{found.group()!r} is no letter of a sequence (letters, -, . and *)"
    return UserError(what, where=where)


def read_uci(
    path: Path,
    *,
    uppercase: bool = False,
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> Iterator[SymbolRecord]:
    """The sequences of a file of `class, name, sequence` lines, as UCI's `.data` files are.

    White space around the fields and within the sequence is dropped; blank lines are no rows.

    Args:
        path: the file, packed or not.
        uppercase: turn the letters into capitals.
        on_bad_row: what to do with a row that cannot be used.
        report: added to while reading.

    Raises:
        UserError: with file and line; always for an empty file.
    """
    report = report if report is not None else ReadReport()
    lines = 0
    for number, text, problem in read_lines(path, report):
        if text is not None and not text.strip():
            continue
        lines += 1
        if text is not None:
            row = _uci_row(text, f"{path}:{number}")
            if isinstance(row, SymbolRecord):
                yield row._replace(sequence=row.sequence.upper()) if uppercase else row
                continue
            problem = row
        assert problem is not None
        bad_row(on_bad_row, report, problem)
    if not lines:
        mend = "'class, name, sequence' in each line"
        raise UserError("the file is empty", where=str(path), mend=mend)


def _uci_row(text: str, where: str) -> SymbolRecord | UserError:
    fields = [field.strip() for field in text.split(",")]
    if len(fields) != 3:
        what = f"the row has {len(fields)} fields"
        return UserError(what, where=where, mend="'class, name, sequence' is expected")
    label, name, spaced = fields
    sequence = "".join(spaced.split())
    if not label:
        return UserError("the class is empty", where=where)
    return _refused(sequence, where) or SymbolRecord(name, sequence, where, label)
