"""Equal numbers give equal detectors, however they lie in memory, on disk or in which default type."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from selfsup import AutoEncoderDetector, AutoEncoderTransformer
from selfsup.errors import UserError
from selfsup.uses.detection import folder as folders
from selfsup.uses.detection.engine import MEASURES
from selfsup.uses.detection.folder import load_detector, save_detector

RANDOM = np.random.default_rng(0)
TRAIN, NEW = RANDOM.normal(size=(200, 5)), RANDOM.normal(size=(60, 5))
GAPS = TRAIN.copy()
GAPS[3, 2] = np.nan


def layouts(rows: Any) -> list[Any]:
    """The same rows by columns, in steps, and backwards."""
    wide = np.zeros((len(rows), 2 * rows.shape[1]))
    wide[:, ::2] = rows
    return [np.asfortranarray(rows), wide[:, ::2], rows[::-1, ::-1].copy()[::-1, ::-1]]


@pytest.mark.parametrize("scaling", ["columns", "common", "pixels"])
@pytest.mark.parametrize("train", [TRAIN, GAPS], ids=["whole", "gaps"])
def test_layout_changes_no_detector(scaling: str, train: Any) -> None:
    made = AutoEncoderDetector(steps=10, scaling=scaling, missing="impute")
    wanted = made.fit(train)
    folds, scores = wanted.engine_.folds, wanted.score_samples(NEW)
    learned = wanted.partial_fit(NEW).score_samples(TRAIN)
    for rows, new in zip(layouts(train), layouts(NEW), strict=True):
        found = AutoEncoderDetector(**made.get_params()).fit(rows)
        assert np.array_equal(found.engine_.folds, folds)
        assert np.array_equal(found.score_samples(new), scores)
        assert np.array_equal(found.partial_fit(new).score_samples(TRAIN), learned)


def test_layout_changes_no_transformer_and_no_codes() -> None:
    wanted = AutoEncoderTransformer(steps=10).fit(TRAIN)
    codes = wanted.transform(NEW)
    for rows, new in zip(layouts(TRAIN), layouts(NEW), strict=True):
        found = AutoEncoderTransformer(steps=10).fit(rows)
        assert np.array_equal(found.transform(new), codes)
        back = found.inverse_transform(np.asfortranarray(codes))
        assert np.array_equal(back, wanted.inverse_transform(codes))


def test_layout_changes_no_detector_of_a_table_with_words() -> None:
    words = {"word": np.where(TRAIN[:, 0] > 0, "up", "down")}
    scores = []
    for rows in (TRAIN, *layouts(TRAIN)):
        table = {str(i): rows[:, i] for i in range(5)} | words
        scores.append(AutoEncoderDetector(steps=10).fit(table).score_samples(table))
    assert all(np.array_equal(found, scores[0]) for found in scores)


@pytest.mark.parametrize("kind", [AutoEncoderDetector, AutoEncoderTransformer])
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_changes_nothing(kind: Any, default: torch.dtype, tmp_path: Path) -> None:
    wanted = kind(steps=10).fit(TRAIN)
    torch.set_default_dtype(default)
    try:
        found = kind(steps=10).fit(TRAIN)
        if kind is AutoEncoderDetector:
            save_detector(tmp_path, found)
            loaded = load_detector(tmp_path)
            assert np.array_equal(loaded.score_samples(NEW), wanted.score_samples(NEW))
        assert np.array_equal(found.transform(NEW), wanted.transform(NEW))
        found.partial_fit(NEW)
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found.transform(TRAIN), wanted.partial_fit(NEW).transform(TRAIN))


@pytest.mark.parametrize("measure", MEASURES)
def test_the_default_device_changes_nothing(measure: str, tmp_path: Path) -> None:
    wanted = AutoEncoderDetector(measure, steps=10).fit(TRAIN).score_samples(NEW)
    torch.set_default_device("meta")
    try:
        found = AutoEncoderDetector(measure, steps=10).fit(TRAIN)
        save_detector(tmp_path, found)
        for judge in (found, load_detector(tmp_path)):
            assert np.array_equal(judge.score_samples(NEW), wanted)
        found.partial_fit(NEW)
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("train_data", ["clean", "contaminated"])
def test_a_detector_in_files_that_are_only_read_learns_on(
    measure: str, train_data: str, tmp_path: Path
) -> None:
    made = AutoEncoderDetector(measure, steps=10, train_data=train_data, trimming=0.1).fit(GAPS[4:])
    joblib.dump(made, tmp_path / "detector")
    with warnings.catch_warnings(), every_warning():
        warnings.simplefilter("error")
        mapped = joblib.load(tmp_path / "detector", mmap_mode="r")
        assert not mapped.engine_.error_scale.flags.writeable
        assert np.array_equal(mapped.score_samples(NEW), made.score_samples(NEW))
        assert np.array_equal(mapped.explain(NEW), made.explain(NEW))
        mapped.partial_fit(NEW)
    assert np.array_equal(mapped.score_samples(TRAIN), made.partial_fit(NEW).score_samples(TRAIN))


@contextmanager
def every_warning() -> Iterator[None]:
    """Let torch give each of its warnings every time."""
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(False)


def stopped(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("earlier", [False, True], ids=["of now", "without a digest"])
def test_a_folder_in_which_one_file_was_replaced_is_refused(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (AutoEncoderDetector(steps=2, random_state=s).fit(TRAIN) for s in (0, 1))
    save_detector(tmp_path, first)
    if earlier:
        forget_digests(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            save_detector(tmp_path, second)
    with pytest.raises(UserError, match="not of one detector; fit it again"):
        load_detector(tmp_path)
    save_detector(tmp_path, second)
    assert np.array_equal(load_detector(tmp_path).score_samples(NEW), second.score_samples(NEW))


def test_old_weights_beside_new_settings_are_refused(tmp_path: Path) -> None:
    detector = AutoEncoderDetector(steps=2).fit(TRAIN)
    for name in ("old", "new"):
        save_detector(tmp_path / name, detector)
    forget_digests(tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").replace(tmp_path / "new" / "model.safetensors")
    with pytest.raises(UserError, match="not of one detector"):
        load_detector(tmp_path / "new")


def test_folders_of_before_the_digest_was_kept_are_opened(tmp_path: Path) -> None:
    detector = AutoEncoderDetector(steps=2).fit(TRAIN)
    save_detector(tmp_path, detector)
    forget_digests(tmp_path)
    assert np.array_equal(load_detector(tmp_path).score_samples(NEW), detector.score_samples(NEW))


def forget_digests(folder: Path) -> None:
    """Make of a folder what versions before wrote."""
    settings = json.loads((folder / "detector.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    for kept in (settings, tensors):
        kept.pop("digest", None)
    (folder / "detector.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "model.safetensors")
