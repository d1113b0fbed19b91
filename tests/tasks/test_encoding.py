"""Frames, cutting, and which tokens a word owns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfsup.config import (
    BytePairConfig,
    CharacterConfig,
    WordPieceConfig,
)
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.tasks.encoding import align_words, frame_texts, share_room

TEXTS = ["the warm house is not the cold house", "unhappiness, again; don't", "台湾大学 apple"] * 4


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "characters"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    kinds = {
        "wordpiece": WordPieceConfig(vocab_size=60),
        "bpe": BytePairConfig(vocab_size=290),
        "characters": CharacterConfig(),
    }
    return train_tokenizer(kinds[request.param], TEXTS)


def test_frames_are_the_tokenizers_own(tokenizer: Tokenizer) -> None:
    framed = frame_texts(tokenizer, TEXTS[:3], None, 200)
    for text, ids in zip(TEXTS, framed.ids, strict=False):
        assert ids.tolist() == tokenizer.encode(text).ids.tolist()
    pairs = frame_texts(tokenizer, TEXTS[:3], TEXTS[1:4], 200)
    for first, second, ids in zip(TEXTS, TEXTS[1:4], pairs.ids, strict=False):
        assert ids.tolist() == tokenizer.encode(first, second).ids.tolist()
    assert not framed.cut
    assert not pairs.cut


def test_a_long_pair_loses_the_longer_part_first(tokenizer: Tokenizer) -> None:
    framed = frame_texts(tokenizer, ["house"], ["the warm house is not the cold house " * 3], 20)
    assert framed.cut == 1
    (ids,), types = framed.ids, framed.types
    assert types is not None
    assert len(ids) == 20 == len(types[0])
    first = tokenizer.encode("house").ids
    room = min(len(first), 10)
    assert ids[:room].tolist()[:-1] == first[:room].tolist()[:-1]
    assert ids[-1] == tokenizer.sep_id


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 60))
def test_room_is_shared(first: int, second: int, room: int) -> None:
    left, right = share_room(first, second, room)
    assert left <= first
    assert right <= second
    assert left + right == min(first + second, room)
    if left < first and right < second:
        assert abs(left - right) <= 1


@pytest.mark.parametrize("longest", [9, 10, 11, 12])
def test_pairs_are_cut_as_in_transformers(tmp_path: Path, longest: int) -> None:
    """A delivered folder reads long pairs there as it was trained to."""
    transformers = pytest.importorskip("transformers")
    tokenizer = train_tokenizer(CharacterConfig(), TEXTS)
    tokenizer.save(tmp_path, longest)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    sizes = [(a, b) for a in range(1, 12) for b in range(1, 12)]
    firsts, seconds = ["t" * a for a, _ in sizes], ["o" * b for _, b in sizes]
    framed = frame_texts(tokenizer, firsts, seconds, longest)
    read = theirs(firsts, seconds, truncation=True)["input_ids"]
    assert [ids.tolist() for ids in framed.ids] == read


WORD = st.text(alphabet="abchoumsetd'-.,台湾é", min_size=1, max_size=9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(WORD, min_size=1, max_size=12), min_size=1, max_size=4))
def test_every_word_owns_the_tokens_inside_it(sentences: list[list[str]]) -> None:
    tokenizer = _cached()
    aligned = align_words(tokenizer, sentences, 200)
    assert aligned.sentences.tolist() == [i for i, s in enumerate(sentences) if s]
    for sentence, ids, places, words in zip(
        sentences, aligned.ids, aligned.places, aligned.words, strict=True
    ):
        # the slow way: tokens of the joined text whose offsets begin inside the word
        encoded = tokenizer.encode(" ".join(sentence), special=False)
        assert ids[1:-1].tolist() == encoded.ids.tolist()
        begin = 0
        expected = {}
        for number, word in enumerate(sentence):
            inside = [
                i for i, (b, _) in enumerate(encoded.offsets) if begin <= b < begin + len(word)
            ]
            if inside:
                expected[number] = inside[0] + 1
            begin += len(word) + 1
        assert dict(zip(words.tolist(), places.tolist(), strict=True)) == expected


_made: list[Tokenizer] = []


def _cached() -> Tokenizer:
    if not _made:
        _made.append(train_tokenizer(WordPieceConfig(vocab_size=60), TEXTS))
    return _made[0]


def test_byte_level_tokens_begin_at_their_word() -> None:
    tokenizer = train_tokenizer(BytePairConfig(vocab_size=300), TEXTS)
    aligned = align_words(tokenizer, [["the", "warm", "house", "is"]], 50)
    assert aligned.words[0].tolist() == [0, 1, 2, 3]
    spelled = [
        tokenizer.decode([int(aligned.ids[0][place])]).strip()[0] for place in aligned.places[0]
    ]
    assert spelled == ["t", "w", "h", "i"]


@pytest.mark.parametrize("room", [5, 7, 12])
def test_a_long_sentence_is_read_in_pieces(tokenizer: Tokenizer, room: int) -> None:
    words = ["the", "warm", "house", "is", "not", "cold", "unhappiness"] * 3
    whole = align_words(tokenizer, [words], 500)
    pieces = align_words(tokenizer, [words], room)
    assert max(map(len, pieces.ids)) <= room
    joined = np.concatenate([ids[1:-1] for ids in pieces.ids])
    assert joined.tolist() == whole.ids[0][1:-1].tolist()
    seen = np.concatenate(pieces.words)
    assert sorted(set(seen.tolist())) == list(range(len(words)))


def test_empty_sentences_and_dropped_words(tmp_path: Path) -> None:
    tokenizer = _cached()
    aligned = align_words(tokenizer, [[], ["the", "\u200b", "house"]], 50)
    assert aligned.sentences.tolist() == [1]
    assert aligned.words[0].tolist() == [0, 2]
    assert aligned.without == 1
