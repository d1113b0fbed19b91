"""Sentences as words with a label each: CoNLL-U, columns, JSON lines and `word/tag` text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from selfsup.data.files import (
    PACKED_SUFFIXES,
    OnBadRow,
    ReadReport,
    bad_row,
    listed,
    plain_suffix,
    read_strict_lines,
)
from selfsup.data.sources import called, checked_text, json_object
from selfsup.data.tables import JSON_SUFFIXES
from selfsup.errors import UserError, nearest
from selfsup.tasks.label_values import label_text

TagLayout = Literal["conllu", "columns", "json", "slashed"]

_COLUMN_SUFFIXES = (".txt", ".tsv", ".conll", ".iob", ".bio")
_CONLLU = {"form": 1, "lemma": 2, "upos": 3, "xpos": 4, "feats": 5, "deprel": 7}
_CONLLU_WIDTH = 10
_SAMPLE = 20

_BLANKS = re.compile(r"[ \t]+")

# `19980101-01-001-001/m` before each paragraph of the People's Daily corpus.
_DATED = re.compile(r"\d{8}-\d+-\d+-\d+/m")
# `[中央/n 电视台/n]nt`: a compound name around its words; a bracket itself is `[/w`.
_OPENING = re.compile(r"\[(?=[^/])")
_CLOSING = re.compile(r"(?<=[A-Za-z])\]/?[A-Za-z]+$")

# `好/a　的/u` with an ideographic space: two parts, which a space should part.
_JOINED = re.compile(r"\S/[^\s/]+\s+\S+/")

_Numbered = tuple[int, str]


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence as words, each with its label."""

    words: tuple[str, ...]
    labels: tuple[str, ...] | None
    """One for each word; None when no labels were asked for."""
    where: str
    """`path:line`, the line the sentence starts in."""


def read_tagged(
    path: Path,
    *,
    layout: str = "auto",
    column: str | None = "label",
    words_column: str = "words",
    on_bad_row: OnBadRow = "stop",
    report: ReadReport | None = None,
) -> list[TaggedSentence]:
    """Sentences with a label for each word, packed files too.

    - `conllu`: Universal Dependencies; ranges (`1-2`) and empty nodes (`1.1`) are no words.
    - `columns`: a word a line, first the word, last its label, between them a tab (or, in lines
      without one, spaces), in all lines of a sentence as many fields; a blank line ends a sentence.
      `-DOCSTART-` lines, and comments (`# key = value`) before a sentence, are left out.
    - `json`: one object a line with a list of words and one of labels.
    - `slashed`: `word/tag word/tag`, a sentence a line, as in the People's Daily corpus: its dates
      and the brackets around compound names are left out.

    Fields are parted by tabs and spaces alone: a no-break or an ideographic space is part of its word, and
    may be all of it.

    Args:
        path: the file.
        layout: one of these, or `auto`: by the suffix, where a `.txt` file is `slashed` when all
            parts of its first lines hold a slash.
        column: of the labels: in `.conllu` files upos (also when it is called "label"), xpos, feats,
            deprel or lemma; in JSON the key ("labels" and "tags" are known too).  None: no labels
            are wanted, and files may hold words alone.
        words_column: the key of the words in JSON ("words" and "tokens" are known too).
        on_bad_row: what to do with a sentence that cannot be used: stop, or leave it out whole.
        report: added to while reading.

    Raises:
        UserError: with file and line, for what cannot be read or used, or when nothing is left.
    """
    report = report if report is not None else ReadReport()
    report.files += 1
    lines = list(read_strict_lines(path, report))
    chosen = _layout(layout, path, lines)
    parse = _parser(chosen, column, words_column)
    sentences: list[TaggedSentence] = []
    for unit in _units(lines, whole_lines=chosen in ("json", "slashed")):
        try:
            found = parse(unit, str(path))
        except UserError as problem:
            bad_row(on_bad_row, report, problem)
            continue
        if found is not None:
            sentences.append(found)
    _refuse_nothing(sentences, chosen, column, path, report)
    report.documents += len(sentences)
    return sentences


def _layout(asked: str, path: Path, lines: list[_Numbered]) -> TagLayout:
    known_layouts = get_args(TagLayout)
    if asked in known_layouts:
        return cast("TagLayout", asked)
    if asked != "auto":
        mend = nearest(asked, list(known_layouts)) or f"known are {', '.join(known_layouts)}"
        raise UserError(f"'{asked}' is no layout of tagged sentences", where="format", mend=mend)
    suffix = plain_suffix(path)
    if suffix == ".conllu":
        return "conllu"
    if suffix in JSON_SUFFIXES:
        return "json"
    if suffix in _COLUMN_SUFFIXES:
        full = [text for _, text in lines if text.strip()][:_SAMPLE]
        slashed = full and all("/" in part for text in full for part in _parts(text))
        return "slashed" if slashed else "columns"
    what = f"files of the kind '{suffix or path.name}' hold no tagged sentences"
    known = (".conllu", *_COLUMN_SUFFIXES, *JSON_SUFFIXES)
    mend = f"known are {', '.join(known)}, also packed ({', '.join(PACKED_SUFFIXES)})"
    raise UserError(what, where=str(path), mend=mend)


def _units(lines: Iterable[_Numbered], whole_lines: bool) -> Iterator[list[_Numbered]]:
    """Lines of one sentence each, or those between blank lines; never empty."""
    unit: list[_Numbered] = []
    for number, text in lines:
        if text.strip():
            unit.append((number, text))
        if unit and (whole_lines or not text.strip()):
            yield unit
            unit = []
    if unit:
        yield unit


def _refuse_nothing(
    sentences: list[TaggedSentence], layout: str, column: str | None, path: Path, report: ReadReport
) -> None:
    if not sentences:
        what = "the file holds no sentences"
        bad = report.bad_examples
        mend = f"the first bad one: {bad[0]}" if bad else "name a file with sentences"
        raise UserError(what, where=str(path), mend=mend)
    # feats are `_` in words without features; a column of nothing else was not annotated.
    if layout == "conllu" and all(set(s.labels or "?") == {"_"} for s in sentences):
        what = f"the column '{column}' is empty all through"
        raise UserError(what, where=str(path), mend="choose another, such as upos")


# Sentences --------------------------------------------------------------------------------------

_Parser = Callable[[list[_Numbered], str], TaggedSentence | None]


def _parser(layout: TagLayout, column: str | None, words_column: str) -> _Parser:
    if layout == "conllu":
        place = None if column is None else _conllu_place(column)
        return lambda unit, path: _conllu_sentence(unit, path, place)
    if layout == "json":
        words = (words_column, "words", "tokens")
        labels = () if column is None else (column, "labels", "tags")
        return lambda unit, path: _json_sentence(unit, path, words, labels)
    sentence = _slashed_sentence if layout == "slashed" else _columns_sentence
    return lambda unit, path: sentence(unit, path, column is not None)


def _conllu_place(column: str) -> int:
    name = (
        "upos" if column in ("", "label") else column
    )  # "label" is what tables call it by default
    if name not in _CONLLU:
        there = f"there is {listed(list(_CONLLU))}"
        mend = nearest(name, list(_CONLLU)) or there
        raise UserError(f"no column '{column}' in CoNLL-U", where="label_column", mend=mend)
    return _CONLLU[name]


def _sentence(
    words: list[str], labels: list[str], labelled: bool, where: str
) -> TaggedSentence | None:
    if not words:
        return None
    return TaggedSentence(tuple(words), tuple(labels) if labelled else None, where)


def _conllu_sentence(unit: list[_Numbered], path: str, place: int | None) -> TaggedSentence | None:
    words: list[str] = []
    labels: list[str] = []
    for number, text in unit:
        if text.startswith("#"):
            continue
        fields = text.split("\t")
        if len(fields) != _CONLLU_WIDTH:
            what = f"the line has {len(fields)} fields, CoNLL-U {_CONLLU_WIDTH}, between tabs"
            raise UserError(what, where=f"{path}:{number}")
        if fields[0].isdecimal():
            words.append(_word(fields[1], f"{path}:{number}"))
            labels.append("" if place is None else fields[place])
        elif not re.fullmatch(r"\d+[-.]\d+", fields[0]):
            what = f"'{fields[0]}' is no number of a word"
            raise UserError(what, where=f"{path}:{number}")
    return _sentence(words, labels, place is not None, f"{path}:{unit[0][0]}")


def _columns_sentence(unit: list[_Numbered], path: str, labelled: bool) -> TaggedSentence | None:
    words: list[str] = []
    labels: list[str] = []
    width = 0
    for number, text in unit:
        comment = not words and text.startswith("# ") and "=" in text
        if comment or text.startswith("-DOCSTART-"):
            continue
        where = f"{path}:{number}"
        fields = [x.strip(" ") for x in text.split("\t")] if "\t" in text else _parts(text)
        if labelled and (len(fields) < 2 or not fields[-1].strip()):
            what = f"the word '{fields[0]}' has no label"
            mend = "'word<tab>label' in each line, a blank line after each sentence"
            raise UserError(what, where=where, mend=mend)
        width = width or len(fields)
        if labelled and len(fields) != width:
            what = f"the line has {len(fields)} fields, the first of its sentence {width}"
            mend = "part fields with tabs where words hold spaces"
            raise UserError(what, where=where, mend=mend)
        words.append(_word(fields[0], where))
        labels.append(fields[-1].strip())
    return _sentence(words, labels, labelled, f"{path}:{unit[0][0]}")


def _parts(text: str) -> list[str]:
    return [part for part in _BLANKS.split(text) if part]


def _word(text: str, where: str, which: str = "the") -> str:
    """A word; of ASCII white space alone it is none (of other it is: U+3000).

    Raises:
        UserError: it is empty.
    """
    if not text.strip(" \t\r\n"):
        raise UserError(f"{which} word is empty", where=where)
    return text


def _slashed_sentence(unit: list[_Numbered], path: str, labelled: bool) -> TaggedSentence | None:
    words: list[str] = []
    labels: list[str] = []
    where = f"{path}:{unit[0][0]}"
    for place, part in enumerate(_parts(unit[0][1])):
        if place == 0 and _DATED.fullmatch(part):
            continue
        bare = part
        while _OPENING.match(bare):
            bare = bare[1:]
        while _CLOSING.search(bare):
            bare = _CLOSING.sub("", bare)
        word, _, tag = bare.rpartition("/")
        if labelled and not (word and tag and not _JOINED.search(bare)):
            what = f"'{part}' is no word/tag"
            raise UserError(what, where=where, mend="parts are separated by spaces")
        words.append(word or bare)
        labels.append(tag)
    return _sentence(words, labels, labelled, where)


def _json_sentence(
    unit: list[_Numbered], path: str, word_keys: tuple[str, ...], label_keys: tuple[str, ...]
) -> TaggedSentence | None:
    where = f"{path}:{unit[0][0]}"
    row = json_object(unit[0][1], where)
    if isinstance(row, UserError):
        raise row
    words = []
    for value in _json_list(row, word_keys, where):
        word = checked_text(value, word_keys[0], where)
        if isinstance(word, UserError):
            raise word
        words.append(_word(word, where, "a"))
    if not label_keys:
        return _sentence(words, [], False, where)
    labels = []
    for value in _json_list(row, label_keys, where):
        label = label_text(value)
        if label is None:
            raise UserError(f"a label is {called(value)}", where=where)
        labels.append(label)
    if len(words) != len(labels):
        what = f"{len(words)} words have {len(labels)} labels"
        raise UserError(what, where=where, mend="one label for each word is expected")
    return _sentence(words, labels, True, where)


def _json_list(row: dict[str, Any], keys: tuple[str, ...], where: str) -> list[Any]:
    for key in keys:
        if key in row:
            value = row[key]
            if not isinstance(value, list):
                raise UserError(f"'{key}' is {called(value)}, not a list", where=where)
            return value
    wanted = " or ".join(f"'{key}'" for key in dict.fromkeys(keys))
    close = nearest(keys[0], list(row))
    there = f"it has {listed(list(row))}" + (f", {close}" if close else "")
    raise UserError(f"no key {wanted}", where=where, mend=there)
