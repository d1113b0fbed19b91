"""What is noteworthy about the labels of a training file, though nothing is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

from selfsup.finetune_config import TaskKind
from selfsup.models.task_hub import Answer
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.task import Examples

_FEW = 10
"""Examples of which most may well be of a class of their own."""


def label_notes(examples: Examples, kind: TaskKind, answer: Answer) -> list[str]:
    """Notes on labels that may have been meant otherwise.

    Args:
        examples: to learn from.
        kind: the task.
        answer: as what labels are learned.
    """
    if answer != "class":
        return []
    counts = Counter(str(e.label) for e in cast("Sequence[TextExample]", examples))
    return _on_classes(counts)


def _on_classes(counts: Counter[str]) -> list[str]:
    total = counts.total()
    if total >= _FEW and 2 * len(counts) > total:
        what = f"{len(counts):,} classes in {total:,} rows: is a number or an id given as label?"
        return [f"{what} (numbers: --task regress)"]
    return []
