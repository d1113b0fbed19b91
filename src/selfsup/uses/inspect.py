"""Looking at what is there: a model, a folder of runs, this machine."""

from __future__ import annotations

import importlib.util
import os
import platform
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfsup.errors import UserError
from selfsup.models.model_folder import read_json
from selfsup.training.metrics import read_metrics
from selfsup.uses.run_folder import read_result, versions

if TYPE_CHECKING:
    from selfsup.models.autoencoder import AutoEncoder
    from selfsup.models.decoder_hub import PretrainedDecoder

_EXTRAS = {
    "data": ["duckdb", "zstandard"],
    "media": ["PIL"],
    "hub": ["huggingface_hub", "datasets"],
    "judge": ["lm_eval", "datasets"],
    "gguf": ["gguf"],
    "tensorboard": ["tensorboard"],
    "bench": ["transformers", "accelerate", "sentence_transformers"],
}


def info(name: str | Path) -> dict[str, Any]:
    """What a model is: architecture, exact parameter counts, size, tokenizer, origin."""
    from selfsup.models.autoencoder import AutoEncoder
    from selfsup.models.decoder_hub import PretrainedDecoder
    from selfsup.models.hub import load
    from selfsup.models.task_hub import head_parameters, is_finetuned
    from selfsup.models.transformer import parameter_count

    opened = load(name)
    if isinstance(opened, PretrainedDecoder):
        return _decoder_info(opened)
    if isinstance(opened, AutoEncoder):
        return _autoencoder_info(opened, name)
    model, tokenizer = opened.model, opened.tokenizer
    total = parameter_count(opened.encoder)
    if model.encoder.pooler is not None and not opened.has_pooler:
        total -= parameter_count(model.encoder.pooler)
    heads = parameter_count(model) - parameter_count(model.encoder) if opened.has_head else 0
    if is_finetuned(opened.path):
        heads = head_parameters(opened.path)
    files = [p for p in opened.path.iterdir() if p.suffix == ".safetensors"]
    return {
        "path": str(opened.path),
        "architecture": opened.architecture,
        "layers": opened.config.num_layers,
        "hidden_size": opened.config.hidden_size,
        "heads": opened.config.num_heads,
        "encoder_parameters": total,
        "encoder_has_pooler": opened.has_pooler,
        "head_parameters": heads,
        "megabytes": round(sum(p.stat().st_size for p in files) / 1e6, 1),
        "max_length": opened.max_length,
        "pooling": opened.pooling,
        "normalized": opened.normalize,
        "vocabulary": tokenizer.vocab_size,
        "special_tokens": [tokenizer.token(i) for i in sorted(tokenizer.special_ids)],
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "origin": _origin(opened.origin),
    }


def _decoder_info(opened: PretrainedDecoder) -> dict[str, Any]:
    from selfsup.models.transformer import parameter_count

    config, tokenizer = opened.config, opened.tokenizer
    files = [p for p in opened.path.iterdir() if p.suffix == ".safetensors"]
    return {
        "path": str(opened.path),
        "architecture": opened.architecture,
        "layers": config.num_layers,
        "hidden_size": config.hidden_size,
        "heads": config.num_heads,
        "key_value_heads": config.kv_heads,
        "parameters": parameter_count(opened.model),
        "embedding_parameters": parameter_count(opened.model.decoder.embeddings),
        "output_tied": config.tied,
        "megabytes": round(sum(p.stat().st_size for p in files) / 1e6, 1),
        "max_length": config.max_length,
        "vocabulary": tokenizer.vocab_size,
        "special_tokens": [tokenizer.token(i) for i in sorted(tokenizer.special_ids)],
        "ends_a_text": [tokenizer.token(i) for i in sorted(opened.end_ids)],
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "origin": _origin(opened.origin),
    }


def _autoencoder_info(model: AutoEncoder, name: str | Path) -> dict[str, Any]:
    from selfsup.models.transformer import parameter_count

    return {
        "path": str(name),
        "architecture": "AutoEncoder",
        "network": model.config.network.kind,
        "reads": " x ".join(map(str, model.input_shape)),
        "bottleneck": model.config.bottleneck.model_dump(),
        "likelihood": model.config.likelihood,
        "parameters": parameter_count(model),
        "encoder_parameters": parameter_count(model.encoder),
    }


def _origin(kept: dict[str, Any]) -> Any:
    return {k: v for k, v in kept.items() if k != "model"} or "not made by selfsup (or not said)"


def runs(folder: str | Path) -> list[dict[str, Any]]:
    """One line for every run below a folder, newest first.

    The held-out loss of a finished run is that of `result.json`, which the delivered weights have; of
    another it is the last of its metrics.  A run whose files cannot be read is said to be damaged.
    """
    top = Path(folder)
    if not top.is_dir():
        raise UserError("no such folder", where=str(top))
    rows = []
    for path in sorted(top.rglob("metrics.jsonl")):
        run = path.parent
        try:
            said = _said(run)
        except (UserError, KeyError, TypeError, ValueError, AttributeError):
            said = {**dict.fromkeys(_SAID), "recipe": "", "state": "damaged"}
        name = str(run.relative_to(top)) if run != top else str(run)
        rows.append({"run": name, **said, "changed": _moment(path.stat().st_mtime)})
    rows.sort(key=lambda row: str(row["changed"]), reverse=True)
    return rows


_SAID = ("recipe", "state", "step", "tokens", "minutes", "heldout_loss", "best_loss")


def _said(run: Path) -> dict[str, Any]:
    """What a run's files say of it."""
    lines = read_metrics(run / "metrics.jsonl")
    heldout = [float(x["loss"]) for x in lines if x.get("split") == "heldout"]
    config = run / "config.json"
    settings = read_json(config) if config.is_file() else {}
    last = lines[-1] if lines else {}
    finished = (run / "result.json").is_file()
    return {
        "recipe": str(settings.get("recipe") or settings.get("task", "")),
        "state": "finished" if finished else "unfinished",
        "step": last.get("step", 0),
        "tokens": int(last.get("tokens", 0)),
        "minutes": round(last.get("seconds", 0.0) / 60, 1),
        "heldout_loss": (_delivered(run) if finished else None)
        or (heldout[-1] if heldout else None),
        "best_loss": min(heldout, default=None),
    }


def _delivered(run: Path) -> float | None:
    """The held-out loss of the weights that a finished run delivered, where its result says it."""
    result = read_result(run)
    scores = result.get("heldout") or result.get("dev")
    loss = scores.get("loss") if isinstance(scores, dict) else None
    return float(loss) if isinstance(loss, int | float) else None


def _moment(seconds: float) -> str:
    """A time as `2026-11-24 10:40:03`, of this machine's zone."""
    return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")


def doctor() -> dict[str, Any]:
    """Versions, cores, what bf16 gives here, and which extras are installed."""
    import torch

    from selfsup.data.home import home
    from selfsup.nn.device import choose_device
    from selfsup.training.devices import choose_precision, product_rate

    device = choose_device("auto")
    precision = choose_precision("auto", device)
    rates = {
        name: round(product_rate(device, kind) / 1e9, 1)
        for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    extras = {
        name: [m for m in modules if importlib.util.find_spec(m) is None]
        for name, modules in _EXTRAS.items()
    }
    return {
        "versions": versions(),
        "machine": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "matrix_product_gflops": rates,
        "precision_auto": f"{precision.name}: {precision.reason}",
        "extras": {
            name: "here" if not missing else f"missing: {', '.join(missing)}"
            for name, missing in extras.items()
        },
        "cache": str(home()),
    }
