"""Long passages in overlapping windows that a model can read, each beside its question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.tokenizer_scripts import over_marks
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.tasks.squad import Question

_BATCH = 1000


@dataclass(frozen=True)
class Window:
    """`[CLS] question [SEP] part of the passage [SEP]`."""

    question: int
    """Which question, by its place in the list."""
    ids: NDArray[np.int64]
    """(tokens,)."""
    first: int
    """The place in `ids` of the window's first passage token."""
    begin: int
    """Which of the passage's tokens that is."""
    total: int
    """Tokens of the whole passage."""
    offsets: NDArray[np.int32]
    """(passage tokens of the window, 2) begin and end in characters of the passage, without blanks
    at a token's ends and with the marks that the tokenizer has stripped; windows of a passage share this
    memory."""
    best: NDArray[np.bool_]
    """(passage tokens of the window,) whether no other window shows the token with more context, the
    smaller of the tokens to its left and right (Devlin et al.'s max-context rule); every token of a
    passage is best in exactly one window."""

    @property
    def types(self) -> NDArray[np.int64]:
        """(tokens,) 0 for `[CLS] question [SEP]`, 1 for the passage and its `[SEP]`."""
        types = np.ones(len(self.ids), np.int64)
        types[: self.first] = 0
        return types


class _Passage(NamedTuple):
    ids: NDArray[np.int64]
    offsets: NDArray[np.int32]


def make_windows(
    tokenizer: Tokenizer,
    questions: Sequence[str],
    passages: Sequence[str],
    *,
    max_length: int = 384,
    stride: int = 128,
    max_question: int = 64,
) -> list[Window]:
    """Questions beside their passages, cut into windows; at least one window a question, in order.

    Args:
        tokenizer: needs `[CLS]` and `[SEP]`.
        questions: one a passage; an empty one is allowed.
        passages: equal ones are encoded once; an empty one gives one window without passage.
        max_length: most tokens of a window, special ones included.
        stride: passage tokens that a window shares with the one before it: the overlap, as `stride`
            is in Hugging Face's tokenizers.  (In BERT's own script, `doc_stride` is the advance.)
        max_question: a longer question loses its end.

    Raises:
        UserError: the tokenizer lacks a special token, or the longest question leaves no more than
            `stride` tokens for the passage.
    """
    if len(questions) != len(passages):
        raise ValueError(f"{len(questions)} questions, {len(passages)} passages")
    asked = _heads(tokenizer, questions, max_length, stride, max_question)
    known = _encode(tokenizer, list(dict.fromkeys(passages)))
    tail = np.array([tokenizer.sep_id], np.int64)
    windows: list[Window] = []
    for number, (head, passage) in enumerate(zip(asked, passages, strict=True)):
        ids, offsets = known[passage]
        room = max_length - len(head) - 1
        spans = _cuts(len(ids), room, stride)
        for (begin, end), best in zip(spans, _best_context(spans), strict=True):
            whole = np.concatenate((head, ids[begin:end], tail))
            windows.append(
                Window(number, whole, len(head), begin, len(ids), offsets[begin:end], best)
            )
    return windows


def _heads(
    tokenizer: Tokenizer, questions: Sequence[str], max_length: int, stride: int, max_question: int
) -> list[NDArray[np.int64]]:
    """`[CLS] question [SEP]` of each, or why the passages would not fit beside them."""
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    if cls is None or sep is None:
        raise UserError("the tokenizer has no [CLS] and [SEP], which questions and passages need")
    if stride < 0 or max_question < 1:
        raise UserError("stride must be 0 or more and max_question 1 or more")
    asked = [
        np.concatenate(([cls], ids[:max_question], [sep])).astype(np.int64)
        for ids in tokenizer.encode_batch(questions, special=False)
    ]
    longest = max(map(len, asked), default=2)
    if max_length - longest - 1 <= stride:
        raise UserError(
            f"windows of {max_length} tokens leave {max(0, max_length - longest - 1)} for the passage "
            f"beside a question of {longest - 2}, and {stride} of them would overlap",
            mend="raise max_length, or lower stride or max_question",
        )
    return asked


def _encode(tokenizer: Tokenizer, texts: list[str]) -> dict[str, _Passage]:
    found: dict[str, _Passage] = {}
    for at in range(0, len(texts), _BATCH):
        batch = texts[at : at + _BATCH]
        encodings = tokenizer.inner.encode_batch(batch, add_special_tokens=False)
        for text, encoding in zip(batch, encodings, strict=True):
            offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
            offsets = _without_blanks(text, over_marks(text, offsets))
            found[text] = _Passage(np.array(encoding.ids, np.int64), offsets)
    return found


def _without_blanks(text: str, offsets: NDArray[np.int32]) -> NDArray[np.int32]:
    """Offsets moved inwards over blanks: byte-level tokens may count the space before a word."""
    blank = np.array([letter.isspace() for letter in text] + [False], np.bool_)
    begins, ends = offsets[:, 0].copy(), offsets[:, 1].copy()
    while (inward := (begins < ends) & blank[begins]).any():
        begins += inward
    while (inward := (begins < ends) & blank[ends - 1]).any():
        ends -= inward
    return np.stack((begins, ends), axis=1)


def _cuts(tokens: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Begin and end of each window among a passage's tokens."""
    cuts = [(0, min(room, tokens))]
    while cuts[-1][1] < tokens:
        begin = cuts[-1][0] + room - overlap
        cuts.append((begin, min(begin + room, tokens)))
    return cuts


def _best_context(spans: list[tuple[int, int]]) -> list[NDArray[np.bool_]]:
    """For each window, which of its tokens it shows best; the earlier window where two are equal."""
    if len(spans) == 1:
        return [np.ones(spans[0][1], np.bool_)]
    tokens = spans[-1][1]
    highest = np.full(tokens, -1, np.int64)
    owner = np.zeros(tokens, np.int64)
    for number, (begin, end) in enumerate(spans):
        place = np.arange(end - begin)
        # BERT's rule is min(left, right) + 0.01 · window length; hundredfold, it is whole numbers.
        context = 100 * np.minimum(place, place[::-1]) + (end - begin)
        better = context > highest[begin:end]
        highest[begin:end][better] = context[better]
        owner[begin:end][better] = number
    return [owner[begin:end] == number for number, (begin, end) in enumerate(spans)]


class Targets(NamedTuple):
    """What training asks of each window."""

    starts: NDArray[np.int64]
    """(windows,) place in the window's `ids` of the answer's first token; 0, the `[CLS]`, where the
    window does not hold the whole answer or there is none."""
    ends: NDArray[np.int64]
    """(windows,) of its last token."""
    lost: int
    """Questions with answers of which the first with a place is in none of their windows, or none has
    a place."""
    unaligned: int
    """Questions whose answer begins or ends within a token; the targets then cover a little more."""


def window_targets(windows: Sequence[Window], questions: Sequence[Question]) -> Targets:
    """Where the first answer of each question that has a place in the passage lies in each window.

    Args:
        windows: of `make_windows`; a question's own may be parted or left out.
        questions: those the windows number.
    """
    starts, ends = np.zeros(len(windows), np.int64), np.zeros(len(windows), np.int64)
    answers = [_target(question) for question in questions]
    asked = {window.question for window in windows if questions[window.question].answers}
    held: set[int] = set()
    unaligned: set[int] = set()
    for number, window in enumerate(windows):
        answer = answers[window.question]
        if answer is None or not len(window.offsets):
            continue
        begin, end = answer
        begins, finishes = window.offsets[:, 0], window.offsets[:, 1]
        first = int(np.searchsorted(finishes, begin, side="right"))
        last = int(np.searchsorted(begins, end, side="left")) - 1
        # Letters that the tokenizer drops belong to no token: at a passage's ends they may be missing.
        from_here = begins[0] <= begin or window.begin == 0
        to_here = finishes[-1] >= end or window.begin + len(begins) == window.total
        if first > last or not (from_here and to_here):
            continue
        starts[number], ends[number] = window.first + first, window.first + last
        held.add(window.question)
        if begins[first] != begin or finishes[last] != end:
            unaligned.add(window.question)
    return Targets(starts, ends, len(asked - held), len(unaligned))


def _target(question: Question) -> tuple[int, int] | None:
    """Begin and end of the first answer with a place, in characters, without blanks around it."""
    answer = next((answer for answer in question.answers if answer.begin >= 0), None)
    if answer is None or not answer.text.strip():
        return None
    begin = answer.begin + len(answer.text) - len(answer.text.lstrip())
    return begin, begin + len(answer.text.strip())
