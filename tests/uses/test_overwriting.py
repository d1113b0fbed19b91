"""`overwrite` deletes an earlier run, and nothing of anybody else's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selfsup.config import PretrainConfig
from selfsup.errors import UserError
from selfsup.studies.autoencoder_demo import run_demo
from selfsup.uses.pretraining import pretrain
from selfsup.uses.run_folder import check_run_folder, clear_run_folder
from tests.training.tiny import tiny_config, write_corpus


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    data = write_corpus(folder / "text.txt")
    pretrain(tiny_config(data, budget="1 steps"), folder / "run", quiet=True)
    return folder / "run"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["config.json", "model/mine.pt", "checkpoints/a", "figures/a.png"])
def test_what_is_no_runs_is_not_deleted(name: str, tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "text.txt")
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"my": "app"}')
    before = everything(out)
    with pytest.raises(UserError, match="is not a run's, and would be deleted"):
        pretrain(tiny_config(data), out, overwrite=True, quiet=True)
    assert everything(out) == before


def test_other_files_of_a_folder_stay(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "text.txt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    pretrain(tiny_config(data, budget="1 steps"), tmp_path / "out", overwrite=True, quiet=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("damaged", ["config.json", "environment.json"])
def test_a_damaged_run_can_go(damaged: str, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / damaged).write_text("{")
    check_run_folder(tmp_path / "run", tiny_config(tmp_path), overwrite=True)
    clear_run_folder(tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def reads(config: PretrainConfig, key: str, path: Path) -> PretrainConfig:
    value = config.model_dump(mode="json")
    if key == "data":
        value["data"]["sources"] = [{"path": str(path)}]
    if key == "tokenizer":
        value["tokenizer"] = {"kind": "file", "path": str(path)}
    if key == "init":
        value["init"] = str(path)
    return PretrainConfig.model_validate(value)


@pytest.mark.parametrize(
    ("key", "inside"),
    [
        ("data", "figures"),
        ("data", "model/*.txt"),
        ("data", "metrics.jsonl"),
        ("tokenizer", "model"),
        ("tokenizer", "model/tokenizer.json"),
        ("init", ""),
        ("init", "model"),
    ],
)
@pytest.mark.parametrize("home", [False, True])
def test_what_is_read_is_not_deleted(
    key: str, inside: str, home: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path))
    named = (Path("~/run") if home else tmp_path / "run") / inside
    config = reads(tiny_config(tmp_path / "text.txt"), key, named)
    before = everything(tmp_path / "run")
    with pytest.raises(UserError, match="that would be overwritten"):
        pretrain(config, tmp_path / "run", overwrite=True, quiet=True)
    assert everything(tmp_path / "run") == before


def test_a_runs_model_folder_is_not_a_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    before = everything(tmp_path / "run")
    config = reads(tiny_config(write_corpus(tmp_path / "text.txt")), "init", tmp_path / "run")
    with pytest.raises(UserError, match="is not a run's"):
        pretrain(config, tmp_path / "run" / "model", overwrite=True, quiet=True)
    assert everything(tmp_path / "run") == before


def test_data_beside_a_run_may_be_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    data = write_corpus(tmp_path / "run" / "text.txt")
    check_run_folder(tmp_path / "run", tiny_config(data), overwrite=True)
    check_run_folder(tmp_path / "run", tiny_config(tmp_path), overwrite=True)


def test_a_demo_does_not_delete_what_is_none_of_a_demos(tmp_path: Path) -> None:
    mine = tmp_path / "vae" / "model"
    mine.mkdir(parents=True)
    (mine / "mine.pt").write_text("mine")
    with pytest.raises(UserError, match="is not a run's"):
        run_demo(tmp_path, quick=True, overwrite=True, quiet=True)
    assert everything(tmp_path) == {"vae/model/mine.pt": b"mine"}


def test_a_refusal_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other things"):
        pretrain(tiny_config(write_corpus(tmp_path / "text.txt")), tmp_path / "mine", quiet=True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["a.txt"]
