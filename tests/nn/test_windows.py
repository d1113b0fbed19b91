"""Attention by blocks equals attention that looks at all tokens within the reach."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.nn.attention import AttentionPlan, attend
from selfsup.nn.windows import block_size, with_neighbours

CPU = torch.device("cpu")


def expected(parts: list[Tensor], counts: list[int], reach: int, causal: bool) -> Tensor:
    """Each sequence by itself, with one mask of all pairs."""
    found, at = [], 0
    for count in counts:
        place = torch.arange(count)
        seen = (place[:, None] - place).abs() <= reach
        seen = seen.tril() if causal else seen
        own = (x[at : at + count].transpose(0, 1) for x in parts)
        found.append(F.scaled_dot_product_attention(*own, attn_mask=seen).transpose(0, 1))
        at += count
    return torch.cat(found)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("counts", "row_length", "reach"),
    [
        ([200, 193, 7, 215], None, 3),  # rows of 256 with gaps at their ends, and short ones
        ([224, 224], None, 32),  # all equal: no mask
        ([300], None, 40),  # the last block is not full
        ([150, 74, 224, 10, 214], 224, 3),  # packed: a row holds several, blocks cross their ends
    ],
)
def test_blocks_equal_one_mask(
    counts: list[int], row_length: int | None, reach: int, causal: bool
) -> None:
    torch.manual_seed(0)
    starts = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()])
    plan = AttentionPlan.build(starts, row_length, CPU).windowed(reach)
    assert any(group.block for group in plan.groups)
    plan = plan.causal() if causal else plan
    parts = [
        torch.randn(sum(counts), 2, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)
    ]
    found, wanted = attend(*parts, plan), expected(parts, counts, reach, causal)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)
    weights = torch.randn_like(wanted)
    mine, theirs = (torch.autograd.grad((x * weights).sum(), parts) for x in (found, wanted))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_long_rows_hold_no_more_pairs_a_token_than_short_ones() -> None:
    masks = []
    for length in (512, 4096):
        plan = AttentionPlan.build(torch.tensor([0, length]), None, CPU).windowed(64)
        (group,) = plan.groups
        assert group.mask is not None
        masks.append(group.mask.numel() / length)
    assert masks[0] == masks[1] == 3 * 64


@pytest.mark.parametrize(
    ("length", "reach", "size"), [(384, 64, 64), (383, 64, None), (192, 1, 32)]
)
def test_blocks_are_for_long_rows(length: int, reach: int, size: int | None) -> None:
    assert block_size(length, reach) == size


@pytest.mark.parametrize("blocks", [1, 4])
def test_neighbours_and_their_gradient(blocks: int) -> None:
    x = torch.randn(2, blocks, 2, 1, 3, dtype=torch.float64, requires_grad=True)
    found = with_neighbours(x)
    padded = F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1))
    wanted = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], 2)
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.gradcheck(with_neighbours, (x,))
