"""The pages build without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_DOCS = Path(__file__).parent.parent / "docs"


def test_the_pages_build(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(_DOCS), str(tmp_path / "html")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "reference" / "config.html").stat().st_size > 10_000
