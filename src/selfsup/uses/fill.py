"""Filling blanks: what a masked language model puts in the place of each [MASK]."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from selfsup.data.inputs import list_texts
from selfsup.data.tokenizers import Tokenizer
from selfsup.data.unknown import known_letters, unknown_note
from selfsup.errors import UserError, check_count, no_numbers
from selfsup.models.hub import Pretrained, as_encoder
from selfsup.nn.sequences import Sequences

_CONTINUES = "##"
"""What a token of WordPiece begins with that goes on with the word before."""
_BEGINS = ("Ġ", "▁")
"""What a token begins with that has a space before it, in byte-level pairs and in SentencePiece."""
_BRACKETS = str.maketrans("【】〔〕", "[][]")
"""Brackets of Chinese keyboards that no normal form turns into these."""


@dataclass(frozen=True)
class Candidate:
    """One guess for one blank."""

    token: str
    """The token as it stands in the vocabulary (`##ing`, `Ġthe`)."""
    text: str
    """The token as people write it."""
    probability: float
    """Among the ordinary tokens: special ones are left out before, so that these add up to 1."""


@dataclass(frozen=True)
class Filled:
    """The guesses for one text."""

    text: str
    blanks: list[list[Candidate]]
    """For each [MASK], in order, the candidates from the most probable down."""
    best: str
    """The text as it was given, with every blank filled by its first candidate."""
    note: str = ""
    """What was left out, if the text was longer than the model allows, and what it does not know."""


def fill(
    pretrained: Pretrained | str | Path,
    texts: Iterable[str],
    top: int = 5,
    batch_tokens: int = 4096,
) -> list[Filled]:
    """Rank candidates for every [MASK] in every text.

    Several blanks in one text are guessed at the same time, each from the rest of the text.

    Args:
        pretrained: from `selfsup.load`, or what that takes.
        texts: each with at least one `[MASK]`.
        top: candidates for each blank, at most all words but the special ones.
        batch_tokens: tokens read at once.

    Raises:
        UserError: no blank in a text, an item that is no text, or the model is no encoder or has no
            head or no mask token.
    """
    pretrained, texts = as_encoder(pretrained), list_texts(texts)
    tokenizer, longest = pretrained.tokenizer, pretrained.max_length
    if not pretrained.has_head:
        raise UserError(
            "this model is a bare encoder without a masked-token head",
            where=str(pretrained.path),
            mend="`embed` works; filling blanks needs a model trained on masked tokens",
        )
    if tokenizer.mask_id is None:
        raise UserError("its tokenizer has no [MASK] token", where=str(pretrained.path))
    check_count(1, top, "--top")
    check_count(1, batch_tokens, "--batch-tokens")
    prepared = [_prepare(pretrained, text, number, longest) for number, text in enumerate(texts)]
    results: list[Filled] = []
    for batch in _batches(prepared, batch_tokens):
        words = tokenizer.vocab_size - len(tokenizer.special_ids)
        results.extend(_guess(pretrained, batch, min(top, words)))
    return results


@dataclass(frozen=True)
class _Prepared:
    text: str
    ids: np.ndarray
    note: str


def _prepare(pretrained: Pretrained, text: str, number: int, longest: int) -> _Prepared:
    tokenizer = pretrained.tokenizer
    ids = tokenizer.encode(text).ids
    blanks = np.flatnonzero(ids == tokenizer.mask_id)
    mask = tokenizer.token(int(tokenizer.mask_id or 0))
    if not len(blanks):
        shown = text if len(text) <= 40 else text[:39] + "…"
        mend = f"write {mask} where {_one_token(tokenizer)} to be guessed"
        if mask.lower() in text.lower():
            mend = f"it is written {mask}"
        elif mask in unicodedata.normalize("NFKC", text).translate(_BRACKETS):
            mend = f"its brackets are not those of {mask}, which are the keyboard's"
        raise UserError(f"there is no {mask} in '{shown}'", where=f"text {number + 1}", mend=mend)
    unknown = unknown_note(tokenizer, [ids])
    if len(ids) <= longest:
        return _Prepared(text, ids, unknown)
    # keep the stretch around the blanks: they need their context on both sides
    first, last = int(blanks[0]), int(blanks[-1])
    room = longest - 2
    if last - first + 1 > room:
        raise UserError(
            f"the blanks lie {last - first + 1} tokens apart, the model reads {longest}",
            where=f"text {number + 1}",
            mend="split the text",
        )
    begin = max(1, min(first - (room - (last - first + 1)) // 2, len(ids) - 1 - room))
    kept = np.concatenate([ids[:1], ids[begin : begin + room], ids[-1:]])
    note = f"text has {len(ids)} tokens, the model reads {longest}: cut around its blanks"
    return _Prepared(text, kept, f"{note}; {unknown}" if unknown else note)


def _one_token(tokenizer: Tokenizer) -> str:
    """What stands for one blank, for messages."""
    if not known_letters(tokenizer):
        return "a word is"
    longest = max(len(tokenizer.token(id)) for id in tokenizer.ordinary_ids.tolist())
    return "a letter is" if longest == 1 else f"{longest} letters are"


def _batches(prepared: list[_Prepared], limit: int) -> Iterator[list[_Prepared]]:
    batch: list[_Prepared] = []
    tokens = 0
    for item in prepared:
        if batch and tokens + len(item.ids) > limit:
            yield batch
            batch, tokens = [], 0
        batch.append(item)
        tokens += len(item.ids)
    if batch:
        yield batch


def _guess(pretrained: Pretrained, batch: list[_Prepared], top: int) -> list[Filled]:
    tokenizer, model = pretrained.tokenizer, pretrained.model
    device = next(model.parameters()).device
    sequences = Sequences.from_lists([item.ids for item in batch]).to(device)
    blank = torch.tensor(tokenizer.mask_id, device=device)
    with torch.inference_mode():
        places = torch.nonzero(torch.eq(sequences.tokens, blank))[:, 0]
        logits = model.predict(model(sequences, places)).float()
        if not bool(logits.isfinite().all()):
            raise no_numbers(str(pretrained.path))
        logits[:, tokenizer.vocab_size :] = -torch.inf  # rows that pad the matrix are no words
        logits[:, sorted(tokenizer.special_ids)] = -torch.inf
        ranked = logits.softmax(-1).topk(top)
    filled, at = [], 0
    for item in batch:
        blanks = []
        for _ in range(int((item.ids == tokenizer.mask_id).sum())):
            chances, choices = ranked.values[at].tolist(), ranked.indices[at].tolist()
            blanks.append(
                [
                    Candidate(tokenizer.token(i), tokenizer.decode([i]).strip(), p)
                    for i, p in zip(choices, chances, strict=True)
                ]
            )
            at += 1
        best = _written(item.text, tokenizer.token(int(blank)), [b[0] for b in blanks])
        filled.append(Filled(item.text, blanks, best, item.note))
    return filled


def _written(text: str, mask: str, chosen: list[Candidate]) -> str:
    """A text with its blanks filled, all else as it was.

    Args:
        text: as it was given.
        mask: what stands for a blank.
        chosen: one for each blank.
    """
    written, *rest = text.split(mask)
    for candidate, after in zip(chosen, rest, strict=True):
        if candidate.token.startswith(_CONTINUES):
            written = written.rstrip() + candidate.text.removeprefix(_CONTINUES)
        else:
            apart = candidate.token.startswith(_BEGINS) and written[-1:].strip()
            written += " " * bool(apart) + candidate.text
        written += after
    return written
