"""Does next-sentence prediction help?  The same recipe with and without it, at equal tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from selfsup.config import PretrainConfig
from selfsup.errors import UserError, at_least
from selfsup.models.hub import load_encoder
from selfsup.nn.device import choose_device
from selfsup.studies.figures import draw_pairs
from selfsup.training.devices import choose_precision
from selfsup.training.evaluation import Evaluation, Evaluator
from selfsup.training.metrics import read_metrics
from selfsup.training.progress import Progress
from selfsup.uses.preparing import prepare
from selfsup.uses.pretraining import pretrain
from selfsup.uses.run_folder import write_json


def run(
    config: PretrainConfig,
    out: str | Path,
    *,
    seeds: int = 3,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train with and without next-sentence prediction, several seeds each, at equal tokens.

    Args:
        config: the recipe; its `pairs` is set by the study, its budget must be in tokens or steps
            (a budget in minutes would give the two unequal amounts of text).
        out: gets a run folder for each training, a figure, and `result.json`.
        seeds: trainings of each kind; the spread between them is what a difference must beat.
        overwrite: start anew where the study lies already.
        quiet: print nothing.

    Returns:
        For each kind the median held-out masked loss with its range, the accuracy on the pairs
        question, and a sentence that says which is better and by how much.
    """
    if config.train.budget.unit == "minutes":
        raise UserError(
            "a budget in minutes would give the two unequal amounts of text",
            where="--minutes",
            mend="give --tokens or --steps",
        )
    at_least(1, seeds, "--seeds")
    if config.objective.kind != "masked-tokens":
        what = f"asks about masked tokens, not '{config.objective.kind}'"
        raise UserError(what, where="--recipe", mend="use a bert-* or modernbert-* recipe")
    folder, display = Path(out), Progress(quiet=quiet, title="")
    common = prepare(with_pairs(config, "none", 0), Progress(quiet=True, title="")).evaluation
    rows = []
    for seed in range(seeds):
        for pairs in ("none", "next-sentence"):
            display.say(f"{pairs}, seed {seed}")
            chosen = with_pairs(config, pairs, seed)
            place = folder / f"{pairs}-{seed}"
            result = pretrain(chosen, place, overwrite=overwrite, quiet=True)
            scores = score_on_common_rows(common, config.train.batch_size, place)
            rows.append({"pairs": pairs, "seed": seed, **_row(result, scores, place)})
    summary = {
        kind: _summary([r for r in rows if r["pairs"] == kind])
        for kind in ("none", "next-sentence")
    }
    answer = {
        "kind": "study next-sentence",
        "recipe": config.recipe,
        "budget": str(config.train.budget),
        "seeds": seeds,
        "summary": summary,
        "finding": finding(rows),
        "runs": rows,
    }
    draw_pairs(folder, rows)
    write_json(folder / "result.json", answer)
    return answer


def score_on_common_rows(common: Evaluation, size: int, run: Path) -> dict[str, float]:
    """Held-out metrics of a finished run on rows without pairs, the same for every run.

    During training each kind is scored on rows as it is trained on; those of pairs hold other text
    and other masks, so they do not compare.

    Args:
        common: the rows, and their question.
        size: rows at once.
        run: a finished run's folder.
    """
    device = choose_device("cpu")
    return Evaluator(common, size, device, choose_precision("fp32", device))(
        load_encoder(run).model
    )


def _row(result: dict[str, Any], scores: dict[str, float], run: Path) -> dict[str, Any]:
    """What the study keeps of a run."""
    heldout = [x for x in read_metrics(run / "metrics.jsonl") if x["split"] == "heldout"]
    return {
        "masked_loss": scores["masked_loss"],
        "masked_accuracy": scores["masked_accuracy"],
        "pair_accuracy": result["heldout"].get("pair_accuracy"),
        "tokens": result["tokens"],
        "minutes": result["minutes"],
        "curve_tokens": [x["tokens"] for x in heldout],
        "curve_loss": [x["masked_loss"] for x in heldout],
    }


def with_pairs(config: PretrainConfig, pairs: str, seed: int) -> PretrainConfig:
    """The configuration with another pairs question and seed; everything else stays."""
    value = config.model_dump(mode="json")
    value["objective"]["pairs"] = pairs
    value["model"]["pooler"] = True
    value["model"]["type_vocab_size"] = max(2, config.model.type_vocab_size)
    value["seed"] = seed
    return PretrainConfig.model_validate(value)


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    losses = [r["masked_loss"] for r in rows]
    asked = [r["pair_accuracy"] for r in rows if r["pair_accuracy"] is not None]
    return {
        "masked_loss": {
            "median": float(np.median(losses)),
            "least": min(losses),
            "most": max(losses),
        },
        "pair_accuracy": float(np.median(asked)) if asked else None,
        "minutes": float(np.median([r["minutes"] for r in rows])),
    }


def finding(rows: list[dict[str, Any]]) -> str:
    """One sentence; a difference counts when every seed agrees on its sign."""
    by_seed: dict[int, dict[str, float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {})[row["pairs"]] = row["masked_loss"]
    gaps = [pair["next-sentence"] - pair["none"] for pair in by_seed.values()]
    median = float(np.median(gaps))
    spread = f"{min(gaps):+.3f} to {max(gaps):+.3f} over {len(gaps)} seeds"
    if len(gaps) > 1 and all(g > 0 for g in gaps):
        return (
            f"Next-sentence prediction hurts: held-out masked loss {median:+.3f} nats ({spread})."
        )
    if len(gaps) > 1 and all(g < 0 for g in gaps):
        return (
            f"Next-sentence prediction helps: held-out masked loss {median:+.3f} nats ({spread})."
        )
    return f"No clear difference: held-out masked loss {median:+.3f} nats ({spread})."
