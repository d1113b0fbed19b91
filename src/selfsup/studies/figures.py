"""Figures of the studies: quiet axes, direct labels, the numbers beside them as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.training.metrics import read_metrics

BLUE, GREY, RED = "#1f4e8c", "#7a7a7a", "#b0413e"


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _tidy(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The numbers behind a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(header)
        table.writerows(rows)


def draw_demo(out: Path, run: Mapping[str, Any], curves: Mapping[str, Any]) -> Path:
    """The demo's figure: what pre-training learned, and what it was worth."""
    plt = _pyplot()
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    heldout = [
        x for x in read_metrics(out / "pretrain" / "metrics.jsonl") if x["split"] == "heldout"
    ]
    minutes = [x["seconds"] / 60 for x in heldout]
    losses = [x["masked_loss"] for x in heldout]
    left.plot(minutes, losses, color=BLUE, marker="o", ms=4)
    baseline = run["unigram"]["masked_loss"]
    left.axhline(baseline, color=RED, ls="--", lw=1)
    left.annotate(
        "guessing by word frequency",
        (minutes[-1], baseline),
        (0, 4),
        textcoords="offset points",
        ha="right",
        color=RED,
        fontsize=9,
    )
    _tidy(left, "Pre-training: held-out masked loss", "minutes", "nats per hidden token")
    sizes = curves["labels"]
    for name, colour, label in (
        ("pretrained", BLUE, "pre-trained weights"),
        ("random", GREY, "random weights"),
    ):
        values = [np.array(v) for v in curves["accuracy"][name]]
        medians = [float(np.median(v)) for v in values]
        right.plot(sizes, medians, color=colour, marker="o", ms=5, label=label)
        right.fill_between(
            sizes, [v.min() for v in values], [v.max() for v in values], color=colour, alpha=0.18
        )
    right.axhline(curves["chance"], color=RED, ls="--", lw=1, label="chance")
    right.set_xscale("log")
    right.set_xticks(sizes, [str(s) for s in sizes])
    right.minorticks_off()
    right.set_ylim(bottom=0)
    _tidy(
        right,
        f"Which library is it from?  Median and range of {curves['seeds']} seeds",
        "labelled texts",
        "accuracy",
    )
    right.legend(frameon=False, loc="lower right")
    path = figures / "demo.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    write_csv(
        figures / "demo.csv",
        ["start", "labels", "seed", "accuracy"],
        [
            (name, size, seed, value)
            for name, rows in curves["accuracy"].items()
            for size, row in zip(sizes, rows, strict=True)
            for seed, value in enumerate(row)
        ],
    )
    return path


def draw_pairs(out: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Held-out masked loss against tokens, with and without next-sentence prediction."""
    plt = _pyplot()
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    table = []
    for kind, colour, label in (
        ("none", GREY, "masked tokens alone"),
        ("next-sentence", BLUE, "with next-sentence prediction"),
    ):
        first = True
        for row in (r for r in rows if r["pairs"] == kind):
            axes.plot(
                [x / 1e6 for x in row["curve_tokens"]],
                row["curve_loss"],
                color=colour,
                lw=1.4,
                label=label if first else None,
            )
            first = False
            pairs = zip(row["curve_tokens"], row["curve_loss"], strict=True)
            table += [(kind, row["seed"], tokens, loss) for tokens, loss in pairs]
    _tidy(
        axes,
        "Does next-sentence prediction help?",
        "tokens read (millions)",
        "held-out masked loss on rows of its own kind (nats)",
    )
    axes.legend(frameon=False)
    path = figures / "next-sentence.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    write_csv(figures / "next-sentence.csv", ["pairs", "seed", "tokens", "masked_loss"], table)
    return path
