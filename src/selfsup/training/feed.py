"""Batches for the loop; on a GPU the next one is made while the GPU works on the last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from selfsup.objectives.protocol import Batch


class Feed:
    """Hands out batches by step and part.

    Batches are pure functions of their place, so it does not matter when they are made.

    Args:
        make: the batch of a step's part, on the CPU.
        device: where it is wanted.
    """

    def __init__(self, make: Callable[[int, int], Any], device: torch.device) -> None:
        self.make, self.device = make, device
        # copies on a stream of their own do not wait for the work that is queued on the GPU
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.place = (-1, -1)
        self.ready: Batch | None = None
        self.used: list[Batch] = []
        """This step's batches: the GPU may read them until the loop has waited for it."""

    def prepare(self, step: int, part: int) -> None:
        """Make that batch now, where a GPU works meanwhile; on a CPU nothing would be won."""
        if self.stream is None:
            return
        with torch.cuda.stream(self.stream):
            self.ready = self.make(step, part).to(self.device)
        self.place = (step, part)

    def take(self, step: int, part: int) -> Batch:
        """The batch, on the device; the loop waits for the GPU between two steps."""
        if self.stream is None:
            made: Batch = self.make(step, part).to(self.device)
            return made
        if self.ready is None or self.place != (step, part):
            self.prepare(step, part)
        assert self.ready is not None
        batch, self.ready = self.ready, None
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        self.used = [batch] if part == 0 else [*self.used, batch]
        return batch
