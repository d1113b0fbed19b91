"""What accuracy against the number of examples in the prompt says, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MOST_FREQUENT, GUESSING = "the most frequent answer", "guessing among the choices"


def finding(
    points: Sequence[Mapping[str, Any]],
    main: str,
    majority: float,
    asked: int,
    *,
    floor: str = MOST_FREQUENT,
    examples: int | None = None,
) -> str:
    """Whether accuracy rises with the examples, and whether their labels matter.

    A change counts when it is larger than the draws' spread (no draw of one overlaps the other; for
    shuffled labels, every draw agrees on the sign) and than two standard errors of the examples that
    were asked about.

    Args:
        points: `shots`, `draw`, `labels`, and the accuracy under `main`.
        main: which accuracy.
        majority: the accuracy of the floor.
        asked: examples asked about.
        floor: what the floor is called.
        examples: of how many they are, where some were left out.
    """
    counts = sorted({p["shots"] for p in points})
    if not counts:
        return "Nothing could be measured."
    low, high = counts[0], counts[-1]
    last = _values(points, high, "true", main)
    said = f"accuracy {_said(last)} with {_examples(high)}"
    end = f"{floor} has {majority:.3f}"
    if examples is not None and examples != asked:
        end += f" ({asked:,} of {examples:,} examples were asked about)"
    if low == high:
        return f"{said[0].upper()}{said[1:]}; {end}."
    first = _values(points, low, "true", main)
    error = 2 * _error(float(np.median(last)), asked)
    change = float(np.median(last) - np.median(first))
    if min(last) > max(first) and change > error:
        text = f"Accuracy rises with the examples: {_said(first)} with {_examples(low)}, "
        text += f"{_said(last)} with {high}"
        if float(np.median(last)) - majority <= error:
            text += f", but not beyond {floor}"
    elif max(last) < min(first) and -change > error:
        text = f"Accuracy falls with the examples: {_said(first)} with {_examples(low)}, "
        text += f"{_said(last)} with {high}"
    else:
        text = (
            f"Accuracy does not rise beyond the draws' spread: {_said(first)} with "
            f"{_examples(low)}, {_said(last)} with {high}"
        )
    return f"{text}; {_labels(points, high, main, error)}; {end}."


def _labels(points: Sequence[Mapping[str, Any]], count: int, main: str, error: float) -> str:
    """Whether true labels beat shuffled ones, draw by draw."""
    true = {p["draw"]: p[main] for p in points if p["shots"] == count and p["labels"] == "true"}
    other = {p["draw"]: p[main] for p in points if p["shots"] == count and p["labels"] != "true"}
    if not other:
        return "labels were not shuffled"
    gaps = [true[d] - other[d] for d in sorted(other)]
    gap = float(np.median(gaps))
    spread = f"{gap:+.3f}, {min(gaps):+.3f} to {max(gaps):+.3f}"
    if min(gaps) > 0 and gap > error:
        return f"true labels are better than shuffled ones ({spread})"
    if max(gaps) < 0 and -gap > error:
        return f"true labels are worse than shuffled ones ({spread})"
    return f"true labels are no better than shuffled ones ({spread})"


def _values(points: Sequence[Mapping[str, Any]], count: int, labels: str, main: str) -> list[float]:
    return [p[main] for p in points if p["shots"] == count and p["labels"] == labels]


def _said(values: Sequence[float]) -> str:
    median = f"{np.median(values):.3f}"
    return median if len(values) < 2 else f"{median} ({min(values):.3f} to {max(values):.3f})"


def _examples(count: int) -> str:
    return "no example" if count == 0 else "1 example" if count == 1 else f"{count} examples"


def _error(share: float, count: int) -> float:
    """Standard error of a share, never 0: one more right answer among two more."""
    inside = (share * count + 1) / (count + 2)
    return math.sqrt(inside * (1 - inside) / count)
