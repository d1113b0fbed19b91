"""Optimizers: AdamW for everything, or Muon for the body's matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from selfsup.train_config import (
    AdamWConfig,
    MuonConfig,
)

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024
_ITERATIONS = 5


def orthogonalize(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Bring all singular values of each matrix near 1 by five Newton-Schulz iterations.

    Args:
        matrices: (batch, rows, columns).
        dtype: the precision of the products.  torch.optim.Muon always takes bfloat16, which
            processors without units for it emulate.

    Returns:
        (batch, rows, columns), in `dtype`.  Source: Jordan et al. 2024, "Muon".
    """
    a, b, c = _COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is orthogonalized (Jordan et al. 2024), as torch.optim.Muon.

    The update is scaled by 0.2 sqrt(max(rows, columns)), so that its root mean square is that of
    AdamW's (Liu et al. 2025, "Muon is scalable for LLM training") and decay works alike.  Matrices of
    one shape are handled as a batch.

    Args:
        params: two-dimensional parameters.
        lr: learning rate.
        momentum: of the running mean of gradients.
        weight_decay: decoupled.
        dtype: precision of the Newton-Schulz products.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not a tensor of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for same in by_shape.values():
                self._update(same, group)

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        momentum, lr = group["momentum"], group["lr"]
        grads = [p.grad for p in params if p.grad is not None]
        buffers = []
        for p in params:
            state = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        nesterov = torch._foreach_lerp(grads, buffers, momentum)
        updates = orthogonalize(torch.stack(nesterov), self.dtype).to(params[0].dtype)
        scale = 0.2 * max(params[0].shape) ** 0.5
        torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
        torch._foreach_add_(params, list(updates.unbind()), alpha=-lr * scale)


def build_optimizers(
    model: nn.Module,
    config: AdamWConfig | MuonConfig,
    matrices: Collection[str],
    newton_schulz: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """The optimizers of a model's parameters, each of which belongs to exactly one.

    Args:
        model: whose parameters.
        config: which optimizer.
        matrices: names of the parameters that Muon may take.
        newton_schulz: precision of Muon's products.
    """
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    muon = {n for n in matrices if n in named} if isinstance(config, MuonConfig) else set()
    rest = {n: p for n, p in named.items() if n not in muon}
    adam_lr = config.adam_lr if isinstance(config, MuonConfig) else config.lr
    groups = [
        {
            "params": [p for p in rest.values() if p.ndim >= 2],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in rest.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=adam_lr,
            betas=config.betas,
            eps=config.eps,
            fused=True,
        )
    ]
    if muon and isinstance(config, MuonConfig):
        optimizers.append(
            Muon(
                [named[n] for n in sorted(muon)],
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                dtype=newton_schulz,
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def take_step(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """One update by the gradients times a positive factor; the gradients are dropped."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    grads = [p.grad for p in params if p.grad is not None]
    fused = isinstance(optimizer, torch.optim.AdamW)
    if fused and all(grad.device.type == "cpu" for grad in grads):
        # it divides by this within its one pass over the numbers, as for torch's GradScaler
        setattr(optimizer, "grad_scale", torch.tensor(1 / factor, dtype=torch.float32))  # noqa: B010
        optimizer.step()
        delattr(optimizer, "grad_scale")
    else:
        torch._foreach_mul_(grads, factor)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def set_rate(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Set every learning rate to a share of its peak."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
