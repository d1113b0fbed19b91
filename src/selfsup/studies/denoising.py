"""What does noise buy?  Denoising gain and probe accuracy against the noise that was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.autoencoder_config import GaussianNoiseConfig
from selfsup.data.keys import Key
from selfsup.data.observations import Observations
from selfsup.data.sampler import Examples
from selfsup.errors import UserError, at_least
from selfsup.objectives.corruption import corrupt
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
from selfsup.studies.autoencoder_figures import draw_denoising
from selfsup.uses import codes
from selfsup.uses.autoencoding import Prepared, prepare
from selfsup.uses.run_folder import write_json

NOISES = (0.0, 0.1, 0.2, 0.4, 0.8)
_PROBED = 2000
"""Labelled training examples that a probe sees."""
_SCORES = ("heldout", "gain", "gain_pca", "probe", "probe_pca", "probe_input", "largest_class")


def run(plan: Plan, noises: Sequence[float] = NOISES, size: int = 64) -> dict[str, Any]:
    """Train auto-encoders on noise of several strengths (0: none).

    The gain is by how many dB the squared error of noisy held-out examples falls, beside a projection
    on as many principal components of the clean training examples: of images the gain in peak
    signal-to-noise ratio.  With labels, a linear probe reads the codes of clean examples; beside it,
    probes of the principal components and of the input itself.

    Args:
        plan: data, folder, steps and seeds.
        noises: standard deviations, where an image spans 0 to 1 and a column has scale 1.
        size: numbers in the code.

    Raises:
        UserError: a noise below 0, a size below 1, or a table with words.
    """
    if not noises or min(noises) < 0:
        raise UserError("noises are numbers from 0", where="--noises", mend="like 0,0.2,0.4")
    at_least(1, size, "--code-size")
    with opened(plan, noises=list(noises), size=size) as observations:
        wanted = [{"noise": noise, "seed": seed} for noise in noises for seed in range(plan.seeds)]
        rows = cells(plan, wanted, lambda what: _cell(plan, observations, size, what))
        table = medians(rows, "noise", _SCORES)
        result = {
            "kind": "study-denoising",
            "finding": _finding(table),
            "table": table,
            "code_size": size,
            "seeds": plan.seeds,
            "steps": plan.steps,
            "figure": str(draw_denoising(plan.out, rows)),
        }
        write_json(plan.out / "result.json", result)
        return result


def _cell(plan: Plan, observations: Observations, size: int, what: Mapping[str, Any]) -> Cell:
    recipe = "denoising-autoencoder" if what["noise"] else "autoencoder"
    corruption = {"sigma": what["noise"]} if what["noise"] else {}
    settings = config(
        plan,
        recipe,
        what["seed"],
        bottleneck={"size": size},
        corruption=corruption,
        objective={"likelihood": "squared"},
    )
    prepared = prepare(settings, observations)
    check_numbers(prepared, plan.data.path)
    model = trained(prepared)
    train, heldout = sides(prepared)
    components = _components(train, size)
    cell: Cell = {"heldout": len(heldout)}
    if what["noise"]:
        seen = _noisy(prepared, what["noise"])
        cell["gain"] = gain(seen, codes.reconstruct(model, seen), heldout)
        if components is not None:
            flat = components.transform(_flat(seen))
            back = components.inverse_transform(flat).reshape(heldout.shape)
            cell["gain_pca"] = gain(seen, back, heldout)
    if observations.labels is not None:
        truth = np.asarray(observations.labels)
        own, asked = truth[prepared.train[: len(train)]], truth[prepared.heldout[: len(heldout)]]
        parts = {"probe": [codes.encode(model, x) for x in (train, heldout)]}
        parts["probe_input"] = [train, heldout]
        if components is not None:
            parts["probe_pca"] = [components.transform(_flat(x)) for x in (train, heldout)]
        cell |= {name: probe(x, own, y, asked) for name, (x, y) in parts.items()}
        cell["largest_class"] = float(np.unique(asked, return_counts=True)[1].max() / len(asked))
    return cell


def _flat(x: Floats) -> NDArray[np.float64]:
    return x.reshape(len(x), -1).astype(np.float64)


def _components(train: Floats, size: int) -> Any:
    from sklearn.decomposition import PCA

    flat = _flat(train)
    return PCA(size, random_state=0).fit(flat) if size <= min(flat.shape) else None


def _noisy(prepared: Prepared, sigma: float) -> Floats:
    """The held-out examples with noise that no training has seen."""
    rows = prepared.heldout[:5000]
    clean = prepared.objective.read(rows)
    examples = Examples(rows, np.zeros_like(rows))
    return corrupt(
        GaussianNoiseConfig(sigma=sigma), clean, examples, Key(1867), prepared.objective.blocks
    )


def gain(noisy: Floats, guess: NDArray[Any], clean: Floats) -> float:
    """Mean over examples of how much closer the guess is than the noisy example, dB."""
    before, after = (
        np.maximum(((_flat(x) - _flat(clean)) ** 2).mean(1), 1e-12) for x in (noisy, guess)
    )
    return float(10 * np.log10(before / after).mean())


def probe(
    train: NDArray[Any], labels: NDArray[Any], asked: NDArray[Any], truth: NDArray[Any]
) -> float | None:
    """Accuracy of logistic regression on scaled numbers; None: the training part has one class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels[:_PROBED])) < 2:
        return None
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    fitted.fit(_flat(train)[:_PROBED], labels[:_PROBED])
    return float((fitted.predict(_flat(asked)) == truth).mean())


def _finding(table: Sequence[Cell]) -> str:
    parts = []
    gains = [row for row in table if "gain" in row]
    if gains:
        best = max(gains, key=lambda row: row["gain"])
        beside = f" (principal components {best['gain_pca']:+.1f} dB)" if "gain_pca" in best else ""
        parts.append(
            f"The largest gain is {best['gain']:+.1f} dB at noise {best['noise']:g}{beside}."
        )
    probed = [row for row in table if "probe" in row]
    if probed:
        scores = ", ".join(f"{row['noise']:g}: {row['probe']:.1%}" for row in probed)
        parts.append(
            f"A linear probe of the codes by the noise of training, {scores}; of the input itself "
            f"{probed[0]['probe_input']:.1%} ({probed[0]['heldout']:,.0f} held-out examples)."
        )
    return " ".join(parts) or "Without noise and without labels there is nothing to compare."
