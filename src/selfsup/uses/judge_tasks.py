"""The outside judge's tasks on local files: what is asked of each row, by us and by the harness.

Prompts are those of the harness's own tasks of the same names; the rows are those of llm-foundry's
evaluation files and of BLiMP.  The two descriptions of a task, `ask` and `harness`, say the same
independently of each other; `benchmarks/harness_equality.py` compares what comes out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from selfsup.data.columns import number_of
from selfsup.data.files import PACKED_SUFFIXES, ReadReport, listed, read_strict_lines
from selfsup.data.inputs import check_text
from selfsup.data.sources import json_object
from selfsup.errors import UserError, nearest

Kind = Literal["choice", "last word", "schema", "pair"]
Places = list[str]
"""Of each row: `path:line`, for messages."""


@dataclass(frozen=True)
class JudgeTask:
    """One task."""

    name: str
    kind: Kind
    file: str
    """Its stem; `.jsonl`, packed or not."""
    about: str
    answer: str = ""
    """What stands between a question and its choices."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What each row must have."""
        return {
            "choice": ("query", "choices", "gold"),
            "last word": ("context", "continuation"),
            "schema": ("context_options", "continuation", "gold"),
            "pair": ("sentence_good", "sentence_bad"),
        }[self.kind]

    def ask(self, row: Mapping[str, Any]) -> Asked:
        """What is scored for a row."""
        match self.kind:
            case "choice":
                context = row["query"].rstrip() + self.answer
                choices = tuple(row["choices"])
                return Asked(tuple((context, f" {c}") for c in choices), choices, row["gold"])
            case "last word":
                answer = f" {row['continuation'].strip()}"
                return Asked(((row["context"], answer),), (answer,), 0)
            case "schema":
                answer = f" {row['continuation']}"
                contexts = tuple(row["context_options"])
                return Asked(tuple((c, answer) for c in contexts), contexts, row["gold"])
            case "pair":
                texts = (row["sentence_good"], row["sentence_bad"])
                return Asked(tuple(("", f" {t}") for t in texts), texts, 0)

    def harness(self, file: Path, cache: Path) -> dict[str, Any]:
        """The same for the harness: a task's configuration, as its YAML files hold it."""
        ways: dict[Kind, dict[str, Any]] = {
            "choice": {
                "doc_to_text": "{{query.rstrip()}}" + self.answer,
                "doc_to_choice": "choices",
                "doc_to_target": "gold",
            },
            "last word": {
                "doc_to_text": "{{context}}",
                "doc_to_target": "{{' ' + continuation.strip()}}",
            },
            "schema": {
                "doc_to_text": "gold",
                "doc_to_choice": "context_options",
                "doc_to_target": "continuation",
            },
            "pair": {
                "doc_to_text": "",
                "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
                "doc_to_target": 0,
            },
        }
        words = self.kind == "last word"
        names = ["acc", "perplexity"] if words else ["acc", "acc_norm"]
        return {
            "task": self.name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(cache)},
            "test_split": "test",
            "num_fewshot": 0,
            "output_type": "loglikelihood" if words else "multiple_choice",
            **ways[self.kind],
            "metric_list": [
                {
                    "metric": name,
                    "aggregation": "perplexity" if name == "perplexity" else "mean",
                    "higher_is_better": name != "perplexity",
                }
                for name in names
            ],
            "metadata": {"version": 1.0},
        }


@dataclass(frozen=True)
class Asked:
    """One question."""

    pairs: tuple[tuple[str, str], ...]
    """(context, continuation) of each answer."""
    texts: tuple[str, ...]
    """By whose characters the harness's `acc_norm` divides."""
    gold: int


_TASKS = (
    JudgeTask("lambada", "last word", "lambada_openai", "the last word of a passage"),
    JudgeTask("piqa", "choice", "piqa", "how to do everyday things", "\nAnswer:"),
    JudgeTask("copa", "choice", "copa", "causes and effects"),
    JudgeTask("arc_easy", "choice", "arc_easy", "school science", "\nAnswer:"),
    JudgeTask("winogrande", "schema", "winogrande", "who a pronoun means"),
    JudgeTask("blimp", "pair", "blimp_all", "which of two sentences is grammatical"),
    JudgeTask("openbook_qa", "choice", "openbook_qa", "science with common sense"),
    JudgeTask("boolq", "choice", "boolq", "yes-or-no questions about a passage"),
    JudgeTask("winograd", "schema", "winograd_wsc", "who a pronoun means, the first set"),
    JudgeTask("wikidata", "last word", "bigbench_qa_wikidata", "facts"),
    JudgeTask("arithmetic", "last word", "simple_arithmetic_withspaces", "sums"),
)
TASKS = {task.name: task for task in _TASKS}


def known_tasks() -> list[dict[str, str]]:
    """Names, files, and what they are about."""
    return [{"task": t.name, "file": f"{t.file}.jsonl", "about": t.about} for t in _TASKS]


def find_task(name: str) -> JudgeTask:
    """A task by its name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        mend = nearest(name, list(TASKS)) or f"known: {', '.join(TASKS)}"
        raise UserError(f"unknown task '{name}'", where="--tasks", mend=mend)
    return TASKS[name]


def read_rows(
    task: JudgeTask, folder: Path, limit: int | None, places: Places | None = None
) -> list[dict[str, Any]]:
    """The first rows of a task's file, found anywhere below the folder.

    Args:
        task: which.
        folder: where to look; hidden files are passed over.
        limit: so many rows; None: all.
        places: added to: where each row stands.

    Raises:
        UserError: no such folder or file, two of its name, or a row that cannot be used.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder))
    path = _find(task, folder)
    rows: list[dict[str, Any]] = []
    for number, line in read_strict_lines(path, ReadReport()):
        if limit is not None and len(rows) >= limit:
            break
        if not line or line.isspace():
            continue
        where = f"{path}:{number}"
        row = json_object(line, where)
        if isinstance(row, UserError):
            raise row
        missing = [key for key in task.keys if key not in row]
        if missing:
            raise UserError(f"a row of '{task.name}' without '{missing[0]}'", where=where)
        rows.append(_checked({key: row[key] for key in task.keys}, where))
        if places is not None:
            places.append(where)
    if not rows:
        raise UserError("holds no row", where=str(path))
    return rows


def _find(task: JudgeTask, folder: Path) -> Path:
    """The one file of a task."""
    names = [f"{task.file}.jsonl{packed}" for packed in ("", *PACKED_SUFFIXES)]
    below = sorted(path for name in names for path in folder.rglob(name) if path.is_file())
    parts = {path: path.relative_to(folder) for path in below}
    found = {p: x for p, x in parts.items() if not any(y.startswith(".") for y in x.parts)}
    if not found:
        what = f"holds no {task.file}.jsonl (packed or not), which the task '{task.name}' reads"
        raise UserError(what, where=str(folder), mend="name the folder, or leave the task out")
    if len(found) > 1:
        what = f"the task '{task.name}' has {len(found)} files: {listed(list(map(str, found.values())))}"
        mend = "name the folder of one of them, or leave one there"
        raise UserError(what, where=str(folder), mend=mend)
    return next(iter(found))


_MAY_BE_EMPTY = ("query", "context")


def _checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A row whose texts are texts and whose `gold` counts among its answers."""
    for key, value in row.items():
        several = key in ("choices", "context_options")
        if several and not (value and isinstance(value, list)):
            raise UserError(f"'{key}' is no list of texts", where=where)
        texts = value if several else [] if key == "gold" else [value]
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"'{key}' holds something that is no text", where=where)
        if several and len(texts) < 2:
            mend = "give two answers or more, or leave the row out"
            raise UserError(f"'{key}' holds a single text", where=where, mend=mend)
        for text in texts:
            check_text(text, f"{where}: {key}")
            if key not in _MAY_BE_EMPTY and not text.strip():
                what = f"a text of '{key}' is empty" if several else f"'{key}' is empty"
                raise UserError(what, where=where, mend="write it, or leave the row out")
    if "gold" not in row:
        return row
    options = row.get("choices") or row["context_options"]
    gold = _gold(row["gold"], where)
    if not 0 <= gold < len(options):
        raise UserError(f"gold is {gold}, there are {len(options)} answers", where=where)
    return {**row, "gold": gold}


def _gold(value: object, where: str) -> int:
    """The number of the right answer: `1`, `"1"`, `1.0`."""
    number = number_of(value)
    if number is not None and number.is_integer():
        return int(number)
    shown = value if isinstance(value, str | float) else json.dumps(value, ensure_ascii=False)
    what = f"gold is '{shown}', no {'number' if number is None else 'whole number'}"
    mend = "write the number of the right answer, counted from 0"
    raise UserError(what, where=where, mend=mend)


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Rows as the harness reads them."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path
