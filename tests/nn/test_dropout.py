"""Dropout: how often, unbiased, from torch's generator, with the right gradient."""

from __future__ import annotations

import pytest
import torch

from selfsup.nn.dropout import Dropout, dropout, dropout_mask, keep_only


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_mean_and_gradient(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 999, requires_grad=True)  # a count that four does not divide
    y = dropout(x, p)
    kept = y != 0
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert float((~kept).float().mean()) == pytest.approx(p, abs=5 * deviation)
    assert float(y.detach().mean()) == pytest.approx(1, abs=5 * deviation / (1 - p))
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)), rtol=1e-4, atol=0)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_places_are_independent() -> None:
    torch.manual_seed(1)
    kept = (dropout(torch.ones(400_000), 0.5) != 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8):  # four draws come from one number of the generator
        together = float((kept[:-distance] * kept[distance:]).mean()) * 4
        assert abs(together) < 5 / 400_000**0.5
    for phase in range(4):
        assert abs(float(kept[phase::4].mean())) < 5 * 0.5 / 100_000**0.5


def test_follows_the_generator_and_stops_in_evaluation() -> None:
    layer, x = Dropout(0.3), torch.randn(50, 7)
    torch.manual_seed(3)
    one = layer(x)
    torch.manual_seed(3)
    assert torch.equal(one, layer(x))
    assert not torch.equal(one, layer(x))
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_half_precision_stays_half() -> None:
    assert dropout(torch.randn(8, 8, dtype=torch.bfloat16), 0.2).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_what_stays_is_as_it_was(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    x = torch.randn(6, 5, 7).to(dtype).transpose(0, 1)
    keep, scale = dropout_mask(x, 0.4)
    assert set(keep.unique().tolist()) == {0, 1}
    assert scale == pytest.approx(1 / 0.6, rel=1e-4)
    kept = keep_only(x, keep)
    assert kept.dtype == dtype
    assert torch.equal(kept, torch.where(keep.bool(), x, 0))
