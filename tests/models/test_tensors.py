"""Files of tensors are as open as other files, and say why they cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from selfsup.errors import UserError
from selfsup.models.tensors import read_tensors, write_tensors


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_umask_says_who_may_read(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):  # also when it is replaced
            write_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    finally:
        os.umask(before)
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask
    assert read_tensors(tmp_path / "x.safetensors")["a"].tolist() == [1, 1]


def test_what_may_not_be_read_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_tensors(file)
    write_tensors(file, {"a": torch.ones(2)})

    def closed(*_: Any, **__: Any) -> None:  # as for others than root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(UserError, match="it may not be read by this user; ask its owner"):
        read_tensors(file)
