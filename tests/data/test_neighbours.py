"""The nearest examples: as a plain search finds them, copies and bounds included."""

from __future__ import annotations

import numpy as np
import pytest

from selfsup.data import neighbours
from selfsup.data.neighbours import nearest_rows


def test_a_plain_search_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 2, 3)).astype(np.float32)
    rows = np.sort(random.permutation(40)[:31])
    found = nearest_rows(lambda chosen: x[chosen], rows, 40, 4, 0)
    assert found.shape == (40, 4)
    for row in range(40):
        if row not in rows:  # held out: neither has neighbours nor is one
            assert (found[row] == row).all()
            continue
        others = rows[rows != row]
        distance = ((x[others] - x[row]) ** 2).sum((1, 2))
        assert set(found[row]) == set(others[np.argsort(distance)[:4]])


def test_copies_few_rows_and_a_drawn_part(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = np.zeros((5, 3), np.float32)
    rows = np.arange(5)
    found = nearest_rows(lambda chosen: copies[chosen], rows, 5, 3, 0)
    assert all(len(set(line) - {row}) == 3 for row, line in enumerate(found))
    assert nearest_rows(lambda chosen: copies[chosen], rows, 5, 9, 0).shape == (5, 4)
    assert (nearest_rows(lambda chosen: copies[chosen], rows[:1], 1, 3, 0) == 0).all()

    monkeypatch.setattr(neighbours, "_REFERENCES", 20)
    x = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
    drawn = nearest_rows(lambda chosen: x[chosen], np.arange(100), 100, 3, 0)
    assert len(np.unique(drawn)) <= 20
    assert (drawn != np.arange(100)[:, None]).all()
