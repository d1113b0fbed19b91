"""The label curves: fair samples, an honest sentence, cells that are kept, a page that stands alone."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.cli.app import main as command_line
from selfsup.errors import Interrupted, UserError
from selfsup.finetune_config import FinetuneConfig
from selfsup.studies import curve_cells, curves, figures
from selfsup.studies.curve_finding import (
    equivalents,
    finding,
    labels_needed,
    largest_saving,
    probe_note,
    rounded,
    worst_saving,
)
from selfsup.studies.curve_samples import (
    ALL,
    label_counts,
    read_material,
    sample_info,
    sample_order,
)
from selfsup.tasks.labelled import TextExample
from selfsup.tasks.task import TaskInfo
from tests.studies.test_report import assert_self_contained
from tests.tasks.toy import toy_config, write_encoder, write_questions, write_tags, write_texts

# ---- the sentence ------------------------------------------------------------------------------

COUNTS = [16, 64, 250, 1000, 4000]


def seeds(*medians: float) -> list[list[float]]:
    return [[m - 0.001, m, m + 0.001] for m in medians]


def say(warm: Sequence[Sequence[float]], cold: Sequence[Sequence[float]], **more: Any) -> str:
    scores = {"pretrained": warm, "random": cold}
    if "tfidf" in more:
        scores["tfidf"] = more.pop("tfidf")
    return finding(COUNTS, scores, metric="accuracy", **more).text


def test_it_pays_so_many_times_fewer() -> None:
    warm, cold = seeds(0.6, 0.7, 0.8, 0.85, 0.9), seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    text = say(warm, cold)
    assert text == (
        "With 250 labels the pre-trained model matches random weights with 4,000 (accuracy 0.800): "
        "16 times fewer in every seed; with all 4,000 it is 0.900."
    )


def test_between_measured_counts_it_is_read_on_the_log_axis() -> None:
    assert labels_needed([16, 64], [0.5, 0.7], 0.6).labels == pytest.approx(32)
    assert labels_needed([10, 1000], [0.0, 1.0], 0.25).labels == pytest.approx(10**1.5)
    # a dip does not count as forgetting what fewer labels reached
    dip = labels_needed([16, 64, 256], [0.6, 0.5, 0.8], 0.6)
    assert (dip.labels, dip.bound) == (16, "at most")
    assert labels_needed([16, 64, 256], [0.6, 0.5, 0.8], 0.7).labels == pytest.approx(128)
    warm, cold = seeds(0.6, 0.7, 0.9, 0.9, 0.9), seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    assert "With 130 labels the pre-trained" in say(warm, cold)
    assert [rounded(x) for x in (131.3, 16.0, 4000.0, 12345.6, 9.4)] == [
        "130", "16", "4,000", "12,000", "9",
    ]  # fmt: skip


def test_at_least_where_the_measured_range_ends() -> None:
    assert labels_needed(COUNTS, [0.5, 0.6, 0.7, 0.7, 0.7], 0.8).bound == "at least"
    warm, cold = seeds(0.9, 0.92, 0.93, 0.94, 0.95), seeds(0.5, 0.5, 0.6, 0.7, 0.8)
    text = say(warm, cold)
    assert "With 16 labels, the fewest tried" in text
    assert "at least 250 times fewer" in text


def test_random_weights_that_only_guess_are_not_called_matched() -> None:
    warm, cold = seeds(0.51, 0.7, 0.8, 0.8, 0.9), seeds(0.5, 0.5, 0.5, 0.5, 0.5)
    warm[0] = [0.4, 0.5, 0.6]
    text = say(warm, cold, majority=0.5)
    assert "no better than guessing even with 4,000" in text
    assert text.startswith("With 64 labels")
    assert "at least 62 times fewer" in text


def test_the_worst_seed_is_told() -> None:
    cold = seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    warm = seeds(0.6, 0.7, 0.8, 0.85, 0.9)
    warm[2] = [0.7, 0.8, 0.801]  # one seed needs 500 labels for its 0.799 instead of 250
    warm[3] = [0.898, 0.85, 0.851]
    scores = {"pretrained": warm, "random": cold}
    assert worst_saving(COUNTS, scores) == pytest.approx(8, rel=0.01)
    assert "16 times fewer (in the worst of 3 seeds 8.0); with all" in say(warm, cold)
    warm[3], warm[4] = [0.7, 0.85, 0.851], [0.75, 0.9, 0.901]
    assert worst_saving(COUNTS, scores) == 1
    assert "16 times fewer (in the worst of 3 seeds none); with all" in say(warm, cold)
    found = finding(COUNTS, scores, metric="accuracy")
    assert (found.factor, found.worst) == pytest.approx((16, 1))


def test_a_seed_that_ends_below_random_weights_saves_nothing() -> None:
    cold = seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    warm = [[0.6] * 3, [0.82] * 3, [0.82, 0.83, 0.7], [0.85, 0.86, 0.72], [0.9, 0.9, 0.78]]
    assert worst_saving(COUNTS, {"pretrained": warm, "random": cold}) == 1
    assert "(in the worst of 3 seeds none)" in say(warm, cold)


def test_in_every_seed_is_said_only_of_the_same_number() -> None:
    cold = seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    warm = [[0.6] * 3, [0.7] * 3, [0.805, 0.803, 0.8], [0.85] * 3, [0.9] * 3]
    scores = {"pretrained": warm, "random": cold}
    found = finding(COUNTS, scores, metric="accuracy")
    assert found.worst < found.factor
    assert "17 times fewer (in the worst of 3 seeds 16)" in found.text


def test_guessing_is_no_saving() -> None:
    cold = seeds(0.5, 0.5, 0.5, 0.5, 0.5)
    barely = [[0.502, 0.503, 0.504]] * 5
    neither = say(barely, cold, majority=0.5)
    assert neither.startswith("Neither start is better than guessing with any number of labels")
    later = say([*barely[:3], [0.6] * 3, [0.7] * 3], cold, majority=0.5)
    assert later.startswith(
        "With 1,000 labels the pre-trained model has accuracy 0.600, while random"
    )


@pytest.mark.parametrize(
    ("warm", "cold"),
    [
        (seeds(0.5, 0.5, 0.5, 0.5, 0.5), seeds(0.5, 0.5, 0.5, 0.5, 0.5)),  # no difference
        (seeds(0.3, 0.3, 0.4, 0.4, 0.45), seeds(0.5, 0.5, 0.5, 0.5, 0.5)),  # random ones ahead
        (seeds(0.5, 0.5, 0.5, 0.5, 0.5), seeds(0.3, 0.3, 0.4, 0.4, 0.45)),  # and behind
        (seeds(0.5, 0.3, 0.5, 0.3, 0.5), seeds(0.3, 0.5, 0.3, 0.5, 0.3)),
    ],
)
def test_two_that_guess_are_not_compared(warm: list[list[float]], cold: list[list[float]]) -> None:
    neither = "Neither start is better than guessing with any number of labels"
    assert say(warm, cold, majority=0.5).startswith(neither)
    assert "guessing" not in say(warm, cold)  # where it is not known what guessing scores
    ahead = [[0.52] * 3, *seeds(0.5, 0.5, 0.5, 0.5)]
    assert not say(ahead, cold, majority=0.5).startswith(neither)
    assert not say(warm, ahead, majority=0.5).startswith(neither)


def test_ahead_only_where_both_guess_is_not_ahead() -> None:
    warm, cold = seeds(0.5, 0.5, 0.6, 0.5, 0.5), seeds(0.4, 0.5, 0.7, 0.5, 0.4)
    text = say(warm, cold, majority=0.5)
    assert text.startswith("Pre-training does not pay here: where it is ahead in every seed, both")


def test_a_floor_that_guesses_is_not_praised() -> None:
    guess = seeds(0.5, 0.5, 0.5, 0.5, 0.5)
    worse = seeds(0.3, 0.3, 0.4, 0.4, 0.45)
    text = say(worse, worse, majority=0.5, tfidf=guess)
    assert "TF-IDF" not in text
    better = say(worse, worse, majority=0.5, tfidf=seeds(0.5, 0.5, 0.5, 0.6, 0.7))
    assert ", and TF-IDF with a linear model beats the pre-trained model with 1,000 and" in better
    scores = {"pretrained": worse, "probe": guess}
    assert probe_note(COUNTS, scores, "labels").startswith("A linear model over the frozen")
    assert probe_note(COUNTS, scores, "labels", 0.5) == (
        "Neither fine-tuning nor a linear model over the frozen encoder is better than guessing "
        "(0.450 against 0.500 with 4,000 labels)."
    )
    scores["pretrained"] = seeds(0.3, 0.3, 0.4, 0.4, 0.8)
    assert probe_note(COUNTS, scores, "labels", 0.5) == (
        "Fine-tuning is at least as good as a linear model over the frozen encoder where one of them "
        "does more than guess (0.800 against 0.500 with 4,000 labels)."
    )


def test_a_gain_of_nothing_is_no_gain() -> None:
    cold = [[0.6, 0.6, 0.6]] * 4 + [[0.601] * 3]
    assert "cannot be told" in say(seeds(0.7, 0.7, 0.7, 0.7, 0.7), cold)


def test_a_score_that_random_weights_never_reach() -> None:
    warm, cold = seeds(0.9, 0.8, 0.75, 0.75, 0.75), seeds(0.5, 0.6, 0.7, 0.76, 0.8)
    assert (
        "with 16 the model has accuracy 0.900, which random weights reach with no number tried: at "
        "least 250 times fewer in every seed, but with 4,000 random weights are better"
        in say(warm, cold)
    )
    level = say(
        seeds(0.7, 0.75, 0.76, 0.77, 0.8), [*seeds(0.5, 0.6, 0.7, 0.75, 0.8)[:4], [0.8] * 3]
    )
    assert "random weights are as good (0.800 against 0.800)" in level


def test_no_saving_where_more_labels_do_not_help_random_weights() -> None:
    warm, cold = seeds(0.7, 0.75, 0.8, 0.8, 0.8), seeds(0.6, 0.6, 0.6, 0.6, 0.62)
    assert "at least 250 times fewer" in say(warm, cold)
    cold[0] = [0.5, 0.6, 0.63]  # one seed has less with 4,000 than with 16
    text = say(warm, cold)
    assert "fewer" not in text
    assert text == (
        "The pre-trained model is ahead with 16, 64, 250, 1,000 and 4,000 labels (accuracy 0.800 against "
        "0.620); what it saves cannot be told: random weights did not gain in every seed from 16 to "
        "4,000 labels (medians 0.600 and 0.620)."
    )
    scores = {"pretrained": warm, "random": cold}
    main = finding(COUNTS, scores, metric="accuracy")
    assert not main.factor > 1
    assert all("times fewer" not in row for row in equivalents(COUNTS, scores, main))
    cold[0] = [0.5, 0.5, 0.5]
    main = finding(COUNTS, scores, metric="accuracy")
    assert next(row["times fewer"] for row in equivalents(COUNTS, scores, main)) == "at least 250"


def test_it_does_not_pay() -> None:
    worse = say(seeds(0.5, 0.5, 0.6, 0.6, 0.7), seeds(0.6, 0.6, 0.7, 0.7, 0.8))
    assert worse.startswith("Pre-training does not pay here: random weights are better with 16, 64")
    noisy = [[0.5, 0.6, 0.7]] * 5
    equal = say(noisy, [[0.6, 0.5, 0.7]] * 5)
    assert equal.startswith(
        "Pre-training does not pay here: no number of labels shows a difference"
    )


def test_it_pays_only_with_few_labels() -> None:
    text = say(seeds(0.7, 0.75, 0.76, 0.77, 0.78), seeds(0.5, 0.6, 0.7, 0.8, 0.9))
    assert text.startswith("Pre-training pays only with few labels: with 16 the model matches")
    assert "random weights with 250 (accuracy 0.700): 16 times fewer" in text
    assert "with 4,000 random weights are better (0.900 against 0.780)" in text


def test_it_pays_with_many_labels_only_a_little() -> None:
    text = say(seeds(0.5, 0.5, 0.5, 0.6, 0.82), seeds(0.5, 0.55, 0.6, 0.7, 0.8))
    assert "3,500 labels the pre-trained model matches random weights with 4,000" in text
    assert text.endswith("1.1 times fewer in every seed; with all 4,000 it is 0.820.")


def test_tfidf_that_wins_is_named() -> None:
    warm, cold = seeds(0.6, 0.7, 0.8, 0.85, 0.9), seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    every = say(warm, cold, tfidf=[[0.95]] * 5)
    assert "16 times fewer" in every
    assert "TF-IDF with a linear model beats the pre-trained model everywhere (0.950" in every
    some = say(warm, cold, tfidf=seeds(0.65, 0.75, 0.7, 0.7, 0.7))
    assert (
        "TF-IDF with a linear model beats the pre-trained model with 16 and 64 labels (0.750 against"
        in some
    )
    assert "TF-IDF" not in say(warm, cold, tfidf=seeds(0.1, 0.1, 0.1, 0.1, 0.1))


def test_a_look_up_that_wins_is_named() -> None:
    warm, cold = seeds(0.6, 0.7, 0.8, 0.85, 0.9), seeds(0.5, 0.55, 0.6, 0.7, 0.8)
    scores = {"pretrained": warm, "random": cold, "lookup": seeds(0.5, 0.6, 0.82, 0.86, 0.87)}
    text = finding(COUNTS, scores, metric="accuracy", unit="sentences").text
    assert text.endswith(
        ", but looking up each word's most frequent tag beats the pre-trained model with 250 and 1,000 "
        "sentences (0.860 against 0.850 with 1,000)."
    )


def test_one_seed_says_so_and_units_are_named() -> None:
    one = say([[0.6]] * 4 + [[0.9]], [[0.5]] * 5, unit="questions")
    assert "one seed" in one
    assert "questions" in one


def test_the_largest_saving_is_told_where_it_is_more() -> None:
    scores = {
        "pretrained": seeds(0.7, 0.72, 0.74, 0.76, 0.81),
        "random": seeds(0.5, 0.55, 0.6, 0.7, 0.8),
    }
    main = finding(COUNTS, scores, metric="accuracy")
    assert main.factor < 2
    text = largest_saving(COUNTS, scores, main, "labels")
    assert text == (
        "The saving is largest at 16 labels, which do what random weights need 1,000 for (0.700): "
        "62 times fewer."
    )
    scores["pretrained"] = seeds(0.6, 0.7, 0.8, 0.85, 0.9)
    main = finding(COUNTS, scores, metric="accuracy")
    assert largest_saving(COUNTS, scores, main, "labels") == ""


def test_probe_note() -> None:
    scores = {"pretrained": seeds(0.5, 0.6, 0.9, 0.9, 0.9), "probe": seeds(0.6, 0.7, 0.8, 0.8, 0.8)}
    said = "beats fine-tuning with 16 and 64 labels (0.700 against 0.600 with 64)."
    assert probe_note(COUNTS, scores, "labels").endswith(said)
    scores["probe"] = seeds(0.6, 0.5, 0.8, 0.8, 0.8)
    assert probe_note(COUNTS, scores, "labels").endswith("16 labels (0.600 against 0.500).")


# ---- the samples -------------------------------------------------------------------------------


def unbalanced() -> list[TextExample]:
    labels = ["a"] * 100 + ["b"] * 40 + ["c"] * 5
    return [TextExample(f"text {i}", None, x, f"f:{i}") for i, x in enumerate(labels)]


def test_samples_are_nested_and_balanced() -> None:
    examples = unbalanced()
    order = sample_order(examples, "class", 3)
    assert sorted(order.tolist()) == list(range(145))
    assert np.array_equal(order, sample_order(examples, "class", 3))
    assert not np.array_equal(order, sample_order(examples, "class", 4))
    for count in (3, 6, 15, 16, 64, 145):
        found = Counter(examples[i].label for i in order[:count])
        assert len(found) == 3
        rest = [n for x, n in found.items() if n < sum(e.label == x for e in examples)]
        assert not rest or max(rest) - min(rest) <= 1  # equal, as long as a class lasts


def test_label_counts() -> None:
    info = TaskInfo(kind="classify", answer="class", labels=("a", "b"), main="f1", max_length=9)
    assert label_counts((), 4000, info) == ((16, 64, 256, 1024, 4000), [])
    assert label_counts((), 20, info)[0] == (20,)
    many = info.model_copy(update={"labels": tuple(map(str, range(77)))})
    assert label_counts((), 9000, many)[0] == (256, 1024, 4096, 9000)
    counts, notes = label_counts([64, 16, 64, 999], 200, info)
    assert counts == (16, 64, 200)
    assert "--labels 999 is more than the 200 there are" in notes[0]
    assert label_counts([16, ALL], 200, info) == ((16, 200), [])
    with pytest.raises(UserError, match="--labels: must be at least 1, not 0"):
        label_counts([0], 200, info)
    with pytest.raises(UserError, match=r"50 labels are too few .fewer than the 77 classes"):
        label_counts([50], 200, many)


# ---- the study ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("model") / "toy", "modernbert")


def toy(model: Path, folder: Path, task: str = "classify", **more: Any) -> FinetuneConfig:
    write = {"tag": write_tags, "span": write_questions}.get(task, write_texts)
    suffix = {"tag": "tsv", "span": "json"}.get(task, "tsv")
    train, test = folder / f"train.{suffix}", folder / f"test.{suffix}"
    if not train.exists():
        write(train, 48, 0)
        write(test, 30, 1)
    extra: dict[str, Any] = {"train": {"budget": "12 steps"}, **more}
    config = toy_config(model, task, train, **extra)
    return config.model_copy(update={"data": config.data.model_copy(update={"test": str(test)})})


@pytest.fixture(scope="module")
def study(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FinetuneConfig, Path]:
    folder = tmp_path_factory.mktemp("study")
    config = toy(model, folder)
    text = (folder / "test.tsv").read_text()
    (folder / "test.tsv").write_text(text + "<b>dull</b> & see http\tgood\t1\n" * 3)
    curves.run(config, folder / "out", labels=[8, ALL], seeds=2, quiet=True, command="selfsup <x>")
    return config, folder / "out"


def test_everything_is_there(study: tuple[FinetuneConfig, Path]) -> None:
    config, out = study
    result = json.loads((out / "result.json").read_text())
    assert result["labels"] == [8, 48]
    assert result["seeds"] == [0, 1]
    assert set(result["scores"]) == {"pretrained", "random", "probe", "tfidf"}
    assert all(len(row) == 2 for rows in result["scores"].values() for row in rows)
    assert result["data"]["to learn from"] == 48
    assert result["data"]["scored"] == 33
    assert result["data"]["scored on"] == result["data"]["watched"] == "the test file"
    page = (out / "report.html").read_text()
    assert "from both starts, scored on the test file along the way." in page
    assert f"seed {result['mistakes']['seed']}, the lower of the middle two." in page
    assert len(result["cells"]) == len(list((out / "cells").iterdir())) == 16
    assert not (out / "work").exists()  # checkpoints are gone
    assert config.select == "best"
    for rows in result["curves"].values():
        for row in rows:
            assert row["step"][-1] == row["score_step"][-1] == 12
            assert row["score_step"][0] == 0
            assert len(row["loss"]) == len(row["step"]) == 12
    for start, rows in result["curves"].items():  # the curve ends at the cell's score
        assert [r["score"][-1] for r in rows] == result["scores"][start][-1]
    assert sum(map(sum, result["mistakes"]["confusion"]["counts"])) == 33


def test_the_figure_says_on_what_it_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    real = figures._tidy

    def tidy(axes: Any, title: str, *rest: Any, **more: Any) -> None:
        titles.append(title)
        real(axes, title, *rest, **more)

    monkeypatch.setattr(figures, "_tidy", tidy)
    (tmp_path / "figures").mkdir()
    row = {"seed": 0, "step": [1, 2], "loss": [1, 0.5], "score_step": [0, 2], "score": [0.5, 0.9]}
    curves_ = {"pretrained": [row], "random": [row]}
    figures.draw_training(tmp_path, curves_, "accuracy", "the test file")
    assert titles == ["Training loss", "Score on the test file (one seed)"]


def test_csv_holds_the_numbers_of_the_result(study: tuple[FinetuneConfig, Path]) -> None:
    out = study[1]
    result = json.loads((out / "result.json").read_text())
    for name, starts in (
        ("labels", ["pretrained", "random", "tfidf"]),
        ("probe", ["pretrained", "probe"]),
    ):
        with open(out / "figures" / f"{name}.csv", newline="") as handle:
            rows = list(csv.DictReader(handle))
        expected = [
            (start, count, seed, value)
            for start in starts
            for count, row in zip(result["labels"], result["scores"][start], strict=True)
            for seed, value in zip(result["seeds"], row, strict=True)
        ]
        found = [(r["start"], int(r["labels"]), int(r["seed"]), float(r["score"])) for r in rows]
        assert found == expected
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000
    with open(out / "figures" / "training.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    losses = [float(r["value"]) for r in rows if (r["start"], r["quantity"]) == ("random", "loss")]
    assert losses == [x for row in result["curves"]["random"] for x in row["loss"]]


def test_the_page_stands_alone_and_escapes(study: tuple[FinetuneConfig, Path]) -> None:
    html = (study[1] / "report.html").read_text(encoding="utf-8")
    assert_self_contained(html)
    assert html.count("data:image/png;base64,") == 3
    assert "<b>" not in html
    assert "selfsup &lt;x&gt;" in html
    result = json.loads((study[1] / "result.json").read_text())
    shown = [row["text"] for row in result["mistakes"]["examples"]]
    assert ("&lt;b&gt;dull&lt;/b&gt; &amp;" in html) == any("<b>" in text for text in shown)
    for part in ("How many labels", "Does it learn faster", "get wrong", "How it was measured"):
        assert part in html


def test_finished_cells_are_not_trained_again(
    study: tuple[FinetuneConfig, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = study
    before = json.loads((out / "result.json").read_text())
    ran: list[str] = []
    real = curve_cells.Bench.run

    def run(self: Any, cell: Any, *rest: Any) -> Any:
        ran.append(cell.name)
        return real(self, cell, *rest)

    monkeypatch.setattr(curve_cells.Bench, "run", run)
    after = curves.run(config, out, labels=[8, ALL], seeds=2, quiet=True)
    assert not ran
    assert after["scores"] == before["scores"]
    # one that is lost or half written comes back with the same numbers, and only it
    (out / "cells" / "pretrained-48-1.json").write_text('{"start": "pre')
    (out / "cells" / "probe-8-0.json").unlink()
    after = curves.run(config, out, labels=[8, ALL], seeds=2, quiet=True)
    assert sorted(ran) == ["pretrained-48-1", "probe-8-0"]
    assert after["scores"] == before["scores"]
    assert after["curves"] == before["curves"]
    ran.clear()
    fewer = curves.run(config, out, labels=[8], seeds=1, quiet=True)
    assert sorted(ran) == ["pretrained-8-0", "random-8-0"]  # their curves were not recorded
    assert fewer["scores"]["pretrained"] == [before["scores"]["pretrained"][0][:1]]


def test_other_settings_and_other_data_are_refused_by_name(
    study: tuple[FinetuneConfig, Path], tmp_path: Path
) -> None:
    config, out = study
    with pytest.raises(UserError, match="a study with another lr lies here; give the same"):
        curves.run(config.model_copy(update={"lr": 0.02}), out, quiet=True)
    with pytest.raises(UserError, match="another scratch_lr"):
        curves.run(config, out, scratch_lr=0.1, quiet=True)
    other = write_texts(tmp_path / "other.tsv", 48, 9)
    data = config.data.model_copy(update={"train": str(other)})
    with pytest.raises(UserError, match="another labelled examples"):
        curves.run(config.model_copy(update={"data": data}), out, quiet=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds other things \('thesis.tex'\)"):
        curves.run(config, tmp_path / "mine", quiet=True)


def test_an_interrupted_study_keeps_what_is_finished(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy(model, tmp_path)
    whole = curves.run(config, tmp_path / "whole", labels=[8], seeds=1, quiet=True)
    real = curve_cells.fit
    calls: list[int] = []

    def fit(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Interrupted("stopped")
        return real(*args, **more)

    monkeypatch.setattr(curve_cells, "fit", fit)
    with pytest.raises(Interrupted):
        curves.run(config, tmp_path / "out", labels=[8], seeds=1, quiet=True)
    assert [p.name for p in (tmp_path / "out" / "cells").iterdir()] == ["pretrained-8-0.json"]
    again = curves.run(config, tmp_path / "out", labels=[8], seeds=1, quiet=True)
    assert len(calls) == 3
    assert again["scores"] == whole["scores"]


def test_a_damaged_cell_is_trained_again(model: Path, tmp_path: Path) -> None:
    config, out = toy(model, tmp_path), tmp_path / "out"
    whole = curves.run(config, out, labels=[8], seeds=1, quiet=True)
    for file, content in zip(
        sorted((out / "cells").iterdir()), (b"[1]", b"{}", b'{"', b"\xff"), strict=False
    ):
        file.write_bytes(content)
    assert curves.run(config, out, labels=[8], seeds=1, quiet=True)["scores"] == whole["scores"]


def test_both_starts_share_settings_unless_told(model: Path, tmp_path: Path) -> None:
    config = toy(model, tmp_path)
    result = curves.run(config, tmp_path / "a", labels=[8], seeds=1, scratch_lr=0.05, quiet=True)
    rates = {c["start"]: c.get("learning_rate") for c in result["cells"]}
    assert rates == {"pretrained": 0.01, "random": 0.05, "probe": None, "tfidf": None}
    assert len({c["steps"] for c in result["cells"] if "steps" in c}) == 1


@pytest.mark.parametrize("task", ["regress", "tag", "span"])
def test_other_tasks(model: Path, tmp_path: Path, task: str) -> None:
    more: dict[str, Any] = {"data": {"label_column": "number"}} if task == "regress" else {}
    config = toy(model, tmp_path, task, **more)
    result = curves.run(config, tmp_path / "out", labels=[16], seeds=1, quiet=True)
    texts = task == "regress"
    assert ("tfidf" in result["scores"]) == ("probe" in result["scores"]) == texts
    assert ("lookup" in result["scores"]) == (task == "tag")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ("most frequent tag" in page) == (task == "tag")
    assert result["unit"] == {"tag": "sentences", "span": "questions"}.get(task, "labels")
    assert result["unit"] in page
    if task != "tag":
        assert result["mistakes"]["examples"]


def test_the_sample_alone_sets_the_scale_of_numbers(model: Path, tmp_path: Path) -> None:
    config = toy(model, tmp_path, "regress", data={"label_column": "number"})
    material = read_material(config, 64)
    same = [e for e in material.pool if isinstance(e, TextExample) and e.label == 900.5][:4]
    info, _ = sample_info(material, same)
    assert info.scale == (900.5, 1.0)


def test_roles_of_the_files(model: Path, tmp_path: Path) -> None:
    config = toy(model, tmp_path)
    train, test = config.data.train, config.data.test

    def material(**data: str) -> Any:
        changed = config.data.model_copy(update={"test": "", **data})
        return read_material(config.model_copy(update={"data": changed}), 64)

    only = material(test=test)
    assert (len(only.pool), len(only.test), only.scored_on) == (48, 30, "the test file")
    dev = material(dev=test)
    assert (len(dev.pool), len(dev.test), dev.scored_on) == (48, 30, "the dev file")
    both = material(dev=train, test=test)
    assert (len(both.test), len(both.watched)) == (30, 48)
    assert (both.scored_on, both.watched_on) == ("the test file", "the dev file")
    assert (only.watched_on, dev.watched_on) == ("the test file", "the dev file")
    none = material()
    assert none.watched_on == "held-out examples"
    assert len(none.pool) + len(none.test) == 48
    assert 8 <= len(none.test) <= 10
    assert not {e.where for e in none.pool} & {e.where for e in none.test}
    assert none.scored_on.startswith("a fifth")


def test_a_class_of_one_example_stays_to_be_learned_from(model: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = [f"the film is {rng.choice(['fine', 'dull'])} {i}\t{'ab'[i % 2]}" for i in range(40)]
    path = tmp_path / "t.tsv"
    path.write_text("text\tlabel\n" + "\n".join([*lines, "lonely\tc"]) + "\n")
    material = read_material(toy_config(model, "classify", path), 64)
    assert any(getattr(e, "label", "") == "c" for e in material.pool)
    assert material.info.labels == ("a", "b", "c")


def test_bad_input(model: Path, tmp_path: Path) -> None:
    config = toy(model, tmp_path)
    out = tmp_path / "out"
    for change, message in (
        (
            {"metric": "acuracy"},
            "metric: 'acuracy' is no score of this task; did you mean 'accuracy'",
        ),
        ({"scratch": True}, "--scratch: the study trains from both starts"),
    ):
        with pytest.raises(UserError, match=message):
            curves.run(config.model_copy(update=change), out, quiet=True)
    with pytest.raises(UserError, match="--seeds: must be at least 1, not 0"):
        curves.run(config, out, seeds=0, quiet=True)
    with pytest.raises(UserError, match=r"1 labels are too few .fewer than the 2 classes"):
        curves.run(config, out, labels=[1], quiet=True)


def test_the_command(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = toy(model, tmp_path)
    words = ["study", "curves", str(model), "--task", "classify", "--train", config.data.train]
    words += ["--test", config.data.test, "--lr", "0.01", "--epochs", "0", "--precision", "fp32"]
    words += ["--train.budget", "4 steps", "--seeds", "1", "--device", "cpu"]
    words += ["--out", str(tmp_path / "out")]
    assert command_line([*words, "--labels", "8,x"]) == 2
    assert "--labels: 'x' is no number of labels; like 16,64,256,all" in capsys.readouterr().err
    assert command_line([*words, "--labels", "8,9999", "-q"]) == 0
    out = capsys.readouterr().out
    assert "TF-IDF" in out
    assert "report.html" in out
    assert command_line([*words, "--labels", "8,all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == [8, 48]


def test_pairs_and_weighted_classes(tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "toy", "bert")  # tells the first text from the second
    rng = random.Random(0)
    lines = ["text\tother\tlabel"]
    for i in range(40):
        word = rng.choice(["fine", "dull"])
        lines.append(f"the film is {word}\tthe song is {rng.choice(['fine', 'dull'])}\t{i % 4 > 0}")
    (tmp_path / "t.tsv").write_text("\n".join(lines) + "\n")
    more = {"data": {"pair_column": "other"}, "train": {"budget": "4 steps"}}
    config = toy_config(model, "pairs", tmp_path / "t.tsv", class_weights="balanced", **more)
    result = curves.run(config, tmp_path / "out", labels=[4], seeds=1, quiet=True)
    assert set(result["scores"]) == {"pretrained", "random", "probe", "tfidf"}
    assert result["data"]["to learn from"] + result["data"]["scored"] == 40
    assert any("held out" in line for line in result["notes"])
    assert any("among those to learn from" in line for line in result["notes"])
    assert "second text" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    material = read_material(config, 64)
    order = sample_order(material.pool, "class", 0)
    few = [material.pool[i] for i in order[:4]]
    _, weights = sample_info(material, few)  # type: ignore[arg-type]
    assert weights is not None
    assert weights.tolist() == [1.0, 1.0]  # balanced already, whatever the file is


def test_one_number_of_labels_says_nothing_of_savings() -> None:
    scores = {"pretrained": [[0.9, 0.8]], "random": [[0.6, 0.7]]}
    said = finding([64], scores, metric="accuracy")  # type: ignore[arg-type]
    assert "ahead" in said.text
    assert "fewer" not in said.text
