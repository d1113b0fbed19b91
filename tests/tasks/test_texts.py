"""Answers to texts: numbers are told as exactly as a model has them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from selfsup.objectives.labels import LabelledBatch, TextLabels
from selfsup.tasks.texts import ClassCollector, NumberCollector, Scale, TextSet


@pytest.mark.parametrize("unit", [1e-38, 1e-8, 1.0, 1e6, 1e30])
def test_numbers_are_told_whatever_their_unit(unit: float) -> None:
    collector = NumberCollector(4, Scale())
    collector.guesses[:] = np.float32([1.2345678, -0.3, 3, 2.5]) * np.float32(unit)
    told = [row["value"] for row in collector.predictions()]
    assert np.float32(told).tolist() == collector.guesses.tolist()
    assert {type(value) for value in told} == {float}
    if unit == 1:
        assert [repr(value) for value in told] == ["1.2345678", "-0.3", "3.0", "2.5"]


def batch_of(rows: list[int], labels: list[int]) -> LabelledBatch:
    return cast(LabelledBatch, SimpleNamespace(rows=np.array(rows), labels=torch.tensor(labels)))


def test_scores_alone_keep_no_probabilities_and_are_the_same() -> None:
    ids = [np.arange(3)] * 4
    part = TextSet(TextLabels(ids, None, np.zeros(4, np.int64)), ("no", "yes"), "accuracy", 0)
    kept, counted = part.collector(), part.collector(keep=False)
    for collector in (kept, counted):
        collector.add(batch_of([2, 0], [0, 1]), torch.tensor([[2.0, 1.0], [0.0, 1.0]]))
        collector.add(batch_of([1, 3], [1, 1]), torch.tensor([[3.0, 1.0], [0.0, 9.0]]))
    assert kept.scores() == counted.scores()
    assert isinstance(counted, ClassCollector)
    assert counted.probabilities.nbytes == 0
    told = kept.predictions()
    assert iter(told) is told  # one after another, not all at once
    assert [row["label"] for row in told] == ["yes", "no", "no", "yes"]
