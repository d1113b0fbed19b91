"""Weights laid out for reading: nearly the same numbers, and the model as it was afterwards."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
from torch import nn

from selfsup.config import TransformerConfig
from selfsup.models.transformer import Transformer
from selfsup.nn.lora import LoraLinear, add_lora
from selfsup.nn.products import _LaidOut, laid_out
from selfsup.nn.sequences import Sequences

CONFIG = TransformerConfig(
    vocab_size=50, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_length=32
)


def read(model: nn.Module) -> torch.Tensor:
    ids = [torch.arange(n).numpy() for n in (5, 20, 31)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found: torch.Tensor = model(Sequences.from_lists(ids))
    return found


def linears(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, (nn.Linear, _LaidOut))}


def test_reads_the_same_and_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    before, plain = linears(model), read(model)
    with suppress(RuntimeError), laid_out(model, torch.bfloat16, 64, 65):
        raise RuntimeError
    assert linears(model) == before
    with laid_out(model, torch.bfloat16, 64, 65):
        assert sum(isinstance(m, _LaidOut) for m in linears(model).values()) == 8
        torch.testing.assert_close(read(model), plain, atol=0.05, rtol=0.05)
    assert linears(model) == before
    assert torch.equal(read(model), plain)


@pytest.mark.parametrize(
    ("dtype", "tokens"), [(torch.float32, 1000), (torch.bfloat16, 64)], ids=["fp32", "one batch"]
)
def test_changes_nothing_where_it_does_not_pay(dtype: torch.dtype, tokens: int) -> None:
    model = Transformer(CONFIG).eval()
    with laid_out(model, dtype, 64, tokens):
        assert not any(isinstance(m, _LaidOut) for m in model.modules())


def test_low_rank_layers_stay() -> None:
    model = Transformer(CONFIG).eval()
    add_lora(model.blocks, 2, 4.0, "attention", 0)
    with laid_out(model, torch.bfloat16, 64, 1000):
        kinds = [type(m) for m in model.modules()]
        assert kinds.count(LoraLinear) == 4
        assert kinds.count(_LaidOut) == 4
