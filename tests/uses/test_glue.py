"""The GLUE sweep: its table, its metrics, going on where it stopped, and the server's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from selfsup.cli.app import main
from selfsup.data.files import OnBadRow
from selfsup.errors import Interrupted, UserError
from selfsup.finetune_config import FinetuneConfig
from selfsup.models.hub import load
from selfsup.objectives.labels import TextLabels
from selfsup.tasks.glue import SERVER_FILES, TASKS, choose_tasks, find_tasks
from selfsup.tasks.judge import read_answers
from selfsup.tasks.texts import Scale
from selfsup.uses import glue
from selfsup.uses.finetuning import fit
from selfsup.uses.glue import dev_scores, run_glue, write_answers
from selfsup.uses.glue_parts import prepare
from selfsup.uses.glue_table import conclude, over_seeds
from tests.tasks.toy import write_encoder
from tests.tasks.toy_glue import DEV, MNLI, TEST, TRAIN, write_glue

NAMES = [task.name for task in TASKS]


def toy(**more: Any) -> FinetuneConfig:
    value: dict[str, Any] = {"lr": 1e-2, "epochs": 2, **more}
    value["train"] = {
        "batch_size": 8,
        "precision": "fp32",
        "device": "cpu",
        "schedule": {"warmup": 0.1},
    } | more.get("train", {})
    return FinetuneConfig.model_validate(value)


@pytest.fixture(scope="module", autouse=True)
def _no_collections() -> Iterator[None]:
    """The loop collects garbage once a training, which takes longer than these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        still = SimpleNamespace(collect=int, freeze=int, unfreeze=int)
        patch.setattr("selfsup.training.loop.gc", still)
        yield


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    return [str(write_encoder(folder / kind, kind)) for kind in ("bert", "modernbert")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="module")
def sweep(
    models: list[str], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """Everything at once: two models, nine tasks, two seeds."""
    out = tmp_path_factory.mktemp("sweep") / "glue"
    return out, run_glue(models, data, out, config=toy(), seeds=2, quiet=True)


class Counted:
    """`fit`, counted, and stopped at one of its calls."""

    def __init__(self, patch: pytest.MonkeyPatch, stop_at: int = 0, error: type = Interrupted):
        self.titles: list[str] = []
        self.stop_at, self.error = stop_at, error
        patch.setattr(glue, "fit", self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.titles.append(kwargs["title"])
        if len(self.titles) == self.stop_at:
            raise self.error("stopped")
        return fit(*args, **kwargs)


# --- the table


def test_one_row_a_task_and_one_column_a_model(
    sweep: tuple[Path, dict[str, Any]], models: list[str]
) -> None:
    out, result = sweep
    table = result["table"]
    assert [row["task"] for row in table] == [*NAMES, "average", "average without WNLI"]
    assert all(list(row) == ["task", "metric", *models] for row in table)
    assert all(row[m].count(" to ") == 1 for row in table[:9] for m in models)
    assert table[5]["metric"] == "accuracy matched / accuracy mismatched"
    assert [r["metric"] for r in table[9:]] == ["9 of 9 tasks", "8 of 8 tasks"]
    assert [r["task"] for r in result["metrics"]] == [
        x for name in ("MRPC", "STS-B", "QQP", "MNLI") for x in (name, name)
    ]
    assert result == json.loads((out / "result.json").read_text())
    assert (out / "table.md").read_text().startswith("# GLUE, dev: median of 2 seeds")
    assert FinetuneConfig.model_validate_json((out / "config.json").read_text()).epochs == 2


def test_medians_and_averages_come_from_the_trainings(
    sweep: tuple[Path, dict[str, Any]], models: list[str]
) -> None:
    out, result = sweep
    files = [json.loads(p.read_text()) for p in sorted((out / "trainings").rglob("seed-*.json"))]
    assert len(files) == 2 * 9 * 2
    medians: dict[str, list[float]] = {}
    for model in models:
        for task in NAMES:
            own = [f for f in files if (f["model"], f["task"]) == (model, task)]
            values = [float(np.mean(list(f["scores"].values()))) for f in own]
            got = result["scores"][model][task]
            assert got["median"] == pytest.approx(np.median(values))
            assert (got["least"], got["most"]) == pytest.approx((min(values), max(values)))
            medians.setdefault(model, []).append(float(np.median(values)))
        means = result["averages"][model]
        assert means["with_wnli"] == pytest.approx(np.mean(medians[model]))
        assert means["without_wnli"] == pytest.approx(np.mean(medians[model][:-1]))


def test_at_most_the_epochs_that_were_asked_for(sweep: tuple[Path, dict[str, Any]]) -> None:
    out, _ = sweep
    for path in (out / "trainings").rglob("seed-*.json"):
        value = json.loads(path.read_text())
        assert value["steps"] == 2 * value["examples"] // 8
        assert value["epochs"] <= 2
        assert value["examples"] == TRAIN


def test_the_median_seed_of_an_even_number_is_the_nearest() -> None:
    def x(seed: int, score: float) -> dict[str, Any]:
        scores = {"accuracy": score}
        return {"seed": seed, "score": score, "scores": scores, "examples": 1, "steps": 1}

    assert over_seeds([x(0, 0.1), x(1, 0.9), x(2, 0.5)])["median_seed"] == 2
    even = over_seeds([x(3, 0.1), x(4, 0.4), x(5, 0.6), x(6, 1.0)])
    assert even["median_seed"] == 4
    assert even["median"] == pytest.approx(0.5)
    assert even["metrics"]["accuracy"] == {"median": 0.5, "least": 0.1, "most": 1.0}
    for first in (0.1, 0.2, 0.3, 0.7):  # whichever of the two rounding puts nearer the middle
        for step in (0.1, 0.2, 0.15):
            two = [x(7, first), x(8, first + step)]
            assert over_seeds(two)["median_seed"] == over_seeds(two[::-1])["median_seed"] - 1 == 7


def test_without_wnli_only_when_something_is_left() -> None:
    run = {"model": "m", "task": "WNLI", "seed": 0, "scores": {"accuracy": 0.5}, "score": 0.5}
    run |= {"examples": 1, "steps": 1, "notes": [], "learning_rate": 1.0, "minutes": 0.0}
    result = conclude([run], FinetuneConfig(), {"RTE": "no folder RTE"})
    assert result["averages"]["m"] == {"with_wnli": 0.5, "without_wnli": None}
    assert [r["m"] for r in result["table"][1:]] == ["0.500", "-"]
    assert result["missing"] == [{"task": "RTE", "why": "no folder RTE"}]


@pytest.mark.parametrize("limit", [1, 7, 12])
def test_a_limit_sets_weights_and_scale_by_what_is_learned_from(
    limit: int, models: list[str], data: Path
) -> None:
    pretrained, config = load(models[0]), toy(class_weights="balanced")
    for name in ("MNLI", "STS-B"):
        (files,), _ = find_tasks(data, choose_tasks([name]))
        ready = prepare(files, config, pretrained, limit)
        objective, info = ready.sets.train.objective, ready.sets.info
        assert isinstance(objective, TextLabels)
        assert len(objective.ids) == limit
        if name == "STS-B":
            mean, spread = info.scale
            learned = np.asarray(objective.labels) * spread + mean
            assert mean == pytest.approx(learned.mean())
            assert spread == pytest.approx(learned.std() or 1.0)
            assert all(dev.scale == Scale(*info.scale) for dev in ready.devs)  # type: ignore[union-attr]
            continue
        counts = np.bincount(np.asarray(objective.labels), minlength=3)
        assert objective.weights is not None
        met = counts > 0
        each = limit / met.sum()
        assert (objective.weights.numpy() * counts)[met] == pytest.approx(each, rel=1e-6)


# --- the metrics


@pytest.mark.parametrize("name", ["CoLA", "MRPC", "STS-B", "MNLI", "RTE"])
def test_scores_are_scikit_learns_and_do_not_depend_on_the_batch(
    name: str, models: list[str], data: Path
) -> None:
    from scipy.stats import pearsonr, spearmanr

    pretrained = load(models[0])
    (files,), _ = find_tasks(data, choose_tasks([name]))
    ready = prepare(files, toy(), pretrained)
    fitted = fit(ready.config, pretrained, ready.sets, seed=0)
    assert not fitted.scores  # dev was not looked at
    got = dev_scores(files.task, fitted, ready.devs)
    assert dev_scores(files.task, fitted, ready.devs, tokens=1) == pytest.approx(got, abs=1e-6)
    expected: dict[str, float] = {}
    for (stem, part), dev in zip(files.task.devs, ready.devs, strict=True):
        collector, _ = read_answers(
            fitted.model, dev, fitted.loop.device, fitted.loop.precision, tokens=30
        )
        said = list(collector.predictions())
        lines = (data / name / f"{stem}.tsv").read_text(encoding="utf-8-sig").splitlines()
        column = {"CoLA": 1, "MRPC": 0}.get(name, -1)
        truth: Any = [line.split("\t")[column] for line in lines[name != "CoLA" :]]
        if name == "STS-B":
            guess: Any = [row["value"] for row in said]
            truth = [float(x) for x in truth]
            expected |= {"pearson": pearsonr(guess, truth)[0]}
            expected |= {"spearman": spearmanr(guess, truth)[0]}
            continue
        guess = [row["label"] for row in said]
        if name == "CoLA":
            expected["matthews"] = matthews_corrcoef(truth, guess)
        if name == "MRPC":
            expected["f1"] = f1_score(truth, guess, pos_label="1", zero_division=0)
        if name != "CoLA":
            expected[f"accuracy_{part}" if part else "accuracy"] = accuracy_score(truth, guess)
    assert len(next(iter(ready.devs))) == DEV
    assert got == pytest.approx(expected, abs=1e-5)


# --- stopping and going on


@pytest.mark.parametrize(("overwrite", "said"), [(True, " without --overwrite"), (False, "")])
def test_a_stopped_sweep_says_how_to_go_on(
    overwrite: bool, said: str, models: list[str], data: Path, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Counted(patch, stop_at=1)
        with pytest.raises(Interrupted, match=f"; the same command{said} begins that one anew"):
            run_glue(
                models[:1],
                data,
                tmp_path,
                config=toy(),
                tasks=["RTE"],
                overwrite=overwrite,
                quiet=True,
            )


@pytest.mark.parametrize("error", [Interrupted, KeyboardInterrupt])
def test_a_stopped_sweep_loses_one_training_and_ends_the_same(
    error: type, sweep: tuple[Path, dict[str, Any]], models: list[str], data: Path, tmp_path: Path
) -> None:
    def go() -> dict[str, Any]:
        chosen = ["RTE", "CoLA"]
        return run_glue(models, data, out, config=toy(), tasks=chosen, seeds=2, quiet=True)

    out = tmp_path / "glue"
    with pytest.MonkeyPatch.context() as patch:
        Counted(patch, stop_at=4, error=error)
        with pytest.raises(error):
            go()
    kept = sorted((out / "trainings").rglob("seed-*.json"))
    before = [path.read_bytes() for path in kept]
    assert len(kept) == 3
    assert not (out / "result.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch)
        result = go()
        assert len(counted.titles) == 2 * 2 * 2 - 3
        assert go() == result
        assert len(counted.titles) == 5  # a finished sweep trains nothing
    assert [path.read_bytes() for path in kept] == before
    for model in models:  # the same seeds in another sweep: the same numbers
        for task in ("CoLA", "RTE"):
            assert result["scores"][model][task] == sweep[1]["scores"][model][task]


def test_seeds_tasks_and_models_may_be_added(
    models: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, out = Counted(monkeypatch), tmp_path / "glue"
    run_glue(models[:1], data, out, config=toy(), tasks=["RTE"], seeds=1, quiet=True)
    result = run_glue(models, data, out, config=toy(), tasks=["RTE", "WNLI"], seeds=2, quiet=True)
    assert len(counted.titles) == 1 + 7
    assert result["scores"][models[0]]["RTE"]["seeds"] == 2
    seeds = {title.rpartition(" ")[2] for title in counted.titles}
    assert seeds == {"0", "1"}


def test_answers_that_were_lost_are_made_again(
    models: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go() -> None:
        run_glue(models[:1], data, tmp_path / "o", config=toy(), tasks=["RTE"], seeds=1, quiet=True)

    counted = Counted(monkeypatch)
    go()
    (answers,) = (tmp_path / "o" / "trainings").rglob("RTE.tsv")
    answers.unlink()
    go()
    assert len(counted.titles) == 2
    assert answers.is_file()


def test_another_configuration_is_refused_by_name(
    models: list[str], data: Path, tmp_path: Path
) -> None:
    out, own = tmp_path / "glue", tmp_path / "data"
    shutil.copytree(data, own)

    def go(config: FinetuneConfig | None = None, **more: Any) -> dict[str, Any]:
        config = config or toy()
        given = {"tasks": ["RTE"], "seeds": 1, "quiet": True, **more}
        return run_glue(models[:1], own, out, config=config, **given)

    go()
    for config, key in (
        (toy(epochs=1), "epochs"),
        (toy(lr=1e-3), "lr"),
        (toy(scratch=True), "scratch"),
        (toy(seed=3), "seed"),
        (toy(train={"batch_size": 4}), "train.batch_size"),
    ):
        with pytest.raises(UserError, match=f"another {key} lies here"):
            go(config)
    with pytest.raises(UserError, match=r"seed-0.json: was made with another limit"):
        go(limit=9)
    with open(own / "RTE" / "dev.tsv", "a", encoding="utf-8") as handle:
        handle.write("12\tthe film is fine\tthe song is fine\tentailment\n")
    with pytest.raises(UserError, match=r"was made with another files.dev"):
        go()
    assert go(overwrite=True, limit=9)["limit"] == 9
    (seed,) = (out / "trainings").rglob("seed-0.json")
    assert json.loads(seed.read_text())["examples"] == 9
    assert "QUICK LOOK: at most 9 training" in (out / "table.md").read_text()
    seed.write_text("{")
    with pytest.raises(UserError, match=r"seed-0.json: is damaged; remove it"):
        go(limit=9)


def test_packing_a_file_changes_nothing(models: list[str], data: Path, tmp_path: Path) -> None:
    import lzma

    shutil.copytree(data / "WNLI", tmp_path / "d" / "WNLI")

    def go() -> dict[str, Any]:
        return run_glue(
            models[:1], tmp_path / "d", tmp_path / "o", config=toy(), seeds=1, quiet=True
        )

    first, plain = go(), tmp_path / "d" / "WNLI" / "train.tsv"
    plain.with_name("train.tsv.xz").write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    assert go() == first
    assert len(first["missing"]) == 8


def test_overwriting_takes_a_sweep_and_nothing_else(
    models: list[str], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / "mine.txt").touch()
    (tmp_path / "config.json").write_text('{"another": "command"}')
    with pytest.raises(UserError, match="lies here"):
        run_glue(models[:1], data, tmp_path, config=toy(), overwrite=True, quiet=True)
    assert (tmp_path / "submissions" / "mine.txt").is_file()
    assert "another" in (tmp_path / "config.json").read_text()


def test_notes_name_the_models_for_which_they_hold(
    models: list[str], data: Path, tmp_path: Path
) -> None:
    config = toy(max_length=12, class_weights="balanced")
    given = {"config": config, "seeds": 1, "quiet": True}
    result = run_glue(models, data, tmp_path / "o", tasks=["MNLI", "STS-B"], **given)
    notes = result["notes"]
    assert any("texts of dev_mismatched.tsv are too long: cut" in note for note in notes)
    assert any("texts of diagnostic.tsv" in note for note in notes)
    assert not any("labels are numbers" in note or models[0] in note for note in notes)
    run = {"task": "RTE", "seed": 0, "scores": {"accuracy": 0.5}, "score": 0.5, "minutes": 0.0}
    run |= {"examples": 1, "steps": 1, "learning_rate": 1.0}
    runs = [run | {"model": "a", "notes": ["x", "y"]}, run | {"model": "b", "notes": ["x"]}]
    assert conclude(runs, config, {})["notes"] == ["RTE: x", "RTE: y (a)"]


def test_random_weights_are_said_to_be_random(
    models: list[str], data: Path, tmp_path: Path
) -> None:
    result = run_glue(
        models[:1],
        data,
        tmp_path / "o",
        config=toy(scratch=True),
        tasks=["SST-2"],
        seeds=1,
        quiet=True,
    )
    assert result["started_from"] == "random weights"
    assert "from random weights" in (tmp_path / "o" / "table.md").read_text()


# --- the server's files


def test_the_server_gets_its_names_labels_and_rows(
    sweep: tuple[Path, dict[str, Any]], models: list[str]
) -> None:
    out, result = sweep
    labels = {name: set(MNLI) for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv")}
    labels |= {name: {"entailment", "not_entailment"} for name in ("QNLI.tsv", "RTE.tsv")}
    for model in models:
        made = result["submissions"][model]
        folder = Path(made["folder"])
        assert folder.parent == out / "submissions"
        assert sorted(p.name for p in folder.iterdir()) == sorted(SERVER_FILES) == made["files"]
        assert made["missing"] == []
        for path in folder.iterdir():
            head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
            assert head == ["index", "prediction"]
            assert [row[0] for row in rows] == [str(i) for i in range(TEST)]
            if path.name == "STS-B.tsv":
                assert all(0 <= float(value) <= 5 for _, value in rows)
            else:
                assert {value for _, value in rows} <= labels.get(path.name, {"0", "1"})
        # of the seed whose score is the median
        seed = result["scores"][model]["CoLA"]["median_seed"]
        (own,) = (out / "trainings" / folder.name / "CoLA").glob(f"seed-{seed}/CoLA.tsv")
        assert own.read_text() == (folder / "CoLA.tsv").read_text()


def test_similarities_are_kept_between_0_and_5(tmp_path: Path) -> None:
    write_answers(tmp_path / "a.tsv", [{"value": -0.2}, {"value": 5.01}, {"value": 2.71828}])
    wanted = "index\tprediction\n0\t0.000\n1\t5.000\n2\t2.718\n"
    assert (tmp_path / "a.tsv").read_text() == wanted


def test_no_test_files_no_submission(models: list[str], tmp_path: Path) -> None:
    data = write_glue(tmp_path / "d", tests=False)
    out = tmp_path / "o"
    result = run_glue(models[:1], data, out, config=toy(), tasks=["RTE"], seeds=1, quiet=True)
    assert result["submissions"] == {}
    assert not (out / "submissions").exists()


# --- what is refused


def test_bad_lines_say_where(models: list[str], data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "d")

    def go(task: str, on_bad_row: OnBadRow = "stop") -> dict[str, Any]:
        config = toy()
        data = config.data.model_copy(update={"on_bad_row": on_bad_row})
        config = config.model_copy(update={"data": data})
        out = tmp_path / f"out-{task}-{on_bad_row}"
        return run_glue(
            models[:1], tmp_path / "d", out, config=config, tasks=[task], seeds=1, quiet=True
        )

    def add(path: str, line: str) -> None:
        with open(tmp_path / "d" / path, "a", encoding="utf-8") as handle:
            handle.write(line + "\n")

    add("RTE/dev.tsv", "12\tone text\tentailment")
    with pytest.raises(UserError, match=r"RTE/dev.tsv:14: the row has 3 fields, the header 4"):
        go("RTE")
    add("WNLI/train.tsv", "24\tone\ttwo\t2")
    with pytest.raises(
        UserError,
        match=r"WNLI/train.tsv:26: '2' is no label of WNLI; GLUE has 0, 1; .*bad-row skip",
    ):
        go("WNLI")
    result = go("WNLI", on_bad_row="skip")
    (note,) = (n for n in result["notes"] if "labels that are none" in n)
    assert note.startswith("WNLI: 1 row of ")
    assert note.endswith("train.tsv:26: '2' is no label of WNLI")
    files = (tmp_path / "out-WNLI-skip" / "trainings").rglob("seed-0.json")
    assert [json.loads(f.read_text())["examples"] for f in files] == [TRAIN]
    add("STS-B/dev.tsv", "1\tm\tf\t2012\t1\tn\tn\tone\ttwo\tmuch")
    with pytest.raises(UserError, match=r"STS-B/dev.tsv:14: .*no number in 'score'"):
        go("STS-B")
    add("MNLI/dev_mismatched.tsv", "1\tp\tq\tg\tone\ttwo\tneutral\tperhaps")
    with pytest.raises(UserError, match=r"dev_mismatched.tsv:14: .*that the training part lacks"):
        go("MNLI")
    result = go("MNLI", on_bad_row="skip")
    assert any("1 row of" in n and "dev_mismatched.tsv left out" in n for n in result["notes"])
    whole = (tmp_path / "d" / "QQP" / "dev.tsv").read_text()
    add("QQP/dev.tsv", "24\t1\t2\tone\ttwo\tperhaps")  # its layout skips broken lines, not labels
    with pytest.raises(
        UserError, match=r"QQP/dev.tsv:\d+: .*that the training part lacks: 'perhaps'"
    ):
        go("QQP")
    (tmp_path / "d" / "QQP" / "dev.tsv").write_text(whole)
    add("MRPC/test.tsv", "7\t1\t2\tone")  # an answer is wanted for each row
    with pytest.raises(UserError, match=r"MRPC/test.tsv:9: the row has 4 fields"):
        go("MRPC")
    add("QQP/train.tsv", "24\tquestion")  # GLUE's own file has such lines
    result = go("QQP")
    note, *others = result["notes"]
    assert others == [
        "QQP: 12 dev examples: accuracies on them are known to ±29 points",
        "QQP: 24% of the tokens are unknown to the model and say nothing to it",
        "QQP: only 6 steps of training: its score says nothing yet; a smaller batch or more epochs",
    ]
    assert "QQP: 1 row of" in note
    assert "train.tsv skipped" in note


def test_the_mend_of_a_bad_row_works_in_the_same_folder(
    models: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, out, own = Counted(monkeypatch), tmp_path / "o", tmp_path / "d"
    shutil.copytree(data, own)

    def go(tasks: list[str], on_bad_row: OnBadRow = "stop", **more: Any) -> dict[str, Any]:
        config = toy(data={"on_bad_row": on_bad_row})
        given = {"config": config, "tasks": tasks, "seeds": 1, "quiet": True, **more}
        return run_glue(models[:1], own, out, **given)

    with open(own / "RTE" / "train.tsv", "a", encoding="utf-8") as handle:
        handle.write("24\tone\ttwo\t-\n")
    with pytest.raises(UserError, match=r"RTE/train.tsv:26: '-' is no label of RTE"):
        go(["RTE"])
    assert not out.exists()
    go(["CoLA"])
    with pytest.raises(UserError, match=r"RTE/train.tsv:26: "):
        go(["WNLI", "RTE"])  # met before WNLI, which is whole, is trained
    kept = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    with pytest.raises(UserError, match=r"RTE/train.tsv:26: "):
        go(["RTE"], overwrite=True)  # nothing goes for a sweep that cannot be
    assert {p: p.read_bytes() for p in kept} == kept
    assert len(counted.titles) == 1
    result = go(["CoLA", "RTE"], "skip")
    assert len(counted.titles) == 2  # CoLA had no bad row: skipping them changes nothing
    assert any("labels that are none" in note for note in result["notes"])
    with pytest.raises(UserError, match=r"data.on_bad_row lies here \(skip, and stop is asked for"):
        go(["CoLA"])


@pytest.mark.parametrize(
    "change",
    [
        {"scores": None},
        {"scores": {}},
        {"scores": {"f1": 0.5}},
        {"scores": {"accuracy": "much"}},
        {"score": None},
        {"notes": None},
        {"notes": "none"},
        {"steps": None},
        {"seed": 3},
        {"settings": {}},
    ],
)
def test_a_training_that_is_damaged_is_named(
    change: dict[str, Any], models: list[str], finished: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    shutil.copytree(finished, out)
    (file,) = out.rglob("seed-0.json")
    value = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))
    with pytest.raises(UserError, match=r"seed-0.json: is damaged; remove it"):
        run_glue(models[:1], data, out, config=toy(), tasks=["RTE"], seeds=1, quiet=True)


@pytest.fixture(scope="module")
def finished(models: list[str], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "o"
    run_glue(models[:1], data, out, config=toy(), tasks=["RTE"], seeds=1, quiet=True)
    return out


@pytest.mark.parametrize("text", ["[]", "3", "null", b"\xff", "[" * 100_000])
def test_a_training_that_is_no_training_is_named(
    text: str | bytes, models: list[str], finished: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    shutil.copytree(finished, out)
    (file,) = out.rglob("seed-0.json")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"seed-0.json: is damaged; remove it"):
        run_glue(models[:1], data, out, config=toy(), tasks=["RTE"], seeds=1, quiet=True)


@pytest.mark.parametrize(("limit", "epochs", "steps"), [(16, 1, "2 steps"), (8, 1, "1 step")])
def test_few_steps_are_noted(
    limit: int, epochs: int, steps: str, models: list[str], data: Path
) -> None:
    (files,), _ = find_tasks(data, choose_tasks(["RTE"]))
    ready = prepare(files, toy(epochs=epochs), load(models[0]), limit)
    wanted = f"only {steps} of training: its score says nothing yet; "
    assert ready.notes[-1] == f"{wanted}more examples than --limit {limit} or more epochs"
    enough = prepare(files, toy(epochs=5, train={"batch_size": 4}), load(models[0]), 99)
    assert not any("of training" in note for note in enough.notes)


def test_bad_requests_are_refused_at_once(
    models: list[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)

    def refused(says: str, names: list[str] = models, **more: Any) -> None:
        with pytest.raises(UserError, match=says):
            run_glue(names, data, tmp_path / "o", **{"config": toy(), "quiet": True, **more})

    refused("no model", [])
    refused("is named twice", [models[0], models[0]])
    refused("is the same model", [models[0], models[0] + "/"])
    refused("no such run or model folder", [models[0], "nowhere"])
    refused("--epochs: must be above 0 and at most 5, not 6", config=toy(epochs=6))
    refused("--epochs", config=toy(epochs=0))
    refused("--seeds: must be at least 1", seeds=0)
    refused("--limit: must be at least 1", limit=0)
    refused("metric: GLUE's own metrics", config=toy(metric="f1"))
    refused("data.train: GLUE's files have their own layout", config=toy(data={"train": "x"}))
    refused("did you mean 'RTE'", tasks=["RTEE"])
    (tmp_path / "d" / "RTE").mkdir(parents=True)
    for name in ("train.tsv.gz", "dev.tsv"):
        (tmp_path / "d" / "RTE" / name).write_bytes(b"no gzip \xff")
    with pytest.raises(UserError, match=r"RTE/train.tsv.gz"):
        run_glue(models[:1], tmp_path / "d", tmp_path / "o", config=toy(), quiet=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds other things"):
        run_glue(models[:1], data, tmp_path / "other", config=toy(), quiet=True)
    assert not counted.titles


# --- the command


def test_tables_leave_models_names_as_they_are(
    models: list[str],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(models[0], tmp_path / "my_model_a")
    monkeypatch.chdir(tmp_path)
    words = ["glue", "my_model_a", "--data", str(data), "--tasks", "MRPC", "--seeds", "1", "-q"]
    words += ["--epochs", "1", "--out", "o", "--device", "cpu", "--precision", "fp32"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("my_model_a") == 2  # of both tables
    assert "my model a" not in printed


def test_the_command_prints_json_or_tables(
    models: list[str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["glue", models[0], "--data", str(data), "--tasks", "RTE,mrpc", "--seeds", "1"]
    words += ["--out", str(tmp_path / "o"), "--limit", "16", "--lr", "1e-2", "--epochs", "1"]
    words += ["--train.batch_size", "8", "--device", "cpu", "--precision", "fp32"]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kind"] == "glue"
    assert result["tasks"] == ["MRPC", "RTE"]
    assert result["batch_size"] == 8
    assert main([*words, "--quiet"]) == 0
    printed = capsys.readouterr()
    assert "QUICK LOOK" in printed.out
    assert " to 0" not in printed.out  # of one seed there is no spread
    assert "2 of 9 tasks" in printed.out
    assert "the server also wants CoLA.tsv" in printed.err
    assert main([*words[:4], "--epochs", "9"]) == 2
    assert "--epochs: must be above 0 and at most 5, not 9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "stem", "columns"),
    [
        ("RTE", "train", "'sentence1', 'sentence2', 'label'"),
        ("RTE", "test", "'sentence1', 'sentence2'"),
        ("MNLI", "dev_mismatched", "'sentence1', 'sentence2', 'gold_label'"),
        ("CoLA", "dev", "'3', '1', numbered from 0, and no header"),
    ],
)
def test_files_of_another_layout(
    models: list[str], tmp_path: Path, task: str, stem: str, columns: str
) -> None:
    path = write_glue(tmp_path / "d") / task / f"{stem}.tsv"
    path.write_text("x\ty\n" + "1\t2\n" * 5, encoding="utf-8")
    (files,), *_ = find_tasks(tmp_path / "d", choose_tasks([task]))
    with pytest.raises(UserError) as caught:
        prepare(files, toy(), load(models[0]))
    assert caught.value.where.startswith(str(path))
    assert str(caught.value).endswith(
        f"this is not GLUE's own file of {task}, which has the columns {columns}"
    )
