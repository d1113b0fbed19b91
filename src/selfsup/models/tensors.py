"""Files of tensors: writing them, reading them, and refusing those that do not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from selfsup.errors import UserError

_WEIGHTS = {torch.float32, torch.float16, torch.bfloat16, torch.float64}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, for those to read who may read what this process writes.

    safetensors lets the owner alone read its files, whatever the umask.
    """
    from safetensors.torch import save_file

    path.unlink(missing_ok=True)
    path.touch()
    mode = path.stat().st_mode & 0o777
    save_file(dict(tensors), path, metadata={"format": "pt"})
    path.chmod(mode)


def compare_tensors(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]], where: Path
) -> None:
    """Refuse tensors that do not fit the architecture, naming the first that does not."""
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing:
        raise UserError(
            f"tensor '{missing[0]}' is missing ({len(missing)} in all)",
            where=str(where),
            mend="the checkpoint is of another architecture or was cut",
        )
    if extra:
        raise UserError(
            f"tensor '{extra[0]}' is not part of this architecture ({len(extra)} in all)",
            where=str(where),
            mend="open it with the configuration that it was trained with",
        )
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != shape:
            raise UserError(
                f"tensor '{name}' has shape {tuple(tensors[name].shape)}, not {shape}",
                where=str(where),
                mend="open it with the configuration that it was trained with",
            )


def joined(parts: Sequence[Tensor], names: Sequence[str], where: str) -> Tensor:
    """Tensors of a file as one, one after another along their first side.

    Args:
        parts: what is joined.
        names: of each, for messages.
        where: the file's folder, for messages.

    Raises:
        UserError: their numbers are of a format that holds no weights as they are.
    """
    for part, name in zip(parts, names, strict=True):
        if part.dtype not in _WEIGHTS:
            held = str(part.dtype).removeprefix("torch.")
            what = f"tensor '{name}' holds {held}, not float32, float16 or bfloat16"
            raise UserError(
                what, where=where, mend="give the weights as they were before quantization"
            )
    return torch.cat(list(parts))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        UserError: the file is not there or may not be read, is truncated, or of another kind (a pickle, say).
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        with path.open("rb"):  # safetensors calls whatever it cannot open not there
            pass
        with torch.device("cpu"):  # safetensors before 0.6 follows a default device
            return load_file(path)
    except FileNotFoundError:
        raise UserError("no such file", where=str(path)) from None
    except PermissionError:
        what = "it may not be read by this user"
        raise UserError(what, where=str(path), mend="ask its owner to allow it (chmod)") from None
    except (SafetensorError, ValueError, OSError) as error:
        raise UserError(
            f"not a whole safetensors file ({error})",
            where=str(path),
            mend="copy it again, or go back to an earlier checkpoint",
        ) from None
