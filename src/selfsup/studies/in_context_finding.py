"""What the study of learning in context concludes: tables, when it emerged, and a sentence a family."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfsup.data.keys import Key
from selfsup.data.task_rows import TaskRows, question

LEAST = 0.1
"""How much better than both floors an accuracy must be to be clearly so."""
_ERRORS = 3.0  # standard errors, likewise


def ceilings(rows: TaskRows, count: int, key: Key) -> dict[str, dict[str, float]]:
    """The share of held-out questions that the examples answer, by family and number of examples.

    Returns:
        `ceiling`, for who can work out the task; `lookup`, for who only finds an equal input.
    """
    ceiling, lookup = {}, {}
    for family in rows.families:
        for shots in rows.shots(family):
            asked = [
                question(family, n, shots, heldout=True, shuffled=False, key=key)
                for n in range(count)
            ]
            name = f"{family.name}/{shots}"
            ceiling[name] = sum(map(family.answerable, asked)) / count
            lookup[name] = sum(q.inputs[-1] in q.inputs[:-1] for q in asked) / count
    return {"ceiling": ceiling, "lookup": lookup}


def clearly_above(score: float, floor: float, questions: int) -> bool:
    """Whether an accuracy is better than a floor by more than chance and by `LEAST`."""
    error = math.sqrt((score * (1 - score) + floor * (1 - floor)) / questions)
    return score - floor > max(LEAST, _ERRORS * error)


def is_learning(values: Mapping[str, float], family: str, most: int, questions: int) -> bool:
    """Whether held-out accuracy behind the most examples is clearly above both floors."""
    place = f"{family}/heldout"
    score = values[f"{place}/true/{most}"]
    floor = max(values[f"{place}/true/0"], values[f"{place}/shuffled/{most}"])
    return clearly_above(score, floor, questions)


def emergence(
    marks: Sequence[Mapping[str, Any]], family: str, most: int, questions: int
) -> dict[str, Any] | None:
    """The first mark from which on the model learns from examples at every mark; None: there is none."""
    first = None
    for mark in reversed(marks):
        if not is_learning(mark, family, most, questions):
            break
        first = mark
    if first is None:
        return None
    return {"step": first["step"], "tokens": first["tokens"], "seconds": first["seconds"]}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": float(np.median(values)), "least": min(values), "most": max(values)}


def conclude(
    cells: Sequence[Mapping[str, Any]], rows: TaskRows, mark_questions: int, final_questions: int
) -> dict[str, Any]:
    """Everything the study found."""
    families = {}
    for family in rows.families:
        shots = rows.shots(family)
        name, most = family.name, max(shots)
        curves = {
            f"{part}/{mode}": [
                {"shots": k, **spread([c["final"][f"{name}/{part}/{mode}/{k}"] for c in cells])}
                for k in shots
                if k or mode == "true"
            ]
            for part in ("trained", "heldout")
            for mode in ("true", "shuffled")
        }
        families[name] = {
            "shots": shots,
            "curves": curves,
            "ceiling": [cells[0]["ceiling"][f"{name}/{k}"] for k in shots],
            "lookup": [cells[0]["lookup"][f"{name}/{k}"] for k in shots],
            "emerged": [emergence(c["marks"], name, most, mark_questions) for c in cells],
        }
    said = {n: sentence(n, f, cells, final_questions) for n, f in families.items()}
    return {
        "kind": "study in-context",
        "seeds": len(cells),
        "parameters": cells[0]["parameters"],
        "steps": [c["steps"] for c in cells],
        "tokens": [c["tokens"] for c in cells],
        "minutes": [c["minutes"] for c in cells],
        "precision": cells[0]["precision"],
        "questions": final_questions,
        "table": table(families),
        "findings": said,
        "families": families,
    }


def table(families: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for each family, part and kind of examples; medians over seeds."""
    every = sorted({k for f in families.values() for k in f["shots"]})
    lines = []
    for name, family in families.items():
        for (part, mode), said in {
            ("heldout", "true"): "held-out tasks",
            ("heldout", "shuffled"): "held-out, outputs shuffled",
            ("trained", "true"): "trained tasks",
            ("trained", "shuffled"): "trained, outputs shuffled",
        }.items():
            points = {p["shots"]: p["median"] for p in family["curves"][f"{part}/{mode}"]}
            line: dict[str, Any] = {"family": name, "asked": said}
            lines.append(line | {f"{k} shots": _rounded(points.get(k)) for k in every})
        for kind, said in {
            "lookup": "input shown before",
            "ceiling": "told by the examples",
        }.items():
            known = dict(zip(family["shots"], family[kind], strict=True))
            line = {"family": name, "asked": said}
            lines.append(line | {f"{k} shots": _rounded(known.get(k)) for k in every})
    return lines


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def sentence(
    name: str, family: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], questions: int
) -> str:
    """Whether it learns from examples, and since when."""
    most = max(family["shots"])
    true = {p["shots"]: p for p in family["curves"]["heldout/true"]}
    few, none = true[most], true[0]
    shuffled = family["curves"]["heldout/shuffled"][-1]
    numbers = (
        f"on held-out tasks {few['median']:.2f} with {most} examples, {none['median']:.2f} with none, "
        f"{shuffled['median']:.2f} when their outputs are shuffled"
    )
    learning = [is_learning(c["final"], name, most, questions) for c in cells]
    if not any(learning):
        return f"{name}: did not emerge in {_text(spread([c['tokens'] for c in cells]))} tokens ({numbers})."
    found = [mark for mark in family["emerged"] if mark is not None]
    part = "" if all(learning) else f" in {sum(learning)} of {len(learning)} trainings"
    if len(found) < sum(learning):
        return f"{name}: learns from examples at the end{part}, but not steadily before it ({numbers})."
    since = _text(spread([mark["tokens"] for mark in found]))
    steps = _text(spread([mark["step"] for mark in found]))
    return f"{name}: learns from examples{part} since {since} tokens ({steps} steps): {numbers}."


def _text(values: Mapping[str, float]) -> str:
    """`1,200,000` or `1,200,000 (900,000 to 2,000,000)`."""
    low, high = values["least"], values["most"]
    around = f" ({low:,.0f} to {high:,.0f})" if low != high else ""
    return f"{values['median']:,.0f}{around}"


def card(rows: TaskRows, steps: int, tokens: int) -> str:
    """The model's card, Markdown."""
    shown = "\n".join(f"- {f.name}: `{rows.text(f.draw(False, 3, 0, 0))}`" for f in rows.families)
    return f"""---
library_name: selfsup
pipeline_tag: text-generation
---

# A small decoder that learns from examples

Trained with `selfsup study in-context` for {steps:,} steps ({tokens:,} tokens) on rows that show one
task each.  It knows no language.  A prompt is written as it was trained, symbols parted by spaces:

{shown}

Open it with `selfsup generate` or `transformers.AutoModelForCausalLM`.
"""
