"""Arrays from files: `.npy`, `.npz` and IDX (MNIST's format), packed or not.  No pickle is read."""

from __future__ import annotations

import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.data.files import open_bytes, plain_suffix
from selfsup.errors import UserError, nearest

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_array_file(path: Path) -> bool:
    """Whether `read_array` knows the file, by its suffix or, of IDX, by its name."""
    return path.suffix.lower() in (".npy", ".npz") or is_idx(path)


def is_idx(path: Path) -> bool:
    """Whether the file is called as IDX files are: `train-images-idx3-ubyte.gz`, `x.idx`."""
    stem = path.name.lower().removesuffix(".gz")
    return plain_suffix(path).startswith(".idx") or any(
        f"-idx{n}-" in stem or f".idx{n}-" in stem for n in range(1, 5)
    )


def read_array(path: Path, key: str = "") -> NDArray[Any]:
    """The array in a file.

    Args:
        path: an `.npy`, `.npz` or IDX file.
        key: which array of an `.npz`; may be left out when it holds one.

    Raises:
        UserError: no such file or array, a pickle, or a damaged file.
    """
    if not path.is_file():
        raise UserError("no such file", where=str(path))
    if not is_array_file(path):
        raise UserError("this is no array", where=str(path), mend="known: .npy, .npz, IDX")
    if is_idx(path):
        return read_idx(path)
    try:
        opened = np.load(path, allow_pickle=False, mmap_mode="r" if path.suffix == ".npy" else None)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            return np.asarray(opened)
        with opened as file:
            names = list(file.files)
            return np.asarray(file[_chosen(names, key, path)])
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        said = str(error)
        if said.startswith("Object arrays") or "Python objects" in said:
            what = "it holds Python objects, which can run code when they are read"
            raise UserError(what, where=str(path), mend="save numbers alone") from None
        if "pickle" in said:  # so NumPy calls whatever it does not know
            said = "its first bytes are others"
        what = f"not a whole {path.suffix} file ({said})"
        raise UserError(what, where=str(path), mend="fetch or write it again") from None


def array_names(path: Path) -> list[str]:
    """The names of the arrays in an `.npz` file."""
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise UserError("it holds a single array, as .npy files do", where=str(path))
        with opened as file:
            return list(file.files)
    except (ValueError, OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"not a whole .npz file ({error})", where=str(path)) from None


def _chosen(names: list[str], key: str, path: Path) -> str:
    if key in names:
        return key
    known = ", ".join(names)
    if key:
        mend = nearest(key, names) or f"it has {known}"
        raise UserError(f"there is no array '{key}'", where=str(path), mend=mend)
    if len(names) != 1:
        what = f"it holds {len(names)} arrays ({known})"
        raise UserError(
            what,
            where=str(path),
            mend="choose one by its name (`--key`, in training of an auto-encoder `--data.key`)",
        )
    return names[0]


def read_idx(path: Path) -> NDArray[Any]:
    """The array of an IDX file (LeCun, Cortes and Burges, MNIST).

    Raises:
        UserError: another format, or fewer values than the header promises.
    """
    try:
        with open_bytes(path) as file:
            data = file.read()
    except (OSError, EOFError) as error:
        raise UserError(f"cannot be read ({error})", where=str(path)) from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise UserError("not an IDX file (its first bytes are others)", where=str(path))
    kind, dimensions = np.dtype(_IDX_TYPES[data[2]]), data[3]
    start = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", data[4:start]) if len(data) >= start else (-1,)
    if len(data) - start != math.prod(shape) * kind.itemsize:
        what = f"it should hold {' x '.join(map(str, shape))} values and does not"
        raise UserError(what, where=str(path), mend="it is truncated; fetch it again")
    return np.frombuffer(data, kind, offset=start).reshape(shape)
