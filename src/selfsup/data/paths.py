"""Paths as people give them, and the files below a folder."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from selfsup.errors import UserError


def expanded(given: str | Path) -> Path:
    """A path with `~` replaced.

    Raises:
        UserError: it is empty, which would mean the current folder; it is no UTF-8, so that no JSON file
            can name it; or `~name` is nobody's.
    """
    if not str(given).strip():
        raise UserError("the path is empty", mend="name a file or folder, `.` for the one here")
    if any("\ud800" <= letter <= "\udfff" for letter in str(given)):
        raise UserError("the name is not UTF-8", where=str(given), mend="rename it")
    try:
        return Path(given).expanduser()
    except RuntimeError:
        name = Path(given).parts[0]
        raise UserError(
            f"nobody's home is '{name}'", where=str(given), mend="write it out"
        ) from None


def files_below(folder: Path) -> Iterator[Path]:
    """All that is no folder, to the bottom, in no order.

    What selfsup wrote is left out: a run below the data that it reads must not change them.
    """
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not is_own(Path(place, name))]
        yield from (Path(place, name) for name in names)


def matching(pattern: Path) -> Iterator[Path]:
    """What a glob names; at any depth (`**`), as in a folder, what selfsup wrote is left out."""
    matches = map(Path, glob.iglob(str(pattern), recursive=True))
    if "**" not in pattern.parts:
        return matches
    top = Path(*pattern.parts[: pattern.parts.index("**")])
    own = cache(is_own)
    return (
        file
        for file in matches
        if not any(own(place) for place in file.parents if top in place.parents)
    )


def is_own(folder: Path) -> bool:
    """Whether selfsup made a folder: a run's, a study's, a detector's, or that of a report."""
    return is_run(folder) or is_study(folder) or is_detector(folder) or _is_report(folder)


def is_run(folder: Path) -> bool:
    """Whether a training wrote what lies in a folder; one of its two files may be damaged."""
    return {"train", "data"} <= _said(folder, "config.json") or "versions" in _said(
        folder, "environment.json"
    )


def is_study(folder: Path) -> bool:
    """Whether a study lies in a folder."""
    others = ("cells", "figures", "result.json")
    return bool(_said(folder, "study.json")) and any((folder / x).exists() for x in others)


def is_detector(folder: Path) -> bool:
    """Whether a detector lies in a folder."""
    return "model_type" in _said(folder, "detector.json")


def _is_report(folder: Path) -> bool:
    """Whether a demonstration, a study without cells or `detect score` told here what it found."""
    told = _said(folder, "result.json") & {"kind", "scores"}
    return bool(told) and (folder / "figures").is_dir()


def _said(folder: Path, name: str) -> set[str]:
    """The keys of a JSON file of a folder; none where there is no such file."""
    with suppress(OSError, ValueError):
        kept = json.loads((folder / name).read_text(encoding="utf-8"))
        return set(kept) if isinstance(kept, dict) else set()
    return set()


def refuse_pipe(path: Path) -> None:
    """Refuse what cannot be read twice: a pipe, a terminal or another device.

    Raises:
        UserError: it is one.
    """
    if path.is_fifo() or path.is_char_device() or path.is_socket():
        raise UserError(PIPE, where=str(path), mend=PIPE_MEND)


PIPE, PIPE_MEND = "a pipe cannot be read twice", "write it to a file first"


def link_target(path: Path) -> Path:
    """The file to write where `path` may be a link: links stay.

    Raises:
        UserError: it leads into a folder that is not there.
    """
    if not path.is_symlink():
        return path
    try:
        target = path.resolve()
    except (OSError, RuntimeError):  # a link to itself
        target = Path()
    if target.is_symlink() or not target.parent.is_dir() or target == Path():
        what = f"the link leads nowhere (to '{path.readlink()}')"
        raise UserError(what, where=str(path), mend="mend or remove the link")
    return target


def beside_of(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    return path.with_name(f".{path.name}.{os.getpid()}")
