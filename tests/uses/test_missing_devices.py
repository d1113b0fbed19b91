"""A device that is not here is refused before anything is read or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfsup import autoencoder_recipes, recipes
from selfsup.errors import UserError
from selfsup.studies import alphabets, curves, in_context
from selfsup.uses.finetuning import finetune
from selfsup.uses.glue import run_glue
from selfsup.uses.pretraining import pretrain
from tests.tasks.toy import toy_config


def on(config: Any, device: str) -> Any:
    train = config.train.model_copy(update={"device": device})
    return config.model_copy(update={"train": train})


def labelled(device: str) -> Any:
    return on(toy_config(Path("no-model"), "classify", Path("no-file.tsv")), device)


def sweep(out: Path, device: str) -> None:
    base = toy_config(Path(), "classify", Path(), epochs=1, train={"budget": "200 steps"})
    base = base.model_copy(update={"data": type(base.data)()})
    run_glue(["no-model"], "no-data", out, config=on(base, device))


RUNS: dict[str, Callable[[Path, str], Any]] = {
    "finetune": lambda out, device: finetune(labelled(device), out),
    "pretrain": lambda out, device: pretrain(on(recipes.get("bert-tiny"), device), out),
    "auto-encoder": lambda out, device: pretrain(on(autoencoder_recipes.get("vae"), device), out),
    "glue": sweep,
    "curves": lambda out, device: curves.run(labelled(device), out),
    "alphabets": lambda out, device: alphabets.run(labelled(device), out),
    "in-context": lambda out, device: in_context.run(
        out, settings=in_context.Settings(device=device)
    ),
}


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
@pytest.mark.parametrize("name", RUNS)
def test_devices_that_are_not_here_leave_nothing_behind(
    name: str, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=f"device '{device}'"):
        RUNS[name](tmp_path / "out", device)
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr()
    assert not said.out + said.err
