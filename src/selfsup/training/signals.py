"""SIGTERM and Ctrl-C finish the step, save, and leave; a second one leaves at once.

A terminal and a launcher may both pass on the same Ctrl-C, so what follows within two seconds is no
second request.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selfsup.errors import Interrupted

_SAME_REQUEST = 2.0  # seconds


class StopRequest:
    """False until the process is asked to stop."""

    def __init__(self) -> None:
        self.made = False
        self.since = 0.0

    def __bool__(self) -> bool:
        """Whether somebody asked."""
        return self.made


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn signals into a request while the context lasts; outside the main thread, do nothing."""
    request = StopRequest()

    def stop(_number: int, _frame: Any) -> None:
        if request.made and time.monotonic() - request.since > _SAME_REQUEST:
            raise KeyboardInterrupt
        if not request.made:
            request.made, request.since = True, time.monotonic()

    try:
        old = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller handles signals
        old = {}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def told_how_to_go_on(overwrite: bool) -> Iterator[None]:
    """Let a stopped run that was to start anew say that the same command would do so once more."""
    try:
        yield
    except Interrupted as stop:
        stop.overwrote |= overwrite
        raise
