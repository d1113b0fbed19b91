"""Parquet files are read as they are, whatever their names and folders are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfsup.config import SourceConfig
from selfsup.data.sources import ReadReport, read_documents
from selfsup.data.tables import read_rows, read_table
from selfsup.errors import UserError

duckdb = pytest.importorskip("duckdb")


def _write(path: Path, query: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.parent / "made"
    duckdb.connect().execute(f"COPY ({query}) TO '{made}' (FORMAT parquet)")
    return made.rename(path)


def _texts(path: Path) -> list[str]:
    return [text for text, _ in read_documents(SourceConfig(path=str(path)), ReadReport())]


@pytest.mark.parametrize(
    "name", ["x[1].parquet", "x*.parquet", "x?.parquet", "[x]/a.parquet", "text=foo/a.parquet"]
)
def test_the_file_of_that_name_and_its_own_columns(tmp_path: Path, name: str) -> None:
    for other in ("x1.parquet", "xy.parquet", "x/a.parquet"):
        _write(tmp_path / other, "SELECT 'other' AS text")
    path = _write(tmp_path / name, "SELECT 'mine' AS text")
    assert _texts(path) == ["mine"]
    assert [values for values, _ in read_rows(path, ["text"])] == [("mine",)]
    assert {key: list(column) for key, column in read_table(path).items()} == {"text": ["mine"]}


def test_a_tilde_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _write(Path("~a.parquet"), "SELECT 'mine' AS text")
    assert [values for values, _ in read_rows(Path("~a.parquet"), ["text"])] == [("mine",)]


@pytest.mark.parametrize("content", [b"", b"no such thing"])
def test_broken_files_are_named_with_a_mend(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a[1].parquet"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        _texts(path)
    assert str(caught.value).startswith(f"{path}: cannot be read as parquet (")
    assert str(caught.value).endswith("; fetch or write it again")
    assert str(tmp_path) not in caught.value.what


@pytest.mark.parametrize(
    ("value", "called"),
    [("DATE '2020-01-01'", "a date"), ("TIME '10:00'", "a time of day"), ("1.5", "a number")],
)
def test_values_are_called_what_they_are(tmp_path: Path, value: str, called: str) -> None:
    path = _write(tmp_path / "a.parquet", f"SELECT {value} AS text")
    with pytest.raises(UserError, match=f"'text' is {called}, not a text"):
        _texts(path)
