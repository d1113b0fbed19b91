"""Answers to texts: numbers are told as exactly as a model has them."""

from __future__ import annotations

import numpy as np
import pytest

from selfsup.tasks.texts import NumberCollector, Scale


@pytest.mark.parametrize("unit", [1e-38, 1e-8, 1.0, 1e6, 1e30])
def test_numbers_are_told_whatever_their_unit(unit: float) -> None:
    collector = NumberCollector(4, Scale())
    collector.guesses[:] = np.float32([1.2345678, -0.3, 3, 2.5]) * np.float32(unit)
    told = [row["value"] for row in collector.predictions()]
    assert np.float32(told).tolist() == collector.guesses.tolist()
    assert {type(value) for value in told} == {float}
    if unit == 1:
        assert [repr(value) for value in told] == ["1.2345678", "-0.3", "3.0", "2.5"]
