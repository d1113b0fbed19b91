"""Which example comes at which place of the stream: a keyed permutation, so the state is one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.keys import permute
from selfsup.errors import UserError

_BLOCK, _EPOCHS = 4096, 64
"""Places that are worked out at once, and the epochs that they may be of, each of which costs: for the
64 of a batch alone it was a seventh of a small step."""


class Examples(NamedTuple):
    """Examples by number, and how often each was seen before."""

    rows: NDArray[np.int64]
    epochs: NDArray[np.int64]


class Sampler:
    """An endless stream over several sources; place p always holds the same example.

    Args:
        counts: examples in each source; the sources' examples are numbered one after another.
        weights: how many times an epoch goes through each source (0.5: half of it, the other half
            in the next epoch).
        seed: what the order depends on.
    """

    def __init__(self, counts: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self.counts = np.asarray(counts, np.int64)
        self.seed = seed
        self.firsts = np.concatenate([[0], np.cumsum(self.counts)])
        quota = np.round(self.counts * np.asarray(weights, float)).astype(np.int64)
        self.quota = np.where(self.counts > 0, np.maximum(quota, 1), 0)
        self.ends = np.cumsum(self.quota)
        if not len(self.ends) or self.ends[-1] == 0:
            raise UserError("there is nothing to sample from")
        self._block_size = min(_BLOCK, _EPOCHS * len(self))
        self._latest: tuple[int, Examples] | None = None

    def __len__(self) -> int:
        """Examples in one epoch."""
        return int(self.ends[-1])

    def at(self, first: int, count: int) -> Examples:
        """The examples at places first, first + 1, …, first + count - 1."""
        rows, epochs = np.empty(count, np.int64), np.empty(count, np.int64)
        size = self._block_size
        for number in range(first // size, -(-(first + count) // size)):
            start = number * size
            low, high = max(first, start), min(first + count, start + size)
            block = self._block(number)
            rows[low - first : high - first] = block.rows[low - start : high - start]
            epochs[low - first : high - first] = block.epochs[low - start : high - start]
        return Examples(rows, epochs)

    def _block(self, number: int) -> Examples:
        """The examples of a block of places; the latest one is kept."""
        latest, size = self._latest, self._block_size
        if latest is None or latest[0] != number:
            latest = self._latest = (number, self._work_out(number * size, size))
        return latest[1]

    def _work_out(self, first: int, count: int) -> Examples:
        """The examples at some places, from the permutation."""
        places = np.arange(first, first + count, dtype=np.int64)
        epochs, within = np.divmod(places, len(self))
        virtual = np.empty(count, np.int64)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            virtual[here] = permute(within[here], len(self), self.seed, int(epoch))
        source = np.searchsorted(self.ends, virtual, side="right")
        number = virtual - (self.ends - self.quota)[source]
        # counted per source, so that a second pass within an epoch hides other tokens
        passes, row = np.divmod(number + epochs * self.quota[source], self.counts[source])
        return Examples(self.firsts[source] + row, passes)
