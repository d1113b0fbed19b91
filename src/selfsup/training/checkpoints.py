"""Checkpoints: written beside and renamed, so the last good one always survives.

A checkpoint is a folder of safetensors and one JSON; no pickle is ever written or read.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from selfsup.errors import NO_SPACE, UserError
from selfsup.models.model_folder import read_json
from selfsup.models.tensors import compare_tensors, read_tensors, write_tensors
from selfsup.training.state import State

_PREFIX = "step-"
_KEPT = {"fingerprint", "precision", *(f.name for f in fields(State))}


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a temporary folder that takes `target`'s place only when all went well.

    Raises:
        UserError: the disk is full; what stood at `target` is untouched.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        old = target.with_name(f".{target.name}.{os.getpid()}.old")
        if target.exists():
            os.replace(target, old)
        os.replace(temporary, target)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if why := _no_space(error):
            raise UserError(
                f"{why}; nothing was half-written and earlier checkpoints are whole",
                where=str(target),
                mend="make room and run the same command again, without --overwrite: it resumes",
            ) from error
        raise


def _no_space(error: BaseException) -> str:
    """Why a file cannot get longer; empty where this is not the error."""
    number = error.errno if isinstance(error, OSError) else None
    # safetensors reports an OS error as its own exception with the number in the text
    said = (why for n, why in NO_SPACE.items() if n == number or f"(os error {n})" in str(error))
    return next(said, "")


def optimizer_tensors(
    model: nn.Module, optimizers: list[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """All optimizer state by parameter name: `name/state` to tensor."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        f"{names[id(p)]}/{key}": value.detach().contiguous()
        for optimizer in optimizers
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizers(
    model: nn.Module, optimizers: list[torch.optim.Optimizer], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave."""
    owners = {id(p): o for o in optimizers for g in o.param_groups for p in g["params"]}
    for name, p in model.named_parameters():
        state = {k.rsplit("/", 1)[1]: v for k, v in tensors.items() if k.rsplit("/", 1)[0] == name}
        if id(p) in owners and state:
            owners[id(p)].state[p] = {
                # fused AdamW keeps its step count where the parameter lives
                key: value.clone().to(p.device)
                for key, value in state.items()
            }


def save(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write checkpoint `step`, then remove all but the newest `keep`."""
    target = folder / f"{_PREFIX}{step:08d}"
    with written_whole(target) as new:
        weights = {n: p.detach().contiguous() for n, p in model.named_parameters()}
        write_tensors(new / "model.safetensors", weights)
        write_tensors(new / "optimizer.safetensors", optimizer_tensors(model, optimizers))
        (new / "state.json").write_text(json.dumps(dict(state), indent=1), encoding="utf-8")
    for old in found(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def save_weights(target: Path, model: nn.Module, state: Mapping[str, Any]) -> None:
    """Write the weights alone (the best so far)."""
    with written_whole(target) as new:
        weights = {n: p.detach().contiguous() for n, p in model.named_parameters()}
        write_tensors(new / "model.safetensors", weights)
        (new / "state.json").write_text(json.dumps(dict(state), indent=1), encoding="utf-8")


def found(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, oldest first (a temporary folder is not one)."""
    return sorted(p for p in folder.glob(f"{_PREFIX}*") if (p / "state.json").is_file())


def load_weights(folder: Path, model: nn.Module) -> None:
    """Put a checkpoint's weights into a model of the same architecture.

    Raises:
        UserError: a tensor is missing, extra or of another shape, or the file is damaged.
    """
    tensors = read_tensors(folder / "model.safetensors")
    own = dict(model.named_parameters())
    compare_tensors(tensors, {n: tuple(p.shape) for n, p in own.items()}, folder)
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(tensors[name])


def latest_state(folder: Path) -> dict[str, Any] | None:
    """The state kept with the newest whole checkpoint; None where there is none.

    Raises:
        UserError: it is damaged.
    """
    whole = found(folder)
    if not whole:
        return None
    file = whole[-1] / "state.json"
    before = f"goes on from {whole[-2].name}" if len(whole) > 1 else "starts anew"
    mend = f"remove {whole[-1].name}, and the same command {before}"
    state = read_json(file, mend)
    try:
        TypeAdapter(State).validate_python(state)
        lacking = sorted({"fingerprint", "precision", "step", "saved"} - state.keys())
        foreign = sorted(state.keys() - _KEPT)
    except ValidationError as error:
        lacking, foreign = [str(error.errors()[0]["loc"][0])], []
    if lacking or foreign:
        what = f"is damaged: no {lacking[0]}" if lacking else f"is damaged: what is {foreign[0]}?"
        raise UserError(what, where=str(file), mend=mend)
    return state


def load_latest(
    folder: Path,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    fingerprint: str,
) -> dict[str, Any] | None:
    """Put the newest whole checkpoint back; returns the state kept with it, None where there is none.

    Raises:
        UserError: it was made with other data, tokenizer or configuration, or is damaged.
    """
    state = latest_state(folder)
    if state is None:
        return None
    newest = found(folder)[-1]
    if state.pop("fingerprint") != fingerprint:
        raise UserError(
            "the checkpoint was made with other data, another tokenizer or another configuration",
            where=str(newest),
            mend="restore them, or start anew with --overwrite or another --out",
        )
    tensors = read_tensors(newest / "optimizer.safetensors")
    load_weights(newest, model)
    restore_optimizers(model, optimizers, tensors)
    return state
