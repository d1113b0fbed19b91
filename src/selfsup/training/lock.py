"""One process to a run folder: a second one is locked out and told by whom."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from selfsup.errors import RunLocked, UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder; one that was made for nothing (bad input, say) goes again.

    The lock is the kernel's, so it goes when its process does, however that ends.

    Raises:
        RunLocked: another live process holds it; the message names it.
        UserError: the folder cannot be made or written to.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    fresh = not (folder / ".lock").exists()
    try:
        handle = _take(folder)
    except OSError as error:
        what = f"no run folder can be made here ({error.strerror})"
        raise UserError(what, where=str(folder), mend="choose another --out") from error
    try:
        yield
    except BaseException:
        _unmake(folder, made, fresh)
        raise
    finally:
        handle.close()


def _take(folder: Path) -> TextIO:
    """The lock's open file, held and signed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until the end
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        owner = handle.read().strip() or "another process"
        handle.close()
        raise RunLocked(
            f"this run folder is in use by {owner}",
            where=str(folder),
            mend="wait for it, stop it, or choose another --out",
        ) from None
    if not path.exists() or not os.path.samestat(path.stat(), os.fstat(handle.fileno())):
        handle.close()  # its owner removed it between our two calls
        return _take(folder)
    handle.seek(0)
    handle.truncate()
    handle.write(f"process {os.getpid()} on {socket.gethostname()}")
    handle.flush()
    return handle


def _unmake(folder: Path, made: list[Path], fresh: bool) -> None:
    """Remove our lock from a folder that holds nothing else or had none, and the folders made for it."""
    with suppress(OSError):
        if fresh or [place.name for place in folder.iterdir()] == [".lock"]:
            (folder / ".lock").unlink()
        for place in made:
            place.rmdir()
