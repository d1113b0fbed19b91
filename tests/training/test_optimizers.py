"""Optimizers against torch's own; schedules; who is decayed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from selfsup.train_config import (
    AdamWConfig,
    Budget,
    MuonConfig,
    ScheduleConfig,
)
from selfsup.training.optimizers import (
    Muon,
    build_optimizers,
    orthogonalize,
    set_rate,
    take_step,
)
from selfsup.training.schedules import progress, rate, step_share


def test_muon_equals_torchs() -> None:
    torch.manual_seed(0)
    mine = [nn.Parameter(torch.randn(*shape)) for shape in ((8, 24), (24, 8), (8, 24), (16, 16))]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    settings = {"lr": 0.03, "momentum": 0.9, "weight_decay": 0.1}
    ours = Muon(mine, **settings, dtype=torch.bfloat16)
    reference = torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        ours.step()
        reference.step()
    for a, b in zip(mine, theirs, strict=True):
        # bfloat16 products in a batch and one by one round differently
        torch.testing.assert_close(a, b, atol=4e-3, rtol=4e-3)


@pytest.mark.parametrize("shape", [(6, 6), (4, 20), (20, 4)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    out = orthogonalize(torch.randn(3, *shape), torch.float32)
    values = torch.linalg.svdvals(out)
    assert out.shape == (3, *shape)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_a_zero_gradient_moves_nothing_and_vectors_are_refused() -> None:
    weight = nn.Parameter(torch.randn(4, 4))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1).step()
    assert torch.equal(weight, before)
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.randn(4))], lr=0.1)


@pytest.mark.parametrize("config", [AdamWConfig(), MuonConfig()])
def test_every_parameter_has_one_owner_and_vectors_are_not_decayed(
    config: AdamWConfig | MuonConfig,
) -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    optimizers = build_optimizers(model, config, ["1.weight"])
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    owned = [p for group in groups for p in group["params"]]
    assert sorted(map(id, owned)) == sorted(id(p) for p in model.parameters())
    for group in groups:
        for p in group["params"]:
            assert (group["weight_decay"] > 0) == (p.ndim > 1)
    set_rate(optimizers, 0.5)
    assert all(group["lr"] == 0.5 * group["peak_lr"] for group in groups)


def test_schedules_rise_and_fall_over_the_budget() -> None:
    for kind in ("linear", "cosine", "trapezoid", "constant"):
        schedule = ScheduleConfig(kind=kind, warmup=0.1, decay=0.5, floor=0.1)  # type: ignore[arg-type]
        assert rate(schedule, 0) == 0
        assert rate(schedule, 0.05) == pytest.approx(0.5)
        assert rate(schedule, 0.1) == pytest.approx(1)
        assert rate(schedule, 2) == pytest.approx(1 if kind == "constant" else 0.1)
        values = [rate(schedule, 0.1 + 0.009 * i) for i in range(100)]
        assert values == sorted(values, reverse=True)
    assert rate(ScheduleConfig(kind="trapezoid", warmup=0.1, decay=0.5), 0.4) == 1
    assert rate(ScheduleConfig(kind="cosine", warmup=0.0), 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize("config", [AdamWConfig(lr=0.01), MuonConfig(lr=0.01)])
def test_a_step_by_a_factor(config: AdamWConfig | MuonConfig) -> None:
    torch.manual_seed(0)
    ours, plain = nn.Linear(7, 5), nn.Linear(7, 5)
    plain.load_state_dict(ours.state_dict())
    both = [build_optimizers(model, config, ["weight"]) for model in (ours, plain)]
    for factor in (0.3, 1.0, 1e-4):
        for mine, its in zip(ours.parameters(), plain.parameters(), strict=True):
            mine.grad = torch.randn_like(mine)
            its.grad = mine.grad * factor
        for one, other in zip(*both, strict=True):
            take_step(one, factor)
            other.step()
        assert all(p.grad is None for p in ours.parameters())
    for mine, its in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, its)
    for one, other in zip(*both, strict=True):
        for a, b in zip(one.state.values(), other.state.values(), strict=True):
            for key, value in a.items():  # moments: AdamW's steps alone hide a factor
                torch.testing.assert_close(value, b[key], rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["linear", "cosine", "trapezoid", "constant"])
def test_a_warm_up_shorter_than_a_step_is_none(kind: Any) -> None:
    schedule = ScheduleConfig(kind=kind, warmup=0.1)
    for steps, first in ((1, 1.0), (9, 1.0), (10, 0.0)):
        step = step_share(Budget.model_validate(f"{steps} steps"))
        found = [rate(schedule, i / steps, step) for i in range(steps)]
        assert found[0] == pytest.approx(first)
        assert max(found) == pytest.approx(1)
    assert step_share(Budget.model_validate("9 tokens")) == 0


def test_progress_in_each_unit() -> None:
    used = {"steps": 30, "tokens": 600, "seconds": 90.0}
    for text, share in (("60 steps", 0.5), ("1e3 tokens", 0.6), ("1 minute", 1.5)):
        assert progress(Budget.model_validate(text), **used) == pytest.approx(share)  # type: ignore[arg-type]
