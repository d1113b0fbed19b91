"""Low-rank adaptation (Hu et al. 2021, "LoRA"): matrices stay, the product of two thin ones is learned."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TARGETS = {"attention": ("qkv", "out"), "all": ("qkv", "out", "up", "down")}


class LoraLinear(nn.Module):
    """A linear layer whose weight stands still, plus `scale` x up x down.

    `up` starts at zero, so the layer starts as the one it replaces.

    Args:
        base: the layer to adapt; its tensors are taken over and frozen.
        rank: width of the factors.
        alpha: the update is scaled by alpha / rank.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.weight, self.bias = base.weight, base.bias
        self.down = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.up = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        update = F.linear(F.linear(x, self.down), self.up)
        return F.linear(x, self.weight, self.bias) + self.scale * update

    def merged(self) -> nn.Linear:
        """One plain layer that gives the same."""
        out, width = self.weight.shape
        with torch.random.fork_rng(devices=[]):  # its start is drawn, and overwritten
            layer = nn.Linear(width, out, bias=self.bias is not None, device=self.weight.device)
        with torch.no_grad():
            layer.weight.copy_(self.weight + self.scale * (self.up @ self.down))
            if self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer


def add_lora(blocks: nn.Module, rank: int, alpha: float, targets: str, seed: int) -> None:
    """Freeze everything in `blocks` and give its matrices low-rank factors.

    Args:
        blocks: the transformer (its embeddings and norms are frozen too).
        rank, alpha: see `LoraLinear`.
        targets: `attention` (its two projections) or `all` (the feed-forward's too).
        seed: of the factors' start.
    """
    blocks.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parent in list(blocks.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Linear) and name in _TARGETS[targets]:
                    setattr(parent, name, LoraLinear(child, rank, alpha))


def merge_lora(module: nn.Module) -> None:
    """Fold every low-rank update into its matrix; the module then has its plain shape again."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLinear):
                setattr(parent, name, child.merged())
    module.requires_grad_(True)
