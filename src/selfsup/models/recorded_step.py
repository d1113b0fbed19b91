"""Reading one token for each row of a cache, recorded once on a GPU and then replayed.

Small kernels take less time than starting them from Python does; a CUDA graph starts all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfsup.nn.attention import Attending
from selfsup.nn.cache import KeyValueCache

Tables = tuple[Tensor, Tensor]
"""Rotary cosines and signed sines, (places, 1, width)."""
Read = Callable[[Tensor, Tensor, Sequence[Attending], Tables | None], Tensor]
"""Tokens (N,), positions (N,), a plan for each layer, tables to turn by: hidden vectors (N, hidden)."""


class RecordedStep:
    """One step of a GPU.

    Args:
        owner: whose weights `read` uses; kept, since the recorded kernels read their memory.
        read: what is recorded.
        cache: whose tensors are written; not kept itself.
        tables: by which queries and keys are turned, or None.
    """

    def __init__(
        self, owner: object, read: Read, cache: KeyValueCache, tables: Tables | None
    ) -> None:
        self.owner, self.read, self.tables = owner, read, tables
        self.pairs = list(zip(cache.keys, cache.values, strict=True))
        self.device = cache.keys[0].device
        self.tokens = torch.zeros(len(cache.lengths), dtype=torch.int64, device=self.device)
        self.positions = torch.zeros_like(self.tokens)
        self.places = torch.full_like(cache.lengths, -1)
        """What `positions` holds, on the CPU."""
        self.graph: torch.cuda.CUDAGraph | None = None
        self.hidden = torch.empty(0)

    def __call__(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Hidden vectors (rows, hidden) of the rows' next tokens (rows,) at their places (rows,)."""
        with torch.cuda.device(self.device):
            self.tokens.copy_(tokens)
            if not torch.equal(self.places, places):
                self.positions.copy_(places)
            if self.graph is None:
                self._record(places)
            assert self.graph is not None
            self.graph.replay()
            self.places = places + 1
            return self.hidden.clone()

    def _record(self, places: Tensor) -> None:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self.step()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        self.positions.copy_(places)  # what is kept for these tokens is the same each time
        graph = torch.cuda.CUDAGraph()
        # another thread may go on working meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self.hidden = self.step()
        self.graph = graph

    def step(self) -> Tensor:
        """What is recorded: read `tokens` at `positions`, which are one further afterwards."""
        plans = [_OneToken(k, v, self.positions, self.tables) for k, v in self.pairs]
        hidden = self.read(self.tokens, self.positions, plans, None)
        self.positions.add_(1)
        return hidden


@dataclass(frozen=True)
class _OneToken:
    """One layer's cache for one new token a row, which is turned, kept and mixed by one kernel."""

    keys: Tensor
    values: Tensor
    positions: Tensor
    """(rows,) where each row's token goes."""
    tables: Tables | None

    def windowed(self, reach: int) -> _OneToken:
        """Refused, as a decoder's configuration refuses windows."""
        raise TypeError(f"decoders have no windows, one of {reach} was asked for")

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """(rows, heads, width) queries, keys and values to (rows, heads, width)."""
        from selfsup.nn.decoding_kernel import attend_one

        return attend_one(q, k, v, self.keys, self.values, self.positions, self.tables)
