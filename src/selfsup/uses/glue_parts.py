"""A GLUE task's files, read and tokenized for one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from selfsup.data.files import listed
from selfsup.data.keys import permute
from selfsup.errors import UserError, counted
from selfsup.finetune_config import FinetuneConfig, LabelledConfig
from selfsup.models.hub import Pretrained
from selfsup.tasks.glue import GlueTask, TaskFiles
from selfsup.tasks.labelled import TextExample, label_set, unknown_labels
from selfsup.tasks.reading import (
    Notes,
    Parts,
    Role,
    leave_out_unknown,
    read_examples,
    read_parts,
)
from selfsup.tasks.samples import learned_from
from selfsup.tasks.task import AnySet, Examples, make_set
from selfsup.train_config import Budget
from selfsup.uses.finetuning import Sets, make_sets, told

_FEW_STEPS = 10
"""Of training; the score of fewer says nothing."""


@dataclass(frozen=True)
class _Read:
    """A task's examples as its files have them."""

    config: FinetuneConfig
    parts: Parts
    devs: tuple[Examples, ...]
    tests: tuple[Examples, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Prepared:
    """A task's examples, tokenized for a model."""

    config: FinetuneConfig
    sets: Sets
    """What is learned from; nothing in it is looked at while training."""
    devs: tuple[AnySet, ...]
    tests: tuple[AnySet, ...]
    notes: tuple[str, ...]


def read_task(files: TaskFiles, base: FinetuneConfig, longest: int) -> _Read:
    """Read a task's files.

    Args:
        files: where they are.
        base: the settings of all trainings.
        longest: tokens that the encoder reads.

    Raises:
        UserError: with file and line; a label that is none of the task's.
    """
    task, notes = files.task, Notes()
    layout = task.layout(base.data)
    named = {"train": str(files.train), "dev": str(files.devs[0])}
    config = base.model_copy(update={"task": task.kind, "data": layout.model_copy(update=named)})
    if not task.labels:
        config = config.model_copy(update={"class_weights": "none"})
    strict = base.data.on_bad_row != "skip"  # QQP's own layout skips broken lines, not labels

    def keep(train: Examples) -> Examples:
        return _with_known_labels(task, train, notes, files.train, strict=strict)

    parts = read_parts(config, longest, strict=strict, layout=_layout(task), keep=keep)
    _check_answer(task, parts, files.train)
    devs = [parts.dev, *(_read(p, task, layout, notes, "score") for p in files.devs[1:])]
    for place, dev in enumerate(devs[1:], start=1):
        if not strict:
            dev = leave_out_unknown(dev, parts.info.labels, notes, str(files.devs[place]))
            devs[place] = dev
        texts = cast("tuple[Sequence[TextExample], ...]", (parts.train, dev))
        label_set(*texts)
    away = task.layout(base.data, test=True)
    tests = [_read(path, task, away, notes, "predict") for _, path in files.tests]
    return _Read(config, parts, tuple(devs), tuple(tests), tuple(notes.lines))


def prepare(
    files: TaskFiles, base: FinetuneConfig, pretrained: Pretrained, limit: int | None = None
) -> Prepared:
    """Read a task's files and tokenize them.

    Raises:
        UserError: with file and line; a label that is none of the task's.
    """
    task, read = files.task, read_task(files, base, pretrained.max_length)
    parts = _limited(read.parts, limit)
    sets = make_sets(parts, pretrained)
    types = pretrained.config.type_vocab_size > 1
    others = [
        make_set(pretrained.tokenizer, examples, parts.info, types=types)
        for examples in (*read.devs[1:], *read.tests)
    ]
    assert sets.dev is not None
    # Whole passes, at most: of a small task the toolkit's least number of steps would be many more.
    steps = max(1, int(base.epochs * len(parts.train) / base.train.batch_size))
    train = base.train.model_copy(update={"budget": Budget(amount=steps, unit="steps")})
    more = len(read.devs) - 1
    few = _few(steps, limit if len(parts.train) < len(read.parts.train) else None)
    return Prepared(
        read.config.model_copy(update={"epochs": 0.0, "train": train}),
        replace(sets, dev=None, test=None),
        (sets.dev, *others[:more]),
        tuple(others[more:]),
        (*_told(task, parts, sets), *read.notes, *_cut(files, others), *few),
    )


def _few(steps: int, limit: int | None) -> list[str]:
    """Whether there are too few steps for a score that says something."""
    if steps >= _FEW_STEPS:
        return []
    more = "a smaller batch" if limit is None else f"more examples than --limit {limit}"
    what = f"only {counted(steps, 'step')} of training: its score says nothing yet"
    return [f"{what}; {more} or more epochs"]


def _limited(parts: Parts, limit: int | None) -> Parts:
    """So many training examples, drawn at random; scale and weights are theirs alone."""
    whole = len(parts.train)
    if limit is None or limit >= whole:
        return parts
    chosen = np.sort(permute(np.arange(limit), whole, 17)).tolist()
    train = cast("Examples", [parts.train[i] for i in chosen])
    info, weights = learned_from(train, parts.info, weighted=parts.weights is not None)
    return replace(parts, train=train, info=info, weights=weights)


def _told(task: GlueTask, parts: Parts, sets: Sets) -> list[str]:
    """What reading has to say; not that STS-B has numbers, which everybody knows."""
    expected = "\0" if task.labels else "labels are numbers"
    return [line for line in told(parts, sets) if not line.startswith(expected)]


def _cut(files: TaskFiles, others: Sequence[AnySet]) -> list[str]:
    """How many texts of the second dev file and of test files are too long."""
    paths = (*files.devs[1:], *(path for _, path in files.tests))
    return [
        f"{cut:,} texts of {path.name} are too long: cut"
        for path, part in zip(paths, others, strict=True)
        if (cut := getattr(part, "cut", 0))
    ]


def _read(path: Path, task: GlueTask, layout: LabelledConfig, notes: Notes, role: Role) -> Examples:
    return read_examples(
        str(path),
        layout,
        task.kind,
        notes,
        numeric=not task.labels,
        role=role,
        layout=_layout(task, test=role == "predict"),
    )


def _layout(task: GlueTask, *, test: bool = False) -> str:
    """What GLUE's own file has, for one that lacks a column."""
    asked = task.layout(LabelledConfig(), test=test)
    columns = [asked.text_column, asked.pair_column, *([] if test else [asked.label_column])]
    numbers = "" if asked.header else ", numbered from 0, and no header"
    names = listed([column for column in columns if column])
    return f"this is not GLUE's own file of {task.name}, which has the columns {names}{numbers}"


def _with_known_labels(
    task: GlueTask, train: Examples, notes: Notes, path: Path, *, strict: bool
) -> Examples:
    """The training examples whose labels are the task's; else the first of the others stops."""
    strange = [bool(task.labels and unknown_labels(example, task.labels)) for example in train]
    if not any(strange):
        return train
    first = cast("TextExample", train[strange.index(True)])
    what = f"'{first.label}' is no label of {task.name}"
    if strict or all(strange):
        mend = f"GLUE has {', '.join(task.labels)}"
        if not all(strange):
            mend += "; mend the row, or leave such rows out with --on-bad-row skip"
        raise UserError(what, where=first.where, mend=mend)
    rows = counted(sum(strange), "row")
    notes.add(f"{rows} of {path} left out, with labels that are none; first: {first.where}: {what}")
    kept = [example for example, out in zip(train, strange, strict=True) if not out]
    return cast("Examples", kept)


def _check_answer(task: GlueTask, parts: Parts, path: Path) -> None:
    """Refuse scores that are whole numbers throughout: they would be learned as classes."""
    if not task.labels and parts.info.answer != "number":
        what = f"the scores of {task.name} are not numbers, of which some are fractions"
        raise UserError(what, where=str(path))
