"""The nearest row of each subset, against every distance worked out one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfsup.uses.detection.references import Drawn, draw_subsets, nearest


@pytest.mark.parametrize(("count", "size"), [(16, 512), (48, 8), (3, 1)])
def test_nearest_equals_all_distances(count: int, size: int) -> None:
    random = np.random.default_rng(0)
    references = random.normal(size=(700, 5))
    rows = np.concatenate([random.normal(size=(70, 5)), references[:3]])  # some lie on a reference
    subsets = draw_subsets([np.arange(600)], count, size, random)[0]
    found = nearest(torch.from_numpy(rows), Drawn(torch.from_numpy(references), subsets))
    distances = np.sqrt(np.square(rows[:, None] - references[None]).sum(2))
    expected = np.stack([distances[:, own].min(1) for own in subsets], 1)
    np.testing.assert_allclose(found.distances, expected, rtol=1e-12)
    chosen = np.take_along_axis(distances, found.places, 1)
    np.testing.assert_allclose(chosen, expected, rtol=1e-12)
    inside = (found.places[:, :, None] == subsets[None]).any(2)
    assert inside.all()


def test_no_rows() -> None:
    drawn = Drawn(torch.zeros(4, 2, dtype=torch.float64), np.array([[0, 1], [2, 3]]))
    found = nearest(torch.zeros(0, 2, dtype=torch.float64), drawn)
    assert found.places.shape == found.distances.shape == (0, 2)
