"""One word where it stands: a vector for each of its contexts, layer by layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.data.inputs import list_texts
from selfsup.data.scripts import is_mark, is_unspaced
from selfsup.errors import UserError, check_count, no_numbers
from selfsup.models.hub import Pretrained, as_encoder
from selfsup.nn.device import keep_freed_memory
from selfsup.nn.sequences import Sequences
from selfsup.nn.side_by_side import read_texts
from selfsup.tasks.encoding import frame_tokens
from selfsup.uses.embed import reading_precision

_TWO_LETTERS = ({"i", "ı"}, {"İ", "ı"})
"""Turkish letters that `re` takes for upper and lower case of one."""


@dataclass(frozen=True)
class WordVectors:
    """A word's vectors, each place by itself, in the order of the texts."""

    texts: NDArray[np.int64]
    """(places,) number of the text, from 0."""
    spans: NDArray[np.int64]
    """(places, 2) first character, and one past the last."""
    layers: NDArray[np.float32]
    """(layers + 1, places, hidden) what each layer makes of it; 0: the embeddings, before the first layer."""

    @property
    def last(self) -> NDArray[np.float32]:
        """(places, hidden) after the last layer."""
        last: NDArray[np.float32] = self.layers[-1]
        return last


@dataclass(frozen=True)
class _Reading:
    """What the model reads for some places of one text."""

    ids: NDArray[np.int64]
    """(tokens,) special ones included."""
    places: list[int]
    tokens: list[tuple[int, int]]
    """For each place, its first token and one past its last."""


def check_word(word: str, where: str = "--word") -> str:
    """A word without white space around it.

    Raises:
        UserError: nothing is left.
    """
    if not (bare := word.strip()):
        raise UserError("no word", where=where, mend="name the one whose vectors are wanted")
    return bare


def find_word(text: str, word: str) -> list[tuple[int, int]]:
    """Where a word stands in a text, in characters; upper and lower case are one.

    In scripts with spaces a part of a longer word is not it; in scripts without (Chinese, Japanese,
    Thai) every place where its characters stand is.
    """
    found = []
    for match in re.finditer(f"(?=({re.escape(word)}))", text, re.IGNORECASE):
        begin, end = match.span(1)
        if any({a, b} in _TWO_LETTERS for a, b in zip(word, match[1], strict=True)):
            continue
        if begin and _goes_on(text[begin - 1]) and _goes_on(text[begin]):
            continue
        if end < len(text) and _goes_on(text[end]) and _goes_on(text[end - 1]):
            continue
        found.append((begin, end))
    return found


def _goes_on(character: str) -> bool:
    """Whether a character joins its neighbour of the same kind to a word."""
    return (character.isalnum() or is_mark(character)) and not is_unspaced(character)


def word_vectors(
    pretrained: Pretrained | str | Path,
    texts: Iterable[str],
    word: str,
    *,
    first: bool = False,
    batch_tokens: int = 2048,
    precision: str = "fp32",
) -> WordVectors:
    """The vectors of a word at each place where it stands (`find_word`), after every layer.

    A place's vector is the mean over the tokens that it touches.  Of a text that is longer than the
    model reads, as much as it reads around the place is read.  Places for which the tokenizer makes
    no token are left out.

    Args:
        pretrained: from `selfsup.load`, or what that takes.
        texts: the contexts.
        word: one, or several with spaces between them.
        first: the first place in each text alone.
        batch_tokens: tokens of a batch.
        precision: see `embed`.

    Raises:
        UserError: no encoder, no word, an item that is no text, or a bad setting.
    """
    pretrained, texts = as_encoder(pretrained), list_texts(texts)
    check_count(1, batch_tokens, "--batch-tokens")
    word = check_word(word)
    device = next(pretrained.model.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    numbers = reading_precision(precision, device)
    where, readings = _readings(pretrained, texts, word, first)
    config = pretrained.config
    layers = np.zeros((config.num_layers + 1, len(where), config.hidden_size), np.float32)

    def read(rows: NDArray[np.int64]) -> tuple[list[int], NDArray[np.float32]]:
        chosen = [readings[row] for row in rows]
        batch = Sequences.from_lists([one.ids for one in chosen]).to(device)
        with numbers.autocast(device):
            hidden = pretrained.encoder(batch, layers=True).float()
        starts = batch.starts.tolist()
        vectors = [
            hidden[:, start + first : start + end].mean(1)
            for start, one in zip(starts, chosen, strict=False)
            for first, end in one.tokens
        ]
        return [place for one in chosen for place in one.places], np.asarray(
            torch.stack(vectors, 1).cpu().numpy()
        )

    lengths = [len(one.ids) for one in readings]
    if readings:
        for places, found in read_texts(
            read, lengths, pretrained.model, numbers.dtype, batch_tokens
        ):
            layers[:, places] = found
    if not np.isfinite(layers).all():
        raise no_numbers(str(pretrained.path), "vectors")
    table = np.array(where, np.int64).reshape(-1, 3)
    return WordVectors(table[:, 0], table[:, 1:], layers)


def likeness(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Cosines of all pairs, (places, places), of vectors (places, width) less their mean.

    Vectors of a network have much in common that says nothing (Ethayarajh 2019); without the mean it does
    not hide where they differ.  Vectors that do not differ are like none.
    """
    exact = vectors.astype(np.float64)
    common = np.linalg.norm(exact, axis=1).mean() if len(exact) else 0.0
    own = exact - exact.mean(axis=0)
    unit = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-6 * common + 1e-12)
    found: NDArray[np.float64] = unit @ unit.T
    return found


def nearest_others(near: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each place, which other is nearest: (places,) of likenesses (places, places)."""
    others = np.where(np.eye(len(near), dtype=bool), -np.inf, near)
    found: NDArray[np.int64] = others.argmax(axis=1)
    return found


def _readings(
    pretrained: Pretrained, texts: Sequence[str], word: str, only_first: bool
) -> tuple[list[tuple[int, int, int]], list[_Reading]]:
    """Each place (text, first character, end), and what is read for them."""
    cls, sep = frame_tokens(pretrained.tokenizer)
    room = pretrained.max_length - 2
    holding = [(number, found) for number, t in enumerate(texts) if (found := find_word(t, word))]
    encodings = pretrained.tokenizer.inner.encode_batch(
        [texts[number] for number, _ in holding], add_special_tokens=False
    )
    where: list[tuple[int, int, int]] = []
    readings: list[_Reading] = []
    for (number, found), encoding in zip(holding, encodings, strict=True):
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        ids = np.array(encoding.ids, np.int64)
        places, tokens = [], []
        for begin, end in found:
            touched = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < end))
            if len(touched):
                places.append(len(where))
                tokens.append((int(touched[0]), int(touched[-1]) + 1))
                where.append((number, begin, end))
                if only_first:
                    break
        for part, cut, own in _windows(len(ids), places, tokens, room):
            framed = np.concatenate([[cls], ids[cut : cut + room], [sep]])
            readings.append(_Reading(framed, part, own))
    return where, readings


def _windows(
    count: int, places: list[int], tokens: list[tuple[int, int]], room: int
) -> Iterator[tuple[list[int], int, list[tuple[int, int]]]]:
    """Places that are read together, the first token that is read, and their tokens behind `[CLS]`."""
    if count <= room:
        if places:
            yield places, 0, [(first + 1, end + 1) for first, end in tokens]
        return
    for place, (first, end) in zip(places, tokens, strict=True):
        end = min(end, first + room)
        cut = min(max(0, (first + end - room) // 2), count - room)
        yield [place], cut, [(first - cut + 1, end - cut + 1)]
