"""Text that a vocabulary does not hold: how much, and which letters it would know."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from selfsup.data.tokenizers import Tokenizer

_MUCH = 0.05
"""The share of unknown tokens from which on it is said."""


def unknown_tokens(tokenizer: Tokenizer, rows: Iterable[NDArray[np.int64]]) -> tuple[int, int]:
    """How many tokens of texts are unknown, and how many there are (special ones left out)."""
    lost = tokenizer.lost_id
    if lost < 0:
        return 0, 0
    ids = np.concatenate([np.zeros(0, np.int64), *rows])
    special = sum(int((ids == one).sum()) for one in tokenizer.special_ids - {lost})
    return int((ids == lost).sum()), len(ids) - special


def unknown_note(tokenizer: Tokenizer, rows: Iterable[NDArray[np.int64]], of: str = "") -> str:
    """That a twentieth of the tokens of texts or more are unknown, in a sentence; empty for less.

    Args:
        tokenizer: of the model.
        rows: (tokens,) ids of each text, with or without special ones.
        of: what the texts are called, if anything.
    """
    return unknown_share_note(tokenizer, *unknown_tokens(tokenizer, rows), of)


def unknown_share_note(tokenizer: Tokenizer, strange: int, total: int, of: str = "") -> str:
    """The same, of tokens that were counted already."""
    if strange < max(1, _MUCH * total):
        return ""
    share = f"{strange / total:.0%} of the tokens{f' of {of}' if of else ''}"
    return f"{share} are unknown to the model and say nothing to it{known_letters(tokenizer)}"


def known_letters(tokenizer: Tokenizer) -> str:
    """`: it knows the letters ACGT`, for a tokenizer of a small alphabet; else empty."""
    return f": it knows the letters {letters}" if (letters := tokenizer.letters) else ""
