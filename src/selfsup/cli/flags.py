"""Flags that several verbs share, and how they become settings of a configuration."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_origin

from cyclopts import Group, Parameter, Token

from selfsup.data.paths import expanded
from selfsup.errors import UserError

if TYPE_CHECKING:
    from selfsup.config import (
        PretrainConfig,
        SourceConfig,
    )

_CORPUS = Group("Corpus", sort_key=1)
_TRAINING = Group("Training", sort_key=2)
_OUTPUT = Group("Output", sort_key=3)


def _place(kind: Any, tokens: Sequence[Token]) -> Any:
    """What words of a command line mean as a path, or as several where the flag may be repeated."""
    found = [_expanded(token.value, token.keyword or "") for token in tokens]
    return found if get_origin(kind) is list else found[0]


def _expanded(given: str, flag: str) -> Path:
    try:
        return expanded(given)
    except UserError as error:
        where = f"{flag} {error.where}".strip()
        raise UserError(error.what, where=where, mend=error.mend) from None


PlaceOf = Parameter(converter=_place)
"""Of every parameter that is a path."""

Json = Annotated[
    bool, Parameter(name="--json", negative="", group=_OUTPUT, help="Print JSON and nothing else.")
]
Quiet = Annotated[
    bool, Parameter(name=["--quiet", "-q"], negative="", group=_OUTPUT, help="No progress.")
]
Verbose = Annotated[
    bool, Parameter(name=["--verbose", "-v"], negative="", group=_OUTPUT, help="Say more.")
]
Overwrite = Annotated[
    bool,
    Parameter(name="--overwrite", negative="", group=_OUTPUT, help="Replace what is there."),
]
Out = Annotated[
    Path | None,
    PlaceOf,
    Parameter(name=["--out", "-o"], group=_OUTPUT, help="Folder for everything that is made."),
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or cuda:1 [auto].")]
Model = Annotated[str, Parameter(help="A run folder, a model folder, or a hub name.")]
Column = Annotated[
    str | None,
    Parameter(group=_CORPUS, help="Column or JSON key that holds the text [text]."),
]
Unit = Annotated[
    Literal["file", "paragraph", "line"] | None,
    Parameter(group=_CORPUS, help="What a document is in a .txt file [file]."),
]
OnBadRow = Annotated[
    Literal["stop", "skip"] | None,
    Parameter(group=_CORPUS, help="A row that cannot be read: stop, or skip and count it [stop]."),
]
Data = Annotated[
    list[str],
    Parameter(
        name=["--data", "-d"],
        negative="",
        group=_CORPUS,
        help="A file, folder or quoted glob; `docstrings:`; may be repeated; `PATH@2.0`: twice.",
    ),
]


ConfigFiles = Annotated[
    list[Path],
    PlaceOf,
    Parameter(
        name=["--config", "-c"],
        negative="",
        group=_TRAINING,
        help="A YAML or JSON file of settings; may be repeated, later ones win.",
    ),
]
DeviceName = Annotated[
    str | None, Parameter(group=_TRAINING, help="auto, cpu, cuda or cuda:1 [auto].")
]
PrecisionName = Annotated[str | None, Parameter(group=_TRAINING, help="auto, fp32 or bf16 [auto].")]
Seed = Annotated[int | None, Parameter(group=_TRAINING, help="Of every random draw [0].")]
Settings = Annotated[
    list[str],
    Parameter(
        name="--set",
        negative="",
        group=_TRAINING,
        help="Any setting: `--set train.batch_size=64`, or shorter `--train.batch_size 64`.",
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CorpusFlags:
    """Which texts."""

    data: Data = field(default_factory=list)
    column: Column = None
    unit: Unit = None
    on_bad_row: OnBadRow = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class BudgetFlags:
    """How long."""

    minutes: Annotated[float | None, Parameter(group=_TRAINING, help="Train this long.")] = None
    steps: Annotated[int | None, Parameter(group=_TRAINING, help="Train so many steps.")] = None
    tokens: Annotated[float | None, Parameter(group=_TRAINING, help="Train on so many tokens.")] = (
        None
    )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class SettingFlags:
    """Everything else of a configuration."""

    config: ConfigFiles = field(default_factory=list)
    device: DeviceName = None
    precision: PrecisionName = None
    seed: Seed = None
    init: Annotated[
        str | None, Parameter(group=_TRAINING, help="A model to go on from [random weights].")
    ] = None
    processes: Annotated[
        int | None, Parameter(group=_TRAINING, help="Data-parallel processes here [1].")
    ] = None
    settings: Settings = field(default_factory=list)


def sources(flags: CorpusFlags) -> list[dict[str, Any]]:
    """`--data` and the flags about it as `data.sources`."""
    common = {"column": flags.column, "unit": flags.unit, "on_bad_row": flags.on_bad_row}
    given = {key: value for key, value in common.items() if value is not None}
    for path in flags.data:
        _expanded(path, "--data")
    return [_weighted(path) | given for path in flags.data]


def source_configs(flags: CorpusFlags) -> list[SourceConfig]:
    """`--data` and the flags about it, checked.

    Raises:
        UserError: no `--data`, or a weight that is none.
    """
    from selfsup.config import SourceConfig
    from selfsup.config_files import load_config

    if not flags.data:
        raise UserError("no corpus", where="--data", mend="name a file, a folder or a quoted glob")
    with own_names():
        return [load_config(SourceConfig, base=source) for source in sources(flags)]


def _weighted(given: str) -> dict[str, Any]:
    """`PATH@2.0` as a path and its weight; a file that is really called so is left alone."""
    found = re.fullmatch(r"(.+)@([0-9.]+)", given)
    if not found or expanded(given).exists():
        return {"path": given}
    try:
        weight = float(found[2])
    except ValueError:
        raise UserError(f"'{found[2]}' is no weight", where=f"--data {given}") from None
    if not weight > 0:
        raise UserError(f"a weight must be greater than 0, not {weight:g}", where=f"--data {given}")
    return {"path": found[1], "weight": weight}


def budget(flags: BudgetFlags) -> str:
    """The one budget that was given, as `20 minutes`; empty when none was.

    Raises:
        UserError: two budgets, or one that is not above 0.
    """
    given = {
        unit: amount
        for unit in ("minutes", "steps", "tokens")
        if (amount := getattr(flags, unit)) is not None
    }
    if len(given) > 1:
        names = " and ".join(f"--{unit}" for unit in given)
        raise UserError(f"{names} exclude each other", mend="give one budget")
    for unit, amount in given.items():
        if not amount > 0:
            raise UserError(f"must be greater than 0, not {amount:g}", where=f"--{unit}")
        return f"{amount!r} {unit}"
    return ""


def resolve(
    recipe: str | None,
    corpus: CorpusFlags,
    time: BudgetFlags,
    settings: SettingFlags,
    *,
    default_recipe: str | None = None,
) -> PretrainConfig:
    """The configuration that a recipe, files and flags amount to; later ones win.

    Raises:
        UserError: an unknown recipe, setting or value; neither recipe nor file.
    """
    from selfsup import recipes
    from selfsup.config import PretrainConfig
    from selfsup.config_files import load_config, read_yaml

    name = recipe
    for file in settings.config if name is None else ():
        name = read_yaml(file)[0].get("recipe") or name
    name = name or default_recipe
    if name is None and not settings.config:
        raise UserError("no recipe", mend="`selfsup recipes` lists them")
    # A file may describe a whole run without a recipe; then there is nothing to start from.
    base = recipes.get(str(name)) if name else None
    overrides = [f"--recipe={name}"] if recipe else []
    overrides += named_settings(time, settings)
    if corpus.data:
        overrides.append(f"--data.sources={json.dumps(sources(corpus))}")
    overrides += [f"--{setting}" for setting in settings.settings]

    def load(extra: Sequence[str] = ()) -> PretrainConfig:
        tokens = [*overrides, *extra]
        with own_names():
            return load_config(PretrainConfig, base=base, files=settings.config, overrides=tokens)

    if corpus.data:
        return load()
    # `--column` and its like, for the sources that a file names.
    about = {"column": corpus.column, "unit": corpus.unit, "on_bad_row": corpus.on_bad_row}
    given = {key: value for key, value in about.items() if value is not None}
    count = len(load().data.sources) if given else 0
    if given and not count:
        raise UserError("is about --data, which is missing", where=f"--{next(iter(given))}")
    return load(
        [f"--data.sources.{i}.{key}={value}" for i in range(count) for key, value in given.items()]
    )


_LONG_NAMES = {
    "--train.device": "--device",
    "--train.precision": "--precision",
    "--train.processes": "--processes",
    "--data.sources": "--data",
}


def named_settings(time: BudgetFlags, settings: SettingFlags) -> list[str]:
    """The flags with names of their own, as settings."""
    named = {
        "--train.budget": budget(time) or None,
        "--train.device": settings.device,
        "--train.precision": settings.precision,
        "--seed": settings.seed,
        "--init": settings.init,
        "--train.processes": settings.processes,
    }
    return [f"{flag}={value}" for flag, value in named.items() if value is not None]


@contextmanager
def own_names(names: Mapping[str, str] = _LONG_NAMES) -> Iterator[None]:
    """Lets the loader's errors speak of the flags as the user wrote them.

    Args:
        names: the setting's long name to the flag's.
    """
    try:
        yield
    except UserError as error:
        where = names.get(error.where, error.where)
        raise UserError(error.what, where=where, mend=error.mend) from None


@contextmanager
def about(where: str) -> Iterator[None]:
    """Gives errors without a place this one."""
    try:
        yield
    except UserError as error:
        raise UserError(error.what, where=error.where or where, mend=error.mend) from None


def words(text: str) -> list[str]:
    """What a flag lists, parted by commas; a name may hold spaces."""
    return [word.strip() for word in text.split(",") if word.strip()]


_N = TypeVar("_N", int, float)


def numbers(
    text: str, flag: str, kind: type[_N], like: str = "2,8,32", what: str | None = None
) -> list[_N]:
    """Numbers that a flag lists.

    Args:
        text: as it was given.
        flag: for messages.
        kind: int or float.
        like: an example, for messages.
        what: what each is, for messages; else a number, or a whole number.

    Raises:
        UserError: a word that is none.
    """
    found = []
    for word in words(text.replace(" ", ",")):
        try:
            number = kind(word)
            if not math.isfinite(number):
                raise ValueError
            found.append(number)
        except ValueError:
            name = what or ("whole number" if kind is int else "number")
            raise UserError(f"'{word}' is no {name}", where=flag, mend=f"like {like}") from None
    return found


def unescaped(text: str) -> str:
    r"""`\n` and `\t` as a shell hands them over."""
    return text.replace("\\n", "\n").replace("\\t", "\t")
