"""Configurations from YAML files and dotted flags, with errors that name the place and the mend.

Three layers are merged, later over earlier: a base (a recipe), YAML or JSON files, and overrides
such as `--train.batch_size 64`.  Pydantic judges the result; each complaint is traced back to the
file and line, or the flag, that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Never, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from selfsup.config_errors import complaint
from selfsup.config_schema import (
    at,
    child,
    choose,
    defaults,
    is_list,
    is_number,
    is_switch,
    section_models,
    takes_text,
)
from selfsup.errors import UserError

T = TypeVar("T", bound=BaseModel)
Key = tuple[str, ...]
Places = dict[Key, str]

SCHEMA_FILE = "selfsup.schema.json"
_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Override(NamedTuple):
    """One dotted flag: its path, its text (None: a flag alone), and how the user wrote it."""

    path: Key
    text: str | None
    label: str


# --- YAML -----------------------------------------------------------------------------------------

# YAML 1.1, which PyYAML follows, reads `1e-4` as text, `no` as false and `2020-01-01` as a date.
# These are the plain scalars of YAML 1.2 instead (with `_` allowed in numbers, as in Python).
_RESOLVERS: tuple[tuple[str, str, str], ...] = (
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789"),
    (
        "float",
        r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$",
        "-+.0123456789",
    ),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # YAML 1.1 takes these for line ends, and reads others back
        style = '"' if re.search("[\x85\u2028\u2029]", data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


for _tag, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _starts = ["" if c == "\0" else c for c in _first]
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _starts)


def read_yaml(path: Path) -> tuple[dict[str, Any], Places]:
    """The contents of a YAML or JSON file, and the place (`file:line`) of every key in it.

    Raises:
        UserError: no such file, not UTF-8, not YAML, a key given twice, or no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 (byte {error.start})", where=str(path)) from None
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})", where=str(path)) from None
    try:
        return _contents(text, str(path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        what = " ".join((error.problem or "cannot be understood").split())
        raise UserError(f"not YAML: {what}", where=f"{path}{line}") from None
    except yaml.reader.ReaderError as error:
        raise UserError(f"not YAML: {error.reason}", where=str(path)) from None
    except RecursionError:
        raise UserError("an alias contains itself", where=str(path)) from None


def _contents(text: str, file: str) -> tuple[dict[str, Any], Places]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            raise UserError("must be a mapping of keys to values", where=f"{file}:1")
        places: Places = {}
        return _plain(loader, node, file, (), places), places
    finally:
        loader.dispose()


def _plain(loader: _Loader, node: yaml.Node, file: str, path: Key, places: Places) -> Any:
    """A YAML node as dicts, lists and scalars; notes the place of every key below it."""
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError("a key must be a plain word", where=f"{file}:{line}")
            key = (*path, key_node.value)
            if key[-1] in result:
                first = places[key].rpartition(":")[2]
                raise UserError(
                    f"duplicate key '{'.'.join(key)}' (first on line {first})",
                    where=f"{file}:{line}",
                )
            places[key] = f"{file}:{line}"
            result[key[-1]] = _plain(loader, value_node, file, key, places)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            key = (*path, str(index))
            places[key] = f"{file}:{item.start_mark.line + 1}"
            items.append(_plain(loader, item, file, key, places))
        return items
    value = loader.construct_object(node)
    if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
        # JSON writes an emoji as two \u escapes, which YAML takes for two characters.
        value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def dump_yaml(config: BaseModel, *, schema_file: str = SCHEMA_FILE) -> str:
    """A configuration as YAML.  By its head line, editors complete and check it (`schema_file`)."""
    plain = config.model_dump(mode="json")
    body = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return f"# yaml-language-server: $schema={schema_file}\n{body}"


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a configuration, for editors and other programs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


# --- dotted flags ---------------------------------------------------------------------------------


def split_overrides(
    model: type[BaseModel], tokens: Sequence[str], *, dotted: bool = True
) -> tuple[list[Override], list[str]]:
    """Takes the settings (`--a.b value`, `--a.b=value`, `--a.b`) out of a command line.

    A switch takes the next token only when that is `true` or `false`, so that `--train.compile
    NAME` leaves NAME alone; any other key takes it unless it is a flag itself.

    Args:
        model: the configuration that the settings belong to.
        tokens: a command line, or part of one.
        dotted: leave flags without a dot alone, since they may belong to the command.

    Returns:
        The settings, and the tokens that are none, in their order.
    """
    pattern = r"--[A-Za-z_][\w-]*(\.[\w-]+)" + ("+" if dotted else "*")
    overrides: list[Override] = []
    rest: list[str] = []
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        if token == "--":
            return overrides, [*rest, token, *queue]
        label, equals, text = token.partition("=")
        if not re.fullmatch(pattern, label):
            rest.append(token)
            continue
        path = tuple(label[2:].replace("-", "_").split("."))
        value: str | None = text if equals else None
        if not equals and queue and not queue[0].startswith("--"):
            annotation = at(model, path)
            switch = annotation is not Never and is_switch(annotation)
            if not switch or queue[0].lower() in _SWITCH:
                value = queue.pop(0)
        overrides.append(Override(path, value, label))
    return overrides, rest


def _value(model: type[BaseModel], override: Override) -> Any:
    """What an override's text means for the key that it sets."""
    annotation = at(model, override.path)
    known = annotation is not Never
    if override.text is None:
        if known and not is_switch(annotation):
            raise UserError("needs a value", where=override.label)
        return True
    if known and is_switch(annotation):
        return _SWITCH.get(override.text.lower(), override.text)
    if takes_text(annotation):
        return override.text
    try:
        return yaml.load(override.text, Loader=_Loader)
    except yaml.YAMLError:
        return override.text


# --- merging --------------------------------------------------------------------------------------


def _merged(old: Any, new: Any, annotation: Any, path: Key, places: Places) -> Any:
    """`new` laid over `old`: sections key by key, all else replaced."""
    if isinstance(new, bool) and is_number(annotation):
        # Pydantic would read `true` as the number 1.
        what = f"{'.'.join(path)}: must be a number, not {str(new).lower()}"
        raise UserError(what, where=places.get(path, ""))
    if not isinstance(new, Mapping):
        return new
    if is_list(annotation) and all(key.isdecimal() for key in new):
        items = old if isinstance(old, list) else []
        return _merged_items(items, new, annotation, path, places)
    before = dict(old) if isinstance(old, Mapping) else {}
    old_kind = before.get("kind")
    if len(section_models(annotation)) > 1 and new.get("kind", old_kind) != old_kind:
        # Another member of the union: its keys have other meanings, so nothing is carried over.
        chosen = choose(annotation, new["kind"])
        before = defaults(chosen) if chosen else {}
    for key, value in new.items():
        before[key] = _merged(before.get(key), value, child(annotation, key), (*path, key), places)
    return before


def _merged_items(
    old: list[Any], new: Mapping[str, Any], annotation: Any, path: Key, places: Places
) -> list[Any]:
    """`{"0": …}` laid over a list: items by number; the number after the last one appends."""
    items = list(old)
    for key, value in new.items():
        index, here = int(key), (*path, key)
        if index > len(items):
            what = f"{'.'.join(here)}: there are {len(items)} items; the next is {len(items)}"
            raise UserError(what, where=_first_below(places, here))
        before = items[index] if index < len(items) else None
        items[index : index + 1] = [_merged(before, value, child(annotation, key), here, places)]
    return items


def _first_below(places: Places, path: Key) -> str:
    """The place of `path`, or of the first key below it."""
    return next((place for key, place in places.items() if key[: len(path)] == path), "")


def _from_override(override: Override, value: Any) -> dict[str, Any]:
    nested: Any = value
    for part in reversed(override.path):
        nested = {part: nested}
    result: dict[str, Any] = nested
    return result


# --- the loader -----------------------------------------------------------------------------------


def load_config(
    model: type[T],
    *,
    base: BaseModel | dict[str, Any] | None = None,
    files: Sequence[Path] = (),
    overrides: Sequence[str] = (),
) -> T:
    """A checked configuration from a base, files and dotted flags; later ones win.

    Args:
        model: what is wanted.
        base: what to start from, usually a recipe.
        files: YAML or JSON files, merged in their order.
        overrides: tokens such as `--train.batch_size`, `64`, `--train.seed=1`, `--train.compile`.

    Raises:
        UserError: one line: the place, what is wrong there, and the nearest right name.
    """
    data = defaults(model)
    places: Places = {}
    if base is not None:
        start = base.model_dump(mode="json") if isinstance(base, BaseModel) else base
        data = _merged(data, start, model, (), places)
    for file in files:
        contents, found = read_yaml(file)
        _forget(places, found)
        places |= found
        data = _merged(data, contents, model, (), places)
    given, rest = split_overrides(model, overrides, dotted=False)
    if rest:
        mend = "write --section.key value or --section.key=value"
        raise UserError(f"'{rest[0]}' is no setting", mend=mend)
    # A new `kind` clears its section, so it must come before the section's other keys.
    for override in sorted(given, key=lambda o: o.path[-1] != "kind"):
        _forget(places, [override.path])
        places[override.path] = override.label
        nested = _from_override(override, _value(model, override))
        data = _merged(data, nested, model, (), places)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise complaint(model, error, data, places) from None


def _forget(places: Places, paths: Iterable[Key]) -> None:
    """Takes paths out of the table, so that setting them again puts them last, as they came."""
    for path in paths:
        places.pop(path, None)
