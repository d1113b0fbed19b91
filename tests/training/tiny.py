"""A corpus small enough to train on in a test."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from selfsup.config import PretrainConfig

SUBJECTS = ["the cat", "a dog", "my neighbour", "the old captain", "one engineer", "her sister"]
VERBS = ["sees", "paints", "mends", "forgets", "buys", "writes about"]
OBJECTS = ["the harbour", "a red bicycle", "seven letters", "the broken clock", "some bread"]


def write_corpus(path: Path, documents: int = 150, seed: int = 0) -> Path:
    rng = random.Random(seed)
    lines = [
        " ".join(
            f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)}."
            for _ in range(rng.randint(2, 9))
        )
        for _ in range(documents)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_config(data: Path, recipe: str = "bert-tiny", **train: Any) -> PretrainConfig:
    """A recipe made small by rule: its kind of model, at a width that trains in seconds."""
    from selfsup.recipes import get

    value = get(recipe).model_dump(mode="json")
    value["data"].update(sources=[{"path": str(data), "unit": "line"}], heldout=0.1, length=32)
    value["tokenizer"] = {"kind": "characters", "vocab_size": 64}
    value["model"].update(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32)
    if value["model"]["num_kv_heads"]:
        value["model"]["num_kv_heads"] = 1
    value["train"].update(
        budget="12 steps",
        batch_size=8,
        save_every="4 steps",
        log_every=1,
        evaluate_rows=16,
        evaluate_every=0.25,
        precision="fp32",
        device="cpu",
    )
    value["train"].update(train)
    return PretrainConfig.model_validate(value)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")
