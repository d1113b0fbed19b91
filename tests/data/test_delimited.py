"""CSV and TSV files are read alike as texts and as labelled files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from selfsup.config import DataConfig, SourceConfig
from selfsup.data.corpus import data_fingerprint
from selfsup.data.sources import ReadReport, read_documents
from selfsup.data.statistics import corpus_statistics
from selfsup.data.tables import read_rows
from selfsup.errors import UserError

TEXT = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
SWALLOWED = ['" opening quote\ta', "middle row\tb", '"\ta', "fourth\tb"]
"""Whose quotes could enclose a field of three lines."""


def _texts(path: Path, report: ReadReport | None = None, column: str = "text") -> list[str]:
    source = SourceConfig(path=str(path), column=column)
    return [text for text, _ in read_documents(source, report or ReadReport())]


def _labelled(path: Path, column: str = "text") -> list[str]:
    return [values[0] for values, _ in read_rows(path, [column])]


def _write(path: Path, *rows: str) -> Path:
    content = "\n".join(["text\tlabel", *rows]) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
@pytest.mark.parametrize(
    ("rows", "texts"),
    [
        (SWALLOWED, ['" opening quote', "middle row", '"', "fourth"]),
        (['"a ""b"""\t1', '"c\nd"\t0'], ['a "b"', "c\nd"]),
        (['"a" he said\t1', "b\t0"], ['"a" he said', "b"]),
        (['"a\t1', "b\t0"], ['"a', "b"]),
        (["a\t1", "", "  ", "b\t0"], ["a", "b"]),
        (["a\rb\t1"], ["a\rb"]),
    ],
)
def test_quotes_in_tsv_are_read_as_they_make_sense(
    tmp_path: Path, name: str, rows: list[str], texts: list[str]
) -> None:
    path, report = _write(tmp_path / name, *rows), ReadReport()
    assert _texts(path, report) == _labelled(path) == texts
    assert report.bytes_read == len("\n".join(["text\tlabel", *rows])) + 1  # once


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        (['"one', 'two"', '"three ""x""', 'four"'], ["one\ntwo", 'three "x"\nfour']),
        (['"one"', '"two', 'three"', '"four"'], ["one", "two\nthree", "four"]),
        (['"Hello, he said.', 'He saw a "star" there.', 'The end."'], None),
        (['"Hello, he said.', "The end."], None),
        (['A 5" disk', '"one', 'two"'], None),
    ],
)
def test_one_column_goes_by_where_quotes_stand(
    tmp_path: Path, lines: list[str], texts: list[str] | None
) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("\n".join(["text", *lines]) + "\n")
    assert _texts(path) == _labelled(path) == (lines if texts is None else texts)


def test_lines_that_quotes_would_join_are_noted(tmp_path: Path) -> None:
    path, report = _write(tmp_path / "a.tsv", *SWALLOWED), ReadReport()
    _texts(path, report)
    note = "quotes are ordinary characters; else they would join lines"
    assert report.notes == [f"{path}: {note}"]


def test_a_row_without_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfsup.data.delimited._LONGEST_ROW", 100)
    path = _write(tmp_path / "a.tsv", '"a\t1', *["b" * 30 + "\t0"] * 5, '"\t1')
    assert len(_texts(path)) == 7


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tsv")
    with pytest.raises(UserError, match="no ordinary file"):
        _labelled(tmp_path / "a.tsv")


def test_the_note_names_the_file(tmp_path: Path) -> None:
    path, report = _write(tmp_path / "a.tsv", '"a\t1', '"b"\t0'), ReadReport()
    assert _texts(path, report) == ['"a', '"b"']
    note = f"{path}: quotes are ordinary characters, also around whole fields (line 3)"
    assert report.notes == [note]
    data = DataConfig(sources=(SourceConfig(path=str(path)),))
    assert corpus_statistics(data)["notes"] == [note]


def test_only_what_is_quoted_is_mended_by_quotes(tmp_path: Path) -> None:
    for rows, quoting, mend in [
        (["a"], "auto", "quote fields with delimiters"),
        (['"a"\t1', "b"], "auto", "quote fields with delimiters"),
        (['"a', "b\t0"], "auto", "mend the row"),
        (["a"], "none", "mend the row"),
    ]:
        path = _write(tmp_path / "a.tsv", *rows)
        with pytest.raises(UserError) as caught:
            list(read_rows(path, ["text"], quoting=quoting))  # type: ignore[arg-type]
        assert caught.value.mend == f"{mend}, or leave such rows out with --on-bad-row skip"


def test_a_header_that_names_the_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dup.csv"
    path.write_text("text,text,label\na,b,1\n")
    for read in (_texts, _labelled):
        with pytest.raises(
            UserError, match=r"dup\.csv:1: the header names 'text' 2 times; name them"
        ):
            read(path)
    path.write_text("text,label,label\na,1,2\n")
    assert _texts(path) == _labelled(path) == ["a"]


def test_not_utf8_is_told_as_such_also_beside_broken_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b'text\tlabel\n"a" b\t1\n\xff\t0\n')
    for read in (_texts, _labelled):
        with pytest.raises(UserError, match=r"a\.tsv:3: not UTF-8"):
            read(path)


def test_what_was_made_of_such_files_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for name in ("a.txt", "a.tsv", "a.parquet"):
        (tmp_path / name).touch()
        data = DataConfig(sources=(SourceConfig(path=str(tmp_path / name)),))
        now = data_fingerprint(data)
        with monkeypatch.context() as patch:
            patch.setattr("selfsup.data.corpus._READINGS", {})
            made[name] = data_fingerprint(data) == now
    assert made == {"a.txt": True, "a.tsv": False, "a.parquet": False}


@pytest.mark.skipif(not TEXT.is_dir(), reason=f"no {TEXT}")
@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("glue/RTE/train.tsv.xz", "sentence1"),
        ("glue/MRPC/train.tsv.xz", "#1 String"),
        ("glue/STS-B/dev.tsv.xz", "sentence1"),
        ("glue/QNLI/dev.tsv.xz", "question"),
        ("pawsx/pawsx.dev.fr.tsv.xz", "sentence1"),
    ],
)
def test_real_files(name: str, column: str) -> None:
    texts = _texts(TEXT / name, column=column)
    assert texts == _labelled(TEXT / name, column)
    assert len(texts) > 1000
