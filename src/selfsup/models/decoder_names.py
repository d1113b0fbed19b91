"""How the ecosystem names what a decoder holds: the settings and tensors of GPT-2, Llama and Qwen2."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from selfsup.config import (
    RopeScalingConfig,
    TransformerConfig,
)
from selfsup.errors import UserError
from selfsup.models.checkpoint_names import (
    ACTIVATIONS,
    FAMILY_ACTIVATIONS,
    NameMap,
    their_names,
)
from selfsup.models.settings_values import count, entries, section
from selfsup.models.tensors import joined

_GPT2: NameMap = {
    "decoder.embeddings.tokens.weight": "transformer.wte.weight",
    "decoder.embeddings.positions.weight": "transformer.wpe.weight",
    "decoder.blocks.{i}.attention_norm.*": "transformer.h.{i}.ln_1.*",
    "decoder.blocks.{i}.attention.qkv.*": "transformer.h.{i}.attn.c_attn.*",
    "decoder.blocks.{i}.attention.out.*": "transformer.h.{i}.attn.c_proj.*",
    "decoder.blocks.{i}.mlp_norm.*": "transformer.h.{i}.ln_2.*",
    "decoder.blocks.{i}.mlp.up.*": "transformer.h.{i}.mlp.c_fc.*",
    "decoder.blocks.{i}.mlp.down.*": "transformer.h.{i}.mlp.c_proj.*",
    "decoder.final_norm.*": "transformer.ln_f.*",
    "output.weight": "lm_head.weight",
}
_LLAMA: NameMap = {
    "decoder.embeddings.tokens.weight": "model.embed_tokens.weight",
    "decoder.blocks.{i}.attention_norm.*": "model.layers.{i}.input_layernorm.*",
    "decoder.blocks.{i}.attention.qkv.*": (
        "model.layers.{i}.self_attn.q_proj.*",
        "model.layers.{i}.self_attn.k_proj.*",
        "model.layers.{i}.self_attn.v_proj.*",
    ),
    "decoder.blocks.{i}.attention.out.*": "model.layers.{i}.self_attn.o_proj.*",
    "decoder.blocks.{i}.mlp_norm.*": "model.layers.{i}.post_attention_layernorm.*",
    "decoder.blocks.{i}.mlp.up.*": (
        "model.layers.{i}.mlp.gate_proj.*",
        "model.layers.{i}.mlp.up_proj.*",
    ),
    "decoder.blocks.{i}.mlp.down.*": "model.layers.{i}.mlp.down_proj.*",
    "decoder.final_norm.*": "model.norm.*",
    "output.weight": "lm_head.weight",
}
_MAPS: dict[str, NameMap] = {"gpt2": _GPT2, "llama": _LLAMA, "qwen2": _LLAMA}
_PREFIX = {"gpt2": "transformer.", "llama": "model.", "qwen2": "model."}
ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
}
DECODERS = frozenset(_MAPS)

# buffers of old versions
_BUFFERS = re.compile(r".*\.(attn\.(bias|masked_bias)|rotary_emb\.inv_freq)$")
# GPT-2 keeps these matrices as (in, out)
_TURNED = re.compile(r".*\.(c_attn|c_proj|c_fc)\.weight$")


def decoder_family(config: TransformerConfig) -> str | None:
    """`gpt2`, `llama` or `qwen2` when the settings are one of theirs, else None."""
    usual = config.causal and config.norm_position == "pre" and not config.embedding_norm
    if not usual:
        return None
    shares = config.kv_heads != config.num_heads
    if config.positions == "learned" and config.norm == "layernorm" and config.tied:
        plain = config.bias and config.qkv_bias is not False and not config.gated and not shares
        return "gpt2" if plain and config.activation != "silu" else None
    modern = config.norm == "rmsnorm" and config.gated and not config.bias and not config.dropout
    if config.positions == "rotary" and modern:
        return "qwen2" if config.qkv_bias else "llama"
    return None


def _sizes(config: TransformerConfig, name: str, parts: int) -> list[int]:
    """Rows of each of the tensors that ours is made of."""
    if ".qkv." in name and parts == 3:
        shared = config.kv_heads * (config.hidden_size // config.num_heads)
        return [config.hidden_size, shared, shared]
    return [config.intermediate_size] * parts


def to_decoder_family(
    kind: str, config: TransformerConfig, tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Our tensors under the ecosystem's names."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs = their_names(_MAPS[kind], name)
        split = len(theirs) > 1
        parts: Sequence[Tensor] = (
            torch.split(tensor, _sizes(config, name, len(theirs))) if split else (tensor,)
        )
        for target, part in zip(theirs, parts, strict=True):
            turned = part.mT if kind == "gpt2" and _TURNED.match(target) else part
            renamed[target] = turned.contiguous().clone()
    return renamed


def from_decoder_family(
    kind: str, tensors: Mapping[str, Tensor], wanted: list[str], where: str = ""
) -> tuple[dict[str, Tensor], list[str]]:
    """The ecosystem's tensors under our names.

    Args:
        kind: `gpt2`, `llama` or `qwen2`.
        tensors: under their names.
        wanted: our names.
        where: the folder, for messages.

    Returns:
        (the tensors that are there, names that belong to nothing of ours).  Old buffers and copies of
        tied weights are left out silently.

    Raises:
        UserError: the output matrix, which is wanted, was not saved; numbers of another format.
    """
    prefix = _PREFIX[kind]
    bare = not any(t.startswith(prefix) for t in tensors)
    given = {
        prefix + n if bare and n != "lm_head.weight" else n: t
        for n, t in tensors.items()
        if not _BUFFERS.match(n)
    }
    if "output.weight" in wanted and "lm_head.weight" not in given:
        what = "the weights have no language-model head (lm_head.weight): it was saved without"
        raise UserError(what, where=where, mend=f"save the whole {ARCHITECTURES[kind]}")
    found: dict[str, Tensor] = {}
    used: set[str] = set()
    for name in wanted:
        theirs = their_names(_MAPS[kind], name)
        if all(t in given for t in theirs):
            turned = kind == "gpt2"
            parts = [given[t].mT if turned and _TURNED.match(t) else given[t] for t in theirs]
            found[name] = joined(parts, theirs, where)
            used.update(theirs)
    if "output.weight" not in wanted:
        used.add("lm_head.weight")
    return found, sorted(set(given) - used)


def read_decoder_settings(config: Mapping[str, Any], where: str) -> TransformerConfig:
    """Our configuration from a Hugging Face `config.json` of a decoder.

    Raises:
        UserError: a variant that is not supported.
    """
    kind = str(config["model_type"])
    read = _read_gpt2 if kind == "gpt2" else _read_llama
    return read(config, where)


def _activation(name: object, where: str) -> str:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UserError(f"activation '{name}' is not supported", where=where)
    return ACTIVATIONS[name]


_DECODER: dict[str, Any] = {
    "causal": True,
    "norm_position": "pre",
    "embedding_norm": False,
    "pooler": False,
    "type_vocab_size": 0,
}


def _read_gpt2(config: Mapping[str, Any], where: str) -> TransformerConfig:
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        if config.get(key):
            raise UserError(f"GPT-2 with {key} is not supported", where=where)
    if config.get("scale_attn_weights") is False:
        raise UserError("GPT-2 without scale_attn_weights is not supported", where=where)
    hidden = count(config, "n_embd", where)
    return TransformerConfig(
        vocab_size=count(config, "vocab_size", where),
        hidden_size=hidden,
        num_layers=config["n_layer"],
        num_heads=config["n_head"],
        intermediate_size=config.get("n_inner") or 4 * hidden,
        max_length=config["n_positions"],
        activation=_activation(config.get("activation_function", "gelu_new"), where),
        norm_eps=config.get("layer_norm_epsilon", 1e-5),
        dropout=config.get("resid_pdrop", 0.1),
        attention_dropout=config.get("attn_pdrop", 0.1),
        initializer_range=config.get("initializer_range", 0.02),
        tied=config.get("tie_word_embeddings", True),
        **_DECODER,
    )


def _read_llama(config: Mapping[str, Any], where: str) -> TransformerConfig:
    kind = config["model_type"]
    for key in ("attention_bias", "mlp_bias"):
        if config.get(key):
            raise UserError(f"{kind} with {key} is not supported", where=where)
    hidden, heads = (count(config, k, where) for k in ("hidden_size", "num_attention_heads"))
    if config.get("head_dim") not in (None, hidden // heads):
        raise UserError(
            "heads wider or narrower than hidden_size / heads are not supported", where=where
        )
    layers = entries(config, "layer_types", where)
    if config.get("use_sliding_window") or "sliding_attention" in layers:
        raise UserError("decoders with a sliding window are not supported", where=where)
    old, new = (section(config, key, where) for key in ("rope_scaling", "rope_parameters"))
    ropes = old or new  # as transformers: the old key wins as a whole
    if any(isinstance(value, Mapping) for value in ropes.values()):
        what = "rotary positions that differ by the kind of layer are not supported"
        raise UserError(what, where=where)
    theta = ropes.get("rope_theta", config.get("rope_theta"))
    return TransformerConfig(
        vocab_size=count(config, "vocab_size", where),
        hidden_size=hidden,
        num_layers=config["num_hidden_layers"],
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        intermediate_size=config["intermediate_size"],
        max_length=config["max_position_embeddings"],
        norm="rmsnorm",
        norm_eps=config.get("rms_norm_eps", 1e-6),
        positions="rotary",
        rope_theta=10_000.0 if theta is None else theta,
        rope_scaling=_read_scaling(ropes, where),
        activation=_activation(config.get("hidden_act", "silu"), where),
        gated=True,
        bias=False,
        qkv_bias=kind == "qwen2",
        attention_dropout=config.get("attention_dropout", 0.0),
        initializer_range=config.get("initializer_range", 0.02),
        tied=config.get("tie_word_embeddings", False),
        **_DECODER,
    )


def _read_scaling(scaling: Mapping[str, Any], where: str) -> RopeScalingConfig | None:
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScalingConfig(kind="linear", factor=scaling["factor"])
    if kind == "llama3":
        return RopeScalingConfig(
            kind="llama3",
            factor=scaling["factor"],
            low=scaling["low_freq_factor"],
            high=scaling["high_freq_factor"],
            original_length=scaling["original_max_position_embeddings"],
        )
    raise UserError(f"rotary positions of type '{kind}' are not supported", where=where)


def write_decoder_settings(
    kind: str, config: TransformerConfig, special: Mapping[str, int | None]
) -> dict[str, Any]:
    """A Hugging Face `config.json` for our decoder."""
    shared = {
        "model_type": kind,
        "architectures": [ARCHITECTURES[kind]],
        "vocab_size": config.vocab_size,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tied,
        "bos_token_id": special["begin"],
        "eos_token_id": special["end"],
        "pad_token_id": special["pad"],
        "dtype": "float32",
    }
    return {**shared, **(_write_gpt2(config) if kind == "gpt2" else _write_llama(kind, config))}


def _write_gpt2(config: TransformerConfig) -> dict[str, Any]:
    return {
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.intermediate_size,
        "n_positions": config.max_length,
        "activation_function": FAMILY_ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
    }


def _write_llama(kind: str, config: TransformerConfig) -> dict[str, Any]:
    ropes: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    scaling = config.rope_scaling
    if scaling is not None:
        ropes |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling is not None and scaling.kind == "llama3":
        ropes |= {
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.original_length,
        }
    settings = {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
        "hidden_act": FAMILY_ACTIVATIONS[config.activation],
        "rms_norm_eps": config.norm_eps,
        "rope_parameters": ropes,
        "rope_theta": config.rope_theta,
        "attention_dropout": config.attention_dropout,
    }
    if kind == "llama":
        settings |= {"attention_bias": False, "mlp_bias": False}
    return settings
