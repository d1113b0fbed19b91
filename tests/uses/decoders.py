"""Small decoders with random weights, as folders that selfsup and transformers open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from selfsup.config import (
    BytePairConfig,
    TransformerConfig,
)
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder, save_decoder
from selfsup.models.transformer import CausalLanguageModel

TEXTS = [
    "In a shocking finding, scientists discovered a herd of unicorns.",
    "The sum of two numbers is a number; the index of an array starts at zero.",
    "他们在图书馆里读书，老师说今天的天气很好。",
] * 4
_SHARED: dict[str, Any] = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 64,
    "max_length": 48,
    "norm_position": "pre",
    "norm_eps": 1e-5,
    "embedding_norm": False,
    "type_vocab_size": 0,
    "pooler": False,
    "causal": True,
    "initializer_range": 0.3,  # large, so that the next token depends on what was read
}
_KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {"activation": "gelu_tanh"},
    "llama": {
        "num_kv_heads": 2,
        "norm": "rmsnorm",
        "positions": "rotary",
        "activation": "silu",
        "gated": True,
        "bias": False,
        "tied": False,
    },
}
_KINDS["qwen2"] = {**_KINDS["llama"], "qkv_bias": True}


def tokenizer() -> Tokenizer:
    return train_tokenizer(BytePairConfig(vocab_size=300), TEXTS).for_decoder()


def config(kind: str, vocab_size: int = 300) -> TransformerConfig:
    return TransformerConfig(vocab_size=vocab_size, **_SHARED, **_KINDS[kind])


def model(kind: str, vocab_size: int = 300) -> CausalLanguageModel:
    torch.manual_seed(0)
    made = CausalLanguageModel(config(kind, vocab_size)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):  # zero at first; then nobody would miss them
                parameter.normal_(std=0.1)
    return made


def folder(kind: str, path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    known = tokenizer()
    save_decoder(path, model(kind, known.vocab_size), known, {}, "a test")
    return path


def decoder(kind: str, path: Path) -> PretrainedDecoder:
    return load_decoder(folder(kind, path))
