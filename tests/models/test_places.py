"""Vectors at chosen places alone: the same numbers and gradients as out of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from selfsup.config import TransformerConfig
from selfsup.models.decoding import Decoding
from selfsup.models.transformer import CausalLanguageModel, Transformer
from selfsup.nn.cache import KeyValueCache, continuations
from selfsup.nn.sequences import Sequences

SHAPES: dict[str, dict[str, Any]] = {
    "bert": {},
    "modernbert": {
        "norm_position": "pre",
        "positions": "rotary",
        "type_vocab_size": 0,
        "gated": True,
        "window": 8,
        "global_every": 3,
    },
    "llama": {
        "norm_position": "pre",
        "norm": "rmsnorm",
        "positions": "rotary",
        "type_vocab_size": 0,
        "gated": True,
        "causal": True,
        "embedding_norm": False,
        "num_kv_heads": 2,
    },
}
LENGTHS = [23, 9, 1, 40]
TOTAL = sum(LENGTHS)
PLACES = torch.tensor([70, 0, 3, 31, 32, 33, 3])
"""In no order, and one twice."""


def shape(name: str) -> TransformerConfig:
    return TransformerConfig(
        **{
            "vocab_size": 50,
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "intermediate_size": 48,
            "max_length": 64,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "initializer_range": 0.2,
            "pooler": False,
            **SHAPES[name],
        }
    )


def text() -> Sequences:
    draws = np.random.default_rng(0)
    return Sequences.from_lists([draws.integers(0, 50, n) for n in LENGTHS])


@pytest.mark.parametrize("name", SHAPES)
def test_vectors_and_gradients(name: str) -> None:
    torch.manual_seed(0)
    model = Transformer(shape(name)).double()
    weights = torch.randn(len(PLACES), 32, dtype=torch.float64)
    found = []
    for places in (None, PLACES):
        hidden = model(text(), places=places)
        hidden = hidden[PLACES] if places is None else hidden
        model.zero_grad()
        (hidden * weights).sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((hidden.detach(), grads))
    (whole, whole_grads), (chosen, chosen_grads) = found
    torch.testing.assert_close(chosen, whole, rtol=1e-12, atol=1e-12)
    assert whole_grads.keys() == chosen_grads.keys()
    for key, grad in whole_grads.items():
        torch.testing.assert_close(chosen_grads[key], grad, rtol=1e-10, atol=1e-11, msg=key)


@pytest.mark.parametrize("name", SHAPES)
def test_half_precision_fills_rows_up(name: str) -> None:
    torch.manual_seed(0)
    model = Transformer(shape(name)).eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        whole, chosen = model(text()), model(text(), places=PLACES)
    assert chosen.shape == (len(PLACES), 32)
    torch.testing.assert_close(chosen, whole[PLACES], rtol=0.05, atol=0.05)


def test_the_last_layer_spends_nothing_on_the_rest() -> None:
    model = Transformer(shape("bert"))
    rows: list[int] = []
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda _module, given, _out: rows.append(len(given[0])))
    model(text(), places=PLACES)
    assert rows[:2] == [TOTAL, TOTAL]
    assert len(PLACES) <= rows[2] <= 8


def test_no_places_fill_a_cache() -> None:
    torch.manual_seed(0)
    model = CausalLanguageModel(shape("llama")).double().eval()
    caches = [
        KeyValueCache(model.config, 2, 12, device=torch.device("cpu"), dtype=torch.float64)
        for _ in range(2)
    ]
    ids = torch.arange(14).view(2, 7)
    begin = Sequences.from_lists([ids[0, :5].numpy(), ids[1, :3].numpy()])
    with torch.inference_mode():
        model(begin, cache=caches[0])
        nothing = model(begin, cache=caches[1], places=torch.zeros(0, dtype=torch.int64))
        rest = [continuations([ids[0, 5:], ids[1, 3:]], cache.lengths) for cache in caches]
        whole, again = (model(r, cache=c) for r, c in zip(rest, caches, strict=True))
    assert nothing.shape == (0, 32)
    torch.testing.assert_close(again, whole, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_writing_reads_prompts_so(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = CausalLanguageModel(shape("llama")).eval()
    decoding = Decoding(model, dtype=dtype, rows=len(LENGTHS))
    last = text().starts[1:] - 1
    whole = decoding.read(text(), decoding.cache(len(LENGTHS), 64))[last]
    chosen = decoding.read(text(), decoding.cache(len(LENGTHS), 64), last)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(chosen, whole, rtol=tolerance, atol=tolerance)
