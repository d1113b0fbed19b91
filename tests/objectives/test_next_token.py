"""The next token: what is guessed, the loss against a slow reference, bits per byte."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfsup.config import (
    BytePairConfig,
    CharacterConfig,
    NextTokenConfig,
    PretrainConfig,
    SymbolConfig,
    WordPieceConfig,
)
from selfsup.data.corpus import Split
from selfsup.data.keys import Key
from selfsup.data.rows import PackedRows
from selfsup.data.sampler import Examples
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.errors import UserError
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.sequences import Sequences
from selfsup.objectives.next_token import OVERHEAD, NextToken

TEXTS = [
    "the cat sat on the mat. " * 5,
    "Käse",
    "a dog and the cat, 汉字 too. " * 3,
    "x",
    "mat on cat. " * 9,
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(BytePairConfig(vocab_size=275), TEXTS).for_decoder()


@pytest.fixture(scope="module")
def split(tokenizer: Tokenizer) -> Split:
    ids, words = tokenizer.encode_documents(TEXTS)
    return Split(
        np.concatenate(ids).astype(np.uint16),
        np.concatenate(words).astype(np.uint8),
        np.concatenate([[0], np.cumsum([len(i) for i in ids])]).astype(np.int64),
        np.zeros(len(ids), np.uint16),
    )


def objective(split: Split, tokenizer: Tokenizer, crossing: bool = False) -> NextToken:
    rows = PackedRows.build(split, 24, OVERHEAD)
    return NextToken(NextTokenConfig(cross_documents=crossing), rows, tokenizer)


def every(rows: PackedRows) -> Examples:
    return Examples(np.arange(len(rows)), np.zeros(len(rows), np.int64))


def model_for(tokenizer: Tokenizer) -> CausalLanguageModel:
    from selfsup.recipes import get

    torch.manual_seed(0)
    shape = get("llama-tiny").model.model_copy(
        update={"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "initializer_range": 0.4}
    )
    return CausalLanguageModel(shape).double()


def test_every_token_and_every_end_is_guessed_once(split: Split, tokenizer: Tokenizer) -> None:
    asked = objective(split, tokenizer)
    batch = asked.batch(every(asked.rows), Key(0, 0))
    guessed = batch.targets[batch.weights > 0]
    counts = torch.bincount(guessed, minlength=tokenizer.vocab_size)
    expected = np.bincount(split.tokens, minlength=tokenizer.vocab_size)
    expected[tokenizer.end_id] += len(TEXTS)
    assert counts.tolist() == expected.tolist()
    assert batch.bytes == sum(len(t.encode()) for t in TEXTS)
    assert len(batch.targets) % 24 == 0
    lengths = batch.sequences.starts.diff()
    assert int(lengths.sum()) == len(batch.targets)


def test_each_token_is_guessed_from_what_stands_before_it(
    split: Split, tokenizer: Tokenizer
) -> None:
    """Inputs are the targets moved by one: a text's first token is guessed from the begin token."""
    asked = objective(split, tokenizer)
    batch = asked.batch(every(asked.rows), Key(0, 0))
    starts = batch.sequences.starts.tolist()
    begun = 0
    for begin, end in itertools.pairwise(starts):
        tokens, targets = batch.sequences.tokens[begin:end], batch.targets[begin:end]
        scored = int(batch.weights[begin:end].sum())
        assert torch.equal(tokens[1:scored], targets[: max(0, scored - 1)])
        begun += int(tokens[0] == tokenizer.begin_id)
        assert batch.sequences.positions[begin:end].tolist() == list(range(end - begin))
    assert begun == len(TEXTS)


def test_the_loss_is_that_of_one_text_at_a_time(split: Split, tokenizer: Tokenizer) -> None:
    asked, model = objective(split, tokenizer), model_for(tokenizer).eval()
    batch = asked.batch(every(asked.rows), Key(0, 0))
    score = asked.loss(model, batch)
    total = torch.zeros((), dtype=torch.float64)
    for begin, end, document in asked.rows.pieces.tolist():
        first, last = split.documents[document], split.documents[document + 1]
        head = tokenizer.begin_id if begin == first else int(split.tokens[begin - 1])
        ids = [head, *split.tokens[begin:end].tolist()]
        targets = ids[1:] + ([tokenizer.end_id] if end == last else [])
        hidden = model(Sequences.from_lists([np.array(ids)]))
        logits = model.predict(hidden)[: len(targets)]
        total += F.cross_entropy(logits, torch.tensor(targets), reduction="sum")
    assert float(score.loss_sum.detach()) == pytest.approx(float(total.detach()), rel=1e-9)
    assert float(score.count) == float(batch.weights.sum())
    bits, size = score.metrics["bits_per_byte"]
    assert float(bits) == pytest.approx(float(total.detach()) / math.log(2))
    assert float(size) == sum(len(t.encode()) for t in TEXTS)


def test_attention_crosses_documents_only_on_request(split: Split, tokenizer: Tokenizer) -> None:
    model = model_for(tokenizer)
    apart, across = (objective(split, tokenizer, crossing) for crossing in (False, True))
    first = apart.batch(every(apart.rows), Key(0, 0))
    second = across.batch(every(across.rows), Key(0, 0))
    assert torch.equal(first.sequences.tokens, second.sequences.tokens)
    assert torch.equal(first.targets, second.targets)
    assert set(second.sequences.starts.diff().tolist()) == {24}
    one, two = (float(apart.loss(model, b).loss_sum.detach()) for b in (first, second))
    assert abs(one - two) > 1e-3


@pytest.mark.parametrize(
    ("config", "known"),
    [
        (BytePairConfig(vocab_size=275), True),
        (CharacterConfig(vocab_size=60), True),
        (SymbolConfig(alphabet="acdhmnostx. ", k=1), True),
        (WordPieceConfig(vocab_size=40), False),
    ],
)
def test_bytes_of_tokens_add_up_to_the_text(config: object, known: bool) -> None:
    made = train_tokenizer(config, TEXTS)  # type: ignore[arg-type]
    sizes = made.byte_lengths
    assert (sizes is not None) == known
    if sizes is not None:
        text = "that cat sat on a mat"
        text = text if not isinstance(config, SymbolConfig) else "thatcatsat"
        ids = made.encode(text, special=False).ids
        assert made.unknown_id not in ids
        assert int(sizes[ids].sum()) == len(text.encode())


def test_bytes_of_words_of_an_alphabet_add_up_in_either_case() -> None:
    """Words of three letters stand beside each other, so each letter is in one of them."""
    made = train_tokenizer(SymbolConfig(alphabet="ACGT", k=3), [])
    sizes = made.byte_lengths
    assert sizes is not None
    for text in ("ACGTTGCA", "acgtTGCA"):
        ids = made.encode(text, special=False).ids
        assert sizes[ids].tolist() == [3, 3, 1, 1]
    ligature = train_tokenizer(
        SymbolConfig(alphabet="Aİ", k=1), []
    )  # its small letter has more bytes
    assert ligature.byte_lengths is None


def test_a_decoder_reads_a_begin_token_and_no_end(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the cat").ids
    assert ids[0] == tokenizer.begin_id
    assert ids[-1] != tokenizer.end_id
    assert tokenizer.decode(ids) == "the cat"
    assert tokenizer.for_decoder() is tokenizer


def test_a_tokenizer_without_frame_is_refused(split: Split) -> None:
    from tokenizers import Tokenizer as Inner
    from tokenizers.models import WordLevel

    bare = Tokenizer(Inner(WordLevel({"a": 0, "b": 1}, unk_token="a")))
    with pytest.raises(UserError, match="no token for a text's begin"):
        NextToken(NextTokenConfig(), PackedRows.build(split, 24, OVERHEAD), bare)


def test_what_is_unknown_is_read_and_not_guessed() -> None:
    letters = train_tokenizer(SymbolConfig(alphabet="ACGT"), []).for_decoder()
    ids, words = letters.encode_documents(["ACNGT" * 5])
    offsets = np.array([0, len(ids[0])], np.int64)
    split = Split(ids[0].astype(np.uint16), words[0], offsets, np.zeros(1, np.uint16))
    asked = objective(split, letters)
    batch = asked.batch(every(asked.rows), Key(0))
    guessed = batch.targets[batch.weights > 0].tolist()
    assert sorted(guessed) == sorted([*letters.encode("ACGT" * 5, special=False).ids, asked.end])
    assert batch.bytes == 20
    assert (batch.sequences.tokens == letters.lost_id).sum() >= 5


def test_gpt2s_end_token_stays_an_answer(split: Split, tokenizer: Tokenizer) -> None:
    end = tokenizer.token(tokenizer.end_id or 0)
    named = Tokenizer(tokenizer.inner, {**tokenizer.names, "unknown": end})
    assert named.lost_id == -1
    asked = objective(split, named)
    batch = asked.batch(every(asked.rows), Key(0))
    assert int((batch.weights[batch.targets == named.end_id] > 0).sum()) == len(TEXTS)


def test_objective_and_model_belong_together() -> None:
    from selfsup.recipes import get

    value = get("gpt2-tiny").model_dump()
    value["objective"] = {"kind": "masked-tokens"}
    with pytest.raises(ValueError, match="'masked-tokens' needs an encoder"):
        PretrainConfig.model_validate(value)
    value = get("bert-tiny").model_dump()
    value["objective"] = {"kind": "next-token"}
    with pytest.raises(ValueError, match="needs a decoder"):
        PretrainConfig.model_validate(value)
