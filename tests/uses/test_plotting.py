"""Figures with labels in other scripts."""

from __future__ import annotations

import warnings
from pathlib import Path

from selfsup.uses.plotting import _characters, can_draw, drawable, pyplot, save_figure


def test_characters_without_a_font_stand_as_their_numbers(tmp_path: Path) -> None:
    figure, axes = pyplot().subplots()
    axes.plot([0, 1], label="always '\U0001f9ec' ou é")  # no font for text has the first
    legend = axes.legend()
    axes.set_xticks([0, 1], ["好评", "é"])
    before = pyplot().rcParams["font.family"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, tmp_path / "one.png")
    known = 0x1F9EC in _characters()
    shown = "\U0001f9ec" if known else "<U+1F9EC>"
    assert legend.get_texts()[0].get_text() == f"always '{shown}' ou é"
    assert (tmp_path / "one.png").stat().st_size > 1000
    assert pyplot().rcParams["font.family"] == before


def test_a_run_of_unknown_characters_is_short() -> None:
    unknown = "\U000e0041" * 40  # no font has any
    assert drawable(f"a$ {unknown} é") == r"a\$ <U+E0041>… é"
    assert can_draw("é")
    assert not can_draw(unknown)
