"""Reconstruction: give back the clean example from a code of the corrupted one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfsup.autoencoder_config import CorruptionConfig, NoCorruptionConfig
from selfsup.data.feature_tables import Block
from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.models.autoencoder import AutoEncoder
from selfsup.nn.bottlenecks import Code
from selfsup.objectives.corruption import code_noise, corrupt, drawn_neighbours
from selfsup.objectives.protocol import Ratio, Score

Reader = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Examples by number, (batch, …), as the model takes them."""


@dataclass(frozen=True)
class ReconstructionBatch:
    """Clean and corrupted examples, the bottleneck's draws, and clean examples of the same classes."""

    clean: Tensor
    corrupted: Tensor
    noise: Tensor | None
    alike: Tensor
    """The examples themselves, or neighbours: their classes are to be the corrupted ones' too."""

    @property
    def token_count(self) -> int:
        """Examples."""
        return len(self.clean)

    def to(self, device: torch.device) -> ReconstructionBatch:
        """The same batch on a device."""
        noise = None if self.noise is None else self.noise.to(device)
        clean = self.clean.to(device)
        corrupted = clean if self.corrupted is self.clean else self.corrupted.to(device)
        alike = clean if self.alike is self.clean else self.alike.to(device)
        return ReconstructionBatch(clean, corrupted, noise, alike)


class Reconstruction:
    """Corrupts examples before the encoder and scores what the decoder makes of the code.

    The loss of an example is (nats of the reconstruction + divergence of the code) / values + the
    bottleneck's other losses: with beta 1 and a density as likelihood, the negative evidence bound
    for each value (Kingma and Welling 2014).

    Args:
        read: the examples by number.
        corruption: what the encoder does not see.
        noise_size: uniform numbers that the model takes for an example.
        blocks: of a table's columns; none for images.
        agreement: weight of the agreement between the classes of clean and corrupted examples.
        neighbours: (all examples, k): the clean example is now and then one of these.
        where: what the examples are called in messages.
    """

    def __init__(
        self,
        read: Reader,
        corruption: CorruptionConfig | None = None,
        *,
        noise_size: int = 0,
        blocks: tuple[Block, ...] = (),
        agreement: float = 0.0,
        neighbours: NDArray[np.int64] | None = None,
        where: str = "",
    ) -> None:
        self.read, self.corruption = read, corruption or NoCorruptionConfig()
        self.noise_size, self.blocks = noise_size, blocks
        self.agreement, self.neighbours, self.where = agreement, neighbours, where

    def batch(self, examples: Examples, key: Key) -> ReconstructionBatch:
        """Read, corrupt and draw; a function of the examples and the key alone."""
        clean = self.read(examples.rows)
        corrupted = corrupt(self.corruption, clean, examples, key, self.blocks)
        tensor = torch.from_numpy(clean)
        noise = code_noise(examples, key, self.noise_size) if self.noise_size else None
        alike = tensor
        if self.neighbours is not None:
            rows = drawn_neighbours(self.neighbours, examples, key)
            alike = torch.from_numpy(self.read(rows))
        return ReconstructionBatch(
            tensor,
            tensor if corrupted is clean else torch.from_numpy(corrupted.astype(np.float32)),
            None if noise is None else torch.from_numpy(noise),
            alike,
        )

    def loss(self, model: AutoEncoder, batch: ReconstructionBatch) -> Score:
        """The loss, summed over examples, with the parts that it is made of."""
        output, code = model(batch.corrupted, batch.noise)
        nats = model.likelihood(output, batch.clean)
        kl = code.losses.get("kl", torch.zeros_like(nats))
        loss = (nats + kl) / model.likelihood.units
        for name, value in code.losses.items():
            if name != "kl":
                loss = loss + value
        count = torch.tensor(float(len(nats)), device=nats.device)
        with torch.no_grad():
            metrics = self._metrics(model, batch, output, code, nats, count)
        if self.agreement and model.training:
            # on training batches alone, where the corrupted example differs from epoch to epoch
            loss = loss + self.agreement * disagreement(code, model.encode(batch.alike))
        return Score(loss.sum(), count, metrics)

    def _metrics(
        self,
        model: AutoEncoder,
        batch: ReconstructionBatch,
        output: Tensor,
        code: Code,
        nats: Tensor,
        count: Tensor,
    ) -> dict[str, Ratio]:
        errors, known = model.likelihood.squared_errors(output, batch.clean)
        metrics = {"squared_error": Ratio(errors.sum(), known.sum())}
        if model.config.likelihood != "squared":
            metrics["nats"] = Ratio(nats.sum(), count)
        if "kl" in code.stats:
            metrics["kl"] = Ratio(code.stats["kl"].sum(), count)
            if model.config.likelihood != "squared":  # above -log p(x): `kl` is of all that passes
                metrics["negative_bound"] = Ratio((nats + code.stats["kl"]).sum(), count)
        if "commitment" in code.losses:
            metrics["commitment"] = Ratio(code.losses["commitment"].sum(), count)
        return metrics

    def describe(self, examples: Examples) -> str:
        """The examples by number, for messages."""
        numbers = ", ".join(str(row) for row in examples.rows[:6].tolist())
        more = ", …" if len(examples.rows) > 6 else ""
        return f"examples {numbers}{more} of {self.where or 'the data'}"


def disagreement(corrupted: Code, clean: Code) -> Tensor:
    """(batch,) cross-entropy of the corrupted example's class under that of the clean one.

    The clean example's probabilities are the answer and get no gradient (Hu et al. 2017).
    """
    answer = clean.stats["probabilities"].detach()
    guess = (corrupted.stats["probabilities"] + 1e-7).log()
    return -(answer * guess).sum((-2, -1))
