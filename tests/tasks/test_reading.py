"""Files of examples: what they are for decides what may be done about rows that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig
from selfsup.tasks.reading import Notes, Parts, Role, read_examples, read_parts
from tests.tasks.toy import toy_config


@pytest.mark.parametrize("role", ["train", "score", "predict"])
def test_only_who_can_skip_rows_is_told_to(tmp_path: Path, role: Role) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": "x"}\n{"text"\n')
    with pytest.raises(UserError) as caught:
        read_examples(str(file), LabelledConfig(), "classify", Notes(), numeric=False, role=role)
    assert ("--on-bad-row skip" in str(caught.value)) == (role != "predict")


def parts_of(folder: Path, task: str, labels: list[str], **more: Any) -> Parts:
    """What a file of these labels comes to, parted by semicolons, its dev file the same."""
    file = folder / "rows.csv"
    rows = [f"text {i};other {i};{label}" for i, label in enumerate(labels)]
    file.write_text("\n".join(["text;other;label", *rows]) + "\n")
    pair = {"pair_column": "other"} if task == "pairs" else {}
    return read_parts(toy_config(Path("m"), task, file, file, data=pair, **more), 96)


@pytest.mark.parametrize("task", ["pairs", "regress"])
def test_decimal_commas_are_read_as_numbers(tmp_path: Path, task: str) -> None:
    parts = parts_of(tmp_path, task, ["4,22", "0,5", "3", "1,234"])
    assert parts.info.answer == "number"
    assert [e.label for e in parts.train] == [4.22, 0.5, 3.0, 1.234]  # type: ignore[union-attr]
    assert [e.label for e in parts.dev] == [4.22, 0.5, 3.0, 1.234]  # type: ignore[union-attr]
    assert any("'label' has decimal commas: 4,22 is read as 4.22" in x for x in parts.notes.lines)


@pytest.mark.parametrize("labels", [["4,22", "1.5", "2.5"], ["1,234", "2,500", "3"]])
def test_commas_that_may_part_thousands_are_refused(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(UserError, match=r"no number in 'label'.*; write all decimals with a point"):
        parts_of(tmp_path, "regress", labels)


def test_a_class_for_nearly_each_row_is_noted(tmp_path: Path) -> None:
    noted = "11 classes in 20 rows: is a number or an id given as label?"
    labels = [f"c{min(i, 10)}" for i in range(20)]
    assert any(noted in line for line in parts_of(tmp_path, "classify", labels).notes.lines)
    lines = parts_of(tmp_path, "classify", ["a", "b"] * 10).notes.lines
    assert not any("classes in" in line for line in lines)


def test_labels_that_nothing_shares_cannot_be_held_out(tmp_path: Path) -> None:
    (tmp_path / "ids.tsv").write_text("text\tlabel\n" + "".join(f"t\tid{i}\n" for i in range(30)))
    with pytest.raises(UserError, match="of 30 rows too few share a label"):
        read_parts(toy_config(Path("m"), "classify", tmp_path / "ids.tsv"), 96)
