"""What the estimators share: rows of any kind as scaled matrices, and the ensemble."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from selfsup.data.columns import as_columns, refuse_gaps, refuse_large, refuse_twins, too_large
from selfsup.data.feature_tables import FeatureTable
from selfsup.data.files import listed
from selfsup.errors import BadInput, UserError, nearest
from selfsup.nn.device import choose_device
from selfsup.uses.detection.column_notes import (
    ColumnNote,
    ColumnWarning,
    empty_note,
    leave_out_scattered,
    plain_notes,
    rare_words,
)
from selfsup.uses.detection.engine import Engine, Plan
from selfsup.uses.detection.scaling import RangeScale
from selfsup.uses.detection.settings import check_choice, check_number, check_whole, draw_seed


class AutoEncoderEstimator(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """What both share: rows of any kind as scaled matrices, and the ensemble."""

    table_: FeatureTable | None
    _notes: list[ColumnNote]
    _other_names: list[str] | None

    # ---- from data to matrices -----------------------------------------------------------------

    def _rows(self, X: Any, *, reset: bool) -> NDArray[np.float64]:
        """Rows (rows, width) in float64, gaps filled, not yet scaled."""
        if isinstance(X, np.ma.MaskedArray):
            X = np.ma.filled(X.astype(np.float64), np.nan)
        if type(X).__name__ == "LazyFrame":  # of polars; there are no rows yet
            raise BadInput("a LazyFrame has no rows yet", mend="give its .collect()")
        try:
            if hasattr(X, "columns"):
                refuse_twins(_column_texts(X))
            if reset:
                self._notes, self._other_names = [], None
                self.table_ = self._learn_table(X) if _is_mapping(X) or _has_words(X) else None
            if self.table_ is not None:
                return self._encoded(X, self.table_, reset)
        except UserError as error:
            raise BadInput.of(error) from error
        if _is_mapping(X):
            what = "the rows are a mapping of columns, in training they were numbers without words"
            raise BadInput(what, mend="give an array or a data frame")
        return self._numbers(X, reset)

    def _learn_table(self, X: Any) -> FeatureTable:
        """How a mapping or a data frame with words becomes a matrix."""
        impute = self.missing == "impute"
        # standardized, so that float32 keeps what differs between rows; `scale_` follows
        table = FeatureTable(
            scaling="standard",
            limit=0.0,
            missing="impute" if impute else "refuse",
            infinite="missing" if impute else "refuse",
        ).fit(X)
        columns = as_columns(X)
        rows = len(next(iter(columns.values())))
        _refuse_one(rows)
        self.feature_names_in_ = np.array(list(columns), object)
        self.n_features_in_ = len(columns)
        self._notes += empty_note(table.dropped)
        self._notes += leave_out_scattered(table, rows)
        if rate := self._false_alarms():
            self._notes += rare_words(table, columns, rate)
        return table

    def _encoded(self, X: Any, table: FeatureTable, reset: bool) -> NDArray[np.float64]:
        """A mapping or a data frame as `table` encodes it."""
        if _is_mapping(X):
            known = [str(name) for name in self.feature_names_in_]
            self._check_names([str(name) for name in X], table.names, known)
        elif hasattr(X, "columns"):
            self._check_order(_column_texts(X), [str(name) for name in self.feature_names_in_])
        matrix = table.transform(X).astype(np.float64)
        if reset and self._false_alarms():
            names = [number.name for number in table.numbers]
            numbers = dict(zip(names, matrix.T, strict=False))
            self._notes += plain_notes(numbers, table.categories)
        return matrix

    def _false_alarms(self) -> float | None:
        """How many rows may be called strange that are not; None where no row is called that."""
        return None

    def _check_order(self, given: list[str], names: list[str]) -> None:
        """Refuse a data frame with other columns than those of training, or in another order."""
        self._check_names(given, names, names)
        if given != names:
            what = "the columns of the data frame are in another order than in training"
            raise BadInput(what, mend=f"the order was {listed(names)}")

    def _check_names(
        self, given: Sequence[str], needed: Sequence[str], known_names: Sequence[str]
    ) -> None:
        """Refuse rows without a column that is needed, and columns that training had not."""
        there, known = set(given), set(known_names)
        missing = [name for name in needed if name not in there]
        unknown = [name for name in given if name not in known]
        if missing:
            mend = nearest(missing[0], unknown) or f"it has {listed(list(given))}"
            raise BadInput(f"there is no column '{missing[0]}', which training had", mend=mend)
        if unknown:
            mend = f"give its columns alone: {listed(list(needed))}"
            raise BadInput(f"training had no column '{unknown[0]}'", mend=mend)

    def _numbers(self, X: Any, reset: bool) -> NDArray[np.float64]:
        """An array or a data frame of numbers."""
        refuse = self.missing == "refuse"
        # row by row in memory, since sums over a column round otherwise in other orders, and folds are
        # drawn by every bit
        matrix = validate_data(
            self, X, dtype=np.float64, order="C", reset=reset, ensure_all_finite=False
        )
        if reset:
            _refuse_one(len(matrix))
        self._follow_other_names(X, reset)
        gaps = np.isnan(matrix) | too_large(matrix)
        if refuse and gaps.any():
            raise self._no_number(matrix, gaps)
        if reset:
            empty = gaps.all(axis=0)
            if not refuse:
                with np.errstate(all="ignore"):
                    known = np.where(gaps, np.nan, matrix)
                    medians = np.nanmedian(np.where(empty, 0.0, known), axis=0)
                    self.fill_ = np.where(empty, 0.0, medians)
        if not refuse:
            matrix = np.where(gaps, self.fill_, matrix)
        names = getattr(self, "feature_names_in_", None)
        if reset and names is not None:  # arrays of pixels often have columns with one value
            self._notes += empty_note([str(n) for n in names[empty]])
            if self._false_alarms():
                kept = [i for i in range(len(names)) if not empty[i]]
                self._notes += plain_notes({str(names[i]): matrix[:, i] for i in kept})
        return np.asarray(matrix)

    def _follow_other_names(self, X: Any, reset: bool) -> None:
        """Keep and compare, as text, names of columns that are no texts: scikit-learn passes over them."""
        given = _column_texts(X) if hasattr(X, "columns") else None
        if reset:
            self._other_names = None if hasattr(self, "feature_names_in_") else given
        elif given is not None and (names := getattr(self, "_other_names", None)) is not None:
            self._check_order(given, names)

    def _no_number(self, matrix: NDArray[np.float64], gaps: NDArray[np.bool_]) -> BadInput:
        """The error for rows with `gaps`."""
        place = int(gaps.any(axis=0).argmax())
        name = self._names_of_numbers()[place]
        try:
            refuse_large(matrix[:, place], name)
            refuse_gaps(gaps[:, place], name)
        except UserError as error:
            return BadInput.of(error)
        raise AssertionError("there are no gaps")

    # ---- learning ------------------------------------------------------------------------------

    def _check(self) -> None:
        check_choice("missing", self.missing, ("refuse", "impute"))
        check_choice("scaling", self.scaling, ("columns", "common", "pixels"))
        for name in ("members", "hidden", "batch_size"):
            check_whole(name, getattr(self, name))
        for name in ("code_size", "steps"):
            check_whole(name, getattr(self, name), auto=True)
        check_number("learning_rate", self.learning_rate, 0, np.inf)
        check_number("corruption", self.corruption, 0, np.inf, ends="[)")

    def _plan(self, rows: int, width: int) -> Plan:
        if self.code_size == "auto":
            code = max(1, min(8, (width + 1) // 2, rows - 1))
        else:
            code = int(self.code_size)
            if rows < code:
                what = f"{rows} rows are fewer than the code's {code} numbers"
                raise BadInput(what, where="code_size", mend="give more rows or a smaller code")
        try:
            device = str(choose_device(str(self.device)))
        except UserError as error:
            raise BadInput.of(error, "device") from error
        subsets, size = self._subsets()
        return Plan(
            measure=getattr(self, "measure", "default"),
            members=int(self.members),
            hidden=int(self.hidden),
            code_size=code,
            steps=_steps(self.steps, rows, int(self.batch_size)),
            batch_size=int(self.batch_size),
            learning_rate=float(self.learning_rate),
            corruption=float(self.corruption),
            subsets=max(1, subsets // int(self.members)),
            subset_size=size,
            seed=draw_seed(self.random_state),
            device=device,
        )

    def _subsets(self) -> tuple[int, int]:
        return 1, 1

    def _fit(self, X: Any) -> NDArray[np.float64]:
        self._check()
        rows = self._rows(X, reset=True)
        self.scale_ = RangeScale.fit(rows, self.scaling)
        if self.table_ is not None and self.scaling == "columns":
            words = [block for block in self.table_.blocks if block.kind == "category"]
            self.scale_ = self.scale_.of_words(slice(block.start, block.stop) for block in words)
            self.scale_ = self.scale_.of_gaps(gap_marks(self.table_), rows)
        scaled = self.scale_.transform(rows)
        self.engine_ = self._learned(scaled)
        self._n_features_out = self.engine_.plan.members * self.engine_.plan.code_size
        for note in self._notes:
            warnings.warn(note.text(), ColumnWarning, stacklevel=3)
        return scaled

    def _learned(self, scaled: NDArray[np.float64]) -> Engine:
        """A new engine that has learned scaled rows."""
        engine = Engine(self._plan(*scaled.shape), scaled.shape[1])
        engine.marks = gap_marks(self.table_)
        engine.learn(scaled)
        return engine

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from rows; see the class."""
        self._fit(X)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn on from more rows; the scaling stays that of the first call."""
        if not hasattr(self, "engine_"):
            return self.fit(X)
        self._check()
        self.engine_.learn(self._scaled(X))
        return self

    def _scaled(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "engine_")
        return self.scale_.transform(self._rows(X, reset=False))

    # ---- codes ---------------------------------------------------------------------------------

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Codes (rows, members * code_size)."""
        return self.engine_.codes(self._scaled(X)) if self._is_fitted() else self._scaled(X)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Rows (rows, columns of training) that codes stand for.

        Of tables with words: an object array of numbers and words, as scikit-learn's encoders give it;
        None is a gap, a word never seen in training, or a column that was not learned from.
        """
        check_is_fitted(self, "engine_")
        codes = np.asarray(X, np.float64)
        if codes.ndim != 2 or codes.shape[1] != self._n_features_out:
            what = f"codes of shape {codes.shape}, not (rows, {self._n_features_out})"
            raise BadInput(what, mend="give what transform returned")
        if not len(codes):
            raise BadInput("there are no codes", mend="give what transform returned")
        rows = self.scale_.inverse(self.engine_.decode(codes))
        if self.table_ is None:
            return rows
        columns = self.table_.inverse(rows)
        back = np.full((len(rows), self.n_features_in_), None, object)
        for place, name in enumerate(self.feature_names_in_):
            if name in columns:
                column = columns[name].astype(object)
                column[column != column] = None  # NaN stands for a gap
                back[:, place] = column
        return back

    def _is_fitted(self) -> bool:
        return hasattr(self, "engine_")

    def column_names(self) -> list[str]:
        """The columns as `explain` counts them."""
        check_is_fitted(self, "engine_")
        if self.table_ is not None:
            return list(self.table_.names)
        return self._names_of_numbers()

    def _names_of_numbers(self) -> list[str]:
        """The columns' names as text; of an array their numbers."""
        names = getattr(self, "feature_names_in_", getattr(self, "_other_names", None))
        return [str(n) for n in (range(self.n_features_in_) if names is None else names)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "impute"
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


def gap_marks(table: FeatureTable | None) -> tuple[int, ...]:
    """The places of the marks of gaps in a table's matrix."""
    blocks = () if table is None else table.blocks
    return tuple(block.start for block in blocks if block.kind == "gap")


def _refuse_one(rows: int) -> None:
    """Refuse to learn from fewer rows than two."""
    if rows < 2:
        raise BadInput(f"n_samples={rows}: at least 2 rows are needed to learn from")


def _has_words(X: Any) -> bool:
    """Whether X is a data frame with a column that is not numeric."""
    if not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        return False
    return any(np.asarray(X[name]).dtype.kind not in "fiub" for name in X.columns)


def _column_texts(X: Any) -> list[str]:
    """The names of a data frame's columns, whatever they are, as text."""
    return [str(name) for name in X.columns]


def _steps(given: int | str, rows: int, batch_size: int) -> int:
    if given != "auto":
        return int(given)
    return int(np.clip(10 * rows // batch_size, 60, 200))


def _is_mapping(X: Any) -> bool:
    """Whether X is a mapping of columns; scipy's dictionaries of keys are none."""
    return isinstance(X, Mapping) and not issparse(X)
