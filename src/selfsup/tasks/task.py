"""A task as data: what kind of answer, which labels, which score; and its sets made from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from selfsup.config_base import Section
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import counted
from selfsup.finetune_config import LabelledConfig, SpanConfig, TaskKind
from selfsup.models.task_hub import Answer
from selfsup.tasks.answers import SpanSet, make_span_set
from selfsup.tasks.labelled import TaggedSentence, TextExample
from selfsup.tasks.squad import Question
from selfsup.tasks.tagging import TagSet, make_tag_set
from selfsup.tasks.texts import Scale, TextSet, make_text_set

Examples = Sequence[TextExample] | Sequence[TaggedSentence] | Sequence[Question]
AnySet = TextSet | TagSet | SpanSet
SCORES: dict[Answer, tuple[str, ...]] = {
    "class": ("accuracy", "f1", "matthews"),
    "number": ("correlation", "pearson", "spearman", "r2"),
    "tag": ("accuracy", "f1"),
    "span": ("f1", "exact_match"),
}
"""The scores that may choose among weights, the usual one first."""

_MANY_UNALIGNED = 0.05
"""The share of questions from which on it is told that tokens do not end where answers do."""


class TaskInfo(Section):
    """What a fine-tuned model answers, and how its input is read; kept beside its weights."""

    kind: TaskKind
    answer: Answer
    labels: tuple[str, ...] = ()
    """Names of classes or tags, in order."""
    main: str
    """The score that chose the weights."""
    max_length: int
    """Tokens; longer texts are cut."""
    span: SpanConfig = SpanConfig()
    nullable: bool = False
    """Whether "no answer" is an answer."""
    null_threshold: float = 0.0
    """No answer is given where its score exceeds the best span's by more than this."""
    scale: tuple[float, float] = (0.0, 1.0)
    """Mean and spread of the numbers that are learned; the delivered head has them folded in."""
    fallback: int = 0
    """The tag of words that the tokenizer drops."""
    data: LabelledConfig = LabelledConfig()
    """Where in files of this kind the texts and labels stand."""

    @property
    def outputs(self) -> int:
        """Numbers in one answer of the head."""
        return {"number": 1, "span": 2}.get(self.answer, len(self.labels))

    @property
    def reads(self) -> int:
        """Tokens read at once: a text, or a window of a passage with its question."""
        return (
            min(self.span.max_length, self.max_length) if self.answer == "span" else self.max_length
        )


def set_notes(part: AnySet, info: TaskInfo, name: str = "") -> list[str]:
    """What tokenizing has cut or lost of a part.

    Args:
        part: the examples.
        info: the task.
        name: what the part is called, if anything: training, dev, test.
    """
    notes, name = [], f"{name} " if name else ""
    if cut := getattr(part, "cut", 0):
        verb = "is" if cut == 1 else "are"
        longer = f"{verb} longer than {info.max_length} tokens: cut"
        notes.append(f"{counted(cut, f'{name}text')} {longer}")
    if (unknown := getattr(part, "unknown", "")) and name in ("", "training "):  # once is enough
        notes.append(unknown)
    if isinstance(part, TagSet) and (without := part.aligned.without):
        words = counted(without, f"{name}word")
        notes.append(f"{words} without a token for this tokenizer: given the most frequent label")
    if lost := getattr(part, "lost", 0):
        asked = counted(lost, f"{name}question")
        notes.append(f"{asked} with an answer that no window holds whole")
    if isinstance(part, SpanSet) and part.unaligned > _MANY_UNALIGNED * len(part):
        asked = counted(part.unaligned, f"{name}question")
        within = "with an answer that begins or ends within a token"
        notes.append(f"{asked} {within}: a little more is answered")
    return notes


def make_set(
    tokenizer: Tokenizer,
    examples: Examples,
    info: TaskInfo,
    *,
    types: bool,
    weights: NDArray[np.float64] | None = None,
) -> AnySet:
    """Examples of a task, ready for the model.

    Args:
        tokenizer: of the model.
        examples: as `read_examples` gives them.
        info: the task.
        types: whether the model tells the first text from the second (segment embeddings).
        weights: (classes,) in the loss.
    """
    if info.answer == "span":
        questions = cast("Sequence[Question]", examples)
        return make_span_set(
            tokenizer,
            questions,
            info.span,
            longest=info.max_length,
            main=info.main,
            types=types,
            nullable=info.nullable,
            null_threshold=info.null_threshold,
        )
    if info.answer == "tag":
        return make_tag_set(
            tokenizer,
            cast("Sequence[TaggedSentence]", examples),
            info.labels,
            longest=info.max_length,
            main=info.main,
            fallback=info.fallback,
            weights=weights,
        )
    return make_text_set(
        tokenizer,
        cast("Sequence[TextExample]", examples),
        info.labels,
        longest=info.max_length,
        main=info.main,
        types=types,
        scale=Scale(*info.scale),
        weights=weights,
    )
