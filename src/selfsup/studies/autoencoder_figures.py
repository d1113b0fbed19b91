"""Figures of the studies of auto-encoders: medians as lines, ranges over seeds as bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.studies.figures import AMBER, BLUE, GREY, RED, _saved, _tidy
from selfsup.uses.plotting import pyplot

Rows = Sequence[Mapping[str, Any]]


def _line(axes: Any, rows: Rows, x: str, y: str, colour: str, name: str, style: str = "o-") -> None:
    found: dict[Any, list[float]] = {}
    for row in rows:
        if row.get(y) is not None:
            found.setdefault(row[x], []).append(row[y])
    if not found:
        return
    places = list(found)
    values = list(found.values())
    axes.plot(places, [float(np.median(v)) for v in values], style, color=colour, ms=4, label=name)
    low, high = [min(v) for v in values], [max(v) for v in values]
    axes.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)


def draw_dimensions(out: Path, rows: Rows) -> Path:
    """Held-out squared error against the code's size."""
    figure, axes = pyplot().subplots(figsize=(6.4, 4), layout="constrained")
    _line(axes, rows, "size", "auto-encoder", BLUE, "auto-encoder")
    _line(axes, rows, "size", "pca", RED, "principal components", "s--")
    axes.axhline(rows[0]["mean"], color=GREY, ls=":", lw=1.2, label="training mean")
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_yscale("log")
    _tidy(axes, "What a code of so many numbers gives back", "numbers in the code", "squared error")
    axes.legend(frameon=False, fontsize=9)
    keys = ("size", "seed", "auto-encoder", "pca", "mean")
    return _saved(figure, out, "dimensions", keys, [[row.get(k) for k in keys] for row in rows])


def draw_codebook(out: Path, rows: Rows, names: Mapping[str, str]) -> Path:
    """Usage, perplexity and error over training, a line for each quantizer."""
    figure, panels = pyplot().subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    looks = [{**row, **look} for row in rows for look in row["looks"]]
    said = (
        ("usage", "Share of the codes in use", "share"),
        ("perplexity", "Codes as if used alike", "perplexity"),
        ("squared_error", "What comes back", "squared error"),
    )
    for axes, (key, title, unit) in zip(panels, said, strict=True):
        for (quantizer, name), colour in zip(names.items(), (BLUE, AMBER, RED), strict=True):
            own = [look for look in looks if look["quantizer"] == quantizer]
            _line(axes, own, "step", key, colour, name)
        _tidy(axes, title, "step", unit)
    panels[0].set_ylim(0, 1.03)
    panels[2].set_yscale("log")
    # below the panels: none of them has a corner that is free in every study
    place = {"loc": "outside lower center", "ncols": 3, "frameon": False, "fontsize": 9}
    figure.legend(*panels[0].get_legend_handles_labels(), **place)
    keys = ("quantizer", "seed", "step", "usage", "perplexity", "dead", "squared_error")
    return _saved(figure, out, "codebook", keys, [[look[k] for k in keys] for look in looks])


def draw_denoising(out: Path, rows: Rows) -> Path:
    """Gain in dB, and the accuracy of probes where there are labels, against the noise of training."""
    probed = any(row.get("probe") is not None for row in rows)
    size = (10.5, 4) if probed else (5.6, 4)
    figure, panels = pyplot().subplots(1, 1 + probed, figsize=size, layout="constrained")
    left, *right = np.atleast_1d(panels)
    _line(left, rows, "noise", "gain", BLUE, "auto-encoder")
    _line(left, rows, "noise", "gain_pca", RED, "principal components", "s--")
    left.axhline(0, color=GREY, ls=":", lw=1.2, label="the noisy example")
    _tidy(left, "Noise taken away", "standard deviation of the noise", "gain, dB")
    left.legend(frameon=False, fontsize=9)
    for axes in right:
        _tidy(axes, "What a linear probe reads", "standard deviation in training", "accuracy")
        _line(axes, rows, "noise", "probe", BLUE, "codes")
        _line(axes, rows, "noise", "probe_pca", RED, "principal components", "s--")
        _line(axes, rows, "noise", "probe_input", GREY, "the input itself", ":")
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3}
        axes.legend(frameon=False, fontsize=9, **place)
    keys = ("noise", "seed", "gain", "gain_pca", "probe", "probe_pca", "probe_input")
    return _saved(figure, out, "denoising", keys, [[row.get(k) for k in keys] for row in rows])
