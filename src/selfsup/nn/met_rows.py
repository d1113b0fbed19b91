"""Token vectors of which only those are trained that training meets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MetRows(nn.Module):
    """An embedding whose parameter holds the rows that training meets; the others stand still.

    A labelled file uses a part of a vocabulary, often a small one.  For all other rows gradient and
    both moments of Adam are zero, so keeping them costs memory and time and changes nothing, but for
    weight decay, which here leaves alone what was never read.

    Args:
        whole: the embedding; its rows are copied.
        met: (R,) the ids that training meets, rising.
    """

    def __init__(self, whole: nn.Embedding, met: Tensor) -> None:
        super().__init__()
        matrix, count = whole.weight.detach(), len(whole.weight)
        met = met.to(matrix.device)
        away = torch.ones(count, dtype=torch.bool, device=matrix.device)
        away[met] = False
        order = torch.cat([met, away.nonzero()[:, 0]])
        place = torch.empty_like(order)
        place[order] = torch.arange(count, device=matrix.device)
        self.weight = nn.Parameter(matrix[met])
        """(R, width)"""
        self.place: Tensor
        self.others: Tensor
        self.register_buffer("place", place, persistent=False)
        """(entries,) where an id's row stands: in `weight`, and behind its end in `others`."""
        self.register_buffer("others", matrix[away], persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(N,) ids to (N, width).

        Raises:
            IndexError: while training (on a CPU), an id that was not named.
        """
        place = self.place[ids]
        if self.training:
            return F.embedding(place, self.weight)
        behind = place - len(self.weight)
        known = F.embedding(place.clamp(max=len(self.weight) - 1), self.weight)
        return torch.where(behind[:, None] < 0, known, self.others[behind.clamp(min=0)])

    def whole(self) -> nn.Embedding:
        """A plain embedding that gives the same."""
        met, count = len(self.weight), len(self.place)
        order = self.place.argsort()
        matrix = self.weight.new_empty(count, self.weight.shape[1])
        with torch.no_grad():
            matrix[order[:met]] = self.weight
            matrix[order[met:]] = self.others
        return nn.Embedding(count, matrix.shape[1], _weight=matrix)
