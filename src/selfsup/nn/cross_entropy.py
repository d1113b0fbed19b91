"""Cross entropy of a linear layer's output, without keeping the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from selfsup.nn.gpu import runs_kernels
from selfsup.nn.precision import product_dtype

CHUNK = 1 << 25
"""Logits alive at once; 64 MiB in bfloat16."""
GPU_CHUNK = 1 << 28
"""The same on a GPU, which has the memory and whose products want to be large; 512 MiB in bfloat16."""
BLOCK = 1 << 20
"""Logits that a CPU handles in float32 at once; 4 MiB, which its caches hold."""


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision logits widened; others as they are."""
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


class _LinearCrossEntropy(torch.autograd.Function):
    """Works out the gradients while the logits are there, a chunk of rows at a time.

    The plain way keeps logits, their log-softmax and its gradient, each in memory of its own; here
    one buffer holds in turn logits and gradient.  Weights are applied to the narrow
    factors of each product, never to the wide one.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, matrix: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype = product_dtype(x)
        small, w = x.detach().to(dtype), matrix.detach().to(dtype)
        wide = torch.promote_types(dtype, torch.float32)
        needed = any(ctx.needs_input_grad[:3])
        loss, right = x.new_zeros((), dtype=wide), x.new_zeros((), dtype=wide)
        d_small = torch.empty_like(small)
        d_matrix: Tensor | None = None
        d_bias = None if bias is None else torch.zeros_like(bias, dtype=wide)
        chunk = CHUNK if x.device.type == "cpu" else GPU_CHUNK
        parts = -(-len(x) * len(w) // chunk) or 1
        rows = -(-len(x) // parts)  # equal parts: each new shape of a product is planned anew
        narrow = small.new_empty(rows, len(w))
        for low in range(0, len(x), rows):
            part = slice(low, low + rows)
            xs, weight = small[part], weights[part].to(wide)
            scores = torch.mm(xs, w.mT, out=narrow[: len(xs)])
            found = _into_gradients(scores, bias, targets[part], weight, d_bias, needed)
            loss += found[0]
            right += found[1]
            if not needed:
                continue
            torch.mm(scores, w, out=d_small[part]).mul_(weight[:, None])
            product = torch.mm(scores.mT, xs * weight[:, None].to(dtype))
            # one part: as it came; several: summed in full precision
            d_matrix = product if d_matrix is None else d_matrix.to(wide).add_(product)
        if needed:
            ctx.save_for_backward(d_small, d_matrix, d_bias)
            ctx.dtypes = (x.dtype, matrix.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        as_is = grad.device.type == "cpu" and float(grad) == 1  # as a rule; spares a pass
        scaled = [g if g is None or as_is else g * grad for g in ctx.saved_tensors]
        pairs = zip(scaled, ctx.dtypes, strict=True)
        return (*(None if g is None else g.to(dtype) for g, dtype in pairs), None, None)


def _into_gradients(
    scores: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    weight: Tensor,
    d_bias: Tensor | None,
    needed: bool,
) -> tuple[Tensor, Tensor]:
    """Put the gradients of the losses in the place of the scores; what needs width, in a small buffer.

    Args:
        scores: (M, classes); overwritten.
        bias: (classes,) to be added to them, or None.
        targets: (M,).
        weight: (M,) of each row's loss; the gradients are without it.
        d_bias: (classes,) gets the bias's gradient added, or None.
        needed: whether gradients are; else what stands in the scores afterwards means nothing.

    Returns:
        The weighted sum of the losses, and the weighted number of rows whose target is first.
    """
    wide = weight.dtype
    if wide == torch.float32 and runs_kernels(scores.device):
        from selfsup.nn.cross_entropy_kernel import softmax_gradients

        losses, first = softmax_gradients(scores, bias, targets, needed)
        if needed and d_bias is not None:
            d_bias += torch.mv(scores.mT, weight.to(scores.dtype))
        # sums and no products: autocast would round those to bfloat16
        return (losses * weight).sum(), (first * weight).sum()
    loss, right = weight.new_zeros(()), weight.new_zeros(())
    rows = len(scores)
    if scores.device.type == "cpu":
        rows = min(rows, max(1, BLOCK // scores.shape[1]))
    buffer = None if scores.dtype == wide else scores.new_empty(rows, scores.shape[1], dtype=wide)
    for low in range(0, len(scores), rows):
        part = slice(low, low + rows)
        given, chosen, share = scores[part], targets[part, None], weight[part]
        logits = given if buffer is None else buffer[: len(given)].copy_(given)
        if bias is not None:
            logits.add_(bias.detach())
        best, score = logits.amax(1), logits.gather(1, chosen)[:, 0]
        right += ((score >= best) * share).sum()
        torch.softmax(logits, 1, out=logits)
        # the largest probability is 1 / sum(exp(logits - best)), never small
        log_sum = best - logits.amax(1).log()
        loss += ((log_sum - score) * share).sum()
        if not needed:
            continue
        logits.scatter_add_(1, chosen, logits.new_full((1, 1), -1.0).expand_as(chosen))
        if d_bias is not None:
            d_bias += torch.mv(logits.mT, share)
        if buffer is not None:
            given.copy_(logits)
    return loss, right


def linear_cross_entropy(
    x: Tensor, matrix: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the cross entropies of softmax(x matrix^T + bias).

    Products are taken in autocast's precision, the softmax in float32 or better.

    Args:
        x: (M, width).
        matrix: (classes, width).
        bias: (classes,), or None.
        targets: (M,) class numbers.
        weights: (M,) of each row.

    Returns:
        The loss, and the weighted number of rows whose target has the largest logit; both ().
    """
    loss, right = _LinearCrossEntropy.apply(x, matrix, bias, targets, weights)  # type: ignore[no-untyped-call]
    return loss, right
