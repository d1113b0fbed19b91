"""Training an auto-encoder: from a file of examples to a model folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.autoencoder_recipes import described
from selfsup.config_base import check_config
from selfsup.data.feature_tables import FeatureTable
from selfsup.data.neighbours import nearest_rows
from selfsup.data.observations import Observations, Spec, fit_spec, read_observations, split
from selfsup.data.sampler import Examples, Sampler
from selfsup.errors import UserError
from selfsup.models.autoencoder import AutoEncoder, build, parameter_counts, settle
from selfsup.models.autoencoder_hub import save_autoencoder
from selfsup.nn.device import choose_device
from selfsup.nn.likelihoods import ImageLikelihood, TableLikelihood
from selfsup.objectives.reconstruction import Reconstruction
from selfsup.training import checkpoints
from selfsup.training.devices import Precision
from selfsup.training.evaluation import Evaluation
from selfsup.training.lock import locked
from selfsup.training.loop import Loop
from selfsup.training.progress import Progress
from selfsup.training.signals import told_how_to_go_on
from selfsup.training.state import Outcome
from selfsup.uses.detection.column_notes import scattered
from selfsup.uses.run_folder import (
    FREE_SETTINGS,
    check_run_folder,
    check_same_data,
    clear_run_folder,
    has_finished,
    read_result,
    write_environment,
    write_json,
)

_KNOWN = 5000
"""Training examples at most that the mean is taken of."""


@dataclass(frozen=True)
class Prepared:
    """What training needs beside the loop."""

    config: AutoEncoderConfig
    model: AutoEncoder
    objective: Reconstruction
    train: NDArray[np.int64]
    """Rows that are trained on."""
    heldout: NDArray[np.int64]
    digest: str
    baseline: float
    """Held-out squared error of answering every example with the training mean."""


def prepare(config: AutoEncoderConfig, observations: Observations | None = None) -> Prepared:
    """Read, split, learn the spec from the training rows, and build the model.

    Args:
        config: of the run.
        observations: what `config.data` would be read as, where it is here already.
    """
    found = observations if observations is not None else read_observations(config.data)
    train, heldout, digest = split(found, config.data.heldout)
    spec = _spec(found, train, config)
    model = build(settle(config, spec), spec, config.seed)
    reader = _reader(found, model)
    known = reader(train[:_KNOWN])  # rows are in an order that makes the first ones a fair sample
    model.start_from(torch.from_numpy(known))
    objective = Reconstruction(
        reader,
        config.corruption,
        noise_size=model.noise_size,
        blocks=spec.blocks if isinstance(spec, FeatureTable) else (),
        agreement=config.objective.agreement,
        where=found.where,
    )
    baseline = _mean_error(known, reader(heldout[: config.train.evaluate_rows]), model.likelihood)
    return Prepared(config, model, objective, train, heldout, digest, baseline)


def _spec(found: Observations, train: NDArray[np.int64], config: AutoEncoderConfig) -> Spec:
    """What the training examples are; errors name rows as the file counts them."""
    if (
        found.images
    ):  # a range of pixels is that of the whole run, so that held-out images lie in it
        return fit_spec(found, config.data)
    try:
        return fit_spec(found.take(train), config.data)
    except UserError:
        fit_spec(found, config.data)
        raise


def _reader(
    found: Observations, model: AutoEncoder
) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    if found.images:
        images = found.values
        return lambda rows: model.spec.transform(images[rows], found.where)
    matrix = model.spec.transform(found.values, found.where)
    return lambda rows: matrix[rows]


def _mean_error(
    known: NDArray[np.float32],
    heldout: NDArray[np.float32],
    likelihood: ImageLikelihood | TableLikelihood,
) -> float:
    """The squared error of answering held-out examples with the mean of known ones."""
    rows, x = known.astype(np.float64), heldout.astype(np.float64)
    if not isinstance(likelihood, TableLikelihood) or not likelihood.numbers:
        return float(((x - rows.mean(0)) ** 2).mean())
    # of numbers that are there, as the model's error is
    here, there = (likelihood.known(torch.from_numpy(part)).numpy() for part in (rows, x))
    numbers = likelihood.numbers
    mean = (rows[:, :numbers] * here).sum(0) / np.maximum(here.sum(0), 1)
    return float((((x[:, :numbers] - mean) ** 2) * there).sum() / max(there.sum(), 1))


@dataclass(frozen=True)
class CodeEvaluation(Evaluation):
    """Held-out scores, and for discrete codes how many of them the held-out examples use."""

    def evaluator(  # type: ignore[override]
        self, size: int, device: torch.device, precision: Precision
    ) -> Callable[[nn.Module], dict[str, float]]:
        """Scores models on these examples."""
        scores = super().evaluator(size, device, precision)
        objective = self.objective

        def evaluate(model: nn.Module) -> dict[str, float]:
            values = scores(model)
            if isinstance(model, AutoEncoder) and _has_books(model):
                x = objective.read(self.examples.rows)  # type: ignore[attr-defined]
                values |= code_use(model, code_indices(model, x))
            return values

        return evaluate


def _has_books(model: AutoEncoder) -> bool:
    sizes = model.bottleneck.sizes
    return bool(sizes) and len(sizes) <= 64


def code_indices(model: AutoEncoder, x: NDArray[np.float32]) -> NDArray[np.int64]:
    """(count, …, columns) the codes of clean examples, as indices."""
    training = model.training
    model.eval()
    parts = []
    with torch.no_grad():
        for first in range(0, len(x), 256):
            batch = torch.from_numpy(x[first : first + 256]).to(model.device)
            indices = model.encode(batch).indices
            if indices is None:
                what = "this model's codes are real numbers: there are no indices"
                raise UserError(what, mend="leave --indices out, or train a vq-autoencoder")
            parts.append(indices.cpu().numpy())
    model.train(training)
    return np.concatenate(parts)


def code_use(model: AutoEncoder, indices: NDArray[np.int64]) -> dict[str, float]:
    """How a set of examples uses the codes: the share ever used, and the perplexity.

    Over the whole set, since both grow with the number of examples; the means over codebooks.
    """
    flat = indices.reshape(-1, indices.shape[-1])
    usage, perplexity = [], []
    for column, size in zip(flat.T, model.bottleneck.sizes, strict=True):
        counts = np.bincount(column, minlength=1)
        share = counts[counts > 0] / counts.sum()
        usage.append(len(share) / size)
        perplexity.append(float(np.exp(-(share * np.log(share)).sum())))
    return {"usage": float(np.mean(usage)), "perplexity": float(np.mean(perplexity))}


def make_loop(prepared: Prepared, folder: Path | None, quiet: bool) -> Loop:
    """The loop over prepared examples."""
    config, train, objective = prepared.config, prepared.train, prepared.objective
    if (k := config.objective.neighbours) and objective.neighbours is None:
        count = len(train) + len(prepared.heldout)
        display = Progress(quiet=quiet, title="")
        display.say(f"looking for the {k} nearest of each of {len(train):,} examples")
        display.close()
        objective.neighbours = nearest_rows(objective.read, train, count, k, config.seed)
    rows = prepared.heldout[: config.train.evaluate_rows]
    examples = Examples(rows, np.zeros_like(rows))
    return Loop(
        prepared.model,
        prepared.objective,
        _Rows(train, config.seed),
        config.train,
        seed=config.seed,
        folder=folder,
        matrices=[n for n, p in prepared.model.named_parameters() if p.ndim == 2],
        evaluation=CodeEvaluation(prepared.objective, examples),
        fingerprint=_fingerprint(prepared),
        quiet=quiet,
        title=config.recipe or "autoencoder",
        unit="examples",
    )


class _Rows(Sampler):
    """A sampler over some rows of the data."""

    def __init__(self, rows: NDArray[np.int64], seed: int) -> None:
        super().__init__([len(rows)], [1.0], seed)
        self.rows = rows

    def at(self, first: int, count: int) -> Examples:
        """The examples at places first, …, by their numbers in the data."""
        chosen = super().at(first, count)
        return Examples(self.rows[chosen.rows], chosen.epochs)


def _fingerprint(prepared: Prepared) -> str:
    settings = prepared.config.model_dump(mode="json")
    for key in FREE_SETTINGS:
        settings["train"].pop(key)
    settings["data"].pop("path")  # moved data is the same data: the digest says so
    if not settings["objective"]["neighbours"]:
        settings["objective"].pop("neighbours")  # as in runs of before there were any
    text = json.dumps(settings, sort_keys=True) + prepared.digest
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train_autoencoder(
    config: AutoEncoderConfig, out: str | Path, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Train an auto-encoder into a run folder.

    Running it again with the same arguments goes on from the last checkpoint, or gives the result
    of a run that has finished.

    Args:
        config: from a recipe (`selfsup.autoencoder_recipes.get`) or a file.
        out: the run's folder.
        overwrite: start anew where a run lies already.
        quiet: print nothing.

    Returns:
        What `result.json` holds: held-out scores beside those of the untrained network and of the
        training mean, the codes' usage, and where the model lies.

    Raises:
        UserError: bad data or configuration, or a folder that another run uses.
        Interrupted: stopped by Ctrl-C or SIGTERM, after saving.
    """
    check_config(config, AutoEncoderConfig, "`selfsup.autoencoder_recipes.get(NAME)`")
    choose_device(config.train.device)
    folder = Path(out)
    if config.train.processes > 1:
        what = "auto-encoders train in one process"
        raise UserError(what, where="train.processes", mend="set it to 1")
    with told_how_to_go_on(overwrite), locked(folder):
        check_run_folder(folder, config, overwrite)
        display = Progress(quiet=quiet, title="")
        display.close()  # lines alone
        display.say_reading(config.data.path)
        prepared = prepare(config)
        if overwrite:
            clear_run_folder(folder)
        if has_finished(folder):
            check_same_data(folder, prepared.digest)
            return read_result(folder)
        loop = make_loop(prepared, folder, quiet)
        _announce(prepared, loop, quiet)
        write_json(folder / "config.json", config.model_dump(mode="json"))
        write_environment(folder, {"path": config.data.path, "digest": prepared.digest}, loop)
        outcome = loop.run()
        loop.take_best()
        result = _result(prepared, outcome, folder)
        origin = {k: result[k] for k in ("recipe", "steps", "minutes", "heldout")}
        origin |= {"data_digest": prepared.digest, "corruption": config.corruption.kind}
        with checkpoints.written_whole(folder / "model") as new:
            save_autoencoder(new, prepared.model.cpu(), origin, _card(prepared, result))
        write_json(folder / "result.json", result)
        return result


def scattered_words(spec: FeatureTable, rows: int) -> dict[str, str]:
    """For each column with nearly as many words as there are rows, what is to be said of it."""
    return {
        name: f"column '{name}' has {words:,} different words in {rows:,} rows: each gets a place of its own"
        for name, words in scattered(spec, rows).items()
    }


def _announce(prepared: Prepared, loop: Loop, quiet: bool) -> None:
    display = Progress(quiet=quiet, title="")
    config, spec = prepared.model.config, prepared.model.spec
    if isinstance(spec, FeatureTable):
        for name, what in scattered_words(spec, len(prepared.train)).items():
            display.say(f"{what}; --data.ignore '[{name}]' leaves it out")
    display.say(
        f"{len(prepared.train):,} examples of shape {prepared.model.input_shape}, "
        f"{len(prepared.heldout):,} held out; {config.network.kind} network, "
        f"{sum(parameter_counts(prepared.model).values()):,} parameters, "
        f"code: {described(config.bottleneck)}; {loop.device}, {loop.precision.name}"
    )
    display.close()


def _heldout(prepared: Prepared, scores: Mapping[str, float]) -> dict[str, float]:
    """Held-out scores, with how the whole held-out part uses discrete codes, not `evaluate_rows` alone."""
    model, rows = prepared.model, prepared.heldout
    if not _has_books(model):
        return dict(scores)
    parts = np.split(rows, range(1024, len(rows), 1024))
    found = [code_indices(model, prepared.objective.read(part)) for part in parts]
    return {**scores, **code_use(model, np.concatenate(found))}


def _result(prepared: Prepared, outcome: Outcome, folder: Path) -> dict[str, Any]:
    state, model = outcome.state, prepared.model
    error = state.heldout.get("squared_error", float("nan"))
    return {
        "kind": "autoencoder",
        "recipe": prepared.config.recipe,
        "code": described(model.config.bottleneck),
        "code_numbers": model.code_numbers,
        "parameters": parameter_counts(model),
        "examples": len(prepared.train),
        "steps": state.step,
        "epochs": round(state.tokens / len(prepared.train), 3),
        "minutes": round(state.seconds / 60, 3),
        "examples_per_second": round(outcome.tokens_per_second, 1),
        "heldout": _heldout(prepared, state.heldout),
        "untrained": state.initial,
        "training_mean": {"squared_error": prepared.baseline},
        "beats_training_mean": bool(error < prepared.baseline),
        "model": str(folder / "model"),
    }


def _card(prepared: Prepared, result: Mapping[str, Any]) -> str:
    error = result["heldout"].get("squared_error", float("nan"))
    before = result["untrained"].get("squared_error", float("nan"))
    return f"""---
library_name: selfsup
---

# {prepared.config.recipe or "auto-encoder"}

An auto-encoder (code: {result["code"]}) trained with `selfsup` on {result["examples"]:,} examples of
`{prepared.config.data.path}`, {result["steps"]:,} steps ({result["epochs"]} epochs).

| | held-out squared error a value |
| --- | --- |
| this model | {error:.5f} |
| before training | {before:.5f} |
| the training mean | {prepared.baseline:.5f} |

The spec of its examples is in `config.json`; others are refused.  Use it with `selfsup encode`,
`reconstruct`, `sample`, `cluster`.
"""
