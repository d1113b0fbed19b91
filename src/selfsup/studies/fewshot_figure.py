"""The figure of few-shot prompting: accuracy against the number of examples in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.studies.fewshot_finding import GUESSING
from selfsup.studies.figures import AMBER, BLUE, GREEN, GREY, RED, _saved, _tidy
from selfsup.uses.plotting import pyplot

_COLOURS = (BLUE, GREEN, AMBER, "#6b4c9a", "#2a9d8f", "#a05a2c")


def draw_shots(out: Path, result: Mapping[str, Any]) -> Path:
    """Each model's median and range over the draws, true labels and shuffled ones; the floors.

    Args:
        out: the study's folder.
        result: what `result.json` holds.
    """
    main, points = result["accuracy"], result["points"]
    counts = sorted({p["shots"] for p in points})
    figure, axes = pyplot().subplots(figsize=(7.4, 4.6), layout="constrained")
    for number, model in enumerate(result["models"]):
        colour = _COLOURS[number % len(_COLOURS)]
        for labels, line, alpha in (("true", "-", 0.16), ("shuffled", "--", 0.07)):
            rows = [
                (places, [p[main] for p in own])
                for places, count in enumerate(counts)
                if (
                    own := [
                        p
                        for p in points
                        if (p["model"], p["shots"], p["labels"]) == (model, count, labels)
                    ]
                )
            ]
            if not rows:
                continue
            x = [place for place, _ in rows]
            name = f"{model}: {labels} labels" if len(result["models"]) > 1 else f"{labels} labels"
            shade = colour if labels == "true" or len(result["models"]) > 1 else GREY
            style = {"color": shade, "ls": line, "marker": "o", "ms": 4, "lw": 1.7}
            axes.plot(x, [float(np.median(v)) for _, v in rows], label=name, **style)
            low, high = [min(v) for _, v in rows], [max(v) for _, v in rows]
            axes.fill_between(x, low, high, color=shade, alpha=alpha, lw=0)
    for label, height, colour in _floors(result):
        axes.axhline(height, color=colour, ls=":", lw=1.2, label=label)
    axes.set_xticks(range(len(counts)), [str(c) for c in counts])
    axes.set_ylim(-0.02, 1.02)
    draws = result["draws"]
    over = f"median and range of {draws} draws" if draws > 1 else "one draw"
    numbers = result["examples"]["asked about"].values()
    least, most = min(numbers), max(numbers)
    asked = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    _tidy(
        axes,
        f"{result['task']}: in-context learning ({over}, {asked} examples asked)",
        "examples in the prompt",
        "exact match" if main == "exact" else "accuracy",
    )
    axes.legend(frameon=False, loc="best", fontsize=9)
    header = ["model", "labels", "shots", "draw", "accuracy", "asked", "floor"]
    floors, number_of = result["majority"], result["examples"]["asked about"]
    table = [
        (
            *(p["model"], p["labels"], p["shots"], p["draw"], p[main]),
            *(number_of[p["model"]], floors[p["model"]]["accuracy"]),
        )
        for p in points
    ]
    return _saved(figure, out, "fewshot", header, table)


def _floors(result: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    """Label, height and colour of each floor: one where all models were asked the same."""
    found = []
    for number, model in enumerate(result["models"]):
        floor = result["majority"][model]
        label = f"always '{floor['answer']}'" if floor["answer"] else GUESSING
        colour = _COLOURS[number % len(_COLOURS)]
        found.append((model, label, float(floor["accuracy"]), colour))
    if len({(label, height) for _, label, height, _ in found}) == 1:
        return [(label, height, RED) for _, label, height, _ in found[:1]]
    return [(f"{model}: {label}", height, colour) for model, label, height, colour in found]
