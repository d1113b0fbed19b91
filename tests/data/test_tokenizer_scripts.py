"""Scripts beside Latin: accents that are letters, combining marks, long runs, ends of sentences."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfsup.config import BytePairConfig, TokenizerConfig, WordPieceConfig
from selfsup.data import tokenizers as module
from selfsup.data.tokenizer_scripts import (
    SENTENCE_ENDS,
    letter_shares,
    marked_words,
    over_marks,
    strips_accents,
)
from selfsup.data.tokenizers import SPECIAL_TOKENS, Tokenizer, load_tokenizer, train_tokenizer

ENGLISH = ["The café of the house is the one that we all like to go to, whatever it may cost."] * 3
TEXTS = {
    "hi": "नेहरू ने कहा कि हिन्दी की किताबें अच्छी हैं। भारत में बहुत लोग पढ़ते हैं।",
    "th": "ประเทศไทยมีภาษาที่เขียนติดกันไม่มีช่องว่าง และมีวรรณยุกต์",
    "ja": "がっこうでべんきょうする。コンピュータープログラム。",
    "ko": "한국어는 아름다운 언어이다. 대한민국의 수도는 서울이다.",
    "vi": "tiếng việt có nhiều dấu thanh và chữ cái đặc biệt.",
    "fr": "l'été où l'élève a été reçu à l'école, le garçon était là.",
}
HINDI = [TEXTS["hi"]] * 3


def trained(config: TokenizerConfig, texts: list[str]) -> tuple[Tokenizer, list[str]]:
    said: list[str] = []
    return train_tokenizer(config, texts, say=said.append), said


def fitting(texts: list[str], **fields: object) -> tuple[Tokenizer, list[str]]:
    """WordPiece as large as the texts give it."""
    config = WordPieceConfig.model_validate({"vocab_size": 2000, **fields})
    with pytest.raises(module.UserError) as caught:
        train_tokenizer(config, texts)
    size = int(caught.value.mend.split()[1].rstrip(","))
    return trained(config.model_copy(update={"vocab_size": size}), texts)


def test_shares_of_accents_and_marks() -> None:
    assert letter_shares(["abc é", " 12."]) == (0.25, 0)
    assert letter_shares(["abc", "e\u0301"]) == (0.2, 0.2)
    assert letter_shares(["한글"]) == (1, 0)
    assert letter_shares(["ab\u2764\ufe0f"]) == letter_shares(["", "12"]) == (0, 0)  # emoji
    assert letter_shares([TEXTS["hi"]]).marks > 0.3


@pytest.mark.parametrize("language", TEXTS)
def test_accents_are_kept_where_they_are_letters(language: str) -> None:
    made, said = fitting([TEXTS[language]] * 3)
    assert [line for line in said if line.startswith("accents are kept: ")]
    ids = made.encode(TEXTS[language], special=False).ids
    assert made.unknown_id not in ids
    spaces = {ord(" "): None}
    assert made.decode(ids).translate(spaces) == TEXTS[language].translate(spaces)


def test_accents_are_stripped_where_they_are_few_or_as_said() -> None:
    english = [*ENGLISH, "the house is the one that we like " * 60]
    made, said = fitting(english)
    assert not said
    assert made.inner.normalizer.normalize_str("Café") == "cafe"
    state = json.loads(made.inner.to_str())
    assert state["normalizer"]["strip_accents"] is None  # as before there was a choice
    assert state["model"]["max_input_chars_per_word"] == 100
    for strip, read in ((True, "cafe"), (False, "café")):
        made, said = fitting(english, strip_accents=strip)
        assert (made.inner.normalizer.normalize_str("Café"), said) == (read, [])
    cased, said = fitting([TEXTS["fr"]] * 3, lowercase=False)
    assert (cased.inner.normalizer.normalize_str("Été"), said) == ("Été", [])
    assert json.loads(cased.inner.to_str())["normalizer"]["strip_accents"] is None


def test_what_was_stripped_is_written_as_one_letter() -> None:
    made, _ = fitting([TEXTS["ko"]] * 3, strip_accents=True)
    ids = made.encode("한국어", special=False).ids
    assert len(made.token(int(ids[0]))) > 1  # ᄒ, ᅡ, ᆫ …
    assert made.decode(ids) == "한국어"
    assert made.growing.decode(ids) == unicodedata.normalize("NFD", "한국어")
    assert made.growing.decode(ids) != made.decode(ids)
    kept, _ = fitting([unicodedata.normalize("NFD", TEXTS["vi"])] * 3)
    assert kept.growing is kept
    assert kept.decode(kept.encode("e\u0302").ids) == "e\u0302"  # kept as they were


@pytest.mark.parametrize(
    ("normalizer", "strips"),
    [
        (None, False),
        ({"type": "BertNormalizer", "lowercase": True, "strip_accents": None}, True),
        ({"type": "BertNormalizer", "lowercase": False, "strip_accents": None}, False),
        ({"type": "BertNormalizer", "lowercase": True, "strip_accents": False}, False),
        ({"type": "BertNormalizer", "lowercase": False, "strip_accents": True}, True),
        ({"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]}, True),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, False),
    ],
)
def test_who_strips_accents(normalizer: dict[str, object] | None, strips: bool) -> None:
    assert strips_accents(normalizer) is strips


def test_long_runs_are_read_where_the_text_has_them() -> None:
    run = TEXTS["th"].split()[0]
    made, said = fitting([f"{run * 4} {TEXTS['th']}"] * 3)
    assert "words may have 1,000 characters: the text has long runs without a space" in said
    assert made.unknown_id not in made.encode(run * 20, special=False).ids
    assert made.encode(run * 40, special=False).ids.tolist() == [made.unknown_id]
    usual, said = fitting([f"{run} {TEXTS['th']}"] * 3)
    assert len(said) == 1  # accents alone
    assert usual.encode(run * 4, special=False).ids.tolist() == [usual.unknown_id]
    _, said = fitting(["aé " * 100_000 + "x" * 150])
    assert len(said) == 1


def marked(count: int = 400) -> tuple[Tokenizer, list[str]]:
    draw = random.Random(0)
    words = TEXTS["hi"].replace("।", "").split() + TEXTS["th"].split()
    texts = [" ".join(draw.choices(words, k=12)) + "।\n" for _ in range(count)]
    return trained(BytePairConfig(vocab_size=330), texts)[0], texts


MARKED, MARKED_TEXTS = marked()


def test_byte_pairs_keep_marks_within_words() -> None:
    _, said = trained(BytePairConfig(vocab_size=300), HINDI)
    assert said == ["words go on through combining marks: 45.6% of the letters are such"]
    encoded = MARKED.encode("नेहरू ने 12 it's.", special=False)
    pieces = [MARKED.decode(encoded.ids[encoded.words == w]) for w in range(encoded.words[-1] + 1)]
    assert pieces == ["नेहरू", " ने", " 12", " it", "'s", "."]
    assert MARKED._may_cut
    plain = train_tokenizer(BytePairConfig(vocab_size=300), ENGLISH * 3)
    state = json.loads(plain.inner.to_str())["pre_tokenizer"]
    assert (state["type"], state["use_regex"]) == ("ByteLevel", True)
    assert not marked_words(state)
    assert marked_words(json.loads(MARKED.inner.to_str())["pre_tokenizer"])


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.text(), st.text("हिन्दी ก็ไม่ a1.\n")))
def test_byte_pairs_with_marks_round_trip(text: str) -> None:
    if any(token in text for token in SPECIAL_TOKENS):
        return
    encoded = MARKED.encode(text, special=False)
    assert MARKED.decode(encoded.ids) == text
    assert MARKED.byte_lengths is not None
    assert MARKED.byte_lengths[encoded.ids].sum() == len(text.encode())
    ids, starts = MARKED.encode_documents([text])
    assert ids[0].tolist() == encoded.ids.tolist()
    assert starts[0].tolist() == (np.diff(encoded.words, prepend=-1) != 0).tolist()


def test_long_texts_with_marks_are_cut_without_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(MARKED_TEXTS)
    whole = MARKED.encode_documents([text])
    monkeypatch.setattr(module, "_LONG", 500)
    assert len(list(module._cut(text))) > 5
    parts = MARKED.encode_documents([text])
    for one, other in zip(whole, parts, strict=True):
        assert one[0].tolist() == other[0].tolist()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_saved_opens_in_transformers(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    made = MARKED if kind == "gpt2" else fitting(list(TEXTS.values()) * 3)[0]
    made.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))  # as a model's folder
    assert load_tokenizer(tmp_path).fingerprint == made.fingerprint
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    said = json.loads((tmp_path / "tokenizer_config.json").read_text())
    agreed = {"do_lower_case": True, "strip_accents": False} if kind == "bert" else {}
    assert {key: said[key] for key in ("do_lower_case", "strip_accents") if key in said} == agreed
    for text in (*TEXTS.values(), "Grüße, 世界!\n x", "e\u0301 한글 it's"):
        assert theirs(text)["input_ids"] == made.encode(text).ids.tolist()


def test_sentences_end_in_all_scripts() -> None:
    import tokenizers

    pattern = tokenizers.Regex(r"\p{Sentence_Terminal}")
    split = tokenizers.pre_tokenizers.Split(pattern, "isolated")
    assert [end for end in SENTENCE_ENDS if len(split.pre_tokenize_str(f"a{end}a")) != 3] == [
        "…",
        "\n",
    ]
    assert all(len(end) == 1 for end in SENTENCE_ENDS)
    assert len(set(SENTENCE_ENDS)) == len(SENTENCE_ENDS)
    assert set("।॥؟۔។၊။።．｡") < set(SENTENCE_ENDS)
    made, _ = fitting(HINDI)
    assert made.ends_sentence[made.id("।")]


MARKS = set("\u0301\u0302\u0e31")


@given(st.text(["a", "é", " ", *MARKS]))
def test_marks_without_a_token_belong_to_the_token_before(text: str) -> None:
    letters = [at for at, letter in enumerate(text) if letter in "aé"]
    offsets = np.array([[at, at + 1] for at in letters], np.int32).reshape(-1, 2)
    drawn = over_marks(text, offsets)
    for (begin, end), at in zip(drawn.tolist(), letters, strict=True):
        marks = 0
        while text[at + 1 + marks : at + 2 + marks] in MARKS:
            marks += 1
        assert (begin, end) == (at, at + 1 + marks)


def test_marks_that_are_tokens_stay_so() -> None:
    offsets = np.array([[0, 1], [1, 2], [3, 4]], np.int32)
    assert over_marks("क\u0947\u0902क", offsets).tolist() == [[0, 1], [1, 3], [3, 4]]
    empty = np.array([[0, 0]], np.int32)  # a token of no text takes none
    assert over_marks("\u0947", empty).tolist() == [[0, 0]]
