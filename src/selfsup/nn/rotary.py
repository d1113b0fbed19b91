"""Rotary positions: queries and keys turned by angles that grow with the place."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from selfsup.config import RopeScalingConfig


def rotary_tables(
    positions: Tensor, width: int, theta: float, scaling: RopeScalingConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (N, 1, 1, width / 2), of the rotary angles (Su et al. 2021, RoFormer)."""
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    frequencies = 1.0 / theta**exponent
    if scaling is not None:
        frequencies = _stretched(frequencies, scaling)
    angles = positions[:, None].float() * frequencies.float()
    angles = angles[:, None, None]
    return angles.cos(), angles.sin()


def _stretched(frequencies: Tensor, scaling: RopeScalingConfig) -> Tensor:
    """Frequencies slowed down for longer contexts.

    `linear` slows all (Chen et al. 2023, position interpolation); `llama3` those whose wave is long
    against the first context, with a ramp between (Grattafiori et al. 2024, Llama 3.1).
    """
    slow = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slow
    turns = scaling.original_length * frequencies / (2 * math.pi)
    share = (turns - scaling.low) / (scaling.high - scaling.low)
    share = share.clamp(0, 1)
    return (1 - share) * slow + share * frequencies


class _Rotate(torch.autograd.Function):
    """One pass over each half instead of a negation, a concatenation and three products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    (left, right), (new_left, new_right) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(left, cos, out=new_left).addcmul_(right, sin, value=-1)
    torch.mul(right, cos, out=new_right).addcmul_(left, sin)
    return out


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Turn pairs (i, i + width / 2) of x (N, parts, heads, width) by the angles of `rotary_tables`."""
    rotated: Tensor = _Rotate.apply(x, *tables)  # type: ignore[no-untyped-call]
    return rotated
