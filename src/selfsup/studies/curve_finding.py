"""What label curves say, in one sentence: how many labels pre-training saves, if any."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Scores = Mapping[str, Sequence[Sequence[float]]]
"""For each start, for each number of labels, the score of every seed."""
FLOORS = {
    "tfidf": "TF-IDF with a linear model",
    "lookup": "looking up each word's most frequent tag",
}
"""What needs no network; a study has one of them or none."""
Bound = Literal["", "at least", "at most"]

_GUESSING = 0.01  # above the majority's score, and it is still no more than guessing
_GAIN = 0.01  # by which more labels must help random weights in every seed


@dataclass(frozen=True)
class Reach:
    """How many labels a start needs to reach a score."""

    labels: float
    bound: Bound = ""
    """`at least`: more than were measured; `at most`: the fewest measured are enough."""


@dataclass(frozen=True)
class Finding:
    """The sentence, and the saving in it."""

    text: str
    pays: bool
    """Whether the pre-trained start is ahead at some number of labels, in every seed."""
    score: float = math.nan
    """At which the two are compared."""
    few: float = math.nan
    """Labels that the pre-trained start needs for it."""
    many: float = math.nan
    """Labels that random weights need for it."""
    bound: Bound = ""
    worst: float = math.nan
    """How many times fewer in the seed in which it is least; 1 or below: it saves none there."""

    @property
    def factor(self) -> float:
        """How many times fewer."""
        return self.many / self.few


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """Over the seeds."""
    return [float(np.median(row)) for row in rows]


def labels_needed(counts: Sequence[int], scores: Sequence[float], target: float) -> Reach:
    """Where a curve first reaches a score: between two counts by a line over the log of the labels.

    Args:
        counts: labels, rising.
        scores: median at each; a dip below an earlier value does not count.
        target: the score.
    """
    reached = np.maximum.accumulate(np.asarray(scores, np.float64))
    if reached[0] >= target:
        return Reach(float(counts[0]), "at most")
    if reached[-1] < target:
        return Reach(float(counts[-1]), "at least")
    i = int(np.argmax(reached >= target))
    share = (target - reached[i - 1]) / (reached[i] - reached[i - 1])
    low, high = math.log(counts[i - 1]), math.log(counts[i])
    return Reach(math.exp(low + share * (high - low)))


def equivalents(counts: Sequence[int], scores: Scores, main: Finding) -> list[dict[str, Any]]:
    """For each number of labels: how many random weights need to be as good, and what that saves.

    The last is left out where the sentence tells no saving.
    """
    rows = []
    cold = medians(scores["random"])
    for count, score in zip(counts, medians(scores["pretrained"]), strict=True):
        need = labels_needed(counts, cold, score)
        row = {
            "labels": count,
            "score": score,
            "random weights need": _bounded(need.bound, rounded(need.labels)),
        }
        if not math.isnan(main.factor):
            row["times fewer"] = _bounded(need.bound, times(need.labels / count))
        rows.append(row)
    return rows


def finding(
    counts: Sequence[int],
    scores: Scores,
    *,
    metric: str,
    unit: str = "labels",
    majority: float | None = None,
) -> Finding:
    """The answer to: was pre-training worth it, and how many labels does it save?

    The pre-trained start is ahead at a number of labels when it is in every seed (a seed has the same
    sample for both).  The saving is told at the score that random weights reach with the most labels, as
    the medians have it and in the worst seed; none is told unless random weights gain by more labels
    in every seed, since else any number of labels "matches" any other.

    Args:
        counts: labels, rising.
        scores: of `pretrained` and `random`, and where it was measured of one of `FLOORS`.
        metric: name of the score; more is better.
        unit: what is counted.
        majority: the score of always guessing the same.
    """
    main = _compare(counts, scores, metric, unit, majority)
    link = "but" if main.pays else "and"
    text = main.text + _against_floor(counts, scores, unit, link, _guessed(majority))
    if len(scores["pretrained"][0]) == 1:
        text += " (one seed: how far chance goes is not known)"
    return replace(main, text=f"{text}.")


def _guessed(majority: float | None) -> float:
    """A score up to which an answer is no more than guessing."""
    return -math.inf if majority is None else majority + _GUESSING


def _compare(
    counts: Sequence[int], scores: Scores, metric: str, unit: str, majority: float | None
) -> Finding:
    warm, cold = medians(scores["pretrained"]), medians(scores["random"])
    pairs = list(zip(counts, scores["pretrained"], scores["random"], strict=True))
    gaps = [[a - b for a, b in zip(one, two, strict=True)] for _, one, two in pairs]
    ahead = [i for i, row in enumerate(gaps) if min(row) > 0]
    behind = [i for i, row in enumerate(gaps) if max(row) < 0]
    most = rounded(counts[-1])
    last = f"with {most} {unit} {metric} {warm[-1]:.3f} after pre-training, {cold[-1]:.3f} without"
    guessed = _guessed(majority)
    if max(*warm, *cold) <= guessed:
        text = f"Neither start is better than guessing with any number of {unit}"
        return Finding(f"{text} ({last})", pays=False)
    if not ahead and not behind:
        text = (
            f"Pre-training does not pay here: no number of {unit} shows a difference in every seed"
        )
        return Finding(f"{text} ({last})", pays=False)
    if not ahead:
        where = listed([counts[i] for i in behind])
        text = f"Pre-training does not pay here: random weights are better with {where} {unit}"
        return Finding(f"{text} ({last})", pays=False)
    if cold[-1] <= guessed:
        learned = [i for i in ahead if warm[i] > guessed]
        if not learned:
            text = (
                "Pre-training does not pay here: where it is ahead in every seed, both only guess"
            )
            return Finding(f"{text} ({last})", pays=False)
        return _never_learned(counts, warm, cold, learned[0], metric, unit)
    need = labels_needed(counts, warm, cold[-1])
    if need.bound == "at least" or warm[-1] <= cold[-1]:
        return _few_labels_only(counts, scores, ahead, metric, unit)
    saved = counts[-1] / need.labels
    if len(counts) > 1 and not _gains(scores["random"]):
        return _nothing_gained(counts, warm, cold, ahead, metric, unit)
    worst = worst_saving(counts, scores)
    spread = _in_the_worst(worst, saved, len(scores["random"][0]))
    ends = f"; with all {most} it is {warm[-1]:.3f}" if warm[-1] > cold[-1] else ""
    if len(counts) == 1:
        text = (
            f"Pre-training is ahead: {last}; to see how many {unit} it saves, ask for smaller numbers, too "
            "(--labels)"
        )
        return Finding(text, True, cold[-1])
    if need.bound == "at most":
        text = (
            f"With {rounded(counts[0])} {unit}, the fewest tried, the pre-trained model ({metric} "
            f"{warm[0]:.3f}) is already as good as random weights with {most} ({cold[-1]:.3f}): "
            f"at least {times(saved)} times fewer{spread}"
        )
        return Finding(text + ends, True, cold[-1], need.labels, counts[-1], "at least", worst)
    text = (
        f"With {rounded(need.labels)} {unit} the pre-trained model matches random weights with "
        f"{most} ({metric} {cold[-1]:.3f}): {times(saved)} times fewer{spread}"
    )
    return Finding(text + ends, True, cold[-1], need.labels, counts[-1], worst=worst)


def worst_saving(counts: Sequence[int], scores: Scores) -> float:
    """How many times fewer labels in the seed that saves least.

    Each seed's pre-trained curve is asked where it reaches what the same seed's random weights have
    with the most labels.  A seed that ends below them saves nothing (1), wherever it once was.
    """
    needs = [
        labels_needed(counts, warm, cold[-1]).labels if warm[-1] >= cold[-1] else counts[-1]
        for warm, cold in _by_seed(scores)
    ]
    return min(counts[-1] / need for need in needs)


def _by_seed(scores: Scores) -> list[tuple[list[float], list[float]]]:
    """The curves of each seed: pre-trained, random."""
    warm, cold = (np.asarray(scores[s], np.float64).T.tolist() for s in ("pretrained", "random"))
    return list(zip(warm, cold, strict=True))


def _gains(rows: Sequence[Sequence[float]]) -> bool:
    """Whether in every seed the most labels give noticeably more than the fewest."""
    return all(last >= first + _GAIN for first, last in zip(rows[0], rows[-1], strict=True))


def _in_the_worst(worst: float, saved: float, seeds: int) -> str:
    if seeds == 1:
        return ""
    if worst <= 1:
        return f" (in the worst of {seeds} seeds none)"
    if worst >= saved or times(worst) == times(saved):
        return " in every seed"
    return f" (in the worst of {seeds} seeds {times(worst)})"


def _nothing_gained(
    counts: Sequence[int],
    warm: Sequence[float],
    cold: Sequence[float],
    ahead: Sequence[int],
    metric: str,
    unit: str,
) -> Finding:
    i = ahead[-1]
    text = (
        f"The pre-trained model is ahead with {listed([counts[i] for i in ahead])} {unit} ({metric} "
        f"{warm[i]:.3f} against {cold[i]:.3f}); what it saves cannot be told: random weights did not "
        f"gain in every seed from {rounded(counts[0])} to {rounded(counts[-1])} {unit} (medians "
        f"{cold[0]:.3f} and {cold[-1]:.3f})"
    )
    return Finding(text, True, cold[i])


def _never_learned(
    counts: Sequence[int],
    warm: Sequence[float],
    cold: Sequence[float],
    first: int,
    metric: str,
    unit: str,
) -> Finding:
    saved = counts[-1] / counts[first]
    fewer = f": at least {times(saved)} times fewer" if saved > 1 else ""
    text = (
        f"With {rounded(counts[first])} {unit} the pre-trained model has {metric} {warm[first]:.3f}, "
        f"while random weights are no better than guessing even with {rounded(counts[-1])} "
        f"({cold[-1]:.3f}){fewer}"
    )
    return Finding(text, True, warm[first], counts[first], counts[-1], "at least")


def _few_labels_only(
    counts: Sequence[int], scores: Scores, ahead: Sequence[int], metric: str, unit: str
) -> Finding:
    """Random weights are level or better at the end; the saving is told where it is largest."""
    warm, cold = medians(scores["pretrained"]), medians(scores["random"])
    needs = {i: labels_needed(counts, cold, warm[i]) for i in ahead}
    best = max(ahead, key=lambda i: needs[i].labels / counts[i])
    few, many = counts[best], needs[best].labels
    start = f"Pre-training pays only with few {unit}"
    end = "better" if cold[-1] > warm[-1] else "as good"
    ends = f"with {rounded(counts[-1])} random weights are {end} ({cold[-1]:.3f} against {warm[-1]:.3f})"
    if many <= few:  # ahead in every seed, yet random weights did as well with fewer
        where = listed([counts[i] for i in ahead])
        return Finding(f"{start} ({where}), and saves none; {ends}", pays=True)
    worst = min(labels_needed(counts, c, w[best]).labels / few for w, c in _by_seed(scores))
    spread = _in_the_worst(worst, many / few, len(scores["random"][0]))
    bound = needs[best].bound
    matched = f"matches random weights with {rounded(many)} ({metric} {warm[best]:.3f})"
    if bound == "at least":
        matched = f"has {metric} {warm[best]:.3f}, which random weights reach with no number tried"
    saved = _bounded(bound, f"{times(many / few)} times fewer")
    text = f"{start}: with {rounded(few)} the model {matched}: {saved}{spread}, but {ends}"
    return Finding(text, True, warm[best], few, many, bound, worst)


def _against_floor(
    counts: Sequence[int], scores: Scores, unit: str, link: str, guessed: float
) -> str:
    floor = next((key for key in FLOORS if key in scores), None)
    if floor is None:
        return ""
    warm, plain, name = medians(scores["pretrained"]), medians(scores[floor]), FLOORS[floor]
    wins = [i for i in range(len(counts)) if plain[i] > max(warm[i], guessed)]
    if not wins:
        return ""
    if len(wins) == len(counts):
        last = f"{plain[-1]:.3f} against {warm[-1]:.3f} with {rounded(counts[-1])}"
        return f", {link} {name} beats the pre-trained model everywhere ({last})"
    i, where = wins[-1], listed([counts[i] for i in wins])
    last = f"{plain[i]:.3f} against {warm[i]:.3f}"
    last += f" with {rounded(counts[i])}" if len(wins) > 1 else ""
    text = f"{name} beats the pre-trained model"
    return f", {link} {text} with {where} {unit} ({last})"


def largest_saving(counts: Sequence[int], scores: Scores, main: Finding, unit: str) -> str:
    """Where the saving is largest, when it is more than the sentence says; else empty."""
    if not main.factor > 1 or main.bound:
        return ""
    cold = medians(scores["random"])
    pairs = list(zip(counts, scores["pretrained"], scores["random"], strict=True))
    ahead = [
        (labels_needed(counts, cold, float(np.median(a))), count, float(np.median(a)))
        for count, a, b in pairs
        if all(x > y for x, y in zip(a, b, strict=True))
    ]
    need, count, score = max(ahead, key=lambda found: found[0].labels / found[1])
    factor = need.labels / count
    if factor < 1.1 * main.factor:
        return ""
    return (
        f"The saving is largest at {rounded(count)} {unit}, which do what random weights need "
        f"{_bounded(need.bound, rounded(need.labels))} for ({score:.3f}): "
        f"{_bounded(need.bound, times(factor))} times fewer."
    )


def probe_note(
    counts: Sequence[int], scores: Scores, unit: str, majority: float | None = None
) -> str:
    """Whether a linear model over the frozen encoder does as well as training all of it.

    Args:
        counts: labels, rising.
        scores: of `pretrained` and `probe`.
        unit: what is counted.
        majority: the score of always guessing the same.
    """
    tuned, probe, guessed = (
        medians(scores["pretrained"]),
        medians(scores["probe"]),
        _guessed(majority),
    )
    wins = [c for c, a, b in zip(counts, tuned, probe, strict=True) if b > max(a, guessed)]
    ends = f"({probe[-1]:.3f} against {tuned[-1]:.3f} with {rounded(counts[-1])} {unit})"
    if len(wins) == len(counts):
        return (
            f"A linear model over the frozen encoder is better than fine-tuning everywhere {ends}."
        )
    if not wins:
        ends = f"({tuned[-1]:.3f} against {probe[-1]:.3f} with {rounded(counts[-1])} {unit})"
        if max(*tuned, *probe) <= guessed:
            which = "Neither fine-tuning nor a linear model over the frozen encoder"
            return f"{which} is better than guessing {ends}."
        text = "Fine-tuning is at least as good as a linear model over the frozen encoder"
        if any(b > a for a, b in zip(tuned, probe, strict=True)):
            text += " where one of them does more than guess"
        return f"{text} {ends}."
    where, last = listed(wins), counts.index(wins[-1])
    # of the largest number with which it does
    ends = f"({probe[last]:.3f} against {tuned[last]:.3f}"
    ends += f" with {rounded(wins[-1])})" if len(wins) > 1 else ")"
    return f"A linear model over the frozen encoder beats fine-tuning with {where} {unit} {ends}."


def rounded(labels: float) -> str:
    """Two leading figures of what was interpolated; what was measured is told as it is."""
    if float(labels).is_integer():
        return f"{labels:,.0f}"
    digits = max(0, int(math.log10(max(labels, 1))) - 1)
    return f"{round(labels, -digits):,.0f}"


def times(factor: float) -> str:
    """A factor for people."""
    return f"{factor:,.0f}" if factor >= 9.95 else f"{factor:.1f}"


def listed(counts: Sequence[int]) -> str:
    """`16, 64 and 256`."""
    said = [rounded(c) for c in counts]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} and {said[-1]}"


def _bounded(bound: str, text: str) -> str:
    return f"{bound} {text}".strip()
