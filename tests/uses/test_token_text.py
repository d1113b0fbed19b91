"""Text out of tokens where bytes that the vocabulary lacks are tokens of their own, as in Llama 2."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, normalizers, processors

from selfsup.data.tokenizers import Tokenizer
from selfsup.uses.token_text import TokenText

WORDS = ["▁", "h", "e", "l", "o", "▁h", "▁he", "ll", "llo", "▁hello", "天", "▁天"]
MERGES = [("▁", "h"), ("▁h", "e"), ("l", "l"), ("ll", "o"), ("▁he", "llo"), ("▁", "天")]
SPECIAL = ["<unk>", "<s>", "</s>"]
TEXTS = [
    "今天天气很好，我们去公园吧。",
    "😀🎉 hello 👩‍👩‍👧",
    "éé hello  天天",
    "\n\thello\nol",
    "天\ufffd hello\ufffd",
]


@pytest.fixture(scope="module")
def known() -> Tokenizer:
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    vocabulary = {token: id for id, token in enumerate(tokens)}
    inner = Inner(
        models.BPE(vocabulary, MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.add_special_tokens(SPECIAL)
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return Tokenizer(inner)


def pieces(known: Tokenizer, prompt: Sequence[int], ids: Sequence[int]) -> Iterator[str]:
    text = TokenText(known, prompt, ())
    for id in ids:
        yield text.add(id)
    assert text.finish() == ""  # nothing is held back but for stops


def whole(known: Tokenizer, ids: Sequence[int]) -> str:
    """The text of tokens, by their bytes; those that are no character are left out."""
    tokens = [known.token(id) for id in ids if id not in known.special_ids]
    given = b"".join(
        bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.encode()
        for token in tokens
    )
    return given.decode(errors="ignore").replace("▁", " ").removeprefix(" ")


def random_ids(known: Tokenizer, chance: random.Random) -> list[int]:
    """Words, characters and broken bytes."""
    ids: list[int] = []
    for _ in range(chance.randrange(8)):
        some = known.encode(chance.choice(TEXTS), special=False).ids.tolist()
        begin = chance.randrange(len(some))
        ids += some[begin : begin + chance.randrange(1, 9)]
        ids += [chance.randrange(known.vocab_size) for _ in range(chance.randrange(3))]
    return ids


@pytest.mark.parametrize("text", TEXTS)
def test_every_place_to_go_on_from(text: str, known: Tokenizer) -> None:
    ids = known.encode(text * 3).ids.tolist()
    assert known.decode(ids) == whole(known, ids) == text * 3
    for place in range(1, len(ids)):
        shown = "".join(pieces(known, ids[:place], ids[place:]))
        assert whole(known, ids[:place]) + shown == text * 3


def test_what_is_shown_is_always_what_is_certain(known: Tokenizer) -> None:
    """After each token: all characters that are whole, none that could still change."""
    chance = random.Random(0)
    for _ in range(400):
        prompt, ids = [1, *random_ids(known, chance)], random_ids(known, chance)
        shown = whole(known, prompt)
        for count, piece in enumerate(pieces(known, prompt, ids), 1):
            shown += piece
            assert shown == whole(known, prompt + ids[:count])


def test_a_broken_byte_takes_nothing_with_it(known: Tokenizer) -> None:
    broken = known.id("<0xF0>")
    ids = [*known.encode("é", special=False).ids.tolist()[1:], broken]
    ids += known.encode("hello hello", special=False).ids.tolist()
    prompt = known.encode("hello").ids.tolist()
    assert list(pieces(known, prompt, ids)) == ["", "é", "", " hello", " hello"]
    text = TokenText(known, prompt, ("é h",))
    assert [text.add(id) for id in ids[:4]] == ["", "", "", ""]
    assert text.stopped


def test_long_runs_of_bytes_are_not_decoded_again(
    known: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    decode = known.decode

    def counted(ids: Sequence[int], **options: Any) -> str:
        sizes.append(len(ids))
        return decode(ids, **options)

    monkeypatch.setattr(known, "decode", counted)
    ids = known.encode("很" * 200).ids.tolist()
    assert "".join(pieces(known, ids[:300], ids[300:])) == "很" * 101
    assert max(sizes) < 40
