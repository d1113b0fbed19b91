"""Reading and writing decoders in the ecosystem's layout: GPT-2, Llama, Qwen2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from selfsup.config import TransformerConfig
from selfsup.data.tokenizers import Tokenizer, load_tokenizer
from selfsup.errors import UserError
from selfsup.models.autoencoder_hub import refuse_autoencoder
from selfsup.models.checkpoint_names import read_settings
from selfsup.models.decoder_names import (
    DECODERS,
    decoder_family,
    from_decoder_family,
    read_decoder_settings,
    to_decoder_family,
    write_decoder_settings,
)
from selfsup.models.model_folder import (
    check_sizes,
    check_tensors,
    check_tokenizer,
    digest,
    find_model_folder,
    model_settings,
    read_config,
    read_json,
    read_weights,
    shapes_of,
    write_model,
)
from selfsup.models.settings_values import token_ids
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.device import choose_device

_DECODERS_MEND = "give a model trained by `next-token` (recipes gpt2-… and llama-…), GPT-2 or Llama"


@dataclass
class PretrainedDecoder:
    """A decoder that was opened: the network, its tokenizer, and where it came from."""

    model: CausalLanguageModel
    tokenizer: Tokenizer
    config: TransformerConfig
    path: Path
    architecture: str
    """The name that it has in the ecosystem."""
    end_ids: frozenset[int]
    """Tokens that end a text."""
    origin: dict[str, Any] = field(default_factory=dict)
    """What `config.json` says under `selfsup` of the run that made it."""

    @property
    def max_length(self) -> int:
        """The longest context, in tokens."""
        return self.config.max_length

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of its settings, weights and tokenizer."""
        return digest(self.tokenizer, self.config, self.model.state_dict())

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.model.decoder.embeddings.tokens.weight.device


def is_decoder(settings: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is that of a decoder."""
    own = (settings.get("selfsup") or {}).get("model") or {}
    return bool(own.get("causal")) or settings.get("model_type") in DECODERS


def names_decoder(name: str | Path) -> bool:
    """Whether a run folder, model folder or hub name is that of a decoder.

    Raises:
        UserError: there is no model.
    """
    return is_decoder(model_settings(find_model_folder(name)))


def as_decoder(model: object) -> PretrainedDecoder:
    """A decoder that was opened, or what `load_decoder` takes.

    Raises:
        UserError: another kind of model, or one that cannot be opened.
    """
    if isinstance(model, (str, Path)):
        return load_decoder(model)
    if not isinstance(model, PretrainedDecoder):
        what = f"a decoder is expected, not {type(model).__name__}"
        raise UserError(what, mend=_DECODERS_MEND)
    return model


def load_decoder(name: str | Path, device: str | torch.device = "cpu") -> PretrainedDecoder:
    """Open a pre-trained decoder.

    Args:
        name: a run folder, a model folder (selfsup's, or Hugging Face's GPT-2, Llama or Qwen2), or,
            with the extra `hub`, a hub name.
        device: where the weights go: `cpu`, `cuda`, `cuda:1`, or `auto`.

    Raises:
        UserError: not a model; an encoder or another architecture; a missing, extra, misshapen or
            pickled tensor; a tokenizer that does not belong to it.
    """
    folder = find_model_folder(name)
    settings = model_settings(folder)
    kind = str(settings.get("model_type", ""))
    refuse_autoencoder(settings, folder, "it writes no text")
    own = settings.get("selfsup") or {}
    if not is_decoder(settings):
        if not own:
            read_settings(
                settings, str(folder / "config.json")
            )  # another architecture is said first
        raise UserError(
            "this model is no decoder: it reads texts, it does not write on",
            where=str(folder),
            mend=_DECODERS_MEND,
        )
    config = read_config(settings, own, read_decoder_settings, folder / "config.json")
    if not config.causal:
        what = f"causal is false, and a model of the kind '{kind}' reads to the left only"
        raise UserError(what, where=f"{folder / 'config.json'}: selfsup.model")
    tensors = read_weights(folder)
    if config.tied and kind in DECODERS:
        config = _untied(config, tensors)
    check_sizes(config, tensors, folder / "config.json")
    wanted = shapes_of(lambda: CausalLanguageModel(config))
    if kind in DECODERS:
        found, extra = from_decoder_family(kind, tensors, list(wanted), str(folder))
    else:
        found, extra = tensors, sorted(set(tensors) - set(wanted))
    check_tensors(found, extra, wanted, (), folder)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = CausalLanguageModel(config)
        for tensor_name, parameter in model.named_parameters():
            parameter.copy_(found[tensor_name])
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, config, own, folder)
    architectures = settings.get("architectures") or [kind]
    return PretrainedDecoder(
        model=model.eval().to(choose_device(device)),
        tokenizer=tokenizer,
        config=config,
        path=folder,
        architecture=str(architectures[0]),
        end_ids=_end_ids(folder, settings, tokenizer),
        origin=dict(own),
    )


def _untied(config: TransformerConfig, tensors: Mapping[str, torch.Tensor]) -> TransformerConfig:
    """A file whose output matrix is not its embeddings says so itself, whatever its settings say."""
    output = tensors.get("lm_head.weight")
    names = [n for n in tensors if n.endswith(("wte.weight", "embed_tokens.weight"))]
    if output is None or not names or torch.equal(output, tensors[names[0]]):
        return config
    return config.model_copy(update={"tied": False})


def _end_ids(folder: Path, settings: Mapping[str, Any], tokenizer: Tokenizer) -> frozenset[int]:
    """What ends a text: as `generation_config.json`, `config.json` or the tokenizer say."""
    file = folder / "generation_config.json"
    said: Mapping[str, Any] = read_json(file) if file.is_file() else {}
    if said.get("eos_token_id") is None:
        said, file = settings, folder / "config.json"
    ids = token_ids(said, "eos_token_id", str(file))
    return frozenset(ids if tokenizer.end_id is None else [*ids, tokenizer.end_id])


def save_decoder(
    folder: Path,
    model: CausalLanguageModel,
    tokenizer: Tokenizer,
    origin: Mapping[str, Any],
    card: str,
) -> None:
    """Write a decoder's folder; see `save_model`."""
    config = model.config
    kind = decoder_family(config)
    tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}
    special = {"begin": tokenizer.begin_id, "end": tokenizer.end_id, "pad": tokenizer.pad_id}
    settings: dict[str, Any] = {
        "model_type": "selfsup",
        "architectures": [type(model).__name__],
    }
    if kind is not None:
        tensors = to_decoder_family(kind, config, tensors)
        settings = write_decoder_settings(kind, config, special)
        generation = {
            "bos_token_id": special["begin"],
            "eos_token_id": special["end"],
            "pad_token_id": special["pad"],
        }
        written = json.dumps(generation, indent=1)
        (folder / "generation_config.json").write_text(written, encoding="utf-8")
    write_model(folder, tensors, settings, config, tokenizer, origin, card)
