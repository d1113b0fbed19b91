"""Matplotlib without a screen, and figures whose labels people can read."""

from __future__ import annotations

import warnings
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

_USUAL = "DejaVu Sans"
_OTHERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB",
    "Heiti TC", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
    "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Bengali", "Noto Sans Tamil",
    "Noto Sans Khmer", "Noto Sans Lao", "Noto Sans Myanmar", "Noto Sans Telugu", "Noto Sans Gujarati",
    "Noto Sans Kannada", "Noto Sans Malayalam", "Noto Sans Sinhala", "Noto Emoji",
)  # fmt: skip
"""Fonts that systems have for what the usual one lacks, in the order in which they are asked."""


def pyplot() -> Any:
    """`matplotlib.pyplot`, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure and close it.

    Labels may be in any script: other fonts that are here help out, and a character that none of them
    has stands as its number (`<U+597D>`), a run of them as the first one's.
    """
    from matplotlib.text import Text

    for label in figure.findobj(Text):
        words = label.get_text()
        if not words.isascii():
            label.set_fontfamily(list(_fonts()))
            label.set_text(_with_known(words))
    with warnings.catch_warnings():
        # names at an axis are written anew while it is drawn
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, dpi=130)
    pyplot().close(figure)


def drawable(name: str) -> str:
    """A name of somebody else's as a label: `$` is no mathematics, and unknown characters are numbers."""
    return _with_known(name).replace("$", r"\$")


def can_draw(name: str) -> bool:
    """Whether the fonts here have all characters of a name."""
    return name.isascii() or not any(map(_is_unknown, name))


def _with_known(words: str) -> str:
    if words.isascii():
        return words
    return "".join(
        _numbers("".join(run)) if unknown else "".join(run)
        for unknown, run in groupby(words, _is_unknown)
    )


def _numbers(unknown: str) -> str:
    """A run of characters as numbers; more than two would be longer than any axis."""
    shown = "".join(f"<U+{ord(c):04X}>" for c in unknown[:2])
    return shown if len(unknown) <= 2 else f"<U+{ord(unknown[0]):04X}>…"


def _is_unknown(character: str) -> bool:
    return character != "\n" and ord(character) not in _characters()


@cache
def _fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    here = {font.name for font in font_manager.fontManager.ttflist}
    return (_USUAL, *(name for name in _OTHERS if name in here))


@cache
def _characters() -> frozenset[int]:
    """All that some font has."""
    from matplotlib import font_manager

    files = (font_manager.findfont(name) for name in _fonts())
    return frozenset(c for file in files for c in font_manager.get_font(file).get_charmap())
