"""How good are drawn images?  VAE, VQ with a decoder as prior, and principal components, on MNIST.

Features are those of a small classifier that is trained here on MNIST's training labels (its name and
test accuracy are in the result): 64 numbers before its last layer.  Each generator draws as many images
as there are test images; the Fréchet distance, precision and recall are taken to the TEST images.  Two
controls stand beside them: training images (the best that can be had) and independent pixels.

Trainings lie in --out and go on where they stopped.  Their minutes are given, so scores depend on the
machine.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import selfsup
from selfsup import autoencoder_recipes, recipes
from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.config import PretrainConfig
from selfsup.data.arrays import read_array
from selfsup.models.autoencoder_hub import load_autoencoder
from selfsup.uses import codes
from selfsup.uses.autoencoding import code_indices, train_autoencoder
from selfsup.uses.code_words import CodeWords
from selfsup.uses.galleries import save_gallery
from selfsup.uses.sample_quality import frechet_distance, precision_recall

from _common import arguments, finish

Images = NDArray[np.float32]


def train(recipe: str, data: Path, minutes: float, folder: Path, **bottleneck: Any) -> Any:
    value = autoencoder_recipes.get(recipe).model_dump(mode="json")
    value["data"]["path"] = str(data)
    value["bottleneck"] |= bottleneck
    value["train"]["budget"] = {"amount": minutes, "unit": "minutes"}
    train_autoencoder(AutoEncoderConfig.model_validate(value), folder, quiet=True)
    return load_autoencoder(str(folder))


def train_prior(lines: Path, length: int, minutes: float, folder: Path) -> dict[str, Any]:
    value = recipes.get("gpt2-mini").model_dump(mode="json")
    value["data"]["sources"] = [{"path": str(lines), "unit": "line"}]
    value["data"] |= {"duplicates": "keep", "length": length}
    value["tokenizer"] = {"kind": "words"}
    value["train"]["budget"] = {"amount": minutes, "unit": "minutes"}
    return dict(selfsup.pretrain(PretrainConfig.model_validate(value), folder, quiet=True))


class Classifier(nn.Module):
    """Two convolutions and a layer of 64."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 49, 64),
            nn.ReLU(),
        )
        self.output = nn.Linear(64, 10)

    @torch.no_grad()
    def of(self, images: Images) -> NDArray[np.float64]:
        """(count, 64) features."""
        parts = torch.from_numpy(images).split(1000)
        return torch.cat([self.features(p) for p in parts]).double().numpy()


def classifier(images: Images, labels: NDArray[np.int64], steps: int) -> Classifier:
    torch.manual_seed(0)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    random = np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, len(images), 128)
        logits = model.output(model.features(torch.from_numpy(images[rows])))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def principal(images: Images, count: int, components: int = 64) -> Images:
    """Draws from the normal distribution of principal components."""
    from sklearn.decomposition import PCA

    fitted = PCA(components, random_state=0).fit(images.reshape(len(images), -1))
    random = np.random.default_rng(0)
    z = random.normal(size=(count, components)) * np.sqrt(fitted.explained_variance_)
    drawn = fitted.inverse_transform(z).clip(0, 1)
    return drawn.astype(np.float32).reshape(count, 1, 28, 28)


def independent(images: Images, count: int) -> Images:
    """Each pixel from another training image."""
    random = np.random.default_rng(0)
    flat = images.reshape(len(images), -1)
    rows = random.integers(0, len(flat), (count, flat.shape[1]))
    return flat[rows, np.arange(flat.shape[1])].reshape(count, 1, 28, 28)


def main() -> None:
    args = arguments(__doc__, out="runs/generation", vae=5.0, vq=4.0, prior=12.0)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    data = args.data / "image" / "mnist"
    train_file = data / "train-images-idx3-ubyte.gz"
    images, test = (
        read_array(data / f"{part}-images-idx3-ubyte.gz")[:, None].astype(np.float32) / 255
        for part in ("train", "t10k")
    )
    labels, truth = (
        read_array(data / f"{part}-labels-idx1-ubyte.gz").astype(np.int64)
        for part in ("train", "t10k")
    )
    minutes = {name: 0.1 if args.quick else getattr(args, name) for name in ("vae", "vq", "prior")}
    if args.quick:
        test, truth = test[:1000], truth[:1000]
    vae = train("vae", train_file, minutes["vae"], out / "vae", size=16)
    vq = train("vq-autoencoder", train_file, minutes["vq"], out / "vq")
    words, lines = CodeWords(vq), out / "codes.txt"
    if not lines.exists():
        x = vq.spec.transform(read_array(train_file)[:, None], str(train_file))
        lines.write_text("".join(f"{line}\n" for line in words.write(code_indices(vq, x))))
    prior = train_prior(lines, 2 * (words.length + 1), minutes["prior"], out / "prior")
    names = classifier(images, labels, 100 if args.quick else 1500)
    with torch.no_grad():
        said = names.output(torch.from_numpy(names.of(test)).float()).argmax(1).numpy()
    count, started = len(test), time.perf_counter()
    drawn: dict[str, Images] = {"VAE": codes.sample(vae, count)}
    seconds = {"VAE": time.perf_counter() - started}
    started = time.perf_counter()
    drawn["VQ and a decoder"] = codes.sample(vq, count, prior=out / "prior")
    seconds["VQ and a decoder"] = time.perf_counter() - started
    drawn["principal components"] = principal(images, count)
    drawn["what VQ gives back of test images"] = codes.reconstruct(vq, test)
    drawn["training images"] = images[np.random.default_rng(1).permutation(len(images))[:count]]
    drawn["independent pixels"] = independent(images, count)
    real = names.of(test)
    table = {}
    for name, found in drawn.items():
        save_gallery(out / f"{name}.png", found[:100].reshape(10, 10, 1, 28, 28))
        features = names.of(found)
        precision, recall = precision_recall(real, features)
        table[name] = {
            "frechet": round(frechet_distance(real, features), 3),
            "precision": round(precision, 4),
            "recall": round(recall, 4),
        }
        if name in seconds:
            table[name]["images_per_second"] = round(count / seconds[name], 1)
        print(name, table[name], flush=True)
    figures = {
        "flags": shlex.join(sys.argv[1:]),
        "features": "64 ReLU features of a two-convolution classifier trained on MNIST's training labels",
        "classifier_test_accuracy": round(float((said == truth).mean()), 4),
        "images": count,
        "minutes": minutes,
        "prior_loss_per_code": prior["heldout"]["loss"],
        "code_words": words.length,
        "table": table,
    }
    finish("autoencoder_generation", args, figures)


if __name__ == "__main__":
    main()
