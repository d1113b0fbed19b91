"""Held-out examples, scored the same way each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.objectives.protocol import AnyObjective, Ratio
from selfsup.training import distributed
from selfsup.training.devices import Precision

HELDOUT_KEY = Key(seed=0, purpose=1)
"""Held-out examples are hidden with this key in every run, so that losses compare."""
_NOTICEABLE = 0.05  # nats


class Examination(Protocol):
    """What the loop asks of held-out examples: scores, and which of them decides."""

    def evaluator(
        self, size: int, device: torch.device, precision: Precision
    ) -> Callable[[nn.Module], dict[str, float]]:
        """A function from the model to its scores, `loss` among them; `size` examples at once."""
        ...

    def badness(self, values: Mapping[str, float]) -> float:
        """What the best weights have least of."""
        ...

    def stuck(self, values: Mapping[str, float]) -> str:
        """Why the scores look as if nothing were learned; empty: they do not."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Which examples, and the objective that scores them."""

    objective: AnyObjective
    examples: Examples
    floor: Mapping[str, float] = field(default_factory=dict)
    """What guessing without reading gives, by metric; a run that stays there is told so."""

    def evaluator(self, size: int, device: torch.device, precision: Precision) -> Evaluator:
        """Scores models on these examples."""
        return Evaluator(self, size, device, precision)

    def badness(self, values: Mapping[str, float]) -> float:
        """The loss."""
        return values["loss"]

    def stuck(self, values: Mapping[str, float]) -> str:
        """The metric that is no better than its floor, with both numbers; empty: all are better."""
        for name, floor in self.floor.items():
            if values[name] > floor - _NOTICEABLE:
                return f"{name.replace('_', ' ')} {values[name]:.3f}, a guess without reading {floor:.3f}"
        return ""


class Evaluator:
    """Scores a model on an evaluation's examples; batches are made once and kept.

    Args:
        evaluation: the examples.
        size: how many at once in one process.
        device: where the model is.
        precision: in which it runs.
    """

    def __init__(
        self, evaluation: Evaluation, size: int, device: torch.device, precision: Precision
    ) -> None:
        self.evaluation, self.size = evaluation, max(1, size)
        self.device, self.precision = device, precision
        self._batches: list[Any] = []

    def _make_batches(self) -> Iterator[Any]:
        rank, world = distributed.rank(), distributed.world_size()
        rows, epochs = (part[rank::world] for part in self.evaluation.examples)
        for first in range(0, len(rows), self.size):
            part = slice(first, first + self.size)
            yield self.evaluation.objective.batch(Examples(rows[part], epochs[part]), HELDOUT_KEY)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """`loss` and whatever the objective measures, over the examples of all processes."""
        self._batches = self._batches or list(self._make_batches())
        training = model.training
        model.eval()
        sums: dict[str, Tensor] = {}
        with torch.no_grad(), self.precision.autocast(self.device):
            for batch in self._batches:
                score = self.evaluation.objective.loss(model, batch.to(self.device))
                parts = {"loss": Ratio(score.loss_sum, score.count), **score.metrics}
                for name, ratio in parts.items():
                    pair = torch.stack([ratio.total, ratio.count]).double().cpu()
                    sums[name] = (
                        sums.get(name, torch.zeros(2, dtype=torch.float64, device="cpu")) + pair
                    )
        model.train(training)
        names = sorted(sums)
        joined = distributed.add_up(torch.stack([sums[n] for n in names]))
        pairs = zip(names, joined.tolist(), strict=True)
        return {name: total / count if count else math.nan for name, (total, count) in pairs}
