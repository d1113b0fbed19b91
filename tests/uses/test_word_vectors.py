"""A word's vectors are those of its own tokens, wherever it stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfsup.config import WordPieceConfig
from selfsup.data.tokenizers import train_tokenizer
from selfsup.errors import UserError
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.nn.sequences import Sequences
from selfsup.uses.word_vectors import find_word, word_vectors
from tests.tasks.toy import write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return load_encoder(write_encoder(tmp_path_factory.mktemp("toy") / "encoder"))


@pytest.mark.parametrize(
    ("text", "word", "found"),
    [
        ("An apple, Apple's apples; pineapple", "apple", ["apple", "Apple"]),
        ("苹果手机和苹果树，吃苹果", "苹果", ["苹果"] * 3),
        ("新iPhone手机", "iphone", ["iPhone"]),
        ("x1 x 1x", "x", ["x"]),
        ("un naïve naïvement", "naïve", ["naïve"]),
        ("New York, new york city, New Yorker", "new york", ["New York", "new york"]),
        ("ab", "a.", []),
        ("kiz kız KIZ", "kiz", ["kiz", "KIZ"]),
        ("kiz kız KIZ", "kız", ["kız", "KIZ"]),
        ("İstanbul istanbul Istanbul", "istanbul", ["İstanbul", "istanbul", "Istanbul"]),
        ("哈哈哈", "哈哈", ["哈哈", "哈哈"]),
        ("xa a a", "a a", ["a a"]),
        ("新しいｱｯﾌﾟﾙの本", "ｱｯﾌﾟﾙ", ["ｱｯﾌﾟﾙ"]),
        ("リンゴの木とリンゴ", "リンゴ", ["リンゴ", "リンゴ"]),
        ("사과는 사과", "사과", ["사과"]),
    ],
)
def test_a_word_is_found_where_it_stands_alone(text: str, word: str, found: list[str]) -> None:
    assert [text[begin:end] for begin, end in find_word(text, word)] == found


def test_vectors_are_the_means_of_its_tokens_in_every_layer(encoder: Pretrained) -> None:
    texts = ["the film is dull", "it was", "the house is warm and the house is grey", "FILM"]
    for word, places in (("house", [2, 2]), ("film", [0, 3])):
        found = word_vectors(encoder, texts, word)
        assert found.texts.tolist() == places
        spans = zip(found.texts, found.spans, strict=True)
        assert {texts[n][a:b].lower() for n, (a, b) in spans} == {word}
        assert found.layers.shape == (3, 2, 16)
        assert np.array_equal(found.last, found.layers[-1])
        for place, (number, (begin, end)) in enumerate(zip(found.texts, found.spans, strict=True)):
            inner = encoder.tokenizer.inner.encode(texts[number])
            own = [i for i, (a, b) in enumerate(inner.offsets) if b > begin and a < end]
            with torch.inference_mode():
                batch = Sequences.from_lists([np.array(inner.ids)])
                hidden = encoder.encoder(batch, layers=True)[:, own].mean(1)
            np.testing.assert_allclose(found.layers[:, place], hidden, atol=1e-5)


def test_the_first_place_alone(encoder: Pretrained) -> None:
    texts = ["it was", "the house is warm and the house is grey", "the house"]
    whole, first = (word_vectors(encoder, texts, "house", first=f) for f in (False, True))
    assert (whole.texts.tolist(), first.texts.tolist()) == ([1, 1, 2], [1, 2])
    np.testing.assert_allclose(first.layers, whole.layers[:, [0, 2]], atol=1e-6)


def test_vectors_do_not_depend_on_batches_or_other_texts(encoder: Pretrained) -> None:
    texts = [f"the {thing} is {how}" for thing in ("film", "song") for how in ("dull", "warm")] * 9
    whole = word_vectors(encoder, texts, "song")
    few = word_vectors(encoder, texts, "song", batch_tokens=7)
    np.testing.assert_allclose(few.layers, whole.layers, atol=1e-5)
    alone = word_vectors(encoder, [texts[2]], "song")
    np.testing.assert_allclose(alone.last[0], whole.last[0], atol=1e-5)


def test_a_long_text_is_read_around_the_word(encoder: Pretrained) -> None:
    short = replace(encoder, max_length=12)
    before, after = "is " * 40, " and" * 40
    long = word_vectors(short, [f"{before}film{after}"], "film")
    around = word_vectors(short, [f"{'is ' * 5}film{' and' * 4}"], "film")
    np.testing.assert_allclose(long.layers, around.layers, atol=1e-5)
    ends = word_vectors(short, [f"film{after}", f"{before}film"], "film")
    assert ends.spans[:, 0].tolist() == [0, len(before)]
    beginning = word_vectors(short, [f"film{' and' * 9}"], "film")
    np.testing.assert_allclose(ends.layers[:, 0], beginning.layers[:, 0], atol=1e-5)
    end = word_vectors(short, [f"{'is ' * 9}film"], "film")
    np.testing.assert_allclose(ends.layers[:, 1], end.layers[:, 0], atol=1e-5)
    many = " ".join(["film"] * 40)
    assert len(word_vectors(short, [many], many).texts) == 1  # longer than what is read


def test_chinese_without_spaces(encoder: Pretrained) -> None:
    texts = ["我买了苹果手机", "苹果很甜"]
    tokenizer = train_tokenizer(
        WordPieceConfig(vocab_size=32), [*texts, "春夏秋冬东西南北天地玄黄宇宙洪荒日月"] * 5
    )
    small = replace(encoder, tokenizer=tokenizer)
    assert tokenizer.vocab_size <= encoder.config.vocab_size  # type: ignore[operator]
    found = word_vectors(small, texts, "苹果")
    assert found.spans.tolist() == [[3, 5], [0, 2]]
    assert np.isfinite(found.layers).all()


def test_no_place_gives_no_vectors_and_no_word_is_refused(encoder: Pretrained) -> None:
    nothing = word_vectors(encoder, ["the song"], "film")
    assert nothing.layers.shape == (3, 0, 16)
    assert nothing.spans.shape == (0, 2)
    with pytest.raises(UserError, match="no word"):
        word_vectors(encoder, ["the song"], "  ")
    with pytest.raises(UserError, match="unknown precision"):
        word_vectors(encoder, ["the song"], "song", precision="fp64")


def test_opens_a_folder_by_its_name(encoder: Pretrained) -> None:
    path: Path = encoder.path
    found = word_vectors(path, ["the song"], "song")
    np.testing.assert_allclose(found.last, word_vectors(encoder, ["the song"], "song").last)
