"""Training the ensemble: every member learns to give back rows behind noise and masks.

A function of its own instead of the one `Loop`: the whole training takes a fraction of a second, of
which the loop's bookkeeping would be most (docs/decisions/0009-detection.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.errors import NonFiniteLoss
from selfsup.models.autoencoder_ensemble import AutoEncoderEnsemble

CLIP = 5.0
"""The network sees scaled values up to here only, so that one outlier cannot decide its weights."""
NOISE, MASKED = 0.2, 0.6
"""Deviation of the noise; the share of columns hidden is drawn from 0 to `MASKED` for each row."""


def train_ensemble(
    model: AutoEncoderEnsemble,
    rows: NDArray[np.float64],
    folds: NDArray[np.int64],
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    corruption: float,
    generator: torch.Generator,
) -> None:
    """Train in place.  Member m sees the rows whose fold is not m.

    Args:
        model: the ensemble.
        rows: (rows, width), scaled.
        folds: (rows,) which member leaves a row out; -1: none.
        steps: updates, at a rate that falls to zero.
        batch_size: rows of a step, for each member.
        learning_rate: the first one, of Adam.
        corruption: factor of noise and masks.
        generator: draws rows, noise and masks, on the CPU.

    Raises:
        NonFiniteLoss: training diverged.
    """
    device = model.encoder_weight.device
    draw: dict[str, Any] = {"generator": generator, "device": "cpu"}  # whatever default is set
    data = torch.from_numpy(np.clip(rows, -CLIP, CLIP).astype(np.float32))
    seen = [np.flatnonzero(folds != m) for m in range(model.members)]
    counts = torch.tensor([len(s) for s in seen], dtype=torch.float64, device="cpu")
    longest = max(len(s) for s in seen)
    table = torch.zeros(model.members, longest, dtype=torch.int64, device="cpu")
    for member, own in enumerate(seen):
        table[member, : len(own)] = torch.from_numpy(own)
    size = min(batch_size, table.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    loss = torch.zeros((), dtype=torch.float32, device="cpu")
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        drawn = torch.rand(model.members, size, **draw, dtype=torch.float64)
        x = data[table.gather(1, (drawn * counts[:, None]).long())]
        share = torch.rand((*x.shape[:2], 1), **draw, dtype=x.dtype)
        kept = torch.rand(x.shape, **draw, dtype=x.dtype) >= share * MASKED * corruption
        noise = torch.randn(x.shape, **draw, dtype=x.dtype)
        noisy = torch.add(x, noise, alpha=corruption * NOISE).mul_(kept)
        loss = model.differentiate(noisy.to(device), x.to(device))
        optimizer.step()
    model.eval()
    if steps and not bool(torch.isfinite(loss)):
        mend = "lower the learning rate"
        raise NonFiniteLoss("training the detector diverged", mend=mend)
