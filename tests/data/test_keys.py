"""Counter-based draws, the keyed permutation and the sampler on top of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from selfsup.data.keys import below, hash64, permute, uniform
from selfsup.data.sampler import Sampler
from selfsup.errors import UserError


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 50))
def test_permutation_is_one(size: int, seed: int, epoch: int) -> None:
    image = permute(np.arange(size), size, seed, epoch)
    assert np.array_equal(np.sort(image), np.arange(size))


def test_permutation_looks_random_and_changes_with_the_key() -> None:
    a, b = (permute(np.arange(20_000), 20_000, seed, 0) for seed in (1, 2))
    assert abs(np.corrcoef(a, np.arange(20_000))[0, 1]) < 0.03
    assert (a == b).mean() < 0.01


def test_draws_are_uniform_and_depend_on_every_part() -> None:
    draws = uniform(3, np.arange(50_000))
    assert stats.kstest(draws, "uniform").pvalue > 1e-4
    assert len(np.unique(hash64(3, np.arange(50_000)))) == 50_000
    counts = np.bincount(below(7, 5, np.arange(70_000)), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-4
    assert hash64(1, 2) != hash64(2, 1)
    assert hash64(0, 0) != hash64(0)


def test_stream_visits_everything_once_an_epoch() -> None:
    sampler = Sampler([10, 7], [1.0, 1.0], seed=4)
    first = sampler.at(0, 17)
    assert sorted(first.rows.tolist()) == list(range(17))
    assert set(first.epochs.tolist()) == {0}
    second = sampler.at(17, 17)
    assert sorted(second.rows.tolist()) == list(range(17))
    assert first.rows.tolist() != second.rows.tolist()


def test_stream_does_not_depend_on_how_it_is_read() -> None:
    sampler = Sampler([23], [1.0], seed=9)
    whole = sampler.at(0, 60)
    parts = [sampler.at(i, 5) for i in range(0, 60, 5)]
    assert np.array_equal(whole.rows, np.concatenate([p.rows for p in parts]))
    assert np.array_equal(whole.epochs, np.concatenate([p.epochs for p in parts]))


def test_every_place_is_that_of_the_permutation_also_beyond_what_is_worked_out_at_once() -> None:
    sampler = Sampler([700], [1.0], seed=5)
    places = np.arange(4000, 13_000)
    wanted = np.array([int(permute(p % 700, 700, 5, p // 700)) for p in places.tolist()])
    assert np.array_equal(sampler.at(4000, 9000).rows, wanted)
    for first, count in ((8191, 2), (4095, 1), (4096, 4096), (12_000, 3), (4001, 8999), (5000, 0)):
        assert np.array_equal(sampler.at(first, count).rows, wanted[first - 4000 :][:count])


def test_weights_are_shares_of_an_epoch() -> None:
    sampler = Sampler([100, 100], [2.0, 0.5], seed=0)
    assert len(sampler) == 250
    rows = sampler.at(0, 250).rows
    counts = np.bincount(rows, minlength=200)
    assert (counts[:100] == 2).all()
    assert counts[100:].sum() == 50
    both = np.bincount(sampler.at(0, 500).rows, minlength=200)
    assert (both[100:] == 1).all()  # the other half comes in the next epoch


def test_nothing_to_sample_is_refused() -> None:
    with pytest.raises(UserError):
        Sampler([0], [1.0], seed=0)


def test_a_row_seen_twice_in_an_epoch_has_two_passes() -> None:
    from selfsup.data.sampler import Sampler

    rows, passes = Sampler([10, 6], [2.0, 0.5], 0).at(0, 46)  # two epochs of 23
    pairs = list(zip(rows.tolist(), passes.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert {p for row, p in pairs if row < 10} == {0, 1, 2, 3}
    assert {p for row, p in pairs if row >= 10} == {0}
