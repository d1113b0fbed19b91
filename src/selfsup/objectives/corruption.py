"""What is hidden from the encoder: pure functions of an example and a key."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from selfsup.autoencoder_config import AffineConfig, CorruptionConfig
from selfsup.data.feature_tables import Block
from selfsup.data.keys import Key, uniform
from selfsup.data.sampler import Examples

Floats = NDArray[np.float32]

_NOISE, _WHERE, _WHICH, _CODE, _NEIGHBOUR = 1, 2, 3, 4, 5
"""What a draw is for; draws for different ends are independent."""


def draws(examples: Examples, key: Key, purpose: int, count: int) -> NDArray[np.float64]:
    """(batch, count) uniform numbers in [0, 1) that depend on example, epoch and key alone."""
    return uniform(
        key.seed,
        key.purpose * 16 + purpose,
        examples.epochs[:, None],
        examples.rows[:, None],
        np.arange(count)[None],
    )


def code_noise(examples: Examples, key: Key, count: int) -> Floats:
    """(batch, count) uniform numbers for the bottleneck."""
    return draws(examples, key, _CODE, count).astype(np.float32)


def drawn_neighbours(
    neighbours: NDArray[np.int64], examples: Examples, key: Key
) -> NDArray[np.int64]:
    """(batch,) for each example itself or one of its neighbours, all as likely.

    Args:
        neighbours: (all examples, k) the neighbours of each.
        examples: which ones.
        key: of the draws.
    """
    which = (draws(examples, key, _NEIGHBOUR, 1)[:, 0] * (neighbours.shape[1] + 1)).astype(np.int64)
    own = examples.rows[:, None]
    choices = np.concatenate([own, neighbours[examples.rows]], axis=1)
    chosen: NDArray[np.int64] = choices[np.arange(len(choices)), which]
    return chosen


def normal_draws(uniforms: NDArray[np.float64]) -> Floats:
    """Standard normal numbers from uniform ones."""
    clamped = torch.from_numpy(uniforms).clamp(1e-12, 1 - 1e-12)
    drawn: Floats = torch.special.ndtri(clamped).float().numpy()
    return drawn


def corrupt(
    config: CorruptionConfig,
    x: Floats,
    examples: Examples,
    key: Key,
    blocks: Sequence[Block] = (),
) -> Floats:
    """Examples as the encoder shall see them.

    Args:
        config: what is done.
        x: (batch, …) clean examples; not changed.
        examples: which ones they are.
        key: of the draws.
        blocks: of a table's columns: what is hidden is hidden as a whole, and only numbers get noise.

    Returns:
        The same shape.
    """
    if config.kind == "none":
        return x
    if config.kind == "affine":
        return _turned(config, x, draws(examples, key, _NOISE, 4))
    if config.kind == "gaussian":
        size = math.prod(x.shape[1:])
        noise = normal_draws(draws(examples, key, _NOISE, size)).reshape(x.shape)
        scale = np.float32(config.sigma) * _noisy(blocks, size).reshape(1, *x.shape[1:])
        noised: Floats = x + scale * noise
        return noised
    if config.kind == "patches":
        chosen = _patches(config.size, config.rate, x.shape, examples, key)
        return np.where(chosen, np.float32(0), x)
    chosen = _chosen(config.rate, x, examples, key, blocks)
    if config.kind == "masking":
        return np.where(chosen, np.float32(0), x)
    flat = draws(examples, key, _WHICH, math.prod(x.shape[1:])).reshape(x.shape) < 0.5
    low, high = (-3.0, 3.0) if blocks else (0.0, 1.0)
    extreme = np.where(flat, np.float32(low), np.float32(high))
    return (
        np.where(chosen & _noisy(blocks, x.shape[-1]).astype(bool), extreme, x)
        if blocks
        else (np.where(chosen, extreme, x))
    )


def _noisy(blocks: Sequence[Block], size: int) -> Floats:
    """(size,) 1 where a value is a number (everywhere in an image), else 0."""
    if not blocks:
        return np.ones(size, np.float32)
    noisy = np.zeros(size, np.float32)
    for block in blocks:
        if block.kind == "number":
            noisy[block.start] = 1
    return noisy


def _chosen(
    rate: float, x: Floats, examples: Examples, key: Key, blocks: Sequence[Block]
) -> NDArray[np.bool_]:
    """Which values of the examples are hit; of a table whole columns, of an image whole pixels."""
    if blocks:
        names = list(dict.fromkeys(block.name for block in blocks))
        hit = draws(examples, key, _WHERE, len(names)) < rate
        columns = np.zeros(x.shape[1], np.int64)
        for block in blocks:
            columns[block.start : block.stop] = names.index(block.name)
        return hit[:, columns]
    if x.ndim == 4:
        pixels = draws(examples, key, _WHERE, x.shape[2] * x.shape[3]) < rate
        return pixels.reshape(len(x), 1, x.shape[2], x.shape[3])
    return draws(examples, key, _WHERE, math.prod(x.shape[1:])).reshape(x.shape) < rate


def _patches(
    size: int, rate: float, shape: Sequence[int], examples: Examples, key: Key
) -> NDArray[np.bool_]:
    rows, columns = -(-shape[2] // size), -(-shape[3] // size)
    hit = (draws(examples, key, _WHERE, rows * columns) < rate).reshape(-1, rows, columns)
    grown = hit.repeat(size, axis=1).repeat(size, axis=2)
    return grown[:, None, : shape[2], : shape[3]]


def _turned(config: AffineConfig, x: Floats, drawn: NDArray[np.float64]) -> Floats:
    """Images turned, scaled and moved, by bilinear interpolation; what comes from outside is 0."""
    centered = 2 * drawn - 1
    angle = np.deg2rad(config.degrees) * centered[:, 0]
    scale = 1 / (1 + config.scale * centered[:, 1])
    aspect = x.shape[2] / x.shape[3]
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.empty((len(x), 2, 3), np.float32)
    matrix[:, 0] = np.stack([cosine, -sine * aspect, 2 * config.shift * centered[:, 2]], 1)
    matrix[:, 1] = np.stack([sine / aspect, cosine, 2 * config.shift * centered[:, 3]], 1)
    grid = F.affine_grid(torch.from_numpy(matrix), list(x.shape), align_corners=False)
    out: Floats = F.grid_sample(torch.from_numpy(x), grid, align_corners=False).numpy()
    return out
