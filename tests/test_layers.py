"""Imports go down the rooms only, and nothing heavy comes in at the door."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent


def _python(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(_ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    environment = os.environ | {"PYTHONPATH": str(_ROOT / "src")}
    done = subprocess.run(
        [linter, "--no-cache"], cwd=_ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module", ["selfsup", "selfsup.cli.app", "selfsup.config_files", "selfsup.recipes"]
)
def test_light_modules_stay_light(module: str) -> None:
    heavy = ("torch", "numpy", "sklearn", "matplotlib", "tokenizers", "transformers")
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    assert _python(code).strip() == "[]"


def test_every_lazy_name_has_a_home() -> None:
    import importlib.util

    import selfsup

    for name, home in selfsup._HOMES.items():
        assert name in selfsup.__all__
        assert importlib.util.find_spec(home) is not None, home
    assert selfsup.recipes.get("bert-tiny").recipe == "bert-tiny"
    assert set(selfsup.__all__) <= set(dir(selfsup))
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        _ = selfsup.pretrian


def test_the_package_says_that_it_is_typed_and_its_archive_has_all_pages() -> None:
    assert (_ROOT / "src/selfsup/py.typed").is_file()  # else type checkers see nothing of it
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {f"/{page.name}" for page in _ROOT.glob("*.md")} <= set(included)
