from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selfsup.config import (
    DataConfig,
    SourceConfig,
)
from selfsup.data.statistics import SCRIPTS, corpus_statistics, count_scripts
from selfsup.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Große Straße naïve Ａｂ", {"Latin": 18}),
        ("漢字、𠀀々", {"Han": 4, "punctuation": 1}),
        ("カタカナ ひらがな・ﾊﾝ", {"Kana": 10, "punctuation": 1}),
        ("Привет", {"Cyrillic": 6}),
        ("مرحبا، ١٢", {"Arabic": 5, "punctuation": 1, "digits": 2}),
        ("नमस्ते।", {"Devanagari": 6, "punctuation": 1}),
        ("안녕하세요", {"Hangul": 5}),
        ("Ελλάδα;", {"Greek": 6, "punctuation": 1}),
        ("1 + 1 = 2!\n\t", {"digits": 3, "punctuation": 3}),
        ("×😀שלום", {"other": 6}),
        ("", {}),
    ],
)
def test_scripts(text: str, expected: dict[str, int]) -> None:
    found = dict(zip(SCRIPTS, count_scripts(text).tolist(), strict=True))
    assert {name: count for name, count in found.items() if count} == expected


def test_statistics(tmp_path: Path) -> None:
    rows = [{"text": f"text number {number}"} for number in range(100)]
    rows += [{"text": "text number 7"}, {"text": "  "}, {"text": "short"}, {"text": "漢字" * 50}]
    file = tmp_path / "a.jsonl"
    lines = [json.dumps(row) for row in rows]
    file.write_text("\n".join([*lines, "oops"]))
    source = SourceConfig(path=str(file), on_bad_row="skip")
    found: dict[str, Any] = corpus_statistics(
        DataConfig(sources=(source,), min_characters=6, heldout=0.3)
    )
    assert (found["files"], found["documents_read"], found["documents"]) == (1, 104, 101)
    assert found["dropped"] == {"duplicate": 1, "too_short": 1, "empty": 1, "bad_row": 1}
    assert found["duplicates"] == 1
    assert found["characters"] == 10 * 13 + 90 * 14 + 100
    assert found["bytes"] == found["characters"] + 200
    assert found["characters_median"] == 14
    assert 15 < found["heldout_documents"] < 50
    assert sum(found["scripts"].values()) == pytest.approx(1)
    visible = found["characters"] - 2 * 100
    assert found["scripts"]["Han"] == pytest.approx(100 / visible)
    assert found["bad_examples"][0].startswith(f"{file}:105:1: broken JSON")
    json.dumps(found)


def test_nothing_given() -> None:
    with pytest.raises(UserError, match="no data is given"):
        corpus_statistics(DataConfig())


def test_letters_of_sequences(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">a\nACGTNNac\n>b\nAAAAAAAA\n")
    found = corpus_statistics(DataConfig(sources=(SourceConfig(path=str(tmp_path)),)))
    letters = {"A": 9, "N": 2, "C": 1, "G": 1, "T": 1, "a": 1, "c": 1}
    assert found["letters"] == {letter: count / 16 for letter, count in letters.items()}
    (tmp_path / "a.fa").unlink()
    (tmp_path / "b.txt").write_text("a text with few letters")
    found = corpus_statistics(DataConfig(sources=(SourceConfig(path=str(tmp_path)),)))
    assert "letters" not in found
