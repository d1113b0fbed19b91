"""Scaling rows by the range that nearly all training values lie in; of pixels, by their light as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import LARGEST

_TAIL, _FEW = 0.005, 20
_SPAN = 3.0
"""The inner 99 % of a column's values span this much."""
WORD_WIDTH = 1 / _SPAN
"""Of the places of words, which are 0 or 1: that of a word in at least one row of 200."""
USUAL_GAPS = 0.2
"""The share of rows with a gap from which on a mark of one weighs as a word does."""
LIGHT = 0.45
"""How much of an image's light is taken out; the best of six powers on training images of MNIST and
Fashion-MNIST together (docs/log.md)."""


def soften(rows: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Divide each row by a power of its length, so that how much light it has counts less than where.

    A row's distance to others grows with its length: of digits, those with much ink lie far from
    everything.  Rows of length 1 (as in Ruff et al. 2018, who normalize contrast) lose it altogether,
    and a dim image is then as usual as a bright one; powers between keep a part, and `harden` takes it
    back.
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    softer: NDArray[np.float64] = rows / np.where(length > 0, length, 1.0) ** power
    return softer


def harden(rows: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """What `soften` was given; powers are below 1."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    back: NDArray[np.float64] = rows * length ** (power / (1 - power))
    return back


def _inner_range(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the greatest value of each column without its tails.

    Of more than `_FEW` rows at least one is left out at each end: a single mark of a missing value, such
    as -9999, would else decide the width of a small table's column.
    """
    tail = max(int(_TAIL * len(rows)), int(len(rows) > _FEW))
    low, high = tail, len(rows) - 1 - tail
    ordered = np.partition(rows, (low, high), axis=0)
    return ordered[low], ordered[high]


@dataclass(frozen=True)
class RangeScale:
    """value -> (value - center) / width, column by column; constant columns have width 1."""

    center: NDArray[np.float64]
    width: NDArray[np.float64]
    power: float = 0.0
    """Of each row's length, by which it is divided first (`soften`)."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pickles of before 2026-11-26 said only whether half of the light was taken out."""
        if "softened" in state:
            state = {**state, "power": 0.5 if state["softened"] else 0.0}
            del state["softened"]
        vars(self).update(state)

    @classmethod
    def fit(cls, rows: NDArray[np.float64], kind: str = "columns") -> RangeScale:
        """Measure rows (rows, width).

        Args:
            rows: of training.
            kind: `columns`, each of its own width; `common`, one width for all columns, for those of
                one kind: the same range else makes a pixel that hardly ever has ink outweigh all
                others; `pixels`, `common` on softened rows.
        """
        if kind == "pixels":
            return replace(cls.fit(soften(rows, LIGHT), "common"), power=LIGHT)
        if kind == "common":
            center = rows.mean(axis=0)
            spread = 4 * float(np.sqrt(rows.var(axis=0).mean())) / _SPAN
            return cls(center, np.full(len(center), spread if spread > 0 else 1.0))
        low, high = _inner_range(rows)
        whole = high > low
        center = np.where(whole, np.clip(rows, low, high).mean(axis=0), rows.mean(axis=0))
        width = np.where(whole, high - low, 4 * rows.std(axis=0))
        tiny = 1e-12 * np.maximum(np.abs(center), 1e-280)
        return cls(center, np.where(width > tiny, width / _SPAN, 1.0))

    def of_words(self, places: Iterable[slice]) -> RangeScale:
        """The same, but with one width for all words of a column, also for those never seen.

        By its own spread a rare word would outweigh all numbers, and one never seen, which has no
        spread, would weigh least of all.

        Args:
            places: of each column of words.
        """
        width = self.width.copy()
        for place in places:
            width[place] = WORD_WIDTH
        return replace(self, width=width)

    def of_gaps(self, marks: Sequence[int], rows: NDArray[np.float64]) -> RangeScale:
        """The same, but with marks of gaps that weigh as words where `USUAL_GAPS` of the rows have one.

        Of rarer marks each weighs less, in proportion: a row with a gap has few others to lie next to,
        and would else be strange for the gap alone.  The same holds for what hardly any row lacks.

        Args:
            marks: their places, which are 0 or 1.
            rows: of training (rows, width).
        """
        width = self.width.copy()
        share = rows[:, list(marks)].mean(axis=0)
        rarer = np.maximum(np.minimum(share, 1 - share), 1 / len(rows))
        width[list(marks)] = WORD_WIDTH * np.maximum(USUAL_GAPS / rarer, 1.0)
        return replace(self, width=width)

    def transform(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled rows; what float32, which some floors compute in, could not hold is its largest number."""
        if self.power:
            rows = soften(rows, self.power)
        with np.errstate(over="ignore"):
            scaled: NDArray[np.float64] = rows - self.center
            scaled /= self.width
        return np.clip(scaled, -LARGEST, LARGEST, out=scaled)

    def inverse(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows in their own units."""
        back: NDArray[np.float64] = rows * self.width + self.center
        return harden(back, self.power) if self.power else back
