"""Scaling rows by the range that nearly all training values lie in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TAIL = 0.005
_SPAN = 3.0
"""The inner 99 % of a column's values span this much."""


@dataclass(frozen=True)
class RangeScale:
    """value -> (value - center) / width, column by column; constant columns have width 1."""

    center: NDArray[np.float64]
    width: NDArray[np.float64]

    @classmethod
    def fit(cls, rows: NDArray[np.float64], common: bool = False) -> RangeScale:
        """Measure rows (rows, width).

        Args:
            rows: of training.
            common: one width for all columns, for those of one kind (pixels); the same range else
                makes a pixel that hardly ever has ink outweigh all others.
        """
        if common:
            center = rows.mean(axis=0)
            spread = 4 * float(np.sqrt(rows.var(axis=0).mean())) / _SPAN
            return cls(center, np.full(len(center), spread if spread > 0 else 1.0))
        low, high = np.quantile(rows, (_TAIL, 1 - _TAIL), axis=0)
        center = rows.mean(axis=0)
        spread = np.where(high > low, high - low, 4 * rows.std(axis=0))
        tiny = 1e-12 * np.maximum(np.abs(center), 1e-280)
        return cls(center, np.where(spread > tiny, spread / _SPAN, 1.0))

    def transform(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scaled rows."""
        scaled: NDArray[np.float64] = (rows - self.center) / self.width
        return scaled

    def inverse(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Rows in their own units."""
        back: NDArray[np.float64] = rows * self.width + self.center
        return back
