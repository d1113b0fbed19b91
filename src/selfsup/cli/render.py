"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfsup.errors import unheard, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PLAIN_WIDTH = 10_000
_UNESCAPED = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
"""Control characters that JSON need not escape, and terminals obey."""
_SHOWN = 12
"""Names in one cell; of more there is the number."""


def show(
    result: Any, *, as_json: bool, title: str = "", names: Collection[str] = frozenset()
) -> None:
    """Prints a result: a mapping as names and values, a list of mappings as a table.

    Args:
        result: what.
        as_json: as a program reads it.
        title: above it.
        names: keys that are no words of ours but data, such as a model's name: printed as they are.
    """
    if not speaks():
        return
    if as_json:
        print_json(result)
    elif isinstance(result, Mapping):
        show_mapping(result, title=title, names=names)
    else:
        show_rows(list(result), title=title, names=names)


def speaks() -> bool:
    """Whether this process talks: of several data-parallel ones, only the first does."""
    return os.environ.get("RANK", "0") == "0"


def print_json(data: Any) -> None:
    """Prints JSON that every reader takes: numbers that are none become null, and what the stream cannot
    write is escaped.
    """
    escaped = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(_plain(data), ensure_ascii=escaped, indent=2, allow_nan=False)
    print(text.translate(_UNESCAPED))


def print_text(text: str) -> None:
    """Prints a text; on a terminal, its control characters are written out."""
    print(_printed(text), end="" if text.endswith("\n") else "\n")


def print_piece(text: str) -> None:
    """Prints some more of a text, at once; on a terminal, its control characters are written out."""
    print(_printed(text), end="", flush=True)


def _printed(text: str) -> str:
    """A text for whoever reads it: a program or file gets every character as it is."""
    return visible(text) if sys.stdout.isatty() else text


def note(text: str) -> None:
    """Says something beside the result, on stderr."""
    if speaks():
        with unheard(sys.stderr):
            print(f"selfsup: {visible(text)}", file=sys.stderr, flush=True)


def show_mapping(
    data: Mapping[str, Any], *, title: str = "", names: Collection[str] = frozenset()
) -> None:
    """Prints names and values; sections inside become dotted names, lists of mappings tables."""
    lines, tables = _flattened(data, names)
    if lines:
        table = new_table(title)
        table.add_column("", style="bold")
        table.add_column("")
        for name, value in lines:
            table.add_row(_text(name), value)
        console().print(table)
    for name, rows in tables:
        show_rows(rows, title=name, names=names)


def show_rows(
    rows: Sequence[Mapping[str, Any]], *, title: str = "", names: Collection[str] = frozenset()
) -> None:
    """Prints a table with one line a mapping; columns in the order in which they first occur."""
    if not rows:
        console().print(f"{visible(title)}: none" if title else "none", markup=False)
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = new_table(title)
    table.show_header = True
    for column in columns:
        values = [row.get(column) for row in rows]
        justify: Literal["left", "right"] = "right" if _are_numbers(values) else "left"
        table.add_column(_text(_words(column, names)), justify=justify)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console().print(table)


def console() -> Console:
    """Where tables go.  Not a terminal: no colours, no frames, no line is broken."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console()
    return Console(width=_PLAIN_WIDTH, no_color=True, highlight=False, soft_wrap=True)


def new_table(title: str) -> Table:
    """An empty table in the style of this output."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(visible(title)) if title else None,
        title_justify="left",
        show_header=False,
        box=box.SIMPLE_HEAD if sys.stdout.isatty() else None,
        pad_edge=False,
    )


def _flattened(
    data: Mapping[str, Any], names: Collection[str], prefix: str = ""
) -> tuple[list[tuple[str, Any]], list[tuple[str, list[Mapping[str, Any]]]]]:
    lines: list[tuple[str, Any]] = []
    tables: list[tuple[str, list[Mapping[str, Any]]]] = []
    for key, value in data.items():
        name = f"{prefix}{_words(key, names)}"
        if isinstance(value, Mapping):
            more_lines, more_tables = _flattened(value, names, f"{name}.")
            lines += more_lines
            tables += more_tables
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            tables.append((name, value))
        elif key == "notes" and value:  # sentences: a line each
            lines += zip([name] + [""] * (len(value) - 1), map(_cell, value), strict=True)
        else:
            lines.append((name, _cell(value)))
    return lines, tables


def _words(key: str, names: Collection[str]) -> str:
    """A key of ours in words; a name that is data stays as it is."""
    return key if key in names else key.replace("_", " ")


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(v is None or (isinstance(v, (int, float)) and v is not True) for v in values)


def _cell(value: Any) -> Any:
    """A value for people."""
    return _text(_said(value))


def _text(said: str) -> Any:
    """As rich text, so that brackets (`[MASK]`) are not taken for mark-up, nor others' texts for commands."""
    from rich.text import Text

    return Text(visible(said))


def _said(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        if len(value) > _SHOWN and all(isinstance(v, str) for v in value):
            return f"{', '.join(value[:_SHOWN])} … ({len(value):,})"
        return ", ".join(_said(v) for v in value) or "-"
    return str(value)


def _plain(data: Any) -> Any:
    """Data as JSON knows it."""
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple, set)):
        return [_plain(value) for value in data]
    if hasattr(data, "item") and not hasattr(data, "__len__"):
        data = data.item()  # a number of numpy's or torch's
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Path):
        return str(data)
    return data
