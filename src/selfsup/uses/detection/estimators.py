"""`AutoEncoderDetector` and `AutoEncoderTransformer`, as scikit-learn has them."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from selfsup.errors import BadInput
from selfsup.uses.detection.base import AutoEncoderEstimator
from selfsup.uses.detection.engine import MEASURES
from selfsup.uses.detection.settings import check_choice, check_number, check_whole


class Judged(NamedTuple):
    """Rows' scores and what made them."""

    usual: NDArray[np.float64]
    """(rows,) `score_samples`."""
    columns: NDArray[np.int32]
    """(rows, told) those with the largest shares, as `column_names` counts them."""
    shares: NDArray[np.float32]
    """(rows, told)."""


_SUBSETS = {"clean": (16, 512), "contaminated": (192, 8)}
"""How many subsets of how many rows: large where every row is normal, tiny where some are not."""


class AutoEncoderTransformer(AutoEncoderEstimator):
    """A narrow code for each row, learned by giving back rows behind noise and masks.

    Vincent et al. 2008, "Extracting and composing robust features with denoising autoencoders".

    Args:
        code_size: numbers in a code; `auto`: half the columns (rounded up), at most 8, and fewer than
            the rows.
        members: auto-encoders; their codes are set side by side.
        hidden: units of the hidden layers.
        steps, batch_size, learning_rate: of the training, with Adam; `auto` steps: ten passes over the
            rows, within 60 to 200.
        corruption: how strong noise and masks are; 0: the network sees rows as they are.
        scaling: each of the `columns` by its own range, or all by a `common` one; `pixels`: the same on
            rows of images, zero being dark, of which each is divided by a power of its length, so that
            how much light or ink it has counts less.
        missing: `refuse` gaps and infinite values, or `impute` the column's median (in tables with words
            its mean).
        device: `cpu`, `cuda` or `auto`.
        random_state: a number, a `RandomState`, or None for another one each time.
    """

    def __init__(
        self,
        code_size: int | str = "auto",
        *,
        members: int = 1,
        hidden: int = 64,
        steps: int | str = 1000,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        corruption: float = 1.0,
        scaling: str = "columns",
        missing: str = "refuse",
        device: str = "cpu",
        random_state: Any = 0,
    ) -> None:
        self.code_size = code_size
        self.members = members
        self.hidden = hidden
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.corruption = corruption
        self.scaling = scaling
        self.missing = missing
        self.device = device
        self.random_state = random_state


class AutoEncoderDetector(OutlierMixin, AutoEncoderEstimator):  # type: ignore[misc]
    """Finds rows unlike the training rows, by small denoising auto-encoders and their codes.

    The default score is the mean distance to the nearest row of small random subsets of the training
    data, measured over the row and its code together, each in its own scale.

    Args:
        measure: `default` as above; `input-distance` or `code-distance` for one of the two;
            `reconstruction`: the error in giving the row back, each column in the scale of its error
            on rows held out; `masked-features`: the same for columns hidden and predicted from the others.
        train_data: `clean` when training rows are all normal, `contaminated` when some may not be.
        false_alarm_rate: `predict` calls a row strange when its p-value is at most this.
        contamination: in (0, 0.5]; instead of the p-value, `predict` calls this share of the training
            rows strange, as scikit-learn's detectors do.
        trimming: in [0, 0.5); this share of the training rows, the strangest, is left out in a
            second round of training; p-values count it all the same.
        subsets, subset_size: of the distances; `auto`: 16 of 512 when clean, 192 of 8 when
            contaminated; smaller where there are fewer rows.
        members, hidden, code_size, steps, batch_size, learning_rate, corruption, scaling, missing,
        device, random_state: see
            `AutoEncoderTransformer`.
    """

    def __init__(
        self,
        measure: str = "default",
        *,
        train_data: str = "clean",
        false_alarm_rate: float = 0.05,
        contamination: float | None = None,
        trimming: float = 0.0,
        subsets: int | str = "auto",
        subset_size: int | str = "auto",
        members: int = 4,
        hidden: int = 64,
        code_size: int | str = "auto",
        steps: int | str = "auto",
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        corruption: float = 1.0,
        scaling: str = "columns",
        missing: str = "refuse",
        device: str = "cpu",
        random_state: Any = 0,
    ) -> None:
        self.measure = measure
        self.train_data = train_data
        self.false_alarm_rate = false_alarm_rate
        self.contamination = contamination
        self.trimming = trimming
        self.subsets = subsets
        self.subset_size = subset_size
        self.members = members
        self.hidden = hidden
        self.code_size = code_size
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.corruption = corruption
        self.scaling = scaling
        self.missing = missing
        self.device = device
        self.random_state = random_state

    def _check(self) -> None:
        super()._check()
        check_choice("measure", self.measure, MEASURES)
        check_choice("train_data", self.train_data, tuple(_SUBSETS))
        for name in ("subsets", "subset_size"):
            check_whole(name, getattr(self, name), auto=True)
        if self.contamination is not None:
            check_number("contamination", self.contamination, 0, 0.5, ends="(]")
        check_number("trimming", self.trimming, 0, 0.5, ends="[)")
        check_number("false_alarm_rate", self.false_alarm_rate, 0, 1)
        if self.members < 2:
            what = f"is {self.members}, a detector needs two: each judges rows it has not seen"
            raise BadInput(what, where="members")

    def _false_alarms(self) -> float | None:
        return float(self.false_alarm_rate if self.contamination is None else self.contamination)

    def _subsets(self) -> tuple[int, int]:
        count, size = _SUBSETS[self.train_data]
        given = (self.subsets, self.subset_size)
        return tuple(  # type: ignore[return-value]
            usual if own == "auto" else int(own)
            for own, usual in zip(given, (count, size), strict=True)
        )

    # ---- learning ------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what is usual.

        Args:
            X: (rows, columns): an array, a data frame, or a mapping of columns (words allowed).
            y: ignored.

        Raises:
            ValueError: settings or rows that cannot be used; in scikit-learn's words, or a `BadInput`.
        """
        scaled = self._fit(X)
        if self.trimming:
            strange = self.engine_.total(scaled)
            usual = strange <= np.quantile(strange, 1 - self.trimming)
            kept = scaled[usual]
            self.engine_ = self._learned(kept)
            self.engine_.set_aside(scaled[~usual])  # new rows are like all, not like the kept ones
        self._calibrate(scaled)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn on from more rows; scaling stays, references become a sample of all rows so far."""
        if not hasattr(self, "engine_"):
            return self.fit(X)
        self._check()
        scaled = self._scaled(X)
        self.engine_.learn(scaled)
        self._calibrate(scaled)
        return self

    def _calibrate(self, scaled: NDArray[np.float64]) -> None:
        self.calibration_ = np.sort(self.engine_.held_out())
        if self.contamination is not None:
            ours = -self.engine_.total(scaled)
            self.offset_ = float(np.percentile(ours, 100 * self.contamination))
            return
        # the smallest score whose p-value is at most the rate, compared as `p_values` gives it
        count = len(self.calibration_)
        possible = np.arange(1, count + 2) / (count + 1)
        beyond = int((possible <= self.false_alarm_rate).sum()) - 1
        if beyond < 0:  # too few rows for any p-value to be that small
            self.offset_ = -float(np.finfo(np.float64).max)
            return
        last = self.calibration_[count - 1 - beyond]
        self.offset_ = -float(np.nextafter(last, np.inf))

    # ---- answers -------------------------------------------------------------------------------

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """(rows,) float64; higher is more usual, as in scikit-learn."""
        scaled = self._scaled(X)
        return -self.engine_.total(scaled)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """(rows,) `score_samples` minus the threshold: negative is strange."""
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """(rows,) 1 for usual, -1 for strange."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> NDArray[np.float64]:
        """(rows,) the share of training rows at least as strange, each judged by the member that has
        not seen it (cross-conformal, Vovk 2015), the row itself counted.
        """
        strange = -self.score_samples(X)
        return self.p_values_of(strange)

    def p_values_of(self, strangeness: NDArray[np.float64]) -> NDArray[np.float64]:
        """(rows,) the p-values of scores that were computed already: minus `score_samples`; of NaN, NaN."""
        check_is_fitted(self, "calibration_")
        below = np.searchsorted(self.calibration_, strangeness, side="left")
        count = len(self.calibration_)
        found = (1 + count - below) / (count + 1)
        return np.where(np.isnan(strangeness), np.nan, found)

    def explain(self, X: Any) -> NDArray[np.float64]:
        """(rows, columns) the share of each column in a row's strangeness; a row adds up to 1.

        Columns as in `column_names()`.  Of distances: the squared difference to the nearest rows.
        """
        scaled = self._scaled(X)
        return self._shares(self.engine_.explain(scaled))

    def _shares(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """`explain` of what the columns of the matrix add, (rows, width)."""
        if self.table_ is not None:
            names = {name: i for i, name in enumerate(self.table_.names)}
            summed = np.zeros((len(parts), len(names)))
            for block in self.table_.blocks:
                summed[:, names[block.name]] += parts[:, block.start : block.stop].sum(axis=1)
            parts = summed
        total = parts.sum(axis=1, keepdims=True)
        return np.where(total > 0, parts / np.where(total > 0, total, 1), 1 / parts.shape[1])

    def _judged(self, X: Any, told: int) -> Judged:
        """`score_samples` and the columns with the largest shares, for one comparison's time.

        Args:
            X: (rows, columns).
            told: columns of a row.
        """
        usual, columns, shares = [], [], []
        for strange, parts in self.engine_.judge(self._scaled(X)):
            own = self._shares(parts)
            top = np.argsort(-own, axis=1)[:, :told]
            usual.append(-strange)
            columns.append(top.astype(np.int32))
            shares.append(np.take_along_axis(own, top, axis=1).astype(np.float32))
        return Judged(np.concatenate(usual), np.concatenate(columns), np.concatenate(shares))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        return tags
