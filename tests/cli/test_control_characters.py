"""Names and texts of others reach no terminal as commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from selfsup.cli import render
from selfsup.cli.app import main
from selfsup.errors import visible
from selfsup.training.progress import Progress

Capture = pytest.CaptureFixture[str]
_EVIL = "\x1b[31mred\x1b]0;title\x07\r\x08\x9b2J"
_SAID = r"\x1b[31mred\x1b]0;title\x07\r\x08\x9b2J"


def test_control_characters_are_written_out() -> None:
    assert visible(_EVIL) == _SAID
    kept = "line\nnext\tone: ä 漢 [red] ‏\U0001f600"
    assert visible(kept) == kept


def test_messages_obey_no_file(tmp_path: Path, capsys: Capture) -> None:
    row = json.dumps({"te\x1b[31mxt": "a"})
    (tmp_path / "a.jsonl").write_text(f"{row}\n", encoding="utf-8")
    assert main(["data", "stats", str(tmp_path / "a.jsonl")]) == 2
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert r"it has 'te\x1b[31mxt'" in said


def test_tables_obey_no_text(capsys: Capture) -> None:
    render.show([{"label": _EVIL, _EVIL: 1}], as_json=False, title=_EVIL, names={_EVIL})
    render.show({_EVIL: [_EVIL, "b"]}, as_json=False, title=_EVIL, names={_EVIL})
    render.show([], as_json=False, title=_EVIL)
    said = capsys.readouterr().out
    assert said.count(_SAID) == 7
    assert not set(said) & set("\x1b\x07\r\x08\x9b")


def test_notes_and_progress_obey_no_text(capsys: Capture) -> None:
    render.note(_EVIL)
    display = Progress(quiet=False, title=_EVIL)
    display.say(_EVIL)
    display.close()
    assert capsys.readouterr().err == f"selfsup: {_SAID}\n{_SAID}\n"


def test_json_says_the_same_in_escapes(capsys: Capture) -> None:
    render.show({"label": _EVIL + "ä"}, as_json=True)
    said = capsys.readouterr().out
    assert json.loads(said) == {"label": _EVIL + "ä"}
    assert not set(said) & set("\x1b\x07\r\x08\x9b")


def test_a_written_text_is_whole_in_a_file_and_harmless_on_a_terminal(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    render.print_piece(_EVIL)
    render.print_text(_EVIL)
    assert capsys.readouterr().out == f"{_EVIL}{_EVIL}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    render.print_piece(_EVIL)
    render.print_text(_EVIL)
    assert capsys.readouterr().out == f"{_SAID}{_SAID}\n"
