"""Learning from examples in the context: the answers in rows of shown tasks (Garg et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.data.task_rows import Row, TaskRows
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.cross_entropy import linear_cross_entropy
from selfsup.nn.sequences import Sequences
from selfsup.objectives.protocol import Ratio, Score


@dataclass(frozen=True)
class AnswersBatch:
    """Rows of examples, with the places from which answers are guessed."""

    sequences: Sequences
    places: Tensor
    """(M,) places in the tokens, each before a scored one."""
    targets: Tensor
    """(M,) what stands behind each."""
    token_count: int

    def to(self, device: torch.device) -> AnswersBatch:
        """The same batch on a device."""
        return replace(
            self,
            sequences=self.sequences.to(device),
            places=self.places.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
        )


def answers_batch(rows: Sequence[Row], length: int, filler: int) -> AnswersBatch:
    """Rows of at most `length` tokens, filled up to it; what fills comes last and is never scored."""
    tokens = np.full((len(rows), length), filler, np.int64)
    scored = np.zeros((len(rows), length), np.bool_)
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = row.ids
        scored[i, : len(row.ids)] = row.answers
    at = np.flatnonzero(scored.ravel())
    sequences = Sequences(
        tokens=torch.from_numpy(tokens.ravel()),
        positions=torch.arange(length).repeat(len(rows)),
        starts=torch.arange(0, (len(rows) + 1) * length, length),
        row_length=length,
    )
    return AnswersBatch(
        sequences=sequences,
        places=torch.from_numpy(at - 1),
        targets=torch.from_numpy(tokens.ravel()[at]),
        token_count=sum(len(row.ids) for row in rows),
    )


class InContext:
    """Guess the answers of rows that show one task each; what is asked is never scored.

    Args:
        rows: writes the rows.
    """

    def __init__(self, rows: TaskRows) -> None:
        self.rows = rows
        assert rows.tokenizer.pad_id is not None
        self.filler = rows.tokenizer.pad_id

    def batch(self, examples: Examples, key: Key) -> AnswersBatch:
        """Write the rows; pure."""
        pairs = zip(examples.rows.tolist(), examples.epochs.tolist(), strict=True)
        rows = [self.rows.training_row(key.seed, epoch, row) for row, epoch in pairs]
        return answers_batch(rows, self.rows.length, self.filler)

    def loss(self, model: CausalLanguageModel, batch: AnswersBatch) -> Score:
        """Cross entropy of the answers' tokens, in nats."""
        hidden = model(batch.sequences, places=batch.places)
        weights = torch.ones(len(batch.targets), device=hidden.device)
        loss, right = linear_cross_entropy(hidden, *model.output_matrix(), batch.targets, weights)
        count = weights.sum()
        return Score(loss, count, {} if model.training else {"accuracy": Ratio(right, count)})

    def describe(self, examples: Examples) -> str:
        """The rows' numbers."""
        return f"rows {', '.join(str(n) for n in examples.rows[:12].tolist())} of the tasks"
