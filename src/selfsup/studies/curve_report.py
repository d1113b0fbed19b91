"""The label curves on paper: three figures and one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.studies.curve_finding import listed, times
from selfsup.studies.figures import draw_labels, draw_training
from selfsup.studies.report import Page

NAMES = {
    "pretrained": "pre-trained",
    "random": "random weights",
    "probe": "frozen + probe",
    "tfidf": "TF-IDF",
    "lookup": "most frequent tag",
}
_MOST_CLASSES = 20
_ARROW = 3  # a smaller saving has no room between the lines
_CONFUSED = 20


def draw(folder: Path, result: Mapping[str, Any]) -> None:
    """Draw `figures/training`, `labels` and, for texts, `probe`, each with its numbers."""
    draw_training(folder, result["curves"], result["metric"], result["data"]["watched"])
    scores, saving = result["scores"], result["saving"]
    arrow = None
    if saving and saving["times_fewer"] >= _ARROW:
        text = f"{saving['bound']} {times(saving['times_fewer'])} times fewer".strip()
        arrow = (saving["labels"], saving["random_labels"], saving["score"], text)
    common = {
        "metric": result["metric"],
        "unit": f"labelled {'examples' if result['unit'] == 'labels' else result['unit']}",
        "seeds": result["seeds"],
        "floor": result["majority"],
    }
    shown = {k: scores[k] for k in ("pretrained", "random", "tfidf", "lookup") if k in scores}
    title = "Label efficiency"
    draw_labels(folder, "labels", result["labels"], shown, title=title, saving=arrow, **common)
    if "probe" in scores:
        shown = {k: scores[k] for k in ("pretrained", "probe")}
        title = "Fine-tuning or a frozen encoder"
        draw_labels(folder, "probe", result["labels"], shown, title=title, **common)


def score_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each number of labels: median and range from each start."""
    rows = []
    for i, count in enumerate(result["labels"]):
        row: dict[str, Any] = {result["unit"]: count}
        for start, name in NAMES.items():
            if start in result["scores"]:
                row[name] = _spread(result["scores"][start][i])
        rows.append(row)
    return rows


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def write(folder: Path, result: Mapping[str, Any]) -> None:
    """Write `report.html`, which needs nothing beside it."""
    page = Page(f"Was pre-training worth it?  {Path(result['model']).name}", result["finding"])
    page.items(result["also"])
    _efficiency(page, folder, result)
    _training(page, folder, result)
    if "probe" in result["scores"]:
        _probe(page, folder)
    _mistakes(page, result)
    _how(page, result)
    page.write(folder / "report.html")


def _efficiency(page: Page, folder: Path, result: Mapping[str, Any]) -> None:
    unit, metric = result["unit"], result["metric"]
    page.heading("How many labels does it save?")
    caption = f"{metric} on {result['data']['scored on']} against the number of {unit}."
    page.image(folder / "figures" / "labels.png", caption)
    page.table(score_rows(result))
    spread = ", with the range over seeds in brackets" if len(result["seeds"]) > 1 else ""
    floor = result["majority"]
    guess = "" if floor is None else f"  Always guessing the same scores {floor:.3f}."
    page.text(f"Medians of {metric}{spread}.{guess}")
    rows = [
        {
            unit: row["labels"],
            f"pre-trained {metric}": f"{row['score']:.3f}",
            **{k: row[k] for k in ("random weights need", "times fewer") if k in row},
        }
        for row in result["equivalents"]
    ]
    page.table(rows)
    page.text(
        f"How many {unit} random weights need to reach the same median, read between the measured "
        f"numbers on a logarithmic axis.  “at least”: not reached with {result['labels'][-1]:,}.  "
        f"“at most”: reached with {result['labels'][0]:,} already."
    )


def _training(page: Page, folder: Path, result: Mapping[str, Any]) -> None:
    page.heading("Does it learn faster?")
    caption = f"Training with all {result['labels'][-1]:,} {result['unit']} from both starts"
    caption += f", scored on {result['data']['watched']} along the way."
    page.image(folder / "figures" / "training.png", caption)
    rows = []
    for start, seeds in result["curves"].items():
        rows.append(
            {
                "": NAMES[start],
                "loss at the end": _spread([s["loss"][-1] for s in seeds]),
                f"{result['metric']} before training": _spread([s["score"][0] for s in seeds]),
                f"{result['metric']} at the end": _spread([s["score"][-1] for s in seeds]),
                "steps": seeds[0]["step"][-1],
            }
        )
    page.table(rows)


def _probe(page: Page, folder: Path) -> None:
    page.heading("Must the encoder be trained at all?")
    page.image(
        folder / "figures" / "probe.png",
        "Fine-tuning beside a linear model over the mean vectors of the encoder as it is.",
    )


def _mistakes(page: Page, result: Mapping[str, Any]) -> None:
    found, numbers = result["mistakes"], result["task"] == "regress"
    page.heading("What does it get wrong?")
    which = f"the pre-trained model with all {result['labels'][-1]:,} {result['unit']}, seed "
    odd = len(result["seeds"]) % 2
    which += f"{found['seed']}, " + (
        "which is the median" if odd else "the lower of the middle two"
    )
    if confusion := found.get("confusion"):
        names, counts = confusion["labels"], confusion["counts"]
        page.text(f"True classes in rows, given ones in columns: {which}.")
        if len(names) <= _MOST_CLASSES:
            page.grid("true \\ given", names, counts)
        else:
            page.text(f"The {_CONFUSED} commonest confusions of {len(names)} classes:")
            page.table(_confused(names, counts))
    said = "The farthest answers" if numbers else f"{found['wrong']:,} of {found['of']:,} are wrong"
    rest = "" if numbers or not found["examples"] else "; the most confident or worst ones first"
    page.text(f"{said}{rest}" + ("." if confusion else f" ({which})."))
    if found["examples"]:
        page.table(found["examples"])


def _confused(names: list[str], counts: list[list[int]]) -> list[dict[str, Any]]:
    pairs = [
        (n, names[i], names[j])
        for i, row in enumerate(counts)
        for j, n in enumerate(row)
        if i != j and n
    ]
    pairs.sort(key=lambda pair: -pair[0])
    return [{"true": a, "given": b, "times": n} for n, a, b in pairs[:_CONFUSED]]


def _how(page: Page, result: Mapping[str, Any]) -> None:
    page.heading("How it was measured")
    unit = result["unit"]
    rate = "a learning rate of their own" if result["scratch_lr"] else "the same learning rate"
    lines = [
        f"Both starts have the same network, head, settings and steps; random weights have {rate}.",
        f"A seed draws one nested sample for all models: the fewer {unit} are among the more.",
        f"The last weights are scored once on {result['data']['scored on']}; nothing was chosen by it.",
    ]
    if result["task"] in {"classify", "pairs"}:
        lines.append("Classes take turns in a sample as long as they last.")
    if "tfidf" in result["scores"]:
        lines.append(
            "TF-IDF and probe choose their penalty by cross-validation on the sample alone."
        )
    if "lookup" in result["scores"]:
        lines.append(
            "The most frequent tag is each word's in the same sample; an unseen word has the sample's."
        )
    page.items([*lines, *result["notes"]])
    if result["command"]:
        page.code(result["command"])
    trained = [c for c in result["cells"] if "steps" in c]
    settings, data = result["settings"], result["data"]
    rows: list[dict[str, Any]] = [
        {"": "model", "value": result["model"]},
        {"": "task", "value": f"{result['task']}, scored by {result['metric']}"},
        {"": "examples to learn from", "value": f"{data['to learn from']:,}"},
        {"": "examples scored", "value": f"{data['scored']:,} ({data['scored on']})"},
        {"": unit, "value": listed(result["labels"])},
        {"": "seeds", "value": ", ".join(map(str, result["seeds"]))},
        {"": "steps", "value": _from_to([c["steps"] for c in trained])},
        *(
            {"": f"learning rate, {NAMES[start]}", "value": f"{_rate(trained, start):.3g}"}
            for start in ("pretrained", "random")
        ),
        {"": "batch", "value": f"{settings['train']['batch_size']}"},
        {"": "precision", "value": settings["train"]["precision"]},
        {"": "training time", "value": f"{sum(c['seconds'] for c in trained) / 60:,.1f} minutes"},
        {"": "versions", "value": ", ".join(f"{k} {v}" for k, v in result["versions"].items())},
    ]
    page.table(rows)


def _rate(cells: list[dict[str, Any]], start: str) -> float:
    return float(next(c["learning_rate"] for c in cells if c["start"] == start))


def _from_to(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
