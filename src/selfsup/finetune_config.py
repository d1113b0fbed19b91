"""Typed configuration of fine-tuning: what is learned, from which files, with which head."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfsup.config_base import Section
from selfsup.train_config import (
    AdamWConfig,
    Budget,
    OptimizerConfig,
    ScheduleConfig,
    TrainConfig,
)

TaskKind = Literal["classify", "pairs", "regress", "tag", "span"]

FEWEST_STEPS = 200
"""Fine-tuning on few labels is unstable when it is short (Mosbach et al. 2021)."""
_USUAL_RATE = 1e-4


class LabelledConfig(Section):
    """Labelled files, and where in them the texts and labels stand."""

    train: str = ""
    """The file to learn from."""
    dev: str = ""
    """The file that chooses the best weights; a tenth of `train` is held out when not given."""
    test: str = ""
    """A file that is scored once, at the end, and chooses nothing."""
    text_column: str = "text"
    """Column (or JSON key, or number from 0 with `header` off) of the text."""
    pair_column: str = ""
    """Column of the second text, for pairs."""
    label_column: str = "label"
    """Column of the label; for `tag` in a .conllu file: upos, xpos, deprel or feats."""
    words_column: str = "words"
    """For `tag` in .jsonl files: the key of the words."""
    format: Literal["auto", "columns", "conllu", "json", "slashed", "symbols"] = "auto"
    """How the files are laid out; `auto`: by their suffix. `slashed` is `word/tag word/tag`, `symbols`
    is `label, name, sequence` or a folder with one FASTA file a class."""
    header: bool = True
    """Whether the first line of a csv or tsv file names the columns."""
    quoting: Literal["auto", "none"] = "auto"
    """`none`: a quote in a tsv file is an ordinary character, as in GLUE."""
    on_bad_row: Literal["stop", "skip"] = "stop"
    """What to do with a row that cannot be used: stop with its place, or skip and count it."""


class HeadConfig(Section):
    """The layers between the encoder and the answer."""

    pooling: Literal["auto", "mean", "cls", "pooler"] = "auto"
    """What stands for a text: the mean of its vectors, its first vector, or BERT's dense layer over
    that; `auto`: the mean."""
    dense: Literal["auto", "none", "pretrained"] = "auto"
    """The dense layer and norm that guessed hidden tokens, kept before the output (ModernBERT); `auto`:
    where the model has one and is of ModernBERT's kind."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Before the output layer."""


class LoraConfig(Section):
    """Low-rank adaptation (Hu et al. 2021): the encoder's matrices stay, small factors are learned."""

    rank: Annotated[int, Field(ge=0)] = 0
    """Width of the factors; 0: train all weights."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """The update is scaled by alpha / rank."""
    targets: Literal["attention", "all"] = "all"
    """Which matrices of a block get factors."""


class SpanConfig(Section):
    """Extractive question answering over long passages."""

    max_length: Annotated[int, Field(ge=32)] = 384
    """Tokens in one window, question included."""
    overlap: Annotated[int, Field(ge=0)] = 128
    """Passage tokens that consecutive windows share."""
    max_question: Annotated[int, Field(ge=4)] = 64
    """Longer questions are cut."""
    max_answer: Annotated[int, Field(ge=1)] = 30
    """Tokens in the longest answer."""
    language: Literal["en", "zh", "characters"] = "en"
    """Whose rules compare answers: SQuAD's, CMRC's (Chinese), or by character (Japanese, Thai and others)."""


class FinetuneTrainConfig(TrainConfig):
    """The loop's settings, with defaults that few labels bear (Mosbach et al. 2021)."""

    budget: Budget = Budget(amount=FEWEST_STEPS, unit="steps")
    """Only with `epochs` 0: how long to train."""
    optimizer: OptimizerConfig = AdamWConfig(lr=_USUAL_RATE, betas=(0.9, 0.999), weight_decay=0.01)
    schedule: ScheduleConfig = ScheduleConfig(warmup=0.1)


class FinetuneConfig(Section):
    """Everything that `selfsup finetune` needs."""

    model: str = ""
    """The pre-trained encoder: a run folder, a model folder or a hub name."""
    task: TaskKind = "classify"
    scratch: bool = False
    """Start from random weights of the same shape instead."""
    frozen: bool = False
    """Train the head alone; the encoder stays as it is."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: LabelledConfig = LabelledConfig()
    head: HeadConfig = HeadConfig()
    span: SpanConfig = SpanConfig()
    lora: LoraConfig = LoraConfig()
    max_length: Annotated[int, Field(ge=0)] = 0
    """Longest text in tokens; 0: as the model reads.  Longer ones are cut and counted."""
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: rare classes weigh more, by the inverse of their frequency."""
    epochs: Annotated[float, Field(ge=0)] = 3.0
    """Passes over the training file; at least 200 steps are taken.  0: as `train.budget` says."""
    lr: Annotated[float, Field(ge=0)] = 0.0
    """Peak learning rate; 0: by the encoder's width (`learning_rate`), or as `train.optimizer.lr` says."""
    metric: str = ""
    """The score that chooses and is told first; empty: accuracy, F1 or correlation, by the task."""
    select: Literal["best", "last"] = "best"
    """Which weights are kept: those that were best on the dev part, or the last."""
    train: FinetuneTrainConfig = FinetuneTrainConfig()

    @model_validator(mode="after")
    def _together(self) -> FinetuneConfig:
        if self.train.processes != 1:
            raise ValueError("fine-tuning runs in one process (train.processes 1)")
        only = {"conllu": "tag", "json": "tag", "slashed": "tag", "symbols": "classify"}
        if only.get(self.data.format, self.task) not in {
            self.task,
            "classify" if self.task == "regress" else "",
        }:
            raise ValueError(f"data.format '{self.data.format}' is not for task '{self.task}'")
        if self.task == "pairs" and self.data.train and not self.data.pair_column:
            raise ValueError("task 'pairs' needs --pair-column (data.pair_column)")
        if self.task != "pairs" and self.data.pair_column:
            raise ValueError(f"data.pair_column is for task 'pairs', not '{self.task}'")
        ways = {"scratch": self.scratch, "frozen": self.frozen, "lora.rank": self.lora.rank > 0}
        if len(chosen := [name for name, on in ways.items() if on]) > 1:
            raise ValueError(f"{' and '.join(chosen)} exclude each other")
        if self.epochs and self.train.budget != Budget(amount=FEWEST_STEPS, unit="steps"):
            raise ValueError("train.budget counts only with epochs 0")
        if self.span.overlap + self.span.max_question + 8 > self.span.max_length:
            raise ValueError("span.overlap and span.max_question leave no room in span.max_length")
        return self


def learning_rate(hidden_size: int, *, lora: bool, frozen: bool) -> float:
    """The default peak rate: 3e-5 at BERT-base's width, more for narrower encoders.

    Narrow encoders bear, and need, larger steps; the square of the width fits what was tried here
    (docs/log.md).  Low-rank factors start from zero and take ten times as much; a head alone is a
    linear model: 1e-2.
    """
    if frozen:
        return 1e-2
    return 3e-5 * (768 / hidden_size) ** 2 * (10 if lora else 1)


def with_budget(config: FinetuneConfig, examples: int, hidden_size: int) -> TrainConfig:
    """The loop's settings for so many training examples: steps from epochs, the rate from the width."""
    train = config.train
    changes: dict[str, object] = {}
    if config.epochs:
        steps = math.ceil(config.epochs * examples / train.batch_size)
        changes["budget"] = Budget(amount=max(steps, FEWEST_STEPS), unit="steps")
    rate = config.lr
    if isinstance(train.optimizer, AdamWConfig) and train.optimizer.lr == _USUAL_RATE:
        rate = rate or learning_rate(hidden_size, lora=config.lora.rank > 0, frozen=config.frozen)
    if rate:
        changes["optimizer"] = train.optimizer.model_copy(update={"lr": rate})
    return train.model_copy(update=changes)
