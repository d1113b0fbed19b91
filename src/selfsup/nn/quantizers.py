"""Quantizers: codes from a grid or from codebooks, in float32 whatever the rest runs in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from selfsup.autoencoder_config import BottleneckConfig, ResidualVQConfig, VQConfig
from selfsup.nn.bottlenecks import Binary, Bottleneck, Code, Gaussian, Identity, OneHot

_ROUNDS = 10
"""Of k-means at the start."""


class FiniteScalars(Bottleneck):
    """Each number is bounded and rounded to one of a few levels (FSQ, Mentzer et al. 2024).

    The grid of L levels is {-floor(L / 2), …, ceil(L / 2) - 1} / floor(L / 2).

    Args:
        levels: of each number.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__(len(levels), len(levels), (math.prod(levels),))
        self.levels = tuple(levels)

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        bounded = self.bound(h.float())
        rounded = bounded.round()
        half = self._half(h)
        z = (bounded + (rounded - bounded).detach()) / half
        digits = rounded.detach().long() + half.long()
        indices = (digits * self._weights(h.device)).sum(-1, keepdim=True)
        return Code(z, indices, self._bits(h))

    def bound(self, h: Tensor) -> Tensor:
        """Squeeze each number into the open interval whose whole numbers are its levels."""
        levels = torch.tensor(self.levels, dtype=h.dtype, device=h.device)
        reach = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(h + torch.atanh(offset / reach)) * reach - offset

    def lookup(self, indices: Tensor) -> Tensor:
        """See `Bottleneck.lookup`."""
        levels = torch.tensor(self.levels, device=indices.device)
        digits = indices // self._weights(indices.device) % levels
        half = self._half(indices)
        return (digits - half) / half

    def _half(self, like: Tensor) -> Tensor:
        return torch.tensor(
            [level // 2 for level in self.levels], dtype=torch.float32, device=like.device
        )

    def _weights(self, device: torch.device) -> Tensor:
        weights = [math.prod(self.levels[:i]) for i in range(len(self.levels))]
        return torch.tensor(weights, device=device)


class Codebook(nn.Module):
    """Vectors that follow the running means of what is assigned to them (van den Oord et al. 2017, A.1).

    All state is kept as parameters without gradients, so that checkpoints and `state_dict` hold it.

    Args:
        config: size, decay, start and revival.
    """

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        vectors = torch.randn(config.codes, config.size) / math.sqrt(config.size)
        if config.normalize:
            vectors = F.normalize(vectors, dim=-1)
        self.vectors = nn.Parameter(vectors, requires_grad=False)
        self.sums = nn.Parameter(vectors.clone(), requires_grad=False)
        self.counts = nn.Parameter(torch.ones(config.codes), requires_grad=False)
        self.started = nn.Parameter(torch.zeros(()), requires_grad=False)

    def assign(self, h: Tensor) -> Tensor:
        """(rows,) the nearest vector of each row of h (rows, size)."""
        distances = (self.vectors**2).sum(-1) - 2 * h @ self.vectors.T
        return distances.argmin(-1)

    @torch.no_grad()
    def start(self, h: Tensor) -> None:
        """Before the first step: put the vectors at clusters of h (rows, size)."""
        if bool(self.started):
            return
        if self.config.start == "k-means":
            self.vectors.copy_(self._directions(cluster_means(h, self.config.codes)))
            _from_first(self.vectors)
            self.sums.copy_(self.vectors)
        self.started.fill_(1.0)

    @torch.no_grad()
    def follow(self, h: Tensor, chosen: Tensor) -> None:
        """Move the vectors towards the means of the rows assigned to them, and revive unused ones.

        Args:
            h: (rows, size).
            chosen: (rows,).
        """
        codes, decay = self.config.codes, self.config.decay
        counts = torch.zeros(codes, device=h.device).index_add_(
            0, chosen, torch.ones(len(h), device=h.device)
        )
        sums = torch.zeros_like(self.sums).index_add_(0, chosen, h)
        for total in (counts, sums):
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(total)
        self.counts.mul_(decay).add_(counts, alpha=1 - decay)
        self.sums.mul_(decay).add_(sums, alpha=1 - decay)
        alive = self.counts > 1e-5
        means = self.sums / self.counts.clamp(min=1e-5).unsqueeze(-1)
        self.vectors.copy_(torch.where(alive.unsqueeze(-1), self._directions(means), self.vectors))
        if self.config.revive:
            self._revive(h)

    def _revive(self, h: Tensor) -> None:
        floor = self.config.revive * self.counts.mean()
        dead = (self.counts < floor).nonzero()[:, 0]
        if not len(dead):
            return
        rows = torch.randint(len(h), (len(dead),), device=h.device)
        self.vectors[dead] = h[rows]
        _from_first(self.vectors)
        # as much weight as the mean, so that it is given time
        self.counts[dead] = self.counts.mean()
        self.sums[dead] = self.vectors[dead] * self.counts[dead].unsqueeze(-1)

    def _directions(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self.config.normalize else vectors


def _from_first(tensor: Tensor) -> None:
    """Of several processes, all take the first one's."""
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(tensor.data, 0)


def cluster_means(rows: Tensor, count: int) -> Tensor:
    """(count, size) means of clusters, by a few rounds of Lloyd's algorithm from random rows.

    A cluster that loses all its rows goes to a random one.  With fewer rows than clusters, rows
    are taken several times.
    """
    if len(rows) > 64 * count:
        rows = rows[torch.randperm(len(rows), device=rows.device)[: 64 * count]]
    order = torch.randperm(len(rows), device=rows.device)
    means = rows[order.repeat(-(-count // len(rows)))[:count]].clone()
    for _ in range(_ROUNDS):
        chosen = ((means**2).sum(-1) - 2 * rows @ means.T).argmin(-1)
        sizes = torch.bincount(chosen, minlength=count)
        sums = torch.zeros_like(means).index_add_(0, chosen, rows)
        empty = sizes == 0
        means = sums / sizes.clamp(min=1).unsqueeze(-1)
        spare = torch.randint(len(rows), (int(empty.sum()),), device=rows.device)
        means[empty] = rows[spare]
    return means


def rotated(h: Tensor, q: Tensor) -> Tensor:
    """The vectors q, with the gradient turned and scaled as h must be to become q (Fifty et al. 2025).

    Args:
        h: (…, size) from the encoder.
        q: (…, size) the vectors chosen; no gradient reaches them.
    """
    norm_h = h.norm(dim=-1, keepdim=True).clamp(min=1e-6).detach()
    norm_q = q.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    unit_h, unit_q = (h / norm_h).detach(), q / norm_q
    middle = F.normalize(unit_h + unit_q, dim=-1)
    along = (h * middle).sum(-1, keepdim=True)
    turned = h - 2 * along * middle + 2 * (h * unit_h).sum(-1, keepdim=True) * unit_q
    out: Tensor = turned * (norm_q / norm_h)
    return out


def passed(h: Tensor, q: Tensor, gradient: str) -> Tensor:
    """The vectors q, with a gradient for h."""
    return rotated(h, q) if gradient == "rotation" else h + (q - h).detach()


class Vectors(Bottleneck):
    """The nearest vector of a codebook."""

    def __init__(self, config: VQConfig) -> None:
        super().__init__(config.size, config.size, (config.codes,))
        self.config = config
        self.book = Codebook(config)

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.float()
            if self.config.normalize:
                h = F.normalize(h, dim=-1)
            rows = h.reshape(-1, h.shape[-1])
            if self.training:
                self.book.start(rows.detach())
            chosen = self.book.assign(rows.detach())
            q = self.book.vectors[chosen].reshape(h.shape)
            if self.training:
                self.book.follow(rows.detach(), chosen)
            distance = (h - q).square().flatten(1).mean(1)
            return Code(
                passed(h, q, self.config.gradient),
                chosen.reshape(*h.shape[:-1], 1),
                self._bits(h),
                {"commitment": self.config.commitment * distance},
                {"distance": distance.detach()},
            )

    def lookup(self, indices: Tensor) -> Tensor:
        """See `Bottleneck.lookup`."""
        return self.book.vectors[indices[..., 0]]


class ResidualVectors(Bottleneck):
    """The sum of several vectors, each the nearest to what is left over."""

    def __init__(self, config: ResidualVQConfig) -> None:
        super().__init__(config.size, config.size, (config.codes,) * config.depth)
        self.config = config
        self.books = nn.ModuleList(Codebook(config) for _ in range(config.depth))

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Code:
        """See `Bottleneck.forward`."""
        with torch.autocast(h.device.type, enabled=False):
            h = h.float()
            rows = h.reshape(-1, h.shape[-1])
            rest, total = rows.detach(), torch.zeros_like(rows)
            columns, commitment = [], torch.zeros(len(h), device=h.device)
            for book in self.books:
                assert isinstance(book, Codebook)
                if self.training:
                    book.start(rest)
                chosen = book.assign(rest)
                q = book.vectors[chosen]
                if self.training:
                    book.follow(rest, chosen)
                total = total + q
                rest = rest - q
                columns.append(chosen)
                commitment = commitment + (rows - total).square().reshape(len(h), -1).mean(1)
            indices = torch.stack(columns, -1).reshape(*h.shape[:-1], len(columns))
            q = total.reshape(h.shape)
            return Code(
                passed(h, q, self.config.gradient),
                indices,
                self._bits(h),
                {"commitment": self.config.commitment * commitment / len(columns)},
                {"distance": (h - q).detach().square().flatten(1).mean(1)},
            )

    def lookup(self, indices: Tensor) -> Tensor:
        """See `Bottleneck.lookup`."""
        total = torch.zeros((*indices.shape[:-1], self.width_out), device=indices.device)
        for book, chosen in zip(self.books, indices.unbind(-1), strict=True):
            assert isinstance(book, Codebook)
            total = total + book.vectors[chosen]
        return total


def build_bottleneck(config: BottleneckConfig) -> Bottleneck:
    """The bottleneck of a configuration."""
    if config.kind == "identity":
        return Identity(config)
    if config.kind == "gaussian":
        return Gaussian(config)
    if config.kind == "binary":
        return Binary(config)
    if config.kind == "one-hot":
        return OneHot(config)
    if config.kind == "fsq":
        return FiniteScalars(config.levels)
    if isinstance(config, ResidualVQConfig):
        return ResidualVectors(config)
    return Vectors(config)
