"""A decoder with random weights that opens in a moment, and whose scores differ."""

from __future__ import annotations

from pathlib import Path

import torch

from selfsup import recipes
from selfsup.data.tokenizers import train_tokenizer
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder, save_decoder
from selfsup.models.transformer import CausalLanguageModel

_TEXT = "The quick brown fox jumps over the lazy dog and writes good or bad reviews of films. "


def tiny_decoder(
    folder: Path, recipe: str = "gpt2-tiny", max_length: int = 96
) -> PretrainedDecoder:
    base = recipes.get(recipe)
    tokenizer = train_tokenizer(
        base.tokenizer.model_copy(update={"vocab_size": 300}), [_TEXT * 4]
    ).for_decoder()
    small = {"vocab_size": tokenizer.vocab_size, "max_length": max_length, "hidden_size": 32}
    small |= {"num_layers": 2, "num_heads": 2, "intermediate_size": 64}
    if base.model.num_kv_heads:
        small["num_kv_heads"] = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CausalLanguageModel(base.model.model_copy(update=small))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.25)
    folder.mkdir(parents=True, exist_ok=True)
    save_decoder(folder, model, tokenizer, {}, "random weights")
    return load_decoder(folder)
