"""What the estimators share: rows of any kind as scaled matrices, and the ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from selfsup.data.columns import as_columns
from selfsup.data.feature_tables import FeatureTable
from selfsup.errors import UserError
from selfsup.training.devices import choose_device
from selfsup.uses.detection.engine import Engine, Plan
from selfsup.uses.detection.scaling import RangeScale


class AutoEncoderEstimator(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """What both share: rows of any kind as scaled matrices, and the ensemble."""

    # ---- from data to matrices -----------------------------------------------------------------

    def _rows(self, X: Any, *, reset: bool) -> NDArray[np.float64]:
        """Rows (rows, width) in float64, gaps filled, not yet scaled."""
        self._expect(X, reset)
        if self.table_ is not None:
            matrix = self.table_.transform(X).astype(np.float64)
            self.n_features_in_ = len(self.table_.names) + len(self.table_.dropped)
            return matrix
        refuse = self.missing == "refuse"
        least = {"ensure_min_samples": 2} if reset else {}
        matrix = validate_data(
            self, X, dtype=np.float64, reset=reset, ensure_all_finite=refuse, **least
        )
        if refuse:
            return np.asarray(matrix)
        gaps = ~np.isfinite(matrix)
        if reset:
            with np.errstate(all="ignore"):
                known = np.where(gaps, np.nan, matrix)
                empty = gaps.all(axis=0)
                self.fill_ = np.where(empty, 0.0, np.nanmedian(np.where(empty, 0.0, known), axis=0))
        return np.where(gaps, self.fill_, matrix)

    def _expect(self, X: Any, reset: bool) -> None:
        """Decide at fitting whether the rows need a table's encoding; later, that they still do."""
        named = _is_mapping(X) or _has_words(X)
        if reset:
            self.table_ = None
            if named:
                impute = self.missing == "impute"
                # standardized, so that float32 keeps what differs between rows; `scale_` follows
                self.table_ = FeatureTable(
                    scaling="standard",
                    limit=0.0,
                    missing="impute" if impute else "refuse",
                    infinite="missing" if impute else "refuse",
                ).fit(X)
                rows = len(next(iter(as_columns(X).values())))
                if rows < 2:
                    raise UserError(f"n_samples={rows}: at least 2 rows are needed to learn from")
        elif self.table_ is None and _is_mapping(X):
            raise UserError("the rows have names, in training they had none", mend="give an array")

    # ---- learning ------------------------------------------------------------------------------

    def _check(self) -> None:
        if self.missing not in ("refuse", "impute"):
            raise UserError(f"missing is '{self.missing}'", mend="use refuse or impute")
        if self.scaling not in ("columns", "common", "pixels"):
            raise UserError(f"scaling is '{self.scaling}'", mend="use columns, common or pixels")
        for name in ("members", "hidden", "batch_size"):
            if int(getattr(self, name)) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, it must be at least 1")

    def _plan(self, rows: int, width: int) -> Plan:
        if self.code_size == "auto":
            code = max(1, min(8, (width + 1) // 2, rows - 1))
        else:
            code = int(self.code_size)
            if code < 1:
                raise UserError(f"code_size is {code}, it must be at least 1")
            if rows < code:
                what = f"{rows} rows are fewer than the code's {code} numbers"
                raise UserError(what, mend="give more rows or a smaller code_size")
        random = self.random_state
        if random is None:
            seed = int(np.random.default_rng().integers(2**31))
        elif isinstance(random, (int, np.integer)):
            seed = int(random)
            if seed < 0:
                raise UserError(f"random_state is {seed}, it must be at least 0")
        else:
            seed = int(random.randint(2**31))
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
            seed=seed,
            device=str(choose_device(self.device)),
        )

    def _subsets(self) -> tuple[int, int]:
        return 1, 1

    def _fit(self, X: Any) -> NDArray[np.float64]:
        self._check()
        rows = self._rows(X, reset=True)
        self.scale_ = RangeScale.fit(rows, self.scaling)
        scaled = self.scale_.transform(rows)
        self.engine_ = Engine(self._plan(len(rows), rows.shape[1]), rows.shape[1])
        self.engine_.learn(scaled)
        self._n_features_out = self.engine_.plan.members * self.engine_.plan.code_size
        return scaled

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from rows; see the class."""
        self._fit(X)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn on from more rows; the scaling stays that of the first call."""
        if not hasattr(self, "engine_"):
            return self.fit(X)
        self.engine_.learn(self._scaled(X))
        return self

    def _scaled(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "engine_")
        return self.scale_.transform(self._rows(X, reset=False))

    # ---- codes ---------------------------------------------------------------------------------

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Codes (rows, members * code_size)."""
        return self.engine_.codes(self._scaled(X)) if self._is_fitted() else self._scaled(X)

    def inverse_transform(self, X: Any) -> NDArray[np.float64]:
        """Rows (rows, width) that codes stand for; of tables, in their encoded form."""
        check_is_fitted(self, "engine_")
        codes = np.asarray(X, np.float64)
        if codes.ndim != 2 or codes.shape[1] != self._n_features_out:
            what = f"codes of shape {codes.shape}, not (rows, {self._n_features_out})"
            raise UserError(what, mend="give what transform returned")
        return self.scale_.inverse(self.engine_.decode(codes))

    def _is_fitted(self) -> bool:
        return hasattr(self, "engine_")

    def column_names(self) -> list[str]:
        """The columns as `explain` counts them."""
        check_is_fitted(self, "engine_")
        if self.table_ is not None:
            return list(self.table_.names)
        names = getattr(self, "feature_names_in_", None)
        return [str(n) for n in (range(self.n_features_in_) if names is None else names)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "impute"
        tags.transformer_tags.preserves_dtype = ["float64"]
        return tags


def _has_words(X: Any) -> bool:
    """Whether X is a data frame with a column that is not numeric."""
    if not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        return False
    return any(np.asarray(X[name]).dtype.kind not in "fiub" for name in X.columns)


def _steps(given: int | str, rows: int, batch_size: int) -> int:
    if given != "auto":
        return int(given)
    return int(np.clip(10 * rows // batch_size, 60, 200))


def _is_mapping(X: Any) -> bool:
    """Whether X is a mapping of columns; scipy's dictionaries of keys are none."""
    return isinstance(X, Mapping) and not issparse(X)
