"""Progress off a terminal: a line now and then, on stderr."""

from __future__ import annotations

from pathlib import Path

import pytest

from selfsup.training import progress
from selfsup.training.progress import Progress, reading


def test_a_count_is_told_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = Progress(quiet=False, title="")
    for second in range(0, 100, 5):
        now[0] = 100.0 + second
        display.count("reading", second / 10, "million characters")
    out, err = capsys.readouterr()
    assert not out
    assert err.splitlines() == [f"reading: {n:.1f} million characters" for n in (3, 6, 9)]


def test_a_count_is_due_when_no_line_was_said_for_a_while(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a large file is told, and what takes long before the first count is no silence."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_LARGE", 4)
    (tmp_path / "small").write_text("abc")
    (tmp_path / "large").write_text("abcd")
    monkeypatch.chdir(tmp_path)
    display = Progress(quiet=False, title="")
    for name in ("small", "missing", "large"):
        display.say_reading(name)
    for seconds in (29, 31, 60, 62):
        now[0] = 100.0 + seconds
        display.count("read", seconds, "of 99 rows")
    assert capsys.readouterr().err.splitlines() == [
        "reading large",
        "read: 31 of 99 rows",
        "read: 62 of 99 rows",
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_reading_tells_of_how_many(
    quiet: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "COUNTED_EVERY", 0.0)
    with reading(12_000, "texts", quiet=quiet) as tell:
        tell(1)
        tell(2_000)
    assert capsys.readouterr().err == ("" if quiet else "read: 2,000 of 12,000 texts\n")
