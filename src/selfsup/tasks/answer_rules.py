"""What of two answers is compared: the rules of SQuAD, of CMRC, and by character."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from selfsup.data.scripts import is_mark, is_unspaced

Language = Literal["en", "zh", "characters"]


class Prepared(NamedTuple):
    """An answer, ready to be compared."""

    text: str
    """What is compared for an exact match."""
    words: list[str]
    """What is compared for F1."""


class Rule(NamedTuple):
    """How answers are compared."""

    prepare: Callable[[str], Prepared]
    overlap: Callable[[list[str], list[str]], int]
    """How many words two answers share."""
    voids: bool
    """Whether true answers of which nothing is left (punctuation alone) do not count."""


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _english(text: str) -> Prepared:
    words = _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
    return Prepared(" ".join(words), words)


_CHINESE_PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_SEGMENTS = re.compile(
    r"[\u4e00-\u9fa5]"  # a Chinese character
    r"|(?:(?![\u4e00-\u9fa5])\w)+(?:[.,](?=\d)(?:(?![\u4e00-\u9fa5])\w)+)*"  # a word, 3,000 or 2.5
    r"|\S"
)


def _chinese(text: str) -> Prepared:
    plain = text.lower().strip().translate(_CHINESE_PUNCTUATION)
    return Prepared(plain, _SEGMENTS.findall(plain))


def _by_character(text: str) -> Prepared:
    words: list[str] = []
    goes_on = False
    for character in unicodedata.normalize("NFC", text).lower():
        category = unicodedata.category(character)
        if category == "Cf" or category.startswith("P"):
            continue
        if goes_on and (character.isalnum() or is_mark(character)) and not is_unspaced(character):
            words[-1] += character
        elif not character.isspace():
            words.append(character)
        goes_on = (character.isalnum() and not is_unspaced(character)) or (
            goes_on and is_mark(character)
        )
    return Prepared(" ".join(words), words)


def _bag_overlap(left: list[str], right: list[str]) -> int:
    return (Counter(left) & Counter(right)).total()


def _substring_overlap(left: list[str], right: list[str]) -> int:
    return SequenceMatcher(None, left, right, autojunk=False).find_longest_match().size


RULES = {
    "en": Rule(_english, _bag_overlap, voids=True),
    "zh": Rule(_chinese, _substring_overlap, voids=False),
    "characters": Rule(_by_character, _bag_overlap, voids=True),
}
