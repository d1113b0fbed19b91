from __future__ import annotations

from pathlib import Path

import pytest

from selfsup.config import SourceConfig
from selfsup.data import docstrings
from selfsup.data.home import home
from selfsup.data.sources import ReadReport, read_documents

LONG = "This sentence documents something. " * 8


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two little libraries in place of the installed ones, and an empty cache."""
    for library in ("python", "numpy"):
        (tmp_path / library / "tests").mkdir(parents=True)
        (tmp_path / library / "tests" / "test_a.py").write_text(f'"""Test. {LONG}"""\n')
    (tmp_path / "python" / "zoo.py").write_text(
        f'"""Module. {LONG}"""\n'
        f'class A:\n    r"""Class.\n\n      {LONG}\n    """\n\n'
        f'    async def f(self):\n        """Method. {LONG}"""\n'
        'if True:\n    def g():\n        """Short."""\n'
        f'    def h():\n        """Method. {LONG}"""\n'
        "x = lambda: (1 if g else 2)\n"
    )
    (tmp_path / "python" / "broken.py").write_text(f'"""Broken. {LONG}"""\ndef {{name}}(:\n')
    (tmp_path / "numpy" / "__init__.py").write_text(
        f'add_newdoc("a", "b",\n    """\n    Added.\n    {{x}}\n    {LONG}\n    """.format(**c))\n'
        f'call(""" Not taken. {LONG}""")\n'
        f'def s():\n    """Half \\ud83d {LONG}"""\n'
    )
    roots = {library: tmp_path / library for library in ("python", "numpy")}
    monkeypatch.setattr(docstrings, "_roots", lambda: roots)
    monkeypatch.setenv("SELFSUP_HOME", str(tmp_path / "home"))
    return tmp_path


def test_what_is_taken(small: Path) -> None:
    found = docstrings.read_docstrings()
    places = [(text.split(".")[0], library, module) for text, library, module in found]
    assert places == [
        ("Module", "python", "zoo"),
        ("Class", "python", "zoo"),
        ("Method", "python", "zoo"),  # once, though it is there twice
        ("Added", "numpy", "numpy"),
    ]
    assert found[1].text == f"Class.\n\n{LONG.strip()}"
    assert found[3].text == f"Added.\n{LONG.strip()}"


def test_cache(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = docstrings.read_docstrings()
    files = list((small / "home" / "docstrings").iterdir())
    assert [file.suffix for file in files] == [".jsonl"]
    with monkeypatch.context() as patch:
        patch.setattr(docstrings, "_extract_all", lambda _: pytest.fail("read again"))
        assert docstrings.read_docstrings() == first
    files[0].write_text('["spoiled')
    assert docstrings.read_docstrings() == first
    assert docstrings.read_docstrings(100_000) == []
    keys = {docstrings.docstrings_key(), docstrings.docstrings_key(100)}
    monkeypatch.setattr(docstrings.metadata, "version", lambda _: "0.0.0")
    assert len(keys | {docstrings.docstrings_key()}) == 3


def test_unwritable_cache_costs_only_time(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small / "file").touch()
    monkeypatch.setenv("SELFSUP_HOME", str(small / "file"))
    assert len(docstrings.read_docstrings()) == 4


def test_as_source(small: Path) -> None:
    report = ReadReport()
    found = list(read_documents(SourceConfig(path="docstrings:"), report))
    assert found[0].where == "docstrings:zoo"
    assert report.documents == 4
    assert report.bytes_read == sum(len(document.text.encode()) for document in found)


def test_installed_packages_are_found() -> None:
    roots = docstrings._roots()
    assert list(roots) == ["python", "numpy", "scipy", "sklearn", "torch"]
    file = roots["numpy"] / "linalg" / "_linalg.py"
    assert docstrings._module_name("numpy", roots["numpy"], file) == "numpy.linalg._linalg"
    found = docstrings.extract_docstrings(roots["torch"] / "_torch_docs.py", 200)
    assert len(found) > 300  # all through add_docstr


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SELFSUP_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("SELFSUP_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home() == tmp_path / "selfsup"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path.home() / ".cache" / "selfsup"
