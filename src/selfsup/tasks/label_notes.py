"""What is noteworthy about the labels of a training file, though nothing is wrong."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from selfsup.data.columns import is_missing, number_of
from selfsup.data.files import listed
from selfsup.data.scripts import is_unspaced
from selfsup.errors import counted
from selfsup.finetune_config import TaskKind
from selfsup.models.task_hub import Answer
from selfsup.tasks.answer_rules import RULES, Language
from selfsup.tasks.labelled import TaggedSentence, TextExample
from selfsup.tasks.squad import Question
from selfsup.tasks.task import Examples

_FEW = 10
"""Examples of which most may well be of a class of their own."""
_FEW_SCORED = 100
"""Examples by fewer than which an accuracy is known to more than ten points."""
_SAMPLE = 1000
"""Questions whose answers are looked at."""
_UNSPACED_ANSWERS = (
    "most answers are of scripts without spaces, where 'words' are whole answers, so F1 is hardly more than "
    "exact match: finetune with --span.language characters (or zh, CMRC's rule for Chinese)"
)
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


def score_notes(parts: Mapping[str, Examples], answer: Answer, language: Language) -> list[str]:
    """How well scores can be known on parts, by their names: with few examples, or unfit words.

    Args:
        parts: that are scored.
        answer: the task's.
        language: whose rule compares answers of questions.
    """
    if answer == "span":
        questions = [q for part in parts.values() for q in cast("Sequence[Question]", part)]
        return answer_notes(questions, language)
    notes = []
    for name, part in parts.items() if answer == "class" else ():
        if 0 < len(part) < _FEW_SCORED:
            error = 100 / math.sqrt(len(part))  # two standard errors of a share near a half
            what = f"accuracies on them are known to ±{error:.0f} points"
            notes.append(f"{len(part)} {name} examples: {what}")
    return notes


def answer_notes(questions: Sequence[Question], language: Language) -> list[str]:
    """Whether most true answers are in a script without spaces that the rule takes for words."""
    golds = "".join(answer.text for q in questions[:_SAMPLE] for answer in q.answers)
    letters = [letter for letter in golds if letter.isalpha()]
    rule = RULES[language]
    whole = sum(is_unspaced(x) and rule.prepare(x + x).words == [x + x] for x in letters)
    return [_UNSPACED_ANSWERS] if 2 * whole > len(letters) else []


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
        alike.setdefault(_seen(name).casefold(), []).append(name)
    twins = [same for same in alike.values() if len(same) > 1]
    if cased := [name for same in twins if len(set(map(_seen, same))) > 1 for name in same]:
        notes.append(f"labels that differ only in case are different classes: {listed(cased)}")
    if hidden := [name for same in twins for name in same if _looks_like_another(name, same)]:
        notes.append(
            f"labels that look the same are different classes: {listed([_spelt(name) for name in hidden])}"
        )
    return notes


def _seen(name: str) -> str:
    """A name without what cannot be seen: how accents are written, signs of direction and the like."""
    plain = "".join(
        c for c in unicodedata.normalize("NFC", name) if unicodedata.category(c) != "Cf"
    )
    return unicodedata.normalize("NFC", plain)


def _looks_like_another(name: str, names: Sequence[str]) -> bool:
    return sum(_seen(other) == _seen(name) for other in names) > 1


def _spelt(name: str) -> str:
    """A name with the numbers of what cannot be seen, or is written apart from its letter."""
    whole = unicodedata.normalize("NFC", name)
    return "".join(
        f"<U+{ord(c):04X}>"
        if unicodedata.category(c) == "Cf" or not (c.isascii() or c in whole)
        else c
        for c in name
    )
