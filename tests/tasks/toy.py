"""Encoders and labelled files small enough to fine-tune in a test."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch

from selfsup.config import (
    TransformerConfig,
    WordPieceConfig,
)
from selfsup.data.tokenizers import train_tokenizer
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.hub import save_model
from selfsup.models.transformer import MaskedLanguageModel

GOOD = ["fine", "warm", "bright", "lovely", "clever"]
BAD = ["dull", "cold", "grey", "ugly", "stupid"]
THINGS = ["film", "song", "house", "meal", "book", "garden"]


def write_encoder(folder: Path, kind: str = "bert") -> Path:
    """A model folder of random weights with a tokenizer of the toy words."""
    words = [*GOOD, *BAD, *THINGS, "the", "is", "not", "and", "it", "was", "who", "what", "in"]
    texts = [" ".join(words)] * 3 + [f"the {t} is {w}" for t in THINGS for w in GOOD + BAD]
    tokenizer = train_tokenizer(WordPieceConfig(vocab_size=110), texts)
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 32,
        "max_length": 96,
    }
    if kind == "modernbert":
        shape |= {
            "norm_position": "pre",
            "positions": "rotary",
            "gated": True,
            "bias": False,
            "type_vocab_size": 0,
            "pooler": False,
            "norm_eps": 1e-5,
        }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MaskedLanguageModel(TransformerConfig(**shape))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    folder.mkdir(parents=True)
    save_model(folder, model, tokenizer, {}, "toy")
    return folder


def sentence(rng: random.Random) -> tuple[str, str]:
    good = rng.random() < 0.5
    words = [rng.choice(GOOD if good else BAD) for _ in range(rng.randint(1, 3))]
    text = f"the {rng.choice(THINGS)} is {' and '.join(words)}"
    return text + " ." * rng.randint(0, 6), "good" if good else "bad"


def write_texts(path: Path, count: int = 60, seed: int = 0) -> Path:
    """`text`, `label`, and a number that the label decides."""
    rng = random.Random(seed)
    lines = ["text\tlabel\tnumber"]
    for _ in range(count):
        text, label = sentence(rng)
        lines.append(f"{text}\t{label}\t{900.5 if label == 'good' else 100.25}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_tags(path: Path, count: int = 40, seed: int = 0) -> Path:
    """A word a line with its tag."""
    rng = random.Random(seed)
    kinds = {**dict.fromkeys(GOOD + BAD, "ADJ"), **dict.fromkeys(THINGS, "NOUN")}
    lines = []
    for _ in range(count):
        for word in sentence(rng)[0].split():
            lines.append(f"{word}\t{kinds.get(word, 'OTHER')}")
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def write_questions(path: Path, count: int = 40, seed: int = 0, impossible: bool = False) -> Path:
    """SQuAD's layout: what is THING? the adjective beside it."""
    rng = random.Random(seed)
    paragraphs = []
    for number in range(count):
        first, second = rng.sample(THINGS, 2)
        one, two = rng.sample(GOOD + BAD, 2)
        passage = f"the {first} is {one} and the {second} was {two} ."
        none = impossible and number % 4 == 0
        asked = next(t for t in THINGS if t not in (first, second)) if none else second
        answers = [] if none else [{"text": two, "answer_start": passage.rindex(two)}]
        question = {"id": str(number), "question": f"what is the {asked}", "answers": answers}
        if impossible:
            question["is_impossible"] = none
        paragraphs.append({"context": passage, "qas": [question]})
    content = {"version": "v2.0" if impossible else "1.1", "data": [{"paragraphs": paragraphs}]}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def toy_config(
    model: Path, task: str, data: Path, dev: Path | None = None, /, **more: Any
) -> FinetuneConfig:
    """A short fine-tuning in fp32, at a rate at which 16 dimensions learn."""
    value: dict[str, Any] = {
        "model": str(model),
        "task": task,
        "data": {"train": str(data), "dev": str(dev or "")},
        "lr": 1e-2,
        "epochs": 0,
        "head": {"dropout": 0.0},
        "span": {"max_length": 64, "overlap": 8, "max_question": 16},
        "train": {
            "budget": "60 steps",
            "batch_size": 8,
            "precision": "fp32",
            "device": "cpu",
            "evaluate_every": 0.25,
            "log_every": 5,
        },
    }
    for key, part in more.items():
        value[key] = {**value[key], **part} if isinstance(value.get(key), dict) else part
    return FinetuneConfig.model_validate(value)
