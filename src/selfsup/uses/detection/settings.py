"""The estimators' settings, each refused in one line where it cannot be meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfsup.errors import BadInput, UserError, check_seed, nearest

_WHOLE = (int, np.integer)
_REAL = (*_WHOLE, float, np.floating)


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse what is none of the words in `known`."""
    if not isinstance(value, str) or value not in known:
        mend = nearest(value, list(known)) if isinstance(value, str) else ""
        mend = mend or f"use one of {', '.join(known)}"
        raise BadInput(f"{_shown(value)} is unknown", where=name, mend=mend)


def check_whole(name: str, value: Any, least: int = 1, *, auto: bool = False) -> None:
    """Refuse what is no whole number from `least` on; the word `auto` may be allowed."""
    if auto and isinstance(value, str) and value == "auto":
        return
    if not isinstance(value, _WHOLE) or isinstance(value, bool) or value < least:
        wanted = f"{'auto or ' if auto else ''}a whole number of at least {least}"
        raise BadInput(f"must be {wanted}, not {_shown(value)}", where=name)


def check_number(name: str, value: Any, low: float, high: float, *, ends: str = "()") -> None:
    """Refuse what is no number in an interval.

    Args:
        name: of the setting.
        value: given.
        low, high: the ends of the interval.
        ends: its brackets; a square one belongs to it.
    """
    number = float(value) if isinstance(value, _REAL) and not isinstance(value, bool) else np.nan
    inside = low < number < high
    on_an_end = (number == low and ends[0] == "[") or (number == high and ends[1] == "]")
    if not inside and not on_an_end:
        wanted = f"lie in {ends[0]}{low:g}, {high:g}{ends[1]}"
        if high == np.inf:
            wanted = f"be {'at least' if ends[0] == '[' else 'greater than'} {low:g}"
        raise BadInput(f"must {wanted}, this is {_shown(value)}", where=name)


def draw_seed(random: Any) -> int:
    """The seed that `random_state` stands for: itself, or a draw of a `RandomState`; None: another
    one each time.
    """
    name = "random_state"
    if random is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random, np.random.RandomState):
        return int(random.randint(2**31))
    if not isinstance(random, _WHOLE):
        what = f"must be a whole number, a RandomState or None, not {_shown(random)}"
        raise BadInput(what, where=name)
    try:
        check_seed(int(random), name)
    except UserError as error:
        raise BadInput.of(error) from None
    return int(random)


def _shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    text = f"{value:g}" if isinstance(value, float) else " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
