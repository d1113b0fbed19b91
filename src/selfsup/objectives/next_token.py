"""The next token: a decoder's objective (GPT, Radford et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from selfsup.config import NextTokenConfig
from selfsup.data.keys import Key
from selfsup.data.rows import PackedRows, lay_out, positions_of
from selfsup.data.sampler import Examples
from selfsup.data.stretches import places
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.cross_entropy import linear_cross_entropy
from selfsup.nn.sequences import Sequences
from selfsup.objectives.protocol import Ratio, Score

OVERHEAD = 1
"""Places that each piece of a document needs beside its tokens: the one that its first is guessed from."""


@dataclass(frozen=True)
class NextTokenBatch:
    """Rows of text, each token with the one that follows it."""

    sequences: Sequences
    targets: Tensor
    """(N,) what follows each token."""
    weights: Tensor
    """(N,) 1, or 0 where nothing is to be guessed: a row's filler, the last token of a cut document."""
    token_count: int
    bytes: float
    """Bytes of text that are guessed; 0 where the tokenizer cannot say."""

    def to(self, device: torch.device) -> NextTokenBatch:
        """The same batch on a device."""
        return replace(
            self,
            sequences=self.sequences.to(device),
            targets=self.targets.to(device, non_blocking=True),
            weights=self.weights.to(device, non_blocking=True),
        )


class NextToken:
    """Predict each token of a document from those before it, and where the document ends.

    A document is read behind a begin token and ends in an end token.  Where it is cut, the next row
    goes on from its last token: every token is guessed exactly once in an epoch, but for those that
    the vocabulary does not hold, which are read and not guessed.

    Args:
        config: whether attention crosses documents.
        rows: the packed text; its overhead must be `OVERHEAD`.
        tokenizer: its begin and end tokens.
    """

    def __init__(self, config: NextTokenConfig, rows: PackedRows, tokenizer: Tokenizer) -> None:
        if tokenizer.begin_id is None or tokenizer.end_id is None:
            what = "begin" if tokenizer.begin_id is None else "end"
            raise UserError(
                f"the tokenizer has no token for a text's {what}",
                where="tokenizer",
                mend="train a tokenizer, or give a folder whose tokenizer_config.json names "
                "bos_token and eos_token",
            )
        assert rows.overhead == OVERHEAD
        self.config, self.rows, self.tokenizer = config, rows, tokenizer
        self.begin, self.end = tokenizer.begin_id, tokenizer.end_id
        self.filler = self.end if tokenizer.pad_id is None else tokenizer.pad_id

    def heldout(self, rows: PackedRows) -> NextToken:
        """The same question on held-out rows."""
        return NextToken(self.config, rows, self.tokenizer)

    def batch(self, examples: Examples, key: Key) -> NextTokenBatch:
        """Write out the rows; nothing is drawn, so the key does not matter."""
        count, length = len(examples.rows), self.rows.length
        split, pieces = self.rows.split, self.rows.pieces_of(examples.rows)
        widths = pieces.ends - pieces.begins + OVERHEAD
        layout = lay_out(pieces.rows, widths, count, length)
        text = split.tokens[places(pieces.begins, widths - 1)]
        whole = pieces.begins == split.documents[pieces.documents]  # from its first token on
        before = split.tokens[np.maximum(pieces.begins - 1, 0)]
        tokens = np.full(count * length, self.filler, np.int64)
        tokens[layout.at] = np.where(whole, self.begin, before)
        tokens[places(layout.at + 1, widths - 1)] = text
        targets = np.zeros(count * length, np.int64)
        weights = np.zeros(count * length, np.float32)
        guessed = places(layout.at, widths - 1)
        targets[guessed], weights[guessed] = text, text != self.tokenizer.lost_id
        last = pieces.ends == split.documents[pieces.documents + 1]
        final = (layout.at + widths - 1)[last]
        targets[final], weights[final] = self.end, 1
        if self.config.cross_documents:
            starts = np.arange(count + 1) * length
        else:
            starts, _ = layout.sequences(np.ones(len(widths), bool), length)
        sizes = self.tokenizer.byte_lengths
        sequences = Sequences(
            tokens=torch.from_numpy(tokens),
            positions=torch.from_numpy(positions_of(starts)),
            starts=torch.from_numpy(starts),
            row_length=length,
        )
        return NextTokenBatch(
            sequences=sequences,
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            token_count=int(layout.used.sum()),
            bytes=0.0 if sizes is None else float((sizes[targets] * weights).sum()),
        )

    def loss(self, model: CausalLanguageModel, batch: NextTokenBatch) -> Score:
        """Cross entropy of every next token, in nats; held out also in bits per byte of text."""
        hidden = model(batch.sequences)
        loss, right = linear_cross_entropy(
            hidden, *model.output_matrix(), batch.targets, batch.weights
        )
        count = batch.weights.sum()
        metrics: dict[str, Ratio] = {}
        if not model.training:
            metrics["accuracy"] = Ratio(right, count)
            if batch.bytes:
                metrics["bits_per_byte"] = Ratio(
                    loss.detach() / math.log(2), torch.tensor(batch.bytes, device=loss.device)
                )
        return Score(loss, count, metrics)

    def describe(self, examples: Examples) -> str:
        """The documents a batch is made of."""
        numbers = self.rows.documents(examples.rows)
        shown = ", ".join(str(n) for n in numbers[:12])
        return f"documents {shown}{' …' if len(numbers) > 12 else ''} of the training part"
