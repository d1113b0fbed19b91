"""Many stretches of one array at once: where they lie, and what is found in each.

A stretch is a begin and a size; `flags` of stretches lie one after another in one array.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def places(begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(sizes.sum(),) the indices that the stretches hold, one stretch after another."""
    stops = np.cumsum(sizes)
    return np.repeat(begins - (stops - sizes), sizes) + np.arange(stops[-1] if len(stops) else 0)


def count_true(flags: NDArray[np.bool_], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(stretches,) how many flags of each are true."""
    total = np.concatenate([[0], np.cumsum(flags)])
    stops = np.cumsum(sizes)
    counts: NDArray[np.int64] = total[stops] - total[stops - sizes]
    return counts


def nth_true(
    flags: NDArray[np.bool_], sizes: NDArray[np.int64], wanted: NDArray[np.int64] | int
) -> NDArray[np.int64]:
    """(stretches,) where in each its `wanted`-th true flag is, counted from 0; -1: there is none."""
    counts = count_true(flags, sizes)
    chosen = np.cumsum(counts) - counts + wanted
    there = counts > wanted
    found = np.full(len(sizes), -1, np.int64)
    begins = np.cumsum(sizes) - sizes
    found[there] = np.flatnonzero(flags)[chosen[there]] - begins[there]
    return found
