"""The figure of a word in its contexts: which places are alike, where, and since which layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.studies.figures import AMBER, BLUE, GREEN, GREY, RED, _saved, _tidy, write_csv
from selfsup.uses.plotting import can_draw, drawable, pyplot
from selfsup.uses.word_vectors import WordVectors, likeness, nearest_others

Places = NDArray[np.int64]

_SHOWN = 40
"""Places of a sense in the table of likenesses."""
_LONGEST = 22
_FEW = 3
"""Senses up to which their names fit beside the table lengthwise."""
_COLOURS = (BLUE, AMBER, GREEN, RED, "#6b4c9a", "#2a9d8f", "#a05a2c", GREY)


class Drawn(NamedTuple):
    """A figure."""

    path: Path
    stand_ins: dict[str, str]
    """What stands in it for names that cannot be drawn, and these names."""


def draw_contexts(
    out: Path,
    result: Mapping[str, Any],
    found: WordVectors,
    senses: Sequence[str],
    texts: Sequence[str],
) -> Drawn:
    """Likenesses after the last layer, two principal components, accuracy by layer; and two tables.

    Args:
        out: the study's folder.
        result: what `result.json` holds.
        found: the word's vectors.
        senses: (places,) of each.
        texts: (places,) in which each stands.
    """
    (out / "figures").mkdir(exist_ok=True)
    kinds = sorted(name for name, _ in Counter(senses).most_common(len(_COLOURS)))
    named, near = np.array(senses), likeness(found.last)
    stand_ins: dict[str, str] = {}
    own: dict[str, Places] = {}
    for number, kind in enumerate(kinds, start=1):
        label = _called(kind, f"sense {number}", stand_ins)
        if label in own:  # two long names that begin alike
            label = f"sense {number}"
            stand_ins[label] = kind
        own[label] = np.flatnonzero(named == kind)
    word, control = (
        _called(result[key], f"the {key}", stand_ins, "'{}'") for key in ("word", "control")
    )
    figure, (left, middle, right) = pyplot().subplots(
        1, 3, figsize=(15.5, 4.6), layout="constrained", width_ratios=(1.1, 1, 1.15)
    )
    figure.colorbar(_draw_likeness(left, near, own), ax=left, shrink=0.85)
    count = len(set(senses))
    only = f", {len(kinds)} of {count} labels" if count > len(kinds) else ""
    title = f"{word}: two principal components{only}"
    _draw_components(middle, found, own, title)
    _draw_layers(right, result, word, control)
    table = [
        (name, layer, row["accuracy"], row["within"], row["between"])
        for name, rows in result["layers"].items()
        for layer, row in enumerate(rows)
    ]
    header = ["series", "layer", "accuracy", "within", "between"]
    path = _saved(figure, out, "contexts", header, table)
    write_csv(path.parent / "places.csv", *_nearest(near, found, senses, texts))
    return Drawn(path, stand_ins)


def _called(name: str, otherwise: str, stand_ins: dict[str, str], form: str = "{}") -> str:
    """A name as a label, or what stands for it where no font has its characters."""
    if can_draw(name):
        return form.format(_short(name))
    stand_ins[otherwise] = name
    return otherwise


def _draw_likeness(axes: Any, near: NDArray[np.float64], own: Mapping[str, Places]) -> Any:
    """Some places of each sense, each with each; the image, for its scale."""
    parts = [rows[:_SHOWN] for rows in own.values()]
    chosen = np.concatenate(parts)
    part = near[np.ix_(chosen, chosen)]
    others = part[~np.eye(len(part), dtype=bool)]
    image = axes.imshow(
        part, cmap="viridis", vmin=float(others.min()), vmax=float(np.quantile(others, 0.995))
    )
    edges = np.cumsum([len(rows) for rows in parts])
    for edge in edges[:-1]:
        axes.axhline(edge - 0.5, color="white", lw=1.2)
        axes.axvline(edge - 0.5, color="white", lw=1.2)
    middles = (np.concatenate([[0], edges[:-1]]) + edges - 1) / 2
    if len(own) <= _FEW:
        axes.set_xticks(middles, own)
        axes.set_yticks(middles, own, rotation=90, va="center")
    else:
        axes.set_xticks(middles, own, rotation=40, ha="right", fontsize=8)
        axes.set_yticks(middles, own, fontsize=8)
    axes.tick_params(length=0)
    axes.set_title("Cosine of its vectors less their mean, last layer", loc="left", fontsize=10.5)
    return image


def _draw_components(axes: Any, found: WordVectors, own: Mapping[str, Places], title: str) -> None:
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore", divide="ignore"):  # vectors that do not differ
        shown = PCA(2, random_state=0).fit_transform(found.last)
    for (name, rows), colour in zip(own.items(), _COLOURS, strict=False):
        axes.scatter(*shown[rows].T, s=12, color=colour, alpha=0.6, lw=0, label=name)
    _tidy(axes, title, "first", "second")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, fontsize=9)


def _draw_layers(axes: Any, result: Mapping[str, Any], word: str, control: str) -> None:
    """Accuracy by layer, of the word and of what stands beside it."""
    styles = {
        "word": (word, BLUE, "-"),
        "control": (control if control == "the control" else f"control: {control}", AMBER, "-"),
        "random weights": ("random weights", GREY, "--"),
    }
    lowest = min(0.4, result["chance"] - 0.1)
    for name, rows in result["layers"].items():
        label, colour, line = styles[name]
        values = [row["accuracy"] for row in rows]
        lowest = min(lowest, *(value - 0.03 for value in values))
        axes.plot(values, color=colour, ls=line, marker="o", ms=4, label=label)
    axes.axhline(result["words around"], color=RED, ls=":", label="words around (TF-IDF)")
    axes.axhline(result["chance"], color=GREY, ls=":", lw=1, label="chance")
    last = len(result["layers"]["word"]) - 1
    axes.set_xticks(range(last + 1), ["before", *map(str, range(1, last + 1))])
    axes.set_ylim(lowest, 1.02)
    _tidy(axes, "Is the nearest place of the same sense?", "layer", "accuracy, mean over senses")
    axes.legend(frameon=False, loc="best", fontsize=9)


def _short(name: str) -> str:
    """A name as a label: whatever signs are in it, they are no mathematics and hide nothing."""
    name = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return drawable(f" {name}" if name.startswith("_") else name)


def _nearest(
    near: NDArray[np.float64], found: WordVectors, senses: Sequence[str], texts: Sequence[str]
) -> tuple[list[str], list[tuple[object, ...]]]:
    """Each place with the one that is nearest to it, for people who want to look."""
    places = nearest_others(near)
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
