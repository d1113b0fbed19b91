"""A word in its contexts: floors, a control, and what is refused."""

from __future__ import annotations

import csv
import json
import random
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from selfsup.cli.app import main
from selfsup.studies import contexts
from selfsup.studies.contexts import _finding, nearest_accuracy
from selfsup.uses import plotting
from selfsup.uses.word_vectors import likeness
from tests.tasks.toy import BAD, GOOD, THINGS, write_encoder

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("toy") / "encoder")


def write_senses(path: Path, count: int = 40) -> Path:
    """`film` is dull or lovely; `the` and `is` stand in all."""
    draws = random.Random(0)
    rows = ["text\tlabel"]
    for number in range(count):
        words, sense = (GOOD, "good") if number % 2 else (BAD, "bad")
        body = " and ".join(draws.sample(words, 2))
        rows.append(f"the film is {body}{' .' * (number // 2)}\t{sense}")
    rows.append("the song is warm\tgood")
    path.write_text("\n".join(rows) + "\n")
    return path


def study(encoder: Path, data: Path, out: Path, *more: str) -> int:
    return main(
        ["study", "contexts", str(encoder), "--data", str(data), "--out", str(out), "--word", *more]
    )


def test_numbers_figure_and_tables(encoder: Path, tmp_path: Path, capsys: Capture) -> None:
    data, out = write_senses(tmp_path / "senses.tsv"), tmp_path / "out"
    assert study(encoder, data, out, "film", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((out / "result.json").read_text())
    assert result["texts"] == {"bad": 20, "good": 20}
    assert (result["chance"], result["control"], result["texts with the control"]) == (
        0.5,
        "is",
        40,
    )
    assert {name: len(rows) for name, rows in result["layers"].items()} == {
        "word": 3,
        "control": 3,
        "random weights": 3,
    }
    assert result["words around"] == 1.0  # the adjectives tell all
    assert (out / "figures" / "contexts.png").read_bytes()[1:4] == b"PNG"
    with open(out / "figures" / "contexts.csv", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert [float(r["accuracy"]) for r in table if r["series"] == "word"] == [
        row["accuracy"] for row in result["layers"]["word"]
    ]
    with open(out / "figures" / "places.csv", newline="") as lines:
        places = list(csv.DictReader(lines))
    assert len(places) == 40
    assert all(row["text"] != row["nearest text"] for row in places)
    assert {row["text"][int(row["begin"]) : int(row["end"])] for row in places} == {"film"}
    told = {
        s: [r["nearest sense"] == s for r in places if r["sense"] == s] for s in ("bad", "good")
    }
    last = result["layers"]["word"][-1]["accuracy"]
    assert np.isclose(np.mean([np.mean(v) for v in told.values()]), last)

    again = study(encoder, data, out, "film", "--control", "the")
    assert again == 2
    assert "a study with another control lies here" in capsys.readouterr().err
    assert study(encoder, data, out, "film", "--control", "the", "--overwrite") == 0
    shown = capsys.readouterr().out
    assert "'the', a word of the same texts" in shown
    assert "random weights" in shown


def test_copies_of_a_text_are_no_neighbours(encoder: Path, tmp_path: Path, capsys: Capture) -> None:
    data = write_senses(tmp_path / "senses.tsv", 12)
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert study(encoder, data, once, "film", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines, *lines[1:]]) + "\n")
    assert study(encoder, data, twice, "film", "--json") == 0
    assert json.loads(capsys.readouterr().out)["layers"] == plain["layers"]


def test_texts_count_once_and_not_with_two_labels(
    encoder: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = write_senses(tmp_path / "senses.tsv", 12)
    assert study(encoder, data, tmp_path / "plain", "film", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    with open(data, "a") as lines:
        lines.write("the film is the film\tgood\nthe film is the film\tbad\n")
    assert study(encoder, data, tmp_path / "both", "film", "--json") == 0
    both = json.loads(capsys.readouterr().out)
    assert both["notes"] == ["1 text stands there with more than one label: left out"]
    for key in ("layers", "words around", "texts"):
        assert both[key] == plain[key]


def test_of_many_texts_some_are_drawn(
    encoder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "_MOST", 12)
    data = write_senses(tmp_path / "senses.tsv", 60)
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines, "the film was\trare", "film was the\trare"]) + "\n")
    assert study(encoder, data, tmp_path / "out", "film", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["texts"] == {"bad": 4, "good": 4, "rare": 2}
    assert result["notes"] == ["10 of the texts with 'film' are compared, drawn at random"]


def test_a_word_that_the_tokenizer_drops(encoder: Path, tmp_path: Path, capsys: Capture) -> None:
    data = tmp_path / "marks.tsv"
    rows = [f"a \u200d b {n}\t{'good' if n % 2 else 'bad'}" for n in range(8)]
    data.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    assert study(encoder, data, tmp_path / "out", "\u200d") == 2
    assert "stands in none of the texts" in capsys.readouterr().err


def test_a_control_stands_in_texts_of_every_sense(
    encoder: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = tmp_path / "three.tsv"
    rows = [
        f"the film is {how} {'and' if sense != 'c' else 'or'} {number}\t{sense}"
        for number, (sense, how) in enumerate(zip("abcabcabc", [*GOOD, *BAD], strict=False))
    ]
    data.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    assert study(encoder, data, tmp_path / "out", "film", "--control", "and") == 2
    assert "'and' stands in 0 texts labelled 'c'" in capsys.readouterr().err
    assert study(encoder, data, tmp_path / "out", "film", "--control", "film") == 2
    assert "hold one another" in capsys.readouterr().err


def test_labels_of_any_kind_are_drawn(encoder: Path, tmp_path: Path, capsys: Capture) -> None:
    names = ["$\\bad{$", "_hidden", "x" * 90, "果", *(f"sense {n}" for n in range(20))]
    rows = [f"the film is {how}\t{name}" for name in names for how in (GOOD[0], BAD[0])]
    data = tmp_path / "odd.tsv"
    lines = [row.replace("is", f"is {n}") for n, row in enumerate(rows)]
    data.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert study(encoder, data, tmp_path / "out", "film") == 0
    assert (tmp_path / "out" / "figures" / "contexts.png").is_file()
    assert len(json.loads((tmp_path / "out" / "result.json").read_text())["texts"]) == 24


def test_a_control_has_its_vowel_signs(encoder: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = [f"घर में film {how} {n}\t{n % 2}" for n, how in enumerate([*GOOD, *BAD])]
    data = tmp_path / "hindi.tsv"
    data.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    assert read_with_control(encoder, data, tmp_path / "out", capsys) in ("में", "घर")


def read_with_control(encoder: Path, data: Path, out: Path, capsys: Capture) -> str:
    assert study(encoder, data, out, "film", "--json") == 0
    return str(json.loads(capsys.readouterr().out)["control"])


def test_names_that_no_font_has_are_told(
    encoder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotting, "_characters", lambda: frozenset(range(0x250)))
    rows = [
        f"the film is {how} {n}\t{'अर्थ' if n % 2 else 'good'}" for n, how in enumerate(GOOD + BAD)
    ]
    data = tmp_path / "hindi.tsv"
    data.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    assert study(encoder, data, tmp_path / "out", "film", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["stand-ins"] == {"sense 2": "अर्थ"}
    assert any("'sense 2' is 'अर्थ'" in line for line in result["notes"])
    assert result["texts"] == {"good": 5, "अर्थ": 5}


def test_bad_input(encoder: Path, tmp_path: Path, capsys: Capture) -> None:
    data = write_senses(tmp_path / "senses.tsv")
    cases = [
        (["house"], "'house' stands in none of the texts"),
        (["song"], "'song' stands in texts of one label alone, 'good'"),
        (["  "], "no word"),
        (["film", "--control", "house"], "'house' stands in none of the texts"),
        (["film", "--control", "song"], "'song' stands in none of the texts"),
        (["film", "--label-column", "kind"], "no column 'kind'"),
    ]
    for words, message in cases:
        out = tmp_path / "refused"
        assert study(encoder, data, out, *words) == 2, words
        printed = capsys.readouterr()
        assert printed.out == ""
        *_, last = printed.err.splitlines()
        assert message in last, words
        assert not out.exists()
    few = tmp_path / "few.tsv"
    few.write_text("text\tlabel\nthe film is dull\tbad\nthe film is warm\tgood\nthe film\tgood\n")
    assert study(encoder, few, tmp_path / "refused", "film") == 2
    assert "stands in 1 text labelled 'bad', 2 at least are needed" in capsys.readouterr().err


def test_without_a_common_word_there_is_no_control(
    encoder: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = tmp_path / "bare.tsv"
    rows = [f"film {a} {b}\tbad" for a, b in pairwise(BAD)]
    rows += [f"film {a} {b}\tgood" for a, b in pairwise(GOOD)]
    data.write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    assert study(encoder, data, tmp_path / "out", "film", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["control"], set(result["layers"])) == ("", {"word", "random weights"})
    assert "No control word was found" in result["finding"]


def test_nearest_accuracy_is_a_mean_over_senses() -> None:
    near = np.full((5, 5), -1.0)
    for place, nearest in enumerate((1, 0, 4, 0, 2)):
        near[place, nearest] = 0.5
    # all four a are nearest to an a, the lone b is not
    assert nearest_accuracy(near, np.array(["a", "a", "a", "b", "a"])) == 0.5
    assert nearest_accuracy(near, np.array(["a", "b", "a", "a", "b"])) == (1 / 3 + 0) / 2


def test_likeness_is_of_what_is_not_common() -> None:
    far = 1000 + np.array([[1, 0], [-1, 0], [2, 0.0], [-2, 0]], np.float32)
    np.testing.assert_allclose(likeness(far)[0], [1, -1, 1, -1], atol=1e-6)
    assert not likeness(np.full((3, 4), 7, np.float32)).any()
    rows = np.random.default_rng(0).normal(size=(9, 4)) + 3
    np.testing.assert_allclose(likeness(rows), cosine_similarity(rows - rows.mean(0)))


def test_the_sentence_says_where_the_word_is_ahead() -> None:
    def result(word: list[float], control: list[float]) -> dict[str, Any]:
        layers = {
            "word": [{"accuracy": x} for x in word],
            "control": [{"accuracy": x} for x in control],
            "random weights": [{"accuracy": 0.5} for _ in word],
        }
        return {
            "word": THINGS[0],
            "control": "the",
            "chance": 0.5,
            "words around": 0.8,
            "layers": layers,
        }

    ahead = _finding(result([0.5, 0.9, 0.95], [0.5, 0.6, 0.94]))
    assert "has its sense in 95%" in ahead
    assert "furthest ahead of it after layer 1 (90% against 60%)" in ahead
    level = _finding(result([0.5, 0.9, 0.95], [0.5, 0.89, 0.97]))
    assert "in no layer is the word's own vector clearly ahead" in level
