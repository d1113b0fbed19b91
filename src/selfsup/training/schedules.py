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


def rate(schedule: ScheduleConfig, at: float) -> float:
    """The learning rate at a progress in [0, 1], as a share of its peak."""
    at = min(max(at, 0.0), 1.0)
    if at < schedule.warmup:
        return at / schedule.warmup
    floor = schedule.floor
    match schedule.kind:
        case "constant":
            return 1.0
        case "trapezoid":
            left = min(1.0, (1 - at) / schedule.decay)
        case _:
            left = (1 - at) / (1 - schedule.warmup)
    if schedule.kind == "cosine":
        left = 0.5 - 0.5 * math.cos(math.pi * left)
    return floor + (1 - floor) * left
