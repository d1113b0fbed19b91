"""The objective as a whole: rows, pairs, and the loss against a slow reference."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfsup.config import (
    MaskedTokensConfig,
    TransformerConfig,
)
from selfsup.data.corpus import Split
from selfsup.data.keys import Key
from selfsup.data.rows import PackedRows
from selfsup.data.sampler import Examples
from selfsup.data.tokenizers import Tokenizer, load_tokenizer
from selfsup.errors import UserError
from selfsup.models.transformer import MaskedLanguageModel
from selfsup.objectives.masked_tokens import MaskedTokens, overhead, unigram_baseline

WORDS = [f"w{i}" for i in range(40)] + ["."]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    return load_tokenizer(path)


def make_split(lengths: list[int], sources: list[int] | None = None) -> Split:
    """Documents whose tokens say which document they are from: 5 + number."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.repeat(5 + np.arange(len(lengths)) % 39, lengths).astype(np.uint16)
    tokens[::6] = 45  # full stops
    return Split(
        tokens,
        np.ones(len(tokens), np.uint8),
        offsets,
        np.array(sources or [0] * len(lengths), np.uint16),
    )


def every(rows: PackedRows) -> Examples:
    return Examples(np.arange(len(rows)), np.zeros(len(rows), np.int64))


LENGTHS = [100, 3, 57, 30, 200, 9, 41, 12]


@pytest.mark.parametrize("needed", [2, 3])
def test_rows_hold_every_token_once(needed: int) -> None:
    split = make_split(LENGTHS, [0, 0, 0, 0, 0, 1, 1, 1])
    rows = PackedRows.build(split, 32, needed)
    covered = np.zeros(len(split.tokens), int)
    for begin, end, document in rows.pieces:
        covered[begin:end] += 1
        assert split.documents[document] <= begin < end <= split.documents[document + 1]
    assert (covered == 1).all()
    assert sum(rows.counts) == len(rows)
    for index in range(len(rows)):
        pieces = rows.pieces_of(np.array([index]))
        assert (pieces.ends - pieces.begins + needed).sum() <= 32
        assert len(set(split.sources[pieces.documents])) == 1
    assert rows.fill() > 0.85  # rows this short lose up to 10 of 32 places at a document's end


def test_batch_has_static_shapes_and_no_specials_in_targets(tokenizer: Tokenizer) -> None:
    rows = PackedRows.build(make_split(LENGTHS), 32, 2)
    objective = MaskedTokens(MaskedTokensConfig(), rows, tokenizer)
    batch = objective.batch(every(rows), Key(0))
    assert len(batch.sequences.tokens) == 32 * len(rows)
    assert len(batch.scored) == len(rows) * round(0.15 * 32)
    used = batch.weights > 0
    assert (batch.targets[used] >= 5).all()
    again = objective.batch(every(rows), Key(0))
    assert torch.equal(batch.sequences.tokens, again.sequences.tokens)
    other = objective.batch(every(rows), Key(1))
    assert not torch.equal(batch.sequences.tokens, other.sequences.tokens)


@pytest.mark.parametrize("unit", ["token", "word", "span"])
def test_what_is_unknown_is_no_answer(unit: str, tokenizer: Tokenizer) -> None:
    split = make_split(LENGTHS)
    split.tokens[::2] = tokenizer.lost_id
    rows = PackedRows.build(split, 32, 2)
    config = MaskedTokensConfig(rate=0.4, unit=unit)  # type: ignore[arg-type]
    objective = MaskedTokens(config, rows, tokenizer)
    batch = objective.batch(every(rows), Key(0))
    assert (batch.weights > 0).sum() > len(rows)
    assert (batch.targets[batch.weights > 0] != tokenizer.lost_id).all()
    assert (batch.sequences.tokens == tokenizer.lost_id).any()  # read, though
    loss, _ = unigram_baseline(objective, rows, every(rows), Key(0))
    assert 1.5 < loss < 2  # of eight words; counted as one, the unknown half would add ln 2


def test_scored_only_equals_the_full_head(tokenizer: Tokenizer) -> None:
    rows = PackedRows.build(make_split(LENGTHS), 32, 3)
    objective = MaskedTokens(MaskedTokensConfig(pairs="next-sentence"), rows, tokenizer)
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=46, hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16
    )
    model = MaskedLanguageModel(config, pair_head=True).double()
    batch = objective.batch(every(rows), Key(0))
    score = objective.loss(model, batch)

    hidden = model(batch.sequences)
    labels = torch.full((len(hidden),), -100)
    used = batch.weights > 0
    labels[batch.scored[used]] = batch.targets[used]
    masked = F.cross_entropy(model.predict(hidden), labels, ignore_index=-100)
    answers = model.follows(hidden[batch.sequences.starts[:-1]])
    weights = torch.zeros(len(batch.sequences.starts) - 1, dtype=torch.float64)
    owner = torch.bucketize(batch.scored[used], batch.sequences.starts, right=True) - 1
    weights.index_add_(0, owner, torch.ones(len(owner), dtype=torch.float64))
    assert batch.pair_labels is not None
    each = F.cross_entropy(answers, batch.pair_labels, reduction="none")
    expected = masked + (each * weights).sum() / weights.sum()
    torch.testing.assert_close(score.loss_sum / score.count, expected)
    mine = torch.autograd.grad(score.loss_sum / score.count, list(model.parameters()))
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-7)


def pairs(tokenizer: Tokenizer, kind: str) -> tuple[PackedRows, np.ndarray, list[np.ndarray]]:
    rows = PackedRows.build(make_split([60 + 7 * i for i in range(30)]), 64, 3)
    config = MaskedTokensConfig(pairs=kind, mask=0.0, random=0.0, keep=1.0)  # type: ignore[arg-type]
    batch = MaskedTokens(config, rows, tokenizer).batch(every(rows), Key(5))
    assert batch.pair_labels is not None
    assert batch.pair_weights is not None
    starts = batch.sequences.starts.tolist()
    tokens = batch.sequences.tokens.numpy()
    cut = [tokens[a:b] for a, b in itertools.pairwise(starts)]
    real = [i for i, c in enumerate(cut) if c[0] == tokenizer.cls_id]
    return rows, batch.pair_labels.numpy()[real], [cut[i] for i in real]


def owners(part: np.ndarray) -> set[int]:
    return {int(t) for t in part if t not in (45, 2, 3)}


def test_negatives_are_never_from_the_same_document(tokenizer: Tokenizer) -> None:
    _, labels, cut = pairs(tokenizer, "next-sentence")
    assert 0.35 < labels.mean() < 0.65
    for label, tokens in zip(labels, cut, strict=True):
        assert (tokens == tokenizer.sep_id).sum() == 2
        middle = int(np.flatnonzero(tokens == tokenizer.sep_id)[0])
        first, second = owners(tokens[1:middle]), owners(tokens[middle + 1 : -1])
        if first and second:
            assert (first == second) == (label == 0)


def test_sentence_order_swaps_within_the_document(tokenizer: Tokenizer) -> None:
    rows, labels, cut = pairs(tokenizer, "sentence-order")
    assert 0.35 < labels.mean() < 0.65
    for (begin, end, _), label, tokens in zip(rows.pieces, labels, cut, strict=True):
        middle = int(np.flatnonzero(tokens == tokenizer.sep_id)[0])
        first, second = tokens[1:middle], tokens[middle + 1 : -1]
        joined = np.concatenate([second, first] if label else [first, second])
        assert np.array_equal(joined, rows.split.tokens[begin:end])


def test_single_document_gives_no_false_negatives(tokenizer: Tokenizer) -> None:
    rows = PackedRows.build(make_split([500]), 64, 3)
    objective = MaskedTokens(MaskedTokensConfig(pairs="next-sentence"), rows, tokenizer)
    labels = objective.batch(every(rows), Key(0)).pair_labels
    assert labels is not None
    assert int(labels.sum()) == 0


def test_heldout_is_measured_the_same_whatever_the_training_rate(tokenizer: Tokenizer) -> None:
    rows = PackedRows.build(make_split(LENGTHS), 32, 2)
    batches = [
        MaskedTokens(MaskedTokensConfig(rate=rate, unit=unit), rows, tokenizer)  # type: ignore[arg-type]
        .heldout(rows)
        .batch(every(rows), Key(0, 1))
        for rate, unit in ((0.3, "word"), (0.15, "token"))
    ]
    assert torch.equal(batches[0].sequences.tokens, batches[1].sequences.tokens)
    assert torch.equal(batches[0].scored, batches[1].scored)


def test_unigram_baseline_is_the_cross_entropy_of_frequencies(tokenizer: Tokenizer) -> None:
    rows = PackedRows.build(make_split(LENGTHS), 32, overhead(MaskedTokensConfig()))
    objective = MaskedTokens(MaskedTokensConfig(), rows, tokenizer)
    loss, accuracy = unigram_baseline(objective, rows, every(rows), Key(0))
    batch = objective.batch(every(rows), Key(0))
    counts = np.bincount(rows.split.tokens, minlength=46) + 1
    used = batch.weights.numpy() > 0
    targets = batch.targets.numpy()[used]
    assert loss == pytest.approx(float(-np.log(counts / counts.sum())[targets].mean()))
    assert accuracy == pytest.approx(float((targets == counts.argmax()).mean()))


def test_tokenizer_without_mask_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]) + "\n")
    rows = PackedRows.build(make_split(LENGTHS), 32, 2)
    with pytest.raises(UserError, match=r"\[MASK\]"):
        MaskedTokens(MaskedTokensConfig(), rows, load_tokenizer(path))


@pytest.mark.parametrize("missing", ["[MASK]", "[CLS]", "[SEP]", "[PAD]"])
def test_a_tokenizer_without_a_needed_token_is_refused(tmp_path: Path, missing: str) -> None:
    names = [t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t != missing]
    (tmp_path / "vocab.txt").write_text("\n".join([*names, *WORDS]) + "\n")
    rows = PackedRows.build(make_split(LENGTHS), 32, 2)
    with pytest.raises(UserError, match=re.escape(f"the tokenizer has no {missing} token")):
        MaskedTokens(MaskedTokensConfig(), rows, load_tokenizer(tmp_path / "vocab.txt"))
