from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfsup.autoencoder_config import ObservationConfig
from selfsup.cli.app import main
from selfsup.data.observations import read_observations
from selfsup.studies import detection
from selfsup.studies.detection_scores import judge, write_scores
from selfsup.uses.detection.estimators import AutoEncoderDetector
from selfsup.uses.detection.folder import load_detector


def write(path: Path, columns: dict[str, Any]) -> str:
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    return str(path)


def table(count: int, seed: int, strange: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    size = random.normal(size=count)
    weight = 2 * size + 0.1 * random.normal(size=count)
    label = np.zeros(count, int)
    if strange:
        weight[:strange] += 9
        label[:strange] = 1
    kind = random.choice(["red", "blue"], count)
    return {"size": size, "weight": weight, "kind": kind, "truth": label}


def test_fit_and_score_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "train.csv", table(300, 0))
    new = table(120, 1, strange=12)
    data = write(tmp_path / "new.csv", {name: new[name] for name in reversed(new)})
    det, out = str(tmp_path / "det"), tmp_path / "scores.csv"
    assert main(["detect", "fit", "-d", train, "--label-column", "truth", "--out", det]) == 0
    assert {p.name for p in Path(det).iterdir()} >= {"report.html", "result.json", "detector.json"}
    capsys.readouterr()
    command = ["detect", "score", det, "-d", data, "--label-column", "truth"]
    assert main([*command, "-o", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    names = [row["detector"] for row in result["table"]]
    assert names == ["ours", "PCA", "nearest neighbours", "isolation forest"]
    assert result["table"][0]["auroc"] > 95
    with open(out) as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 120
    assert lines[0]["flag"] == "1"
    assert float(lines[0]["p_value"]) < 0.05
    assert lines[0]["columns"].startswith("weight")
    page = Path(result["report"]).read_text()
    assert "isolation forest" in page
    assert "http" not in page.replace("https://", "").split("<body>")[1]
    assert main([*command, "-o", str(out)]) == 2
    before = Path(data).read_bytes()
    assert main([*command, "-o", data, "--overwrite"]) == 2
    assert "is the file that is read; name another" in capsys.readouterr().err
    assert Path(data).read_bytes() == before
    assert main([*command, "-o", str(tmp_path / "scores.npy")]) == 2
    assert "must end in .csv" in capsys.readouterr().err


def test_shares_are_of_all_rows_where_floors_see_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = write(tmp_path / "train.csv", table(300, 0))
    data = write(tmp_path / "new.csv", table(120, 1, strange=50))
    det, out = str(tmp_path / "det"), tmp_path / "scores.csv"
    monkeypatch.setattr(detection, "_REPORTED", 40)
    fit = ["detect", "fit", "-d", train, "--label-column", "truth", "--out", det, "--json"]
    assert main(fit) == 0
    result = json.loads(capsys.readouterr().out)
    rows = read_observations(ObservationConfig(path=train, labels="truth")).values
    share = (load_detector(det).predict(rows) == -1).mean()
    assert (result["rows"], result["measured_on"]) == (300, 40)
    assert result["flagged_share"] == share
    score = ["detect", "score", det, "-d", data, "--label-column", "truth", "-o", str(out)]
    assert main([*score, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    with open(out) as file:
        lines = list(csv.DictReader(file))
    assert result["flagged_share"] == sum(int(line["flag"]) for line in lines) / 120
    assert (result["rows"], result["measured_on"]) == (120, 40)
    page = Path(result["report"]).read_text()
    assert "of 120 rows are flagged" in page
    assert "measured on 40 of the rows, drawn at random" in page
    strangest = max(lines, key=lambda line: float(line["score"]))
    assert f'<td class="number">{strangest["row"]}</td>' in page.split("strangest rows")[1]
    monkeypatch.undo()
    assert main([*score, "--json", "--overwrite"]) == 0
    assert "measured_on" not in json.loads(capsys.readouterr().out)


def test_numbers_are_read_as_numbers_and_identifiers_as_they_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A learned column may be copied, and texts of columns that were not learned are not kept."""
    columns = table(60, 0) | {"code": [f"{i:03}" for i in range(60)]}
    train = write(tmp_path / "train.csv", columns)
    det, out = str(tmp_path / "det"), tmp_path / "scores.csv"
    assert main(["detect", "fit", "-d", train, "--out", det, "--json"]) == 0
    new = write(tmp_path / "new.csv", columns | {"note": ["a text"] * 60})
    seen: list[dict[str, Any]] = []
    compare = detection._compare

    def watched(detector: Any, rows: Any, found: Any, observations: Any) -> Any:
        seen.append({name: column.dtype for name, column in observations.values.items()})
        return compare(detector, rows, found, observations)

    monkeypatch.setattr(detection, "_compare", watched)
    score = ["detect", "score", det, "-d", new, "-o", str(out)]
    assert main([*score, "--id-column", "code"]) == 0
    with open(out) as file:
        assert [line["code"] for line in csv.DictReader(file)] == columns["code"]
    assert main([*score, "--overwrite"]) == 0
    numbers = dict.fromkeys(("size", "weight", "truth", "code"), np.dtype(np.float64))
    assert seen == 2 * [numbers | {"kind": np.dtype(object)}]


def test_scoring_and_writing_tell_how_far_they_are(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(5000, 2))
    detector = AutoEncoderDetector(steps=1).fit(rows[:50])
    judged: list[int] = []
    found = judge(detector, rows, judged.append)
    assert judged == [5000]
    written: list[int] = []
    path = tmp_path / "scores.csv"
    write_scores(path, detector, found, {}, written.append)
    assert written == [4096, 5000]
    with open(path) as file:
        lines = list(csv.DictReader(file))
    shares = detector.explain(rows)
    for row in (0, 4095, 4096, 4999):
        first, second = np.argsort(-shares[row])
        said = f"{first} {shares[row, first]:.0%}; {second} {shares[row, second]:.0%}"
        assert lines[row]["columns"] == said


def test_images_have_heat_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    base = np.linspace(0, 200, 12)[:, None] + np.zeros((12, 12))
    images = (base + random.normal(0, 5, (200, 12, 12))).clip(0, 255).astype(np.uint8)
    np.savez(tmp_path / "train.npz", images=images)
    images[0, 4:7, 4:7] = 255
    np.savez(tmp_path / "new.npz", images=images[:50])
    det = str(tmp_path / "det")
    assert main(["detect", "fit", "-d", str(tmp_path / "train.npz"), "-o", det]) == 0
    score = ["detect", "score", det, "-o", str(tmp_path / "s.csv"), "-d"]
    assert main([*score, str(tmp_path / "new.npz")]) == 0
    report = tmp_path / "s-report"
    assert (report / "figures" / "heat-maps.png").is_file()
    rows = list(csv.reader(open(report / "figures" / "heat-maps.csv")))  # noqa: SIM115
    assert rows[1][0] == "1"
    np.savez(tmp_path / "fractions.npz", images=images[:50] / 255)
    capsys.readouterr()
    assert main([*score, str(tmp_path / "fractions.npz"), "--overwrite"]) == 2
    assert "the model takes 0 to 255; multiply them by 255" in capsys.readouterr().err
    np.savez(tmp_path / "other.npz", images=images[:, :8])
    capsys.readouterr()
    assert main([*score, str(tmp_path / "other.npz"), "--overwrite"]) == 2
    assert "images of 12 x 8 with 1 channel, the model takes 12 x 12" in capsys.readouterr().err


def test_pictures_are_scored_as_they_were_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The size and the channels are said once, at fitting."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(24):
        pixels = random.integers(0, 100, (10 + i % 3, 14, 3)).astype(np.uint8)
        image.fromarray(pixels).save(folder / f"{i:02}.png")
    fit = ["detect", "fit", "--data", str(folder), "--out", str(tmp_path / "det")]
    assert main(fit) == 2
    assert (
        "scaled to one size (`--size 64`, in training of an auto-encoder `--data.size 64`)"
        in capsys.readouterr().err
    )
    assert main([*fit, "--size", "3"]) == 2
    assert "--size: must be at least 4" in capsys.readouterr().err
    assert main([*fit, "--size", "8", "--color", "grey"]) == 0
    out = tmp_path / "scores.csv"
    score = ["detect", "score", str(tmp_path / "det"), "--data", str(folder), "-o"]
    assert main([*score, str(out)]) == 0
    assert len(out.read_text().splitlines()) == 25
    (tmp_path / "mine-report").mkdir()
    assert main([*score, str(tmp_path / "mine.csv")]) == 2
    assert "mine-report: exists already" in capsys.readouterr().err


def test_channels_are_those_of_training(tmp_path: Path) -> None:
    """Pictures with colour train; all grey ones are read with three channels then."""
    image = pytest.importorskip("PIL.Image")
    random = np.random.default_rng(0)
    for name, shape in (("colour", (9, 9, 3)), ("grey", (9, 9))):
        (tmp_path / name).mkdir()
        for i in range(12):
            pixels = random.integers(0, 255, shape).astype(np.uint8)
            image.fromarray(pixels).save(tmp_path / name / f"{i:02}.png")
    det = str(tmp_path / "det")
    assert main(["detect", "fit", "--data", str(tmp_path / "colour"), "--out", det]) == 0
    score = ["detect", "score", det, "--data", str(tmp_path / "grey"), "-o"]
    assert main([*score, str(tmp_path / "s.csv")]) == 0
    report = tmp_path / "s-report"
    assert json.loads((report / "result.json").read_text())["threshold"] is None  # 12 rows: too few
    assert "too few rows trained for a threshold" in (report / "report.html").read_text()


def test_labels_among_the_columns_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaky = table(80, 0, strange=8)
    leaky["copy"] = np.where(leaky["truth"] == 1, "yes", "no")
    train = write(tmp_path / "train.csv", leaky)
    fit = ["detect", "fit", "-d", train, "--train-data", "contaminated", "--overwrite"]
    assert main([*fit, "-o", str(tmp_path / "a"), "--label-column", "truth"]) == 0
    assert "column 'copy' equals the label" in capsys.readouterr().err
    leaky["label"] = leaky.pop("truth")
    train = write(tmp_path / "train.csv", leaky)
    assert main([*fit, "-o", str(tmp_path / "b")]) == 0
    assert "column 'label' is called as labels are" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--contamination", "0.7"], "--contamination: must lie in (0, 0.5], this is 0.7"),
        (["--false-alarms", "2"], "--false-alarms: must lie in (0, 1), this is 2"),
        (["--seed", "-1"], "--seed: must be at least 0, not -1"),
        (["--seed", "9" * 30], "--seed: must be at most 4294967295, not 99"),
        (["--device", "foo"], "--device: unknown device 'foo'"),
        (["--columns", "size,wieght"], "did you mean 'weight'"),
        (["--code-size", "1000"], "--code-size: 60 rows are fewer than the code's 1000"),
        (["--code-size", "0"], "--code-size: must be at least 1, not 0"),
        (["--measure", "magic"], "--measure: 'magic' is unknown; use one of default, "),
        (["--label-column", "nothing"], "there is no column 'nothing'"),
    ],
)
def test_bad_input_is_one_line(
    extra: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.csv", table(60, 0))
    assert main(["detect", "fit", "-d", train, "-o", str(tmp_path / "det"), *extra]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_columns_to_leave_out_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = {**table(60, 0), "day": [f"2024-{1 + i // 28:02}-{1 + i % 28:02}" for i in range(60)]}
    data = write(tmp_path / "train.csv", train)
    fit = ["detect", "fit", "-d", data, "-o", str(tmp_path / "det"), "--label-column", "truth"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no second voice beside the command's
        assert main([*fit, "--json"]) == 0
    shown = capsys.readouterr()
    (said,) = json.loads(shown.out)["warnings"]
    assert said.startswith("column 'day' is not learned from: 60 different words in 60 rows")
    assert "leave it out (--ignore day)" in said
    assert f"warning: {said}" in shown.err
    assert main([*fit, "--overwrite", "--ignore", "day"]) == 0
    assert capsys.readouterr().err == ""


def test_what_cannot_be_scored_is_said_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    det = str(tmp_path / "det")
    train = write(tmp_path / "train.csv", table(60, 0))
    assert main(["detect", "fit", "-d", train, "-o", det]) == 0
    capsys.readouterr()
    new: dict[str, Any] = table(20, 1)
    score = ["detect", "score", det, "-o", str(tmp_path / "s.csv"), "-d"]

    def said(columns: dict[str, Any], *flags: str) -> str:
        data = write(tmp_path / "new.csv", columns)
        assert main([*score, data, *flags]) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        return message.replace(data, "DATA").replace(det, "DET")

    renamed = {("wieght" if name == "weight" else name): new[name] for name in new}
    expected = "DATA: there is no column 'weight', which training had; did you mean 'wieght'?"
    assert expected in said(renamed)
    spoilt = {**new, "size": [*new["size"][:4], "abc", *new["size"][5:]]}
    expected = (
        "DATA: column 'size', row 5: 'abc' is no number, as it was in training; give a number"
    )
    assert expected in said(spoilt)
    message = said(new, "--label-column", "truth")
    assert "DET: the detector was trained with column 'truth'" in message
    assert "fit again with --label-column truth" in message
    assert not (tmp_path / "s.csv").exists()
    write(tmp_path / "more.csv", {**new, "more": new["size"]})  # other columns are left alone
    assert main([*score, str(tmp_path / "more.csv")]) == 0


def test_nothing_is_written_where_a_number_is_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a table with words, one of numbers, and an array."""
    columns = {name: table(60, 0)[name] for name in ("size", "weight")}
    for kind, more in (("words", {"kind": ["a", "b"] * 30}), ("numbers", {}), ("array", {})):
        given = {name: list(column) for name, column in {**columns, **more}.items()}
        train, bad = tmp_path / f"{kind}.csv", tmp_path / f"{kind}-bad.csv"
        write(train, given)
        given["weight"][4] = 1.797e308
        write(bad, given)
        if kind == "array":
            train, bad = train.with_suffix(".npy"), bad.with_suffix(".npy")
            np.save(train, np.column_stack(list(columns.values())))
            np.save(bad, np.column_stack([given[name] for name in columns]))
        det, out = tmp_path / f"{kind}-det", tmp_path / f"{kind}-scores.csv"
        assert main(["detect", "fit", "-d", str(train), "-o", str(det)]) == 0
        capsys.readouterr()
        score = ["detect", "score", str(det), "-d", str(bad), "-o", str(out)]
        other = tmp_path / f"{kind}-other"
        for command in (score, ["detect", "fit", "-d", str(bad), "-o", str(other)]):
            assert main(command) == 2
            message = capsys.readouterr().err
            assert message.count("\n") == 1
            name = "1" if kind == "array" else "weight"
            assert f"{bad}: column '{name}', row 5: 1.797e+308 is too large" in message
        assert not list(tmp_path.glob(f"{kind}-scores*"))
        assert not other.exists()


def test_gaps_are_refused_or_imputed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gappy = table(60, 0)
    gappy["size"] = [*map(str, gappy["size"][:59]), "NA"]
    train = write(tmp_path / "train.csv", gappy)
    fit = ["detect", "fit", "-d", train, "-o", str(tmp_path / "det")]
    assert main(fit) == 2
    assert "column 'size', row 60: the value is missing" in capsys.readouterr().err
    assert main([*fit, "--missing", "impute"]) == 0


def test_names_that_json_leaves_out_are_gaps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"size": float(x), "more": float(x * x)} for x in np.linspace(-1, 1, 80)]
    del rows[4]["more"]
    data, det = tmp_path / "rows.jsonl", str(tmp_path / "det")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit = ["detect", "fit", "-d", str(data), "--out", det]
    assert main(fit) == 2
    error = capsys.readouterr().err
    assert "column 'more', row 5: the value is missing" in error
    assert "--missing impute" in error
    assert main([*fit, "--missing", "impute"]) == 0
    score = ["detect", "score", det, "-d", str(data), "-o", str(tmp_path / "s.csv")]
    assert main(score) == 0


def test_study_capacity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    kinds = np.repeat(["a", "b", "c", "d"], 60)
    centers = {k: random.normal(size=6) * 3 for k in "abcd"}
    values = np.array([centers[k] + random.normal(size=6) for k in kinds])
    data = write(tmp_path / "t.csv", {**{f"x{i}": values[:, i] for i in range(6)}, "kind": kinds})
    out = tmp_path / "study"
    study = ["study", "capacity", "-d", data, "--labels", "kind", "-o", str(out)]
    assert main([*study, "--sizes", "1,4", "--seeds", "1", "--steps", "50", "--json"]) == 0
    assert (out / "figures" / "capacity.png").is_file()
    assert [row["code_size"] for row in json.loads(capsys.readouterr().out)["table"]] == [1, 4]
    assert main([*study, "--seen", "a,z", "--overwrite"]) == 2
    assert "no kind 'z'" in capsys.readouterr().err


def notes_of(capsys: pytest.CaptureFixture[str], *command: str) -> list[str]:
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    return list(result.get("notes", result.get("warnings", [])))


def test_what_scores_cannot_say_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    det = str(tmp_path / "det")
    few = write(tmp_path / "few.csv", table(15, 0))
    (told,) = notes_of(capsys, "detect", "fit", "-d", few, "--ignore", "truth", "--out", det)
    assert "no row can be flagged: from 15 rows the least p-value is 0.062, above 0.05" in told
    assert "give 19 rows or more" in told
    train = write(tmp_path / "train.csv", table(300, 0) | {"truth": ["fine"] * 300})
    fit = ["detect", "fit", "-d", train, "--label-column", "truth", "--missing", "impute"]
    assert not notes_of(capsys, *fit, "--out", det, "--overwrite")
    far = table(40, 1)
    far["size"] = far["size"] + 1000
    far["kind"] = [""] * 40
    far["truth"] = ["fine", "odd"] * 20
    new = write(tmp_path / "far.csv", far)
    score = ["detect", "score", det, "-d", new, "-o", str(tmp_path / "s.csv")]
    empty, flagged, labels = notes_of(capsys, *score, "--label-column", "truth")
    assert empty.startswith("'kind' has no value in these rows")
    assert flagged.startswith("100% of the rows are flagged, where 5% would be by chance")
    assert "of the labels 'fine', 'odd' none is known to mean normal" in labels


def test_decimal_commas_are_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(300, 0)
    lines = ["size;weight"]
    lines += [
        f"{a:.2f};{b:.2f}".replace(".", ",")
        for a, b in zip(rows["size"], rows["weight"], strict=True)
    ]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    det = str(tmp_path / "det")
    assert not notes_of(capsys, "detect", "fit", "-d", str(tmp_path / "train.csv"), "--out", det)
    new = table(100, 1, strange=5)  # written with points
    data = write(tmp_path / "new.csv", {name: new[name] for name in ("size", "weight", "truth")})
    score = ["detect", "score", det, "-d", data, "--label-column", "truth"]
    assert main([*score, "-o", str(tmp_path / "s.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["table"][0]["auroc"] == 100


@pytest.mark.parametrize("place", ["file.npy", "file.npy/deeper", "/proc/none"])
def test_outputs_that_cannot_be_made_are_refused_before_the_work(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfsup.data import observations
    from selfsup.models import autoencoder_hub

    def work(*_: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(autoencoder_hub, "load_autoencoder", work)
    for module in ("detection", "capacity", "autoencoder_cells"):
        monkeypatch.setattr(f"selfsup.studies.{module}.read_observations", work)
    monkeypatch.setattr(observations, "read_observations", work)
    monkeypatch.setattr("selfsup.studies.detection.open_detector", work)
    (tmp_path / "file.npy").write_text("")
    data = write(tmp_path / "data.csv", table(60, 0))
    out, read = str(tmp_path / place), ["--data", data]
    picture = ["model", *read, "--output", f"{out}/x.png"]
    for command in (
        ["detect", "fit", *read, "--out", out, "--overwrite"],
        ["detect", "score", "det", *read, "--output", f"{out}/x.csv"],
        ["study", "dimensions", *read, "--out", out],
        ["study", "capacity", *read, "--labels", "kind", "--out", out],
        ["sample", "model", "--output", f"{out}/x.png"],
        *([verb, *picture] for verb in ("reconstruct", "interpolate", "traverse")),
        ["cluster", "model", *read, "--output", f"{out}/x.csv"],
        ["encode", "model", *read, "--output", f"{out}/x.npy"],
        ["tokenizer", "train", *read, "--out", out],
    ):
        assert main(command) == 2, command
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert out in message
        assert "no run folder can be made here" in message or "cannot be written" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "file.npy"]


def test_outputs_that_can_be_made_leave_nothing_when_they_are_not(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for place in ("a/b/x.png", "x.png", "folder.png"):
        command = ["sample", str(tmp_path / "model"), "--output", str(tmp_path / place)]
        assert main([*command, "--overwrite"]) == 2
    fit = ["detect", "fit", "--data", str(tmp_path / "none.csv"), "--out", str(tmp_path / "c/d")]
    assert main(fit) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_truth_values_are_the_same_in_all_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [{"size": float(x), "open": bool(x > 0)} for x in random.normal(size=80)]
    size = [row["size"] for row in rows]
    write(tmp_path / "title.csv", {"size": size, "open": [row["open"] for row in rows]})
    lower = [str(row["open"]).lower() for row in rows]
    write(tmp_path / "lower.csv", {"size": size, "open": lower})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [tmp_path / name for name in ("title.csv", "lower.csv", "rows.jsonl")]
    found = set()
    for i, train in enumerate(files):
        det = tmp_path / f"det-{i}"
        assert main(["detect", "fit", "-d", str(train), "-o", str(det)]) == 0
        out = det / "scores.csv"
        data = str(files[(i + 1) % 3])
        assert main(["detect", "score", str(det), "-d", data, "-o", str(out)]) == 0
        found.add(out.read_text())
    assert len(found) == 1


def test_an_id_is_copied_beside_each_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = table(100, 0) | {"id": [f"2024-01-01 05:00:{i % 60:02}" for i in range(100)]}
    data, det = write(tmp_path / "a.csv", rows), str(tmp_path / "det")
    assert main(["detect", "fit", "-d", data, "--ignore", "id,truth", "--out", det]) == 0
    score = ["detect", "score", det, "-d", data, "-o", str(tmp_path / "s.csv")]
    assert main([*score, "--id-column", "id"]) == 0
    with open(tmp_path / "s.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == rows["id"]
    assert list(lines[0])[:3] == ["row", "id", "score"]
    capsys.readouterr()
    assert main([*score, "--overwrite", "--id-column", "no"]) == 2
    assert "there is no column 'no'" in capsys.readouterr().err


def test_scores_of_pictures_name_them(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "in" / "b").mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(30):
        pixels = random.integers(0, 255, (8, 8)).astype(np.uint8)
        image.fromarray(pixels).save(tmp_path / "in" / ("b" if i % 2 else ".") / f"{i:02}.png")
    det, out = str(tmp_path / "det"), tmp_path / "s.csv"
    assert main(["detect", "fit", "-d", str(tmp_path / "in"), "--out", det]) == 0
    assert main(["detect", "score", det, "-d", str(tmp_path / "in"), "-o", str(out)]) == 0
    with open(out) as file:
        files = [line["file"] for line in csv.DictReader(file)]
    assert files[:2] == ["00.png", "02.png"]
    assert files[-1] == "b/29.png"


def test_blocks_and_words_kept_once_change_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, random = table(300, 0), np.random.default_rng(5)
    del columns["truth"]
    columns["comma"] = [f"{x:.2f}".replace(".", ",") for x in random.normal(size=300)]
    columns["thousands"] = ["1,234"] * 200 + ["1,23"] * 100  # as a block of rows alone: words
    columns["gap"] = [random.choice(["", "NA", "0.5", "2"]) for _ in range(300)]
    columns["code"] = [random.choice(["01", "1", "1.0", "a"]) for _ in range(300)]
    columns["day"] = [f"2020-01-{k:02d} 00:00:00" for k in random.integers(1, 20, 300)]
    data, det = write(tmp_path / "t.csv", columns), str(tmp_path / "det")
    fit = ["detect", "fit", "-d", data, "--missing", "impute", "--out", det]
    monkeypatch.setattr(detection, "_BRIEF", 0)
    assert main(fit) == 0
    err = capsys.readouterr().err
    assert all(word in err for word in ("reading ", "learning from 300 rows", "scoring"))
    assert main([*fit, "--overwrite", "--quiet"]) == 0
    assert "learning" not in capsys.readouterr().err
    monkeypatch.setattr("selfsup.uses.detection.engine._PLACES", 1)  # 16 rows at once
    found = []
    for size in (10_000, 1):
        monkeypatch.setattr("selfsup.studies.detection_scores._AT_ONCE", size)
        out = tmp_path / f"{size}.csv"
        assert main(["detect", "score", det, "-d", data, "-o", str(out), "--json"]) == 0
        assert "scoring" not in capsys.readouterr().err
        found.append(out.read_bytes())
    assert found[0] == found[1]
    columns["size"] = [*columns["size"][:200], "x", *columns["size"][201:]]
    wrong = write(tmp_path / "wrong.csv", columns)
    assert main(["detect", "score", det, "-d", wrong, "-o", str(tmp_path / "w.csv")]) == 2
    assert "column 'size', row 201: 'x' is no number" in capsys.readouterr().err
