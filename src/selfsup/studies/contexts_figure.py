"""The figure of a word in its contexts: which places are alike, where, and since which layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.studies.figures import AMBER, BLUE, GREEN, GREY, RED, _saved, _tidy, write_csv
from selfsup.uses.plotting import drawable, pyplot
from selfsup.uses.word_vectors import WordVectors, likeness

_SHOWN = 40
"""Places of a sense in the table of likenesses."""
_LONGEST = 22
_FEW = 3
"""Senses up to which their names fit beside the table lengthwise."""
_COLOURS = (BLUE, AMBER, GREEN, RED, "#6b4c9a", "#2a9d8f", "#a05a2c", GREY)


def draw_contexts(
    out: Path,
    result: Mapping[str, Any],
    found: WordVectors,
    senses: Sequence[str],
    texts: Sequence[str],
) -> Path:
    """Likenesses after the last layer, two principal components, accuracy by layer; and two tables.

    Args:
        out: the study's folder.
        result: what `result.json` holds.
        found: the word's vectors.
        senses: (places,) of each.
        texts: (places,) in which each stands.
    """
    from sklearn.decomposition import PCA

    (out / "figures").mkdir(exist_ok=True)
    kinds = sorted(name for name, _ in Counter(senses).most_common(len(_COLOURS)))
    more = len(set(senses)) - len(kinds)
    names = [_short(kind) for kind in kinds]
    word, control = _short(result["word"]), _short(result["control"])
    named = np.array(senses)
    own = [np.flatnonzero(named == kind) for kind in kinds]
    figure, (left, middle, right) = pyplot().subplots(
        1, 3, figsize=(15.5, 4.6), layout="constrained", width_ratios=(1.1, 1, 1.15)
    )
    near = likeness(found.last)
    chosen = np.concatenate([rows[:_SHOWN] for rows in own])
    part = near[np.ix_(chosen, chosen)]
    others = part[~np.eye(len(part), dtype=bool)]
    image = left.imshow(
        part, cmap="viridis", vmin=float(others.min()), vmax=float(np.quantile(others, 0.995))
    )
    edges = np.cumsum([min(_SHOWN, len(rows)) for rows in own])
    for edge in edges[:-1]:
        left.axhline(edge - 0.5, color="white", lw=1.2)
        left.axvline(edge - 0.5, color="white", lw=1.2)
    middles = (np.concatenate([[0], edges[:-1]]) + edges - 1) / 2
    if len(names) <= _FEW:
        left.set_xticks(middles, names)
        left.set_yticks(middles, names, rotation=90, va="center")
    else:
        left.set_xticks(middles, names, rotation=40, ha="right", fontsize=8)
        left.set_yticks(middles, names, fontsize=8)
    left.tick_params(length=0)
    left.set_title("Cosine of its vectors less their mean, last layer", loc="left", fontsize=10.5)
    figure.colorbar(image, ax=left, shrink=0.85)

    with np.errstate(invalid="ignore", divide="ignore"):  # vectors that do not differ
        shown = PCA(2, random_state=0).fit_transform(found.last)
    for name, rows, colour in zip(names, own, _COLOURS, strict=False):
        middle.scatter(*shown[rows].T, s=12, color=colour, alpha=0.6, lw=0, label=name)
    only = f", {len(kinds)} of {len(set(senses))} labels" if more else ""
    _tidy(middle, f"'{word}': two principal components{only}", "first", "second")
    middle.set_xticks([])
    middle.set_yticks([])
    middle.legend(frameon=False, fontsize=9)

    styles = {
        "word": (f"'{word}'", BLUE, "-"),
        "control": (f"control: '{control}'", AMBER, "-"),
        "random weights": ("random weights", GREY, "--"),
    }
    for name, rows in result["layers"].items():
        label, colour, line = styles[name]
        values = [row["accuracy"] for row in rows]
        right.plot(values, color=colour, ls=line, marker="o", ms=4, label=label)
    right.axhline(result["words around"], color=RED, ls=":", label="words around (TF-IDF)")
    right.axhline(result["chance"], color=GREY, ls=":", lw=1, label="chance")
    last = len(result["layers"]["word"]) - 1
    right.set_xticks(range(last + 1), ["before", *map(str, range(1, last + 1))])
    lowest = min(row["accuracy"] for rows in result["layers"].values() for row in rows)
    right.set_ylim(min(0.4, result["chance"] - 0.1, lowest - 0.03), 1.02)
    _tidy(right, "Is the nearest place of the same sense?", "layer", "accuracy, mean over senses")
    right.legend(frameon=False, loc="best", fontsize=9)

    table = [
        (name, layer, row["accuracy"], row["within"], row["between"])
        for name, rows in result["layers"].items()
        for layer, row in enumerate(rows)
    ]
    header = ["series", "layer", "accuracy", "within", "between"]
    path = _saved(figure, out, "contexts", header, table)
    write_csv(path.parent / "places.csv", *_nearest(near, found, senses, texts))
    return path


def _short(name: str) -> str:
    """A name as a label: whatever signs are in it, they are no mathematics and hide nothing."""
    name = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return drawable(f" {name}" if name.startswith("_") else name)


def _nearest(
    near: NDArray[np.float64], found: WordVectors, senses: Sequence[str], texts: Sequence[str]
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Each place with the one that is nearest to it, for people who want to look."""
    places = np.where(np.eye(len(near), dtype=bool), -np.inf, near).argmax(1)
    rows = [
        (
            texts[i],
            *found.spans[i].tolist(),
            senses[i],
            senses[n],
            round(float(near[i, n]), 4),
            texts[n],
        )
        for i, n in enumerate(places.tolist())
    ]
    header = ["text", "begin", "end", "sense", "nearest sense", "cosine", "nearest text"]
    return header, rows
