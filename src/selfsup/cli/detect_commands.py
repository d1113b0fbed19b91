"""The verbs `detect fit`, `detect score` and `study capacity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.autoencoder_commands import ReadingFlags, read_examples
from selfsup.cli.flags import Json, Out, Overwrite, PlaceOf, Quiet, numbers, words
from selfsup.data.paths import expanded, is_run, is_study
from selfsup.errors import BadInput, UserError, at_least

_DATA = Group("Data", sort_key=1)
_DETECTOR = Group("Detector", sort_key=2)
_FLAGS = {"random_state": "seed", "false_alarm_rate": "false-alarms"}
"""Settings of the estimator whose flags are called otherwise."""

DataPath = Annotated[
    str,
    Parameter(
        name=["--data", "-d"],
        group=_DATA,
        help="A .csv, .tsv, .jsonl, .parquet, .npy, .npz or IDX file, or a folder of pictures.",
    ),
]
LabelColumn = Annotated[
    str, Parameter(group=_DATA, help="Not learned from; scores are measured with it [none].")
]


def fit(
    *,
    data: DataPath,
    columns: Annotated[str, Parameter(group=_DATA, help="Only these: `a,b,c` [all].")] = "",
    label_column: LabelColumn = "",
    reading: ReadingFlags | None = None,
    train_data: Annotated[
        Literal["clean", "contaminated"],
        Parameter(group=_DETECTOR, help="Whether all rows are normal, or some may not be [clean]."),
    ] = "clean",
    measure: Annotated[
        str,
        Parameter(
            group=_DETECTOR,
            help="What counts as strange, one word: `default` (input-distance and code-distance together), "
            "input-distance, code-distance, reconstruction or masked-features [default].",
        ),
    ] = "default",
    false_alarms: Annotated[
        float, Parameter(group=_DETECTOR, help="Share of normal rows that may be flagged [0.05].")
    ] = 0.05,
    contamination: Annotated[
        float | None,
        Parameter(group=_DETECTOR, help="Flag this share of the training rows instead, (0, 0.5]."),
    ] = None,
    trimming: Annotated[
        float,
        Parameter(group=_DETECTOR, help="Leave out this share, the strangest, and relearn [0]."),
    ] = 0.0,
    missing: Annotated[
        Literal["refuse", "impute"],
        Parameter(group=_DETECTOR, help="What to do with gaps and infinite values [refuse]."),
    ] = "refuse",
    code_size: Annotated[
        int | None,
        Parameter(group=_DETECTOR, help="Numbers in a code [half the columns, at most 8]."),
    ] = None,
    device: Annotated[str, Parameter(group=_DETECTOR, help="auto, cpu or cuda [cpu].")] = "cpu",
    seed: Annotated[int, Parameter(group=_DETECTOR, help="Of every random draw [0].")] = 0,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Learn what is usual from rows or images.

    The report has PCA, nearest neighbours and isolation forest beside it.
    """
    if out is None:
        raise UserError("is missing", where="--out", mend="name a folder for the detector")
    if code_size is not None:
        at_least(1, code_size, "--code-size")
    _check_folder(out, data, overwrite)
    from selfsup.studies import detection

    settings = {
        "measure": measure,
        "train_data": train_data,
        "false_alarm_rate": false_alarms,
        "contamination": contamination,
        "trimming": trimming,
        "missing": missing,
        "code_size": "auto" if code_size is None else code_size,
        "device": device,
        "random_state": seed,
    }
    chosen = words(columns)
    source = read_examples(data, reading, label_column)
    try:
        result = detection.fit(
            source,
            out,
            settings=settings,
            columns=chosen,
            overwrite=overwrite,
            quiet=quiet or as_json,
        )
    except BadInput as error:
        if error.where not in settings:
            raise
        flag = _FLAGS.get(error.where, error.where.replace("_", "-"))
        raise UserError(error.what, where=f"--{flag}", mend=error.mend) from error
    for warning in result["warnings"]:
        render.note(f"warning: {warning}")
    if not as_json:
        result["warnings"] = len(result["warnings"])
    render.show(result, as_json=as_json, title=str(out))


def _check_folder(out: Path, data: str, overwrite: bool) -> None:
    """Refuse a folder whose detector may go, but which holds other things, or what is to be read."""
    if not (overwrite and out.is_dir()):
        return
    names = {p.name for p in out.iterdir() if not p.name.startswith(".")} - {"model.safetensors"}
    if names and ("detector.json" not in names or is_run(out) or is_study(out)):
        what = f"this folder holds '{min(names)}', and no detector alone"
        raise UserError(what, where=str(out), mend="choose another --out")
    if data and expanded(data).resolve().is_relative_to(out.resolve()):
        what = "lies in the folder that would be overwritten"
        raise UserError(what, where=f"--data {data}", mend="choose another --out")


def score(
    detector: Annotated[Path, PlaceOf, Parameter(help="A folder that `detect fit` made.")],
    /,
    *,
    data: DataPath,
    output: Annotated[
        Path | None, PlaceOf, Parameter(name=["--output", "-o"], help="The .csv file to write.")
    ] = None,
    label_column: LabelColumn = "",
    id_column: Annotated[
        str, Parameter(group=_DATA, help="A column to copy beside each score.")
    ] = "",
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score new rows or images: score, p-value, flag, and the columns that made it.

    A report goes into a folder beside the output; of images it has heat maps.
    """
    if output is None:
        raise UserError("is missing", where="--output", mend="name a .csv file to write")
    from selfsup.studies import detection

    result: dict[str, Any] = detection.score(
        detector,
        data,
        output,
        label_column=label_column,
        id_column=id_column,
        overwrite=overwrite,
        quiet=quiet or as_json,
    )
    render.show(result, as_json=as_json, title=str(output))


def capacity(
    *,
    data: DataPath,
    labels: Annotated[
        str, Parameter(group=_DATA, help="The kinds: a column, a key, an IDX file, or `folder`.")
    ],
    reading: ReadingFlags | None = None,
    seen: Annotated[
        str, Parameter(group=_DATA, help="Kinds that train: `0,1,2` [the first half].")
    ] = "",
    sizes: Annotated[
        str, Parameter(help="Numbers in the code [1,2,4,...,256, at most the rows that train].")
    ] = "",
    seeds: Annotated[int, Parameter(help="Trainings of each size [3].")] = 3,
    steps: Annotated[int, Parameter(help="Steps of each training [3000].")] = 3000,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """How able may a detector be?  The code's size against finding kinds never seen.

    The same command again goes on where it stopped.
    """
    from selfsup.studies import capacity as study

    result = study.run(
        read_examples(data, reading, labels),
        out or Path("runs/capacity"),
        seen=words(seen),
        sizes=numbers(sizes, "--sizes", int) or None,
        seeds=seeds,
        steps=steps,
        overwrite=overwrite,
        quiet=quiet or as_json,
    )
    render.show(result, as_json=as_json, title="capacity")
