from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from selfsup.errors import UserError
from selfsup.tasks.spans import SpanDecoder, _first_largest, best_null_threshold, best_spans
from selfsup.tasks.windows import Window, _best_context, _cuts

# Few different values, so that ties are the rule.
SCORES = st.sampled_from([-math.inf, -2.5, -1.0, 0.0, 0.5, 0.75, 3.0])


def brute(start: list[float], end: list[float], max_answer: int) -> list[tuple[float, int, int]]:
    spans = [
        (start[i] + end[j], i, j)
        for i in range(len(start))
        for j in range(i, len(end))
        if j - i < max_answer
    ]
    return sorted((s for s in spans if s[0] > -math.inf), key=lambda s: (-s[0], s[1], s[2]))


def log_total(scores: list[float]) -> float:
    return math.log(math.fsum(map(math.exp, scores))) if scores else -math.inf


@given(st.data(), st.integers(0, 9), st.integers(0, 4), st.integers(1, 11), st.integers(1, 7))
@settings(deadline=None, max_examples=300)
def test_best_spans_equal_brute_force(
    data: st.DataObject, places: int, windows: int, max_answer: int, top: int
) -> None:
    def draw() -> NDArray[np.float64]:
        row = st.lists(SCORES, min_size=places, max_size=places)
        return np.array([data.draw(row) for _ in range(windows)]).reshape(windows, places)

    start, end = draw(), draw()
    found = best_spans(start, end, max_answer=max_answer, top=top)
    assert found.scores.shape == found.begins.shape == found.ends.shape == (windows, top)
    for row in range(windows):
        wanted = brute(start[row].tolist(), end[row].tolist(), max_answer)
        assert found.log_totals[row] == pytest.approx(log_total([s[0] for s in wanted]), abs=1e-12)
        wanted = (wanted + [(-math.inf, -1, -1)] * top)[:top]
        found_row = zip(found.scores[row], found.begins[row], found.ends[row], strict=True)
        assert [tuple(map(float, span)) for span in found_row] == wanted


def test_the_largest_of_many_equals() -> None:
    sums = np.zeros((2, 50))
    sums[1, [7, 30]] = 1
    assert _first_largest(sums, 4).tolist() == [[0, 1, 2, 3], [7, 30, 0, 1]]
    assert _first_largest(np.full((1, 2), -np.inf), 3).tolist() == [[0, 1, -1]]


def windows_of(question: int, tokens: int, room: int, overlap: int, head: int = 4) -> list[Window]:
    """Windows of a passage whose tokens are two letters and a blank."""
    offsets = np.array([(3 * i, 3 * i + 2) for i in range(tokens)], np.int32).reshape(-1, 2)
    cuts = _cuts(tokens, room, overlap)
    return [
        Window(question, np.zeros(head + e - b + 1, np.int64), head, b, tokens, offsets[b:e], best)
        for (b, e), best in zip(cuts, _best_context(cuts), strict=True)
    ]


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_decoder_equals_brute_force_whatever_the_batches(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    room = data.draw(st.integers(2, 5))
    overlap = data.draw(st.integers(0, room - 1))
    max_answer, top = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3))
    nullable = data.draw(st.booleans())
    windows = [w for q, tokens in enumerate(lengths) for w in windows_of(q, tokens, room, overlap)]
    passages = ["".join(f"{chr(97 + i)}{i} " for i in range(tokens)) for tokens in lengths]
    finite = st.sampled_from([-2.5, -1.0, 0.0, 0.5, 3.0])
    scores = [
        np.array([data.draw(st.lists(finite, min_size=n, max_size=n)) for _ in range(2)])
        for n in (len(w.ids) for w in windows)
    ]
    decoder = SpanDecoder(
        windows, passages, max_answer=max_answer, top=top, nullable=nullable, null_threshold=0.5
    )
    order = data.draw(st.permutations(range(len(windows))))
    size = data.draw(st.integers(1, 4))
    for at in range(0, len(order), size):
        batch = order[at : at + size]
        decoder.add(batch, *(np.concatenate([scores[n][k] for n in batch]) for k in (0, 1)))
    for question, answer in enumerate(decoder.answers()):
        own = [n for n, w in enumerate(windows) if w.question == question]
        spans, null = [], math.inf
        for n in own:
            window = windows[n]
            inside = slice(window.first, window.first + len(window.offsets))
            start = np.where(window.best, scores[n][0][inside], -np.inf)
            spans += [
                (s, 3 * (window.begin + i), 3 * (window.begin + j) + 2)
                for s, i, j in brute(start.tolist(), scores[n][1][inside].tolist(), max_answer)
            ]
            null = min(null, scores[n][0][0] + scores[n][1][0])
        spans.sort(key=lambda s: (-s[0], s[1], s[2]))
        total = log_total([s[0] for s in spans] + [null] * nullable)
        assert [(s.score, s.begin, s.end) for s in answer.spans] == spans[:top]
        assert answer.null_score == null
        for span in answer.spans:
            assert span.text == passages[question][span.begin : span.end]
            assert span.probability == pytest.approx(math.exp(span.score - total), rel=1e-9)
        assert answer.null_probability == pytest.approx(math.exp(null - total) if nullable else 0)
        assert answer.null_difference == (null - spans[0][0] if spans else math.inf)
        none = not spans or (nullable and answer.null_difference > 0.5)
        assert answer.text == ("" if none else answer.spans[0].text)


def test_padded_packed_and_tensors_agree() -> None:
    generator = np.random.default_rng(0)
    windows = windows_of(0, 7, 5, 2) + windows_of(1, 3, 5, 2)
    passages = ["a0 " * 7, "b0 " * 3]
    lengths = [len(window.ids) for window in windows]
    padded = generator.normal(size=(2, len(windows), max(lengths) + 3)).astype(np.float32)
    padded = torch.from_numpy(padded).bfloat16().float().numpy()
    packed = [np.concatenate([padded[k, n, :c] for n, c in enumerate(lengths)]) for k in (0, 1)]
    everything = list(range(len(windows)))
    found = []
    for start, end in (
        padded,
        packed,
        [torch.from_numpy(x).bfloat16().requires_grad_() for x in packed],
    ):
        decoder = SpanDecoder(windows, passages, top=4)
        decoder.add(everything, start, end)
        found.append(decoder.answers())
    assert found[0] == found[1] == found[2]
    assert abs(sum(span.probability for span in found[1][1].spans)) <= 1 + 1e-12


def test_large_batches_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = [window for q in range(5) for window in windows_of(q, 9, 5, 2)]
    scores = np.random.default_rng(1).normal(size=(2, sum(len(w.ids) for w in windows)))
    whole, cut = (SpanDecoder(windows, ["a0 " * 9] * 5, top=2) for _ in range(2))
    whole.add(range(len(windows)), *scores)
    monkeypatch.setattr("selfsup.tasks.spans._CELLS", 60)
    cut.add(np.arange(len(windows)), *scores)
    assert whole.answers() == cut.answers()


def test_what_the_decoder_refuses() -> None:
    windows = windows_of(0, 4, 5, 2)
    decoder = SpanDecoder(windows, ["a0 " * 4])
    with pytest.raises(ValueError, match="1 of 1 windows have no scores"):
        decoder.answers()
    with pytest.raises(ValueError, match=r"scores of shape \(3,\) for 1 windows of 9 tokens"):
        decoder.add([0], np.zeros(3), np.zeros(9))
    with pytest.raises(UserError, match="not numbers"):
        decoder.add([0], np.full(9, np.nan), np.zeros(9))
    with pytest.raises(UserError, match="must be 1 or more"):
        SpanDecoder(windows, ["a0 " * 4], max_answer=0)
    decoder.add([], np.zeros(0), np.zeros(0))


def test_blank_tokens_are_no_ends() -> None:
    window = windows_of(0, 3, 5, 2)[0]
    window.offsets[1] = (3, 3)
    start, end = np.zeros((2, len(window.ids)))
    start[window.first + 1] = end[window.first + 1] = 9
    decoder = SpanDecoder([window], ["aa   cc"], top=9)
    decoder.add([0], start, end)
    assert [(s.begin, s.end) for s in decoder.answers()[0].spans] == [(0, 2), (0, 8), (6, 8)]


def slow_threshold(
    differences: list[float], scores: list[float], has: list[bool]
) -> tuple[float, float]:
    def mean(threshold: float) -> float:
        triples = zip(differences, scores, has, strict=True)
        return math.fsum((not h) if d > threshold else s for d, s, h in triples) / len(scores)

    tried = [min(differences) - 1, *sorted(differences)]
    best = max(map(mean, tried))
    return next(t for t in tried if mean(t) > best - 1e-12), best


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-3.0, -1.0, 0.0, 0.25, 2.0, 7.0]),
            st.sampled_from([0.0, 0.25, 0.5, 1.0]),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(deadline=None)
def test_best_null_threshold_equals_brute_force(rows: list[tuple[float, float, bool]]) -> None:
    differences, scores, has = (list(column) for column in zip(*rows, strict=True))
    found = best_null_threshold(np.array(differences), np.array(scores), np.array(has))
    assert found == pytest.approx(slow_threshold(differences, scores, has), abs=1e-12)


def test_best_null_threshold_of_none() -> None:
    with pytest.raises(UserError, match="no question"):
        best_null_threshold(np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))
