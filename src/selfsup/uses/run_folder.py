"""A run's folder: what lies in it, and when it may be used again."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from selfsup.config import PretrainConfig
from selfsup.errors import UserError
from selfsup.models.checkpoint_names import family
from selfsup.training.loop import Loop
from selfsup.training.metrics import read_metrics


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside and rename, so that the file is never half there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_result(folder: Path) -> dict[str, Any]:
    """A run's `result.json`."""
    path = folder / "result.json"
    if not path.is_file():
        raise UserError("no result.json: this run has not finished", where=str(folder))
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


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


def check_run_folder(
    folder: Path, config: PretrainConfig, free: Collection[str], overwrite: bool
) -> None:
    """Empty the folder when `overwrite`; else refuse a run of another configuration by name.

    Args:
        folder: the run's folder.
        config: what is about to run.
        free: keys of `train` that may differ.
        overwrite: whether an earlier run may go.
    """
    kept = folder / "config.json"
    others = [p.name for p in folder.iterdir() if p.name != ".lock"]
    if overwrite:
        known = {"config.json", "environment.json", "metrics.jsonl", "result.json"}
        for name in others:
            if name in known:
                (folder / name).unlink()
            elif name in {"checkpoints", "model", "figures", "tensorboard"}:
                shutil.rmtree(folder / name)
        return
    if not kept.is_file():
        if others:
            raise UserError(
                f"this folder holds other things ('{sorted(others)[0]}')",
                where=str(folder),
                mend="choose an empty or new --out",
            )
        return
    try:
        old = json.loads(kept.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        raise UserError("not valid JSON", where=str(kept), mend="use --overwrite") from None
    new = config.model_dump(mode="json")
    for side in (old, new):
        for key in free:
            side.get("train", {}).pop(key, None)
        side.get("data", {}).pop("cache", None)
        for source in side.get("data", {}).get("sources", ()):
            source.pop(
                "path", None
            )  # moved data is the same data; its digest is checked on resuming
    if key := differing(old, new):
        raise UserError(
            f"a run with another {key} lies here",
            where=str(folder),
            mend="give the same settings to go on with it, --overwrite to start anew, or another --out",
        )


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


def draw_losses(folder: Path, unigram: float) -> None:
    """Draw `figures/loss.png` from `metrics.jsonl`, with its numbers as CSV beside it."""
    import csv

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    lines = read_metrics(folder / "metrics.jsonl")
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    series: dict[str, list[tuple[float, float]]] = {"train": [], "heldout": []}
    with open(figures / "loss.csv", "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["step", "tokens", "seconds", "split", "loss"])
        for x in lines:
            loss = x.get("masked_loss", x["loss"])
            table.writerow([x["step"], x["tokens"], x["seconds"], x["split"], loss])
            series[x["split"]].append((x["tokens"] / 1e6, loss))
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    if series["train"]:
        axes.plot(*zip(*series["train"], strict=True), color="#9db7d5", lw=1, label="training")
    if series["heldout"]:
        style: dict[str, Any] = {"color": "#1f4e8c", "marker": "o", "ms": 4}
        axes.plot(*zip(*series["heldout"], strict=True), label="held out", **style)
    axes.axhline(unigram, color="#b0413e", ls="--", lw=1, label="guessing by word frequency")
    axes.set_xlabel("tokens read (millions)")
    axes.set_ylabel("loss at the scored places (nats)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(figures / "loss.png", dpi=130)
    plt.close(figure)


def model_card(config: PretrainConfig, result: Mapping[str, Any]) -> str:
    """A model card, Markdown."""
    model = config.model
    scores = "\n".join(
        f"| {name} | {row.get('masked_loss', math.nan):.3f} | {row.get('masked_accuracy', math.nan):.3f} |"
        for name, row in (
            ("this model", result["heldout"]),
            ("before training", result["untrained"]),
            ("guessing by word frequency", result["unigram"]),
        )
    )
    elsewhere = ""
    if family(model):
        elsewhere = (
            ", with `transformers.AutoModelForMaskedLM` or\n"
            "`sentence_transformers.SentenceTransformer` (mean pooling)"
        )
    sources = "\n".join(f"- `{s.path}` (weight {s.weight:g})" for s in config.data.sources)
    return f"""---
library_name: selfsup
pipeline_tag: fill-mask
---

# {config.recipe or "masked language model"}

A masked language model with {result["parameters"]:,} parameters ({model.num_layers} layers x
{model.hidden_size}, vocabulary {model.vocab_size:,}), pre-trained from random weights with `selfsup`.

| | held-out loss (nats) | accuracy |
| --- | --- | --- |
{scores}

Measured on documents that were never trained on, 15 % of the tokens hidden by a fixed key.

Training: {result["steps"]:,} steps, {result["tokens"]:,} tokens ({result["epochs"]} epochs),
{result["minutes"]} minutes, {result["precision"]}, {config.train.optimizer.kind}.

Data:

{sources}

Open it with `selfsup fill` and `selfsup embed`{elsewhere}.  It repeats what its data says, right or
wrong.
"""
