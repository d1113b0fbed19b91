"""Matplotlib without a screen, and figures whose labels people can read."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

_USUAL = "DejaVu Sans"
_OTHERS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB",
    "Heiti TC", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS",
    "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Bengali", "Noto Sans Tamil",
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
    has stands as its number (`<U+597D>`).
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


def _with_known(words: str) -> str:
    if words.isascii():
        return words
    known = _characters()
    return "".join(c if ord(c) in known or c == "\n" else f"<U+{ord(c):04X}>" for c in words)


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
