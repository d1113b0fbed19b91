"""What every test gets: one thread, no network, a home of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before numpy or torch are imported: with two test processes on two cores, more threads only wait.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _selfsup_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the caches of the person who runs it."""
    home = tmp_path_factory.mktemp("selfsup-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SELFSUP_HOME", str(home))
        yield home
