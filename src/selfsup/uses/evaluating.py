"""A decoder on texts: how many bits it needs for a byte of them, beside xz."""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from typing import Any

from selfsup.config import SourceConfig
from selfsup.data.files import OnBadRow
from selfsup.data.sources import ReadReport, read_documents
from selfsup.data.tokenizers import Tokenizer
from selfsup.data.unknown import known_letters
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.training.progress import Progress
from selfsup.uses.likelihood import BATCH_TOKENS, Tell, bits_per_byte


def evaluate_decoder(
    model: str,
    data: str,
    *,
    column: str = "text",
    on_bad_row: OnBadRow = "stop",
    stride: int | None = None,
    device: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
    quiet: bool = False,
) -> dict[str, Any]:
    """Open a decoder and score it on texts.

    Args:
        model: a run folder, a model folder or a hub name.
        data: a file, folder or glob, as for pre-training; a file of `.txt` is one document.
        column: of the text, in tables.
        on_bad_row: stop at a row that cannot be read, or skip it.
        stride: see `bits_per_byte`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        batch_tokens: tokens read at once.
        quiet: show no progress.

    Raises:
        UserError: no decoder, no text, or an impossible stride.
    """
    source = SourceConfig(path=data, column=column, on_bad_row=on_bad_row)
    report = ReadReport()
    texts = [document.text for document in read_documents(source, report)]
    pretrained = load_decoder(model, device)
    display = Progress(quiet=quiet, title="evaluate")
    try:
        result = evaluate_texts(
            pretrained,
            texts,
            stride=stride,
            batch_tokens=batch_tokens,
            tell=lambda done: display.update(done, "reading"),
        )
    except UserError as error:
        raise UserError(error.what, where=error.where or data, mend=error.mend) from None
    finally:
        display.close()
    if report.notes:
        result["note"] = "; ".join([*report.notes, *([result["note"]] if "note" in result else [])])
    if report.bad_rows:
        result["rows_skipped"] = report.bad_rows
    return result


def evaluate_texts(
    pretrained: PretrainedDecoder,
    texts: Sequence[str],
    *,
    stride: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
    tell: Tell | None = None,
) -> dict[str, Any]:
    """Bits per byte and their like, beside what xz needs for the same texts.

    Raises:
        UserError: as `bits_per_byte`.
    """
    found = bits_per_byte(pretrained, texts, stride=stride, batch_tokens=batch_tokens, tell=tell)
    result: dict[str, Any] = {
        "bits_per_byte": found.bits_per_byte,
        "xz_bits_per_byte": xz_bits_per_byte(texts),
        "nats_per_token": found.nats_per_token,
        "perplexity": found.perplexity,
        "documents": found.documents,
        "bytes": found.bytes,
        "tokens": found.tokens,
        "window": pretrained.max_length,
        "stride": pretrained.max_length // 2 if stride is None else stride,
    }
    tokenizer = pretrained.tokenizer
    notes = []
    if found.unknown:
        notes.append(
            f"{found.unknown:,} of {found.tokens:,} tokens are unknown to the model"
            f"{known_letters(tokenizer)}; it has not learned to guess such, so they make bits per byte "
            "no measure of what they stand for"
        )
    if tokenizer.byte_lengths is None or any(_loses_case(tokenizer, text) for text in texts):
        notes.append(
            "this tokenizer does not give back the text it read (case, accents or spaces are lost), "
            "so its bits per byte are too few"
        )
    if notes:
        result["note"] = "; ".join(notes)
    return result


def _loses_case(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the tokenizer reads a text's letters as others of theirs: capitals, in an alphabet of those."""
    normalizer: Any = tokenizer.inner.normalizer
    read = text if normalizer is None else str(normalizer.normalize_str(text))
    return read != text and read.lower() == text.lower()


def xz_bits_per_byte(texts: Sequence[str]) -> float:
    """What xz at its strongest preset makes of the same texts, one after another: the honest floor.

    It starts from nothing, so it is the better the longer the texts are.
    """
    data = "".join(texts).encode()
    return 8 * len(lzma.compress(data, preset=9)) / len(data)
