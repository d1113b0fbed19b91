"""Files of extractive questions: SQuAD's JSON, 1.1 and 2.0, all that share its layout, and JSON lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from selfsup.data.files import ReadReport, plain_suffix, read_strict_lines
from selfsup.data.sources import json_object
from selfsup.errors import UserError

OnBad = Literal["count", "keep", "stop"]
_EXAMPLES = 5


@dataclass(frozen=True)
class Answer:
    """A stretch of the passage."""

    text: str
    begin: int
    """In characters of the passage; -1 where it is not in the passage (`on_bad: keep`)."""


@dataclass(frozen=True)
class Question:
    """One question about one passage."""

    identity: str
    question: str
    passage: str
    answers: tuple[Answer, ...]
    """What different people marked; none when unanswerable or read without labels."""
    impossible: bool
    """The passage does not answer it (SQuAD 2.0)."""
    where: str
    """File and place in it, for messages: `dev.json: data[3].paragraphs[2].qas[0]`, `dev.jsonl:7: row`."""


@dataclass
class SquadReport:
    """What reading met."""

    questions: int = 0
    """Questions returned."""
    impossible: int = 0
    """Of these, unanswerable ones."""
    repaired: int = 0
    """Answers whose offset was wrong and whose text occurs exactly once in the passage."""
    dropped: int = 0
    """Answers left out of questions that have others, under `on_bad: count`."""
    refused: int = 0
    """Questions left out, under `on_bad: count`."""
    kept: int = 0
    """Answers without a place in the passage, under `on_bad: keep`."""
    duplicates: int = 0
    """Questions whose identity an earlier one has."""
    examples: list[str] = field(default_factory=list)
    """The messages of the first few answers that were not usable."""


class _Entry(NamedTuple):
    """One member of `qas`, or one line, with its passage, before its answers are looked at."""

    content: dict[str, Any]
    passage: str
    where: str


def read_squad(
    path: Path, *, labelled: bool = True, on_bad: OnBad = "count"
) -> tuple[list[Question], SquadReport]:
    """The questions of a file in SQuAD's layout (Rajpurkar et al. 2016, 2018), in its order.

    CMRC 2018, DRCD, XQuAD, MLQA, TyDi QA's gold passages and JaQuAD are written so too.  JSON lines,
    as Hugging Face's datasets write them, have `context` (or `passage`), `question`, `answers` and
    `id` in each; `answers` may there be two lists, `text` and `answer_start`.  A question without an
    `id` gets its number.

    A question is unanswerable when it says `is_impossible`, or when its answers are empty in a file
    that knows the mark (version 2, a question that has the key, or lines of which others have answers).

    Args:
        path: `.json` or `.jsonl`, also packed (`.gz`, `.xz`, `.zst`).
        labelled: whether answers are needed; without, they are not looked at.
        on_bad: what becomes of an answer without a certain place in the passage: `count` leaves it
            out, and its question where it has no other; `stop` raises; `keep` holds the text with
            the place -1: no target for training, but right when given, as the official scores have it.
            A place is certain where the text stands at its offset, or occurs but once.

    Raises:
        UserError: the file cannot be read, is not JSON, has another layout, or nothing usable; an
            answer is bad under `stop`.
    """
    report = SquadReport()
    questions: list[Question] = []
    known: set[str] = set()
    entries, marked = _load(path)
    for number, entry in enumerate(entries, start=1):
        question = _question(entry, number, labelled, marked, on_bad, report)
        if question is None:
            report.refused += 1
            continue
        report.duplicates += question.identity in known
        known.add(question.identity)
        report.impossible += question.impossible
        questions.append(question)
    report.questions = len(questions)
    if not questions:
        what = "no question has a usable answer" if report.refused else "there is no question"
        mend = f"the first: {report.examples[0]}" if report.examples else ""
        raise UserError(what, where=str(path), mend=mend)
    return questions, report


def _load(path: Path) -> tuple[Iterable[_Entry], bool]:
    """The questions of a file, and whether those with empty answers are unanswerable."""
    lines = list(read_strict_lines(path, ReadReport()))
    full = [(number, line) for number, line in lines if line.strip()]
    by_line = plain_suffix(path) in (".jsonl", ".ndjson") and len(full) > 1
    if by_line or (full and _is_question(full[0][1])):
        rows = [_row(line, f"{path}:{number}") for number, line in full]
        return rows, any(_is_answered(row.content) for row in rows)
    content = _squad("\n".join(line for _, line in lines), path)
    marked = str(content.get("version", "")).lstrip("vV").startswith("2")
    return _entries(content, path), marked


def _is_question(line: str) -> bool:
    """Whether a line is a question by itself."""
    try:
        row = json.loads(line)
    except (RecursionError, ValueError):
        return False
    return isinstance(row, dict) and "question" in row and "data" not in row


def _row(line: str, where: str) -> _Entry:
    row = json_object(line, where)
    if isinstance(row, UserError):
        raise row
    key = "passage" if "passage" in row and "context" not in row else "context"
    return _Entry(row, _text(row, key, f"{where}: row"), f"{where}: row")


def _is_answered(content: dict[str, Any]) -> bool:
    answers = content.get("answers")
    return bool(answers.get("text") if isinstance(answers, dict) else answers)


def _squad(text: str, path: Path) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise UserError(f"not JSON ({error.msg})", where=where) from error
    except (RecursionError, ValueError) as error:  # nested too deep; a number of too many digits
        raise UserError(f"not readable as JSON ({error})", where=str(path)) from error
    if not isinstance(content, dict) or "data" not in content:
        what = "not SQuAD's layout: an object with a list 'data' is expected"
        raise UserError(what, where=str(path))
    return content


def _entries(content: dict[str, Any], path: Path) -> Iterator[_Entry]:
    for article, at in _objects(content, "data", f"{path}: "):
        for paragraph, within in _objects(article, "paragraphs", f"{at}."):
            passage = _text(paragraph, "context", within)
            for member, where in _objects(paragraph, "qas", f"{within}."):
                yield _Entry(member, passage, where)


def _objects(holder: dict[str, Any], key: str, before: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The objects of a list and the path of each."""
    members = holder.get(key)
    where = f"{before}{key}"
    if not isinstance(members, list):
        raise UserError(
            f"not SQuAD's layout: {_kind(holder, key)}, a list is expected", where=where
        )
    for number, member in enumerate(members):
        if not isinstance(member, dict):
            raise UserError("not SQuAD's layout: an object is expected", where=f"{where}[{number}]")
        yield member, f"{where}[{number}]"


def _text(holder: dict[str, Any], key: str, where: str) -> str:
    value = holder.get(key)
    if not isinstance(value, str):
        what = f"not SQuAD's layout: {_kind(holder, key)}, a text is expected"
        raise UserError(what, where=f"{where}.{key}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        what = f"half a character (a lone surrogate) at character {error.start}"
        raise UserError(what, where=f"{where}.{key}") from error
    return value


def _kind(holder: dict[str, Any], key: str) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        type(None): "null",
        bool: "a truth value",
    }
    return f"is {names.get(type(holder[key]), 'a number')}" if key in holder else "is missing"


def _question(
    entry: _Entry, number: int, labelled: bool, marked: bool, on_bad: OnBad, report: SquadReport
) -> Question | None:
    """The question, or None where it is refused."""
    content, passage, where = entry
    identity = content.get("id", number)
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    else:
        identity = _text(content, "id", where)
    question = _text(content, "question", where)
    impossible, answers = False, list[Answer]()
    if labelled:
        impossible = bool(content.get("is_impossible", False))
        given = [] if impossible else _given_answers(content, where)
        if not given and not impossible:
            impossible = marked or "is_impossible" in content
            if not impossible:
                what = "no answer, and no mark that it is unanswerable (is_impossible)"
                _bad(what, where, on_bad, report)
                return None
        found = [_answer(member, passage, at, on_bad, report) for member, at in given]
        answers = [answer for answer in found if answer is not None]
        if given and not answers:
            return None
        report.dropped += len(given) - len(answers)
    return Question(identity, question, passage, tuple(answers), impossible, where)


def _given_answers(content: dict[str, Any], where: str) -> list[tuple[dict[str, Any], str]]:
    """The answers that a question comes with, and the path of each."""
    if "answers" not in content:
        mend = "learning and scoring need them; `selfsup predict` answers questions that have none"
        raise UserError("the question has no 'answers'", where=where, mend=mend)
    answers = content["answers"]
    if not isinstance(answers, dict):
        return list(_objects(content, "answers", f"{where}."))
    texts, starts = answers.get("text"), answers.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        what = "two lists of one length are expected, 'text' and 'answer_start'"
        raise UserError(what, where=f"{where}.answers")
    pairs = enumerate(zip(texts, starts, strict=True))
    return [({"text": t, "answer_start": b}, f"{where}.answers[{i}]") for i, (t, b) in pairs]


def _answer(
    member: dict[str, Any], passage: str, where: str, on_bad: OnBad, report: SquadReport
) -> Answer | None:
    text = _text(member, "text", where)
    begin = member.get("answer_start")
    if not isinstance(begin, int) or isinstance(begin, bool):
        what = f"not SQuAD's layout: {_kind(member, 'answer_start')}, a whole number is expected"
        raise UserError(what, where=f"{where}.answer_start")
    if not text.strip():
        _bad("the answer's text is empty", where, on_bad, report)
        return None
    if begin >= 0 and passage.startswith(text, begin):
        return Answer(text, begin)
    places = _occurrences(passage, text)
    if len(places) == 1:
        report.repaired += 1
        return Answer(text, places[0])
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    elsewhere = (
        f"ambiguous: it stands at {len(places)} other places" if places else "not in the passage"
    )
    _bad(f"the answer '{shown}' is not at {begin}, and {elsewhere}", where, on_bad, report)
    if on_bad != "keep":
        return None
    report.kept += 1
    return Answer(text, -1)


def _occurrences(passage: str, text: str) -> list[int]:
    """Where a text stands in a passage, overlapping places too."""
    return [found.start() for found in re.finditer(f"(?={re.escape(text)})", passage)]


def _bad(what: str, where: str, on_bad: OnBad, report: SquadReport) -> None:
    problem = UserError(what, where=where)
    if on_bad == "stop":
        raise problem
    if len(report.examples) < _EXAMPLES:
        report.examples.append(str(problem))
