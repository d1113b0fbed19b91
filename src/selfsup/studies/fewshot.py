"""Does a model learn a task from examples in its prompt?  Accuracy against their number.

Beside it two floors: always giving the most frequent answer, and the same prompts with shuffled
labels (Min et al. 2022): what a model gains from those, it does not learn from the labels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.errors import UserError, at_least, check_seed
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.studies.fewshot_figure import draw_shots
from selfsup.studies.fewshot_finding import GUESSING, MOST_FREQUENT, finding
from selfsup.studies.study_folder import open_folder, read_cell
from selfsup.tasks.prompts import Example, PromptTask, read_prompt_task
from selfsup.training.lock import locked
from selfsup.training.progress import Progress
from selfsup.uses import fewshot
from selfsup.uses.fewshot import Labels, Normalize, Parts
from selfsup.uses.run_folder import versions, write_json

SHOTS = (0, 1, 2, 4, 8, 16, 32)
_LABELS: tuple[Labels, ...] = ("true", "shuffled")


@dataclass(frozen=True)
class Settings:
    """How a task is asked."""

    shots: Sequence[int] = SHOTS
    """Numbers of examples in the prompt."""
    draws: int = 5
    """Random draws of the examples."""
    seed: int = 0
    normalize: Normalize = "bytes"
    """By what a choice's log-probability is divided."""
    max_tokens: int = 32
    """Of a written answer."""
    limit: int | None = None
    """Ask about at most so many examples."""
    batch_tokens: int = 4096

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UserError: with the flag.
        """
        if not self.shots:
            raise UserError("no number of examples", where="--shots", mend="like 0,1,2,4,8")
        for count in self.shots:
            if count < 0:
                raise UserError(f"must not be negative, not {count}", where="--shots")
        at_least(1, self.draws, "--draws")
        at_least(1, self.max_tokens, "--max-tokens")
        check_seed(self.seed)
        at_least(1, self.batch_tokens, "--batch-tokens")


def run(
    models: Sequence[str],
    task_file: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    test_file: str | Path | None = None,
    separator: str | None = None,
    ending: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
    command: str = "",
) -> dict[str, Any]:
    """Ask each model a task with more and more examples in the prompt.

    Numbers of examples that are more than there are, or that do not fit into a model's context, are
    left out and listed under `left_out`; a point stands for that many examples in every prompt.
    Each point is a small file of its own, so the same command goes on where it stopped.

    Args:
        models: run folders, model folders or hub names of decoders.
        task_file: see `selfsup.tasks.prompts`.
        out: gets `result.json`, `figures/` with CSV, and `cells/`.
        settings: shots, draws and so on.
        test_file: examples to ask about; without it, half of the task's.
        separator, ending: of the prompt's layout, instead of the task file's.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        overwrite: start anew where a study lies already.
        quiet: print nothing.
        command: how it was called, for the record.

    Returns:
        What `result.json` holds.

    Raises:
        UserError: a bad file or setting, a model that is no decoder, or another study in `out`.
    """
    chosen = settings or Settings()
    chosen.check()
    layout = {"separator": separator, "ending": ending}
    task = read_prompt_task(Path(task_file), **layout)
    test = None if test_file is None else read_prompt_task(Path(test_file), **layout)
    parts = fewshot.part(task, test, limit=chosen.limit, seed=chosen.seed)
    remarks, task = fewshot.unused(task, test), fewshot.with_test(task, test)
    names = _names(models)
    opened = [load_decoder(m, device) for m in models]
    fitting = [
        _that_fit(name, decoder, task, parts, chosen.max_tokens)
        for name, decoder in zip(names, opened, strict=True)
    ]
    folder = Path(out)
    with locked(folder):
        display = Progress(quiet=quiet, title="few-shot")
        try:
            kept = _settings(chosen, task, parts, opened)
            open_folder(folder, kept, overwrite)
            write_json(folder / "study.json", kept)
            started = time.perf_counter()
            studies = [
                _Model(name, decoder, task, one, chosen, folder, display)
                for name, decoder, one in zip(names, opened, fitting, strict=True)
            ]
            result = _conclude(studies, task, parts, chosen, remarks)
            result |= {
                "command": command,
                "versions": versions(),
                "seconds_now": round(time.perf_counter() - started, 1),
            }
            result["figure"] = str(draw_shots(folder, result))
            write_json(folder / "result.json", result)
        finally:
            display.close()
    return result


def _names(models: Sequence[str]) -> list[str]:
    """What to call each model in tables: the shortest end of its path that tells them apart."""
    if not models:
        raise UserError("no model", mend="name a run folder, a model folder or a hub name")
    parts = [Path(m).parts for m in models]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(p[-length:]) for p in parts]
        if len(set(found)) == len(found):
            return found
    raise UserError("the same model twice", where=str(models[0]), mend="name each once")


def _settings(
    chosen: Settings, task: PromptTask, parts: Parts, opened: Sequence[PretrainedDecoder]
) -> dict[str, Any]:
    """What the points depend on, beside their numbers."""
    what = [task.description, task.layout, [_plain(e) for e in (*parts.pool, *parts.asked)]]
    if task.begun_by_another and not replace(task, tested=()).begun_by_another:
        what.append("choices end")  # until 2026-11-27 those of the test file were not looked at
    said = repr(what)
    return {
        "kind": "fewshot",
        "seed": chosen.seed,
        "normalize": chosen.normalize,
        "max_tokens": chosen.max_tokens,
        "task": hashlib.sha256(said.encode()).hexdigest()[:16],
        "models": [one.digest for one in opened],
    }


def _plain(example: Example) -> tuple[str, str, tuple[str, ...]]:
    return example.input, example.output, example.choices


def _that_fit(
    name: str, pretrained: PretrainedDecoder, task: PromptTask, parts: Parts, max_tokens: int
) -> tuple[Parts, list[str]]:
    """What a model is asked, without what is longer than its context by itself; and a note of that."""
    asked, limit = parts.asked, pretrained.max_length
    sizes = fewshot.prompt_sizes(pretrained, task, [], asked, max_tokens)
    kept = tuple(e for e, size in zip(asked, sizes, strict=True) if size <= limit)
    gone = [e for e, size in zip(asked, sizes, strict=True) if size > limit]
    if not kept:
        what = f"no example fits into the {limit} tokens that '{name}' reads"
        raise UserError(what, where=asked[0].where, mend="shorten them, or --max-tokens")
    notes = [
        f"{name}: {len(gone)} of {len(asked)} examples are not asked about, because "
        f"they alone are longer than the {limit} tokens it reads (first {first.where})"
        for first in gone[:1]
    ]
    return replace(parts, asked=kept), notes


class _Model:
    """One model's points: measured, or read from their files."""

    def __init__(
        self,
        name: str,
        pretrained: PretrainedDecoder,
        task: PromptTask,
        fitting: tuple[Parts, list[str]],
        chosen: Settings,
        folder: Path,
        display: Progress,
    ) -> None:
        parts, self.notes = fitting
        self.name, self.pretrained, self.task, self.chosen = name, pretrained, task, chosen
        self.pool, self.asked, self.folder, self.display = parts.pool, parts.asked, folder, display
        self.digest = pretrained.digest
        self.writer = fewshot.writer_for(pretrained, chosen.batch_tokens)
        self.answer, self.share = fewshot.majority(parts.asked)
        self.left_out: list[dict[str, Any]] = []
        self.fit: int | None = None
        self.points: list[dict[str, Any]] = []
        counts = [c for c in sorted(set(chosen.shots)) if self._can_show(c)]
        plan = [(c, d) for c in counts for d in range(chosen.draws if c else 1)]
        for number, (count, draw) in enumerate(plan):
            for labels in _LABELS if count else _LABELS[:1]:
                display.update(number / len(plan), f"{name}: {count} examples, draw {draw + 1}")
                self.points.append(self._point(count, draw, labels))
            if draw + 1 == (chosen.draws if count else 1):
                found = [p[main_of(task, chosen)] for p in self._of(count, "true")]
                display.say(f"{name}, {count:>3} examples: accuracy {np.median(found):.3f}")

    def _can_show(self, count: int) -> bool:
        """Whether so many examples are there and fit, in every draw; else says why not."""
        if count > len(self.pool):
            self._leave_out(count, f"there are {len(self.pool)} to show", None)
            return False
        first = next(self._too_long(count), None)
        if first is None:
            return True
        draw, _, asked, size = first
        why = (
            f"the prompt of draw {draw + 1} that asks about {asked.where} has {size:,} "
            f"tokens with its answer, the model reads {self.pretrained.max_length:,}"
        )
        if self.fit is None:  # more examples begin with the same ones, so it holds for them too
            self.fit = self._most_that_fit(count)
        self._leave_out(count, why, self.fit)
        return False

    def _too_long(self, count: int) -> Iterator[tuple[int, list[Example], Example, int]]:
        """Each draw of which some prompt does not fit: what it shows, asks about, and its tokens."""
        tokens = self.chosen.max_tokens
        for draw in range(self.chosen.draws if count else 0):
            for labels in _LABELS:
                examples = self._shown(count, draw, labels)
                size, asked = fewshot.longest(
                    self.pretrained, self.task, examples, self.asked, tokens
                )
                if size > self.pretrained.max_length:
                    yield draw, examples, asked, size

    def _most_that_fit(self, count: int) -> int:
        """How many examples fit in every draw, with true labels and shuffled ones."""
        tokens = self.chosen.max_tokens
        most = min(
            fewshot.most_that_fit(self.pretrained, self.task, examples, asked, tokens)
            for _, examples, asked, _ in self._too_long(count)
        )
        while next(self._too_long(most), None) is not None:  # behind fewer another may be longest
            most -= 1
        return most

    def _leave_out(self, count: int, why: str, most: int | None) -> None:
        self.left_out.append({"model": self.name, "shots": count, "why": why, "fit": most})

    def _shown(self, count: int, draw: int, labels: Labels) -> list[Example]:
        seed = self.chosen.seed
        return fewshot.shown(self.pool, count, seed=seed, draw=draw, labels=labels)

    def _point(self, count: int, draw: int, labels: Labels) -> dict[str, Any]:
        place = f"{self.digest}-{count}-{draw}-{labels}.json"
        file = self.folder / "cells" / place
        ways = fewshot.NORMALIZE if self.task.chooses else ("exact",)
        try:
            found = read_cell(file, "shots", "draw", "labels", *ways, "right_nats", "answers")
        except UserError:  # not there, or not whole: it is measured again
            pass
        else:
            return {**found, "model": self.name}
        measured = fewshot.measure(
            self.pretrained,
            self.task,
            self._shown(count, draw, labels),
            self.asked,
            normalize=self.chosen.normalize,
            max_tokens=self.chosen.max_tokens,
            batch_tokens=self.chosen.batch_tokens,
            writer=self.writer,
        )
        point: dict[str, Any] = {"shots": count, "draw": draw, "labels": labels}
        point |= {**measured.accuracy, "right_nats": measured.right_nats}
        point["answers"] = measured.answers
        write_json(file, point)
        return {**point, "model": self.name}

    def _of(self, count: int, labels: Labels) -> list[dict[str, Any]]:
        return [p for p in self.points if p["shots"] == count and p["labels"] == labels]

    def finding(self, main: str, examples: int) -> str:
        """The sentence: its floor is of what this model was asked."""
        floor = MOST_FREQUENT if self.answer else GUESSING
        count = len(self.asked)
        return finding(self.points, main, self.share, count, floor=floor, examples=examples)

    def table(self) -> list[dict[str, Any]]:
        """A row for each number of examples."""
        main, rows = main_of(self.task, self.chosen), []
        for count in sorted({p["shots"] for p in self.points}):
            true, other = self._of(count, "true"), self._of(count, "shuffled")
            values = [p[main] for p in true]
            row: dict[str, Any] = {"model": self.name, "shots": count}
            row |= {"accuracy": float(np.median(values)), "least": min(values), "most": max(values)}
            row["shuffled"] = float(np.median([p[main] for p in other])) if other else None
            row |= {"floor": self.share, "asked": len(self.asked)}
            if self.task.chooses:
                for way in fewshot.NORMALIZE:
                    name = "raw" if way == "none" else f"by {way}"
                    row[name] = float(np.median([p[way] for p in true]))
            rows.append(row)
        return rows


def main_of(task: PromptTask, chosen: Settings) -> str:
    """Which accuracy counts."""
    return chosen.normalize if task.chooses else "exact"


def _conclude(
    studies: Sequence[_Model],
    task: PromptTask,
    parts: Parts,
    chosen: Settings,
    remarks: Sequence[str],
) -> dict[str, Any]:
    main = main_of(task, chosen)
    notes = [*remarks, *task.notes()]
    if task.chooses and task.begun_by_another:
        notes.append("a choice begins another, so each is scored with what ends an example")
    findings = {m.name: m.finding(main, len(parts.asked)) for m in studies}
    points = [{k: v for k, v in p.items() if k != "answers"} for m in studies for p in m.points]
    return {
        "kind": "fewshot",
        "task": task.name,
        "how": "likelihood of the choices" if task.chooses else "exact match of what is written",
        "normalize": chosen.normalize if task.chooses else None,
        "accuracy": main,
        "models": [m.name for m in studies],
        "examples": {
            "to show": len(parts.pool),
            "asked about": {m.name: len(m.asked) for m in studies},
        },
        "draws": chosen.draws,
        "seed": chosen.seed,
        "majority": {m.name: {"answer": m.answer, "accuracy": m.share} for m in studies},
        "table": [row for m in studies for row in m.table()],
        "finding": " ".join(
            f"{name}: {text}" if len(studies) > 1 else text for name, text in findings.items()
        ),
        "left_out": [x for m in studies for x in m.left_out],
        "notes": [*notes, *(x for m in studies for x in m.notes)],
        "layout": vars(task.layout),
        "prompt": task.prompt(
            fewshot.shown(parts.pool, 2, seed=chosen.seed, draw=0, labels="true"),
            parts.asked[0].input,
        ),
        "points": points,
    }
