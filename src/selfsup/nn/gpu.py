"""Whether this GPU runs kernels of our own."""

from __future__ import annotations

import importlib.util
import os
import shutil
from functools import lru_cache

import torch


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton can build and run kernels for a device; elsewhere torch's own operators do."""
    return device.type == "cuda" and _runs_kernels(device.index)


@lru_cache(maxsize=16)
def _runs_kernels(index: int | None) -> bool:
    if importlib.util.find_spec("triton") is None or torch.version.hip is not None:
        return False
    # Triton builds a small launcher in C for each kernel
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    return compiler is not None and torch.cuda.get_device_capability(index) >= (8, 0)
