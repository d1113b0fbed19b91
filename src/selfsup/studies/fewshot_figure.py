"""The figure of few-shot prompting: accuracy against the number of examples in the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    floor = result["majority"]
    label = f"always '{floor['answer']}'" if floor["answer"] else "guessing among the choices"
    axes.axhline(floor["accuracy"], color=RED, ls=":", lw=1.2, label=label)
    axes.set_xticks(range(len(counts)), [str(c) for c in counts])
    axes.set_ylim(-0.02, 1.02)
    draws = result["draws"]
    over = f"median and range of {draws} draws" if draws > 1 else "one draw"
    asked = result["examples"]["asked about"]
    _tidy(
        axes,
        f"{result['task']}: in-context learning ({over}, {asked:,} examples asked)",
        "examples in the prompt",
        "exact match" if main == "exact" else "accuracy",
    )
    axes.legend(frameon=False, loc="best", fontsize=9)
    header = ["model", "labels", "shots", "draw", "accuracy"]
    table = [(p["model"], p["labels"], p["shots"], p["draw"], p[main]) for p in points]
    return _saved(figure, out, "fewshot", header, table)
