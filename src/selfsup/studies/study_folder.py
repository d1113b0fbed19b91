"""A study's folder: what lies in it, and when it may be used again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from selfsup.errors import UserError
from selfsup.models.model_folder import read_json
from selfsup.uses.run_folder import differing

_REMOVE = "remove it, and the same command makes it again"
_OWN = {"cells", "work", "figures"}
_OWN_FILES = {"study.json", "result.json", "report.html"}


def open_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> dict[str, Any]:
    """What the study in the folder was made with; empty when it is new.

    Raises:
        UserError: another study, or other things, lie there.
    """
    others = [p for p in folder.iterdir() if not p.name.startswith(".")]
    if overwrite and (folder / "study.json").is_file():
        for path in others:
            if path.name in _OWN:
                shutil.rmtree(path)
            elif path.name in _OWN_FILES:
                path.unlink()
        return {}
    file = folder / "study.json"
    if not file.is_file():
        if others:
            what = f"this folder holds other things ('{min(p.name for p in others)}')"
            raise UserError(what, where=str(folder), mend="choose an empty or new --out")
        return {}
    old = read_json(file, "--overwrite starts anew, or choose another --out")
    plain = {k: v for k, v in old.items() if k != "precision"}
    if key := differing(plain, json.loads(json.dumps(settings))):
        mend = (
            "give the same settings to go on with it, --overwrite to start anew, or another --out"
        )
        raise UserError(f"a study with another {key} lies here", where=str(folder), mend=mend)
    return old


def read_cell(file: Path, *keys: str) -> dict[str, Any]:
    """The kept result of a training.

    Args:
        file: where it lies.
        keys: what it must say.

    Raises:
        UserError: there is none, or it is damaged.
    """
    value = read_json(file, _REMOVE)
    if lacking := [key for key in keys if key not in value]:
        raise UserError(f"is damaged: no {lacking[0]}", where=str(file), mend=_REMOVE)
    return value
