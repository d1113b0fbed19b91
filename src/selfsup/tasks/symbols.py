"""Sequences of symbols (bases, residues, notes) as texts: each symbol is given a word of a vocabulary."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import number_of
from selfsup.data.files import ReadReport, bad_row, plain_suffix
from selfsup.data.keys import permute
from selfsup.data.paths import expanded
from selfsup.data.tables import read_rows
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig, TaskKind
from selfsup.tasks.encoding import frame_tokens
from selfsup.tasks.label_values import label_text
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.reading import Notes, hold_out, note_report, read_examples
from selfsup.tasks.task import Examples

_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class SymbolExample:
    """A sequence and its label."""

    symbols: tuple[str, ...]
    label: str | float
    where: str

    @property
    def text(self) -> str:
        """The symbols as running text: without spaces where each is one letter."""
        return ("" if all(len(s) == 1 for s in self.symbols) else " ").join(self.symbols)


def symbols_of(value: Any, words: bool = False) -> tuple[str, ...]:
    """The symbols of a sequence: the members of a list, the words of a text, or its letters.

    Letters are taken as capitals: soft-masked bases are the same bases.
    """
    if isinstance(value, list):
        return tuple(x if isinstance(x, str) else json.dumps(x) for x in value)
    return tuple(str(value).split()) if words else tuple(str(value).strip().upper())


def _has_words(values: Iterable[Any]) -> bool:
    """Whether texts of a file are made of words: one that has spaces says it for all."""
    return any(isinstance(v, str) and len(v.split()) > 1 for v in values)


def read_symbols(
    path: str, data: LabelledConfig, kind: TaskKind, notes: Notes
) -> list[SymbolExample]:
    """Labelled sequences: tables, UCI's `label, name, sequence`, folders of FASTA files, JSON lists.

    Args:
        path: a file, or a folder with one FASTA file a class.
        data: which columns.
        kind: `classify` or `regress`.
        notes: added to.

    Raises:
        UserError: with file and line.
    """
    file = expanded(path)
    if file.is_file() and plain_suffix(file) in {".jsonl", ".ndjson", ".json"}:
        return _from_json(file, path, data, kind, notes)
    if file.is_file() and plain_suffix(file) == ".data":
        data = data.model_copy(update={"format": "symbols"})
    numeric = kind == "regress"
    examples = read_examples(path, data, kind, notes, numeric=numeric, role="train")
    words = _has_words(e.text for e in cast("Sequence[TextExample]", examples))
    return [
        SymbolExample(symbols_of(e.text, words), e.label if e.label is not None else "", e.where)
        for e in cast("Sequence[TextExample]", examples)
    ]


def _from_json(
    file: Path, path: str, data: LabelledConfig, kind: TaskKind, notes: Notes
) -> list[SymbolExample]:
    """Examples whose sequences may be lists of symbols."""
    report, skipping = ReadReport(), data.on_bad_row
    columns = [data.text_column, data.label_column]
    rows = list(read_rows(file, columns, on_bad_row=skipping, report=report))
    words = _has_words(row.values[0] for row in rows)
    found = []
    for (value, label), where in rows:
        try:
            if not isinstance(value, (list, str)) or not value:
                raise UserError(f"'{data.text_column}' is no sequence", where=where)
            answer = _label(label, kind, where)
        except UserError as problem:
            bad_row(skipping, report, problem)
            continue
        found.append(SymbolExample(symbols_of(value, words), answer, where))
    note_report(notes, report, path)
    return found


def _label(value: Any, kind: TaskKind, where: str) -> str | float:
    label = number_of(value) if kind == "regress" else label_text(value)
    if label is None:
        what = f"'{value}' is no {'number' if kind == 'regress' else 'label'}"
        raise UserError(what, where=where)
    return label


def hold_out_symbols(
    examples: Sequence[SymbolExample], seed: int, share: float, notes: Notes
) -> tuple[list[SymbolExample], list[SymbolExample]]:
    """Sequences to learn from, and a share held out; the copies of one are all on the same side, but where
    too few are different.

    Args:
        examples: all.
        seed: which are held out.
        share: of the different ones.
        notes: told how many copies there are, and on which side.

    Raises:
        UserError: too few to hold some out.
    """
    different = list({e.symbols: e for e in reversed(examples)}.values())[::-1]  # the first of each
    held: set[tuple[str, ...]] = set()
    if copies := len(examples) - len(different):
        with suppress(UserError):  # too few
            chosen = hold_out(cast("Examples", different), seed, share)[1]
            held = {e.symbols for e in cast("Sequence[SymbolExample]", chosen)}
        known = {e.label for e in examples if e.symbols not in held}
        # a copy may bear another label, which nothing else has
        held -= {e.symbols for e in examples if isinstance(e.label, str) and e.label not in known}
        sides = "all of one are learned from or held out" if held else "some are on both sides"
        notes.add(f"{copies:,} sequences are copies of others: {sides}")
    if not held:
        parts = hold_out(cast("Examples", examples), seed, share)
        return cast("tuple[list[SymbolExample], list[SymbolExample]]", parts)
    train = [e for e in examples if e.symbols not in held]
    return train, [e for e in examples if e.symbols in held]


def alphabet_of(examples: Sequence[SymbolExample]) -> list[str]:
    """The symbols that occur, the most frequent first."""
    counts = Counter(s for e in examples for s in e.symbols)
    return [s for s, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def draw_words(tokenizer: Tokenizer, alphabet: Sequence[str], draw: int) -> dict[str, int]:
    """A word for every symbol, no word twice, drawn at random (Kao and Lee 2021).

    Only whole words of letters are drawn, so that every symbol starts from a vector that language
    has taught something.

    Args:
        tokenizer: of the encoder.
        alphabet: the symbols.
        draw: which draw.

    Raises:
        UserError: there are more symbols than words.
    """
    words = np.array(
        [
            i
            for i in tokenizer.ordinary_ids.tolist()
            if _WORD.fullmatch(tokenizer.token(i).lstrip("Ġ"))
        ],
        np.int64,
    )
    if len(alphabet) > len(words):
        what = f"{len(alphabet):,} symbols, but only {len(words):,} words in the vocabulary"
        raise UserError(what, mend="use fewer kinds of symbols, or a model with more words")
    chosen = words[permute(np.arange(len(alphabet)), len(words), 17, draw)]
    return dict(zip(alphabet, chosen.tolist(), strict=True))


def as_words(
    tokenizer: Tokenizer,
    examples: Sequence[SymbolExample],
    words: Mapping[str, int],
    longest: int,
) -> list[NDArray[np.int64]]:
    """Token ids of sequences whose symbols are words; cut at the end; unknown symbols are [UNK]."""
    cls, sep = frame_tokens(tokenizer)
    unknown = tokenizer.unknown_id if tokenizer.unknown_id is not None else sep
    return [
        np.array([cls, *(words.get(s, unknown) for s in e.symbols[: longest - 2]), sep], np.int64)
        for e in examples
    ]
