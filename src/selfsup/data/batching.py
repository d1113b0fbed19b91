"""Batches of texts of mixed length, for reading only: as many tokens at once as a limit allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


def by_length(lengths: Sequence[int], limit: int) -> Iterator[NDArray[np.int64]]:
    """Numbers of the texts in each batch, longest texts first.

    A batch holds at most `limit` tokens, and at least one text.  Nothing is padded, so the order
    only keeps texts of like length together, for attention.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    batch: list[int] = []
    size = 0
    for number in order.tolist():
        if batch and size + lengths[number] > limit:
            yield np.array(batch, np.int64)
            batch, size = [], 0
        batch.append(number)
        size += lengths[number]
    if batch:
        yield np.array(batch, np.int64)
