"""Tables as matrices: numbers standardised, categories as one-hot blocks, gaps marked.

`FeatureTable` learns a table's encoding from training rows alone and applies it to any others.  Its
state is plain JSON, so that it travels with whatever was trained on the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import (
    LARGEST,
    are_truths,
    as_columns,
    as_numbers,
    as_texts,
    no_number,
    no_such_column,
    refuse_gaps,
    refuse_large,
    too_large,
    truths_as_numbers,
)
from selfsup.errors import UserError

Missing = Literal["impute", "refuse"]
Scaling = Literal["robust", "standard", "none"]
_NORMAL_IQR = 1.3489795
"""Interquartile range of the standard normal distribution."""


@dataclass(frozen=True)
class Block:
    """Where a column stands in the matrix.

    Args:
        name: of the column.
        kind: `number` (one place), `gap` (one place: 1 where the number is missing), or `category`
            (a place for each category, the first for unknown ones).
        start: first place.
        stop: the place after the last one.
    """

    name: str
    kind: Literal["number", "gap", "category"]
    start: int
    stop: int


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers: what is taken off, what it is divided by, whether it had gaps, and its value if it
    had one alone.
    """

    name: str
    center: float
    scale: float
    gaps: bool
    constant: float | None = None


@dataclass(frozen=True)
class CategoryColumn:
    """A column of words; `categories` may hold None, for gaps that were there in training."""

    name: str
    categories: tuple[str | None, ...]


LIMIT = 5.0
"""Scales beyond which numbers grow as a logarithm."""


class FeatureTable:
    """Learns how a table becomes a matrix, and back.

    A number becomes (value - median) / (IQR / 1.349), so that outliers in training do not decide the
    scale; beyond `limit` it grows as a logarithm, which keeps the order and can be undone.  A column
    whose quartiles coincide is scaled by its standard deviation, a constant one by 1.  A gap becomes
    the median (0), and a column that had gaps in training gets a place that marks them.  A word
    becomes a one-hot block whose first place stands for words never seen in training; `true` and `false`
    are words, in whatever case or format a column of them is given.

    Args:
        scaling: `robust` as above, `standard` (mean and standard deviation), or `none`.
        limit: where numbers begin to grow as a logarithm, in scales; 0: nowhere.
        missing: `impute` as above, or `refuse` gaps by row and column.
        infinite: `refuse` infinite numbers by row and column, and those that float32 cannot hold, or take
            them as `missing`.
        categorical: columns of numbers that are codes of categories.
    """

    def __init__(
        self,
        *,
        scaling: Scaling = "robust",
        limit: float = LIMIT,
        missing: Missing = "impute",
        infinite: Literal["refuse", "missing"] = "refuse",
        categorical: Sequence[str] = (),
    ) -> None:
        self.scaling, self.limit = scaling, limit
        self.missing, self.infinite = missing, infinite
        self.categorical = tuple(categorical)
        self.numbers: tuple[NumberColumn, ...] = ()
        self.categories: tuple[CategoryColumn, ...] = ()
        self.dropped: tuple[str, ...] = ()
        """Columns without a single value in training, or left out since."""
        self.order: tuple[str, ...] = ()
        """All columns of training, as they stood."""
        self.named = True
        """Whether columns have names (of an array, they are numbered)."""

    # ---- learning ------------------------------------------------------------------------------

    def fit(self, table: Any, where: str = "") -> FeatureTable:
        """Learn the encoding.

        Args:
            table: a mapping from names to columns, a data frame, or a two-dimensional array.
            where: what the table is called in messages.

        Raises:
            UserError: nothing to learn from, an infinite value, or a gap under `refuse`.
        """
        columns = as_columns(table, where)
        self.named = not isinstance(table, np.ndarray)
        unknown = [name for name in self.categorical if name not in columns]
        if unknown:
            raise no_such_column(unknown[0], list(columns), where)
        numbers, categories, dropped = [], [], []
        for name, raw in columns.items():
            truths = raw.dtype.kind != "b" and are_truths(raw)
            values = as_numbers(raw) if name not in self.categorical and not truths else None
            if values is None:
                texts = as_texts(raw, truths=truths)
                if all(text is None for text in texts):
                    dropped.append(name)
                else:
                    self._check_gaps(np.array([t is None for t in texts]), name, where)
                    categories.append(CategoryColumn(name, _categories(texts)))
                continue
            values = self._finite(values, name, where)
            if np.isnan(values).all():
                dropped.append(name)
            else:
                numbers.append(self._measure(name, values))
        if not numbers and not categories:
            raise UserError("the table has no column with a value", where=where)
        self.numbers, self.categories = tuple(numbers), tuple(categories)
        self.dropped, self.order = tuple(dropped), tuple(columns)
        return self

    def leave_out(self, names: Sequence[str]) -> None:
        """Do without some of the columns that were learned.

        Raises:
            UserError: none would be left.
        """
        self.numbers = tuple(n for n in self.numbers if n.name not in names)
        self.categories = tuple(c for c in self.categories if c.name not in names)
        if not self.names:
            what = f"no column is left to learn from without {', '.join(map(repr, names))}"
            raise UserError(what, mend="give columns of numbers, or of words that repeat")
        self.dropped = (*self.dropped, *names)

    def _measure(self, name: str, values: NDArray[np.float64]) -> NumberColumn:
        known = values[~np.isnan(values)]
        center, scale = 0.0, 1.0
        if self.scaling == "robust":
            low, center, high = (float(q) for q in np.quantile(known, (0.25, 0.5, 0.75)))
            scale = (high - low) / _NORMAL_IQR
        elif self.scaling == "standard":
            center = float(known.mean())
        if self.scaling != "none" and not _usable(scale if self.scaling == "robust" else 0.0):
            scale = float(known.std())
        if not _usable(scale) or scale < 1e-12 * abs(center):
            scale = 1.0
        constant = float(known[0]) if (known == known[0]).all() else None
        return NumberColumn(name, center, scale, bool(np.isnan(values).any()), constant)

    # ---- the matrix ----------------------------------------------------------------------------

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The columns' places: all numbers, then marks of gaps, then categories."""
        return tuple(self._blocks())

    def _blocks(self) -> Iterator[Block]:
        place = 0
        for number in self.numbers:
            yield Block(number.name, "number", place, place + 1)
            place += 1
        for number in self.numbers:
            if number.gaps:
                yield Block(number.name, "gap", place, place + 1)
                place += 1
        for category in self.categories:
            size = len(category.categories) + 1
            yield Block(category.name, "category", place, place + size)
            place += size

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        gaps = sum(n.gaps for n in self.numbers)
        return len(self.numbers) + gaps + sum(len(c.categories) + 1 for c in self.categories)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (*(n.name for n in self.numbers), *(c.name for c in self.categories))

    def transform(self, table: Any, where: str = "") -> NDArray[np.float32]:
        """Rows of any table with these columns.

        Args:
            table: as in `fit`; named columns may come in any order, and others are left alone.
            where: what the table is called in messages.

        Returns:
            (rows, width).

        Raises:
            UserError: a column is missing, an array has another width, a number is none, a value is
                infinite, or there is a gap under `refuse`.
        """
        columns = self._matching(table, where)
        rows = len(next(iter(columns.values())))
        matrix = np.zeros((rows, self.width), np.float32)
        for block in self.blocks:
            raw = columns[block.name]
            if block.kind == "category":
                self._write_category(matrix[:, block.start : block.stop], raw, block.name, where)
                continue
            values = as_numbers(raw)
            if values is None:  # where truth values were numbers in training
                values = truths_as_numbers(raw)
            if values is None:
                raise no_number(raw, block.name, where)
            values = self._finite(values, block.name, where)
            gaps = np.isnan(values)
            if block.kind == "gap":
                matrix[:, block.start] = gaps
            else:
                number = self.numbers[block.start]
                with np.errstate(over="ignore"):
                    scaled = (np.where(gaps, number.center, values) - number.center) / number.scale
                matrix[:, block.start] = np.clip(self._squash(scaled), -LARGEST, LARGEST)
        return matrix

    def inverse(self, matrix: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """The table that a matrix stands for, real or guessed.

        Args:
            matrix: (rows, width); of a block of categories the largest place counts.

        Returns:
            Each column by its name, in the order of training: float64 (NaN where the mark of a gap is
            above 1/2), or object (a word, or None for a gap or an unknown word; None where nothing
            was learned).  A number that was the same in every row of training is that one.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise UserError(f"the matrix has shape {matrix.shape}, not (rows, {self.width})")
        columns = {name: np.full(len(matrix), None, object) for name in self.order}
        for block in self.blocks:
            part = matrix[:, block.start : block.stop].astype(np.float64)
            if block.kind == "number":
                number = self.numbers[block.start]
                values = self._unsquash(part[:, 0]) * number.scale + number.center
                if number.constant is not None:
                    values = np.full(len(part), number.constant)
                columns[block.name] = values
            elif block.kind == "gap":
                columns[block.name][part[:, 0] > 0.5] = np.nan
            else:
                known = next(c.categories for c in self.categories if c.name == block.name)
                words = np.array([None, *known], object)
                columns[block.name] = words[part.argmax(1)]
        return columns

    def _squash(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.limit:
            return values
        beyond = np.maximum(np.abs(values) - self.limit, 0)
        bent: NDArray[np.float64] = np.sign(values) * (self.limit + np.log1p(beyond))
        return np.where(beyond > 0, bent, values)

    def _unsquash(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.limit:
            return values
        beyond = np.maximum(np.abs(values) - self.limit, 0)
        # a guess far out would overflow; 60 is beyond every float32 that was squashed
        bent: NDArray[np.float64] = np.sign(values) * (
            self.limit + np.expm1(np.minimum(beyond, 60.0))
        )
        return np.where(beyond > 0, bent, values)

    def _write_category(
        self, out: NDArray[np.float32], raw: NDArray[Any], name: str, where: str
    ) -> None:
        known = next(c.categories for c in self.categories if c.name == name)
        truths = are_truths(known)
        place = {word: i for i, word in enumerate(as_texts(known, truths=truths), start=1)}
        texts = as_texts(raw, truths=truths)
        self._check_gaps(np.array([t is None for t in texts], bool), name, where)
        out[np.arange(len(texts)), [place.get(text, 0) for text in texts]] = 1

    # ---- checks --------------------------------------------------------------------------------

    def _matching(self, table: Any, where: str) -> dict[str, NDArray[Any]]:
        columns = as_columns(table, where)
        wanted = [*self.names, *self.dropped]
        if isinstance(table, np.ndarray):
            if len(columns) != len(wanted):
                what = f"the rows have {len(columns)} columns, in training they had {len(wanted)}"
                raise UserError(what, where=where, mend="give the columns of the training data")
            if self.named:
                what = "the columns have no names, in training they had"
                raise UserError(what, where=where, mend="give a table with a header")
        for name in self.names:
            if name not in columns:
                raise no_such_column(name, list(columns), where)
        return {name: columns[name] for name in self.names}

    def _finite(self, values: NDArray[np.float64], name: str, where: str) -> NDArray[np.float64]:
        if self.infinite == "refuse":
            refuse_large(values, name, where)
        values = np.where(too_large(values), np.nan, values)
        self._check_gaps(np.isnan(values), name, where)
        return values

    def _check_gaps(self, gaps: NDArray[np.bool_], name: str, where: str) -> None:
        if self.missing == "refuse":
            refuse_gaps(gaps, name, where)

    # ---- state ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that was learned, as JSON knows it."""
        return {
            "scaling": self.scaling,
            "limit": self.limit,
            "missing": self.missing,
            "infinite": self.infinite,
            "categorical": list(self.categorical),
            "named": self.named,
            "dropped": list(self.dropped),
            "order": list(self.order),
            "numbers": [vars(n) for n in self.numbers],
            "categories": [
                {"name": c.name, "categories": list(c.categories)} for c in self.categories
            ],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FeatureTable:
        """What `state` gave, back again.

        Raises:
            KeyError, TypeError, ValueError: it is nothing that `state` gives.
        """
        from pydantic import TypeAdapter

        table = cls(
            scaling=state["scaling"],
            limit=float(state["limit"]),
            missing=state["missing"],
            infinite=state["infinite"],
            categorical=state["categorical"],
        )
        table.named, table.dropped = bool(state["named"]), tuple(state["dropped"])
        table.order = tuple(state.get("order", ()))  # models of before it was kept: by kind
        table.numbers = TypeAdapter(tuple[NumberColumn, ...]).validate_python(state["numbers"])
        table.categories = TypeAdapter(tuple[CategoryColumn, ...]).validate_python(
            state["categories"]
        )
        return table


def _categories(texts: Sequence[str | None]) -> tuple[str | None, ...]:
    words: list[str | None] = sorted({text for text in texts if text is not None}, key=str)
    return (*words, None) if any(text is None for text in texts) else tuple(words)


def _usable(scale: float) -> bool:
    return bool(np.isfinite(scale)) and scale > 0
