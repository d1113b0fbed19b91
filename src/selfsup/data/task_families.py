"""Tasks that are shown by examples: families of them, each split into a training and a held-out part.

A task is drawn as a pure function of a key, and whether it is held out is a hash of what defines it
(a pair of words, a constant, a choice of places): no task of one part can occur in the other,
whatever the seed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from selfsup.data.keys import hash64, permute, uniform

HELDOUT = 0.1
"""Share of the tasks that are never trained on."""
HELDOUT_WORDS = 0.04
"""The same for pairs of words.  Small, because what is held out is also never the answer in training:
of a quarter of all pairs a decoder learns by heart that they cannot be."""
_SPLIT = 0x1C1
_WORDS: list[str] = re.findall(
    r"\w+",
    """
apple arrow basket bell bird boat bone book bottle bread bridge broom brush bucket candle carpet
castle cat chair cheese clock cloud coat coin comb corn crown cup deer desk dog door dress drum
duck ear egg engine eye feather fence fish flag flower fork fox frog garden gate ghost glass
glove goat hammer hat hill honey horse house island jar key kite knife ladder lake lamp leaf
lemon lion mirror moon mouse mule needle nest onion owl paper pear pen pig plate pond rabbit
rain ring river road roof rope rose salt ship shoe snow spoon stone
""",
)


class Shown(NamedTuple):
    """Inputs and outputs of one task, in symbols."""

    inputs: list[tuple[str, ...]]
    outputs: list[tuple[str, ...]]


class Family(Protocol):
    """Tasks of one kind."""

    name: str

    @property
    def symbols(self) -> Sequence[str]:
        """Everything that inputs and outputs are made of."""
        ...

    @property
    def longest(self) -> int:
        """Symbols in the longest input and output together."""
        ...

    def draw(self, heldout: bool, count: int, *key: int) -> Shown:
        """One task of the asked part, shown `count` times; pure."""
        ...

    def answerable(self, shown: Shown) -> bool:
        """Whether the examples before the last one tell its answer."""
        ...


def is_heldout(family: int, *task: int) -> bool:
    """Whether a task is kept out of training; does not depend on any seed."""
    return bool(uniform(_SPLIT, family, *task) < HELDOUT)


class Lookup:
    """A few words, each with another that belongs to it in this row alone; inputs come again.

    The pairs (input, output) are split: a held-out row is made of pairs that never stood in training.
    The answer is known once its input was shown, and not before.

    Args:
        words: how many distinct words there are.
        fewest, most: distinct inputs in one row.
    """

    name = "mapping"

    def __init__(self, words: int = 64, fewest: int = 3, most: int = 6) -> None:
        self.symbols, self.fewest, self.most = _WORDS[:words], fewest, most
        self.longest = 2

    @cached_property
    def partners(self) -> dict[bool, list[NDArray[np.int64]]]:
        """For each part and input word, the numbers of the words that may belong to it."""
        size = np.arange(len(self.symbols))
        held = uniform(_SPLIT, 0, size[:, None], size) < HELDOUT_WORDS
        return {part: [np.flatnonzero(row == part) for row in held] for part in (False, True)}

    def draw(self, heldout: bool, count: int, *key: int) -> Shown:
        """Words and their partners of one row."""
        size = len(self.symbols)
        u = uniform(*key, np.arange(1 + size + self.most + count))  # one call: many are slow
        distinct = self.fewest + int(u[0] * (self.most - self.fewest + 1))
        possible = self.partners[heldout]
        order = np.argsort(u[1 : 1 + size]).tolist()
        words = [w for w in order if len(possible[w])][:distinct]
        chosen = u[1 + size : 1 + size + distinct].tolist()
        allowed = [possible[w] for w in words]
        partners = [a[int(c * len(a))] for a, c in zip(allowed, chosen, strict=True)]
        turns = (u[len(u) - count :] * distinct).astype(np.int64).tolist()
        return Shown(
            [(self.symbols[words[i]],) for i in turns],
            [(self.symbols[partners[i]],) for i in turns],
        )

    def answerable(self, shown: Shown) -> bool:
        """Whether the last input was shown before."""
        return shown.inputs[-1] in shown.inputs[:-1]


class Arithmetic:
    """y = a x + c modulo n with hidden constants, of which those held out were never trained on.

    Two different inputs with their outputs tell both constants; an input that comes again can also be
    looked up.

    Args:
        modulus: n, a prime, so that no two pairs of constants do the same.
    """

    name = "arithmetic"

    def __init__(self, modulus: int = 11) -> None:
        self.modulus = modulus
        self.symbols = [str(number) for number in range(modulus)]
        self.longest = 2
        constants = list(product(range(1, modulus), range(modulus)))
        held = [is_heldout(1, modulus, *pair) for pair in constants]
        self.tasks = {
            part: [c for c, h in zip(constants, held, strict=True) if h == part]
            for part in (False, True)
        }

    def draw(self, heldout: bool, count: int, *key: int) -> Shown:
        """Numbers and what the row's constants make of them."""
        tasks = self.tasks[heldout]
        u = uniform(*key, np.arange(1 + count))
        factor, constant = tasks[int(u[0] * len(tasks))]
        x = (u[1:] * self.modulus).astype(np.int64)
        y = (factor * x + constant) % self.modulus
        return Shown([(str(v),) for v in x.tolist()], [(str(v),) for v in y.tolist()])

    def answerable(self, shown: Shown) -> bool:
        """Whether two different inputs were shown, or this one."""
        return len(set(shown.inputs[:-1])) > 1 or shown.inputs[-1] in shown.inputs[:-1]


class Strings:
    """The output is made of the input's letters at certain places.

    Copy, reverse, rotate, first, last and swap are such choices of places, and so are their
    compositions: all choices of 1 to `length` places, also the same one twice.  The choices are split.

    Args:
        length: letters in an input, all different.
        alphabet: how many letters there are.
    """

    name = "strings"

    def __init__(self, length: int = 4, alphabet: int = 16) -> None:
        self.length = length
        self.symbols = [chr(ord("A") + i) for i in range(alphabet)]
        self.longest = 2 * length
        places = [p for size in range(1, length + 1) for p in product(range(length), repeat=size)]
        held = [is_heldout(2, length, *p) for p in places]
        self.tasks = {
            part: [p for p, h in zip(places, held, strict=True) if h == part]
            for part in (False, True)
        }

    def draw(self, heldout: bool, count: int, *key: int) -> Shown:
        """Strings and the letters at the row's places."""
        tasks = self.tasks[heldout]
        u = uniform(*key, np.arange(1 + count * len(self.symbols)))
        places = tasks[int(u[0] * len(tasks))]
        letters = np.argsort(u[1:].reshape(count, -1))
        inputs = [tuple(self.symbols[i] for i in row) for row in letters[:, : self.length].tolist()]
        return Shown(inputs, [tuple(x[p] for p in places) for x in inputs])

    def answerable(self, shown: Shown) -> bool:
        """Whether there is an example: letters do not repeat, so that one shows the places."""
        return len(shown.inputs) > 1


class Pairs:
    """Texts and their translations from a file; in a row a few pairs come again and again.

    The pairs are split.  Trained pairs can be learned by heart; the answer to a held-out one can only
    come from an earlier example of the row.

    Args:
        pairs: texts as symbols, with their translations.
        distinct: pairs in one row.
    """

    name = "pairs"

    def __init__(
        self, pairs: Sequence[tuple[tuple[str, ...], tuple[str, ...]]], distinct: int = 4
    ) -> None:
        self.distinct = distinct
        held = [bool(uniform(_SPLIT, 3, _number(x), _number(y)) < HELDOUT) for x, y in pairs]
        trained = [p for p, h in zip(pairs, held, strict=True) if not h]
        known = {symbol for x, y in trained for symbol in (*x, *y)}
        # a symbol that was never trained could not be written
        heldout = [
            p for p, h in zip(pairs, held, strict=True) if h and known.issuperset(p[0] + p[1])
        ]
        self.tasks = {False: trained, True: heldout}
        self.symbols = sorted(known)
        self.longest = max((len(x) + len(y) for x, y in pairs), default=0)

    def draw(self, heldout: bool, count: int, *key: int) -> Shown:
        """Pairs of one row."""
        tasks = self.tasks[heldout]
        distinct = min(self.distinct, len(tasks))
        chosen = permute(np.arange(distinct), len(tasks), *key, 1).tolist()
        order = (uniform(*key, 2, np.arange(count)) * distinct).astype(np.int64).tolist()
        shown = [tasks[chosen[i]] for i in order]
        return Shown([x for x, _ in shown], [y for _, y in shown])

    def answerable(self, shown: Shown) -> bool:
        """Whether the last input was shown before."""
        return shown.inputs[-1] in shown.inputs[:-1]


def _number(symbols: tuple[str, ...]) -> int:
    """A number of a text that is the same in every process."""
    state = 0
    for byte in " ".join(symbols).encode():
        state = int(hash64(state, byte))
    return state
