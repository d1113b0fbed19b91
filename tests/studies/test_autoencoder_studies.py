"""The studies of auto-encoders, small: they run, resume, compare with floors and refuse bad input."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from selfsup.cli.app import main
from selfsup.studies import capacity, codebook, figures
from selfsup.studies.autoencoder_figures import draw_codebook, draw_denoising
from selfsup.studies.denoising import gain, probe
from selfsup.studies.dimensions import _finding, principal_error
from selfsup.training.loop import Loop


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    found = load_digits()
    np.savez(path, images=(found.images[:300] * 15.9).astype(np.uint8), label=found.target[:300])
    return path


def study(verb: str, digits: Path, out: Path, *words: str) -> int:
    given = ["--data", str(digits), "--key", "images", "--steps", "8", "--out", str(out), "--json"]
    if "--labels" not in words:
        np.save(digits.with_name("images.npy"), np.load(digits)["images"])
        given[1:4] = [str(digits.with_name("images.npy"))]
    return main(["study", verb, *given, *words])


def test_dimensions_compares_with_pca_and_goes_on(
    digits: Path, tmp_path: Path, capsys: Any
) -> None:
    words = ("--sizes", "2,4", "--seeds", "2")
    assert study("dimensions", digits, tmp_path, *words) == 0
    first = json.loads(capsys.readouterr().out)
    assert [row["size"] for row in first["table"]] == [2, 4]
    assert all(0 < row["pca"] < row["mean"] for row in first["table"])
    assert (tmp_path / "figures" / "dimensions.png").read_bytes()[1:4] == b"PNG"
    assert len((tmp_path / "figures" / "dimensions.csv").read_text().splitlines()) == 5
    kept = sorted((tmp_path / "cells").iterdir())
    times = [file.stat().st_mtime_ns for file in kept]
    kept[0].unlink()
    assert study("dimensions", digits, tmp_path, *words) == 0
    assert json.loads(capsys.readouterr().out) == first  # the lost training came back the same
    assert [file.stat().st_mtime_ns for file in kept[1:]] == times[1:]
    assert study("dimensions", digits, tmp_path, "--sizes", "3") == 2
    assert "a study with another" in capsys.readouterr().err


def test_the_finding_names_a_size_once(digits: Path, tmp_path: Path, capsys: Any) -> None:
    assert (
        study("dimensions", digits, tmp_path, "--sizes", "2,100,2") == 0
    )  # 64 pixels: no PCA with 100
    result = json.loads(capsys.readouterr().out)
    assert [row["size"] for row in result["table"]] == [2, 100]
    assert result["finding"].endswith("x PCA's with 2.")
    rows = [{"size": size, "auto-encoder": 1.0, "pca": 2.0 * size} for size in (1, 2)]
    assert _finding(rows).endswith(
        "with 1, 2 numbers; it is 0.50 x PCA's with 1 and 0.25 x with 2."
    )


def test_codebook_follows_usage_over_training(digits: Path, tmp_path: Path, capsys: Any) -> None:
    assert study("codebook", digits, tmp_path) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["quantizer"] for row in result["table"]] == ["fsq", "vq", "vq-bare"]
    for row in result["table"]:
        assert 1 <= row["perplexity"] <= row["usage"] * 240 + 1e-6
        assert row["dead"] == 240 - round(row["usage"] * 240)
    cell = json.loads(next((tmp_path / "cells").iterdir()).read_text())
    steps = [look["step"] for look in cell["looks"]]
    assert steps[0] == 0
    assert steps[-1] == 8
    assert len(steps) > 3


def test_a_stopped_study_says_that_it_goes_on(
    digits: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, seen = Loop.step, []

    def watched(self: Loop) -> Any:
        seen.append(self)
        if len(seen) == 12:  # in the second training
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Loop, "step", watched)
    words = ("--quantizers", "fsq,vq")
    assert study("codebook", digits, tmp_path, *words) == 130
    said = capsys.readouterr().err.splitlines()[-1]
    at = "stopped at 2 of 2, quantizer vq, seed 0"
    assert said == f"selfsup: {at}; the same command begins that one anew and goes on"
    assert len(list((tmp_path / "cells").iterdir())) == 1
    del seen[:]
    monkeypatch.setattr(Loop, "step", step)
    assert study("codebook", digits, tmp_path, *words) == 0


def test_after_overwrite_a_stopped_study_says_to_leave_it_out(
    digits: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop.step

    def watched(self: Loop) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self)

    monkeypatch.setattr(Loop, "step", watched)
    assert study("codebook", digits, tmp_path, "--quantizers", "fsq", "--overwrite") == 130
    said = capsys.readouterr().err.splitlines()[-1]
    then = "the same command without --overwrite begins that one anew and goes on"
    assert said == f"selfsup: stopped at 1 of 1, quantizer fsq, seed 0; {then}"


@pytest.mark.parametrize("verb", ["dimensions", "codebook", "denoising"])
def test_other_data_under_the_same_name_is_another_study(
    verb: str, tmp_path: Path, capsys: Any
) -> None:
    flags = {"dimensions": "--sizes=2", "codebook": "--quantizers=fsq", "denoising": "--noises=0"}
    data, labels, out = tmp_path / "x.npy", tmp_path / "y.npy", tmp_path / "out"
    images = (load_digits().images[:60] * 15.9).astype(np.uint8)
    given = ["study", verb, "--data", str(data), "--steps", "2", "--out", str(out), flags[verb]]
    given += ["--labels", str(labels)] if verb == "denoising" else []
    np.save(data, images)
    np.save(labels, load_digits().target[:60] % 2)
    assert main(given) == 0
    before = {file: file.read_bytes() for file in out.rglob("*.json")}
    assert main(given) == 0
    np.save(data, images[::-1])
    assert main(given) == 2
    assert "a study with another digest of the data lies here" in capsys.readouterr().err
    if verb == "denoising":
        np.save(data, images)
        np.save(labels, load_digits().target[:60] % 3)
        assert main(given) == 2
    assert {file: file.read_bytes() for file in out.rglob("*.json")} == before
    assert main([*given, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("cells", b'{"size": 2', "is damaged: not valid JSON"),
        ("cells", b"[1]", "is damaged: not a JSON object"),
        ("cells", b'{"size": 2, "seed": 0}', "is damaged: no seconds"),
        ("study.json", b"[]", "is damaged: not a JSON object"),
        ("study.json", b"\xff", "is damaged: not valid JSON"),
    ],
)
def test_damaged_files_of_a_study_are_named(
    digits: Path, tmp_path: Path, capsys: Any, file: str, content: bytes, said: str
) -> None:
    assert study("dimensions", digits, tmp_path, "--sizes", "2") == 0
    path = tmp_path / file if file == "study.json" else next((tmp_path / file).iterdir())
    path.write_bytes(content)
    capsys.readouterr()
    assert study("dimensions", digits, tmp_path, "--sizes", "2") == 2
    line = capsys.readouterr().err
    assert line.startswith(f"selfsup: {path}: {said}")
    assert line.count("\n") == 1
    if file == "cells":
        assert line.endswith("; remove it, and the same command makes it again\n")
        path.unlink()
        assert study("dimensions", digits, tmp_path, "--sizes", "2") == 0


def test_codebook_refuses_texts_and_warns_of_words_that_do_not_repeat(
    tmp_path: Path, capsys: Any
) -> None:
    texts, table = tmp_path / "texts.jsonl", tmp_path / "table.jsonl"
    rows = [{"text": f"the text of number {n}"} for n in range(40)]
    texts.write_text("\n".join(json.dumps(row) for row in rows))
    table.write_text("\n".join(json.dumps({**row, "x": n % 7}) for n, row in enumerate(rows)))
    given = ["study", "codebook", "--steps", "2", "--quantizers", "fsq", "--data"]
    assert main([*given, str(texts), "--out", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert (
        "texts.jsonl: no column repeats, so there is nothing to learn: column 'text' has" in error
    )
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()
    assert main([*given, str(table), "--out", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().err
    assert "column 'text' has" in said
    assert "--ignore 'text' leaves it out" in said
    again = [*given, str(table), "--ignore", "text", "--out", str(tmp_path / "other")]
    assert main(again) == 0
    assert "column 'text'" not in capsys.readouterr().err


def test_one_code_in_use_is_not_none() -> None:
    row = {"quantizer": "vq", "usage": 1 / 240, "perplexity": 1.0, "squared_error": 0.5}
    assert "VQ: 1 of 240 codes used, perplexity 1" in codebook._finding([row], 10)


def test_the_legend_of_codebook_lies_across_no_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, _path: drawn.append(figure))
    look = {"usage": 0.5, "perplexity": 100.0, "dead": 120, "squared_error": 0.1}
    looks = [{"step": step, **look} for step in (0, 10)]
    rows = [{"quantizer": name, "seed": 0, "looks": looks} for name in codebook.QUANTIZERS]
    draw_codebook(tmp_path, rows, codebook.QUANTIZERS)
    (figure,) = drawn
    assert not any(panel.get_legend() for panel in figure.axes)
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == list(codebook.QUANTIZERS.values())


def test_denoising_gains_and_probes(digits: Path, tmp_path: Path, capsys: Any) -> None:
    words = ("--labels", "label", "--noises", "0,0.4", "--code-size", "8")
    assert study("denoising", digits, tmp_path, *words) == 0
    result = json.loads(capsys.readouterr().out)
    none, some = result["table"]
    assert "gain" not in none
    assert some["gain_pca"] > 0
    assert none["probe_input"] == some["probe_input"] > some["largest_class"]
    assert 0 < some["probe"] <= 1


def test_gain_probe_and_components_know_their_controls() -> None:
    random = np.random.default_rng(0)
    clean = random.random((50, 12)).astype(np.float32)
    noisy = clean + random.normal(0, 0.3, clean.shape).astype(np.float32)
    assert gain(noisy, noisy, clean) == 0
    assert gain(noisy, clean + (noisy - clean) / 10, clean) == pytest.approx(20, abs=0.01)
    labels = np.array(["a", "b"] * 100)
    apart = np.where(labels == "a", 1.0, -1.0)[:, None]
    assert probe(apart, labels, apart, labels) == 1
    guess = probe(random.normal(size=(200, 1)), labels, random.normal(size=(200, 1)), labels)
    assert guess is not None
    assert 0.3 < guess < 0.7
    assert probe(apart[::2], labels[::2], apart, labels) is None
    line = (random.normal(size=(40, 1)) * np.ones((1, 5))).astype(np.float32)
    assert principal_error(line, line, 1) == pytest.approx(0, abs=1e-9)
    assert principal_error(line, line, 5) is None  # as many as there are values
    assert principal_error(line[:3], line, 4) is None


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("dimensions", ["--sizes", "2,x"], "'x' is no whole number"),
        ("dimensions", ["--sizes", "2.5"], "'2.5' is no whole number"),
        ("dimensions", ["--sizes", "0"], "whole numbers from 1"),
        ("dimensions", ["--seeds", "0"], "at least 1"),
        ("codebook", ["--quantizers", "vp"], "did you mean 'vq'"),
        ("denoising", ["--noises", "nan"], "'nan' is no number"),
        ("denoising", ["--noises", "inf"], "'inf' is no number"),
        ("denoising", ["--noises", "-1"], "numbers from 0"),
        ("denoising", ["--size", "2"], "at least 4"),
    ],
)
def test_bad_input_is_one_line(
    verb: str, words: list[str], message: str, digits: Path, tmp_path: Path, capsys: Any
) -> None:
    assert study(verb, digits, tmp_path / "new", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_table_with_words_is_refused(tmp_path: Path, capsys: Any) -> None:
    lines = ["a,b", *(f"{i},{'x' if i % 2 else 'y'}" for i in range(40))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    given = [
        "study",
        "dimensions",
        "--data",
        str(tmp_path / "t.csv"),
        "--steps",
        "2",
        "--sizes",
        "1",
    ]
    assert main([*given, "--out", str(tmp_path / "s"), "--json"]) == 2
    assert "words or gaps" in capsys.readouterr().err
    given = [*given, "--ignore", "b", "--out", str(tmp_path / "n"), "--json"]
    assert main(given) == 0


def test_the_finding_of_capacity_says_what_the_numbers_say() -> None:
    rows = {
        size: {"auroc": auroc, "floor": 81.0, "error_seen": 0.1, "error_unseen": 4.0 / size}
        for size, auroc in ((1, 70.0), (4, 80.0), (16, 75.0))
    }
    said = capacity.finding(rows)
    assert "best with 4 numbers in the code (AUROC 80.0). With 16 the AUROC is 75.0" in said
    assert "25% of that with 4. Principal components are better (AUROC 81.0)." in said
    del rows[16]
    said = capacity.finding(rows)
    assert "best with 4 numbers in the code, the most that were tried (AUROC 80.0)." in said
    assert "of that with" not in said
    said = capacity.finding({1: {**rows[1], "floor": 60.0}})
    assert "best with 1 number in the code (AUROC 70.0). Principal components are no better" in said


def test_the_figure_of_denoising_has_no_empty_half(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rows = [{"noise": noise, "seed": 0, "gain": 10 * noise} for noise in (0.2, 0.4)]
    wide = image.open(draw_denoising(tmp_path / "a", [{**row, "probe": 0.5} for row in rows]))
    assert image.open(draw_denoising(tmp_path / "b", rows)).width < 0.6 * wide.width
