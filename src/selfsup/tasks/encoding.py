"""From texts and words to token ids: frames, cutting, and which tokens a word owns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError

Ids = NDArray[np.int64]
_AT_ONCE = 1024
"""Texts that are tokenized together: what the library says of a token takes far more than its id."""


class Framed(NamedTuple):
    """Texts or pairs with their special tokens."""

    ids: list[Ids]
    types: list[Ids] | None
    """0 in the first part, 1 in the second; None: single texts."""
    cut: int
    """How many were longer than allowed."""


def frame_tokens(tokenizer: Tokenizer) -> tuple[int, int]:
    """The ids of [CLS] and [SEP].

    Raises:
        UserError: the tokenizer has none.
    """
    if tokenizer.cls_id is None or tokenizer.sep_id is None:
        raise UserError("the tokenizer has no [CLS] and [SEP] tokens", where="tokenizer")
    return tokenizer.cls_id, tokenizer.sep_id


def frame_texts(
    tokenizer: Tokenizer, firsts: Sequence[str], seconds: Sequence[str] | None, longest: int
) -> Framed:
    """`[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`.

    A text that is too long is cut at its end; of a pair, the longer part loses its tokens first.

    Args:
        tokenizer: of the model.
        firsts, seconds: the texts.
        longest: tokens, special ones included.
    """
    cls, sep = frame_tokens(tokenizer)
    ids: list[Ids] = []
    cut = 0
    if seconds is None:
        room = longest - 2
        for tokens in _encoded(tokenizer, firsts):
            ids.append(np.concatenate([[cls], tokens[:room], [sep]]))
            cut += len(tokens) > room
        return Framed(ids, None, cut)
    types: list[Ids] = []
    both = zip(_encoded(tokenizer, firsts), _encoded(tokenizer, seconds), strict=True)
    for first, second in both:
        left, right = share_room(len(first), len(second), longest - 3)
        cut += left < len(first) or right < len(second)
        ids.append(np.concatenate([[cls], first[:left], [sep], second[:right], [sep]]))
        types.append(np.repeat([0, 1], [left + 2, right + 1]))
    return Framed(ids, types, cut)


def _encoded(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[Ids]:
    for begin in range(0, len(texts), _AT_ONCE):
        yield from tokenizer.encode_batch(texts[begin : begin + _AT_ONCE], special=False)


def share_room(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths to which two texts are cut so that both fit: the longer one gives first.

    As in transformers (`longest_first`): of an odd number the longer one, else the second, has one more.
    """
    if first + second <= room:
        return first, second
    half = room // 2
    if first <= half:
        return first, room - first
    if second <= half:
        return room - second, second
    return (room - half, half) if first > second else (half, room - half)


class Aligned(NamedTuple):
    """Sentences of words as token ids, in pieces that the model can read."""

    ids: list[Ids]
    """Of each piece."""
    places: list[Ids]
    """Of each piece, (words,) the place of each word's first token; words without tokens are left out."""
    words: list[Ids]
    """Of each piece, (words,) which words of its sentence those are."""
    sentences: Ids
    """(pieces,) the sentence of each piece."""
    without: int
    """Words that the tokenizer drops altogether (a lone control character, say)."""


def align_words(tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], longest: int) -> Aligned:
    """Tokenize sentences of words, and find each word's first token.

    The policy: the words are joined by spaces and tokenized as running text, so that each is split
    as in pre-training; a word owns the tokens that begin inside it, and its first token carries its
    label.  A sentence that is too long is read in pieces, cut between words, so every word is read.

    Args:
        tokenizer: of the model.
        sentences: of words.
        longest: tokens in a piece, special ones included.
    """
    cls, sep = frame_tokens(tokenizer)
    encodings = (
        encoding
        for begin in range(0, len(sentences), _AT_ONCE)
        for encoding in tokenizer.inner.encode_batch(
            [" ".join(words) for words in sentences[begin : begin + _AT_ONCE]],
            add_special_tokens=False,
        )
    )
    ids: list[Ids] = []
    places: list[Ids] = []
    numbers: list[Ids] = []
    owners: list[int] = []
    without = 0
    for sentence, (words, encoding) in enumerate(zip(sentences, encodings, strict=True)):
        tokens = np.array(encoding.ids, np.int64)
        word = _owners(words, encoding.offsets)
        found = np.unique(word)
        without += len(words) - len(found)
        for begin, end in _pieces(word, longest - 2):
            here, first = np.unique(word[begin:end], return_index=True)
            ids.append(np.concatenate([[cls], tokens[begin:end], [sep]]))
            places.append(first + 1)
            numbers.append(here)
            owners.append(sentence)
    return Aligned(ids, places, numbers, np.array(owners, np.int64), without)


def _owners(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> Ids:
    """(tokens,) the word in which each token begins."""
    lengths = np.array([len(w) + 1 for w in words], np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(words) else np.zeros(0, np.int64)
    spans = np.array(offsets, np.int64).reshape(-1, 2)
    # byte-level tokens may count the space before a word as theirs
    inner = np.minimum(spans[:, 0] + 1, np.maximum(spans[:, 1] - 1, spans[:, 0]))
    at_space = np.isin(spans[:, 0] + 1, begins)
    start = np.where(at_space, inner, spans[:, 0])
    return np.maximum(np.searchsorted(begins, start, side="right") - 1, 0)


def _pieces(word: Ids, room: int) -> list[tuple[int, int]]:
    """Stretches of at most `room` tokens, cut where a word begins (a longer word is cut itself)."""
    pieces, begin = [], 0
    while begin < len(word):
        end = min(begin + room, len(word))
        if end < len(word):
            back = end
            while back > begin and word[back] == word[back - 1]:
                back -= 1
            end = back if back > begin else end
        pieces.append((begin, end))
        begin = end
    return pieces
