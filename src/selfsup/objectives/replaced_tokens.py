"""The replaced-token objective: a generator fills hidden tokens, the encoder says which it filled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from selfsup.config import ReplacedTokensConfig
from selfsup.data.keys import Key, uniform
from selfsup.data.rows import PackedRows
from selfsup.data.sampler import Examples
from selfsup.data.tokenizers import Tokenizer
from selfsup.models.replaced_tokens import Generator, ReplacedTokenModel
from selfsup.nn.cross_entropy import CHUNK, at_least_float32, linear_cross_entropy
from selfsup.objectives.masked_tokens import HELDOUT_RATE, MaskedBatch, MaskedTokens
from selfsup.objectives.protocol import Ratio, Score

_DRAWS = 13
"""Sets these keyed draws apart from those of masks (1) and pairs (7)."""


@dataclass(frozen=True, kw_only=True)
class ReplacedBatch(MaskedBatch):
    """A batch of rows with hidden tokens, and the chance by which each will be filled."""

    draws: Tensor
    """(M,) float32 in (0, 1]: where in the generator's distribution the sample lies."""


class ReplacedTokens:
    """Fill some tokens by a generator's samples; ask of every token whether it was replaced (ELECTRA).

    The samples' randomness is part of the batch, drawn by the same key as the masks.  So the loss is
    a pure function of weights and batch: a resumed run draws what the uninterrupted one would have,
    held-out scores are the same every time and on any number of processes, and torch's generators
    stay untouched.

    Args:
        config: rate, weight of the detection loss, unit.
        rows: the packed text.
        tokenizer: its special tokens and its ordinary vocabulary.

    Source: Clark et al. 2020, "ELECTRA: Pre-training text encoders as discriminators rather than
    generators".
    """

    def __init__(
        self, config: ReplacedTokensConfig, rows: PackedRows, tokenizer: Tokenizer
    ) -> None:
        self.config, self.rows, self.tokenizer = config, rows, tokenizer
        self.hiding = MaskedTokens(config.masking(), rows, tokenizer)
        around = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.lost_id]
        self.around = torch.tensor(around)
        """(4,) what stands around a text, and what is unknown: nothing is asked about them."""
        self.ordinary = torch.from_numpy(tokenizer.ordinary_ids)

    def heldout(self, rows: PackedRows) -> ReplacedTokens:
        """The same question on held-out rows, single tokens at 15 %."""
        config = self.config.model_copy(update={"rate": HELDOUT_RATE, "unit": "token"})
        return ReplacedTokens(config, rows, self.tokenizer)

    def batch(self, examples: Examples, key: Key) -> ReplacedBatch:
        """Hide tokens as `MaskedTokens` does, and draw where each sample will lie."""
        masked = self.hiding.batch(examples, key)
        places = masked.scored.view(len(examples.rows), -1).numpy() % self.rows.length
        drawn = uniform(*key, _DRAWS, examples.epochs[:, None], examples.rows[:, None], places)
        return ReplacedBatch(**vars(masked), draws=torch.from_numpy(1 - drawn.ravel()).float())

    def loss(self, model: ReplacedTokenModel, batch: ReplacedBatch) -> Score:
        """Mean masked loss of the generator + weight x mean detection loss of the encoder.

        The count is that of the filled tokens, and the detection sum is scaled to it, so that for one
        part the total is exactly that.  Over several parts (accumulation, processes) the generator's
        mean is exact; each part's mean detection loss weighs as its filled tokens do, not as all its
        tokens: the two differ only where parts differ in fillers and special tokens.
        """
        generator = model.generator
        guesses = generator.head(generator(batch.sequences, batch.scored))
        masked_sum, right = linear_cross_entropy(
            guesses, *generator.output_matrix(), batch.targets, batch.weights
        )
        count = batch.weights.sum()
        tokens, replaced = self.corrupt(batch, self.sample(generator, guesses, batch.draws))
        asked = ~torch.isin(tokens, self.around.to(tokens.device))
        logits = at_least_float32(model.detect(model(replace(batch.sequences, tokens=tokens))))
        truth, weights = replaced.to(logits.dtype), asked.to(logits.dtype)
        losses = F.binary_cross_entropy_with_logits(logits, truth, weights, reduction="none")
        detection_sum, all_asked = losses.sum(), weights.sum()
        scale = self.config.weight * count / all_asked.clamp(min=1)
        metrics = {
            "generator_loss": Ratio(masked_sum.detach(), count),
            "detection_loss": Ratio(detection_sum.detach(), all_asked),
        }
        if not model.training:
            metrics["generator_accuracy"] = Ratio(right, count)
            metrics |= detection_metrics(logits, replaced, asked, detection_sum)
        return Score(masked_sum + scale * detection_sum, count, metrics)

    @torch.no_grad()
    def sample(self, generator: Generator, guesses: Tensor, draws: Tensor) -> Tensor:
        """Draw a token for each hidden place from the generator's distribution.

        Args:
            generator: for its output matrix.
            guesses: (M, hidden) what the matrix is applied to.
            draws: (M,) in (0, 1].

        Returns:
            (M,) ids, ordinary ones only.
        """
        matrix, bias = generator.output_matrix()
        ordinary = self.ordinary.to(guesses.device)
        rows = max(1, CHUNK // len(matrix))
        found = []
        for part, draw in zip(torch.split(guesses, rows), torch.split(draws, rows), strict=True):
            logits = at_least_float32(F.linear(part, matrix, bias))[:, ordinary]
            reached = logits.softmax(-1).cumsum(-1)
            # never above the last entry, which rounding leaves near 1
            wanted = draw[:, None].to(reached.dtype) * reached[:, -1:]
            found.append(torch.searchsorted(reached, wanted)[:, 0])
        # numbers that are none are found past the end; the loop reports them by the loss
        return ordinary[torch.cat(found).clamp(max=len(ordinary) - 1)]

    def corrupt(self, batch: MaskedBatch, sampled: Tensor) -> tuple[Tensor, Tensor]:
        """The text with samples in the hidden places, and what is to be told from it.

        Returns:
            (N,) tokens: the original ones, but for the samples; and (N,) whether each differs from
            the original: a sample that hits the truth is no replacement.
        """
        original = batch.sequences.tokens.clone()
        original[batch.scored] = batch.targets  # unused slots hold what stands there already
        used = batch.weights > 0
        tokens = original.clone()
        tokens[batch.scored[used]] = sampled[used]
        return tokens, tokens != original

    def describe(self, examples: Examples) -> str:
        """The documents a batch is made of."""
        return self.hiding.describe(examples)


def detection_metrics(
    logits: Tensor, replaced: Tensor, asked: Tensor, loss_sum: Tensor
) -> dict[str, Ratio]:
    """How well replaced tokens are told from true ones.

    Args:
        logits: (N,) of "was replaced".
        replaced: (N,) the truth.
        asked: (N,) which tokens count.
        loss_sum: () the detection loss over them.

    Returns:
        `detection_accuracy`; `detection_recall`, the share of the replaced tokens that were found;
        `replaced_share`, of all tokens; and `detection_excess`, the loss (nats) above that of guessing
        this share for every token of the batch: negative when better than such a guess.
    """
    found = (logits > 0) & asked
    right = ((found == replaced) & asked).sum().float()
    hits, all_replaced = (found & replaced).sum().float(), replaced.sum().float()
    all_asked = asked.sum().float()
    share = all_replaced / all_asked.clamp(min=1)
    guess = -torch.xlogy(share, share) - torch.xlogy(1 - share, 1 - share)
    return {
        "detection_accuracy": Ratio(right, all_asked),
        "detection_recall": Ratio(hits, all_replaced),
        "replaced_share": Ratio(all_replaced, all_asked),
        "detection_excess": Ratio(loss_sum.float() - guess * all_asked, all_asked),
    }
