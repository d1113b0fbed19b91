"""The verbs about tasks: fine-tune, predict, evaluate."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from selfsup.cli import render
from selfsup.cli.flags import (
    ConfigFiles,
    Device,
    DeviceName,
    Json,
    Model,
    Out,
    Overwrite,
    PlaceOf,
    PrecisionName,
    Quiet,
    Seed,
    Settings,
    own_names,
)
from selfsup.errors import UserError

if TYPE_CHECKING:
    from selfsup.finetune_config import FinetuneConfig

_DATA = Group("Labelled data", sort_key=1)
_TRAINING = Group("Training", sort_key=2)

Task = Literal["classify", "pairs", "regress", "tag", "span"]
Column = Annotated[str | None, Parameter(group=_DATA, help="Column of the text [text].")]
PairColumn = Annotated[str | None, Parameter(group=_DATA, help="Column of the second text.")]
LabelColumn = Annotated[
    str | None,
    Parameter(group=_DATA, help="Column of the label; upos, xpos, … in .conllu [label]."),
]
WordsColumn = Annotated[
    str | None, Parameter(group=_DATA, help="Key of the words, in .jsonl for `tag` [words].")
]
Layout = Annotated[
    Literal["auto", "columns", "conllu", "json", "slashed", "symbols"] | None,
    Parameter(name="--format", group=_DATA, help="How the files are laid out [auto]."),
]
Header = Annotated[
    bool | None,
    Parameter(group=_DATA, help="Whether a table's first line names its columns [yes]."),
]
Quoting = Annotated[
    Literal["auto", "none"] | None,
    Parameter(group=_DATA, help="none: a quote in a .tsv is an ordinary character [auto]."),
]
OnBadRow = Annotated[
    Literal["stop", "skip"] | None,
    Parameter(group=_DATA, help="A row that cannot be used: stop, or skip and count it [stop]."),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class LayoutFlags:
    """How labelled files are laid out."""

    text_column: Column = None
    pair_column: PairColumn = None
    label_column: LabelColumn = None
    words_column: WordsColumn = None
    format: Layout = None
    header: Header = None
    quoting: Quoting = None
    on_bad_row: OnBadRow = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TaskFlags:
    """What is learned, from which files."""

    task: Annotated[Task | None, Parameter(group=_DATA, help="What is asked of a text.")] = None
    train: Annotated[str | None, Parameter(group=_DATA, help="The file to learn from.")] = None
    dev: Annotated[
        str | None,
        Parameter(group=_DATA, help="The file that is looked at in training [a tenth of --train]."),
    ] = None
    test: Annotated[
        str | None, Parameter(group=_DATA, help="A file that is scored once and chooses nothing.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FineFlags:
    """How it is learned."""

    scratch: Annotated[
        bool | None,
        Parameter(negative="", group=_TRAINING, help="Start from random weights of this shape."),
    ] = None
    frozen: Annotated[
        bool | None,
        Parameter(negative="", group=_TRAINING, help="Train the head alone."),
    ] = None
    epochs: Annotated[
        float | None,
        Parameter(group=_TRAINING, help="Passes over --train, at least 200 steps in all [3]."),
    ] = None
    lr: Annotated[
        float | None, Parameter(group=_TRAINING, help="Peak learning rate [by the width].")
    ] = None
    lora: Annotated[
        int | None, Parameter(group=_TRAINING, help="Rank of low-rank adaptation [0: all weights].")
    ] = None
    max_length: Annotated[
        int | None, Parameter(group=_TRAINING, help="Longest text in tokens [as the model reads].")
    ] = None
    metric: Annotated[
        str | None, Parameter(group=_TRAINING, help="The score that is told first [by the task].")
    ] = None
    class_weights: Annotated[
        Literal["none", "balanced"] | None,
        Parameter(group=_TRAINING, help="balanced: rare classes weigh more [none]."),
    ] = None
    seed: Seed = None
    device: DeviceName = None
    precision: PrecisionName = None
    config: ConfigFiles = field(default_factory=list)
    settings: Settings = field(default_factory=list)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class FinetuneFlags(FineFlags):
    """How it is learned, and which weights are kept."""

    select: Annotated[
        Literal["best", "last"] | None,
        Parameter(group=_TRAINING, help="Which weights are kept: best on dev, or the last [best]."),
    ] = None


_FLAGS = {
    "train": "data.train",
    "dev": "data.dev",
    "test": "data.test",
    "lora": "lora.rank",
    "device": "train.device",
    "precision": "train.precision",
    **{
        name: f"data.{name}"
        for name in (
            "text_column",
            "pair_column",
            "label_column",
            "words_column",
            "format",
            "header",
            "quoting",
            "on_bad_row",
        )
    },
}
"""Flags whose setting has another name; a setting is said by its flag in errors."""


def resolve_finetune(
    model: str | None, *groups: LayoutFlags | TaskFlags | FineFlags | None
) -> FinetuneConfig:
    """The configuration that files and flags amount to; later ones win.

    Raises:
        UserError: an unknown setting or value, or settings that do not fit together.
    """
    from selfsup.config_files import load_config
    from selfsup.finetune_config import FinetuneConfig

    given: dict[str, Any] = {}
    for group in groups:
        given |= {k: v for k, v in vars(group).items() if v is not None} if group else {}
    files, settings = given.pop("config", []), given.pop("settings", [])
    overrides = [f"--model={model}"] if model else []
    overrides += [f"--{_FLAGS.get(k, k)}={_text(v)}" for k, v in given.items()]
    overrides += [f"--{setting}" for setting in settings]
    names = {f"--{path}": f"--{flag.replace('_', '-')}" for flag, path in _FLAGS.items()}
    with own_names(names):
        return load_config(FinetuneConfig, files=files, overrides=overrides)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


ModelOrFile = Annotated[
    str | None, Parameter(help="A run folder, a model folder, or a hub name; or --config names it.")
]


def what_to_learn(
    model: str | None,
    task: TaskFlags | None,
    layout: LayoutFlags | None,
    fine: FineFlags | None,
) -> FinetuneConfig:
    """As `resolve_finetune`, with a model and a file to learn from.

    Raises:
        UserError: one of them is missing, too.
    """
    config = resolve_finetune(model, task, layout, fine)
    if not config.model:
        raise UserError("no model", mend="name a run folder, a model folder or a hub name")
    if not config.data.train:
        raise UserError("no labelled file", where="--train", mend="name one")
    return config


def finetune(
    model: ModelOrFile = None,
    /,
    *,
    task: TaskFlags | None = None,
    layout: LayoutFlags | None = None,
    fine: FinetuneFlags | None = None,
    out: Out = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a pre-trained encoder to labelled data.

    The same command again goes on where the run stopped.
    """
    config = what_to_learn(model, task, layout, fine)
    from selfsup.uses import finetuning

    folder = out or Path("runs") / f"{config.task}-{Path(config.data.train).name.split('.')[0]}"
    result = finetuning.finetune(config, folder, overwrite=overwrite, quiet=quiet or as_json)
    render.show(result, as_json=as_json, title=str(folder))


Precision = Annotated[Literal["auto", "fp32", "bf16"], Parameter(help="In which it reads [auto].")]
BatchTokens = Annotated[int, Parameter(help="Tokens that are computed at once [4096].")]


def predict(
    model: Model,
    /,
    *texts: Annotated[str, Parameter(help="Texts, for models that read single ones or tag words.")],
    input: Annotated[
        str | None,
        Parameter(
            name=["--input", "-i"],
            help="A file as for training; for classes and numbers also .txt.",
        ),
    ] = None,
    output: Annotated[
        Path | None, PlaceOf, Parameter(name=["--output", "-o"], help="A .jsonl file to write.")
    ] = None,
    layout: LayoutFlags | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_tokens: BatchTokens = 4096,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Let a fine-tuned model answer: labels with probabilities, tags, or answers with their places.

    One answer a row, in the file's order.
    """
    if not texts and not input:
        raise UserError("nothing to read", mend='give "a text", or --input FILE --output FILE')
    if texts and (input or output):
        what = "texts beside --input or --output"
        raise UserError(what, mend="give texts alone, or --input FILE --output FILE")
    if input and not output:
        raise UserError("is missing", where="--output", mend="name a .jsonl file to write")
    from selfsup.uses import predicting

    predictor = predicting.Predictor(
        model, device=device, precision=precision, batch_tokens=batch_tokens
    )
    if input and output:
        columns = vars(layout or LayoutFlags())
        result = predicting.predict_file(
            predictor, input, output, columns, overwrite=overwrite, quiet=quiet or as_json
        )
        render.show(result, as_json=as_json)
        return
    answers = predicting.predict_texts(predictor, texts)
    if predictor.task.answer == "tag":
        render.note("words are parted at white space")
    render.show(answers, as_json=as_json)


def evaluate(
    model: Model,
    /,
    *,
    data: Annotated[
        str, Parameter(name=["--data", "-d"], help="A labelled file; for a decoder, texts.")
    ],
    layout: LayoutFlags | None = None,
    stride: Annotated[
        int | None,
        Parameter(help="Decoders: tokens by which a window moves [half of what it reads]."),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_tokens: BatchTokens = 4096,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a fine-tuned model on a labelled file, or a decoder on texts.

    Of a decoder: bits per byte of whole documents (and nats per token,
    perplexity), beside those of xz.
    """
    from selfsup.models.decoder_hub import names_decoder

    columns = vars(layout or LayoutFlags())
    if names_decoder(model):
        options = {k: v for k, v in columns.items() if v is not None}
        column = options.pop("text_column", "text")
        bad_row = options.pop("on_bad_row", "stop")
        if options:
            flag = next(iter(options)).replace("_", "-")
            raise UserError("is about labelled files; this model is a decoder", where=f"--{flag}")
        if precision == "bf16":
            raise UserError("decoders are scored in fp32", where="--precision")
        from selfsup.uses.evaluating import evaluate_decoder

        result = evaluate_decoder(
            model,
            data,
            column=column,
            on_bad_row=bad_row,
            stride=stride,
            device=device,
            batch_tokens=batch_tokens,
            quiet=quiet or as_json,
        )
    else:
        if stride is not None:
            raise UserError("is for decoders; this model is none", where="--stride")
        from selfsup.uses import predicting

        predictor = predicting.Predictor(
            model, device=device, precision=precision, batch_tokens=batch_tokens
        )
        result = predicting.evaluate_file(predictor, data, columns, quiet=quiet or as_json)
    render.show(result, as_json=as_json, title=model)
