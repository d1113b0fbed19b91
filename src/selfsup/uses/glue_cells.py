"""The trainings of a GLUE sweep as files: what each came to, and whether it holds still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfsup.errors import UserError
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.model_folder import read_json
from selfsup.tasks.glue import TaskFiles
from selfsup.uses.run_folder import differing

_NUMBERS = ("score", "examples", "steps", "learning_rate", "minutes")


@dataclass(frozen=True)
class Entrant:
    """A model that takes part."""

    name: str
    """As it was given."""
    slug: str
    """Name of its folders."""
    digest: str
    """Of its weights and tokenizer."""
    longest: int
    """Tokens that it reads."""


@dataclass(frozen=True)
class Cell:
    """One training: a model, a task, a seed."""

    entrant: Entrant
    files: TaskFiles
    seed: int
    folder: Path
    settings: dict[str, Any]
    """All that its scores depend on."""

    @property
    def path(self) -> Path:
        """Where its scores lie once it has finished."""
        return self.folder / f"seed-{self.seed}.json"

    @property
    def answers(self) -> Path:
        """Where its answers to the test files lie."""
        return self.folder / f"seed-{self.seed}"

    def read(self) -> dict[str, Any] | None:
        """What it came to; None: it has not finished.

        Raises:
            UserError: it was made with other settings, or is damaged.
        """
        if not self.path.is_file():
            return None
        try:
            value = read_json(self.path)
            key = differing(_as_asked(value["settings"], self.settings), self.settings)
            whole = self._holds_all(value)
        except (UserError, KeyError, TypeError, AttributeError):
            key, whole = "", False
        if not key and not whole:
            raise UserError("is damaged", where=str(self.path), mend="remove it")
        if key:
            what = f"was made with another {key}"
            mend = "give the same settings and data, --overwrite to start anew, or another --out"
            raise UserError(what, where=str(self.path), mend=mend)
        answered = all((self.answers / server).is_file() for server, _ in self.files.tests)
        return value if answered else None

    def _holds_all(self, value: Mapping[str, Any]) -> bool:
        """Whether a file's value has what a table is made of, and is of this training."""
        names = {"model": self.entrant.name, "task": self.files.task.name, "seed": self.seed}
        numbers = [value[key] for key in _NUMBERS]
        numbers += (value["scores"][name] for name in self.files.task.scores)
        return (
            all(value[key] == name for key, name in names.items())
            and all(isinstance(x, int | float) for x in numbers)
            and len(value["scores"]) == len(self.files.task.scores)
            and isinstance(value["notes"], list)
            and all(isinstance(note, str) for note in value["notes"])
        )


def _as_asked(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of a training; where no bad row stopped it, skipping them would have changed nothing."""
    if (old["data"]["on_bad_row"], new["data"]["on_bad_row"]) != ("stop", "skip"):
        return old
    return {**old, "data": {**old["data"], "on_bad_row": "skip"}}


def settings_kept(folder: Path, base: FinetuneConfig) -> FinetuneConfig:
    """The settings as a sweep in the folder may have them: bad rows may be skipped from now on."""
    try:
        old = read_json(folder / "config.json")["data"]["on_bad_row"]
    except (OSError, UserError, KeyError, TypeError):
        return base
    if (old, base.data.on_bad_row) != ("stop", "skip"):
        return base
    return base.model_copy(update={"data": base.data.model_copy(update={"on_bad_row": old})})
