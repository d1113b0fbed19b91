"""What all model folders have in common: where they are, and what is refused when one is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfsup.config import TransformerConfig
from selfsup.data.paths import expanded, is_detector, is_study
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.models.settings_values import entries, section


def find_model_folder(name: str | Path) -> Path:
    """The folder with `config.json` that MODEL means: a run folder, a model folder, or a hub name."""
    if not str(name).strip():
        raise UserError("no model is named", mend=_GIVE)
    path = expanded(name)
    if (path / "model" / "config.json").is_file():
        return path / "model"
    if path.is_dir():
        if (path / "config.json").is_file() and not (path / "checkpoints").is_dir():
            return path
        raise _no_model(path)
    if path.exists():
        raise UserError("is a file, not a folder", where=str(name), mend=_GIVE)
    text = str(name)
    if text.count("/") == 1 and not text.startswith((".", "/", "~")):
        return _from_hub(text)
    raise UserError("no such run or model folder", where=text)


_GIVE = "give a run folder or a model folder"


def _no_model(folder: Path) -> UserError:
    """What is wrong with a folder in which no model lies."""
    what, mend = "this folder holds no model (no config.json)", _GIVE
    if (folder / "checkpoints").is_dir():
        what = "this run has no finished model yet"
        mend = "run the same command again, without --overwrite, to go on with it"
    elif is_detector(folder):
        what, mend = "this folder holds a detector", "`selfsup detect score` takes it"
    elif is_study(folder):
        what = "this folder holds a study, not a model"
        if runs := sorted(x.parent.parent for x in folder.glob("*/model/config.json")):
            mend = f"give a run in it, {runs[0]}"
    elif (folder / "tokenizer.json").is_file():
        what = "this folder holds a tokenizer alone"
        mend = f"`selfsup pretrain --tokenizer.kind file --tokenizer.path {folder}` takes it"
    return UserError(what, where=str(folder), mend=mend)


def _from_hub(name: str) -> Path:
    missing = f"'{name}' is no folder here"
    offline = bool(os.environ.get("SELFSUP_OFFLINE") or os.environ.get("HF_HUB_OFFLINE"))
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(
            missing, mend="to look it up on the hub: pip install 'selfsup[hub]'"
        ) from None
    try:
        patterns = ["*.json", "*.safetensors", "*.txt", "1_Pooling/*"]
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=offline))
    except Exception as error:
        reason = (
            "and the hub is switched off or out of reach"
            if offline
            else f"and the hub says: {error}"
        )
        raise UserError(f"{missing}, {str(reason).splitlines()[0]}") from None


def read_config(
    settings: Mapping[str, Any],
    own: Mapping[str, Any],
    read: Callable[[Mapping[str, Any], str], TransformerConfig],
    where: Path,
) -> TransformerConfig:
    """The configuration of a model folder.

    Args:
        settings: of `config.json`.
        own: what it says under `selfsup`.
        read: makes ours from the ecosystem's, where there is nothing under `selfsup`.
        where: the file, for messages.

    Raises:
        UserError: a key is missing, or a value that cannot be.
    """
    from pydantic import ValidationError

    try:
        if "model" not in own:
            return read(settings, str(where))
        config = TransformerConfig.model_validate(own["model"])
        if config.vocab_size is None:
            raise UserError("vocab_size is missing", where=f"{where}: selfsup.model")
        return config
    except KeyError as error:
        raise UserError(f"the key {error} is missing", where=str(where)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{key}: {first['msg']}".lstrip(": "), where=str(where)) from None


def read_json(path: Path, mend: str = "") -> dict[str, Any]:
    """A JSON object from a file.

    Args:
        path: of the file.
        mend: what to do about a file that is damaged.

    Raises:
        UserError: no such file, or no JSON object in it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        what = f"is damaged: not valid JSON ({error})"
        raise UserError(what, where=str(path), mend=mend) from None
    if not isinstance(value, dict):
        raise UserError("is damaged: not a JSON object", where=str(path), mend=mend)
    return value


def model_settings(folder: Path) -> dict[str, Any]:
    """What `config.json` of a model folder says.

    Raises:
        UserError: as in `read_json`; what says whose model it is is of the wrong kind.
    """
    file = folder / "config.json"
    settings = read_json(file)
    kind = settings.get("model_type", "")
    if not isinstance(kind, str):
        raise UserError(f"must be a name, not {kind!r}", where=f"{file}: model_type")
    entries(settings, "architectures", str(file))
    own = section(settings, "selfsup", str(file))
    for key in ("model", "head", "task"):
        section(own, key, f"{file}: selfsup")
    return settings


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model folder, from one file or several.

    Raises:
        UserError: there are none, or only pickles, which are never read; a file outside the folder is named.
    """
    from selfsup.models.tensors import read_tensors

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = list(section(read_json(index), "weight_map", str(index)).values())
        for file in files:
            if not isinstance(file, str) or Path(file).name != file:
                what = f"must hold names of files beside it, not {file!r}"
                raise UserError(what, where=f"{index}: weight_map")
        return {n: t for f in sorted(set(files)) for n, t in read_tensors(folder / f).items()}
    if (folder / "model.safetensors").is_file():
        return read_tensors(folder / "model.safetensors")
    pickled = [p.name for p in folder.glob("*.bin")] + [p.name for p in folder.glob("*.pt*")]
    if pickled:
        raise UserError(
            f"'{pickled[0]}' is a pickle, which can run code when it is read",
            where=str(folder),
            mend="convert it to safetensors (save_pretrained in transformers writes them)",
        )
    raise UserError("there is no model.safetensors", where=str(folder))


def check_sizes(config: TransformerConfig, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Refuse sizes that no tensor of a file has, before a network of that size is made.

    Args:
        config: what its settings say.
        tensors: of the file.
        where: the settings' file, for messages.
    """
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    said = {
        "vocab_size": config.vocab_size or 0,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "max_length": config.max_length if config.positions == "learned" else 0,
        "type_vocab_size": config.type_vocab_size,
    }
    mend = "config.json and model.safetensors do not belong together"
    for key, size in said.items():
        if size > longest:
            what = f"{key} is {size}, and the weights have nothing longer than {longest}"
            raise UserError(what, where=str(where), mend=mend)
    if config.num_layers > len(tensors):
        what = f"num_layers is {config.num_layers}, and the weights have {len(tensors)} tensors"
        raise UserError(what, where=str(where), mend=mend)


def shapes_of(make: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's parameters, at the cost of neither memory nor draws."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return {name: tuple(p.shape) for name, p in make().named_parameters()}


def check_tensors(
    found: Mapping[str, Tensor],
    extra: list[str],
    wanted: Mapping[str, tuple[int, ...]],
    optional: tuple[str, ...],
    folder: Path,
) -> None:
    """Refuse tensors that do not fit a model.

    Args:
        found: under our names.
        extra: names that belong to nothing of ours.
        wanted: shapes of the model's parameters.
        optional: beginnings of names that may be missing.
        folder: where they are, for messages.
    """
    from selfsup.models.tensors import compare_tensors

    if extra:
        raise UserError(
            f"tensor '{extra[0]}' is not part of this architecture ({len(extra)} in all)",
            where=str(folder),
            mend="config.json and model.safetensors do not belong together",
        )
    needed = {
        n: s for n, s in wanted.items() if n in found or not (optional and n.startswith(optional))
    }
    compare_tensors(found, needed, folder)


def check_tokenizer(
    tokenizer: Tokenizer, config: TransformerConfig, own: Mapping[str, Any], folder: Path
) -> None:
    """Refuse a tokenizer that a model was not trained with."""
    expected = own.get("tokenizer")
    if expected and expected != tokenizer.fingerprint:
        raise UserError(
            "tokenizer.json is not the one that this model was trained with",
            where=str(folder),
            mend="put the original back; the words would mean other vectors",
        )
    size = config.vocab_size or 0
    if tokenizer.vocab_size > size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} entries, the model {size}",
            where=str(folder),
            mend="they do not belong together",
        )


def digest(tokenizer: Tokenizer, config: TransformerConfig, tensors: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits of a model's settings, weights and tokenizer."""
    found = hashlib.sha256(tokenizer.fingerprint.encode())
    found.update(config.model_dump_json().encode())
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return found.hexdigest()[:16]


def write_model(
    folder: Path,
    tensors: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    config: TransformerConfig,
    tokenizer: Tokenizer,
    origin: Mapping[str, Any],
    card: str,
) -> None:
    """Write a model folder (into an existing, empty one).

    Args:
        folder: where to.
        tensors: under the names that they shall have there.
        settings: of `config.json`, as the ecosystem reads it.
        config: ours; kept under `selfsup`, with what follows.
        tokenizer: the one that the model was trained with.
        origin: what else is kept under `selfsup`.
        card: the model card, Markdown.
    """
    from selfsup.models.tensors import write_tensors

    kept = {
        **origin,
        "model": config.model_dump(mode="json"),
        "tokenizer": tokenizer.fingerprint,
    }
    write_tensors(folder / "model.safetensors", tensors)
    written = json.dumps({**settings, "selfsup": kept}, indent=1)
    (folder / "config.json").write_text(written, encoding="utf-8")
    tokenizer.save(folder, config.max_length, types=config.type_vocab_size > 1)
    (folder / "README.md").write_text(card, encoding="utf-8")
