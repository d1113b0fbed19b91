"""Greedy writing: the likeliest token each time, many prompts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.nn.cache import continuation
from selfsup.uses import shared_prefix
from selfsup.uses.likelihood import BATCH_TOKENS, begin_ids, start_ids

_TAIL = 8
"""Tokens of the prompt that are decoded with what follows, for the spaces between."""


@dataclass(frozen=True)
class Written:
    """What was written behind a prompt."""

    text: str
    """Up to the first stop string, which is left out."""
    tokens: int
    cut: int
    """Tokens at the prompt's beginning that were left out, because the model reads no more."""


def greedy(
    pretrained: PretrainedDecoder,
    prompts: Sequence[str],
    max_tokens: int,
    stop: Sequence[str] = (),
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Written]:
    """Write on from each prompt, in the order given.

    Ends at an end token, at a stop string, or after `max_tokens`.

    Args:
        pretrained: from `load_decoder`.
        prompts: may be empty.
        max_tokens: at most; a prompt is cut at its beginning where both do not fit.
        stop: strings that end a text.
        batch_tokens: tokens read at once.

    Raises:
        UserError: `max_tokens` below 1, or no room for a prompt beside it.
    """
    room = pretrained.max_length - max_tokens
    if max_tokens < 1:
        raise UserError(f"must be at least 1, not {max_tokens}", where="--max-tokens")
    if room < 1:
        what = f"{max_tokens} leave no room for a prompt: the model reads {pretrained.max_length}"
        raise UserError(what, where="--max-tokens")
    frame = begin_ids(pretrained)
    whole = []
    for ids in pretrained.tokenizer.encode_batch(list(prompts), special=False):
        framed = np.concatenate([frame, ids])
        whole.append(framed if len(framed) else start_ids(pretrained))
    kept = [ids[-room:] for ids in whole]
    results: list[Written | None] = [None] * len(kept)
    with torch.inference_mode():
        parts = shared_prefix.read(
            pretrained,
            kept,
            [len(ids) - 1 for ids in kept],
            batch_tokens=batch_tokens,
            room=max_tokens,
        )
        for part in parts:
            prompts_ids = [kept[row] for row in part.rows]
            for row, new, text in _write(pretrained, part, prompts_ids, max_tokens, stop):
                results[row] = Written(text, len(new), len(whole[row]) - len(kept[row]))
    return [one for one in results if one is not None]


def _write(
    pretrained: PretrainedDecoder,
    part: shared_prefix.Part,
    prompts: Sequence[NDArray[np.int64]],
    max_tokens: int,
    stop: Sequence[str],
) -> list[tuple[int, list[int], str]]:
    """For each row of a part, its number, the tokens and the text."""
    cache = part.cache
    assert cache is not None
    alive = list(range(len(part.rows)))
    written: list[list[int]] = [[] for _ in alive]
    texts = [""] * len(alive)
    hidden = part.hidden[(part.starts[1:] - 1).to(part.hidden.device)]
    while alive:
        chosen = pretrained.model.predict(hidden).argmax(1)
        going = []
        for place, (row, id) in enumerate(zip(alive, chosen.tolist(), strict=True)):
            ended = id in pretrained.end_ids
            if not ended:
                written[row].append(id)
                texts[row] = _new_text(pretrained, prompts[row], written[row])
            cut = [at for s in stop if s and (at := texts[row].find(s)) >= 0]
            if cut:
                texts[row] = texts[row][: min(cut)]
            if not (ended or cut or len(written[row]) >= max_tokens):
                going.append(place)
        if not going:
            break
        if len(going) < len(alive):
            cache.keep(torch.tensor(going))
            alive = [alive[place] for place in going]
            chosen = chosen[torch.tensor(going, device=chosen.device)]
        hidden = pretrained.model(continuation(chosen, cache.lengths), cache=cache)
    return [(row, written[i], texts[i]) for i, row in enumerate(part.rows)]


def _new_text(
    pretrained: PretrainedDecoder, prompt: NDArray[np.int64], written: Sequence[int]
) -> str:
    """What the new tokens add to the prompt's text."""
    tail = prompt[-_TAIL:].tolist()
    decode = pretrained.tokenizer.decode
    before, whole = decode(tail), decode([*tail, *written])
    return whole[len(before) :] if whole.startswith(before) else decode(list(written))
