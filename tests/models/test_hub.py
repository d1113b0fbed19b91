"""Model folders: what we write opens in the ecosystem, what it writes opens here, the rest is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training.tiny import tiny_config, write_corpus

import selfsup
from selfsup.config import CharacterConfig
from selfsup.data.tokenizers import train_tokenizer
from selfsup.errors import UserError
from selfsup.models.hub import Pretrained, load
from selfsup.models.transformer import parameter_count
from selfsup.nn.sequences import Sequences
from selfsup.uses.embed import embed_telling
from selfsup.uses.pretraining import pretrain

TEXTS = ["the cat sees a red bicycle.", "my neighbour mends the broken clock. a dog.", "some bread"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of each family, one of neither, and the corpus."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_corpus(folder / "corpus.txt")
    for recipe in ("bert-tiny", "modernbert-tiny"):
        pretrain(tiny_config(data, recipe), folder / recipe, quiet=True)
    value = tiny_config(data, "modernbert-tiny").model_dump(mode="json")
    value["model"]["norm"] = "rmsnorm"
    from selfsup.config import PretrainConfig

    pretrain(PretrainConfig.model_validate(value), folder / "neither", quiet=True)
    return folder


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    shutil.copytree(runs / "bert-tiny" / "model", tmp_path / "model")
    return tmp_path / "model"


def our_logits(opened: Pretrained, ids: list[np.ndarray]) -> torch.Tensor:
    with torch.inference_mode():
        return opened.model.predict(opened.model(Sequences.from_lists(ids)))


@pytest.mark.parametrize("recipe", ["bert-tiny", "modernbert-tiny"])
def test_transformers_opens_what_was_trained(runs: Path, recipe: str) -> None:
    transformers = pytest.importorskip("transformers")
    folder = runs / recipe / "model"
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    opened = load(runs / recipe)
    given = tokenizer(TEXTS, padding=True, return_tensors="pt")
    ids = opened.tokenizer.encode_batch(TEXTS)
    keep = given["attention_mask"].bool()
    assert given["input_ids"][keep].tolist() == np.concatenate(ids).tolist()
    given.pop("token_type_ids", None)
    with torch.inference_mode():
        logits = theirs(**given).logits[keep]
    torch.testing.assert_close(our_logits(opened, ids), logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("recipe", ["bert-tiny", "modernbert-tiny"])
def test_sentence_transformers_opens_what_was_trained(runs: Path, recipe: str) -> None:
    st = pytest.importorskip("sentence_transformers")
    theirs = st.SentenceTransformer(str(runs / recipe / "model"), device="cpu").encode(TEXTS)
    ours = selfsup.embed(load(runs / recipe), TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_what_transformers_saves_opens_here(
    runs: Path, tmp_path: Path, kind: str, bare: bool
) -> None:
    transformers = pytest.importorskip("transformers")
    source = runs / f"{kind}-tiny" / "model"
    cls = transformers.AutoModel if bare else transformers.AutoModelForMaskedLM
    theirs = cls.from_pretrained(source)
    theirs.save_pretrained(tmp_path / "saved")
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "saved")
    opened, original = load(tmp_path / "saved"), load(runs / f"{kind}-tiny")
    assert opened.has_head is not bare
    for (name, a), b in zip(
        opened.encoder.named_parameters(), original.encoder.parameters(), strict=True
    ):
        if opened.has_pooler or "pooler" not in name:
            assert torch.equal(a, b), name
    assert opened.config == original.config
    np.testing.assert_array_equal(selfsup.embed(opened, TEXTS), selfsup.embed(original, TEXTS))


def test_settings_of_no_family_are_kept_under_our_names(runs: Path) -> None:
    opened = load(runs / "neither")
    assert json.loads((opened.path / "config.json").read_text())["model_type"] == "selfsup"
    assert opened.config.norm == "rmsnorm"
    assert opened.has_head
    assert np.isfinite(selfsup.embed(opened, TEXTS)).all()


def test_model_is_a_run_or_a_model_folder(runs: Path) -> None:
    assert load(runs / "bert-tiny").path == load(runs / "bert-tiny" / "model").path


def test_origin_and_size_are_told(runs: Path) -> None:
    from selfsup.uses.inspect import info

    told = info(runs / "bert-tiny")
    assert told["origin"]["recipe"] == "bert-tiny"
    assert told["architecture"] == "BertForPreTraining"
    opened = load(runs / "bert-tiny")
    assert told["encoder_parameters"] == parameter_count(opened.encoder)
    with torch.device("meta"):  # the head's output matrix is the embedding, and counted once
        whole = parameter_count(type(opened.model)(opened.config, pair_head=True))
    assert told["encoder_parameters"] + told["head_parameters"] == whole


# ---- refused ---------------------------------------------------------------------------------


def change_tensors(folder: Path, change: Any) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(values)
    (folder / "config.json").write_text(json.dumps(config))


def test_missing_tensor(copied: Path) -> None:
    name = "bert.encoder.layer.1.output.dense.weight"
    change_tensors(copied, lambda tensors: tensors.pop(name))
    with pytest.raises(UserError, match=r"tensor 'encoder.blocks.1.mlp.down.weight' is missing"):
        load(copied)


def test_extra_tensor(copied: Path) -> None:
    change_tensors(copied, lambda tensors: tensors.update(surplus=torch.zeros(1)))
    with pytest.raises(UserError, match="tensor 'surplus' is not part"):
        load(copied)


def test_misshapen_tensor(copied: Path) -> None:
    name = "bert.pooler.dense.bias"
    change_tensors(copied, lambda tensors: tensors.update({name: torch.zeros(3)}))
    with pytest.raises(UserError, match=r"pooler.bias' has shape \(3,\), not \(16,\)"):
        load(copied)


@pytest.mark.parametrize("tie_word_embeddings", [False, True])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_output_matrix_of_its_own(
    runs: Path, tmp_path: Path, kind: str, tie_word_embeddings: bool
) -> None:
    """It was left out, and other words guessed."""
    shutil.copytree(runs / f"{kind}-tiny" / "model", tmp_path / "model")
    change_config(tmp_path / "model", tie_word_embeddings=tie_word_embeddings, selfsup=None)
    names = {
        "bert": ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        "modernbert": ("decoder.weight", "model.embeddings.tok_embeddings.weight"),
    }
    output, embeddings = names[kind]
    change_tensors(tmp_path / "model", lambda t: t.update({output: t[embeddings].clone()}))
    assert load(tmp_path / "model").has_head
    change_tensors(tmp_path / "model", lambda t: t[output].add_(1))
    with pytest.raises(UserError, match=f"model: '{output}' is no copy of '{embeddings}'"):
        load(tmp_path / "model")


@pytest.mark.parametrize("layers", [1, 2])
def test_a_modernbert_whose_layers_all_see_everything(tmp_path: Path, layers: int) -> None:
    """It was read as one whose layers all see a window."""
    transformers = pytest.importorskip("transformers")
    tokens = {f"{x}_token_id": 0 for x in ("pad", "bos", "eos", "cls", "sep")}
    config = transformers.ModernBertConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        local_attention=4,
        global_attn_every_n_layers=1,
        **tokens,
    )
    theirs = transformers.ModernBertForMaskedLM(config).eval()
    theirs.save_pretrained(tmp_path)
    train_tokenizer(CharacterConfig(vocab_size=40), ["the cat sees some bread"]).save(tmp_path)
    ids = np.arange(5, 25)
    with torch.inference_mode():
        logits = theirs(torch.from_numpy(ids)[None]).logits[0]
    torch.testing.assert_close(our_logits(load(tmp_path), [ids]), logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("format", [torch.int8, torch.bool, torch.float8_e4m3fn])
def test_weights_that_were_quantized(copied: Path, format: torch.dtype) -> None:
    """Whole numbers without their scale were taken for the weights."""
    name = "bert.encoder.layer.0.attention.self.key.weight"
    change_tensors(copied, lambda t: t.update({name: t[name].to(format)}))
    with pytest.raises(UserError, match=rf"{name}' holds (int8|bool|float8)"):
        load(copied)


@pytest.mark.parametrize("listed", [5, []])
def test_an_index_that_lists_no_files(copied: Path, listed: object) -> None:
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    with pytest.raises(UserError, match=r"index.json: weight_map: must be a JSON object"):
        load(copied)


def test_truncated_weights(copied: Path) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load(copied)


def test_a_pickle_is_never_read(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    (copied / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(UserError, match=r"'pytorch_model\.bin' is a pickle"):
        load(copied)


def test_a_pickle_under_another_name_is_no_safetensors(copied: Path) -> None:
    torch.save({"a": torch.zeros(2)}, copied / "model.safetensors")
    with pytest.raises(UserError, match="not a whole safetensors file"):
        load(copied)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "t5"}, "architecture 't5' is not one that selfsup opens"),
        ({"hidden_act": "swish9"}, "activation 'swish9' is not supported"),
        ({"position_embedding_type": "relative_key"}, "only absolute positions"),
        ({"hidden_size": None}, "hidden_size"),
        ({"vocab_size": 10**14}, "config.json: vocab_size is 1000"),
        ({"num_hidden_layers": 10**9}, "num_layers is 1000000000, and the weights have"),
        ({"layer_norm_eps": -1}, "norm_eps: Input should be greater than or equal to 0"),
        ({"model_type": "modernbert", "rope_parameters": 5}, "rope_parameters: must be a JSON obj"),
        (
            {"model_type": "modernbert", "rope_parameters": {"full_attention": 5}},
            "full_attention: must be a JSON object, not 5",
        ),
        ({"model_type": "modernbert", "layer_types": 5}, "layer_types: must be a list, not 5"),
        (
            {"model_type": "modernbert", "global_attn_every_n_layers": "x"},
            "global_attn_every_n_layers: must be a whole number, not 'x'",
        ),
        ({"is_decoder": True}, "is_decoder: a BERT that is a decoder"),
        ({"add_cross_attention": True}, "add_cross_attention: a BERT that is a decoder"),
        (
            {
                "model_type": "modernbert",
                "rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2.0}},
            },
            "rotary positions of type 'yarn'",
        ),
    ],
)
def test_another_architecture(copied: Path, values: dict[str, Any], message: str) -> None:
    change_config(copied, **values, selfsup=None)
    with pytest.raises(UserError, match=message):
        load(copied)


def test_config_without_a_needed_key(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    del config["num_attention_heads"], config["selfsup"]
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="num_attention_heads"):
        load(copied)


def test_another_tokenizer(copied: Path) -> None:
    file = copied / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    tokens = json.loads(text)
    vocabulary = tokens["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]
    file.write_text(json.dumps(tokens))
    with pytest.raises(UserError, match=r"not the one that this model was trained with"):
        load(copied)


def test_broken_config(copied: Path) -> None:
    (copied / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        load(copied)


def test_no_such_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such run or model folder"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no model"):
        load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no finished model yet"):
        load(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'somebody/something' is no folder here"):
        load("somebody/something")


def test_a_hub_name_is_fetched_through_the_extra(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[Any] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append((name, options["local_files_only"]))
        return str(runs / "bert-tiny" / "model")

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert load("somebody/something").architecture == "BertForPreTraining"
    assert asked == [("somebody/something", True)]  # tests are offline


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("modules.json", "[", "not a list of modules"),
        ("modules.json", '[{"type": "sentence_transformers.models.Dense"}]', "module 'Dense'"),
        (
            "1_Pooling/config.json",
            '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}',
            "several poolings at once",
        ),
        (
            "sentence_bert_config.json",
            '{"max_seq_length": "x"}',
            "max_seq_length: must be a whole number, not 'x'",
        ),
        (
            "modules.json",
            json.dumps([{"type": f"models.{x}"} for x in ("Transformer", "Normalize", "Pooling")]),
            r"in this order \(Transformer, Normalize, Pooling\)",
        ),
        ("sentence_bert_config.json", '{"do_lower_case": true}', "do_lower_case: its tokenizer"),
        (
            "config_sentence_transformers.json",
            '{"default_prompt_name": "query", "prompts": {"document": "text: "}}',
            "default_prompt_name: there is no prompt of this name: 'query'",
        ),
    ],
)
def test_sentence_settings_that_would_give_other_vectors(
    copied: Path, file: str, text: str, message: str
) -> None:
    (copied / file).write_text(text)
    with pytest.raises(UserError, match=message):
        load(copied)


def test_a_prompt_and_a_length_are_those_of_sentence_transformers(copied: Path) -> None:
    st = pytest.importorskip("sentence_transformers")
    prompts = {"default_prompt_name": "query", "prompts": {"query": "seven: ", "document": ""}}
    (copied / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (copied / "sentence_bert_config.json").write_text("{}")  # as version 6 writes no length there
    file = copied / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 20}))
    opened = load(copied)
    assert opened.max_length == 20
    notes: list[str] = []
    ours = embed_telling(opened, TEXTS, notes=notes)
    theirs = st.SentenceTransformer(str(copied), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)
    assert notes[0] == "each text is read behind 'seven: ', as the model's folder says"
    pooling = json.loads((copied / "1_Pooling/config.json").read_text())
    pooling["include_prompt"] = False
    (copied / "1_Pooling/config.json").write_text(json.dumps(pooling))
    with pytest.raises(UserError, match="include_prompt false"):
        load(copied)


def test_the_tokenizer_knows_the_models_length(runs: Path) -> None:
    for recipe, length in (("bert-tiny", 512), ("modernbert-tiny", 1024)):
        settings = json.loads((runs / recipe / "model" / "tokenizer_config.json").read_text())
        assert settings["model_max_length"] == length
    for run, named in (("bert-tiny", True), ("neither", False)):
        card = (runs / run / "model" / "README.md").read_text()
        assert ("AutoModelForMaskedLM" in card) is named


def test_a_modernbert_classifier_opens_as_an_encoder(runs: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    source = runs / "modernbert-tiny" / "model"
    cls = transformers.AutoModelForSequenceClassification
    cls.from_pretrained(source).save_pretrained(tmp_path / "saved")
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(tmp_path / "saved")
    opened = load(tmp_path / "saved")
    assert not opened.has_head
    original = selfsup.embed(load(source), TEXTS)
    np.testing.assert_array_equal(selfsup.embed(opened, TEXTS), original)


def test_another_activation_in_the_head(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "modernbert-tiny" / "model", tmp_path / "model")
    change_config(tmp_path / "model", hidden_activation="silu", classifier_activation="gelu")
    change_config(tmp_path / "model", selfsup=None)
    with pytest.raises(UserError, match="another in its head"):
        load(tmp_path / "model")
