"""What pre-training does differently for each kind of objective, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from selfsup.config import MaskedTokensConfig, PretrainConfig, ReplacedTokensConfig
from selfsup.data.rows import PackedRows
from selfsup.data.tokenizers import Tokenizer
from selfsup.models.hub import Pretrained, load
from selfsup.models.replaced_tokens import ReplacedTokenModel
from selfsup.models.transformer import MaskedLanguageModel, Transformer
from selfsup.objectives.masked_tokens import MaskedTokens, overhead
from selfsup.objectives.replaced_tokens import ReplacedTokens

AnyConfig = MaskedTokensConfig | ReplacedTokensConfig
AnyObjective = MaskedTokens | ReplacedTokens
AnyModel = MaskedLanguageModel | ReplacedTokenModel

_NOTICEABLE = 0.05  # nats


def row_overhead(config: AnyConfig) -> int:
    """Special tokens that each sequence needs."""
    return overhead(config.masking() if config.kind == "replaced-tokens" else config)


def build_objective(config: AnyConfig, rows: PackedRows, tokenizer: Tokenizer) -> AnyObjective:
    """The objective over packed rows."""
    if config.kind == "replaced-tokens":
        return ReplacedTokens(config, rows, tokenizer)
    return MaskedTokens(config, rows, tokenizer)


def build_model(config: PretrainConfig) -> AnyModel:
    """The model with random weights, a function of the seed alone, or with those of `config.init`."""
    shape, objective = config.model, config.objective
    model: AnyModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if objective.kind == "replaced-tokens":
            model = ReplacedTokenModel(shape, objective.generator(shape))
        else:
            model = MaskedLanguageModel(shape, pair_head=objective.pair_head)
    if config.init:
        _take_over(model, load(config.init))
    return model


def _take_over(model: AnyModel, started: Pretrained) -> None:
    """Copy what a pre-trained model has of the same parts; a head that it lacks stays random."""
    model.encoder.load_state_dict(started.encoder.state_dict())
    if isinstance(model, MaskedLanguageModel) and started.has_head:
        own = dict(started.model.named_parameters())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("head_") or (name.startswith("pair_head.") and name in own):
                    parameter.copy_(own[name])


def kept_part(model: AnyModel) -> MaskedLanguageModel | Transformer:
    """What is delivered: of an encoder with a generator, the encoder."""
    return model.encoder if isinstance(model, ReplacedTokenModel) else model


def hidden_tokens(objective: AnyObjective) -> MaskedTokens:
    """The part of an objective that asks for hidden tokens."""
    return objective.hiding if isinstance(objective, ReplacedTokens) else objective


def floor(objective: AnyObjective, unigram_loss: float) -> dict[str, float]:
    """What guessing without reading gives, by metric.

    The share of replaced tokens depends on the generator, so the detection loss is taken above the
    guess of that share.
    """
    if isinstance(objective, ReplacedTokens):
        return {"detection_excess": 0.0}
    return {"masked_loss": unigram_loss}


def conclusion(
    config: AnyConfig, heldout: Mapping[str, float], unigram: tuple[float, float]
) -> dict[str, Any]:
    """A result's guesses without reading, and whether the model is better than they are.

    Args:
        config: of the objective.
        heldout: the model's metrics.
        unigram: loss and accuracy of guessing hidden tokens from word frequencies alone.
    """
    loss, accuracy = unigram
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
