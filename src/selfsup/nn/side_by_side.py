"""Reading many texts: on a CPU several batches at once, each on a core of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from threading import Lock
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from selfsup.data.batching import by_length
from selfsup.nn.products import weights_laid_out

_MOST = 8
"""Batches at once: Python begins their passes one after another, so more cores share a batch."""

Item = TypeVar("Item")
Found = TypeVar("Found")


class _Threads:
    """Torch's threads.  Readers take fewer, and what one thread takes is what later ones begin with, so
    the number is remembered while anybody reads.
    """

    def __init__(self) -> None:
        self.lock, self.sharing, self.before = Lock(), 0, 1

    def number(self) -> int:
        """How many there are when nobody reads."""
        with self.lock:
            return self.before if self.sharing else torch.get_num_threads()

    @contextmanager
    def shared(self) -> Iterator[int]:
        """While readers share them: how many there are.  Afterwards it is so again."""
        with self.lock:
            if not self.sharing:
                self.before = torch.get_num_threads()
            self.sharing += 1
            before = self.before
        try:
            yield before
        finally:
            with self.lock:
                self.sharing -= 1
                torch.set_num_threads(before)  # also for threads that begin later


_THREADS = _Threads()


def read_texts(
    read: Callable[[NDArray[np.int64]], Found],
    lengths: Sequence[int],
    model: nn.Module,
    dtype: torch.dtype,
    limit: int,
) -> Iterator[Found]:
    """What `read` makes of texts, batch by batch, the longest first (`by_length`, `side_by_side`).

    Args:
        read: takes the numbers of a batch's texts.
        lengths: tokens of each text.
        model: what it reads with, in evaluation.
        dtype: of the model's products (`weights_laid_out`).
        limit: tokens of a batch.
    """
    count = _readers(model)
    with weights_laid_out(model, dtype, limit, sum(lengths)):
        yield from side_by_side(read, by_length(lengths, limit, count), count)


def _readers(model: nn.Module) -> int:
    """How many batches a model reads at once: on a CPU as many as torch has threads, at most 8.

    Compiled layers are asked by one thread alone: torch's compiler keeps one state for all.
    """
    compiled = any(part._compiled_call_impl is not None for part in model.modules())
    if compiled or next(model.parameters()).device.type != "cpu":
        return 1
    return min(_THREADS.number(), _MOST)


def side_by_side(
    read: Callable[[Item], Found], items: Iterable[Item], count: int
) -> Iterator[Found]:
    """What `read` makes of each item, in their order, without gradients; `count` items at once.

    Small passes hardly gain by a second core, and each of them waits for the slower one; whole batches
    do not (docs/log.md).  The readers share torch's threads.  A single item has all of them.

    Args:
        read: called in other threads, so it enters autocast itself and changes nothing shared.
        items: taken when they are needed; at most two for each reader are under way.
        count: 1: no other thread.

    Raises:
        Whatever `read` raises, when its item's turn comes; no item behind it is begun any more.
    """
    items = iter(items)
    begun = list(islice(items, 2))
    items = chain(begun, items)
    if count == 1 or len(begun) == 1:
        yield from (_alone(read, item) for item in items)
        return
    with _THREADS.shared() as threads:
        pool = ThreadPoolExecutor(count, "read", torch.set_num_threads, (max(1, threads // count),))
        waiting: deque[Future[Found]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_alone, read, item))
                if len(waiting) == 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _alone(read: Callable[[Item], Found], item: Item) -> Found:
    with torch.inference_mode():
        return read(item)
