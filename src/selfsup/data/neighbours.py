"""Which examples lie nearest to each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

_REFERENCES = 20_000
"""Neighbours are looked for among so many rows at most, so that the time grows with the data and not
with its square."""
_NUMBERS = 2**27
"""And among so few that they hold no more numbers than this (0.5 GiB)."""
_BLOCK = 1024


def nearest_rows(
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    rows: NDArray[np.int64],
    count: int,
    k: int,
    seed: int,
) -> NDArray[np.int64]:
    """The rows at the least squared distance to each row, itself left out.

    Args:
        read: examples (batch, …) by their numbers.
        rows: the numbers of the examples that have and are neighbours.
        count: of all examples, of which `rows` are some.
        k: neighbours of each; fewer where there are not as many rows.
        seed: of the draw of rows that are looked among, where there are more than 20,000.

    Returns:
        (count, k) numbers of examples; an example that is not in `rows` has itself as all neighbours.
    """
    width = read(rows[:1]).size
    limit = max(min(_REFERENCES, _NUMBERS // width), k + 1)
    drawn = rows
    if len(rows) > limit:
        drawn = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    k = min(k, len(drawn) - 1)
    out = np.repeat(np.arange(count)[:, None], max(k, 1), axis=1)
    if k < 1:
        return out
    points = torch.from_numpy(read(drawn)).flatten(1)
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        distances = torch.cdist(torch.from_numpy(read(block)).flatten(1), points)
        found = drawn[distances.topk(k + 1, largest=False).indices.numpy()]
        # a row that is looked among has itself first, or a copy of itself
        own = found == block[:, None]
        own[~own.any(1), -1] = True
        out[block] = found[~own].reshape(len(block), k)
    return out
