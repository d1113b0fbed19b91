"""How near drawn examples come to real ones, by features: a distance, and what it hides.

A distance of two clouds mixes up two faults, bad examples and missing ones; precision and recall tell them
apart.  All depend on the features and on how many examples there are, so both belong to any figure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from selfsup.errors import UserError

_ROWS = 1024
"""Rows of a block of distances."""

Features = NDArray[np.floating]


def frechet_distance(real: Features, drawn: Features) -> float:
    """Squared 2-Wasserstein distance of the normal distributions with the two clouds' moments.

    Heusel et al. 2017, there on features of an Inception network and called FID; here on any.  Its
    estimate is too large by an amount that falls with the number of examples, so compare equal counts, and
    put the distance of two halves of the real ones beside it.

    Args:
        real, drawn: (count, features), counts may differ.

    Raises:
        UserError: fewer than two rows, other widths, or a value that is not finite.
    """
    a, b = _checked(real, drawn)
    half = _root(np.cov(a, rowvar=False).reshape(a.shape[1], -1))
    other = np.cov(b, rowvar=False).reshape(a.shape[1], -1)
    # the eigenvalues of half · other · half are those of the two covariances' product
    crossed = np.linalg.eigvalsh(half @ other @ half).clip(0)
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    spread = (half**2).sum() + np.trace(other) - 2 * np.sqrt(crossed).sum()
    return float(max(means + spread, 0.0))


def precision_recall(real: Features, drawn: Features, neighbours: int = 3) -> tuple[float, float]:
    """How many drawn examples lie among real ones, and how many real ones lie among drawn ones.

    A cloud's region is the union of balls around its points that reach to their k-th neighbours
    (Kynkäänniemi et al. 2019).  Equal clouds have less than 1 of both.

    Args:
        real, drawn: (count, features).
        neighbours: k.

    Returns:
        Precision and recall, 0 to 1.

    Raises:
        UserError: as `frechet_distance`; or no more rows than neighbours.
    """
    a, b = _checked(real, drawn)
    if neighbours < 1 or min(len(a), len(b)) <= neighbours:
        raise UserError(f"{neighbours} neighbours need at least {neighbours + 1} rows in each")
    return _share_within(a, b, neighbours), _share_within(b, a, neighbours)


def _checked(real: Features, drawn: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = (np.asarray(one, np.float64) for one in (real, drawn))
    for name, one in (("real", a), ("drawn", b)):
        if one.ndim != 2 or len(one) < 2:
            raise UserError(
                f"needs (count, features) of two rows at least, not {one.shape}", where=name
            )
        if not np.isfinite(one).all():
            raise UserError("holds a value that is not finite", where=name)
    if a.shape[1] != b.shape[1]:
        raise UserError(f"real has {a.shape[1]} features, drawn {b.shape[1]}")
    return a, b


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root


def _share_within(
    points: NDArray[np.float64], asked: NDArray[np.float64], neighbours: int
) -> float:
    """The share of `asked` that lies in the balls around `points`."""
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(points)
    radius = nearest.kneighbors()[0][:, -1]  # of each point, without itself
    radius += 1e-6 * np.abs(points).max()  # the rounding of distances
    inside = [
        (pairwise_distances(asked[i : i + _ROWS], points) <= radius).any(1)
        for i in range(0, len(asked), _ROWS)
    ]
    return float(np.concatenate(inside).mean())
