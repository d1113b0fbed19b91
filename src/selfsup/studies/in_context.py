"""Does a small decoder learn to learn from examples in its context, and when?

A decoder is trained on rows that show one task each (a mapping between words, hidden constants,
what happens to a string, translations) and is asked about tasks that it was never trained on, behind
0, 1, 2, … examples.  Beside it stand what it says without an example, and behind examples whose
outputs were permuted (Brown et al. 2020; Garg et al. 2022; Min et al. 2022; Chan et al. 2022).
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from selfsup.config import TransformerConfig
from selfsup.data.keys import Key
from selfsup.data.pair_files import read_pairs
from selfsup.data.sampler import Sampler
from selfsup.data.task_families import Arithmetic, Family, Lookup, Pairs, Strings
from selfsup.data.task_rows import TaskRows
from selfsup.errors import UserError, at_least, nearest
from selfsup.models.decoder_hub import save_decoder
from selfsup.models.transformer import CausalLanguageModel, parameter_count
from selfsup.nn.device import choose_device
from selfsup.objectives.in_context import InContext
from selfsup.studies.in_context_exam import InContextExamination
from selfsup.studies.in_context_figures import draw_emergence, draw_shots
from selfsup.studies.in_context_finding import card, ceilings, conclude
from selfsup.studies.study_folder import open_folder, read_cell
from selfsup.train_config import (
    Budget,
    MuonConfig,
    ScheduleConfig,
    TrainConfig,
)
from selfsup.training.checkpoints import written_whole
from selfsup.training.lock import locked
from selfsup.training.loop import Loop
from selfsup.training.metrics import read_metrics
from selfsup.training.progress import Progress, clock
from selfsup.training.signals import told_how_to_go_on
from selfsup.uses.run_folder import write_json

MARK_KEY, FINAL_KEY = Key(0, 11), Key(0, 12)
"""Of the questions during training and of the last, fresh ones; the same for every seed."""
_FAMILIES: dict[str, Callable[[], Family]] = {
    "mapping": Lookup,
    "arithmetic": Arithmetic,
    "strings": Strings,
}
FAMILIES = tuple(_FAMILIES)
_EPOCH = 1 << 20
_FEWEST = 20  # pairs held out, below which an accuracy says nothing


@dataclass(frozen=True)
class Settings:
    """What the study depends on beside its data."""

    budget: str = "10 minutes"
    length: int = 96
    """Tokens in a row."""
    layers: int = 2
    width: int = 64
    heads: int = 2
    batch_size: int = 64
    lr: float = 5e-3
    """Of Muon, for the blocks' matrices."""
    embedding_lr: float = 4e-3
    spread: float = 0.05
    """Standard deviation of the first weights."""
    families: tuple[str, ...] = FAMILIES
    """Which kinds of tasks, beside pairs from a file."""
    marks: int = 15
    """Examinations during the training, at equal distances."""
    mark_questions: int = 80
    final_questions: int = 400
    precision: str = "auto"
    device: str = "auto"

    def model(self, vocabulary: int) -> TransformerConfig:
        """The recipes' llama, small."""
        return TransformerConfig(
            vocab_size=vocabulary,
            hidden_size=self.width,
            num_layers=self.layers,
            num_heads=self.heads,
            intermediate_size=max(32, self.width * 8 // 3 // 32 * 32),
            max_length=self.length,
            causal=True,
            norm_position="pre",
            norm="rmsnorm",
            norm_eps=1e-5,
            positions="rotary",
            activation="silu",
            gated=True,
            bias=False,
            embedding_norm=False,
            type_vocab_size=0,
            pooler=False,
            initializer_range=self.spread,
        )

    def training(self) -> TrainConfig:
        """For the loop."""
        return TrainConfig.model_validate(
            {
                "budget": self.budget,
                "batch_size": self.batch_size,
                "optimizer": MuonConfig(lr=self.lr, adam_lr=self.embedding_lr),
                "schedule": ScheduleConfig(kind="trapezoid", warmup=0.05),
                "evaluate_every": 1 / self.marks,
                "save_every": Budget(amount=1, unit="minutes"),
                "keep": 1,
                "precision": self.precision,
                "device": self.device,
            }
        )


def make_rows(settings: Settings, pairs: str = "") -> TaskRows:
    """The families of tasks, and what writes them.

    Raises:
        UserError: a file of pairs that cannot be used.
    """
    families: list[Family] = [_FAMILIES[name]() for name in settings.families]
    if pairs:
        family = Pairs(read_pairs(pairs))
        if len(family.tasks[True]) < _FEWEST:
            what = (
                f"{len(family.tasks[True])} pairs can be held out whose words occur in others too"
            )
            raise UserError(what, where=pairs, mend="give more pairs")
        families.append(family)
    return TaskRows(families, [1.0] * len(families), settings.length)


def run(
    out: str | Path,
    *,
    settings: Settings | None = None,
    data: str = "",
    seeds: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train decoders on shown tasks and find out whether, and when, they learn from examples.

    Args:
        out: gets `cells/`, `model/` (of the first seed), figures with their CSV, and `result.json`.
        settings: budget of one training, size, and how it is asked.
        data: a file or folder of translation pairs, as a further family; empty: none.
        seeds: trainings.
        overwrite: start anew where a study lies already.
        quiet: print nothing.

    Returns:
        For each family the accuracy behind each number of examples, beside its floors; when it
        emerged; and a sentence for each family.

    Raises:
        UserError: a setting or a file that cannot be used, or a folder with another study.
        Interrupted: stopped; the same call goes on.
    """
    at_least(1, seeds, "--seeds")
    folder, chosen = Path(out), settings or Settings()
    choose_device(chosen.device)
    for name in chosen.families:
        if name not in _FAMILIES:
            mend = nearest(name, list(FAMILIES)) or f"there are {', '.join(FAMILIES)}"
            raise UserError(f"no family of tasks '{name}'", where="--families", mend=mend)
    if not chosen.families and not data:
        raise UserError("no family of tasks", where="--families", mend=", ".join(FAMILIES))
    rows = make_rows(chosen, data)
    with told_how_to_go_on(overwrite), locked(folder), torch.random.fork_rng(devices=[]):
        return _run(folder, chosen, rows, seeds, overwrite, quiet)


def _run(
    folder: Path, settings: Settings, rows: TaskRows, seeds: int, overwrite: bool, quiet: bool
) -> dict[str, Any]:
    made_with = {
        "kind": "study in-context",
        "settings": asdict(settings),
        "tasks": digest(rows),
    }
    open_folder(folder, made_with, overwrite)
    write_json(folder / "study.json", made_with)
    display = Progress(quiet=quiet, title="in-context")
    for family in rows.families:
        shown = rows.text(family.draw(False, 3, 0, 0))
        display.say(f"{family.name}: {shown} …")
    cells = []
    try:
        for seed in range(seeds):
            path = folder / "cells" / f"seed-{seed}.json"
            if not path.is_file() or (seed == 0 and not (folder / "model").is_dir()):
                write_json(path, train(folder, settings, rows, seed, made_with, display))
            cells.append(read_cell(path, "seed", "marks", "final"))
            display.update((seed + 1) / seeds, f"{seed + 1} of {seeds} trainings")
    finally:
        display.close()
    shutil.rmtree(folder / "work", ignore_errors=True)
    result = conclude(cells, rows, settings.mark_questions, settings.final_questions)
    draw_shots(folder, cells, result)
    draw_emergence(folder, cells, result)
    write_json(folder / "result.json", result)
    return result


def digest(rows: TaskRows) -> str:
    """16 hexadecimal digits of every symbol and of what a few rows of each family look like."""
    text = [rows.tokenizer.fingerprint, str(rows.length)]
    for family in rows.families:
        text += [rows.text(family.draw(held, 8, 0, n)) for held in (False, True) for n in range(8)]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def train(
    folder: Path,
    settings: Settings,
    rows: TaskRows,
    seed: int,
    made_with: Mapping[str, Any],
    display: Progress,
) -> dict[str, Any]:
    """One training, scored at its marks and, with more and fresh questions, at its end."""
    model = build(settings, rows, seed)

    def tell(values: Mapping[str, float]) -> None:
        display.say(f"seed {seed}  {_shown(values, rows)}")

    work = folder / "work" / f"seed-{seed}"
    marks = InContextExamination(rows, settings.mark_questions, key=MARK_KEY, tell=tell)
    loop = Loop(
        model,
        InContext(rows),
        Sampler([_EPOCH], [1.0], seed),
        settings.training(),
        seed=seed,
        folder=work,
        matrices=[n for n, p in model.named_parameters() if ".blocks." in n and p.ndim == 2],
        evaluation=marks,
        fingerprint=hashlib.sha256(f"{made_with} {seed}".encode()).hexdigest()[:16],
        quiet=True,
    )
    outcome = loop.run()
    final = InContextExamination(rows, settings.final_questions, key=FINAL_KEY)
    scores = final.evaluator(0, loop.device, loop.precision)(model)
    state = outcome.state
    display.say(
        f"seed {seed}: {state.step:,} steps, {state.tokens:,} tokens, {clock(state.seconds)}, "
        f"{outcome.tokens_per_second:,.0f} tokens/s in {outcome.precision.name}"
    )
    if seed == 0:
        origin = {"study": "in-context", "steps": state.step, "tokens": state.tokens}
        with written_whole(folder / "model") as new:
            save_decoder(new, model, rows.tokenizer, origin, card(rows, state.step, state.tokens))
    return {
        "seed": seed,
        "steps": state.step,
        "tokens": state.tokens,
        "minutes": round(state.seconds / 60, 3),
        "tokens_per_second": round(outcome.tokens_per_second, 1),
        "precision": outcome.precision.name,
        "parameters": parameter_count(model),
        "marks": [
            {k: v for k, v in line.items() if k not in {"split", "loss"}}
            for line in read_metrics(work / "metrics.jsonl")
            if line["split"] == "heldout"
        ],
        "final": {name: value for name, value in scores.items() if name != "loss"},
        **ceilings(rows, settings.final_questions, FINAL_KEY),
    }


def build(settings: Settings, rows: TaskRows, seed: int) -> CausalLanguageModel:
    """A decoder with random weights, a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CausalLanguageModel(settings.model(rows.tokenizer.vocab_size))


def _shown(values: Mapping[str, float], rows: TaskRows) -> str:
    """`held-out tasks behind 16 examples (shuffled): mapping 0.97 (0.20)  …`."""
    parts = []
    for family in rows.families:
        most = max(rows.shots(family))
        true, other = (values[f"{family.name}/heldout/{m}/{most}"] for m in ("true", "shuffled"))
        parts.append(f"{family.name} at {most} {true:.2f} (shuffled {other:.2f})")
    return "held-out tasks: " + "  ".join(parts)
