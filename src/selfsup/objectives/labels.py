"""Learning from labels: of whole texts, of tokens, and of a start and an end.

No part is hidden here; the labels are the question.  Each class is an objective, so that fine-tuning
is the one loop, and each gives the model's answers as well as their loss, so that scoring reads the
same numbers that training does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.models.task_model import TaskModel
from selfsup.nn.cross_entropy import at_least_float32
from selfsup.nn.sequences import Sequences
from selfsup.objectives.protocol import Score

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledBatch:
    """Some examples, their labels, and where the labels belong."""

    sequences: Sequences
    rows: NDArray[np.int64]
    """(B,) numbers of the examples."""
    labels: Tensor
    """(B,) of texts; (M,) of tokens; (B, 2) starts and ends, as places in the concatenated tokens."""
    places: Tensor | None
    """(M,) places of the labelled tokens in the concatenated ones."""
    token_count: int

    def to(self, device: torch.device) -> LabelledBatch:
        """The same batch on a device."""
        places = None if self.places is None else self.places.to(device)
        moved = self.sequences.to(device)
        return replace(self, sequences=moved, labels=self.labels.to(device), places=places)


class LabelObjective(Protocol):
    """An objective that learns from labels."""

    @property
    def ids(self) -> Sequence[Ids]:
        """Token ids of each example, special ones included."""
        ...

    def batch(self, examples: Examples, key: Key) -> LabelledBatch:
        """The chosen examples."""
        ...

    def loss(self, model: TaskModel, batch: LabelledBatch) -> Score:
        """The model's answers, scored."""
        ...

    def loss_of(self, answers: Tensor, batch: LabelledBatch) -> Score:
        """The loss of answers that are there already."""
        ...

    def answers(self, model: TaskModel, batch: LabelledBatch) -> Tensor:
        """The model's answers, at least float32."""
        ...

    def describe(self, examples: Examples) -> str:
        """Which examples a batch holds."""
        ...


class _Labelled(ABC):
    """What the three kinds share.

    Args:
        ids: token ids of each example, special ones included.
        types: segment kinds, in the same shapes; None: all 0.
    """

    def __init__(self, ids: Sequence[Ids], types: Sequence[Ids] | None) -> None:
        self.ids: Sequence[Ids] = list(ids)
        self.types = None if types is None else list(types)

    def sequences(self, rows: NDArray[np.int64]) -> Sequences:
        """The chosen examples, one after another."""
        types = None if self.types is None else [self.types[i] for i in rows]
        return Sequences.from_lists([self.ids[i] for i in rows], types)

    def describe(self, examples: Examples) -> str:
        """Which examples a batch holds."""
        return f"labelled examples {', '.join(map(str, examples.rows[:12].tolist()))}"

    def answers(self, model: TaskModel, batch: LabelledBatch) -> Tensor:
        """The model's answers, at least float32: see `TaskModel.forward`."""
        return at_least_float32(model(batch.sequences, batch.places))

    def loss(self, model: TaskModel, batch: LabelledBatch) -> Score:
        """The model's answers, scored."""
        return self.loss_of(self.answers(model, batch), batch)

    @abstractmethod
    def loss_of(self, answers: Tensor, batch: LabelledBatch) -> Score:
        """The loss of answers that are there already."""


def _count(number: float, like: Tensor) -> Tensor:
    return torch.tensor(float(number), device=like.device)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Score:
    """Cross entropy of classes, summed, and the sum of the weights of the classes that were met.

    Args:
        logits: (M, classes).
        labels: (M,).
        weights: (classes,), or None.
    """
    if weights is None:
        loss = F.cross_entropy(logits, labels, reduction="sum")
        return Score(loss, _count(len(labels), logits), {})
    weights = weights.to(logits)
    loss = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
    return Score(loss, weights[labels].sum(), {})


class TextLabels(_Labelled):
    """One label for each text or pair: a class (cross entropy) or a number (squared error).

    Args:
        ids, types: the examples.
        labels: (examples,) class numbers (int64) or targets (float32).
        weights: (classes,) weights of classes.
    """

    def __init__(
        self,
        ids: Sequence[Ids],
        types: Sequence[Ids] | None,
        labels: NDArray[Any],
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(ids, types)
        self.labels = torch.from_numpy(labels)
        self.weights = None if weights is None else torch.from_numpy(weights).float()

    def batch(self, examples: Examples, key: Key) -> LabelledBatch:
        """The chosen texts."""
        sequences = self.sequences(examples.rows)
        labels = self.labels[torch.from_numpy(examples.rows)]
        return LabelledBatch(sequences, examples.rows, labels, None, len(sequences.tokens))

    def loss_of(self, answers: Tensor, batch: LabelledBatch) -> Score:
        """Cross entropy, or squared error."""
        if self.labels.dtype == torch.int64:
            return weighted_cross_entropy(answers, batch.labels, self.weights)
        loss = F.mse_loss(answers[:, 0], batch.labels.to(answers.dtype), reduction="sum")
        return Score(loss, _count(len(batch.labels), answers), {})


class TokenLabels(_Labelled):
    """A class for each of some tokens: the first of each word.

    Args:
        ids: the examples.
        places: for each example, (words,) the places of the labelled tokens.
        labels: for each example, (words,) class numbers.
        weights: (classes,) weights of classes.
    """

    def __init__(
        self,
        ids: Sequence[Ids],
        places: Sequence[Ids],
        labels: Sequence[Ids],
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(ids, None)
        self.places, self.labels = list(places), list(labels)
        self.weights = None if weights is None else torch.from_numpy(weights).float()

    def batch(self, examples: Examples, key: Key) -> LabelledBatch:
        """The chosen sentences."""
        rows = examples.rows
        sequences = self.sequences(rows)
        starts = sequences.starts[:-1].numpy()
        places = [self.places[i] + start for i, start in zip(rows, starts, strict=True)]
        return LabelledBatch(
            sequences,
            rows,
            torch.from_numpy(np.concatenate([self.labels[i] for i in rows])),
            torch.from_numpy(np.concatenate(places)),
            len(sequences.tokens),
        )

    def loss_of(self, answers: Tensor, batch: LabelledBatch) -> Score:
        """Cross entropy over the labelled tokens."""
        return weighted_cross_entropy(answers, batch.labels, self.weights)


class SpanLabels(_Labelled):
    """A start and an end in each window (Devlin et al. 2019, on SQuAD).

    Two vectors, their inner products with every token, a softmax over the window for each; the loss
    is the mean of the two cross entropies.  The first token stands for "no answer here".

    Args:
        ids, types: the windows.
        targets: (windows, 2) places of the answer's first and last token; 0, 0: not in this window.
    """

    def __init__(
        self, ids: Sequence[Ids], types: Sequence[Ids] | None, targets: NDArray[np.int64]
    ) -> None:
        super().__init__(ids, types)
        self.targets = targets

    def batch(self, examples: Examples, key: Key) -> LabelledBatch:
        """The chosen windows."""
        sequences = self.sequences(examples.rows)
        labels = sequences.starts[:-1, None] + torch.from_numpy(self.targets[examples.rows])
        return LabelledBatch(sequences, examples.rows, labels, None, len(sequences.tokens))

    def loss_of(self, answers: Tensor, batch: LabelledBatch) -> Score:
        """Cross entropy of start and end, over each window's own tokens."""
        starts = batch.sequences.starts.to(answers.device)
        count = len(starts) - 1
        owner = torch.repeat_interleave(
            torch.arange(count, device=answers.device), starts.diff(), output_size=len(answers)
        )
        totals = segment_logsumexp(answers, owner, count)
        chosen = answers.gather(0, batch.labels)
        loss = 0.5 * (totals - chosen).sum()
        return Score(loss, _count(count, answers), {})


def segment_logsumexp(values: Tensor, owner: Tensor, count: int) -> Tensor:
    """Log of the sum of exp over each segment: (N, k) and owners (N,) to (count, k)."""
    wide = owner[:, None].expand_as(values)
    empty = torch.full((count, values.shape[1]), -torch.inf, device=values.device).to(values.dtype)
    highest = empty.scatter_reduce(0, wide, values.detach(), "amax")
    sums = torch.zeros_like(highest).scatter_add(0, wide, (values - highest[owner]).exp())
    return sums.log() + highest
