"""Linear layers' products over weights laid out for the processor, where no gradient is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.nn.block import Block
from selfsup.nn.precision import plans_products

Product = Callable[[Tensor], Tensor]
"""(N, inputs) to (N, outputs)."""

_WIDER = 4
"""Outputs for an input up to which a plain float32 product of one row is ahead."""


def make_product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype, rows: int) -> Product:
    """A linear layer's product in float32 or bfloat16.

    On CPUs torch's plain product of one row and a matrix is slow in bfloat16, and of several rows in both:
    oneDNN's, over a weight in blocks, is not (`benchmarks/generation_speed.py`).  In float32 the plain one
    is ahead for a row and somewhat more outputs than inputs; elsewhere it takes up to twice as long.
    """
    weight = weight.detach().to(dtype)
    bias = None if bias is None else bias.detach().to(dtype)
    blocked = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.device.type != "cpu" or not blocked:
        return lambda x: F.linear(x, weight, bias)
    outputs, inputs = weight.shape
    if rows == 1 and dtype == torch.float32 and inputs < outputs <= _WIDER * inputs:
        columns = weight.T.contiguous()
        if bias is None:
            return lambda x: x @ columns
        return lambda x: torch.addmm(bias, x, columns)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    linear = torch.ops.mkldnn._linear_pointwise
    return lambda x: cast(Tensor, linear(x, packed, bias, "none", [], ""))


class _LaidOut(nn.Module):
    """A linear layer that takes its product over a copy of its weight."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype, rows: int) -> None:
        super().__init__()
        self.dtype, self.product = dtype, make_product(layer.weight, layer.bias, dtype, rows)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) to (N, outputs), in the copy's format."""
        return self.product(x.to(self.dtype))


@contextmanager
def laid_out(model: nn.Module, dtype: torch.dtype, rows: int, tokens: int) -> Iterator[None]:
    """Within, the blocks of a model on a CPU keep copies of their weights as bfloat16 products want them.

    Autocast casts them for every batch instead, and oneDNN turns them into its blocks in every product:
    reading many batches is up to a quarter faster so (docs/log.md).  Compiled blocks, other devices and
    formats stay as they are.

    Args:
        model: in evaluation; it is as it was afterwards.
        dtype: of the products.
        rows: tokens in a batch.
        tokens: that will be read in all; for a single batch copies do not pay, and none are made.
    """
    kept: list[tuple[nn.Module, str, nn.Linear]] = []
    for block in model.modules() if tokens > rows else ():
        if not isinstance(block, Block) or block._compiled_call_impl is not None:
            continue
        parts: tuple[nn.Module, ...] = (block.attention, block.mlp)
        for parent in parts:
            for name, layer in parent.named_children():
                if type(layer) is nn.Linear and plans_products(layer.weight.device, dtype):
                    kept.append((parent, name, layer))
    try:
        for parent, name, layer in kept:
            setattr(parent, name, _LaidOut(layer, dtype, rows))
        yield
    finally:
        for parent, name, layer in kept:
            setattr(parent, name, layer)
