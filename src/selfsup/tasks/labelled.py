"""Labelled examples as they stand in files: texts and pairs, and what their labels are.

Sentences with a label for each word come from `tagged_files.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import has_comma, number_of
from selfsup.data.delimited import Quoting
from selfsup.data.files import (
    FASTA_SUFFIXES,
    OnBadRow,
    ReadReport,
    bad_row,
    listed,
    plain_suffix,
)
from selfsup.data.sources import called, checked_text
from selfsup.data.symbol_files import SymbolRecord, read_fasta, read_uci
from selfsup.data.tables import Row, read_rows
from selfsup.errors import UserError, counted
from selfsup.tasks.label_values import LabelColumn
from selfsup.tasks.tagged_files import TaggedSentence, read_tagged

__all__ = [
    "TaggedSentence",
    "TextExample",
    "class_weights",
    "label_set",
    "read_fasta_classes",
    "read_tagged",
    "read_texts",
    "read_uci_classes",
]

_SHOWN = 3


@dataclass(frozen=True)
class TextExample:
    """A text or a pair of texts, with its label."""

    text: str
    pair: str | None
    """The second text; None: the example is no pair."""
    label: str | float | None
    """A class name, a number, or None when no label was asked for."""
    where: str
    """`path:line`, or `path:row` (parquet)."""
    name: str = ""
    """What a sequence is called in its file."""


@dataclass(frozen=True)
class _Unusable:
    """Why a row is no example."""

    kind: str
    """Of the problem, to be counted: `no number in 'score'`."""
    shown: str
    """The value."""
    where: str
    mend: str = ""
    """What to do about it, where that can be said."""


def read_texts(
    path: Path,
    *,
    text_column: str | int = "text",
    pair_column: str | int | None = None,
    label_column: str | int | None = "label",
    numeric: bool = False,
    header: bool = True,
    quoting: Quoting = "auto",
    keep_empty: bool = False,
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> list[TextExample]:
    """Texts or pairs and their labels, from a table.

    A label is a class name: white space around it goes, numbers and truth values of JSON become
    their text (`1` -> "1", `true` -> "true").  An example without text or label cannot be used.

    Args:
        path: `.csv`, `.tsv`, `.jsonl` or `.parquet`, packed or not (see `read_rows`).
        text_column: name, or number from 0 when `header` is off.
        pair_column: of the second text, when examples are pairs.
        label_column: of the label; None: there are none.
        numeric: labels are numbers; with decimal commas, where all are written so (`decimal_comma`).
        header, quoting: see `read_rows`.
        keep_empty: take texts of nothing but white space, as they must be when an answer is wanted
            for every row.
        on_bad_row: what to do with rows that cannot be used.  Under "stop" all rows are looked at
            first, and the error says how many there are.
        report: added to while reading; under "skip" it counts what was left out, and `notes` tells of
            decimal commas.

    Raises:
        UserError: with places, for what cannot be read or used, or when nothing is left.
    """
    report = report if report is not None else ReadReport()
    columns = [column for column in (text_column, pair_column, label_column) if column is not None]
    examples: list[TextExample] = []
    unusable: list[_Unusable] = []
    rows = list(
        read_rows(
            path, columns, header=header, quoting=quoting, on_bad_row=on_bad_row, report=report
        )
    )
    cells = [row.values[-1] for row in rows] if label_column is not None else []
    labels = LabelColumn.of(cells, numeric)
    if labels.comma:
        point = labels.comma.replace(",", ".")
        report.notes.append(
            f"'{label_column}' has decimal commas: {labels.comma} is read as {point}"
        )
    for row in rows:
        example = _example(row, text_column, pair_column, label_column, labels, keep_empty)
        if isinstance(example, TextExample):
            examples.append(example)
        else:
            unusable.append(example)
    _turn_away(unusable, len(examples) + len(unusable), on_bad_row, report)
    return _some(examples, path, report)


def read_fasta_classes(
    folder: Path,
    *,
    uppercase: bool = False,
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> list[TextExample]:
    """Sequences from a folder that holds one FASTA file a class, named by it.

    Raises:
        UserError: the folder holds no such file, or two of one class, or sequences that cannot be
            used.
    """
    report = report if report is not None else ReadReport()
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder))
    files: dict[str, Path] = {}
    passed_over: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if plain_suffix(path) not in FASTA_SUFFIXES:
            passed_over.append(path.name)
            continue
        label = path.name[: path.name.lower().rindex(plain_suffix(path))]
        if label in files:
            what = f"'{files[label].name}' and '{path.name}' are both the class '{label}'"
            raise UserError(what, where=str(folder))
        files[label] = path
    if not files:
        what = f"the folder holds no FASTA file ({', '.join(FASTA_SUFFIXES)})"
        names = sorted(item.name for item in folder.iterdir())
        raise UserError(what, where=str(folder), mend=f"there is {listed(names)}")
    if passed_over:
        report.notes.append(f"passed over, as no FASTA files: {listed(passed_over)}")
    records: list[SymbolRecord] = []
    for label, path in files.items():
        report.files += 1
        found = read_fasta(path, uppercase=uppercase, on_bad_row=on_bad_row, report=report)
        records += (record._replace(label=label) for record in found)
    return _symbol_examples(records, folder, on_bad_row, report)


def read_uci_classes(
    path: Path,
    *,
    uppercase: bool = False,
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> list[TextExample]:
    """Sequences from a file of `class, name, sequence` lines (see `read_uci`).

    Raises:
        UserError: with file and line.
    """
    report = report if report is not None else ReadReport()
    report.files += 1
    records = read_uci(path, uppercase=uppercase, on_bad_row=on_bad_row, report=report)
    return _symbol_examples(records, path, on_bad_row, report)


def _symbol_examples(
    records: Iterable[SymbolRecord], path: Path, on_bad_row: OnBadRow, report: ReadReport
) -> list[TextExample]:
    examples: list[TextExample] = []
    unusable: list[_Unusable] = []
    for name, sequence, where, label in records:
        if sequence:
            examples.append(TextExample(sequence, None, label, where, name))
        else:
            unusable.append(_Unusable("no sequence", repr(name), where))
    _turn_away(unusable, len(examples) + len(unusable), on_bad_row, report)
    return _some(examples, path, report)


# Values -----------------------------------------------------------------------------------------


def _example(
    row: Row,
    text_column: str | int,
    pair_column: str | int | None,
    label_column: str | int | None,
    labels: LabelColumn,
    keep_empty: bool,
) -> TextExample | _Unusable:
    """The example of a row whose values are text, pair and label, as far as there are such columns."""
    rest, where = iter(row.values), row.where
    text = _text(next(rest), text_column, keep_empty, where)
    pair = None if pair_column is None else _text(next(rest), pair_column, keep_empty, where)
    label = None if label_column is None else _label(next(rest), label_column, labels, where)
    for value in (text, pair, label):
        if isinstance(value, _Unusable):
            return value
    return TextExample(
        cast("str", text), cast("str | None", pair), cast("str | float | None", label), where
    )


def _text(value: Any, column: str | int, keep_empty: bool, where: str) -> str | _Unusable:
    text = checked_text(value, str(column), where)
    if isinstance(text, UserError):
        return _Unusable(f"no text in '{column}'", called(value), where)
    if not keep_empty and (not text or text.isspace()):
        return _Unusable(f"no text in '{column}'", repr(text), where)
    return text


def _label(
    value: Any, column: str | int, labels: LabelColumn, where: str
) -> str | float | _Unusable:
    label = labels.read(value)
    if label is None:
        shown = repr(value) if isinstance(value, str | int | float) else called(value)
        kind = f"no {labels.kind} in '{column}'"
        if labels.numeric and has_comma(value):
            mend = "write all decimals with a point, and thousands without a comma"
            return _Unusable(kind, shown, where, mend)
        return _Unusable(kind, shown, where)
    return label


def _turn_away(
    unusable: list[_Unusable], total: int, on_bad_row: OnBadRow, report: ReadReport
) -> None:
    """Count the rows that are no examples, or stop with their number and the first places."""
    if not unusable:
        return
    if on_bad_row == "skip":
        for row in unusable:
            problem = UserError(f"{row.kind} ({row.shown})", where=row.where)
            bad_row(on_bad_row, report, problem)
        return
    same = [row for row in unusable if row.kind == unusable[0].kind]
    unit = "row" if ".parquet:" in same[0].where.lower() else "line"
    places = [f"{row.shown[:40]} in {unit} {row.where.rpartition(':')[2]}" for row in same[:_SHOWN]]
    verb = "has" if len(same) == 1 else "have"
    percent = 100 * len(same) / total
    share = f"{len(same):,} of {total:,} rows ({percent:.2g} %)"
    if percent >= 99:
        share = f"{len(same):,} of {total:,} rows"
    how = next((row.mend for row in same if row.mend), "")
    mend = report.mend(how or "mend these rows", "leave them out")
    if len(same) == total > 1:
        share, mend = f"all {total:,} rows", how or "mend the file, or name another column"
    what = (
        f"{share} {verb} {same[0].kind}: {', '.join(places)}{' ...' if len(same) > _SHOWN else ''}"
    )
    raise UserError(what, where=same[0].where, mend=mend)


def _some(examples: list[TextExample], path: Path, report: ReadReport) -> list[TextExample]:
    report.documents += len(examples)
    if examples:
        return examples
    what = f"no row is left, {report.bad_rows} cannot be used"
    if not report.bad_examples:
        what = "the file holds no rows"
        raise UserError(what, where=str(path), mend="name a file with examples")
    raise UserError(what, where=str(path), mend=f"the first one: {report.bad_examples[0]}")


# Labels -----------------------------------------------------------------------------------------

Example = TextExample | TaggedSentence


def _labels(examples: Sequence[Example]) -> Iterator[tuple[str, str]]:
    """Each class name, and where it stands."""
    for example in examples:
        if isinstance(example, TextExample):
            if example.label is not None:
                yield str(example.label), example.where
        else:
            for label in example.labels or ():
                yield label, example.where


def label_set(
    train: Sequence[Example],
    dev: Sequence[Example] | None = None,
) -> tuple[str, ...]:
    """The class names of the training part: as numbers when all are, else by their letters; - before +.

    Of two, the second is the one that F1 is of.

    Args:
        train: labelled examples to learn from.
        dev: labelled examples to be scored on.

    Raises:
        UserError: there are no labels, or but one class, or classes of `dev` that `train` lacks.
    """
    names = set(dict(_labels(train)))
    where = train[0].where.rpartition(":")[0] if train else ""
    if len(names) < 2:
        what = f"the training part has only the class '{min(names)}'" if names else "no labels"
        raise UserError(what, where=where, mend="two classes at least are needed")
    missing: dict[str, str] = {}
    for label, place in _labels(dev or ()):
        if label not in names:
            missing.setdefault(label, place)
    if missing:
        classes = counted(len(missing), "class", "classes")
        what = (
            f"{classes} that the training part lacks: {listed(list(missing))}; it has "
            f"{listed(_sorted(names))}"
        )
        mend = "mend the labels, or leave such rows out with --on-bad-row skip"
        raise UserError(what, where=next(iter(missing.values())), mend=mend)
    return tuple(_sorted(names))


def unknown_labels(example: object, known: Collection[str]) -> list[str]:
    """The class names or tags of an example that are not among those known."""
    if isinstance(example, TaggedSentence):
        return [label for label in example.labels or () if label not in known]
    if isinstance(example, TextExample) and str(example.label) not in known:
        return [str(example.label)]
    return []


def _sorted(names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if names == ["+", "-"]:
        return ["-", "+"]
    numbers = [number_of(name) for name in names]
    if any(number is None for number in numbers):
        return names
    return sorted(names, key=float)


def class_weights(labels: Iterable[str], names: Sequence[str]) -> NDArray[np.float64]:
    """(classes,) weights n / (classes * count), so that each class weighs the same in all.

    What scikit-learn calls "balanced" (King and Zeng 2001).

    Args:
        labels: of the training examples (or of their words).
        names: the classes, in order; each must be among the labels.
    """
    counted = Counter(labels)
    counts = np.array([counted[name] for name in names], np.float64)
    if not counts.all():
        raise ValueError(f"no example of {listed([n for n in names if not counted[n]])}")
    weights: NDArray[np.float64] = counts.sum() / (len(names) * counts)
    return weights
