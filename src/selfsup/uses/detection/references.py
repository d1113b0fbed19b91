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


def nearest(rows: Tensor, references: Tensor, subsets: Tensor) -> Nearest:
    """The nearest reference in each subset.

    Args:
        rows: (batch, width) float64.
        references: (references, width) float64.
        subsets: (subsets, size) places in `references`.
    """
    count, size = subsets.shape
    flat = subsets.reshape(-1)
    chosen = references[flat]
    # the distance's square up to a constant for each row; the exact one follows for the nearest
    ranks = torch.addmm((chosen * chosen).sum(1), rows, chosen.T, alpha=-2)
    best = ranks.view(len(rows), count, size).argmin(2)
    places = subsets[torch.arange(count, device=subsets.device), best]
    distances = torch.stack(
        [(rows - references[places[:, s]]).square().sum(1).sqrt() for s in range(count)], 1
    )
    return Nearest(places.cpu().numpy(), distances.cpu().numpy())
