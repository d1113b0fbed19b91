"""A detector's folder: `detector.json` (settings, columns) and `model.safetensors` (all numbers)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from selfsup.data.feature_tables import FeatureTable
from selfsup.data.files import whole_file
from selfsup.errors import BadInput, UserError, check_seed
from selfsup.models.model_folder import read_json
from selfsup.models.tensors import compare_tensors, read_tensors, write_tensors
from selfsup.nn.device import choose_device
from selfsup.uses.detection.base import gap_marks
from selfsup.uses.detection.engine import Engine, Plan
from selfsup.uses.detection.estimators import AutoEncoderDetector
from selfsup.uses.detection.scaling import RangeScale
from selfsup.uses.run_folder import write_json

_KIND = "selfsup-detector"
_OWN = ("references", "folds", "subsets", "code_scale", "error_scale")


def save_detector(folder: Path | str, detector: AutoEncoderDetector, **extra: Any) -> None:
    """Write a fitted detector into a folder, as `selfsup detect fit` does.

    Args:
        folder: made where it is missing; a detector in it is replaced.
        detector: fitted.
        extra: what else `detector.json` shall keep: what JSON knows, under names of your own.

    Raises:
        NotFittedError: the detector has learned nothing yet.
        TypeError: another estimator.
        BadInput: something else to keep that JSON does not know, or under a name that is taken.
        UserError: the folder cannot be made or written to.
    """
    if not isinstance(detector, AutoEncoderDetector):
        raise TypeError(f"an AutoEncoderDetector can be saved, not a {type(detector).__name__}")
    check_is_fitted(detector, "calibration_")
    folder = Path(folder)
    engine = detector.engine_
    arrays = {name: getattr(engine, name) for name in _OWN}
    arrays |= {"center": detector.scale_.center, "width": detector.scale_.width}
    arrays["calibration"] = detector.calibration_
    if hasattr(detector, "fill_"):
        arrays["fill"] = detector.fill_
    if len(engine.aside):
        arrays["aside"] = engine.aside
    tensors = {n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()}
    tensors |= {
        f"network.{n}": p.detach().float().cpu().contiguous()
        for n, p in engine.model.named_parameters()
    }
    digest = _digest(tensors)
    tensors["digest"] = torch.from_numpy(np.frombuffer(digest, np.uint8).copy())
    names = getattr(detector, "feature_names_in_", None)
    settings = {
        "model_type": _KIND,
        "digest": digest.hex(),
        "params": _plain(detector.get_params()),
        "plan": asdict(engine.plan),
        "width": engine.width,
        "code_weight": engine.code_weight,
        "seen": engine.seen,
        "offset": detector.offset_,
        "power": detector.scale_.power,
        "n_features_in": detector.n_features_in_,
        "feature_names_in": None if names is None else [str(n) for n in names],
        "other_names": getattr(detector, "_other_names", None),
        "table": None if detector.table_ is None else detector.table_.state(),
    }
    if taken := sorted(settings.keys() & extra.keys()):
        mend = "choose another name"
        raise BadInput("the detector keeps something of its own there", where=taken[0], mend=mend)
    for name, value in extra.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise BadInput(f"cannot be kept as JSON ({error})", where=name) from None
    with whole_file(folder / "model.safetensors") as beside:
        write_tensors(beside, tensors)
    write_json(folder / "detector.json", {**settings, **extra})


def load_detector(folder: Path | str, device: str = "cpu") -> AutoEncoderDetector:
    """Open a detector that `save_detector` or `selfsup detect fit` wrote; its scores are the same.

    Random states are not kept: `partial_fit` of it draws otherwise than that of the saved one would.

    Args:
        folder: where it lies.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`.

    Raises:
        UserError: no detector, a file that does not fit, or a device that is not here.
    """
    return open_detector(Path(folder), device)[0]


def open_detector(folder: Path, device: str = "cpu") -> tuple[AutoEncoderDetector, dict[str, Any]]:
    """Open a detector's folder with all that it keeps.

    Returns:
        The detector, whose scores are those of the saved one, and everything in `detector.json`.

    Raises:
        UserError: no detector, or a file that does not fit.
    """
    file = folder / "detector.json"
    if not file.is_file():
        mend = "name a folder that `selfsup detect fit` made"
        raise UserError("no detector.json: this is no detector", where=str(folder), mend=mend)
    device = str(choose_device(device))
    settings = read_json(file)
    tensors = read_tensors(folder / "model.safetensors")
    _check_digests(settings, tensors, folder)
    try:
        return _opened(settings, tensors, folder, device), settings
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = f"cannot be read ({type(error).__name__}: {error})"
        raise UserError(what, where=str(file)) from None


def _opened(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path, device: str
) -> AutoEncoderDetector:
    plan = Plan(**{**settings["plan"], "device": device})
    detector = AutoEncoderDetector(**{**settings["params"], "device": device})
    check_seed(plan.seed, f"{folder / 'detector.json'}: plan.seed")
    _check_sizes(plan, settings, tensors, folder)
    engine = Engine(plan, int(settings["width"]))
    table = settings["table"]
    detector.table_ = None if table is None else FeatureTable.from_state(table)
    network = dict(engine.model.double().named_parameters())
    compare_tensors(
        {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")},
        {n: tuple(p.shape) for n, p in network.items()},
        folder,
    )
    missing = [n for n in (*_OWN, "center", "width", "calibration") if n not in tensors]
    if missing:
        raise UserError(f"tensor '{missing[0]}' is missing", where=str(folder))
    with torch.no_grad():
        for name, parameter in network.items():
            parameter.copy_(tensors[f"network.{name}"].double())
    for name in _OWN:
        setattr(engine, name, tensors[name].numpy())
    engine.code_weight, engine.seen = float(settings["code_weight"]), int(settings["seen"])
    engine.marks = gap_marks(detector.table_)
    detector.engine_ = engine
    # folders of before the power was kept had half of the light taken out of pixels
    power = settings.get("power", 0.5 if detector.scaling == "pixels" else 0.0)
    detector.scale_ = RangeScale(tensors["center"].numpy(), tensors["width"].numpy(), float(power))
    detector.calibration_ = tensors["calibration"].numpy()
    if "aside" in tensors:
        engine.aside = tensors["aside"].numpy()
    if "fill" in tensors:
        detector.fill_ = tensors["fill"].numpy()
    detector.offset_ = float(settings["offset"])
    detector.n_features_in_ = int(settings["n_features_in"])
    names = settings["feature_names_in"]
    if names is None and detector.table_ is not None:  # folders of before columns' order was kept
        names = [*detector.table_.names, *detector.table_.dropped]
    if names is not None:
        detector.feature_names_in_ = np.array(names, object)
    detector._other_names = settings.get("other_names")
    detector._n_features_out = plan.members * plan.code_size
    return detector


def _check_sizes(
    plan: Plan, settings: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> None:
    """Refuse sizes that are not those of the tensors, before a network of that size is made."""
    plans = {
        "network.encoder_weight": (plan.members, settings["width"], plan.hidden),
        "network.code_bias": (plan.members, 1, plan.code_size),
    }
    for name, said in plans.items():
        held = tuple(tensors[name].shape) if name in tensors else None
        if held != said:
            what = f"tensor '{name}' has shape {held}, and its plan says {said}"
            mend = "detector.json and model.safetensors are not of one detector; fit it again"
            raise UserError(what, where=str(folder / "detector.json"), mend=mend)


def _digest(tensors: Mapping[str, Tensor]) -> bytes:
    """32 bytes that are a function of names, shapes, kinds and numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(np.ascontiguousarray(tensor.numpy()).data)
    return found.digest()


def _check_digests(
    settings: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> None:
    """Refuse two files of which only one was replaced; both name the tensors' digest.

    Neither does in folders of before the digest was kept.
    """
    own = tensors.get("digest")
    known = None if own is None else own.numpy().tobytes().hex()
    if settings.get("digest") != known:
        what = "detector.json and model.safetensors are not of one detector"
        raise UserError(what, where=str(folder), mend="fit it again")


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON knows them; a `RandomState` has done its work and becomes None."""
    kinds = (str, int, float, bool, type(None))
    values = {k: v.item() if isinstance(v, np.generic) else v for k, v in params.items()}
    return {k: v if isinstance(v, kinds) else None for k, v in values.items()}
