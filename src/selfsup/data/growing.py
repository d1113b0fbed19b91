"""A table's column while it is read: numbers are turned into numbers part by part, and kept as texts once
more, packed, for as long as the column may turn out to hold words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import numbers_or_gaps

PART = 4096
"""Rows of a part."""
_END = "\0"
"""Stands between packed texts; no number holds it."""


class _Numbers(NamedTuple):
    """A part that holds numbers and gaps alone."""

    values: NDArray[np.float64]
    texts: str | None
    """As they were written, packed; None where they were numbers of this very kind."""


class GrowingColumn:
    """One column, value by value.

    Args:
        settled: whether it becomes float64 if all values are numbers or gaps; where they are not, and
            without, it is what it would be without parts.
    """

    def __init__(self, settled: bool) -> None:
        self.settled = settled
        self.open: list[Any] = []
        """The values of the part that is being read; add to it, and `close` it at `PART` values."""
        self._parts: list[list[Any] | _Numbers] = []

    def close(self) -> None:
        """Put the part at hand away."""
        values, self.open = self.open, []
        self._parts.append((_pack(values) if self.settled else None) or values)

    def whole(self) -> NDArray[Any]:
        """All values, float64 or object; the column is empty afterwards."""
        self.close()
        parts, self._parts = self._parts, []
        numbers = [part.values for part in parts if isinstance(part, _Numbers)]
        if self.settled and len(numbers) == len(parts):
            return np.concatenate(numbers)
        values: list[Any] = []
        for i, part in enumerate(parts):
            values += _unpacked(part) if isinstance(part, _Numbers) else part
            parts[i] = []  # what is copied is not kept
        return np.array(values, object)


def _pack(values: list[Any]) -> _Numbers | None:
    """A part as numbers; None where a value is neither a number nor a gap, or could not be given back."""
    kinds = set(map(type, values))
    if kinds <= {float}:
        return _Numbers(np.array(values, np.float64), None)
    if kinds != {str} or any(_END in value for value in values):
        return None
    numbers = numbers_or_gaps(values)
    return None if numbers is None else _Numbers(numbers, _END.join(values))


def _unpacked(part: _Numbers) -> list[Any]:
    return part.values.tolist() if part.texts is None else part.texts.split(_END)
