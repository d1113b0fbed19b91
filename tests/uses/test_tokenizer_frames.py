"""The special tokens around a text: what is trained is what is delivered, and another frame is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import processors

from selfsup.config import CharacterConfig, PretrainConfig
from selfsup.data.tokenizer_frames import check_frame, for_encoder
from selfsup.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from selfsup.errors import UserError
from selfsup.uses.finetuning import finetune
from selfsup.uses.predicting import Predictor
from selfsup.uses.pretraining import pretrain
from tests.tasks.toy import toy_config, write_encoder, write_texts
from tests.training.tiny import tiny_config, write_corpus

FRAMES = [
    ("$A", "$A $B"),
    ("[CLS] $A [SEP]", "[CLS] $A [SEP] [SEP] $B:1 [SEP]:1"),
    ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]"),
]


def made(single: str, pair: str) -> Tokenizer:
    tokenizer = train_tokenizer(CharacterConfig(vocab_size=30), ["ab the cat"])
    special = [(name, tokenizer.id(name)) for name in ("[CLS]", "[SEP]")]
    template = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    tokenizer.inner.post_processor = template
    return Tokenizer(tokenizer.inner)


def test_the_usual_frame_stays() -> None:
    usual = train_tokenizer(CharacterConfig(vocab_size=30), ["ab the cat"])
    assert for_encoder(usual) is usual
    check_frame(usual, "", pair=True, types=True)


@pytest.mark.parametrize(("single", "pair"), FRAMES)
def test_another_frame_becomes_the_usual(single: str, pair: str) -> None:
    other = made(single, pair)
    usual = for_encoder(other)
    a, b, cls, sep = (usual.id(token) for token in ("a", "b", "[CLS]", "[SEP]"))
    assert usual.encode("a").ids.tolist() == [cls, a, sep]
    assert usual.inner.encode("a", "b").ids == [cls, a, sep, b, sep]
    assert usual.inner.encode("a", "b").type_ids == [0, 0, 0, 1, 1]
    with pytest.raises(UserError, match="here: its tokenizer reads two texts as"):
        check_frame(other, "here", pair=True, types=True)


def test_a_pretrained_encoder_reads_as_it_was_trained(tmp_path: Path) -> None:
    """Trained behind [CLS], it was read without: `embed` took the first word for it."""
    made("$A", "$A $B").inner.save(str(tmp_path / "tokenizer.json"))
    config = tiny_config(write_corpus(tmp_path / "corpus.txt")).model_dump(mode="json")
    config["tokenizer"] = {"kind": "file", "path": str(tmp_path / "tokenizer.json")}
    config["train"]["budget"] = "1 steps"
    pretrain(PretrainConfig.model_validate(config), tmp_path / "run", quiet=True)
    read = load_tokenizer(tmp_path / "run/model").encode("the cat", "a").ids.tolist()
    assert (read[0], read[-1], read.count(read[-1])) == (2, 3, 2)


def test_a_finetuned_model_reads_as_it_was_trained(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    state = json.loads((encoder / "tokenizer.json").read_text())
    state["post_processor"] = None
    (encoder / "tokenizer.json").write_text(json.dumps(state))
    config = json.loads((encoder / "config.json").read_text())
    del config["selfsup"]
    (encoder / "config.json").write_text(json.dumps(config))
    train = write_texts(tmp_path / "train.tsv")
    finetune(
        toy_config(encoder, "classify", train, train, train={"budget": "1 steps"}),
        tmp_path / "run",
        quiet=True,
    )
    model = tmp_path / "run" / "model"
    assert load_tokenizer(model).encode("the film").ids.tolist()[::3] == [2, 3]
    assert Predictor(model)(["the film"])
    foreign = shutil.copytree(model, tmp_path / "foreign")
    shutil.copy(encoder / "tokenizer.json", foreign)
    config = json.loads((foreign / "config.json").read_text())
    config["architectures"] = ["BertForTokenClassification"]
    del config["selfsup"]
    (foreign / "config.json").write_text(json.dumps(config))
    weights = foreign / "model.safetensors"
    from safetensors.torch import load_file, save_file

    save_file(
        {n.replace("task_head.output", "classifier"): t for n, t in load_file(weights).items()},
        weights,
    )
    with pytest.raises(UserError, match="its tokenizer reads a text as 'a'"):
        Predictor(foreign)([["the", "film"]])
