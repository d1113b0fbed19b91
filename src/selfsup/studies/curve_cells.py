"""The cells of the label curves: one start, one number of labels, one seed, and its scores."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples as Chosen
from selfsup.errors import UserError
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.hub import Pretrained
from selfsup.models.task_model import mean_vectors
from selfsup.nn.device import choose_device
from selfsup.nn.side_by_side import read_texts
from selfsup.studies.curve_mistakes import mistakes
from selfsup.studies.curve_samples import (
    Material,
    Rows,
    pick,
    sample_info,
    sample_order,
)
from selfsup.tasks.baselines import (
    example_texts,
    lookup_baseline,
    majority_baseline,
    tfidf_baseline,
)
from selfsup.tasks.judge import TOKENS_AT_ONCE, read_answers
from selfsup.tasks.labelled import TaggedSentence, TextExample
from selfsup.tasks.metrics import class_scores, regression_scores
from selfsup.tasks.samples import text_labels
from selfsup.tasks.tagging import score_tags
from selfsup.tasks.task import AnySet, Examples, TaskInfo, make_set
from selfsup.training.devices import choose_precision
from selfsup.training.metrics import read_metrics
from selfsup.uses.finetuning import Sets, fit

Start = Literal["pretrained", "random", "probe", "tfidf", "lookup"]

_POINTS = 60  # of a curve of training losses
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # C of the probe, the strongest first
_RIDGES = (1e4, 1e3, 1e2, 10.0, 1.0)
_FOLDS = 5
_SEARCHED = 10_000  # examples among which the penalty is chosen


@dataclass(frozen=True)
class Cell:
    """Which model a score belongs to."""

    start: Start
    labels: int
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.start}-{self.labels}-{self.seed}"


class Bench:
    """Trains and scores the models of a study.

    Args:
        config: settings of fine-tuning, precision resolved.
        pretrained: the encoder in question.
        material: the task.
        scratch_lr: peak learning rate of random weights; 0: as from pre-trained ones.
    """

    def __init__(
        self, config: FinetuneConfig, pretrained: Pretrained, material: Material, scratch_lr: float
    ) -> None:
        self.config, self.pretrained, self.material = config, pretrained, material
        self.scratch_lr = scratch_lr
        self.order = lru_cache(maxsize=8)(self._order)

    def _order(self, seed: int) -> Rows:
        return sample_order(self.material.pool, self.material.info.answer, seed)

    def run(
        self, cell: Cell, work: Path | None, fingerprint: str, quiet: bool = True
    ) -> dict[str, Any]:
        """The scores of a cell on the test part, and how it came about.

        Args:
            cell: which.
            work: a folder; the training's curve is recorded (and an interrupted one goes on).
            fingerprint: of data and settings.
            quiet: show no progress.
        """
        rows = self.order(cell.seed)[: cell.labels]
        place = {"start": cell.start, "labels": cell.labels, "seed": cell.seed}
        if cell.start == "tfidf":
            return place | self._tfidf(rows, cell.seed)
        if cell.start == "probe":
            return place | self._probe(rows, cell.seed)
        if cell.start == "lookup":
            return place | self._lookup(rows)
        return place | self._finetune(cell, rows, work, fingerprint, quiet)

    # ---- fine-tuning -------------------------------------------------------------------------

    def _finetune(
        self, cell: Cell, rows: Rows, work: Path | None, fingerprint: str, quiet: bool
    ) -> dict[str, Any]:
        sample = pick(self.material.pool, rows)
        info, weights = sample_info(self.material, sample)
        train = self._set(sample, info, weights)
        test = self._set(self.material.test, info)
        watched = None
        if work is not None:
            same = self.material.watched is self.material.test
            watched = test if same else self._set(self.material.watched, info)
        scratch = cell.start == "random"
        config = self.config.model_copy(
            update={
                "scratch": scratch,
                "lr": (scratch and self.scratch_lr) or self.config.lr,
                "train": self.config.train.model_copy(update={"log_every": 1}),
            }
        )
        fitted = fit(
            config,
            self.pretrained,
            Sets(info, train, watched, test),
            seed=cell.seed,
            folder=work,
            fingerprint=f"{fingerprint}-{cell.name}",
            quiet=quiet,
            title=f"{cell.start}, {cell.labels:,}",
        )
        collector, _ = read_answers(fitted.model, test, fitted.loop.device, fitted.loop.precision)
        found: dict[str, Any] = {
            "scores": collector.scores(),
            "steps": fitted.outcome.state.step,
            "seconds": round(fitted.outcome.state.seconds, 2),
            "learning_rate": fitted.loop.optimizers[-1].param_groups[0]["peak_lr"],
        }
        if work is not None:
            found["curve"] = read_curve(work / "metrics.jsonl", info.main)
            found["mistakes"] = mistakes(info, self.material.test, collector)
        return found

    def _set(
        self, examples: Examples, info: TaskInfo, weights: NDArray[np.float64] | None = None
    ) -> AnySet:
        types = self.pretrained.config.type_vocab_size > 1
        return make_set(self.pretrained.tokenizer, examples, info, types=types, weights=weights)

    # ---- what it is compared with --------------------------------------------------------------

    def _tfidf(self, rows: Rows, seed: int) -> dict[str, Any]:
        info, sample = self.material.info, pick(self.material.pool, rows)
        learned, test = (
            cast("list[TextExample]", sample),
            cast("list[TextExample]", self.material.test),
        )
        labels = text_labels(sample, info)
        try:
            given = tfidf_baseline(example_texts(learned), labels, example_texts(test), seed=seed)
        except UserError:  # no text of the sample holds a word to count
            given = majority_baseline(labels, len(test))
        return {"scores": score_answers(info, text_labels(test, info), given)}

    def _lookup(self, rows: Rows) -> dict[str, Any]:
        info, sample = self.material.info, pick(self.material.pool, rows)
        learned, test = (
            cast("list[TaggedSentence]", sample),
            cast("list[TaggedSentence]", self.material.test),
        )
        return {"scores": score_tags(info.labels, test, lookup_baseline(learned, test))}

    def _probe(self, rows: Rows, seed: int) -> dict[str, Any]:
        info, pool = self.material.info, self.material.pool
        labels = np.asarray(text_labels(pick(pool, rows), info))
        model = fit_probe(self._pool_vectors[rows], labels, seed)
        given = model.predict(self._test_vectors).tolist()
        return {"scores": score_answers(info, text_labels(self.material.test, info), given)}

    @cached_property
    def _pool_vectors(self) -> NDArray[np.float32]:
        return self._vectors(self.material.pool)

    @cached_property
    def _test_vectors(self) -> NDArray[np.float32]:
        return self._vectors(self.material.test)

    def _vectors(self, examples: Examples) -> NDArray[np.float32]:
        """(examples, hidden) mean vectors of the encoder as it is, read as in fine-tuning."""
        objective = self._set(examples, self.material.info).objective
        device = choose_device(self.config.train.device)
        precision = choose_precision(self.config.train.precision, device)
        encoder = self.pretrained.encoder.to(device).eval()
        vectors = np.zeros((len(examples), self.pretrained.config.hidden_size), np.float32)

        def read(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            batch = objective.batch(Chosen(rows, np.zeros_like(rows)), Key(0)).to(device)
            with precision.autocast(device):
                hidden = encoder(batch.sequences)
            return rows, mean_vectors(hidden, batch.sequences).float().cpu().numpy()

        lengths = [len(x) for x in objective.ids]
        for rows, found in read_texts(read, lengths, encoder, precision.dtype, TOKENS_AT_ONCE):
            vectors[rows] = found
        return vectors


def fit_probe(vectors: NDArray[np.float32], labels: NDArray[Any], seed: int) -> Any:
    """A linear model over frozen vectors, each feature brought to mean 0 and spread 1.

    Logistic regression for class names, ridge regression for numbers; the penalty is the one that
    was best in 5-fold cross-validation on these examples (of equals the strongest), of at most 10,000
    of them.  Where a class has but one example nothing can be validated, and the middle one is taken.
    """
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    is_class = labels.dtype.kind in "UO"
    chosen = np.random.default_rng(seed).permutation(len(labels))[:_SEARCHED]
    if is_class:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        key, grid = "logisticregression__C", _PENALTIES
        folds = min(_FOLDS, *Counter(labels[chosen].tolist()).values())
        score, kind = "accuracy", StratifiedKFold
    else:
        model = make_pipeline(StandardScaler(), Ridge())
        key, grid = "ridge__alpha", _RIDGES
        folds, score, kind = min(_FOLDS, len(labels) // 2), "neg_mean_squared_error", KFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as good as it gets in 1,000 steps
        best = {key: grid[len(grid) // 2]}
        if folds >= 2:
            cut = kind(folds, shuffle=True, random_state=seed)
            search = GridSearchCV(model, {key: list(grid)}, scoring=score, cv=cut, refit=False)
            best = search.fit(vectors[chosen], labels[chosen]).best_params_
        return clone(model).set_params(**best).fit(vectors, labels)


def score_answers(
    info: TaskInfo, truth: list[str] | list[float], given: list[str] | list[float]
) -> dict[str, float]:
    """The task's scores of class names or numbers, as a fine-tuned model is scored."""
    if info.answer == "number":
        scores = regression_scores(np.asarray(given, np.float64), np.asarray(truth, np.float64))
        return scores
    number = {name: i for i, name in enumerate(info.labels)}
    confusion = np.zeros((len(number), len(number)), np.int64)
    pairs = ([number[str(x)] for x in truth], [number[str(x)] for x in given])
    np.add.at(confusion, pairs, 1)
    return class_scores(confusion)


def majority_score(material: Material) -> float | None:
    """The score of the most frequent class, or of the mean; None where a task has no such answer."""
    info = material.info
    if info.answer not in {"class", "number"}:
        return None
    given = majority_baseline(text_labels(material.pool, info), len(material.test))
    return score_answers(info, text_labels(material.test, info), given)[info.main]


def read_curve(path: Path, main: str) -> dict[str, list[float]]:
    """What training left: mean losses over equal stretches of steps, and the score when looked at.

    Returns:
        `step`, `loss` (the mean of the stretch that ends there), `score_step`, `score`.
    """
    lines = read_metrics(path)
    losses = [(x["step"], x["loss"]) for x in lines if x["split"] == "train"]
    looks = {x["step"]: x[main] for x in lines if x["split"] == "heldout"}
    stretches = [s for s in np.array_split(np.array(losses), min(_POINTS, len(losses))) if len(s)]
    return {
        "step": [int(s[-1, 0]) for s in stretches],
        "loss": [float(s[:, 1].mean()) for s in stretches],
        "score_step": list(looks),
        "score": list(looks.values()),
    }
