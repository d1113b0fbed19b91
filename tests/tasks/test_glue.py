"""GLUE as a table: its files are found, read by their layout, and named when they are not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from selfsup.errors import UserError
from selfsup.finetune_config import FinetuneConfig, LabelledConfig
from selfsup.tasks.glue import (
    SERVER_FILES,
    TASKS,
    TaskFiles,
    averages,
    choose_tasks,
    find_tasks,
    task_score,
)
from selfsup.tasks.reading import Notes, read_examples
from tests.tasks.toy_glue import DEV, TEST, TRAIN, write_glue

REAL = Path(os.environ.get("SELFSUP_TEST_DATA", "/work/shared/data/text")) / "glue"
NAMES = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"))


def rows(files: TaskFiles, path: Path, *, test: bool = False) -> int:
    task, numeric = files.task, not files.task.labels
    layout = task.layout(LabelledConfig(), test=test)
    role = "predict" if test else "score"
    found = read_examples(str(path), layout, task.kind, Notes(), numeric=numeric, role=role)
    for example in found:
        if not test and task.labels:
            assert example.label in task.labels
        assert (example.pair is None) == (not task.pair)
    return len(found)


def test_the_nine_tasks_and_what_the_server_wants() -> None:
    assert [task.name for task in TASKS] == NAMES
    assert len(SERVER_FILES) == len(set(SERVER_FILES)) == 11
    assert {"MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv", "STS-B.tsv"} <= set(SERVER_FILES)
    metrics = {task.name: task.metrics for task in TASKS}
    assert metrics["CoLA"] == ("matthews",)
    assert metrics["MRPC"] == metrics["QQP"] == ("f1", "accuracy")
    assert metrics["STS-B"] == ("pearson", "spearman")
    for task in TASKS:  # what a layout becomes is a valid configuration
        data = task.layout(LabelledConfig()).model_dump() | {"train": "x"}
        FinetuneConfig.model_validate({"task": task.kind, "data": data})


def test_every_toy_file_is_found_and_read(toy: Path) -> None:
    found, missing = find_tasks(toy, choose_tasks([]))
    assert not missing
    assert [files.task.name for files in found] == NAMES
    assert sorted(s for files in found for s, _ in files.tests) == sorted(SERVER_FILES)
    for files in found:
        assert rows(files, files.train) == TRAIN
        assert [rows(files, dev) for dev in files.devs] == [DEV] * len(files.task.devs)
        assert all(rows(files, path, test=True) == TEST for _, path in files.tests)


def test_folders_may_be_spelt_otherwise(toy: Path, tmp_path: Path) -> None:
    for name, other in (("SST-2", "sst2"), ("STS-B", "stsb"), ("CoLA", "cola")):
        shutil.copytree(toy / name, tmp_path / other)
    found, missing = find_tasks(tmp_path, choose_tasks([]))
    assert [files.task.name for files in found] == ["CoLA", "SST-2", "STS-B"]
    assert missing["RTE"] == "no folder RTE"


@pytest.mark.parametrize("place", ["diagnostic/diagnostic.tsv", "AX/AX.tsv", "ax/diagnostic.tsv"])
def test_the_diagnostic_set_has_two_names(place: str, toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "MNLI", tmp_path / "MNLI")
    (tmp_path / place).parent.mkdir()
    shutil.copyfile(toy / "diagnostic" / "diagnostic.tsv", tmp_path / place)
    (files,), _ = find_tasks(tmp_path, choose_tasks(["MNLI"]))
    assert dict(files.tests)["AX.tsv"] == tmp_path / place


def test_missing_and_misnamed_files_are_named(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy / "RTE", tmp_path / "RTE")
    (tmp_path / "MNLI").mkdir()
    (tmp_path / "MNLI" / "dev_matched_tokenized.tsv.xz").touch()
    shutil.copytree(toy / "QNLI", tmp_path / "QNLI")
    (tmp_path / "QNLI" / "train.tsv.gz").unlink()
    found, missing = find_tasks(tmp_path, choose_tasks(["rte", "MNLI", "qnli"]))
    assert [files.task.name for files in found] == ["RTE"]
    assert missing == {
        "MNLI": "train.tsv, dev_matched.tsv, dev_mismatched.tsv are not in MNLI, which holds "
        "'dev_matched_tokenized.tsv.xz'",
        "QNLI": "train.tsv is not in QNLI, which holds 'dev.tsv', 'test.tsv'",
    }
    with pytest.raises(UserError, match=r"no task is whole: MNLI: .*dev_matched_tokenized"):
        find_tasks(tmp_path, choose_tasks(["MNLI"]))


def test_a_folder_without_tasks_is_listed(tmp_path: Path) -> None:
    (tmp_path / "squad").mkdir()
    with pytest.raises(UserError, match=r"no folder of a GLUE task .*; there is 'squad'"):
        find_tasks(tmp_path, choose_tasks([]))
    with pytest.raises(UserError, match="no such folder"):
        find_tasks(tmp_path / "nowhere", choose_tasks([]))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["COLLA"], "'COLLA' is no task of GLUE; did you mean 'CoLA'"),
        (["sst-3"], "did you mean 'sst-2'"),
        (["xyz"], "known are CoLA, SST-2"),
        (["RTE", "rte"], "'RTE' is named twice"),
    ],
)
def test_bad_task_names(names: list[str], says: str) -> None:
    with pytest.raises(UserError, match=rf"--tasks: .*{says}|--tasks: {says}"):
        choose_tasks(names)


def test_averages_by_hand() -> None:
    assert task_score({"f1": 0.8, "accuracy": 0.6}) == pytest.approx(0.7)
    assert task_score({"matthews": -0.1}) == pytest.approx(-0.1)
    of = {"CoLA": 0.5, "MRPC": 0.7, "WNLI": 0.3}
    assert averages(of) == {
        "with_wnli": pytest.approx(0.5),
        "without_wnli": pytest.approx(0.6),
    }
    assert averages({"WNLI": 0.3}) == {"with_wnli": 0.3, "without_wnli": None}


OFFICIAL = {
    "CoLA": {"train": 8551, "dev": 1043},
    "SST-2": {"train": 67349, "dev": 872},
    "MRPC": {"train": 3576, "dev": 500, "MRPC.tsv": 1725},  # GLUE's pairs, split otherwise here
    "STS-B": {"train": 5749, "dev": 1500},
    "RTE": {"train": 2490, "dev": 277},
    "WNLI": {"train": 635, "dev": 71},
}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no GLUE files in {REAL}")
@pytest.mark.parametrize("name", OFFICIAL)
def test_real_files_have_the_official_rows(name: str) -> None:
    (files,), _ = find_tasks(REAL, choose_tasks([name]))
    found = {"train": rows(files, files.train), "dev": rows(files, files.devs[0])}
    found |= {server: rows(files, path, test=True) for server, path in files.tests}
    assert found == OFFICIAL[name]


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no GLUE files in {REAL}")
def test_what_the_real_folder_lacks_is_told() -> None:
    _, missing = find_tasks(REAL, choose_tasks([]))
    assert missing["QQP"] == "no folder QQP"
    assert "'dev_matched_tokenized.tsv.xz'" in missing["MNLI"]
    assert missing["QNLI"].startswith("train.tsv is not in QNLI")
