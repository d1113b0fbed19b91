"""Which codes are used?  Usage, perplexity and dead codes over training, of VQ and of FSQ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.data.observations import Observations
from selfsup.errors import UserError, nearest
from selfsup.studies.autoencoder_cells import (
    Cell,
    Plan,
    cells,
    check_words,
    config,
    medians,
    opened,
)
from selfsup.studies.autoencoder_figures import draw_codebook
from selfsup.uses.autoencoding import make_loop, prepare
from selfsup.uses.run_folder import write_json

LEVELS = (8, 6, 5)
CODES = math.prod(LEVELS)
QUANTIZERS = {
    "fsq": "FSQ",
    "vq": "VQ",
    "vq-bare": "VQ, random start, none revived",
}
_OFTEN = {"evaluate_every": 0.125, "evaluate_rows": 2000}


def run(plan: Plan, quantizers: Sequence[str] = tuple(QUANTIZERS)) -> dict[str, Any]:
    """Train the same network with each quantizer, all of 240 codes of three numbers, and look on.

    At several times of one training the codes of the held-out examples are counted.  A code is dead
    when none of them has it.  A codebook's vectors come on top of the network that all share.

    Args:
        plan: data, folder, steps and seeds.
        quantizers: names of `QUANTIZERS`.

    Raises:
        UserError: a quantizer that there is not, or a table of which no column can be learned.
    """
    for name in quantizers:
        if name not in QUANTIZERS:
            mend = nearest(name, list(QUANTIZERS)) or f"there are {', '.join(QUANTIZERS)}"
            raise UserError(f"unknown quantizer '{name}'", where="--quantizers", mend=mend)

    def check(observations: Observations) -> None:
        if not observations.images:
            check_words(plan, prepare(config(plan, "fsq-autoencoder", 0), observations))

    with opened(plan, check, quantizers=list(quantizers)) as observations:
        wanted = [
            {"quantizer": name, "seed": seed} for name in quantizers for seed in range(plan.seeds)
        ]
        rows = cells(plan, wanted, lambda what: _cell(plan, observations, what))
        last = [{**{k: row[k] for k in ("quantizer", "seed")}, **row["looks"][-1]} for row in rows]
        table = medians(last, "quantizer", ("usage", "perplexity", "dead", "squared_error"))
        result = {
            "kind": "study-codebook",
            "finding": _finding(table, plan.steps),
            "table": table,
            "codes": CODES,
            "seeds": plan.seeds,
            "steps": plan.steps,
            "figure": str(draw_codebook(plan.out, rows, QUANTIZERS)),
        }
        write_json(plan.out / "result.json", result)
        return result


def _settings(plan: Plan, what: Mapping[str, Any]) -> AutoEncoderConfig:
    if what["quantizer"] == "fsq":
        levels = {"levels": list(LEVELS)}
        return config(plan, "fsq-autoencoder", what["seed"], bottleneck=levels, train=_OFTEN)
    changes: dict[str, Any] = {"codes": CODES, "size": len(LEVELS)}
    if what["quantizer"] == "vq-bare":
        changes |= {"start": "random", "revive": 0.0}
    return config(plan, "vq-autoencoder", what["seed"], bottleneck=changes, train=_OFTEN)


def _cell(plan: Plan, observations: Observations, what: Mapping[str, Any]) -> Cell:
    loop = make_loop(prepare(_settings(plan, what), observations), None, True)
    scores, looks = loop.evaluate, []
    assert scores is not None

    def look(model: nn.Module) -> dict[str, float]:
        values = scores(model)
        dead = CODES - round(values["usage"] * CODES)
        kept = {key: values[key] for key in ("usage", "perplexity", "squared_error")}
        looks.append({"step": loop.state.step, **kept, "dead": dead})
        return values

    loop.evaluate = look
    loop.run()
    return {"looks": looks}


def _finding(table: Sequence[Cell], steps: int) -> str:
    parts = [
        f"{QUANTIZERS[row['quantizer']]}: {row['usage'] * CODES:.4g} of {CODES} codes used, perplexity "
        f"{row['perplexity']:.0f}, squared error {row['squared_error']:.4f}"
        for row in table
    ]
    return f"After {steps:,} steps, on held-out examples. " + "; ".join(parts) + "."
