"""The softmax of the cross entropy on a GPU: scores in, gradients out, in their place.

Imported only where `gpu.runs_kernels`; Triton comes with torch's CUDA builds for Linux.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 4096
"""Classes that one program holds at once."""


@triton.jit  # type: ignore[untyped-decorator]
def _softmax_gradients(  # type: ignore[no-untyped-def]  # Triton would take annotations as settings
    scores,
    bias,
    targets,
    losses,
    right,
    classes,
    has_bias: tl.constexpr,
    needed: tl.constexpr,
    block: tl.constexpr,
):
    """One program a row: the running maximum and sum in one pass, the gradients in a second."""
    row = tl.program_id(0)
    line = scores + row.to(tl.int64) * classes
    target = tl.load(targets + row)
    score = tl.load(line + target).to(tl.float32)
    if has_bias:
        score += tl.load(bias + target).to(tl.float32)
    best = float("-inf")
    total = 0.0
    for low in range(0, classes, block):
        at = low + tl.arange(0, block)
        inside = at < classes
        x = tl.load(line + at, mask=inside, other=float("-inf")).to(tl.float32)
        if has_bias:
            x += tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
        higher = tl.maximum(best, tl.max(x, 0))
        total = total * tl.exp(best - higher) + tl.sum(tl.exp(x - higher), 0)
        best = higher
    log_sum = best + tl.log(total)
    tl.store(losses + row, log_sum - score)
    tl.store(right + row, (score >= best).to(tl.float32))
    if needed:
        tl.debug_barrier()  # the target's score is read before it is written over
        for low in range(0, classes, block):
            at = low + tl.arange(0, block)
            inside = at < classes
            x = tl.load(line + at, mask=inside, other=float("-inf")).to(tl.float32)
            if has_bias:
                x += tl.load(bias + at, mask=inside, other=0.0).to(tl.float32)
            x = tl.exp(x - log_sum) - (at == target).to(tl.float32)
            tl.store(line + at, x.to(scores.dtype.element_ty), mask=inside)


def softmax_gradients(
    scores: Tensor, bias: Tensor | None, targets: Tensor, needed: bool
) -> tuple[Tensor, Tensor]:
    """Put the gradients of the losses in the place of the scores.

    Args:
        scores: (M, classes), contiguous; overwritten where gradients are needed.
        bias: (classes,) to be added to them, or None.
        targets: (M,), each from 0 to classes - 1.
        needed: whether gradients are.

    Returns:
        The losses, and 1 where the target has the largest score; both (M,) float32.
    """
    assert scores.is_contiguous()
    rows, classes = scores.shape
    losses, right = (scores.new_empty(rows, dtype=torch.float32) for _ in range(2))
    with torch.cuda.device_of(scores):  # type: ignore[no-untyped-call]  # Triton starts kernels where torch stands
        _softmax_gradients[(rows,)](
            scores,
            scores if bias is None else bias.contiguous(),
            targets.contiguous(),
            losses,
            right,
            classes,
            has_bias=bias is not None,
            needed=needed,
            block=min(_BLOCK, triton.next_power_of_2(classes)),
            num_warps=8,
        )
    return losses, right
