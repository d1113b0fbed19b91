"""A GLUE task's files, read and tokenized for one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from selfsup.data.keys import permute
from selfsup.errors import UserError
from selfsup.finetune_config import FinetuneConfig, LabelledConfig
from selfsup.models.hub import Pretrained
from selfsup.tasks.glue import GlueTask, TaskFiles
from selfsup.tasks.labelled import TextExample, label_set
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


@dataclass(frozen=True)
class Prepared:
    """A task's examples, tokenized for a model."""

    config: FinetuneConfig
    sets: Sets
    """What is learned from; nothing in it is looked at while training."""
    devs: tuple[AnySet, ...]
    tests: tuple[AnySet, ...]
    notes: tuple[str, ...]


def prepare(
    files: TaskFiles, base: FinetuneConfig, pretrained: Pretrained, limit: int | None = None
) -> Prepared:
    """Read a task's files and tokenize them.

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
    parts = read_parts(config, pretrained.max_length, strict=strict)
    _check_labels(task, parts, files.train)
    devs = [parts.dev, *(_read(p, task, layout, notes, "score") for p in files.devs[1:])]
    for place, dev in enumerate(devs[1:], start=1):
        if not strict:
            dev = leave_out_unknown(dev, parts.info.labels, notes, str(files.devs[place]))
            devs[place] = dev
        texts = cast("tuple[Sequence[TextExample], ...]", (parts.train, dev))
        label_set(*texts)
    away = task.layout(base.data, test=True)
    tests = [_read(path, task, away, notes, "predict") for _, path in files.tests]
    parts = _limited(parts, limit)
    sets = make_sets(parts, pretrained)
    types = pretrained.config.type_vocab_size > 1
    others = [
        make_set(pretrained.tokenizer, examples, parts.info, types=types)
        for examples in (*devs[1:], *tests)
    ]
    assert sets.dev is not None
    # Whole passes, at most: of a small task the toolkit's least number of steps would be many more.
    steps = max(1, int(base.epochs * len(parts.train) / base.train.batch_size))
    train = base.train.model_copy(update={"budget": Budget(amount=steps, unit="steps")})
    return Prepared(
        config.model_copy(update={"epochs": 0.0, "train": train}),
        replace(sets, dev=None, test=None),
        (sets.dev, *others[: len(devs) - 1]),
        tuple(others[len(devs) - 1 :]),
        (*_told(task, parts, sets), *notes.lines, *_cut(files, others)),
    )


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
    return read_examples(str(path), layout, task.kind, notes, numeric=not task.labels, role=role)


def _check_labels(task: GlueTask, parts: Parts, path: Path) -> None:
    wanted = "class" if task.labels else "number"
    if parts.info.answer != wanted:
        what = f"the scores of {task.name} are not numbers, of which some are fractions"
        if task.labels:
            what = f"the labels of {task.name} are numbers with fractions, not classes"
        raise UserError(what, where=str(path))
    if strange := sorted(set(parts.info.labels) - set(task.labels)):
        what = f"'{strange[0]}' is no label of {task.name}"
        raise UserError(what, where=str(path), mend=f"GLUE has {', '.join(task.labels)}")
