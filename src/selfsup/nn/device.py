"""The processor or GPU that tensors live on, and what a CPU is made ready with."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

import torch

from selfsup.errors import UserError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed, for the next batch's tensors.

    By default glibc gives every large tensor fresh pages and takes them back at once; a step of a
    small model spent some 15 % of its time on that, reading texts a quarter (docs/log.md).  Other C
    libraries are left alone.
    """
    import ctypes

    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
            libc.mallopt(_M_TOP_PAD, 1 << 26)


def choose_device(wanted: str | torch.device) -> torch.device:
    """The device called `auto`, `cpu`, `cuda` or `cuda:N`; a CPU is made ready (`keep_freed_memory`).

    Raises:
        UserError: another name, or a device that is not here.
    """
    name = str(wanted)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device '{name}'", mend="use auto, cpu, cuda or cuda:0") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device '{name}' is not here", mend="use --device cpu")
    if device.type not in {"cpu", "cuda"}:
        raise UserError(f"device '{name}' is not supported", mend="use auto, cpu, cuda or cuda:0")
    if device.type == "cpu":
        keep_freed_memory()
    return device
