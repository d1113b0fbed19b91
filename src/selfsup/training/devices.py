"""What this machine can do: number formats, and the rate of its matrix products."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import torch

from selfsup.errors import UserError
from selfsup.training import distributed

_PROBE_SECONDS = 0.15
_GAIN = 1.15  # bf16 must be this much faster before `auto` takes it


@dataclass(frozen=True)
class Precision:
    """The number format of a run, and why."""

    dtype: torch.dtype
    reason: str
    peak: float
    """Measured rate of a plain matrix product in this format, FLOP/s; 0 when not measured."""

    @property
    def name(self) -> str:
        """`fp32` or `bf16`."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The context in which the model runs."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(device.type, self.dtype)


@lru_cache(maxsize=8)
def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a plain matrix product, the best of a few; takes about a fifth of a second."""
    best = 0.0
    generator = torch.Generator(device).manual_seed(0)  # the global one stays as it is
    # the small one first: without units for it, bf16 can be a hundred times slower than fp32
    for size in (256, 4096) if device.type == "cuda" else (256, 1024):
        a = torch.randn(size, size, device=device, generator=generator).to(dtype)
        began = time.perf_counter()
        for _ in range(8):
            started = time.perf_counter()
            _ = a @ a
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
            if time.perf_counter() - began > _PROBE_SECONDS:
                return best
    return best


def check_precision(name: str) -> None:
    """Refuse what is no number format of ours.

    Raises:
        UserError: another name.
    """
    if name not in ("fp32", "bf16", "auto"):
        mend = "use fp32, bf16 or auto"
        raise UserError(f"unknown precision '{name}'", where="--precision", mend=mend)


def choose_precision(name: str, device: torch.device) -> Precision:
    """fp32 or bf16; `auto` takes bf16 where a short probe shows that it is faster.

    Raises:
        UserError: another name.
    """
    check_precision(name)
    if name == "fp32":
        return Precision(torch.float32, "asked for", product_rate(device, torch.float32))
    if name == "bf16":
        return Precision(torch.bfloat16, "asked for", product_rate(device, torch.bfloat16))
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        reason = "this GPU has no bf16"
        return Precision(torch.float32, reason, product_rate(device, torch.float32))
    full, half = product_rate(device, torch.float32), product_rate(device, torch.bfloat16)
    reason = f"a probe gave {half / 1e9:,.0f} GFLOP/s in bf16 and {full / 1e9:,.0f} in fp32"
    if agreed(half > _GAIN * full):
        return Precision(torch.bfloat16, reason, half)
    return Precision(torch.float32, reason, full)


def agreed(mine: bool) -> bool:
    """True when every process says so."""
    votes = torch.tensor(float(mine), dtype=torch.float64)
    return float(distributed.add_up(votes)) >= distributed.world_size()


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed the global generators of the processor and of a device.

    As `torch.manual_seed`, without its word to every kind of device that is not there, which costs a CPU
    that takes small steps more than some of its products.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
