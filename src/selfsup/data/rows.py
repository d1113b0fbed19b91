"""Documents cut into pieces and packed into rows of a fixed number of tokens.

A row holds one or more sequences, each with its special tokens; attention does not cross from one
to the next.  So every row is full of real tokens and all shapes are static.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.corpus import Split
from selfsup.data.keys import uniform
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError

SHORTEST_PIECE = 8
"""Tokens; a document's piece is not made shorter than this to fill the end of a row."""
SHORTEST_SEQUENCE = 16
"""Tokens, special ones included, that a piece cut short has at least room for."""
_DRAWN_AT_ONCE = 4096
_SHORT = 0x5407

Span = tuple[int, int]
"""A stretch of the token stream: (begin, end)."""


class Piece(NamedTuple):
    """A stretch of one document."""

    begin: int
    end: int
    document: int


@dataclass(frozen=True)
class PackedRows:
    """A split cut into rows.

    Args:
        split: the documents' tokens.
        length: tokens in a row.
        overhead: special tokens that each piece will need ([CLS] … [SEP]: 2; a pair: 3).
    """

    split: Split
    length: int
    overhead: int
    first_piece: NDArray[np.int64]
    """(rows + 1,) where each row's pieces start."""
    pieces: NDArray[np.int64]
    """(pieces, 3): begin, end, document."""
    counts: tuple[int, ...]
    """Rows of each source."""

    @staticmethod
    def build(split: Split, length: int, overhead: int, short: float = 0.0) -> PackedRows:
        """Plan the rows of a split.

        Args:
            split: the documents' tokens.
            length: tokens in a row.
            overhead: special tokens of each piece.
            short: share of the pieces that are cut to a length drawn log-uniformly from
                `SHORTEST_SEQUENCE` to `length`, special tokens included; after Devlin et al. 2019,
                who draw uniformly.  The rows are the same at every call.
        """
        firsts: list[int] = []
        pieces: list[tuple[int, int, int]] = []
        counts = [0] * (int(split.sources.max(initial=0)) + 1)
        room, source = 0, -1
        sizes = _sizes(length, overhead, short)
        offsets, origins = split.documents.tolist(), split.sources.tolist()
        for document, origin in enumerate(origins):
            begin, end = offsets[document], offsets[document + 1]
            while begin < end:
                least = min(SHORTEST_PIECE, end - begin)
                if origin != source or room - overhead < least:
                    firsts.append(len(pieces))
                    counts[origin] += 1
                    room, source = length, origin
                take = min(end - begin, room - overhead, next(sizes))
                pieces.append((begin, begin + take, document))
                begin += take
                room -= take + overhead
        firsts.append(len(pieces))
        return PackedRows(
            split,
            length,
            overhead,
            np.array(firsts, np.int64),
            np.array(pieces, np.int64).reshape(-1, 3),
            tuple(counts),
        )

    def __len__(self) -> int:
        return len(self.first_piece) - 1

    def row(self, index: int) -> list[Piece]:
        """The pieces of one row."""
        low, high = self.first_piece[index], self.first_piece[index + 1]
        return [Piece(*map(int, piece)) for piece in self.pieces[low:high]]

    def documents(self, rows: NDArray[np.int64]) -> list[int]:
        """The documents that rows are made of, for messages."""
        return sorted({piece.document for row in rows for piece in self.row(int(row))})

    def fill(self) -> float:
        """Share of the rows' places that hold tokens (special ones included)."""
        used = int((self.pieces[:, 1] - self.pieces[:, 0] + self.overhead).sum())
        return used / max(1, len(self) * self.length)


def _sizes(length: int, overhead: int, short: float) -> Iterator[int]:
    """How many tokens of text each piece in turn may have."""
    if not short:
        yield from repeat(length - overhead)
    for block in count(0, _DRAWN_AT_ONCE):
        pieces = np.arange(block, block + _DRAWN_AT_ONCE)
        lengths = SHORTEST_SEQUENCE * (length / SHORTEST_SEQUENCE) ** uniform(_SHORT, pieces, 1)
        cut = uniform(_SHORT, pieces, 0) < short
        yield from (
            np.where(cut, lengths.round().astype(np.int64), length).clip(overhead + 1) - overhead
        )


def check_enough(rows: PackedRows, needed: int, what: str) -> None:
    """Refuse a split that cannot fill one batch."""
    if len(rows) < needed:
        tokens = int(rows.split.documents[-1]) if len(rows.split.documents) else 0
        raise UserError(
            f"the {what} part has {tokens:,} tokens, {len(rows)} rows of {rows.length}; "
            f"at least {needed} are needed",
            mend="give more text, a smaller --train.batch_size or a smaller --data.length",
        )


class Assembled(NamedTuple):
    """Rows of tokens, ready to be masked."""

    tokens: NDArray[np.int64]
    """(rows, length)."""
    words: NDArray[np.int32]
    """(rows, length) running number of the word in its row; -1 on special tokens."""
    positions: NDArray[np.int64]
    """(rows, length) place in the sequence."""
    types: NDArray[np.int64]
    """(rows, length) 0 in a sequence's first part, 1 in its second."""
    starts: NDArray[np.int64]
    """(sequences + 1,) starts in the flattened rows, fillers included."""
    real: NDArray[np.bool_]
    """(sequences,) false for the filler at a row's end."""


def assemble(
    split: Split,
    layout: Sequence[Sequence[Sequence[Span]]],
    length: int,
    tokenizer: Tokenizer,
) -> Assembled:
    """Write out rows.

    Args:
        split: where the tokens are.
        layout: for each row its sequences, for each sequence its parts (one, or two for a pair).
        length: tokens in a row.
        tokenizer: for the special tokens; a rest of the row is filled with [PAD], as a sequence
            of its own that nothing looks at and nothing scores.
    """
    assert tokenizer.pad_id is not None
    assert tokenizer.cls_id is not None
    assert tokenizer.sep_id is not None
    rows = len(layout)
    tokens = np.full((rows, length), tokenizer.pad_id, np.int64)
    words = np.full((rows, length), -1, np.int32)
    positions = np.zeros((rows, length), np.int64)
    types = np.zeros((rows, length), np.int64)
    starts: list[int] = []
    real: list[bool] = []
    for row, sequences in enumerate(layout):
        at = word = 0
        for parts in sequences:
            start = at
            starts.append(row * length + start)
            real.append(True)
            tokens[row, at] = tokenizer.cls_id
            at += 1
            for kind, (begin, end) in enumerate(parts):
                stop = at + end - begin
                tokens[row, at:stop] = split.tokens[begin:end]
                beginnings = split.words[begin:end].astype(np.int32)
                beginnings[:1] = 1  # a word cut by the piece's edge begins here
                words[row, at:stop] = word + np.cumsum(beginnings) - 1
                word += int(beginnings.sum())
                tokens[row, stop] = tokenizer.sep_id
                types[row, at : stop + 1] = kind
                at = stop + 1
            positions[row, start:at] = np.arange(at - start)
        if at < length:
            starts.append(row * length + at)
            real.append(False)
            positions[row, at:] = np.arange(length - at)
    starts.append(rows * length)
    return Assembled(
        tokens, words, positions, types, np.array(starts, np.int64), np.array(real, bool)
    )
