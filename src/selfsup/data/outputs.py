"""Files that are to be written, looked at before the work begins."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from selfsup.errors import UserError


def check_output(
    output: Path | None,
    suffix: str | tuple[str, ...],
    overwrite: bool,
    source: str | Path | None = None,
) -> None:
    """Refuse an output file of another kind, one that is there, the file that is read, or a place that
    cannot be written to.

    Raises:
        UserError: it is.
    """
    if output is None:
        return
    read = Path(source or "").expanduser()
    if source and read.exists() and output.exists() and output.samefile(read):
        what = "is the file that is read"
        raise UserError(what, where=f"--output {output}", mend="name another file to write")
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    if output.suffix not in suffixes:
        raise UserError(f"must end in {' or '.join(suffixes)}", where=f"--output {output}")
    if output.exists() and not overwrite:
        raise UserError("exists already", where=str(output), mend="--overwrite replaces it")
    if output.is_dir():
        raise UserError("is a folder", where=f"--output {output}", mend="name a file to write")
    check_place(output)


def check_place(path: Path) -> None:
    """Refuse a file that could not be written, by writing one of such a name into the nearest folder that
    is there; nothing stays.

    Raises:
        UserError: it could not.
    """
    there = next(place for place in path.absolute().parents if os.path.lexists(place))
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=f".{path.name[:-8]}"):
            pass
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=str(path)) from error
