"""Pairs and rows, made for a whole batch at once, against one piece after another."""

from __future__ import annotations

import numpy as np
import pytest
from tests.objectives.test_masked_tokens import make_split

from selfsup.data.corpus import Split
from selfsup.data.keys import below, uniform
from selfsup.data.rows import PackedRows
from selfsup.data.stretches import count_true, nth_true, places
from selfsup.objectives.next_sentence import TRIES, make_pairs, split_points

Ends = np.ndarray


def test_stretches() -> None:
    begins, sizes = np.array([5, 0, 9, 2]), np.array([2, 0, 3, 1])
    assert places(begins, sizes).tolist() == [5, 6, 9, 10, 11, 2]
    flags = np.array([False, True, True, False, True, False])
    assert count_true(flags, sizes).tolist() == [1, 0, 2, 0]
    assert nth_true(flags, sizes, 0).tolist() == [1, -1, 0, -1]
    assert nth_true(flags, sizes, np.array([0, 0, 1, 0])).tolist() == [1, -1, 2, -1]
    nothing = np.zeros(0, np.int64)
    assert places(nothing, nothing).tolist() == []
    assert nth_true(np.zeros(0, bool), nothing, 0).tolist() == []


def one_middle(split: Split, begin: int, end: int, ends: Ends, identity: list[int]) -> int:
    """One piece's place to be cut, token by token."""
    length = end - begin
    edge = max(1, length // 4)
    good = [p for p in range(begin + edge, end - edge) if ends[split.tokens[p - 1]]]
    good = good or [p for p in range(begin + edge, end - edge) if split.words[p]]
    return good[int(below(len(good), *identity, 0))] if good else begin + length // 2


def one_other(
    split: Split, document: int, length: int, ends: Ends, identity: list[int]
) -> int | None:
    """Where another document's text begins, token by token."""
    for attempt in range(TRIES):
        number = int(below(len(split) - 1, *identity, 1, attempt))
        number += number >= document
        begin, end = split.documents[number : number + 2].tolist()
        if end - begin < length:
            continue
        last = end - length
        start = begin + int(below(last - begin + 1, *identity, 2, attempt))
        if start == begin:
            return start
        return next((p for p in range(start, last + 1) if ends[split.tokens[p - 1]]), start)
    return None


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", ["next-sentence", "sentence-order"])
def test_pairs_against_one_after_another(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = [*random.integers(1, 40, 12).tolist(), 700]
    split = make_split(lengths)
    split.words[:] = random.random(len(split.words)) < 0.5
    ends = np.zeros(int(split.tokens.max()) + 1, bool)
    ends[random.integers(0, len(ends), seed)] = True  # none at all with seed 0
    split.tokens[:] = random.integers(0, len(ends), len(split.tokens))
    rows = PackedRows.build(split, 24, 3, 0.5)
    pieces = rows.pieces_of(random.permutation(len(rows)))
    identities = random.integers(0, 99, (len(pieces.rows), 4))
    middles = split_points(split, pieces, ends, identities)
    pairs = make_pairs(split, pieces, ends, kind, identities)
    swapped = 0
    for n, (begin, end) in enumerate(zip(pieces.begins, pieces.ends, strict=True)):
        identity = identities[n].tolist()
        middle = one_middle(split, int(begin), int(end), ends, identity)
        assert middles[n] == middle
        expected = [(begin, middle), (middle, end)]
        label = int(uniform(*identity, 3) >= 0.5)
        if label and kind == "sentence-order":
            expected.reverse()
        elif label:
            size = int(end - middle)
            other = one_other(split, int(pieces.documents[n]), size, ends, identity)
            label = int(other is not None)
            if other is not None:
                expected[1] = (other, other + size)
        got = zip(pairs.begins[n].tolist(), pairs.ends[n].tolist(), strict=True)
        assert [tuple(map(int, part)) for part in expected] == list(got)
        assert pairs.labels[n] == label
        swapped += label
    assert 0.2 < swapped / len(middles) < 0.8
