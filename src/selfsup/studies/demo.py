"""The demo: the whole story on text that every installation has, in a few minutes on two cores.

Pre-train on the documentation strings of the installed packages, look at what was learned, fill a few
blanks, and ask whether pre-training paid on a question that comes free with the text: which library
is this from?
"""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfsup.config import (
    DataConfig,
    MaskedTokensConfig,
    PretrainConfig,
    SourceConfig,
    WordPieceConfig,
)
from selfsup.data.admission import is_heldout, text_key
from selfsup.data.docstrings import DocString, read_docstrings
from selfsup.data.keys import hash64
from selfsup.data.tokenizers import Tokenizer
from selfsup.finetune_config import FinetuneConfig, FinetuneTrainConfig, HeadConfig
from selfsup.models.hub import Pretrained, load_encoder
from selfsup.objectives.labels import TextLabels
from selfsup.recipes import modernbert
from selfsup.studies.figures import draw_demo
from selfsup.tasks.judge import read_answers
from selfsup.tasks.task import TaskInfo
from selfsup.tasks.texts import TextSet
from selfsup.train_config import (
    AdamWConfig,
    Budget,
    MuonConfig,
    ScheduleConfig,
    TrainConfig,
)
from selfsup.training.progress import Progress, clock
from selfsup.uses.fill import Filled, fill
from selfsup.uses.finetuning import Sets, fit
from selfsup.uses.pretraining import pretrain
from selfsup.uses.run_folder import write_json

HELDOUT = 0.08
LABELS = (20, 80, 320)
TEST_PER_CLASS = 80
TOKENS = 64
BLANKS = (
    "Return the [MASK] of the array elements along a given axis.",
    "If True, the input [MASK] will be copied.",
    "Raises a [MASK] if the file does not exist.",
    "The number of [MASK] to use for the computation.",
)
_NAMES = re.compile(
    r"\b(python|cpython|numpy|np|scipy|sp|sklearn|scikit-learn|scikit|torch|pytorch|aten)\b", re.I
)


def demo_config(minutes: float) -> PretrainConfig:
    """A small modern encoder, sized for a few minutes on two cores."""
    base = modernbert("mini")
    return PretrainConfig(
        recipe="demo",
        data=DataConfig(
            sources=(SourceConfig(path="docstrings:"),), heldout=HELDOUT, length=TOKENS
        ),
        tokenizer=WordPieceConfig(vocab_size=6144, sample_megabytes=8),
        model=base.model.model_copy(
            update={
                "hidden_size": 192,
                "num_layers": 4,
                "num_heads": 3,
                "intermediate_size": 512,
                "max_length": 256,
            }
        ),
        objective=MaskedTokensConfig(rate=0.3),
        train=TrainConfig(
            budget=Budget(amount=minutes, unit="minutes"),
            batch_size=32,
            optimizer=MuonConfig(),
            schedule=ScheduleConfig(kind="trapezoid", warmup=0.03, decay=0.5),
            evaluate_every=0.1,
            evaluate_rows=256,
        ),
    )


def run_demo(
    out: Path,
    minutes: float = 3.0,
    *,
    quick: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run the demo into a folder.

    Args:
        out: gets `pretrain/` (a run folder), `figures/demo.png` with its CSV, and `result.json`.
        minutes: of pre-training.
        quick: a few seconds of everything, to see that it works; its numbers mean little.
        overwrite: start anew where a demo lies already.
        quiet: print nothing.
    """
    started = time.perf_counter()
    display = Progress(quiet=quiet, title="")
    display.say("reading the documentation strings of the installed packages")
    documents = read_docstrings()
    characters = sum(len(d.text) for d in documents)
    display.say(f"{len(documents):,} texts, {characters / 1e6:.1f} million characters")
    display.close()
    config = demo_config(min(minutes, 0.15) if quick else minutes)
    run = pretrain(config, out / "pretrain", overwrite=overwrite, quiet=quiet)
    pretrained = load_encoder(out / "pretrain")
    filled = fill(pretrained, BLANKS, top=4)
    display = Progress(quiet=quiet, title="labels")
    _say_blanks(filled, display)
    curves = learning_curves(
        pretrained, documents, (20,) if quick else LABELS, 2 if quick else 3, display
    )
    display.close()
    result = {
        "kind": "demo",
        "quick": quick,
        "texts": len(documents),
        "characters": characters,
        "pretraining": run,
        "filled": [{"text": f.text, "best": f.best} for f in filled],
        "question": "which library is this text from? (5 classes, names removed, split by module)",
        "curves": curves,
        "losses": [
            {"guess by": name, "loss": row["masked_loss"], "accuracy": row["masked_accuracy"]}
            for name, row in (
                ("the pre-trained network", run["heldout"]),
                ("the untrained network", run["untrained"]),
                ("word frequency alone", run["unigram"]),
            )
        ],
        "table": curves_table(curves),
        "finding": finding(curves),
        "seconds": round(time.perf_counter() - started, 1),
    }
    draw_demo(out, run, curves)
    write_json(out / "result.json", result)
    display.say(f"{clock(time.perf_counter() - started)} in all; {out}/figures/demo.png")
    return result


def _say_blanks(filled: Sequence[Filled], display: Progress) -> None:
    display.say("filling blanks:")
    for item in filled:
        words = ", ".join(f"{c.text} {c.probability:.0%}" for c in item.blanks[0])
        display.say(f"  {item.text}  ->  {words}")


def split_by_module(documents: Sequence[DocString]) -> list[tuple[DocString, bool]]:
    """The documents of the question, and whether each is a test text.

    Modules are split in two; test texts come from one half and, moreover, from the documents that
    pre-training held out; texts to learn from are all others of the other half.
    """
    chosen = []
    for d in documents:
        test_module = is_heldout(text_key(d.module), 0.5)
        held = is_heldout(text_key(d.text), HELDOUT)
        if test_module == held:
            chosen.append((d, held))
    return chosen


def labelled_texts(
    documents: Sequence[DocString], tokenizer: Tokenizer
) -> tuple[list[NDArray[np.int64]], NDArray[np.int64], NDArray[np.bool_], list[str]]:
    """The question: token ids, class numbers, whether each is a test text, and the class names.

    Names of the libraries are taken out of all texts.
    """
    names = sorted({d.library for d in documents})
    split = split_by_module(documents)
    chosen, tests = [d for d, _ in split], [test for _, test in split]
    texts = [_NAMES.sub(" ", d.text[: TOKENS * 16]) for d in chosen]
    ids = []
    for row in tokenizer.encode_batch(texts):
        ids.append(row if len(row) <= TOKENS else np.concatenate([row[: TOKENS - 1], row[-1:]]))
    labels = np.array([names.index(d.library) for d in chosen], np.int64)
    return ids, labels, np.array(tests), names


def learning_curves(
    pretrained: Pretrained,
    documents: Sequence[DocString],
    sizes: Sequence[int],
    seeds: int,
    display: Progress,
) -> dict[str, Any]:
    """Accuracy against the number of labels, from pre-trained and from random weights."""
    ids, labels, tests, names = labelled_texts(documents, pretrained.tokenizer)
    per_class = min(
        TEST_PER_CLASS, *(int((tests & (labels == c)).sum()) for c in range(len(names)))
    )
    test_rows = balanced(labels, np.flatnonzero(tests), per_class, 0)
    test = text_set(ids, labels, test_rows, names)
    scores: dict[str, list[list[float]]] = {"pretrained": [], "random": []}
    total, done = len(sizes) * seeds * 2, 0
    for size in sizes:
        for start, rows in scores.items():
            rows.append([])
            for seed in range(seeds):
                pool = np.flatnonzero(~tests)
                chosen = balanced(labels, pool, size // len(names), seed + 1)
                train = text_set(ids, labels, chosen, names)
                config = finetune_config(len(chosen), scratch=start == "random")
                rows[-1].append(accuracy(config, pretrained, train, test, seed))
                done += 1
                display.update(done / total, f"{size} labels, {start}")
        medians = {k: float(np.median(v[-1])) for k, v in scores.items()}
        display.say(
            f"{size:>4} labels: accuracy {medians['pretrained']:.2f} from pre-trained weights, "
            f"{medians['random']:.2f} from random ones"
        )
    return {
        "classes": names,
        "labels": list(sizes),
        "seeds": seeds,
        "test_texts": len(test_rows),
        "chance": 1 / len(names),
        "accuracy": scores,
    }


def balanced(
    labels: NDArray[np.int64], pool: NDArray[np.int64], each: int, seed: int
) -> NDArray[np.int64]:
    """`each` members of the pool for every class; samples of one seed are nested."""
    order = pool[np.argsort(hash64(seed, pool))]
    return np.concatenate([order[labels[order] == c][:each] for c in np.unique(labels)])


def text_set(
    ids: Sequence[NDArray[np.int64]],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    names: Sequence[str],
) -> TextSet:
    """The chosen texts, ready for the model."""
    objective = TextLabels([ids[i] for i in rows], None, labels[rows], None)
    return TextSet(objective, tuple(names), "accuracy", cut=0)


def finetune_config(texts: int, *, scratch: bool) -> FinetuneConfig:
    """Few-label settings, the same from both starts (docs/log.md says what else was tried)."""
    steps = {20: 60, 80: 120}.get(texts, 240)
    return FinetuneConfig(
        scratch=scratch,
        head=HeadConfig(pooling="mean", dense="none", dropout=0.0),
        epochs=0,
        lr=1e-3,
        select="last",
        train=FinetuneTrainConfig(
            budget=Budget(amount=steps, unit="steps"),
            batch_size=20,
            optimizer=AdamWConfig(betas=(0.9, 0.99)),
            schedule=ScheduleConfig(warmup=0.1),
        ),
    )


def accuracy(
    config: FinetuneConfig, pretrained: Pretrained, train: TextSet, test: TextSet, seed: int
) -> float:
    """The share of test texts that are answered right after fine-tuning; the last weights count."""
    info = TaskInfo(
        kind="classify", answer="class", labels=train.labels, main=train.main, max_length=TOKENS
    )
    fitted = fit(config, pretrained, Sets(info, train, None, None), seed=seed)
    collector, _ = read_answers(
        fitted.model, test, fitted.loop.device, fitted.loop.precision, keep=False
    )
    return collector.scores()["accuracy"]


def curves_table(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each number of labels: median accuracy and range from each start."""

    def said(values: Sequence[float]) -> str:
        return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    warm, cold = curves["accuracy"]["pretrained"], curves["accuracy"]["random"]
    return [
        {"labels": size, "from pre-trained weights": said(a), "from random weights": said(b)}
        for size, a, b in zip(curves["labels"], warm, cold, strict=True)
    ]


def finding(curves: dict[str, Any]) -> str:
    """One sentence that says what the curves say."""
    sizes = curves["labels"]
    warm = [float(np.median(v)) for v in curves["accuracy"]["pretrained"]]
    cold = [float(np.median(v)) for v in curves["accuracy"]["random"]]
    text = (
        f"With {sizes[0]} labels the pre-trained encoder answers {warm[0]:.0%} right, "
        f"the same network from random weights {cold[0]:.0%} (chance: {curves['chance']:.0%})"
    )
    seeds = curves["accuracy"]
    matched = [  # in every seed, and by more than chance
        (few, many)
        for few, a, middle in zip(sizes, seeds["pretrained"], warm, strict=True)
        for many, b in zip(sizes, seeds["random"], strict=True)
        if many > few and middle > curves["chance"] and all(map(operator.ge, a, b))
    ]
    if matched:
        few, many = max(matched, key=lambda pair: pair[1] / pair[0])
        return f"{text}; {few} labels after pre-training are worth {many} without it."
    better = sum(a > b for a, b in zip(warm, cold, strict=True))
    return f"{text}; pre-training is ahead at {better} of {len(sizes)} label counts."
