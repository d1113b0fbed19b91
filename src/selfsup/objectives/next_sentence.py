"""Pairs of sentences: does B follow A (BERT), or were the two swapped (ALBERT)?

Each piece of a document is split in two near its middle, at a sentence's end where there is one.
For next-sentence prediction (Devlin et al. 2019) half of the second parts are replaced by text of
*another* document of the same length; for sentence order (Lan et al. 2020, ALBERT) half of the pairs
are swapped.  The lengths stay, so pairs pack into rows just as single pieces do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.corpus import Split
from selfsup.data.keys import below, uniform
from selfsup.data.rows import Piece, Span

TRIES = 8
"""Other documents looked at for one that is long enough."""

Identity = tuple[int, ...]


class Pair(NamedTuple):
    """Two stretches of text; label 0: the second is the true continuation, 1: it is not."""

    first: Span
    second: Span
    label: int


def split_point(split: Split, piece: Piece, ends: NDArray[np.bool_], identity: Identity) -> int:
    """Where the piece is cut in two: a sentence's end in its middle half, else a word's start."""
    length = piece.end - piece.begin
    low, high = piece.begin + max(1, length // 4), piece.end - max(1, length // 4)
    if high <= low:
        return piece.begin + length // 2
    inside = np.asarray(split.tokens[low - 1 : high - 1])
    places = low + np.flatnonzero(ends[inside])
    if not len(places):
        places = low + np.flatnonzero(np.asarray(split.words[low:high]))
    if not len(places):
        return piece.begin + length // 2
    return int(places[below(len(places), *identity, 0)])


def other_text(
    split: Split, document: int, length: int, ends: NDArray[np.bool_], identity: Identity
) -> Span | None:
    """`length` tokens of another document, from a sentence's start where possible; None: not found."""
    for attempt in range(TRIES):
        number = int(below(len(split) - 1, *identity, 1, attempt)) if len(split) > 1 else 0
        number += number >= document  # so never the same document
        if number >= len(split):
            return None
        begin, end = int(split.documents[number]), int(split.documents[number + 1])
        if end - begin < length:
            continue
        last = end - length
        start = begin + int(below(last - begin + 1, *identity, 2, attempt))
        if start > begin:
            ahead = np.asarray(split.tokens[start - 1 : last])
            sentence = np.flatnonzero(ends[ahead])
            start = start + int(sentence[0]) if len(sentence) else start
        return start, start + length
    return None


def make_pair(
    split: Split, piece: Piece, ends: NDArray[np.bool_], kind: str, identity: Identity
) -> Pair:
    """Turn a piece into a labelled pair.

    Args:
        split: the documents.
        piece: what to split.
        ends: (vocabulary,) true for tokens that end a sentence.
        kind: `next-sentence` or `sentence-order`.
        identity: what the draws depend on.
    """
    middle = split_point(split, piece, ends, identity)
    first, second = (piece.begin, middle), (middle, piece.end)
    if uniform(*identity, 3) < 0.5:
        return Pair(first, second, 0)
    if kind == "sentence-order":
        return Pair(second, first, 1)
    other = other_text(split, piece.document, piece.end - middle, ends, identity)
    return Pair(first, second, 0) if other is None else Pair(first, other, 1)
