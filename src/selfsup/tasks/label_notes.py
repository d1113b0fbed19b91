"""What is noteworthy about the labels of a training file, though nothing is wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from selfsup.data.columns import is_missing, number_of
from selfsup.data.files import listed
from selfsup.errors import counted
from selfsup.finetune_config import TaskKind
from selfsup.models.task_hub import Answer
from selfsup.tasks.labelled import TaggedSentence, TextExample
from selfsup.tasks.task import Examples

_FEW = 10
"""Examples of which most may well be of a class of their own."""
_FEW_SCORED = 100
"""Examples by fewer than which an accuracy is known to more than ten points."""
_NUMBERED_TAGS = (
    "tags are whole numbers, which are not read as entities: no F1 of entities; give their names "
    "(B-PER, I-PER, O) for it"
)
_WHOLE_NUMBERS = (
    "labels are whole numbers: learned as classes; --metric correlation learns them as numbers"
)


def label_notes(examples: Examples, kind: TaskKind, answer: Answer) -> list[str]:
    """Notes on labels that may have been meant otherwise.

    Args:
        examples: to learn from.
        kind: the task.
        answer: as what labels are learned.
    """
    if answer == "tag":
        tagged = cast("Sequence[TaggedSentence]", examples)
        tags = {label for sentence in tagged for label in sentence.labels or ()}
        return [_NUMBERED_TAGS] if all(tag.isdecimal() for tag in tags) else []
    if answer != "class":
        return []
    counts = Counter(str(e.label) for e in cast("Sequence[TextExample]", examples))
    notes = _on_frequencies(counts) + _on_names(list(counts))
    numbers = [number_of(name, comma=True) for name in counts]
    if kind == "pairs" and len(counts) > 2 and all(n is not None and n % 1 == 0 for n in numbers):
        notes.append(_WHOLE_NUMBERS)
    return notes


def score_notes(parts: Mapping[str, Examples]) -> list[str]:
    """How well accuracies can be known on parts, by their names, that have few examples."""
    notes = []
    for name, part in parts.items():
        if 0 < len(part) < _FEW_SCORED:
            error = 100 / math.sqrt(len(part))  # two standard errors of a share near a half
            what = f"accuracies on them are known to ±{error:.0f} points"
            notes.append(f"{len(part)} {name} examples: {what}")
    return notes


def _on_frequencies(counts: Counter[str]) -> list[str]:
    """Whether there are too many classes, or too few examples of some."""
    total = counts.total()
    if total < _FEW:
        return []
    if 2 * len(counts) > total:
        what = f"{len(counts):,} classes in {total:,} rows: is a number or an id given as label?"
        return [f"{what} (numbers: --task regress)"]
    single = [name for name, count in counts.items() if count == 1]
    if not single:
        return []
    have = f"{counted(len(single), 'class has', 'classes have')} a single example"
    return [f"{have}: {listed(single)}"]


def _on_names(names: list[str]) -> list[str]:
    """Whether names may be no names, or the same."""
    notes = []
    if missing := [name for name in names if is_missing(name)]:
        verb = "is learned as a class" if len(missing) == 1 else "are learned as classes"
        notes.append(f"{listed(missing)} {verb}; leave a label empty where it is missing")
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    if twins := [name for same in alike.values() if len(same) > 1 for name in same]:
        notes.append(f"labels that differ only in case are different classes: {listed(twins)}")
    return notes
