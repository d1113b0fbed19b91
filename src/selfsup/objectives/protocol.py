"""Where objectives and the loop meet: a batch, a loss, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples


class Ratio(NamedTuple):
    """A metric as a sum and the count it is to be divided by, so that parts add up exactly."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, on purpose


class Score(NamedTuple):
    """What an objective makes of one batch."""

    loss_sum: Tensor
    """() the loss, summed over what is scored; the loop divides by the global count."""
    count: Tensor  # type: ignore[assignment]
    """() how much was scored."""
    metrics: Mapping[str, Ratio]
    """What else was measured."""


class Batch(Protocol):
    """Tensors that an objective makes from examples and reads again in its loss."""

    @property
    def token_count(self) -> int:
        """Tokens that the model reads, without fillers."""
        ...

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        ...


B = TypeVar("B", bound=Batch)


class Objective(Protocol[B]):
    """Hides a part of every example and scores the guess.  Knows the model's face, not the loop."""

    def batch(self, examples: Examples, key: Key) -> B:
        """Make a batch; pure: the same examples and key give the same batch."""
        ...

    def loss(self, model: Any, batch: B) -> Score:
        """Score the model's guesses."""
        ...

    def describe(self, examples: Examples) -> str:
        """Where the examples come from, for messages."""
        ...


AnyObjective = Objective[Any]
Model = nn.Module
