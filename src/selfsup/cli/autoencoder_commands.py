"""The verbs about auto-encoders.  Each reads its flags and calls one function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.flags import Device, Json, Model, Overwrite, PlaceOf, about, words
from selfsup.data.outputs import check_output
from selfsup.errors import UserError, at_least, check_seed

if TYPE_CHECKING:
    from selfsup.autoencoder_config import ObservationConfig
    from selfsup.data.observations import Observations
    from selfsup.models.autoencoder import AutoEncoder

Examples = Annotated[
    str,
    Parameter(
        name=["--data", "-d"], help="An array, a table or a folder of pictures, as in training."
    ),
]
_TRAVERSED = 2000
_READING = Group("Reading", sort_key=1)
Output = Annotated[Path, PlaceOf, Parameter(name=["--output", "-o"], help="The file to write.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ReadingFlags:
    """How examples are read; what the model was trained with must be said again."""

    key: Annotated[str, Parameter(group=_READING, help="The array of an .npz file.")] = ""
    size: Annotated[
        int | None,
        Parameter(group=_READING, help="Scale and crop pictures to this square [as is]."),
    ] = None
    color: Annotated[
        Literal["auto", "grey", "rgb"],
        Parameter(group=_READING, help="Channels of pictures [auto: grey when all are]."),
    ] = "auto"
    ignore: Annotated[
        str, Parameter(group=_READING, help="Columns that are not read, `a,b` [none].")
    ] = ""


def read_examples(
    data: str, reading: ReadingFlags | None, labels: str = "", rows: int | None = None
) -> ObservationConfig:
    """`--data` and the flags about it, checked.

    Raises:
        UserError: a size that pictures cannot have, or a flag that is not for such a file.
    """
    from selfsup.autoencoder_config import ObservationConfig
    from selfsup.data.observations import check_reading

    flags = reading or ReadingFlags()
    if flags.size is not None:
        at_least(4, flags.size, "--size")
    ignored = tuple(words(flags.ignore))
    chosen = ObservationConfig(
        path=data,
        key=flags.key,
        size=flags.size,
        color=flags.color,
        ignore=ignored,
        labels=labels,
        rows=rows,
    )
    check_reading(chosen, "--")
    return chosen


def _read(
    data: str, reading: ReadingFlags | None, labels: str = "", rows: int | None = None
) -> Observations:
    from selfsup.data.observations import read_observations

    return read_observations(read_examples(data, reading, labels, rows))


def _load(model: str, device: str) -> AutoEncoder:
    from selfsup.models.autoencoder_hub import load_autoencoder

    return load_autoencoder(model, device)


def _open(
    model: str, data: str, device: str, reading: ReadingFlags | None, rows: int | None = None
) -> tuple[AutoEncoder, Any]:
    from selfsup.uses.codes import inputs

    opened = _load(model, device)
    return opened, inputs(opened, _read(data, reading, rows=rows))


def _some(given: Observations) -> Observations:
    """At most 2,000 examples, drawn over the whole: a file may be sorted."""
    import numpy as np

    if len(given) <= _TRAVERSED:
        return given
    return given.take(
        np.sort(np.random.default_rng(0).choice(len(given), _TRAVERSED, replace=False))
    )


def _images(model: AutoEncoder) -> None:
    if len(model.input_shape) != 3:
        what = "pictures need a model of images, this one's are rows of a table"
        raise UserError(what, mend="`encode`, `decode` and `cluster` are for those too")


def _fewer(asked: int, drawn: int, what: str, source: str = "the data are") -> None:
    """Say that there is not as much as was asked for."""
    if drawn < asked:
        render.note(f"{asked:,} {what} were asked for, {source} enough for {drawn:,}")


def encode(
    model: Model,
    /,
    *,
    data: Examples,
    output: Output,
    indices: Annotated[
        bool, Parameter(negative="", help="Write whole numbers instead of vectors.")
    ] = False,
    reading: ReadingFlags | None = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn examples into codes: an .npy file, or a .txt file with a line of words each.

    Words are for discrete codes; a decoder that learns them is a prior to sample from.
    """
    check_output(output, (".npy", ".txt"), overwrite, data)
    from selfsup.cli.commands import save_array
    from selfsup.data.files import whole_file
    from selfsup.uses import codes
    from selfsup.uses.autoencoding import code_indices
    from selfsup.uses.code_words import CodeWords

    opened, x = _open(model, data, device, reading)
    result: dict[str, Any] = {"output": output, "examples": len(x)}
    if output.suffix == ".txt":
        words = CodeWords(opened)
        lines = words.write(code_indices(opened, x))
        with whole_file(output) as beside:
            beside.write_text("".join(f"{line}\n" for line in lines))
        result["words"] = words.length
    else:
        found = code_indices(opened, x) if indices else codes.encode(opened, x)
        save_array(found, output)
        result["code"] = list(found.shape[1:])
    if (indices or output.suffix == ".txt") and getattr(opened.config.bottleneck, "style", False):
        render.note("the style is not in the indices: `decode` takes zeros for it")
    render.show(result, as_json=as_json)


def decode(
    model: Model,
    codes: Annotated[Path, PlaceOf, Parameter(help="An .npy file that `encode` wrote.")],
    /,
    *,
    output: Output,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Turn codes back into examples: an .npy file of images, or a .csv of rows."""
    from selfsup.cli.commands import save_array
    from selfsup.data.arrays import read_array
    from selfsup.data.images import ImageSpec
    from selfsup.uses import codes as using

    opened = _load(model, device)
    images = isinstance(opened.spec, ImageSpec)
    check_output(output, ".npy" if images else ".csv", overwrite, codes)
    array = read_array(codes)
    with about(str(codes)):
        decoded = using.decode(opened, array)
    if isinstance(opened.spec, ImageSpec):
        spec = opened.spec  # nothing holds a network's output in the range of the images
        save_array(spec.inverse(decoded).clip(spec.low, spec.high), output)
    else:
        table = opened.spec.inverse(decoded)
        _write_csv(output, list(table), zip(*table.values(), strict=True))
    render.show({"output": output, "examples": len(decoded)}, as_json=as_json)


def reconstruct(
    model: Model,
    /,
    *,
    data: Examples,
    output: Output,
    count: Annotated[int, Parameter(help="Images in the gallery [12].")] = 12,
    reading: ReadingFlags | None = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw images above what comes back of them, a PNG."""
    check_output(output, ".png", overwrite)
    import numpy as np

    from selfsup.uses import codes
    from selfsup.uses.galleries import save_gallery

    at_least(1, count, "--count")
    opened, x = _open(model, data, device, reading, rows=count)
    _images(opened)
    back = codes.reconstruct(opened, x)
    save_gallery(output, np.stack([x, back]))
    _fewer(count, len(x), "images")
    error = float(((x - back) ** 2).mean())
    render.show({"output": output, "images": len(x), "squared_error": error}, as_json=as_json)


def sample(
    model: Model,
    /,
    *,
    output: Output,
    prior: Annotated[
        str,
        Parameter(
            help="gaussian: a VAE's own; mixture: fitted on the codes of --data; of discrete codes the "
            "folder of a decoder trained on them [auto]."
        ),
    ] = "auto",
    data: Annotated[str, Parameter(name=["--data", "-d"], help="Examples, for a mixture.")] = "",
    count: Annotated[int, Parameter(help="How many [64].")] = 64,
    temperature: Annotated[
        float,
        Parameter(
            help="Below 1: more usual images. Of a decoder's draws, or the spread of Gaussian ones [1]."
        ),
    ] = 1.0,
    seed: Annotated[int, Parameter(help="Of the draws [0].")] = 0,
    reading: ReadingFlags | None = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw new images from a prior over codes, a PNG."""
    check_output(output, ".png", overwrite)
    from selfsup.uses import codes
    from selfsup.uses.galleries import in_rows, save_gallery
    from selfsup.uses.sampling import check_temperature

    at_least(1, count, "--count")
    check_temperature(temperature)
    check_seed(seed)
    opened = _load(model, device)
    with about(model):
        _images(opened)
        known = codes.encode(opened, codes.inputs(opened, _read(data, reading))) if data else None
        drawn = codes.sample(
            opened, count, prior=prior, codes=known, temperature=temperature, seed=seed
        )
    save_gallery(output, in_rows(drawn))
    render.show({"output": output, "images": len(drawn)}, as_json=as_json)


def interpolate(
    model: Model,
    /,
    *,
    data: Examples,
    output: Output,
    pairs: Annotated[int, Parameter(help="Rows [6].")] = 6,
    steps: Annotated[int, Parameter(help="Images in a row [9].")] = 9,
    reading: ReadingFlags | None = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw what lies between examples, a PNG."""
    check_output(output, ".png", overwrite)
    from selfsup.uses import codes
    from selfsup.uses.galleries import save_gallery

    at_least(1, pairs, "--pairs")
    at_least(2, steps, "--steps")
    opened, x = _open(model, data, device, reading, rows=2 * pairs)
    _images(opened)
    save_gallery(output, codes.interpolate(opened, x, steps))
    _fewer(pairs, len(x) // 2, "pairs")
    render.show({"output": output, "pairs": len(x) // 2}, as_json=as_json)


def traverse(
    model: Model,
    /,
    *,
    data: Examples,
    output: Output,
    dimensions: Annotated[int, Parameter(help="Rows, those that vary most [10].")] = 10,
    reading: ReadingFlags | None = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw what each number of a code changes, a PNG.

    It moves over the middle 98 % of what it is on the data, of more than 2,000 examples on 2,000 drawn
    at random.
    """
    check_output(output, ".png", overwrite)
    from selfsup.uses import codes
    from selfsup.uses.galleries import save_gallery

    at_least(1, dimensions, "--dimensions")
    opened = _load(model, device)
    with about(model):
        _images(opened)
        x = codes.inputs(opened, _some(_read(data, reading)))
        rows, chosen = codes.traverse(opened, x, dimensions=dimensions)
    save_gallery(output, rows)
    _fewer(dimensions, len(chosen), "rows", "the code's numbers are")
    render.show({"output": output, "dimensions": chosen.tolist()}, as_json=as_json)


def cluster(
    model: Model,
    /,
    *,
    data: Examples,
    output: Output,
    labels: Annotated[str, Parameter(help="The true classes, to compare with.")] = "",
    reading: ReadingFlags | None = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Give each example its class, a .csv file; a picture of the classes beside it.

    Examples count from 1, as rows do in `detect score`.
    """
    check_output(output, ".csv", overwrite, data)
    picture = output.with_suffix(".png")
    check_output(picture, ".png", overwrite)
    import numpy as np

    from selfsup.uses import codes
    from selfsup.uses.galleries import save_gallery

    opened = _load(model, device)
    observations = _read(data, reading, labels)
    x = codes.inputs(opened, observations)
    with about(model):
        found = codes.classes(opened, x)
    if observations.files:
        lines: Any = zip(range(1, len(found) + 1), found.tolist(), observations.files, strict=True)
        _write_csv(output, ["example", "class", "file"], lines)
    else:
        _write_csv(output, ["example", "class"], enumerate(found.tolist(), start=1))
    result: dict[str, Any] = {"output": output, "classes_used": len(np.unique(found))}
    if x.ndim == 4:
        rows = np.zeros((len(np.unique(found)), 10, *x.shape[1:]), np.float32)
        for row, label in zip(rows, np.unique(found), strict=True):
            members = x[found == label][:10]
            row[: len(members)] = members
        save_gallery(picture, rows)
        result["picture"] = picture
    if observations.labels is not None:
        result |= codes.compare_classes(found, observations.labels)
    render.show(result, as_json=as_json)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import csv

    from selfsup.data.files import whole_file

    with (
        whole_file(path) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
