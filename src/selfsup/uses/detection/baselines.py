"""The floors of every report: principal components, nearest neighbours, isolation forest."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
_REFERENCES = 50_000


class Baseline(Protocol):
    """What a floor can do."""

    def fit(self, rows: Rows) -> Self:
        """Learn from rows (rows, width)."""
        ...

    def strangeness(self, rows: Rows) -> Rows:
        """(rows,) higher is stranger."""
        ...


class PrincipalComponents:
    """The distance to the mean with every principal component at unit variance.

    Shyu et al. 2003, "A novel anomaly detection scheme based on principal component classifier".
    """

    def fit(self, rows: Rows) -> Self:
        """See `Baseline.fit`."""
        from sklearn.decomposition import PCA

        self.pca = PCA(svd_solver="full" if rows.shape[1] <= rows.shape[0] else "auto").fit(rows)
        return self

    def strangeness(self, rows: Rows) -> Rows:
        """See `Baseline.strangeness`."""
        variance = self.pca.explained_variance_
        kept = variance > 1e-6 * max(float(variance[0]), 1e-300)
        projected = self.pca.transform(rows)[:, kept]
        return np.asarray((projected**2 / variance[kept]).sum(axis=1))


class NearestNeighbours:
    """The distance to the fifth nearest training row (Ramaswamy, Rastogi and Shim 2000)."""

    def fit(self, rows: Rows) -> Self:
        """See `Baseline.fit`."""
        from sklearn.neighbors import NearestNeighbors

        self.neighbours = NearestNeighbors(n_neighbors=min(5, len(rows))).fit(rows)
        return self

    def strangeness(self, rows: Rows) -> Rows:
        """See `Baseline.strangeness`."""
        return np.asarray(self.neighbours.kneighbors(rows)[0][:, -1])


class Forest:
    """Isolation forest (Liu, Ting and Zhou 2008).

    Args:
        seed: of its draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, rows: Rows) -> Self:
        """See `Baseline.fit`."""
        from sklearn.ensemble import IsolationForest

        self.forest = IsolationForest(random_state=self.seed).fit(rows)
        return self

    def strangeness(self, rows: Rows) -> Rows:
        """See `Baseline.strangeness`."""
        return -np.asarray(self.forest.score_samples(rows))


def baseline_scores(train: Rows, rows: Rows, seed: int = 0) -> dict[str, Rows]:
    """Each floor's strangeness of scaled rows, after learning from at most 50,000 training rows."""
    if len(train) > _REFERENCES:
        chosen = np.random.default_rng(seed).choice(len(train), _REFERENCES, replace=False)
        train = train[np.sort(chosen)]
    floors: dict[str, Any] = {
        "PCA": PrincipalComponents(),
        "nearest neighbours": NearestNeighbours(),
        "isolation forest": Forest(seed),
    }
    return {name: floor.fit(train).strangeness(rows) for name, floor in floors.items()}
