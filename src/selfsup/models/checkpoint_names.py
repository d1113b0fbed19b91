"""How the ecosystem names what an encoder holds: BERT's and ModernBERT's settings and tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from selfsup.config import TransformerConfig
from selfsup.errors import UserError
from selfsup.models.settings_values import count, entries, section
from selfsup.models.tensors import joined

NameMap = Mapping[str, "str | tuple[str, ...]"]
"""Our names to theirs; `{i}` is a layer's number, `*` a name's end.  A tuple: theirs, concatenated."""

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}
FAMILY_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}

_BERT: NameMap = {
    "encoder.embeddings.tokens.weight": "bert.embeddings.word_embeddings.weight",
    "encoder.embeddings.positions.weight": "bert.embeddings.position_embeddings.weight",
    "encoder.embeddings.types.weight": "bert.embeddings.token_type_embeddings.weight",
    "encoder.embeddings.norm.*": "bert.embeddings.LayerNorm.*",
    "encoder.blocks.{i}.attention.qkv.*": (
        "bert.encoder.layer.{i}.attention.self.query.*",
        "bert.encoder.layer.{i}.attention.self.key.*",
        "bert.encoder.layer.{i}.attention.self.value.*",
    ),
    "encoder.blocks.{i}.attention.out.*": "bert.encoder.layer.{i}.attention.output.dense.*",
    "encoder.blocks.{i}.attention_norm.*": "bert.encoder.layer.{i}.attention.output.LayerNorm.*",
    "encoder.blocks.{i}.mlp.up.*": "bert.encoder.layer.{i}.intermediate.dense.*",
    "encoder.blocks.{i}.mlp.down.*": "bert.encoder.layer.{i}.output.dense.*",
    "encoder.blocks.{i}.mlp_norm.*": "bert.encoder.layer.{i}.output.LayerNorm.*",
    "encoder.pooler.*": "bert.pooler.dense.*",
    "head_dense.*": "cls.predictions.transform.dense.*",
    "head_norm.*": "cls.predictions.transform.LayerNorm.*",
    "head_bias": "cls.predictions.bias",
    "pair_head.*": "cls.seq_relationship.*",
}
_MODERNBERT: NameMap = {
    "encoder.embeddings.tokens.weight": "model.embeddings.tok_embeddings.weight",
    "encoder.embeddings.norm.*": "model.embeddings.norm.*",
    "encoder.blocks.{i}.attention.qkv.*": "model.layers.{i}.attn.Wqkv.*",
    "encoder.blocks.{i}.attention.out.*": "model.layers.{i}.attn.Wo.*",
    "encoder.blocks.{i}.attention_norm.*": "model.layers.{i}.attn_norm.*",
    "encoder.blocks.{i}.mlp.up.*": "model.layers.{i}.mlp.Wi.*",
    "encoder.blocks.{i}.mlp.down.*": "model.layers.{i}.mlp.Wo.*",
    "encoder.blocks.{i}.mlp_norm.*": "model.layers.{i}.mlp_norm.*",
    "encoder.final_norm.*": "model.final_norm.*",
    "head_dense.*": "head.dense.*",
    "head_norm.*": "head.norm.*",
    "head_bias": "decoder.bias",
}
_MAPS: dict[str, NameMap] = {"bert": _BERT, "modernbert": _MODERNBERT}
_PREFIX = {"bert": "bert.", "modernbert": "model."}

# tied to the embeddings, or a buffer of old versions: nothing is lost by leaving them
_REDUNDANT = re.compile(
    r"(cls\.predictions\.decoder\.(weight|bias)|decoder\.weight|.*embeddings\.position_ids)$"
)
# theirs for guessing tokens, and what each is a copy of
_COPIES = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "decoder.weight": "model.embeddings.tok_embeddings.weight",
}
_TASK_HEAD = re.compile(r"(classifier|qa_outputs|score|task_head)\.")


def family(config: TransformerConfig) -> str | None:
    """`bert` or `modernbert` when the settings are one of theirs, else None."""
    if config.causal or config.kv_heads != config.num_heads or config.rope_scaling is not None:
        return None
    if not config.embedding_norm or config.qkv_bias not in (None, config.bias):
        return None
    plain = not config.gated and config.bias and config.norm == "layernorm"
    if plain and config.norm_position == "post" and config.positions == "learned":
        return "bert" if config.window is None and config.type_vocab_size else None
    modern = config.norm_position == "pre" and config.positions == "rotary" and config.gated
    if modern and config.norm == "layernorm" and not config.type_vocab_size:
        return None if config.pooler or config.bias else "modernbert"
    return None


def their_names(names: NameMap, name: str) -> tuple[str, ...]:
    """Their name (or names) of one of our tensors.

    Raises:
        KeyError: the map has none.
    """
    for ours, theirs in names.items():
        pattern = re.escape(ours).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\*", r"(?P<end>\w+)")
        if found := re.fullmatch(pattern, name):
            parts = found.groupdict()
            several = (theirs,) if isinstance(theirs, str) else theirs
            return tuple(
                t.replace("{i}", parts.get("i") or "").replace("*", parts.get("end") or "")
                for t in several
            )
    raise KeyError(name)


def to_family(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the ecosystem's names."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs = their_names(_MAPS[kind], name)
        for target, part in zip(theirs, tensor.chunk(len(theirs)), strict=True):
            renamed[target] = part.contiguous().clone()
    return renamed


def from_family(
    kind: str, tensors: Mapping[str, Tensor], wanted: list[str], where: str = ""
) -> tuple[dict[str, Tensor], list[str]]:
    """The ecosystem's tensors under our names.

    Args:
        kind: `bert` or `modernbert`.
        tensors: under their names.
        wanted: our names.
        where: the folder, for messages.

    Returns:
        (the tensors that are there, names that belong to nothing of ours).  Heads of other tasks and
        copies of tied weights are left out silently.

    Raises:
        UserError: what should be a copy is another matrix; numbers of another format.
    """
    prefix = _PREFIX[kind]
    bare = not any(t.startswith(prefix) for t in tensors)
    given = {}
    for name, tensor in tensors.items():
        # checkpoints of the body alone have no prefix; very old ones say gamma and beta
        full = prefix + name if bare else name
        full = full.replace("LayerNorm.gamma", "LayerNorm.weight")
        given[full.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    for copy, original in _COPIES.items():
        one, other = given.get(copy), given.get(original)
        if one is not None and other is not None and not torch.equal(one, other):
            what = f"'{copy}' is no copy of '{original}', and an output matrix of its own is not supported"
            raise UserError(what, where=where, mend="use transformers for this model")
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in wanted:
        theirs = their_names(_MAPS[kind], name)
        if all(t in given for t in theirs):
            found[name] = joined([given[t] for t in theirs], theirs, where)
            used.update(theirs)
    rest = [
        t
        for t in given
        if t not in used
        and not _REDUNDANT.match(t)
        and not _TASK_HEAD.match(t.removeprefix(prefix))
    ]
    return found, sorted(rest)


def check_kind(kind: str, where: str) -> None:
    """Refuse a `model_type` of no encoder that we know.

    Raises:
        UserError: it is one.
    """
    if kind not in _MAPS:
        raise UserError(
            f"architecture '{kind or 'unknown'}' is not one that selfsup opens",
            where=where,
            mend="it opens BERT, ModernBERT, GPT-2, Llama and Qwen2",
        )


def read_settings(config: Mapping[str, Any], where: str) -> TransformerConfig:
    """Our configuration from a Hugging Face `config.json`.

    Raises:
        UserError: another architecture, or a variant that is not supported.
    """
    kind = str(config.get("model_type", ""))
    check_kind(kind, where)
    act = str(config.get("hidden_act" if kind == "bert" else "hidden_activation", "gelu"))
    if act not in ACTIVATIONS:
        raise UserError(f"activation '{act}' is not supported", where=where)
    shape = {
        "vocab_size": count(config, "vocab_size", where),
        "hidden_size": config["hidden_size"],
        "num_layers": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "intermediate_size": config["intermediate_size"],
        "max_length": config["max_position_embeddings"],
        "activation": ACTIVATIONS[act],
        "initializer_range": config.get("initializer_range", 0.02),
    }
    return (
        _read_bert(config, shape, where)
        if kind == "bert"
        else _read_modernbert(config, shape, where)
    )


def _read_bert(
    config: Mapping[str, Any], shape: Mapping[str, Any], where: str
) -> TransformerConfig:
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError("only absolute positions are supported in BERT", where=where)
    for key in ("is_decoder", "add_cross_attention"):
        if config.get(key):
            what = "a BERT that is a decoder is not supported: it reads to the left only"
            raise UserError(what, where=f"{where}: {key}")
    return TransformerConfig(
        **shape,
        norm_eps=config.get("layer_norm_eps", 1e-12),
        type_vocab_size=config.get("type_vocab_size", 2),
        dropout=config.get("hidden_dropout_prob", 0.0),
        attention_dropout=config.get("attention_probs_dropout_prob", 0.0),
    )


def _read_modernbert(
    config: Mapping[str, Any], shape: Mapping[str, Any], where: str
) -> TransformerConfig:
    act = shape["activation"]
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        if config.get(key):
            raise UserError(f"ModernBERT with {key} is not supported", where=where)
    head = str(config.get("classifier_activation", "gelu"))
    if ACTIVATIONS.get(head) != act:
        what = f"ModernBERT with activation '{act}' and another in its head ('{head}') is not supported"
        raise UserError(what, where=where)
    ropes = section(config, "rope_parameters", where)
    by_kind = [section(ropes, kind, where) for kind in ("full_attention", "sliding_attention")]
    for rope in by_kind:
        if (stretched := rope.get("rope_type", "default")) != "default":
            what = f"ModernBERT with rotary positions of type '{stretched}' is not supported"
            raise UserError(what, where=where)
    whole, local = (rope.get("rope_theta") for rope in by_kind)
    every = _global_every(config, where)
    return TransformerConfig(
        **shape,
        norm_position="pre",
        norm_eps=config.get("norm_eps", 1e-5),
        positions="rotary",
        rope_theta=whole or config.get("global_rope_theta") or 160_000.0,
        local_rope_theta=local or config.get("local_rope_theta") or 10_000.0,
        window=config.get("local_attention", 128) if every > 1 else None,
        global_every=every,
        gated=True,
        bias=False,
        type_vocab_size=0,
        pooler=False,
        dropout=config.get("mlp_dropout", 0.0),
        attention_dropout=config.get("attention_dropout", 0.0),
    )


def _global_every(config: Mapping[str, Any], where: str) -> int:
    layers = entries(config, "layer_types", where)
    if not layers:
        every = "global_attn_every_n_layers"
        return count(config, every, where) if every in config else 3
    whole = [i for i, kind in enumerate(layers) if kind == "full_attention"]
    step = whole[1] if len(whole) > 1 else len(layers)
    if whole != list(range(0, len(layers), step)):
        raise UserError("layers with full attention must be evenly spaced from 0", where=where)
    return step


def write_settings(
    kind: str, config: TransformerConfig, special: Mapping[str, int | None]
) -> dict[str, Any]:
    """A Hugging Face `config.json` for our configuration."""
    shared = {
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
        "initializer_range": config.initializer_range,
        "pad_token_id": special["pad"],
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    own = _write_bert(config) if kind == "bert" else _write_modernbert(config, special)
    return {**shared, **own}


def _write_bert(config: TransformerConfig) -> dict[str, Any]:
    return {
        "hidden_act": FAMILY_ACTIVATIONS[config.activation],
        "layer_norm_eps": config.norm_eps,
        "type_vocab_size": config.type_vocab_size,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "position_embedding_type": "absolute",
    }


def _write_modernbert(
    config: TransformerConfig, special: Mapping[str, int | None]
) -> dict[str, Any]:
    window = config.window or 2 * config.max_length
    every = config.global_every if config.window is not None else 1
    local = config.local_rope_theta or config.rope_theta
    whole_only = every == 1 and config.window is None
    kinds = [
        "full_attention" if whole_only or (every > 1 and i % every == 0) else "sliding_attention"
        for i in range(config.num_layers)
    ]
    return {
        "hidden_activation": FAMILY_ACTIVATIONS[config.activation],
        "classifier_activation": FAMILY_ACTIVATIONS[config.activation],
        "norm_eps": config.norm_eps,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "decoder_bias": True,
        "classifier_bias": False,
        "local_attention": window,
        "global_attn_every_n_layers": every,
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        },
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": local,
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "cls_token_id": special["cls"],
        "sep_token_id": special["sep"],
        "bos_token_id": special["cls"],
        "eos_token_id": special["sep"],
    }
