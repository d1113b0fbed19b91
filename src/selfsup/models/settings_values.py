"""Values of a Hugging Face `config.json`: refused with their key where they are of the wrong kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from selfsup.errors import UserError, check_count


def count(settings: Mapping[str, Any], key: str, where: str) -> int:
    """A size: a whole number from 1.

    Raises:
        KeyError: there is none.
        UserError: it is something else.
    """
    check_count(1, settings[key], f"{where}: {key}")
    return int(settings[key])


def section(settings: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """A JSON object; empty where there is none.

    Raises:
        UserError: it is something else.
    """
    value = settings.get(key)
    if not isinstance(value, Mapping | None):
        raise UserError(f"must be a JSON object, not {value!r}", where=f"{where}: {key}")
    return value or {}


def entries(settings: Mapping[str, Any], key: str, where: str) -> Sequence[Any]:
    """A list; empty where there is none.

    Raises:
        UserError: it is something else.
    """
    value = settings.get(key)
    if not isinstance(value, list | None):
        raise UserError(f"must be a list, not {value!r}", where=f"{where}: {key}")
    return value or []


def token_ids(settings: Mapping[str, Any], key: str, where: str) -> list[int]:
    """A token's id or a list of them; empty where there is none.

    Raises:
        UserError: it is something else.
    """
    value = settings.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
        what = f"must be a token's id or a list of them, not {value!r}"
        raise UserError(what, where=f"{where}: {key}")
    return ids
