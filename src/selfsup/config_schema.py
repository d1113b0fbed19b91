"""Questions about the shape of a configuration: what may stand at a dotted path."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Never, Union, get_args, get_origin

from pydantic import BaseModel


def members(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type: the members of a union, else the type alone, unannotated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from members(member)
    else:
        yield annotation


def section_models(annotation: Any) -> list[type[BaseModel]]:
    """The section classes that a value of this type may have: several for a union on `kind`."""
    return [m for m in members(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]


def is_list(annotation: Any) -> bool:
    """Whether a value of this type is counted into (`data.sources.0`)."""
    return any(get_origin(m) in (list, tuple) for m in members(annotation))


def child(annotation: Any, key: str) -> Any:
    """The type of what stands under `key`; `Never` when nothing can stand there."""
    found = [
        model.model_fields[key].annotation
        for model in section_models(annotation)
        if key in model.model_fields
    ]
    if key.isdecimal():
        found += [get_args(m)[0] for m in members(annotation) if get_origin(m) in (list, tuple)]
    return Union[tuple(found)] if found else Never  # noqa: UP007 - built at run time


def at(model: type[BaseModel], path: Sequence[str]) -> Any:
    """The type of what stands at a dotted path; `Never` when nothing can stand there."""
    annotation: Any = model
    for key in path:
        annotation = child(annotation, key)
    return annotation


def takes_text(annotation: Any) -> bool:
    """Whether a value of this type is text, free or from a list of words."""
    return any(
        m is str or (get_origin(m) is Literal and any(isinstance(a, str) for a in get_args(m)))
        for m in members(annotation)
    )


def is_switch(annotation: Any) -> bool:
    """Whether a value of this type is true or false and nothing else."""
    return all(
        m is bool or (get_origin(m) is Literal and all(isinstance(a, bool) for a in get_args(m)))
        for m in members(annotation)
    )


def is_number(annotation: Any) -> bool:
    """Whether a value of this type is a number, or a number or nothing."""
    return set(members(annotation)) <= {int, float, type(None)}


def choose(annotation: Any, kind: Any) -> type[BaseModel] | None:
    """The section class of this type whose `kind` is the one given, or the only one there is."""
    models = section_models(annotation)
    if len(models) == 1:
        return models[0]
    return next((m for m in models if kind in kinds(m)), None)


def kinds(model: type[BaseModel]) -> tuple[Any, ...]:
    """The words that a section's `kind` may be."""
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field else ()


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The defaults of a section, as plain values; keys that have none are left out."""
    result: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        if field.is_required():
            continue
        value = field.get_default(call_default_factory=True)
        result[name] = _plain(value)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def all_paths(
    annotation: Any, data: Any, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every dotted path that `data` may have; in a union, those of the `kind` that it has."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield from all_paths(child(annotation, str(index)), item, (*prefix, str(index)))
    kind = data.get("kind") if isinstance(data, Mapping) else None
    model = choose(annotation, kind)
    if model is None:
        return
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        inside = data.get(name) if isinstance(data, Mapping) else None
        yield from all_paths(field.annotation, inside, (*prefix, name))
