"""Scoring a model on a labelled set: answers are read once, metrics stream, logits are not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.errors import no_numbers
from selfsup.models.task_model import TaskModel
from selfsup.nn.side_by_side import read_texts
from selfsup.objectives.labels import LabelledBatch, LabelObjective
from selfsup.training.devices import Precision

TOKENS_AT_ONCE = 4096
_TIE = 1e-6


class Collector(Protocol):
    """Takes the answers of one batch after another and keeps what scores and predictions need."""

    def add(self, batch: LabelledBatch, answers: Tensor) -> None:
        """Answers as `TaskModel.forward` gives them, float32, on the CPU."""
        ...

    def scores(self) -> dict[str, float]:
        """The task's metrics; needs labels."""
        ...

    def predictions(self) -> Iterator[dict[str, Any]]:
        """One object for each example, in the file's order, made when it is asked for."""
        ...


class LabelledSet(Protocol):
    """One file's examples: an objective, and what is made of the model's answers."""

    @property
    def objective(self) -> LabelObjective:
        """Batches and losses."""
        ...

    @property
    def main(self) -> str:
        """The score that chooses among weights; more is better."""
        ...

    def __len__(self) -> int: ...

    def collector(self, *, keep: bool = True) -> Collector:
        """A new, empty one; without `keep`, one for scores alone."""
        ...


def read_answers(
    model: TaskModel,
    part: LabelledSet,
    device: torch.device,
    precision: Precision,
    *,
    tokens: int = TOKENS_AT_ONCE,
    with_loss: bool = True,
    finite: bool = True,
    keep: bool = True,
    progress: Callable[[float], None] | None = None,
) -> tuple[Collector, float]:
    """Let a model read a labelled set.

    Args:
        model: already on the device.
        part: what to read.
        device, precision: where and how.
        tokens: of a batch; changes speed and memory, not the answers.
        with_loss: compute the loss too; needs labels.
        finite: refuse answers that are NaN or infinite.
        keep: also what predictions need; of many classes that is far more than scores do.
        progress: called with the share that is done.

    Returns:
        The collector that has seen every answer, and the mean loss (NaN without).
    """
    objective, collector = part.objective, part.collector(keep=keep)
    lengths = [len(x) for x in objective.ids]
    total = torch.zeros(2, dtype=torch.float64)
    was, done = model.training, 0
    model.eval()

    def read(rows: NDArray[np.int64]) -> tuple[LabelledBatch, Tensor, Tensor | None]:
        batch = objective.batch(Examples(rows, np.zeros_like(rows)), Key(0)).to(device)
        with precision.autocast(device):
            answers = objective.answers(model, batch)
        if finite and not bool(answers.isfinite().all()):
            raise no_numbers("", mend="check its weights, or try --precision fp32")
        if not with_loss:
            return batch, answers.float().cpu(), None
        score = objective.loss_of(answers, batch)
        sums = torch.stack([score.loss_sum, score.count]).double().cpu()
        return batch, answers.float().cpu(), sums

    try:
        for batch, answers, sums in read_texts(read, lengths, model, precision.dtype, tokens):
            if sums is not None:
                total += sums
            collector.add(batch, answers)
            done += len(batch.rows)
            if progress:
                progress(done / len(lengths))
    finally:
        model.train(was)
    loss = float(total[0] / total[1]) if with_loss and total[1] else float("nan")
    return collector, loss


@dataclass(frozen=True)
class Judge:
    """The dev part of a task, as the loop looks at it."""

    part: LabelledSet
    tokens: int = TOKENS_AT_ONCE

    def evaluator(
        self, size: int, device: torch.device, precision: Precision
    ) -> Callable[[nn.Module], dict[str, float]]:
        """What the loop calls: loss and scores."""

        def evaluate(model: nn.Module) -> dict[str, float]:
            assert isinstance(model, TaskModel)
            collector, loss = read_answers(
                model,
                self.part,
                device,
                precision,
                tokens=self.tokens,
                finite=False,
                keep=False,
            )
            return {"loss": loss, **collector.scores()}

        return evaluate

    def badness(self, values: Mapping[str, float]) -> float:
        """What the best weights have least of: the score, and where it is the same, the loss."""
        return _TIE * values["loss"] - values[self.part.main]

    def stuck(self, values: Mapping[str, float]) -> str:
        """Nothing to warn of here."""
        return ""
