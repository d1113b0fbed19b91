"""What the cells of a label column say: class names, or numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from selfsup.data.columns import decimal_comma, is_missing, number_of

_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def label_text(value: Any) -> str | None:
    """A class name from what a table holds; None when there is none.

    1.0 is 1, as text too, so that a column is the same in every kind of file.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = value.strip()
        return _WHOLE.sub(r"\1", text) if _WHOLE.fullmatch(text) else text or None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # an integer column of a data frame that once had a gap
    if isinstance(value, Decimal) and value.is_finite():
        text = f"{value:f}"
        return str(int(value)) if value % 1 == 0 else text.rstrip("0")
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    return None


def _is_gap(value: Any) -> bool:
    """Whether a cell among numbers holds none: words such as `none` or `?` may be classes there."""
    return is_missing(value) and str(value).strip().lower() in {"", "nan"}


@dataclass(frozen=True)
class LabelColumn:
    """How the cells of one label column are read."""

    numeric: bool
    comma: str = ""
    """The first number with a decimal comma, where they are written so."""
    gaps: bool = False
    """Whether words such as `NaN` stand for a missing label, since all others are numbers."""

    @classmethod
    def of(cls, values: Sequence[Any], numeric: bool) -> LabelColumn:
        """By what all cells of the column hold."""
        if numeric:
            return cls(numeric, decimal_comma(values))
        present = [value for value in values if not _is_gap(value)]
        numbers = all(number_of(value, comma=True) is not None for value in present)
        return cls(numeric, gaps=bool(present) and numbers)

    @property
    def kind(self) -> str:
        """What a cell should hold, for messages."""
        return "number" if self.numeric else "label"

    def read(self, value: Any) -> str | float | None:
        """A class name or a number; None when the cell holds none."""
        if self.numeric:
            return number_of(value, comma=bool(self.comma))
        return None if self.gaps and _is_gap(value) else label_text(value)
