"""Reading and writing auto-encoders: config.json, model.safetensors, README.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from selfsup.autoencoder_config import AutoEncoderModelConfig
from selfsup.data.observations import spec_from_state, spec_state
from selfsup.errors import UserError
from selfsup.models.autoencoder import AutoEncoder, build
from selfsup.models.model_folder import find_model_folder, model_settings, shapes_of
from selfsup.models.tensors import compare_tensors, read_tensors, write_tensors
from selfsup.nn.device import choose_device

MODEL_TYPE = "selfsup-autoencoder"


def save_autoencoder(
    folder: Path, model: AutoEncoder, origin: Mapping[str, Any], card: str
) -> None:
    """Write a model folder (into an existing, empty one).

    Args:
        folder: where to.
        model: what is kept, with the spec of its examples.
        origin: what `config.json` shall keep of the run that made it.
        card: the model card, Markdown.
    """
    tensors = {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}
    settings = {
        "model_type": MODEL_TYPE,
        "model": model.config.model_dump(mode="json"),
        "spec": spec_state(model.spec),
        "selfsup": dict(origin),
    }
    write_tensors(folder / "model.safetensors", tensors)
    text = json.dumps(settings, indent=1, ensure_ascii=False)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def refuse_autoencoder(settings: Mapping[str, Any], folder: Path, what: str) -> None:
    """Refuse an auto-encoder where a model of texts is wanted.

    Args:
        settings: its `config.json`.
        folder: for the message.
        what: what it cannot do, for the message.

    Raises:
        UserError: it is one.
    """
    if settings.get("model_type") == MODEL_TYPE:
        raise UserError(
            f"this model is an auto-encoder, {what}",
            where=str(folder),
            mend="`selfsup encode`, `decode`, `reconstruct`, `sample`, `interpolate`, `traverse` and "
            "`cluster` use it",
        )


def load_autoencoder(name: str | Path, device: str | torch.device = "cpu") -> AutoEncoder:
    """Open an auto-encoder.

    Args:
        name: a run folder, a model folder, or (with the extra `hub`) a hub name.
        device: where the weights go: `cpu`, `cuda`, `cuda:1`, or `auto`.

    Raises:
        UserError: no auto-encoder; settings that do not fit; a missing, extra or misshapen tensor.
    """
    from pydantic import ValidationError

    folder = find_model_folder(name)
    settings = model_settings(folder)
    if settings.get("model_type") != MODEL_TYPE:
        found = settings.get("model_type", "none")
        what = f"it holds a model of the kind '{found}', no auto-encoder"
        raise UserError(what, where=str(folder), mend="train one: selfsup pretrain autoencoder")
    try:
        config = AutoEncoderModelConfig.model_validate(settings["model"])
        spec = spec_from_state(settings["spec"])
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"its settings cannot be read ({str(error).splitlines()[0]})"
        raise UserError(what, where=str(folder / "config.json")) from None
    tensors = read_tensors(folder / "model.safetensors")
    try:
        wanted = shapes_of(lambda: AutoEncoder(config, spec))
    except (TypeError, RuntimeError, OverflowError):  # what torch says of numbers beyond its own
        what = "its settings have sizes that no network has"
        raise UserError(what, where=str(folder / "config.json")) from None
    compare_tensors(tensors, wanted, folder)
    model = build(config, spec, 0)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for tensor_name, parameter in own.items():
            parameter.copy_(tensors[tensor_name])
    return model.eval().to(choose_device(device))
