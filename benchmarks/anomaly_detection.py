"""Anomaly detection, our one default against its variants, PCA, neighbours, isolation forest and PyOD.

Two regimes.  clean: half of the normal rows train, the other half and every anomaly is the test.
contaminated: a stratified 70/30 split; what trains holds its share of anomalies, without labels.
Every detector gets the same standardised columns, and all of a cell run in one process, one after the
other on one core.  A cell (data, regime, seed, detector) is kept in --cells, so that the same command
goes on where it stopped.  Medians over seeds, then means over tables.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _common import arguments, finish, peak_megabytes

Data = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""Training rows, test rows, and which test rows are anomalies."""
IMAGES = ("faces", "mnist", "fashion_mnist")
"""Pixels from 0 to 1, given as they are; ours scales them as `selfsup detect` does."""
SCALING = {"ours": "columns"}
LARGE = ("34_smtp", "16_http")


def split(x: NDArray[Any], y: NDArray[Any], regime: str, seed: int) -> Data:
    random = np.random.default_rng(seed + 1000)
    if regime == "clean":
        normal = random.permutation(np.flatnonzero(y == 0))
        half = len(normal) // 2
        test = np.concatenate([normal[half:], np.flatnonzero(y == 1)])
        return x[normal[:half]], x[test], y[test]
    train, test = [], []
    for kind in (0, 1):
        rows = random.permutation(np.flatnonzero(y == kind))
        share = round(0.7 * len(rows))
        train.append(rows[:share])
        test.append(rows[share:])
    rest = np.concatenate(test)
    return x[random.permutation(np.concatenate(train))], x[rest], y[rest]


def adbench(data: Path, seed: int, quick: bool) -> Iterator[tuple[str, str, str, Data]]:
    files = sorted((data / "table" / "adbench").glob("*.npz"))
    files.sort(key=lambda f: (f.stem in LARGE, f.stem == "16_http"))
    for file in files[:3] if quick else files:
        with np.load(file) as loaded:
            x, y = loaded["X"].astype(float), loaded["y"].astype(int).ravel()
        for regime in ("clean", "contaminated"):
            yield "adbench", file.stem, regime, split(x, y, regime, seed)


def one_hot(rows: list[list[str]], symbolic: tuple[int, ...]) -> Callable[[list[list[str]]], Any]:
    words = {c: sorted({row[c] for row in rows}) for c in symbolic}

    def encode(more: list[list[str]]) -> NDArray[Any]:
        numbers = [[float(v) for i, v in enumerate(r) if i not in symbolic] for r in more]
        marks = [[float(r[c] == w) for c in symbolic for w in words[c]] for r in more]
        return np.hstack([np.array(numbers), np.array(marks)])

    return encode


def nsl_kdd(data: Path) -> Data:
    parts = []
    for name in ("KDDTrain+_20Percent.txt.gz", "KDDTest+_a.txt.gz"):
        with gzip.open(data / "table" / "nsl_kdd" / name, "rt") as file:
            parts.append(list(csv.reader(file)))
    train = [row[:41] for row in parts[0] if row[41] == "normal"]
    encode = one_hot(train, (1, 2, 3))
    truth = np.array([row[41] != "normal" for row in parts[1]], int)
    return encode(train), encode([row[:41] for row in parts[1]]), truth


def creditcard(data: Path, regime: str, seed: int) -> Data:
    with gzip.open(data / "table" / "creditcard_sample" / "creditcard_sample.csv.gz", "rt") as file:
        rows = np.array(list(csv.reader(file))[1:], float)
    return split(rows[:, :-1], rows[:, -1].astype(int), regime, seed)


def nab(data: Path, series: Path) -> Data | None:
    """Windows of 32 values as rows; the first 30 % train (where no marked window lies, mostly)."""
    folder = data / "table" / "nab"
    key = f"{series.parent.name}/{series.name.removesuffix('.gz')}"
    windows = json.loads((folder / "combined_windows.json").read_text()).get(key, [])
    with gzip.open(series, "rt") as file:
        rows = list(csv.reader(file))[1:]
    values = np.array([float(r[1]) for r in rows])
    inside = np.array([any(a[:19] <= r[0] <= b[:19] for a, b in windows) for r in rows])
    frames = np.lib.stride_tricks.sliding_window_view(values, 32)
    marks, cut = inside[31:], int(0.3 * len(frames))
    train = frames[:cut][~marks[:cut]]
    if not marks[cut:].any() or len(train) < 100:
        return None
    return train, frames[cut:], marks[cut:].astype(int)


def faces(data: Path, seed: int) -> Data:
    with np.load(data / "image" / "olivetti_faces" / "olivetti_faces.npz") as file:
        real, person = file["images"] / 255.0, file["person"]
    with np.load(data / "image" / "drawn_faces" / "drawn_faces.npz") as file:
        drawn = file["images"].mean(3) / 255.0
    small = [
        a.reshape(len(a), 32, 2, 32, 2).mean((2, 4)).reshape(len(a), -1) for a in (real, drawn)
    ]
    kinds = np.random.default_rng(seed).permutation(np.unique(person))
    train = np.isin(person, kinds[: len(kinds) // 2])
    test = np.concatenate([small[0][~train], small[1]])
    return small[0][train], test, np.r_[np.zeros((~train).sum(), int), np.ones(len(drawn), int)]


def one_class(data: Path, name: str, kind: int) -> Data:
    from selfsup.data.arrays import read_idx

    folder = data / "image" / name
    arrays = {f.name.split("-idx")[0]: read_idx(f) for f in folder.glob("*ubyte.gz")}
    train = arrays["train-images"][arrays["train-labels"] == kind]
    test = arrays["t10k-images"]
    flat = [a.reshape(len(a), -1) / 255.0 for a in (train, test)]
    return flat[0], flat[1], (arrays["t10k-labels"] != kind).astype(int)


def others(data: Path, seed: int, quick: bool) -> Iterator[tuple[str, str, str, Data]]:
    yield "nsl-kdd", "nsl_kdd", "clean", nsl_kdd(data)
    if quick:
        return
    for regime in ("clean", "contaminated"):
        yield "creditcard", "creditcard", regime, creditcard(data, regime, seed)
    yield "faces", "faces", "clean", faces(data, seed)
    for name in ("mnist", "fashion_mnist"):
        for kind in range(10):
            yield name, f"{name}-{kind}", "clean", one_class(data, name, kind)
    for series in sorted((data / "table" / "nab").glob("*/*.csv.gz")):
        if (found := nab(data, series)) is not None:
            yield "nab", series.name.split(".")[0], "clean", found


def ours(measure: str) -> Callable[..., Any]:
    def run(train: Any, test: Any, regime: str, seed: int) -> Any:
        from selfsup import AutoEncoderDetector

        detector = AutoEncoderDetector(
            measure, train_data=regime, random_state=seed, scaling=SCALING["ours"]
        )
        return -detector.fit(train).score_samples(test)

    return run


def principal(train: Any, test: Any, regime: str, seed: int) -> Any:
    from selfsup.uses.detection.baselines import PrincipalComponents

    return PrincipalComponents().fit(train).strangeness(test)


def neighbours(train: Any, test: Any, regime: str, seed: int) -> Any:
    from selfsup.uses.detection.baselines import NearestNeighbours

    return NearestNeighbours().fit(train).strangeness(test)


def forest(train: Any, test: Any, regime: str, seed: int) -> Any:
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


def pyod(name: str) -> Callable[..., Any]:
    def run(train: Any, test: Any, regime: str, seed: int) -> Any:
        if name == "AutoEncoder":
            from pyod.models.auto_encoder import AutoEncoder

            detector = AutoEncoder(verbose=0, random_state=seed)
        else:
            from pyod.models.ecod import ECOD

            detector = ECOD()
        detector.fit(train)
        return detector.decision_function(test)

    return run


DETECTORS: dict[str, Callable[..., Any]] = {
    "default": ours("default"),
    "PCA": principal,
    "kNN": neighbours,
    "isolation forest": forest,
    "PyOD AutoEncoder": pyod("AutoEncoder"),
    "PyOD ECOD": pyod("ECOD"),
    "input-distance": ours("input-distance"),
    "code-distance": ours("code-distance"),
    "reconstruction": ours("reconstruction"),
    "masked-features": ours("masked-features"),
}


def run_cells(args: Any, cells: Path, detectors: list[str]) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score
    from sklearn.preprocessing import StandardScaler

    warm = np.random.default_rng(0).normal(size=(200, 4))
    for name in detectors:  # imports and first kernels are no part of the times
        DETECTORS[name](warm, warm, "clean", 0)
    for seed in range(1 if args.quick else args.seeds):
        for source in (adbench, others):
            if args.only and args.only != source.__name__:
                continue
            for group, name, regime, (train, test, truth) in source(args.data, seed, args.quick):
                if group not in IMAGES:
                    scaler = StandardScaler(with_std=group != "nab").fit(train)  # of one kind
                    train, test = scaler.transform(train), scaler.transform(test)
                for detector in detectors:
                    path = cells / f"{group}--{name}--{regime}--{seed}--{detector}.json"
                    if path.exists() or (name == "16_http" and detector == args.skip_on_http):
                        continue
                    started = time.perf_counter()
                    SCALING["ours"] = (
                        "pixels" if group in IMAGES else "common" if group == "nab" else "columns"
                    )
                    scores = np.asarray(DETECTORS[detector](train, test, regime, seed))
                    cell = {
                        "group": group,
                        "name": name,
                        "regime": regime,
                        "seed": seed,
                        "detector": detector,
                        "auroc": 100 * float(roc_auc_score(truth, scores)),
                        "ap": 100 * float(average_precision_score(truth, scores)),
                        "seconds": time.perf_counter() - started,
                        "peak_megabytes": peak_megabytes(),
                    }
                    path.write_text(json.dumps(cell))


def summary(cells: Path) -> list[dict[str, Any]]:
    by: dict[tuple[str, str, str], dict[str, list[dict[str, Any]]]] = {}
    for file in sorted(cells.glob("*.json")):
        cell = json.loads(file.read_text())
        key = (cell["group"], cell["regime"], cell["detector"])
        by.setdefault(key, {}).setdefault(cell["name"], []).append(cell)
    rows = []
    for (group, regime, detector), tables in sorted(by.items()):
        middle = [
            {k: float(np.median([c[k] for c in cs])) for k in ("auroc", "ap", "seconds")}
            for cs in tables.values()
        ]
        rows.append(
            {
                "data": group,
                "regime": regime,
                "detector": detector,
                "tables": len(tables),
                "seeds": min(len(cs) for cs in tables.values()),
                "auroc": round(float(np.mean([m["auroc"] for m in middle])), 2),
                "ap": round(float(np.mean([m["ap"] for m in middle])), 2),
                "seconds": round(sum(m["seconds"] for m in middle), 2),
            }
        )
    return sorted(rows, key=lambda r: (r["data"], r["regime"], -r["auroc"]))


def main() -> None:
    args = arguments(__doc__ or "", seeds=5, cells="", only="", detectors="", skip_on_http="")
    folder = "anomaly_detection_quick" if args.quick else "anomaly_detection"
    cells = Path(args.cells or f"runs/{folder}")
    cells.mkdir(parents=True, exist_ok=True)
    detectors = args.detectors.split(",") if args.detectors else list(DETECTORS)
    try:
        import pyod as _  # noqa: F401
    except ImportError:
        detectors = [d for d in detectors if not d.startswith("PyOD")]
    run_cells(args, cells, detectors)
    rows = summary(cells)
    for row in rows:
        print(" ".join(str(v) for v in row.values()))
    finish("anomaly_detection", args, {"rows": rows})


if __name__ == "__main__":
    main()
