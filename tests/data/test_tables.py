from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any

import pytest

from selfsup.data.sources import ReadReport
from selfsup.data.tables import read_rows, read_table
from selfsup.errors import UserError

TEXT = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
needs_data = pytest.mark.skipif(not TEXT.is_dir(), reason=f"no {TEXT}")


def _values(path: Path, columns: list[str | int], **options: Any) -> list[tuple[Any, ...]]:
    return [values for values, _ in read_rows(path, columns, **options)]


def _message(path: Path, columns: list[str | int], **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        _values(path, columns, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl"])
def test_columns_in_the_order_asked_for(tmp_path: Path, kind: str, packing: str) -> None:
    rows = [("1", "one\ntwo"), ("0", 'a "quoted", text'), ("1", "三")]
    if kind == ".jsonl":
        content = "\n\n".join(json.dumps({"label": a, "id": 7, "text": b}) for a, b in rows)
    else:
        written = io.StringIO(newline="")
        writer = csv.writer(written, delimiter="\t" if kind == ".tsv" else ",")
        writer.writerows([("label", "id", "text"), *((a, 7, b) for a, b in rows)])
        content = written.getvalue().replace("\r\n0", "\r\n\r\n0")
    file = tmp_path / f"a{kind}{packing}"
    packed = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[packing]
    file.write_bytes(packed(b"\xef\xbb\xbf" + content.encode()))
    found = list(read_rows(file, ["text", "label"]))
    assert [values for values, _ in found] == [(b, a) for a, b in rows]
    lines = [1, 3, 5] if kind == ".jsonl" else [2, 5, 6]
    assert [where for _, where in found] == [f"{file}:{line}" for line in lines]


def test_numbers_for_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("gj\t1\t\tfirst\ngj\t0\t*\tsecond\n")
    assert _values(file, [3, "1"], header=False) == [("first", "1"), ("second", "0")]
    assert _values(file, [0]) == [("gj",)]
    assert f"{file}:1: no column 4: the row has 4, numbered from 0" in _message(file, [4])
    assert "no column 'text': there is no header; give its number" in _message(
        file, ["text"], header=False
    )


def test_two_columns_of_one_name_are_refused_where_all_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(UserError, match="column 'a' occurs 2 times; give each column a name"):
        read_table(file)


def test_quotes_in_tsv(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"

    def texts(content: str, **options: Any) -> list[str]:
        file.write_text(content)
        return [values[0] for values in _values(file, ["text"], **options)]

    quoted = 'text\tlabel\n"a ""b"""\t1\n"c\nd"\t0\n'
    assert texts(quoted) == ['a "b"', "c\nd"]
    # A quote that is never closed, or closed before the field ends.
    assert texts('text\tlabel\n"a\t1\nb\t0\n') == ['"a', "b"]
    assert texts('text\tlabel\n"a" he said\t1\n') == ['"a" he said']
    # Strictly quoted, two rows of two fields, but the quote swallows a line that fits.
    assert texts('text\tlabel\n"a\t1\nb"\t0\n') == ['"a', 'b"']
    # One row too short makes a quoted file no literal one.
    assert texts(quoted + "e\n", on_bad_row="skip") == ['a "b"', "c\nd"]
    assert texts('text\tlabel\n"a"\t1\n', quoting="none") == ['"a"']
    assert texts("text\tlabel\n\t1\n \n\t\n") == ["", ""]


def test_quotes_that_are_ordinary_characters_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"

    def report_of(*rows: str, **options: Any) -> ReadReport:
        file.write_text("\n".join(["text\tlabel", *rows]) + "\n")
        list(read_rows(file, ["text"], report=(report := ReadReport()), **options))
        return report

    note = "quotes are ordinary characters, also around whole fields (line 3)"
    stray, whole, said = '"a\t1', '"b ""c"""\t0', '"a" or "b"\t1'
    for rows, literal, notes in [
        (["a\t1", "b\t0"], False, []),
        ([whole], False, []),
        ([stray], True, []),
        ([said], True, []),
        ([stray, whole, whole], True, [note]),
        ([said, whole], True, [note]),
    ]:
        report = report_of(*rows)
        assert (report.literal, report.notes) == (literal, notes), rows
    report = report_of(stray, whole, quoting="none")
    assert not report.literal
    assert not report.notes


def test_a_column_is_found_however_its_accents_are_written(tmp_path: Path) -> None:
    whole, apart = "étiquette", "e\u0301tiquette"
    files = {
        "a.csv": f"{apart},text\nx,a\n",
        "a.tsv": f"{apart}\ttext\nx\ta\n",
        "a.jsonl": json.dumps({apart: "x", "text": "a"}) + "\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert _values(tmp_path / name, ["text", whole]) == [("a", "x")], name
    (tmp_path / "b.csv").write_text(f"{apart},{whole}\nx,y\n")
    assert _values(tmp_path / "b.csv", [whole, apart]) == [("y", "x")]
    (tmp_path / "b.csv").write_text("e\u0323\u0302,e\u0302\u0323\nx,y\n")
    assert "no column 'ệ'" in _message(tmp_path / "b.csv", ["\u1ec7"])


def test_missing_columns_and_bad_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,1\nb, and c,2\nd,1\n")
    assert _message(file, ["txt"]) == (
        f"{file}:1: no column 'txt'; it has 'text', 'label', did you mean 'text'?; "
        "set --text-column, --pair-column or --label-column to one of these names; if this is no header, "
        "--no-header and numbers from 0"
    )
    headless = tmp_path / "b.csv"
    headless.write_text(f"{'ACGT' * 30},+\n")
    assert f"it has '{'ACGT' * 10}…', '+'; set" in _message(headless, ["text"])
    assert "give its number, from 0 (--text-column" in _message(headless, ["text"], header=False)
    assert f"{file}:3: the row has 3 fields, the header 2" in _message(file, ["text"])
    report = ReadReport()
    assert _values(file, ["text"], on_bad_row="skip", report=report) == [("a",), ("d",)]
    assert report.bad_rows == 1
    file.write_text("text,text\na,1\n")
    assert "the header names 'text' 2 times" in _message(file, ["text"])
    assert _values(file, [1]) == _values(file, ["1"]) == [("1",)]
    file.write_text("text,0\na,1\n")
    assert _values(file, ["0"]) == [("1",)]  # a name goes before a number
    file.write_text("text;label\na, b;1\n")
    assert _values(file, ["text", "label"]) == [("a, b", "1")]
    rows = tmp_path / "a.jsonl"
    rows.write_text('{"text": "a"}\n{"txt": "b"}\n[1]\n')
    assert f"{rows}:2: no column 'text'; it has 'txt'" in _message(rows, ["text"])
    assert "but JSON lines name their values" in _message(rows, [0])
    report = ReadReport()
    assert _values(rows, ["text"], on_bad_row="skip", report=report) == [("a",)]
    assert report.bad_rows == 2
    (tmp_path / "a.md").touch()
    assert "are no tables; known are .csv" in _message(tmp_path / "a.md", ["text"])
    file.write_bytes(b"text\n\xff\n")
    assert f"{file}:2: not UTF-8" in _message(file, ["text"])
    file.write_text("")
    assert _values(file, ["text"]) == []


def test_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    file = tmp_path / "a.parquet"
    query = "SELECT 'text ' || i AS \"a text\", i AS label FROM range(3) t(i)"
    duckdb.connect().execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
    found = list(read_rows(file, ["label", "a text"]))
    assert found[2] == ((2, "text 2"), f"{file}:3")
    assert _values(file, [1]) == [(0,), (1,), (2,)]
    assert "did you mean 'a text'?" in _message(file, ["text"])
    file.write_text("no such thing")
    assert "cannot be read as parquet" in _message(file, ["text"])


@needs_data
def test_quotes_in_real_files() -> None:
    # In GLUE a quote is a character; PAWS-X is quoted; in ChnSentiCorp quotes are broken.
    glue = TEXT / "glue" / "MRPC" / "dev.tsv"
    assert _values(glue, ["#1 String"]) == _values(glue, ["#1 String"], quoting="none")
    pawsx = TEXT / "pawsx" / "pawsx.dev.fr.tsv.xz"
    assert not any(text.startswith('""') for (text,) in _values(pawsx, ["sentence1"]))
    assert len(_values(pawsx, ["sentence1"])) == 2000
    assert len(_values(TEXT / "chnsenticorp" / "train.tsv.xz", ["text_a"])) == 9600


def test_a_whole_table_leaves_no_row_out_and_offers_no_flag(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n1,2\n3\n")
    with pytest.raises(UserError, match=r"t.csv:3: .*quote fields with delimiters$"):
        read_table(file)


def test_a_whole_table_has_gaps_where_json_leaves_a_name_out(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text('{"a": 1, "b": "x"}\n\n{"b": "y", "c": true}\n{"a": 2}\n')
    found = {name: column.tolist() for name, column in read_table(file).items()}
    assert found == {"a": [1, None, 2], "b": ["x", "y", None], "c": [None, True, None]}
    assert "t.jsonl:3: no column 'a'" in _message(file, ["a"])  # of chosen ones
    file.write_text('{"a": 1}\n[2]\n')
    with pytest.raises(UserError, match=r"t.jsonl:2: a JSON object is expected"):
        read_table(file)
    file.write_text("\n")
    with pytest.raises(UserError, match="the table has no rows"):
        read_table(file)
