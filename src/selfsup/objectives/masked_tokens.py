"""The masked-token objective, alone or with a question about pairs of sentences."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from selfsup.config import MaskedTokensConfig
from selfsup.data.keys import Key
from selfsup.data.masking import Masking
from selfsup.data.rows import PackedRows, Parts, Pieces, assemble
from selfsup.data.sampler import Examples
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError
from selfsup.models.transformer import MaskedLanguageModel
from selfsup.nn.cross_entropy import at_least_float32, linear_cross_entropy
from selfsup.nn.sequences import Sequences
from selfsup.objectives.next_sentence import make_pairs, split_points
from selfsup.objectives.protocol import Ratio, Score
from selfsup.objectives.same_text import Halves, make_halves, same_text_loss

HELDOUT_RATE = 0.15
"""Held-out loss is always measured so, whatever the training rate, so that runs compare."""


@dataclass(frozen=True)
class MaskedBatch:
    """A batch of rows with hidden tokens."""

    sequences: Sequences
    scored: Tensor
    """(M,) places of the scored tokens; M is the same for every batch of that many rows."""
    targets: Tensor
    """(M,) what stood there."""
    weights: Tensor
    """(M,) 1, or 0 for a slot that a row could not use."""
    token_count: int
    pair_labels: Tensor | None = None
    """(B,) for each sequence 0 or 1; 0 on fillers, whose weight is 0."""
    pair_weights: Tensor | None = None
    """(B,) how many tokens are scored in each sequence."""
    halves: Halves | None = None
    """For `same-text`: which sequences belong together."""

    def to(self, device: torch.device) -> MaskedBatch:
        """The same batch on a device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        halves = self.halves and self.halves.to(device)
        return replace(self, sequences=self.sequences.to(device), halves=halves, **moved)


class MaskedTokens:
    """Hide some tokens of each row and predict them from the rest (BERT).

    Args:
        config: rates and units.
        rows: the packed text; its overhead must be `overhead(config)`.
        tokenizer: its special tokens and its ordinary vocabulary.
    """

    def __init__(self, config: MaskedTokensConfig, rows: PackedRows, tokenizer: Tokenizer) -> None:
        needed = {
            "[MASK]": tokenizer.mask_id,
            "[CLS]": tokenizer.cls_id,
            "[SEP]": tokenizer.sep_id,
            "[PAD]": tokenizer.pad_id,
        }
        for name, identity in needed.items():
            if identity is None:
                raise UserError(
                    f"the tokenizer has no {name} token",
                    where="tokenizer",
                    mend="masked-token training needs one; train a tokenizer or load one that has it",
                )
        assert tokenizer.mask_id is not None
        assert rows.overhead == overhead(config)
        self.config, self.rows, self.tokenizer = config, rows, tokenizer
        self.masking = Masking(
            mask_id=tokenizer.mask_id,
            ordinary_ids=tokenizer.ordinary_ids,
            rate=config.rate,
            mask=config.mask,
            random=config.random,
            unit=config.unit,
            span_mean=config.span_mean,
        )

    def heldout(self, rows: PackedRows) -> MaskedTokens:
        """The same question on held-out rows, single tokens at 15 %."""
        config = self.config.model_copy(
            update={"rate": HELDOUT_RATE, "unit": "token", "mask": 0.8, "random": 0.1, "keep": 0.1}
        )
        return MaskedTokens(config, rows, self.tokenizer)

    def batch(self, examples: Examples, key: Key) -> MaskedBatch:
        """Cut, pair, write out and mask the rows."""
        kind = self.config.pairs
        pieces = self.rows.pieces_of(examples.rows)
        parts, labels = self._parts(pieces, examples, key)
        text = assemble(
            self.rows.split, parts, len(examples.rows), self.rows.length, self.tokenizer
        )
        # what the vocabulary does not hold is read, but no answer
        words = np.where(text.tokens == self.tokenizer.lost_id, -1, text.words)
        masked = self.masking.apply(text.tokens, words, key, examples.rows, examples.epochs)
        flat = masked.positions + np.arange(len(masked.positions))[:, None] * self.rows.length
        sequences_ = Sequences(
            tokens=torch.from_numpy(masked.tokens.ravel()),
            positions=torch.from_numpy(text.positions.ravel()),
            starts=torch.from_numpy(text.starts),
            types=None if kind == "none" else torch.from_numpy(text.types.ravel()),
            row_length=self.rows.length,
        )
        sizes = np.diff(text.starts)
        batch = MaskedBatch(
            sequences=sequences_,
            scored=torch.from_numpy(flat.ravel()),
            targets=torch.from_numpy(masked.targets.ravel()),
            weights=torch.from_numpy(masked.weights.ravel()),
            token_count=int(sizes[text.real].sum()),
        )
        if kind == "none":
            return batch
        owner = np.searchsorted(text.starts, flat.ravel(), side="right") - 1
        per_pair = np.bincount(owner, masked.weights.ravel(), minlength=len(sizes))
        if kind == "same-text":
            halves = make_halves(np.flatnonzero(text.real), sizes, per_pair, pieces.documents)
            return replace(batch, halves=halves)
        all_labels = np.zeros(len(sizes), np.int64)
        all_labels[text.real] = labels
        return replace(
            batch,
            pair_labels=torch.from_numpy(all_labels),
            pair_weights=torch.from_numpy((per_pair * text.real).astype(np.float32)),
        )

    def _parts(
        self, pieces: Pieces, examples: Examples, key: Key
    ) -> tuple[Parts, NDArray[np.int64]]:
        """What the rows are written from, and the label of each pair."""
        split, kind = self.rows.split, self.config.pairs
        nothing = np.zeros(0, np.int64)
        if kind == "none":
            whole = np.zeros(len(pieces.rows), bool)
            return Parts(pieces.begins, pieces.ends, pieces.rows, whole), nothing
        sentences, drawn = self.tokenizer.ends_sentence, np.empty((len(pieces.rows), 6), np.int64)
        drawn[:, :3] = *key, 7
        drawn[:, 3], drawn[:, 4] = examples.epochs[pieces.rows], examples.rows[pieces.rows]
        drawn[:, 5] = pieces.numbers
        rows = np.repeat(pieces.rows, 2)
        if kind == "same-text":
            middles = split_points(split, pieces, sentences, drawn)
            begins = np.stack([pieces.begins, middles], 1).ravel()
            ends = np.stack([middles, pieces.ends], 1).ravel()
            return Parts(begins, ends, rows, np.zeros(len(rows), bool)), nothing
        pairs = make_pairs(split, pieces, sentences, kind, drawn)
        second = np.tile([False, True], len(pieces.rows))
        return Parts(pairs.begins.ravel(), pairs.ends.ravel(), rows, second), pairs.labels

    def loss(self, model: MaskedLanguageModel, batch: MaskedBatch) -> Score:
        """Cross entropy at the scored places; with pairs, plus theirs.

        A pair weighs as much as the tokens scored in it, so that one count normalises both sums and
        the total is (mean masked loss) + (weighted mean pair loss), as in BERT.
        """
        text, scored = batch.sequences, len(batch.scored)
        if batch.halves is not None:  # their means are of all tokens
            hidden = model(text)
            guesses = model.head(hidden[batch.scored])
        else:
            firsts = text.starts[: 0 if batch.pair_labels is None else -1]
            places = torch.cat([batch.scored, firsts.to(batch.scored.device)])
            hidden = model(text, places)
            guesses = model.head(hidden[:scored])
        masked_sum, right = linear_cross_entropy(
            guesses, *model.output_matrix(), batch.targets, batch.weights
        )
        count = batch.weights.sum()
        metrics = {"masked_loss": Ratio(masked_sum.detach(), count)}
        if not model.training:
            metrics["masked_accuracy"] = Ratio(right, count)
        if batch.halves is not None:
            pair_sum, found = same_text_loss(hidden, text, batch.halves)
            metrics["pair_loss"] = Ratio(pair_sum.detach(), count)
            metrics["pair_accuracy"] = found
            return Score(masked_sum + pair_sum, count, metrics)
        if batch.pair_labels is None or batch.pair_weights is None:
            return Score(masked_sum, count, metrics)
        answers = at_least_float32(model.follows(hidden[scored:]))
        pair_losses = F.cross_entropy(answers, batch.pair_labels, reduction="none")
        pair_sum = (pair_losses * batch.pair_weights).sum()
        asked = (batch.pair_weights > 0).float()
        correct = (answers.argmax(-1) == batch.pair_labels).float() * asked
        metrics["pair_loss"] = Ratio(pair_sum.detach(), count)
        metrics["pair_accuracy"] = Ratio(correct.sum(), asked.sum())
        return Score(masked_sum + pair_sum, count, metrics)

    def describe(self, examples: Examples) -> str:
        """The documents a batch is made of."""
        numbers = self.rows.documents(examples.rows)
        shown = ", ".join(str(n) for n in numbers[:12])
        return f"documents {shown}{' …' if len(numbers) > 12 else ''} of the training part"


def overhead(config: MaskedTokensConfig) -> int:
    """Special tokens that each sequence needs."""
    return {"none": 2, "same-text": 4}.get(config.pairs, 3)


class _AsksTokens(Protocol):
    """An objective whose batches have targets and weights."""

    tokenizer: Tokenizer

    def batch(self, examples: Examples, key: Key) -> Any: ...


def unigram_baseline(
    objective: _AsksTokens, train: PackedRows, examples: Examples, key: Key
) -> tuple[float, float]:
    """Loss and accuracy of guessing each hidden (or next) token from training frequencies alone.

    Frequencies are those of at most the first 20 million tokens, each word counted once more than
    seen (Laplace).  What the vocabulary does not hold is never to be guessed.
    """
    size = objective.tokenizer.vocab_size
    counts = np.bincount(train.split.tokens[:20_000_000], minlength=size)[:size] + 1.0
    if objective.tokenizer.lost_id >= 0:
        counts[objective.tokenizer.lost_id] = 1.0
    logs = np.log(counts / counts.sum())
    batch = objective.batch(examples, key)
    targets, weights = batch.targets.numpy(), batch.weights.numpy()
    loss = float(-(logs[targets] * weights).sum() / weights.sum())
    accuracy = float(((targets == counts.argmax()) * weights).sum() / weights.sum())
    return loss, accuracy
