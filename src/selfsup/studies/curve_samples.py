"""The label curves' examples: what is scored, and nested, balanced samples of what is learned."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from selfsup.data.keys import permute
from selfsup.errors import UserError, at_least
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.task_hub import Answer
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.reading import hold_out, read_parts, turns
from selfsup.tasks.samples import learned_from
from selfsup.tasks.task import Examples, TaskInfo

Rows = NDArray[np.int64]

FEWEST = 16
ALL = sys.maxsize
"""In a list of numbers of labels: as many as there are."""
GROWTH = 4
_HELD_OUT = 0.2  # of the examples, where no file is given to score on
_SAMPLE = 22  # key of the random order
_SINGULAR = {"tag": "sentence", "span": "question"}


@dataclass(frozen=True)
class Material:
    """A task's examples, in the roles that the study gives them."""

    info: TaskInfo
    pool: Examples
    """What may be learned from."""
    test: Examples
    """Scored once by every finished model; chooses nothing."""
    watched: Examples
    """Scored along the way when all labels are used, for the picture alone."""
    watched_on: str
    """What `watched` is, in words."""
    scored_on: str
    """What `test` is, in words."""
    weighted: bool
    """Whether rare classes weigh more."""
    notes: list[str]

    @property
    def unit(self) -> str:
        """What one label belongs to, in the plural: labels (of texts), sentences, questions."""
        return f"{_SINGULAR[self.info.kind]}s" if self.info.kind in _SINGULAR else "labels"


def read_material(config: FinetuneConfig, longest: int) -> Material:
    """Read the files of a configuration.

    No part chooses weights, so a dev file without a test file is what models are scored on; with
    neither, a fifth of the training file is held out (of each class alike).

    Args:
        config: its `data` names the files.
        longest: tokens that the encoder reads.

    Raises:
        UserError: as `read_parts`.
    """
    data = config.data
    # read_parts would hold out a tenth to choose by; nothing is chosen here, so give it what is there.
    data = data.model_copy(
        update={"dev": data.dev or data.test or data.train, "test": data.test if data.dev else ""}
    )
    parts = read_parts(config.model_copy(update={"data": data}), longest)
    notes = list(dict.fromkeys(parts.notes.lines))
    pool, test, watched = parts.train, parts.test or parts.dev, parts.dev
    scored_on = "the test file" if config.data.test else "the dev file"
    watched_on = "the dev file" if config.data.dev else scored_on
    if not config.data.dev and not config.data.test:
        pool, test = hold_out(parts.train, config.seed, share=_HELD_OUT)
        watched = test
        scored_on, watched_on = "a fifth of the training file, held out", "held-out examples"
        notes.append(f"no file to score on: {len(test):,} of the training examples are held out")
    if known := _repeated(pool, test):
        notes.append(f"{known:,} of the texts to score on are among those to learn from as well")
    weighted = parts.weights is not None
    return Material(parts.info, pool, test, watched, watched_on, scored_on, weighted, notes)


def _repeated(pool: Examples, test: Examples) -> int:
    """How many test texts are among the others; of sentences and questions it is not asked."""
    learned = {(e.text, e.pair) for e in pool if isinstance(e, TextExample)}
    return sum(isinstance(e, TextExample) and (e.text, e.pair) in learned for e in test)


def sample_order(examples: Examples, answer: Answer, seed: int) -> Rows:
    """An order of all examples whose first n are the sample of n labels.

    So samples of one seed are nested.  Classes take turns, so each has the same number of labels
    as long as it lasts; a sample of all is as unbalanced as the file.
    """
    order = permute(np.arange(len(examples)), len(examples), seed, _SAMPLE)
    turn = turns(pick(examples, order)) if answer == "class" else np.arange(len(order))
    return order[np.argsort(turn, kind="stable")]


def pick(examples: Examples, rows: Rows) -> Examples:
    """The chosen examples, in order."""
    return cast("Examples", [examples[i] for i in rows.tolist()])


def sample_info(
    material: Material, sample: Examples
) -> tuple[TaskInfo, NDArray[np.float64] | None]:
    """The task as the sample alone tells it."""
    return learned_from(sample, material.info, weighted=material.weighted)


def label_counts(
    asked: Sequence[int], available: int, info: TaskInfo
) -> tuple[tuple[int, ...], list[str]]:
    """The numbers of labels to learn from, rising, and what is to be said about them.

    Args:
        asked: by the user; empty: 16, 64, 256, … and all.
        available: examples that may be learned from.
        info: the task.

    Raises:
        UserError: less than 1 label, or fewer than there are classes, or than are needed.
    """
    least = {"class": len(info.labels), "number": 2}.get(info.answer, 1)
    why = f"fewer than the {least} classes" if info.answer == "class" else f"at least {least}"
    if not asked:
        first = FEWEST
        while first < least:
            first *= GROWTH
        counts = []
        while first <= available // 2:
            counts.append(first)
            first *= GROWTH
        return (*counts, available), []
    for count in asked:
        at_least(1, count, "--labels")
        if count < least:
            mend = f"use {least} or more"
            raise UserError(f"{count} labels are too few ({why})", where="--labels", mend=mend)
    notes = []
    if over := [count for count in asked if available < count < ALL]:
        notes.append(f"--labels {over[0]} is more than the {available:,} there are: all are used")
    return tuple(sorted({min(count, available) for count in asked})), notes
