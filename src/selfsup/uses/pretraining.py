"""Pre-training from a folder of text to a model: the steps in order, one owner for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.config import PretrainConfig
from selfsup.config_base import check_config
from selfsup.data.sources import find_files
from selfsup.errors import UserError
from selfsup.models.transformer import parameter_count
from selfsup.nn.device import choose_device
from selfsup.recipes import training_flops
from selfsup.training import checkpoints, distributed
from selfsup.training.lock import locked
from selfsup.training.loop import Loop
from selfsup.training.progress import Progress, clock
from selfsup.training.signals import told_how_to_go_on
from selfsup.training.state import Outcome
from selfsup.uses.autoencoding import train_autoencoder
from selfsup.uses.kinds import (
    AnyModel,
    build_model,
    conclusion,
    kept_part,
)
from selfsup.uses.model_cards import model_card
from selfsup.uses.preparing import Prepared, prepare, read_corpus
from selfsup.uses.run_folder import (
    FREE_SETTINGS,
    check_run_folder,
    check_same_data,
    clear_run_folder,
    draw_losses,
    has_finished,
    read_result,
    write_environment,
    write_json,
)


def _check_finished(config: PretrainConfig, folder: Path, display: Progress) -> None:
    """Refuse a finished run of other data.  Where the data are gone there is nothing to compare with."""
    try:
        for source in config.data.sources:
            find_files(source)
    except UserError:
        return
    corpus = read_corpus(config, display)[2]
    check_same_data(folder, str(corpus.meta["digest"]))


def make_loop(prepared: Prepared, model: AnyModel, folder: Path | None, quiet: bool) -> Loop:
    """The loop over a prepared corpus."""
    config = prepared.config
    return Loop(
        model,
        prepared.objective,
        prepared.sampler,
        config.train,
        seed=config.seed,
        folder=folder,
        matrices=[n for n, p in model.named_parameters() if ".blocks." in n and p.ndim == 2],
        evaluation=prepared.evaluation,
        flops_per_token=training_flops(config),
        fingerprint=_fingerprint(prepared),
        quiet=quiet,
        title=config.recipe or "pretrain",
    )


def _fingerprint(prepared: Prepared) -> str:
    settings = prepared.config.model_dump(mode="json")
    for key in FREE_SETTINGS:
        settings["train"].pop(key)
    settings["data"].pop("cache")
    if not settings["data"]["short"]:  # what began before there was this setting goes on
        settings["data"].pop("short")
    if settings["tokenizer"].get("strip_accents") == "auto":
        settings["tokenizer"].pop("strip_accents")
    for source in settings["data"]["sources"]:
        source.pop("path")  # moved data is the same data: the digest says so
    text = json.dumps(settings, sort_keys=True)
    text += str(prepared.corpus.meta["digest"]) + prepared.tokenizer.fingerprint
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pretrain(
    config: PretrainConfig | AutoEncoderConfig,
    out: str | Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Pre-train a model on unlabelled text, or an auto-encoder on images or tables.

    Running it again with the same arguments goes on from the last checkpoint, or gives the result
    of a run that has finished.

    Args:
        config: from a recipe (`selfsup.recipes.get`, `selfsup.autoencoder_recipes.get`) or a file.
        out: the run's folder.
        overwrite: start anew where a run lies already.
        quiet: print nothing.

    Returns:
        What `result.json` holds: held-out loss and accuracy, beside those of the untrained network
        and of guessing without reading; tokens, minutes, speed, and where the model lies.  Of an
        auto-encoder: as `train_autoencoder` says.

    Raises:
        UserError: bad data or configuration, or a folder that another run uses.
        Interrupted: stopped by Ctrl-C or SIGTERM, after saving.
    """
    if isinstance(config, AutoEncoderConfig):
        return train_autoencoder(config, out, overwrite=overwrite, quiet=quiet)
    check_config(config, PretrainConfig, "`selfsup.recipes.get(NAME)`")
    choose_device(config.train.device)
    folder = Path(out)
    if config.train.processes > 1 and not distributed.launched():
        with told_how_to_go_on(overwrite):
            return _launch(config, folder, overwrite, quiet)
    device = "cuda" if torch.cuda.is_available() and config.train.device != "cpu" else "cpu"
    distributed.join(device)
    try:
        with ExitStack() as stack:
            stack.enter_context(told_how_to_go_on(overwrite))
            if distributed.rank() == 0:
                stack.enter_context(locked(folder))
                check_run_folder(folder, config, overwrite)
            distributed.wait()
            return _pretrain(config, folder, overwrite, quiet or distributed.rank() > 0)
    finally:
        distributed.leave()


def _launch(config: PretrainConfig, folder: Path, overwrite: bool, quiet: bool) -> dict[str, Any]:
    prepare(config, Progress(quiet=True, title=""))  # once, and its errors belong to this process
    distributed.launch(config.train.processes, _worker, config, folder, overwrite, quiet)
    return read_result(folder)


def _worker(config: PretrainConfig, folder: Path, overwrite: bool, quiet: bool) -> None:
    pretrain(config, folder, overwrite=overwrite, quiet=quiet)


def _pretrain(config: PretrainConfig, folder: Path, overwrite: bool, quiet: bool) -> dict[str, Any]:
    display = Progress(quiet=quiet, title="")
    try:
        finished = not overwrite and has_finished(folder)
        if distributed.rank() == 0:
            if finished:
                _check_finished(config, folder, display)
            else:
                prepared = prepare(config, display)
        if finished:
            display.say(f"{folder} has finished already; --overwrite starts anew")
            return read_result(folder)
        distributed.wait()
        if distributed.rank() > 0:
            prepared = prepare(config, display)
        model = build_model(prepared.config)
        if overwrite and distributed.rank() == 0:  # not before: the new one can be trained
            clear_run_folder(folder)
        distributed.wait()
        loop = make_loop(prepared, model, folder, quiet)
        _announce(prepared, loop, model, display)
        if distributed.rank() == 0:
            write_json(folder / "config.json", config.model_dump(mode="json"))
            write_environment(folder, prepared.corpus.meta, loop)
    finally:
        display.close()
    outcome = loop.run()
    if config.objective.kind != "replaced-tokens":
        # a detection loss rises as its generator gets better: there the last weights count
        loop.take_best()
    result = _result(prepared, model, outcome, folder)
    if distributed.rank() == 0:
        _deliver(prepared, model, outcome, result, folder)
    distributed.wait()
    return result


def _announce(prepared: Prepared, loop: Loop, model: AnyModel, display: Progress) -> None:
    config = prepared.config
    kept = parameter_count(kept_part(model))
    beside = parameter_count(model) - kept
    display.say(
        f"model: {config.model.num_layers} layers x {config.model.hidden_size}, "
        f"{kept:,} parameters{f' (and {beside:,} for training only)' if beside else ''}, "
        f"vocabulary {config.model.vocab_size:,}; "
        f"{loop.device}, {loop.precision.name} ({loop.precision.reason})"
    )
    display.say(
        f"training for {config.train.budget}, {config.train.batch_size} rows of "
        f"{config.data.length} tokens a step ({prepared.train.fill():.1%} filled), "
        f"{config.train.optimizer.kind}"
    )


def _result(prepared: Prepared, model: AnyModel, outcome: Outcome, folder: Path) -> dict[str, Any]:
    state = outcome.state
    return {
        "kind": "pretrain",
        "recipe": prepared.config.recipe,
        "parameters": parameter_count(kept_part(model)),
        "steps": state.step,
        "tokens": state.tokens,
        "epochs": round(state.step * prepared.config.train.batch_size / len(prepared.sampler), 3),
        "minutes": round(state.seconds / 60, 3),
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "share_of_peak": round(outcome.share_of_peak, 4),
        "precision": outcome.precision.name,
        "heldout": state.heldout,
        "best_loss": state.best if state.best_step >= 0 else None,
        "best_step": state.best_step,
        "untrained": state.initial,
        **conclusion(prepared.config.objective, state.heldout, prepared.baseline),
        "model": str(folder / "model"),
    }


def _deliver(
    prepared: Prepared,
    model: AnyModel,
    outcome: Outcome,
    result: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write the model, the figure and the result."""
    from selfsup.models.hub import save_model

    origin = {
        "recipe": prepared.config.recipe,
        "steps": outcome.state.step,
        "tokens": outcome.state.tokens,
        "minutes": result["minutes"],
        "heldout": dict(outcome.state.heldout),
        "data_digest": prepared.corpus.meta["digest"],
        "length": prepared.config.data.length,
    }
    with checkpoints.written_whole(folder / "model") as new:
        card = model_card(prepared.config, result)
        save_model(new, kept_part(model), prepared.tokenizer, origin, card)
    draw_losses(folder, prepared.config.objective.kind, prepared.baseline[0])
    write_json(folder / "result.json", dict(result))


def dry_run(config: PretrainConfig) -> dict[str, Any]:
    """Build everything, take a few steps, and estimate memory and time; writes no run.

    Returns:
        Parameters, seconds for a step, tokens/s, peak memory in megabytes, and the estimated
        minutes (or, for a budget in minutes, steps and tokens).
    """
    import resource
    import time

    prepared = prepare(config, Progress(quiet=True, title=""))
    model = build_model(prepared.config)
    loop = make_loop(prepared, model, None, True)
    loop.model.train()
    seconds, tokens = [], 0
    for _ in range(3):
        started = time.perf_counter()
        _, tokens = loop.step()
        seconds.append(time.perf_counter() - started)
    step = min(seconds)
    budget = config.train.budget
    steps = {
        "steps": budget.amount,
        "tokens": budget.amount / tokens,
        "minutes": budget.amount * 60 / step,
    }[budget.unit]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if loop.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(loop.device) / 2**20
    return {
        "kind": "dry-run",
        "parameters": parameter_count(model),
        "precision": f"{loop.precision.name}: {loop.precision.reason}",
        "seconds_per_step": round(step, 4),
        "tokens_per_second": round(tokens / step, 1),
        "peak_megabytes": round(peak),
        "estimated_steps": round(steps),
        "estimated_tokens": round(steps * tokens),
        "estimated_time": clock(steps * step),
        "epochs": round(steps * config.train.batch_size / len(prepared.sampler), 2),
    }
