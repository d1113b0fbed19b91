"""Attention on a GPU: torch's flash kernel over sequences as they lie (docs/decisions/0011-gpu.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_WIDEST = 192
"""Heads that torch's flash kernel takes in training on every GPU that has it."""


@dataclass(frozen=True)
class FlashPlan:
    """The same on a GPU in half precision: one kernel over the sequences as they lie (Dao 2023).

    Nothing is padded, gathered or masked, whatever the lengths.
    """

    bounds: Tensor
    """(B + 1 or more,) int32, on the GPU: where each sequence starts, and N, repeated to the end."""
    longest: int
    """No sequence has more tokens."""
    forward_only: bool = False
    """Each token looks at itself and those before it."""
    reach: int = -1
    """Tokens that are seen to each side; -1: all."""

    def filled(self, fillers: int) -> FlashPlan:
        """The same plan for vectors behind which so many rows belong to no sequence."""
        assert not fillers, "a GPU plans no products"
        return self

    @staticmethod
    def fits(device: torch.device, dtype: torch.dtype, width: int) -> bool:
        """Whether the kernel takes heads of that width in that format on that device."""
        half = dtype in {torch.float16, torch.bfloat16}
        if device.type != "cuda" or not half or width % 8 or width > _WIDEST:
            return False
        if torch.version.hip or not torch.backends.cuda.is_flash_attention_available():
            return False
        return torch.cuda.get_device_capability(device) >= (8, 0)

    @staticmethod
    def bounds_of(starts: Tensor, device: torch.device) -> Tensor:
        """`bounds` of sequences beginning at `starts` ((B + 1,), on the CPU).

        Their number is rounded up to a power of two by empty sequences, so that compiled code meets few
        shapes.
        """
        count = len(starts) - 1
        size = 1 << max(0, count - 1).bit_length()
        filled = torch.full((size + 1,), int(starts[-1]), dtype=torch.int32)
        filled[: count + 1] = starts
        return filled.to(device, non_blocking=True)

    def causal(self) -> FlashPlan:
        """The same plan, each token looking at itself and those before it."""
        return replace(self, forward_only=True)

    def windowed(self, reach: int) -> FlashPlan:
        """The same plan, looking at most `reach` tokens to each side."""
        return replace(self, reach=reach)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
        """Scaled dot-product attention within each sequence; see the function of that name."""
        if k.shape[1] != q.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
        found = torch.ops.aten._flash_attention_forward(
            q,
            k,
            v,
            self.bounds,
            self.bounds,
            self.longest,
            self.longest,
            dropout,
            self.forward_only,
            False,
            window_size_left=self.reach,
            window_size_right=0 if self.forward_only else self.reach,
        )
        return found[0]  # type: ignore[no-any-return]
