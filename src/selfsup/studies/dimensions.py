"""How many numbers does a code need?  Held-out error against the code's size, beside PCA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfsup.data.observations import Observations
from selfsup.errors import UserError
from selfsup.studies.autoencoder_cells import (
    Cell,
    Floats,
    Plan,
    cells,
    check_numbers,
    config,
    medians,
    opened,
    sides,
    trained,
)
from selfsup.studies.autoencoder_figures import draw_dimensions
from selfsup.uses import codes
from selfsup.uses.autoencoding import prepare
from selfsup.uses.run_folder import write_json

SIZES = (2, 4, 8, 16, 32, 64)


def run(plan: Plan, sizes: Sequence[int] = SIZES) -> dict[str, Any]:
    """Train auto-encoders with codes of several sizes; PCA keeps as many numbers.

    The same command again goes on where it stopped.  Both are scored on the same held-out examples
    by the mean squared error of a value, and PCA is fitted on the same training examples.

    Args:
        plan: data, folder, steps and seeds.
        sizes: numbers in the code.

    Raises:
        UserError: a table with words (whose squared error is of no numbers), or a size below 1.
    """
    if not sizes or min(sizes) < 1:
        raise UserError("sizes are whole numbers from 1", where="--sizes", mend="like 2,8,32")
    sizes = list(dict.fromkeys(sizes))
    with opened(plan, sizes=sizes) as observations:
        wanted = [{"size": size, "seed": seed} for size in sizes for seed in range(plan.seeds)]
        rows = cells(plan, wanted, lambda what: _cell(plan, observations, what))
        table = medians(rows, "size", ("auto-encoder", "pca", "mean"))
        figure = draw_dimensions(plan.out, rows)
        result = {
            "kind": "study-dimensions",
            "finding": _finding(table),
            "table": table,
            "seeds": plan.seeds,
            "steps": plan.steps,
            "figure": str(figure),
        }
        write_json(plan.out / "result.json", result)
        return result


def _cell(plan: Plan, observations: Observations, what: Mapping[str, Any]) -> Cell:
    settings = config(plan, "autoencoder", what["seed"], bottleneck={"size": what["size"]})
    prepared = prepare(settings, observations)
    check_numbers(prepared, plan.data.path)
    model = trained(prepared)
    train, heldout = sides(prepared)
    back = codes.reconstruct(model, heldout)
    return {
        "auto-encoder": float(((back - heldout) ** 2).mean()),
        "pca": principal_error(train, heldout, what["size"]),
        "mean": float(((train.mean(0) - heldout) ** 2).mean()),
    }


def principal_error(train: Floats, heldout: Floats, size: int) -> float | None:
    """Mean squared error of a value behind `size` principal components.

    None where there are not as many, or where they are as many as the values and nothing is left out.
    """
    from sklearn.decomposition import PCA

    flat, asked = (x.reshape(len(x), -1).astype(np.float64) for x in (train, heldout))
    if size > len(flat) or size >= flat.shape[1]:
        return None
    pca = PCA(size, random_state=0).fit(flat)
    back = pca.inverse_transform(pca.transform(asked))
    return float(((back - asked) ** 2).mean())


def _finding(table: Sequence[Cell]) -> str:
    both = [row for row in table if "pca" in row]
    if not both:
        return "No size is within reach of PCA: there are fewer examples or values."
    better = [row["size"] for row in both if row["auto-encoder"] < row["pca"]]
    ratio = {row["size"]: row["auto-encoder"] / max(row["pca"], 1e-12) for row in both}
    first, last = both[0]["size"], both[-1]["size"]
    also = f" and {ratio[last]:.2f} x with {last}" if last != first else ""
    where = f"with {', '.join(map(str, better))} numbers" if better else "with no size"
    return (
        f"The auto-encoder's held-out error lies below PCA's {where}; it is {ratio[first]:.2f} x PCA's "
        f"with {first}{also}."
    )
