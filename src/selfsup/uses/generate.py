"""Writing on: what a decoder makes of prompts, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from selfsup.data.inputs import list_texts
from selfsup.data.unknown import unknown_note
from selfsup.errors import UserError, check_count, no_numbers
from selfsup.models.decoder_hub import PretrainedDecoder, as_decoder
from selfsup.models.decoding import Decoding
from selfsup.nn.cache import KeyValueCache, continuation, continuations
from selfsup.training.devices import check_precision, choose_precision
from selfsup.uses.sampling import Sampling, choose
from selfsup.uses.token_text import TokenText

Finish = Literal["", "end", "stop", "length"]
"""Why a text is over: the model ended it, a stop string, `max_tokens`; empty: it is not."""


@dataclass(frozen=True)
class Piece:
    """Some more of one text."""

    prompt: int
    """Which prompt, from 0."""
    sample: int
    """Which of its texts, from 0."""
    text: str
    """May be empty, in the last piece."""
    ids: tuple[int, ...]
    """Token ids since the last piece; without the token that ends the text."""
    finish: Finish
    """Not empty in the last piece of a text."""
    note: str = ""
    """What of the prompt or of what was written is no longer read."""


@dataclass(frozen=True)
class Written:
    """One whole text."""

    prompt: str
    sample: int
    text: str
    """What was written, without the prompt."""
    ids: list[int]
    finish: Finish
    note: str = ""


def generate(
    model: PretrainedDecoder | str | Path,
    prompts: Iterable[str],
    sampling: Sampling | None = None,
    *,
    precision: str = "fp32",
    int8: bool = False,
    batch: int = 16,
    cut: bool = True,
) -> Iterator[Piece]:
    """Write on from prompts, piece by piece.

    Prompts are read in batches, each prompt once, whatever their lengths.  What is drawn depends on the
    seed, the prompt's number, the sample and the place alone, so a batch gives what one by one gives
    (in float32; up to the rounding of products of other shapes).  When the context is full, its last
    half is read again and writing goes on from there.

    Args:
        model: from `selfsup.load`, or what that takes.
        prompts: texts; an empty one starts from the begin token.
        sampling: how the next token is chosen; a `Sampling`.
        precision: `fp32`, `bf16`, or `auto`: bf16 where a probe shows gain.
        int8: keep the weight matrices as int8, with a scale for each output.
        batch: texts that are written side by side.
        cut: read the end of a prompt that is longer than the context; else such a prompt is refused.

    Raises:
        UserError: no prompt; one that is too long; a bad setting; the model is no decoder.
    """
    writer = Writer(model, precision=precision, int8=int8, batch=batch)
    return writer.generate(prompts, sampling, cut=cut)


def complete(
    model: PretrainedDecoder | str | Path,
    prompts: Iterable[str],
    sampling: Sampling | None = None,
    *,
    precision: str = "fp32",
    int8: bool = False,
    batch: int = 16,
    cut: bool = True,
) -> list[Written]:
    """Whole texts, by prompt and sample; as `generate`."""
    prompts = list_texts(prompts, "prompt")
    pieces = generate(
        model, prompts, sampling, precision=precision, int8=int8, batch=batch, cut=cut
    )
    return join(prompts, pieces)


def join(prompts: Sequence[str], pieces: Iterator[Piece]) -> list[Written]:
    """Put pieces together, by prompt and sample."""
    texts: dict[tuple[int, int], list[Piece]] = {}
    for piece in pieces:
        texts.setdefault((piece.prompt, piece.sample), []).append(piece)
    return [_whole(prompts, found) for _, found in sorted(texts.items())]


def in_order(prompts: Sequence[str], pieces: Iterator[Piece], samples: int) -> Iterator[Written]:
    """The texts that `join` gives, each as soon as it and all before it are over.

    Args:
        prompts, pieces: as there.
        samples: texts of each prompt.
    """
    texts: dict[tuple[int, int], list[Piece]] = {}
    turn = (0, 0)
    for piece in pieces:
        texts.setdefault((piece.prompt, piece.sample), []).append(piece)
        while turn in texts and texts[turn][-1].finish:
            yield _whole(prompts, texts.pop(turn))
            prompt, sample = turn
            turn = (prompt, sample + 1) if sample + 1 < samples else (prompt + 1, 0)


def _whole(prompts: Sequence[str], pieces: list[Piece]) -> Written:
    return Written(
        prompt=prompts[pieces[0].prompt],
        sample=pieces[0].sample,
        text="".join(p.text for p in pieces),
        ids=[id for p in pieces for id in p.ids],
        finish=pieces[-1].finish,
        note="; ".join(dict.fromkeys(p.note for p in pieces if p.note)),
    )


@dataclass
class _Row:
    """One text that is being written."""

    prompt: int
    sample: int
    ids: list[int]
    """Prompt and what was written."""
    text: TokenText
    note: str = ""
    written: int = 0
    finish: Finish = ""
    fresh: list[int] = field(default_factory=list)

    def take(self, id: int, ends: frozenset[int], limit: int) -> Piece | None:
        """Add a token; a piece, if there is something to say."""
        if id in ends:
            self.finish, text = "end", self.text.finish()
        else:
            self.ids.append(id)
            self.fresh.append(id)
            self.written += 1
            text = self.text.add(id)
            if self.text.stopped:
                self.finish = "stop"
            elif self.written == limit:
                self.finish = "length"
                text += self.text.finish()
        if not (text or self.finish or self.note):
            return None
        piece = Piece(self.prompt, self.sample, text, tuple(self.fresh), self.finish, self.note)
        self.fresh, self.note = [], ""
        return piece


class Writer:
    """A decoder that is ready to write; keeps its prepared weights for many calls.

    Args:
        model, precision, int8, batch: as for `generate`.
    """

    def __init__(
        self,
        model: PretrainedDecoder | str | Path,
        *,
        precision: str = "fp32",
        int8: bool = False,
        batch: int = 16,
    ) -> None:
        check_precision(precision)
        check_count(1, batch, "--batch")
        self.pretrained = as_decoder(model)
        self.int8, self.batch = int8, batch
        self.dtype = torch.float32
        if precision != "fp32":
            self.dtype = choose_precision(precision, self.pretrained.device).dtype
        self._decodings: dict[int, Decoding] = {}

    def generate(
        self,
        prompts: Iterable[str],
        sampling: Sampling | None = None,
        *,
        cut: bool = True,
        reserve: bool = False,
        allowed: Sequence[Tensor] | None = None,
    ) -> Iterator[Piece]:
        """As the function of that name.

        Args:
            prompts, sampling, cut: as there.
            reserve: cut prompts so that `max_tokens` fit behind them, as EleutherAI's harness does: the
                context never moves.
            allowed: for each token that is written, (vocabulary,) 0 where it may be and minus infinity where
                it may not; as many as `max_tokens`.
        """
        settings = sampling or Sampling()
        prompts = list_texts(prompts, "prompt")
        if not prompts:
            raise UserError("no prompt", mend="give a text to write on from")
        ready = [self._prepare(p, i, settings, cut, reserve) for i, p in enumerate(prompts)]
        if allowed is not None:
            allowed = [one.to(self.pretrained.device) for one in allowed]
        return self._pieces(ready, settings, allowed)

    def _decoding(self, rows: int) -> Decoding:
        laid_out = 1 if rows == 1 else max(2, self.batch)
        if laid_out not in self._decodings:
            self._decodings[laid_out] = Decoding(
                self.pretrained.model, dtype=self.dtype, int8=self.int8, rows=laid_out
            )
        return self._decodings[laid_out]

    def _prepare(
        self, text: str, number: int, settings: Sampling, cut: bool, reserve: bool
    ) -> _Row:
        """A prompt's tokens, cut where they are too many."""
        tokenizer, longest = self.pretrained.tokenizer, self.pretrained.max_length
        ids: list[int] = tokenizer.encode(text).ids.tolist()
        ends = self.pretrained.end_ids
        if ids and ids[-1] in ends and tokenizer.encode(text, special=False).ids[-1:] != ids[-1:]:
            ids.pop()  # a frame's end: the text is to go on
        if not ids:
            if tokenizer.begin_id is None:
                raise UserError(
                    "is empty, and the tokenizer has no begin token",
                    where=f"prompt {number + 1}",
                    mend="give at least one word",
                )
            ids = [tokenizer.begin_id]
        note = ""
        room = longest - settings.max_tokens if reserve else longest
        if room < 1:
            what = f"{settings.max_tokens} leave no room for a prompt: the model reads {longest}"
            raise UserError(what, where="--max-tokens")
        if len(ids) > room:
            said = f"has {len(ids)} tokens, the model reads {longest}"
            if not cut:
                where = f"prompt {number + 1}"
                raise UserError(said, where=where, mend="shorten it, or let it be cut")
            kept = room if reserve else longest - min(settings.max_tokens, longest // 2)
            note = f"prompt {number + 1} {said}: its last {kept} are read"
            ids = ids[-kept:]
        unknown = unknown_note(tokenizer, [np.array(ids)], f"prompt {number + 1}")
        note = "; ".join(line for line in (note, unknown) if line)
        return _Row(number, 0, ids, TokenText(tokenizer.growing, ids, settings.stop), note)

    def _pieces(
        self, ready: list[_Row], settings: Sampling, allowed: Sequence[Tensor] | None
    ) -> Iterator[Piece]:
        together = max(1, self.batch // settings.samples)
        decoding = self._decoding(min(together, len(ready)) * settings.samples)
        for first in range(0, len(ready), together):
            yield from self._write(decoding, ready[first : first + together], settings, allowed)

    def _write(
        self,
        decoding: Decoding,
        prompts: list[_Row],
        settings: Sampling,
        allowed: Sequence[Tensor] | None,
    ) -> Iterator[Piece]:
        """Write on from some prompts, side by side; rows that are over make room."""
        ends, limit = self.pretrained.end_ids, settings.max_tokens
        longest = max(len(row.ids) for row in prompts)
        length = min(self.pretrained.max_length, longest + limit)
        cache = decoding.cache(len(prompts), length)
        logits = self._read(decoding, cache, [row.ids for row in prompts])
        if not bool(logits.isfinite().all()):  # of prompts alone: a step of a small model is short
            raise self._no_numbers()
        rows = [self._sample(row, n, settings) for row in prompts for n in range(settings.samples)]
        if settings.samples > 1:
            order = torch.arange(len(prompts)).repeat_interleave(settings.samples)
            cache.keep(order)
            logits = logits[order.to(logits.device)]
        seen = self._seen(rows, logits) if settings.repetition_penalty != 1 else None
        while True:
            numbers, samples, places = zip(
                *((r.prompt, r.sample, r.written) for r in rows), strict=True
            )
            if allowed is not None:
                logits = logits + allowed[places[0]]  # rows that are not over have written as much
            chosen = choose(logits, settings, numbers, samples, places, seen)
            if max(ids := chosen.tolist()) >= logits.shape[-1]:
                raise self._no_numbers()
            if seen is not None:
                seen[torch.arange(len(rows), device=seen.device), chosen] = True
            for row, id in zip(rows, ids, strict=True):
                piece = row.take(id, ends, limit)
                if piece is not None:
                    yield piece
            alive = torch.tensor([i for i, row in enumerate(rows) if not row.finish])
            if not len(alive):
                return
            if len(alive) < len(rows):
                rows = [rows[i] for i in alive.tolist()]
                cache.keep(alive)
                seen = None if seen is None else seen[alive.to(seen.device)]
            logits = self._read(decoding, cache, self._next(rows, cache))

    def _sample(self, row: _Row, sample: int, settings: Sampling) -> _Row:
        text = TokenText(self.pretrained.tokenizer.growing, row.ids, settings.stop)
        return _Row(row.prompt, sample, list(row.ids), text, row.note)

    def _next(self, rows: list[_Row], cache: KeyValueCache) -> list[list[int]]:
        """What each row reads next: its newest token, or the last half of a context that is full."""
        longest = self.pretrained.max_length
        full = cache.lengths >= longest
        if not bool(full.any()):
            return [row.ids[-1:] for row in rows]
        half = max(1, longest // 2)
        cache.cut(torch.where(full, 0, cache.lengths))
        for row, over in zip(rows, full.tolist(), strict=True):
            if over:
                row.note = f"the context of {longest} tokens is full: its last {half} are read on"
        return [
            row.ids[-half:] if over else row.ids[-1:]
            for row, over in zip(rows, full.tolist(), strict=True)
        ]

    def _read(self, decoding: Decoding, cache: KeyValueCache, ids: list[list[int]]) -> Tensor:
        """Logits (rows, the tokenizer's vocabulary) of what follows."""
        device = decoding.device
        last = None
        if all(len(one) == 1 for one in ids):
            batch = continuation(torch.tensor(ids, device=device)[:, 0], cache.lengths)
        else:
            batch = continuations([torch.tensor(one) for one in ids], cache.lengths).to(device)
            last = batch.starts[1:].to(device) - 1
        logits = decoding.logits(decoding.read(batch, cache, last))
        # rows that pad the matrix are no words
        return logits[:, : self.pretrained.tokenizer.vocab_size]

    def _no_numbers(self) -> UserError:
        mend = "check its weights, or try --precision fp32 without --int8"
        return no_numbers(str(self.pretrained.path), mend=mend)

    def _seen(self, rows: list[_Row], logits: Tensor) -> Tensor:
        seen = torch.zeros(logits.shape, dtype=torch.bool)
        for number, row in enumerate(rows):
            seen[number, row.ids] = True
        return seen.to(logits.device)
