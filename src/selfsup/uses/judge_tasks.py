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

from selfsup.data.files import ReadReport, read_strict_lines
from selfsup.data.sources import json_object
from selfsup.errors import UserError, nearest

Kind = Literal["choice", "last word", "schema", "pair"]


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


def read_rows(task: JudgeTask, folder: Path, limit: int | None) -> list[dict[str, Any]]:
    """The first rows of a task's file, found anywhere below the folder.

    Raises:
        UserError: no such folder or file, or a row without its keys.
    """
    if not folder.is_dir():
        raise UserError("no such folder", where=str(folder))
    found = sorted(folder.rglob(f"{task.file}.jsonl*"))
    if not found:
        what = f"holds no {task.file}.jsonl (packed or not), which the task '{task.name}' reads"
        raise UserError(what, where=str(folder), mend="name the folder, or leave the task out")
    rows: list[dict[str, Any]] = []
    for number, line in read_strict_lines(found[0], ReadReport()):
        if limit is not None and len(rows) >= limit:
            break
        if not line or line.isspace():
            continue
        where = f"{found[0]}:{number}"
        row = json_object(line, where)
        if isinstance(row, UserError):
            raise row
        missing = [key for key in task.keys if key not in row]
        if missing:
            raise UserError(f"a row of '{task.name}' without '{missing[0]}'", where=where)
        rows.append(_checked({key: row[key] for key in task.keys}, where))
    if not rows:
        raise UserError("holds no row", where=str(found[0]))
    return rows


def _checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A row whose texts are texts and whose `gold` counts among its answers."""
    for key, value in row.items():
        several = key in ("choices", "context_options")
        if several and not (value and isinstance(value, list)):
            raise UserError(f"'{key}' is no list of texts", where=where)
        texts = value if several else [] if key == "gold" else [value]
        if not all(isinstance(text, str) for text in texts):
            raise UserError(f"'{key}' holds something that is no text", where=where)
    if "gold" not in row:
        return row
    options = row.get("choices") or row["context_options"]
    try:
        gold = int(row["gold"])
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"gold is '{row['gold']}', no number", where=where) from None
    if not 0 <= gold < len(options):
        raise UserError(f"gold is {gold}, there are {len(options)} answers", where=where)
    return {**row, "gold": gold}


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Rows as the harness reads them."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path
