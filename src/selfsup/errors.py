"""Errors for people: what was wrong, where, and how to mend it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Integral
from typing import Any


class UserError(Exception):
    """Something the user gave cannot be used.  The command line prints it as one line and exits with 2.

    Args:
        what: what was wrong, in one clause.
        where: the file, line, column, flag or key it concerns; empty when there is no such place.
        mend: what to do about it; empty when `what` already says it.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}; {mend}" if mend else text)


class BadInput(UserError, ValueError):
    """What an estimator was given cannot be used: a `ValueError` too, as scikit-learn's users expect."""

    @classmethod
    def of(cls, error: UserError, where: str = "") -> BadInput:
        """The same message, about `where` unless it says another place."""
        return cls(error.what, where=error.where or where, mend=error.mend)


def no_numbers(where: str, what: str = "logits", mend: str = "check its weights") -> UserError:
    """What is said of a model that computes NaN or infinite numbers."""
    return UserError(
        f"the model gives NaN or infinite {what}: nothing can be told by them",
        where=where,
        mend=mend,
    )


class NonFiniteLoss(UserError):
    """Training met a loss or gradient that is not a number.  The last good checkpoint is kept."""


class RunLocked(UserError):
    """Another live process works in this run folder."""


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C or SIGTERM) and has saved its state.  Exit code 130.

    Args:
        what: where it stopped.
        then: what the same command does now; empty where there is nothing to say.
    """

    overwrote = False
    """Whether the command had `--overwrite`, which would start anew once more."""

    def __init__(self, what: str = "", then: str = "") -> None:
        self.what, self.then = what, then
        super().__init__(what, then)

    def __str__(self) -> str:
        """As the command line says it."""
        again = "the same command" + (" without --overwrite" if self.overwrote else "")
        return f"{self.what}; {again} {self.then}" if self.then else self.what


NO_SPACE = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full",
    errno.EFBIG: "a file would be larger than is allowed (ulimit -f)",
}
"""What the numbers of operating system errors mean where a file cannot get longer."""


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(0x7F, 0xA0))} | {
    ord("\n"): "\n",
    ord("\t"): "\t",
    ord("\r"): "\\r",
}


def visible(text: str) -> str:
    """A text for a terminal: control characters, which would colour it, move or retitle it, are written out.

    Names and texts come from files of others; line ends and tabs stay.
    """
    return text.translate(_CONTROLS)


def nearest(name: str, known: list[str]) -> str:
    """`; did you mean 'x'?` for the known name closest to `name`, or an empty string."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""


def counted(number: int, one: str, many: str = "") -> str:
    """A number and its noun: `1 row`, `1,200 rows`; `many` where an s is not enough."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def at_least(least: int, value: float, where: str) -> None:
    """Refuse a number below the least that makes sense.

    Raises:
        UserError: it is.
    """
    if value < least:
        raise UserError(f"must be at least {least}, not {value:g}", where=where)


def check_count(least: int, value: object, where: str) -> None:
    """Refuse what is no whole number, or one below the least that makes sense.

    Raises:
        UserError: it is.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UserError(f"must be a whole number, not {value!r}", where=where)
    at_least(least, int(value), where)


def check_seed(seed: int, where: str = "--seed") -> None:
    """Refuse a seed that not every generator takes: they are from 0 to 2^32 - 1, as in configurations.

    Raises:
        UserError: it is below or above, or no whole number.
    """
    check_count(0, seed, where)
    if seed >= 2**32:
        raise UserError(f"must be at most {2**32 - 1}, not {seed}", where=where)


def silence(stream: Any) -> None:
    """Let all that is said to a stream, and what is left in its buffers, go nowhere."""
    with suppress(OSError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def unheard(stream: Any) -> Iterator[None]:
    """Something is said to a stream that nobody may read any more, or whose disk is full: then silence."""
    try:
        yield
    except OSError:
        silence(stream)
