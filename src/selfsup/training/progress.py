"""What a person sees while a run goes on: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from selfsup.errors import unheard, visible

COUNTED_EVERY = 30.0
"""Seconds between two lines of a count, where there is no bar."""
_LARGE = 4_000_000
"""Bytes of a file that takes more than a moment to read."""


def clock(seconds: float) -> str:
    """`1:05` or `2:03:04`."""
    minutes, s = divmod(round(max(0.0, seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


class _Stderr:
    """Standard error for as long as somebody reads it; a run goes on without."""

    def __init__(self) -> None:
        # inside another display sys.stderr is its own
        self._stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)

    def write(self, text: str) -> int:
        with unheard(self._stream):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with unheard(self._stream):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Progress:
    """Shows loss, speed, share of the machine's peak, and time left.

    Args:
        quiet: show nothing.
        title: what is being trained.
    """

    def __init__(self, *, quiet: bool, title: str) -> None:
        from rich.console import Console

        self.quiet, self._counted = quiet, -1.0
        # where it is closed rich writes nowhere
        file = cast("IO[str]", _Stderr()) if sys.stderr else None
        self.console = Console(file=file, stderr=True, soft_wrap=True)
        self.live = self.console.is_terminal and not quiet
        self.bar: Any = None
        if self.live:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}", markup=False),
                console=self.console,
                transient=True,
            )
            self.bar.start()
            self.task = self.bar.add_task(visible(title), total=1.0, text="")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self._counted = time.monotonic()
            self.console.print(visible(text), highlight=False, markup=False)  # names hold brackets

    def say_reading(self, source: str) -> None:
        """Say that a file is being read, where it is large."""
        path = os.path.expanduser(source)
        if os.path.isfile(path) and os.path.getsize(path) >= _LARGE:
            self.say(f"reading {source}")

    def update(self, done: float, text: str) -> None:
        """Move the bar to a share of the whole."""
        if self.bar is not None:
            self.bar.update(self.task, completed=min(done, 1.0), text=text)

    def count(self, what: str, amount: float, unit: str, share: float = 0.0) -> None:
        """Say how far work has come: on the bar, elsewhere in a line when none was said for a while.

        Args:
            what: is done.
            amount: so much of it, so far.
            unit: of the amount.
            share: of the whole, where its length is known.
        """
        text = f"{what}: {amount:,} {unit}" if isinstance(amount, int) else ""
        text = text or f"{what}: {amount:,.1f} {unit}"
        if self.bar is not None:
            self.bar.update(self.task, completed=min(share, 1.0), text=text)
            return
        now = time.monotonic()
        if self._counted < 0:
            self._counted = now
        elif now - self._counted >= COUNTED_EVERY:
            self._counted = now
            self.say(text)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.stop()


@contextmanager
def reading(
    total: int, unit: str, *, quiet: bool, what: str = "read"
) -> Iterator[Callable[[int], None]]:
    """Shows how many of so many were read, or `what` else: call it with their number so far."""
    display = Progress(quiet=quiet, title="reading" if what == "read" else what)
    try:
        yield lambda done: display.count(what, done, f"of {total:,} {unit}", done / total)
    finally:
        display.close()
