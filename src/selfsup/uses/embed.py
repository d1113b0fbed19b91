"""Embeddings: one vector for each text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.data.inputs import list_texts
from selfsup.data.unknown import unknown_share_note, unknown_tokens
from selfsup.errors import UserError, check_count, no_numbers
from selfsup.models.hub import Pretrained, as_encoder
from selfsup.models.task_model import mean_vectors
from selfsup.nn.device import keep_freed_memory
from selfsup.nn.sequences import Sequences
from selfsup.nn.side_by_side import read_texts
from selfsup.training.devices import Precision, check_precision, choose_precision

_CHUNK = 4096  # texts tokenised at once, so that memory stays bounded


def embed(
    pretrained: Pretrained | str | Path,
    texts: Iterable[str],
    *,
    pooling: str = "auto",
    normalize: bool | None = None,
    batch_tokens: int = 2048,
    precision: str = "fp32",
) -> NDArray[np.float32]:
    """Vectors of texts, (texts, hidden), float32.

    Texts of mixed length are read without padding, longest first, in batches; a CPU reads one for each
    of torch's threads at once, at most 8, and the process keeps their memory until it ends.  Where a
    sentence-transformers folder names a prompt (`default_prompt_name`), it stands before each text.

    Args:
        pretrained: from `selfsup.load`, or what that takes.
        texts: longer ones than the model reads are cut at the end.
        pooling: `mean` over all tokens, `cls` for the first token's vector, or `auto`: as the
            model's folder says, else `mean`.
        normalize: to unit length; None: as the model's folder says.
        batch_tokens: tokens of a batch.
        precision: `fp32`; `bf16` is faster where the processor has it, and close (cosine 0.9999 in
            docs/log.md); `auto` takes it where a probe shows gain.

    Raises:
        UserError: no encoder, an item that is no text, or a bad setting.
    """
    return embed_telling(
        pretrained,
        texts,
        pooling=pooling,
        normalize=normalize,
        batch_tokens=batch_tokens,
        precision=precision,
        notes=[],
    )


def embed_telling(
    pretrained: Pretrained | str | Path,
    texts: Iterable[str],
    *,
    pooling: str = "auto",
    normalize: bool | None = None,
    batch_tokens: int = 2048,
    precision: str = "fp32",
    notes: list[str],
    progress: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """What `embed` gives, which says on the way how it goes.

    Args:
        pretrained, texts, pooling, normalize, batch_tokens, precision: as for `embed`.
        notes: gets what the model does not read of the texts: their ends, unknown tokens.
        progress: called with the number of texts read so far.
    """
    check_count(1, batch_tokens, "--batch-tokens")
    pretrained, texts = as_encoder(pretrained), list_texts(texts)
    pooling = pretrained.pooling if pooling == "auto" else pooling
    if pooling not in {"mean", "cls"}:
        raise UserError(f"unknown pooling '{pooling}'", where="--pooling", mend="use mean or cls")
    unit = pretrained.normalize if normalize is None else normalize
    device = next(pretrained.model.parameters()).device
    if device.type == "cpu":
        keep_freed_memory()
    numbers = reading_precision(precision, device)
    vectors = np.zeros((len(texts), pretrained.config.hidden_size), np.float32)
    longest, cut, strange, total, done = pretrained.max_length, 0, 0, 0, 0
    for first in range(0, len(texts), _CHUNK):
        given = [pretrained.prompt + text for text in texts[first : first + _CHUNK]]
        whole = pretrained.tokenizer.encode_batch(given)
        cut += sum(len(row) > longest for row in whole)
        lost, there = unknown_tokens(pretrained.tokenizer, whole)
        strange, total = strange + lost, total + there
        ids = _cut(whole, longest)
        lengths = [len(row) for row in ids]

        def read(
            rows: NDArray[np.int64], ids: list[NDArray[np.int64]] = ids
        ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            with numbers.autocast(device):
                return rows, _pool(pretrained, [ids[i] for i in rows], pooling)

        for rows, found in read_texts(read, lengths, pretrained.model, numbers.dtype, batch_tokens):
            vectors[first + rows] = found
            done += len(rows)
            progress(done)
    if not np.isfinite(vectors).all():
        raise no_numbers(
            str(pretrained.path), "vectors", "check its weights, or try --precision fp32"
        )
    if pretrained.prompt:
        notes.append(f"each text is read behind '{pretrained.prompt}', as the model's folder says")
    if cut:
        verb = "text is" if cut == 1 else "texts are"
        most = f"{longest:,} tokens that the model reads"
        notes.append(f"{cut} {verb} longer than the {most}: cut")
    if unknown := unknown_share_note(pretrained.tokenizer, strange, total):
        notes.append(unknown)
    if unit:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def reading_precision(name: str, device: torch.device) -> Precision:
    """The number format of a reading; in fp32 nothing is measured.

    Raises:
        UserError: neither fp32, bf16 nor auto.
    """
    check_precision(name)
    if name == "fp32":
        return Precision(torch.float32, "asked for", 0.0)
    return choose_precision(name, device)


def tokenize(pretrained: Pretrained, texts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Token ids with special tokens, cut to what the model reads."""
    return _cut(pretrained.tokenizer.encode_batch(list(texts)), pretrained.max_length)


def _cut(rows: list[NDArray[np.int64]], longest: int) -> list[NDArray[np.int64]]:
    return [r if len(r) <= longest else np.concatenate([r[: longest - 1], r[-1:]]) for r in rows]


def _pool(
    pretrained: Pretrained, ids: list[NDArray[np.int64]], pooling: str
) -> NDArray[np.float32]:
    device = next(pretrained.model.parameters()).device
    batch = Sequences.from_lists(ids).to(device)
    if pooling == "cls":
        pooled = pretrained.encoder(batch, places=batch.starts[:-1])
    else:
        pooled = mean_vectors(pretrained.encoder(batch), batch)
    return np.asarray(pooled.float().cpu().numpy())
