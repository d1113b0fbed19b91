"""Does what a model learned from language help on other alphabets: DNA, proteins, music?

After Kao and Lee 2021 ("Is BERT a cross-disciplinary knowledge learner?"): every symbol is given a
word of the vocabulary at random, and the encoder is fine-tuned on the sequences as if they were text.
Beside it stand the controls that say why it helps, if it does: the same network from random weights,
the same weights shuffled within each matrix (their sizes without their structure), other draws of
words, and an encoder that was pre-trained on sequences of the kind itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from selfsup.data.keys import permute
from selfsup.data.unknown import known_letters, unknown_note
from selfsup.errors import UserError, at_least
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.models.task_hub import Answer
from selfsup.nn.device import choose_device
from selfsup.objectives.labels import TextLabels
from selfsup.studies.curve_cells import read_curve
from selfsup.studies.figures import draw_alphabets
from selfsup.studies.study_folder import open_folder, read_cell
from selfsup.tasks.baselines import majority_baseline, tfidf_baseline
from selfsup.tasks.encoding import Ids, frame_texts
from selfsup.tasks.judge import read_answers
from selfsup.tasks.metrics import class_scores, regression_scores
from selfsup.tasks.reading import Notes, main_score
from selfsup.tasks.symbols import (
    SymbolExample,
    alphabet_of,
    as_words,
    draw_words,
    hold_out_symbols,
    read_symbols,
)
from selfsup.tasks.task import Examples, TaskInfo
from selfsup.tasks.texts import Scale, TextSet
from selfsup.training.lock import locked
from selfsup.training.progress import Progress
from selfsup.training.signals import told_how_to_go_on
from selfsup.uses.finetuning import Sets, depends_on, fingerprint, fit
from selfsup.uses.run_folder import write_json

Start = Literal["language", "shuffled", "random", "own"]
STARTS: dict[Start, str] = {
    "language": "pre-trained on language",
    "shuffled": "the same weights, shuffled",
    "random": "random weights",
    "own": "pre-trained on sequences",
}

_FIRST_CHARACTER = 0xF0000  # of 65,534 for private use


@dataclass(frozen=True)
class Cell:
    """One training: from where, with which words, with which seed."""

    start: Start
    draw: int
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.start}-{self.draw}-{self.seed}"


def cells(draws: int, seeds: int, own: bool) -> list[Cell]:
    """Language with every draw and seed; the controls with the first draw and every seed."""
    found = [Cell("language", d, s) for s in range(seeds) for d in range(draws)]
    others: list[Start] = ["shuffled", "random", *(["own"] if own else [])]  # type: ignore[list-item]
    return [*found, *(Cell(start, 0, s) for start in others for s in range(seeds))]


@dataclass(frozen=True)
class Material:
    """The sequences of the study."""

    train: Sequence[SymbolExample]
    test: Sequence[SymbolExample]
    alphabet: list[str]
    info: TaskInfo
    notes: Notes


def read_material(config: FinetuneConfig, longest: int) -> Material:
    """Read the labelled sequences; a fifth is held out to be scored on where no test file is given."""
    if config.scratch or config.frozen or config.lora.rank or config.class_weights != "none":
        what = "scratch, frozen, lora and class_weights have no meaning in this study"
        raise UserError(what, mend="leave them out")
    if config.task not in {"classify", "regress"}:
        raise UserError(f"'{config.task}' is not for sequences of symbols", where="--task")
    if not config.data.train:
        raise UserError("no labelled file", where="--train", mend="name one")
    notes = Notes()
    train = read_symbols(config.data.train, config.data, config.task, notes)
    answer: Answer = "number" if config.task == "regress" else "class"
    labels = tuple(sorted({str(e.label) for e in train})) if answer == "class" else ()
    if len(labels) == 1:
        raise UserError(f"the training part has only the class '{labels[0]}'")
    if path := config.data.test or config.data.dev:
        test = read_symbols(path, config.data, config.task, notes)
    else:
        train, test = hold_out_symbols(train, config.seed, 0.2, notes)
        notes.add(f"no test file: {len(test):,} of the sequences are held out to be scored on")
    scale = (0.0, 1.0)
    if labels:
        if strange := [e for e in test if str(e.label) not in labels]:
            what = f"'{strange[0].label}' is not among the training labels"
            raise UserError(what, where=strange[0].where)
    else:
        values = np.array([float(e.label) for e in train])
        scale = (float(values.mean()), float(values.std()))
        if not scale[1] > 0:
            raise UserError(f"every label is {values[0]:g}", where=config.data.train)
    info = TaskInfo(
        kind=config.task,
        answer=answer,
        labels=labels,
        main=main_score(answer, config.metric, labels),
        max_length=min(longest, config.max_length or longest),
        scale=scale,
    )
    return Material(train, test, alphabet_of(train), info, notes)


def text_set(examples: Sequence[SymbolExample], ids: list[Ids], info: TaskInfo) -> TextSet:
    """Sequences whose token ids are known, ready for the model."""
    scale = Scale(*info.scale)
    if info.labels:
        number = {name: i for i, name in enumerate(info.labels)}
        values: Any = np.array([number[str(e.label)] for e in examples], np.int64)
    else:
        raw = np.array([float(e.label) for e in examples])
        values = ((raw - scale.mean) / scale.spread).astype(np.float32)
    return TextSet(TextLabels(ids, None, values), info.labels, info.main, 0, scale)


def make_sets(cell: Cell, material: Material, pretrained: Pretrained) -> Sets:
    """The sequences in the words of a cell; an encoder of sequences reads them with its own tokenizer."""
    tokenizer, info = pretrained.tokenizer, material.info
    longest = min(info.max_length, pretrained.max_length)
    parts = []
    words = None if cell.start == "own" else draw_words(tokenizer, material.alphabet, cell.draw)
    for examples in (material.train, material.test):
        if words is None:
            ids = frame_texts(tokenizer, [e.text for e in examples], None, longest).ids
        else:
            ids = as_words(tokenizer, examples, words, longest)
        parts.append(text_set(examples, ids, info))
    return Sets(info, parts[0], parts[1], None)


def shuffled(pretrained: Pretrained, seed: int) -> Pretrained:
    """A copy whose weights are permuted within each tensor: their sizes stay, their structure goes."""
    from copy import deepcopy
    from dataclasses import replace

    model = deepcopy(pretrained.model)
    with torch.no_grad():
        for number, p in enumerate(model.parameters()):
            order = torch.from_numpy(permute(np.arange(p.numel()), p.numel(), 23, seed, number))
            p.copy_(p.flatten()[order].view_as(p))
    return replace(pretrained, model=model)


def run_cell(
    cell: Cell,
    config: FinetuneConfig,
    material: Material,
    pretrained: Pretrained,
    work: Path,
    key: str,
) -> dict[str, Any]:
    """Train and score one cell; `key` says what an interrupted one in `work` must have been made with."""
    start = shuffled(pretrained, cell.seed) if cell.start == "shuffled" else pretrained
    chosen = config.model_copy(update={"scratch": cell.start == "random", "select": "last"})
    sets = make_sets(cell, material, start)
    fitted = fit(chosen, start, sets, seed=cell.seed, folder=work, fingerprint=key)
    assert sets.dev is not None
    collector, loss = read_answers(
        fitted.model, sets.dev, fitted.loop.device, fitted.loop.precision, keep=False
    )
    found = {"loss": loss, **collector.scores()}
    curve = read_curve(work / "metrics.jsonl", material.info.main)
    shutil.rmtree(work)
    return {**vars(cell), "scores": found, "steps": fitted.outcome.state.step, "curve": curve}


def run(
    config: FinetuneConfig,
    out: str | Path,
    *,
    own: str = "",
    draws: int = 3,
    seeds: int = 3,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tune on sequences of another alphabet, from language and from every control.

    Args:
        config: model, files and settings.
        out: gets `cells/`, figures with their CSV, and `result.json`.
        own: an encoder that was pre-trained on sequences of the kind (`symbols` tokenizer); empty:
            without that control.
        draws: of words for the symbols.
        seeds: of everything else.
        overwrite: start anew where a study lies already.
        quiet: print nothing.

    Returns:
        For each start the median score with its range, beside a linear model over n-grams and the
        most frequent answer; how much the draw of words matters; and a sentence.
    """
    at_least(1, draws, "--draws")
    at_least(1, seeds, "--seeds")
    choose_device(config.train.device)
    folder = Path(out)
    with told_how_to_go_on(overwrite), locked(folder):
        return _run(config, folder, own, draws, seeds, overwrite, quiet)


def _run(
    config: FinetuneConfig,
    folder: Path,
    own: str,
    draws: int,
    seeds: int,
    overwrite: bool,
    quiet: bool,
) -> dict[str, Any]:
    display = Progress(quiet=quiet, title="alphabets")
    pretrained = load_encoder(config.model)
    known = known_letters(pretrained.tokenizer)
    # capitals are of sequences; small letters are a language's
    if known and pretrained.tokenizer.letters.isupper():
        what = f"this model reads no words of a language{known}"
        mend = "name one of a language, and this one with --own"
        raise UserError(what, where=f"model {config.model}", mend=mend)
    material = read_material(config, pretrained.max_length)
    itself = load_encoder(own) if own else None
    if itself is not None:
        read = itself.tokenizer.encode_batch([e.text for e in material.train])
        if unknown := unknown_note(itself.tokenizer, read, "the sequences"):
            material.notes.add(f"--own {own}: {unknown}")
    settings = {
        "kind": "study alphabets",
        **depends_on(
            config, pretrained, cast("Examples", material.train), cast("Examples", material.test)
        ),
        "own": itself.digest if itself else "",
    }
    open_folder(folder, settings, overwrite)
    write_json(folder / "study.json", settings)
    for line in material.notes.lines:
        display.say(line)
    display.say(
        f"{len(material.train):,} sequences to learn from, {len(material.test):,} to be scored on, "
        f"{len(material.alphabet):,} symbols"
    )
    todo, rows = cells(draws, seeds, itself is not None), []
    for number, cell in enumerate(todo):
        path = folder / "cells" / f"{cell.name}.json"
        if path.is_file():
            row = read_cell(path, "scores", "curve")
        else:
            encoder = itself if cell.start == "own" and itself is not None else pretrained
            work = folder / "work" / cell.name
            row = run_cell(cell, config, material, encoder, work, fingerprint(settings))
            write_json(path, row)
        rows.append(row)
        score = row["scores"][material.info.main]
        display.say(f"{STARTS[cell.start]}, words {cell.draw}, seed {cell.seed}: {score:.3f}")
        display.update((number + 1) / len(todo), cell.name)
    display.close()
    shutil.rmtree(folder / "work", ignore_errors=True)
    result = conclude(rows, material, draws, seeds)
    draw_alphabets(folder, rows, result, {str(k): v for k, v in STARTS.items()})
    write_json(folder / "result.json", result)
    return result


def conclude(
    rows: Sequence[dict[str, Any]], material: Material, draws: int, seeds: int
) -> dict[str, Any]:
    """The table, the floors, and the sentence."""
    main = material.info.main
    table = []
    for start, said in STARTS.items():
        scores = [r["scores"][main] for r in rows if r["start"] == start]
        if scores:
            table.append({"start": said, **summary(scores), "trainings": len(scores)})
    floors = baselines(material)
    by_draw = [
        float(
            np.median(
                [r["scores"][main] for r in rows if (r["start"], r["draw"]) == ("language", d)]
            )
        )
        for d in range(draws)
    ]
    by_seed = [
        float(
            np.median(
                [r["scores"][main] for r in rows if (r["start"], r["seed"]) == ("language", s)]
            )
        )
        for s in range(seeds)
    ]
    return {
        "kind": "study alphabets",
        "score": main,
        "sequences": len(material.train),
        "tested_on": len(material.test),
        "symbols": len(material.alphabet),
        "labels": list(material.info.labels),
        "table": table,
        "floors": floors,
        "range_over_draws": [min(by_draw), max(by_draw)],
        "range_over_seeds": [min(by_seed), max(by_seed)],
        "finding": finding(rows, main, floors),
    }


def summary(scores: Sequence[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": float(np.median(scores)), "least": min(scores), "most": max(scores)}


def letters(examples: Sequence[SymbolExample], alphabet: Sequence[str]) -> list[str]:
    """Sequences as text whose characters are the symbols, so that n-grams of them can be counted.

    Symbols that are single letters stay as they are; others (`-2`, `[66, 1.0]`) get a character without
    case each, and what is not in the alphabet gets one more.
    """
    if all(len(s) == 1 for s in alphabet):
        return [e.text for e in examples]
    character = {symbol: chr(_FIRST_CHARACTER + 1 + i) for i, symbol in enumerate(alphabet)}
    strange = chr(_FIRST_CHARACTER)
    return ["".join(character.get(s, strange) for s in e.symbols) for e in examples]


def baselines(material: Material) -> dict[str, float]:
    """The score of a linear model over n-grams of symbols, and of the most frequent answer."""
    texts = [letters(part, material.alphabet) for part in (material.train, material.test)]
    labels: list[Any] = [[e.label for e in part] for part in (material.train, material.test)]
    guesses = {
        "n-grams": tfidf_baseline(texts[0], labels[0], texts[1]),
        "majority": majority_baseline(labels[0], len(texts[1])),
    }
    names, main = material.info.labels, material.info.main
    found = {}
    for name, answers in guesses.items():
        if names:
            number = {label: i for i, label in enumerate(names)}
            confusion = np.zeros((len(names), len(names)), np.int64)
            for truth, guess in zip(labels[1], answers, strict=True):
                confusion[number[str(truth)], number[str(guess)]] += 1
            found[name] = class_scores(confusion)[main]
        else:
            scores = regression_scores(np.array(answers, float), np.array(labels[1], float))
            found[name] = scores[main]
    return found


def finding(rows: Sequence[dict[str, Any]], main: str, floors: dict[str, float]) -> str:
    """One sentence; one start is ahead of another when their ranges do not meet."""
    scores = {s: [r["scores"][main] for r in rows if r["start"] == s] for s in STARTS}

    def beside(one: Start, other: Start) -> str:
        a, b = scores[one], scores[other]
        if len(a) < 2 or len(b) < 2:
            word = "beside"  # one training says nothing of chance
        elif min(a) > max(b):
            word = "ahead of"
        elif max(a) < min(b):
            word = "behind"
        else:
            word = "not clearly apart from"
        return f"{word} {STARTS[other]} ({np.median(b):.3f})"

    others: list[Start] = [s for s in ("random", "shuffled", "own") if scores[s]]
    said = ", ".join(beside("language", s) for s in others)
    text = f"Pre-trained on language ({main} {np.median(scores['language']):.3f}) it is {said}"
    if floors["n-grams"] > max(float(np.median(v)) for v in scores.values() if v):
        return f"{text}; a linear model over n-grams is better than all of them ({floors['n-grams']:.3f})."
    return f"{text}; a linear model over n-grams has {floors['n-grams']:.3f}."
