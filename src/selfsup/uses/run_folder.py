"""A run's folder: what lies in it, and when it may be used again."""

from __future__ import annotations

import itertools
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from selfsup.config import PretrainConfig
from selfsup.config_base import Section
from selfsup.data.files import whole_file
from selfsup.data.paths import expanded, is_run
from selfsup.errors import UserError
from selfsup.models.model_folder import read_json
from selfsup.training.loop import Loop
from selfsup.training.metrics import read_metrics
from selfsup.uses.plotting import pyplot, save_figure

FREE_SETTINGS = ("device", "processes", "keep", "save_every", "log_every", "tensorboard")
"""Settings of `train` that may change when a run is resumed."""
_ANEW = "--overwrite starts anew, or choose another --out"
_FILES = ("config.json", "environment.json", "metrics.jsonl", "result.json")
_FOLDERS = ("checkpoints", "model", "figures", "tensorboard")


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside and rename, so that the file is never half there."""
    with whole_file(path) as beside:
        written = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        # half a surrogate pair, which UTF-8 lacks, becomes JSON's own escape of it
        beside.write_text(written, encoding="utf-8", errors="backslashreplace")


def has_finished(folder: Path) -> bool:
    """Whether a run's result and its model are there; else its checkpoints can give them again."""
    return (folder / "result.json").is_file() and (folder / "model").is_dir()


def read_result(folder: Path) -> dict[str, Any]:
    """A run's `result.json`; the model is where the run lies now.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise UserError("no result.json: this run has not finished", where=str(folder))
    value = read_json(path, "remove it, and the same command makes it again")
    return value | {"model": str(folder / "model")} if "model" in value else value


def check_same_data(folder: Path, digest: str) -> None:
    """Refuse a run that was made with other data than what has this digest."""
    file = folder / "environment.json"
    data = read_json(file, _ANEW).get("data") if file.is_file() else None
    if not isinstance(data, dict) or "digest" not in data:
        return  # a run of an older kind, which did not say
    if data["digest"] != digest:
        raise UserError(
            "a run on other data lies here",
            where=str(folder),
            mend=_ANEW,
        )


def differing(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> str:
    """The first dotted key in which two configurations differ; empty when they are equal."""
    for key in sorted(set(old) | set(new)):
        here = f"{path}.{key}" if path else key
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if found := differing(a, b, here):
                return found
        elif a != b:
            return here
    return ""


def check_run_folder(folder: Path, config: Section, overwrite: bool) -> None:
    """Refuse a run of another configuration by name, unless it may go.

    Args:
        folder: the run's folder.
        config: what is about to run.
        overwrite: whether an earlier run may go: `clear_run_folder`, once all else is known to be well.

    Raises:
        UserError: another run lies here, or other things; the model to start from, or the data, would go.
    """
    kept = folder / "config.json"
    others = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    if overwrite:
        check_may_go(folder)
        _check_inputs(folder, config)
        return
    if not kept.is_file():
        if others:
            raise UserError(
                f"this folder holds other things ('{sorted(others)[0]}')",
                where=str(folder),
                mend="choose an empty or new --out",
            )
        return
    old = read_json(kept, _ANEW)
    with suppress(ValidationError):  # settings that the run did not know yet: their defaults
        old = type(config).model_validate(old).model_dump(mode="json")
    new = config.model_dump(mode="json")
    _take_free(old)
    _take_free(new)
    if key := differing(old, new):
        mend = (
            "give the same settings to go on with it, --overwrite to start anew, or another --out"
        )
        goes_on = isinstance(config, PretrainConfig) and (folder / "model").is_dir()
        if key.startswith("train.budget") and goes_on:
            mend += f"; or go on from its model: --init {folder} and another --out"
        what = f"a run with another {key} lies here{_told(old, new, key)}"
        raise UserError(what, where=str(folder), mend=mend)


def _take_free(settings: dict[str, Any]) -> None:
    """Take out what may change when a run is resumed.

    Moved data is the same data; its digest is checked later.
    """
    train, data = settings.get("train"), settings.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    taken = [(train, FREE_SETTINGS), (data, ("cache", "train", "dev", "test", "path"))]
    taken += [(source, ("path",)) for source in (sources if isinstance(sources, list) else ())]
    for section, keys in taken:
        if isinstance(section, dict):
            for key in keys:
                section.pop(key, None)


def check_may_go(folder: Path) -> None:
    """Refuse to clear a folder whose `config.json`, `model` and so on are not those of a run of ours.

    Raises:
        UserError: they are somebody's own.
    """
    there = [name for name in (*_FILES, *_FOLDERS) if (folder / name).exists()]
    if there and not is_run(folder):
        what = f"'{there[0]}' here is not a run's, and would be deleted"
        raise UserError(what, where=str(folder), mend="choose an empty or new --out")


def clear_run_folder(folder: Path) -> None:
    """Delete an earlier run; what is none of a run's stays."""
    for name in _FOLDERS:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
    for name in reversed(_FILES):  # the configuration last: stopped before, it is a run still
        (folder / name).unlink(missing_ok=True)


def _check_inputs(folder: Path, config: Section) -> None:
    """Refuse to delete the model that a run starts from or what it reads: it could not go on."""
    start = getattr(config, "init", None) or getattr(config, "model", None)
    if isinstance(start, str | Path):
        place = _place(str(start))
        if place.exists() and place.is_relative_to(folder.resolve()):
            what = "the model to start from lies in the folder that would be overwritten"
            raise UserError(what, where=str(start), mend="choose another --out")
    for path in _paths_read(config.model_dump(mode="json")):
        place = _place(path)
        if any(place.is_relative_to((folder / name).resolve()) for name in (*_FILES, *_FOLDERS)):
            what = "what is to be read lies in the run that would be overwritten"
            raise UserError(what, where=path, mend="choose another --out")


def _paths_read(settings: Mapping[str, Any]) -> Iterator[str]:
    """The files and folders that a configuration names."""
    data, tokenizer = settings.get("data") or {}, settings.get("tokenizer") or {}
    sources = data.get("sources") or ()
    for section, keys in ((data, ("path", "train", "dev", "test")), (tokenizer, ("path",))):
        yield from (section[key] for key in keys if section.get(key))
    yield from (source["path"] for source in sources)


def _place(path: str) -> Path:
    """Where a path leads, up to its first wildcard."""
    known = Path(*itertools.takewhile(lambda part: not set(part) & set("*?["), Path(path).parts))
    with suppress(UserError):  # a `~name` of nobody; reading it says so
        known = expanded(known)
    return known.resolve()


def _told(old: Any, new: Any, key: str) -> str:
    """What a setting was and is, where both are short."""
    values = []
    for side in (old, new):
        for part in key.split("."):
            side = side.get(part) if isinstance(side, Mapping) else None
        values.append(side)
    if not all(isinstance(value, (str, int, float)) and len(str(value)) < 30 for value in values):
        return ""
    was, asked = (f"{x:g}" if isinstance(x, float) else str(x) or "''" for x in values)
    return f" ({was}, and {asked} is asked for)"


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("selfsup", "torch", "numpy", "tokenizers", "safetensors"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def write_environment(folder: Path, data: Mapping[str, Any], loop: Loop) -> None:
    """Write `environment.json`: versions, machine, data fingerprint, git commit."""
    import torch

    write_json(
        folder / "environment.json",
        {
            "versions": versions(),
            "machine": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(loop.device),
            "gpu": torch.cuda.get_device_name(loop.device) if loop.device.type == "cuda" else None,
            "precision": {"name": loop.precision.name, "reason": loop.precision.reason},
            "processes": loop.world,
            "data": dict(data),
            "git_commit": _git_commit(),
        },
    )


def draw_losses(folder: Path, kind: str, unigram: float) -> None:
    """Draw `figures/loss.png` from `metrics.jsonl`, with its numbers as CSV beside it.

    Args:
        folder: the run's.
        kind: of the objective.  For replaced tokens the detection loss is drawn, held out alone, beside
            that of guessing the share of replaced tokens, which changes with the generator.  Else the
            whole loss, of training and held out: with pairs of texts, that of the pairs is in both.
        unigram: for masked tokens, the loss of guessing by word frequency; not drawn with pairs, since
            it knows nothing of them.
    """
    import csv

    lines = read_metrics(folder / "metrics.jsonl")
    detection = kind == "replaced-tokens"
    paired = any("pair_loss" in x for x in lines)
    points = _detection_points(lines) if detection else ((x, x["split"], x["loss"]) for x in lines)
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    series: dict[str, list[tuple[float, float]]] = {"train": [], "heldout": [], "base_rate": []}
    with open(figures / "loss.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["step", "tokens", "seconds", "split", "loss"])
        for x, split, loss in points:
            table.writerow([x["step"], x["tokens"], x["seconds"], split, loss])
            series[split].append((x["tokens"] / 1e6, loss))
    figure, axes = pyplot().subplots(figsize=(7, 4.2), layout="constrained")
    if series["train"]:
        axes.plot(*zip(*series["train"], strict=True), color="#9db7d5", lw=1, label="training")
    if series["heldout"]:
        style: dict[str, Any] = {"color": "#1f4e8c", "marker": "o", "ms": 4}
        axes.plot(*zip(*series["heldout"], strict=True), label="held out", **style)
    guess: dict[str, Any] = {"color": "#b0413e", "ls": "--", "lw": 1}
    if series["base_rate"]:
        label = "guessing the share of replaced tokens"
        axes.plot(*zip(*series["base_rate"], strict=True), label=label, **guess)
    if not detection and not paired:
        axes.axhline(unigram, label="guessing by word frequency", **guess)
    axes.set_xlabel("tokens read (millions)")
    drawn = "loss at the scored places" + (", plus that of the pairs" if paired else "")
    axes.set_ylabel("detection loss (nats)" if detection else f"{drawn} (nats)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save_figure(figure, figures / "loss.png")


_Point = tuple[Mapping[str, Any], str, float]
"""A line of the metrics, the curve that it belongs to, and the loss there."""


def _detection_points(lines: Iterable[Mapping[str, Any]]) -> Iterator[_Point]:
    for x in lines:
        if x["split"] == "heldout":
            yield x, "heldout", x["detection_loss"]
            yield x, "base_rate", x["detection_loss"] - x["detection_excess"]
