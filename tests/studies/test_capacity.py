"""The study of capacity, small: it goes on, knows its data, and says up front what rows do not allow."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.cli.app import main
from selfsup.errors import UserError
from selfsup.studies import capacity
from selfsup.uses.detection import estimators


def save_table(path: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """A CSV file of three columns and a kind, with so many rows of each kind."""
    random = np.random.default_rng(seed)
    lines = ["x,y,z,kind"]
    for number, (kind, count) in enumerate(counts.items()):
        for row in random.normal(2 * number, 1, (count, 3)):
            lines.append(",".join([*(f"{value:.4f}" for value in row), kind]))
    path.write_text("\n".join(lines) + "\n")
    return path


def study(data: Path, out: Path, *words: str) -> int:
    given = ["--data", str(data), "--labels", "kind", "--steps", "4", "--out", str(out)]
    return main(["study", "capacity", *given, *words])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return save_table(tmp_path / "t.csv", {"a": 20, "b": 20, "c": 20})


def line_of(capsys: Any) -> str:
    """The one line of an error."""
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return str(said)


def test_it_goes_on_and_tells_of_each_training(table: Path, tmp_path: Path, capsys: Any) -> None:
    out, words = tmp_path / "out", ("--sizes", "2,1", "--seeds", "2")
    assert study(table, out, *words) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{n} of 4: code size {size}  seed {seed}"
        for n, (size, seed) in enumerate([(2, 0), (1, 0), (2, 1), (1, 1)], 1)
    ]
    made = {name: (out / name).read_bytes() for name in ("result.json", "figures/capacity.csv")}
    assert made["figures/capacity.csv"].startswith(b"code_size,seed,auroc,floor,error_seen,")
    kept = sorted((out / "cells").iterdir())
    assert len(kept) == 4
    times = [file.stat().st_mtime_ns for file in kept]
    kept[0].unlink()
    assert study(table, out, *words, "--quiet") == 0
    assert not capsys.readouterr().err
    assert [file.stat().st_mtime_ns for file in kept[1:]] == times[1:]
    for name, content in made.items():  # the lost training came back the same
        assert (out / name).read_bytes() == content


def test_a_training_alone_is_that_of_the_study(table: Path, tmp_path: Path) -> None:
    """Cells are independent: a size and a seed give the same scores whatever ran before."""
    assert study(table, tmp_path / "all", "--sizes", "1,2", "--seeds", "2") == 0
    assert study(table, tmp_path / "one", "--sizes", "2", "--seeds", "2") == 0
    both = json.loads((tmp_path / "all" / "result.json").read_text())["table"]
    (one,) = json.loads((tmp_path / "one" / "result.json").read_text())["table"]
    assert one == both[1]


@pytest.fixture
def listening() -> Iterator[None]:
    """Ctrl-C counts also where the tests were started in the background, which lets it be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_what_has_finished_and_says_how_to_go_on(
    number: int, table: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit, begun = estimators.AutoEncoderTransformer.fit, []

    def watched(self: Any, X: Any, y: Any = None) -> Any:
        begun.append(self.code_size)
        if len(begun) == 2:
            os.kill(os.getpid(), number)
        return fit(self, X, y)

    monkeypatch.setattr(estimators.AutoEncoderTransformer, "fit", watched)
    words = ("--sizes", "1,2", "--seeds", "1", "--quiet")
    assert study(table, tmp_path / "out", *words, "--overwrite") == 130
    at = "selfsup: stopped at 2 of 2, code size 2, seed 0; the same command"
    then = "begins that one anew and goes on\n"
    assert line_of(capsys) == f"{at} without --overwrite {then}"
    del begun[:]
    assert study(table, tmp_path / "out", *words) == 0
    assert begun == [2]


def test_stopped_it_takes_the_bar_away(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.studies import autoencoder_cells

    shown: list[Any] = []

    class Watched(autoencoder_cells.Progress):
        closed = False

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            shown.append(self)

        def close(self) -> None:
            self.closed = True
            super().close()

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(autoencoder_cells, "Progress", Watched)
    monkeypatch.setattr(estimators.AutoEncoderTransformer, "fit", stop)
    assert study(table, tmp_path / "out", "--sizes", "1", "--seeds", "1") == 130
    assert [display.closed for display in shown] == [True]


def test_other_data_and_other_networks_are_another_study(
    table: Path, tmp_path: Path, capsys: Any
) -> None:
    out, words = tmp_path / "out", ("--sizes", "1", "--seeds", "1", "--quiet")
    assert study(table, out, *words) == 0
    before = {file: file.read_bytes() for file in out.rglob("*.json")}
    save_table(table, {"a": 20, "b": 20, "c": 20}, seed=1)
    capsys.readouterr()
    assert study(table, out, *words) == 2
    assert "a study with another digest of the data lies here" in line_of(capsys)
    save_table(table, {"a": 20, "b": 20, "c": 20})
    settings = json.loads((out / "study.json").read_text())
    data = capacity.ObservationConfig.model_validate(settings["data"])
    given: dict[str, Any] = {"sizes": [1], "seeds": 1, "steps": 4, "quiet": True}
    with pytest.raises(UserError, match="a study with another hidden lies here"):
        capacity.run(data, out, **given, hidden=8)
    with pytest.raises(UserError, match="hidden: must be at least 1"):
        capacity.run(data, out, **given, hidden=0)
    assert {file: file.read_bytes() for file in out.rglob("*.json")} == before
    assert study(table, out, *words) == 0


def test_a_damaged_cell_is_named(table: Path, tmp_path: Path, capsys: Any) -> None:
    words = ("--sizes", "1", "--seeds", "1", "--quiet")
    assert study(table, tmp_path / "out", *words) == 0
    (file,) = (tmp_path / "out" / "cells").iterdir()
    cell = json.loads(file.read_text())
    del cell["floor"]
    file.write_text(json.dumps(cell))
    capsys.readouterr()
    assert study(table, tmp_path / "out", *words) == 2
    assert line_of(capsys).startswith(f"selfsup: {file}: is damaged: no floor; remove it")


def test_sizes_that_the_rows_do_not_allow(table: Path, tmp_path: Path, capsys: Any) -> None:
    assert study(table, tmp_path / "out", "--seeds", "1", "--seen", "a") == 0
    said = capsys.readouterr()
    note = "no code of 16, 32, 64, 128, 256 numbers: 10 rows of the kinds seen train"
    assert said.err.splitlines()[0] == note
    assert note in said.out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["notes"] == [note]
    assert [row["code_size"] for row in result["table"]] == [1, 2, 4, 8]
    assert note in (tmp_path / "out" / "report.html").read_text()
    assert study(table, tmp_path / "new", "--seen", "a", "--sizes", "1,10,11,32") == 2
    assert line_of(capsys) == (
        "selfsup: --sizes: 10 rows of the kinds seen train, fewer than the code's 11 numbers; "
        "give sizes up to 10\n"
    )
    assert not (tmp_path / "new").exists()
    assert study(table, tmp_path / "new", "--seen", "a", "--sizes", "1,10,1", "--seeds", "1") == 0
    result = json.loads((tmp_path / "new" / "result.json").read_text())
    assert [row["code_size"] for row in result["table"]] == [1, 10]
    assert "notes" not in result


def test_no_sizes_are_refused(table: Path, tmp_path: Path) -> None:
    data = capacity.ObservationConfig(path=str(table), labels="kind")
    with pytest.raises(UserError, match="--sizes: sizes are whole numbers from 1"):
        capacity.run(data, tmp_path / "out", sizes=())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_kinds_of_too_few_rows_are_refused(count: int, tmp_path: Path, capsys: Any) -> None:
    data, out = save_table(tmp_path / "t.csv", {"a": count, "b": 9, "c": 9}), tmp_path / "out"
    for words in ((), ("--seen", "a")):  # the first half of three kinds is one
        assert study(data, out, *words) == 2
        rows = "1 row" if count == 1 else f"{count} rows"
        assert line_of(capsys) == (
            f"selfsup: --seen: {rows} of a cannot be halved to train and to score; "
            "name kinds that have 4 rows or more together\n"
        )
        assert not out.exists()


def test_four_rows_will_do(tmp_path: Path) -> None:
    data = save_table(tmp_path / "t.csv", {"a": 4, "b": 1})
    assert study(data, tmp_path / "out", "--seen", "a", "--quiet") == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert [row["code_size"] for row in result["table"]] == [1, 2]


def test_a_kind_that_is_named_twice_is_one(table: Path, tmp_path: Path) -> None:
    for kinds in ("a,b,a", "b,a"):  # in another order it is the same study
        words = ("--seen", kinds, "--sizes", "1", "--seeds", "1", "--quiet")
        assert study(table, tmp_path / "out", *words) == 0
        assert json.loads((tmp_path / "out" / "result.json").read_text())["seen"] == ["a", "b"]
