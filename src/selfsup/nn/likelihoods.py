"""How likely an example is under a reconstruction: sums of nats, and the reconstruction itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selfsup.data.feature_tables import Block

Kind = Literal["squared", "gaussian", "bernoulli"]
_SURE = 0.005
"""Probabilities that a decoder starts with are at least so far from 0 and 1."""
_NARROW = 0.1
"""The least width that a decoder starts with: one of nothing would make any first error all that counts."""
_WIDTHS = -7.0, 5.0
"""Logarithms of the least and the largest Gaussian width."""


def _logits(p: Tensor) -> Tensor:
    return torch.logit(p.clamp(_SURE, 1 - _SURE))


class Likelihood(nn.Module):
    """What decoders of images and tables have in common.

    Args:
        kind: `squared` error (not a density), `gaussian` of learned width (Rybkin et al. 2021), or
            `bernoulli` for values in [0, 1].
        widths: numbers whose Gaussian width is learned apart.
    """

    def __init__(self, kind: Kind, widths: int) -> None:
        super().__init__()
        self.kind = kind
        self.log_scale = nn.Parameter(torch.zeros(widths)) if kind == "gaussian" else None

    def _nats(self, output: Tensor, target: Tensor) -> Tensor:
        """Of each number, in the shape of `target`."""
        output = output.float()
        if self.kind == "bernoulli":
            return F.binary_cross_entropy_with_logits(output, target, reduction="none")
        squared = (output - target) ** 2
        if self.log_scale is None:
            return squared
        log_scale = self.log_scale.clamp(*_WIDTHS)
        return 0.5 * squared * (-2 * log_scale).exp() + log_scale + 0.5 * math.log(2 * math.pi)

    @torch.no_grad()
    def _start_widths(self, widths: Tensor) -> None:
        """Start with (widths,) root mean square differences."""
        if self.log_scale is not None:
            self.log_scale.copy_(widths.clamp(min=_NARROW).log().clamp(*_WIDTHS))

    def mean_of(self, x: Tensor) -> Tensor:
        """The mean of examples (batch, …)."""
        return x.mean(0)


class ImageLikelihood(Likelihood):
    """Of images (batch, channels, height, width); one width for all values."""

    def __init__(self, kind: Kind, shape: Sequence[int]) -> None:
        super().__init__(kind, 1)
        self.units = math.prod(shape)
        """Values that an example has, by which losses are divided."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(batch,) nats (or squared error), summed over the values."""
        return self._nats(output, target).flatten(1).sum(1)

    def mean(self, output: Tensor) -> Tensor:
        """The reconstruction, in the space of the inputs."""
        return torch.sigmoid(output.float()) if self.kind == "bernoulli" else output.float()

    def outputs(self, mean: Tensor) -> Tensor:
        """What `mean` makes an image (channels, height, width) of."""
        return _logits(mean) if self.kind == "bernoulli" else mean

    def widen(self, x: Tensor, mean: Tensor) -> None:
        """Start with the width of images (batch, …) around `mean`, where one is learned."""
        if self.log_scale is not None:
            self._start_widths((x - mean).square_().mean().sqrt()[None])

    def squared_errors(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(batch,) squared error of each example, summed, and the number of values in the sum."""
        errors = ((self.mean(output) - target) ** 2).flatten(1)
        return errors.sum(1), torch.full((len(errors),), float(self.units), device=errors.device)


class TableLikelihood(Likelihood):
    """Of rows (batch, width) in the blocks of a `FeatureTable`.

    Numbers by the kind (a gap that is marked is not scored), marks of gaps by cross-entropy, and
    categories by the cross-entropy of their block.
    """

    def __init__(self, kind: Kind, blocks: Sequence[Block]) -> None:
        numbers = [b for b in blocks if b.kind == "number"]
        super().__init__("squared" if kind == "bernoulli" else kind, len(numbers))
        marks = {b.name: b.start for b in blocks if b.kind == "gap"}
        self.numbers = len(numbers)
        self.gaps = [(b.start, marks[b.name]) for b in numbers if b.name in marks]
        self.categories = [(b.start, b.stop) for b in blocks if b.kind == "category"]
        self.units = len(numbers) + len(self.gaps) + len(self.categories)
        """Values that an example has, by which losses are divided."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """(batch,) nats (or squared error), summed over the values."""
        return self.by_unit(output, target).sum(1)

    def by_unit(self, output: Tensor, target: Tensor) -> Tensor:
        """(batch, units) of each number, each mark and each category, in the order of the blocks."""
        output = output.float()
        numbers = self._nats(output[:, : self.numbers], target[:, : self.numbers])
        parts = [numbers * self.known(target)]
        if self.gaps:
            marks = [mark for _, mark in self.gaps]
            parts.append(
                F.binary_cross_entropy_with_logits(
                    output[:, marks], target[:, marks], reduction="none"
                )
            )
        for start, stop in self.categories:
            logs = F.log_softmax(output[:, start:stop], -1)
            parts.append(-(logs * target[:, start:stop]).sum(-1, keepdim=True))
        return torch.cat(parts, 1)

    def known(self, target: Tensor) -> Tensor:
        """(batch, numbers) 0 where a number is marked as missing, else 1."""
        known = torch.ones_like(target[:, : self.numbers])
        for number, mark in self.gaps:
            known[:, number] = 1 - target[:, mark]
        return known

    def mean(self, output: Tensor) -> Tensor:
        """The reconstruction, in the space of the inputs: numbers, and probabilities."""
        output = output.float()
        parts = [output[:, : self.numbers]]
        if self.gaps:
            parts.append(torch.sigmoid(output[:, [mark for _, mark in self.gaps]]))
        parts += [torch.softmax(output[:, start:stop], -1) for start, stop in self.categories]
        return torch.cat(parts, 1)

    def outputs(self, mean: Tensor) -> Tensor:
        """What `mean` makes a row (width,) of."""
        out = mean.clone()
        for _, mark in self.gaps:
            out[mark] = _logits(mean[mark])
        for start, stop in self.categories:
            out[start:stop] = mean[start:stop].clamp(min=_SURE).log()
        return out

    def mean_of(self, x: Tensor) -> Tensor:
        """The mean of rows (batch, width), of numbers the mean of those that are known."""
        mean, known = x.mean(0), self.known(x)
        total = (x[:, : self.numbers] * known).sum(0)
        mean[: self.numbers] = total / known.sum(0).clamp(min=1)
        return mean

    def widen(self, x: Tensor, mean: Tensor) -> None:
        """Start with the widths of the known numbers of rows (batch, width) around `mean`."""
        known = self.known(x)
        squares = (x[:, : self.numbers] - mean[: self.numbers]).square_() * known
        self._start_widths((squares.sum(0) / known.sum(0).clamp(min=1)).sqrt())

    def squared_errors(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(batch,) squared error of each row's numbers, summed, and how many were known.

        Of a table without numbers, the error of its probabilities instead.
        """
        if not self.numbers:
            errors = (self.mean(output) - target) ** 2
            return errors.sum(1), torch.full_like(errors[:, 0], errors.shape[1])
        known = self.known(target)
        errors = (output[:, : self.numbers].float() - target[:, : self.numbers]) ** 2
        return (errors * known).sum(1), known.sum(1)
