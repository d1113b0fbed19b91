"""What an auto-encoder learns from: any file as examples, the spec that fits them, and their split."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.autoencoder_config import ObservationConfig
from selfsup.data.arrays import array_names, is_array_file, read_array
from selfsup.data.columns import as_columns, as_texts, no_such_column, refuse_complex
from selfsup.data.feature_tables import LIMIT, FeatureTable
from selfsup.data.images import ImageSpec, channels_first, find_pictures, read_pictures
from selfsup.data.keys import uniform
from selfsup.data.paths import expanded
from selfsup.data.tables import TABLE_SUFFIXES, read_table
from selfsup.errors import UserError

Spec = ImageSpec | FeatureTable
"""What the examples of a model are, and how they become tensors and come back."""

_SPLIT = 20261124


@dataclass(frozen=True)
class Observations:
    """Examples as they were read."""

    values: Any
    """Images (count, channels, height, width), or a table: an array or a mapping of columns."""
    labels: tuple[str, ...] | None
    """The classes, where they were asked for."""
    where: str
    files: tuple[str, ...] = ()
    """Of a folder of pictures, their paths in it."""

    @property
    def images(self) -> bool:
        """Whether these are images."""
        return isinstance(self.values, np.ndarray) and self.values.ndim == 4

    def __len__(self) -> int:
        if isinstance(self.values, Mapping):
            return len(next(iter(self.values.values())))
        return len(self.values)

    def take(self, rows: NDArray[np.int64]) -> Observations:
        """Some of the examples, in the order of `rows`."""
        labels = None if self.labels is None else tuple(self.labels[i] for i in rows)
        if isinstance(self.values, Mapping):
            values: Any = {name: column[rows] for name, column in self.values.items()}
        else:
            values = self.values[rows]
        files = tuple(self.files[i] for i in rows) if self.files else ()
        return Observations(values, labels, self.where, files)


def read_observations(
    config: ObservationConfig, settled: Callable[[str], bool] = lambda _: False
) -> Observations:
    """The examples of a file or folder.

    Args:
        config: where they are, and how they are read.
        settled: which columns of a table become numbers while they are read (`read_table`); its labels
            never do.

    Raises:
        UserError: nothing there, another format, or labels that do not fit.
    """
    if not config.path:
        raise UserError("no data given", mend="--data FILE or FOLDER")
    path = expanded(config.path)
    if path.is_dir():
        found = _from_folder(path, config)
    elif not path.exists():
        raise UserError("no such file or folder", where=config.path)
    elif is_array_file(path):
        found = _from_array(path, config)
    elif path.suffix.lower() in TABLE_SUFFIXES or path.name.lower().endswith(
        tuple(s + ".gz" for s in TABLE_SUFFIXES)
    ):
        found = _from_table(path, config, settled)
    else:
        known = ".npy, .npz, IDX, .csv, .tsv, .jsonl, .parquet, or a folder of pictures"
        raise UserError(
            "this kind of file cannot be read", where=config.path, mend=f"known: {known}"
        )
    if config.rows is not None and len(found) > config.rows:
        found = found.take(np.arange(config.rows))
    if len(found) == 0:
        raise UserError("there are no examples", where=config.path)
    return found


def check_reading(config: ObservationConfig, before: str) -> None:
    """Refuse settings that would do nothing for such a file.

    Args:
        config: of the examples.
        before: what stands before a setting's name on the command line.

    Raises:
        UserError: with the flag.
    """
    path = expanded(config.path)
    if not path.exists():
        return  # reading says so
    folder, file = path.is_dir(), path.is_file()
    idle = {
        "size": file and config.size is not None,
        "color": file and config.color != "auto",
        "key": bool(config.key) and path.suffix.lower() != ".npz",
        "ignore": bool(config.ignore) and (folder or is_array_file(path)),
    }
    about = {
        "size": "a folder of pictures",
        "color": "a folder of pictures",
        "key": "an .npz file",
        "ignore": "a table with a header",
    }
    for name in (name for name, given in idle.items() if given):
        what = f"is about {about[name]}, which '{config.path}' is not"
        raise UserError(what, where=f"{before}{name}", mend="leave it out")


def _from_folder(path: Path, config: ObservationConfig) -> Observations:
    files = find_pictures(path)[: config.rows]
    labels = None
    if config.labels == "folder":
        labels = tuple(file.parent.name for file in files)
    elif config.labels:
        what = f"'{config.labels}' is nothing that a folder of pictures has"
        mend = "labels are `folder`: the names of their folders"
        raise UserError(what, where=config.path, mend=mend)
    names = tuple(str(file.relative_to(path)) for file in files)
    return Observations(read_pictures(files, config.size, config.color), labels, config.path, names)


def _from_array(path: Path, config: ObservationConfig) -> Observations:
    key, names = config.key, []
    if path.suffix.lower() == ".npz":
        names = array_names(path)
        others = [name for name in names if name != config.labels]
        key = key or (others[0] if len(others) == 1 else "")
    array = read_array(path, key)
    refuse_complex(array, config.path)
    if 0 in array.shape[1:]:
        what = f"its examples hold no values: the array is {' x '.join(map(str, array.shape))}"
        raise UserError(what, where=config.path)
    labels = None
    if config.labels:
        found = read_array(path, config.labels) if config.labels in names else None
        if found is None:
            found = read_array(expanded(config.labels))
        if found.shape != (len(array),):
            what = f"the labels have shape {found.shape}, the data {len(array)} examples"
            raise UserError(what, where=config.labels)
        labels = tuple(str(value) for value in found.tolist())
    images = config.kind == "images" or (config.kind == "auto" and array.ndim in (3, 4))
    if images:
        return Observations(channels_first(array, config.path), labels, config.path)
    if array.ndim > 2 and config.kind == "table":
        array = array.reshape(len(array), -1)
    if array.ndim != 2:
        what = f"an array of {array.ndim} dimensions is neither a table nor images"
        raise UserError(what, where=config.path)
    return Observations(array, labels, config.path)


def _from_table(
    path: Path, config: ObservationConfig, settled: Callable[[str], bool]
) -> Observations:
    columns = read_table(path, lambda name: name != config.labels and settled(name))
    labels = None
    for name in (*config.ignore, *([config.labels] if config.labels else [])):
        if name not in columns:
            raise no_such_column(name, list(columns), config.path)
    if config.labels:
        labels = tuple(text or "" for text in as_texts(columns[config.labels]))
    left = {n: c for n, c in columns.items() if n != config.labels and n not in config.ignore}
    if not left:
        raise UserError("no column is left to learn from", where=config.path)
    return Observations(as_columns(left, config.path), labels, config.path)


def fit_spec(observations: Observations, config: ObservationConfig) -> Spec:
    """What these examples are: learnt from them alone."""
    if observations.images:
        return ImageSpec.fit(observations.values, observations.where)
    table = FeatureTable(
        scaling=config.scaling,
        limit=0.0 if config.scaling == "none" else LIMIT,
        missing=config.missing,
        infinite=config.infinite,
        categorical=config.categorical,
    )
    return table.fit(observations.values, observations.where)


def spec_shape(spec: Spec) -> tuple[int, ...]:
    """The shape of one example as the model takes it."""
    return spec.shape if isinstance(spec, ImageSpec) else (spec.width,)


def spec_state(spec: Spec) -> dict[str, Any]:
    """A spec as JSON knows it."""
    return {"kind": "image" if isinstance(spec, ImageSpec) else "table", **spec.state()}


def spec_from_state(state: Mapping[str, Any]) -> Spec:
    """What `spec_state` gave, back again."""
    rest = {name: value for name, value in state.items() if name != "kind"}
    return ImageSpec.from_state(rest) if state["kind"] == "image" else FeatureTable.from_state(rest)


def digests(observations: Observations) -> NDArray[np.uint64]:
    """(count,) a number for each example's content; equal examples have equal ones."""
    if observations.images:
        rows = [np.ascontiguousarray(image).tobytes() for image in observations.values]
    else:
        columns = as_columns(observations.values, observations.where)
        numbers = [_column_digest(column) for column in columns.values()]
        rows = [row.tobytes() for row in np.stack(numbers, axis=1)]
    return np.array(
        [int.from_bytes(hashlib.blake2b(row, digest_size=8).digest(), "little") for row in rows],
        np.uint64,
    )


def whole_digest(observations: Observations) -> str:
    """16 hexadecimal digits of what the examples and their labels are, wherever their file lies."""
    found = hashlib.sha256(digests(observations).tobytes())
    if observations.labels is not None:
        found.update(repr(observations.labels).encode(errors="surrogatepass"))
    return found.hexdigest()[:16]


def _column_digest(column: NDArray[Any]) -> NDArray[np.float64]:
    if column.dtype.kind in "fiub":
        return column.astype(np.float64)
    return np.array([zlib.crc32(str(value).encode()) for value in column], np.float64)


def split(
    observations: Observations, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Which examples are trained on and which are held out, by content, and a digest of them all.

    Both in an order that is drawn by their content too, so that the first so many are a fair sample of
    files that are sorted.  Equal examples fall on the same side.  Where the share of few examples is
    none, the one with the smallest draw is held out.

    Raises:
        UserError: fewer than two different examples.
    """
    content = digests(observations)
    drawn = uniform(_SPLIT, content)
    held = drawn < share
    if not held.any():
        held = content == content[drawn.argmin()]
    if held.all():
        what = "fewer than two different examples: none would be left to train on"
        raise UserError(what, where=observations.where)
    whole = hashlib.sha256(content.tobytes()).hexdigest()[:16]
    order = np.argsort(drawn, kind="stable")
    return order[~held[order]], order[held[order]], whole
