"""Figures of `selfsup detect` and of the study of capacity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.studies.figures import BLUE, GREY, RED, _saved, _tidy
from selfsup.uses.plotting import pyplot


def draw_scores(
    out: Path, strange: NDArray[Any], threshold: float | None, truth: NDArray[Any] | None
) -> Path:
    """A histogram of scores, by label where there are labels, and the threshold where there is one."""
    from matplotlib.ticker import LogFormatter

    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7.4, 3.4), layout="constrained")
    positive = np.maximum(strange, 1e-9)
    low, high = np.quantile(positive, 0.001), max(positive.max(), threshold or 0.0)
    low = max(float(low), high * 1e-4)
    bins = np.geomspace(low, high * 1.05, 60)
    groups = [("rows", np.ones(len(strange), bool), BLUE)]
    if truth is not None:
        groups = [("normal", truth == 0, BLUE), ("anomalies", truth == 1, RED)]
    for name, mask, colour in groups:
        weights = np.full(int(mask.sum()), 100 / max(1, mask.sum()))
        values = np.clip(positive[mask], low, None)
        axes.hist(values, bins, weights=weights, color=colour, alpha=0.55, label=name)
    if threshold is not None:
        axes.axvline(threshold, color=GREY, ls="--", lw=1.2, label="threshold")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")  # 0.01, and neither 10⁻² nor 1e-02
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.6)))  # 3, and not 3 x 10⁰
    _tidy(axes, "How strange the rows are", "score (log scale)", "% of each group")
    axes.legend(frameon=False, fontsize=9)
    table = [(i, float(s)) for i, s in enumerate(strange)]
    return _saved(figure, out, "scores", ["row", "score"], table)


def draw_heat_maps(
    out: Path,
    images: NDArray[Any],
    heat: NDArray[Any],
    places: NDArray[Any],
    strange: NDArray[Any],
) -> Path:
    """The strangest images (count, channels, height, width), and where (count, height, width)."""
    plt = pyplot()
    count = len(images)
    figure, axes = plt.subplots(2, count, figsize=(1.15 * count + 0.2, 2.75), layout="constrained")
    for i, (above, below) in enumerate(np.reshape(axes, (2, count)).T):
        image = np.clip(images[i].transpose(1, 2, 0), 0, 1)
        grey = image.shape[2] != 3
        above.imshow(image[:, :, 0] if grey else image, cmap="gray" if grey else None)
        below.imshow(heat[i], cmap="magma", vmin=0)
        above.set_title(f"{places[i] + 1}\n{strange[i]:.3g}", fontsize=7.5)
        for part in (above, below):
            part.set_xticks([])
            part.set_yticks([])
    table = [(int(p) + 1, float(s)) for p, s in zip(places, strange, strict=True)]
    return _saved(figure, out, "heat-maps", ["image", "score"], table)


def draw_capacity(out: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """AUROC on unseen kinds, and errors on seen and unseen kinds, against the code's size."""
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    sizes = sorted({row["code_size"] for row in rows})

    def line(axes: Any, key: str, colour: str, name: str) -> None:
        values = [[r[key] for r in rows if r["code_size"] == s] for s in sizes]
        middle = [float(np.median(v)) for v in values]
        axes.plot(sizes, middle, color=colour, marker="o", ms=4, label=name)
        axes.fill_between(
            sizes,
            [min(v) for v in values],
            [max(v) for v in values],
            color=colour,
            alpha=0.15,
            lw=0,
        )

    line(left, "auroc", BLUE, "reconstruction error")
    left.axhline(
        float(np.median([r["floor"] for r in rows])), color=GREY, ls="--", lw=1, label="PCA"
    )
    left.axhline(50, color=RED, ls=":", lw=1, label="chance")
    line(right, "error_seen", BLUE, "kinds seen in training")
    line(right, "error_unseen", RED, "kinds never seen")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(s) for s in sizes])
        axes.minorticks_off()
    right.set_yscale("log")
    _tidy(left, "Finding kinds never seen", "numbers in the code", "AUROC x 100")
    _tidy(
        right,
        "What does not come back of kinds seen and never seen",
        "numbers in the code",
        "squared error",
    )
    left.legend(frameon=False, fontsize=9)
    right.legend(frameon=False, fontsize=9)
    keys = list(rows[0])
    return _saved(figure, out, "capacity", keys, [[r[k] for k in keys] for r in rows])
