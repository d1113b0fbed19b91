"""A report in one HTML file: text, tables and pictures inside it, nothing fetched, all text escaped."""

from __future__ import annotations

import base64
import html
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfsup.data.files import whole_file

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: .4rem; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
.lead { font-size: 1.15rem; background: #eef3f9; border-left: 4px solid #1f4e8c; padding: .7rem 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0;
         border-bottom: 1px solid #e4e4e4; overflow-wrap: anywhere; }
th { font-weight: 600; border-bottom: 2px solid #bbb; overflow-wrap: normal; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
table.grid td.number { padding: .3rem .6rem; border: 1px solid #fff; min-width: 2.2rem; }
table.grid th { border-bottom: none; padding-right: .6rem; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #555; font-size: .9rem; }
pre { background: #f5f5f5; padding: .7rem 1rem; overflow-x: auto; font-size: .85rem;
      white-space: pre-wrap; overflow-wrap: anywhere; }
"""


class Page:
    """Collects the parts of a report, in order; every text is escaped.

    Args:
        title: the heading, and the name of the browser's tab.
        lead: what was found, set off below it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts = [_element("h1", title)]
        if lead:
            self._parts.append(_element("p", lead, ' class="lead"'))

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(_element("h2", text))

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(_element("p", text))

    def items(self, lines: Sequence[str]) -> None:
        """A list; nothing when there are none."""
        if lines:
            inner = "".join(_element("li", line) for line in lines)
            self._parts.append(f"<ul>{inner}</ul>")

    def code(self, text: str) -> None:
        """Text as it is typed."""
        self._parts.append(_element("pre", text))

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """One line a mapping; columns in the order in which they first occur."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        right = {c for c in columns if all(_is_number(row.get(c)) for row in rows)}
        head = "".join(_element("th", c, _side(c in right)) for c in columns)
        body = "".join(
            "<tr>"
            + "".join(_element("td", said(row.get(c)), _side(c in right)) for c in columns)
            + "</tr>\n"
            for row in rows
        )
        self._parts.append(f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>')

    def grid(self, corner: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> None:
        """A square of counts, a row's cells darker the larger their share of it.

        Args:
            corner: what rows and columns are.
            names: of rows and of columns.
            counts: (names, names).
        """
        head = "".join(_element("th", name, _side(True)) for name in names)
        lines = [f"<tr>{_element('th', corner)}{head}</tr>"]
        for name, row in zip(names, counts, strict=True):
            total = max(1, sum(row))
            cells = "".join(
                f'<td class="number" style="background: rgba(31, 78, 140, {0.75 * n / total:.2f}); '
                f'color: {"#fff" if n / total > 0.6 else "#222"}">{n:,}</td>'
                for n in row
            )
            lines.append(f"<tr>{_element('th', name)}{cells}</tr>")
        inner = "\n".join(lines)
        self._parts.append(f'<div class="wide"><table class="grid">{inner}</table></div>')

    def image(self, path: Path, caption: str) -> None:
        """A PNG, put into the page itself."""
        data = base64.b64encode(path.read_bytes()).decode()
        said = _escaped(caption)
        self._parts.append(
            f'<figure><img alt="{said}" src="data:image/png;base64,{data}">'
            f"{_element('figcaption', caption)}</figure>"
        )

    def html(self) -> str:
        """The page."""
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_escaped(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f"<body>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write beside and rename, so that the page is never half there."""
        with whole_file(path) as beside:
            beside.write_text(self.html(), encoding="utf-8", errors="replace")


def said(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(said(v) for v in value)
    return str(value)


def _element(tag: str, text: str, attributes: str = "") -> str:
    """A text in an element; one that holds right-to-left letters is laid out as it begins."""
    if any(map(_runs_left, text)):
        attributes += ' dir="auto"'
    return f"<{tag}{attributes}>{_escaped(text)}</{tag}>"


def _runs_left(character: str) -> bool:
    return unicodedata.bidirectional(character) in ("R", "AL")


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _side(right: bool) -> str:
    return ' class="number"' if right else ""
