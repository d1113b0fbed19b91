"""Distances to the nearest of small random subsets of the training rows.

The mean over many subsets of the distance to the nearest row in each (Pang, Ting and Albrecht 2015,
"LeSiNN"; Bandaragoda et al. 2018): as good as nearest neighbours on clean data when the subsets are
large, and robust on contaminated data when they are small, since a subset of eight rows hardly ever
holds two anomalies of one cluster.  Memory and time do not grow with the training data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PLACES = 1 << 20
"""Distances that are worked out at once: few enough for a processor's caches."""
_WIDE = 128
"""Numbers that all members see of a row from which on a CPU compares these once for all of them."""
_AT_ONCE = 512
"""Rows that are compared so at once."""
_SURE = 0.6
"""The share of the first of them that float32 must decide, for it to be worth its time."""
_LARGEST = 1e37
"""The largest square of a reference that float32 may be asked about."""
_TINY = 1e-36
"""Leads up to which float32 has fewer digits, or none."""


@dataclass(frozen=True)
class Nearest:
    """What lies nearest to some rows, subset by subset."""

    places: NDArray[np.int64]
    """(rows, subsets) which reference."""
    distances: NDArray[np.float64]
    """(rows, subsets) how far."""


class Subsets:
    """The subsets of all members.

    Args:
        views: for each member, how it sees the references, (references, width) float64.
        places: (members, subsets, size) which references each subset holds.
        common: leading numbers that all members see alike.
    """

    def __init__(self, views: Sequence[Tensor], places: NDArray[np.int64], common: int) -> None:
        self.drawn = [Drawn(view, own) for view, own in zip(views, places, strict=True)]
        self.sieve: _Sieve | None = None
        wide = common >= _WIDE and views[0].device.type == "cpu"
        if wide and max(float(drawn.squares.max()) for drawn in self.drawn) < _LARGEST:
            self.sieve = _Sieve(views, places, common)

    def nearest(self, views: Sequence[Tensor], members: Sequence[int]) -> Iterator[Nearest]:
        """The nearest reference in each subset, for one member after another.

        Args:
            views: for each of `members`, how it sees the rows, (batch, width) float64.
            members: who is asked.
        """
        guesses: Sequence[_Guess | None] = [None] * len(members)
        if self.sieve is not None:
            drawn = [self.drawn[member] for member in members]
            with torch.autocast("cpu", enabled=False):
                guesses = self.sieve.guess(views, drawn, members) or guesses
        for view, member, guess in zip(views, members, guesses, strict=True):
            yield nearest(view, self.drawn[member], guess)


class Drawn:
    """The subsets of one member, laid out so that rows can be compared with all of them at once.

    Args:
        references: (references, width) float64.
        places: (subsets, size) which of them each subset holds.
    """

    def __init__(self, references: Tensor, places: NDArray[np.int64]) -> None:
        self.places = places
        self.rows = references[torch.tensor(places.ravel(), device=references.device)]
        """(subsets * size, width): a reference once for each subset that it is in.  Of narrow rows, to
        compare it once and look the results up takes longer (docs/log.md)."""
        self.squares = self.rows.square().sum(1)


@dataclass(frozen=True)
class _Guess:
    least: Tensor
    """(rows, subsets) the place of the nearest in each subset."""
    sure: NDArray[np.bool_]
    """(rows,) whether no other can be as near, by what float32 can tell."""


class _Sieve:
    """Looks up in float32, for all members at once, which reference of each subset lies nearest.

    What the members see alike of wide rows is compared once with each reference, and float32 is twice
    as fast as float64.  A nearest whose lead over the second is less than what rounding may have moved
    is none: such rows are looked up in float64 as well.
    """

    def __init__(self, views: Sequence[Tensor], places: NDArray[np.int64], common: int) -> None:
        used, where = np.unique(places, return_inverse=True)
        self.common = common
        self.where = torch.from_numpy(where.reshape(len(places), -1))
        self.alike = views[0][torch.from_numpy(used), :common].float().T.contiguous()
        drawn = torch.from_numpy(places.reshape(len(places), -1))
        self.own = [
            view[own, common:].float().T.contiguous()
            for view, own in zip(views, drawn, strict=True)
        ]
        # of the squared lengths; sums of so many products are rounded by a third of it at most
        self.rounding = 4 * views[0].shape[1] ** 0.5 * 2.0**-24

    def guess(
        self, views: Sequence[Tensor], drawn: Sequence[Drawn], members: Sequence[int]
    ) -> list[_Guess]:
        """For each of `members`, what is nearest; arguments as of `Subsets.nearest`.

        Of rows that float32 can seldom tell, such as many of zeros and ones, nothing is looked up: [].
        """
        found: list[list[_Guess]] = [[] for _ in members]
        for parts in zip(*(torch.split(view, _AT_ONCE) for view in views), strict=True):
            alike = parts[0][:, : self.common].float() @ self.alike
            for part, own, member, known in zip(parts, drawn, members, found, strict=True):
                products = alike.index_select(1, self.where[member])
                products.addmm_(part[:, self.common :].float(), self.own[member])
                ranks = torch.sub(own.squares.float(), products, alpha=2)
                known.append(self._lead(ranks.view(len(part), *own.places.shape), part))
            if np.mean([known[0].sure.mean() if len(parts[0]) else 1.0 for known in found]) < _SURE:
                return []
        return [
            _Guess(torch.cat([g.least for g in known]), np.concatenate([g.sure for g in known]))
            for known in found
        ]

    def _lead(self, ranks: Tensor, rows: Tensor) -> _Guess:
        """Of ranks (batch, subsets, size), which are used up, the least and whether that is certain."""
        least = _least(ranks)
        first = ranks.gather(2, least[:, :, None]).squeeze(2).double()
        second = ranks.scatter_(2, least[:, :, None], torch.inf).amin(2).double()
        squares = rows.square().sum(1, keepdim=True)
        # a rival is no longer than the row and the way to the nearest together
        longest = 2 * squares.sqrt() + (first + squares).clamp(min=0).sqrt()
        moved = 2 * self.rounding * longest.square() + _TINY
        sure = (second - first > moved) & first.isfinite()
        return _Guess(least, sure.all(1).numpy())


def draw_subsets(
    allowed: list[NDArray[np.int64]], count: int, size: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """(members, count, size) references for each member, without repeats inside a subset.

    Args:
        allowed: for each member, the references it may use.
        count: subsets of each member.
        size: rows of a subset; fewer where a member has fewer.
        generator: draws.
    """
    size = min(size, *(len(own) for own in allowed))
    drawn = [
        [generator.choice(own, size, replace=False, shuffle=False) for _ in range(count)]
        for own in allowed
    ]
    return np.array(drawn, np.int64).reshape(len(allowed), count, size)


def nearest(rows: Tensor, drawn: Drawn, guess: _Guess | None = None) -> Nearest:
    """The nearest reference in each subset.

    Args:
        rows: (batch, width) float64.
        drawn: the subsets.
        guess: what is known of it already.
    """
    count, size = drawn.places.shape
    if guess is None:
        least = _look_up(rows, drawn)
    else:
        least = guess.least
        unsure = torch.from_numpy(np.flatnonzero(~guess.sure))
        least[unsure] = _look_up(rows[unsure], drawn)
    first = torch.arange(0, count * size, size, device=rows.device)
    distances = []
    block = max(16, 2 * _PLACES // (count * rows.shape[1]))
    for part, own in zip(torch.split(rows, block), torch.split(least, block), strict=True):
        away = part[:, None] - drawn.rows[own + first]
        distances.append(away.square_().sum(2).sqrt_())
    found = least.cpu().numpy()
    return Nearest(drawn.places[np.arange(count), found], torch.cat(distances).cpu().numpy())


def _look_up(rows: Tensor, drawn: Drawn) -> Tensor:
    """(rows, subsets) the place of the nearest reference in each subset."""
    count, size = drawn.places.shape
    best = []
    for part in torch.split(rows, max(16, _PLACES // (count * size))):
        # the distance's square up to a constant for each row
        ranks = torch.addmm(drawn.squares, part, drawn.rows.T, alpha=-2)
        best.append(_least(ranks.view(len(part), count, size)))
    return torch.cat(best)


def _least(ranks: Tensor) -> Tensor:
    """(rows, subsets, size) ranks to (rows, subsets), the place of the least in each subset.

    On a CPU NumPy compares, several times as fast as torch.
    """
    if ranks.device.type != "cpu":
        return ranks.argmin(2)
    return torch.from_numpy(ranks.numpy().argmin(2))
