"""A model that computes NaN is refused by whatever would tell something by it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from selfsup.cli.app import main
from selfsup.models.hub import load_encoder
from selfsup.models.model_folder import read_weights
from selfsup.models.task_hub import load_finetuned
from selfsup.tasks.judge import Judge, read_answers
from selfsup.tasks.reading import read_parts
from selfsup.training.devices import choose_precision
from selfsup.uses.finetuning import finetune, make_sets
from tests.tasks.toy import toy_config, write_encoder, write_texts
from tests.uses.tiny_decoder import tiny_decoder

Capture = pytest.CaptureFixture[str]


def spoil(folder: Path) -> None:
    """One NaN in a norm's weight."""
    weights = {name: tensor.clone() for name, tensor in read_weights(folder).items()}
    name = next(n for n, t in weights.items() if t.ndim == 1 and n.endswith("weight"))
    weights[name][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def refused(capsys: Capture, *words: str) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "the model gives NaN or infinite" in printed.err.splitlines()[-1]


def test_encoders(tmp_path: Path, capsys: Capture) -> None:
    encoder, train = write_encoder(tmp_path / "encoder"), write_texts(tmp_path / "train.tsv")
    config = toy_config(encoder, "classify", train, train, train={"budget": "2 steps"})
    finetune(config, tmp_path / "run", quiet=True)
    spoil(encoder)
    texts = tmp_path / "texts.txt"
    texts.write_text("the film is warm\n")
    vectors, answers = tmp_path / "v.npy", tmp_path / "a.jsonl"
    refused(capsys, "embed", str(encoder), "-i", str(texts), "-o", str(vectors))
    refused(capsys, "fill", str(encoder), "the [MASK] is warm")
    words = ["--data", str(train), "--word", "film", "--out", str(tmp_path / "study")]
    refused(capsys, "study", "contexts", str(encoder), *words)
    model = tmp_path / "run" / "model"
    spoil(model)
    refused(capsys, "predict", str(model), "a text")
    refused(capsys, "predict", str(model), "-i", str(texts), "-o", str(answers))
    refused(capsys, "evaluate", str(model), "--data", str(train))
    assert not vectors.exists()
    assert not answers.exists()


def test_decoders(tmp_path: Path, capsys: Capture) -> None:
    folder = tiny_decoder(tmp_path / "decoder").path
    spoil(folder)
    texts = tmp_path / "texts.txt"
    texts.write_text("one two three\n")
    refused(capsys, "evaluate", str(folder), "--data", str(texts))
    task = tmp_path / "task.jsonl"
    task.write_text(
        '{"choices": ["good", "bad"]}\n'
        + '{"input": "fox", "output": "good"}\n{"input": "dog", "output": "bad"}\n' * 3
    )
    flags = ["--shots", "0", "--out", str(tmp_path / "shots"), "--quiet"]
    refused(capsys, "fewshot", str(folder), "--task", str(task), *flags)
    rows = '{"query": "the fox", "choices": ["jumps", "writes"], "gold": 0}\n' * 3
    (tmp_path / "copa.jsonl").write_text(rows)
    flags = ["--tasks", "copa", "--data", str(tmp_path), "--own"]
    refused(capsys, "judge", str(folder), *flags)


def test_a_look_while_training_takes_them_and_the_model_goes_on_training(tmp_path: Path) -> None:
    encoder, train = write_encoder(tmp_path / "encoder"), write_texts(tmp_path / "train.tsv")
    config = toy_config(encoder, "classify", train, train, train={"budget": "2 steps"})
    finetune(config, tmp_path / "run", quiet=True)
    opened = load_finetuned(tmp_path / "run")
    pretrained = load_encoder(encoder)
    part = make_sets(read_parts(config, pretrained.max_length), pretrained).dev
    device = torch.device("cpu")
    precision = choose_precision("fp32", device)
    with torch.no_grad():
        opened.model.encoder.blocks[0].mlp.up.weight[0] = float("nan")
    model = opened.model.train()
    with pytest.raises(Exception, match="NaN or infinite logits"):
        read_answers(model, part, device, precision)
    assert model.training
    assert math.isnan(Judge(part).evaluator(8, device, precision)(model)["loss"])
    assert model.training
