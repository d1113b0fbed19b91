"""One process to a run folder: a second one is locked out and told by whom."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfsup.errors import RunLocked, UserError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder.

    The lock is the kernel's, so it goes when its process does, however that ends.

    Raises:
        RunLocked: another live process holds it; the message names it.
        UserError: the folder cannot be made or written to.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - held until the end
    except OSError as error:
        what = f"no run folder can be made here ({error.strerror})"
        raise UserError(what, where=str(folder), mend="choose another --out") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            owner = handle.read().strip() or "another process"
            raise RunLocked(
                f"this run folder is in use by {owner}",
                where=str(folder),
                mend="wait for it, stop it, or choose another --out",
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield
    finally:
        handle.close()
