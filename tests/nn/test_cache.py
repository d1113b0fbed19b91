"""One new token over keys and values that are kept in bfloat16."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from selfsup.nn import cache


@pytest.mark.parametrize(("rows", "shared", "masked"), [(1, 4, False), (5, 4, True), (5, 2, True)])
@pytest.mark.parametrize("at_once", [1, 1_500_000])
def test_queries_over_bfloat16_equal_attention_in_float32(
    rows: int, shared: int, masked: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_WIDENED", at_once)  # a row at a time, and all together
    torch.manual_seed(0)
    heads, width, longest = 4, 16, 11
    # queries as they lie in a joined projection, keys as a part of a longer cache
    q = torch.randn(rows, 3 * heads, width, dtype=torch.bfloat16)[:, :heads]
    keys, values = (
        torch.randn(rows, shared, longest + 5, width, dtype=torch.bfloat16)[:, :, :longest]
        for _ in range(2)
    )
    mask = None
    if masked:
        lengths = torch.tensor([3, 11, 1, 7, 10])
        mask = (torch.arange(longest) < lengths[:, None])[:, None, None]
    found = cache._attend_widened(q, keys, values, mask)
    assert found.dtype == torch.bfloat16
    wide = (x.float() for x in (q[:, :, None], keys, values))
    wanted = F.scaled_dot_product_attention(*wide, attn_mask=mask, enable_gqa=shared != heads)
    torch.testing.assert_close(found, wanted[:, :, 0].to(torch.bfloat16), atol=1e-6, rtol=1 / 128)


@pytest.mark.parametrize(("rows", "places", "pays"), [(16, 40, True), (1, 40, False)])
def test_few_pairs_go_by_the_kernel(rows: int, places: int, pays: bool) -> None:
    q, keys = torch.zeros(rows, 6, 8), torch.zeros(rows, 6, places, 8)
    assert cache._widening_pays(q.bfloat16(), keys.bfloat16()) == pays
    assert not cache._widening_pays(q, keys)
