"""GLUE as a table: nine tasks, where their files stand, and what counts (Wang et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from selfsup.data.files import PACKED_SUFFIXES, listed
from selfsup.errors import UserError, nearest
from selfsup.finetune_config import LabelledConfig

ADVERSARIAL = "WNLI"
"""Its dev part contradicts its training part, so averages are told with and without it."""


@dataclass(frozen=True)
class Unlabelled:
    """A file without labels that GLUE's server scores."""

    stem: str
    server: str
    """What the server calls the answers."""
    folders: tuple[str, ...] = ()
    """Where it lies; empty: in the task's own folder."""
    also: tuple[str, ...] = ()
    """Other stems."""


@dataclass(frozen=True)
class GlueTask:
    """One task as data: nothing else in the code knows it."""

    name: str
    text: str = "sentence"
    """Column of the (first) text; its number where the files have no header."""
    pair: str = ""
    """Column of the second text; empty: single texts."""
    label: str = "label"
    labels: tuple[str, ...] = ("0", "1")
    """As in the files, and as the server takes them; empty: the answer is a number from 0 to 5."""
    metrics: tuple[str, ...] = ("accuracy",)
    devs: tuple[tuple[str, str], ...] = (("dev", ""),)
    """(stem, what its scores are called besides) of each file that is scored."""
    tests: tuple[Unlabelled, ...] = ()
    test_text: str = ""
    """Column of the text in the test file, where that has a header and the others have none."""
    also: tuple[str, ...] = ()
    """Other names of its folder, besides spellings without hyphen or in other case."""
    on_bad_row: Literal["stop", "skip"] = "stop"

    @property
    def kind(self) -> Literal["classify", "pairs"]:
        """Of `FinetuneConfig.task`."""
        return "pairs" if self.pair else "classify"

    @property
    def scores(self) -> tuple[str, ...]:
        """What its dev scores are called: `f1`, `accuracy`; for MNLI `accuracy_matched`, …."""
        return tuple(f"{m}_{part}" if part else m for _, part in self.devs for m in self.metrics)

    @property
    def files(self) -> tuple[str, ...]:
        """Stems that must be there."""
        return ("train", *(stem for stem, _ in self.devs))

    def layout(self, base: LabelledConfig, *, test: bool = False) -> LabelledConfig:
        """Where the texts and labels stand in its files."""
        header = not self.text.isdecimal()
        text = self.test_text if test and self.test_text else self.text
        skip = not test and "skip" in (base.on_bad_row, self.on_bad_row)
        return base.model_copy(
            update={
                "text_column": text,
                "pair_column": self.pair,
                "label_column": self.label,
                "format": "columns",
                "quoting": "none",
                "header": header or (test and bool(self.test_text)),
                # an answer is wanted for every row of a test file, so none may be skipped
                "on_bad_row": "skip" if skip else "stop",
            }
        )


_NLI = ("entailment", "not_entailment")
_BOTH = ("sentence1", "sentence2")

TASKS = (
    GlueTask(
        "CoLA",
        text="3",
        label="1",
        metrics=("matthews",),
        tests=(Unlabelled("test", "CoLA.tsv"),),
        test_text="sentence",
    ),
    GlueTask("SST-2", tests=(Unlabelled("test", "SST-2.tsv"),), also=("SST",)),
    GlueTask(
        "MRPC",
        "#1 String",
        "#2 String",
        "Quality",
        metrics=("f1", "accuracy"),
        tests=(Unlabelled("test", "MRPC.tsv"),),
    ),
    GlueTask(
        "STS-B",
        *_BOTH,
        "score",
        labels=(),
        metrics=("pearson", "spearman"),
        tests=(Unlabelled("test", "STS-B.tsv"),),
        also=("STS",),
    ),
    GlueTask(
        "QQP",
        "question1",
        "question2",
        "is_duplicate",
        metrics=("f1", "accuracy"),
        tests=(Unlabelled("test", "QQP.tsv"),),
        on_bad_row="skip",  # GLUE's own file has a few broken lines, which everybody leaves out
    ),
    GlueTask(
        "MNLI",
        *_BOTH,
        "gold_label",
        labels=("contradiction", "entailment", "neutral"),
        devs=(("dev_matched", "matched"), ("dev_mismatched", "mismatched")),
        tests=(
            Unlabelled("test_matched", "MNLI-m.tsv"),
            Unlabelled("test_mismatched", "MNLI-mm.tsv"),
            Unlabelled("diagnostic", "AX.tsv", ("diagnostic", "AX", "MNLI"), ("AX",)),
        ),
        also=("MultiNLI",),
    ),
    GlueTask("QNLI", "question", "sentence", labels=_NLI, tests=(Unlabelled("test", "QNLI.tsv"),)),
    GlueTask("RTE", *_BOTH, labels=_NLI, tests=(Unlabelled("test", "RTE.tsv"),)),
    GlueTask("WNLI", *_BOTH, tests=(Unlabelled("test", "WNLI.tsv"),)),
)
"""In GLUE's order."""

SERVER_FILES = tuple(test.server for task in TASKS for test in task.tests)
"""All that GLUE's server wants in one archive."""


@dataclass(frozen=True)
class TaskFiles:
    """Where a task's files are."""

    task: GlueTask
    train: Path
    devs: tuple[Path, ...]
    tests: tuple[tuple[str, Path], ...]
    """(the server's name, the file) of those that are there."""


def choose_tasks(names: Sequence[str]) -> tuple[GlueTask, ...]:
    """The tasks of these names, in GLUE's order; all when none are given.

    Raises:
        UserError: an unknown name, or one twice.
    """
    known = {_plain(n): task for task in TASKS for n in (task.name, *task.also)}
    chosen: list[GlueTask] = []
    for name in names:
        task = known.get(_plain(name))
        if task is None:
            titles = [t.name for t in TASKS]
            close = nearest(name, [*titles, *(t.lower() for t in titles)])
            mend = close or f"known are {', '.join(titles)}"
            raise UserError(f"'{name}' is no task of GLUE", where="--tasks", mend=mend)
        if task in chosen:
            raise UserError(f"'{task.name}' is named twice", where="--tasks")
        chosen.append(task)
    return tuple(task for task in TASKS if task in chosen or not names)


def find_tasks(
    root: Path, tasks: Sequence[GlueTask]
) -> tuple[tuple[TaskFiles, ...], dict[str, str]]:
    """The tasks whose files are in a folder, and for each other one why it is missing.

    Raises:
        UserError: no such folder, or no task is whole.
    """
    if not root.is_dir():
        raise UserError("no such folder", where=str(root), mend="name the folder of GLUE's tasks")
    found, missing = [], {}
    for task in tasks:
        files = _find(root, task)
        if isinstance(files, TaskFiles):
            found.append(files)
        else:
            missing[task.name] = files
    if not found:
        folders = {_plain(p.name) for p in root.iterdir() if p.is_dir()}
        if not any(_plain(n) in folders for task in tasks for n in (task.name, *task.also)):
            raise UserError(
                f"no folder of a GLUE task is here ({', '.join(task.name for task in tasks)})",
                where=str(root),
                mend=f"there is {_listing(root)}",
            )
        why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        raise UserError(f"no task is whole: {why}", where=str(root))
    return tuple(found), missing


def task_score(scores: Mapping[str, float]) -> float:
    """A task's one number, by GLUE's rule: the mean of its metrics, or of matched and mismatched."""
    return sum(scores.values()) / len(scores)


def averages(by_task: Mapping[str, float]) -> dict[str, float | None]:
    """The mean over tasks, `with_wnli` and `without_wnli`; None where no task is left."""
    rest = [score for name, score in by_task.items() if name != ADVERSARIAL]
    return {
        "with_wnli": sum(by_task.values()) / len(by_task) if by_task else None,
        "without_wnli": sum(rest) / len(rest) if rest else None,
    }


def _find(root: Path, task: GlueTask) -> TaskFiles | str:
    folder = _folder(root, (task.name, *task.also))
    if folder is None:
        return f"no folder {task.name}"
    paths = {stem: _file(folder, stem) for stem in task.files}
    absent = [f"{stem}.tsv" for stem, path in paths.items() if path is None]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        return f"{', '.join(absent)} {verb} not in {folder.name}, which holds {_listing(folder)}"
    train, *devs = (path for path in paths.values() if path is not None)
    tests = []
    for test in task.tests:
        for place in test.folders or (folder.name,):
            where = _folder(root, (place,))
            path = _file(where, test.stem, *test.also) if where else None
            if path is not None:
                tests.append((test.server, path))
                break
    return TaskFiles(task, train, tuple(devs), tuple(tests))


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    wanted = [_plain(name) for name in names]
    for path in sorted(root.iterdir()):
        if path.is_dir() and _plain(path.name) in wanted:
            return path
    return None


def _file(folder: Path, *stems: str) -> Path | None:
    names = (f"{stem}.tsv{packed}" for stem in stems for packed in ("", *PACKED_SUFFIXES))
    places = (folder / name for name in names)
    return next((path for path in places if path.is_file()), None)


def _listing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    return listed(names)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
