"""Where selfsup keeps what it can rebuild: token shards, embedded texts, caches."""

from __future__ import annotations

import os
from pathlib import Path

from selfsup.data.paths import expanded
from selfsup.errors import UserError


def cache_folder(kind: str) -> Path:
    """The folder for caches of a kind, made where it is missing.

    Raises:
        UserError: it cannot be made.
    """
    folder = home() / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder for caches cannot be made ({error.strerror})"
        mend = "set SELFSUP_HOME to a folder that can be written"
        raise UserError(what, where=str(folder), mend=mend) from error
    return folder


def home() -> Path:
    """The folder for caches.

    `$SELFSUP_HOME`, else `$XDG_CACHE_HOME/selfsup`, else `~/.cache/selfsup`.  The folder
    is not created here.
    """
    chosen = os.environ.get("SELFSUP_HOME")
    if chosen:
        return expanded(chosen)
    shared = os.environ.get("XDG_CACHE_HOME")
    base = expanded(shared) if shared else Path.home() / ".cache"
    return base / "selfsup"
