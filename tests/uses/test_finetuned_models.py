"""What is said of a fine-tuned model agrees with the model that was delivered."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import selfsup
from selfsup.errors import UserError
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.model_folder import read_weights
from selfsup.tasks.reading import Notes
from selfsup.uses.finetuning import finetune
from selfsup.uses.glue import run_glue
from selfsup.uses.inspect import info
from selfsup.uses.predicting import evaluate_file
from tests.tasks.toy import toy_config, write_encoder, write_tags, write_texts
from tests.tasks.toy_glue import write_glue

SHORT = {"train": {"budget": "4 steps"}}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("toy") / "encoder")


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("classify", {}),
        ("classify", {"head": {"pooling": "pooler"}}),
        ("classify", {"lora": {"rank": 2}}),
        ("classify", {"frozen": True}),
        ("tag", {}),
    ],
)
def test_parameters_are_those_delivered(
    encoder: Path, tmp_path: Path, task: str, changes: dict[str, Any]
) -> None:
    train = (write_tags if task == "tag" else write_texts)(tmp_path / "train.tsv")
    config = toy_config(encoder, task, train, train, **SHORT, **changes)
    result = finetune(config, tmp_path / "run", quiet=True)
    whole = sum(t.numel() for t in read_weights(tmp_path / "run" / "model").values())
    assert result["parameters"] == whole
    assert result["trained_parameters"] <= whole
    assert f"{whole:,} parameters" in (tmp_path / "run" / "model" / "README.md").read_text()
    told = info(tmp_path / "run")
    outputs = 2 if task == "classify" else 3
    assert told["head_parameters"] == outputs * (16 + 1)
    assert told["encoder_parameters"] == whole - told["head_parameters"]
    assert told["encoder_has_pooler"] == ("head" in changes)


def test_a_pooler_that_was_never_trained_is_told(encoder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(encoder, bare)
    weights = read_weights(bare)
    kept = {n: t.clone() for n, t in weights.items() if "pooler" not in n}
    assert len(kept) == len(weights) - 2
    save_file(kept, bare / "model.safetensors", {"format": "pt"})
    train = write_texts(tmp_path / "train.tsv")
    told = "this encoder's pooler was never trained: it starts from random weights"
    for model, pooling, expected in (
        (bare, "pooler", True),
        (bare, "cls", False),
        (encoder, "pooler", False),
    ):
        config = toy_config(model, "classify", train, train, **SHORT, head={"pooling": pooling})
        result = finetune(config, tmp_path / f"{model.name}-{pooling}", quiet=True)
        assert (told in result.get("notes", [])) is expected


def test_a_modernbert_head_is_counted_whole(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder", "modernbert")
    train = write_texts(tmp_path / "train.tsv")
    finetune(toy_config(encoder, "classify", train, train, **SHORT), tmp_path / "run", quiet=True)
    told = info(tmp_path / "run")
    assert told["architecture"] == "ModernBertForSequenceClassification"
    assert told["head_parameters"] == 16 * 16 + 16 + 2 * (16 + 1)  # dense, norm, output


def test_the_loss_weighs_classes_in_training_alone(encoder: Path, tmp_path: Path) -> None:
    train, dev = write_texts(tmp_path / "train.tsv"), write_texts(tmp_path / "dev.tsv", seed=1)
    lines = train.read_text().splitlines()  # three of one class, all of the other
    good = [line for line in lines if "\tgood\t" in line]
    train.write_text("\n".join(x for x in lines if x not in good[3:]) + "\n")
    said = {"class_weights": "balanced", "data": {"test": str(dev)}}
    result = finetune(
        toy_config(encoder, "classify", train, dev, **SHORT, **said), tmp_path / "run", quiet=True
    )
    predictor = selfsup.Predictor(tmp_path / "run", precision="fp32")
    scored = evaluate_file(predictor, str(dev), {})
    assert scored["loss"] == pytest.approx(result["dev"]["loss"], rel=1e-5)
    assert scored["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)


def test_ranks_above_the_width_are_refused(encoder: Path, tmp_path: Path) -> None:
    train = write_texts(tmp_path / "train.tsv")
    config = toy_config(encoder, "classify", train, train, **SHORT, lora={"rank": 17})
    said = r"^--lora: rank 17 is more than this encoder's width, 16; "
    with pytest.raises(UserError, match=said):
        finetune(config, tmp_path / "run", quiet=True)
    sweep = FinetuneConfig.model_validate({"lora": {"rank": 17}, "epochs": 1})
    with pytest.raises(UserError, match=said):
        run_glue([str(encoder)], write_glue(tmp_path / "glue"), tmp_path / "run", config=sweep)
    assert not (tmp_path / "run").exists()


def test_quotes_are_read_as_they_were_learned(encoder: Path, tmp_path: Path) -> None:
    train, dev = write_texts(tmp_path / "train.tsv"), tmp_path / "dev.tsv"
    with train.open("a") as more:
        more.write('"the film is fine\tgood\t900\n')
    dev.write_text('text\tlabel\n"the film is fine"\tgood\nthe song is dull\tbad\n')
    config = toy_config(encoder, "classify", train, dev, **SHORT)
    result = finetune(config, tmp_path / "run", quiet=True)
    predictor = selfsup.Predictor(tmp_path / "run", precision="fp32")
    for labelled in (True, False):
        read = predictor.read(str(dev), {}, Notes(), labelled=labelled)
        assert [example.text for example in read] == ['"the film is fine"', "the song is dull"]
    scored = evaluate_file(predictor, str(dev), {})
    assert scored["loss"] == pytest.approx(result["dev"]["loss"], rel=1e-5)
