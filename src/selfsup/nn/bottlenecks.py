"""Bottlenecks: what may pass from an encoder to a decoder.  Each returns one `Code`.

All of them read the last dimension and keep those before it: (batch, width) for one code an
example, (batch, places, width) for a map.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selfsup.autoencoder_config import (
    BinaryConfig,
    GaussianConfig,
    IdentityConfig,
    OneHotConfig,
)

_TINY = 1e-7


@dataclass(frozen=True)
class Code:
    """What a bottleneck lets pass."""

    z: Tensor
    """(batch, …, width) what the decoder reads."""
    indices: Tensor | None = None
    """(batch, …, columns) whole numbers that say the same; column j lies in [0, sizes[j]).  None where
    the code is continuous."""
    bits: Tensor | None = None
    """(batch,) what a code costs: the logarithm of the number of codes, or a Gaussian's divergence from
    its prior.  None for real numbers without a prior: they would cost whatever their precision is."""
    losses: Mapping[str, Tensor] = field(default_factory=dict)
    """(batch,) what is to be added to the reconstruction's loss, weighted: `kl` in nats, all others as
    means over places and numbers."""
    stats: Mapping[str, Tensor] = field(default_factory=dict)
    """What is worth a look: `kl` (batch,) nats from the prior of all that passes, unweighted (none where
    there is no prior), `probabilities` (batch, groups, classes), …"""


class Bottleneck(nn.Module, ABC):
    """What all bottlenecks have.

    Args:
        width_in: numbers that the encoder gives for a code.
        width_out: numbers that the decoder gets.
        sizes: values of each column of `indices`; none: the code is continuous.
        noise_size: uniform numbers in [0, 1) that `forward` may take for a code, for draws that are
            functions of the example and a key alone.
    """

    def __init__(
        self, width_in: int, width_out: int, sizes: tuple[int, ...] = (), noise_size: int = 0
    ) -> None:
        super().__init__()
        self.width_in, self.width_out = width_in, width_out
        self.sizes, self.noise_size = sizes, noise_size

    @abstractmethod
    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """Let pass what may pass.

        Args:
            h: (batch, …, width_in) from the encoder.
            noise: (batch, …, noise_size) uniform in [0, 1); None: nothing is drawn, the code is the
                likeliest one.
        """

    def lookup(self, indices: Tensor) -> Tensor:
        """(batch, …, width_out) what the decoder gets for given indices (batch, …, columns)."""
        raise TypeError(f"{type(self).__name__} has no indices")

    def log2_codes(self) -> float:
        """Bits that one discrete code can tell apart."""
        return sum(math.log2(size) for size in self.sizes)

    def _bits(self, h: Tensor) -> Tensor:
        places = math.prod(h.shape[1:-1])
        return torch.full((len(h),), places * self.log2_codes(), device=h.device)


def summed(values: Tensor) -> Tensor:
    """(batch, …) summed to (batch,)."""
    return values.flatten(1).sum(1)


def from_uniform(p: Tensor, drawn: bool) -> Tensor:
    """(batch,) KL of choices from a uniform prior, nats; the last dimension of `p` has their probabilities.

    The likeliest one costs the logarithm of their number; one that is drawn costs less by its entropy.
    """
    p = p.detach()
    cost = torch.full_like(p[..., 0], math.log(p.shape[-1]))
    return summed(cost - torch.special.entr(p).sum(-1) if drawn else cost)


class Identity(Bottleneck):
    """Real numbers, as few as there are."""

    def __init__(self, config: IdentityConfig) -> None:
        super().__init__(config.size, config.size)

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        return Code(h)


def normal(uniform: Tensor) -> Tensor:
    """Standard normal numbers from uniform ones, by the inverse of the distribution function."""
    drawn: Tensor = torch.special.ndtri(uniform.clamp(_TINY, 1 - _TINY))
    return drawn


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) of each number, nats (Kingma and Welling 2014)."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)


class Gaussian(Bottleneck):
    """A normal distribution; its draw passes in training, its mean where no noise is given."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__(2 * config.size, config.size, noise_size=config.size)
        self.beta = config.beta

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        mean, log_variance = split(h)
        kl = summed(divergence(mean, log_variance))
        z = mean
        if noise is not None:
            z = mean + (0.5 * log_variance).exp() * normal(noise)
        stats = {"kl": kl, "mean": mean, "log_variance": log_variance}
        return Code(z, bits=kl.detach() / math.log(2), losses={"kl": self.beta * kl}, stats=stats)


def split(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance; the latter kept within what float32 and a prior of 1 can use."""
    mean, log_variance = h.float().chunk(2, dim=-1)
    return mean, log_variance.clamp(-12.0, 8.0)


class Binary(Bottleneck):
    """Zeros and ones; gradients pass as if they were the probabilities (Bengio et al. 2013)."""

    def __init__(self, config: BinaryConfig) -> None:
        super().__init__(
            config.size, config.size, (2,) * config.size, config.size if config.sample else 0
        )

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        p = torch.sigmoid(h.float())
        draws = noise if self.training and self.noise_size else None
        hard = (p > (0.5 if draws is None else draws)).float()
        kl = from_uniform(torch.stack([p, 1 - p], -1), draws is not None)
        stats = {"probabilities": p, "kl": kl}
        z = hard + (p - p.detach())  # in this order exactly 0 and 1
        return Code(z, hard.long(), self._bits(h), stats=stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """See `Bottleneck.lookup`."""
        return indices.float()


class OneHot(Bottleneck):
    """A class (in each group), and beside it a Gaussian style where asked for.

    Gradients pass as if the vector were its probabilities (Jang et al. 2017, straight-through).
    The balance is the negative information between example and class, H(class | example) -
    H(class), from the batch's mean probabilities (Krause et al. 2010), where the second may count for
    more (Hu et al. 2017); in training only, since it belongs to a batch and not to an example.
    """

    def __init__(self, config: OneHotConfig) -> None:
        self.groups, self.classes = config.groups, config.classes
        self.style, self.beta, self.balance = config.style, config.beta, config.balance
        self.temperature, self.evenness = config.temperature, config.evenness
        hot = config.groups * config.classes
        drawn = hot if config.gumbel else 0
        super().__init__(
            hot + 2 * config.style,
            hot + config.style,
            (config.classes,) * config.groups,
            drawn + config.style,
        )
        self.drawn = drawn

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        hot = self.groups * self.classes
        shape = (*h.shape[:-1], self.groups, self.classes)
        logits = h[..., :hot].float().reshape(shape)
        p = torch.softmax(logits, -1)
        choice, soft = logits, torch.softmax(logits / self.temperature, -1)
        draws = noise if self.training and self.drawn else None
        if draws is not None:
            u = draws[..., : self.drawn].reshape(shape).clamp(_TINY, 1 - _TINY)
            choice = logits - torch.log(-torch.log(u))
            soft = torch.softmax(choice / self.temperature, -1)
        indices = choice.argmax(-1)
        hard = F.one_hot(indices, self.classes).to(soft.dtype)
        z = (hard + (soft - soft.detach())).flatten(-2)
        losses, stats = {}, {"probabilities": p, "kl": from_uniform(p, draws is not None)}
        if self.balance and self.training:
            told = information_loss(p.reshape(-1, *shape[-2:]), self.evenness)
            losses["balance"] = self.balance * told.expand(len(h))
        if self.style:
            mean, log_variance = split(h[..., hot:])
            kl = summed(divergence(mean, log_variance))
            step = normal(noise[..., self.drawn :]) if noise is not None else torch.zeros_like(mean)
            z = torch.cat([z, mean + (0.5 * log_variance).exp() * step], -1)
            losses["kl"], stats["kl"] = self.beta * kl, stats["kl"] + kl
        return Code(z, indices, self._bits(h), losses, stats)

    def lookup(self, indices: Tensor) -> Tensor:
        """The one-hot vectors, with a style of zeros."""
        hard = F.one_hot(indices, self.classes).float().flatten(-2)
        return F.pad(hard, (0, self.style))


def information_loss(p: Tensor, evenness: float = 1.0) -> Tensor:
    """H(class | example) - evenness · H(class) of a batch, summed over groups, nats.

    Args:
        p: (batch, groups, classes) probabilities.
        evenness: 1: the negative information between example and class.
    """
    mean = p.mean(0)
    of_mean = -(mean * (mean + _TINY).log()).sum()
    return -(p * (p + _TINY).log()).sum(-1).mean(0).sum() - evenness * of_mean
