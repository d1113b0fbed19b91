"""The verbs about text: `tokenizer train` and `data stats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from selfsup.cli import render
from selfsup.cli.flags import (
    Column,
    CorpusFlags,
    Json,
    OnBadRow,
    Overwrite,
    PlaceOf,
    Quiet,
    Unit,
    source_configs,
)
from selfsup.data.outputs import check_place
from selfsup.errors import UserError


def train_tokenizer(
    *,
    corpus: CorpusFlags | None = None,
    kind: Annotated[
        Literal["wordpiece", "bpe", "characters", "words", "symbols"],
        Parameter(help="How text is cut [wordpiece]."),
    ] = "wordpiece",
    vocab_size: Annotated[int | None, Parameter(help="Entries, special ones included.")] = None,
    lowercase: Annotated[bool | None, Parameter(help="WordPiece: fold case [yes].")] = None,
    strip_accents: Annotated[
        bool | None, Parameter(help="WordPiece: fold accents [where hardly any letter has one].")
    ] = None,
    alphabet: Annotated[
        str | None, Parameter(help="Symbols: the letters [those in the data].")
    ] = None,
    k: Annotated[int | None, Parameter(help="Symbols: letters in one token [1].")] = None,
    sample_megabytes: Annotated[
        float | None, Parameter(help="Read at most this much text [50].")
    ] = None,
    out: Annotated[
        Path, PlaceOf, Parameter(name=["--out", "-o"], help="Folder for tokenizer.json.")
    ],
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a tokenizer and write it as a folder that the ecosystem opens."""
    from selfsup.config import (
        DataConfig,
        TokenizerConfig,
    )
    from selfsup.config_base import Section
    from selfsup.config_files import load_config

    class Flags(Section):
        tokenizer: TokenizerConfig

    values = {
        "vocab_size": vocab_size,
        "lowercase": lowercase,
        "strip_accents": strip_accents,
        "alphabet": alphabet,
        "k": k,
        "sample_megabytes": sample_megabytes,
    }
    given = {name: value for name, value in values.items() if value is not None}
    try:
        config = load_config(Flags, base={"tokenizer": {"kind": kind, **given}}).tokenizer
    except UserError as error:
        raise _about_flags(error) from None
    sources = source_configs(corpus or CorpusFlags())
    if (out / "config.json").exists():
        what = "a model lies here, which would no longer be read with its own tokens"
        raise UserError(what, where=str(out), mend="choose another --out")
    if (out / "tokenizer.json").exists() and not overwrite:
        raise UserError("holds a tokenizer already", where=str(out), mend="--overwrite replaces it")
    check_place(out / "tokenizer.json")
    from selfsup.training.progress import Progress
    from selfsup.uses.tokenizing import learn_tokenizer

    assert config.kind != "file"
    megabytes = getattr(config, "sample_megabytes", 50.0)
    display = Progress(quiet=quiet or as_json, title="tokenizer")
    try:
        data = DataConfig(sources=tuple(sources))
        tokenizer = learn_tokenizer(config, data, megabytes, display)
    finally:
        display.close()
    tokenizer.save(out)
    result = {"out": out, "kind": kind, "vocab_size": tokenizer.vocab_size}
    render.show(result, as_json=as_json)


def stats(
    *paths: Annotated[str, Parameter(help="Files, folders, quoted globs, or `docstrings:`.")],
    column: Column = None,
    unit: Unit = None,
    on_bad_row: OnBadRow = None,
    as_json: Json = False,
) -> None:
    """Count documents, characters, scripts and duplicates; say what is dropped, and why."""
    flags = CorpusFlags(data=list(paths), column=column, unit=unit, on_bad_row=on_bad_row)
    if not paths:
        raise UserError("no corpus", mend="name a file, a folder or a quoted glob")
    sources = source_configs(flags)
    from selfsup.config import DataConfig
    from selfsup.data.statistics import corpus_statistics

    result = corpus_statistics(DataConfig(sources=tuple(sources)))
    letters = result.get("letters", {})
    names = list(letters) if isinstance(letters, dict) else ()
    render.show(result, as_json=as_json, title=", ".join(paths), names=names)


def _about_flags(error: UserError) -> UserError:
    """A complaint about `tokenizer.vocab_size` as one about `--vocab-size`."""
    what = error.what.replace("unknown key", "unknown flag").replace("tokenizer.", "--")
    return UserError(what.replace("_", "-"), mend=error.mend)
