"""Distances to the nearest of small random subsets of the training rows.

The mean over many subsets of the distance to the nearest row in each (Pang, Ting and Albrecht 2015,
"LeSiNN"; Bandaragoda et al. 2018): as good as nearest neighbours on clean data when the subsets are
large, and robust on contaminated data when they are small, since a subset of eight rows hardly ever
holds two anomalies of one cluster.  Memory and time do not grow with the training data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PLACES = 1 << 20
"""Distances that are worked out at once: few enough for a processor's caches."""


class Drawn:
    """The subsets of one member, laid out so that rows can be compared with all of them at once.

    Args:
        references: (references, width) float64.
        places: (subsets, size) which of them each subset holds.
    """

    def __init__(self, references: Tensor, places: NDArray[np.int64]) -> None:
        self.places = places
        self.rows = references[torch.tensor(places.ravel(), device=references.device)]
        """(subsets * size, width): a reference once for each subset that it is in.  To compare it once
        and look the results up takes twice as long for rows of 8 numbers, as long for 64 to 256, and
        less, by a seventh, for 800 (docs/log.md)."""
        self.squares = self.rows.square().sum(1)


@dataclass(frozen=True)
class Nearest:
    """What lies nearest to some rows, subset by subset."""

    places: NDArray[np.int64]
    """(rows, subsets) which reference."""
    distances: NDArray[np.float64]
    """(rows, subsets) how far."""


def draw_subsets(
    allowed: list[NDArray[np.int64]], count: int, size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(members, count, size) references for each member, without repeats inside a subset.

    Args:
        allowed: for each member, the references it may use.
        count: subsets of each member.
        size: rows of a subset; fewer where a member has fewer.
        generator: draws.
    """
    size = min(size, *(len(own) for own in allowed))
    drawn = [
        [generator.choice(own, size, replace=False, shuffle=False) for _ in range(count)]
        for own in allowed
    ]
    return np.array(drawn, np.int64).reshape(len(allowed), count, size)


def nearest(rows: Tensor, drawn: Drawn) -> Nearest:
    """The nearest reference in each subset.

    Args:
        rows: (batch, width) float64.
        drawn: the subsets.
    """
    count, size = drawn.places.shape
    first = torch.arange(0, count * size, size, device=rows.device)
    best, distances = [], []
    block = min(_PLACES // (count * size), 2 * _PLACES // (count * rows.shape[1]))
    for part in torch.split(rows, max(16, block)):
        # the distance's square up to a constant for each row; the exact one follows for the nearest
        ranks = torch.addmm(drawn.squares, part, drawn.rows.T, alpha=-2)
        least = _least(ranks.view(len(part), count, size))
        away = part[:, None] - drawn.rows[least + first]
        best.append(least)
        distances.append(away.square_().sum(2).sqrt_())
    found = torch.cat(best).cpu().numpy()
    return Nearest(drawn.places[np.arange(count), found], torch.cat(distances).cpu().numpy())


def _least(ranks: Tensor) -> Tensor:
    """(rows, subsets, size) ranks to (rows, subsets), the place of the least in each subset.

    On a CPU NumPy compares, several times as fast as torch.
    """
    if ranks.device.type != "cpu":
        return ranks.argmin(2)
    return torch.from_numpy(ranks.numpy().argmin(2))
