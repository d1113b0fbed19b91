"""Which tokens are hidden, and what stands in their place: a pure function of tokens and key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.keys import below, hash64, uniform

_SPAN_LONGEST = 10  # words, as in SpanBERT
_PART_LONGEST = 10  # tokens of a word that is longer than what is hidden of a row


class Masked(NamedTuple):
    """A masked batch of rows.

    `slots` scored positions a row, always: rows that have fewer candidates fill up with weight 0.
    """

    tokens: NDArray[np.int64]
    """(rows, length): what the model sees."""
    positions: NDArray[np.int64]
    """(rows, slots): where in its row each scored token stands."""
    targets: NDArray[np.int64]
    """(rows, slots): what stood there."""
    weights: NDArray[np.float32]
    """(rows, slots): 1 where the slot is used, else 0."""


@dataclass(frozen=True)
class Masking:
    """The rule: how many tokens, hidden together by what unit, and replaced by what.

    `rate` is the share of a row's length that is scored; `mask`, `random` and `keep` are the shares
    of scored tokens that become [MASK], become another ordinary token, or stay (Devlin et al. 2019:
    0.8, 0.1, 0.1).
    """

    mask_id: int
    ordinary_ids: NDArray[np.int64]
    rate: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    unit: str = "token"
    span_mean: float = 3.0

    def slots(self, length: int) -> int:
        """Scored positions in a row of `length` tokens."""
        return max(1, round(self.rate * length))

    def apply(
        self,
        tokens: NDArray[np.int64],
        words: NDArray[np.int32],
        key: tuple[int, ...],
        rows: NDArray[np.int64],
        epochs: NDArray[np.int64],
    ) -> Masked:
        """Mask a batch.

        Args:
            tokens: (rows, length) token ids.
            words: (rows, length) number of the word in its row, -1 where nothing may be hidden.
            key: what the draw depends on beside the row: (seed, purpose).
            rows: (rows,) the rows' identities.
            epochs: (rows,) how often each row was seen before.
        """
        length = tokens.shape[1]
        draw = hash64(*key, epochs[:, None], rows[:, None], np.arange(length)[None, :])
        order = (draw >> np.uint64(32)).astype(np.float64) / 2.0**32  # the upper half: which
        action = (draw & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2.0**32  # the lower: what
        order[words < 0] = np.inf
        if self.unit == "token":
            positions, weights = _smallest(order, self.slots(length))
        else:
            units = _parted(words, self.slots(length))
            units = units if self.unit == "word" else _spans(units, self.span_mean, draw)
            positions, weights = _whole_units(order, units, self.slots(length))
        targets = np.take_along_axis(tokens, positions, 1)
        chosen = np.take_along_axis(action, positions, 1)
        drawn = below(len(self.ordinary_ids), *key, 1, epochs[:, None], rows[:, None], positions)
        replacement = np.where(
            chosen < self.mask,
            self.mask_id,
            np.where(chosen < self.mask + self.random, self.ordinary_ids[drawn], targets),
        )
        seen = tokens.copy()
        current = np.take_along_axis(seen, positions, 1)
        np.put_along_axis(seen, positions, np.where(weights > 0, replacement, current), 1)
        return Masked(seen, positions, targets, weights)


def _smallest(
    order: NDArray[np.float64], slots: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `slots` candidates of each row with the smallest draws, in order of position."""
    slots = min(slots, order.shape[1])
    chosen = np.sort(np.argpartition(order, slots - 1, axis=1)[:, :slots], axis=1)
    usable = np.isfinite(np.take_along_axis(order, chosen, 1))
    return chosen.astype(np.int64), usable.astype(np.float32)


def _parted(words: NDArray[np.int32], slots: int) -> NDArray[np.int32]:
    """Words of more than `slots` tokens as several of at most 10, since they could never be hidden.

    So are runs of Thai, which has no spaces.  Rows without such words stay as they are: (rows, length).
    """
    far = words[:, slots:]
    long = ((far == words[:, : far.shape[1]]) & (far >= 0)).any(axis=1)
    parted = words.copy() if long.any() else words
    for row in np.flatnonzero(long):
        first = np.diff(words[row], prepend=-2) != 0
        starts = np.flatnonzero(first)
        sizes = np.diff(starts, append=words.shape[1])
        place = np.arange(words.shape[1]) - np.repeat(starts, sizes)
        first |= (np.repeat(sizes, sizes) > slots) & (place % min(_PART_LONGEST, slots) == 0)
        parted[row] = np.where(words[row] >= 0, np.cumsum(first), -1)
    return parted


def _spans(words: NDArray[np.int32], mean: float, draw: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Join runs of words into spans of geometric length (at most 10 words): (rows, length) span ids."""
    first = np.diff(words, axis=1, prepend=-1) != 0
    chance = uniform(draw)  # hashed again, so that it does not hang together with the order
    ids = np.full(words.shape, -1, np.int32)
    for row in range(words.shape[0]):
        span, left = -1, 0
        for place in np.flatnonzero(first[row] & (words[row] >= 0)):
            if left <= 0 or words[row, place - 1] < 0:
                span += 1
                grown = np.log1p(-chance[row, place]) / np.log1p(-1.0 / mean) if mean > 1 else 0
                left = min(_SPAN_LONGEST, 1 + int(grown))
            ids[row, place] = span
            left -= 1
        inside = words[row] >= 0
        last = np.maximum.accumulate(np.where(first[row] & inside, np.arange(words.shape[1]), 0))
        ids[row] = np.where(inside, ids[row, last], -1)
    return ids


def _whole_units(
    order: NDArray[np.float64], units: NDArray[np.int32], slots: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Whole units in the order of their first token's draw, each all or none, while they fit."""
    rows = len(order)
    positions = np.zeros((rows, slots), np.int64)
    weights = np.zeros((rows, slots), np.float32)
    for row in range(rows):
        places = np.flatnonzero(units[row] >= 0)
        if not len(places):
            continue
        starts = np.flatnonzero(np.diff(units[row][places], prepend=-1) != 0)
        sizes = np.diff(starts, append=len(places))
        taken: list[int] = []
        for unit in np.argsort(order[row][places[starts]], kind="stable"):
            if len(taken) + sizes[unit] <= slots:
                taken.extend(places[starts[unit] : starts[unit] + sizes[unit]])
            if len(taken) == slots:
                break
        if not taken:  # a single unit longer than the row's share: hide its first tokens
            longest = int(np.argmin(order[row][places[starts]]))
            taken = list(places[starts[longest] : starts[longest] + slots])
        positions[row, : len(taken)] = np.sort(taken)
        weights[row, : len(taken)] = 1
        if len(taken) < slots:  # unused slots point at one used place; their weight is 0
            positions[row, len(taken) :] = positions[row, 0]
    return positions, weights
