"""Texts as people hand them over in Python: lists, columns, arrays, generators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from selfsup.errors import UserError


def list_inputs(given: Iterable[Any], what: str = "text") -> list[Any]:
    """What a function for many inputs was given, as a list.

    Args:
        given: a list, a tuple, a column, an array, a generator.
        what: one of them is called, for messages.

    Raises:
        UserError: one text, a table, or something without items.
    """
    wanted = f"a list of {what}s is expected"
    if isinstance(given, (str, bytes)):
        raise UserError(f"{wanted}, not one text", mend=f"write [{what}]")
    if isinstance(given, Mapping) or hasattr(given, "columns"):
        raise UserError(f"{wanted}, not a table", mend="give one of its columns")
    try:
        return list(given)
    except TypeError:
        raise UserError(f"{wanted}, not {_shown(given)}") from None


def list_texts(given: Iterable[str], what: str = "text") -> list[str]:
    """Texts as a list, each of them checked (`check_text`).

    Raises:
        UserError: one text, a table, or an item that is no text, with its number.
    """
    texts = list_inputs(given, what)
    for number, text in enumerate(texts, start=1):
        check_text(text, f"{what} {number}")
    return texts


def check_text(text: Any, where: str) -> None:
    """Refuse what no tokenizer reads.

    Raises:
        UserError: no string, or half of a character.
    """
    if not isinstance(text, str):
        mend = "give a string; leave out what is missing"
        raise UserError(f"is no text but {_shown(text)}", where=where, mend=mend)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = f"has half of a character ({text[error.start]!r}) at place {error.start + 1}"
            raise UserError(what, where=where, mend="give it in UTF-8") from None


def _shown(value: Any) -> str:
    return f"{str(value)[:40]} ({type(value).__name__})"
