"""Galleries: images of a model in rows, as one PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.data.files import import_extra, whole_file

_GAP = 2
_TALL = 56


def in_rows(images: NDArray[Any]) -> NDArray[Any]:
    """(rows, columns, …) of images (count, …), nearly as many of each; places left over are white."""
    across = max(1, round(len(images) ** 0.5))
    filler = np.ones((-len(images) % across, *images.shape[1:]), images.dtype)
    return np.concatenate([images, filler]).reshape(-1, across, *images.shape[1:])


def save_gallery(path: Path, rows: NDArray[Any]) -> None:
    """Write images as a grid, small ones enlarged by whole numbers.

    Args:
        path: the PNG.
        rows: (rows, columns, channels, height, width), from 0 to 1.
    """
    library = import_extra("PIL.Image", "media", str(path))
    count, across, channels, height, width = rows.shape
    zoom = max(1, _TALL // height)
    values = np.rint(np.clip(rows, 0, 1) * 255).astype(np.uint8)
    values = values.repeat(zoom, axis=3).repeat(zoom, axis=4)
    high, wide = height * zoom + _GAP, width * zoom + _GAP
    canvas = np.full((count * high + _GAP, across * wide + _GAP, 3), 255, np.uint8)
    for i in range(count):
        for j in range(across):
            image = values[i, j] if channels >= 3 else values[i, j, :1].repeat(3, 0)
            top, left = _GAP + i * high, _GAP + j * wide
            area = canvas[top : top + height * zoom, left : left + width * zoom]
            area[:] = image[:3].transpose(1, 2, 0)
    with whole_file(path) as beside:
        library.fromarray(canvas).save(beside, format="PNG")
