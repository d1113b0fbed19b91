"""Extractive question answering: a start and an end in the passage, or no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.finetune_config import SpanConfig
from selfsup.objectives.labels import LabelledBatch, SpanLabels
from selfsup.tasks.metrics import answer_scores, question_scores
from selfsup.tasks.spans import SpanAnswer, SpanDecoder, best_null_threshold
from selfsup.tasks.squad import Question
from selfsup.tasks.windows import Window, make_windows, window_targets


@dataclass(frozen=True)
class SpanSet:
    """Questions beside the windows of their passages, ready for the model."""

    objective: SpanLabels
    questions: Sequence[Question]
    windows: list[Window]
    main: str
    span: SpanConfig
    nullable: bool
    """Whether "no answer" is an answer."""
    null_threshold: float
    """No answer is given where its score exceeds the best span's by more than this."""
    lost: int
    """Questions whose answer no window holds."""
    unaligned: int
    """Questions whose answer begins or ends within a token."""

    def __len__(self) -> int:
        return len(self.questions)

    def collector(self, *, keep: bool = True) -> SpanCollector:
        """See `LabelledSet.collector`; scores need all there is."""
        return SpanCollector(self)


def make_span_set(
    tokenizer: Tokenizer,
    questions: Sequence[Question],
    span: SpanConfig,
    *,
    longest: int,
    main: str,
    types: bool,
    nullable: bool,
    null_threshold: float = 0.0,
) -> SpanSet:
    """Cut passages into windows and find the answers in them.

    Args:
        tokenizer: of the model.
        questions: with their answers, or without to be predicted.
        span: lengths.
        longest: tokens that the model reads.
        main: the score that chooses.
        types: whether the model tells question from passage.
        nullable: whether "no answer" is an answer.
        null_threshold: from which difference of scores on.
    """
    room = min(span.max_length, longest)
    if room < span.max_question + 16:
        what = f"windows of {room} tokens leave no room beside questions of {span.max_question}"
        mend = "lower --span.max_question, or raise --max-length and --span.max_length"
        raise UserError(what, where="--span.max_question", mend=mend)
    windows = make_windows(
        tokenizer,
        [q.question for q in questions],
        [q.passage for q in questions],
        max_length=room,
        stride=min(span.overlap, (room - span.max_question) // 2),
        max_question=span.max_question,
    )
    targets = window_targets(windows, questions)
    places = np.stack([targets.starts, targets.ends], axis=1)
    kinds = [w.types for w in windows] if types else None
    objective = SpanLabels([w.ids for w in windows], kinds, places)
    return SpanSet(
        objective,
        questions,
        windows,
        main,
        span,
        nullable,
        null_threshold,
        targets.lost,
        targets.unaligned,
    )


class SpanCollector:
    """Keeps the best spans of every window."""

    def __init__(self, part: SpanSet) -> None:
        self.part = part
        self.decoder = SpanDecoder(
            part.windows,
            [q.passage for q in part.questions],
            max_answer=part.span.max_answer,
            top=3,
            nullable=part.nullable,
            null_threshold=part.null_threshold,
        )

    def add(self, batch: LabelledBatch, answers: Tensor) -> None:
        """Take a batch of windows."""
        self.decoder.add(batch.rows, answers[:, 0], answers[:, 1])

    def scores(self) -> dict[str, float]:
        """Exact match and F1, by the rules of the answers' language."""
        given = [answer.text for answer in self.decoder.answers()]
        return answer_scores(given, self.part.questions, language=self.part.span.language)

    def best_threshold(self) -> float:
        """The null threshold with the best score on these questions (Rajpurkar et al. 2018)."""
        answers = self.decoder.answers()
        best = [a.spans[0].text if a.spans else "" for a in answers]
        exact, f1 = question_scores(best, self.part.questions, language=self.part.span.language)
        has_answer = np.array([not q.impossible for q in self.part.questions])
        earned = exact if self.part.main == "exact_match" else f1
        differences = np.array([a.null_difference for a in answers])
        return best_null_threshold(differences, earned, has_answer)[0]

    def predictions(self) -> Iterator[dict[str, Any]]:
        """The answer, where it stands, how sure, and what else was considered."""
        for question, answer in zip(self.part.questions, self.decoder.answers(), strict=True):
            yield {"id": question.identity, **said(answer)}


def said(answer: SpanAnswer) -> dict[str, Any]:
    """An answer as JSON: text, character offsets, score and probability, and the next best ones."""
    spans = [
        {
            "text": s.text,
            "begin": s.begin,
            "end": s.end,
            "score": round(s.score, 4),
            "probability": round(s.probability, 6),
        }
        for s in answer.spans
    ]
    empty = {"text": "", "begin": None, "end": None, "score": round(answer.null_score, 4)}
    empty["probability"] = round(answer.null_probability, 6)
    best = spans[0] if answer.text else empty
    return {**best, "others": spans[1:] if answer.text else spans}
