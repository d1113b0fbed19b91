"""Finding files, and their lines: packed or not, with the place of every byte that is not UTF-8."""

from __future__ import annotations

import glob
import importlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn

from selfsup.config import SourceConfig
from selfsup.data.paths import (
    beside_of,
    expanded,
    files_below,
    link_target,
    matching,
    refuse_pipe,
)
from selfsup.data.zstd_files import ZSTD_BYTES, ZstdFile
from selfsup.errors import NO_SPACE, UserError, nearest

PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
FASTA_SUFFIXES = (".fasta", ".fa", ".fas", ".fsa", ".faa", ".fna", ".ffn", ".frn", ".mpfa")
TEXT_SUFFIXES = (".txt", ".jsonl", ".ndjson", ".csv", ".tsv", *FASTA_SUFFIXES)
# Read as plain text, and `.json` as JSON lines, when named; in a folder they are usually notes, programs
# and settings beside what is meant.
# fmt: off
PLAIN_SUFFIXES = (
    ".md", ".rst", ".tex", ".py", ".pyi", ".r", ".jl", ".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".cs",
    ".go", ".java", ".kt", ".scala", ".js", ".jsx", ".ts", ".tsx", ".lua", ".php", ".pl", ".rb", ".rs",
    ".sh", ".sql", ".swift", ".html", ".xml", ".css", ".yaml", ".toml",
)
# fmt: on
NAMED_SUFFIXES = (*TEXT_SUFFIXES, ".json", *PLAIN_SUFFIXES)
_IN_FOLDERS = (*TEXT_SUFFIXES, ".parquet")
_PACKED_STARTS = (
    (b"\x1f\x8b", ".gz"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ", ".xz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
)
_LONGEST_LINE = 1 << 30
"""Bytes of a line of a packed file: a few hundred packed bytes can be more than any memory."""
_EXAMPLES = 5
NO_TEXT = "name a file with text in it"
"""What to do about a file that holds none."""
_LONGEST_NAME = 40

OnBadRow = Literal["stop", "skip"]
"""What to do with a row that cannot be used: stop with its place, or skip and count it."""


@dataclass
class ReadReport:
    """What reading met so far; `read_documents` adds to it."""

    files: int = 0
    bytes_read: int = 0
    """Bytes of text after unpacking; of a parquet file, its size."""
    documents: int = 0
    bad_rows: int = 0
    """Rows skipped under `on_bad_row: skip`."""
    bad_examples: list[str] = field(default_factory=list)
    """The messages of the first few of them."""
    notes: list[str] = field(default_factory=list)
    """What is noteworthy about how a file was read, though nothing is wrong."""
    literal: bool = False
    """Whether a file holds quotes that were taken for ordinary characters, since they make no sense."""
    may_skip: bool = True
    """Whether whoever reads can be told to skip rows: only then do messages offer it."""
    layout: str = ""
    """What to do about a column that is not there, where no setting names columns."""

    def mend(self, how: str, skipping: str = "leave such rows out") -> str:
        """What can be done about rows that cannot be used."""
        return how + (f", or {skipping} with --on-bad-row skip" if self.may_skip else "")


def bad_row(on_bad_row: OnBadRow, report: ReadReport, problem: UserError) -> None:
    """Stop at a row that cannot be used, or count it."""
    if on_bad_row == "stop":
        mend = report.mend(problem.mend or "mend the row")
        raise UserError(problem.what, where=problem.where, mend=mend) from problem.__cause__
    report.bad_rows += 1
    if len(report.bad_examples) < _EXAMPLES:
        report.bad_examples.append(str(problem))


def find_files(source: SourceConfig) -> list[Path]:
    """The files a source names, sorted; none for `docstrings:` and `hub:`.

    Args:
        source: its `path` is a file, a folder (searched to the bottom for known suffixes, hidden
            ones and what selfsup wrote left out) or a glob, in which `**` is any depth.  Programs and notes
            (`PLAIN_SUFFIXES`) are read as text where they are named, or the glob names their suffix.

    Raises:
        UserError: nothing is there, or nothing that can be read.
    """
    if source.path.startswith(("docstrings:", "hub:")):
        return []
    path = expanded(source.path)
    refuse_broken_link(path)
    refuse_pipe(path)
    if path.is_file():
        if not file_kind(path):
            what = f"files of the kind '{''.join(path.suffixes[-2:]) or path.name}' cannot be read"
            mend = f"known are {', '.join(_IN_FOLDERS)}, programs and notes (.py, .md, …), "
            mend += f"also packed ({', '.join(PACKED_SUFFIXES)})"
            if plain_suffix(path) in (".fastq", ".fq"):
                mend = "turn reads into FASTA first (seqtk seq -a)"
            raise UserError(what, where=source.path, mend=mend)
        return [path]
    if path.is_dir():
        below = (file for file in files_below(path) if not _hidden(file.relative_to(path)))
        found = sorted(file for file in below if file_kind(file) in _IN_FOLDERS)
    else:
        matches = matching(path)
        kinds = {*_IN_FOLDERS, ".json", plain_suffix(path)} - {""}
        found = sorted(file for file in matches if file_kind(file) in kinds)
    if not (whole := [file for file in found if file.is_file()]):
        for file in found:
            refuse_broken_link(file)
        _nothing_found(source.path, path)
    return whole


def refuse_broken_link(path: Path) -> None:
    """Refuse a link, at the end of a path or on the way, that leads nowhere.

    Raises:
        UserError: it is one.
    """
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            what = f"the link leads nowhere (to '{place.readlink()}')"
            raise UserError(what, where=str(place), mend="mend the link, or name another file")


def _nothing_found(given: str, path: Path) -> NoReturn:
    if path.is_dir():
        names = sorted(item.name for item in path.iterdir())
        what = f"the folder holds no file of a known kind ({', '.join(_IN_FOLDERS)})"
        mend = f"there is {listed(names)}"
        plain = next((plain_suffix(Path(x)) for x in names if file_kind(Path(x))), "")
        mend += f"; to read them as text: '{given.rstrip('/')}/**/*{plain}'" if plain else ""
        raise UserError(what, where=given, mend=mend)
    parent = path.parent
    while parent != parent.parent and (glob.has_magic(str(parent)) or not parent.is_dir()):
        parent = parent.parent
    names = sorted(item.name for item in parent.iterdir() if not item.name.startswith("."))
    wanted = path.relative_to(parent).parts[0]  # the first part that leads nowhere
    what = "no such file or folder"
    if glob.has_magic(given):
        what = "no file matches"
        if other := sorted(x.name for x in matching(path)):
            what = f"what matches is of no kind that can be read ({', '.join(_IN_FOLDERS)})"
            raise UserError(what, where=given, mend=f"it is {listed(other)}")
    known = f"{parent} holds {listed(names)}"
    raise UserError(what, where=given, mend=nearest(wanted, names) or known)


def listed(names: list[str]) -> str:
    """The first few names, in quotes; long ones are cut."""
    short = [
        name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…" for name in names[:6]
    ]
    shown = ", ".join(f"'{name}'" for name in short)
    return (shown + (f" and {len(names) - 6} more" if len(names) > 6 else "")) or "nothing"


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def file_kind(path: Path) -> str:
    """The suffix that says how to read a file, packing aside; empty when unknown."""
    if path.suffix.lower() == ".parquet":
        return ".parquet"
    suffix = plain_suffix(path)
    return suffix if suffix in NAMED_SUFFIXES else ""


def plain_suffix(path: Path) -> str:
    """The suffix in lower case, packing aside: `.tsv` of `a.TSV.gz`; empty when there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_packed(path: Path) -> bool:
    """Whether the file is smaller than the text in it."""
    return path.suffix.lower() in (*PACKED_SUFFIXES, ".parquet")


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, unpacked by its suffix."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]  # reads as one
    if suffix == ".bz2":
        import bz2

        return bz2.open(path, "rb")  # type: ignore[return-value]  # likewise
    if suffix == ".xz":
        import lzma

        return lzma.open(path, "rb")  # type: ignore[return-value]  # likewise
    if suffix == ".zst":
        import_extra("zstandard", "data", str(path))
        return io.BufferedReader(ZstdFile(path), ZSTD_BYTES)
    return path.open("rb")


def import_extra(module: str, extra: str, where: str) -> Any:
    """Import a module of an optional group, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        what = f"this needs the package {module}, which is not installed"
        raise UserError(what, where=where, mend=f"pip install 'selfsup[{extra}]'") from error


def _unpacking_errors(path: Path) -> tuple[type[Exception], ...]:
    """What a broken packed file raises."""
    import lzma

    errors: list[type[Exception]] = [EOFError, zlib.error, lzma.LZMAError]
    if path.suffix.lower() == ".zst":
        import zstandard

        errors.append(zstandard.ZstdError)
    return tuple(errors)


def _byte_lines(path: Path, report: ReadReport) -> Iterator[bytes]:
    try:
        with open_bytes(path) as file:
            packed = path.suffix.lower() in PACKED_SUFFIXES
            rest = _bounded_lines(file, path) if packed else iter(file)
            first = next(rest, b"")
            report.bytes_read += len(first)
            second = next(rest, None)
            if second is None:  # the whole file: its lines may end in carriage returns alone
                yield from first.splitlines(keepends=True)
                return
            yield first
            for line in chain([second], rest):
                report.bytes_read += len(line)
                yield line
    except OSError as error:
        # That of a broken .gz or .bz2 is without a number.
        what = error.strerror or f"is no complete {path.suffix} file ({error})"
        mend = "" if error.strerror else "fetch or pack the file again"
        raise UserError(what, where=str(path), mend=mend) from error
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, _unpacking_errors(path)):
            raise
        what = f"is truncated or damaged ({error})"
        raise UserError(what, where=str(path), mend="fetch or pack the file again") from error


def _bounded_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            what = f"it unpacks to a line of {_LONGEST_LINE / 2**30:.2g} GiB or more"
            raise UserError(what, where=str(path), mend="unpack it and look, or leave it out")
        yield line


class Line(NamedTuple):
    """One line of a file."""

    number: int
    text: str | None
    """Without its line end; None when it is not UTF-8."""
    problem: UserError | None


def read_lines(path: Path, report: ReadReport) -> Iterator[Line]:
    """The lines of a file, numbered from 1, without line ends and byte-order mark.

    Raises:
        UserError: the file cannot be opened or unpacked.  A line that is not UTF-8 does not
            raise: it carries its problem, with byte offset and line.
    """
    offset = 0
    for number, raw in enumerate(_byte_lines(path, report), start=1):
        content = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        end = -2 if content.endswith(b"\r\n") else -1 if content.endswith((b"\n", b"\r")) else None
        try:
            yield Line(number, content[:end].decode(), None)
        except UnicodeDecodeError as error:
            at = offset + len(raw) - len(content) + error.start
            what = f"not UTF-8: byte 0x{content[error.start]:02x} at offset {at}"
            mend = "convert it to UTF-8 (iconv -f … -t UTF-8)"
            packed = next((kind for start, kind in _PACKED_STARTS if content.startswith(start)), "")
            if number == 1 and packed:
                mend = f"it is packed: give it a name that ends in {packed}"
            elif number == 1 and content[:2] in (b"\xff\xfe", b"\xfe\xff"):
                mend = "it looks like UTF-16: iconv -f UTF-16 -t UTF-8"
            elif _looks_chinese(content):
                mend = "it looks like GBK: iconv -f GB18030 -t UTF-8"
            problem = UserError(what, where=f"{path}:{number}", mend=mend)
            problem.__cause__ = error
            yield Line(number, None, problem)
        offset += len(raw)


def _looks_chinese(content: bytes) -> bool:
    """Whether bytes are Chinese characters in the coding before UTF-8."""
    try:
        text = content.decode("gb2312")
    except UnicodeDecodeError:
        return False
    return sum("\u4e00" <= character <= "\u9fff" for character in text) > 1


def read_strict_lines(path: Path, report: ReadReport) -> Iterator[tuple[int, str]]:
    """Numbered lines; a broken one always stops, where leaving it out would join its neighbors."""
    for number, text, problem in read_lines(path, report):
        if text is None:
            assert problem is not None
            raise problem
        yield number, text


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path` to write into; it gets the name when all went well.

    Raises:
        UserError: it cannot be written.
    """
    path = link_target(path)
    beside = beside_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        why = NO_SPACE.get(error.errno or 0, error.strerror or error)
        raise UserError(f"cannot be written ({why})", where=str(path)) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
