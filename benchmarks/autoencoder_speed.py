"""Training an auto-encoder of images, beside pythae: the same networks, batches and numbers of steps.

pythae is not in the extra `bench` (its last release is of 2023): install it into a folder of its own,
`pip install --no-deps --target DIR pythae cloudpickle imageio`, and name that in PYTHONPATH.  MNIST's
training images, squared error, Adam, one thread; processor time, interleaved, medians.  Each training is
a process of its own, since ours lets the C library keep what is freed and the peer would gain by it.  Ours
evaluates and saves at its end, the peer keeps its best weights each epoch, as both do by themselves.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup import autoencoder_recipes
from selfsup.autoencoder_config import (
    AutoEncoderConfig,
    ConvolutionalConfig,
    DenseConfig,
)
from selfsup.data.arrays import read_array
from selfsup.data.observations import Observations
from selfsup.nn.convolutions import build_decoder, build_encoder
from selfsup.nn.few_outputs import FewOutputs
from selfsup.uses.autoencoding import make_loop, prepare

from _common import arguments, finish, peak_megabytes

NETWORKS = {
    "convolutional": ConvolutionalConfig(activation="relu"),
    "dense": DenseConfig(widths=(512,), activation="relu", norm=False),
}
CODE, BATCH = 16, 64


def ours(images: NDArray[np.uint8], network: Any, epochs: int, precision: str) -> dict[str, float]:
    steps = epochs * -(-len(images) // BATCH)
    value = autoencoder_recipes.get("autoencoder").model_dump(mode="json")
    value["network"] = network.model_dump(mode="json")
    value["bottleneck"]["size"] = CODE
    value["objective"]["likelihood"] = "squared"
    value["train"] |= {
        "budget": f"{steps} steps",
        "batch_size": BATCH,
        "evaluate_every": 1.0,
        "device": "cpu",
        "precision": precision,
    }
    config = AutoEncoderConfig.model_validate(value)
    prepared = prepare(config, Observations(images, None, "mnist"))
    loop = make_loop(prepared, None, True)
    started = time.process_time()
    loop.run()
    seconds = time.process_time() - started
    loop.take_best()
    return {"seconds": seconds, "error": error(prepared.model, images)}


def peer(images: NDArray[np.uint8], network: Any, epochs: int) -> dict[str, float]:
    from pythae.models import AE, AEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_encoder(network, (1, 28, 28), CODE)

        def forward(self, x: torch.Tensor) -> Any:
            return ModelOutput(embedding=self.inner(x))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = plain(build_decoder(network, CODE, (1, 28, 28)))

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=self.inner(z))

    model = AE(AEConfig((1, 28, 28), CODE), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        settings = BaseTrainerConfig(
            folder,
            per_device_train_batch_size=BATCH,
            num_epochs=epochs,
            learning_rate=1e-3,
            no_cuda=True,
        )
        pipeline = TrainingPipeline(model=model, training_config=settings)
        started = time.process_time()
        pipeline(train_data=images.astype(np.float32) / 255)
        seconds = time.process_time() - started
    inner = torch.nn.Sequential(model.encoder.inner, model.decoder.inner)
    return {"seconds": seconds, "error": error(inner, images)}


def plain(network: torch.nn.Module) -> torch.nn.Module:
    """The network with torch's own convolutions, as the peer's users would write it."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, FewOutputs):
                layer = torch.nn.Conv2d(child.in_channels, child.out_channels, 3, padding=1)
                setattr(module, name, layer)
    return network


@torch.no_grad()
def error(model: torch.nn.Module, images: NDArray[np.uint8]) -> float:
    """Mean squared error on some training images, so that none wins by learning less."""
    x = torch.from_numpy(images[:2000].astype(np.float32) / 255)
    back = model(x)
    back = back[0] if isinstance(back, tuple) else back
    return float(((back - x) ** 2).mean())


def operations(network: Any) -> float:
    """Multiplications and additions of an image's step: forward and back, without the optimizer's."""
    from torch.utils.flop_counter import FlopCounterMode

    parts = (
        build_encoder(network, (1, 28, 28), CODE),
        plain(build_decoder(network, CODE, (1, 28, 28))),
    )
    with FlopCounterMode(display=False) as counter:
        torch.nn.Sequential(*parts)(torch.zeros(BATCH, 1, 28, 28)).sum().backward()
    return counter.get_total_flops() / BATCH


def product_rate(dtype: torch.dtype) -> float:
    """Operations a second of a plain product of 2,048 x 2,048, the best of five."""
    x = torch.randn(2048, 2048).to(dtype)
    best = float("inf")
    for _ in range(6):
        started = time.process_time()
        x @ x
        best = min(best, time.process_time() - started)
    return 2 * 2048**3 / best


def worker(side: str, name: str, file: Path, count: int, epochs: int) -> None:
    """Train once and print the result."""
    torch.set_num_threads(1)
    images = read_array(file)[:count, None]
    network = NETWORKS[name]
    of_peer = side == "pythae"
    found = peer(images, network, epochs) if of_peer else ours(images, network, epochs, side)
    found["megabytes"] = peak_megabytes()
    rate = product_rate(torch.bfloat16 if side == "auto" else torch.float32)
    used = operations(network) * epochs * len(images) / found["seconds"]
    print(json.dumps(found | {"share_of_matrix_product_rate": used / rate}))


def main() -> None:
    args = arguments(__doc__, images=6400, epochs=3, rounds=5, worker="")
    file = args.data / "image" / "mnist" / "train-images-idx3-ubyte.gz"
    count, epochs, rounds = args.images, args.epochs, args.rounds
    if args.quick:
        count, epochs, rounds = 1600, 1, 1
    if args.worker:
        worker(*args.worker.split("|"), file, count, epochs)
        return
    figures: dict[str, Any] = {"images": count, "epochs": epochs, "rounds": rounds}
    for name in NETWORKS:
        found: dict[str, list[dict[str, float]]] = {side: [] for side in ("fp32", "auto", "pythae")}
        for _ in range(rounds):
            for side, rows in found.items():
                command = [sys.executable, *sys.argv, "--worker", f"{side}|{name}"]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(name, side, rows[-1], file=sys.stderr, flush=True)
        seconds = {s: statistics.median(r["seconds"] for r in rows) for s, rows in found.items()}
        figures[name] = {
            "images_per_processor_second": {
                side: round(epochs * count / value, 1) for side, value in seconds.items()
            },
            "times_the_peer": {
                side: round(seconds["pythae"] / seconds[side], 2) for side in ("fp32", "auto")
            },
            **{
                figure: {
                    side: round(statistics.median(r[key] for r in rows), digits)
                    for side, rows in found.items()
                }
                for figure, key, digits in (
                    ("squared_error", "error", 5),
                    ("share_of_matrix_product_rate", "share_of_matrix_product_rate", 3),
                    ("peak_megabytes", "megabytes", 0),
                )
            },
        }
    finish("autoencoder_speed", args, figures)


if __name__ == "__main__":
    main()
