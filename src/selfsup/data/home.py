"""Where selfsup keeps what it can rebuild: token shards, embedded texts, caches."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder for caches.

    `$SELFSUP_HOME`, else `$XDG_CACHE_HOME/selfsup`, else `~/.cache/selfsup`.  The folder
    is not created here.
    """
    chosen = os.environ.get("SELFSUP_HOME")
    if chosen:
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    base = Path(shared).expanduser() if shared else Path.home() / ".cache"
    return base / "selfsup"
