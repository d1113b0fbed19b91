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
from selfsup.data.rows import Pieces
from selfsup.data.stretches import count_true, nth_true, places

TRIES = 8
"""Other documents looked at for one that is long enough."""
_AHEAD = 64  # tokens searched at once for a sentence's end


class Pairs(NamedTuple):
    """Two stretches of text for each piece; label 0: the second is the true continuation, 1: not."""

    begins: NDArray[np.int64]
    """(pieces, 2) of the first and the second part in the token stream."""
    ends: NDArray[np.int64]
    """(pieces, 2)"""
    labels: NDArray[np.int64]
    """(pieces,)"""


def split_points(
    split: Split, pieces: Pieces, ends: NDArray[np.bool_], identities: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Where pieces are cut in two: a sentence's end in the middle half, else a word's start.

    Args:
        split: the documents.
        pieces: what to split.
        ends: (vocabulary,) true for tokens that end a sentence.
        identities: (pieces, any) what each draw depends on.
    """
    sizes = pieces.ends - pieces.begins
    edge = np.maximum(1, sizes // 4)
    low = pieces.begins + edge
    inside = np.maximum(pieces.ends - edge - low, 0)
    good = ends[split.tokens[places(low - 1, inside)]]
    without = np.repeat(count_true(good, inside) == 0, inside)
    good |= without & (split.words[places(low, inside)] != 0)
    found = nth_true(good, inside, below(count_true(good, inside), *identities.T, 0))
    return np.where(found < 0, pieces.begins + sizes // 2, low + found)


def other_texts(
    split: Split,
    documents: NDArray[np.int64],
    lengths: NDArray[np.int64],
    ends: NDArray[np.bool_],
    identities: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Where texts of other documents begin, at a sentence's start where possible.

    Args:
        split: the documents.
        documents: (texts,) which each must not be of.
        lengths: (texts,) tokens wanted.
        ends: (vocabulary,) true for tokens that end a sentence.
        identities: (texts, any) what each draw depends on.

    Returns:
        (texts,) -1 where none was found.
    """
    found = np.full(len(documents), -1, np.int64)
    for attempt in range(TRIES if len(split) > 1 else 0):
        todo = np.flatnonzero(found < 0)
        number = below(len(split) - 1, *identities[todo].T, 1, attempt)
        number += number >= documents[todo]  # so never the same document
        fits = split.documents[number + 1] - split.documents[number] >= lengths[todo]
        todo, number = todo[fits], number[fits]
        first = split.documents[number]
        last = split.documents[number + 1] - lengths[todo]
        start = first + below(last - first + 1, *identities[todo].T, 2, attempt)
        behind = start > first
        start[behind] = _sentence_starts(split, start[behind], last[behind], ends)
        found[todo] = start
    return found


def _sentence_starts(
    split: Split, starts: NDArray[np.int64], lasts: NDArray[np.int64], ends: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The first start of a sentence from each start to its last; where there is none, the start."""
    found, at, todo = starts.copy(), starts - 1, np.arange(len(starts))
    while len(todo):
        sizes = np.minimum(_AHEAD, lasts[todo] - at[todo])
        first = nth_true(ends[split.tokens[places(at[todo], sizes)]], sizes, 0)
        seen = first >= 0
        found[todo[seen]] = (at[todo] + 1 + first)[seen]
        at[todo] += sizes
        todo = todo[~seen & (at[todo] < lasts[todo])]
    return found


def make_pairs(
    split: Split,
    pieces: Pieces,
    ends: NDArray[np.bool_],
    kind: str,
    identities: NDArray[np.int64],
) -> Pairs:
    """Turn pieces into labelled pairs.

    Args:
        split: the documents.
        pieces: what to split.
        ends: (vocabulary,) true for tokens that end a sentence.
        kind: `next-sentence` or `sentence-order`.
        identities: (pieces, any) what the draws depend on.
    """
    middles = split_points(split, pieces, ends, identities)
    begins = np.stack([pieces.begins, middles], 1)
    stops = np.stack([middles, pieces.ends], 1)
    labels = (uniform(*identities.T, 3) >= 0.5).astype(np.int64)
    false = np.flatnonzero(labels)
    if kind == "sentence-order":
        begins[false], stops[false] = begins[false, ::-1], stops[false, ::-1]
        return Pairs(begins, stops, labels)
    sizes = (stops - begins)[false, 1]
    other = other_texts(split, pieces.documents[false], sizes, ends, identities[false])
    labels[false[other < 0]] = 0
    false, other, sizes = (x[other >= 0] for x in (false, other, sizes))
    begins[false, 1], stops[false, 1] = other, other + sizes
    return Pairs(begins, stops, labels)
