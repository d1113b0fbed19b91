"""Files of examples: what they are for decides what may be done about rows that cannot be used."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig
from selfsup.tasks.answer_rules import Language
from selfsup.tasks.label_notes import answer_notes
from selfsup.tasks.label_values import LabelColumn, label_text
from selfsup.tasks.reading import Notes, Parts, Role, read_examples, read_parts
from selfsup.tasks.squad import Answer, Question
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


@pytest.mark.parametrize(
    ("first", "step", "mend"),
    [
        (1e7, 1.0, "subtract a constant (10000000)"),
        (-1e7, 1.0, "add a constant (10000000)"),
        (1_700_000_000, 3600.0, "subtract a constant (1700000000)"),
        (0.5, 1e-6, "subtract a constant (0.5)"),
    ],
)
def test_numbers_far_from_zero_beside_their_spread_are_refused(
    tmp_path: Path, first: float, step: float, mend: str
) -> None:
    labels = [repr(first + step * i) for i in range(7)]
    with pytest.raises(UserError, match="tell too few of them apart") as caught:
        parts_of(tmp_path, "regress", labels)
    assert caught.value.mend == mend
    assert caught.value.where == str(tmp_path / "rows.csv")
    near = float(mend.partition("(")[2].rstrip(")")) * (1 if first > 0 else -1)
    parts_of(tmp_path, "regress", [repr(float(label) - near) for label in labels])


def test_years_are_learned_and_equal_numbers_are_not(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, "regress", [str(2000 + i) for i in range(-8, 9)])
    assert parts.info.scale == pytest.approx((2000, 24**0.5))
    with pytest.raises(UserError, match=r"every label is 0\.1"):
        parts_of(tmp_path, "regress", ["0.1"] * 7)


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


NOTED: list[tuple[str, list[str], str]] = [
    (
        "pairs",
        ["0", "1", "5"],
        "labels are whole numbers: learned as classes; --metric correlation",
    ),
    ("pairs", ["0", "1", "1"], ""),
    ("classify", ["0", "1", "5"], ""),
    ("classify", ["a"] * 6 + ["b"] * 6 + ["c"], "1 class has a single example: 'c'"),
    (
        "classify",
        ["good", " Good ", "bad", "bad"],
        "differ only in case are different classes: 'good'",
    ),
    (
        "classify",
        ["café", "cafe\u0301", "tea", "tea"],
        "look the same are different classes: 'café', 'cafe<U+0301>'",
    ),
    (
        "classify",
        ["yes", "yes\u200f", "no", "no"],
        "look the same are different classes: 'yes', 'yes<U+200F>'",
    ),
    ("classify", ["हिन्दी", "हिन्द", "no", "no"], ""),
    ("classify", ["a", "b", "NaN"], "'NaN' is learned as a class; leave a label empty"),
]


@pytest.mark.parametrize(("task", "labels", "note"), NOTED)
def test_labels_that_may_be_meant_otherwise_are_noted(
    tmp_path: Path, task: str, labels: list[str], note: str
) -> None:
    said = parts_of(tmp_path, task, labels).notes.lines
    lines = [line for line in said if "accuracies on them" not in line]
    assert len(lines) == bool(note)
    assert all(note in line for line in lines)


def test_whole_numbers_are_learned_as_such_by_their_metric(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, "pairs", ["0", "1", "5"], metric="correlation")
    assert (parts.info.answer, parts.info.main) == ("number", "correlation")
    assert not any("whole numbers" in line for line in parts.notes.lines)


def test_a_word_for_a_gap_among_numbers_is_no_label(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1 of 4 rows .* no label in 'label': 'NaN' in line 4"):
        parts_of(tmp_path, "classify", ["0", "1", "NaN", "1"])


def test_tags_as_numbers_are_noted(tmp_path: Path) -> None:
    file = tmp_path / "tags.jsonl"
    file.write_text('{"tokens": ["Anna", "lives"], "ner_tags": [1, 0]}\n')
    config = toy_config(Path("m"), "tag", file, file, data={"label_column": "ner_tags"})
    assert any("tags are whole numbers" in line for line in read_parts(config, 96).notes.lines)


def test_whole_numbers_are_the_same_classes_in_every_kind_of_file(tmp_path: Path) -> None:
    kinds = {"a.csv": "text,label\na,1.0\nb,0.0\nc,2.50\n", "a.jsonl": ""}
    rows = (("a", 1.0), ("b", 0.0), ("c", "2.50"))
    kinds["a.jsonl"] = "\n".join(f'{{"text": "{t}", "label": {json.dumps(x)}}}' for t, x in rows)
    for name, content in kinds.items():
        (tmp_path / name).write_text(content)
        path = str(tmp_path / name)
        found = read_examples(
            path, LabelledConfig(), "classify", Notes(), numeric=False, role="train"
        )
        assert [e.label for e in found] == ["1", "0", "2.50"]  # type: ignore[union-attr]


def test_only_nan_is_a_gap_among_numbers() -> None:
    column = LabelColumn.of(["0", "1", "none", "?"], numeric=False)
    assert [column.read(x) for x in ("1.0", "+1.0", "none", "?")] == ["1", "+1", "none", "?"]
    column = LabelColumn.of(["0", "1", "NaN", ""], numeric=False)
    assert [column.read(x) for x in ("1", "NaN", "")] == ["1", None, None]


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_quotes_are_read_everywhere_as_in_the_training_file(tmp_path: Path, task: str) -> None:
    def written(name: str, *rows: str) -> Path:
        (tmp_path / name).write_text("\n".join(["text\tlabel", *rows]) + "\n")
        return tmp_path / name

    stray, whole = '"tis odd\t1', '"in quotes"\t0'
    dev = written("dev.tsv", whole, "b\t1")
    for train, quoting, text in [
        (written("none.tsv", "a\t1", "b\t0"), "auto", "in quotes"),
        (written("quoted.tsv", whole, "b\t1"), "auto", "in quotes"),
        (written("stray.tsv", stray, "b\t0"), "none", '"in quotes"'),
    ]:
        config = toy_config(Path("m"), task, train, dev, data={"test": str(dev)})
        parts = read_parts(config, 96)
        assert parts.info.data.quoting == quoting
        assert parts.test is not None
        for part in (parts.dev, parts.test):
            assert part[0].text == text  # type: ignore[union-attr]
    asked = toy_config(Path("m"), task, train, dev, data={"quoting": "none"})
    assert read_parts(asked, 96).info.data.quoting == "none"


def test_a_length_that_the_encoder_does_not_read_is_noted(tmp_path: Path) -> None:
    note = "--max-length 97: this encoder reads 96 tokens at most"
    for length, noted in ((0, False), (96, False), (97, True)):
        parts = parts_of(tmp_path, "classify", ["a", "b"], max_length=length)
        assert parts.info.max_length == 96
        assert (note in parts.notes.lines) == noted


def test_lines_of_text_are_predicted_and_no_more(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one\n\ntwo\n")

    def read(data: LabelledConfig, role: Role) -> Any:
        return read_examples(str(file), data, "classify", Notes(), numeric=False, role=role)

    assert [(e.text, e.where) for e in read(LabelledConfig(), "predict")] == [
        ("one", f"{file}:1"),
        ("", f"{file}:2"),  # an answer for every line
        ("two", f"{file}:3"),
    ]
    with pytest.raises(UserError, match=r"hold no labelled texts; .* \.data, folders of FASTA"):
        read(LabelledConfig(), "score")
    with pytest.raises(UserError, match=r"hold no pairs; .* \.parquet, also packed"):
        read(LabelledConfig(pair_column="b"), "predict")
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no text"):
        read(LabelledConfig(), "predict")


@pytest.mark.parametrize(
    ("value", "text"),
    [("1", "1"), ("1.00", "1"), ("-3.0", "-3"), ("0.50", "0.5"), ("1E+2", "100"), ("NaN", None)],
)
def test_decimals_are_labels_as_other_numbers_are(value: str, text: str | None) -> None:
    assert label_text(Decimal(value)) == text
    assert LabelColumn.of([Decimal(value)], numeric=False).read(Decimal(value)) == text


@pytest.mark.parametrize("columns", [{"text_column": "txt"}, {"text_column": "7", "header": False}])
def test_who_has_a_layout_says_what_it_is(tmp_path: Path, columns: dict[str, Any]) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text("text\tlabel\nsome\ta\nwords\tb\n")
    layout = "this is no file of the task, which has sentence and label"
    config = toy_config(Path("m"), "classify", file, file, data=columns)
    with pytest.raises(UserError) as caught:
        read_parts(config, 96, layout=layout)
    assert caught.value.mend.endswith(layout)
    assert "--" not in str(caught.value)
    with pytest.raises(UserError, match="no column"):
        read_parts(config, 96)


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.symlink_to("gone.tsv")
    with pytest.raises(UserError, match=r"rows.tsv: the link leads nowhere \(to 'gone.tsv'\)"):
        read_examples(str(file), LabelledConfig(), "classify", Notes(), numeric=False, role="train")


@pytest.mark.parametrize(
    ("answer", "noted"),
    [
        ("1998年のこと", ["en", "zh"]),
        ("北京大学", ["en"]),
        ("ทั้งวัน", ["en", "zh"]),
        ("a film", []),
        ("हिन्दी", []),
        ("1998", []),
    ],
)
def test_answers_that_are_one_word_to_the_rule_are_noted(answer: str, noted: list[str]) -> None:
    asked = [Question("a", "?", answer, (Answer(answer, 0),), False, "here")]
    rules: tuple[Language, ...] = ("en", "zh", "characters")
    assert [rule for rule in rules if answer_notes(asked, rule)] == noted
