"""Keys and values of what a decoder has read, so that each new token costs one token's work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.config import TransformerConfig
from selfsup.nn.attention import AttentionPlan
from selfsup.nn.sequences import Sequences

_WORTH = 1500
"""Pairs of a query and a key from which a cache in bfloat16 is read in float32."""
_WIDENED = 1_500_000
"""Keys held in float32 at once, in numbers: beyond the processor's caches more would cost time and memory."""


class KeyValueCache:
    """One preallocated pair of tensors a layer, with a length of its own for each row.

    Rows may hold texts of different lengths; nothing is padded but the unused end.

    Args:
        config: of the decoder.
        rows: sequences that are read side by side.
        length: tokens that fit in a row.
        device: where the model is.
        dtype: in which keys and values are kept.
    """

    def __init__(
        self,
        config: TransformerConfig,
        rows: int,
        length: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        width = config.hidden_size // config.num_heads
        shape = (rows, config.kv_heads, length, width)
        self.keys = [
            torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_layers)
        ]
        self.values = [torch.zeros_like(k) for k in self.keys]
        self.lengths = torch.zeros(rows, dtype=torch.int64)
        """(rows,) tokens in each row, on the CPU."""
        self.singles = 0
        """Times that one token was read for each row, since the rows are these."""
        self.recorded: Any = None
        """What `Decoding` has recorded of writing into these very tensors."""

    @property
    def capacity(self) -> int:
        """Tokens that fit in a row."""
        return self.keys[0].shape[2]

    def keep(self, rows: Tensor) -> None:
        """Keep the given rows, in that order; a row may be named several times."""
        self.lengths = self.lengths[rows]
        chosen = rows.to(self.keys[0].device)
        self.keys = [k[chosen] for k in self.keys]
        self.values = [v[chosen] for v in self.values]
        self.singles, self.recorded = 0, None

    def cut(self, length: Tensor) -> None:
        """Forget what stands after the first `length` ((rows,)) tokens of each row."""
        self.lengths = torch.minimum(self.lengths, length)

    def grow(self, counts: Tensor) -> None:
        """Count each row as longer by so many ((rows,), on the CPU) tokens.

        Raises:
            ValueError: a row would be longer than the cache, or the batch has another number of rows.
        """
        if len(counts) != len(self.lengths):
            raise ValueError(f"{len(counts)} sequences for {len(self.lengths)} rows of the cache")
        after = self.lengths + counts
        if int(after.max()) > self.capacity:
            raise ValueError(f"{int(after.max())} tokens, the cache holds {self.capacity}")
        self.lengths = after

    def plans(self, batch: Sequences) -> list[_Layer]:
        """What each layer attends by, to read a batch whose sequences go on where the rows end.

        The rows are counted as longer at once, so this is asked once for a batch.

        Raises:
            ValueError: a row would be longer than the cache, or the batch has another number of rows.
        """
        before = self.lengths
        self.grow(batch.starts.diff())
        step = _Step.of(batch, before, self.lengths)
        pairs = zip(self.keys, self.values, strict=True)
        return [_Layer(keys, values, step) for keys, values in pairs]


@dataclass(frozen=True)
class _Step:
    """Where a batch's tokens go in the cache, and what they may look at; the same for all layers."""

    fresh: AttentionPlan | None
    """Nothing was read before: attend within the batch."""
    single: bool
    """One token for each row."""
    begin: int
    """The rows' common length before, where they have one; else -1."""
    longest: int
    rows: Tensor
    """(N,) each token's row."""
    places: Tensor
    """(N,) where it goes in its row."""
    queries: Tensor
    """(N,) its place among the row's new tokens."""
    wide: int
    """The most new tokens of a row."""
    mask: Tensor | None
    """(rows, 1, wide, longest), true where a query may look; None: everywhere."""

    @staticmethod
    def of(batch: Sequences, before: Tensor, after: Tensor) -> _Step:
        device = batch.tokens.device
        counts = after - before
        same = bool((before == before[0]).all())
        begin, longest, wide = int(before[0]) if same else -1, int(after.max()), int(counts.max())
        single = wide == 1 and int(counts.min()) == 1
        if single and same:  # the common case in writing: nothing else is asked
            nothing = counts[:0]
            return _Step(None, True, begin, longest, nothing, nothing, nothing, 1, None)
        rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
        queries = torch.arange(len(rows)) - torch.repeat_interleave(batch.starts[:-1], counts)
        fresh = batch.plan.causal() if begin == 0 else None
        mask = None
        if fresh is None:
            last = before[:, None] + torch.arange(wide)[None, :]
            mask = (torch.arange(longest) <= last[:, :, None])[:, None].to(device)
        places = before[rows] + queries
        return _Step(
            fresh,
            single,
            begin,
            longest,
            rows.to(device),
            places.to(device),
            queries.to(device),
            wide,
            mask,
        )


@dataclass(frozen=True)
class _Layer:
    """One layer's part of a cache, for one batch."""

    keys: Tensor
    values: Tensor
    step: _Step

    def windowed(self, reach: int) -> _Layer:
        """Refused, as a decoder's configuration refuses windows."""
        raise TypeError(f"decoders have no windows, one of {reach} was asked for")

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Keep the new keys and values, and mix all that each query may see.

        Args:
            q: (N, heads, width) of the new tokens.
            k, v: (N, key-value heads, width).
            dropout: must be 0.

        Returns:
            (N, heads, width).
        """
        assert not dropout, "a cache is for reading, not for training"
        step = self.step
        if step.single and step.begin >= 0:
            self.keys[:, :, step.begin], self.values[:, :, step.begin] = k, v
        else:
            self.keys[step.rows, :, step.places] = k.to(self.keys.dtype)
            self.values[step.rows, :, step.places] = v.to(self.values.dtype)
        if step.fresh is not None:
            return step.fresh.attend(q, k, v)
        keys, values = self.keys[:, :, : step.longest], self.values[:, :, : step.longest]
        if step.single:
            queries = q[:, :, None]
        else:
            padded = q.new_zeros(len(keys), step.wide, *q.shape[1:])
            padded[step.rows, step.queries] = q
            queries = padded.transpose(1, 2)
        if step.single and _widening_pays(q, keys):
            return _attend_widened(q, keys, values, step.mask)
        grouped = keys.shape[1] != q.shape[1]
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=step.mask, enable_gqa=grouped
        )
        if step.single:
            return mixed[:, :, 0]
        return mixed.transpose(1, 2)[step.rows, step.queries]


def _widening_pays(q: Tensor, keys: Tensor) -> bool:
    """Whether `_attend_widened` beats torch's kernel: not for few pairs, where its several calls count."""
    if keys.dtype != torch.bfloat16 or keys.device.type != "cpu":
        return False
    return q.shape[0] * q.shape[1] * keys.shape[2] >= _WORTH


def _attend_widened(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one query a row, in float32 over keys and values in bfloat16.

    Two to four times as fast on a CPU as torch's kernel for bfloat16 (docs/log.md), and nearer to the
    true numbers.

    Args:
        q: (rows, heads, width).
        keys, values: (rows, key-value heads, length, width).
        mask: (rows, 1, 1, length), true where a query may look; None: everywhere.

    Returns:
        (rows, heads, width), of q's type.
    """
    rows, shared, length, width = keys.shape
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    step = max(1, _WIDENED // (shared * length * width))
    for part in (slice(first, first + step) for first in range(0, rows, step)):
        queries = q[part].reshape(-1, shared, q.shape[1] // shared, width).float() * width**-0.5
        scores = queries @ keys[part].float().transpose(-1, -2)
        if mask is not None:
            scores.masked_fill_(~mask[part], -torch.inf)
        mixed = scores.softmax(-1) @ values[part].float()
        out[part] = mixed.view(-1, *q.shape[1:])
    return out


def continuation(tokens: Tensor, lengths: Tensor) -> Sequences:
    """One new token for each row of a cache.

    Args:
        tokens: (rows,) token ids.
        lengths: (rows,) tokens that each row holds already, on the CPU.
    """
    return Sequences(
        tokens=tokens,
        positions=lengths.to(tokens.device),
        starts=torch.arange(len(tokens) + 1),
    )


def continuations(ids: Sequence[Tensor], lengths: Tensor) -> Sequences:
    """Several new tokens for each row of a cache.

    Args:
        ids: for each row (n,) token ids, n at least 1, all on one device.
        lengths: (rows,) tokens that each row holds already, on the CPU.
    """
    counts = torch.tensor([len(one) for one in ids])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    offsets = torch.repeat_interleave(lengths - starts[:-1], counts)
    tokens = torch.cat(list(ids))
    positions = torch.arange(len(tokens)) + offsets
    return Sequences(tokens, positions.to(tokens.device), starts)
