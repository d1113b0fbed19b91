"""Task files: what they may hold, and the prompt that comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfsup.errors import UserError
from selfsup.tasks.prompts import read_prompt_task

HEAD = {"description": "Good or bad?", "choices": ["good", "bad"]}
ONE, TWO = {"input": "fine", "output": "good"}, {"input": "dull", "output": "bad"}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "task.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_prompt(tmp_path: Path) -> None:
    task = read_prompt_task(write(tmp_path, HEAD, ONE, TWO))
    assert task.prompt(task.examples, "great") == "Good or bad?\n\nfine\tgood\ndull\tbad\ngreat\t"
    assert task.chooses
    plain = read_prompt_task(write(tmp_path, ONE, TWO), separator="\nA:", ending="\n\n")
    assert plain.prompt(plain.examples[:1], "x") == "fine\nA:good\n\nx\nA:"
    assert not plain.chooses
    assert not plain.notes()
    assert read_prompt_task(write(tmp_path, {"input": "a\nb", "output": "c"})).notes()


def test_numbers_as_answers_are_their_text(tmp_path: Path) -> None:
    rows = [
        {"choices": [0, 1.0, 2.5]},
        {"input": "x", "output": 1},
        {"input": "y", "output": "2.5"},
    ]
    task = read_prompt_task(write(tmp_path, *rows))
    assert task.choices == ("0", "1", "2.5")
    assert [e.output for e in task.examples] == ["1", "2.5"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "task.jsonl: holds no example"),
        ([HEAD], "task.jsonl: holds no example"),
        ([HEAD, ONE, {"input": "x"}], "task.jsonl:3: an example without 'output'"),
        ([HEAD, {"output": "good"}], "task.jsonl:2: an example without 'input'"),
        ([HEAD, {"input": "x", "output": "god"}], "none of the choices; did you mean 'good'"),
        ([ONE, {"input": "x", "output": " "}], "task.jsonl:2: the output is empty"),
        ([ONE, {"input": 3, "output": "x"}], "'input' is a number, not a text"),
        ([ONE, {"inptu": "x", "output": "y"}], "unknown key 'inptu'; did you mean 'input'"),
        ([ONE, "{"], "task.jsonl:2:2: broken JSON"),
        ([ONE, {**TWO, "choices": ["bad", "good"]}], "task.jsonl:2: has choices, the first"),
        ([{"choices": ["a"]}, ONE], "task.jsonl:1: needs two choices"),
        ([{"choices": ["a", "a"]}, ONE], "the choice 'a' stands there twice"),
        ([{"choices": "ab"}, ONE], "'choices' is a text, not a list"),
        ([{"choices": ["a", None]}, ONE], "task.jsonl:1: a choice is missing, not a text"),
        ([{"text": "fine", "label": "good"}], "'label'; an example needs input and output"),
    ],
)
def test_bad_files(tmp_path: Path, rows: list[Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        read_prompt_task(write(tmp_path, *rows))
    assert said in str(error.value)
