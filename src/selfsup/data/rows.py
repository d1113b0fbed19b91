"""Documents cut into pieces and packed into rows of a fixed number of tokens.

A row holds one or more sequences, each with its special tokens; attention does not cross from one
to the next.  So every row is full of real tokens and all shapes are static.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, repeat
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.data.corpus import Split
from selfsup.data.keys import uniform
from selfsup.data.stretches import places
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError

SHORTEST_PIECE = 8
"""Tokens; a document's piece is not made shorter than this to fill the end of a row."""
SHORTEST_SEQUENCE = 16
"""Tokens, special ones included, that a piece cut short has at least room for."""
_DRAWN_AT_ONCE = 4096
_SHORT = 0x5407


class Pieces(NamedTuple):
    """Stretches of documents in some rows, as columns: (pieces,) each."""

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    documents: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Which of the rows asked for, ascending."""
    numbers: NDArray[np.int64]
    """Which piece of its row."""


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

    def pieces_of(self, rows: NDArray[np.int64]) -> Pieces:
        """The pieces of several rows, in the order of the rows."""
        first = self.first_piece[rows]
        counts = self.first_piece[np.asarray(rows) + 1] - first
        chosen = places(first, counts)
        begins, ends, documents = self.pieces[chosen].T
        owner = np.repeat(np.arange(len(counts)), counts)
        return Pieces(begins, ends, documents, owner, chosen - first[owner])

    def documents(self, rows: NDArray[np.int64]) -> list[int]:
        """The documents that rows are made of, for messages."""
        found: list[int] = np.unique(self.pieces_of(rows).documents).tolist()
        return found

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


class Layout(NamedTuple):
    """Where things lie in rows that were filled from the left."""

    at: NDArray[np.int64]
    """(things,) where each begins in the flattened rows."""
    used: NDArray[np.int64]
    """(rows,) places that are filled."""

    def sequences(
        self, opens: NDArray[np.bool_], length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Where the sequences start, and which are no fillers.

        Args:
            opens: (things,) whether each begins a sequence.
            length: places in a row; what is left of one is a filler, a sequence of its own.

        Returns:
            (sequences + 1,) starts in the flattened rows, the last one their end; (sequences,).
        """
        first = np.arange(len(self.used)) * length
        rest = (first + self.used)[self.used < length]
        starts = np.concatenate([self.at[opens], rest])
        order = np.argsort(starts, kind="stable")
        end = len(self.used) * length
        return np.append(starts[order], end), order < len(starts) - len(rest)


def lay_out(rows: NDArray[np.int64], widths: NDArray[np.int64], count: int, length: int) -> Layout:
    """Put things into rows, one behind the other.

    Args:
        rows: (things,) the row of each, ascending.
        widths: (things,) places that each takes.
        count: rows.
        length: places in a row.
    """
    used = np.bincount(rows, widths, count).astype(np.int64)
    before = np.arange(count) * length - (np.cumsum(used) - used)
    return Layout(np.cumsum(widths) - widths + before[rows], used)


def positions_of(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(starts[-1],) the place of each token in its sequence."""
    positions: NDArray[np.int64] = np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))
    return positions


class Parts(NamedTuple):
    """What rows are written from: a sequence is one part, or the two of a pair."""

    begins: NDArray[np.int64]
    """(parts,) in the token stream."""
    ends: NDArray[np.int64]
    """(parts,)"""
    rows: NDArray[np.int64]
    """(parts,) the row of each, ascending."""
    second: NDArray[np.bool_]
    """(parts,) whether it is a pair's second part."""


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
    split: Split, parts: Parts, count: int, length: int, tokenizer: Tokenizer
) -> Assembled:
    """Write out rows.

    Args:
        split: where the tokens are.
        parts: what stands in which row; they must fit.
        count: rows.
        length: tokens in a row.
        tokenizer: for the special tokens; a rest of the row is filled with [PAD], as a sequence
            of its own that nothing looks at and nothing scores.
    """
    assert tokenizer.pad_id is not None
    assert tokenizer.cls_id is not None
    assert tokenizer.sep_id is not None
    opens = ~parts.second
    sizes = parts.ends - parts.begins
    widths = sizes + 1 + opens  # [CLS] before a sequence, [SEP] behind each part
    layout = lay_out(parts.rows, widths, count, length)
    texts, inside = places(parts.begins, sizes), places(layout.at + opens, sizes)
    tokens = np.full(count * length, tokenizer.pad_id, np.int64)
    tokens[inside] = split.tokens[texts]
    tokens[layout.at[opens]] = tokenizer.cls_id
    tokens[layout.at + widths - 1] = tokenizer.sep_id
    types = np.zeros(count * length, np.int64)
    types[places(layout.at[parts.second], widths[parts.second])] = 1
    beginnings = split.words[texts].astype(np.int32)
    beginnings[(np.cumsum(sizes) - sizes)[sizes > 0]] = 1  # cut by a part's edge, it begins here
    row = np.repeat(parts.rows, sizes)
    in_row = np.bincount(row, beginnings, count).astype(np.int64)
    words = np.full(count * length, -1, np.int32)
    words[inside] = np.cumsum(beginnings) - 1 - (np.cumsum(in_row) - in_row)[row]
    starts, real = layout.sequences(opens, length)
    shape = count, length
    return Assembled(
        tokens.reshape(shape),
        words.reshape(shape),
        positions_of(starts).reshape(shape),
        types.reshape(shape),
        starts,
        real,
    )
