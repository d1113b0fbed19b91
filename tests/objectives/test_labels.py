"""Losses from labels against slow references: padded, in loops, with scikit-learn's words for weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfsup.config import TransformerConfig
from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.models.task_model import HeadSpec, TaskModel
from selfsup.models.transformer import Transformer
from selfsup.nn.sequences import Sequences
from selfsup.objectives.labels import SpanLabels, TextLabels, TokenLabels, segment_logsumexp

CONFIG = TransformerConfig(
    vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_length=40
)
LENGTHS = [9, 4, 17, 4, 1, 12]


def examples(count: int = len(LENGTHS)) -> Examples:
    rows = np.arange(count)[::-1].copy()
    return Examples(rows, np.zeros_like(rows))


def ids() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, 50, n) for n in LENGTHS]


def model(spec: HeadSpec) -> TaskModel:
    torch.manual_seed(0)
    return TaskModel(Transformer(CONFIG), spec).double().eval()


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
@pytest.mark.parametrize("weighted", [False, True])
def test_classes_one_text_at_a_time(pooling: str, weighted: bool) -> None:
    labels = np.array([0, 2, 1, 1, 0, 2])
    weights = np.array([0.5, 2.0, 1.25]) if weighted else None
    objective = TextLabels(ids(), None, labels, weights)
    network = model(HeadSpec("sequence", 3, pooling))  # type: ignore[arg-type]
    score = objective.loss(network, objective.batch(examples(), Key(0)))
    total = 0.0
    for row, label in zip(ids(), labels, strict=True):
        one = Sequences.from_lists([row])
        hidden = network.encoder(one)
        vector = {
            "mean": hidden.mean(0),
            "cls": hidden[0],
            "pooler": torch.tanh(network.encoder.pooler(hidden[0])),  # type: ignore[misc]
        }[pooling]
        chances = network.output(vector).softmax(-1)
        total -= float(chances[label].detach().log()) * (1.0 if weights is None else weights[label])
    assert float(score.loss_sum) == pytest.approx(total, rel=1e-6)
    count = len(labels) if weights is None else weights[labels].sum()
    assert float(score.count) == pytest.approx(count)


def test_numbers() -> None:
    targets = np.array([0.5, -1, 2, 0, 3, 1], np.float32)
    objective = TextLabels(ids(), None, targets)
    network = model(HeadSpec("sequence", 1))
    score = objective.loss(network, objective.batch(examples(), Key(0)))
    guesses = [float(network(Sequences.from_lists([x]))[0, 0]) for x in ids()]
    assert float(score.loss_sum) == pytest.approx(((np.array(guesses) - targets) ** 2).sum(), 1e-6)
    assert float(score.count) == len(targets)


def test_tokens() -> None:
    places = [np.array([1, 4]), np.array([2]), np.array([3, 5, 16]), np.zeros(0, int)]
    places += [np.array([0]), np.array([1, 2, 11])]
    labels = [np.arange(len(p)) % 2 for p in places]
    objective = TokenLabels(ids(), places, labels)
    network = model(HeadSpec("token", 2))
    batch = objective.batch(examples(), Key(0))
    score = objective.loss(network, batch)
    total = 0.0
    for row, where, wanted in zip(ids(), places, labels, strict=True):
        logits = network(Sequences.from_lists([row]))
        total += sum(
            float(F.cross_entropy(logits[p], torch.tensor(w)))
            for p, w in zip(where, wanted, strict=True)
        )
    assert float(score.loss_sum) == pytest.approx(total, rel=1e-9)
    assert float(score.count) == sum(map(len, places))


def test_spans_are_softmaxed_over_their_own_window() -> None:
    targets = np.array([[2, 3], [0, 0], [16, 16], [1, 2], [0, 0], [5, 9]])
    objective = SpanLabels(ids(), None, targets)
    network = model(HeadSpec("token", 2))
    score = objective.loss(network, objective.batch(examples(), Key(0)))
    total = 0.0
    for row, (start, end) in zip(ids(), targets, strict=True):
        logits = network(Sequences.from_lists([row]))
        first = F.cross_entropy(logits[None, :, 0], torch.tensor([start]))
        last = F.cross_entropy(logits[None, :, 1], torch.tensor([end]))
        total += float(first + last) / 2
    assert float(score.loss_sum) == pytest.approx(total, rel=1e-9)
    assert float(score.count) == len(targets)


def test_segments_of_any_size_and_scale() -> None:
    owner = torch.tensor([0, 0, 0, 1, 2, 2])
    values = torch.tensor([[1e4, -3.0], [1e4, 2], [-1e4, 0], [5, 5], [-1e4, 1], [-1e4, 1]]).double()
    values.requires_grad_()
    found = segment_logsumexp(values, owner, 3)
    slow = torch.stack([values[owner == i].logsumexp(0) for i in range(3)])
    torch.testing.assert_close(found, slow)
    found.sum().backward()
    mine, values.grad = values.grad, None
    slow.sum().backward()
    torch.testing.assert_close(mine, values.grad)


def test_batches_do_not_depend_on_each_other() -> None:
    """A text scores the same alone, with others, in any order."""
    objective = TextLabels(ids(), None, np.zeros(6, np.int64))
    network = model(HeadSpec("sequence", 3))
    together = objective.answers(network, objective.batch(examples(), Key(0))).flip(0)
    for number in range(6):
        rows = np.array([number])
        alone = objective.answers(network, objective.batch(Examples(rows, rows * 0), Key(0)))
        torch.testing.assert_close(alone[0], together[number], atol=1e-6, rtol=1e-6)
