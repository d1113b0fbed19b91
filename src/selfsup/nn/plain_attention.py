"""Attention by plain products, for CPUs in bf16; where that is the faster way."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from selfsup.nn.dropout import dropout_mask, keep_only

_SHORT = 32
"""Tokens up to which plain products are no slower forward alone."""
_KEPT = 256
"""Tokens up to which shares are kept for the way back: small, and working them out again costs time."""
_WHOLE = 512
"""Tokens up to which the scores of a batch are held at once."""
_MEASURED = 1024
"""Tokens up to which the products were measured on processors with AMX."""
_PAIRS = 1 << 24
"""Pairs of tokens whose scores are held at once where sequences are longer."""
_QUERIES, _LOOKING_BACK = 512, 128
"""Queries at a time; and where they look back only, which spares the keys behind them."""


def plain_is_faster(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> bool:
    """Whether three plain products beat the fused kernel: on CPUs, in bf16.

    There torch 2.13's fused kernel took 1.3 to 9 times as long there and back, and with dropout it has
    none.  Forward alone, on processors with AMX, it is the faster one above 32 tokens
    (`benchmarks/attention.py`).

    Args:
        q, k, v: (rows, heads, length, width).
        dropout: probability with which attention weights are dropped; long sequences would keep a mask
            of all pairs, and go without.
    """
    length = q.shape[2]
    if q.device.type != "cpu" or q.dtype != torch.bfloat16:
        return False
    if length > _WHOLE and (dropout or (_has_amx() and length > _MEASURED)):
        return False
    back = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return back or dropout > 0 or length <= _SHORT or not _has_amx()


def goes_by_parts(length: int, dropout: float, *, causal: bool) -> bool:
    """Whether `plain_attention` takes some queries of sequences of that length at a time.

    Args:
        length: of the sequences.
        dropout: as for `plain_attention`.
        causal: whether each token sees those before it alone.
    """
    return not dropout and length > (_KEPT if causal else _WHOLE)


@cache
def _has_amx() -> bool:
    """Whether this processor multiplies whole tiles in bfloat16."""
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16", False))


class _PlainAttention(torch.autograd.Function):
    """Keeps two bytes for each pair of tokens where dropout is on, and else nothing but its inputs.

    The shares are worked out again on the way back, which costs one product and saves the memory of
    scores, shares and dropped shares (Dao et al. 2022, whose kernels CPUs do not have).
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float
    ) -> Tensor:
        shares = _shares(q, k, bias)
        keep, scale = dropout_mask(shares, dropout) if dropout else (None, 1.0)
        ctx.save_for_backward(q, k, v, bias, keep)
        ctx.scale = scale
        return _scaled(shares if keep is None else keep_only(shares, keep), v, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, bias, keep = ctx.saved_tensors
        shares = _shares(q, k, bias)
        used = shares if keep is None else keep_only(shares, keep)
        grad_v = _scaled(used.mT, grad, ctx.scale)
        grad_shares = _scaled(grad, v.mT, ctx.scale)
        if keep is not None:
            grad_shares = keep_only(grad_shares, keep)
        grad_scores = torch.ops.aten._softmax_backward_data(grad_shares, shares, -1, shares.dtype)
        factor = q.shape[-1] ** -0.5
        grad_q = _scaled(grad_scores, k, factor)
        return grad_q, _scaled(grad_scores.mT, q, factor), grad_v, None, None


class _ByParts(torch.autograd.Function):
    """The same, some queries at a time, so that memory does not grow with the square of the length.

    Each query's shares are whole, so the numbers are those of all queries at once.  Takes
    (rows, heads, length, width).
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        ctx.causal = causal
        out = torch.empty_like(q)
        for rows, asking, asked in _parts(q, k, causal):
            shares = _shares_at(q, k, bias, rows, asking, asked)
            found = torch.bmm(shares, v[rows, :, asked].flatten(0, 1))
            out[rows, :, asking] = found.view(out[rows, :, asking].shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, bias = ctx.saved_tensors
        grad_q = torch.empty_like(q)
        wide = q.dtype if q.dtype == torch.float64 else torch.float32  # sums of many parts
        grad_k, grad_v = (torch.zeros_like(x, dtype=wide) for x in (k, v))
        factor = q.shape[-1] ** -0.5
        for rows, asking, asked in _parts(q, k, ctx.causal):
            there, here = (rows, slice(None), asked), (rows, slice(None), asking)
            shares = _shares_at(q, k, bias, rows, asking, asked)
            asker = grad[here].flatten(0, 1)
            grad_v[there] += torch.bmm(shares.mT, asker).view(v[there].shape)
            back = torch.bmm(asker, v[there].flatten(0, 1).mT)
            back = torch.ops.aten._softmax_backward_data(back, shares, -1, shares.dtype)
            keys, queries = k[there].flatten(0, 1), q[here].flatten(0, 1)
            grad_q[here] = _scaled(back, keys, factor).view(q[here].shape)
            grad_k[there] += _scaled(back.mT, queries, factor).view(k[there].shape)
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None


def _parts(q: Tensor, k: Tensor, causal: bool) -> Iterator[tuple[slice, slice, slice]]:
    """Rows, queries and keys whose scores are held at once."""
    rows, heads, length = q.shape[:3]
    keys = k.shape[2]
    step = min(length, _LOOKING_BACK if causal else _QUERIES)
    high = max(1, _PAIRS // (heads * step * keys))
    for row in range(0, rows, high):
        for first in range(0, length, step):
            end = min(first + step, length)
            yield slice(row, row + high), slice(first, end), slice(end if causal else keys)


def _shares_at(
    q: Tensor, k: Tensor, bias: Tensor | None, rows: slice, asking: slice, asked: slice
) -> Tensor:
    queries, keys = q[rows, :, asking], k[rows, :, asked].flatten(0, 1)
    if bias is not None:
        some = bias if len(bias) == 1 else bias[rows]
        some = (some if some.shape[2] == 1 else some[:, :, asking])[..., asked]
        bias = some.expand(*queries.shape[:3], -1).flatten(0, 1)
    return _shares(queries.flatten(0, 1), keys, bias)


def _scaled(a: Tensor, b: Tensor, factor: float) -> Tensor:
    """The product of a and b, times a factor that is taken within it."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=factor)


def _shares(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    factor = q.shape[-1] ** -0.5
    scores = _scaled(q, k.mT, factor) if bias is None else bias.baddbmm(q, k.mT, alpha=factor)
    return scores.softmax(-1)


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float, *, causal: bool = False
) -> Tensor:
    """Softmax(q k^T / sqrt(width) + bias) v.

    Args:
        q: (rows, heads, length, width).
        k, v: (rows, heads, length, width), of any length.
        bias: (rows x heads, length of q, length of k); where it `goes_by_parts`
            (rows or 1, 1, length or 1, length), the same for all heads; or None.
        dropout: probability with which attention weights are dropped.
        causal: whether the bias lets no token see those behind it.
    """
    if goes_by_parts(k.shape[2], dropout, causal=causal):
        found: Tensor = _ByParts.apply(q, k, v, bias, causal)  # type: ignore[no-untyped-call]
        return found
    shape = q.shape
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    if dropout or k.shape[1] > _KEPT:
        out: Tensor = _PlainAttention.apply(q, k, v, bias, dropout)  # type: ignore[no-untyped-call]
    else:
        out = torch.bmm(_shares(q, k, bias), v)
    return out.view(shape)
