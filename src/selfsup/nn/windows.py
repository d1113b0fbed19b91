"""Attention that looks a few tokens to each side, by blocks: long rows cost as much a token as short ones."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

_STEP, _NARROWEST = 16, 32
"""Blocks are multiples of so many tokens, and not smaller: products of less take as long."""
_ROOM = 2
"""Times a block with its neighbours that a row must be long for blocks to pay."""


def block_size(length: int, reach: int) -> int | None:
    """Tokens of a block for rows of that length, none smaller than the reach; None: rows stay whole."""
    size = max(_NARROWEST, -(-reach // _STEP) * _STEP)
    return size if length >= _ROOM * 3 * size else None


def earlier_mask(queries: int, keys: int, device: torch.device, behind: int = 0) -> Tensor:
    """(queries, keys), true where a key stands no later than the query.

    Args:
        queries, keys: how many there are.
        device: where it is wanted.
        behind: place of the first query among the keys.
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril_(behind)


def near_mask(mask: Tensor | None, length: int, reach: int, device: torch.device) -> Tensor:
    """Which tokens see each other in rows that stay whole, (rows or 1, 1, length, length).

    Args:
        mask: (rows, 1, length or 1, length), true where a query may look at all; None: everywhere.
        length: of the rows.
        reach: tokens that are seen to each side.
        device: where it is wanted.
    """
    place = torch.arange(length, device=device)
    near = ((place[:, None] - place[None, :]).abs() <= reach)[None, None]
    seen = near if mask is None else near & mask
    # a gap far from every token sees itself: a row of nothing would be no number
    return seen | (place[:, None] == place[None, :])


def block_mask(
    mask: Tensor | None, rows: int, length: int, reach: int, size: int, device: torch.device
) -> Tensor:
    """The same by blocks: each query, its block and the two beside it, (rows x blocks, 1, size, 3 size)."""
    blocks = -(-length // size)
    asking = torch.arange(blocks * size, device=device).view(blocks, size, 1)
    asked = torch.arange(-size, 2 * size, device=device) + size * torch.arange(
        blocks, device=device
    ).view(blocks, 1, 1)
    seen = ((asking - asked).abs() <= reach) & (asked >= 0) & (asked < length)
    seen = seen.expand(rows, blocks, size, 3 * size)
    if mask is not None:
        known = asked.clamp(0, length - 1)
        if mask.shape[2] == 1:
            seen = seen & mask[:, 0, 0, known]
        else:
            seen = seen & mask[:, 0, asking.clamp_max(length - 1), known]
    return (seen | (asking == asked)).reshape(rows * blocks, 1, size, 3 * size)


def into_blocks(x: Tensor, size: int) -> Tensor:
    """(rows, length, heads, width) to (rows, blocks, size, heads, width), zeros behind the end."""
    missing = -x.shape[1] % size
    if missing:
        x = F.pad(x, (0, 0, 0, 0, 0, missing))
    return x.reshape(len(x), -1, size, *x.shape[2:])


class _WithNeighbours(torch.autograd.Function):
    """Each block between the one before it and the one behind it; zeros beyond the ends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows, blocks, *rest = x.shape
        out = x.new_empty(rows, blocks, 3, *rest)
        out[:, :, 1] = x
        out[:, 1:, 0], out[:, :-1, 2] = x[:, :-1], x[:, 1:]
        out[:, 0, 0], out[:, -1, 2] = 0, 0
        return out.flatten(2, 3)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        parts = grad.reshape(*grad.shape[:2], 3, -1, *grad.shape[3:])
        back: Tensor = parts[:, :, 1].clone()
        back[:, :-1] += parts[:, 1:, 0]
        back[:, 1:] += parts[:, :-1, 2]
        return back


def with_neighbours(blocks: Tensor) -> Tensor:
    """(rows, blocks, size, heads, width) to (rows, blocks, 3 size, heads, width)."""
    return cast(Tensor, _WithNeighbours.apply(blocks))  # type: ignore[no-untyped-call]
