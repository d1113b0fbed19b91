"""SIGTERM and Ctrl-C finish the step, save, and leave; a second one leaves at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequest:
    """False until the process is asked to stop."""

    def __init__(self) -> None:
        self.made = False

    def __bool__(self) -> bool:
        """Whether somebody asked."""
        return self.made


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn signals into a request while the context lasts; outside the main thread, do nothing."""
    request = StopRequest()

    def stop(_number: int, _frame: Any) -> None:
        if request.made:
            raise KeyboardInterrupt
        request.made = True

    try:
        old = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller handles signals
        old = {}
    try:
        yield request
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
