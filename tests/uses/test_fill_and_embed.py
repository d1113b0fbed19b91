"""Filling blanks and embedding: ranks, batches, long texts, and what is refused."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import torch

import selfsup
from selfsup.errors import UserError
from selfsup.models.hub import Pretrained, load
from selfsup.uses.embed import embed_telling
from selfsup.uses.pretraining import pretrain
from tests.training.tiny import tiny_config, write_corpus


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """A model of words that has learned its corpus."""
    from selfsup.config import PretrainConfig

    folder = tmp_path_factory.mktemp("run")
    data = write_corpus(folder / "corpus.txt", documents=300)
    value = tiny_config(data, "modernbert-tiny", budget="250 steps", batch_size=16).model_dump(
        mode="json"
    )
    value["tokenizer"] = {"kind": "wordpiece", "vocab_size": 130}
    value["model"].update(hidden_size=48, num_heads=2, intermediate_size=64, max_length=64)
    pretrain(PretrainConfig.model_validate(value), folder / "run", quiet=True)
    return load(folder / "run")


def test_candidates_are_ranked_probabilities(trained: Pretrained) -> None:
    (filled,) = selfsup.fill(trained, ["the cat sees a red [MASK]."], top=4)
    chances = [c.probability for c in filled.blanks[0]]
    assert len(chances) == 4
    assert chances == sorted(chances, reverse=True)
    assert 0 < sum(chances) <= 1 + 1e-6
    assert filled.blanks[0][0].text == "bicycle"
    assert filled.best == "the cat sees a red bicycle."
    assert not filled.note


def test_no_special_token_is_a_candidate(trained: Pretrained) -> None:
    size = trained.tokenizer.vocab_size
    (filled,) = selfsup.fill(trained, ["[MASK] sees"], top=size)
    special = {trained.tokenizer.token(i) for i in trained.tokenizer.special_ids}
    likely = {c.token for c in filled.blanks[0] if c.probability > 0}
    assert not likely & special


def test_several_blanks_and_batches_do_not_change_the_answer(trained: Pretrained) -> None:
    texts = [
        "the [MASK] sees a red [MASK].",
        "[MASK] dog",
        "one engineer mends the broken [MASK]. her sister buys some [MASK].",
    ]
    together = selfsup.fill(trained, texts)
    assert [len(f.blanks) for f in together] == [2, 1, 2]
    for text, filled in zip(texts, together, strict=True):
        (alone,) = selfsup.fill(trained, [text], batch_tokens=1)
        assert alone.best == filled.best
        for a, b in zip(alone.blanks, filled.blanks, strict=True):
            assert [c.token for c in a] == [c.token for c in b]
            np.testing.assert_allclose(
                [c.probability for c in a], [c.probability for c in b], rtol=1e-4
            )


def test_a_long_text_is_cut_around_its_blank_and_says_so(trained: Pretrained) -> None:
    rest = "her sister paints the harbour. " * 40
    (filled,) = selfsup.fill(trained, [rest + "the cat sees a red [MASK]. " + rest])
    assert "cut around its blanks" in filled.note
    assert filled.blanks[0][0].text == "bicycle"
    with pytest.raises(UserError, match=r"blanks lie .* tokens apart, the model reads 64"):
        selfsup.fill(trained, ["[MASK] " + rest + "[MASK]"])


def test_a_text_without_a_blank_is_refused(trained: Pretrained) -> None:
    with pytest.raises(UserError, match=r"text 2: there is no \[MASK\] in 'a dog'"):
        selfsup.fill(trained, ["a [MASK]", "a dog"])


def test_a_bare_encoder_cannot_fill(trained: Pretrained) -> None:
    import dataclasses

    bare = dataclasses.replace(trained, has_head=False)
    with pytest.raises(UserError, match="bare encoder"):
        selfsup.fill(bare, ["a [MASK]"])


def test_nothing_gives_nothing(trained: Pretrained) -> None:
    assert selfsup.fill(trained, []) == []
    assert selfsup.embed(trained, []).shape == (0, 48)


# ---- embed -----------------------------------------------------------------------------------

TEXTS = ["the cat", "a dog sees seven letters.", "", "her sister paints the harbour. " * 30, "我"]


def test_embedding_is_independent_of_batch_and_order(trained: Pretrained) -> None:
    vectors = selfsup.embed(trained, TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (5, 48)
    for batch_tokens in (1, 30, 10_000):
        again = selfsup.embed(trained, TEXTS[::-1], batch_tokens=batch_tokens)[::-1]
        np.testing.assert_allclose(again, vectors, atol=1e-5)
    longest = trained.max_length
    cut = f"1 text is longer than the {longest} tokens that the model reads: cut"
    notes: list[str] = []
    embed_telling(trained, TEXTS, notes=notes)
    assert notes == [cut]
    embed_telling(trained, ["\u4e00 \u4e01 \u4e02"], notes=notes)
    assert "unknown to the model" in notes[1]


def test_what_is_not_read_is_counted_over_all_blocks(
    trained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS[:4], "\u4e00 \u4e01", TEXTS[3], TEXTS[0]]
    found: list[list[str]] = []
    for chunk in (4096, 2):
        monkeypatch.setattr("selfsup.uses.embed._CHUNK", chunk)
        seen: list[int] = []
        notes: list[str] = []
        embed_telling(trained, texts, batch_tokens=1, notes=notes, progress=seen.append)
        assert notes[0].startswith("2 texts are longer than")
        assert seen == list(range(1, 8))
        found.append(notes)
    assert found[0] == found[1]


def test_pooling_and_length(trained: Pretrained) -> None:
    mean, cls = (selfsup.embed(trained, TEXTS, pooling=p) for p in ("mean", "cls"))
    assert np.abs(mean - cls).max() > 1e-3
    unit = selfsup.embed(trained, TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(unit, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)
    with pytest.raises(UserError, match="unknown pooling 'max'"):
        selfsup.embed(trained, TEXTS, pooling="max")


def test_bf16_is_close_and_an_unknown_precision_is_refused(trained: Pretrained) -> None:
    full, half = (
        selfsup.embed(trained, TEXTS, precision=p, normalize=True) for p in ("fp32", "bf16")
    )
    assert half.dtype == np.float32
    assert (full * half).sum(1).min() > 0.999
    assert not np.array_equal(full, half)
    with pytest.raises(UserError, match="unknown precision 'fp16'"):
        selfsup.embed(trained, TEXTS, precision="fp16")


def test_the_global_generator_is_untouched(trained: Pretrained) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    selfsup.embed(trained, TEXTS)
    selfsup.fill(trained, ["a [MASK]"])
    load(trained.path)
    assert torch.equal(torch.rand(2), expected)


def test_only_blanks_of_a_text_are_filled(trained: Pretrained) -> None:
    """Spaces, capitals and words that the vocabulary lacks stay as they were given."""
    text = "The CAT,  zqx 繁體 sees\ta red [MASK] . A[MASK]!"
    (filled,) = selfsup.fill(trained, [text], top=1)
    one, two = (blank[0] for blank in filled.blanks)
    assert one.text == "bicycle"
    tail = f"A{two.token.removeprefix('##')}!"
    assert filled.best == f"The CAT,  zqx 繁體 sees\ta red bicycle . {tail}"


def test_a_word_goes_on_without_a_space() -> None:
    from selfsup.uses.fill import Candidate, _written

    parts = [Candidate("##s", "##s", 0.5), Candidate("Ġof", "of", 0.5), Candidate("台", "台", 0.5)]
    assert _written("the cat [MASK] are[MASK][MASK]北", "[MASK]", parts) == "the cats are of台北"


def test_letters_that_the_tokenizer_took_apart_are_filled_in_as_one() -> None:
    from selfsup.uses.fill import Candidate, _written

    apart = unicodedata.normalize("NFD", "국")
    parts = [Candidate(f"##{apart}", "##국", 0.5), Candidate(apart, "국", 0.5)]
    assert _written("한[MASK] [MASK]", "[MASK]", parts) == "한국 국"


@pytest.mark.parametrize("text", ["a ［MASK］ b", "a 【MASK】 b", "a ［ＭＡＳＫ］ b"])
def test_brackets_of_another_keyboard(trained: Pretrained, text: str) -> None:
    with pytest.raises(UserError, match="its brackets are not those of"):
        selfsup.fill(trained, [text])
