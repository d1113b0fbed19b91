"""Low-rank adaptation: starts as the layer it replaces, trains only factors, folds exactly; beside peft."""

from __future__ import annotations

import pytest
import torch

from selfsup.config import TransformerConfig
from selfsup.models.transformer import Transformer
from selfsup.nn.lora import LoraLinear, add_lora, merge_lora
from selfsup.nn.sequences import Sequences

CONFIG = TransformerConfig(
    vocab_size=50, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_length=40
)


def encoder() -> Transformer:
    torch.manual_seed(0)
    return Transformer(CONFIG).double()


def batch() -> Sequences:
    torch.manual_seed(1)
    return Sequences.from_lists([torch.randint(1, 50, (n,)).numpy() for n in (7, 3, 12)])


def test_starts_as_it_was_and_trains_only_factors() -> None:
    plain, adapted = encoder(), encoder()
    add_lora(adapted, 4, 16.0, "all", seed=0)
    adapted.double()
    torch.testing.assert_close(adapted(batch()), plain(batch()), atol=0, rtol=0)
    trained = [n for n, p in adapted.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 4 * CONFIG.num_layers
    assert all(n.rsplit(".", 1)[1] in {"up", "down"} and "blocks" in n for n in trained)
    adapted(batch()).sum().backward()
    assert all(p.grad is None for p in adapted.parameters() if not p.requires_grad)


def test_only_attention() -> None:
    adapted = encoder()
    add_lora(adapted, 2, 8.0, "attention", seed=0)
    kinds = [n for n, m in adapted.named_modules() if isinstance(m, LoraLinear)]
    assert kinds == [f"blocks.{i}.attention.{n}" for i in range(2) for n in ("qkv", "out")]


def test_merging_changes_nothing_but_the_shape() -> None:
    adapted = encoder()
    add_lora(adapted, 4, 16.0, "all", seed=0)
    adapted.double()
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if name.endswith(".up"):
                p.normal_()
    before = adapted(batch())
    assert not torch.allclose(before, encoder()(batch()))
    merge_lora(adapted)
    adapted.double()
    assert set(dict(adapted.named_parameters())) == set(dict(encoder().named_parameters()))
    torch.testing.assert_close(adapted(batch()), before, atol=2e-5, rtol=2e-5)


def test_against_peft() -> None:
    peft = pytest.importorskip("peft")
    base = torch.nn.Linear(12, 20)
    holder = torch.nn.Sequential(base)
    theirs = peft.get_peft_model(
        holder, peft.LoraConfig(r=3, lora_alpha=6, target_modules=["0"], lora_dropout=0.0)
    )
    layer = theirs.base_model.model[0]
    ours = LoraLinear(base, 3, 6.0)
    with torch.no_grad():
        ours.down.copy_(layer.lora_A["default"].weight)
        ours.up.normal_()
        layer.lora_B["default"].weight.copy_(ours.up)
    x = torch.randn(5, 12)
    torch.testing.assert_close(ours(x), theirs(x))
