"""Pre-training from a folder of text to a model: the steps in order, one owner for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.config import PretrainConfig
from selfsup.config_base import check_config
from selfsup.data.corpus import Corpus, data_fingerprint, prepare_corpus, training_sample
from selfsup.data.home import home
from selfsup.data.rows import PackedRows, check_enough
from selfsup.data.sampler import Sampler
from selfsup.data.sources import find_files
from selfsup.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from selfsup.data.unknown import known_letters
from selfsup.errors import UserError
from selfsup.models.transformer import parameter_count
from selfsup.objectives.masked_tokens import unigram_baseline
from selfsup.recipes import training_flops
from selfsup.training import checkpoints, distributed
from selfsup.training.evaluation import HELDOUT_KEY, Evaluation
from selfsup.training.lock import locked
from selfsup.training.loop import Loop
from selfsup.training.progress import Progress, clock
from selfsup.training.state import Outcome
from selfsup.uses.autoencoding import train_autoencoder
from selfsup.uses.kinds import (
    AnyModel,
    AnyObjective,
    build_model,
    build_objective,
    conclusion,
    floor,
    framed,
    hidden_tokens,
    kept_part,
    row_overhead,
    start_of,
)
from selfsup.uses.run_folder import (
    FREE_SETTINGS,
    check_run_folder,
    check_same_data,
    draw_losses,
    model_card,
    read_result,
    write_environment,
    write_json,
)

_MIX_SEED = 0
_ALPHABET_MEGABYTES = 5.0
_MUCH_UNKNOWN = 0.01
_MOST_UNKNOWN = 0.5


@dataclass(frozen=True)
class Prepared:
    """What training needs beside the loop."""

    config: PretrainConfig
    tokenizer: Tokenizer
    corpus: Corpus
    train: PackedRows
    objective: AnyObjective
    evaluation: Evaluation
    sampler: Sampler
    baseline: tuple[float, float]
    """Held-out loss and accuracy of guessing hidden tokens from word frequencies alone."""


def get_tokenizer(config: PretrainConfig, display: Progress) -> Tokenizer:
    """Load or train the tokenizer; a trained one is kept, by data and settings, for the next run."""
    chosen = config.tokenizer
    if chosen.kind == "file":
        return load_tokenizer(Path(chosen.path), chosen.lowercase)
    if chosen.kind == "symbols" and chosen.alphabet:
        return train_tokenizer(chosen, (), None)
    name = hashlib.sha256(
        (data_fingerprint(config.data) + chosen.model_dump_json()).encode()
    ).hexdigest()[:16]
    folder = home() / "tokenizers" / name
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    if chosen.kind == "symbols":
        display.say("looking for the letters of the alphabet")
        megabytes = _ALPHABET_MEGABYTES
    else:
        display.say(
            f"training the tokenizer ({chosen.kind}, at most {chosen.vocab_size:,} entries)"
        )
        megabytes = chosen.sample_megabytes
    texts = training_sample(config.data, megabytes)
    tokenizer = train_tokenizer(chosen, texts, _counter(display, "reading for the tokenizer"))
    with checkpoints.written_whole(folder) as new:
        tokenizer.save(new)
    return tokenizer


def _counter(display: Progress, what: str) -> Callable[[int], None]:
    """Shows how many characters were handled so far."""
    done = 0

    def add(characters: int) -> None:
        nonlocal done
        done += characters
        display.count(what, done / 1e6, "million characters")

    return add


def _read(config: PretrainConfig, display: Progress) -> tuple[PretrainConfig, Tokenizer, Corpus]:
    """The tokenizer and the corpus, and the configuration with what `init` settles."""
    if not config.data.sources:
        raise UserError("no data given", mend="--data FILE, FOLDER or 'GLOB'")
    if config.init:
        tokenizer, shape = start_of(config)
        try:
            value = {**config.model_dump(), "model": shape.model_dump()}
            config = PretrainConfig.model_validate(value)
        except ValidationError as error:
            why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            what = f"its shape does not fit these settings: {why}"
            raise UserError(what, where=f"--init {config.init}") from None
    else:
        tokenizer = framed(get_tokenizer(config, display), config.objective)
    corpus = prepare_corpus(config.data, tokenizer, progress=_counter(display, "tokenizing"))
    return config, tokenizer, corpus


def _check_finished(config: PretrainConfig, folder: Path, display: Progress) -> None:
    """Refuse a finished run of other data.  Where the data are gone there is nothing to compare with."""
    try:
        for source in config.data.sources:
            find_files(source)
    except UserError:
        return
    corpus = _read(config, display)[2]
    check_same_data(folder, str(corpus.meta["digest"]))


def prepare(config: PretrainConfig, display: Progress) -> Prepared:
    """Tokenizer, corpus, rows, objective and the order of examples."""
    config, tokenizer, corpus = _read(config, display)
    counts = corpus.meta["splits"]
    display.say(
        f"corpus: {counts['train']['documents']:,} documents, {counts['train']['tokens']:,} tokens; "
        f"held out: {counts['heldout']['documents']:,} documents; "
        f"{corpus.meta['duplicates']:,} duplicates dropped"
    )
    if corpus.meta["bad_rows"]:
        display.say(
            f"{corpus.meta['bad_rows']:,} rows could not be read and were skipped; "
            f"the first: {corpus.meta['bad_examples'][0]}"
        )
    _tell_unknown(config, tokenizer, corpus.meta["unknown_share"], display)
    model = config.model
    if model.vocab_size is None:
        model = model.model_copy(update={"vocab_size": tokenizer.vocab_size})
    elif model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size ({model.vocab_size}) is smaller than the tokenizer's "
            f"({tokenizer.vocab_size})"
        )
    if model.causal and not config.init:  # places that are never trained on are none
        model = model.model_copy(update={"max_length": config.data.length})
    config = config.model_copy(update={"model": model})
    needed = row_overhead(config.objective)
    train = PackedRows.build(corpus.train, config.data.length, needed, config.data.short)
    heldout = PackedRows.build(corpus.heldout, config.data.length, needed)
    check_enough(train, config.train.batch_size, "training")
    check_enough(heldout, distributed.world_size(), "held-out")
    objective = build_objective(config.objective, train, tokenizer)
    rows = min(config.train.evaluate_rows, len(heldout))
    examples = Sampler([len(heldout)], [1.0], _MIX_SEED).at(0, rows)
    weights = [s.weight for s in config.data.sources][: len(train.counts)]
    sampler = Sampler(train.counts, weights, config.seed)
    question = objective.heldout(heldout)
    baseline = unigram_baseline(hidden_tokens(question), train, examples, HELDOUT_KEY)
    evaluation = Evaluation(question, examples, floor(question, baseline[0]))
    return Prepared(config, tokenizer, corpus, train, objective, evaluation, sampler, baseline)


def _tell_unknown(
    config: PretrainConfig, tokenizer: Tokenizer, share: float, display: Progress
) -> None:
    """Say how much of the text the vocabulary does not hold; refuse where that is most of it."""
    if share < _MUCH_UNKNOWN:
        return
    what = f"{share:.0%} of the tokens are unknown to the tokenizer{known_letters(tokenizer)}"
    if share < _MOST_UNKNOWN:
        display.say(f"{what}; they are read, but never to be guessed")
        return
    mend = (
        "choose another tokenizer, or train one on this text (leave --init and tokenizer.path out)"
    )
    if config.tokenizer.kind == "symbols" and config.tokenizer.alphabet and not config.init:
        mend = "leave --tokenizer.alphabet out, and the letters are taken from the data"
    raise UserError(what, where="tokenizer", mend=mend)


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
    folder = Path(out)
    if config.train.processes > 1 and not distributed.launched():
        return _launch(config, folder, overwrite, quiet)
    device = "cuda" if torch.cuda.is_available() and config.train.device != "cpu" else "cpu"
    distributed.join(device)
    try:
        with ExitStack() as stack:
            if distributed.rank() == 0:
                stack.enter_context(locked(folder))
                check_run_folder(folder, config, overwrite)
            distributed.wait()
            return _pretrain(config, folder, quiet or distributed.rank() > 0)
    finally:
        distributed.leave()


def _launch(config: PretrainConfig, folder: Path, overwrite: bool, quiet: bool) -> dict[str, Any]:
    prepare(config, Progress(quiet=True, title=""))  # once, and its errors belong to this process
    distributed.launch(config.train.processes, _worker, config, folder, overwrite, quiet)
    return read_result(folder)


def _worker(config: PretrainConfig, folder: Path, overwrite: bool, quiet: bool) -> None:
    pretrain(config, folder, overwrite=overwrite, quiet=quiet)


def _pretrain(config: PretrainConfig, folder: Path, quiet: bool) -> dict[str, Any]:
    display = Progress(quiet=quiet, title="")
    try:
        finished = (folder / "result.json").is_file()
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
