"""An encoder with the head of a task: one answer a text, one a token, or a start and an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from selfsup.models.transformer import MaskedLanguageModel, Transformer
from selfsup.nn.block import activate, make_norm
from selfsup.nn.cross_entropy import at_least_float32
from selfsup.nn.dropout import Dropout
from selfsup.nn.met_rows import MetRows
from selfsup.nn.sequences import Sequences

Pooling = Literal["mean", "cls", "pooler"]


@dataclass(frozen=True)
class HeadSpec:
    """What stands between the encoder and the answer."""

    unit: Literal["sequence", "token"]
    """One answer for each sequence, or one for each token."""
    outputs: int
    """Numbers in an answer: classes, 1 for a regression, 2 for a start and an end."""
    pooling: Pooling = "mean"
    """For sequences: what stands for one."""
    dense: bool = False
    """A dense layer, an activation and a norm before the output (ModernBERT's prediction head)."""
    dropout: float = 0.0

    @property
    def asks_pooler(self) -> bool:
        """Whether the encoder's pooler stands between."""
        return self.unit == "sequence" and self.pooling == "pooler"


class TaskModel(nn.Module):
    """Answers for sequences or tokens.

    Args:
        encoder: any transformer; it is trained along.
        spec: the head.
    """

    def __init__(self, encoder: Transformer, spec: HeadSpec) -> None:
        super().__init__()
        config = encoder.config
        self.spec, self.encoder = spec, encoder
        if spec.asks_pooler:
            assert encoder.pooler is not None, "this encoder has no pooler"
        width = config.hidden_size
        self.dense = nn.Linear(width, width, bias=config.bias) if spec.dense else None
        self.norm = make_norm(config) if spec.dense else nn.Identity()
        self.dropout = Dropout(spec.dropout)
        self.output = nn.Linear(width, spec.outputs)
        for layer in (self.dense, self.output):
            if layer is not None:
                encoder._initialize(layer)

    def train(self, mode: bool = True) -> TaskModel:
        """As in any module; an encoder that stands still drops nothing out."""
        super().train(mode)
        if not any(p.requires_grad for p in self.encoder.parameters()):
            self.encoder.eval()
        return self

    def forward(self, batch: Sequences, places: Tensor | None = None) -> Tensor:
        """Answers: (B, outputs) for sequences; for tokens (N, outputs), or (M, outputs) at `places`."""
        if self.spec.unit == "token":
            hidden = self.encoder(batch, places=places)
        elif self.spec.pooling == "mean":
            hidden = mean_vectors(self.encoder(batch), batch)
        else:
            hidden = self.encoder(batch, places=batch.starts[:-1])
            hidden = self.encoder.pool(hidden) if self.spec.asks_pooler else hidden
        if self.dense is not None:
            hidden = self.norm(activate(self.dense(hidden), self.encoder.config.activation))
        hidden = at_least_float32(self.dropout(hidden))
        with torch.autocast(hidden.device.type, enabled=False):  # 2005 and 2006 are one in bfloat16
            return self.output(hidden)  # type: ignore[no-any-return]

    def used_parameters(self) -> dict[str, nn.Parameter]:
        """Those that answers come from, by name: all, but not a pooler that is not asked."""
        asked = self.spec.asks_pooler
        named = self.named_parameters()
        return {n: p for n, p in named if asked or not n.startswith("encoder.pooler.")}

    def train_met_rows(self, texts: Sequence[NDArray[np.int64]]) -> None:
        """Leave alone the token vectors that none of these texts uses; see `MetRows`.

        Args:
            texts: the ids of every text that will be trained on.
        """
        self.train_all_rows()
        place, met = self.encoder.embeddings, np.unique(np.concatenate(list(texts)))
        whole = place.tokens
        assert isinstance(whole, nn.Embedding)
        if not whole.weight.requires_grad:
            return
        if len(met) < len(whole.weight):
            place.tokens = MetRows(whole, torch.from_numpy(met))

    def train_all_rows(self) -> None:
        """The plain shape again."""
        place = self.encoder.embeddings
        if isinstance(place.tokens, MetRows):
            place.tokens = place.tokens.whole()


def start_task_model(pretrained: MaskedLanguageModel, spec: HeadSpec, seed: int) -> TaskModel:
    """A task model on a copy of a pre-trained one; what the head adds is drawn from the seed.

    The dense layer, where the spec has one, starts from the layer that guessed hidden tokens.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TaskModel(Transformer(pretrained.config), spec)
    model.encoder.load_state_dict(pretrained.encoder.state_dict())
    if model.dense is not None:
        model.dense.load_state_dict(pretrained.head_dense.state_dict())
        model.norm.load_state_dict(pretrained.head_norm.state_dict())
    return model


def scratch_task_model(pretrained: MaskedLanguageModel, spec: HeadSpec, seed: int) -> TaskModel:
    """A task model of the same shape, every weight drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TaskModel(Transformer(pretrained.config), spec)


def mean_vectors(hidden: Tensor, batch: Sequences) -> Tensor:
    """The mean of each sequence's vectors: (N, hidden) to (B, hidden)."""
    hidden = at_least_float32(hidden)
    starts = batch.starts.to(hidden.device)
    lengths = starts.diff()
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=hidden.device), lengths)
    sums = hidden.new_zeros(len(lengths), hidden.shape[1]).index_add(0, owner, hidden)
    return sums / lengths[:, None].to(hidden.dtype)
