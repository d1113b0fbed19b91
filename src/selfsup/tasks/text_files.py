"""Files of texts, pairs or sequences, whatever their kind, as labelled or unlabelled examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from selfsup.data.files import (
    FASTA_SUFFIXES,
    NO_TEXT,
    PACKED_SUFFIXES,
    ReadReport,
    plain_suffix,
    read_strict_lines,
)
from selfsup.data.symbol_files import read_fasta
from selfsup.data.tables import TABLE_SUFFIXES
from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig
from selfsup.tasks.labelled import (
    TextExample,
    read_fasta_classes,
    read_texts,
    read_uci_classes,
)


def read_by_layout(
    file: Path, data: LabelledConfig, numeric: bool, labelled: bool, report: ReadReport
) -> Sequence[TextExample]:
    """Texts, pairs or sequences of symbols, by the file's kind and how it is laid out.

    Args:
        file: which; a folder holds one FASTA file a class.
        data: where in it the texts and labels stand.
        numeric: whether labels are numbers.
        labelled: whether labels are wanted; without, a `.txt` file has a text a line.
        report: added to while reading.

    Raises:
        UserError: with file and line.
    """
    if file.is_dir():
        return read_fasta_classes(file, uppercase=True, on_bad_row=data.on_bad_row, report=report)
    if data.format == "symbols" or plain_suffix(file) == ".data":
        return read_uci_classes(file, uppercase=True, on_bad_row=data.on_bad_row, report=report)
    if plain_suffix(file) in FASTA_SUFFIXES:
        if labelled:
            what = "a FASTA file has no labels"
            raise UserError(what, where=str(file), mend="give a folder that holds one file a class")
        records = read_fasta(file, uppercase=True, on_bad_row=data.on_bad_row, report=report)
        return [TextExample(r.sequence, None, None, r.where, r.name) for r in records]
    if plain_suffix(file) == ".txt" and not labelled and not data.pair_column:
        return _lines(file, report)
    if plain_suffix(file) not in TABLE_SUFFIXES:
        raise _unknown_kind(file, labelled, pairs=bool(data.pair_column))
    return read_texts(
        file,
        text_column=data.text_column,
        pair_column=data.pair_column or None,
        label_column=data.label_column if labelled else None,
        numeric=numeric,
        header=data.header,
        quoting=data.quoting,
        keep_empty=not labelled,
        on_bad_row=data.on_bad_row,
        report=report,
    )


def _lines(file: Path, report: ReadReport) -> list[TextExample]:
    """A text a line; a blank line is an empty text, so that answers stand in the file's order."""
    lines = read_strict_lines(file, report)
    texts = [TextExample(text.strip(), None, None, f"{file}:{number}") for number, text in lines]
    if not any(example.text for example in texts):
        raise UserError("the file holds no text", where=str(file), mend=NO_TEXT)
    return texts


def _unknown_kind(file: Path, labelled: bool, pairs: bool) -> UserError:
    fasta = f"FASTA ({', '.join(FASTA_SUFFIXES)})"
    others = [".data", f"folders of {fasta}"] if labelled else [".data", ".txt", fasta]
    known = ", ".join([*TABLE_SUFFIXES, *([] if pairs else others)])
    wanted = f"{'labelled ' * labelled}{'pairs' if pairs else 'texts'}"
    what = f"files of the kind '{plain_suffix(file) or file.name}' hold no {wanted}"
    mend = f"known are {known}, also packed ({', '.join(PACKED_SUFFIXES)})"
    return UserError(what, where=str(file), mend=mend)
