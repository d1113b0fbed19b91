"""Files of translation pairs: tables parted by tabs, and the dictionary CC-CEDICT."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from selfsup.config import SourceConfig
from selfsup.data.files import ReadReport, find_files, plain_suffix, read_strict_lines
from selfsup.errors import UserError

Pair = tuple[tuple[str, ...], tuple[str, ...]]
"""A text and its translation, in symbols."""

_CEDICT = re.compile(r"\S+ (\S+) \[[^\]]*\] /([^/]+)/")
_CHINESE = "\u3400-\u9fff\uf900-\ufaff"
_SYMBOL = re.compile(rf"[{_CHINESE}]|[^\W\d_{_CHINESE}]+(?:'\w+)?|\d")
_FEWEST = 50


def symbols_of(text: str) -> tuple[str, ...]:
    """Words in lower case, digits and Chinese characters; marks are left out."""
    return tuple(_SYMBOL.findall(text.lower().replace("\u2019", "'")))


def read_pairs(path: str, longest: int = 3) -> list[Pair]:
    """Short pairs of texts; of several translations of a text the first.

    Args:
        path: a `.tsv` file (text, translation, …; no header), CC-CEDICT's `.txt`, or a folder of
            such files; also packed (.gz, .xz, .zst).
        longest: symbols that each side may have; longer pairs are left out.

    Raises:
        UserError: nothing that can be read, a line without a translation, or too few short pairs.
    """
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    for file in find_files(SourceConfig(path=path)):
        for x, y in _lines(file):
            one, other = symbols_of(x), symbols_of(y)
            if 1 <= len(one) <= longest and 1 <= len(other) <= longest:
                found.setdefault(one, other)
    if len(found) < _FEWEST:
        raise UserError(
            f"{len(found)} different pairs of at most {longest} words or characters a side",
            where=path,
            mend=f"give at least {_FEWEST}",
        )
    return list(found.items())


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    tabs = plain_suffix(file) == ".tsv"
    if not tabs and plain_suffix(file) != ".txt":
        mend = "give a .tsv (text, tab, translation) or CC-CEDICT's .txt"
        raise UserError("no file of translation pairs", where=str(file), mend=mend)
    for number, line in read_strict_lines(file, ReadReport()):
        if tabs:
            parts = line.split("\t")
            if len(parts) < 2 and line.strip():
                mend = "a text, a tab, and its translation"
                raise UserError("no tab in this line", where=f"{file}:{number}", mend=mend)
            if len(parts) >= 2:
                yield parts[0], parts[1]
        elif entry := _CEDICT.match(line):
            yield entry[2], entry[1]
