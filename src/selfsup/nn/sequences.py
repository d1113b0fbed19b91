"""A batch of sequences, one after another, without padding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from selfsup.nn.attention import AttentionPlan, Plan
from selfsup.nn.flash import FlashPlan


@dataclass(frozen=True)
class Sequences:
    """Tokens of B sequences, concatenated.

    `row_length` says that the sequences fill rows of exactly that many tokens and that none crosses
    a row's edge; attention then needs no gathering.
    """

    tokens: Tensor
    """(N,) int64 token ids."""
    positions: Tensor
    """(N,) int64 place of each token in its sequence."""
    starts: Tensor
    """(B + 1,) int64, on the CPU: where each sequence starts, and N."""
    types: Tensor | None = None
    """(N,) int64 segment kinds (sentence A or B); all 0 when not given."""
    row_length: int | None = None

    @cached_property
    def plan(self) -> AttentionPlan:
        """How attention is computed for these lengths; worked out once, used by every layer."""
        return AttentionPlan.build(self.starts, self.row_length, self.tokens.device)

    @cached_property
    def flash_plan(self) -> FlashPlan:
        """The same for a GPU in half precision."""
        longest = self.row_length or int(self.starts.diff().max())
        return FlashPlan(FlashPlan.bounds_of(self.starts, self.tokens.device), longest)

    def plan_for(self, dtype: torch.dtype, width: int) -> Plan:
        """The plan for queries of that format in heads of that width, on this device."""
        fits = FlashPlan.fits(self.tokens.device, dtype, width)
        return self.flash_plan if fits else self.plan

    def to(self, device: torch.device) -> Sequences:
        """The same sequences on another device (the starts stay on the CPU)."""
        moved = replace(
            self,
            tokens=self.tokens.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            types=None if self.types is None else self.types.to(device, non_blocking=True),
        )
        if moved.tokens.device.type == "cuda" and len(self.starts) > 1:
            _ = moved.flash_plan  # now, and not when the GPU waits for it
        return moved

    @staticmethod
    def from_lists(ids: list[np.ndarray], types: list[np.ndarray] | None = None) -> Sequences:
        """Concatenate arrays of token ids (and, where given, of segment kinds)."""
        lengths = np.array([len(x) for x in ids], np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)
        return Sequences(
            tokens=torch.from_numpy(np.concatenate(ids).astype(np.int64)),
            positions=torch.from_numpy(positions),
            starts=torch.from_numpy(starts),
            types=None
            if types is None
            else torch.from_numpy(np.concatenate(types).astype(np.int64)),
        )

    @staticmethod
    def from_padded(tokens: Tensor, mask: Tensor, types: Tensor | None = None) -> Sequences:
        """Drop the padding of a (batch, time) tensor whose `mask` is 1 on real tokens."""
        keep = mask.bool()
        lengths = keep.sum(1).cpu()
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        places = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        return Sequences(tokens[keep], places[keep], starts, None if types is None else types[keep])
