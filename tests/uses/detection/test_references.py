"""The nearest row of each subset, against every distance worked out one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfsup.uses.detection.references import Drawn, Subsets, draw_subsets, nearest


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


def _as_members_see_it(common: np.ndarray, own: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.concatenate([common, member], axis=1)) for member in own]


@pytest.mark.parametrize(("count", "size"), [(4, 100), (9, 8), (3, 1)])
@pytest.mark.parametrize("codes", [0, 5])
def test_wide_rows_have_the_neighbours_that_all_distances_give(
    count: int, size: int, codes: int
) -> None:
    random = np.random.default_rng(1)
    members, width, known = 3, 200, 300
    references = random.normal(size=(known, width))
    references[100:200] = references[:100] + 1e-9 * random.normal(size=(100, width))  # near copies
    references[200:210] = references[:10]  # and copies
    references[210] *= 1e6
    references[211] *= 1e14
    rows = random.normal(size=(90, width))
    rows[:30] = references[:30] + 1e-8
    rows[30:40] = references[100:110]
    rows[40], rows[41] = references[210], references[211]
    rows[42] = references[210] + 1e3
    rows[43:53] *= 1e4
    rows[53] = 0
    own = random.normal(size=(members, known, codes))
    own_of_rows = random.normal(size=(members, len(rows), codes))
    own_of_rows[:, :30] = own[:, :30]
    places = draw_subsets([np.arange(known)] * members, count, size, random)
    subsets = Subsets(_as_members_see_it(references, own), places, width)
    assert subsets.sieve is not None
    views = _as_members_see_it(rows, own_of_rows)
    answers = list(subsets.nearest(views, range(members)))
    for member, found in enumerate(answers):
        whole = torch.cdist(
            views[member],
            _as_members_see_it(references, own)[member],
            compute_mode="donot_use_mm_for_euclid_dist",
        ).numpy()
        expected = np.stack([whole[:, subset].min(1) for subset in places[member]], 1)
        # of copies nearer than 1e-7 of a row's length float64 cannot tell which is the nearest
        chosen = np.take_along_axis(whole, found.places, 1)
        np.testing.assert_allclose(found.distances, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(chosen, expected, rtol=1e-6, atol=1e-6)
        plain = nearest(views[member], subsets.drawn[member])
        apart = slice(54, None)
        assert np.array_equal(found.places[apart], plain.places[apart])
        assert np.array_equal(found.distances[apart], plain.distances[apart])
    (alone,) = subsets.nearest([views[1]], [1])
    assert np.array_equal(alone.distances[54:], answers[1].distances[54:])
    few = subsets.nearest([view[60:67] for view in views], range(members))
    for found, of_all in zip(few, answers, strict=True):
        assert np.array_equal(found.distances, of_all.distances[60:67])


def test_float32_decides_nearly_all_and_what_it_cannot_is_looked_up_again() -> None:
    random = np.random.default_rng(2)
    references, rows = random.normal(size=(400, 160)), random.normal(size=(700, 160))
    places = draw_subsets([np.arange(400)] * 2, 4, 64, random)
    subsets = Subsets([torch.from_numpy(references)] * 2, places, 160)
    assert subsets.sieve is not None
    view = torch.from_numpy(rows)
    guesses = subsets.sieve.guess([view] * 2, subsets.drawn, range(2))
    assert all(0.9 < guess.sure.mean() <= 1 for guess in guesses)
    with torch.autocast("cpu", torch.bfloat16):
        (found, _) = subsets.nearest([view] * 2, range(2))
    assert np.array_equal(found.distances, nearest(view, subsets.drawn[0]).distances)
    twins = Subsets([torch.from_numpy(np.tile(references[:1], (400, 1)))] * 2, places, 160)
    assert twins.sieve is not None
    assert twins.sieve.guess([view], twins.drawn[:1], [0]) == []  # nothing to be told
    (found,) = twins.nearest([view], [0])
    away = np.sqrt(np.square(rows - references[0]).sum(1))
    np.testing.assert_allclose(found.distances, np.tile(away, (4, 1)).T, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-22, 1e19, 1e25])
def test_lengths_beyond_float32(scale: float) -> None:
    random = np.random.default_rng(3)
    references, rows = random.normal(size=(120, 150)), random.normal(size=(40, 150))
    references[0], references[1], rows[0] = 0, 0, 0
    references[0, 0], references[1, 1], rows[0, 0] = 1.94, 0.5, 1.07
    places = draw_subsets([np.arange(120)], 2, 60, random)
    views = [torch.from_numpy(scale * references)]
    subsets = Subsets(views, places, 150)
    (found,) = subsets.nearest([torch.from_numpy(scale * rows)], [0])
    whole = np.sqrt(np.square(rows[:, None] - references[None]).sum(2))
    expected = np.stack([whole[:, subset].min(1) for subset in places[0]], 1)
    np.testing.assert_allclose(found.distances / scale, expected, rtol=1e-12)


def test_narrow_rows_and_codes_go_without_float32() -> None:
    view = torch.zeros(4, 130, dtype=torch.float64)
    places = np.array([[[0, 1], [2, 3]]])
    assert Subsets([view], places, 0).sieve is None
    assert Subsets([view], places, 127).sieve is None
    assert Subsets([view], places, 130).sieve is not None
    empty = torch.zeros(0, 130, dtype=torch.float64)
    for common in (0, 130):
        (found,) = Subsets([view], places, common).nearest([empty], [0])
        assert found.places.shape == found.distances.shape == (0, 2)
