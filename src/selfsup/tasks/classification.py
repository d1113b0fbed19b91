"""Classifying texts: labelled examples as an objective, so that fine-tuning is the same loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from selfsup.config import TrainConfig
from selfsup.data.keys import Key
from selfsup.data.sampler import Examples, Sampler
from selfsup.models.classifier import Classifier
from selfsup.models.transformer import Transformer
from selfsup.nn.cross_entropy import at_least_float32
from selfsup.nn.sequences import Sequences
from selfsup.objectives.protocol import Ratio, Score
from selfsup.training.evaluation import Evaluation, Evaluator
from selfsup.training.loop import Loop


@dataclass(frozen=True)
class LabelledBatch:
    """Texts and their classes."""

    sequences: Sequences
    labels: Tensor
    """(B,)."""
    token_count: int

    def to(self, device: torch.device) -> LabelledBatch:
        """The same batch on a device."""
        return replace(self, sequences=self.sequences.to(device), labels=self.labels.to(device))


class Classification:
    """Cross entropy of the class.

    Args:
        ids: token ids of each text, special ones included.
        labels: (texts,) class numbers.
    """

    def __init__(self, ids: Sequence[NDArray[np.int64]], labels: NDArray[np.int64]) -> None:
        self.ids, self.labels = list(ids), labels

    def batch(self, examples: Examples, key: Key) -> LabelledBatch:
        """The chosen texts; there is nothing to hide."""
        chosen = [self.ids[i] for i in examples.rows]
        return LabelledBatch(
            Sequences.from_lists(chosen),
            torch.from_numpy(self.labels[examples.rows]),
            sum(map(len, chosen)),
        )

    def loss(self, model: Classifier, batch: LabelledBatch) -> Score:
        """Cross entropy and accuracy."""
        logits = at_least_float32(model(batch.sequences))
        right = (logits.argmax(-1) == batch.labels).float().sum()
        count = torch.tensor(float(len(batch.labels)), device=logits.device)
        loss = F.cross_entropy(logits, batch.labels, reduction="sum")
        return Score(loss, count, {"accuracy": Ratio(right, count)})

    def describe(self, examples: Examples) -> str:
        """Which labelled texts a batch holds."""
        return f"labelled texts {', '.join(map(str, examples.rows[:12].tolist()))}"


def finetune(
    encoder: Transformer,
    train: Classification,
    test: Classification,
    classes: int,
    config: TrainConfig,
    *,
    seed: int,
) -> dict[str, float]:
    """Train encoder and classifier on labelled texts and score them on others.

    Args:
        encoder: changed in place.
        train: labelled texts to learn from.
        test: labelled texts to be scored on, after the last step.
        classes: how many.
        config: the loop's settings.
        seed: of the order and dropout.

    Returns:
        `loss` and `accuracy` on the test texts.
    """
    model = Classifier(encoder, classes)
    loop = Loop(
        model,
        train,
        Sampler([len(train.labels)], [1.0], seed),
        config,
        seed=seed,
        quiet=True,
    )
    loop.run()
    rows = np.arange(len(test.labels))
    evaluation = Evaluation(test, Examples(rows, np.zeros_like(rows)))
    return Evaluator(evaluation, config.batch_size, loop.device, loop.precision)(model)
