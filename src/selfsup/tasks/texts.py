"""Texts and pairs with one answer each: a class, or a number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.tokenizers import Tokenizer
from selfsup.data.unknown import unknown_note
from selfsup.errors import UserError
from selfsup.objectives.labels import LabelledBatch, TextLabels
from selfsup.tasks.encoding import frame_texts
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.metrics import class_scores, regression_scores

_FARTHEST = 2**14
"""Spreads from zero to the mean of numbers that are learned."""


@dataclass(frozen=True)
class Scale:
    """Targets are learned as (value - mean) / spread, so that their unit does not matter."""

    mean: float = 0.0
    spread: float = 1.0


def learned_scale(values: NDArray[np.float64], where: str) -> tuple[float, float]:
    """Mean and spread of the numbers to learn.

    The delivered head has both folded into 32-bit numbers, whose rounding is then under a thousandth
    of the spread.

    Args:
        values: of the training part.
        where: its file.

    Raises:
        UserError: all are the same, or they lie too far from zero for that.
    """
    if values.min() == values.max():
        raise UserError(f"every label is {values[0]:g}", where=where)
    mean, spread = float(values.mean()), float(values.std())
    if abs(mean) > _FARTHEST * spread:
        what = (
            f"labels lie around {mean:.10g} and spread by only {spread:.3g}: 32-bit numbers, in which "
            "a model answers, tell too few of them apart"
        )
        near = round(mean, -math.floor(math.log10(1000 * spread)))
        how = "subtract" if near > 0 else "add"
        raise UserError(what, where=where, mend=f"{how} a constant ({abs(near):.15g})")
    return mean, spread


@dataclass(frozen=True)
class TextSet:
    """Examples with one answer each, ready for the model."""

    objective: TextLabels
    labels: tuple[str, ...]
    """The classes' names; empty: the answer is a number."""
    main: str
    cut: int
    """Texts that were cut."""
    scale: Scale = field(default=Scale())
    unknown: str = ""
    """What is to be said of text that the vocabulary does not hold."""

    def __len__(self) -> int:
        return len(self.objective.ids)

    def collector(self, *, keep: bool = True) -> ClassCollector | NumberCollector:
        """See `LabelledSet.collector`."""
        if self.labels:
            return ClassCollector(len(self) if keep else 0, self.labels)
        return NumberCollector(len(self), self.scale)


def make_text_set(
    tokenizer: Tokenizer,
    examples: Sequence[TextExample],
    labels: tuple[str, ...],
    *,
    longest: int,
    main: str,
    types: bool,
    scale: Scale | None = None,
    weights: NDArray[np.float64] | None = None,
) -> TextSet:
    """Tokenize texts and number their labels.

    Args:
        tokenizer: of the model.
        examples: texts, or pairs; without labels, they can be predicted but not scored.
        labels: the classes' names, in order; empty: the labels are numbers.
        longest: tokens, special ones included.
        main: the score that chooses.
        types: whether the model tells the first text from the second.
        scale: of numbers.
        weights: (classes,) in the loss.
    """
    pairs = None
    if any(e.pair is not None for e in examples):
        for e in examples:
            if e.pair is None:
                raise UserError("a single text among pairs", where=e.where, mend="give two texts")
        pairs = [e.pair or "" for e in examples]
    framed = frame_texts(tokenizer, [e.text for e in examples], pairs, longest)
    unit = scale or Scale()
    values: NDArray[Any]
    if labels:
        number = {name: i for i, name in enumerate(labels)}
        values = np.array([number.get(str(e.label), 0) for e in examples], np.int64)
    else:
        raw = np.array([0.0 if e.label is None else float(e.label) for e in examples])
        values = ((raw - unit.mean) / unit.spread).astype(np.float32)
    objective = TextLabels(framed.ids, framed.types if types else None, values, weights)
    unknown = unknown_note(tokenizer, framed.ids)
    return TextSet(objective, labels, main, framed.cut, unit, unknown)


class ClassCollector:
    """Counts (true class, guessed class), and keeps each example's probabilities.

    Args:
        examples: how many there are; 0: only count.
        labels: the classes' names.
    """

    def __init__(self, examples: int, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.confusion = np.zeros((len(labels), len(labels)), np.int64)
        self.probabilities = np.zeros((examples, len(labels)), np.float32)

    def add(self, batch: LabelledBatch, answers: Tensor) -> None:
        """Count a batch."""
        guesses = answers.argmax(-1).numpy()
        np.add.at(self.confusion, (batch.labels.cpu().numpy(), guesses), 1)
        if len(self.probabilities):
            self.probabilities[batch.rows] = answers.softmax(-1).numpy()

    def scores(self) -> dict[str, float]:
        """Accuracy, F1 and Matthews' correlation."""
        return class_scores(self.confusion)

    def predictions(self) -> Iterator[dict[str, Any]]:
        """The most probable label and every label's probability."""
        for row in self.probabilities:
            shares = zip(self.labels, row, strict=True)
            yield {
                "label": self.labels[int(row.argmax())],
                "probabilities": {name: round(float(p), 6) for name, p in shares},
            }


class NumberCollector:
    """Keeps one number an example."""

    def __init__(self, examples: int, scale: Scale) -> None:
        self.scale = scale
        self.guesses = np.zeros(examples)
        self.truth = np.zeros(examples)

    def add(self, batch: LabelledBatch, answers: Tensor) -> None:
        """Take a batch, back in the labels' own unit."""
        mean, spread = self.scale.mean, self.scale.spread
        self.guesses[batch.rows] = answers[:, 0].numpy().astype(float) * spread + mean
        self.truth[batch.rows] = batch.labels.cpu().numpy().astype(float) * spread + mean

    def scores(self) -> dict[str, float]:
        """Pearson's and Spearman's correlation, and errors in the labels' unit."""
        return regression_scores(self.guesses, self.truth)

    def predictions(self) -> Iterator[dict[str, Any]]:
        """The number."""
        # the shortest decimal of the 32-bit number, however small the labels' unit makes it
        return ({"value": float(str(np.float32(x)))} for x in self.guesses)
