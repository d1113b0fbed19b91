"""Pydantic's complaints about a configuration, as one line for people."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from selfsup.config_schema import all_paths, at, choose, kinds, members, section_models
from selfsup.errors import UserError, nearest

Key = tuple[str, ...]

_LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_SHAPES = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "model": "a section of keys",
    "dict": "a section of keys",
}
# What people call things elsewhere, for suggestions only.
_ELSEWHERE = {
    "steps": "budget", "max_steps": "budget", "minutes": "budget", "tokens": "budget",
    "epochs": "budget", "learning_rate": "lr", "warmup_steps": "warmup", "warmup_ratio": "warmup",
    "max_grad_norm": "clip", "mask_rate": "rate", "mlm_probability": "rate",
    "layers": "num_layers", "hidden": "hidden_size", "heads": "num_heads",
    "max_position_embeddings": "max_length", "gradient_accumulation_steps": "accumulate",
}  # fmt: skip


def complaint(
    model: type[BaseModel],
    error: ValidationError,
    data: Mapping[str, Any],
    places: Mapping[Key, str],
) -> UserError:
    """The first complaint: the place it comes from, what is wrong, and how many more there are.

    Args:
        model: what `data` should have been.
        error: what pydantic said.
        data: the merged values.
        places: `file:line` or the flag of every key that was given, in the order of giving.
    """
    # An unknown key first: a misspelt one is also missed under its right name.
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    path = _path(model, first["loc"], data)
    where, origin = _place(path, first, places)
    what, mend = _say(model, path, first, data)
    if first["type"] == "extra_forbidden":
        what = f"unknown key '{'.'.join(path)}'"
    elif path and not (origin == path and where.startswith("--")):
        what = f"{'.'.join(path)}: {what}"
    if len(errors) > 1:
        more = f" (and {len(errors) - 1} more)"
        what, mend = (what, mend + more) if mend else (what + more, mend)
    return UserError(what, where=where, mend=mend)


def _path(model: type[BaseModel], loc: Sequence[str | int], data: Any) -> Key:
    """Pydantic's location without the names of union members that it puts in between."""
    path: list[str] = []
    here, annotation = data, at(model, ())
    for part in loc:
        if len(section_models(annotation)) > 1 and isinstance(here, Mapping):
            chosen = choose(annotation, here.get("kind"))
            if chosen is not None and part in kinds(chosen):
                annotation = chosen
                continue
        path.append(str(part))
        annotation = at(model, path)
        if isinstance(here, Mapping):
            here = here.get(str(part))
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        else:
            here = None
    return tuple(path)


def _place(path: Key, error: ErrorDetails, places: Mapping[Key, str]) -> tuple[str, Key]:
    """Where the value came from, and whose place that is; empty when from no file or flag."""
    if path in places and error["type"] != "value_error":
        return places[path], path
    below = [key for key in places if key[: len(path)] == path]
    if error["type"] == "value_error" and below:
        # Settings that do not fit together: the last given of those that the message names.
        words = set(re.findall(r"[\w.]+", error["msg"]))
        named = [k for k in below if k[-1] in words or ".".join(k) in words or k == path]
        if named:
            return places[named[-1]], named[-1] if named[-1] == path else ()
    for end in range(len(path), 0, -1):
        if path[:end] in places:
            return places[path[:end]], path[:end]
    return (places[below[-1]], ()) if below and path else ("", ())


def _say(
    model: type[BaseModel], path: Key, error: ErrorDetails, data: Mapping[str, Any]
) -> tuple[str, str]:
    """What is wrong and how to mend it."""
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    shown = _shown(given)
    if kind == "extra_forbidden":
        return "unknown key", _nearest_key(model, path, data)
    if kind == "missing":
        return "is missing", ""
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, "), ""
    if kind in _LIMITS:
        words, name = _LIMITS[kind]
        limit = context[name]
        return (
            f"must be {words} {limit if isinstance(limit, int) else format(limit, 'g')}, not {shown}",
            "",
        )
    if kind == "union_tag_invalid":
        known = re.findall(r"'([^']*)'", str(context["expected_tags"]))
        tag = str(context["tag"])
        return f"kind must be one of {', '.join(known)}, not '{tag}'", nearest(tag, known)
    if kind == "literal_error":
        known = [str(a) for m in members(at(model, path)) for a in getattr(m, "__args__", ())]
        if len(known) == 1:
            return f"can only be {known[0].lower()} here, not {shown}", ""
        return f"must be one of {', '.join(known)}, not {shown}", nearest(str(given), known)
    if kind in ("too_long", "too_short"):
        count = context.get("max_length", context.get("min_length"))
        return f"must have {count} items, not {context['actual_length']}", ""
    shape = _SHAPES.get(kind.partition("_")[0])
    return (f"must be {shape}, not {shown}" if shape else error["msg"]), ""


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = str(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"'{text}'" if isinstance(value, str) else text


def _nearest_key(model: type[BaseModel], path: Key, data: Mapping[str, Any]) -> str:
    """The key that was probably meant: in the same section by its name, elsewhere by its path."""
    if "." in path[-1]:
        return "in a file, sections are nested: one key a level"
    owners = [m for m in section_models(at(model, path[:-1])) if path[-1] in m.model_fields]
    if owners:
        return "it belongs to kind " + " or ".join(f"'{k}'" for m in owners for k in kinds(m))
    wanted = path[-1].lower()
    best: tuple[float, str] = (0.0, "")
    for known in all_paths(model, data):
        here = known[:-1] == path[:-1]
        names = [known[-1], *(k for k, v in _ELSEWHERE.items() if v == known[-1])]
        likeness = max(difflib.SequenceMatcher(None, wanted, name).ratio() for name in names)
        # A key of the same section wins over a somewhat closer one from elsewhere.
        score = likeness + 0.15 * here
        if likeness >= 0.65 and score > best[0]:
            best = (score, known[-1] if here else ".".join(known))
    return f"did you mean '{best[1]}'?" if best[1] else _keys_there(model, path[:-1], data)


def _keys_there(model: type[BaseModel], section: Key, data: Mapping[str, Any]) -> str:
    here: Any = data
    for part in section:
        if isinstance(here, Mapping):
            here = here.get(part)
        elif isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            here = here[int(part)]
    chosen = choose(at(model, section), here.get("kind") if isinstance(here, Mapping) else None)
    return f"known here: {', '.join(chosen.model_fields)}" if chosen else ""
