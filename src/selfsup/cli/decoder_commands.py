"""The verbs about decoders: few-shot prompting, and the outside judge."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.flags import Json, Model, Out, Overwrite, PlaceOf, Quiet, numbers, unescaped, words
from selfsup.errors import UserError, counted

_TASK = Group("Task", sort_key=0)
_HOW = Group("How it is asked", sort_key=1)

Device = Annotated[str, Parameter(group=_HOW, help="auto, cpu, cuda or cuda:1 [auto].")]
BatchTokens = Annotated[int, Parameter(group=_HOW, help="Tokens that are computed at once [4096].")]
Limit = Annotated[
    int | None, Parameter(group=_TASK, help="Ask about at most so many examples [all].")
]


def fewshot(
    model: Model,
    /,
    *models: Annotated[str, Parameter(help="More models, for comparison.")],
    task: Annotated[
        Path, PlaceOf, Parameter(name=["--task", "-t"], group=_TASK, help="A .jsonl file.")
    ],
    test: Annotated[
        Path | None,
        PlaceOf,
        Parameter(group=_TASK, help="Examples to ask about [half of --task's]."),
    ] = None,
    limit: Limit = None,
    separator: Annotated[
        str | None,
        Parameter(
            group=_TASK, help="Between input and output, `\\n`, `\\t` [the file's, or a tab]."
        ),
    ] = None,
    ending: Annotated[
        str | None, Parameter(group=_TASK, help="After an output [the file's, or a line end].")
    ] = None,
    shots: Annotated[
        str, Parameter(group=_HOW, help="Examples in the prompt [0,1,2,4,8,16,32].")
    ] = "0,1,2,4,8,16,32",
    draws: Annotated[int, Parameter(group=_HOW, help="Random draws of the examples [5].")] = 5,
    seed: Annotated[int, Parameter(group=_HOW, help="Of every random draw [0].")] = 0,
    max_tokens: Annotated[
        int, Parameter(group=_HOW, help="Of an answer that is written [32].")
    ] = 32,
    normalize: Annotated[
        Literal["none", "tokens", "bytes"],
        Parameter(group=_HOW, help="A choice's log-probability is divided by its … [bytes]."),
    ] = "bytes",
    device: Device = "auto",
    batch_tokens: BatchTokens = 4096,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show a decoder a task in its prompt: accuracy against the number of examples.

    With `choices` in the file the likeliest choice is the answer, without
    it is written.  Beside it: the most frequent answer, and the same prompts
    with shuffled labels.  The same command again goes on where it stopped.
    """
    counts = numbers(shots, "--shots", int, "0,1,2,4,8", "number of examples")
    from selfsup.studies import fewshot as study

    result = study.run(
        [model, *models],
        task,
        out or Path("runs") / f"fewshot-{task.name.split('.')[0]}",
        study.Settings(
            shots=counts,
            draws=draws,
            seed=seed,
            normalize=normalize,
            max_tokens=max_tokens,
            limit=limit,
            batch_tokens=batch_tokens,
        ),
        test_file=test,
        separator=None if separator is None else unescaped(separator),
        ending=None if ending is None else unescaped(ending),
        device=device,
        overwrite=overwrite,
        quiet=quiet or as_json,
        command=f"selfsup {shlex.join(sys.argv[1:])}",
    )
    if as_json:
        render.print_json(result)
        return
    render.show(result["table"], as_json=False, title=f"{result['task']}: {result['how']}")
    for row in result["left_out"]:
        fit = "" if row["fit"] is None else f"; {row['fit']} would fit"
        many = f"{counted(row['shots'], 'example')} {'is' if row['shots'] == 1 else 'are'}"
        render.note(f"{row['model']}: {many} left out: {row['why']}{fit}")
    for line in result["notes"]:
        render.note(line)
    render.print_text(f"{result['finding']}\n")
    render.print_text(f"{result['figure']}\n")


def judge(
    model: Model,
    /,
    *,
    tasks: Annotated[
        str,
        Parameter(
            group=_TASK, help="Comma-separated; `selfsup judge MODEL --tasks list` says which."
        ),
    ] = "lambada,piqa,copa,arc_easy,winogrande,blimp",
    data: Annotated[
        Path | None,
        PlaceOf,
        Parameter(name=["--data", "-d"], group=_TASK, help="Folder of the tasks' files."),
    ] = None,
    limit: Limit = None,
    own: Annotated[
        bool,
        Parameter(negative="", group=_HOW, help="Our own scorer; the harness need not be there."),
    ] = False,
    device: Device = "auto",
    batch_tokens: BatchTokens = 4096,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let EleutherAI's evaluation harness judge a decoder, on local task files.

    Needs the extra `judge`; with --own, selfsup's scorer answers the same
    questions.
    """
    from selfsup.uses import judge as judging
    from selfsup.uses.judge_tasks import known_tasks

    if tasks == "list":
        render.show(known_tasks(), as_json=as_json)
        return
    if data is None:
        raise UserError("is missing", where="--data", mend="name the folder of the tasks' files")
    result = judging.judge(
        model,
        words(tasks.replace(" ", ",")),
        data,
        limit=limit,
        own=own,
        device=device,
        batch_tokens=batch_tokens,
        out=out,
        overwrite=overwrite,
        quiet=quiet or as_json,
    )
    if as_json:
        render.print_json(result)
        return
    render.show(result["table"], as_json=False, title=f"{model}: {result['judge']}")
    for line in result["notes"]:
        render.note(line)
