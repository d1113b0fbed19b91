"""Figures of the study of learning in context: accuracy by examples, and over the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.studies.figures import AMBER, BLUE, GREEN, GREY, RED, _saved, _tidy
from selfsup.uses.plotting import pyplot

_LINES = {
    "trained/true": ("trained tasks", GREY, "-"),
    "heldout/true": ("held-out tasks", BLUE, "-"),
    "heldout/shuffled": ("held-out, outputs shuffled", RED, "--"),
}


def _panels(count: int) -> tuple[Any, list[Any]]:
    size = (3.1 * count + 0.6, 3.7)
    figure, axes = pyplot().subplots(
        1, count, figsize=size, sharey=True, layout="constrained", squeeze=False
    )
    return figure, list(axes[0])


def _legend(figure: Any, axes: Any) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )


def draw_shots(out: Path, cells: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> Path:
    """Accuracy against the number of examples at the end of training, a panel for each family."""
    figure, panels = _panels(len(result["families"]))
    for axes, (name, family) in zip(panels, result["families"].items(), strict=True):
        at = {k: i for i, k in enumerate(family["shots"])}
        axes.plot(
            list(at.values()),
            family["ceiling"],
            color="black",
            ls=":",
            lw=1,
            label="told by the examples",
        )
        axes.plot(
            list(at.values()),
            family["lookup"],
            color=GREEN,
            ls=":",
            lw=1.4,
            label="input shown before",
        )
        for line, (label, colour, dash) in _LINES.items():
            points = family["curves"][line]
            x = [at[p["shots"]] for p in points]
            axes.plot(
                x,
                [p["median"] for p in points],
                color=colour,
                ls=dash,
                marker="o",
                ms=4,
                label=label,
            )
            low, high = ([p[end] for p in points] for end in ("least", "most"))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
        none = family["curves"]["heldout/true"][0]["median"]
        axes.axhline(none, color=AMBER, ls="-.", lw=1, label="held-out, no example")
        axes.set_xticks(list(at.values()), [str(k) for k in at])
        axes.set_ylim(-0.03, 1.03)
        _tidy(axes, name, "examples before the question", "")
    panels[0].set_ylabel("accuracy")
    _legend(figure, panels[0])
    table = [
        (*name.split("/"), cell["seed"], value)
        for cell in cells
        for name, value in cell["final"].items()
    ]
    header = ["family", "part", "outputs", "examples", "seed", "accuracy"]
    return _saved(figure, out, "shots", header, table)


def draw_emergence(
    out: Path, cells: Sequence[Mapping[str, Any]], result: Mapping[str, Any]
) -> Path:
    """Accuracy over the training: behind most examples, behind none, and with shuffled outputs."""
    figure, panels = _panels(len(result["families"]))
    for axes, (name, family) in zip(panels, result["families"].items(), strict=True):
        most = max(family["shots"])
        for line, (label, colour, dash) in {
            f"{name}/trained/true/{most}": ("trained tasks, most examples", GREY, "-"),
            f"{name}/heldout/true/{most}": ("held-out, most examples", BLUE, "-"),
            f"{name}/heldout/shuffled/{most}": ("the same, outputs shuffled", RED, "--"),
            f"{name}/heldout/true/0": ("held-out, no example", AMBER, "-."),
        }.items():
            for number, cell in enumerate(cells):
                x = [mark["tokens"] / 1e6 for mark in cell["marks"]]
                y = [mark[line] for mark in cell["marks"]]
                shown = label if number == 0 else None
                axes.plot(x, y, color=colour, ls=dash, lw=1.4, alpha=0.8, label=shown)
        found = [mark["tokens"] / 1e6 for mark in family["emerged"] if mark]
        if found:
            axes.axvline(float(np.median(found)), color="black", lw=0.8, ls=":")
        axes.set_ylim(-0.03, 1.03)
        _tidy(axes, f"{name}, {most} examples", "tokens read (millions)", "")
    panels[0].set_ylabel("accuracy")
    _legend(figure, panels[0])
    table = [
        (*name.split("/"), cell["seed"], mark["step"], mark["tokens"], value)
        for cell in cells
        for mark in cell["marks"]
        for name, value in mark.items()
        if "/" in name
    ]
    header = ["family", "part", "outputs", "examples", "seed", "step", "tokens", "accuracy"]
    return _saved(figure, out, "emergence", header, table)
