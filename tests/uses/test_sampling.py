"""Choosing tokens equals transformers' logits processors, and draws what it should."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from selfsup.errors import UserError
from selfsup.uses.sampling import Sampling, choose, shape_logits


def theirs(logits: torch.Tensor, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    from transformers.generation import logits_process as p

    made = {
        "repetition_penalty": p.RepetitionPenaltyLogitsProcessor,
        "temperature": p.TemperatureLogitsWarper,
        "top_k": p.TopKLogitsWarper,
        "top_p": p.TopPLogitsWarper,
        "min_p": p.MinPLogitsWarper,
    }
    steps = [make(options[name]) for name, make in made.items() if name in options]
    return p.LogitsProcessorList(steps)(ids, logits.clone())


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_k": 500},
        {"top_p": 0.8},
        {"top_p": 0.01},
        {"min_p": 0.2},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8, "temperature": 1.4, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_filters_are_transformers(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    logits, ids = 3 * torch.randn(6, 200), torch.randint(0, 200, (6, 30))
    seen = torch.zeros(6, 200, dtype=torch.bool).scatter(1, ids, True)
    torch.testing.assert_close(
        shape_logits(logits, Sampling(**options), seen), theirs(logits, ids, **options)
    )


def test_draws_follow_the_filtered_distribution() -> None:
    torch.manual_seed(0)
    one, options = 2 * torch.randn(1, 50), {"temperature": 0.9, "top_k": 20, "top_p": 0.9}
    wanted = theirs(one, torch.zeros(1, 1, dtype=torch.int64), **options).softmax(-1)[0]
    count = 20_000
    settings = Sampling(seed=3, **options)
    found = choose(one.expand(count, -1), settings, range(count), [0] * count, [5] * count)
    counts = found.bincount(minlength=50).double()
    held = wanted > 0
    assert not counts[~held].any()
    expected = wanted[held].double() / wanted[held].double().sum() * count
    assert chisquare(counts[held].numpy(), expected.numpy()).pvalue > 0.001


def test_draws_depend_on_seed_prompt_sample_and_place_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1000)
    settings = Sampling(seed=7)

    def drawn(rows: list[tuple[int, int, int]], sampling: Sampling = settings) -> list[int]:
        columns = zip(*rows, strict=True)
        return choose(logits.expand(len(rows), -1), sampling, *columns).tolist()

    rows = [(p, s, t) for p in range(3) for s in range(3) for t in range(3)]
    together = drawn(rows)
    assert together == [drawn([row])[0] for row in rows]
    assert len(set(together)) > 20
    assert drawn(rows, Sampling(seed=8)) != together


def test_temperature_zero_is_greedy() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    for settings in (
        Sampling(temperature=0, top_p=0.9),  # as where several temperatures are tried
        Sampling(greedy=True, temperature=0),
        Sampling(greedy=True, repetition_penalty=1.1),
        Sampling(top_k=1),
    ):
        assert choose(logits, settings, [0], [0], [0]).tolist() == [1]


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
@pytest.mark.parametrize("penalty", [0.01, 100])
def test_the_bounds_leave_numbers(temperature: float, penalty: float) -> None:
    torch.manual_seed(0)
    logits = 300 * torch.randn(4, 50)
    settings = Sampling(temperature=temperature, repetition_penalty=penalty)
    seen = torch.rand(4, 50) < 0.5
    assert shape_logits(logits, settings, seen).isfinite().all()
    assert max(choose(logits, settings, *[range(4)] * 3, seen).tolist()) < 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "--temperature: must be 0 (greedy) or more, not -0.1"),
        ({"temperature": math.nan}, "--temperature"),
        ({"temperature": math.inf}, "--temperature"),
        ({"temperature": 1e-40}, "--temperature: must be 0 (greedy) or at least 0.001, not 1e-40"),
        ({"temperature": 1e30}, "--temperature: must be at most 1000, not 1e+30"),
        ({"top_p": 0.0}, "--top-p: must be above 0 and at most 1, not 0"),
        ({"top_p": 1.5}, "--top-p"),
        ({"top_k": 0}, "--top-k: must be at least 1, not 0"),
        ({"min_p": 1.0}, "--min-p: must be at least 0 and below 1, not 1"),
        ({"repetition_penalty": 0.0}, "--repetition-penalty: must be above 0"),
        (
            {"repetition_penalty": 1e-45},
            "--repetition-penalty: must be above 0 (1: none), from 0.01",
        ),
        (
            {"repetition_penalty": 1e39},
            "--repetition-penalty: must be above 0 (1: none), from 0.01",
        ),
        ({"stop": ("a", "")}, "--stop: an empty text"),
        ({"max_tokens": 0}, "--max-tokens: must be at least 1"),
        ({"samples": 0}, "--samples: must be at least 1"),
        ({"samples": 10**12}, "--samples: must be at most 10,000, not 1,000,000,000,000"),
        ({"seed": -1}, "--seed: must be at least 0"),
        ({"seed": 2**32}, "--seed: must be at most 4294967295, not 4294967296"),
        ({"seed": 10**23}, "--seed: must be at most 4294967295"),
        ({"greedy": True, "temperature": 0.5}, "--temperature: does nothing with --greedy"),
        ({"greedy": True, "top_k": 5}, "--top-k: does nothing with --greedy"),
        ({"greedy": True, "top_p": 0.9}, "--top-p: does nothing with --greedy"),
        ({"greedy": True, "min_p": 0.1}, "--min-p: does nothing with --greedy"),
        ({"greedy": True, "samples": 3}, "--samples: 3 texts would be the same"),
        (
            {"temperature": 0, "samples": 3},
            "--samples: 3 texts would be the same, since nothing is drawn; leave it out, or --temp",
        ),
        (
            {"top_k": 1, "samples": 3},
            "--samples: 3 texts would be the same, since nothing is drawn; leave it out, or --top-k",
        ),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Sampling(**options)
    assert str(caught.value).startswith(message)
