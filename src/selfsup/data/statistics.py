"""What is in a corpus: how much, how long, in which scripts, and what would be dropped."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from selfsup.config import DataConfig
from selfsup.data.admission import Admission, admitted_documents

SCRIPTS = (
    "Latin",
    "Han",
    "Kana",
    "Cyrillic",
    "Arabic",
    "Devanagari",
    "Hangul",
    "Greek",
    "digits",
    "punctuation",
    "other",
)
"""What `corpus_statistics` tells apart; white space belongs to none."""

_SPACE = len(SCRIPTS)
_COUNT_AT = 1 << 20
_ASCII = 128
_FEW = 64
_FEW_SPACES = 0.01
_CODE_POINTS = 0x110000

# First and last code point of the blocks of each script (Unicode 16); letters and marks in them
# count, what is a digit, a space or punctuation there does not.
_BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    "Latin": (
        (0x41, 0x5A),
        (0x61, 0x7A),
        (0xAA, 0xAA),
        (0xBA, 0xBA),
        (0xC0, 0x2AF),
        (0x1D00, 0x1D25),
        (0x1E00, 0x1EFF),
        (0x2C60, 0x2C7F),
        (0xA722, 0xA7FF),
        (0xAB30, 0xAB64),
        (0xFB00, 0xFB06),
        (0xFF21, 0xFF3A),
        (0xFF41, 0xFF5A),
    ),
    "Han": (
        (0x2E80, 0x2FDF),
        (0x3005, 0x3007),
        (0x3400, 0x4DBF),
        (0x4E00, 0x9FFF),
        (0xF900, 0xFAFF),
        (0x20000, 0x323AF),
    ),
    "Kana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F)),
    "Cyrillic": ((0x400, 0x52F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F)),
    "Arabic": (
        (0x600, 0x6FF),
        (0x750, 0x77F),
        (0x870, 0x8FF),
        (0xFB50, 0xFDFF),
        (0xFE70, 0xFEFE),
    ),
    "Devanagari": ((0x900, 0x97F), (0xA8E0, 0xA8FF)),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF)),
    "Greek": ((0x370, 0x3FF), (0x1F00, 0x1FFF)),
}


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """(code points,) index into `SCRIPTS`, or `_SPACE`."""
    table = np.full(_CODE_POINTS, SCRIPTS.index("other"), np.uint8)
    for script, blocks in _BLOCKS.items():
        for first, last in blocks:
            table[first : last + 1] = SCRIPTS.index(script)
    # Digits, spaces and punctuation of all scripts; none stands in Han or Hangul beyond 0x3100.
    for point in (*range(0x3100), *range(0xA000, 0xAC00), *range(0xFB00, 0x11000)):
        letter = chr(point)
        category = unicodedata.category(letter)
        if category[0] == "Z" or letter.isspace():
            table[point] = _SPACE
        elif category == "Nd":
            table[point] = SCRIPTS.index("digits")
        elif category[0] == "P" or (category[0] == "S" and point < 0x80):
            table[point] = SCRIPTS.index("punctuation")
        elif category[0] not in "LMN":  # × and ÷ stand among the Latin letters
            table[point] = SCRIPTS.index("other")
    return table


def count_scripts(text: str) -> NDArray[np.int64]:
    """(scripts,) characters of each of `SCRIPTS` in a text; white space is left out.

    Digits and punctuation count as such in any script, ASCII signs (`+`, `$`) as punctuation.
    """
    return _scripts_of(_code_points(text))


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _scripts_of(points: NDArray[np.uint32]) -> NDArray[np.int64]:
    counts = np.bincount(_table()[points], minlength=_SPACE + 1)
    return counts[:_SPACE].astype(np.int64)


class _CharacterCounts:
    """Counts many short texts at once, because each call of numpy costs."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(SCRIPTS), np.int64)
        self._letters = np.zeros(_ASCII + 1, np.int64)  # the last: all beyond
        self._waiting: list[str] = []
        self._characters = 0

    def add(self, text: str) -> None:
        self._waiting.append(text)
        self._characters += len(text)
        if self._characters >= _COUNT_AT:
            self._flush()

    def _flush(self) -> None:
        points = _code_points("".join(self._waiting))
        self._counts += _scripts_of(points)
        self._letters += np.bincount(np.minimum(points, _ASCII), minlength=_ASCII + 1)
        self._waiting, self._characters = [], 0

    def shares(self) -> dict[str, float]:
        """Script to share of the visible characters; all 0 when there are none."""
        self._flush()
        visible = max(1, int(self._counts.sum()))
        pairs = zip(SCRIPTS, self._counts.tolist(), strict=True)
        return {name: count / visible for name, count in pairs}

    def letters(self) -> dict[str, float]:
        """Of sequences (few different characters, no spaces) the share of each, the most frequent first."""
        self._flush()
        counts = {chr(point): int(self._letters[point]) for point in range(0x21, _ASCII)}
        found = {letter: count for letter, count in counts.items() if count}
        total = sum(found.values())
        spaces = int(self._letters[:0x21].sum())
        if self._letters[_ASCII] or not 0 < len(found) <= _FEW or spaces > _FEW_SPACES * total:
            return {}
        return {x: found[x] / total for x in sorted(found, key=lambda x: (-found[x], x))}


def corpus_statistics(data: DataConfig) -> dict[str, object]:
    """Read a corpus once and tell what is in it.

    Characters, bytes, lengths, scripts and held-out documents are those of the documents that stay.

    Args:
        data: the sources and limits.

    Returns:
        `files`, `documents_read`, `documents` (that stay), `heldout_documents`, `characters`,
        `bytes` (UTF-8), `characters_median`, `characters_p95` (of a document), `scripts` (name to
        share, 0 to 1, of all characters but white space), `letters` (the same for single characters, where
        there are at most 64 and no spaces, as in DNA and proteins), `duplicates`, `dropped` (reason to count:
        `duplicate`, `too_short`, `empty`, `bad_row`), `bad_examples` (messages), `notes` (how files were
        read, where that is noteworthy).

    Raises:
        UserError: a source cannot be read.
    """
    admission = Admission()
    lengths: list[int] = []
    counted = _CharacterCounts()
    heldout = size = 0
    for document in admitted_documents(data, admission):
        lengths.append(len(document.text))
        heldout += document.heldout
        size += len(document.text.encode())
        counted.add(document.text)
    return {
        "files": admission.read.files,
        "documents_read": admission.read.documents,
        "documents": len(lengths),
        "heldout_documents": heldout,
        "characters": sum(lengths),
        "bytes": size,
        "characters_median": float(np.median(lengths)) if lengths else 0.0,
        "characters_p95": float(np.percentile(lengths, 95)) if lengths else 0.0,
        "scripts": counted.shares(),
        **({"letters": letters} if (letters := counted.letters()) else {}),
        "duplicates": admission.duplicates,
        "dropped": {
            "duplicate": admission.duplicates,
            "too_short": admission.too_short,
            "empty": admission.empty,
            "bad_row": admission.read.bad_rows,
        },
        "bad_examples": admission.read.bad_examples,
        **({"notes": notes} if (notes := admission.read.notes) else {}),
    }
