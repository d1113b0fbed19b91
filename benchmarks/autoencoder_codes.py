"""What are codes of images worth?  Classes, quantizers, denoising and likelihoods on MNIST and Fashion-MNIST.

All scores are of the 10,000 TEST images (or the first of them, as the result says), which no part trains
on or chooses by; filters and principal components are set on training images.

- classes: the one-hot recipe's class against k-means with 10 clusters, both fitted on the training images,
  by the accuracy after the best matching.
- quantizers: VQ and FSQ of 240 codes behind the same network (the codebook comes on top), the toy setting of
  vector-quantize-pytorch: usage, perplexity and error after `--quantizer-steps`.
- denoising: PSNR of what the denoising recipe makes of noise of deviation 0.3, beside the noisy image, median
  and Gaussian filters and principal components.
- likelihood: the VAE's nats on black-and-white MNIST, by importance sampling.

Steps count, not minutes: the scores do not depend on how busy the machine is.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup import autoencoder_recipes
from selfsup.autoencoder_config import AutoEncoderConfig, GaussianNoiseConfig
from selfsup.data.arrays import read_array
from selfsup.data.keys import Key
from selfsup.data.observations import Observations
from selfsup.data.sampler import Examples
from selfsup.models.autoencoder import AutoEncoder, parameter_counts
from selfsup.objectives.corruption import corrupt
from selfsup.uses import codes
from selfsup.uses.autoencoding import code_indices, code_use, make_loop, prepare

from _common import arguments, finish

Images = NDArray[np.float32]
SETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
NOISE = 0.3


def read(folder: Path, part: str) -> tuple[NDArray[np.uint8], list[str]]:
    """Images (count, 1, 28, 28) and labels of `train` or `t10k`."""
    images = read_array(folder / f"{part}-images-idx3-ubyte.gz")[:, None]
    labels = read_array(folder / f"{part}-labels-idx1-ubyte.gz")
    return images, [str(label) for label in labels]


def scaled(images: NDArray[np.uint8]) -> Images:
    return images.astype(np.float32) / 255


def train(
    recipe: str, images: NDArray[np.uint8], steps: int, seed: int, **changes: Any
) -> tuple[AutoEncoder, float]:
    """A trained model and the seconds that it took."""
    value = autoencoder_recipes.get(recipe).model_dump(mode="json")
    value["seed"] = seed
    value["train"] |= {"budget": f"{steps} steps", "evaluate_every": 1.0, "device": "cpu"}
    value["train"] |= changes.pop("train", {})
    value["bottleneck"] |= changes
    prepared = prepare(AutoEncoderConfig.model_validate(value), Observations(images, None, recipe))
    loop = make_loop(prepared, None, True)
    started = time.perf_counter()
    loop.run()
    loop.take_best()
    return prepared.model.eval(), time.perf_counter() - started


def median(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of each number over seeds, with least and largest where there are several seeds."""
    out = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        out[key] = round(float(np.median(values)), 5)
        if len(values) > 1:
            out[f"{key}_range"] = [round(min(values), 5), round(max(values), 5)]
    return out


def classes(folder: Path, steps: int, seeds: int, few: int) -> dict[str, Any]:
    from sklearn.cluster import KMeans

    (images, _), (asked, labels) = read(folder, "train"), read(folder, "t10k")
    images, asked, labels = images[:few], asked[:few], labels[:few]
    ours, floor = [], []
    for seed in range(seeds):
        model, seconds = train("one-hot-autoencoder", images, steps, seed)
        found = codes.classes(model, scaled(asked))
        used = float(len(np.unique(found)))
        compared = codes.compare_classes(found, labels)
        ours.append(compared | {"classes_used": used, "seconds": seconds})
        print(f"  one-hot {folder.name} seed {seed} {ours[-1]}", flush=True)
        started = time.perf_counter()
        means = KMeans(10, n_init=3, random_state=seed).fit(scaled(images).reshape(len(images), -1))
        found = means.predict(scaled(asked).reshape(len(asked), -1)).astype(np.int64)
        compared = codes.compare_classes(found, labels)
        floor.append(compared | {"seconds": time.perf_counter() - started})
        print(f"  k-means {folder.name} seed {seed} {floor[-1]}", flush=True)
    return {"one-hot": median(ours), "k-means": median(floor), "steps": steps, "seeds": seeds}


BARE = "vq, random start, none revived"
QUANTIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "fsq": ("fsq-autoencoder", {"levels": [8, 6, 5]}),
    "vq": ("vq-autoencoder", {"codes": 240, "size": 3}),
    BARE: (
        "vq-autoencoder",
        {"codes": 240, "size": 3, "start": "random", "revive": 0.0},
    ),
}


def quantizers(folder: Path, steps: int, seeds: int, few: int) -> dict[str, Any]:
    (images, _), (asked, _) = read(folder, "train"), read(folder, "t10k")
    x = scaled(asked[:few])
    figures: dict[str, Any] = {"steps": steps, "batch_size": 64, "seeds": seeds, "codes": 240}
    for name, (recipe, settings) in QUANTIZERS.items():
        if name == BARE and folder.name != "fashion_mnist":
            continue  # the published toy's set is enough for it
        rows = []
        for seed in range(seeds):
            options = {"train": {"batch_size": 64}, **settings}
            model, seconds = train(recipe, images[:few], steps, seed, **options)
            back = codes.reconstruct(model, x)
            row = code_use(model, code_indices(model, x))
            row |= {"absolute_error": float(np.abs(back - x).mean()), "seconds": seconds}
            row["squared_error"] = float(((back - x) ** 2).mean())
            counts = parameter_counts(model)
            row["network_parameters"] = counts["encoder"] + counts["decoder"]
            rows.append(row)
            print(f"  {name} {folder.name} seed {seed} {row}", flush=True)
        figures[name] = median(rows)
    return figures


def psnr(guess: Images, clean: Images) -> float:
    """Mean over images of the peak signal-to-noise ratio, dB, after clipping to 0 … 1."""
    errors = ((np.clip(guess, 0, 1) - clean) ** 2).reshape(len(clean), -1).mean(1)
    return float(-10 * np.log10(errors).mean())


def noisy(x: Images) -> Images:
    examples = Examples(np.arange(len(x)), np.zeros(len(x), np.int64))
    return corrupt(GaussianNoiseConfig(sigma=NOISE), x, examples, Key(11))


def filters(x: Images) -> dict[str, Callable[[Images], Images]]:
    """Ways to denoise without a network; the principal components are those of x.

    Wavelets' coefficients are shrunk as scikit-image does it, which is told the noise's deviation
    (BayesShrink, Chang et al. 2000; VisuShrink, Donoho and Johnstone 1994).
    """
    from scipy import ndimage
    from skimage.restoration import denoise_wavelet
    from sklearn.decomposition import PCA

    ways: dict[str, Callable[[Images], Images]] = {}
    for size in (2, 3, 5):
        ways[f"median {size}"] = lambda y, s=size: ndimage.median_filter(y, (1, 1, s, s))
    for width in (0.5, 0.75, 1.0, 1.5):
        ways[f"gaussian {width}"] = lambda y, w=width: ndimage.gaussian_filter(y, (0, 0, w, w))
    for wavelet in ("haar", "db2", "sym4"):
        for method in ("BayesShrink", "VisuShrink"):
            ways[f"wavelets {wavelet} {method}"] = lambda y, w=wavelet, m=method: np.stack(
                [denoise_wavelet(one[0], NOISE, wavelet=w, method=m)[None] for one in y]
            ).astype(np.float32)
    flat = x.reshape(len(x), -1)
    for count in (16, 32, 64, 128):
        pca = PCA(count, svd_solver="randomized", random_state=0).fit(flat)
        ways[f"components {count}"] = lambda y, p=pca: p.inverse_transform(
            p.transform(y.reshape(len(y), -1))
        ).reshape(y.shape)
    return ways


def denoising(folder: Path, steps: int, seeds: int, few: int) -> dict[str, Any]:
    (images, _), (asked, _) = read(folder, "train"), read(folder, "t10k")
    images, x = images[:few], scaled(asked[: min(few, 2000)])
    seen = noisy(x)
    known = scaled(images[: min(few, 5000)])
    ways = filters(known)
    # which filter and how strong is chosen on 1,000 noisy training images, by PSNR
    trial, trial_seen = known[:1000], noisy(known[:1000])
    figures: dict[str, Any] = {"noise": NOISE, "images": len(x), "steps": steps, "seeds": seeds}
    figures["noisy"] = {"psnr": round(psnr(seen, x), 3)}
    for kind in ("median", "gaussian", "wavelets", "components"):
        names = [name for name in ways if name.startswith(kind)]
        best = max(names, key=lambda name: psnr(ways[name](trial_seen), trial))
        figures[kind] = {"setting": best, "psnr": round(psnr(ways[best](seen), x), 3)}
    rows = []
    for seed in range(seeds):
        model, seconds = train("denoising-autoencoder", images, steps, seed)
        rows.append({"psnr": psnr(codes.reconstruct(model, seen), x), "seconds": seconds})
    figures["denoising-autoencoder"] = median(rows)
    print(f"  denoising {folder.name} {figures}", flush=True)
    return figures


def likelihood(folder: Path, steps: int, seeds: int, few: int, draws: int) -> dict[str, Any]:
    (images, _), (asked, _) = read(folder, "train"), read(folder, "t10k")
    # each pixel is drawn once, with its grey value as probability; not Larochelle's file
    random = np.random.default_rng(2008)
    black = [
        (random.random(part.shape) < scaled(part)).astype(np.uint8) * 255
        for part in (images[:few], asked)
    ]
    x = scaled(black[1][: min(few, 500)])
    rows = []
    for seed in range(seeds):
        model, seconds = train("vae", black[0], steps, seed)
        one = -codes.log_likelihood(model, x, draws=1, seed=seed).mean()
        nats = -codes.log_likelihood(model, x, draws=draws, seed=seed).mean()
        rows.append({"nats": float(nats), "nats_of_one_draw": float(one), "seconds": seconds})
        print(f"  vae seed {seed} {rows[-1]}", flush=True)
    return {"images": len(x), "draws": draws, "steps": steps, "seeds": seeds, **median(rows)}


def main() -> None:
    args = arguments(__doc__ or "", seeds=3, steps=1000, quantizer_steps=1000, draws=500)
    torch.set_num_threads(1)
    steps, seeds, few, draws = args.steps, args.seeds, 60_000, args.draws
    quantizer_steps = args.quantizer_steps
    if args.quick:
        steps, seeds, few, draws, quantizer_steps = 20, 1, 2000, 20, 20
    folders = [args.data / "image" / name for name in SETS]
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        print(f"{missing[0]} is not here: nothing to train on")
        return
    common = (steps, seeds, few)
    figures: dict[str, Any] = {
        "classes": {f.name: classes(f, *common) for f in folders},
        "quantizers": {f.name: quantizers(f, quantizer_steps, seeds, few) for f in folders},
        "likelihood": {"binarised_mnist": likelihood(folders[0], *common, draws)},
        "denoising": {f.name: denoising(f, *common) for f in folders},
    }
    # flags change what was measured, so they belong to the result
    figures["command"] = shlex.join(["python", "benchmarks/autoencoder_codes.py", *sys.argv[1:]])
    finish("autoencoder_codes", args, figures)


if __name__ == "__main__":
    main()
