"""Writing decoders as other runtimes read them: GGUF, for llama.cpp and what is built on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfsup.config import TransformerConfig
from selfsup.data.files import whole_file
from selfsup.data.tokenizer_scripts import marked_words
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.models.decoder_names import decoder_family
from selfsup.nn.rotary import rotary_tables

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED = 1, 2, 3, 4, 5  # token types of GGUF
_ALL_F32, _MOSTLY_F16 = 0, 1  # file types of GGUF
_BLOCK = {
    "attention_norm": "attn_norm",
    "attention.qkv": "attn_qkv",
    "attention.out": "attn_output",
    "mlp_norm": "ffn_norm",
    "mlp.up": "ffn_up",
    "mlp.down": "ffn_down",
}
_REST = {
    "decoder.embeddings.tokens": "token_embd",
    "decoder.embeddings.positions": "position_embd",
    "decoder.final_norm": "output_norm",
    "output": "output",
}


def _split(numbers: str) -> list[dict[str, Any]]:
    """The splitter of Llama 3 and of Qwen2, which differ in how they part numbers."""
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    rest = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    pattern = {"Regex": words + numbers + rest}
    first = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return [first, {**_BYTES, "use_regex": False}]


_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_SPLITTERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_BYTES],
    "smollm": [{"type": "Digits", "individual_digits": True}, _BYTES],
    "llama-bpe": _split(r"\p{N}{1,3}"),
    "qwen2": _split(r"\p{N}"),
}
"""llama.cpp's names for ways to part words, and the steps that each stands for."""
_NFC = {"type": "NFC"}
"""What Qwen2's tokenizer does to texts first, and llama.cpp does not."""


def export_gguf(pretrained: PretrainedDecoder, output: Path, type: str = "f32") -> dict[str, Any]:
    """Write a decoder, with its tokenizer, as a GGUF file.

    Args:
        pretrained: from `load_decoder`: GPT-2's, Llama's or Qwen2's architecture, byte-level BPE.
        output: the file.
        type: `f32`, or `f16` for the matrices.

    Returns:
        What was written: architecture, tensors, parameters, bytes; `notes` on what is read otherwise there.

    Raises:
        UserError: llama.cpp has no such architecture or tokenizer; `gguf` is not installed.
    """
    config, tokenizer = pretrained.config, pretrained.tokenizer
    if type not in {"f32", "f16"}:
        raise UserError(f"unknown type '{type}'", where="--type", mend="use f32 or f16")
    kind = _architecture(config, str(pretrained.path))
    before = _splitting(tokenizer, str(pretrained.path))
    try:
        import gguf
    except ImportError as error:
        mend = "pip install 'selfsup[gguf]'"
        raise UserError("needs the package gguf", where="export", mend=mend) from error
    tensors = gguf_tensors(kind, config, dict(pretrained.model.named_parameters()))
    with whole_file(output) as beside:
        writer = gguf.GGUFWriter(beside, kind)
        writer.add_name(
            pretrained.path.parent.name if pretrained.path.name == "model" else pretrained.path.name
        )
        _write_settings(writer, kind, config)
        writer.add_file_type(_MOSTLY_F16 if type == "f16" else _ALL_F32)
        _write_tokenizer(writer, tokenizer, config, before)
        for name, tensor in tensors.items():
            matrix = tensor.ndim == 2 and name != "position_embd.weight"
            wanted = np.float16 if type == "f16" and matrix else np.float32
            writer.add_tensor(name, tensor.numpy().astype(wanted))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    notes = []
    if json.loads(tokenizer.inner.to_str()).get("normalizer"):
        notes.append("its tokenizer brings texts to NFC first; llama.cpp reads them as they are")
    return {
        "output": str(output),
        **({"notes": notes} if notes else {}),
        "architecture": kind,
        "type": type,
        "tensors": len(tensors),
        "parameters": sum(t.numel() for t in tensors.values()),
        "bytes": output.stat().st_size,
    }


def _architecture(config: TransformerConfig, where: str) -> str:
    kind = decoder_family(config)
    if kind is None:
        mend = "it can be of GPT-2's, Llama's or Qwen2's"
        raise UserError("llama.cpp has no such architecture", where=where, mend=mend)
    wanted = "gelu_tanh" if kind == "gpt2" else "silu"
    if config.activation != wanted:
        what = f"llama.cpp computes {kind} with {wanted}, this model has {config.activation}"
        raise UserError(what, where=where)
    return kind


def gguf_tensors(
    kind: str, config: TransformerConfig, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Our tensors under GGUF's names, float32 on the CPU."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().float().cpu().contiguous()
        stem, part = name.rsplit(".", 1)
        if stem in _REST:
            named[f"{_REST[stem]}.{part}"] = value
            continue
        layer, inside = stem.removeprefix("decoder.blocks.").split(".", 1)
        target = f"blk.{layer}.{_BLOCK[inside]}.{part}"
        if inside == "attention.qkv" and kind != "gpt2":
            for letter, one in zip("qkv", _queries_keys_values(kind, config, value), strict=True):
                named[target.replace("attn_qkv", f"attn_{letter}")] = one.contiguous()
        elif inside == "mlp.up" and config.gated:
            gate, up = value.chunk(2)
            named[target.replace("ffn_up", "ffn_gate")], named[target] = (
                gate.contiguous(),
                up.contiguous(),
            )
        else:
            named[target] = value
    scaling = config.rope_scaling
    if config.positions == "rotary" and scaling is not None and scaling.kind == "llama3":
        named["rope_freqs.weight"] = _slowing(config)
    return named


def _queries_keys_values(kind: str, config: TransformerConfig, joined: Tensor) -> list[Tensor]:
    """The three parts; Llama's queries and keys in the order of llama.cpp's rotation.

    That turns neighbours (2i, 2i + 1) where ours, as Hugging Face's, turns (i, i + width / 2).
    """
    width = config.hidden_size // config.num_heads
    shared = config.kv_heads * width
    q, k, v = torch.split(joined, [config.hidden_size, shared, shared])
    if kind == "qwen2":
        return [q, k, v]
    return [_neighbours(q, config.num_heads), _neighbours(k, config.kv_heads), v]


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    halves = rows.view(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return halves.transpose(1, 2).reshape(rows.shape)


def _slowing(config: TransformerConfig) -> Tensor:
    """(width / 2,) by how much each rotary frequency is divided."""
    width, one = config.hidden_size // config.num_heads, torch.ones(1, dtype=torch.int64)
    plain, slowed = (
        torch.atan2(sin, cos).flatten()  # at place 1 the angle is the frequency
        for cos, sin in (
            rotary_tables(one, width, config.rope_theta, scaling)
            for scaling in (None, config.rope_scaling)
        )
    )
    return (plain / slowed).float()


def _write_settings(writer: Any, kind: str, config: TransformerConfig) -> None:
    writer.add_context_length(config.max_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_vocab_size(config.vocab_size)
    if kind == "gpt2":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.hidden_size // config.num_heads)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        import gguf

        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_scaling.factor)


def _splitting(tokenizer: Tokenizer, where: str) -> str:
    """llama.cpp's name for how a byte-level tokenizer parts words.

    Raises:
        UserError: it is not byte-level, or parts them in a way that has no name here.
    """
    state = json.loads(tokenizer.inner.to_str())
    decoder, model = state.get("decoder") or {}, state["model"]
    normal = state.get("normalizer") in (None, _NFC)
    if model["type"] != "BPE" or decoder.get("type") != "ByteLevel" or not normal:
        what = "only byte-level BPE tokenizers can be exported to GGUF"
        raise UserError(what, where=where, mend="train with `--tokenizer.kind bpe`")
    first = state.get("pre_tokenizer") or {}
    steps = [_plain(part) for part in first.get("pretokenizers") or [first]]
    name = next((name for name, wanted in _SPLITTERS.items() if steps == wanted), None)
    if name is None and marked_words(first):
        what = "its tokenizer keeps combining marks within words, which GGUF has no name for"
        mend = "transformers opens it as it is; for llama.cpp train with `--tokenizer.kind file` and GPT-2's"
        raise UserError(what, where=where, mend=mend)
    if name is None:
        what = "its tokenizer parts words in a way that GGUF has no name for"
        raise UserError(what, where=where)
    # llama.cpp takes a word that is a token as it is with this name, and merges letters with the others
    if bool(model.get("ignore_merges")) != (name == "llama-bpe") and not _merges_all(state):
        what = f"llama.cpp would not merge letters as its tokenizer does (GGUF's name: {name})"
        raise UserError(what, where=where)
    return name


def _plain(step: dict[str, Any]) -> dict[str, Any]:
    """What of a step decides where words part, the default said."""
    said = {key: value for key, value in step.items() if key != "trim_offsets"}
    return {"use_regex": True, **said} if step.get("type") == "ByteLevel" else said


def _merges_all(state: dict[str, Any]) -> bool:
    """Whether the letters of each token merge to that token: then it does not matter which is tried first."""
    from tokenizers import Tokenizer as Inner

    inner = Inner.from_str(
        json.dumps({**state, "model": {**state["model"], "ignore_merges": False}})
    )
    added = {token["content"] for token in state["added_tokens"]}
    return all(t in added or len(inner.model.tokenize(t)) == 1 for t in state["model"]["vocab"])


def _write_tokenizer(
    writer: Any, tokenizer: Tokenizer, config: TransformerConfig, before: str
) -> None:
    state = json.loads(tokenizer.inner.to_str())
    rows = config.vocab_size or tokenizer.vocab_size
    tokens, types = [f"[PAD{i}]" for i in range(rows)], [_UNUSED] * rows
    for token, id in tokenizer.inner.get_vocab(with_added_tokens=True).items():
        tokens[id], types[id] = token, _NORMAL
    for id, added in tokenizer.inner.get_added_tokens_decoder().items():
        types[id] = _CONTROL if added.special else _USER
    merges = [m if isinstance(m, str) else " ".join(m) for m in state["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(before)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    ids = tokenizer.encode("a").ids
    writer.add_add_bos_token(bool(len(ids)) and int(ids[0]) == tokenizer.begin_id)
    writer.add_add_space_prefix(False)
    for special, add in (
        (tokenizer.begin_id, writer.add_bos_token_id),
        (tokenizer.end_id, writer.add_eos_token_id),
        (tokenizer.unknown_id, writer.add_unk_token_id),
        (tokenizer.pad_id, writer.add_pad_token_id),
    ):
        if special is not None:
            add(special)
