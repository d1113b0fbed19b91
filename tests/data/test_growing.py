"""Columns that become numbers while they are read: as the whole column would, in less memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from selfsup.data import growing, tables
from selfsup.data.columns import settle_numbers
from selfsup.data.tables import read_table

COLUMNS = {
    "plain": ["1", "-2.50", "1e3", " 4 ", "007"] * 4,
    "gaps": ["1.5", "", "NA", "?", "nan"] * 4,
    "late gap": ["1"] * 19 + [""],
    "none": [""] * 20,
    "late word": ["01", "2.50", "3"] * 6 + ["x", "01"],
    "early word": ["x"] + ["1.0"] * 19,
    "commas": ["1,5", "12,25"] * 10,
    "late comma": ["1"] * 19 + ["2,5"],
    "truths": ["true", "False"] * 10,
    "late truth": ["1"] * 19 + ["true"],
    "underscore": ["1"] * 18 + ["1_000", "1"],
    "infinite": ["inf", "-Infinity", "1e999", "3"] * 5,
    "zero byte": ["1"] * 10 + ["a\0b"] + ["2"] * 9,
    "two lines": ["1\n", "2"] * 10,
}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "PART", 3)


def check(path: Path) -> None:
    plain, settled = read_table(path), read_table(path, lambda _: True)
    as_written = {name: column.tolist() for name, column in plain.items()}
    settle_numbers(plain, list(plain))
    settle_numbers(settled, list(settled))
    assert list(settled) == list(plain)
    for name, column in plain.items():
        assert settled[name].dtype == column.dtype, name
        np.testing.assert_array_equal(settled[name], column, err_msg=name)
    half = read_table(path, lambda name: name == "plain")
    assert half["plain"].dtype == np.float64
    rest = {name: column.tolist() for name, column in half.items() if name != "plain"}
    as_written.pop("plain")
    assert repr(rest) == repr(as_written)  # NaN is not equal to itself


def test_of_csv(tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / "a.csv"
    quoted = [[f'"{value}"' for value in column] for column in COLUMNS.values()]
    lines = [",".join(COLUMNS), *map(",".join, zip(*quoted, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    check(path)


def test_of_parquet(tmp_path: Path, small_parts: None) -> None:
    duckdb = pytest.importorskip("duckdb", reason="the extra data is not installed")
    path = tmp_path / "a.parquet"
    values = "i / 7.0::DOUBLE AS plain, i AS whole, i::DECIMAL(9, 2) AS decimal, i > 3 AS truth, "
    values += "CASE WHEN i = 9 THEN NULL ELSE i / 3.0::DOUBLE END AS gaps, 'NaN'::DOUBLE AS nan, "
    values += "i::VARCHAR AS text, [i, i] AS list, DATE '2020-01-01' AS day"
    duckdb.sql(f"COPY (SELECT {values} FROM range(11) t(i)) TO '{path}'")
    check(path)


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_of_whole_parts(rows: int, tmp_path: Path, small_parts: None) -> None:
    path = tmp_path / "a.csv"
    path.write_text("plain,word\n" + "1.5,x\n" * rows)
    assert read_table(path, lambda _: True)["plain"].tolist() == [1.5] * rows
    check(path)


def test_numbers_take_a_fraction_of_the_memory_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growing, "PART", 256)
    monkeypatch.setattr(tables, "_KEPT_ONCE", 50)  # of large files what is kept once is nothing
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{i / 7:.5f},{i}.25\n" for i in range(3000)))
    peaks = []
    for settled in (False, True):
        tracemalloc.start()
        read_table(path, lambda _, settled=settled: settled)  # type: ignore[misc]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 0.6 * peaks[0]
