"""Dropout (Srivastava et al. 2014) whose masks are cheap on CPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STEPS = 1 << 16


def dropout_mask(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Which numbers of a tensor on the CPU stay (int16, 1 or 0), and what they are multiplied by.

    Torch's generator, which takes one number after another, gives a seed alone; the draws are 16 bits
    each of NumPy's SFC64, and the mask lies where they were.
    """
    dropped = round(p * _STEPS)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw((x.numel() + 3) // 4)
    draws = torch.from_numpy(words.view(np.int16))[: x.numel()].view(x.shape)
    return draws.ge_(dropped - _STEPS // 2), _STEPS / (_STEPS - dropped)


def keep_only(x: Tensor, keep: Tensor) -> Tensor:
    """The numbers of x that stay, 0 for the others.

    Numbers of 16 bits are multiplied as integers: a product of two formats is taken in passes of its
    own, nine times as slow (docs/log.md).  What is dropped is 0 there, also where it was no number.
    """
    if x.dtype in (torch.bfloat16, torch.float16):
        return (x.contiguous().view(torch.int16) * keep).view(x.dtype)
    return x * keep


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        keep, ctx.scale = dropout_mask(x, p)
        ctx.save_for_backward(keep)
        return keep_only(x, keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return keep_only(grad, keep).mul_(ctx.scale), None


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
