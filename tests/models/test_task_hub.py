"""Fine-tuned models there and back: what we write opens in transformers, what it writes opens here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tasks.toy import write_encoder

from selfsup.errors import UserError
from selfsup.models.hub import load
from selfsup.models.task_hub import load_finetuned, save_finetuned
from selfsup.models.task_model import HeadSpec, TaskModel, start_task_model
from selfsup.nn.sequences import Sequences

transformers = pytest.importorskip("transformers")

TEXTS = ["the film is fine", "the cold house was not bright and lovely", "it"]
CASES: list[tuple[str, str, HeadSpec, str]] = [
    ("bert", "class", HeadSpec("sequence", 3, "pooler"), "BertForSequenceClassification"),
    ("bert", "number", HeadSpec("sequence", 1, "pooler"), "BertForSequenceClassification"),
    ("bert", "tag", HeadSpec("token", 3), "BertForTokenClassification"),
    ("bert", "span", HeadSpec("token", 2), "BertForQuestionAnswering"),
    ("modernbert", "class", HeadSpec("sequence", 3, "mean", dense=True), "ModernBertForSequence"),
    ("modernbert", "class", HeadSpec("sequence", 3, "cls", dense=True), "ModernBertForSequence"),
    ("modernbert", "tag", HeadSpec("token", 3, dense=True), "ModernBertForToken"),
    ("modernbert", "span", HeadSpec("token", 2, dense=True), "ModernBertForQuestion"),
]


def made(tmp_path: Path, kind: str, answer: Any, spec: HeadSpec) -> tuple[Path, TaskModel, Any]:
    pretrained = load(write_encoder(tmp_path / "encoder", kind))
    model = start_task_model(pretrained.model, spec, seed=3).eval()
    with torch.no_grad():
        model.output.weight.normal_()
        model.output.bias.normal_()
    folder = tmp_path / "model"
    folder.mkdir()
    save_finetuned(
        folder,
        model,
        pretrained.tokenizer,
        answer=answer,
        labels=["no", "perhaps", "yes"] if answer in {"class", "tag"} else [],
        task={"answer": answer, "max_length": 50},
        max_length=50,
        origin={},
        card="",
    )
    return folder, model, pretrained.tokenizer


def padded(tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor, list[np.ndarray]]:
    ids = [tokenizer.encode(t).ids for t in TEXTS]
    longest = max(map(len, ids))
    tokens = torch.tensor([[*x, *[0] * (longest - len(x))] for x in ids])
    mask = torch.tensor([[1] * len(x) + [0] * (longest - len(x)) for x in ids])
    return tokens, mask, ids


def their_answers(model: Any, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = model(input_ids=tokens, attention_mask=mask)
    if hasattr(out, "start_logits"):
        return torch.stack([out.start_logits, out.end_logits], -1)[mask.bool()]
    return out.logits[mask.bool()] if out.logits.ndim == 3 else out.logits


@pytest.mark.parametrize(("kind", "answer", "spec", "name"), CASES)
def test_what_we_write_opens_in_transformers(
    tmp_path: Path, kind: str, answer: str, spec: HeadSpec, name: str
) -> None:
    folder, model, tokenizer = made(tmp_path, kind, answer, spec)
    settings = json.loads((folder / "config.json").read_text())
    assert settings["architectures"][0].startswith(name)
    theirs, report = getattr(transformers, settings["architectures"][0]).from_pretrained(
        folder, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokens, mask, ids = padded(tokenizer)
    with torch.no_grad():
        mine = model(Sequences.from_lists(ids))
    torch.testing.assert_close(
        mine, their_answers(theirs.eval(), tokens, mask), atol=1e-5, rtol=1e-4
    )
    if answer in {"class", "tag"}:
        assert theirs.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}


def test_weights_in_several_files(tmp_path: Path) -> None:
    folder, model, tokenizer = made(tmp_path, "bert", "class", HeadSpec("sequence", 3, "pooler"))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "saved", max_shard_size="10KB")
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "model.safetensors").exists()
    opened = load_finetuned(tmp_path / "saved")
    batch = Sequences.from_lists([tokenizer.encode(t).ids for t in TEXTS])
    with torch.no_grad():
        assert torch.equal(opened.model(batch), model(batch))


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_their_tokenizer_reads_pairs_as_ours(tmp_path: Path, kind: str) -> None:
    spec = HeadSpec("token", 2, dense=kind == "modernbert")
    folder, model, tokenizer = made(tmp_path, kind, "span", spec)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.model_max_length == 50  # what was trained on, not what the encoder could read
    read = theirs(TEXTS[0], TEXTS[1])
    encoded = tokenizer.encode(TEXTS[0], TEXTS[1])
    ids = list(encoded.ids)
    first = ids.index(tokenizer.sep_id) + 1
    kinds = [0] * first + [1] * (len(ids) - first)
    assert read["input_ids"] == ids
    types = read.get("token_type_ids")
    assert types == (kinds if kind == "bert" else None)
    opened = getattr(
        transformers, json.loads((folder / "config.json").read_text())["architectures"][0]
    ).from_pretrained(folder)
    batch = Sequences.from_lists([np.array(ids)])
    batch = batch if types is None else replace(batch, types=torch.tensor(types))
    tensors = {name: torch.tensor([value]) for name, value in read.items()}
    with torch.no_grad():
        out = opened.eval()(**tensors)
        mine = model(batch)
    torch.testing.assert_close(mine[:, 0], out.start_logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "answer", "spec", "name"), CASES)
def test_what_transformers_writes_opens_here(
    tmp_path: Path, kind: str, answer: str, spec: HeadSpec, name: str
) -> None:
    folder, _, tokenizer = made(tmp_path, kind, answer, spec)
    settings = json.loads((folder / "config.json").read_text())
    theirs = getattr(transformers, settings["architectures"][0]).from_pretrained(folder)
    settings = {}
    theirs.config.selfsup = None
    other = tmp_path / "theirs"
    theirs.save_pretrained(other)
    tokenizer.save(other)
    opened = load_finetuned(other)
    assert opened.answer == answer
    assert opened.labels == (("no", "perhaps", "yes") if answer in {"class", "tag"} else ())
    tokens, mask, ids = padded(tokenizer)
    with torch.no_grad():
        mine = opened.model(Sequences.from_lists(ids))
    torch.testing.assert_close(
        mine, their_answers(theirs.eval(), tokens, mask), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.parametrize("spec", [HeadSpec("sequence", 3, "mean"), HeadSpec("sequence", 3, "cls")])
def test_a_head_that_transformers_lacks_opens_here(
    tmp_path: Path, kind: str, spec: HeadSpec
) -> None:
    folder, model, tokenizer = made(tmp_path, kind, "class", spec)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["TaskModel"]
    opened = load_finetuned(folder)
    batch = Sequences.from_lists(padded(tokenizer)[2])
    with torch.no_grad():
        torch.testing.assert_close(opened.model(batch), model(batch), atol=0, rtol=0)
    assert load(folder).has_head is False  # its encoder opens as one without a head


def test_a_pretrained_model_is_not_a_fine_tuned_one(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    with pytest.raises(UserError, match="pre-trained but not fine-tuned"):
        load_finetuned(folder)


def test_a_head_that_was_cut_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, _, _ = made(tmp_path, "bert", "tag", HeadSpec("token", 3))
    tensors = load_file(folder / "model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"output\.bias"):
        load_finetuned(folder)


def their_model(folder: Path, name: str, /, **more: Any) -> Path:
    """A tiny model that transformers wrote, with a tokenizer of ours."""
    pretrained = load(write_encoder(folder / "encoder"))
    config = getattr(transformers, f"{name.partition('For')[0].removesuffix('Model')}Config")(
        vocab_size=pretrained.tokenizer.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=96,
        **more,
    )
    getattr(transformers, name)(config).save_pretrained(folder / "theirs")
    pretrained.tokenizer.save(folder / "theirs")
    return folder / "theirs"


@pytest.mark.parametrize("answer", ["ForSequenceClassification", "ForTokenClassification"])
def test_two_labels_without_names(tmp_path: Path, answer: str) -> None:
    """transformers leaves `id2label` out where there are two."""
    opened = load_finetuned(their_model(tmp_path, f"Bert{answer}"))
    assert opened.labels == ("LABEL_0", "LABEL_1")
    assert opened.answer in {"class", "tag"}


@pytest.mark.parametrize(
    ("problem", "count", "answer"),
    [
        ("single_label_classification", 3, "class"),
        ("regression", 1, "number"),
        ("multi_label_classification", 3, "any number of labels for a text; selfsup answers with"),
        ("regression", 3, "3 numbers for a text; selfsup answers with one"),
    ],
)
def test_heads_of_several_answers_are_refused(
    tmp_path: Path, problem: str, count: int, answer: str
) -> None:
    folder = their_model(
        tmp_path, "BertForSequenceClassification", problem_type=problem, num_labels=count
    )
    if answer in {"class", "number"}:
        assert load_finetuned(folder).answer == answer
    else:
        with pytest.raises(UserError, match=answer):
            load_finetuned(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id2label": ["no", "yes"]}, "id2label: must be a JSON object"),
        ({"id2label": {"0": "no", "2": "yes"}}, "id2label: must name the outputs 0 to 1, not 0, 2"),
        ({"id2label": {"a": "no", "b": "yes"}}, "id2label: must name the outputs 0 to 1, not a, b"),
        ({"id2label": {"0": "no", "1": "no"}}, "id2label: two outputs are called 'no'; name them"),
        ({"classifier_pooling": "last"}, "classifier_pooling: must be cls or mean, not 'last'"),
        ({"selfsup": {"head": 5}}, "selfsup: head: must be a JSON object, not 5"),
        ({"selfsup": {"head": {}}}, "selfsup: the key 'outputs' is missing"),
        ({"selfsup": {"model": 5}}, "selfsup: model: must be a JSON object, not 5"),
        (
            {"selfsup": {"task": {"max_length": "x"}}},
            "task: max_length: must be a whole number, not 'x'",
        ),
    ],
)
def test_settings_of_a_head_that_cannot_be(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    spec = HeadSpec("sequence", 3, "mean", dense=True)
    folder, _, _ = made(tmp_path, "modernbert", "class", spec)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"selfsup": {}} | change))
    with pytest.raises(UserError, match=message):
        load_finetuned(folder)


@pytest.mark.parametrize("name", ["RobertaModel", "RobertaForSequenceClassification"])
def test_an_unknown_architecture_is_said_first(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="architecture 'roberta' is not one that selfsup opens"):
        load_finetuned(their_model(tmp_path, name))
