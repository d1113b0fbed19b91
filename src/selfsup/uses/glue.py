"""The GLUE sweep: models side by side on nine tasks, one set of settings, medians over seeds."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfsup.data.files import ReadReport, read_strict_lines
from selfsup.data.paths import expanded
from selfsup.errors import Interrupted, UserError, at_least
from selfsup.finetune_config import FinetuneConfig, LabelledConfig
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.nn.device import choose_device
from selfsup.tasks.glue import GlueTask, TaskFiles, choose_tasks, find_tasks, task_score
from selfsup.tasks.judge import TOKENS_AT_ONCE, read_answers
from selfsup.tasks.task import AnySet
from selfsup.training.lock import locked
from selfsup.training.progress import Progress
from selfsup.training.signals import told_how_to_go_on
from selfsup.uses.finetuning import Fitted, check_rank, fit
from selfsup.uses.glue_cells import Cell, Entrant, settings_kept
from selfsup.uses.glue_parts import Prepared, prepare, read_task
from selfsup.uses.glue_table import conclude, write_submission, write_table
from selfsup.uses.run_folder import (
    FREE_SETTINGS,
    check_run_folder,
    differing,
    write_environment,
    write_json,
)

MOST_EPOCHS = 5


_TRAININGS = "trainings"
_MADE = (_TRAININGS, "submissions")
_WRITTEN = ("table.md", "config.json", "environment.json", "result.json")


def run_glue(
    models: Sequence[str],
    folder: str | Path,
    out: str | Path,
    *,
    config: FinetuneConfig | None = None,
    tasks: Sequence[str] = (),
    seeds: int = 5,
    limit: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tune models on the tasks of GLUE (Wang et al. 2019) and set their dev scores side by side.

    One set of settings serves all tasks, and the weights are those of the last step, so that dev,
    which is reported, chooses nothing.  The same call again goes on where it stopped: a training
    (model, task, seed) that has finished is never repeated, one that was stopped begins anew.
    Models, tasks and seeds may be added later.

    Args:
        models: run folders, model folders or hub names.
        folder: GLUE's tasks in their own file layout, packed or not.
        out: gets a file a training, `result.json`, `table.md`, and for GLUE's server `submissions/`.
        config: of all trainings; its model, task and files are set here, its seed is the first.
        tasks: names; empty: all that are there.
        seeds: trainings of each model on each task.
        limit: learn from so many examples a task, for a quick look; None: from all.
        overwrite: start anew where a sweep lies already.
        quiet: print nothing.

    Returns:
        What `result.json` holds: the table, averages with and without WNLI, and what was missing.

    Raises:
        UserError: bad data or settings, or a folder that another sweep uses.
        Interrupted: stopped by Ctrl-C or SIGTERM; all but the training under way is kept.
    """
    base = _checked(config or FinetuneConfig(), seeds, limit)
    choose_device(base.train.device)
    found, missing = find_tasks(expanded(folder), choose_tasks(tasks))
    entrants, place = _enter(models, base), Path(out)
    cells = list(_cells(entrants, found, place, base, seeds, limit))
    with told_how_to_go_on(overwrite), locked(place):
        done = _begin(place, cells, base, overwrite)
        display = Progress(quiet=quiet, title="")
        for task, why in missing.items():
            display.say(f"missing: {task}: {why}")
        try:
            _train_all(cells, done, base, limit, place, display, quiet)
        finally:
            display.close()
        result = conclude([done[cell.path] for cell in cells], base, missing)
        result |= {"data": str(folder), "seeds": seeds, "limit": limit}
        result["submissions"] = _submit(cells, result["scores"], place)
        write_json(place / "result.json", result)
        write_table(place / "table.md", result)
    return result


# What is to be done -----------------------------------------------------------------------------


def _begin(
    place: Path, cells: Sequence[Cell], base: FinetuneConfig, overwrite: bool
) -> dict[Path, dict[str, Any]]:
    """Make a sweep's folder ready; returns what is done there already.

    All that is due is read once before anything is written or goes, so that no bad row is met hours
    later.
    """
    anew = overwrite and (place / _TRAININGS).is_dir()
    done = {}
    if not anew:
        check_run_folder(place, settings_kept(place, base), overwrite=False)
        read = ((cell.path, cell.read()) for cell in cells)
        done = {path: value for path, value in read if value is not None}
    longest = min(cell.entrant.longest for cell in cells)
    due = {cell.files.task: cell.files for cell in cells if cell.path not in done}
    for files in due.values():
        read_task(files, base, longest)
    if anew:
        _clear(place)
        check_run_folder(place, base, overwrite=False)
    (place / _TRAININGS).mkdir(exist_ok=True)
    write_json(place / "config.json", base.model_dump(mode="json"))
    return done


def _checked(config: FinetuneConfig, seeds: int, limit: int | None) -> FinetuneConfig:
    """The settings that all trainings share."""
    at_least(1, seeds, "--seeds")
    if limit is not None:
        at_least(1, limit, "--limit")
    if not 0 < config.epochs <= MOST_EPOCHS:
        what = f"must be above 0 and at most {MOST_EPOCHS}, not {config.epochs:g}"
        raise UserError(what, where="--epochs")
    if config.metric:
        what = "GLUE's own metrics are told, and none of them chooses weights"
        raise UserError(what, where="metric", mend="leave it out")
    own = LabelledConfig(on_bad_row=config.data.on_bad_row)
    if key := differing(own.model_dump(), config.data.model_dump()):
        what = "GLUE's files have their own layout"
        raise UserError(what, where=f"data.{key}", mend="leave it out")
    return config.model_copy(update={"model": "", "task": "classify", "select": "last"})


def _clear(place: Path) -> None:
    """Remove an earlier sweep, and nothing else: the folder may be another command's."""
    if (place / _TRAININGS).is_dir():
        for name in _MADE:
            shutil.rmtree(place / name, ignore_errors=True)
        for name in _WRITTEN:
            (place / name).unlink(missing_ok=True)


def _enter(models: Sequence[str], base: FinetuneConfig) -> tuple[Entrant, ...]:
    """Open each model once, so that a bad one is refused before hours of training."""
    if not models:
        raise UserError("no model", mend="name run folders, model folders or hub names")
    entrants: list[Entrant] = []
    paths: dict[Path, str] = {}
    for given in models:
        name = str(given)
        pretrained = load_encoder(name)
        check_rank(base, pretrained)
        if (path := pretrained.path.resolve()) in paths:
            same = paths[path]
            what = f"'{name}' is named twice" if same == name else f"'{same}' is the same model"
            raise UserError(what, where=name)
        paths[path] = name
        slug = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.")
        if slug != name:  # two names may come to the same
            slug = f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
        entrants.append(Entrant(name, slug, pretrained.digest, pretrained.max_length))
    return tuple(entrants)


def _file_digest(path: Path) -> str:
    """Of what the file holds; packing it changes nothing."""
    digest = hashlib.sha256()
    for _, line in read_strict_lines(path, ReadReport()):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def _cells(
    entrants: Sequence[Entrant],
    found: Sequence[TaskFiles],
    place: Path,
    base: FinetuneConfig,
    seeds: int,
    limit: int | None,
) -> Iterator[Cell]:
    shared = base.model_dump(mode="json", exclude={"model", "seed", "task"})
    shared["train"] = {k: v for k, v in shared["train"].items() if k not in FREE_SETTINGS}
    data = {}
    for files in found:
        stems = (*files.task.files, *(server for server, _ in files.tests))
        paths = (files.train, *files.devs, *(path for _, path in files.tests))
        data[files.task] = {s: _file_digest(p) for s, p in zip(stems, paths, strict=True)}
    for entrant in entrants:
        for files in found:
            folder = place / _TRAININGS / entrant.slug / files.task.name
            settings = {**shared, "limit": limit, "model": entrant.digest}
            settings["files"] = data[files.task]
            if limit is not None:  # until 2026-11-27 they were of the whole file
                settings["weights and scale"] = "of what is learned"
            for seed in range(base.seed, base.seed + seeds):
                yield Cell(entrant, files, seed, folder, settings)


# One training after another ---------------------------------------------------------------------


def _train_all(
    cells: Sequence[Cell],
    done: dict[Path, dict[str, Any]],
    base: FinetuneConfig,
    limit: int | None,
    place: Path,
    display: Progress,
    quiet: bool,
) -> None:
    """Train what is not done yet; each is written as soon as it has finished."""
    if done:
        display.say(f"{len(done)} of {len(cells)} trainings have finished already")
    open_model: tuple[str, Pretrained] | None = None
    ready: tuple[Path, Prepared] | None = None
    for number, cell in enumerate(cells, start=1):
        if cell.path in done:
            continue
        if open_model is None or open_model[0] != cell.entrant.name:
            open_model = cell.entrant.name, load_encoder(cell.entrant.name)
        if ready is None or ready[0] != cell.folder:
            ready = cell.folder, prepare(cell.files, base, open_model[1], limit)
        title = f"{cell.entrant.name}, {cell.files.task.name}, seed {cell.seed}"
        try:
            value, fitted = _train(cell, ready[1], open_model[1], title, quiet)
        except Interrupted:
            raise Interrupted(f"stopped at {title}", "begins that one anew and goes on") from None
        write_environment(place, {"files": cell.settings["files"]}, fitted.loop)
        write_json(cell.path, value)
        done[cell.path] = value
        shown = ", ".join(f"{k.replace('_', ' ')} {v:.3f}" for k, v in value["scores"].items())
        display.say(f"{number} of {len(cells)}: {title}: {shown} ({value['minutes']:.1f} min)")


def _train(
    cell: Cell, ready: Prepared, pretrained: Pretrained, title: str, quiet: bool
) -> tuple[dict[str, Any], Fitted]:
    fitted = fit(ready.config, pretrained, ready.sets, seed=cell.seed, quiet=quiet, title=title)
    scores = dev_scores(cell.files.task, fitted, ready.devs)
    for (server, _), part in zip(cell.files.tests, ready.tests, strict=True):
        collector, _ = read_answers(
            fitted.model, part, fitted.loop.device, fitted.loop.precision, with_loss=False
        )
        write_answers(cell.answers / server, collector.predictions())
    state, count = fitted.outcome.state, len(ready.sets.train)
    return {
        "model": cell.entrant.name,
        "task": cell.files.task.name,
        "seed": cell.seed,
        "settings": cell.settings,
        "scores": scores,
        "score": task_score(scores),
        "examples": count,
        "steps": state.step,
        "epochs": round(state.step * fitted.train.batch_size / count, 2),
        "learning_rate": fitted.loop.optimizers[-1].param_groups[0]["peak_lr"],
        "minutes": round(state.seconds / 60, 3),
        "precision": fitted.outcome.precision.name,
        "device": str(fitted.loop.device),
        "notes": list(ready.notes),
    }, fitted


def dev_scores(
    task: GlueTask, fitted: Fitted, devs: Sequence[AnySet], *, tokens: int = TOKENS_AT_ONCE
) -> dict[str, float]:
    """GLUE's metrics on a task's dev parts: `f1`, `accuracy`, …; for MNLI `accuracy_matched`, ….

    Args:
        task: which metrics.
        fitted: the model.
        devs: one set for each of the task's dev files.
        tokens: of a batch; changes speed and memory, not the scores.
    """
    values: list[float] = []
    for dev in devs:
        collector, _ = read_answers(
            fitted.model,
            dev,
            fitted.loop.device,
            fitted.loop.precision,
            tokens=tokens,
            keep=False,
        )
        measured = collector.scores()
        values += (measured[metric] for metric in task.metrics)
    return dict(zip(task.scores, values, strict=True))


def write_answers(path: Path, predictions: Iterable[Mapping[str, Any]]) -> None:
    """Write answers as GLUE's server takes them: `index`, `prediction`, rows counted from 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as handle:
        handle.write("index\tprediction\n")
        for index, row in enumerate(predictions):
            # similarities are asked for on a scale from 0 to 5
            label = row["label"] if "label" in row else f"{min(max(row['value'], 0.0), 5.0):.3f}"
            handle.write(f"{index}\t{label}\n")


def _submit(
    cells: Sequence[Cell], scores: Mapping[str, Any], place: Path
) -> dict[str, dict[str, Any]]:
    """The answers of each model's median seeds, in a folder that can be packed for the server."""
    chosen: dict[str, dict[str, Path]] = {}
    folders = {cell.entrant.name: place / "submissions" / cell.entrant.slug for cell in cells}
    for cell in cells:
        name, task = cell.entrant.name, cell.files.task.name
        if cell.files.tests and scores[name][task]["median_seed"] == cell.seed:
            answers = {server: cell.answers / server for server, _ in cell.files.tests}
            chosen.setdefault(name, {}).update(answers)
    return {name: write_submission(folders[name], answers) for name, answers in chosen.items()}
