"""Where a run stands, and what it gives back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from selfsup.training.devices import Precision


@dataclass
class State:
    """Where a run stands.

    With the weights and the optimizers' state it is all that resuming needs: order, masks and
    dropout are functions of the step.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    marks: int = 0
    """Evaluations so far, as shares of the budget."""
    best: float = math.inf
    best_step: int = -1
    initial: dict[str, float] = field(default_factory=dict)
    heldout: dict[str, float] = field(default_factory=dict)
    saved: tuple[int, int, float] = (0, 0, 0.0)
    """Step, tokens and seconds at the last checkpoint."""


@dataclass(frozen=True)
class Outcome:
    """What a finished training gives back."""

    state: State
    resumed_from: int
    tokens_per_second: float
    """The median over all steps but the first few."""
    share_of_peak: float
    precision: Precision
