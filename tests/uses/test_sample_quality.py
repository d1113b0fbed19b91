"""Distances of clouds against closed forms, and against clouds with one fault each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from selfsup.errors import UserError
from selfsup.uses.sample_quality import frechet_distance, precision_recall

RANDOM = np.random.default_rng(0)


def test_the_distance_is_the_textbook_formula() -> None:
    a = RANDOM.normal(size=(400, 5)) @ RANDOM.normal(size=(5, 5))
    b = RANDOM.normal(size=(300, 5)) @ RANDOM.normal(size=(5, 5)) + 2
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_known_distances() -> None:
    a = RANDOM.normal(size=(500, 3))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + np.array([3, 0, 4])) == pytest.approx(25)
    wide = (a - a.mean(0)) * 3 + a.mean(0)
    assert frechet_distance(a, wide) == pytest.approx(4 * np.trace(np.cov(a, rowvar=False)))
    assert frechet_distance(a[:, :1], a[:, :1] + 1) == pytest.approx(1)
    flat = np.c_[a, np.zeros(500)]  # a covariance without full rank
    assert frechet_distance(flat, flat + 1) == pytest.approx(4)


def test_precision_and_recall_tell_faults_apart() -> None:
    real = np.concatenate([RANDOM.normal(size=(300, 2)), RANDOM.normal(size=(300, 2)) + 20])
    same = np.concatenate([RANDOM.normal(size=(300, 2)), RANDOM.normal(size=(300, 2)) + 20])
    precision, recall = precision_recall(real, same)
    assert precision > 0.9
    assert recall > 0.9
    precision, recall = precision_recall(real, RANDOM.normal(size=(600, 2)))  # one mode is missing
    assert precision > 0.9
    assert 0.4 < recall < 0.55
    bad = np.concatenate([same, RANDOM.normal(size=(600, 2)) - 50])  # half of it is nonsense
    precision, recall = precision_recall(real, bad)
    assert 0.4 < precision < 0.55
    assert recall > 0.9


def test_copies_lie_within_themselves() -> None:
    many = np.repeat(RANDOM.normal(size=(40, 3)) * 100, 5, axis=0)
    assert precision_recall(many, many) == (1.0, 1.0)


def test_a_hand_worked_case() -> None:
    """Radii of 0, 1, 3, 10 on a line with one neighbour: 1, 1, 2, 7."""
    real = np.array([[0.0], [1.0], [3.0], [10.0]])
    drawn = np.array([[-1.0], [-1.5], [17.0], [17.5]])
    precision, recall = precision_recall(real, drawn, neighbours=1)
    assert (precision, recall) == (
        0.5,
        0.0,
    )  # -1 and 17 lie in the balls; real ones within 0.5 of drawn: none


@pytest.mark.parametrize(
    ("real", "drawn", "message"),
    [
        (np.zeros((5, 2)), np.zeros((5, 3)), "2 features, drawn 3"),
        (np.zeros((1, 2)), np.zeros((5, 2)), "two rows"),
        (np.zeros((5, 2)), np.full((5, 2), np.nan), "drawn: holds a value that is not finite"),
        (np.zeros((3, 2)), np.zeros((5, 2)), "at least 4 rows"),
    ],
)
def test_what_is_refused(real: np.ndarray, drawn: np.ndarray, message: str) -> None:
    with pytest.raises(UserError, match=message):
        precision_recall(real, drawn)
