"""How likely a decoder finds texts: continuations behind contexts, and whole documents.

Texts are cut into tokens as EleutherAI's harness does it (Gao et al., lm-evaluation-harness): context
and continuation are encoded as one text, and the continuation's tokens are those after as many as the
context alone has; white space at the context's end counts as the continuation's beginning, because
most vocabularies hold words with the space before them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.data.inputs import check_text, list_inputs, list_texts
from selfsup.data.unknown import unknown_tokens
from selfsup.errors import UserError, at_least, no_numbers
from selfsup.models.decoder_hub import PretrainedDecoder, as_decoder
from selfsup.nn.cross_entropy import CHUNK, at_least_float32
from selfsup.uses import shared_prefix

BATCH_TOKENS = 4096

Ids = NDArray[np.int64]
Tell = Callable[[float], None]
"""Called with the share of the work that is done."""


@dataclass(frozen=True)
class Likelihood:
    """What a decoder makes of one continuation."""

    log_probability: float
    """Sum over its tokens, in nats."""
    tokens: int
    bytes: int
    """Of the continuation as it was given, in UTF-8."""
    greedy: bool
    """Whether each of its tokens is the most likely one: greedy writing would have written it."""
    cut: int = 0
    """Tokens at the context's beginning that were left out, because the model reads no more."""


@dataclass(frozen=True)
class DocumentLikelihood:
    """What a decoder makes of whole documents."""

    nats: float
    """Summed over all tokens."""
    tokens: int
    bytes: int
    documents: int
    unknown: int = 0
    """Tokens of text that the vocabulary does not hold."""

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers."""
        return self.nats / math.log(2) / self.bytes

    @property
    def nats_per_token(self) -> float:
        """Comparable between models of one tokenizer."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """Of a token."""
        return math.exp(min(self.nats_per_token, 700.0))


@dataclass(frozen=True)
class Row:
    """One sequence to read, and how many of its last tokens are scored."""

    ids: Ids
    """(tokens,) with the scored ones; the last is not read, only guessed."""
    scored: int


# ---- continuations -------------------------------------------------------------------------------


def score(
    pretrained: PretrainedDecoder | str | Path,
    pairs: Iterable[tuple[str, str]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    tell: Tell | None = None,
) -> list[Likelihood]:
    """The likelihood of each continuation behind its context, in the order given.

    Does not depend on the other pairs, their order or `batch_tokens`, but for float32's rounding.
    Beginnings that several pairs share (the choices of a question, the examples of a prompt) are
    read once.  The probabilities are over all rows of the output matrix, as in training.

    Args:
        pretrained: from `selfsup.load`, or what that takes.
        pairs: (context, continuation).  A context is read behind the tokenizer's begin token where
            the tokenizer frames texts with one; an empty context is that token, or the end token.
        batch_tokens: tokens read at once.
        tell: called with the share that is done.

    Raises:
        UserError: a continuation without tokens, or longer than the model reads.
    """
    pretrained, pairs = as_decoder(pretrained), list_inputs(pairs, "pair")
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            mend = "give (context, continuation)"
            raise UserError("is no pair of texts", where=f"pair {number}", mend=mend)
        for text in pair:
            check_text(text, f"pair {number}")
    encoded = encode_pairs(pretrained, pairs)
    longest = pretrained.max_length
    rows, cuts = [], []
    for number, (context, continuation) in enumerate(encoded, start=1):
        check_length(continuation, longest, f"continuation {number}")
        whole = np.concatenate([context, continuation])
        kept = whole[-(longest + 1) :]
        rows.append(Row(kept, len(continuation)))
        cuts.append(len(whole) - len(kept))
    sums, greedy = score_rows(pretrained, rows, batch_tokens=batch_tokens, tell=tell)
    return [
        Likelihood(float(sums[i]), row.scored, len(pairs[i][1].encode()), bool(greedy[i]), cuts[i])
        for i, row in enumerate(rows)
    ]


def check_length(
    continuation: Ids,
    longest: int,
    where: str,
    mend: str = "score it with `bits_per_byte`, or split it",
) -> None:
    """Refuse a continuation without tokens, or with more than the model reads.

    Args:
        continuation: its tokens.
        longest: so many the model reads.
        where: for the message.
        mend: what to do about one that is too long.
    """
    if not len(continuation):
        raise UserError("has no token: nothing can be scored", where=where)
    if len(continuation) > longest:
        what = f"has {len(continuation)} tokens, the model reads {longest}"
        raise UserError(what, where=where, mend=mend)


def encode_pairs(
    pretrained: PretrainedDecoder, pairs: Sequence[tuple[str, str]]
) -> list[tuple[Ids, Ids]]:
    """Token ids of each context (with the frame, never empty) and continuation."""
    moved = [_move_space(context, continuation) for context, continuation in pairs]
    texts = dict.fromkeys(t for a, b in moved for t in (a, a + b))
    encoded = dict(zip(texts, pretrained.tokenizer.encode_batch(list(texts), False), strict=True))
    frame = begin_ids(pretrained)
    found = []
    for context, continuation in moved:
        before, whole = encoded[context], encoded[context + continuation]
        head, cut = frame, len(before)
        if not len(head) and not cut:  # nothing to guess the first token from
            head = start_ids(pretrained)
            if np.array_equal(whole[: len(head)], head):
                whole = whole[len(head) :]
        found.append((np.concatenate([head, whole[:cut]]), whole[cut:]))
    return found


def _move_space(context: str, continuation: str) -> tuple[str, str]:
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def begin_ids(pretrained: PretrainedDecoder) -> Ids:
    """What the tokenizer puts before a text; nothing for GPT-2's own."""
    tokenizer = pretrained.tokenizer
    plain, framed = tokenizer.encode("a", special=False).ids, tokenizer.encode("a").ids
    at = next((i for i in range(len(framed)) if np.array_equal(framed[i:][: len(plain)], plain)), 0)
    return framed[:at]


def start_ids(pretrained: PretrainedDecoder) -> Ids:
    """What the first token of a text is guessed from, where nothing stands before it."""
    frame = begin_ids(pretrained)
    if len(frame):
        return frame
    tokenizer = pretrained.tokenizer
    found = tokenizer.end_id if tokenizer.begin_id is None else tokenizer.begin_id
    if found is None:
        raise UserError(
            "the tokenizer has no token for a text's begin or end, so a text's first token cannot "
            "be guessed",
            where=str(pretrained.path),
            mend="name bos_token or eos_token in its tokenizer_config.json",
        )
    return np.array([found], np.int64)


# ---- rows ----------------------------------------------------------------------------------------


def score_rows(
    pretrained: PretrainedDecoder,
    rows: Sequence[Row],
    *,
    batch_tokens: int = BATCH_TOKENS,
    tell: Tell | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """For each row, the summed log-probability of its scored tokens, and whether all are the likeliest.

    Only what predicts a scored token goes through the vocabulary's matrix.

    Returns:
        (rows,) nats, at most 0; (rows,).
    """
    at_least(1, batch_tokens, "--batch-tokens")
    sums, greedy = np.zeros(len(rows)), np.ones(len(rows), np.bool_)
    inputs = [row.ids[:-1] for row in rows]
    wanted = [row.scored for row in rows]
    done, total = 0, sum(map(len, inputs))
    with torch.inference_mode():
        for part in shared_prefix.read(pretrained, inputs, wanted, batch_tokens=batch_tokens):
            targets = [rows[row].ids[-rows[row].scored :] for row in part.rows]
            logs, best = _predicted(pretrained, part.hidden, np.concatenate(targets))
            at = 0
            for row in part.rows:
                end = at + rows[row].scored
                sums[row], greedy[row] = logs[at:end].sum(), best[at:end].all()
                at = end
            done += sum(len(inputs[row]) for row in part.rows)
            if tell is not None:
                tell(done / total)
    return sums, greedy


def _predicted(
    pretrained: PretrainedDecoder, hidden: torch.Tensor, targets: Ids
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Log-probabilities of the targets from the hidden vectors, and whether each is the likeliest."""
    model, device = pretrained.model, hidden.device
    size = max(1, CHUNK // model.output_matrix()[0].shape[0])
    logs, best = [], []
    for first in range(0, len(targets), size):
        part = slice(first, first + size)
        chosen = torch.from_numpy(targets[part]).to(device)
        logits = at_least_float32(model.predict(hidden[part]))
        found = logits.gather(1, chosen[:, None])[:, 0]
        best.append((logits.argmax(1) == chosen).cpu().numpy())
        logs.append((found - logits.logsumexp(1)).double().cpu().numpy())
        if not np.isfinite(logs[-1]).all():
            raise no_numbers(str(pretrained.path))
    return np.concatenate(logs), np.concatenate(best)


# ---- documents -----------------------------------------------------------------------------------


def bits_per_byte(
    pretrained: PretrainedDecoder | str | Path,
    texts: Iterable[str],
    *,
    stride: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    tell: Tell | None = None,
) -> DocumentLikelihood:
    """The likelihood of whole documents, each token guessed once, by sliding windows.

    A document's first window scores all its tokens, from the begin token on; each later window moves
    on by `stride` tokens and scores those alone, so that behind the first window every token is
    guessed from at least `max_length - stride` before it.  The end of a document is not guessed.

    Args:
        pretrained: from `selfsup.load`, or what that takes.
        texts: whole documents; empty ones count nothing.
        stride: tokens by which a window moves, at most half of what the model reads; None: half.
        batch_tokens: tokens read at once.
        tell: called with the share that is done.

    Raises:
        UserError: no text, or an impossible stride.
    """
    pretrained, texts = as_decoder(pretrained), list_texts(texts)
    longest = pretrained.max_length
    stride = max(1, longest // 2) if stride is None else stride
    if not 1 <= stride <= max(1, longest // 2):
        what = f"must be from 1 to {longest // 2} (half of what the model reads), not {stride}"
        raise UserError(what, where="--stride")
    rows = [row for ids in _documents(pretrained, texts) for row in windows(ids, longest, stride)]
    if not rows:
        raise UserError("there is no text", where="--data")
    sums, _ = score_rows(pretrained, rows, batch_tokens=batch_tokens, tell=tell)
    return DocumentLikelihood(
        nats=-float(sums.sum()),
        tokens=sum(row.scored for row in rows),
        bytes=sum(len(text.encode()) for text in texts),
        documents=sum(1 for text in texts if text),
        unknown=unknown_tokens(pretrained.tokenizer, (row.ids[-row.scored :] for row in rows))[0],
    )


def _documents(pretrained: PretrainedDecoder, texts: Sequence[str]) -> list[Ids]:
    """Token ids of each text behind the token that its first is guessed from."""
    start = start_ids(pretrained)[-1:]
    ids, _ = pretrained.tokenizer.encode_documents(texts)
    return [np.concatenate([start, one]) for one in ids]


def windows(ids: Ids, longest: int, stride: int) -> list[Row]:
    """Windows that guess each token of a document once, but for its first."""
    if len(ids) < 2:
        return []
    rows = [Row(ids[: longest + 1], min(longest, len(ids) - 1))]
    done = longest + 1
    while done < len(ids):
        end = min(done + stride, len(ids))
        rows.append(Row(ids[end - longest - 1 : end], end - done))
        done = end
    return rows


def rolling(
    pretrained: PretrainedDecoder, texts: Sequence[str], *, batch_tokens: int = BATCH_TOKENS
) -> list[float]:
    """Log-likelihood of each whole text in nats, as the harness's `loglikelihood_rolling` defines it.

    Windows follow each other with one token in common (the last reaches back to be full), so most
    tokens have less before them than in `bits_per_byte`, and the sum is lower.
    """
    rows: list[Row] = []
    owners: list[int] = []
    longest = pretrained.max_length
    for number, ids in enumerate(_documents(pretrained, texts)):
        found = windows(ids, longest, stride=longest)
        rows += found
        owners += [number] * len(found)
    sums, _ = score_rows(pretrained, rows, batch_tokens=batch_tokens)
    totals = np.zeros(len(texts))
    np.add.at(totals, owners, sums)
    return [float(total) for total in totals]
