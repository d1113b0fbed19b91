"""Masking: statistics, purity, and what may never be hidden."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from scipy import stats

from selfsup.data.masking import Masked, Masking

MASK, ORDINARY = 4, np.arange(5, 105)


def rows(count: int, length: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 105, (count, length))
    starts = rng.random((count, length)) < 0.6
    starts[:, [1, length // 2 + 1]] = True  # no word goes across a special token
    words = np.cumsum(starts, 1).astype(np.int32) - 1
    for special in (0, length // 2, length - 1):
        tokens[:, special] = 2
        words[:, special] = -1
    return tokens, words


def run(
    masking: Masking, count: int = 400, key: tuple[int, ...] = (7, 0), epoch: int = 0
) -> Masked:
    tokens, words = rows(count)
    numbers = np.arange(count)
    return masking.apply(tokens, words, key, numbers, np.full(count, epoch))


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_count_is_fixed_and_special_tokens_stay(unit: str) -> None:
    masking = Masking(MASK, ORDINARY, rate=0.2, unit=unit)
    got = run(masking)
    tokens, words = rows(400)
    assert got.positions.shape == (400, masking.slots(64)) == (400, 13)
    used = got.weights > 0
    assert (np.take_along_axis(words, got.positions, 1)[used] >= 0).all()
    assert (got.tokens[words < 0] == 2).all()
    assert np.array_equal(np.take_along_axis(tokens, got.positions, 1), got.targets)
    changed = got.tokens != tokens
    hidden = np.zeros_like(changed)
    np.put_along_axis(hidden, got.positions, used, 1)
    assert not (changed & ~hidden).any()
    for row in range(50):  # no place is scored twice
        places = got.positions[row][used[row]]
        assert len(set(places.tolist())) == len(places)
    assert used.mean() > (0.999 if unit == "token" else 0.95)


def test_shares_and_places_are_as_asked() -> None:
    masking = Masking(MASK, ORDINARY, rate=0.15, mask=0.8, random=0.1)
    got = run(masking, count=6000)
    seen = np.take_along_axis(got.tokens, got.positions, 1)
    masked, kept = (seen == MASK).sum(), (seen == got.targets).sum()
    total = seen.size
    other = total - masked - kept
    # a random token is the old one in 1 of 100 cases
    expected = np.array([0.8, 0.1 * 0.99, 0.1 + 0.1 * 0.01]) * total
    assert stats.chisquare([masked, other, kept], expected).pvalue > 1e-4
    replaced = seen[(seen != MASK) & (seen != got.targets)]
    assert set(np.unique(replaced)) <= set(ORDINARY.tolist())
    assert stats.chisquare(np.bincount(replaced - 5, minlength=100)).pvalue > 1e-4
    _, words = rows(6000)
    candidates = np.flatnonzero(words[0] >= 0)
    counts = np.bincount(got.positions.ravel(), minlength=64)[candidates]
    assert stats.chisquare(counts).pvalue > 1e-4


def test_same_key_same_mask_whatever_the_batch() -> None:
    masking = Masking(MASK, ORDINARY)
    tokens, words = rows(20)
    whole = masking.apply(tokens, words, (3, 0), np.arange(20), np.zeros(20, int))
    part = masking.apply(tokens[7:9], words[7:9], (3, 0), np.arange(7, 9), np.zeros(2, int))
    assert np.array_equal(whole.tokens[7:9], part.tokens)
    assert not np.array_equal(whole.tokens, run(masking, 20, (4, 0)).tokens)
    later = masking.apply(tokens, words, (3, 0), np.arange(20), np.ones(20, int))
    assert not np.array_equal(whole.tokens, later.tokens)


@pytest.mark.parametrize("unit", ["word", "span"])
def test_whole_words_are_hidden_all_or_none(unit: str) -> None:
    got = run(Masking(MASK, ORDINARY, rate=0.3, unit=unit))
    _, words = rows(400)
    for row in range(400):
        scored = np.zeros(64, bool)
        scored[got.positions[row][got.weights[row] > 0]] = True
        for word in range(words[row].max() + 1):
            inside = scored[words[row] == word]
            assert inside.all() or not inside.any()


def test_spans_are_longer_than_words() -> None:
    def run_length(unit: str) -> float:
        got = run(Masking(MASK, ORDINARY, rate=0.3, unit=unit, span_mean=4.0))
        runs = 0
        for row in range(400):
            places = np.sort(got.positions[row][got.weights[row] > 0])
            runs += int((np.diff(places, prepend=-9) > 1).sum())
        return float((got.weights > 0).sum() / runs)

    assert run_length("span") > 1.7 * run_length("word")


def test_small_alphabet_and_rows_without_candidates() -> None:
    masking = Masking(MASK, np.array([5, 6, 7, 8]), rate=0.3)
    tokens, words = np.full((2, 10), 5), np.zeros((2, 10), np.int32)
    words[:] = np.arange(10)
    words[1] = -1
    got = masking.apply(tokens, words, (0, 0), np.arange(2), np.zeros(2, int))
    assert got.weights[0].sum() == 3
    assert got.weights[1].sum() == 0
    assert np.array_equal(got.tokens[1], tokens[1])


def test_word_longer_than_the_share_is_hidden_in_part() -> None:
    masking = Masking(MASK, ORDINARY, rate=0.2, unit="word")
    tokens, words = np.full((1, 20), 9), np.zeros((1, 20), np.int32)
    got = masking.apply(tokens, words, (0, 0), np.arange(1), np.zeros(1, int))
    assert got.weights.sum() == 4


@pytest.mark.parametrize("unit", ["word", "span"])
def test_every_token_of_a_long_word_is_hidden_at_some_time(unit: str) -> None:
    masking = Masking(MASK, ORDINARY, rate=0.15, unit=unit)
    tokens, words = rows(1)
    words[0, 2:30] = 1000  # a run of 28 tokens, of which 10 are hidden
    words[0, 30:32] = 1001
    times = np.zeros(64, int)
    for epoch in range(300):
        got = masking.apply(tokens, words, (7, 0), np.zeros(1, int), np.full(1, epoch))
        places = got.positions[0][got.weights[0] > 0]
        times[places] += 1
        hidden = np.isin(np.arange(2, 30), places)
        if unit == "word":  # ten at a time, the rest of eight too
            assert all(part.all() or not part.any() for part in np.split(hidden, [10, 20]))
    assert (times[words[0] >= 0] > 5).all()
    assert (times[words[0] < 0] == 0).all()


@pytest.mark.parametrize("unit", ["word", "span"])
def test_rows_without_long_words_are_masked_as_if_alone(unit: str) -> None:
    """By digest of what they were before long words were parted."""
    got = run(Masking(MASK, ORDINARY, rate=0.2, unit=unit), count=50)
    digest = sha256(b"".join(part.tobytes() for part in (got.tokens, got.positions, got.weights)))
    assert digest.hexdigest()[:16] == {"word": "37f34fed2e48df94", "span": "b88bff5e9804bb45"}[unit]
    tokens, words = rows(50)
    words[7, 2:32] = 1000
    masking = Masking(MASK, ORDINARY, rate=0.2, unit=unit)
    beside = masking.apply(tokens, words, (7, 0), np.arange(50), np.zeros(50, int))
    others = np.arange(50) != 7
    assert np.array_equal(beside.tokens[others], got.tokens[others])
    assert np.array_equal(beside.positions[others], got.positions[others])
