"""Reading many token sequences that begin alike: what they share is read once."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.batching import by_length
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.nn.cache import KeyValueCache, continuations
from selfsup.nn.sequences import Sequences

SHORTEST = 16
"""Tokens that must be shared to be worth a cache."""
_WORTH = 0.2
"""Share of a group's tokens that must be saved to be worth a cache."""
_CACHED = 4
"""Tokens kept in a cache, for each that is read at once."""


@dataclass(frozen=True)
class Group:
    """Sequences with a common beginning."""

    shared: int
    """Its tokens; 0: nothing is shared."""
    rows: list[int]
    """Numbers of the sequences."""


@dataclass(frozen=True)
class Part:
    """Some of the sequences, read."""

    rows: list[int]
    """Their numbers."""
    hidden: Tensor
    """(M, hidden) vectors of each one's last tokens that are wanted, one sequence after another."""


def groups(ids: Sequence[NDArray[np.int64]], most: Sequence[int]) -> list[Group]:
    """Sequences put together where reading a common beginning once saves tokens.

    Sorted as in a dictionary, neighbours share most.  A group grows as long as it saves no less than
    it did; so all questions behind the same examples are one group, and the choices of a question
    without examples are one.

    Args:
        ids: token ids of each.
        most: of each, how many tokens may count as shared (what stands after is needed).
    """
    order = sorted(range(len(ids)), key=lambda i: ids[i].astype(">u4").tobytes())
    found: list[Group] = []
    for row in order:
        last = found[-1] if found else None
        if last is not None:
            count = len(last.rows)
            limit = min(last.shared if count > 1 else most[last.rows[0]], most[row])
            same = common(ids[last.rows[0]][:limit], ids[row][:limit])
            saved = (count - 1) * last.shared
            if same >= SHORTEST and count * same >= saved:
                found[-1] = Group(same, [*last.rows, row])
                continue
        found.append(Group(0, [row]))
    return found


def common(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """How many tokens two sequences have in common from their beginning."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length


def read(
    pretrained: PretrainedDecoder,
    ids: Sequence[NDArray[np.int64]],
    wanted: Sequence[int],
    *,
    batch_tokens: int,
) -> Iterator[Part]:
    """Read all sequences, common beginnings once.

    Args:
        pretrained: a decoder.
        ids: token ids of each, at least one, at most as many as the model reads.
        wanted: of each, how many of its last tokens' vectors are wanted: at least one.
        batch_tokens: tokens read at once.
    """
    pays: list[Group] = []
    alone: list[int] = []
    for group in groups(ids, [len(one) - n for one, n in zip(ids, wanted, strict=True)]):
        together = sum(len(ids[i]) for i in group.rows)
        if (len(group.rows) - 1) * group.shared >= _WORTH * together:
            pays.append(group)
        else:
            alone += group.rows
    for batch in by_length([len(ids[row]) for row in alone], batch_tokens):
        rows = [alone[i] for i in batch]
        sequences = Sequences.from_lists([ids[i] for i in rows]).to(pretrained.device)
        places = _last(sequences.starts, [wanted[row] for row in rows])
        yield Part(rows, pretrained.model(sequences, places=places))
    for chosen in _batches(pays, ids, _CACHED * batch_tokens):
        yield from _read_tails(pretrained, ids, wanted, chosen, _CACHED * batch_tokens)


def _last(starts: Tensor, wanted: Sequence[int]) -> Tensor:
    """Places of so many last tokens of each sequence."""
    ends = starts[1:].tolist()
    return torch.cat([torch.arange(e - n, e) for e, n in zip(ends, wanted, strict=True)])


def _batches(
    found: Sequence[Group], ids: Sequence[NDArray[np.int64]], limit: int
) -> Iterator[list[Group]]:
    """Groups of like length whose rows fit side by side in a cache of `limit` tokens."""
    longest = [max(len(ids[i]) for i in g.rows) for g in found]
    batch: list[Group] = []
    rows = widest = 0
    for number in np.argsort(-np.array(longest, np.int64), kind="stable").tolist():
        group = found[number]
        if batch and (rows + len(group.rows)) * widest > limit:
            yield batch
            batch, rows = [], 0
        if not batch:
            widest = longest[number]
        batch.append(group)
        rows += len(group.rows)
    if batch:
        yield batch


def _read_tails(
    pretrained: PretrainedDecoder,
    ids: Sequence[NDArray[np.int64]],
    wanted: Sequence[int],
    together: Sequence[Group],
    limit: int,
) -> Iterator[Part]:
    """Read what the groups share, then what follows, in parts."""
    device = pretrained.device
    capacity = max(len(ids[row]) for group in together for row in group.rows)
    dtype = next(pretrained.model.parameters()).dtype
    base = KeyValueCache(pretrained.config, len(together), capacity, device=device, dtype=dtype)
    heads = [ids[group.rows[0]][: group.shared] for group in together]
    nothing = torch.zeros(0, dtype=torch.int64)  # keys and values are all that is asked of these
    pretrained.model(Sequences.from_lists(heads).to(device), cache=base, places=nothing)
    members = [(place, row) for place, group in enumerate(together) for row in group.rows]
    members.sort(key=lambda m: len(ids[m[1]]) - together[m[0]].shared)
    at_once = max(1, limit // capacity)
    for first in range(0, len(members), at_once):
        chosen = members[first : first + at_once]
        cache = copy.copy(base)  # `keep` makes tensors of its own
        cache.keep(torch.tensor([place for place, _ in chosen]))
        before = cache.lengths.tolist()
        tails = [ids[row][n:] for (_, row), n in zip(chosen, before, strict=True)]
        batch = continuations([torch.from_numpy(tail).to(device) for tail in tails], cache.lengths)
        rows = [row for _, row in chosen]
        places = _last(batch.starts, [wanted[row] for row in rows])
        yield Part(rows, pretrained.model(batch, cache=cache, places=places))
