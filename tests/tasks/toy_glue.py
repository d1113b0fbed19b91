"""All of GLUE in its own layout, a few toy rows a file, some of them packed."""

from __future__ import annotations

import gzip
import lzma
import random
from collections.abc import Callable
from pathlib import Path

from tests.tasks.toy import sentence

TRAIN, DEV, TEST = 24, 12, 7
"""Rows of each file."""

MNLI = ["entailment", "neutral", "contradiction"]
_HEADS = {
    "CoLA": "",
    "SST-2": "sentence\tlabel",
    "MRPC": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "STS-B": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "QQP": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "MNLI": "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
    "QNLI": "index\tquestion\tsentence\tlabel",
    "RTE": "index\tsentence1\tsentence2\tlabel",
    "WNLI": "index\tsentence1\tsentence2\tlabel",
}
_TEST_HEADS = {
    "CoLA": "index\tsentence",
    "SST-2": "index\tsentence",
    "MRPC": "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "AX": "index\tsentence1\tsentence2",
}
_PACKED = {"CoLA": ".xz", "QNLI": ".gz"}


def _row(task: str, rng: random.Random, index: int) -> str:
    one, first = sentence(rng)
    two, second = sentence(rng)
    same = int(first == second)
    nli = "entailment" if same else "not_entailment"
    one += ' "' if index % 5 == 0 else ""  # GLUE's files quote nothing
    return {
        "CoLA": f"gj04\t{int(first == 'good')}\t*\t{one}",
        "SST-2": f"{one} \t{int(first == 'good')}",
        "MRPC": f"{same}\t{index}\t{index}\t{one}\t{two}",
        "STS-B": f"{index}\tm\tf\t2012\t1\tn\tn\t{one}\t{two}\t{4.6 if same else 0.75}",
        "QQP": f"{index}\t1\t2\t{one}\t{two}\t{same}",
        "MNLI": f"{index}\tp\tq\tfiction\t{one}\t{two}\tneutral\t{MNLI[same if same else index % 3]}",
        "QNLI": f"{index}\t{one}\t{two}\t{nli}",
        "RTE": f"{index}\t{one}\t{two}\t{nli}",
        "WNLI": f"{index}\t{one}\t{two}\t{same}",
    }[task]


def _test_row(task: str, rng: random.Random, index: int) -> str:
    one, two = sentence(rng)[0], sentence(rng)[0]
    if task in ("CoLA", "SST-2"):
        return f"{index}\t{one}"
    if task == "MRPC":
        return f"{index}\t1\t2\t{one}\t{two}"
    if task == "AX":
        return f"{index}\t{one}\t{two}"
    return _row(task, rng, index).rpartition("\t")[0]


def _write(path: Path, head: str, row: Callable[[int], str], count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([*([head] if head else []), *map(row, range(count))]) + "\n"
    raw = text.encode()
    if path.suffix in (".gz", ".xz"):
        raw = (gzip if path.suffix == ".gz" else lzma).compress(raw)
    path.write_bytes(raw)


def write_glue(root: Path, *, tests: bool = True) -> Path:
    """The nine tasks and the diagnostic set."""
    for number, (task, head) in enumerate(_HEADS.items()):
        rng = random.Random(number)
        packed, folder = _PACKED.get(task, ""), root / task
        devs = ("dev_matched", "dev_mismatched") if task == "MNLI" else ("dev",)
        away = ("test_matched", "test_mismatched") if task == "MNLI" else ("test",)
        for stem, count in (("train", TRAIN), *((d, DEV) for d in devs)):
            path = folder / f"{stem}.tsv{packed if stem == 'train' else ''}"
            _write(path, head, lambda i, t=task, r=rng: _row(t, r, i), count)
        for stem in away if tests else ():
            test_head = _TEST_HEADS.get(task, head.rpartition("\t")[0])
            path = folder / f"{stem}.tsv"
            _write(path, test_head, lambda i, t=task, r=rng: _test_row(t, r, i), TEST)
    if tests:
        rng = random.Random(99)
        path = root / "diagnostic" / "diagnostic.tsv"
        _write(path, _TEST_HEADS["AX"], lambda i: _test_row("AX", rng, i), TEST)
    return root
