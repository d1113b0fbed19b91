"""Reading and writing model folders in the ecosystem's layout: safetensors, JSON, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from selfsup.config import TransformerConfig
from selfsup.data.tokenizers import Tokenizer, load_tokenizer
from selfsup.errors import UserError
from selfsup.models.autoencoder import AutoEncoder
from selfsup.models.autoencoder_hub import MODEL_TYPE, load_autoencoder, refuse_autoencoder
from selfsup.models.checkpoint_names import (
    check_kind,
    family,
    from_family,
    read_settings,
    to_family,
    write_settings,
)
from selfsup.models.decoder_hub import (
    PretrainedDecoder,
    is_decoder,
    load_decoder,
    save_decoder,
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
from selfsup.models.settings_values import count, section
from selfsup.models.transformer import CausalLanguageModel, MaskedLanguageModel, Transformer
from selfsup.nn.device import choose_device

_HEAD = ("head_dense.", "head_norm.", "head_bias")


@dataclass
class Pretrained:
    """A model that was opened: the network, its tokenizer, and where it came from."""

    model: MaskedLanguageModel
    tokenizer: Tokenizer
    config: TransformerConfig
    path: Path
    architecture: str
    """The name that it has in the ecosystem."""
    has_head: bool
    """Whether the head that fills blanks was trained (a bare encoder has none)."""
    has_pooler: bool
    max_length: int
    """Longest input in tokens, special ones included."""
    pooling: str = "mean"
    normalize: bool = False
    prompt: str = ""
    """What its folder puts before each text that becomes a vector."""
    origin: dict[str, Any] = field(default_factory=dict)
    """What `config.json` says under `selfsup` of the run that made it."""

    @property
    def encoder(self) -> Transformer:
        """The network without its head."""
        return self.model.encoder

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of its settings, weights and tokenizer."""
        tensors = self.model.state_dict()
        kept = {n: t for n, t in tensors.items() if self.has_head or n.startswith("encoder.")}
        return digest(self.tokenizer, self.config, kept)


def load(
    name: str | Path, device: str | torch.device = "cpu"
) -> Pretrained | PretrainedDecoder | AutoEncoder:
    """Open a model, whichever kind it is; see `load_encoder`, `load_decoder`, `load_autoencoder`."""
    folder = find_model_folder(name)
    settings = model_settings(folder)
    if settings.get("model_type") == MODEL_TYPE:
        return load_autoencoder(folder, device)
    return (load_decoder if is_decoder(settings) else load_encoder)(folder, device)


def as_encoder(model: object) -> Pretrained:
    """A pre-trained encoder that was opened, or what `load_encoder` takes.

    Raises:
        UserError: another kind of model, or one that cannot be opened.
    """
    if isinstance(model, (str, Path)):
        return load_encoder(model)
    if isinstance(model, PretrainedDecoder):
        raise _no_encoder(model.path)
    if not isinstance(model, Pretrained):
        what = f"an encoder is expected, not {type(model).__name__}"
        raise UserError(what, mend="give what `selfsup.load` opens, or its folder")
    return model


def _no_encoder(folder: Path) -> UserError:
    return UserError(
        "this model is a decoder: it reads to the left only",
        where=str(folder),
        mend="it writes (`selfsup generate`); this needs an encoder, such as BERT",
    )


def load_encoder(name: str | Path, device: str | torch.device = "cpu") -> Pretrained:
    """Open a pre-trained encoder.

    Args:
        name: a run folder, a model folder (selfsup's, Hugging Face's BERT or ModernBERT, or a
            sentence-transformers folder of one), or, with the extra `hub`, a hub name.
        device: where the weights go: `cpu`, `cuda`, `cuda:1`, or `auto`.

    Raises:
        UserError: not a model; a decoder or another architecture; a missing, extra, misshapen or
            pickled tensor; a tokenizer that does not belong to it.
    """
    folder = find_model_folder(name)
    settings = model_settings(folder)
    refuse_autoencoder(settings, folder, "it reads no text")
    if is_decoder(settings):
        raise _no_encoder(folder)
    tensors = read_weights(folder)
    own = settings.get("selfsup") or {}
    kind = str(settings.get("model_type", ""))
    config = read_config(settings, own, read_settings, folder / "config.json")
    pair = any(n.startswith(("cls.seq_relationship.", "pair_head.")) for n in tensors)
    check_sizes(config, tensors, folder / "config.json")
    wanted = shapes_of(lambda: MaskedLanguageModel(config, pair_head=pair))
    if kind == "selfsup":
        found = {n: t for n, t in tensors.items() if not n.startswith("task_head.")}
        extra = sorted(set(found) - set(wanted))
    else:
        check_kind(kind, str(folder / "config.json"))
        found, extra = from_family(kind, tensors, list(wanted), str(folder))
    if "head_bias" not in found:  # a classifier's dense layer of the same name is no such head
        found = {n: t for n, t in found.items() if not n.startswith(_HEAD)}
    has_head = all(n in found for n in wanted if n.startswith(_HEAD))
    has_pooler = "encoder.pooler.weight" in found
    # a part may be missing as a whole (a bare encoder), never by half
    absent = [p for p in (("encoder.pooler.",), _HEAD) if not any(n.startswith(p) for n in found)]
    optional = tuple(prefix for prefixes in absent for prefix in prefixes)
    check_tensors(found, extra, wanted, optional, folder)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = MaskedLanguageModel(config, pair_head=pair)
        for tensor_name, parameter in model.named_parameters():
            if tensor_name in found:
                parameter.copy_(found[tensor_name])
    tokenizer = load_tokenizer(folder)
    check_tokenizer(tokenizer, config, own, folder)
    sentence = _sentence_settings(folder, config.max_length, tokenizer)
    architectures = settings.get("architectures") or [kind]
    return Pretrained(
        model=model.eval().to(choose_device(device)),
        tokenizer=tokenizer,
        config=config,
        path=folder,
        architecture=str(architectures[0]),
        has_head=has_head,
        has_pooler=has_pooler,
        max_length=sentence.max_length,
        pooling=sentence.pooling,
        normalize=sentence.normalize,
        prompt=sentence.prompt,
        origin=dict(own),
    )


class _SentenceSettings(NamedTuple):
    """What a sentence-transformers folder says; the defaults without one."""

    max_length: int
    pooling: str = "mean"
    normalize: bool = False
    prompt: str = ""


def _read_modules(path: Path) -> list[dict[str, Any]]:
    try:
        modules: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"not a list of modules ({error})", where=str(path)) from None
    for kind in kinds:
        if kind not in {"Transformer", "Pooling", "Normalize"}:
            raise UserError(
                f"the module '{kind}' is not supported; vectors without it would be others",
                where=str(path),
                mend="use sentence-transformers for this model",
            )
    if "Pooling" in kinds[2:]:
        what = f"modules in this order ({', '.join(kinds)}) are not supported"
        raise UserError(what, where=str(path), mend="use sentence-transformers for this model")
    return modules


def _sentence_settings(folder: Path, longest: int, tokenizer: Tokenizer) -> _SentenceSettings:
    if not (folder / "modules.json").is_file():
        return _SentenceSettings(longest)
    modules = _read_modules(folder / "modules.json")
    normalize = any("Normalize" in str(m.get("type", "")) for m in modules)
    prompt = _default_prompt(folder / "config_sentence_transformers.json")
    pooling = "mean"
    for module in modules:
        path = folder / str(module.get("path", "")) / "config.json"
        if "Pooling" in str(module.get("type", "")) and path.is_file():
            pooling = _pooling(path)
            if prompt and read_json(path).get("include_prompt") is False:
                what = "leaving a prompt out of the mean (include_prompt false) is not supported"
                raise UserError(what, where=str(path))
    return _SentenceSettings(_longest(folder, longest, tokenizer), pooling, normalize, prompt)


def _pooling(path: Path) -> str:
    chosen = read_json(path)
    mode = str(chosen.get("pooling_mode", ""))
    several = [k for k, v in chosen.items() if k.startswith("pooling_mode_") and v is True]
    if len(several) > 1:
        what = f"several poolings at once ({', '.join(several)}) are not supported"
        raise UserError(what, where=str(path))
    if chosen.get("pooling_mode_cls_token") or mode == "cls":
        return "cls"
    if not (chosen.get("pooling_mode_mean_tokens") or mode == "mean"):
        raise UserError("only mean and cls pooling are supported", where=str(path))
    return "mean"


def _default_prompt(file: Path) -> str:
    """What sentence-transformers puts before each text unless it is told otherwise."""
    said = read_json(file) if file.is_file() else {}
    name = said.get("default_prompt_name")
    if name is None:
        return ""
    prompt = section(said, "prompts", str(file)).get(name)
    if not isinstance(prompt, str):
        what = f"there is no prompt of this name: {name!r}"
        raise UserError(what, where=f"{file}: default_prompt_name")
    return prompt


def _longest(folder: Path, longest: int, tokenizer: Tokenizer) -> int:
    """The longest text in tokens, as sentence-transformers finds it."""
    file = folder / "sentence_bert_config.json"
    said = read_json(file) if file.is_file() else {}
    normalizer = tokenizer.inner.normalizer
    if said.get("do_lower_case") and (normalizer is None or normalizer.normalize_str("A") == "A"):
        what = "its tokenizer keeps capitals, and folding them before it is not supported"
        raise UserError(what, where=f"{file}: do_lower_case")
    if said.get("max_seq_length") is not None:
        return min(longest, count(said, "max_seq_length", str(file)))
    file = folder / "tokenizer_config.json"
    told = read_json(file).get("model_max_length") if file.is_file() else None
    return min(longest, int(told)) if isinstance(told, int | float) and told >= 1 else longest


def save_model(
    folder: Path,
    model: MaskedLanguageModel | Transformer | CausalLanguageModel,
    tokenizer: Tokenizer,
    origin: Mapping[str, Any],
    card: str,
) -> None:
    """Write a model folder (into an existing, empty one).

    What BERT, ModernBERT, GPT-2, Llama or Qwen2 can express is written under their names, so
    transformers (and, of encoders, sentence-transformers) opens it; other settings under ours.

    Args:
        folder: where to.
        model: the network, with its masked-token head or bare.
        tokenizer: the one that it was trained with.
        origin: what `config.json` shall keep under `selfsup`.
        card: the model card, Markdown.
    """
    if isinstance(model, CausalLanguageModel):
        save_decoder(folder, model, tokenizer, origin, card)
        return
    kind = family(model.config)
    bare = isinstance(model, Transformer)
    named = model.named_parameters(prefix="encoder" if bare else "")
    tensors = {n: p.detach().cpu().contiguous() for n, p in named}
    special = {"pad": tokenizer.pad_id, "cls": tokenizer.cls_id, "sep": tokenizer.sep_id}
    settings: dict[str, Any]
    if kind is None:
        settings = {"model_type": "selfsup", "architectures": [type(model).__name__]}
    else:
        tensors = to_family(kind, tensors)
        settings = write_settings(kind, model.config, special)
        settings["architectures"] = [_architecture(kind, model)]
        _write_sentence_settings(folder, model.config)
    write_model(folder, tensors, settings, model.config, tokenizer, origin, card)


def _architecture(kind: str, model: MaskedLanguageModel | Transformer) -> str:
    """The name of a network in the ecosystem."""
    if isinstance(model, Transformer):
        return "BertModel" if kind == "bert" else "ModernBertModel"
    bert = "BertForPreTraining" if model.pair_head is not None else "BertForMaskedLM"
    return bert if kind == "bert" else "ModernBertForMaskedLM"


def _write_sentence_settings(folder: Path, config: TransformerConfig) -> None:
    """So that `SentenceTransformer(folder)` opens with mean pooling."""
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    pooling = {
        "word_embedding_dimension": config.hidden_size,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_cls_token": False,
    }
    (folder / "1_Pooling").mkdir(exist_ok=True)
    longest = {"max_seq_length": config.max_length, "do_lower_case": False}
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", longest),
    ):
        (folder / name).write_text(json.dumps(value, indent=1), encoding="utf-8")
