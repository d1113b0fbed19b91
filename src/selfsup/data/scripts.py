"""Scripts: which put no space between words, and what goes on a word beside its letters."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache, lru_cache
from itertools import groupby

_UNSPACED = (
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "THAI",
    "LAO",
    "KHMER",
    "MYANMAR",
    "TIBETAN",
)
"""Scripts that put no space between words, by how their characters' names begin."""
_JOINERS = "\u200c\u200d"
"""Stand within words of Persian, Sinhala, Malayalam and others."""


@lru_cache(1 << 16)
def is_unspaced(character: str) -> bool:
    """Whether a character is of a script without spaces between words (Korean has spaces)."""
    return unicodedata.name(character, "").startswith(_UNSPACED)


@lru_cache(1 << 16)
def is_mark(character: str) -> bool:
    """Whether a character is written with the one before it: an accent, a vowel sign."""
    return unicodedata.category(character).startswith("M")


def is_word(text: str) -> bool:
    """Whether a text is of letters, their marks and joiners alone, and begins with a letter."""
    return text[:1].isalpha() and all(c.isalpha() or is_mark(c) or c in _JOINERS for c in text)


@cache
def word_pattern() -> str:
    r"""A regular expression of words: `\w` first, then `\w`, marks and joiners.

    Without marks, which `\w` lacks, words of Hindi, Thai or decomposed Latin would break at each.  Those
    of symbols (variation selectors and enclosing marks) go on no word.
    """
    marks = [
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and not _selects(code)
    ]
    runs = groupby(enumerate(marks), lambda pair: pair[1] - pair[0])
    ranges = [[code for _, code in run] for _, run in runs]
    listed = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in ranges)
    return rf"(?u)\w[\w{listed}{_JOINERS}]*"


def _selects(code: int) -> bool:
    return 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
