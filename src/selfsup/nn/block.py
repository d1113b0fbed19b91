"""The transformer's block: norm, attention, norm, feed-forward, in either order."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.config import TransformerConfig
from selfsup.nn.attention import Attending, SelfAttention, rows_at
from selfsup.nn.dropout import Dropout


def activate(x: Tensor, name: str) -> Tensor:
    """Apply the named activation; `gelu` is the exact one, `gelu_tanh` its approximation."""
    match name:
        case "gelu":
            return F.gelu(x)
        case "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        case "silu":
            return F.silu(x)
        case "relu":
            return F.relu(x)
    raise ValueError(f"unknown activation {name!r}")


def make_norm(config: TransformerConfig) -> nn.Module:
    """LayerNorm or RMSNorm over the hidden width."""
    if config.norm == "rmsnorm":
        return nn.RMSNorm(config.hidden_size, eps=config.norm_eps)
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.bias)


class FeedForward(nn.Module):
    """Two linear layers with an activation between, or its gated form (Shazeer 2020, GLU variants)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation, self.gated = config.activation, config.gated
        inner = config.intermediate_size * (2 if config.gated else 1)
        self.up = nn.Linear(config.hidden_size, inner, bias=config.bias)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, hidden) to (N, hidden)."""
        x = self.up(x)
        if self.gated:
            x, gate = x.chunk(2, -1)
            x = activate(x, self.activation) * gate
        else:
            x = activate(x, self.activation)
        return self.down(x)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer; `first` leaves out the norm before attention when the embeddings were just normed."""

    def __init__(self, config: TransformerConfig, *, first: bool, window: int | None) -> None:
        super().__init__()
        self.pre = config.norm_position == "pre"
        self.reach = None if window is None else window // 2
        self.attention_norm = nn.Identity() if self.pre and first else make_norm(config)
        self.attention = SelfAttention(
            config.hidden_size,
            config.num_heads,
            config.kv_heads,
            bias=config.bias,
            qkv_bias=config.bias if config.qkv_bias is None else config.qkv_bias,
            dropout=config.attention_dropout,
        )
        self.mlp_norm = make_norm(config)
        self.mlp = FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        plan: Attending,
        rotary: tuple[Tensor, Tensor] | None,
        places: Tensor | None = None,
    ) -> Tensor:
        """(N, hidden) to (N, hidden); with `places` (M,), what comes out there alone: (M, hidden).

        All tokens are looked at either way, but only those at the places are worked on behind attention.
        """
        if self.reach is not None:
            plan = plan.windowed(self.reach)
        if self.pre:
            mixed = self.attention(self.attention_norm(x), plan, rotary, places)
            x = rows_at(x, places) + self.dropout(mixed)
            return x + self.dropout(self.mlp(self.mlp_norm(x)))  # type: ignore[no-any-return]
        mixed = self.attention(x, plan, rotary, places)
        x = self.attention_norm(rows_at(x, places) + self.dropout(mixed))
        return self.mlp_norm(x + self.dropout(self.mlp(x)))  # type: ignore[no-any-return]
