"""Tasks that are shown, not trained: a file of examples, and the prompt that is made of them.

A task file holds one JSON object a line.  The first may describe the task; every other is an example:

    {"description": "Is the review good or bad?", "choices": ["good", "bad"]}
    {"input": "A fine film.", "output": "good"}
    {"input": "I left after ten minutes.", "output": "bad"}

An example may bring `choices` of its own.  Where there are none, the answer is written by the model.
Outputs and choices may be numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from selfsup.data.files import ReadReport, listed, read_strict_lines
from selfsup.data.sources import called, checked_text, json_object
from selfsup.errors import UserError, nearest
from selfsup.tasks.label_values import label_text

_TASK_KEYS = ("description", "choices", "separator", "ending", "input_prefix")
_EXAMPLE_KEYS = ("input", "output", "choices")


@dataclass(frozen=True)
class Layout:
    """How a prompt is written: the description, each example, and the input that is asked about.

    The defaults give

        Is the review good or bad?
        <empty line>
        A fine film.<tab>good
        I left after ten minutes.<tab>bad
        What a night!<tab>
    """

    input_prefix: str = ""
    """Before an input, `Question: `."""
    separator: str = "\t"
    """Between an input and its output, `\\nAnswer: `."""
    ending: str = "\n"
    """After an output; also where written answers stop."""


@dataclass(frozen=True)
class Example:
    """An input with its output."""

    input: str
    output: str
    choices: tuple[str, ...]
    """The outputs that are possible; empty where the model writes."""
    where: str
    """`path:line`, for messages."""


@dataclass(frozen=True)
class PromptTask:
    """A task as its file describes it."""

    name: str
    description: str
    choices: tuple[str, ...]
    """Common to all examples; empty where there are none, or each has its own."""
    layout: Layout
    examples: tuple[Example, ...]
    said: Mapping[str, str] = field(default_factory=dict)
    """What the first line says of the prompt, where no flag says otherwise."""
    tested: tuple[Example, ...] = ()
    """What is asked about besides: the examples of a test file."""

    @property
    def chooses(self) -> bool:
        """Whether the answer is one of some choices."""
        return bool(self.examples[0].choices)

    @cached_property
    def begun_by_another(self) -> bool:
        """Whether some choice is the beginning of another, in either file."""
        sets = {e.choices for e in (*self.examples, *self.tested)}
        return any(b.startswith(a) for c in sets for a in c for b in c if a != b)

    def prompt(self, shown: Sequence[Example], asked: str) -> str:
        """The description, the shown examples, and the input that is asked about."""
        head = f"{self.description}\n\n" if self.description else ""
        layout = self.layout
        body = "".join(
            f"{layout.input_prefix}{e.input}{layout.separator}{e.output}{layout.ending}"
            for e in shown
        )
        return f"{head}{body}{layout.input_prefix}{asked}{layout.separator}"

    def notes(self) -> list[str]:
        """What may be unexpected about prompts of this task."""
        ending = self.layout.ending
        every = (*self.examples, *self.tested)
        held = [e for e in every if ending and (ending in e.input or ending in e.output)]
        if not held:
            return []
        return [
            f"{len(held)} examples hold {ending!r}, which ends an example (first {held[0].where})"
        ]


def read_prompt_task(
    path: Path, *, separator: str | None = None, ending: str | None = None
) -> PromptTask:
    """Read a task file (`.jsonl`, packed or not).

    Args:
        path: the file.
        separator, ending: instead of the file's own.

    Raises:
        UserError: with file and line: broken JSON, an unknown key, an example without input or
            output, an output that is none of the choices, choices on some examples only, no example.
    """
    if not path.is_file():
        raise UserError("no such task file", where=str(path))
    head: dict[str, Any] = {}
    examples: list[Example] = []
    for number, line in read_strict_lines(path, ReadReport()):
        if not line or line.isspace():
            continue
        where = f"{path}:{number}"
        row = json_object(line, where)
        if isinstance(row, UserError):
            raise row
        if not examples and not head and not {"input", "output"} & set(row):
            head = _head(row, where)
            continue
        examples.append(_example(row, tuple(head.get("choices", ())), where))
    if not examples:
        mend = '{"input": "…", "output": "…"} on a line each'
        raise UserError("holds no example", where=str(path), mend=mend)
    _check_alike(examples)
    settings: dict[str, str] = {
        k: head[k] for k in ("separator", "ending", "input_prefix") if k in head
    }
    given = {"separator": separator, "ending": ending}
    said = {k: v for k, v in settings.items() if given.get(k) is None}
    settings |= {k: v for k, v in given.items() if v is not None}
    description = str(head.get("description", "")).rstrip()
    return PromptTask(
        name=path.name.split(".")[0],
        description=description,
        choices=tuple(head.get("choices", ())),
        layout=replace(Layout(), **settings),
        examples=tuple(examples),
        said=said | ({"description": description} if description else {}),
    )


def _head(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    _check_keys(row, _TASK_KEYS, where, "a task's first line, or an example with input and output")
    found: dict[str, Any] = {}
    for key, value in row.items():
        found[key] = _choices(value, where) if key == "choices" else _text(value, key, where)
    return found


def _example(row: Mapping[str, Any], common: tuple[str, ...], where: str) -> Example:
    _check_keys(row, _EXAMPLE_KEYS, where, "an example")
    for key in ("input", "output"):
        if key not in row:
            raise UserError(f"an example without '{key}'", where=where, mend=f'add "{key}"')
    asked = _text(row["input"], "input", where)
    answer = _answer_text(row["output"], "the output", where)
    if not answer.strip():
        raise UserError("the output is empty", where=where, mend="write the right answer")
    choices = _choices(row["choices"], where) if "choices" in row else common
    if choices and answer not in choices:
        shown = ", ".join(f"'{c}'" for c in choices[:8])
        mend = nearest(answer, list(choices)) or f"the choices are {shown}"
        raise UserError(f"the output '{answer}' is none of the choices", where=where, mend=mend)
    return Example(asked, answer, choices, where)


def _check_keys(row: Mapping[str, Any], known: Sequence[str], where: str, what: str) -> None:
    if not set(known) & set(row):
        mend = f"an example needs input and output; a first line may have {', '.join(_TASK_KEYS)}"
        raise UserError(f"the keys are {listed(list(row))}", where=where, mend=mend)
    for key in row:
        if key not in known:
            mend = nearest(key, list(known)) or f"{what} has {', '.join(known)}"
            raise UserError(f"unknown key '{key}'", where=where, mend=mend)


def _text(value: object, key: str, where: str) -> str:
    found = checked_text(value, key, where)
    if isinstance(found, UserError):
        raise found
    return found


def _answer_text(value: object, name: str, where: str) -> str:
    """An output or a choice as text; numbers and truth values are written out."""
    text = _text(value, name, where) if isinstance(value, str) else label_text(value)
    if text is None:
        raise UserError(f"{name} is {called(value)}, not a text", where=where)
    return text


def _choices(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UserError(f"'choices' is {called(value)}, not a list of texts", where=where)
    found = tuple(_answer_text(choice, "a choice", where) for choice in value)
    if len(found) < 2:
        raise UserError("needs two choices or more", where=where)
    if any(not choice.strip() for choice in found):
        raise UserError("a choice is empty", where=where)
    if len(set(found)) < len(found):
        twice = next(c for c in found if found.count(c) > 1)
        raise UserError(f"the choice '{twice}' stands there twice", where=where)
    return found


def _check_alike(examples: Sequence[Example]) -> None:
    having = bool(examples[0].choices)
    for example in examples:
        if bool(example.choices) != having:
            what = "has choices, the first example has none"
            if having:
                what = "has no choices, the first example has some"
            raise UserError(what, where=example.where, mend="give all examples choices, or none")
