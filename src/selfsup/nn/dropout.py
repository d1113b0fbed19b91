"""Dropout (Srivastava et al. 2014) whose masks cost a third on CPUs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16


def dropout_mask(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Which numbers of a tensor on the CPU stay, and what they are multiplied by.

    Four 16-bit draws come from each 64-bit number of torch's generator.
    """
    dropped = round(p * _STEPS)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[: x.numel()].view(x.shape)
    return draws >= dropped - _STEPS // 2, _STEPS / (_STEPS - dropped)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep, ctx.scale = dropout_mask(x, p)
        ctx.save_for_backward(keep)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (grad * keep).mul_(ctx.scale), None


def dropout(x: Tensor, p: float) -> Tensor:
    """Set each number to 0 with probability p, and scale the others so that the mean stays.

    On CPUs p is taken to the nearest 1/65,536, and the scale belongs to what is taken, so nothing is
    biased; torch's own draws one number an element there, and took a tenth of a step (docs/log.md).
    """
    if not p:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    return _Dropout.apply(x, p)  # type: ignore[no-any-return, no-untyped-call]


class Dropout(nn.Module):
    """`dropout` while training."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return dropout(x, self.p) if self.training else x
