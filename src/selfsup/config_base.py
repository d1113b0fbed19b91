"""What every part of a configuration has in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from selfsup.errors import UserError


class Section(BaseModel):
    """One part of a configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _paths_are_texts(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {k: str(v) if isinstance(v, PurePath) else v for k, v in value.items()}


def check_config(config: object, kind: type[Section], made_by: str) -> None:
    """Refuse a configuration of another kind.

    Args:
        config: what was given.
        kind: what is wanted.
        made_by: how one comes by it, for the message.

    Raises:
        UserError: it is none.
    """
    if not isinstance(config, kind):
        what = f"a {kind.__name__} is expected, not {type(config).__name__}"
        raise UserError(what, mend=f"make one by {made_by}")
