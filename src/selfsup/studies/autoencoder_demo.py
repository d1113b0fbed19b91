"""The demo of auto-encoders: digits and a table, both from scikit-learn, beside honest floors."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup import autoencoder_recipes
from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.models.autoencoder_hub import load_autoencoder
from selfsup.studies.study_folder import open_folder
from selfsup.training.lock import locked
from selfsup.training.progress import Progress, clock
from selfsup.uses import codes
from selfsup.uses.autoencoding import prepare, train_autoencoder
from selfsup.uses.detection.estimators import AutoEncoderDetector
from selfsup.uses.galleries import save_gallery
from selfsup.uses.run_folder import check_may_go, clear_run_folder, write_json

CODE = 8
"""Numbers in the code of a digit of 64 pixels."""
SHOWN = 12
RECIPES = ("autoencoder", "one-hot-autoencoder", "vae")


def run_demo(
    out: Path, *, quick: bool = False, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Train three auto-encoders on digits and a detector on a table, into a folder.

    The same call again goes on where it stopped.

    Args:
        out: gets a run folder for each auto-encoder, `figures/`, `study.json` and `result.json`.
        quick: a few steps of everything, to see that it works; its numbers mean little.
        overwrite: start anew where a demo lies already.
        quiet: print nothing.

    Raises:
        UserError: the folder holds other things, or a demo that is quick where this is not.
        Interrupted: stopped while an auto-encoder trained, after saving.
    """
    started = time.perf_counter()
    images, labels = _digits()
    with locked(out):
        _open(out, images, quick, overwrite)
        with closing(Progress(quiet=quiet, title="auto-encoders")) as display:
            heldout = _train(out, len(images), quick, overwrite, display)
            display.say("the table: breast cancer, trained on benign cases alone")
            result = {
                "kind": "demo-autoencoder",
                "quick": quick,
                "reconstruction": _reconstruction(out, images),
                "classes": _classes(out, images, labels),
                "anomalies": _anomalies(20 if quick else 0),
                "samples": str(_samples(out)),
                "heldout": heldout,
                "seconds": round(time.perf_counter() - started, 1),
            }
            result["finding"] = _finding(result)
            write_json(out / "result.json", result)
            display.say(f"done after {clock(time.perf_counter() - started)}")
    return result


def _open(out: Path, images: NDArray[np.uint8], quick: bool, overwrite: bool) -> None:
    """Make the folder the demo's, with the digits in it; what is none of a demo's stays.

    Raises:
        UserError: it holds another demo, or other things; nothing is written then.
    """
    settings = {"demo": "autoencoder", "quick": quick}
    if overwrite:  # all at once: stopped in the first, the others' old ones would be in the way
        folders = [out / recipe for recipe in RECIPES]
        for folder in folders:
            check_may_go(folder)
        for folder in folders:
            clear_run_folder(folder)
        (out / "result.json").unlink(missing_ok=True)
    else:
        open_folder(out, settings, overwrite)
    write_json(out / "study.json", settings)
    np.save(out / "digits.npy", images)


def _train(
    out: Path, count: int, quick: bool, overwrite: bool, display: Progress
) -> dict[str, Any]:
    """Train the three auto-encoders; the held-out scores of each."""
    steps = 30 if quick else 600
    heldout = {}
    for recipe in RECIPES:
        display.say(f"{recipe}: {steps} steps on {count:,} digits of 8 x 8 pixels")
        config = _config(recipe, out / "digits.npy", steps)
        run = train_autoencoder(config, out / recipe, overwrite=overwrite, quiet=True)
        heldout[recipe] = run["heldout"]
    return heldout


def _digits() -> tuple[NDArray[np.uint8], list[str]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.rint(data.images * (255 / 16)).astype(np.uint8), [str(t) for t in data.target]


def _config(recipe: str, data: Path, steps: int) -> AutoEncoderConfig:
    value = autoencoder_recipes.get(recipe).model_dump(mode="json")
    value["data"]["path"] = str(data)
    value["train"] |= {"budget": f"{steps} steps", "evaluate_every": 0.5}
    if recipe != "one-hot-autoencoder":
        value["bottleneck"]["size"] = CODE
    return AutoEncoderConfig.model_validate(value)


def _inputs(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (images / 255).astype(np.float32)[:, None]


def _heldout(out: Path, count: int) -> NDArray[np.bool_]:
    """Which digits the runs held out."""
    held = np.zeros(count, np.bool_)
    held[prepare(_config("autoencoder", out / "digits.npy", 1)).heldout] = True
    return held


def _reconstruction(out: Path, images: NDArray[np.uint8]) -> dict[str, float]:
    """Held-out squared error beside that of as many principal components; a gallery."""
    from sklearn.decomposition import PCA

    model = load_autoencoder(out / "autoencoder")
    held = _heldout(out, len(images))
    x = _inputs(images)
    back = codes.reconstruct(model, x[held])
    linear = PCA(CODE, random_state=0).fit(x[~held].reshape(-1, 64))
    flat = x[held].reshape(-1, 64)
    line = linear.inverse_transform(linear.transform(flat)).reshape(back.shape)
    rows = np.stack([part[:SHOWN] for part in (x[held], back, line)])
    save_gallery(out / "figures" / "reconstruction.png", rows)
    return {
        "auto-encoder": float(((back - x[held]) ** 2).mean()),
        "principal components": float(((line - x[held]) ** 2).mean()),
        "training mean": float(((x[~held].mean(0) - x[held]) ** 2).mean()),
    }


def _classes(out: Path, images: NDArray[np.uint8], labels: list[str]) -> dict[str, float]:
    """Classes found without labels, matched with the digits, beside k-means; a picture of them."""
    from sklearn.cluster import KMeans

    model = load_autoencoder(out / "one-hot-autoencoder")
    x = _inputs(images)
    found = codes.classes(model, x)
    means = KMeans(10, n_init=10, random_state=0).fit_predict(x.reshape(len(x), -1))
    rows = np.ones((10, SHOWN, 1, 8, 8), np.float32)
    for row, number in zip(rows, range(10), strict=True):
        members = x[found == number][:SHOWN]
        row[: len(members)] = members
    save_gallery(out / "figures" / "classes.png", rows)
    return {
        "one-hot code": codes.matched_accuracy(found, labels),
        "k-means": codes.matched_accuracy(means.astype(np.int64), labels),
        "classes used": float(len(np.unique(found))),
    }


def _samples(out: Path) -> Path:
    file = out / "figures" / "samples.png"
    drawn = codes.sample(load_autoencoder(out / "vae"), 4 * SHOWN, seed=0)
    save_gallery(file, drawn.reshape(4, SHOWN, 1, 8, 8))
    return file


def _anomalies(steps: int) -> dict[str, float]:
    """AUROC of malignant cases against benign ones that were not trained on, beside three floors."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.metrics import roc_auc_score

    from selfsup.uses.detection.baselines import baseline_scores

    data = load_breast_cancer()
    benign = data.data[data.target == 1]
    order = np.random.default_rng(0).permutation(len(benign))
    train, rest = benign[order[::2]], benign[order[1::2]]
    malignant = data.data[data.target == 0]
    asked = np.concatenate([rest, malignant])
    strange = np.repeat([0, 1], [len(rest), len(malignant)])
    detector = AutoEncoderDetector(random_state=0, steps=steps or "auto")
    detector.fit(train)
    scores = {"detector": -detector.score_samples(asked)}
    middle, spread = train.mean(0), train.std(0) + 1e-12
    scores |= baseline_scores((train - middle) / spread, (asked - middle) / spread)
    return {name: float(roc_auc_score(strange, score)) for name, score in scores.items()}


def _finding(result: dict[str, Any]) -> str:
    errors, classes, found = (result[k] for k in ("reconstruction", "classes", "anomalies"))
    best = max((v, k) for k, v in found.items() if k != "detector")
    return (
        f"Digits through {CODE} numbers come back with a squared error of "
        f"{errors['auto-encoder']:.4f} ({errors['principal components']:.4f} with as many principal "
        f"components). Classes found without labels agree with the digits on "
        f"{classes['one-hot code']:.0%} (k-means: {classes['k-means']:.0%}). Malignant cases are told "
        f"from benign ones with an AUROC of {found['detector']:.3f} by a detector that saw benign ones "
        f"alone (best floor, {best[1]}: {best[0]:.3f})."
    )
