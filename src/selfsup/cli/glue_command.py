"""The verb `glue`: models side by side on the tasks of GLUE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.flags import (  # the flags of FineFlags are looked up in this module, too
    ConfigFiles,  # noqa: F401
    DeviceName,  # noqa: F401
    Json,
    Out,
    Overwrite,
    PlaceOf,
    PrecisionName,  # noqa: F401
    Quiet,
    Seed,  # noqa: F401
    Settings,  # noqa: F401
    words,
)
from selfsup.cli.task_commands import FineFlags, OnBadRow, resolve_finetune

_TRAINING = Group("Training", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class GlueFlags(FineFlags):
    """How it is learned, the same for all tasks.

    Cyclopts reads the inherited annotations in this module: their names must be known here too.
    """

    epochs: Annotated[
        float | None,
        Parameter(group=_TRAINING, help="Passes over the training files, 5 at most [3]."),
    ] = None
    seed: Annotated[
        int | None, Parameter(group=_TRAINING, help="The first seed; others count up from it [0].")
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"] | None,
        Parameter(group=_TRAINING, help="balanced: rare classes weigh more, not in STS-B [none]."),
    ] = None
    on_bad_row: OnBadRow = None
    metric: Annotated[str | None, Parameter(show=False)] = None  # GLUE's own; refused with a reason


def glue(
    *models: Annotated[str, Parameter(help="Run folders, model folders, or hub names.")],
    data: Annotated[
        Path,
        PlaceOf,
        Parameter(name=["--data", "-d"], help="The folder of GLUE's tasks, packed or not."),
    ],
    tasks: Annotated[
        str, Parameter(help="Some of the tasks: `CoLA,RTE` [all that are there].")
    ] = "",
    seeds: Annotated[int, Parameter(help="Trainings of each model on each task [5].")] = 5,
    limit: Annotated[
        int | None,
        Parameter(help="Training examples a task, for a quick look [all]."),
    ] = None,
    fine: GlueFlags | None = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune encoders on GLUE's tasks and set their scores side by side.

    One set of settings for all tasks, medians over seeds with their spread; where test files are,
    answers for GLUE's server.  The same command again goes on where it stopped.
    """
    config = resolve_finetune(None, fine)
    from selfsup.uses.glue import run_glue

    result = run_glue(
        models,
        data,
        out or Path("runs") / "glue",
        config=config,
        tasks=words(tasks),
        seeds=seeds,
        limit=limit,
        overwrite=overwrite,
        quiet=quiet or as_json,
    )
    if as_json:
        render.show(result, as_json=True)
    else:
        _show(result)


def _show(result: Mapping[str, Any]) -> None:
    """The tables, and what a reader of them must know."""
    from selfsup.uses.glue_table import summary_line

    models = list(result["table"][0])[2:]  # behind the task and its metric
    render.show(result["table"], as_json=False, title=summary_line(result), names=models)
    if result["metrics"]:
        title = "each metric where a task has two"
        render.show(result["metrics"], as_json=False, title=title, names=models)
    if result["missing"]:
        render.show(result["missing"], as_json=False, title="missing")
    for note in result["notes"]:
        render.note(note)
    for name, made in result["submissions"].items():
        lacks = f"; the server also wants {', '.join(made['missing'])}" if made["missing"] else ""
        render.note(f"{name}: answers for GLUE's server in {made['folder']}{lacks}")
