"""What pre-training does differently for each kind of objective, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from selfsup.config import (
    ObjectiveConfig,
    PretrainConfig,
    TransformerConfig,
)
from selfsup.data.rows import PackedRows
from selfsup.data.tokenizer_frames import for_encoder
from selfsup.data.tokenizers import Tokenizer
from selfsup.models.decoder_hub import load_decoder
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.models.replaced_tokens import ReplacedTokenModel
from selfsup.models.transformer import CausalLanguageModel, MaskedLanguageModel, Transformer
from selfsup.objectives import next_token
from selfsup.objectives.masked_tokens import MaskedTokens, overhead
from selfsup.objectives.next_token import NextToken
from selfsup.objectives.replaced_tokens import ReplacedTokens

AnyObjective = MaskedTokens | ReplacedTokens | NextToken
AnyModel = MaskedLanguageModel | ReplacedTokenModel | CausalLanguageModel

_NOTICEABLE = 0.05  # nats


def row_overhead(config: ObjectiveConfig) -> int:
    """Special tokens that each sequence needs."""
    if config.kind == "next-token":
        return next_token.OVERHEAD
    return overhead(config.masking() if config.kind == "replaced-tokens" else config)


def framed(tokenizer: Tokenizer, config: ObjectiveConfig) -> Tokenizer:
    """The tokenizer with the frame around a text that the objective needs."""
    return tokenizer.for_decoder() if config.kind == "next-token" else for_encoder(tokenizer)


def start_of(config: PretrainConfig) -> tuple[Tokenizer, TransformerConfig]:
    """Tokenizer and shape of the model that a run goes on from.

    Rotary positions may become more, learned ones are weights and may not.
    """
    decoder = config.objective.kind == "next-token"
    started = load_decoder(config.init) if decoder else load_encoder(config.init)
    shape = started.config
    if shape.positions == "rotary" and config.data.length > shape.max_length:
        shape = shape.model_copy(update={"max_length": config.data.length})
    return started.tokenizer if decoder else for_encoder(started.tokenizer), shape


def build_objective(
    config: ObjectiveConfig, rows: PackedRows, tokenizer: Tokenizer
) -> AnyObjective:
    """The objective over packed rows."""
    if config.kind == "replaced-tokens":
        return ReplacedTokens(config, rows, tokenizer)
    if config.kind == "next-token":
        return NextToken(config, rows, tokenizer)
    return MaskedTokens(config, rows, tokenizer)


def build_model(config: PretrainConfig) -> AnyModel:
    """The model with random weights, a function of the seed alone, or with those of `config.init`."""
    shape, objective = config.model, config.objective
    model: AnyModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if objective.kind == "replaced-tokens":
            model = ReplacedTokenModel(shape, objective.generator(shape))
        elif objective.kind == "next-token":
            model = CausalLanguageModel(shape)
        else:
            model = MaskedLanguageModel(shape, pair_head=objective.pair_head)
    if config.init and isinstance(model, CausalLanguageModel):
        model.load_state_dict(load_decoder(config.init).model.state_dict())
    elif config.init:
        assert not isinstance(model, CausalLanguageModel)
        _take_over(model, load_encoder(config.init))
    return model


def _take_over(model: MaskedLanguageModel | ReplacedTokenModel, started: Pretrained) -> None:
    """Copy what a pre-trained model has of the same parts; a head that it lacks stays random."""
    model.encoder.load_state_dict(started.encoder.state_dict())
    if isinstance(model, MaskedLanguageModel) and started.has_head:
        own = dict(started.model.named_parameters())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("head_") or (name.startswith("pair_head.") and name in own):
                    parameter.copy_(own[name])


def kept_part(model: AnyModel) -> MaskedLanguageModel | Transformer | CausalLanguageModel:
    """What is delivered: of an encoder with a generator, the encoder."""
    return model.encoder if isinstance(model, ReplacedTokenModel) else model


def hidden_tokens(objective: AnyObjective) -> MaskedTokens | NextToken:
    """The part of an objective that asks for tokens."""
    return objective.hiding if isinstance(objective, ReplacedTokens) else objective


def floor(objective: AnyObjective, unigram_loss: float) -> dict[str, float]:
    """What guessing without reading gives, by metric.

    The share of replaced tokens depends on the generator, so the detection loss is taken above the
    guess of that share.
    """
    if isinstance(objective, ReplacedTokens):
        return {"detection_excess": 0.0}
    if isinstance(objective, NextToken):
        return {"loss": unigram_loss}
    return {"masked_loss": unigram_loss}


def conclusion(
    config: ObjectiveConfig, heldout: Mapping[str, float], unigram: tuple[float, float]
) -> dict[str, Any]:
    """A result's guesses without reading, and whether the model is better than they are.

    Args:
        config: of the objective.
        heldout: the model's metrics.
        unigram: loss and accuracy of guessing hidden tokens from word frequencies alone.
    """
    loss, accuracy = unigram
    if config.kind == "next-token":
        learned = heldout.get("loss", float("inf"))
        guess = {"loss": loss, "accuracy": accuracy}
        if "bits_per_byte" in heldout:  # of the same tokens
            guess["bits_per_byte"] = loss * heldout["bits_per_byte"] / learned
        return {
            "unigram": guess,
            "beats_unigram": bool(learned < loss - _NOTICEABLE),
        }
    if config.kind == "masked-tokens":
        learned = heldout.get("masked_loss", float("inf"))
        return {
            "unigram": {"masked_loss": loss, "masked_accuracy": accuracy},
            "beats_unigram": bool(learned < loss - _NOTICEABLE),
        }
    excess = heldout.get("detection_excess", float("inf"))
    share = heldout.get("replaced_share", float("nan"))
    return {
        "unigram": {"generator_loss": loss, "generator_accuracy": accuracy},
        "base_rate": {
            "detection_loss": heldout.get("detection_loss", float("nan")) - excess,
            "detection_accuracy": max(share, 1 - share),
        },
        "beats_base_rate": bool(excess < -_NOTICEABLE),
    }
