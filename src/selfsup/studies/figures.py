"""Figures of the studies: quiet axes, direct labels, the numbers beside them as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.data.files import whole_file
from selfsup.training.metrics import read_metrics
from selfsup.uses.plotting import pyplot, save_figure

BLUE, GREY, RED = "#1f4e8c", "#7a7a7a", "#b0413e"
AMBER, GREEN = "#c98a1b", "#3f7f4a"

_STARTS = {
    "pretrained": ("pre-trained", BLUE, "-"),
    "random": ("random weights", GREY, "--"),
    "tfidf": ("TF-IDF + linear model", RED, ":"),
    "lookup": ("each word's most frequent tag", RED, ":"),
    "probe": ("frozen encoder + linear probe", GREEN, "-."),
}
"""How the label curves show each start: name, colour, line."""


def _tidy(axes: Any, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """The numbers behind a figure."""
    with whole_file(path) as beside, open(beside, "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(header)
        table.writerows(rows)


def draw_demo(out: Path, run: Mapping[str, Any], curves: Mapping[str, Any]) -> Path:
    """The demo's figure: what pre-training learned, and what it was worth."""
    plt = pyplot()
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
    save_figure(figure, path)
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
    plt = pyplot()
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
    save_figure(figure, path)
    write_csv(figures / "next-sentence.csv", ["pairs", "seed", "tokens", "masked_loss"], table)
    return path


def draw_alphabets(
    out: Path,
    rows: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    names: Mapping[str, str],
) -> Path:
    """Score against steps from every start (median and range), and the floors beside them."""
    plt = pyplot()
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(8, 4.6), layout="constrained")
    styles = {
        "language": (BLUE, "-"),
        "shuffled": (AMBER, ":"),
        "random": (GREY, "--"),
        "own": (GREEN, "-"),
    }
    table = []
    for start, (colour, dash) in styles.items():
        curves = [r["curve"] for r in rows if r["start"] == start]
        if not curves:
            continue
        steps = curves[0]["score_step"]
        values = np.array([c["score"] for c in curves])
        axes.plot(steps, np.median(values, 0), color=colour, ls=dash, label=names[start])
        axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        for row in (r for r in rows if r["start"] == start):
            pairs = zip(row["curve"]["score_step"], row["curve"]["score"], strict=True)
            table += [(start, row["draw"], row["seed"], step, score) for step, score in pairs]
    floor = result["floors"]["n-grams"]
    axes.axhline(floor, color=RED, ls="--", lw=1, label="linear model over n-grams")
    _tidy(axes, "Fine-tuning on another alphabet", "steps", f"{result['score']} on test sequences")
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    path = figures / "alphabets.png"
    save_figure(figure, path)
    header = ["start", "draw", "seed", "step", str(result["score"])]
    write_csv(figures / "alphabets.csv", header, table)
    return path


def draw_training(
    out: Path, curves: Mapping[str, Sequence[Mapping[str, Any]]], metric: str, scored_on: str
) -> Path:
    """Training loss and score against steps, median and range over seeds, from both starts.

    Args:
        out: the study's folder.
        curves: for each start, for each seed: `seed`, `step`, `loss`, `score_step`, `score`.
        metric: name of the score.
        scored_on: the examples that have it, in words.
    """
    plt = pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    table: list[tuple[object, ...]] = []
    for start, rows in curves.items():
        for row in rows:
            for what, steps in (("loss", row["step"]), ("score", row["score_step"])):
                pairs = zip(steps, row[what], strict=True)
                table += [(start, row["seed"], step, what, value) for step, value in pairs]
        _band(left, rows[0]["step"], [r["loss"] for r in rows], start)
        _band(right, rows[0]["score_step"], [r["score"] for r in rows], start, marker="o", ms=3.5)
    seeds = len(next(iter(curves.values())))
    _tidy(left, "Training loss", "steps", "loss")
    left.set_ylim(bottom=0)
    _tidy(right, f"Score on {scored_on} ({_of_seeds(seeds)})", "steps", metric)
    right.legend(frameon=False, loc="lower right")
    header = ["start", "seed", "step", "quantity", "value"]
    return _saved(figure, out, "training", header, table)


def draw_labels(
    out: Path,
    name: str,
    counts: Sequence[int],
    scores: Mapping[str, Sequence[Sequence[float]]],
    *,
    title: str,
    metric: str,
    unit: str,
    seeds: Sequence[int],
    floor: float | None = None,
    saving: tuple[float, float, float, str] | None = None,
) -> Path:
    """Score against the number of labels, a line for each start.

    Args:
        out: the study's folder.
        name: of the files.
        counts: labels, rising.
        scores: for each start, for each count, the score of each seed.
        title, metric, unit: what is shown.
        seeds: their numbers.
        floor: the score of always guessing the same.
        saving: fewer labels, more labels, the score that both reach, and what to say about it.
    """
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7.4, 4.6), layout="constrained")
    for start, rows in scores.items():
        columns = np.array(rows, np.float64).T.tolist()
        _band(axes, counts, columns, start, marker="o", ms=5)
    if floor is not None:
        axes.axhline(floor, color="black", lw=0.8, alpha=0.5, label="always guessing the same")
    if saving is not None:
        few, many, score, text = saving
        arrow = {"arrowstyle": "<->", "color": "black", "lw": 1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (few, score), (many, score), arrowprops=arrow)
        place, above = _free_place(axes, counts, scores, saving)
        how = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
        how["va"], offset = ("bottom", 3) if above else ("top", -4)
        axes.annotate(text, (place, score), (0, offset), **how)
    axes.set_xscale("log")
    axes.set_xticks(list(counts), [f"{c:,}" for c in counts])
    axes.minorticks_off()
    _tidy(axes, f"{title} ({_of_seeds(len(seeds))})", unit, metric)
    axes.legend(frameon=False, loc="best", fontsize=9)
    table = [
        (start, count, seed, value)
        for start, rows in scores.items()
        for count, row in zip(counts, rows, strict=True)
        for seed, value in zip(seeds, row, strict=True)
    ]
    return _saved(figure, out, name, ["start", "labels", "seed", "score"], table)


def _free_place(
    axes: Any,
    counts: Sequence[int],
    scores: Mapping[str, Sequence[Sequence[float]]],
    saving: tuple[float, float, float, str],
) -> tuple[float, bool]:
    """Where along its arrow, and whether above it, a text is farthest from all lines."""
    few, many, score, _ = saving
    low, high = axes.get_ylim()
    lines = [[float(np.median(row)) for row in rows] for rows in scores.values()]
    best = (-1.0, few, True)
    for share in (0.5, 0.35, 0.65, 0.25, 0.75):
        place = few ** (1 - share) * many**share
        heights = [np.interp(np.log(place), np.log(counts), line) for line in lines]
        for above in (True, False):
            text = score + (0.03 if above else -0.03) * (high - low)
            room = min(abs(height - text) for height in heights)
            best = max(best, (float(room), place, above), key=lambda b: b[0])
    return best[1], best[2]


def _of_seeds(seeds: int) -> str:
    return f"median and range of {seeds} seeds" if seeds > 1 else "one seed"


def _band(
    axes: Any, x: Sequence[float], rows: Sequence[Sequence[float]], start: str, **style: Any
) -> None:
    """The median over rows (seeds, points) as a line, their range as a band."""
    name, colour, line = _STARTS[start]
    values = np.array(rows, np.float64)
    axes.plot(x, np.median(values, axis=0), color=colour, ls=line, lw=1.8, label=name, **style)
    axes.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
    if len(x) == 1:  # a band of no width would not be seen
        axes.vlines(x, values.min(0), values.max(0), color=colour, alpha=0.5)


def _saved(
    figure: Any, out: Path, name: str, header: Sequence[str], rows: Sequence[Sequence[object]]
) -> Path:
    """Write the picture and the numbers behind it."""
    path = out / "figures" / f"{name}.png"
    write_csv(path.with_suffix(".csv"), header, rows)
    save_figure(figure, path)
    return path
