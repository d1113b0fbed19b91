"""Fine-tuning: from a pre-trained encoder and labelled files to a model that answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from selfsup.config_base import check_config
from selfsup.data.sampler import Sampler
from selfsup.data.tokenizer_frames import for_encoder
from selfsup.errors import UserError
from selfsup.finetune_config import FinetuneConfig, with_budget
from selfsup.models.checkpoint_names import family
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.models.task_hub import architecture, save_finetuned
from selfsup.models.task_model import (
    HeadSpec,
    Pooling,
    TaskModel,
    scratch_task_model,
    start_task_model,
)
from selfsup.nn.device import choose_device
from selfsup.nn.lora import add_lora, merge_lora
from selfsup.tasks.answers import SpanCollector, SpanSet
from selfsup.tasks.judge import Judge, read_answers
from selfsup.tasks.reading import Parts, read_parts
from selfsup.tasks.task import AnySet, Examples, TaskInfo, make_set, set_notes
from selfsup.train_config import TrainConfig
from selfsup.training import checkpoints
from selfsup.training.lock import locked
from selfsup.training.loop import Loop
from selfsup.training.progress import Progress
from selfsup.training.signals import told_how_to_go_on
from selfsup.training.state import Outcome
from selfsup.uses.model_cards import task_card
from selfsup.uses.run_folder import (
    FREE_SETTINGS,
    check_run_folder,
    clear_run_folder,
    has_finished,
    read_result,
    write_environment,
    write_json,
)


@dataclass(frozen=True)
class Sets:
    """A task's examples, ready for one encoder."""

    info: TaskInfo
    train: AnySet
    dev: AnySet | None
    """What chooses the weights; None: nothing is looked at before the end."""
    test: AnySet | None


def make_sets(parts: Parts, pretrained: Pretrained) -> Sets:
    """Tokenize a task's parts for an encoder.  Classes weigh in training alone."""
    types, tokenizer = pretrained.config.type_vocab_size > 1, pretrained.tokenizer
    info = parts.info
    train = make_set(tokenizer, parts.train, info, types=types, weights=parts.weights)
    dev = make_set(tokenizer, parts.dev, info, types=types)
    test = parts.test and make_set(tokenizer, parts.test, info, types=types)
    return Sets(info, train, dev, test or None)


def head_spec(config: FinetuneConfig, pretrained: Pretrained, info: TaskInfo) -> HeadSpec:
    """The head that a configuration means for an encoder.

    Raises:
        UserError: a pooler or a dense layer is asked for that the encoder does not have.
    """
    chosen = config.head
    pooling: Pooling = "mean" if chosen.pooling == "auto" else chosen.pooling
    if pooling == "pooler" and pretrained.encoder.pooler is None:
        what = "this encoder has no pooler"
        raise UserError(what, where="head.pooling", mend="use mean or cls")
    if chosen.dense == "pretrained" and not pretrained.has_head:
        what = "this encoder has no head whose dense layer could be kept"
        raise UserError(what, where="head.dense", mend="use none")
    modern = family(pretrained.config) == "modernbert" and pretrained.has_head
    dense = chosen.dense == "pretrained" or (chosen.dense == "auto" and modern)
    unit: Literal["sequence", "token"] = (
        "sequence" if info.answer in {"class", "number"} else "token"
    )
    return HeadSpec(unit, info.outputs, pooling, dense, chosen.dropout)


def check_rank(config: FinetuneConfig, pretrained: Pretrained) -> None:
    """Refuse low-rank factors that are wider than what they adapt.

    Raises:
        UserError: they are.
    """
    rank, width = config.lora.rank, pretrained.config.hidden_size
    if rank > width:
        what = f"rank {rank:,} is more than this encoder's width, {width:,}"
        raise UserError(what, where="--lora", mend="a rank from 4 to 64 is usual")


def start_model(
    config: FinetuneConfig, pretrained: Pretrained, info: TaskInfo, seed: int
) -> TaskModel:
    """The model before its first step."""
    spec = head_spec(config, pretrained, info)
    start = scratch_task_model if config.scratch else start_task_model
    model = start(pretrained.model, spec, seed)
    if config.frozen:
        model.encoder.requires_grad_(False)
    elif config.lora.rank:
        lora = config.lora
        add_lora(model.encoder, lora.rank, lora.alpha, lora.targets, seed)
    return model


@dataclass(frozen=True)
class Fitted:
    """A model that was trained on a task, and how that went."""

    model: TaskModel
    outcome: Outcome
    loop: Loop
    """Its optimizers hold token vectors that the model no longer has: it has finished."""
    train: TrainConfig
    trained: int
    """Parameters that could move: of token vectors those that the training texts use."""

    @property
    def scores(self) -> dict[str, float]:
        """On the dev part, of the weights that were kept."""
        return self.outcome.state.heldout


def fit(
    config: FinetuneConfig,
    start: Pretrained | TaskModel,
    sets: Sets,
    *,
    seed: int,
    folder: Path | None = None,
    fingerprint: str = "",
    quiet: bool = True,
    title: str = "finetune",
) -> Fitted:
    """Train on a task's training part and keep the weights that the configuration asks for.

    The one way to fine-tune: the command, the GLUE sweep and the studies call it.

    Args:
        config: settings; its `data` is not looked at.
        start: an encoder, which is left as it is, or what `start_model` made of it.
        sets: the examples.
        seed: of the head, the order and dropout.
        folder: a run folder, for resuming; None keeps nothing on disk.
        fingerprint: what a checkpoint must have been made with.
        quiet, title: of the progress bar.
    """
    model = start
    if not isinstance(model, TaskModel):
        model = start_model(config, model, sets.info, seed)
    texts = sets.train.objective.ids
    model.train_met_rows(texts)
    count = len(texts)
    train = with_budget(config, count, model.encoder.config.hidden_size)
    trained = sum(p.numel() for p in model.used_parameters().values() if p.requires_grad)
    loop = Loop(
        model,
        sets.train.objective,
        Sampler([count], [1.0], seed),
        train,
        seed=seed,
        folder=folder,
        matrices=[n for n, p in model.named_parameters() if ".blocks." in n and p.ndim == 2],
        evaluation=Judge(sets.dev) if sets.dev is not None else None,
        fingerprint=fingerprint,
        quiet=quiet,
        title=title,
    )
    outcome = loop.run()
    if config.select == "best":
        loop.take_best()
    model.train_all_rows()
    return Fitted(model, outcome, loop, train, trained)


def choose_threshold(sets: Sets, fitted: Fitted) -> Sets:
    """Choose on dev when to give no answer; the dev scores become those with it."""
    assert isinstance(sets.dev, SpanSet)
    loop = fitted.loop
    collector, loss = read_answers(fitted.model, sets.dev, loop.device, loop.precision)
    assert isinstance(collector, SpanCollector)
    threshold = collector.best_threshold()
    info = sets.info.model_copy(update={"null_threshold": threshold})
    dev, test = replace(sets.dev, null_threshold=threshold), sets.test
    if isinstance(test, SpanSet):
        test = replace(test, null_threshold=threshold)
    collector.decoder.null_threshold = threshold
    fitted.outcome.state.heldout = {"loss": loss, **collector.scores()}
    return Sets(info, sets.train, dev, test)


def deliverable(model: TaskModel, info: TaskInfo) -> tuple[TaskModel, TaskInfo]:
    """Fold low-rank updates and the numbers' scale into the weights; the model then stands alone."""
    merge_lora(model)
    if info.answer == "number":
        mean, spread = info.scale
        with torch.no_grad():
            model.output.weight.mul_(spread)
            model.output.bias.mul_(spread).add_(mean)
        info = info.model_copy(update={"scale": (0.0, 1.0)})
    return model, info


def finetune(
    config: FinetuneConfig, out: str | Path, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Fine-tune a pre-trained encoder on labelled files.

    Running it again with the same arguments goes on from the last checkpoint, or gives the result
    of a run that has finished.

    Args:
        config: model, task, files and settings.
        out: the run's folder.
        overwrite: start anew where a run lies already.
        quiet: print nothing.

    Returns:
        What `result.json` holds: the scores on dev (by which the weights were chosen) and, where a
        test file was given, on test (which chose nothing).

    Raises:
        UserError: bad data or configuration, or a folder that another run uses.
        Interrupted: stopped by Ctrl-C or SIGTERM, after saving.
    """
    check_config(config, FinetuneConfig, "`selfsup.FinetuneConfig(model=…, task=…, data=…)`")
    choose_device(config.train.device)
    folder = Path(out)
    with told_how_to_go_on(overwrite), locked(folder):
        check_run_folder(folder, config, overwrite)
        display = Progress(quiet=quiet, title="")
        try:
            return _finetune(config, folder, overwrite, display, quiet)
        finally:
            display.close()


def _finetune(
    config: FinetuneConfig, folder: Path, overwrite: bool, display: Progress, quiet: bool
) -> dict[str, Any]:
    pretrained = load_encoder(config.model)
    check_rank(config, pretrained)
    display.say_reading(config.data.train)
    parts = read_parts(config, pretrained.max_length)
    key = fingerprint(depends_on(config, pretrained, parts.train, parts.dev, parts.test or ()))
    if not overwrite and has_finished(folder):
        if (result := read_result(folder)).get("fingerprint") != key:
            what = "a run of other labelled data or another model lies here"
            mend = "--overwrite starts anew, or choose another --out"
            raise UserError(what, where=str(folder), mend=mend)
        display.say(f"{folder} has finished already; --overwrite starts anew")
        return result
    sets = make_sets(parts, pretrained)
    if config.head.pooling == "pooler" and not (pretrained.has_pooler or config.scratch):
        parts.notes.add("this encoder's pooler was never trained: it starts from random weights")
    _announce(config, parts, sets, display)
    head_spec(config, pretrained, sets.info)  # what does not fit leaves no run behind
    if overwrite:
        clear_run_folder(folder)
    write_json(folder / "config.json", config.model_dump(mode="json"))
    start = start_model(config, pretrained, sets.info, config.seed)
    named = architecture(family(pretrained.config), start.spec, sets.info.answer)
    tokenizer = for_encoder(pretrained.tokenizer)
    del pretrained  # its weights were copied, and would take their memory as long as training does
    fitted = fit(
        config,
        start,
        sets,
        seed=config.seed,
        folder=folder,
        fingerprint=key,
        quiet=quiet,
    )
    if sets.info.nullable:
        sets = choose_threshold(sets, fitted)
    write_environment(folder, {"task": sets.info.model_dump(mode="json")}, fitted.loop)
    test = _on_test(sets, fitted)
    model, info = deliverable(fitted.model, sets.info)
    result = _result(config, sets, fitted) | test
    if notes := told(parts, sets):
        result["notes"] = notes
    with checkpoints.written_whole(folder / "model") as new:
        save_finetuned(
            new,
            model,
            tokenizer,
            answer=info.answer,
            labels=info.labels,
            task=info.model_dump(mode="json"),
            max_length=info.reads,
            origin={"started_from": "random weights" if config.scratch else str(config.model)},
            card=task_card(config, info.answer, info.labels, result, named),
        )
    write_json(
        folder / "result.json", {**result, "model": str(folder / "model"), "fingerprint": key}
    )
    return read_result(folder)


def _on_test(sets: Sets, fitted: Fitted) -> dict[str, Any]:
    """The scores of the test file, where one was given, under `test`."""
    if sets.test is None:
        return {}
    loop = fitted.loop
    collector, loss = read_answers(fitted.model, sets.test, loop.device, loop.precision, keep=False)
    return {"test": {"loss": loss, **collector.scores()}}


def _announce(config: FinetuneConfig, parts: Parts, sets: Sets, display: Progress) -> None:
    info = sets.info
    kinds = f"{len(info.labels)} classes: {', '.join(info.labels[:12])}" if info.labels else ""
    kinds += " …" if len(info.labels) > 12 else ""
    test = f", {len(parts.test):,} to test" if parts.test else ""
    display.say(
        f"{info.kind}: {len(parts.train):,} examples to learn from, {len(parts.dev):,} to choose by"
        f"{test}" + (f"; {kinds}" if kinds else "")
    )
    for line in told(parts, sets):
        display.say(line)
    if config.scratch:
        display.say("starting from random weights")


def told(parts: Parts, sets: Sets) -> list[str]:
    """What a person should know about the data: of reading the files and of tokenizing."""
    notes = list(parts.notes.lines)
    for name, part in (("training", sets.train), ("dev", sets.dev), ("test", sets.test)):
        notes += set_notes(part, sets.info, name) if part is not None else []
    return notes


def depends_on(config: FinetuneConfig, pretrained: Pretrained, *parts: Examples) -> dict[str, Any]:
    """Everything that a fine-tuning's numbers depend on; files and models by what they hold."""
    settings = config.model_dump(mode="json", exclude={"model"})
    for key in FREE_SETTINGS:
        settings["train"].pop(key)
    for key in ("train", "dev", "test"):
        settings["data"].pop(key)
    return {**settings, "model": pretrained.digest, "labelled examples": examples_digest(*parts)}


def examples_digest(*parts: Examples) -> str:
    """16 hexadecimal digits of what examples say, wherever their files lie."""
    found = hashlib.sha256()
    for part in parts:
        for example in part:
            fields: dict[str, Any] = {k: v for k, v in vars(example).items() if k != "where"}
            found.update(repr(sorted(fields.items())).encode(errors="surrogatepass"))
        found.update(b"\0")
    return found.hexdigest()[:16]


def fingerprint(dependencies: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of settings."""
    return hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()[:16]


def _result(config: FinetuneConfig, sets: Sets, fitted: Fitted) -> dict[str, Any]:
    """What is said of a run; the model is in its delivered shape by now."""
    state = fitted.outcome.state
    return {
        "kind": "finetune",
        "task": sets.info.kind,
        "started_from": "random weights" if config.scratch else str(config.model),
        "labels": list(sets.info.labels),
        "examples": len(sets.train),
        "parameters": sum(p.numel() for p in fitted.model.used_parameters().values()),
        "trained_parameters": fitted.trained,
        "steps": state.step,
        "epochs": round(state.step * fitted.train.batch_size / len(sets.train.objective.ids), 2),
        "learning_rate": fitted.loop.optimizers[-1].param_groups[0]["peak_lr"],
        "minutes": round(state.seconds / 60, 3),
        "precision": fitted.outcome.precision.name,
        "select": config.select,
        "chosen_by": sets.info.main,
        "chosen_step": state.best_step if config.select == "best" else state.step,
        "dev": state.heldout,
        "untrained": state.initial,
    }
