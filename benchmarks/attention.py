"""Attention on a CPU in bf16, there and back and there alone: torch's fused kernel against plain products."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.nn.attention import Group
from selfsup.nn.device import keep_freed_memory
from selfsup.nn.plain_attention import plain_attention

from _common import arguments, finish

SHAPES = [
    (128, 12, 32, 32),
    (64, 12, 64, 32),
    (16, 12, 256, 32),
    (64, 3, 64, 64),
    (32, 4, 128, 64),
    (16, 4, 256, 64),
    (8, 4, 512, 64),
    (4, 4, 1024, 64),
]


def measure(
    shape: tuple[int, int, int, int], masked: bool, back: bool, times: int
) -> dict[str, Any]:
    rows, heads, length, width = shape
    size = (rows, length, heads, width)  # as a model's projections lie
    inputs = [torch.randn(size).bfloat16().requires_grad_(back) for _ in range(3)]
    q, k, v = (x.transpose(1, 2) for x in inputs)
    owner = torch.arange(length) >= length // 3
    mask = (owner[:, None] == owner[None, :]).expand(rows, 1, length, length) if masked else None
    bias = Group(rows, length, mask).half_bias(heads, q.device)

    def ready(out: Tensor) -> Tensor:
        return out.transpose(1, 2).reshape(size)

    systems = {
        "fused": lambda: ready(F.scaled_dot_product_attention(q, k, v, attn_mask=mask)),
        "plain": lambda: ready(plain_attention(q, k, v, bias, 0.0)),
    }
    spans: dict[str, list[float]] = {name: [] for name in systems}
    outputs = {name: run().detach().float() for name, run in systems.items()}
    for turn in range(times + 2):
        for name, run in systems.items():
            started = time.perf_counter()
            out = run()
            if back:
                out.backward(torch.ones_like(out))
            if turn >= 2:
                spans[name].append(time.perf_counter() - started)
            for x in inputs:
                x.grad = None
    middle = {name: statistics.median(x) * 1e3 for name, x in spans.items()}
    return {
        "shape": shape,
        "masked": masked,
        "back": back,
        "milliseconds": {name: round(x, 3) for name, x in middle.items()},
        "fused_over_plain": round(middle["fused"] / middle["plain"], 2),
        "largest_difference": float((outputs["fused"] - outputs["plain"]).abs().max()),
    }


def main() -> None:
    args = arguments(__doc__ or "")
    keep_freed_memory()  # as the loop does
    times = 3 if args.quick else 15
    kinds = [(masked, back) for back in (True, False) for masked in (False, True)]
    rows = [measure(shape, *kind, times) for kind in kinds for shape in SHAPES]
    for row in rows:
        print(row)
    finish("attention", args, {"rows": rows})


if __name__ == "__main__":
    main()
