"""How documents are cut into rows."""

from __future__ import annotations

import numpy as np
import pytest

from selfsup.data.corpus import Split
from selfsup.data.rows import SHORTEST_SEQUENCE, PackedRows

LENGTHS = np.random.default_rng(0).integers(5, 400, 300)


def split() -> Split:
    ends = np.concatenate([[0], LENGTHS.cumsum()])
    tokens = np.arange(ends[-1]) % 60_000
    return Split(
        tokens.astype(np.uint16),
        np.ones(ends[-1], np.uint8),
        ends,
        np.zeros(len(LENGTHS), np.uint16),
    )


@pytest.mark.parametrize("short", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("length", "overhead"), [(16, 4), (64, 2), (128, 4)])
def test_every_token_stands_in_one_piece(length: int, overhead: int, short: float) -> None:
    rows = PackedRows.build(split(), length, overhead, short)
    begins, ends = rows.pieces[:, 0], rows.pieces[:, 1]
    assert (begins[1:] == ends[:-1]).all()
    assert (begins[0], ends[-1]) == (0, LENGTHS.sum())
    assert (ends > begins).all()
    used = np.add.reduceat(ends - begins + overhead, rows.first_piece[:-1])
    assert used.max() <= length
    assert rows.fill() > 0.8


def test_short_pieces_are_as_many_as_asked_and_of_all_lengths() -> None:
    length, overhead = 128, 4
    ends = np.array([0, 200_000])
    one = Split(
        np.zeros(ends[-1], np.uint16), np.ones(ends[-1], np.uint8), ends, np.zeros(1, np.uint16)
    )
    rows = PackedRows.build(one, length, overhead, 1.0)
    # a row's last piece is cut by its end, so only what begins a row shows the drawn length
    first = rows.pieces[rows.first_piece[:-1]]
    sizes = first[:, 1] - first[:, 0] + overhead
    assert sizes.min() >= SHORTEST_SEQUENCE
    middle = np.sqrt(SHORTEST_SEQUENCE * length)  # of a log-uniform draw
    assert abs((sizes < middle).mean() - 0.5) < 0.05
    some = PackedRows.build(one, length, overhead, 0.3)
    begins = some.pieces[some.first_piece[:-1]]
    share = (begins[:, 1] - begins[:, 0] + overhead < length - 1).mean()
    assert abs(share - 0.3) < 0.05


def test_rows_are_the_same_at_every_call() -> None:
    first, again = (PackedRows.build(split(), 64, 2, 0.5) for _ in range(2))
    assert (first.pieces == again.pieces).all()
    assert (first.first_piece == again.first_piece).all()
    plain = PackedRows.build(split(), 64, 2)
    assert len(first.pieces) > len(plain.pieces)
