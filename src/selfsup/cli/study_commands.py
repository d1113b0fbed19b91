"""The verbs of `selfsup study` that ask about a model and a task."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.flags import (
    DeviceName,
    Json,
    Model,
    Out,
    Overwrite,
    PrecisionName,
    Quiet,
    numbers,
    words,
)
from selfsup.cli.task_commands import (
    FineFlags,
    LayoutFlags,
    ModelOrFile,
    TaskFlags,
    what_to_learn,
)
from selfsup.errors import UserError

_STUDY = Group("Study", sort_key=0)


def curves(
    model: ModelOrFile = None,
    /,
    *,
    labels: Annotated[
        str, Parameter(group=_STUDY, help="Numbers of labels, `16,64,all` [x4 from 16, and all].")
    ] = "",
    seeds: Annotated[
        int, Parameter(group=_STUDY, help="Models of each kind; the tables have medians [3].")
    ] = 3,
    scratch_lr: Annotated[
        float, Parameter(group=_STUDY, help="Learning rate of random weights [as --lr].")
    ] = 0.0,
    task: TaskFlags | None = None,
    layout: LayoutFlags | None = None,
    fine: FineFlags | None = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Was pre-training worth it on my data, and how many labels does it save?

    Compares the encoder with the same network from random weights, TF-IDF
    and a linear probe (for tags: a look-up), at 16 labels up to all.  No
    part chooses weights here: models are scored on --test, else on --dev,
    else on a fifth of --train.  The same command again goes on where it
    stopped.
    """
    config = what_to_learn(model, task, layout, fine)
    counts = _counts(labels)
    from selfsup.studies import curve_report
    from selfsup.studies import curves as study

    folder = out or Path("runs") / f"curves-{Path(config.data.train).name.split('.')[0]}"
    result = study.run(
        config,
        folder,
        labels=counts,
        seeds=seeds,
        scratch_lr=scratch_lr,
        overwrite=overwrite,
        quiet=quiet or as_json,
        command=f"selfsup {shlex.join(sys.argv[1:])}",
    )
    if as_json:
        render.print_json(result)
        return
    render.show(curve_report.score_rows(result), as_json=False, title=result["metric"])
    render.print_text(f"{result['finding']}\n")
    for line in result["also"]:
        render.print_text(f"{line}\n")
    render.print_text(f"{result['report']}\n")


def _counts(text: str) -> list[int]:
    """`16,64,all` as numbers; `all` is `curve_samples.ALL`."""
    like, what = "16,64,256,all", "number of labels"
    given = words(text.replace(" ", ","))
    return [
        sys.maxsize if w == "all" else numbers(w, "--labels", int, like, what)[0] for w in given
    ]


def alphabets(
    model: ModelOrFile = None,
    /,
    *,
    own: Annotated[
        str,
        Parameter(
            group=_STUDY,
            help="An encoder pre-trained on such sequences (symbols tokenizer) [none].",
        ),
    ] = "",
    draws: Annotated[
        int, Parameter(group=_STUDY, help="Random draws of words for the symbols [3].")
    ] = 3,
    seeds: Annotated[int, Parameter(group=_STUDY, help="Trainings of each kind [3].")] = 3,
    task: TaskFlags | None = None,
    layout: LayoutFlags | None = None,
    fine: FineFlags | None = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Does a model of language learn DNA, proteins or music faster than random weights do?

    Every symbol is given a random word.  Beside it: random weights, the same
    weights shuffled, other draws of words, n-grams, and --own.
    Reads FASTA folders (a file a class), UCI files (label, name, sequence),
    tables, and JSON lines whose text is a list of symbols.
    """
    config = what_to_learn(model, task, layout, fine)
    from selfsup.studies import alphabets as study

    folder = out or Path("runs") / f"alphabets-{Path(config.data.train).name.split('.')[0]}"
    result = study.run(
        config,
        folder,
        own=own,
        draws=draws,
        seeds=seeds,
        overwrite=overwrite,
        quiet=quiet or as_json,
    )
    if as_json:
        render.print_json(result)
        return
    floors = [{"start": name, "median": score} for name, score in result["floors"].items()]
    render.show([*result["table"], *floors], as_json=False, title=result["score"])
    render.print_text(result["finding"])


def contexts(
    model: Model,
    /,
    *,
    data: Annotated[
        str,
        Parameter(
            name=["--data", "-d"],
            group=_STUDY,
            help="A table of texts and the word's sense in each.",
        ),
    ],
    word: Annotated[str, Parameter(name=["--word", "-w"], group=_STUDY, help="The word.")],
    control: Annotated[
        str,
        Parameter(
            group=_STUDY,
            help="A word without such senses in the same texts [the one in most of them].",
        ),
    ] = "",
    layout: LayoutFlags | None = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Does a word's vector follow its meaning?

    Is what lies nearest to a word used in the same sense, layer by layer?
    Beside it: random weights, the words around (TF-IDF), and a control
    word of the same texts, which shows what is the kind of text alone.
    """
    if not data:
        raise UserError("no file", where="--data", mend="name a table of texts and senses")
    config = what_to_learn(model, TaskFlags(task="classify", train=data), layout, None)
    from selfsup.studies import contexts as study

    folder = out or Path("runs") / f"contexts-{Path(data).name.split('.')[0]}"
    result = study.run(
        config.model, config.data, word, folder, control=control, overwrite=overwrite
    )
    if as_json:
        render.print_json(result)
        return
    names = [name for name in ("word", "control", "random weights") if name in result["layers"]]
    rows = [
        {
            "layer": number,
            **{name: round(result["layers"][name][number]["accuracy"], 3) for name in names},
        }
        for number in range(len(result["layers"]["word"]))
    ]
    render.show(rows, as_json=False, title="the nearest place has the same sense")
    for line in (*result["notes"], result["finding"], result["figure"]):
        render.print_text(f"{line}\n")


def in_context(
    *,
    data: Annotated[
        str,
        Parameter(
            name=["--data", "-d"],
            group=_STUDY,
            help="Translation pairs (.tsv, CC-CEDICT, a folder) as a family of tasks [none].",
        ),
    ] = "",
    families: Annotated[
        str, Parameter(group=_STUDY, help="Kinds of tasks [mapping,arithmetic,strings].")
    ] = "mapping,arithmetic,strings",
    seeds: Annotated[
        int, Parameter(group=_STUDY, help="Trainings; the table has medians [1].")
    ] = 1,
    minutes: Annotated[float | None, Parameter(group=_STUDY, help="Of each training [10].")] = None,
    steps: Annotated[
        int | None, Parameter(group=_STUDY, help="Of each training, in place of minutes.")
    ] = None,
    layers: Annotated[int, Parameter(group=_STUDY, help="Of the decoder [2].")] = 2,
    width: Annotated[int, Parameter(group=_STUDY, help="Of the decoder [64].")] = 64,
    device: DeviceName = None,
    precision: PrecisionName = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Does a small decoder learn from examples in its context, and since when?

    Trains on rows that show one task each (mappings between words, hidden
    constants, strings, --data) and asks about tasks it was never trained on,
    behind 0 to 16 examples, true and with shuffled outputs.  The same
    command again goes on where it stopped.
    """
    budget = _budget(minutes, steps)
    if layers < 1 or width < 8 or width % 8:
        where, what = ("--layers", layers) if layers < 1 else ("--width", width)
        raise UserError(f"cannot be {what}", where=where, mend="layers from 1, a width of 8, 16, …")
    if precision not in {None, "auto", "fp32", "bf16"}:
        raise UserError(f"'{precision}' is no precision", where="--precision", mend="fp32 or bf16")
    from selfsup.studies import in_context as study

    folder = out or Path("runs/in-context")
    settings = study.Settings(
        budget=budget,
        families=tuple(words(families.replace(" ", ","))),
        layers=layers,
        width=width,
        device=device or "auto",
        precision=precision or "auto",
    )
    result = study.run(
        folder,
        settings=settings,
        data=data,
        seeds=seeds,
        overwrite=overwrite,
        quiet=quiet or as_json,
    )
    if as_json:
        render.print_json(result)
        return
    render.show(result["table"], as_json=False, title="accuracy")
    for line in result["findings"].values():
        render.print_text(f"{line}\n")
    render.print_text(f"{folder / 'figures'}\n")


def _budget(minutes: float | None, steps: int | None) -> str:
    """What one training may take."""
    if minutes is not None and steps is not None:
        raise UserError("give either --minutes or --steps", where="--steps")
    for flag, value in (("--minutes", minutes), ("--steps", steps)):
        if value is not None and not value > 0:
            raise UserError(f"must be greater than 0, not {value:g}", where=flag)
    return f"{steps} steps" if steps is not None else f"{minutes or 10:g} minutes"
