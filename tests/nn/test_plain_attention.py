"""Attention by plain products: against torch's, with its own way back."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from selfsup.nn import plain_attention as plain
from selfsup.nn.dropout import dropout_mask
from selfsup.nn.plain_attention import _PlainAttention, plain_attention


def inputs(length: int = 9) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 2, length, 4).double().requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("kept", [0, 256])
@pytest.mark.parametrize("masked", [False, True])
def test_forward_and_gradients(masked: bool, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfsup.nn.plain_attention._KEPT", kept)
    q, k, v = inputs()
    bias = None
    if masked:
        hidden = torch.rand(3, 1, 9, 9) < 0.4
        hidden |= torch.eye(9, dtype=torch.bool)
        bias = torch.zeros(3, 2, 9, 9).double().masked_fill_(~hidden, -torch.inf)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    flat = None if bias is None else bias.reshape(6, 9, 9)
    ours = plain_attention(q, k, v, flat, 0.0)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    expected = torch.autograd.grad((theirs * weights).sum(), (q, k, v))
    found = torch.autograd.grad((ours * weights).sum(), (q, k, v))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("queries", [1, 4, 20])
@pytest.mark.parametrize("pairs", [1, 1 << 20])
@pytest.mark.parametrize("mask", ["none", "gaps", "pairs", "pairs of all rows", "causal"])
def test_long_sequences_a_few_queries_at_a_time(
    mask: str, pairs: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query, four (the last part has one), and all; one row, and all."""
    for name, value in {"_WHOLE": 8, "_KEPT": 8, "_PAIRS": pairs}.items():
        monkeypatch.setattr(plain, name, value)
    for name in ("_QUERIES", "_LOOKING_BACK"):
        monkeypatch.setattr(plain, name, queries)
    q, k, v = inputs()
    seen, bias = None, None
    if mask != "none":
        seen = torch.rand(1 if mask == "pairs of all rows" else 3, 1, 9, 9) < 0.4
        seen = seen[:, :, :1] if mask == "gaps" else seen | torch.eye(9, dtype=torch.bool)
        seen[..., 0] = True
        seen = seen.tril() if mask == "causal" else seen
        bias = torch.zeros(seen.shape).double().masked_fill_(~seen, -torch.inf)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    ours = plain_attention(q, k, v, bias, 0.0, causal=mask == "causal")
    assert "_ByParts" in str(ours.grad_fn)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    expected = torch.autograd.grad((theirs * weights).sum(), (q, k, v))
    found = torch.autograd.grad((ours * weights).sum(), (q, k, v))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_with_dropout() -> None:
    """Against autograd through the same mask."""
    q, k, v = (x.detach().reshape(-1, 9, 4).requires_grad_() for x in inputs())
    torch.manual_seed(5)
    ours = _PlainAttention.apply(q, k, v, None, 0.3)
    torch.manual_seed(5)
    shares = (q @ k.mT / 2).softmax(-1)
    keep, scale = dropout_mask(shares, 0.3)
    assert 0 < int(keep.sum()) < keep.numel()
    theirs = (shares * keep * scale) @ v
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    expected = torch.autograd.grad((theirs * weights).sum(), (q, k, v))
    found = torch.autograd.grad((ours * weights).sum(), (q, k, v))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
