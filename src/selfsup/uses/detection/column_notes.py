"""What a detector says about its training columns: those it leaves out, and those to think about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import as_texts
from selfsup.data.feature_tables import CategoryColumn, FeatureTable
from selfsup.data.files import listed

_ROWS_A_WORD, _FEW_WORDS = 4, 10
"""A column with fewer rows a word on average than the first, and more words than the second, is left
out: most rows of a fold would bring a word that the others hardly have."""


class ColumnWarning(UserWarning):
    """About a column of the training rows."""


@dataclass(frozen=True)
class ColumnNote:
    """A remark about columns.

    Args:
        names: the columns.
        what: what is with them.
        otherwise: what else can be done than to leave them out; ends the sentence.
    """

    names: tuple[str, ...]
    what: str
    otherwise: str = ""

    def text(self, flag: str = "") -> str:
        """The remark in one line.

        Args:
            flag: of the command line, which leaves columns out; the line names it where it is given.
        """
        one = len(self.names) == 1
        drop = f"leave {'it' if one else 'them'} out"
        if flag:
            drop += f" ({flag} {','.join(self.names) if len(self.names) <= 6 else 'NAMES'})"
        subject = f"column{'' if one else 's'} {listed(list(self.names))}"
        return f"{subject} {self.what}; {drop}{self.otherwise}"


def scattered(table: FeatureTable, rows: int) -> dict[str, int]:
    """Columns of words that have nearly as many words as there are rows, and how many."""
    counts = {c.name: sum(word is not None for word in c.categories) for c in table.categories}
    return {n: words for n, words in counts.items() if words > max(_FEW_WORDS, rows / _ROWS_A_WORD)}


def leave_out_scattered(table: FeatureTable, rows: int) -> list[ColumnNote]:
    """Take columns of words out of `table` that have nearly as many words as there are `rows`.

    Dates, identifiers and free texts: nearly every new row brings a word that training had not, or had
    once, so that their differences would outweigh all other columns and say nothing.
    """
    notes = []
    for name, words in scattered(table, rows).items():
        what = (
            f"is not learned from: {words} different words in {rows} rows are too many to know "
            "which are usual"
        )
        notes.append(ColumnNote((name,), what, ", or give what repeats in it (a month, a group)"))
    table.leave_out([name for note in notes for name in note.names])
    return notes


def rare_words(
    table: FeatureTable, columns: Mapping[str, NDArray[Any]], false_alarm_rate: float
) -> list[ColumnNote]:
    """Columns in which words that no other row has are more frequent than false alarms may be.

    The share of such words estimates how often a new row brings a new one (Good 1953).
    """
    notes = []
    for column in table.categories:
        if len(column.categories) <= _FEW_WORDS:
            continue
        counts = Counter(as_texts(columns[column.name]))
        share = sum(n == 1 for n in counts.values()) / sum(counts.values())
        if share > false_alarm_rate:
            what = (
                f"has words that no other row has, in {share:.0%} of the rows: more than the "
                f"{100 * false_alarm_rate:.2g}% that may be false alarms, so these decide the threshold"
            )
            notes.append(ColumnNote((column.name,), what, ", or put rare words together"))
    return notes


def plain_notes(
    numbers: Mapping[str, NDArray[np.float64]], words: Sequence[CategoryColumn] = ()
) -> list[ColumnNote]:
    """Columns with one value, and columns of numbers that count the rows.

    Args:
        numbers: columns of numbers, gaps filled.
        words: columns of words.
    """
    notes = []
    equal = [name for name, column in numbers.items() if np.ptp(column) == 0]
    equal += [column.name for column in words if len(column.categories) == 1]
    if equal:
        what = f"{_has(equal)} one value in training: any other counts as strange"
        notes.append(ColumnNote(tuple(equal), what, " unless that is meant"))
    for name, column in numbers.items():
        if name not in equal and _counts(column):
            what = "grows evenly from row to row, as a row number does: later rows count as strange"
            notes.append(ColumnNote((name,), what, " unless that is meant"))
    return notes


def empty_note(names: Sequence[str]) -> list[ColumnNote]:
    """About columns without a value, where there are some."""
    if not names:
        return []
    return [ColumnNote(tuple(names), f"{_has(names)} no value and cannot be learned from")]


def _has(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


def _counts(column: NDArray[np.float64]) -> bool:
    """Whether each value is the one before and the same step, but for rounding to float32."""
    steps = np.diff(column) / np.ptp(column)
    return len(steps) > _FEW_WORDS and bool(np.allclose(steps, steps[0], rtol=1e-3, atol=1e-6))
