"""What the world's scripts ask of a tokenizer: accents, combining marks, long runs, sentence ends."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.scripts import is_mark

FEW = 0.002
"""The share of letters up to which they are strange ones: loanwords, names."""

SENTENCE_ENDS = (
    *".!?։؟۔܀܁܂߹।॥၊။።፧፨᙮។៕᠃᠉᥄᥅᭞᭟᱾᱿‼‽⁇⁈⁉。꓿꘎꘏꛳꛷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫︒︕︖﹒﹖﹗！．？｡",
    "…",
    "\n",
)
"""What ends sentences: of scripts in use today the characters with Unicode's property Sentence_Terminal
(PropList.txt), and beside them dots and line ends."""

# GPT-2's ways to part words, but for letters that go on through their marks.
_MARKED_WORDS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
)
MARKED_STEPS: list[dict[str, Any]] = [
    {
        "type": "Split",
        "pattern": {"Regex": _MARKED_WORDS},
        "behavior": "Isolated",
        "invert": False,
    },
    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
]
"""The splitter of byte pairs for scripts with combining marks, as `tokenizer.json` writes it."""


class LetterShares(NamedTuple):
    """Of letters and combining marks (Unicode's L and M), the shares that accents and marks make up."""

    accented: float
    """Marks, and letters that come apart (NFD): é, ü, が, 한, ệ."""
    marks: float
    """Marks alone: the vowels of Hindi and Thai, points of Arabic and Hebrew."""


def letter_shares(texts: Iterable[str]) -> LetterShares:
    """What accents and marks make up of texts; the selectors that follow emoji are no marks of letters."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    letters = accented = marks = 0
    for character, count in counts.items():
        kind = unicodedata.category(character)[0]
        if kind not in "LM" or "\ufe00" <= character <= "\ufe0f":
            continue
        letters += count
        marks += count * (kind == "M")
        accented += count * (kind == "M" or unicodedata.normalize("NFD", character) != character)
    total = max(1, letters)
    return LetterShares(accented / total, marks / total)


def over_marks(text: str, offsets: NDArray[np.int32]) -> NDArray[np.int32]:
    """Tokens drawn out over the marks behind them that belong to no token, since accents were stripped.

    Args:
        text: what was encoded.
        offsets: (tokens, 2) begin and end of each token in it.
    """
    if text.isascii() or not len(offsets):
        return offsets
    marks = np.array([is_mark(letter) for letter in text] + [False], np.bool_)
    ends = offsets[:, 1].copy()
    free = np.append(offsets[1:, 0], len(text))  # up to the next token
    while (outward := (offsets[:, 0] < ends) & (ends < free) & marks[ends]).any():
        ends += outward
    return np.stack((offsets[:, 0], ends), axis=1)


def strips_accents(normalizer: Any) -> bool:
    """Whether a normalizer, as `tokenizer.json` writes it, takes letters and their accents apart."""
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        return any(map(strips_accents, normalizer["normalizers"]))
    if normalizer.get("type") == "BertNormalizer":
        said = normalizer.get("strip_accents")
        return bool(normalizer.get("lowercase") if said is None else said)
    return normalizer.get("type") in {"NFD", "NFKD", "StripAccents"}


def marked_words(splitter: Any) -> bool:
    """Whether a splitter, as `tokenizer.json` writes it, is that of `MARKED_STEPS`."""
    return isinstance(splitter, dict) and splitter.get("pretokenizers") == MARKED_STEPS
