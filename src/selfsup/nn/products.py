"""Linear layers' products over weights laid out for the processor, where no gradient is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.nn.block import Block
from selfsup.nn.precision import plans_products, product_dtype

Product = Callable[[Tensor], Tensor]
"""(N, inputs) to (N, outputs)."""

_LAYING_OUT = Lock()
"""Two threads that read with one model do not both change a layer."""
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
    if weight.device.type != "cpu" or not _has_blocks(dtype):
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


@contextmanager
def weights_laid_out(
    model: nn.Module, dtype: torch.dtype, rows: int, tokens: int
) -> Iterator[None]:
    """Within, the blocks of a model on a CPU multiply by copies of their weights, as bfloat16 wants them.

    Autocast casts them for every batch instead, and oneDNN turns them into its blocks in every product:
    reading many batches is up to a quarter faster so (docs/log.md).  Whoever else asks the model
    meanwhile, with gradients or in another format, gets the plain products.  Compiled blocks, layers
    with low-rank factors, other devices and formats stay as they are, and the copies do not follow
    changes of the weights.

    Args:
        model: in evaluation; its modules, parameters and hooks stay in their places.
        dtype: of the products.
        rows: tokens in a batch.
        tokens: that will be read in all; for a single batch copies do not pay, and none are made.
    """
    changed: list[nn.Linear] = []
    try:
        with _LAYING_OUT:
            for layer in _linear_layers(model) if tokens > rows else ():
                fits = plans_products(layer.weight.device, dtype) and _has_blocks(dtype)
                if fits and "forward" not in vars(layer):  # else another reader has laid it out
                    setattr(layer, "forward", _reader(layer, dtype, rows))  # noqa: B010
                    changed.append(layer)
        yield
    finally:
        for layer in changed:
            delattr(layer, "forward")


def _linear_layers(model: nn.Module) -> Iterator[nn.Linear]:
    for block in model.modules():
        if isinstance(block, Block) and block._compiled_call_impl is None:
            parts: tuple[nn.Module, ...] = (block.attention, block.mlp)
            for part in parts:
                yield from (x for x in part.children() if type(x) is nn.Linear)


def _reader(layer: nn.Linear, dtype: torch.dtype, rows: int) -> Product:
    product = make_product(layer.weight, layer.bias, dtype, rows)

    def read(x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or product_dtype(x) != dtype:
            return F.linear(x, layer.weight, layer.bias)
        return product(x.to(dtype))

    return read


def _has_blocks(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and multiplies in this format on this processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
