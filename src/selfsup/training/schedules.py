"""The learning rate as a function of the budget's progress, in steps, tokens or minutes alike."""

from __future__ import annotations

import math

from selfsup.train_config import (
    Budget,
    ScheduleConfig,
)


def progress(budget: Budget, *, steps: int, tokens: int, seconds: float) -> float:
    """How much of the budget is used, from 0 to 1 and beyond."""
    used = {"steps": float(steps), "tokens": float(tokens), "minutes": seconds / 60}
    return used[budget.unit] / budget.amount


def step_share(budget: Budget) -> float:
    """What a step uses of a budget in steps; 0 for one in tokens or minutes, of which a step is little."""
    return 1 / budget.amount if budget.unit == "steps" else 0.0


def rate(schedule: ScheduleConfig, at: float, step: float = 0.0) -> float:
    """The learning rate at a progress in [0, 1], as a share of its peak.

    Args:
        schedule: how it rises and falls.
        at: how much of the budget is used.
        step: what a step uses, where that is known.  A warm-up that is over within the first step would
            only make that one learn nothing: there is none.
    """
    at = min(max(at, 0.0), 1.0)
    warmup = schedule.warmup if step <= schedule.warmup else 0.0
    if at < warmup:
        return at / warmup
    floor = schedule.floor
    match schedule.kind:
        case "constant":
            return 1.0
        case "trapezoid":
            left = min(1.0, (1 - at) / schedule.decay)
        case _:
            left = (1 - at) / (1 - warmup)
    if schedule.kind == "cosine":
        left = 0.5 - 0.5 * math.cos(math.pi * left)
    return floor + (1 - floor) * left
