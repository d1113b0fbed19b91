"""Counter-based random numbers: pure functions of what they are for.

A draw depends only on its key, e.g. (seed, epoch, row, position), never on what was drawn before.
So resuming, the number of workers and the batch size cannot change it.  The mixer is the finaliser
of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


class Key(NamedTuple):
    """What a random decision may depend on beside the example itself."""

    seed: int
    purpose: int = 0


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def hash64(*parts: ArrayLike) -> NDArray[np.uint64]:
    """64 well-mixed bits for each combination of the (broadcast) integer parts."""
    with np.errstate(over="ignore"):
        state = np.zeros((), np.uint64)
        for part in parts:
            state = _more(state, np.asarray(part).astype(np.uint64))
    return np.asarray(state)


def _more(state: NDArray[np.uint64], word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hash of what `state` is the hash of, and another part."""
    return _mix((state + _GOLDEN) ^ _mix(word + _GOLDEN))


def uniform(*parts: ArrayLike) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), one for each combination of the parts."""
    return (hash64(*parts) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(limit: ArrayLike, *parts: ArrayLike) -> NDArray[np.int64]:
    """Uniform integers in [0, limit), one for each combination of the parts.

    The multiply-and-floor method; its bias is below limit / 2**53.
    """
    drawn: NDArray[np.float64] = uniform(*parts) * np.asarray(limit)
    return np.floor(drawn).astype(np.int64)


def permute(index: ArrayLike, size: int, *parts: int) -> NDArray[np.int64]:
    """The images of `index` under a keyed permutation of [0, size), without storing it.

    A four-round Feistel network over the next even power of two, walked until it lands inside
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").  Bijective for each key.
    """
    if size <= 1:
        return np.zeros(np.shape(index), np.int64)
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    value = np.atleast_1d(np.asarray(index, dtype=np.int64)).astype(np.uint64)
    todo = np.ones(value.shape, bool)
    turns = hash64(*parts, np.arange(4)[:, None])  # what the hash of all but `right` is
    while todo.any():
        left, right = value[todo] >> shift, value[todo] & mask
        for turn in turns:
            left, right = right, left ^ (_more(turn, right) & mask)
        value[todo] = (left << shift) | right
        todo[todo] = value[todo] >= np.uint64(size)
    return value.astype(np.int64).reshape(np.shape(index))
