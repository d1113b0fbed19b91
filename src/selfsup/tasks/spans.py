"""From scores of first and last tokens to answers: every span of a question compared, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.errors import UserError
from selfsup.tasks.windows import Window

_CELLS = 1 << 22  # spans looked at together: 32 MiB of scores


class Spans(NamedTuple):
    """The best spans of each window, best first."""

    scores: NDArray[np.float64]
    """(windows, top) start score + end score; -inf where there are fewer spans."""
    begins: NDArray[np.int64]
    """(windows, top) place of the first token; -1 where there are fewer spans."""
    ends: NDArray[np.int64]
    """(windows, top) place of the last token; -1 likewise."""
    log_totals: NDArray[np.float64]
    """(windows,) log of the sum of exp(score) over all spans; -inf where there is none."""


def best_spans(
    start: NDArray[np.floating[Any]],
    end: NDArray[np.floating[Any]],
    *,
    max_answer: int,
    top: int = 1,
) -> Spans:
    """The spans of at most `max_answer` tokens with the largest sums of start and end score.

    All `places · max_answer` spans are compared.  Of equal ones the earlier start is better, then the
    shorter span.

    Args:
        start: (windows, places) scores as a first token; -inf where no span may start, and in padding.
        end: (windows, places) scores as a last token; likewise.
        max_answer: most tokens of a span, 1 or more.
        top: how many spans of each window.
    """
    windows, places = start.shape
    reach = min(max_answer, places)
    if reach < 1:
        nothing = np.full((windows, top), -1, np.int64)
        scores = np.full((windows, top), -np.inf)
        return Spans(scores, nothing, nothing.copy(), np.full(windows, -np.inf))
    last = np.full((windows, places + reach - 1), -np.inf)
    last[:, :places] = end
    banded = np.lib.stride_tricks.sliding_window_view(last, reach, axis=1)
    # (windows, places · reach), ordered by start, then length: the first of equals is the better.
    sums = (start.astype(np.float64)[:, :, None] + banded).reshape(windows, places * reach)
    chosen = _first_largest(sums, top)
    scores = np.take_along_axis(sums, np.maximum(chosen, 0), axis=1)
    found = (chosen >= 0) & (scores > -np.inf)
    begins, lengths = np.divmod(chosen, reach)
    return Spans(
        np.where(found, scores, -np.inf),
        np.where(found, begins, -1),
        np.where(found, begins + lengths, -1),
        _log_sum_exp(sums),
    )


def _first_largest(sums: NDArray[np.float64], top: int) -> NDArray[np.int64]:
    """(rows, top) places of the largest, earlier before later where equal; -1 past the row's end."""
    rows, cells = sums.shape
    if top == 1:
        largest: NDArray[np.int64] = sums.argmax(axis=1)[:, None]
        return largest
    count = min(top, cells)
    chosen = np.full((rows, top), -1, np.int64)
    least = np.partition(sums, cells - count, axis=1)[:, cells - count]
    for row in range(rows):
        candidates = np.flatnonzero(sums[row] >= least[row])
        order = np.argsort(-sums[row, candidates], kind="stable")[:count]
        chosen[row, :count] = candidates[order]
    return chosen


def _log_sum_exp(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis; -inf for nothing."""
    peaks = values.max(axis=-1, initial=-np.inf)
    peaks = np.where(np.isfinite(peaks), peaks, 0.0)
    with np.errstate(divide="ignore"):
        totals: NDArray[np.float64] = np.log(np.exp(values - peaks[..., None]).sum(axis=-1)) + peaks
    return totals


@dataclass(frozen=True)
class Span:
    """One possible answer."""

    text: str
    begin: int
    """In characters of the passage."""
    end: int
    """One past its last character."""
    score: float
    """Start score + end score."""
    probability: float
    """Share of exp(score) among all spans of the question (and no answer, where it is allowed)."""


@dataclass(frozen=True)
class SpanAnswer:
    """What was found for one question."""

    text: str
    """The best span's; empty where there is none, or where no answer is allowed and wins."""
    spans: tuple[Span, ...]
    """The best spans, best first."""
    null_score: float
    """The smallest sum of the start and end score of `[CLS]` among the question's windows."""
    null_difference: float
    """`null_score` less the best span's score; infinite where there is no span."""
    null_probability: float
    """Of no answer; 0 where it is not allowed."""


class SpanDecoder:
    """Gathers scores batch by batch and keeps only the best spans of each window.

    As in BERT's script (Devlin et al. 2019) raw scores are compared across the windows of a question,
    a span may start only at a token that its window shows best (so that each span counts once), and
    the null score is the smallest of the windows: no answer must hold for each of them.  Batches may
    come in any order and cut; a window scored again replaces its scores.

    Args:
        windows: of `make_windows`.
        passages: (questions,) the texts that answers are cut from.
        max_answer: most tokens of an answer.
        top: how many spans to tell.
        nullable: whether no answer is an answer (SQuAD 2.0).
        null_threshold: no answer is given where `null_difference` exceeds it.
    """

    def __init__(
        self,
        windows: Sequence[Window],
        passages: Sequence[str],
        *,
        max_answer: int = 30,
        top: int = 1,
        nullable: bool = False,
        null_threshold: float = 0.0,
    ) -> None:
        if max_answer < 1 or top < 1:
            raise UserError("max_answer and top must be 1 or more")
        self.windows, self.passages = windows, passages
        self.max_answer, self.top = max_answer, top
        self.nullable, self.null_threshold = nullable, null_threshold
        count = len(windows)
        self._seen = np.zeros(count, np.bool_)
        self._scores = np.full((count, top), -np.inf)
        self._characters = np.zeros((count, top, 2), np.int64)
        self._log_totals = np.full(count, -np.inf)
        self._nulls = np.full(count, np.inf)

    def add(
        self, window_indices: Sequence[int] | NDArray[np.integer[Any]], start: Any, end: Any
    ) -> None:
        """Take the scores of some windows.

        Args:
            window_indices: (batch,) which ones.
            start: scores of all their tokens as an answer's first one; an array or a tensor, either
                packed, (tokens of these windows one after another,), or padded, (batch, length).
            end: as its last one; likewise.

        Raises:
            UserError: a score is not a number.
        """
        chosen = [int(number) for number in window_indices]
        longest = max((len(self.windows[number].offsets) for number in chosen), default=0)
        starts = self._rows(chosen, start)
        ends = self._rows(chosen, end)
        rows = max(1, _CELLS // max(1, longest * min(self.max_answer, longest)))
        for at in range(0, len(chosen), rows):
            part = slice(at, at + rows)
            self._decode(chosen[part], starts[part], ends[part])

    def _rows(self, chosen: list[int], scores: Any) -> list[NDArray[np.float64]]:
        """The scores of each window by itself."""
        if hasattr(scores, "detach"):  # a tensor; bfloat16 is unknown to numpy
            scores = scores.detach().float().cpu().numpy()
        values = np.asarray(scores, np.float64)
        if np.isnan(values).any() or np.isposinf(values).any():
            raise UserError("the model's scores are not numbers: no answer can be read from them")
        lengths = [len(self.windows[number].ids) for number in chosen]
        if (
            values.ndim == 2
            and len(values) == len(chosen)
            and values.shape[1] >= max(lengths, default=0)
        ):
            return [row[:length] for row, length in zip(values, lengths, strict=True)]
        if values.ndim != 1 or len(values) != sum(lengths):
            what = (
                f"scores of shape {values.shape} for {len(chosen)} windows of {sum(lengths)} tokens"
            )
            raise ValueError(what)
        return np.split(values, np.cumsum(lengths)[:-1]) if chosen else []

    def _decode(
        self, chosen: list[int], starts: list[NDArray[np.float64]], ends: list[NDArray[np.float64]]
    ) -> None:
        longest = max(len(self.windows[number].offsets) for number in chosen)
        first = np.full((len(chosen), longest), -np.inf)
        last = np.full((len(chosen), longest), -np.inf)
        for row, (number, start, end) in enumerate(zip(chosen, starts, ends, strict=True)):
            window = self.windows[number]
            count = len(window.offsets)
            passage = slice(window.first, window.first + count)
            visible = window.offsets[:, 0] < window.offsets[:, 1]
            first[row, :count] = np.where(visible & window.best, start[passage], -np.inf)
            last[row, :count] = np.where(visible, end[passage], -np.inf)
            self._nulls[number] = start[0] + end[0]
        found = best_spans(first, last, max_answer=self.max_answer, top=self.top)
        self._seen[chosen] = True
        self._scores[chosen] = found.scores
        self._log_totals[chosen] = found.log_totals
        for row, number in enumerate(chosen):
            window = self.windows[number]
            if len(window.offsets):
                self._characters[number, :, 0] = window.offsets[found.begins[row], 0]
                self._characters[number, :, 1] = window.offsets[found.ends[row], 1]

    def answers(self) -> list[SpanAnswer]:
        """One answer a question, in order.

        Raises:
            ValueError: windows were not scored.
        """
        if not self._seen.all():
            raise ValueError(
                f"{int((~self._seen).sum())} of {len(self.windows)} windows have no scores"
            )
        own: list[list[int]] = [[] for _ in self.passages]
        for number, window in enumerate(self.windows):
            own[window.question].append(number)
        return [self._answer(text, rows) for text, rows in zip(self.passages, own, strict=True)]

    def _answer(self, passage: str, rows: list[int]) -> SpanAnswer:
        scores = self._scores[rows].reshape(-1)
        begins = self._characters[rows, :, 0].reshape(-1)
        ends = self._characters[rows, :, 1].reshape(-1)
        order = np.lexsort((ends, begins, -scores))[: self.top]
        order = order[scores[order] > -np.inf]
        null_score = float(self._nulls[rows].min(initial=np.inf))
        candidates = self._log_totals[rows]
        if self.nullable:
            candidates = np.append(candidates, null_score)
        total = float(_log_sum_exp(candidates)) if np.isfinite(candidates).any() else 0.0
        spans = tuple(
            Span(passage[begin:end], begin, end, score, float(np.exp(score - total)))
            for begin, end, score in zip(
                begins[order].tolist(), ends[order].tolist(), scores[order].tolist(), strict=True
            )
        )
        difference = null_score - spans[0].score if spans else float("inf")
        none = not spans or (self.nullable and difference > self.null_threshold)
        share = float(np.exp(null_score - total)) if self.nullable else 0.0
        return SpanAnswer("" if none else spans[0].text, spans, null_score, difference, share)


def best_null_threshold(
    differences: NDArray[np.floating[Any]],
    scores: NDArray[np.floating[Any]],
    has_answer: NDArray[np.bool_],
) -> tuple[float, float]:
    """The threshold of `null_difference` with the best mean score, over all there are.

    As in SQuAD 2.0's script (Rajpurkar et al. 2018), save that questions of equal difference are
    taken or left together, since no threshold can part them.  Of equally good thresholds the smallest
    is given.  Choose it on other questions than those reported.

    Args:
        differences: (questions,) null score less best span's score.
        scores: (questions,) what the best span earns, exact match or F1 in 0 to 1; for an unanswerable
            question 0, or 1 where nothing was found.
        has_answer: (questions,).

    Returns:
        The threshold, for "no answer where the difference exceeds it" (one less than the smallest
        difference when none should be answered), and the mean score with it.

    Raises:
        UserError: there are no questions.
    """
    if not len(differences):
        raise UserError("there is no question to choose a threshold on")
    null_scores = (~np.asarray(has_answer, np.bool_)).astype(np.float64)
    order = np.argsort(differences, kind="stable")
    ordered = np.asarray(differences, np.float64)[order]
    gains = np.cumsum((np.asarray(scores, np.float64) - null_scores)[order])
    last_of_equals = np.append(ordered[1:] != ordered[:-1], True)
    totals = np.concatenate(([0.0], gains[last_of_equals])) + null_scores.sum()
    thresholds = np.concatenate(([ordered[0] - 1.0], ordered[last_of_equals]))
    best = int(totals.argmax())
    return float(thresholds[best]), float(totals[best] / len(ordered))
