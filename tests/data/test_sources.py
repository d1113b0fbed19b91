from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfsup.config import SourceConfig
from selfsup.data.sources import Document, ReadReport, find_files, read_documents
from selfsup.errors import UserError

TEXTS = ["The first text.", 'Two, "quoted"\nand broken over lines.', "三つ目のテキスト。", "end"]


def _zstd(content: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdCompressor().compress(content))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": _zstd,
}


def _json_lines(texts: list[str]) -> bytes:
    return "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts).encode()


def _csv(texts: list[str], delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(["id", "text"])
    writer.writerows([1, text] for text in texts)
    return file.getvalue().encode()


def _read(path: Path | str, **options: Any) -> list[Document]:
    return list(read_documents(SourceConfig(path=str(path), **options), ReadReport()))


def _texts(path: Path | str, **options: Any) -> list[str]:
    return [document.text for document in _read(path, **options)]


def _message(path: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        _read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", [".jsonl", ".ndjson", ".json", ".csv", ".tsv"])
def test_tables_come_back_as_written(tmp_path: Path, kind: str, packing: str) -> None:
    delimiter = {".csv": ",", ".tsv": "\t"}.get(kind)
    content = _csv(TEXTS, delimiter) if delimiter else _json_lines(TEXTS)
    file = tmp_path / f"data{kind}{packing}"
    file.write_bytes(PACKERS[packing](content))
    report = ReadReport()
    found = list(read_documents(SourceConfig(path=str(file)), report))
    # csv.writer ends rows with \r\n; within a quoted field a line end is a line feed.
    assert [document.text for document in found] == TEXTS
    assert (report.files, report.documents, report.bytes_read) == (1, 4, len(content))
    lines = [1, 2, 3, 4] if delimiter is None else [2, 3, 5, 6]
    assert [document.where for document in found] == [f"{file}:{line}" for line in lines]


@pytest.mark.parametrize("packing", PACKERS)
def test_units_of_text_files(tmp_path: Path, packing: str) -> None:
    content = "\ufeffone\r\ntwo\n\n \nthree\n\n\n四\n"
    file = tmp_path / f"a.txt{packing}"
    file.write_bytes(PACKERS[packing](content.encode()))
    assert _read(file, unit="line") == [
        ("one", f"{file}:1"),
        ("two", f"{file}:2"),
        ("three", f"{file}:5"),
        ("四", f"{file}:8"),
    ]
    assert _read(file, unit="paragraph") == [
        ("one\ntwo", f"{file}:1"),
        ("three", f"{file}:5"),
        ("四", f"{file}:8"),
    ]
    assert _read(file) == [("one\ntwo\n\n \nthree\n\n\n四", str(file))]


def test_large_packed_files_of_several_frames(tmp_path: Path) -> None:
    lines = [f"line {number} " + "x" * (number % 500) for number in range(3000)]
    content = "\n".join(lines).encode()
    for packing, pack in PACKERS.items():
        file = tmp_path / f"a.txt{packing}"
        file.write_bytes(pack(content[:400_000]) + pack(content[400_000:]))
        assert _texts(file, unit="line") == lines


def test_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    file = tmp_path / "a.parquet"
    query = (
        "SELECT i AS id, CASE WHEN i <> 2 THEN 'text ' || i END AS \"the text\" FROM range(5) t(i)"
    )
    duckdb.connect().execute(f"COPY ({query}) TO '{file}' (FORMAT parquet)")
    report = ReadReport()
    source = SourceConfig(path=str(file), column="the text", on_bad_row="skip")
    found = list(read_documents(source, report))
    assert [document.text for document in found] == ["text 0", "text 1", "text 3", "text 4"]
    assert found[-1].where == f"{file}:5"
    assert report.bad_rows == 1
    assert report.bad_examples == [f"{file}:3: 'the text' is missing, not a text"]
    assert "'id' is a number, not a text" in _message(file, column="id")
    assert "did you mean 'the text'?" in _message(file, column="text")
    file.write_text("no such thing")
    assert "cannot be read as parquet" in _message(file)


def test_missing_extras_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("duckdb", "zstandard", "datasets"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("a.parquet", "a.txt.zst"):
        (tmp_path / name).touch()
        assert "pip install 'selfsup[data]'" in _message(tmp_path / name)
    assert "pip install 'selfsup[hub]'" in _message("hub:owner/name")


def test_hub_goes_through_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    class Datasets:
        @staticmethod
        def load_dataset(name: str, split: str, streaming: bool) -> list[dict[str, object]]:
            if name != "owner/name":
                raise ConnectionError("offline")
            return [{"text": f"{split} {streaming}"}, {"text": None}]

    monkeypatch.setitem(sys.modules, "datasets", Datasets)
    assert _texts("hub:owner/name:test", on_bad_row="skip") == ["test True"]
    assert "hub:owner/name:2: 'text' is missing" in _message("hub:owner/name")
    assert "cannot be loaded (offline)" in _message("hub:owner/none")


def test_find_files(tmp_path: Path) -> None:
    names = [
        "b.txt",
        "sub/a.jsonl.gz",
        "sub/c.csv",
        ".git/x.txt",
        "sub/notes.md",
        "sub/scan.pdf",
        "meta.json",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(pattern: str) -> list[str]:
        paths = find_files(SourceConfig(path=str(tmp_path / pattern)))
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert found(".") == ["b.txt", "sub/a.jsonl.gz", "sub/c.csv"]
    assert found("**/*.txt") == ["b.txt"]
    assert found("sub/*") == ["sub/a.jsonl.gz", "sub/c.csv"]
    assert found("meta.json") == ["meta.json"]
    assert find_files(SourceConfig(path="docstrings:")) == []
    assert "no such file or folder; did you mean 'b.txt'?" in _message(tmp_path / "bb.txt")
    assert "did you mean 'sub'?" in _message(tmp_path / "subs" / "c.csv")
    assert "no file matches" in _message(tmp_path / "**" / "*.parquet")
    assert "cannot be read; known are .txt" in _message(tmp_path / "sub" / "scan.pdf")
    (tmp_path / "empty").mkdir()
    assert "no file of a known kind" in _message(tmp_path / "empty")


def test_programs_are_text_where_they_are_named(tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "deep").mkdir(parents=True)
    for name in ("a.py", "deep/b.py", "c.md", "d.png"):
        (code / name).write_text(f"in {name}\n")
    assert _texts(code / "**" / "*.py") == ["in a.py", "in deep/b.py"]
    assert _texts(code / "c.md") == ["in c.md"]
    assert "as text: " + f"'{code}/**/*.py'" in _message(code)  # in a folder they may be anything
    assert "what matches is of no kind that can be read" in _message(code / "*.png")
    assert "it is 'a.py', 'c.md', 'd.png', 'deep'" in _message(code / "*")
    (code / "e.txt").write_text("words")
    assert _texts(code) == _texts(code / "*") == ["words"]


@pytest.mark.parametrize("start", ["", "\n\n"])
def test_semicolons_part_the_fields_where_commas_do_not(tmp_path: Path, start: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f'{start}id;text\n1;"one; two"\n2;three, four\n')
    assert _texts(file) == ["one; two", "three, four"]
    assert _read(file)[0].where == f"{file}:{2 + len(start)}"
    file.write_text('"id, said so";"text"\n1;one\n')
    assert _texts(file) == ["one"]
    file.write_text("text\none; two\n")
    assert _texts(file) == ["one; two"]
    file.write_text("text,a;b\none,2\n")
    assert _texts(file) == ["one"]


def test_not_utf8_names_byte_and_line(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("good\nschön\n".encode() + "schön\n".encode("latin-1"))
    for unit in ("file", "paragraph", "line"):
        message = _message(file, unit=unit)
        assert message.startswith(f"{file}:3: not UTF-8: byte 0xf6 at offset 15;")
    assert _texts(file, unit="line", on_bad_row="skip") == ["good", "schön"]
    file.write_bytes("hello\n".encode("utf-16"))
    assert "iconv -f UTF-16" in _message(file)
    file.write_bytes("天气很好\n".encode("gbk"))
    assert "it looks like GBK: iconv -f GB18030" in _message(file)
    file.write_bytes("caf\xe9 na\xefve \xe9t\xe9\n".encode("latin-1"))
    assert "GBK" not in _message(file)


def test_columns_with_accents_apart(tmp_path: Path) -> None:
    for name, text in (("a.csv", "te\u0301xte\na\n"), ("a.jsonl", '{"te\u0301xte": "a"}\n')):
        (tmp_path / name).write_text(text)
        assert _texts(tmp_path / name, column="t\u00e9xte") == ["a"]


def test_bad_json_rows(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    rows = {
        '{"text": "a",}': f"{file}:2:14: broken JSON",
        "[1]": f"{file}:2: a JSON object is expected, this is a list; write one object a line",
        '{"txt": "a"}': f"{file}:2: no column 'text'; it has 'txt', did you mean 'txt'?",
        '{"text": null}': f"{file}:2: 'text' is missing, not a text",
        '{"text": 3}': f"{file}:2: 'text' is a number, not a text",
        '{"text": "\\ud83d"}': f"{file}:2: 'text' holds half a surrogate pair",
        "[" * 100_000: f"{file}:2: broken JSON: nested too deep",
    }
    for row, message in rows.items():
        file.write_text('{"text": "good"}\n' + row + "\n\n" + '{"text": ""}\n')
        assert message in _message(file)
        report = ReadReport()
        source = SourceConfig(path=str(file), on_bad_row="skip")
        assert [text for text, _ in read_documents(source, report)] == ["good", ""]
        assert report.bad_rows == 1
        assert message in report.bad_examples[0]


def test_bad_tables(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\na,1\nb, and c,2\nd\n")
    assert f"{file}:3: the row has 3 fields, the header 2" in _message(file)
    assert _texts(file, on_bad_row="skip") == ["a"]
    assert "it has 'text', 'label', did you mean 'text'?" in _message(file, column="txt")
    file.write_text('text,label\n"a,1\nb,2\n')
    assert f"{file}:2: broken CSV" in _message(file)
    file.write_text(f"text\n{'x' * 200_000}\n")  # over the csv module's own limit
    assert len(_texts(file)[0]) == 200_000
    file.write_text("")
    assert _texts(file) == []


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zst"])
def test_broken_packed_files(tmp_path: Path, packing: str) -> None:
    content = "".join(f"line {number * 7919 % 1000}\n" for number in range(50_000)).encode()
    packed = PACKERS[packing](content)
    file = tmp_path / f"a.txt{packing}"
    file.write_bytes(packed[: len(packed) // 2])
    assert str(file) in _message(file, unit="line")
    file.write_bytes(b"this is no packed file at all")
    assert str(file) in _message(file, unit="line")
    damaged = bytearray(packed)
    damaged[len(damaged) // 2] ^= 0xFF
    file.write_bytes(damaged)
    if packing != ".zst":  # without a checksum in the frame, zstd may not notice
        assert str(file) in _message(file, unit="line")


def test_bad_examples_are_few(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("oops\n" * 100)
    report = ReadReport()
    assert list(read_documents(SourceConfig(path=str(file), on_bad_row="skip"), report)) == []
    assert report.bad_rows == 100
    assert len(report.bad_examples) == 5


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "a.txt"
    link.symlink_to("gone.txt")
    (tmp_path / "folder").symlink_to("no folder")
    said = f"{link}: the link leads nowhere (to 'gone.txt'); mend the link, or name another file"
    for given in (link, tmp_path / "sub", tmp_path / "sub" / "*.txt"):
        assert _message(given) == said
    assert f"{tmp_path / 'folder'}: the link leads nowhere" in _message(
        tmp_path / "folder" / "b.txt"
    )
    (tmp_path / "sub" / "b.txt").write_text("words")
    assert _texts(tmp_path / "sub") == ["words"]
