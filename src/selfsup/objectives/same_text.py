"""Which second half belongs to which first half?  A contrastive question about whole texts.

Each piece of a document is cut in two, and each half is a sequence of its own; the mean vector of a
half must be nearer to that of its other half than to those of all other texts in the batch (InfoNCE,
van den Oord et al. 2018; for text beside masked tokens: DeCLUTR, Giorgi et al. 2021).  So what two
parts of one text share (topic, opinion, style) gets into the mean vector, which masked tokens alone
do not ask for.  It costs no second reading: the halves are those whose tokens are hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from selfsup.models.task_model import mean_vectors
from selfsup.nn.sequences import Sequences
from selfsup.objectives.protocol import Ratio

TEMPERATURE = 0.05
SHORTEST = 6
"""Tokens, special ones included; a shorter half is not asked about."""


@dataclass(frozen=True)
class Halves:
    """Pairs of sequences that were one piece."""

    places: Tensor
    """(P, 2) numbers of the first and the second half among the batch's sequences."""
    weights: Tensor
    """(P,) how many tokens are scored in the piece; 0 where a half is too short."""
    documents: Tensor
    """(P,) whose pieces they are; pieces of one document are not each other's negatives."""

    def to(self, device: torch.device) -> Halves:
        """The same on a device."""
        return Halves(self.places.to(device), self.weights.to(device), self.documents.to(device))


def make_halves(
    real: NDArray[np.int64],
    sizes: NDArray[np.int64],
    scored: NDArray[Any],
    documents: NDArray[np.int64],
) -> Halves:
    """Pair the sequences of a batch.

    Args:
        real: (2 P,) numbers of the sequences that hold text, first and second halves in turns.
        sizes: (sequences,) tokens in each.
        scored: (sequences,) tokens scored in each.
        documents: (P,) of each piece.
    """
    places = real.reshape(-1, 2)
    long_enough = (sizes[places] >= SHORTEST).all(1)
    weights = scored[places].sum(1) * long_enough
    return Halves(
        torch.from_numpy(places),
        torch.from_numpy(weights.astype(np.float32)),
        torch.from_numpy(np.ascontiguousarray(documents)),
    )


def same_text_loss(hidden: Tensor, batch: Sequences, halves: Halves) -> tuple[Tensor, Ratio]:
    """Cross entropy of finding each half's other half, in both directions.

    A pair weighs as much as the tokens scored in it, so that one count normalises this sum and that
    of the masked tokens.  The question is as hard as the batch is large.

    Args:
        hidden: (N, hidden).
        batch: the sequences.
        halves: which belong together.

    Returns:
        The weighted sum, and how often the first half finds its second.
    """
    vectors = F.normalize(mean_vectors(hidden, batch), dim=-1)
    first, second = vectors[halves.places[:, 0]], vectors[halves.places[:, 1]]
    likeness = (first @ second.T).float() / TEMPERATURE
    same = halves.documents[:, None] == halves.documents[None, :]
    others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    unusable = others | (halves.weights == 0)[None, :] | (halves.weights == 0)[:, None]
    unusable &= ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    likeness = likeness.masked_fill(unusable, -torch.inf)
    target = torch.arange(len(likeness), device=likeness.device)
    there = F.cross_entropy(likeness, target, reduction="none")
    back = F.cross_entropy(likeness.T, target, reduction="none")
    loss = (0.5 * (there + back) * halves.weights).sum()
    asked = (halves.weights > 0).float()
    right = ((likeness.argmax(-1) == target).float() * asked).sum()
    return loss, Ratio(right, asked.sum())
