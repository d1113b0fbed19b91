"""Rows of examples, `input → output ;` again and again, and the vocabulary they are written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.keys import Key, below, permute, uniform
from selfsup.data.task_families import Family, Shown
from selfsup.data.tokenizer_training import whole_words
from selfsup.data.tokenizers import Tokenizer

BEGIN, END, PAD, UNKNOWN = "<s>", "</s>", "<pad>", "<unk>"
ARROW, STOP = "→", ";"
SHOTS = (0, 1, 2, 4, 8, 16)
"""Numbers of examples before a question."""
_FAMILY, _TASK, _QUESTION, _SHUFFLE = 1, 2, 3, 4  # what a draw is for


def make_tokenizer(families: Sequence[Family]) -> Tokenizer:
    """One token a symbol; in a text, symbols are parted by spaces."""
    from tokenizers import processors

    symbols = dict.fromkeys(symbol for family in families for symbol in family.symbols)
    entries = [PAD, UNKNOWN, BEGIN, END, ARROW, STOP, *symbols]
    inner = whole_words(entries, UNKNOWN)
    inner.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A $B:1",
        special_tokens=[(BEGIN, entries.index(BEGIN))],
    )
    names = {"pad": PAD, "unknown": UNKNOWN, "begin": BEGIN, "end": END}
    return Tokenizer(inner, names)


class Row(NamedTuple):
    """Token ids, and which of them are to be guessed."""

    ids: NDArray[np.int64]
    """(tokens,)"""
    answers: NDArray[np.bool_]
    """(tokens,) the outputs and the sign that ends each."""


class TaskRows:
    """Writes rows and questions; pure functions of their keys.

    Args:
        families: kinds of tasks.
        weights: how often each is trained on.
        length: tokens in a row of training.
    """

    def __init__(self, families: Sequence[Family], weights: Sequence[float], length: int) -> None:
        self.families, self.length = list(families), length
        self.shares = np.cumsum(np.asarray(weights, float) / sum(weights))
        self.tokenizer = make_tokenizer(families)
        self.ids: dict[str, int] = self.tokenizer.inner.get_vocab()

    def write(self, shown: Shown) -> Row:
        """Examples one after another, behind a begin token.

        Only where an input has several symbols a sign parts it from its output: behind one symbol the
        answer is its next token.
        """
        ids, answers = [self.ids[BEGIN]], [False]
        arrow, stop = self.ids[ARROW], self.ids[STOP]
        for x, y in zip(shown.inputs, shown.outputs, strict=True):
            sign = [arrow] if len(x) > 1 else []
            ids += [*(self.ids[s] for s in x), *sign, *(self.ids[s] for s in y), stop]
            answers += [False] * (len(x) + len(sign)) + [True] * (len(y) + 1)
        return Row(np.array(ids, np.int64), np.array(answers))

    def text(self, shown: Shown) -> str:
        """The same for people."""
        pairs = zip(shown.inputs, shown.outputs, strict=True)
        return " ".join(
            f"{' '.join(x)}{f' {ARROW}' * (len(x) > 1)} {' '.join(y)} {STOP}" for x, y in pairs
        )

    def training_row(self, seed: int, epoch: int, row: int) -> Row:
        """A task of the training part, shown as often as whole examples fit into the row."""
        key = (seed, epoch, row)
        number = int(np.searchsorted(self.shares, uniform(*key, _FAMILY), side="right"))
        family = self.families[min(number, len(self.families) - 1)]
        written = self.write(family.draw(False, self.length // 3, *key, _TASK))
        ends = np.flatnonzero(written.ids == self.ids[STOP]) + 1
        end = int(ends[ends <= self.length].max(initial=1))
        return Row(written.ids[:end], written.answers[:end])

    def shots(self, family: Family, asked: Sequence[int] = SHOTS) -> list[int]:
        """The numbers of examples that fit into a row together with a question."""
        return [k for k in asked if 1 + (k + 1) * (family.longest + 2) <= self.length]


def question(
    family: Family, number: int, shots: int, *, heldout: bool, shuffled: bool, key: Key
) -> Shown:
    """Some examples of a task, and as the last one what is asked.

    The question is the same for every number of examples, and with shuffled ones.  Shuffled, each
    example has the output of another one of the same task, drawn from as many as are ever shown.

    Args:
        family: the kind of task.
        number: of the task.
        shots: examples before the question.
        heldout: of which part.
        shuffled: whether the examples' outputs are permuted among them.
        key: what the draw depends on.
    """
    place = (key.seed, key.purpose, int(heldout), number)
    shown = family.draw(heldout, _POOL + 1, *place, _QUESTION)
    inputs, outputs = shown.inputs[:shots], shown.outputs[:_POOL]
    if shuffled:
        order = permute(np.arange(_POOL), _POOL, *place, _SHUFFLE).tolist()
        turn = 1 + int(below(_POOL - 1, *place, _SHUFFLE + 1))
        moved = {
            order[i]: order[(i + turn) % _POOL] for i in range(_POOL)
        }  # none stays in its place
        outputs = [outputs[moved[i]] for i in range(_POOL)]
    return Shown([*inputs, shown.inputs[_POOL]], [*outputs[:shots], shown.outputs[_POOL]])


_POOL = 16
"""Examples that are ever shown before a question."""
