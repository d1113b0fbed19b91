"""Cross entropy of a linear layer's output, without keeping the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 24
"""Logits alive at once; 64 MiB in float32."""


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision logits widened; others as they are."""
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


class _LinearCrossEntropy(torch.autograd.Function):
    """Works out the gradients while the logits are there, a chunk of rows at a time.

    The plain way keeps logits, their log-softmax and its gradient; here one chunk is overwritten in
    place: logits, then probabilities, then gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, matrix: Tensor, bias: Tensor, targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        dtype = torch.get_autocast_dtype(x.device.type) if _autocast(x) else x.dtype
        small, w = x.detach().to(dtype), matrix.detach().to(dtype)
        needed = any(ctx.needs_input_grad[:3])
        wide = at_least_float32(small).dtype
        loss = x.new_zeros((), dtype=wide)
        right = x.new_zeros((), dtype=wide)
        grads = (
            (torch.empty_like(small), torch.zeros_like(w, dtype=wide), torch.zeros_like(bias))
            if needed
            else ()
        )
        rows = max(1, CHUNK // len(matrix))
        for low in range(0, len(x), rows):
            part = slice(low, low + rows)
            logits = torch.addmm(bias.detach().to(dtype), small[part], w.mT).to(wide)
            chosen = targets[part, None]
            score = logits.gather(1, chosen)[:, 0]
            best, guess = logits.max(1)
            right += ((guess == targets[part]) * weights[part]).sum()
            probabilities = torch.softmax(logits, 1)
            # the largest probability is 1 / sum(exp(logits - best)), never small
            log_sum = best - probabilities.gather(1, guess[:, None])[:, 0].log()
            loss += ((log_sum - score) * weights[part]).sum()
            if not grads:
                continue
            probabilities.scatter_add_(1, chosen, -torch.ones_like(score)[:, None])
            probabilities *= weights[part, None]
            gradient = probabilities.to(dtype)
            torch.mm(gradient, w, out=grads[0][part])
            grads[1].addmm_(gradient.mT.to(wide), small[part].to(wide))
            grads[2].add_(gradient.sum(0))
        ctx.save_for_backward(*grads)
        ctx.dtypes = (x.dtype, matrix.dtype, bias.dtype)
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        scaled = [
            (g * grad).to(dtype) for g, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None)


def _autocast(x: Tensor) -> bool:
    return torch.is_autocast_enabled(x.device.type)


def linear_cross_entropy(
    x: Tensor, matrix: Tensor, bias: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the cross entropies of softmax(x matrix^T + bias).

    Args:
        x: (M, width).
        matrix: (classes, width).
        bias: (classes,).
        targets: (M,) class numbers.
        weights: (M,) of each row.

    Returns:
        The loss, and the weighted number of rows whose target has the largest logit; both ().
    """
    loss, right = _LinearCrossEntropy.apply(x, matrix, bias, targets, weights)  # type: ignore[no-untyped-call]
    return loss, right
