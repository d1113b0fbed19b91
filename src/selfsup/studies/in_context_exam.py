"""Questions behind 0, 1, 2, … examples, on trained and on held-out tasks, true and shuffled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from selfsup.data.keys import Key
from selfsup.data.task_rows import SHOTS, Row, TaskRows, question
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.cross_entropy import at_least_float32
from selfsup.objectives.in_context import AnswersBatch, answers_batch
from selfsup.training.devices import Precision

PARTS = ("trained", "heldout")
MODES = ("true", "shuffled")
_TOKENS = 1 << 15
"""Tokens that are read at once."""

Guess = Callable[[AnswersBatch], Tensor]
"""Gives (M,) the guessed token at each scored place."""


@dataclass(frozen=True)
class Cell:
    """One accuracy: of which family and part, with true or shuffled examples, how many."""

    family: str
    part: str
    mode: str
    shots: int

    @property
    def name(self) -> str:
        """As it stands in the metrics: `mapping/heldout/true/8`."""
        return f"{self.family}/{self.part}/{self.mode}/{self.shots}"


@dataclass(frozen=True)
class Questions:
    """The questions of one cell; the last answer of each row is scored, the others are given."""

    cell: Cell
    batches: list[AnswersBatch]
    owners: list[Tensor]
    """For each batch, (M,) which question a scored place belongs to."""
    count: int


def ask(rows: TaskRows, cell: Cell, count: int, key: Key) -> Questions:
    """Write a cell's questions; pure."""
    family = next(f for f in rows.families if f.name == cell.family)
    pad = rows.tokenizer.pad_id
    assert pad is not None
    heldout, shuffled = cell.part == "heldout", cell.mode == "shuffled"
    written = []
    for number in range(count):
        shown = question(family, number, cell.shots, heldout=heldout, shuffled=shuffled, key=key)
        row = rows.write(shown)
        answers = row.answers.copy()
        answers[: len(row.ids) - len(shown.outputs[-1]) - 1] = False
        written.append(Row(row.ids, answers))
    length = max(len(row.ids) for row in written)
    size = max(1, _TOKENS // length)
    groups = [written[first : first + size] for first in range(0, count, size)]
    owners = [
        torch.repeat_interleave(
            torch.arange(len(group)), torch.tensor([int(row.answers.sum()) for row in group])
        )
        for group in groups
    ]
    return Questions(cell, [answers_batch(g, length, pad) for g in groups], owners, count)


def accuracy(questions: Questions, guess: Guess) -> float:
    """Share of the questions whose whole answer is right.

    Each token is guessed behind the right ones before it, which finds the same answers right as
    writing greedily does.
    """
    wrong = 0
    for batch, owners in zip(questions.batches, questions.owners, strict=True):
        missed = owners[guess(batch).cpu() != batch.targets]
        wrong += len(torch.unique(missed))
    return 1 - wrong / questions.count


class InContextExamination:
    """Scores a model on every cell at each mark of the training.

    Args:
        rows: writes the questions.
        shots: numbers of examples; those that do not fit into a row are left out.
        count: questions in one cell.
        key: of the questions.
        tell: called with the scores of each mark.
    """

    def __init__(
        self,
        rows: TaskRows,
        count: int,
        shots: Sequence[int] = SHOTS,
        key: Key = Key(0, 7),  # noqa: B008  # immutable
        tell: Callable[[Mapping[str, float]], None] | None = None,
    ) -> None:
        self.questions = [
            ask(rows, Cell(family.name, part, mode, k), count, key)
            for family in rows.families
            for part in PARTS
            for mode in MODES
            for k in rows.shots(family, shots)
            if k or mode == "true"  # without examples there is nothing to shuffle
        ]
        self.tell = tell

    def evaluator(
        self, size: int, device: torch.device, precision: Precision
    ) -> Callable[[nn.Module], dict[str, float]]:
        """A function from the model to every cell's accuracy, and `loss`: what is wrong held out."""
        del size  # the batches are made already

        def score(model: nn.Module) -> dict[str, float]:
            assert isinstance(model, CausalLanguageModel)
            training = model.training
            model.eval()

            def guess(batch: AnswersBatch) -> Tensor:
                there = batch.to(device)
                hidden = model(there.sequences)[there.places]
                return at_least_float32(model.predict(hidden)).argmax(1)

            with torch.no_grad(), precision.autocast(device):
                values = {q.cell.name: accuracy(q, guess) for q in self.questions}
            model.train(training)
            if self.tell is not None:
                self.tell(values)
            held = [v for name, v in values.items() if "/heldout/true/" in name]
            return {"loss": 1 - sum(held) / len(held), **values}

        return score

    def badness(self, values: Mapping[str, float]) -> float:
        """The share of wrong answers on held-out tasks."""
        return values["loss"]

    def stuck(self, values: Mapping[str, float]) -> str:
        """Never: the study itself says what did not emerge."""
        return ""
