"""The verbs of `selfsup study` that ask about auto-encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.autoencoder_commands import Examples, ReadingFlags, read_examples
from selfsup.cli.flags import Json, Out, Overwrite, Quiet, numbers, words
from selfsup.errors import at_least

if TYPE_CHECKING:
    from selfsup.studies.autoencoder_cells import Plan

_STUDY = Group("Study", sort_key=0)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StudyFlags:
    """How long, how often, and where it goes."""

    steps: Annotated[int, Parameter(group=_STUDY, help="Of each training [1000].")] = 1000
    seeds: Annotated[int, Parameter(group=_STUDY, help="Trainings of each; medians [1].")] = 1
    rows: Annotated[int | None, Parameter(help="Read at most so many examples [all].")] = None
    out: Out = None
    overwrite: Overwrite = False
    quiet: Quiet = False


def _plan(
    data: str,
    reading: ReadingFlags | None,
    flags: StudyFlags | None,
    labels: str,
    verb: str,
    js: bool,
) -> Plan:
    from selfsup.studies.autoencoder_cells import Plan

    flags = flags or StudyFlags()
    if flags.rows is not None:
        at_least(2, flags.rows, "--rows")
    return Plan(
        data=read_examples(data, reading, labels, flags.rows),
        out=flags.out or Path("runs") / verb,
        steps=flags.steps,
        seeds=flags.seeds,
        overwrite=flags.overwrite,
        quiet=flags.quiet or js,
    )


def dimensions(
    *,
    data: Examples,
    sizes: Annotated[
        str, Parameter(group=_STUDY, help="Numbers in the code [2,4,8,16,32,64].")
    ] = "",
    reading: ReadingFlags | None = None,
    study: StudyFlags | None = None,
    as_json: Json = False,
) -> None:
    """How many numbers does a code need?  Held-out error against its size, beside PCA.

    The same command again goes on where it stopped.
    """
    given = numbers(sizes, "--sizes", int)
    from selfsup.studies import dimensions as made

    plan = _plan(data, reading, study, "", "dimensions", as_json)
    result = made.run(plan, given or made.SIZES)
    render.show(result, as_json=as_json, title=str(plan.out))


def codebook(
    *,
    data: Examples,
    quantizers: Annotated[
        str, Parameter(group=_STUDY, help="Which of fsq, vq and vq-bare [all].")
    ] = "",
    reading: ReadingFlags | None = None,
    study: StudyFlags | None = None,
    as_json: Json = False,
) -> None:
    """Which codes are used?  Usage, perplexity and dead codes over training, VQ and FSQ.

    All have 240 codes and the same network.  The same command again goes on
    where it stopped.
    """
    from selfsup.studies import codebook as made

    plan = _plan(data, reading, study, "", "codebook", as_json)
    names = words(quantizers)
    result = made.run(plan, names or tuple(made.QUANTIZERS))
    render.show(result, as_json=as_json, title=str(plan.out))


def denoising(
    *,
    data: Examples,
    labels: Annotated[
        str, Parameter(group=_STUDY, help="The classes, for probes; never trained on [none].")
    ] = "",
    noises: Annotated[
        str, Parameter(group=_STUDY, help="Standard deviations [0,0.1,0.2,0.4,0.8].")
    ] = "",
    code_size: Annotated[int, Parameter(group=_STUDY, help="Numbers in the code [64].")] = 64,
    reading: ReadingFlags | None = None,
    study: StudyFlags | None = None,
    as_json: Json = False,
) -> None:
    """What does noise buy?  Gain in dB and the accuracy of probes against the noise.

    The same command again goes on where it stopped.
    """
    from selfsup.studies import denoising as made

    plan = _plan(data, reading, study, labels, "denoising", as_json)
    result = made.run(
        plan, numbers(noises, "--noises", float, "0,0.2,0.4") or made.NOISES, code_size
    )
    render.show(result, as_json=as_json, title=str(plan.out))
