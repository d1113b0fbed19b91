"""Writing: equal to transformers, to itself in batches and without a cache; what is held back."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfsup
from selfsup.config import WordPieceConfig
from selfsup.data.tokenizers import train_tokenizer
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.sequences import Sequences
from selfsup.uses.generate import Piece, Writer, complete, generate, join
from selfsup.uses.sampling import Sampling
from selfsup.uses.token_text import TokenText
from tests.uses.decoders import folder, tokenizer

PROMPTS = ["In a shocking finding", "The", "他们在图书馆里读书，老师", "the sum of two numbers is"]
GREEDY = Sampling(greedy=True, max_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("decoders")
    return {kind: folder(kind, root / kind) for kind in ("gpt2", "llama", "qwen2")}


@pytest.fixture(scope="module")
def gpt2(folders: dict[str, Path]) -> PretrainedDecoder:
    return endless(load_decoder(folders["gpt2"]))


def endless(decoder: PretrainedDecoder) -> PretrainedDecoder:
    return replace(decoder, end_ids=frozenset())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_greedy_is_transformers_token_for_token(kind: str, folders: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    peer: Any = transformers.AutoModelForCausalLM.from_pretrained(folders[kind]).eval()
    ours = load_decoder(folders[kind])
    written = complete(ours, PROMPTS, GREEDY)
    assert len({tuple(one.ids) for one in written}) == len(PROMPTS)
    for prompt, one in zip(PROMPTS, written, strict=True):
        ids = torch.tensor(ours.tokenizer.encode(prompt).ids)[None]
        found = peer.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :].tolist()
        ends = [i for i, id in enumerate(found) if id in ours.end_ids]
        assert one.ids == found[: ends[0]] if ends else found
        assert one.finish == ("end" if ends else "length")


@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(seed=5, max_tokens=12, top_p=0.95, repetition_penalty=1.2)]
)
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_batch_is_one_by_one(kind: str, sampling: Sampling, folders: dict[str, Path]) -> None:
    decoder = endless(load_decoder(folders[kind]))
    many = replace(sampling, samples=3 if sampling.draws else 1)
    together = complete(decoder, PROMPTS, many)
    each = range(many.samples)
    assert [(o.prompt, o.sample) for o in together] == [(p, s) for p in PROMPTS for s in each]
    for batch in (1, 5):
        assert complete(decoder, PROMPTS, many, batch=batch) == together
    assert complete(decoder, PROMPTS, replace(many, samples=1)) == together[:: many.samples]


def test_cached_is_uncached(gpt2: PretrainedDecoder) -> None:
    for one in complete(gpt2, PROMPTS, GREEDY):
        ids = gpt2.tokenizer.encode(one.prompt).ids.tolist()
        for id in one.ids:
            with torch.no_grad():
                hidden = gpt2.model(Sequences.from_lists([torch.tensor(ids).numpy()]))
                assert int(gpt2.model.predict(hidden[-1:]).argmax()) == id
            ids.append(id)


def test_rows_that_end_make_room(gpt2: PretrainedDecoder) -> None:
    """The first two tokens of some rows are taken for ends; the others must not notice."""
    free = complete(gpt2, PROMPTS, GREEDY)
    end = frozenset({free[0].ids[3], free[2].ids[7]})
    ended = complete(replace(gpt2, end_ids=end), PROMPTS, GREEDY)
    for one, whole in zip(ended, free, strict=True):
        at = next((i for i, id in enumerate(whole.ids) if id in end), None)
        assert one.ids == whole.ids[:at]
        assert one.finish == ("length" if at is None else "end")
    assert {"length", "end"} == {one.finish for one in ended}


def test_seeds(gpt2: PretrainedDecoder) -> None:
    first, again, other = (
        [o.ids for o in complete(gpt2, ["The"], Sampling(seed=s, samples=4, max_tokens=8))]
        for s in (0, 0, 1)
    )
    assert first == again != other
    assert len({tuple(ids) for ids in first}) == 4
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    complete(gpt2, ["The"], Sampling(max_tokens=3))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_pieces_join_to_the_text(gpt2: PretrainedDecoder) -> None:
    pieces = list(generate(gpt2, PROMPTS, Sampling(max_tokens=30, seed=2)))
    assert all(isinstance(p, Piece) for p in pieces)
    for one in join(PROMPTS, iter(pieces)):
        whole = gpt2.tokenizer.decode(one.ids)
        assert one.text == whole.replace("\N{REPLACEMENT CHARACTER}", "")
        assert len(one.ids) == 30
    assert sum(bool(p.finish) for p in pieces) == len(PROMPTS)


def test_no_part_of_a_letter_is_lost(gpt2: PretrainedDecoder) -> None:
    """Of a tokenizer that takes letters apart, what was given out as 하 could not become 한 any more."""
    config = WordPieceConfig(vocab_size=36, strip_accents=True)
    made = train_tokenizer(config, ["하나 한국 나라 아가 다 가나다라"] * 3).for_decoder()
    writes = replace(gpt2, tokenizer=made)
    (one,) = complete(writes, ["하"], Sampling(max_tokens=40, seed=1))
    whole = made.decode([*made.encode("하").ids.tolist(), *one.ids])
    assert any("가" <= letter <= "힣" for letter in whole[1:])  # letters of several tokens
    assert unicodedata.normalize("NFC", "하" + one.text) == whole


def text_of(
    words: str, stops: tuple[str, ...] = (), prompt: str = "a"
) -> tuple[list[str], str, bool]:
    known = tokenizer()
    text = TokenText(known, known.encode(prompt).ids.tolist(), stops)
    parts = []
    for id in known.encode(words, special=False).ids.tolist():
        parts.append(text.add(id))
        if text.stopped:
            break
    return parts, text.finish(), text.stopped


def test_characters_come_whole() -> None:
    words = "naïve 你好 🦄 unicorns 🦄"
    parts, rest, _ = text_of(words)
    assert "".join(parts) + rest == words
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(parts)
    assert "" in parts  # something was held back
    known = tokenizer()
    half = known.encode("🦄", special=False).ids.tolist()[:-1]
    text = TokenText(known, [], ())
    assert [text.add(id) for id in half] == [""] * len(half)
    assert text.finish() == ""


def test_broken_bytes_do_not_hold_the_rest() -> None:
    known = tokenizer()
    half = known.encode("🦄", special=False).ids.tolist()[:1]
    text = TokenText(known, [], ())
    ids = half * 3 + known.encode("ok", special=False).ids.tolist()
    shown = "".join(text.add(id) for id in ids) + text.finish()
    assert shown == "ok"
    inside = [*known.encode("a", special=False).ids, *half, *known.encode("你b", special=False).ids]
    text = TokenText(known, [], ())
    parts = [text.add(int(id)) for id in inside]
    assert "".join(parts) + text.finish() == "a你b"


def test_the_replacement_character_is_one_like_others() -> None:
    known = tokenizer()
    words = "x\ufffdy \ufffd\ufffd 你\ufffd"
    parts, rest, _ = text_of(words)
    assert "".join(parts) + rest == words
    half = known.encode("🦄", special=False).ids.tolist()[:1]
    ids = known.encode("\ufffd", special=False).ids.tolist()
    text = TokenText(known, [], ())
    parts = [text.add(id) for id in (*half, *ids, *half, *ids, *ids[:-1])]
    assert "".join(parts) + text.finish() == "\ufffd\ufffd"


@pytest.mark.parametrize(
    ("stops", "wanted", "stopped"),
    [
        (("sc",), "the unicorn ", True),
        (("unicorn scien",), "the ", True),
        (("zzz", "rn s"), "the unico", True),
        (("scientistsss",), "the unicorn scientists", False),
        (("s.",), "the unicorn scientists", False),
    ],
)
def test_stop_strings_that_straddle_tokens(
    stops: tuple[str, ...], wanted: str, stopped: bool
) -> None:
    parts, rest, met = text_of("the unicorn scientists", stops)
    assert "".join(parts) + rest == wanted
    assert met == stopped


def test_a_stop_ends_one_row_only(gpt2: PretrainedDecoder) -> None:
    free = complete(gpt2, PROMPTS, GREEDY)
    stop = free[0].text[4:7]
    stopped = complete(gpt2, PROMPTS, replace(GREEDY, stop=(stop,)))
    assert stopped[0].finish == "stop"
    for one, whole in zip(stopped, free, strict=True):
        assert one.text == whole.text.split(stop)[0]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_full_context_moves_on(kind: str, folders: dict[str, Path]) -> None:
    """As if the last half were read anew each time; rows of other lengths are not disturbed."""
    decoder = endless(load_decoder(folders[kind]))
    longest = decoder.max_length
    written = complete(decoder, PROMPTS, Sampling(greedy=True, max_tokens=longest * 2))
    for one in written:
        assert f"the context of {longest} tokens is full: its last {longest // 2}" in one.note
        ids = decoder.tokenizer.encode(one.prompt).ids.tolist()
        begin = 0
        for id in one.ids:
            if len(ids) - begin > longest:
                begin = len(ids) - longest // 2
            with torch.no_grad():
                hidden = decoder.model(Sequences.from_lists([torch.tensor(ids[begin:]).numpy()]))
                logits = decoder.model.predict(hidden[-1])
            assert float(logits.max() - logits[id]) < 1e-3
            ids.append(id)


def test_a_prompt_longer_than_the_context(gpt2: PretrainedDecoder) -> None:
    long = "In a shocking finding " * 20
    count = len(gpt2.tokenizer.encode(long).ids)
    (one,) = complete(gpt2, [long], Sampling(greedy=True, max_tokens=10))
    assert one.note == f"prompt 1 has {count} tokens, the model reads 48: its last 38 are read"
    with pytest.raises(UserError, match=f"prompt 2: has {count} tokens, the model reads 48"):
        generate(gpt2, ["a", long], cut=False)


def test_room_that_is_kept_for_what_is_written(gpt2: PretrainedDecoder) -> None:
    writer, text = Writer(gpt2), "a long text. " * 200
    room = gpt2.max_length - 12
    (cut,) = join([text], writer.generate([text], GREEDY, reserve=True))
    assert f"its last {room} are read" in cut.note
    assert "full" not in cut.note
    ids = gpt2.tokenizer.encode(text).ids[-room:].tolist()
    for _ in range(12):
        with torch.inference_mode():
            hidden = gpt2.model(Sequences.from_lists([np.array(ids)]))
            logits = gpt2.model.predict(hidden[-1:])[0, : gpt2.tokenizer.vocab_size]
        ids.append(int(logits.argmax()))
    assert cut.ids == ids[room:]
    much = Sampling(greedy=True, max_tokens=gpt2.max_length)
    with pytest.raises(UserError, match="leave no room for a prompt"):
        writer.generate(["a"], much, reserve=True)


def test_an_empty_prompt_starts_from_the_begin_token(gpt2: PretrainedDecoder) -> None:
    (one,) = complete(gpt2, [""], GREEDY)
    begin = torch.tensor([gpt2.tokenizer.begin_id]).numpy()
    with torch.no_grad():
        first = gpt2.model.predict(gpt2.model(Sequences.from_lists([begin]))).argmax()
    assert one.ids[0] == int(first)


def test_rows_that_pad_the_matrix_are_no_words(gpt2: PretrainedDecoder) -> None:
    known = gpt2.tokenizer.vocab_size
    shape = gpt2.config.model_copy(update={"vocab_size": 2 * known})
    torch.manual_seed(0)
    wide = replace(gpt2, model=CausalLanguageModel(shape).eval(), config=shape)
    written = Writer(wide).generate(PROMPTS, Sampling(seed=1, temperature=5.0))
    ids = [id for piece in written for id in piece.ids]
    assert len(ids) > 20  # half of them would lie beyond, were those rows not left out
    assert max(ids) < known


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"int8": True}, {"precision": "auto"}])
def test_other_numbers_write_too(gpt2: PretrainedDecoder, options: dict[str, Any]) -> None:
    one, two = complete(gpt2, ["The", "In a"], GREEDY, **options)
    assert len(one.ids) == len(two.ids) == 12


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("sampling", [GREEDY, Sampling()])
def test_a_model_that_gives_no_numbers(
    value: float, sampling: Sampling, folders: dict[str, Path]
) -> None:
    broken = load_decoder(folders["gpt2"])
    with torch.no_grad():
        broken.model.decoder.final_norm.weight[0] = value
    with pytest.raises(UserError, match="gives NaN or infinite logits"):
        complete(broken, ["The"], sampling)


def test_what_is_refused_at_once(gpt2: PretrainedDecoder) -> None:
    with pytest.raises(UserError, match="no prompt"):
        generate(gpt2, [])
    with pytest.raises(UserError, match="--batch: must be at least 1"):
        generate(gpt2, ["a"], batch=0)
    with pytest.raises(UserError, match="unknown precision 'fp8'"):
        generate(gpt2, ["a"], precision="fp8")
    assert selfsup.generate is generate
