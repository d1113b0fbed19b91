"""What is to be said about a detector's data beside its scores: labels, gaps, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import as_texts, is_missing
from selfsup.data.files import listed
from selfsup.data.observations import Observations
from selfsup.uses.detection.estimators import AutoEncoderDetector

# fmt: off
_NORMAL = (
    "normal", "inlier", "no", "false", "0", "0.0", "ok", "good", "benign", "legit", "legitimate", "genuine",
)
# fmt: on
"""What normal rows are labelled; the first of these that occurs counts."""
_LABEL_NAMES = {
    "label",
    "labels",
    "class",
    "target",
    "y",
    "anomaly",
    "outlier",
    "is_anomaly",
    "is_fraud",
}


def truth_of(labels: tuple[str, ...] | None) -> NDArray[np.int64] | None:
    """(rows,) 1 for anomalies; None without labels or with one kind only."""
    if labels is None:
        return None
    words = [label.strip().lower() for label in labels]
    normal = next((word for word in _NORMAL if word in words), None)
    marks = np.array([word != normal for word in words], np.int64)
    return marks if 0 < marks.sum() < len(marks) else None


def leaks(rows: Any, observations: Observations) -> list[str]:
    """Columns that say what the label says, or are called as labels are."""
    if not isinstance(rows, dict):
        return []
    remarks = []
    for name, column in rows.items():
        if observations.labels is None:
            if name.strip().lower() in _LABEL_NAMES:
                remarks.append(
                    f"column '{name}' is called as labels are and was learned from; "
                    f"if it is one: --label-column {name}"
                )
            continue
        pairs = set(zip(as_texts(column), observations.labels, strict=True))
        labels = {label for _, label in pairs}
        if len(labels) == len(pairs) == len({value for value, _ in pairs}) > 1:
            remarks.append(
                f"column '{name}' equals the label: a detector that reads it is of no use; leave it out"
            )
    return remarks


def on_labels(labels: tuple[str, ...] | None) -> list[str]:
    """That labels of several kinds cannot be measured with."""
    kinds = sorted(set(labels or ()))
    if len(kinds) < 2 or truth_of(labels) is not None:
        return []
    known = f"normal rows are labelled {', '.join(_NORMAL)}"
    return [
        f"nothing is measured: of the labels {listed(kinds)} none is known to mean normal; {known}"
    ]


def on_threshold(detector: AutoEncoderDetector, threshold: float | None) -> list[str]:
    """That there are too few rows for a threshold."""
    if threshold is not None:
        return []
    rows, rate = len(detector.calibration_), detector.false_alarm_rate
    what = f"no row can be flagged: from {rows} rows the least p-value is {1 / (rows + 1):.2g}"
    mend = f"give {math.ceil(1 / rate) - 1} rows or more, or allow more false alarms"
    return [f"{what}, above {rate:g}; {mend}"]


def on_gaps(rows: Any, learned: Sequence[str]) -> list[str]:
    """Columns that training had and these rows have no value of."""
    if not isinstance(rows, dict):
        return []
    empty = [name for name in learned if name in rows and all(map(is_missing, rows[name]))]
    if not empty:
        return []
    verb = "has" if len(empty) == 1 else "have"
    return [f"{listed(empty)} {verb} no value in these rows: taken as the median, or as a gap"]


def on_flags(detector: AutoEncoderDetector, flagged: NDArray[np.bool_]) -> list[str]:
    """That most rows are flagged."""
    share = float(flagged.mean())
    if share <= 0.5:
        return []
    what = f"{share:.0%} of the rows are flagged, where {detector.false_alarm_rate:.0%} would be by chance"
    why = "a column that grows, another unit, another source?"
    return [f"{what}: as a whole they are unlike those of training ({why})"]
