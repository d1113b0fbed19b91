"""Files that are to be written, looked at before the work begins."""

from __future__ import annotations

from pathlib import Path

from selfsup.data.paths import beside_of, expanded, link_target
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
    read = expanded(source) if source else None
    if read and read.exists() and output.exists() and output.samefile(read):
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
    target = link_target(path).absolute()
    try:
        there = next(place for place in target.parents if _is_there(place))
        for name in target.relative_to(there).parts:
            _is_there(there / name)  # raises where a folder to be made has too long a name
        tried = there / beside_of(target).name
        with tried.open("wb"):
            tried.unlink()
    except OSError as error:
        raise UserError(f"cannot be written ({error.strerror})", where=str(path)) from error


def _is_there(place: Path) -> bool:
    """Whether something bears the name, which must not be too long."""
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
