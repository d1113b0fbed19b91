"""Recipes: named, complete configurations, as Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfsup.autoencoder_recipes import AUTOENCODERS
from selfsup.config import (
    BytePairConfig,
    DataConfig,
    MaskedTokensConfig,
    NextTokenConfig,
    ObjectiveConfig,
    PretrainConfig,
    ReplacedTokensConfig,
    TransformerConfig,
    WordPieceConfig,
)
from selfsup.errors import UserError, nearest
from selfsup.train_config import (
    AdamWConfig,
    MuonConfig,
    ScheduleConfig,
    TrainConfig,
)

# name: layers, width, heads.  tiny, mini and small have the shapes of Turc et al. 2019
# ("Well-read students learn better"); base is BERT-base.
_SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "base": (12, 768, 12),
}
_VOCABULARY = {"tiny": 8192, "mini": 8192, "small": 16384, "base": 30522}


def bert(size: str) -> PretrainConfig:
    """Classic BERT (Devlin et al. 2019): norms after, learned positions, next-sentence prediction."""
    layers, hidden, heads = _SIZES[size]
    return PretrainConfig(
        recipe=f"bert-{size}",
        data=DataConfig(length=128),
        tokenizer=WordPieceConfig(vocab_size=_VOCABULARY[size]),
        model=TransformerConfig(
            hidden_size=hidden,
            num_layers=layers,
            num_heads=heads,
            intermediate_size=4 * hidden,
        ),
        objective=MaskedTokensConfig(pairs="next-sentence"),
        train=TrainConfig(
            optimizer=AdamWConfig(lr=5e-4 if size == "base" else 1e-3),
            schedule=ScheduleConfig(warmup=0.1),
        ),
    )


def modernbert(size: str) -> PretrainConfig:
    """After ModernBERT (Warner et al. 2024): norms before, rotary, gated, no biases, 30 % hidden."""
    layers, hidden, heads = _SIZES[size]
    return PretrainConfig(
        recipe=f"modernbert-{size}",
        data=DataConfig(length=128),
        tokenizer=WordPieceConfig(vocab_size=_VOCABULARY[size]),
        model=TransformerConfig(
            hidden_size=hidden,
            num_layers=layers,
            num_heads=heads,
            # two thirds of 4 x hidden, twice: as many weights as the plain feed-forward
            intermediate_size=hidden * 8 // 3 // 32 * 32,
            max_length=1024,
            norm_position="pre",
            norm_eps=1e-5,
            positions="rotary",
            rope_theta=160_000.0,
            local_rope_theta=10_000.0,
            window=128,
            global_every=3,
            gated=True,
            bias=False,
            type_vocab_size=0,
            pooler=False,
        ),
        objective=MaskedTokensConfig(rate=0.3),
        train=TrainConfig(
            optimizer=MuonConfig(), schedule=ScheduleConfig(kind="trapezoid", warmup=0.05)
        ),
    )


def electra(size: str) -> PretrainConfig:
    """ModernBERT's shape that tells replaced tokens from true ones (ELECTRA, Clark et al. 2020).

    A generator that guesses as well as the encoder leaves nothing to be found, so it has one layer; and
    with Muon the detector hardly left its base rate, with AdamW it did (docs/log.md).
    """
    start = modernbert(size)
    return start.model_copy(
        update={
            "recipe": f"electra-{size}",
            "objective": ReplacedTokensConfig(generator_layers=1),
            "train": start.train.model_copy(update={"optimizer": AdamWConfig(lr=1e-3)}),
        }
    )


# "small" is GPT-2's own smallest shape
_DECODER_SIZES = {"tiny": (2, 128, 2), "mini": (4, 256, 4), "small": (12, 768, 12)}
_DECODER_VOCABULARY = {"tiny": 4096, "mini": 8192, "small": 32768}
_LLAMA_SHARED = {"tiny": 1, "mini": 2, "small": 4}


def gpt2(size: str) -> PretrainConfig:
    """GPT-2 (Radford et al. 2019): norms before, learned positions, tanh-GELU, biases."""
    hidden = _DECODER_SIZES[size][1]
    return _decoder(f"gpt2-{size}", size, intermediate_size=4 * hidden, activation="gelu_tanh")


def llama(size: str) -> PretrainConfig:
    """After Llama (Touvron et al. 2023): RMSNorm, rotary, gated, grouped heads, no biases."""
    return _decoder(
        f"llama-{size}",
        size,
        num_kv_heads=_LLAMA_SHARED[size],
        intermediate_size=_DECODER_SIZES[size][1] * 8 // 3 // 32 * 32,
        activation="silu",
        norm="rmsnorm",
        positions="rotary",
        gated=True,
        bias=False,
    )


def _decoder(recipe: str, size: str, **shape: Any) -> PretrainConfig:
    """What both kinds of decoders have in common."""
    layers, hidden, heads = _DECODER_SIZES[size]
    return PretrainConfig(
        recipe=recipe,
        data=DataConfig(length=256),
        tokenizer=BytePairConfig(vocab_size=_DECODER_VOCABULARY[size]),
        model=TransformerConfig(
            hidden_size=hidden,
            num_layers=layers,
            num_heads=heads,
            max_length=1024,
            causal=True,
            norm_position="pre",
            norm_eps=1e-5,
            embedding_norm=False,
            type_vocab_size=0,
            pooler=False,
            **shape,
        ),
        objective=NextTokenConfig(),
        train=TrainConfig(
            batch_size=32 if size == "small" else 16,
            optimizer=MuonConfig(),
            schedule=ScheduleConfig(kind="trapezoid", warmup=0.05),
        ),
    )


RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    **{f"bert-{size}": (lambda size=size: bert(size)) for size in _SIZES},  # type: ignore[misc]
    **{f"modernbert-{size}": (lambda size=size: modernbert(size)) for size in _SIZES},  # type: ignore[misc]
    **{f"electra-{size}": (lambda size=size: electra(size)) for size in ("tiny", "mini", "small")},  # type: ignore[misc]
    **{f"gpt2-{size}": (lambda size=size: gpt2(size)) for size in _DECODER_SIZES},  # type: ignore[misc]
    **{f"llama-{size}": (lambda size=size: llama(size)) for size in _DECODER_SIZES},  # type: ignore[misc]
}


def get(name: str) -> PretrainConfig:
    """The recipe of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in RECIPES:
        mend = nearest(str(name), list(RECIPES)) or "`selfsup recipes` lists them"
        if name in AUTOENCODERS:
            mend = "the recipes of auto-encoders are in `selfsup.autoencoder_recipes`"
        raise UserError(f"unknown recipe '{name}'", mend=mend)
    return RECIPES[name]()


def _vocabulary(config: PretrainConfig) -> int:
    size = config.model.vocab_size or getattr(config.tokenizer, "vocab_size", 0)
    assert isinstance(size, int)
    return size


def _norm(m: TransformerConfig) -> int:
    return m.hidden_size * (1 + int(m.bias)) if m.norm == "layernorm" else m.hidden_size


def _blocks(m: TransformerConfig) -> int:
    """Parameters of a transformer's blocks, its last norm included."""
    d, f, bias = m.hidden_size, m.intermediate_size, int(m.bias)
    up = f * (2 if m.gated else 1)
    qkv_bias = bias if m.qkv_bias is None else int(m.qkv_bias)
    attention = (d + qkv_bias) * m.qkv_width + d * d + bias * d
    block = attention + d * up + bias * up + f * d + bias * d + 2 * _norm(m)
    return m.num_layers * block


def body_parameters(config: PretrainConfig) -> tuple[int, int, int]:
    """(parameters of the blocks, of the embeddings, of the heads), by arithmetic, without torch."""
    m, objective = config.model, config.objective
    d, bias = m.hidden_size, int(m.bias)
    vocabulary = _vocabulary(config)
    blocks = _blocks(m)
    places = m.max_length * d if m.positions == "learned" else 0
    embeddings = vocabulary * d + places + m.type_vocab_size * d + _norm(m)
    if objective.kind == "next-token":  # the last norm stands where encoders norm their embeddings
        return blocks, embeddings, 0 if m.tied else vocabulary * d
    heads = d * d + bias * d + _norm(m) + vocabulary
    if m.pooler:
        heads += d * d + d
    if objective.pair_head:
        heads += 2 * d + 2
    if objective.kind == "replaced-tokens":
        g = objective.generator(m)
        narrow = g.hidden_size
        blocks += _blocks(g)
        embeddings += d * narrow + bias * narrow + _norm(g)
        # the generator's dense layer leads back to the encoder's width; the detector's stays in it
        heads += narrow * d - d * d + (d * d + bias * d) + d + 1
    return blocks, embeddings, heads


def _layer_flops(m: TransformerConfig, length: int, asked: float = 1.0) -> float:
    """Multiplications for each token, forward, in a transformer's layers.

    `asked` is the share of the tokens that the last layer works on behind attention.
    """
    d, up = m.hidden_size, m.intermediate_size * (2 if m.gated else 1)
    behind = d * d + d * up + m.intermediate_size * d
    return m.num_layers * (d * m.qkv_width + behind + 2 * length * d) - (1 - asked) * behind


def training_flops(config: PretrainConfig) -> float:
    """Floating-point operations per token of one training step (forward and backward).

    Six per weight that meets every token; at the scored places only, the head's and what stands behind
    the last layer's attention (but where means of all tokens are asked for); attention's two products
    over the row (of which a decoder needs half; counted in full, as is usual).  With a generator, its
    layers too, and the logits once more for sampling.
    """
    m, objective, length = config.model, config.objective, config.data.length
    d, vocabulary = m.hidden_size, _vocabulary(config)
    if objective.kind == "next-token":
        return 6.0 * (_layer_flops(m, length) + d * vocabulary)
    if objective.kind == "masked-tokens":
        asked = 1.0 if objective.pairs == "same-text" else objective.rate
        body = _layer_flops(m, length, asked)
        return 6.0 * (body + objective.rate * (d * d + d * vocabulary))
    g = objective.generator(m)
    body = _layer_flops(m, length) + _layer_flops(g, length, objective.rate)
    body += d * g.hidden_size + d * d
    head = objective.rate * (g.hidden_size * d + d * vocabulary)
    return 6.0 * (body + head) + 2.0 * objective.rate * d * vocabulary


def _question(objective: ObjectiveConfig) -> str:
    if objective.kind == "next-token":
        return "next token"
    if objective.kind == "replaced-tokens":
        return f"{objective.rate:.0%} replaced, generator {objective.generator_size:.2g}"
    pairs = "" if objective.pairs == "none" else f" + {objective.pairs}"
    return f"{objective.rate:.0%} masked{pairs}"


def table() -> list[dict[str, Any]]:
    """The recipes with their size, memory and cost, for `selfsup recipes`."""
    rows = []
    for name in RECIPES:
        config = get(name)
        parameters = sum(body_parameters(config))
        state = 16 if config.train.optimizer.kind == "adamw" else 14
        m, tokens = config.model, config.train.batch_size * config.data.length
        rate = 1.0 if config.objective.kind == "next-token" else config.objective.rate
        scored = rate * tokens
        vocabulary = _vocabulary(config)
        bodies = [m]
        if config.objective.kind == "replaced-tokens":
            bodies.append(config.objective.generator(m))
        kept = sum(
            b.num_layers * (8 * b.hidden_size + 3 * b.intermediate_size * (2 if b.gated else 1))
            for b in bodies
        )
        activations = 4 * (tokens * kept + 3 * scored * vocabulary)
        rows.append(
            {
                "recipe": name,
                "layers": m.num_layers,
                "hidden": m.hidden_size,
                "heads": m.num_heads,
                "vocabulary": vocabulary,
                "parameters": parameters,
                "model_megabytes": round(4 * parameters / 1e6, 1),
                "training_megabytes_estimate": round((state * parameters + activations) / 1e6),
                "megaflops_per_token": round(training_flops(config) / 1e6, 1),
                "optimizer": config.train.optimizer.kind,
                "objective": _question(config.objective),
            }
        )
    return rows
