"""The convolution that ends a decoder of images, from many channels to one or three, fast on CPUs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.nn.precision import product_dtype

_MOST = 3
"""Output channels up to which taps are ahead of the library's convolution on CPUs (docs/log.md)."""
_SIZE = 3


class FewOutputs(nn.Conv2d):
    """A convolution of 3 x 3 with stride 1 that keeps height and width: `nn.Conv2d(…, 3, padding=1)`.

    Libraries of CPUs work on 8 or 16 output channels at once, of which one or three are wanted here: a
    quarter of an auto-encoder's step was spent on its last layer, the one with the fewest products.  Each
    of the nine taps is therefore an output of one product over the channels, and what belongs to the
    same place is added up; backwards the same the other way round.  Parameters, and up to rounding
    values and gradients, are those of `nn.Conv2d`, which does the rest: other devices, wrong shapes.

    Args:
        inputs, outputs: channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, _SIZE, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, height, width) to (batch, outputs, height, width)."""
        if not self._fits(x):
            return super().forward(x)
        dtype = x.dtype if x.dtype == torch.float64 else product_dtype(x)
        if self.out_channels > 1 and dtype.itemsize < 4 and not torch.is_grad_enabled():
            return super().forward(x)  # ahead where nothing is learned
        out: Tensor = _ByTaps.apply(x.to(dtype), self.weight.to(dtype))  # type: ignore[no-untyped-call]
        return (out if self.bias is None else out + self.bias[:, None, None]).to(dtype)

    def _fits(self, x: Tensor) -> bool:
        """Whether taps are ahead, and x is what a convolution takes."""
        if x.device.type != "cpu" or self.out_channels > _MOST or torch.compiler.is_compiling():
            return False
        alike = x.dtype == self.weight.dtype or torch.is_autocast_enabled("cpu")
        return alike and x.dim() == 4 and x.shape[1] == self.in_channels


class _ByTaps(torch.autograd.Function):
    """Half precision is added up in float32, which comes out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        outputs = len(weight)
        with torch.autocast("cpu", enabled=False):
            found = torch.bmm(_taps(weight).expand(batch, -1, -1), x.flatten(2))
            found = found.float() if x.dtype.itemsize < 4 else found
            found = found.view(batch, _SIZE, _SIZE, outputs, height, width)
            out = found.new_zeros(batch, outputs, height + 2, width + 2)
            for i in range(_SIZE):
                for j in range(_SIZE):
                    place = out[:, :, 2 - i : 2 - i + height, 2 - j : 2 - j + width]
                    place += found[:, i, j]
            return out[:, :, 1:-1, 1:-1].contiguous()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        batch, inputs, height, width = x.shape
        outputs = len(weight)
        with torch.autocast("cpu", enabled=False):
            padded = F.pad(slope.to(x.dtype), (1, 1, 1, 1)).contiguous()
            each, plane, row, one = padded.stride()
            # the slopes of what a place gave to, from its last tap to its first
            shape = (batch, _SIZE, _SIZE, outputs, height, width)
            given = padded.as_strided(shape, (each, row, one, plane, row, one))
            given = given.reshape(batch, _SIZE**2 * outputs, height * width)
            backwards = _taps(weight.flip(2, 3))
            x_slope = weight_slope = None
            if ctx.needs_input_grad[0]:
                x_slope = torch.bmm(backwards.T.expand(batch, -1, -1), given).view(x.shape)
            if ctx.needs_input_grad[1]:
                by_example = torch.bmm(given, x.flatten(2).mT)
                summed = by_example.sum(0).view(_SIZE, _SIZE, outputs, inputs)
                weight_slope = summed.flip(0, 1).permute(2, 3, 0, 1)
        return x_slope, weight_slope


def _taps(weight: Tensor) -> Tensor:
    """(9 * outputs, inputs): row by row, column by column, output by output."""
    return weight.permute(2, 3, 0, 1).reshape(-1, weight.shape[1])
