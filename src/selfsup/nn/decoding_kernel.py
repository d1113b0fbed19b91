"""Attention of one new token a row over a cache, on a GPU, as one kernel.

Imported only where `gpu.runs_kernels`; Triton comes with torch's CUDA builds for Linux.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 1 << 14
"""Numbers of keys that one program holds at once: many, since waiting for memory is what takes time."""


@triton.jit  # type: ignore[untyped-decorator]
def _attend_one(  # type: ignore[no-untyped-def]  # Triton would take annotations as settings
    q,
    k,
    v,
    keys,
    values,
    positions,
    cos,
    sin,
    out,
    q_stride,
    k_stride,
    v_stride,
    shared_heads,
    length,
    scale,
    group: tl.constexpr,
    width: tl.constexpr,
    wide: tl.constexpr,
    turned: tl.constexpr,
    block: tl.constexpr,
):
    """One program a row and head: the new token first, then the kept ones, in one pass (Dao 2023)."""
    row, head = tl.program_id(0), tl.program_id(1)
    shared = head // group
    at = tl.arange(0, wide)
    inside = at < width
    position = tl.load(positions + row)
    query = tl.load(q + row * q_stride + head * width + at, mask=inside, other=0.0).to(tl.float32)
    key = tl.load(k + row * k_stride + shared * width + at, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(v + row * v_stride + shared * width + at, mask=inside, other=0.0)
    if turned:
        far = (at + width // 2) % width
        c = tl.load(cos + position * width + at, mask=inside, other=0.0).to(tl.float32)
        s = tl.load(sin + position * width + at, mask=inside, other=0.0).to(tl.float32)
        far_query = tl.load(q + row * q_stride + head * width + far, mask=inside, other=0.0)
        far_key = tl.load(k + row * k_stride + shared * width + far, mask=inside, other=0.0)
        query = query * c + far_query.to(tl.float32) * s
        key = key * c + far_key.to(tl.float32) * s
    line = (row.to(tl.int64) * shared_heads + shared) * length * width
    if head % group == 0:  # only this program writes them; the others have the new token at hand
        kept = key.to(keys.dtype.element_ty)
        tl.store(keys + line + position * width + at, kept, mask=inside)
        tl.store(values + line + position * width + at, value, mask=inside)
    query = query * scale
    best = tl.sum(query * key, 0)
    total = 1.0
    mixed = value.to(tl.float32)
    for low in range(0, position, block):
        place = low + tl.arange(0, block)
        seen = place < position
        spot = line + place[:, None] * width + at[None, :]
        both = seen[:, None] & inside[None, :]
        old_keys = tl.load(keys + spot, mask=both, other=0.0)
        old_values = tl.load(values + spot, mask=both, other=0.0)  # asked for before it is needed
        scores = tl.sum(old_keys.to(tl.float32) * query[None, :], 1)
        scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 0))
        shares = tl.exp(scores - higher)
        fade = tl.exp(best - higher)
        total = total * fade + tl.sum(shares, 0)
        mixed = mixed * fade + tl.sum(shares[:, None] * old_values.to(tl.float32), 0)
        best = higher
    found = (mixed / total).to(out.dtype.element_ty)
    tl.store(out + (row * tl.num_programs(1) + head) * width + at, found, mask=inside)


def attend_one(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    tables: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Keep a new token for each row, and mix all that it may see.

    Args:
        q: (rows, heads, width); its heads, and those of k and v, lie side by side.
        k, v: (rows, shared heads, width).
        keys, values: (rows, shared heads, length, width), contiguous; written at `positions`.
        positions: (rows,) where each row's token goes; all places before it are read.
        tables: cosines and signed sines, (places, 1, width), by which queries and keys are turned
            first, or None.

    Returns:
        (rows, heads, width).
    """
    rows, heads, width = q.shape
    shared = k.shape[1]
    assert q.stride()[1:] == k.stride()[1:] == v.stride()[1:] == (width, 1)
    assert keys.is_contiguous()
    assert values.is_contiguous()
    out = torch.empty((rows, heads, width), dtype=q.dtype, device=q.device)
    cos, sin = (q, q) if tables is None else tables
    wide = triton.next_power_of_2(width)
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]  # Triton starts kernels where torch stands
        _attend_one[(rows, heads)](
            q,
            k,
            v,
            keys,
            values,
            positions,
            cos,
            sin,
            out,
            q.stride(0),
            k.stride(0),
            v.stride(0),
            shared,
            keys.shape[2],
            width**-0.5,
            group=heads // shared,
            width=width,
            wide=wide,
            turned=tables is not None,
            block=max(16, _TILE // wide),
            num_warps=8,
        )
    return out
