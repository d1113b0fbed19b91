"""GPT-2, Llama and Qwen2 against transformers, the cache against the whole, and model folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import selfsup
from selfsup.config import (
    BytePairConfig,
    TransformerConfig,
)
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.errors import UserError
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder, save_decoder
from selfsup.models.decoder_names import decoder_family
from selfsup.models.hub import load_encoder
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.cache import KeyValueCache, continuation, continuations
from selfsup.nn.sequences import Sequences

transformers = pytest.importorskip("transformers")

VOCABULARY = 320
LENGTHS = [7, 40, 1, 23, 40]
KINDS = ["gpt2", "llama", "llama3", "llama-untied", "qwen2"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    made = train_tokenizer(BytePairConfig(vocab_size=270), ["the cat sat on the mat " * 50])
    return made.for_decoder()


def reference(kind: str) -> Any:
    """transformers' model with random weights, biases and norms away from 0 and 1."""
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=64,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=2,
            eos_token_id=3,
        )
        model = transformers.GPT2LMHeadModel(config)
    else:
        ropes = {"rope_type": "default", "rope_theta": 500.0}
        if kind == "llama3":
            ropes = {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        names = ("Qwen2Config", "Qwen2ForCausalLM")
        if kind != "qwen2":
            names = ("LlamaConfig", "LlamaForCausalLM")
        config = getattr(transformers, names[0])(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            tie_word_embeddings=kind != "llama-untied",
            rope_parameters=ropes,
        )
        model = getattr(transformers, names[1])(config)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def folder_of(model: Any, tokenizer: Tokenizer, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save(folder)
    return folder


def texts() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randint(5, VOCABULARY, (n,)) for n in LENGTHS]


def concatenated() -> Sequences:
    return Sequences.from_lists([t.numpy() for t in texts()])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_loss_and_gradients(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    theirs = reference(kind)
    opened = load_decoder(folder_of(theirs, tokenizer, tmp_path))
    theirs, ours = theirs.double(), opened.model.double()
    assert ours.config.tied == (kind != "llama-untied")
    logits = ours.predict(ours(concatenated()))
    expected = [theirs(t[None]).logits[0] for t in texts()]
    assert torch.allclose(logits, torch.cat(expected), atol=1e-6, rtol=0)
    lost = sum(
        F.cross_entropy(e[:-1], t[1:], reduction="sum")
        for e, t in zip(expected, texts(), strict=True)
    )
    assert isinstance(lost, torch.Tensor)
    lost.backward()
    mine = sum(
        F.cross_entropy(part[:-1], t[1:], reduction="sum")
        for part, t in zip(logits.split(LENGTHS), texts(), strict=True)
    )
    assert isinstance(mine, torch.Tensor)
    assert float(mine.detach()) == pytest.approx(float(lost.detach()), rel=1e-8)
    mine.backward()
    grads = {n: p.grad for n, p in ours.named_parameters()}
    from selfsup.models.decoder_names import from_decoder_family

    given = {n: p.grad for n, p in theirs.named_parameters()}
    family = {"gpt2": "gpt2", "qwen2": "qwen2"}.get(kind, "llama")
    wanted, extra = from_decoder_family(family, given, list(grads))
    assert not extra
    for name, gradient in grads.items():
        assert gradient is not None
        assert torch.allclose(gradient, wanted[name], atol=1e-6 * float(gradient.abs().max())), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_way_there_and_back_is_exact(kind: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    theirs = reference(kind)
    opened = load_decoder(folder_of(theirs, tokenizer, tmp_path / "in"))
    (tmp_path / "out").mkdir()
    save_decoder(tmp_path / "out", opened.model, opened.tokenizer, {"steps": 3}, "card")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(again) is type(theirs)
    tokens = texts()[1][None]
    assert torch.equal(again(tokens).logits, theirs(tokens).logits)
    reopened = selfsup.load(tmp_path / "out")
    assert isinstance(reopened, PretrainedDecoder)
    assert reopened.config == opened.config
    assert reopened.origin["steps"] == 3
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert words("the cat")["input_ids"] == opened.tokenizer.encode("the cat").ids.tolist()
    assert words.eos_token_id == opened.tokenizer.end_id


@pytest.mark.parametrize("kind", KINDS)
def test_reading_in_parts_is_reading_at_once(
    kind: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """A cache over rows of other lengths: a beginning, single tokens, and a longer rest."""
    opened = load_decoder(folder_of(reference(kind), tokenizer, tmp_path))
    ids = [t for t in texts() if len(t) > 6]
    with torch.no_grad():
        whole = opened.model(Sequences.from_lists([t.numpy() for t in ids]))
        parts = whole.split([len(t) for t in ids])
        cache = KeyValueCache(opened.config, len(ids), 64)
        begun = [2, 3, 1, 4]
        read = [
            opened.model(
                continuations([t[:n] for t, n in zip(ids, begun, strict=True)], cache.lengths),
                cache,
            )
        ]
        for step in range(2):  # the rows stand at different places
            tokens = torch.stack([t[n + step] for t, n in zip(ids, begun, strict=True)])
            read.append(opened.model(continuation(tokens, cache.lengths), cache))
        assert cache.lengths.tolist() == [4, 5, 3, 6]
        rest = [t[n + 2 :] for t, n in zip(ids, begun, strict=True)]
        read.append(opened.model(continuations(rest, cache.lengths), cache))
    sizes = [begun, [1] * 4, [1] * 4, [len(r) for r in rest]]
    pieces = [part.split(size) for part, size in zip(read, sizes, strict=True)]
    for row, expected in enumerate(parts):
        got = torch.cat([piece[row] for piece in pieces])
        assert torch.allclose(got, expected, atol=2e-5), row


def test_rows_of_a_cache_are_kept_cut_and_never_overrun(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    opened = load_decoder(folder_of(reference("llama"), tokenizer, tmp_path))
    first, second = texts()[0], texts()[3]
    cache = KeyValueCache(opened.config, 2, 24)
    with torch.no_grad():
        opened.model(continuations([first[:5], second[:9]], cache.lengths), cache)
        cache.keep(torch.tensor([1, 1, 0]))
        cache.cut(torch.tensor([9, 4, 5]))
        assert cache.lengths.tolist() == [9, 4, 5]
        new = torch.stack([second[9], second[4], first[5]])
        got = opened.model(continuation(new, cache.lengths), cache)
        for row, text in enumerate((second[:10], second[:5], first[:6])):
            whole = opened.model(Sequences.from_lists([text.numpy()]))
            assert torch.allclose(got[row], whole[-1], atol=2e-5)
        with pytest.raises(ValueError, match="the cache holds 24"):
            opened.model(continuations([second[:20]] * 3, cache.lengths), cache)
        with pytest.raises(ValueError, match="2 sequences for 3 rows"):
            opened.model(continuations([first, first], cache.lengths[:2]), cache)


def test_packed_rows_equal_single_texts() -> None:
    """Documents in one row do not see each other; a decoder's row may also be one long text."""
    torch.manual_seed(2)
    shape = TransformerConfig(
        vocab_size=50,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        intermediate_size=32,
        norm_position="pre",
        embedding_norm=False,
        positions="rotary",
        norm="rmsnorm",
        gated=True,
        bias=False,
        type_vocab_size=0,
        pooler=False,
        causal=True,
        initializer_range=0.5,
    )
    model = CausalLanguageModel(shape).double()
    tokens = torch.randint(0, 50, (64,))
    starts = torch.tensor([0, 10, 32, 33, 64])
    positions = torch.cat([torch.arange(n) for n in starts.diff().tolist()])
    packed = Sequences(tokens, positions, starts, row_length=32)
    hidden = model(packed)
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        alone = model(Sequences.from_lists([tokens[begin:end].numpy()]))
        assert torch.allclose(hidden[begin:end], alone, atol=1e-12)
    later = tokens.clone()
    later[20] = (later[20] + 1) % 50
    changed = model(Sequences(later, positions, starts, row_length=32))
    assert torch.equal(changed[:20], hidden[:20])  # nothing to the left sees it
    assert not torch.allclose(changed[20:32], hidden[20:32])
    assert torch.equal(changed[32:], hidden[32:])  # nor does another document


def test_the_wrong_kind_of_model_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder_of(reference("gpt2"), tokenizer, tmp_path / "gpt2")
    with pytest.raises(UserError, match="this model is a decoder"):
        load_encoder(tmp_path / "gpt2")
    bert = transformers.BertConfig(
        vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    folder_of(transformers.BertModel(bert), tokenizer, tmp_path / "bert")
    with pytest.raises(UserError, match="this model is no decoder"):
        load_decoder(tmp_path / "bert")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "mistral"}')
    with pytest.raises(UserError, match="architecture 'mistral' is not one that selfsup opens"):
        load_decoder(tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"activation_function": "mish"}, "activation 'mish' is not supported"),
        ("llama", {"attention_bias": True}, "llama with attention_bias"),
        ("llama", {"head_dim": 16}, "heads wider or narrower"),
        ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "positions of type 'yarn'"),
        ("qwen2", {"use_sliding_window": True}, "sliding window"),
        ("llama", {"num_attention_heads": 5}, "num_heads \\(5\\) must divide hidden_size"),
        ("llama", {"intermediate_size": 40}, "mlp"),
        ("llama", {"num_attention_heads": 0}, "num_attention_heads: must be at least 1, not 0"),
        ("llama", {"hidden_size": "x"}, "hidden_size: must be a whole number, not 'x'"),
        ("llama", {"rope_parameters": 5}, "rope_parameters: must be a JSON object, not 5"),
        ("llama", {"rope_scaling": [1]}, "rope_scaling: must be a JSON object"),
        ("llama", {"layer_types": 5}, "layer_types: must be a list, not 5"),
        ("llama", {"hidden_act": ["silu"]}, "activation '\\['silu'\\]' is not supported"),
        ("llama", {"rms_norm_eps": -1e-5}, "norm_eps: Input should be greater than or equal to 0"),
        ("llama", {"rope_parameters": {"rope_theta": -1}}, "rope_theta: Input should be greater"),
        ("llama", {"rope_parameters": None, "rope_theta": 0}, "rope_theta: Input should be"),
        (
            "llama",
            {"rope_parameters": {"rope_theta": torch.inf}},
            "rope_theta: Input should be a f",
        ),
        ("llama", {"intermediate_size": 10**14}, "config.json: intermediate_size is 1000"),
        (
            "llama",
            {"vocab_size": 10**23},
            "vocab_size is 1000.*weights have nothing longer than 320",
        ),
        ("gpt2", {"layer_norm_epsilon": -1}, "norm_eps: Input should be greater"),
        ("gpt2", {"layer_norm_epsilon": torch.nan}, "norm_eps: Input should be"),
        ("gpt2", {"n_embd": None}, "n_embd: must be a whole number, not None"),
        (
            "gpt2",
            {"n_layer": 999_999_999},
            "num_layers is 999999999, and the weights have 40 tensors",
        ),
        ("gpt2", {"n_positions": 10**14}, "max_length is 1000"),
        ("gpt2", {"vocab_size": 0}, "vocab_size: must be at least 1, not 0"),
        ("gpt2", {"vocab_size": 319}, "tokens.weight' has shape \\(320, 32\\), not \\(319, 32\\)"),
        ("gpt2", {"eos_token_id": "x"}, "eos_token_id: must be a token's id or a list of them"),
        (
            "qwen2",
            {"eos_token_id": [[1]]},
            "config.json: eos_token_id: must be .*not \\[\\[1\\]\\]",
        ),
        ("gpt2", {"eos_token_id": True}, "eos_token_id: must be a token's id .* not True"),
        ("llama", {"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "kind of layer"),
        ("gpt2", {"architectures": "GPT2"}, "architectures: must be a list, not 'GPT2'"),
        ("llama", {"model_type": ["llama"]}, "model_type: must be a name, not \\['llama'\\]"),
        ("llama", {"selfsup": 3}, "selfsup: must be a JSON object, not 3"),
        ("gpt2", {"initializer_range": -1}, "initializer_range: Input should be greater"),
    ],
)
def test_variants_that_are_not_supported_are_refused_by_name(
    kind: str, changed: dict[str, Any], message: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder_of(reference(kind), tokenizer, tmp_path)
    (tmp_path / "generation_config.json").unlink()
    file = tmp_path / "config.json"
    settings = json.loads(file.read_text()) | changed
    if changed.get("num_attention_heads"):
        settings["head_dim"] = None
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match=message):
        load_decoder(tmp_path)


@pytest.mark.parametrize("old", [{"type": "linear", "factor": 8.0}, {"type": "default"}, None, {}])
@pytest.mark.parametrize("theta", [{}, {"rope_theta": 700.0}])
def test_two_keys_of_rotary_positions_are_read_as_transformers_reads_them(
    old: dict[str, Any] | None, theta: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder_of(reference("llama"), tokenizer, tmp_path)
    file = tmp_path / "config.json"
    new = {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
    settings = json.loads(file.read_text()) | {"rope_parameters": new, "rope_scaling": old} | theta
    file.write_text(json.dumps(settings))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ours = load_decoder(tmp_path).model
    with torch.no_grad():
        expected = torch.cat([theirs(t[None]).logits[0] for t in texts()])
        assert torch.allclose(ours.predict(ours(concatenated())), expected, atol=1e-5, rtol=0)


def test_a_model_is_opened_without_a_draw(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder_of(reference("gpt2"), tokenizer, tmp_path)
    before = torch.random.get_rng_state()
    model = load_decoder(tmp_path).model
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())


def test_a_decoder_saved_without_its_head_is_named_as_such(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder_of(reference("llama-untied").model, tokenizer, tmp_path)
    with pytest.raises(
        UserError, match=r"no language-model head \(lm_head.weight\).*LlamaForCausal"
    ):
        load_decoder(tmp_path)


def test_gpt2_with_an_output_matrix_of_its_own(tokenizer: Tokenizer, tmp_path: Path) -> None:
    config = reference("gpt2").config
    config.tie_word_embeddings = False
    theirs = transformers.GPT2LMHeadModel(config).eval()
    ours = load_decoder(folder_of(theirs, tokenizer, tmp_path)).model
    logits = ours.predict(ours(concatenated()))
    expected = torch.cat([theirs(t[None]).logits[0] for t in texts()])
    assert torch.allclose(logits, expected, atol=1e-5, rtol=0)


def test_settings_of_no_family_are_saved_under_our_names(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from selfsup.recipes import get

    shape = get("gpt2-tiny").model.model_copy(
        update={"vocab_size": VOCABULARY, "gated": True, "hidden_size": 32, "max_length": 64}
    )
    assert decoder_family(shape) is None
    model = CausalLanguageModel(shape)
    save_decoder(tmp_path, model, tokenizer, {}, "card")
    again = load_decoder(tmp_path)
    assert again.config == shape
    assert all(
        torch.equal(a, b)
        for a, b in zip(again.model.parameters(), model.parameters(), strict=False)
    )


def test_recipes_are_of_their_families() -> None:
    from selfsup.recipes import get

    for size in ("tiny", "mini", "small"):
        assert decoder_family(get(f"gpt2-{size}").model) == "gpt2"
        assert decoder_family(get(f"llama-{size}").model) == "llama"
