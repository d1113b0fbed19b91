"""The verbs about models, recipes and studies.  Each reads its flags and calls one function.

Nothing heavy is imported before a verb runs, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from selfsup.cli import autoencoder_training, render
from selfsup.cli.flags import (
    BudgetFlags,
    CorpusFlags,
    Device,
    Json,
    Model,
    Out,
    Overwrite,
    PlaceOf,
    Quiet,
    SettingFlags,
    Verbose,
    resolve,
)
from selfsup.data.outputs import check_output
from selfsup.errors import UserError, at_least

if TYPE_CHECKING:
    from selfsup.uses.fill import Filled

Recipe = Annotated[str | None, Parameter(help="Where to start from; see `selfsup recipes`.")]
Input = Annotated[
    Path | None,
    PlaceOf,
    Parameter(name=["--input", "-i"], help="Texts: .txt (one a line), .jsonl, .csv, .parquet."),
]
TextColumn = Annotated[str, Parameter(help="Column or JSON key that holds the text [text].")]


def demo(
    what: Annotated[
        Literal["text", "autoencoder"],
        Parameter(help="Which story: of a text, or of codes [text]."),
    ] = "text",
    /,
    *,
    out: Out = None,
    minutes: Annotated[
        float | None, Parameter(help="Time for pre-training, of the story of a text [3].")
    ] = None,
    quick: Annotated[bool, Parameter(negative="", help="A small taste, under a minute.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell the whole story in minutes, on data that is here already."""
    silent = quiet or as_json
    if minutes is not None and not minutes > 0:
        raise UserError(f"must be greater than 0, not {minutes:g}", where="--minutes")
    if what == "autoencoder":
        if minutes is not None:
            raise UserError("the auto-encoders count steps", where="--minutes", mend="leave it out")
        from selfsup.studies import autoencoder_demo

        folder = out or Path("runs/demo-autoencoder")
        found = autoencoder_demo.run_demo(folder, quick=quick, overwrite=overwrite, quiet=silent)
        render.show(found, as_json=as_json, title=str(folder))
        return
    from selfsup.studies.demo import run_demo

    folder = out or Path("runs/demo")
    result = run_demo(folder, minutes or 3.0, quick=quick, overwrite=overwrite, quiet=silent)
    if as_json:
        render.print_json(result)
        return
    render.show(result["losses"], as_json=False, title="held-out loss (nats) and accuracy")
    render.show(result["table"], as_json=False, title="which library is this text from?")
    render.print_text(result["finding"])


def recipes(*, as_json: Json = False) -> None:
    """List the recipes with their size and cost."""
    from selfsup import autoencoder_recipes
    from selfsup.recipes import table

    if as_json:
        render.print_json([*table(), *autoencoder_recipes.table()])
        return
    render.show(table(), as_json=False)
    render.show(autoencoder_recipes.table(), as_json=False)


def pretrain(
    recipe: Recipe = None,
    /,
    *,
    corpus: CorpusFlags | None = None,
    budget: BudgetFlags | None = None,
    settings: SettingFlags | None = None,
    out: Out = None,
    overwrite: Overwrite = False,
    code_size: Annotated[
        int | None, Parameter(help="Of an auto-encoder: numbers, bits or classes in the code.")
    ] = None,
    dry_run: Annotated[
        bool, Parameter(negative="", help="Build, take a few steps, and estimate memory and time.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a model on unlabelled text, or an auto-encoder on images or tables.

    The same command again goes on where the run stopped.
    """
    flags, chosen = corpus or CorpusFlags(), settings or SettingFlags()
    given = [recipe] if recipe else [w for f in chosen.config for w in ("--config", str(f))]
    if name := autoencoder_training.chosen_recipe(given):
        if dry_run:
            raise UserError(
                "auto-encoders have no dry run", where="--dry-run", mend="use --steps 1"
            )
        shape = autoencoder_training.resolve_autoencoder(
            name, flags, budget or BudgetFlags(), chosen, code_size
        )
        autoencoder_training.pretrain(shape, out, overwrite=overwrite, as_json=as_json, quiet=quiet)
        return
    if code_size is not None:
        raise UserError("is about auto-encoders", where="--code-size")
    config = resolve(recipe, flags, budget or BudgetFlags(), chosen)
    if not config.data.sources:
        raise UserError("no corpus", where="--data", mend="name a file, a folder or a quoted glob")
    if verbose:
        _talk()
    from selfsup.uses import pretraining

    if dry_run:
        render.show(pretraining.dry_run(config), as_json=as_json, title="dry run")
        return
    folder = out or Path("runs") / (config.recipe or "pretrain")
    result = pretraining.pretrain(config, folder, overwrite=overwrite, quiet=quiet or as_json)
    render.show(result, as_json=as_json, title=str(folder))


def fill(
    model: Model,
    /,
    *texts: Annotated[str, Parameter(help="A text with one [MASK] or more.")],
    input: Input = None,
    column: TextColumn = "text",
    top: Annotated[int, Parameter(help="Candidates for each blank [5].")] = 5,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Fill the blanks of texts, with probabilities."""
    at_least(1, top, "--top")
    if column != "text" and input is None:
        raise UserError("is about --input, which is missing", where="--column")
    given = [*texts, *(_texts(input, column) if input else ())]
    if not given:
        raise UserError("no text", mend='give "a text with [MASK]", or --input FILE')
    from selfsup.models.hub import load_encoder
    from selfsup.uses import fill as filling

    filled = filling.fill(load_encoder(model, device), given, top)
    if as_json:
        render.print_json([asdict(one) for one in filled])
    else:
        _show_filled(filled)


def embed(
    model: Model,
    /,
    *,
    input: Annotated[
        Path, PlaceOf, Parameter(name=["--input", "-i"], help="The texts, as for `fill`.")
    ],
    output: Annotated[
        Path, PlaceOf, Parameter(name=["--output", "-o"], help="A .npy file to write.")
    ],
    column: TextColumn = "text",
    pooling: Annotated[
        Literal["auto", "mean", "cls"],
        Parameter(help="What stands for a text [auto: as the model says]."),
    ] = "auto",
    normalize: Annotated[
        bool | None, Parameter(help="Whether vectors have length 1 [as the model says].")
    ] = None,
    batch_tokens: Annotated[int | None, Parameter(help="Tokens that are computed at once.")] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "auto"],
        Parameter(help="bf16 is faster and a little rougher [fp32]."),
    ] = "fp32",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn texts into vectors.

    One row a text, in their order; an empty line is no text.
    """
    check_output(output, ".npy", overwrite)
    if batch_tokens is not None:
        at_least(1, batch_tokens, "--batch-tokens")
    texts = _texts(input, column)
    from selfsup.models.hub import load_encoder
    from selfsup.training.progress import reading
    from selfsup.uses import embed as embedding

    options: dict[str, Any] = {
        "pooling": pooling,
        "normalize": normalize,
        "precision": precision,
    }
    if batch_tokens is not None:
        options["batch_tokens"] = batch_tokens
    pretrained = load_encoder(model, device)
    notes: list[str] = []
    with reading(len(texts), "texts", quiet=quiet or as_json) as progress:
        vectors = embedding.embed_telling(
            pretrained, texts, **options, notes=notes, progress=progress
        )
    save_array(vectors, output)
    result = {"output": output, "texts": len(vectors), "dimensions": vectors.shape[1]}
    render.show(result | ({"notes": notes} if notes else {}), as_json=as_json)


def info(model: Model, /, *, as_json: Json = False) -> None:
    """Say what a model is and where it came from."""
    from selfsup.uses import inspect

    render.show(inspect.info(model), as_json=as_json, title=model)


def runs(
    folder: Annotated[Path, PlaceOf, Parameter(help="Where the runs lie [runs].")] = Path("runs"),
    /,
    *,
    as_json: Json = False,
) -> None:
    """List the runs in a folder."""
    from selfsup.uses import inspect

    render.show(inspect.runs(folder), as_json=as_json, title=str(folder))


def doctor(*, as_json: Json = False) -> None:
    """Say what this machine has and gives."""
    from selfsup.uses import inspect

    render.show(inspect.doctor(), as_json=as_json)


def show_config(
    recipe: Recipe = None,
    /,
    *,
    corpus: CorpusFlags | None = None,
    budget: BudgetFlags | None = None,
    settings: SettingFlags | None = None,
    as_json: Json = False,
) -> None:
    """Print the configuration that a recipe, files and flags amount to, as YAML."""
    config = resolve(
        recipe, corpus or CorpusFlags(), budget or BudgetFlags(), settings or SettingFlags()
    )
    if as_json:
        render.print_json(config.model_dump(mode="json"))
        return
    from selfsup.config_files import dump_yaml

    render.print_text(dump_yaml(config))


def config_schema() -> None:
    """Print the JSON schema of a configuration, for editors: `> selfsup.schema.json`."""
    from selfsup.config import PretrainConfig
    from selfsup.config_files import schema

    render.print_json(schema(PretrainConfig))


def next_sentence(
    *,
    recipe: Recipe = None,
    corpus: CorpusFlags | None = None,
    budget: BudgetFlags | None = None,
    settings: SettingFlags | None = None,
    seeds: Annotated[int, Parameter(help="Runs of each kind; the table has medians [3].")] = 3,
    out: Out = Path("runs/next-sentence"),
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Does next-sentence prediction help?  Trains with and without it at equal tokens."""
    at_least(1, seeds, "--seeds")
    flags = corpus or CorpusFlags()
    config = resolve(
        recipe,
        flags,
        budget or BudgetFlags(),
        settings or SettingFlags(),
        default_recipe="bert-tiny",
    )
    if not config.data.sources:
        raise UserError("no corpus", where="--data", mend="name a file, a folder or a quoted glob")
    from selfsup.studies import next_sentence as study

    folder = out or Path("runs/next-sentence")
    silent = quiet or as_json
    result = study.run(config, folder, seeds=seeds, overwrite=overwrite, quiet=silent)
    render.show(result, as_json=as_json, title="next sentence")


def _talk() -> None:
    import logging

    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("selfsup").setLevel(logging.DEBUG)


def _texts(file: Path, column: str) -> list[str]:
    """The texts of a file, in order."""
    from selfsup.config import SourceConfig
    from selfsup.data.files import NO_TEXT
    from selfsup.data.sources import ReadReport, read_documents

    source = SourceConfig(path=str(file), column=column, unit="line")
    report = ReadReport(may_skip=False)
    try:
        texts = [document.text for document in read_documents(source, report, whole=True)]
    except UserError as error:
        mend = error.mend.replace("set column", "set --column")
        raise UserError(error.what, where=error.where, mend=mend) from None
    if not texts:
        raise UserError("holds no text", where=str(file), mend=NO_TEXT)
    for line in report.notes:
        render.note(line)
    return texts


def _show_filled(filled: Sequence[Filled]) -> None:
    for one in filled:
        rows = []
        for number, blank in enumerate(one.blanks, start=1):
            for candidate in blank:
                row: dict[str, Any] = {"blank": number} if len(one.blanks) > 1 else {}
                rows.append(row | asdict(candidate))
        render.show_rows(rows, title=one.text)
        if one.note:
            render.note(one.note)


def save_array(array: Any, path: Path) -> None:
    """Writes beside and renames, so that a half-written file never bears the name."""
    import numpy as np

    from selfsup.data.files import whole_file

    with whole_file(path) as beside, beside.open("wb") as file:
        np.save(file, array)
