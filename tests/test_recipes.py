"""Every recipe builds, steps, saves, resumes, and is as large as its table says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import selfsup
from selfsup import recipes
from selfsup.config import PretrainConfig
from selfsup.config_files import dump_yaml, load_config
from selfsup.errors import UserError
from selfsup.models.transformer import parameter_count
from selfsup.training.metrics import read_metrics
from selfsup.uses.kinds import build_model
from selfsup.uses.pretraining import pretrain
from tests.training.tiny import tiny_config, write_corpus


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_parameters_are_counted_exactly(name: str) -> None:
    config = recipes.get(name)
    size = config.tokenizer.vocab_size  # type: ignore[union-attr]
    model = config.model.model_copy(update={"vocab_size": size})
    with torch.device("meta"):
        built = build_model(config.model_copy(update={"model": model}))
    row = next(row for row in recipes.table() if row["recipe"] == name)
    assert row["parameters"] == parameter_count(built)


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_a_recipe_survives_yaml(name: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_yaml(recipes.get(name)), encoding="utf-8")
    assert load_config(PretrainConfig, files=[file]) == recipes.get(name)


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_a_recipe_steps_saves_and_resumes(name: str, tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "corpus.txt")
    config = tiny_config(data, name, budget="4 steps", save_every="2 steps")
    run = tmp_path / "run"
    first = pretrain(config, run, quiet=True)
    (run / "result.json").unlink()  # as if it had been killed before the end
    again = pretrain(config, run, quiet=True)
    assert again["heldout"] == first["heldout"]
    assert [x["step"] for x in read_metrics(run / "metrics.jsonl") if x["split"] == "train"] == [
        1,
        2,
        3,
        4,
    ]
    assert (run / "figures" / "loss.png").stat().st_size > 5000
    assert "held-out loss" in (run / "model" / "README.md").read_text()
    assert selfsup.load(run).config.hidden_size == 16


def test_an_unknown_recipe_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"unknown recipe 'modernbert-tin'.*'modernbert-tiny'"):
        recipes.get("modernbert-tin")
