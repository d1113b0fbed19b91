"""From labelled files to a task: which reader, which labels, which part is held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import decimal_comma, number_of
from selfsup.data.files import ReadReport, plain_suffix, refuse_broken_link
from selfsup.data.keys import permute
from selfsup.data.paths import expanded
from selfsup.data.tables import JSON_SUFFIXES
from selfsup.errors import UserError, counted, nearest
from selfsup.finetune_config import FinetuneConfig, LabelledConfig, TaskKind
from selfsup.models.task_hub import Answer
from selfsup.tasks.label_notes import label_notes, score_notes
from selfsup.tasks.labelled import (
    TaggedSentence,
    TextExample,
    class_weights,
    label_set,
    unknown_labels,
)
from selfsup.tasks.metrics import are_entities
from selfsup.tasks.squad import Question, read_squad
from selfsup.tasks.tagged_files import read_tagged
from selfsup.tasks.task import SCORES, Examples, TaskInfo
from selfsup.tasks.text_files import read_by_layout
from selfsup.tasks.texts import learned_scale

Role = Literal["train", "score", "predict"]

_DEV_SHARE, _DEV_LEAST = 0.1, 20
SHORTEST = 8
"""Tokens, special ones included; less is no text to learn from."""
_MOSTLY = 0.95  # of the labels of pairs, to be taken for numbers with some junk among them


_MANY_WORDS = 50
"""In a file of one sentence: so many that it may be none."""


@dataclass
class Notes:
    """What a person should know about the data."""

    lines: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """One more; the same is said once."""
        if line not in self.lines:
            self.lines.append(line)


def read_examples(
    path: str,
    data: LabelledConfig,
    kind: TaskKind,
    notes: Notes,
    *,
    numeric: bool,
    role: Role,
    report: ReadReport | None = None,
    layout: str = "",
) -> Examples:
    """The examples of a file.

    Args:
        path: where.
        data: how it is laid out.
        kind: the task.
        notes: added to: rows skipped, answers repaired.
        numeric: whether labels are numbers.
        role: what they are for.  To be predicted, every row counts and labels are not looked at; to be
            scored, an answer that is not in its passage stays an answer, as in the official scores.
        report: added to: how the file was read.
        layout: what to do about a column that is not there; empty: the settings that name columns.

    Raises:
        UserError: with file and line.
    """
    file, report = expanded(path), report or ReadReport(may_skip=role != "predict")
    report.layout = layout or report.layout
    if role == "predict":  # an answer for every row
        data = data.model_copy(update={"on_bad_row": "stop"})
    refuse_broken_link(file)
    if not file.exists():
        names = [p.name for p in file.parent.iterdir()] if file.parent.is_dir() else []
        raise UserError("no such file", where=path, mend=nearest(file.name, names))
    labelled = role != "predict"
    if kind == "span":
        return _questions(file, notes, role)
    if kind == "tag":
        tagged = read_tagged(
            file,
            layout=data.format,
            column=data.label_column if labelled else None,
            words_column=data.words_column,
            on_bad_row=data.on_bad_row,
            report=report,
        )
        words = len(tagged[0].words)
        if len(tagged) == 1 and words > _MANY_WORDS and plain_suffix(file) not in JSON_SUFFIXES:
            where = "a blank line ends a sentence"
            notes.add(f"{path} was read as one sentence of {words} words; {where}")
        found: Examples = tagged
    else:
        found = read_by_layout(file, data, numeric, labelled, report)
    note_report(notes, report, path)
    return found


def note_report(notes: Notes, report: ReadReport, path: str) -> None:
    """Say how a file was read where that is noteworthy, and how many rows were left out."""
    for line in report.notes:
        notes.add(f"{path}: {line}")
    if report.bad_rows:
        rows = counted(report.bad_rows, "row")
        notes.add(f"{rows} of {path} skipped; first: {report.bad_examples[0]}")


def _questions(file: Path, notes: Notes, role: Role) -> Sequence[Question]:
    on_bad: Literal["count", "keep"] = "count" if role == "train" else "keep"
    questions, report = read_squad(file, labelled=role != "predict", on_bad=on_bad)
    if report.repaired:
        answers = counted(report.repaired, "answer")
        notes.add(f"{answers} of {file} stood elsewhere than said; put right")
    if report.kept:
        answers = counted(report.kept, "answer")
        notes.add(f"{answers} of {file} without a certain place in the passage; counted as text")
    for left_out, unit in ((report.dropped, "answer"), (report.refused, "question")):
        if left_out:
            what = f"{counted(left_out, unit)} of {file} left out"
            where = "without a certain place in the passage"
            notes.add(f"{what}, {where}; first: {report.examples[0]}")
    return questions


def answer_kind(kind: TaskKind, examples: Examples, metric: str = "") -> Answer:
    """Whether labels are classes or numbers; pairs may have either.

    Pairs are a regression when nearly all labels are numbers and one of them is no whole number, or
    when the metric that was asked for is one of numbers.
    """
    if kind in {"tag", "span"}:
        return cast("Answer", kind)
    if kind != "pairs":
        return "number" if kind == "regress" else "class"
    if metric in SCORES["number"]:
        return "number"
    labels = [example.label for example in cast("Sequence[TextExample]", examples)]
    comma = bool(decimal_comma(labels))
    numbers = [x for x in (number_of(label, comma=comma) for label in labels) if x is not None]
    fractions = any(x % 1 for x in numbers)
    return "number" if fractions and len(numbers) >= _MOSTLY * len(labels) else "class"


@dataclass(frozen=True)
class Parts:
    """A task's examples."""

    info: TaskInfo
    train: Examples
    dev: Examples
    test: Examples | None
    weights: NDArray[np.float64] | None
    notes: Notes


def read_parts(
    config: FinetuneConfig,
    longest: int,
    *,
    strict: bool = False,
    layout: str = "",
    keep: Callable[[Examples], Examples] = lambda train: train,
) -> Parts:
    """Read the labelled files of a configuration and learn from them what the task is.

    Args:
        config: its `data` names the files.
        longest: tokens that the encoder reads.
        strict: rows to score on stop where their label was not learned, even when bad rows are skipped.
        layout: see `read_examples`.
        keep: which of the training examples may be learned, by what their labels say.

    Raises:
        UserError: files that cannot be read; labels in dev that train lacks; one class only; …
    """
    data, kind, notes = config.data, config.task, Notes()
    if not data.train:
        raise UserError("no labelled file", where="--train", mend="name one")
    numeric = kind == "regress"

    def read(
        path: str, numeric: bool, role: Role = "score", report: ReadReport | None = None
    ) -> Examples:
        return read_examples(
            path, data, kind, notes, numeric=numeric, role=role, report=report, layout=layout
        )

    train = keep(read(data.train, numeric, "train", report := ReadReport()))
    if report.literal:  # whatever other files look like, what is learned is what is answered
        data = data.model_copy(update={"quoting": "none"})
        config = config.model_copy(update={"data": data})
    answer = answer_kind(kind, train, config.metric)
    if answer == "number" and not numeric:
        train = keep(read(data.train, True, "train"))
        notes.add("labels are numbers: learned by their squared error")
    numeric = answer == "number"
    if (asked := config.max_length) > longest:
        notes.add(f"--max-length {asked:,}: this encoder reads {longest:,} tokens at most")
    for line in label_notes(train, kind, answer):
        notes.add(line)
    if data.dev:
        dev = read(data.dev, numeric)
    else:
        train, dev = hold_out(train, config.seed)
        notes.add(f"no dev file: {len(dev):,} of the training examples are held out to choose by")
    test = read(data.test, numeric) if data.test else None
    if data.on_bad_row == "skip" and answer in {"class", "tag"} and not strict:
        known = set(_all_labels(train))
        dev = leave_out_unknown(dev, known, notes, data.dev)
        test = test and leave_out_unknown(test, known, notes, data.test)
    info = learn_task(config, answer, train, [dev, *([test] if test else [])], longest)
    for line in score_notes({"dev": dev, "test": test or ()}, answer, config.span.language):
        notes.add(line)
    weights = None
    if config.class_weights == "balanced":
        if answer not in {"class", "tag"}:
            raise UserError("there are no classes to weigh", where="class_weights")
        weights = class_weights(_all_labels(train), info.labels)
    return Parts(info, train, dev, test, weights, notes)


def leave_out_unknown(
    examples: Examples, known: Collection[str], notes: Notes, path: str
) -> Examples:
    """The examples whose labels are all known (all, where nothing is).

    Args:
        examples: labelled.
        known: the class names or tags that were learned; empty: labels are no classes.
        notes: added to: how many were left out.
        path: their file.

    Raises:
        UserError: none is left.
    """
    strange = [bool(known and unknown_labels(example, known)) for example in examples]
    if not any(strange):
        return examples
    first = examples[strange.index(True)]
    rows = counted(sum(strange), "row")
    notes.add(f"{rows} of {path} left out, with labels that were not learned; first: {first.where}")
    kept = [example for example, out in zip(examples, strange, strict=True) if not out]
    if not kept:
        raise UserError("no row has a label that was learned", where=path)
    return cast("Examples", kept)


def hold_out(
    examples: Examples, seed: int, share: float | None = None
) -> tuple[Examples, Examples]:
    """Training examples, and a share held out at random, of each class alike.

    Without a share it is a tenth, of few examples more (20, but at most a third).  Questions of one
    passage stay together, and nothing is held out whose label nothing else has.

    Raises:
        UserError: too few to hold some out.
    """
    if share is None:
        share = min(max(_DEV_SHARE, _DEV_LEAST / max(1, len(examples))), 1 / 3)
    every, count = round(1 / share), len(examples)
    order = permute(np.arange(count), count, seed, 11)
    groups = [_group(examples[i]) for i in order]
    # like beside like, so that every n-th is a fair share of each; a passage goes as a whole
    if groups and isinstance(examples[0], Question):
        names = list(dict.fromkeys(groups))
        chosen = set(names[every - 1 :: every])
        held = {int(i) for i, group in zip(order, groups, strict=True) if group in chosen}
    else:
        alike = order[np.argsort(groups, kind="stable")] if groups else order
        held = set(alike[every - 1 :: every].tolist())
    # what only the held-out part has could not be learned
    known = {x for i in range(count) if i not in held for x in _classes(examples[i])}
    held = {i for i in held if known.issuperset(_classes(examples[i]))}
    if not held:
        what = f"{count} labelled examples are too few to hold some out"
        if count >= _DEV_LEAST and groups[0] and not isinstance(examples[0], Question):
            what = f"of {count} rows too few share a label, so none can be held out"
        raise UserError(what, where="--train", mend="give --dev, or mend the labels")
    kept = [x for i, x in enumerate(examples) if i not in held]
    return cast("Examples", kept), cast("Examples", [examples[i] for i in sorted(held)])


def _classes(example: object) -> tuple[str, ...]:
    """The class names that an example bears."""
    if isinstance(example, TaggedSentence):
        return example.labels or ()
    label = getattr(example, "label", None)
    return (label,) if isinstance(label, str) else ()


def _group(example: object) -> str:
    """Of which examples are held out alike: its class, or the passage of a question."""
    if isinstance(example, Question):
        return example.passage
    label = getattr(example, "label", None)
    return label if isinstance(label, str) else ""


def turns(examples: Sequence[object]) -> NDArray[np.int64]:
    """For each example, how many of its class come before it; of all, where there are no classes."""
    seen: dict[str, int] = {}
    found = np.zeros(len(examples), np.int64)
    for place, example in enumerate(examples):
        name = _group(example)
        found[place] = seen.get(name, 0)
        seen[name] = seen.get(name, 0) + 1
    return found


def learn_task(
    config: FinetuneConfig,
    answer: Answer,
    train: Examples,
    others: Sequence[Examples],
    longest: int,
) -> TaskInfo:
    """What the training part says about the task."""
    labels: tuple[str, ...] = ()
    scale, fallback, nullable = (0.0, 1.0), 0, False
    if answer in {"class", "tag"}:
        labelled = cast("Sequence[TextExample] | Sequence[TaggedSentence]", train)
        labels = label_set(labelled)
        for other in others:
            label_set(labelled, cast("Sequence[TextExample] | Sequence[TaggedSentence]", other))
    if answer == "tag":
        fallback = labels.index(Counter(_all_labels(train)).most_common(1)[0][0])
    if answer == "number":
        values = np.array([float(e.label or 0) for e in cast("Sequence[TextExample]", train)])
        scale = learned_scale(values, config.data.train)
    if answer == "span":
        nullable = any(q.impossible for q in cast("Sequence[Question]", train))
    reads = min(longest, config.max_length or longest)
    if reads < SHORTEST:
        what = f"texts of {reads} tokens, special ones included, leave no room"
        raise UserError(what, where="--max-length", mend=f"at least {SHORTEST} are needed")
    return TaskInfo(
        kind=config.task,
        answer=answer,
        labels=labels,
        main=main_score(answer, config.metric, labels),
        max_length=reads,
        span=config.span,
        nullable=nullable,
        scale=scale,
        fallback=fallback,
        data=config.data.model_copy(
            update={"train": "", "dev": "", "test": "", "on_bad_row": "stop"}
        ),
    )


def main_score(answer: Answer, asked: str, labels: Sequence[str]) -> str:
    """The score that chooses: as asked, or the task's usual one (for entities their F1)."""
    known = SCORES[answer]
    if answer == "tag":
        known = ("f1", "accuracy") if are_entities(labels) else ("accuracy",)
    if not asked:
        return known[0]
    if asked not in known:
        mend = nearest(asked, list(known)) or f"use {', '.join(known)}"
        raise UserError(f"'{asked}' is no score of this task", where="metric", mend=mend)
    return asked


def _all_labels(examples: Examples) -> list[str]:
    found: list[str] = []
    for example in cast("Sequence[TextExample] | Sequence[TaggedSentence]", examples):
        if isinstance(example, TaggedSentence):
            found += example.labels or ()
        else:
            found.append(str(example.label))
    return found
