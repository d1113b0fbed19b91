"""Which documents go into a corpus, and which of them are held out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from selfsup.config import DataConfig
from selfsup.data.files import is_packed
from selfsup.data.sources import ReadReport, find_files, read_documents
from selfsup.errors import UserError, counted

_UNPACKED = 3.5  # bytes of text in a byte of a packed file, about

_LONG = 100_000
"""Characters from which on a tokenizer learns from a text in parts: it takes 75 bytes for each of a part."""
# a part begins with the white space before a word, as the tokens of byte-level BPE do
_CUT = re.compile(r"(?<=\S)(?=\s)")

_NAMED = 3  # sources in a message
_SEE = "name files with text, or see column, unit and min_characters"


class Admitted(NamedTuple):
    """A document that goes in."""

    text: str
    key: bytes
    """blake2b of the text, 16 bytes."""
    source: int
    heldout: bool


@dataclass
class Admission:
    """What was read and what was turned away so far."""

    read: ReadReport = field(default_factory=ReadReport)
    duplicates: int = 0
    too_short: int = 0
    empty: int = 0
    lowest: float = 1.0
    """The least share that would hold a document out."""


def text_key(text: str) -> bytes:
    """What tells texts apart: 16 bytes of blake2b."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def is_heldout(key: bytes, share: float) -> bool:
    """Whether a text with that key is held out; it depends on nothing else."""
    return place_of(key) < share


def place_of(key: bytes) -> float:
    """Where a text stands between 0 and 1; below `data.heldout` it is held out."""
    return int.from_bytes(key[:8], "big") / 2**64


def admitted_documents(data: DataConfig, admission: Admission) -> Iterator[Admitted]:
    """The documents of all sources, without empty and short ones, nor exact duplicates unless kept.

    Whether a document is held out depends on its text alone, so adding data moves none across.

    Args:
        data: the sources and limits.
        admission: counts, added to while reading.

    Raises:
        UserError: there is no source, or one cannot be read.
    """
    if not data.sources:
        mend = "name a file, a folder or a glob, or docstrings: for a first try"
        raise UserError("no data is given", where="data.sources", mend=mend)
    seen: set[bytes] = set()
    for number, source in enumerate(data.sources):
        for text, _ in read_documents(source, admission.read):
            if not text or text.isspace():
                admission.empty += 1
                continue
            if len(text) < data.min_characters:
                admission.too_short += 1
                continue
            key = text_key(text)
            if data.duplicates == "drop":
                if key in seen:
                    admission.duplicates += 1
                    continue
                seen.add(key)
            place = place_of(key)
            admission.lowest = min(admission.lowest, place)
            yield Admitted(text, key, number, place < data.heldout)


def training_sample(data: DataConfig, megabytes: float) -> Iterator[str]:
    """Training documents for making a tokenizer: at most so many megabytes, never a held-out one.

    When the files hold more, documents are kept by hash with equal probability, so that all files
    have their share and the sample is the same each time.  Of a few large ones at least one is kept, or
    so much of its beginning.  Long documents come in parts, cut at white space.

    Args:
        data: the corpus.
        megabytes: 10⁶ bytes of UTF-8.

    Raises:
        UserError: as `admitted_documents`; or there is no such document.
    """
    cap = megabytes * 1e6
    total = 0.0
    for source in data.sources:
        for path in find_files(source):
            total += path.stat().st_size * (_UNPACKED if is_packed(path) else 1)
        if source.path.startswith("docstrings:"):
            from selfsup.data.docstrings import read_docstrings

            total += sum(len(text.encode()) for text, *_ in read_docstrings())
    kept_share = min(1.0, cap / total) if total else 1.0
    used, heldout = 0, 0
    nearest = 1.0, ""
    admission = Admission()
    for document in admitted_documents(data, admission):
        heldout += document.heldout
        # The first 8 bytes of the key decide on holding out: these are independent of it.
        draw = int.from_bytes(document.key[8:], "big") / 2**64
        if document.heldout or draw >= kept_share:
            if not document.heldout and not used:
                nearest = min(nearest, (draw, document.text))
            continue
        size = len(document.text.encode())
        if used + size > cap and used:
            return
        first, used = not used, used + size
        yield from _parts(document.text, cap if first else size)
    if nearest[1] and not used:
        yield from _parts(nearest[1], cap)
    elif not used:
        read = admission.read
        what = (
            f"there is no text to make a tokenizer from ({counted(read.documents, 'document')} read"
        )
        mend = f"the first bad row: {read.bad_examples[0]}" if read.bad_examples else _SEE
        if heldout:
            what, mend = f"{what}, {heldout} held out", "give more documents, or set unit"
        raise UserError(f"{what})", where=named_sources(data), mend=mend)


def _parts(text: str, most: float) -> Iterator[str]:
    """A text as it is, or a long one in parts; about so many bytes of UTF-8, of a long one, at most."""
    if len(text) <= _LONG:
        yield text
        return
    begin = 0
    while begin < len(text) and most > 0:
        place = _CUT.search(text, begin + _LONG)
        end = min(place.start() if place else len(text), begin + max(int(most), 2 * _LONG))
        yield text[begin:end]
        most -= len(text[begin:end].encode())
        begin = end


def named_sources(data: DataConfig) -> str:
    """The sources, for messages about them all."""
    paths = [source.path for source in data.sources]
    return ", ".join(paths[:_NAMED]) + (f" and {len(paths) - _NAMED} more" * (len(paths) > _NAMED))
