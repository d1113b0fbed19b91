"""Choosing the next token: settings, and pure functions over logits.

The filters are those of transformers' logits processors, in their order: repetition penalty,
temperature, top-k, top-p, min-p (tested against them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfsup.data.inputs import list_texts
from selfsup.data.keys import uniform
from selfsup.errors import UserError, check_count, check_seed

_PURPOSE = 0x67656E
"""Sets these draws apart from those that mask and shuffle with the same seed."""
_SAMPLES = 10_000
"""Of one prompt, at most: they are written side by side."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a decoder goes on.

    Raises:
        UserError: a value outside its range.
    """

    max_tokens: int = 300
    """Tokens written for each prompt at most."""
    greedy: bool = False
    """Always the most probable token."""
    temperature: float = 1.0
    """Logits are divided by it; 0 is greedy, else from 0.001 to 1000."""
    top_k: int | None = None
    """Only the k most probable tokens."""
    top_p: float = 1.0
    """Only the most probable tokens that together have this probability (nucleus sampling, Holtzman et
    al. 2020)."""
    min_p: float = 0.0
    """Only tokens with at least this share of the most probable one's (Nguyen et al. 2024)."""
    repetition_penalty: float = 1.0
    """Logits of tokens that were read or written are divided by it (multiplied, where negative; Keskar et
    al. 2019); from 0.01 to 100."""
    stop: str | Sequence[str] = ()
    """A text or several, at which writing ends; they are not given out."""
    samples: int = 1
    """Texts for each prompt, at most 10,000."""
    seed: int = 0
    """Of every draw; (seed, prompt, sample, token) decides alone."""

    def __post_init__(self) -> None:
        check_count(1, self.max_tokens, "--max-tokens")
        check_count(1, self.samples, "--samples")
        if self.samples > _SAMPLES:
            what = f"must be at most {_SAMPLES:,}, not {self.samples:,}"
            raise UserError(what, where="--samples", mend="use another --seed for more")
        if self.top_k is not None:
            check_count(1, self.top_k, "--top-k")
        warmth = self.temperature
        check_temperature(warmth, "0 (greedy) or more")
        _within("--temperature", not 0 < warmth < 1e-3, warmth, "0 (greedy) or at least 0.001")
        _within("--temperature", warmth <= 1e3, warmth, "at most 1000")
        _within("--top-p", 0 < self.top_p <= 1, self.top_p, "above 0 and at most 1")
        _within("--min-p", 0 <= self.min_p < 1, self.min_p, "at least 0 and below 1")
        penalty = self.repetition_penalty
        usual = "above 0 (1: none), from 0.01 to 100"
        _within("--repetition-penalty", 0.01 <= penalty <= 100, penalty, usual)
        check_seed(self.seed)
        self._check_greedy()
        stops = (self.stop,) if isinstance(self.stop, str) else self.stop
        object.__setattr__(self, "stop", tuple(list_texts(stops, "stop text")))
        if "" in self.stop:
            raise UserError("an empty text stands everywhere", where="--stop")

    def _check_greedy(self) -> None:
        """Refuse what would do nothing where nothing is drawn."""
        idle = {
            "--temperature": self.temperature not in (0, 1),
            "--top-k": self.top_k is not None,
            "--top-p": self.top_p != 1,
            "--min-p": self.min_p != 0,
        }
        for flag in (name for name, given in idle.items() if given and self.greedy):
            what = "does nothing with --greedy, which takes the most probable token"
            raise UserError(what, where=flag, mend="leave one of them out")
        if self.samples > 1 and (not self.draws or self.top_k == 1):
            what = f"{self.samples} texts would be the same, since nothing is drawn"
            why = (
                "--greedy" if self.greedy else "--temperature 0" if not self.draws else "--top-k 1"
            )
            raise UserError(what, where="--samples", mend=f"leave it out, or {why}")

    @property
    def draws(self) -> bool:
        """Whether chance has a part."""
        return not self.greedy and self.temperature > 0


def check_temperature(temperature: float, wanted: str = "0 or more") -> None:
    """Refuse what draws cannot be spread by.

    Raises:
        UserError: below 0, or infinite.
    """
    _within("--temperature", temperature >= 0, temperature, wanted)


def _within(where: str, good: bool, value: float, wanted: str) -> None:
    if not good or value == float("inf"):
        raise UserError(f"must be {wanted}, not {value:g}", where=where)


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that were seen less probable.

    Args:
        logits: (rows, vocabulary).
        seen: (rows, vocabulary), true where a token was read or written.
        penalty: above 1 for fewer repetitions.
    """
    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, lowered, logits)


def keep_top_k(logits: Tensor, count: int) -> Tensor:
    """Minus infinity for all but the `count` largest logits of each row (and ties of the last)."""
    least = logits.topk(min(count, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, mass: float) -> Tensor:
    """Minus infinity for all but the fewest tokens whose probabilities add up to `mass`."""
    ordered, places = logits.sort(-1)
    gone = ordered.softmax(-1).cumsum(-1) <= 1 - mass
    gone[:, -1] = False
    return logits.masked_fill(gone.scatter(1, places, gone), -torch.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Minus infinity for tokens with less than `share` of the most probable one's probability."""
    chances = logits.softmax(-1)
    return logits.masked_fill(chances < share * chances.amax(-1, keepdim=True), -torch.inf)


def shape_logits(logits: Tensor, settings: Sampling, seen: Tensor | None = None) -> Tensor:
    """Logits (rows, vocabulary) as the settings want them; their softmax is what is drawn from."""
    if seen is not None and settings.repetition_penalty != 1:
        logits = penalize(logits, seen, settings.repetition_penalty)
    if not settings.draws:
        return logits
    if settings.temperature != 1:
        logits = logits / settings.temperature
    if settings.top_k is not None:
        logits = keep_top_k(logits, settings.top_k)
    if settings.top_p < 1:
        logits = keep_top_p(logits, settings.top_p)
    if settings.min_p > 0:
        logits = keep_min_p(logits, settings.min_p)
    return logits


def draw(logits: Tensor, chances: Tensor) -> Tensor:
    """One token a row, (rows,), by the inverse of the cumulative distribution.

    Args:
        logits: (rows, vocabulary).
        chances: (rows,) uniform in [0, 1), float64.
    """
    cumulative = logits.softmax(-1).cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1]
    wanted = torch.minimum(chances * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, wanted[:, None], right=True)[:, 0]


def choose(
    logits: Tensor,
    settings: Sampling,
    prompts: Sequence[int],
    samples: Sequence[int],
    places: Sequence[int],
    seen: Tensor | None = None,
) -> Tensor:
    """The next token of each row, (rows,).

    Args:
        logits: (rows, vocabulary).
        settings: how.
        prompts, samples, places: of each row; with the seed they decide what is drawn.
        seen: (rows, vocabulary), true where a token was read or written; for the penalty.
    """
    logits = shape_logits(logits, settings, seen)
    if not settings.draws:
        return logits.argmax(-1)
    parts = (np.asarray(one) for one in (prompts, samples, places))
    chances = torch.from_numpy(uniform(settings.seed, _PURPOSE, *parts))
    return draw(logits, chances.to(logits.device))
