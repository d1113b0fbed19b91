"""An encoder with a linear layer over its mean vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from selfsup.models.transformer import Transformer
from selfsup.nn.sequences import Sequences


class Classifier(nn.Module):
    """Scores classes from the mean of a sequence's vectors.

    Args:
        encoder: any transformer; it is trained along.
        classes: how many.
    """

    def __init__(self, encoder: Transformer, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(encoder.config.hidden_size, classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, batch: Sequences) -> Tensor:
        """Logits (B, classes)."""
        return self.output(mean_vectors(self.encoder(batch), batch))  # type: ignore[no-any-return]


def mean_vectors(hidden: Tensor, batch: Sequences) -> Tensor:
    """The mean of each sequence's vectors: (N, hidden) to (B, hidden)."""
    starts = batch.starts.to(hidden.device)
    lengths = starts.diff()
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=hidden.device), lengths)
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden)
    return sums / lengths[:, None].to(hidden.dtype)
