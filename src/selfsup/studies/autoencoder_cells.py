"""What the studies of auto-encoders share: the examples, one training each, and its kept result."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup import autoencoder_recipes
from selfsup.autoencoder_config import AutoEncoderConfig, ObservationConfig
from selfsup.data.feature_tables import FeatureTable
from selfsup.data.images import ImageSpec
from selfsup.data.observations import Observations, read_observations, whole_digest
from selfsup.errors import Interrupted, UserError, at_least
from selfsup.models.autoencoder import AutoEncoder
from selfsup.studies.study_folder import open_folder, read_cell
from selfsup.training.lock import locked
from selfsup.training.progress import Progress
from selfsup.training.signals import told_how_to_go_on
from selfsup.uses.autoencoding import Prepared, make_loop, scattered_words
from selfsup.uses.run_folder import write_json

Floats = NDArray[np.float32]
Cell = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What every study of auto-encoders is told."""

    data: ObservationConfig
    out: Path
    steps: int = 1000
    seeds: int = 1
    overwrite: bool = False
    quiet: bool = False

    def settings(self, observations: Observations, **own: Any) -> dict[str, Any]:
        """What makes two studies the same, for `study.json`: the data by what they hold, too."""
        data = self.data.model_dump(mode="json")
        given = {"digest of the data": whole_digest(observations)}
        return {"data": data, "steps": self.steps, "seeds": self.seeds, **given, **own}


@contextmanager
def opened(
    plan: Plan, check: Callable[[Observations], None] | None = None, **own: Any
) -> Iterator[Observations]:
    """Hold the study's folder, and read the examples.

    Args:
        plan: the study.
        check: refuses examples, before anything is written.
        own: what else makes two studies the same.

    Raises:
        UserError: numbers below 1, a folder that cannot be made or holds another study, or no examples.
    """
    for flag in ("steps", "seeds"):
        at_least(1, getattr(plan, flag), f"--{flag}")
    with told_how_to_go_on(plan.overwrite), locked(plan.out):
        observations = read_observations(plan.data)
        if check is not None:
            check(observations)
        settings = plan.settings(observations, **own)
        open_folder(plan.out, settings, plan.overwrite)
        write_json(plan.out / "study.json", settings)
        yield observations


def config(plan: Plan, recipe: str, seed: int, **changes: Mapping[str, Any]) -> AutoEncoderConfig:
    """The configuration of one training, by the recipe, with some sections changed."""
    value = autoencoder_recipes.get(recipe).model_dump(mode="json")
    value |= {"seed": seed, "data": plan.data.model_dump(mode="json")}
    value["train"] |= {"budget": f"{plan.steps} steps", "evaluate_every": 1.0}
    for section, change in changes.items():
        value[section] |= change
    return AutoEncoderConfig.model_validate(value)


def cells(
    plan: Plan,
    wanted: Sequence[Mapping[str, Any]],
    make: Callable[[Mapping[str, Any]], Cell],
    scores: Sequence[str] = (),
) -> list[Cell]:
    """The results of trainings, made where they do not lie in the folder already.

    Args:
        plan: the study.
        wanted: what tells each training from the others; it stands in its result too.
        make: trains and scores one.
        scores: what every result must say.

    Raises:
        Interrupted: stopped; those that have finished are kept.
        UserError: a kept result is damaged.
    """
    with closing(Progress(quiet=plan.quiet, title="study")) as display:
        return _cells(plan, wanted, make, scores, display)


def _cells(
    plan: Plan,
    wanted: Sequence[Mapping[str, Any]],
    make: Callable[[Mapping[str, Any]], Cell],
    scores: Sequence[str],
    display: Progress,
) -> list[Cell]:
    found = []
    for number, what in enumerate(wanted, 1):
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        file = plan.out / "cells" / f"{name}.json"
        if not file.is_file():
            started = time.perf_counter()
            said = "  ".join(f"{key.replace('_', ' ')} {value}" for key, value in what.items())
            try:
                cell = {**what, **make(what)}
            except (Interrupted, KeyboardInterrupt):  # the latter where no loop listens
                at = f"{number} of {len(wanted)}, {', '.join(said.split('  '))}"
                then = "begins that one anew and goes on"
                raise Interrupted(f"stopped at {at}", then) from None
            cell["seconds"] = round(time.perf_counter() - started, 2)
            file.parent.mkdir(exist_ok=True)
            write_json(file, cell)
            display.say(f"{number} of {len(wanted)}: {said}")
        found.append(read_cell(file, *what, *scores, "seconds"))
        display.update(number / len(wanted), f"{number} of {len(wanted)}")
    return found


def trained(prepared: Prepared) -> AutoEncoder:
    """The model after its whole budget; nothing is kept on disk.

    The last weights are taken, never the best on the held-out part that the study then scores.
    """
    make_loop(prepared, None, True).run()
    return prepared.model.cpu().eval()


def sides(prepared: Prepared, most: int = 5000) -> tuple[Floats, Floats]:
    """Training and held-out examples as the model takes them, at most so many."""
    read = prepared.objective.read
    return read(prepared.train[:most]), read(prepared.heldout[:most])


def check_numbers(prepared: Prepared, where: str) -> None:
    """Refuse a table with words or gaps, whose squared error would not be of numbers alone.

    Raises:
        UserError: there are some.
    """
    spec = prepared.model.spec
    if not isinstance(spec, ImageSpec) and len(spec.numbers) < spec.width:
        raise UserError(
            "this study needs numbers without gaps, the table has words or gaps (true and false are words)",
            where=where,
            mend="leave such columns out with --ignore",
        )


def check_words(plan: Plan, prepared: Prepared) -> None:
    """Say which columns have nearly as many words as there are rows; refuse a table of nothing else.

    Raises:
        UserError: a file of texts, say, of which each would be a word that the others have not.
    """
    spec, rows = prepared.model.spec, len(prepared.train)
    if not isinstance(spec, FeatureTable):
        return
    said = scattered_words(spec, rows)
    if said and not spec.numbers and len(said) == len(spec.categories):
        what = f"no column repeats, so there is nothing to learn: {next(iter(said.values()))}"
        mend = "give images, or a table with numbers or with words that repeat; texts are for `pretrain`"
        raise UserError(what, where=plan.data.path, mend=mend)
    display = Progress(quiet=plan.quiet, title="")
    for name, what in said.items():
        display.say(f"{what}; --ignore '{name}' leaves it out")
    display.close()


def medians(rows: Sequence[Cell], by: str, keys: Sequence[str]) -> list[Cell]:
    """A row for each value of `by`, in order of appearance, with medians over seeds."""
    table = []
    for value in dict.fromkeys(row[by] for row in rows):
        own = [row for row in rows if row[by] == value]
        line: Cell = {by: value}
        for key in keys:
            if all(row.get(key) is not None for row in own):
                line[key] = float(np.median([row[key] for row in own]))
        table.append(line)
    return table
