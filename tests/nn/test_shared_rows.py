"""Short sequences in shared rows: each once, none too long, and no more rows than needed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from selfsup.nn import attention, plain_attention
from selfsup.nn.attention import AttentionPlan, attend
from selfsup.nn.shared_rows import parted_rows, places_of, shared_rows


def first_fit(counts: list[int], width: int) -> list[list[int]]:
    """The same by trying every row."""
    rows: list[list[int]] = []
    for i in sorted(range(len(counts)), key=lambda i: -counts[i]):
        for row in rows:
            if sum(counts[j] for j in row) + counts[i] <= width:
                row.append(i)
                break
        else:
            rows.append([i])
    return rows


@given(st.lists(st.integers(1, 16), min_size=1, max_size=40))
def test_first_fit_decreasing(counts: list[int]) -> None:
    sizes = np.array(counts)
    rows = shared_rows(np.arange(len(counts)), sizes, 16)
    assert sorted(i for row in rows for i in row) == list(range(len(counts)))
    assert rows == first_fit(counts, 16)


def test_places_and_owners() -> None:
    tokens, owner = places_of([[2, 0], [1]], 6, np.array([0, 2, 7]), np.array([2, 5, 3]))
    assert tokens.tolist() == [[7, 8, 9, 0, 1, 7], [2, 3, 4, 5, 6, 2]]
    assert owner.tolist() == [[2, 2, 2, 0, 0, -1], [1, 1, 1, 1, 1, -1]]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("reach", [None, 5])
@pytest.mark.parametrize("amx", [False, True])
def test_mixed_lengths_equal_one_by_one_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, amx: bool, reach: int | None, causal: bool
) -> None:
    """Both ways of a CPU, alone and with gradients, whatever rows the sequences share."""
    monkeypatch.setattr(plain_attention, "_has_amx", lambda: amx)
    torch.manual_seed(0)
    counts = [3, 64, 1, 17, 40, 70, 65, 24, 128, 200]
    starts = torch.tensor([0, *np.cumsum(counts)])
    plan = AttentionPlan.build(starts, None, torch.device("cpu"))
    assert len(plan.groups) < len(set(counts))
    if reach:
        plan = plan.windowed(reach)
    if causal:
        plan = plan.causal()
    inputs = [torch.randn(sum(counts), 2, 8).bfloat16() for _ in range(3)]
    place = torch.arange(200)
    near = (place[:, None] - place[None]).abs() <= (reach or 200)
    seen = near.tril() if causal else near
    exact = [x.float().requires_grad_() for x in inputs]
    expected = torch.cat(
        [
            F.scaled_dot_product_attention(
                *(x[a:b].transpose(0, 1) for x in exact), attn_mask=seen[:n, :n]
            ).transpose(0, 1)
            for a, b, n in zip(starts, starts[1:], counts, strict=False)
        ]
    )
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    parts = [x.clone().requires_grad_() for x in inputs]
    found = attend(*parts, plan)
    (found.float() * weights).sum().backward()
    alone = attend(*inputs, plan)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    torch.testing.assert_close(alone.float(), expected, atol=0.02, rtol=0.02)
    for part, true in zip(parts, exact, strict=True):
        torch.testing.assert_close(part.grad.float(), true.grad, atol=0.05, rtol=0.05)


def test_few_groups_for_many_lengths() -> None:
    counts = torch.arange(1, 65)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    plan = AttentionPlan.build(starts, None, torch.device("cpu"))
    (group,) = plan.groups
    assert group.length == attention._SHARED
    assert group.rows <= 1.1 * int(counts.sum()) / group.length


def test_many_lonely_sequences_get_shorter_rows() -> None:
    counts = np.array([40] * 20 + [60] * 3 + [35, 36] + [10, 50])
    rows = shared_rows(np.arange(len(counts)), counts, 64)
    parts = dict(parted_rows(rows, counts, 64, 16))
    assert parts.keys() == {48, 64}
    assert len(parts[48]) >= 20
    assert all(len(row) == 1 and counts[row[0]] <= 48 for row in parts[48])
    assert sorted(i for part in parts.values() for row in part for i in row) == list(range(27))
    assert parted_rows(rows[:5], counts, 64, 16) == [(64, rows[:5])]


@pytest.mark.parametrize(
    ("counts", "row_length"),
    [([300, 300], None), ([300, 280], None), ([120, 180, 300], 300), ([600, 10], None)],
)
def test_long_rows_that_look_back_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], row_length: int | None
) -> None:
    """Some queries at a time, whatever mask there is beside the order."""
    monkeypatch.setattr(plain_attention, "_has_amx", lambda: False)
    torch.manual_seed(0)
    starts = torch.tensor([0, *np.cumsum(counts)])
    plan = AttentionPlan.build(starts, row_length, torch.device("cpu")).causal()
    inputs = [torch.randn(sum(counts), 2, 8).bfloat16() for _ in range(3)]
    exact = [x.float().requires_grad_() for x in inputs]
    expected = torch.cat(
        [
            F.scaled_dot_product_attention(
                *(x[a:b].transpose(0, 1) for x in exact), is_causal=True
            ).transpose(0, 1)
            for a, b in itertools.pairwise(starts.tolist())
        ]
    )
    weights = torch.randn_like(expected)
    (expected * weights).sum().backward()
    parts = [x.clone().requires_grad_() for x in inputs]
    found = attend(*parts, plan)
    (found.float() * weights).sum().backward()
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)
    for part, true in zip(parts, exact, strict=True):
        torch.testing.assert_close(part.grad.float(), true.grad, atol=0.05, rtol=0.05)
