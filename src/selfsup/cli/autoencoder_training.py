"""`pretrain` where the recipe is an auto-encoder's: from flags to a run."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from selfsup.cli import render
from selfsup.cli.flags import named_settings, own_names
from selfsup.errors import UserError

if TYPE_CHECKING:
    from selfsup.autoencoder_config import AutoEncoderConfig
    from selfsup.cli.flags import BudgetFlags, CorpusFlags, SettingFlags


def chosen_recipe(tokens: list[str]) -> str | None:
    """The auto-encoder's recipe that a `pretrain` names, itself or in a `--config` file."""
    from selfsup.autoencoder_recipes import AUTOENCODERS
    from selfsup.config_files import read_yaml

    if tokens[:1] and tokens[0] in AUTOENCODERS:
        return tokens[0]
    for flag, value in itertools.pairwise(tokens):
        if flag in ("--config", "-c") and Path(value).is_file():
            found = read_yaml(Path(value))[0]
            if found.get("kind") == "autoencoder" or found.get("recipe") in AUTOENCODERS:
                return str(found.get("recipe") or "autoencoder")
    return None


def resolve_autoencoder(
    recipe: str,
    corpus: CorpusFlags,
    time: BudgetFlags,
    settings: SettingFlags,
    code_size: int | None,
) -> AutoEncoderConfig:
    """The configuration that a recipe, files and flags amount to; later ones win.

    Raises:
        UserError: an unknown setting or value, a flag that is about texts, or not one `--data`.
    """
    from selfsup import autoencoder_recipes
    from selfsup.autoencoder_config import AutoEncoderConfig
    from selfsup.config_files import load_config

    if len(corpus.data) > 1:
        raise UserError("an auto-encoder takes one", where="--data", mend="put the data together")
    for flag in ("column", "unit", "on_bad_row"):
        if getattr(corpus, flag) is not None:
            name = f"--{flag.replace('_', '-')}"
            raise UserError("is about texts, an auto-encoder reads none", where=name)
    if settings.init is not None:
        raise UserError("auto-encoders begin from random weights", where="--init")
    base = autoencoder_recipes.get(recipe)
    overrides = [f"--recipe={recipe}", *named_settings(time, settings)]
    overrides += [f"--data.path={path}" for path in corpus.data]
    if code_size is not None:
        key = {"one-hot": "classes", "fsq": ""}.get(base.bottleneck.kind, "size")
        if not key:
            mend = "use --bottleneck.levels '[8, 5, 5, 5]'"
            raise UserError("a code on a grid has levels", where="--code-size", mend=mend)
        overrides.append(f"--bottleneck.{key}={code_size}")
    overrides += [f"--{setting}" for setting in settings.settings]
    names = {"--data.path": "--data", "--bottleneck.size": "--code-size"}
    with own_names(names):
        return load_config(AutoEncoderConfig, base=base, files=settings.config, overrides=overrides)


def pretrain(
    config: AutoEncoderConfig, out: Path | None, *, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    """Train, and say what came of it."""
    if not config.data.path:
        raise UserError("no data", where="--data", mend="name a file or a folder of pictures")
    from selfsup.data.observations import check_reading
    from selfsup.uses.autoencoding import train_autoencoder

    check_reading(config.data, "--data.")
    folder = out or Path("runs") / (config.recipe or "autoencoder")
    result = train_autoencoder(config, folder, overwrite=overwrite, quiet=quiet or as_json)
    render.show(result, as_json=as_json, title=str(folder))
