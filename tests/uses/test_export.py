"""GGUF files: read back with the package of its authors; what cannot be written is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from selfsup.config import CharacterConfig
from selfsup.data.tokenizer_scripts import MARKED_STEPS
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.uses.export import export_gguf, gguf_tensors
from tests.uses.decoders import TEXTS, config, decoder


def read_back(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    gguf = pytest.importorskip("gguf", reason="the extra gguf is not installed")
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    return fields, {t.name: t.data for t in reader.tensors}


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("number", ["f32", "f16"])
def test_what_was_written_is_there(kind: str, number: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    made = decoder(kind, tmp_path / kind)
    file = tmp_path / "out.gguf"
    result = export_gguf(made, file, number)
    fields, tensors = read_back(file)
    assert result["architecture"] == fields["general.architecture"] == kind
    assert fields[f"{kind}.context_length"] == 48
    assert fields[f"{kind}.attention.head_count"] == 4
    if kind != "gpt2":
        assert fields[f"{kind}.attention.head_count_kv"] == 2
    known = made.tokenizer
    tokens = fields["tokenizer.ggml.tokens"]
    assert tokens == [known.token(i) for i in range(known.vocab_size)]
    types = fields["tokenizer.ggml.token_type"]
    assert {i for i, t in enumerate(types) if t == 3} == known.special_ids
    assert fields["tokenizer.ggml.pre"] == "gpt-2"
    assert fields["tokenizer.ggml.bos_token_id"] == known.begin_id
    assert fields["tokenizer.ggml.eos_token_id"] == known.end_id
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert all(len(merge.split(" ")) == 2 for merge in fields["tokenizer.ggml.merges"])
    wanted = gguf_tensors(kind, made.config, dict(made.model.named_parameters()))
    assert set(tensors) == set(wanted)
    for name, tensor in wanted.items():
        near = 0 if number == "f32" else 2e-3
        np.testing.assert_allclose(tensors[name], tensor.numpy(), atol=near, rtol=near)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["out.gguf"]


def test_llamas_queries_turn_by_neighbours() -> None:
    """Rotating neighbours of the new order is rotating halves of the old one."""
    made = config("llama")
    width = 32 // 4
    weight = torch.arange((4 + 2 + 2) * width * 32).view(-1, 32).float()
    name = "decoder.blocks.0.attention.qkv.weight"
    found = gguf_tensors("llama", made, {name: weight})
    first = weight[:width]
    torch.testing.assert_close(found["blk.0.attn_q.weight"][:width][0::2], first[: width // 2])
    torch.testing.assert_close(found["blk.0.attn_q.weight"][:width][1::2], first[width // 2 :])
    torch.testing.assert_close(found["blk.0.attn_v.weight"], weight[-2 * width :])
    same = gguf_tensors("qwen2", made, {name: weight})
    torch.testing.assert_close(same["blk.0.attn_q.weight"], weight[: 4 * width])


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_llama_cpp_writes_the_same(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    from selfsup.uses.generate import complete
    from selfsup.uses.sampling import Sampling

    made = decoder(kind, tmp_path / kind)
    file = tmp_path / "out.gguf"
    export_gguf(made, file)
    peer = llama_cpp.Llama(str(file), n_ctx=48, verbose=False, n_threads=1)
    for prompt in ("In a shocking finding", "他们在图书馆"):
        ids = made.tokenizer.encode(prompt).ids.tolist()
        assert peer.tokenize(prompt.encode(), add_bos=True, special=False) == ids
        (ours,) = complete(made, [prompt], Sampling(greedy=True, max_tokens=12))
        theirs: list[int] = []
        for id in peer.generate(ids, temp=0.0, repeat_penalty=1.0):
            if id in made.end_ids or len(theirs) == 12:
                break
            theirs.append(id)
        assert theirs == ours.ids


CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
)
LLAMA3 += r"|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (  # OpenAI's newer one: parts words at capitals
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    + LLAMA3.replace(r"[\r\n]*|", r"[\r\n/]*|")[len(CONTRACTIONS) :]
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
AFTER = {**BYTES, "use_regex": False}


def split(pattern: str, **changed: Any) -> dict[str, Any]:
    plain = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return {**plain, "invert": False, **changed}


def digits(each: bool) -> dict[str, Any]:
    return {"type": "Digits", "individual_digits": each}


def with_state(made: PretrainedDecoder, *steps: dict[str, Any], **model: Any) -> PretrainedDecoder:
    """The decoder with another splitter, and other settings of its byte pairs."""
    state = json.loads(made.tokenizer.inner.to_str())
    state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": list(steps)}
    state["model"] |= model
    inner = tokenizers.Tokenizer.from_str(json.dumps(state))
    return replace(made, tokenizer=Tokenizer(inner, made.tokenizer.names))


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([BYTES], "gpt-2"),
        ([digits(True), BYTES], "smollm"),
        ([split(LLAMA3), AFTER], "llama-bpe"),
        ([split(QWEN2), AFTER], "qwen2"),
        ([split(QWEN2), {**AFTER, "trim_offsets": False}], "qwen2"),
    ],
)
def test_ways_to_part_words_have_names(
    steps: list[dict[str, Any]], name: str, tmp_path: Path
) -> None:
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    made = with_state(decoder("llama", tmp_path / "llama"), *steps)
    export_gguf(made, tmp_path / "out.gguf")
    fields, _ = read_back(tmp_path / "out.gguf")
    assert fields["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize(
    "steps",
    [
        [{**BYTES, "add_prefix_space": True}],
        [AFTER],
        [digits(False), BYTES],
        [digits(True), {**BYTES, "add_prefix_space": True}],
        [digits(True), AFTER],
        [split(O200K), AFTER],
        [split(LLAMA3.replace("(?i:", "(?:")), AFTER],
        [split(LLAMA3, behavior="Removed"), AFTER],
        [split(LLAMA3, invert=True), AFTER],
        [split(LLAMA3), BYTES],
        [split(LLAMA3), {**AFTER, "add_prefix_space": True}],
        [split(QWEN2 + "|x"), AFTER],
    ],
)
def test_ways_that_only_look_alike_are_refused(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    made = with_state(decoder("llama", tmp_path / "llama"), *steps)
    with pytest.raises(UserError, match="parts words in a way that GGUF has no name for"):
        export_gguf(made, tmp_path / "out.gguf")


def test_marks_within_words_have_no_name(tmp_path: Path) -> None:
    made = with_state(decoder("llama", tmp_path / "llama"), *MARKED_STEPS)
    with pytest.raises(UserError, match=r"keeps combining marks within words.*transformers opens"):
        export_gguf(made, tmp_path / "out.gguf")


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
def test_normal_forms_of_texts(form: str, tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    made = decoder("qwen2", tmp_path / "qwen2")
    state = json.loads(made.tokenizer.inner.to_str()) | {"normalizer": {"type": form}}
    inner = tokenizers.Tokenizer.from_str(json.dumps(state))
    made = replace(made, tokenizer=Tokenizer(inner, made.tokenizer.names))
    if form == "NFC":
        assert "NFC first" in export_gguf(made, tmp_path / "out.gguf")["notes"][0]
    else:
        with pytest.raises(UserError, match="only byte-level BPE"):
            export_gguf(made, tmp_path / "out.gguf")


def test_words_that_no_merge_makes(tmp_path: Path) -> None:
    """llama.cpp takes them whole with Llama 3's name alone."""
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    made, file = decoder("llama", tmp_path / "llama"), tmp_path / "out.gguf"
    vocab = json.loads(made.tokenizer.inner.to_str())["model"]["vocab"]
    token = next(t for t, id in vocab.items() if id == max(vocab.values()))
    more = {"vocab": {t: id for t, id in vocab.items() if t != token} | {"zqz": vocab[token]}}
    more["merges"] = json.loads(made.tokenizer.inner.to_str())["model"]["merges"][:-1]
    for pattern, ignored, good in (
        (LLAMA3, True, True),
        (LLAMA3, False, False),
        (QWEN2, False, True),
        (QWEN2, True, False),
    ):
        other = with_state(made, split(pattern), AFTER, ignore_merges=ignored, **more)
        if good:
            export_gguf(other, file)
        else:
            with pytest.raises(UserError, match="would not merge letters as its tokenizer does"):
                export_gguf(other, file)


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = decoder("gpt2", tmp_path / "gpt2")
    file = tmp_path / "out.gguf"
    exact = replace(made, config=made.config.model_copy(update={"activation": "gelu"}))
    with pytest.raises(UserError, match="gpt2 with gelu_tanh, this model has gelu"):
        export_gguf(exact, file)
    other = replace(made, config=made.config.model_copy(update={"norm": "rmsnorm"}))
    with pytest.raises(UserError, match="no such architecture"):
        export_gguf(other, file)
    letters = train_tokenizer(CharacterConfig(), TEXTS).for_decoder()
    with pytest.raises(UserError, match="only byte-level BPE"):
        export_gguf(replace(made, tokenizer=letters), file)
    with pytest.raises(UserError, match="unknown type 'q4'"):
        export_gguf(made, file, "q4")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"pip install 'selfsup\[gguf\]'"):
        export_gguf(made, file)
    assert not file.exists()
