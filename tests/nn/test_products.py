"""Weights laid out for reading: nearly the same numbers, and the model as it was, also meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from selfsup.config import TransformerConfig
from selfsup.models.transformer import Transformer
from selfsup.nn import products
from selfsup.nn.lora import add_lora
from selfsup.nn.products import weights_laid_out
from selfsup.nn.sequences import Sequences

CONFIG = TransformerConfig(
    vocab_size=50, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_length=32
)
IDS = [np.arange(n) for n in (5, 20, 31)]


def read(model: nn.Module, half: bool = True) -> torch.Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        found: torch.Tensor = model(Sequences.from_lists(IDS))
    return found


def laid(model: nn.Module) -> int:
    return sum("forward" in vars(module) for module in model.modules())


@pytest.fixture
def model() -> Iterator[Transformer]:
    torch.manual_seed(0)
    made = Transformer(CONFIG).eval()
    yield made
    assert laid(made) == 0


def test_reads_nearly_the_same(model: Transformer) -> None:
    plain = read(model)
    with weights_laid_out(model, torch.bfloat16, 64, 65):
        assert laid(model) == (8 if products._has_blocks(torch.bfloat16) else 0)
        torch.testing.assert_close(read(model), plain, atol=0.05, rtol=0.05)
    assert torch.equal(read(model), plain)


def test_who_trains_or_reads_in_float32_meanwhile_gets_plain_products(model: Transformer) -> None:
    full = read(model, half=False)
    batch = Sequences.from_lists(IDS)
    gradients = []
    names = list(model.state_dict())
    for tokens in (65, 1):
        with weights_laid_out(model, torch.bfloat16, 64, tokens):
            assert torch.equal(read(model, half=False), full)
            assert list(model.state_dict()) == names
            weight = model.blocks[0].attention.qkv.weight
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(batch).square().sum()
            gradients.append(torch.autograd.grad(loss, weight)[0])
    assert torch.equal(gradients[0], gradients[1])
    assert float(gradients[0].abs().sum()) > 0


def test_hooks_fire_and_readers_may_be_nested(model: Transformer) -> None:
    fired = []
    handle = model.blocks[0].mlp.up.register_forward_hook(lambda *_: fired.append(1))
    with weights_laid_out(model, torch.bfloat16, 64, 65):
        with weights_laid_out(model, torch.bfloat16, 64, 65):
            read(model)
        read(model)
    handle.remove()
    assert len(fired) == 2


def test_put_back_when_something_fails(model: Transformer) -> None:
    error = KeyError("of the reader")
    with (
        pytest.raises(KeyError, match="of the reader"),
        weights_laid_out(model, torch.bfloat16, 1, 2),
    ):
        raise error


@pytest.mark.parametrize(
    ("dtype", "tokens"), [(torch.float32, 1000), (torch.bfloat16, 64)], ids=["fp32", "one batch"]
)
def test_changes_nothing_where_it_does_not_pay(
    model: Transformer, dtype: torch.dtype, tokens: int
) -> None:
    with weights_laid_out(model, dtype, 64, tokens):
        assert laid(model) == 0


def test_nor_without_units_for_it(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_has_blocks", lambda dtype: False)
    with weights_laid_out(model, torch.bfloat16, 64, 1000):
        assert laid(model) == 0


def test_low_rank_layers_stay(model: Transformer) -> None:
    add_lora(model.blocks, 2, 4.0, "attention", 0)
    with weights_laid_out(model, torch.bfloat16, 64, 1000):
        assert laid(model) == (4 if products._has_blocks(torch.bfloat16) else 0)


@pytest.mark.skipif(not products._has_blocks(torch.bfloat16), reason="no oneDNN bf16 here")
def test_two_threads_lay_out_one_model(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    made = products.make_product

    def slow(*given: Any) -> products.Product:
        time.sleep(0.005)
        return made(*given)

    monkeypatch.setattr(products, "make_product", slow)

    def reads(_: int) -> bool:
        with weights_laid_out(model, torch.bfloat16, 64, 65):
            return bool(read(model).isfinite().all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(reads, range(12)))
    assert laid(model) == 0
