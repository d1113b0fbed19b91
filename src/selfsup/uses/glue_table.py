"""What a GLUE sweep comes to: medians with their spread, averages, and files for GLUE's server."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.data.files import whole_file
from selfsup.finetune_config import FinetuneConfig
from selfsup.tasks.glue import SERVER_FILES, averages

Finished = Mapping[str, Any]
"""One training as its file has it: `model`, `task`, `seed`, `scores`, `score`, …"""


def conclude(
    finished: Sequence[Finished], config: FinetuneConfig, missing: Mapping[str, str]
) -> dict[str, Any]:
    """Scores over seeds, the table, and averages.

    Args:
        finished: the trainings, models and tasks in the table's order.
        config: of all of them.
        missing: tasks that did not take part, and why.
    """
    models = list(dict.fromkeys(x["model"] for x in finished))
    tasks = list(dict.fromkeys(x["task"] for x in finished))
    scores = {
        model: {
            task: over_seeds([x for x in finished if (x["model"], x["task"]) == (model, task)])
            for task in tasks
        }
        for model in models
    }
    means = {m: averages({t: scores[m][t]["median"] for t in tasks}) for m in models}
    return {
        "kind": "glue",
        "models": models,
        "tasks": tasks,
        "missing": [{"task": task, "why": why} for task, why in missing.items()],
        "table": _table(scores, means, tasks),
        "metrics": _metrics(scores, tasks),
        "averages": means,
        "scores": scores,
        "epochs": config.epochs,
        "batch_size": config.train.batch_size,
        "learning_rates": {x["model"]: x["learning_rate"] for x in finished},
        "started_from": "random weights" if config.scratch else "pre-trained weights",
        "lora_rank": config.lora.rank,
        "minutes": round(sum(x["minutes"] for x in finished), 3),
        "notes": _notes(finished, models),
    }


def _notes(finished: Sequence[Finished], models: Sequence[str]) -> list[str]:
    """Each once; with the model's name where it does not hold for all."""
    holds: dict[str, set[str]] = {}
    for x in finished:
        for note in x["notes"]:
            holds.setdefault(f"{x['task']}: {note}", set()).add(x["model"])
    every = set(models)
    return [
        note if of == every else f"{note} ({', '.join(m for m in models if m in of)})"
        for note, of in holds.items()
    ]


def over_seeds(finished: Sequence[Finished]) -> dict[str, Any]:
    """A model's scores on one task: the median over seeds, least and most, of each metric too.

    `median_seed` is the one whose score is the median, or nearest to it (of two the first).
    """
    values = [x["score"] for x in finished]
    median = float(np.median(values))
    # rounded: the middle of two is as far from one as from the other, but for the last digits
    nearest = min(finished, key=lambda x: round(abs(x["score"] - median), 12))
    names = list(finished[0]["scores"])
    return {
        **_spread(values),
        "seeds": len(values),
        "median_seed": nearest["seed"],
        "examples": finished[0]["examples"],
        "steps": finished[0]["steps"],
        "metrics": {name: _spread([x["scores"][name] for x in finished]) for name in names},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(values)), "least": min(values), "most": max(values)}


def _cell(value: Mapping[str, float], seeds: int) -> str:
    if seeds == 1:
        return f"{value['median']:.3f}"
    return f"{value['median']:.3f} ({value['least']:.3f} to {value['most']:.3f})"


def _table(
    scores: Mapping[str, Any], means: Mapping[str, Any], tasks: Sequence[str]
) -> list[dict[str, Any]]:
    """One row a task, one column a model; then the averages."""
    first = next(iter(scores.values()))
    rows: list[dict[str, Any]] = []
    for task in tasks:
        metrics = [_words(name) for name in first[task]["metrics"]]
        row = {"task": task, "metric": " / ".join(metrics)}
        rows.append(
            row | {_column(m): _cell(of[task], of[task]["seeds"]) for m, of in scores.items()}
        )
    for name, kind in (("average", "with_wnli"), ("average without WNLI", "without_wnli")):
        count = len(tasks) - (kind == "without_wnli" and "WNLI" in tasks)
        shown = {m: "-" if v[kind] is None else f"{v[kind]:.3f}" for m, v in means.items()}
        row = {"task": name, "metric": f"{count} of {9 - (kind == 'without_wnli')} tasks"}
        rows.append(row | {_column(m): text for m, text in shown.items()})
    return rows


def _metrics(scores: Mapping[str, Any], tasks: Sequence[str]) -> list[dict[str, Any]]:
    """One row a metric, of the tasks that have two."""
    first = next(iter(scores.values()))
    return [
        {"task": task, "metric": _words(name)}
        | {
            _column(m): _cell(of[task]["metrics"][name], of[task]["seeds"])
            for m, of in scores.items()
        }
        for task in tasks
        for name in first[task]["metrics"]
        if len(first[task]["metrics"]) > 1
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _column(model: str) -> str:
    return f"./{model}" if model in {"task", "metric"} else model


def summary_line(result: Mapping[str, Any]) -> str:
    """What the numbers of the table are, in one sentence."""
    seeds, limit = result["seeds"], result["limit"]
    spread = f"median of {seeds} seeds (least to most)" if seeds > 1 else "one seed"
    start = f", from {result['started_from']}" if "random" in result["started_from"] else ""
    start += f", lora of rank {result['lora_rank']}" if result["lora_rank"] else ""
    few = f"; a QUICK LOOK: at most {limit:,} training examples a task" if limit else ""
    return f"GLUE, dev: {spread}, at most {result['epochs']:g} epochs{start}{few}"


def write_table(path: Path, result: Mapping[str, Any]) -> None:
    """Write the table as Markdown, with what was missing."""
    lines = [f"# {summary_line(result)}", "", *_markdown(result["table"])]
    if result["metrics"]:
        lines += ["", "Each metric where a task has two:", "", *_markdown(result["metrics"])]
    if result["missing"]:
        lines += ["", "Missing:", "", *(f"- {x['task']}: {x['why']}" for x in result["missing"])]
    if result["notes"]:
        lines += ["", "Notes:", "", *(f"- {note}" for note in result["notes"])]
    with whole_file(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _markdown(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    columns = list(rows[0])
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield f"| {' | '.join(str(row[c]) for c in columns)} |"


def write_submission(folder: Path, answers: Mapping[str, Path]) -> dict[str, Any]:
    """Gather answers in a folder whose files, packed in one zip, are what GLUE's server takes.

    Returns:
        `folder`, and under `missing` the files that the server wants besides.
    """
    if folder.is_dir():
        shutil.rmtree(folder)  # of an earlier, smaller sweep
    folder.mkdir(parents=True)
    for server, path in answers.items():
        shutil.copyfile(path, folder / server)
    missing = [name for name in SERVER_FILES if name not in answers]
    return {"folder": str(folder), "files": sorted(answers), "missing": missing}
