from __future__ import annotations

from typing import Any

from sklearn.utils.estimator_checks import parametrize_with_checks

from selfsup.uses.detection.estimators import AutoEncoderDetector, AutoEncoderTransformer

SMALL = {"steps": 20, "hidden": 16}


@parametrize_with_checks(
    [
        AutoEncoderDetector(**SMALL),
        AutoEncoderDetector(**SMALL, train_data="contaminated", missing="impute"),
        AutoEncoderTransformer(**SMALL),
    ]
)
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)
