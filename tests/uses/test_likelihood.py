"""Likelihoods against a slow reference: one sequence at a time, all logits."""

from __future__ import annotations

import lzma
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.cli.app import main
from selfsup.config import SymbolConfig
from selfsup.data.tokenizers import train_tokenizer
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.nn.sequences import Sequences
from selfsup.uses.evaluating import evaluate_decoder, evaluate_texts
from selfsup.uses.generate import complete
from selfsup.uses.likelihood import bits_per_byte, encode_pairs, rolling, score, windows
from selfsup.uses.sampling import Sampling
from selfsup.uses.shared_prefix import groups
from tests.uses.tiny_decoder import tiny_decoder

_LONG = "A long question that is asked with some words before it, is it good or is it bad? "
PAIRS = [
    *((_LONG, choice) for choice in ("good", "bad", "neither of them")),
    ("", "The dog"),
    ("The quick", " brown fox"),
    ("The quick ", "brown fox"),
    (_LONG * 6, "dog"),  # longer than the model reads
    *((f"{_LONG}Answer:", f" {n}") for n in range(5)),
    ("  ", "fox"),
]


@pytest.fixture(scope="module", params=["gpt2-tiny", "llama-tiny"])
def decoder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PretrainedDecoder:
    return tiny_decoder(tmp_path_factory.mktemp("decoder"), request.param)


def slow(decoder: PretrainedDecoder, ids: np.ndarray, scored: int) -> tuple[float, bool]:
    ids = ids[-(decoder.max_length + 1) :]
    with torch.inference_mode():
        logits = decoder.model.predict(decoder.model(Sequences.from_lists([ids[:-1]])))
    logs = logits.double().log_softmax(-1)[-scored:]
    wanted = torch.from_numpy(ids[-scored:])
    return float(logs.gather(1, wanted[:, None]).sum()), bool((logs.argmax(1) == wanted).all())


def test_continuations_equal_the_slow_way(decoder: PretrainedDecoder) -> None:
    found = score(decoder, PAIRS)
    for pair, one in zip(PAIRS, found, strict=True):
        ((context, continuation),) = encode_pairs(decoder, [pair])
        logs, best = slow(decoder, np.concatenate([context, continuation]), len(continuation))
        assert one.log_probability == pytest.approx(logs, abs=2e-4)
        assert (one.greedy, one.tokens) == (best, len(continuation))
        assert one.bytes == len(pair[1].encode())
    assert [one.cut > 0 for one in found] == [pair[0] == _LONG * 6 for pair in PAIRS]
    assert found[4].log_probability == pytest.approx(found[5].log_probability, abs=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 50, 100_000])
def test_neither_batch_nor_order_matters(decoder: PretrainedDecoder, batch_tokens: int) -> None:
    first = [x.log_probability for x in score(decoder, PAIRS)]
    order = list(reversed(range(len(PAIRS))))
    again = score(decoder, [PAIRS[i] for i in order], batch_tokens=batch_tokens)
    assert [again[i].log_probability for i in order] == pytest.approx(first, abs=2e-4)
    alone = [score(decoder, [pair])[0].log_probability for pair in PAIRS]
    assert alone == pytest.approx(first, abs=2e-4)


def test_what_is_shared_is_read_once(decoder: PretrainedDecoder) -> None:
    encoded = encode_pairs(decoder, PAIRS[:3])
    ids = [np.concatenate(pair) for pair in encoded]
    most = [len(context) - 1 for context, _ in encoded]
    (group,) = groups(ids, most)
    assert sorted(group.rows) == [0, 1, 2]
    assert group.shared >= 16
    read = 0
    original = type(decoder.model).forward

    def counting(self: object, batch: Sequences, **more: object) -> torch.Tensor:
        nonlocal read
        read += len(batch.tokens)
        return original(self, batch, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(decoder.model), "forward", counting)
        score(decoder, PAIRS[:3])
    assert read == sum(len(one) - 1 for one in ids) - 2 * group.shared


def test_documents(decoder: PretrainedDecoder) -> None:
    text = _LONG * 9
    found = bits_per_byte(decoder, ["", text, "fox"])
    assert found.bytes == len(text) + 3
    assert found.documents == 2
    ids = np.concatenate(
        [[decoder.tokenizer.begin_id], decoder.tokenizer.encode(text, special=False).ids]
    )
    rows = windows(ids, decoder.max_length, decoder.max_length // 2)
    assert np.array_equal(np.concatenate([r.ids[-r.scored :] for r in rows]), ids[1:])
    assert all(len(r.ids) - r.scored >= decoder.max_length // 2 for r in rows[1:])
    slowly = sum(slow(decoder, r.ids, r.scored)[0] for r in rows)
    short = slow(
        decoder,
        np.concatenate([ids[:1], decoder.tokenizer.encode("fox", special=False).ids]),
        1 + found.tokens - len(ids),
    )
    assert found.nats == pytest.approx(-slowly - short[0], rel=1e-5)
    assert found.bits_per_byte == found.nats / math.log(2) / found.bytes
    whole = rolling(decoder, [text, ""])
    parts = windows(ids, decoder.max_length, decoder.max_length)
    assert whole[0] == pytest.approx(
        sum(slow(decoder, r.ids, r.scored)[0] for r in parts), rel=1e-5
    )
    assert whole[1] == 0


def test_bad_input(decoder: PretrainedDecoder) -> None:
    with pytest.raises(UserError, match="has no token"):
        score(decoder, [("a", "")])
    with pytest.raises(UserError, match="the model reads 96"):
        score(decoder, [("a", _LONG * 8)])
    with pytest.raises(UserError, match="--stride: must be from 1 to 48"):
        bits_per_byte(decoder, ["a b"], stride=60)
    with pytest.raises(UserError, match="there is no text"):
        bits_per_byte(decoder, [""])


def test_lost_case_is_said(decoder: PretrainedDecoder) -> None:
    letters = train_tokenizer(SymbolConfig(alphabet="ACGT"), []).for_decoder()
    capitals = replace(decoder, tokenizer=letters)
    assert "note" not in evaluate_texts(capitals, ["ACGTACGT"])
    assert "case" in evaluate_texts(capitals, ["ACGTACGT", "acgT"])["note"]


def test_letters_outside_the_alphabet_are_said(decoder: PretrainedDecoder) -> None:
    letters = train_tokenizer(SymbolConfig(alphabet="ACGT"), []).for_decoder()
    opened = replace(decoder, tokenizer=letters)
    note = evaluate_texts(opened, ["ACGTACGT", "ACGUU"])["note"]
    assert note.startswith("2 of 13 tokens are unknown to the model: it knows the letters ACGT;")
    written = complete(opened, ["ACGUUU"], Sampling(max_tokens=2))
    assert "50% of the tokens of prompt 1 are unknown" in written[0].note


def test_evaluate(
    decoder: PretrainedDecoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.txt"
    file.write_text(_LONG * 3, encoding="utf-8")
    assert main(["evaluate", str(decoder.path), "--data", str(file), "--json"]) == 0
    assert '"bits_per_byte"' in capsys.readouterr().out
    found = evaluate_texts(decoder, [_LONG * 3])
    packed = lzma.compress((_LONG * 3).encode(), preset=9)
    assert found["xz_bits_per_byte"] == 8 * len(packed) / len(_LONG * 3)
    assert main(["evaluate", str(decoder.path), "--data", str(file), "--label-column", "x"]) == 2


def test_bytes_are_those_of_the_text_that_is_read(
    decoder: PretrainedDecoder, tmp_path: Path
) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(b"\xef\xbb\xbf\r\n\n  a fox\r\n\r\nand \r\n\n")
    found = evaluate_decoder(str(decoder.path), str(file), device="cpu", quiet=True)
    assert found["bytes"] == len("  a fox\n\nand ")
