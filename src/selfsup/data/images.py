"""Images: folders of pictures, arrays of pixels, and the contract that travels with a model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfsup.data.columns import fits
from selfsup.data.files import import_extra, listed
from selfsup.data.paths import files_below
from selfsup.errors import UserError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
_LONGEST_SIDE = 32
"""Of a picture, in shorter sides; of a longer one the middle is taken before it is scaled."""
_OVERRUN = 1.5
"""New values may lie outside the range by this share before they are refused."""


@dataclass(frozen=True)
class ImageSpec:
    """What the images of a model are: channels, size, and the range that becomes 0 to 1."""

    channels: int
    height: int
    width: int
    low: float
    high: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width

    @classmethod
    def fit(cls, images: NDArray[Any], where: str = "") -> ImageSpec:
        """The contract of images (count, channels, height, width); bytes span 0 to 255.

        Args:
            images: of training.
            where: what they are called in messages.

        Raises:
            UserError: values that are no numbers.
        """
        if images.dtype == np.uint8:
            low, high = 0.0, 255.0
        else:
            low, high = float(images.min()), float(images.max())
            if not fits(np.array([low, high, high - low])).all():
                fine = fits(images).reshape(len(images), -1).all(axis=1)
                which = f"image {fine.argmin() + 1} holds" if not fine.all() else "the images hold"
                what = f"{which} values that are no finite numbers (of float32)"
                raise UserError(what, where=where, mend="mend them, or leave such images out")
            if low >= 0 and 0.5 < high <= 1:
                low, high = 0.0, 1.0
            if high <= low:
                high = low + 1.0
        channels, height, width = images.shape[1:]
        return cls(channels, height, width, low, high)

    def transform(self, images: Any, where: str = "") -> NDArray[np.float32]:
        """Images as the model takes them.

        Args:
            images: (count, channels, height, width), (count, height, width, channels) or, of one
                channel, (count, height, width).
            where: what they are called in messages.

        Returns:
            (count, channels, height, width), from 0 to 1.

        Raises:
            UserError: another size, another number of channels or another range.
        """
        array = channels_first(np.asarray(images), where)
        if array.shape[1:] != self.shape:
            raise UserError(
                f"images of {_size(array.shape[1:])}, the model takes {_size(self.shape)}",
                where=where,
                mend="scale or convert them first",
            )
        if len(array):
            ends = (float(array.min()), float(array.max()))
            least, most = ((end - self.low) / (self.high - self.low) for end in ends)
            if not (least >= 1 - _OVERRUN and most <= _OVERRUN):
                raise UserError(
                    f"values from {array.min():g} to {array.max():g}, "
                    f"the model takes {self.low:g} to {self.high:g}",
                    where=where,
                    mend="bring them to that range",
                )
        scaled = (array.astype(np.float32) - self.low) / (self.high - self.low)
        return scaled.astype(np.float32, copy=False)

    def check_range(self, images: NDArray[Any], where: str = "") -> None:
        """Refuse a file of fractions for a model of bytes; `transform` finds values that are too large.

        Bytes are never refused, since a dark picture has small ones only; nor are images that are black.

        Raises:
            UserError: the model takes 0 to 255, and these are real numbers (or truth values) from -1 to 1.
        """
        bytes_taken = (self.low, self.high) == (0.0, 255.0)
        if not bytes_taken or not images.size or images.dtype.kind not in "fb":
            return
        least, most = float(images.min()), float(images.max())
        if least >= -1 and most <= 1 and (least, most) != (0.0, 0.0):
            scale = "multiply them by 255" if least >= 0 else "bring them to that range"
            raise UserError(
                f"values from {least:g} to {most:g}, the model takes {self.low:g} to {self.high:g}",
                where=where,
                mend=f"{scale}, or save them as bytes (uint8) if they are as dark as that",
            )

    def inverse(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Images from 0 to 1 in their own range, (count, channels, height, width)."""
        back: NDArray[np.float32] = images * np.float32(self.high - self.low) + np.float32(self.low)
        return back

    def state(self) -> dict[str, Any]:
        """Everything, as JSON knows it."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ImageSpec:
        """What `state` gave, back again."""
        return cls(**state)


def _size(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{width} x {height} with {channels} channel{'s' if channels > 1 else ''}"


def channels_first(array: NDArray[Any], where: str = "") -> NDArray[Any]:
    """Images as (count, channels, height, width), whichever way they were given.

    Without 1, 3 or 4 channels at either place the first one has them, which is refused where the last one is
    the smallest.

    Raises:
        UserError: neither three nor four dimensions, channels that cannot be told, or values that are no
            numbers.
    """
    if array.dtype.kind not in "uifb":
        raise UserError(f"images are numbers, these are {array.dtype}", where=where)
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        what = f"images have three or four dimensions, these have {array.ndim}"
        raise UserError(what, where=where)
    _, first, middle, end = array.shape
    last = end in (1, 3, 4) and first not in (1, 3)
    if not last and first not in (1, 3, 4) and end < min(first, middle):
        what = f"which of {first} x {middle} x {end} are the channels cannot be told"
        mend = "give 1, 3 or 4 of them, or arrays of (count, channels, height, width)"
        raise UserError(what, where=where, mend=mend)
    return array.transpose(0, 3, 1, 2) if last else array


def find_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, searched to the bottom, sorted; what selfsup wrote is left out.

    Raises:
        UserError: there are none.
    """
    found = sorted(
        p
        for p in files_below(folder)
        if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")
    )
    if not found:
        names = sorted(item.name for item in folder.iterdir())
        what = f"the folder holds no picture ({', '.join(PICTURE_SUFFIXES)})"
        raise UserError(what, where=str(folder), mend=f"there is {listed(names)}")
    return found


def read_pictures(
    files: Sequence[Path], size: int | None = None, color: Literal["auto", "grey", "rgb"] = "auto"
) -> NDArray[np.uint8]:
    """Pictures as one array.

    Args:
        files: where they are.
        size: scale the shorter side to this and crop the middle square; None: all must be equal.
        color: channels; `auto`: grey when every picture is.

    Returns:
        (count, channels, height, width), 0 to 255.

    Raises:
        UserError: a file that is no picture, or pictures of several sizes without `size`.
    """
    library = import_extra("PIL.Image", "media", str(files[0]))
    with warnings.catch_warnings():  # large pictures are no attack; huge ones are refused
        warnings.simplefilter("ignore", library.DecompressionBombWarning)
        pictures = [_read_picture(library, file, size) for file in files]
    if color == "auto":
        color = "grey" if all(p.mode in ("1", "L", "LA") for p in pictures) else "rgb"
    arrays = []
    for file, picture in zip(files, pictures, strict=True):
        array = np.asarray(picture.convert("L" if color == "grey" else "RGB"))
        arrays.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
        if arrays[-1].shape != arrays[0].shape:
            raise UserError(
                f"it has {_size(arrays[-1].shape)}, '{files[0].name}' {_size(arrays[0].shape)}",
                where=str(file),
                mend="let them be scaled to one size (`--size 64`, in training of an auto-encoder "
                "`--data.size 64`), or scale them first",
            )
    return np.stack(arrays)


def _read_picture(library: Any, file: Path, size: int | None) -> Any:
    try:
        with library.open(file) as opened:
            opened.load()
            picture = opened.copy()
    except library.DecompressionBombError:
        what = "would be a picture of more than 178 million pixels"
        raise UserError(what, where=str(file), mend="scale it down, or remove it") from None
    except (OSError, ValueError, SyntaxError) as error:
        what = f"cannot be read as a picture ({error})"
        raise UserError(what, where=str(file), mend="remove it, or mend it") from None
    if picture.mode.startswith("I;16"):  # 16 bits a pixel; `convert` would cut them off at 255
        picture = library.fromarray((np.asarray(picture) // 257).astype(np.uint8))
    if picture.mode in ("I", "F"):
        what = "has 32 bits a pixel, and its range is not known"
        raise UserError(what, where=str(file), mend="save it with 8 or 16 bits, or give an array")
    if size is None:
        return picture
    if picture.mode in ("P", "RGBA", "CMYK"):
        picture = picture.convert("RGB")
    if max(picture.size) > _LONGEST_SIDE * min(
        picture.size
    ):  # scaled as a whole, it could fill memory
        picture = _middle(picture, _LONGEST_SIDE * min(picture.size))
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), library.Resampling.LANCZOS)
    return _middle(picture, size)


def _middle(picture: Any, longest: int) -> Any:
    """The middle of a picture, its sides at most so long."""
    width, height = (min(side, longest) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
