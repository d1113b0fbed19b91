"""In which number format products are taken, and of how many rows."""

from __future__ import annotations

import torch
from torch import Tensor


def product_dtype(x: Tensor) -> torch.dtype:
    """The format of a product with x: autocast's, where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def plans_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a new number of rows costs time before the first product."""
    return device.type == "cpu" and dtype == torch.bfloat16


def planned_rows(rows: int) -> int:
    """Rows up to which a product on a CPU is filled: at most an eighth more, of few different numbers.

    oneDNN plans a bfloat16 product anew for each number of rows: small ones took 3 to 14 ms the first
    time and 1 ms from then on (docs/log.md).
    """
    step = max(8, 1 << max(0, rows.bit_length() - 4))
    return -(-rows // step) * step
