"""Token shards: documents tokenized once, memory-mapped ever after.

`prepare_corpus` reads all sources, drops what is empty, short or there already, holds some
documents out, and writes one folder named by the fingerprint of everything that went in:

    <cache>/<fingerprint>/
        meta.json                   counts, and the fingerprints of tokenizer and texts
        train/, heldout/
            tokens.bin              uint16 or uint32: the documents' tokens, one after another
            words.bin               uint8: 1 where a word starts
            documents.npy           int64 (documents + 1): where each begins
            sources.npy             uint16 (documents): which source it is from
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from selfsup.config import DataConfig
from selfsup.data.admission import (
    Admission,
    Admitted,
    admitted_documents,
    named_sources,
    training_sample,
)
from selfsup.data.files import PLAIN_SUFFIXES, file_kind, find_files
from selfsup.data.home import cache_folder
from selfsup.data.paths import expanded
from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import NO_SPACE, UserError

__all__ = [
    "Corpus",
    "Split",
    "corpus_fingerprint",
    "open_corpus",
    "prepare_corpus",
    "refuse_one_document",
    "training_sample",
]

_FORMAT = 3
_READINGS = {".tsv": "tsv 2", ".parquet": "parquet 2"}
"""Kinds of files that were once read in another way: what was made from them is made anew."""
_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 4096

Progress = Callable[[int], None]
"""Called with the characters done since the last call."""


@dataclass(frozen=True)
class Split:
    """The documents of one split; `len()` is their number."""

    tokens: NDArray[np.uint16 | np.uint32]
    """(tokens,) memory-mapped."""
    words: NDArray[np.uint8]
    """(tokens,) memory-mapped: 1 where a word starts."""
    documents: NDArray[np.int64]
    """(documents + 1,) where each document begins."""
    sources: NDArray[np.uint16]
    """(documents,) index of its source in the configuration."""

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.documents) - 1

    def document(self, index: int) -> NDArray[np.uint16 | np.uint32]:
        """(tokens of the document,) a view into the memory map."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} of {len(self)}")
        index %= len(self)
        return self.tokens[self.documents[index] : self.documents[index + 1]]


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus."""

    folder: Path
    meta: dict[str, Any]
    """What `meta.json` holds."""
    train: Split
    heldout: Split


def prepare_corpus(
    data: DataConfig, tokenizer: Tokenizer, *, progress: Progress | None = None
) -> Corpus:
    """Tokenize a corpus, or open it when that was done before.

    Memory stays bounded but for 16 bytes a document, and the longest document with its tokens.
    Processes that prepare the same corpus at once do not disturb each other; the first to finish wins.

    Args:
        data: sources, hold-out and limits; `length` and the weights change nothing here.
        tokenizer: makes the tokens.
        progress: called with the characters tokenized since the last call.

    Raises:
        UserError: data cannot be read, nothing is left to train on or to hold out, or the disk is
            full.
    """
    cache = expanded(data.cache) if data.cache else cache_folder("corpora")
    folder = cache / corpus_fingerprint(data, tokenizer)
    if (folder / "meta.json").is_file():
        return open_corpus(folder)
    temporary: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache))
        temporary.chmod(0o755)  # made for its owner alone; a cache may be shared
        _write(temporary, data, tokenizer, progress)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():
                raise
            # Another process was first; its shards are the same.
    except OSError as error:
        if error.errno in NO_SPACE and error.errno != errno.EFBIG:
            mend = "free some, or choose another folder with data.cache"
            raise UserError(
                "no space is left for token shards", where=str(cache), mend=mend
            ) from error
        why = NO_SPACE.get(error.errno or 0, error.strerror or error)
        what = f"token shards cannot be written ({why})"
        raise UserError(
            what, where=str(cache), mend="choose another folder with data.cache"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return open_corpus(folder)


def corpus_fingerprint(data: DataConfig, tokenizer: Tokenizer) -> str:
    """16 hexadecimal digits of all that decides the shards: data and tokenizer."""
    parts = [_FORMAT, data_fingerprint(data), tokenizer.fingerprint]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def data_fingerprint(data: DataConfig) -> str:
    """16 hexadecimal digits of the files (path, size, time of change) and how they are read."""
    from selfsup.data.docstrings import docstrings_key

    sources: list[object] = []
    for source in data.sources:
        stamps: list[object] = []
        files = find_files(source)
        kinds = set(map(file_kind, files))
        for path in files:
            state = path.stat()
            stamps.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
        if source.path.startswith("docstrings:"):
            stamps.append(docstrings_key())
        elif source.path.startswith("hub:"):
            stamps.append(source.path)
        stamps += sorted({mark for kind, mark in _READINGS.items() if kind in kinds})
        sources.append([stamps, source.unit, source.column, source.on_bad_row])
    parts = [sources, data.heldout, data.min_characters, data.duplicates]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def open_corpus(folder: Path) -> Corpus:
    """Map a prepared corpus into memory.

    Raises:
        UserError: it is not complete.
    """
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        dtype = np.dtype(meta["dtype"])
        return Corpus(
            folder,
            meta,
            _open_split(folder / "train", dtype),
            _open_split(folder / "heldout", dtype),
        )
    except (OSError, ValueError, KeyError) as error:
        what = f"the prepared corpus is damaged ({error})"
        raise UserError(
            what, where=str(folder), mend="delete this folder, it is made anew"
        ) from error


def _open_split(folder: Path, dtype: np.dtype[Any]) -> Split:
    documents: NDArray[np.int64] = np.load(folder / "documents.npy", allow_pickle=False)
    sources: NDArray[np.uint16] = np.load(folder / "sources.npy", allow_pickle=False)
    tokens = np.memmap(folder / "tokens.bin", dtype, "r")
    words = np.memmap(folder / "words.bin", np.uint8, "r")
    if not len(tokens) == len(words) == documents[-1] or len(sources) != len(documents) - 1:
        raise ValueError(f"{folder.name} has files of different lengths")
    return Split(tokens, words, documents, sources)


# Writing ----------------------------------------------------------------------------------------


@dataclass
class _Counts:
    documents: int = 0
    tokens: int = 0
    characters: int = 0
    bytes: int = 0
    """In UTF-8."""
    unknown: int = 0
    """Tokens that are [UNK]."""

    def add(self, text: str, tokens: int, unknown: int) -> None:
        self.documents += 1
        self.tokens += tokens
        self.characters += len(text)
        self.bytes += len(text) if text.isascii() else len(text.encode())
        self.unknown += unknown


class _SplitWriter:
    """Appends documents to the files of one split."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        folder.mkdir()
        self.counts = _Counts()
        self._folder, self._dtype = folder, dtype
        self._offsets = [0]
        self._sources: list[int] = []

    def __enter__(self) -> Self:
        self._files = ExitStack()
        self._tokens = self._files.enter_context((self._folder / "tokens.bin").open("wb", 1 << 20))
        self._words = self._files.enter_context((self._folder / "words.bin").open("wb", 1 << 20))
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, ids: NDArray[np.int64], starts: NDArray[np.bool_], source: int) -> None:
        # Not `tofile`: its error on a full disk carries no number to know it by.
        self._tokens.write(ids.astype(self._dtype).data)
        self._words.write(starts.view(np.uint8).data)
        self._offsets.append(self._offsets[-1] + len(ids))
        self._sources.append(source)

    def finish(self) -> None:
        np.save(self._folder / "documents.npy", np.array(self._offsets, np.int64))
        np.save(self._folder / "sources.npy", np.array(self._sources, np.uint16))


def _batches(documents: Iterator[Admitted]) -> Iterator[list[Admitted]]:
    batch: list[Admitted] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS or len(batch) == _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


_Tokens = tuple[list[NDArray[np.int64]], list[NDArray[np.bool_]]]


def _tokenized(
    documents: Iterator[Admitted], tokenizer: Tokenizer
) -> Iterator[tuple[list[Admitted], _Tokens]]:
    """Batches and their tokens; the next batch is read and tokenized while this one is written."""
    waiting: tuple[list[Admitted], Future[_Tokens]] | None = None
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="tokenize") as thread:
        for batch in _batches(documents):
            future = thread.submit(tokenizer.encode_documents, [item.text for item in batch])
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = batch, future
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _write(folder: Path, data: DataConfig, tokenizer: Tokenizer, progress: Progress | None) -> None:
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    admission = Admission()
    digest = hashlib.blake2b(digest_size=16)
    by_source = [_Counts() for _ in data.sources]
    with (
        _SplitWriter(folder / "train", dtype) as train,
        _SplitWriter(folder / "heldout", dtype) as heldout,
    ):
        for batch, tokens in _tokenized(admitted_documents(data, admission), tokenizer):
            for document, ids, starts in zip(batch, *tokens, strict=True):
                if not len(ids):  # nothing but characters that the normalizer drops
                    admission.empty += 1
                    continue
                writer = heldout if document.heldout else train
                writer.add(ids, starts, document.source)
                unknown = int(np.count_nonzero(ids == tokenizer.lost_id))
                writer.counts.add(document.text, len(ids), unknown)
                by_source[document.source].add(document.text, len(ids), unknown)
                digest.update(document.key)
            if progress is not None:
                progress(sum(len(document.text) for document in batch))
        _refuse_empty(data, admission, train.counts.documents, heldout.counts.documents)
        train.finish()
        heldout.finish()
    counts = {"train": asdict(train.counts), "heldout": asdict(heldout.counts)}
    sources = [
        {"path": source.path, **asdict(count)}
        for source, count in zip(data.sources, by_source, strict=True)
    ]
    meta = _meta(counts, sources, admission) | {
        "tokenizer": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "dtype": dtype.name,
        "digest": digest.hexdigest(),
    }
    written = json.dumps(meta, indent=2, ensure_ascii=False) + "\n"
    (folder / "meta.json").write_text(written, encoding="utf-8")


def _meta(
    counts: dict[str, dict[str, Any]], sources: list[dict[str, Any]], admission: Admission
) -> dict[str, Any]:
    """`meta.json` but for the fingerprints; see `prepare_corpus`."""
    both = counts.values()
    tokens = sum(split["tokens"] for split in both)
    return {
        "format": _FORMAT,
        "splits": counts,
        "sources": sources,
        "files": admission.read.files,
        "documents_read": admission.read.documents,
        "duplicates": admission.duplicates,
        "dropped": admission.too_short + admission.empty,
        "too_short": admission.too_short,
        "empty": admission.empty,
        "bad_rows": admission.read.bad_rows,
        "bad_examples": admission.read.bad_examples,
        "notes": admission.read.notes,
        "unknown_share": sum(split["unknown"] for split in both) / tokens,
    }


def refuse_one_document(data: DataConfig) -> None:
    """Refuse one file of text that is one document, of which nothing can be held out, before all work.

    Raises:
        UserError: as `prepare_corpus`.
    """
    (source, *others) = data.sources
    if others or source.unit != "file" or source.path.startswith(("docstrings:", "hub:")):
        return
    files = find_files(source)
    if len(files) > 1 or file_kind(files[0]) not in (".txt", *PLAIN_SUFFIXES):
        return
    admission = Admission()
    for document in admitted_documents(data, admission):
        if not document.heldout:
            _refuse_empty(data, admission, 1, 0)


def _refuse_empty(data: DataConfig, admission: Admission, train: int, heldout: int) -> None:
    where = named_sources(data)
    if not train + heldout:
        read = admission.read
        what = (
            f"no document is left: {read.documents} read, {admission.empty} empty, "
            f"{admission.too_short} shorter than {data.min_characters} characters, "
            f"{read.bad_rows} bad rows"
        )
        mend = f"the first bad row: {read.bad_examples[0]}" if read.bad_examples else ""
        raise UserError(what, where=where, mend=mend or "see column, unit and min_characters")
    if not heldout or not train:
        share = f"{data.heldout:g} of {train + heldout} documents"
        what = f"nothing is held out ({share})" if not heldout else f"all is held out ({share})"
        least = math.ceil(admission.lowest * 1000 + 1e-9) / 1000
        if heldout:
            other = "a smaller data.heldout"
        elif train > 1 and least < 0.5:
            other = f"--data.heldout {least:g}, which holds a document out"
        else:
            other = "a larger data.heldout"
        mend = f"give more documents, set unit to line or paragraph, or {other}"
        raise UserError(what, where=where, mend=mend)
