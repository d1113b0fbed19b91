"""How the pages are built: Markdown (MyST), the theme furo, docstrings in Google's style."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_sources = Path(__file__).parent.parent / "src"
sys.path.insert(0, str(_sources))  # the pages describe this checkout, installed or not
_version = re.search(
    r'^__version__ = "(.+)"$', (_sources / "selfsup/__init__.py").read_text("utf-8"), re.MULTILINE
)

project = "selfsup"
author = "the selfsup authors"
copyright = f"2026, {author}"
release = version = _version[1] if _version else ""

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# Docstrings mark code with single backticks, as Markdown does.
default_role = "literal"

html_theme = "furo"
html_title = f"selfsup {release}"


def _settings(annotation: Any, path: str = "", without: str = "") -> Iterator[str]:
    """Tables of all settings below a dotted path, in Markdown, one for each section and kind.

    Of the section `without` there is but a row.
    """
    from selfsup.config_schema import kinds, members, section_models

    models = section_models(annotation)
    for model in models:
        title = f"`{path}`" if path else "At the top"
        if len(models) > 1:
            title += f" of kind `{kinds(model)[0]}`"
        yield f"\n### {title}\n\n{model.__doc__}\n"
        yield "| key | default | meaning |\n| --- | --- | --- |"
        inside = []
        for name, field in model.model_fields.items():
            nested = field.annotation
            for member in members(field.annotation):
                if get_origin(member) is tuple and section_models(get_args(member)[0]):
                    nested, name = get_args(member)[0], f"{name}.N"
            dotted = f"{path}.{name}" if path else name
            default = "required" if field.is_required() else f"`{_default(field.default)}`"
            if section_models(nested) and not hasattr(field.default, "unit"):
                default = "see above" if dotted == without else "see below"
                inside += [(nested, dotted)] if dotted != without else []
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            yield f"| `{dotted}` | {default} | {meaning or _choices(nested)} |"
        for nested, dotted in inside:
            yield from _settings(nested, dotted)


def _default(value: Any) -> str:
    from selfsup.train_config import Budget

    if isinstance(value, Budget):
        return str(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(list(value)) if isinstance(value, tuple) else str(value) or " "


def _choices(annotation: Any) -> str:
    """For a key without a line of its own: the words it may be."""
    words = [str(word) for word in get_args(annotation) if isinstance(word, str)]
    return ", ".join(f"`{word}`" for word in words)


def _fill_in(app: Sphinx, name: str, source: list[str]) -> None:
    if "%SETTINGS%" in source[0]:
        from selfsup.config import PretrainConfig

        source[0] = source[0].replace("%SETTINGS%", "\n".join(_settings(PretrainConfig)))
    if "%FINETUNE%" in source[0]:
        from selfsup.finetune_config import FinetuneConfig

        tables = _settings(FinetuneConfig, without="train")
        source[0] = source[0].replace("%FINETUNE%", "\n".join(tables))


def setup(app: Sphinx) -> None:
    app.connect("source-read", _fill_in)
