"""Attention over concatenated sequences: one seam, `attend`, that alone knows the kernels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.nn.plain_attention import goes_by_parts, plain_attention, plain_is_faster
from selfsup.nn.rotary import rotate
from selfsup.nn.shared_rows import parted_rows, places_of, shared_rows
from selfsup.nn.windows import (
    block_mask,
    block_size,
    earlier_mask,
    into_blocks,
    near_mask,
    with_neighbours,
)

_SHARED = 64
"""Tokens up to which sequences share a row."""
_STEP, _LONG_STEP = 16, 64
"""The steps between the lengths of rows of up to 128 tokens, and of longer ones."""


class Attending(Protocol):
    """What a layer asks for the mixing of its values: a plan for whole sequences, or a cache."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """(N, heads, width) queries, keys and values to (N, heads, width)."""
        ...

    def windowed(self, reach: int) -> Attending:
        """The same, looking at most `reach` tokens to each side."""
        ...


class Plan(Attending, Protocol):
    """How to attend within each sequence of a batch."""

    def filled(self, fillers: int) -> Plan:
        """The same for vectors behind which so many rows belong to no sequence."""
        ...

    def causal(self) -> Plan:
        """The same, each token looking at itself and those before it."""
        ...


@dataclass(frozen=True)
class Group:
    """Sequences (or rows of packed sequences) that one dense attention call handles."""

    rows: int
    length: int
    mask: Tensor | None
    """(rows, 1, length or 1, length), true where a query may look; None: everywhere."""
    causal: bool = False
    """No place looks at those behind it; a mask says so as well."""
    block: int | None = None
    """Tokens of a block, for queries that look no farther than the blocks beside theirs; the mask is then
    (rows x blocks, 1, block, 3 x block)."""

    biases: dict[int | None, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def half_bias(self, heads: int | None, device: torch.device) -> Tensor | None:
        """The mask as bfloat16 numbers to add to scores; None where there is none.

        Worked out once for all layers.

        Args:
            heads: for which it is written out, (rows x heads, length, length); None: as the mask is.
            device: where it is wanted.
        """
        mask = self.mask
        if mask is None and not self.causal:
            return None
        if heads not in self.biases:
            if mask is None:
                mask = earlier_mask(self.length, self.length, device)[None, None]
            zeros = torch.zeros_like(mask, dtype=torch.bfloat16)
            bias = zeros.masked_fill_(~mask, -torch.inf)
            if heads is not None:
                rows = len(mask) if self.block is not None else self.rows
                queries = self.block or self.length
                bias = bias.expand(rows, heads, queries, -1).flatten(0, 1)
            self.biases[heads] = bias
        return self.biases[heads]


@dataclass(frozen=True)
class AttentionPlan:
    """How to attend within each sequence of a batch, worked out once for all layers."""

    groups: tuple[Group, ...]
    order: Tensor | None
    """(T,) the token in each place of the concatenated groups; in gaps any token of the same row."""
    gaps: Tensor | None
    """(T, 1, 1) true in the places that no token has."""
    inverse: Tensor | None
    """(N,) where each token stands in the concatenated groups."""
    device: torch.device
    windows: dict[int, AttentionPlan] = field(default_factory=dict, repr=False)
    fillers: int = 0
    """Rows behind the last token that belong to no sequence; what comes out for them means nothing."""

    def filled(self, fillers: int) -> AttentionPlan:
        """The same plan for vectors behind which so many rows belong to no sequence."""
        inverse = None if self.inverse is None else F.pad(self.inverse, (0, fillers))
        return replace(self, inverse=inverse, fillers=fillers, windows={})

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Scaled dot-product attention within each sequence; see the function of that name."""
        return attend(q, k, v, self, dropout)

    def causal(self) -> AttentionPlan:
        """The same plan, each token looking at itself and those before it."""
        groups = []
        for group in self.groups:
            mask, length = group.mask, group.length
            # gaps stand at a sequence's end, after all that could look at them: no mask is needed
            if mask is not None and mask.shape[2] == 1:
                mask = None
            if group.block is not None:
                assert mask is not None
                mask = mask & earlier_mask(group.block, 3 * group.block, self.device, group.block)
            elif mask is not None:
                mask = mask & earlier_mask(length, length, self.device)
            groups.append(replace(group, mask=mask, causal=True, biases={}))
        return replace(self, groups=tuple(groups), windows={})

    @staticmethod
    def build(starts: Tensor, row_length: int | None, device: torch.device) -> AttentionPlan:
        """Plan for sequences beginning at `starts` ((B + 1,), on the CPU)."""
        lengths = starts.diff()
        total = int(starts[-1])
        if len(lengths) and bool((lengths == lengths[0]).all()):
            group = Group(len(lengths), int(lengths[0]), None)
            return AttentionPlan((group,), None, None, None, device)
        if row_length:
            owner = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
            owner = owner.view(total // row_length, row_length).to(device)
            mask = owner[:, None, :, None] == owner[:, None, None, :]
            group = Group(total // row_length, row_length, mask)
            return AttentionPlan((group,), None, None, None, device)
        return _bucketed(starts, lengths, device)

    def windowed(self, reach: int) -> AttentionPlan:
        """The same plan, looking at most `reach` tokens to each side."""
        if max((g.length for g in self.groups), default=0) <= reach + 1:
            return self
        if reach not in self.windows:
            groups = []
            for group in self.groups:
                rows, length, mask = group.rows, group.length, group.mask
                if size := block_size(length, reach):
                    mask = block_mask(mask, rows, length, reach, size, self.device)
                else:
                    mask = near_mask(mask, length, reach, self.device)
                groups.append(Group(rows, length, mask, block=size))
            self.windows[reach] = replace(self, groups=tuple(groups), windows={})
        return self.windows[reach]


def _bucketed(starts: Tensor, lengths: Tensor, device: torch.device) -> AttentionPlan:
    """Put sequences into rows of few lengths; only attention, the cheapest part, sees the few gaps.

    Those of up to 64 tokens share rows: many small products take longer than fewer with more in them
    (docs/log.md).  Longer ones have a row each, as long as the others of about their length.
    """
    begins, counts = starts[:-1].numpy(), lengths.numpy()
    shapes: list[tuple[int, list[list[int]]]] = []
    short = np.flatnonzero(counts <= _SHARED)
    if len(short):
        width = -(-int(counts[short].max()) // _STEP) * _STEP
        shapes += parted_rows(shared_rows(short, counts, width), counts, width, _STEP)
    step = np.where(counts <= 128, _STEP, _LONG_STEP)
    bucket = np.where(counts <= _SHARED, 0, -(-counts // step) * step)
    for width in np.unique(bucket[bucket > 0]).tolist():
        shapes.append((width, [[i] for i in np.flatnonzero(bucket == width).tolist()]))
    groups, order, gaps = [], [], []
    for width, rows in shapes:
        tokens, owner = places_of(rows, width, begins, counts)
        empty = owner < 0
        mask = None
        if len(rows) < sum(map(len, rows)):
            mask = owner[:, None, :, None] == owner[:, None, None, :]
        elif empty.any():
            mask = ~empty[:, None, None, :]
        groups.append(
            Group(len(rows), width, None if mask is None else torch.from_numpy(mask).to(device))
        )
        order.append(tokens.ravel())
        gaps.append(empty.ravel())
    flat, nothing = np.concatenate(order), np.concatenate(gaps)
    used = np.flatnonzero(~nothing)
    inverse = np.empty(int(starts[-1]), np.int64)
    inverse[flat[used]] = used
    return AttentionPlan(
        tuple(groups),
        torch.from_numpy(flat).to(device),
        torch.from_numpy(nothing[:, None, None]).to(device),
        torch.from_numpy(inverse).to(device),
        device,
    )


class _IntoGroups(torch.autograd.Function):
    """Tokens into the places of the groups.  Gaps get no gradient, so going back is a look-up too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor, fillers: int) -> Tensor:
        ctx.save_for_backward(inverse)
        ctx.fillers = fillers
        return x.index_select(0, order)  # three times as fast as x[order] on a CPU

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        back = grad.index_select(0, ctx.saved_tensors[0])
        if ctx.fillers:
            back[-ctx.fillers :] = 0
        return back, None, None, None


class _OutOfGroups(torch.autograd.Function):
    """The places of the groups back into the order of the tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, gaps: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, gaps)
        return x.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        order, gaps = ctx.saved_tensors
        return grad.index_select(0, order).masked_fill_(gaps, 0), None, None, None


def attend(q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention within each sequence.

    Args:
        q: (N, heads, width).
        k, v: (N, heads, width), or fewer heads, each shared by as many queries' heads (Ainslie et al.
            2023, grouped-query attention).
        plan: from `Sequences.plan`, or its `windowed` or `causal` form.
        dropout: probability with which attention weights are dropped.

    Returns:
        (N, heads, width).
    """
    heads, width = q.shape[1:]
    if k.shape[1] != heads:
        k, v = (x.repeat_interleave(heads // x.shape[1], 1) for x in (k, v))
    order, inverse, gaps = plan.order, plan.inverse, plan.gaps
    if order is not None:
        q, k, v = (_IntoGroups.apply(x, order, inverse, plan.fillers) for x in (q, k, v))  # type: ignore[no-untyped-call]
    outputs, at = [], 0
    for group in plan.groups:
        part = slice(at, at + group.rows * group.length)
        at = part.stop
        shape = (group.rows, group.length, heads, width)
        queries, keys, values = (x[part].view(shape) for x in (q, k, v))
        if group.block is not None:
            queries, keys, values = (into_blocks(x, group.block) for x in (queries, keys, values))
            keys, values = with_neighbours(keys), with_neighbours(values)
            queries, keys, values = (x.flatten(0, 1) for x in (queries, keys, values))
        queries, keys, values = (x.transpose(1, 2) for x in (queries, keys, values))
        if plain_is_faster(queries, keys, values, dropout):
            causal = group.causal and group.block is None
            parts = goes_by_parts(keys.shape[2], dropout, causal=causal)
            bias = group.half_bias(None if parts else heads, q.device)
            out = plain_attention(queries, keys, values, bias, dropout, causal=causal)
        else:
            out = F.scaled_dot_product_attention(
                queries,
                keys,
                values,
                attn_mask=group.mask,
                dropout_p=dropout,
                is_causal=group.causal and group.mask is None,
            )
        out = out.transpose(1, 2)
        if group.block is not None:
            out = out.reshape(group.rows, -1, heads, width)[:, : group.length]
        outputs.append(out.reshape(-1, heads, width))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if order is None:
        return F.pad(joined, (0, 0, 0, 0, 0, plan.fillers)) if plan.fillers else joined
    return _OutOfGroups.apply(joined, order, gaps, inverse)  # type: ignore[no-any-return, no-untyped-call]


def rows_at(x: Tensor, places: Tensor | None) -> Tensor:
    """The rows of x at some places, (N, hidden) to (M, hidden); without places, all of them."""
    return x if places is None else x.index_select(0, places)


class SelfAttention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) with one fused projection.

    Args:
        hidden: width of the vectors.
        heads: of the queries.
        kv_heads: of keys and values; divides `heads`.
        bias: whether the output has one.
        qkv_bias: whether queries, keys and values have one.
        dropout: probability with which attention weights are dropped in training.
    """

    def __init__(
        self, hidden: int, heads: int, kv_heads: int, *, bias: bool, qkv_bias: bool, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dropout = heads, kv_heads, dropout
        width = hidden // heads
        self.qkv = nn.Linear(hidden, (heads + 2 * kv_heads) * width, bias=qkv_bias)
        self.out = nn.Linear(hidden, hidden, bias=bias)

    def forward(
        self,
        x: Tensor,
        plan: Attending,
        rotary: tuple[Tensor, Tensor] | None,
        places: Tensor | None = None,
    ) -> Tensor:
        """(N, hidden) to (N, hidden); with `places` (M,), what comes out there alone: (M, hidden)."""
        heads, shared = self.heads, self.kv_heads
        joined = self.qkv(x).view(len(x), heads + 2 * shared, -1)
        if rotary is None:
            q, k, v = torch.split(joined, [heads, shared, shared], 1)
        else:
            queries_keys, v = torch.split(joined, [heads + shared, shared], 1)
            turned = rotate(queries_keys[:, None], rotary)[:, 0]
            q, k = torch.split(turned, [heads, shared], 1)
        mixed = plan.attend(q, k, v, self.dropout if self.training else 0.0)
        return self.out(rows_at(mixed.reshape(len(x), -1), places))  # type: ignore[no-any-return]
