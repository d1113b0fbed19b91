"""Short sequences side by side in rows, so that attention takes few products with much in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MANY = 16
"""Rows of one length from which they are worth products of their own."""


def shared_rows(
    members: NDArray[np.int64], counts: NDArray[np.int64], width: int
) -> list[list[int]]:
    """Share rows of `width` places out: the longest that fits goes in next (first fit decreasing).

    Args:
        members: the sequences to place, numbers into `counts`.
        counts: tokens of every sequence; those of members are at most `width`.
        width: places in a row.

    Returns:
        The sequences of each row.
    """
    left: list[list[int]] = [[] for _ in range(width + 1)]
    for i in members[::-1].tolist():
        left[counts[i]].append(i)
    rows: list[list[int]] = []
    longest = width
    while True:
        while longest and not left[longest]:
            longest -= 1
        if not longest:
            return rows
        row, size, room = [], longest, width
        while size:
            if left[size]:
                row.append(left[size].pop())
                room -= size
            else:
                size -= 1
            size = min(size, room)
        rows.append(row)


def parted_rows(
    rows: list[list[int]], counts: NDArray[np.int64], width: int, step: int
) -> list[tuple[int, list[list[int]]]]:
    """Take out the rows with one sequence that would fit shorter rows, where there are many.

    Args:
        rows: the sequences of each, numbers into `counts`.
        counts: tokens of every sequence.
        width: places in a row.
        step: between the lengths of shorter rows.

    Returns:
        (length, rows) for each length that is left or new.
    """
    by_length: dict[int, list[list[int]]] = {width: []}
    for row in rows:
        needed = -(-int(counts[row[0]]) // step) * step if len(row) == 1 else width
        by_length.setdefault(needed, []).append(row)
    for length in [x for x, few in by_length.items() if len(few) < _MANY and x != width]:
        by_length[width] += by_length.pop(length)
    return [(length, found) for length, found in by_length.items() if found]


def places_of(
    rows: list[list[int]], width: int, begins: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, width) the token in each place, and the sequence it is of: -1 in gaps."""
    members = np.concatenate([np.array(row, np.int64) for row in rows])
    of_row = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    sizes = counts[members]
    before = np.cumsum(sizes) - sizes
    first = np.flatnonzero(np.diff(of_row, prepend=-1))
    at = of_row * width + before - before[first][of_row]
    within = np.arange(sizes.sum()) - np.repeat(before, sizes)
    places = np.repeat(at, sizes) + within
    tokens = np.repeat(begins[members[first]], width)  # in gaps: a token that is there
    tokens[places] = np.repeat(begins[members], sizes) + within
    owner = np.full(len(rows) * width, -1)
    owner[places] = np.repeat(members, sizes)
    return tokens.reshape(-1, width), owner.reshape(-1, width)
