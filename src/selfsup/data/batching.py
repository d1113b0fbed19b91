"""Batches of texts of mixed length, for reading only: as many tokens at once as a limit allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_WORTH = 1024
"""Tokens from which a batch is worth a reader of its own."""
_FULL = 0.9
"""Share of the limit up to which batches of like size are planned: texts do not fit exactly."""


def by_length(lengths: Sequence[int], limit: int, readers: int = 1) -> Iterator[NDArray[np.int64]]:
    """Numbers of the texts in each batch, longest texts first.

    A batch holds at most `limit` tokens, and at least one text.  Nothing is padded, so the order
    only keeps texts of like length together, for attention.

    Args:
        lengths: tokens of each text.
        limit: tokens of a batch.
        readers: so many batches are read at once: they are cut to like size, so that each reader has
            as much to do.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    total, done = sum(lengths), 0
    left = _batches(total, limit, readers)
    due = total / left
    batch: list[int] = []
    size = 0
    for number in order.tolist():
        length = lengths[number]
        if batch and (size + length > limit or done + length / 2 > due):
            yield np.array(batch, np.int64)
            batch, size = [], 0
            left = max(1, left - 1)
            due = done + (total - done) / left
        batch.append(number)
        size += length
        done += length
    if batch:
        yield np.array(batch, np.int64)


def _batches(total: int, limit: int, readers: int) -> int:
    """How many of like size are planned; 1: they are filled to the limit one after another."""
    if readers == 1:
        return 1
    rounds = -(-total // int(_FULL * limit * readers + 1))
    return max(1, min(rounds * readers, total // _WORTH))
