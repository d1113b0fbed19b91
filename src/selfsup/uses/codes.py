"""Using an auto-encoder's codes: encode, decode, sample, interpolate, traverse, cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.data.images import ImageSpec, channels_first
from selfsup.data.keys import uniform
from selfsup.data.observations import Observations
from selfsup.errors import UserError, at_least, check_count, check_seed
from selfsup.models.autoencoder import AutoEncoder
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.objectives.corruption import normal_draws
from selfsup.uses.autoencoding import code_indices
from selfsup.uses.code_words import sample_indices
from selfsup.uses.sampling import check_temperature

Floats = NDArray[np.float32]
Prior = PretrainedDecoder | Path | str
"""`auto`, `gaussian`, `mixture`, or a decoder (of a folder, if a string)."""
_BATCH = 256
_SAMPLE, _LIKELIHOOD = 7, 8
"""What draws are for, among keyed draws."""


def inputs(model: AutoEncoder, given: Observations | Any) -> Floats:
    """Examples as the model takes them; those of another kind or range are refused by name.

    Args:
        model: the auto-encoder.
        given: images (count, channels, height, width), (count, height, width, channels) or, of one channel,
            (count, height, width), in the range of training; a table (an array, a data frame, a mapping
            of columns); or what was read from a file.

    Returns:
        (count, *input_shape), scaled and encoded as in training.
    """
    images = isinstance(model.spec, ImageSpec)
    observations = given
    if not isinstance(given, Observations):
        array = np.asarray(given) if images else given
        observations = Observations(channels_first(array) if images else array, None, "")
    if images != observations.images:
        kinds = ("images", "a table") if images else ("a table", "images")
        what = f"the model takes {kinds[0]}, this is {kinds[1]}"
        raise UserError(what, where=observations.where)
    if isinstance(model.spec, ImageSpec):
        model.spec.check_range(observations.values, observations.where)
    return model.spec.transform(observations.values, observations.where)


def _examples(model: AutoEncoder, x: Any) -> Floats:
    """Examples in the space of the model's inputs, in memory that torch takes."""
    array = np.ascontiguousarray(x, np.float32)
    array = array if array.flags.writeable else array.copy()
    mend = "`inputs` makes them of images or a table"
    if array.shape[1:] != model.input_shape:
        what = f"examples of shape {array.shape[1:]}, the model takes {model.input_shape}"
        raise UserError(what, mend=mend)
    if not len(array):
        raise UserError("there are no examples")
    if not np.isfinite(array).all():
        raise UserError("examples are finite numbers, these are not", mend=mend)
    return array


@torch.no_grad()
def encode(model: AutoEncoder, x: Floats) -> Floats:
    """(count, *code_shape) what the decoder would read of each example.

    Args:
        model: the auto-encoder.
        x: (count, *input_shape) as `inputs` gives them.

    Raises:
        UserError: none, another shape, or no finite numbers.
    """
    x = _examples(model, x)
    model.eval()
    batches = (torch.from_numpy(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH))
    parts = [model.encode(batch.to(model.device)).z for batch in batches]
    codes: Floats = torch.cat(parts).float().cpu().numpy()
    return codes


@torch.no_grad()
def decode(model: AutoEncoder, codes: NDArray[Any]) -> Floats:
    """(count, *input_shape) examples of codes, in the space of the model's inputs.

    Args:
        model: the auto-encoder.
        codes: (count, *code_shape) as `encode` gives them, or whole numbers (count, …, columns).

    Raises:
        UserError: none, another shape, no finite numbers, or an index that there is not.
    """
    model.eval()
    if not codes.size or codes.dtype.kind not in "uifb" or not np.isfinite(codes).all():
        what = "there are no codes" if not codes.size else "codes are finite numbers, these are not"
        raise UserError(what, mend="give what `selfsup encode` wrote")
    if codes.dtype.kind in "iu" and model.bottleneck.sizes:
        _check_indices(model, codes)
        z = model.lookup(torch.from_numpy(codes.astype(np.int64)).to(model.device)).float()
    else:
        z = torch.from_numpy(codes.astype(np.float32)).to(model.device)
    if tuple(z.shape[1:]) != model.code_shape:
        mend = "give what `selfsup encode` wrote"
        if model.bottleneck.sizes and codes.dtype.kind == "f" and (codes % 1 == 0).all():
            mend = "if they are indices, give them as whole numbers, and not as fractions"
        what = f"codes of shape {tuple(z.shape[1:])}, the model has {model.code_shape}"
        raise UserError(what, mend=mend)
    parts = [model.decode(z[i : i + _BATCH]) for i in range(0, len(z), _BATCH)]
    decoded: Floats = torch.cat(parts).cpu().numpy()
    return decoded


def _check_indices(model: AutoEncoder, codes: NDArray[Any]) -> None:
    sizes = np.array(model.bottleneck.sizes)
    if codes.shape[-1] != len(sizes):
        what = f"indices have {codes.shape[-1]} columns, the model {len(sizes)}"
        raise UserError(what, mend="give what `selfsup encode --indices` wrote")
    outside = (codes < 0) | (codes >= sizes)
    if outside.any():
        row = int(np.argwhere(outside)[0][0])
        what = f"the index {codes[outside][0]} of example {row + 1} lies outside 0 to {sizes.max() - 1}"
        raise UserError(what, mend="give what `selfsup encode --indices` wrote")


def reconstruct(model: AutoEncoder, x: Floats) -> Floats:
    """(count, *input_shape) what comes back through the bottleneck."""
    return decode(model, encode(model, x))


def sample(
    model: AutoEncoder,
    count: int,
    *,
    prior: Prior = "auto",
    codes: Floats | None = None,
    components: int = 10,
    temperature: float = 1.0,
    seed: int = 0,
) -> Floats:
    """New examples: codes drawn from a prior, and decoded.

    Args:
        model: the auto-encoder.
        count: how many.
        prior: `gaussian`, the standard normal that a VAE was trained towards; `mixture`, Gaussians
            fitted on `codes`; `auto`: the first for a VAE, else the second.  Of discrete codes: a decoder
            that was trained on them as words (`code_words`), or its folder.
        codes: (examples, *code_shape) of training examples, for `mixture`.
        components: Gaussians in the mixture.
        temperature: of a decoder's draws; of real numbers, what their spread is multiplied by: around 0,
            or around the mean of the Gaussian that each is drawn from.
        seed: of the draws.

    Raises:
        UserError: a count, temperature or seed out of range, `gaussian` without a VAE, `mixture` without
            codes, either of discrete ones, or a decoder that was not trained on this model's codes.
    """
    at_least(1, count, "--count")
    check_seed(seed)
    check_temperature(temperature)
    if prior not in ("auto", "gaussian", "mixture"):
        return decode(
            model, sample_indices(model, prior, count, temperature=temperature, seed=seed)
        )
    if model.bottleneck.sizes:
        what = "this model's codes are discrete, so it needs a decoder as its prior"
        if prior != "auto":
            what = f"{prior} is for real numbers, this model's codes are discrete"
        mend = "give a decoder trained on `selfsup encode MODEL --output codes.txt`"
        raise UserError(what, where="--prior", mend=mend)
    vae = model.config.bottleneck.kind == "gaussian"
    if prior == "auto":
        prior = "gaussian" if vae else "mixture"
    if prior == "gaussian":
        if not vae:
            what = "only a VAE's codes have a Gaussian prior"
            raise UserError(what, where="--prior", mend="use mixture, with --data of examples")
        drawn = uniform(seed, _SAMPLE, np.arange(count)[:, None], np.arange(model.code_numbers))
        unit = normal_draws(drawn) * np.float32(temperature)
        return decode(model, unit.reshape(count, *model.code_shape))
    if codes is None or len(codes) < 2:
        mend = "give --data" if codes is None else "give more than one example as --data"
        raise UserError("a mixture is fitted on codes", where="--prior", mend=mend)
    if codes.shape[1:] != model.code_shape or not np.isfinite(codes).all():
        what = f"codes are finite numbers of shape {model.code_shape}, these are not"
        raise UserError(what, mend="give what `encode` gave")
    check_count(1, components, "components")
    mixed = _from_mixture(codes.reshape(len(codes), -1), count, components, temperature, seed)
    return decode(model, mixed.reshape(count, *model.code_shape))


def _from_mixture(
    codes: Floats, count: int, components: int, temperature: float, seed: int
) -> Floats:
    """(count, numbers) draws from Gaussians fitted on codes (examples, numbers); see `sample`."""
    from sklearn.mixture import GaussianMixture

    fitted = GaussianMixture(min(components, len(codes)), reg_covar=1e-4, random_state=seed)
    drawn, chosen = fitted.fit(codes.astype(np.float64)).sample(count)
    if temperature != 1:
        drawn = fitted.means_[chosen] + temperature * (drawn - fitted.means_[chosen])
    return np.asarray(drawn, np.float32)


@torch.no_grad()
def log_likelihood(
    model: AutoEncoder, x: Floats, *, draws: int = 500, seed: int = 0
) -> NDArray[np.float64]:
    """(count,) nats of examples under a VAE, by importance sampling (Burda et al. 2016).

    The logarithm of the mean of p(x | z) p(z) / q(z | x) over draws from the encoder's q.  Its
    expectation is never above the truth and rises with the draws; with one it is the evidence bound.
    A density only where the likelihood is one: `gaussian`, or `bernoulli` of values that are 0 or 1.

    Args:
        model: a VAE.
        x: examples as the model takes them.
        draws: for each example.
        seed: of the draws; an example's place in `x` decides with it.

    Raises:
        UserError: another bottleneck, squared error, which is no density, or examples that `encode` refuses.
    """
    if model.config.bottleneck.kind != "gaussian":
        raise UserError("likelihoods need a VAE", mend="train one: selfsup pretrain vae")
    if model.config.likelihood == "squared":
        raise UserError("squared error is no density", mend="use gaussian or bernoulli")
    at_least(1, draws, "draws")
    check_seed(seed, "seed")
    x = _examples(model, x)
    model.eval()
    out = np.empty(len(x))
    for i in range(len(x)):
        example = torch.from_numpy(x[i : i + 1]).to(model.device)
        code = model.encode(example)
        mean, log_variance = code.stats["mean"], code.stats["log_variance"]
        parts = []
        for first in range(0, draws, _BATCH):
            rows = np.arange(first, min(first + _BATCH, draws))[:, None]
            drawn = uniform(seed, _LIKELIHOOD, i, rows, np.arange(model.code_numbers))
            unit = torch.from_numpy(normal_draws(drawn)).reshape(-1, *model.code_shape)
            unit = unit.to(model.device)
            z = mean + (0.5 * log_variance).exp() * unit
            nats = model.likelihood(model.decoder(z), example.expand(len(z), *x.shape[1:]))
            # log p(z) - log q(z | x); the constants cancel
            ratio = 0.5 * (unit**2 + log_variance - z**2).flatten(1).double().sum(1)
            parts.append(ratio - nats.double())
        out[i] = float(torch.logsumexp(torch.cat(parts), 0)) - math.log(draws)
    return out


def interpolate(model: AutoEncoder, x: Floats, steps: int) -> Floats:
    """(pairs, steps, *input_shape) between neighbouring examples 0-1, 2-3, …, along straight lines."""
    check_count(2, steps, "steps")
    if len(x) < 2:
        raise UserError("interpolation needs two examples at least")
    if model.bottleneck.sizes:
        raise UserError("discrete codes have nothing between them", mend="use a continuous code")
    codes = encode(model, x[: len(x) // 2 * 2])
    t = np.linspace(0, 1, steps, dtype=np.float32).reshape(1, -1, *[1] * (codes.ndim - 1))
    between = (1 - t) * codes[0::2, None] + t * codes[1::2, None]
    flat = decode(model, between.reshape(-1, *model.code_shape))
    return flat.reshape(-1, steps, *model.input_shape)


def traverse(
    model: AutoEncoder, x: Floats, *, steps: int = 9, dimensions: int = 10
) -> tuple[Floats, NDArray[np.int64]]:
    """One number of the mean code at a time, moved over the middle 98 % of what it is on x.

    Raises:
        UserError: discrete codes or a map of them, or a count out of range.

    Returns:
        (dimensions, steps, *input_shape), and the dimensions, those that vary most first.
    """
    if model.bottleneck.sizes or len(model.code_shape) != 1:
        what = "traversals need one vector of real numbers as code"
        raise UserError(what, mend="use an autoencoder or a vae")
    check_count(1, steps, "steps")
    check_count(1, dimensions, "dimensions")
    codes = encode(model, x)
    chosen = np.argsort(-codes.var(0))[:dimensions]
    grid = np.repeat(codes.mean(0)[None], len(chosen) * steps, 0).reshape(len(chosen), steps, -1)
    for row, d in enumerate(chosen):
        low, high = (float(q) for q in np.quantile(codes[:, d], (0.01, 0.99)))
        grid[row, :, d] = np.linspace(low, high, steps)
    flat = decode(model, grid.reshape(-1, *model.code_shape).astype(np.float32))
    return flat.reshape(len(chosen), steps, *model.input_shape), chosen


def classes(model: AutoEncoder, x: Floats) -> NDArray[np.int64]:
    """(count,) the class of each example: its index, where an example has a single one.

    Raises:
        UserError: codes that are no single class.
    """
    mend = "train a one-hot-autoencoder, or a vq-autoencoder with --network.code vector"
    if not model.bottleneck.sizes:
        raise UserError("this model's codes are real numbers, they name no class", mend=mend)
    indices = code_indices(model, x).reshape(len(x), -1)
    if indices.shape[1] != 1:
        what = f"an example has {indices.shape[1]} indices, a class is one"
        raise UserError(what, mend=mend)
    return indices[:, 0]


def matched_accuracy(found: NDArray[np.int64], labels: Sequence[str]) -> float:
    """Accuracy when each found class is named after at most one label, in the best way (Hungarian)."""
    from scipy.optimize import linear_sum_assignment

    _, truth = np.unique(np.asarray(labels), return_inverse=True)
    counts = np.zeros((found.max() + 1, truth.max() + 1), np.int64)
    np.add.at(counts, (found, truth), 1)
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / len(found))


def compare_classes(found: NDArray[np.int64], labels: Sequence[str]) -> dict[str, float]:
    """Matched accuracy, normalised mutual information and adjusted Rand index, beside one class for all."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    counts = np.unique(np.asarray(labels), return_counts=True)[1]
    return {
        "matched_accuracy": matched_accuracy(found, labels),
        "normalized_mutual_information": float(normalized_mutual_info_score(labels, found)),
        "adjusted_rand_index": float(adjusted_rand_score(labels, found)),
        "largest_class": float(counts.max() / counts.sum()),
    }
