from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from selfsup import AutoEncoderDetector, AutoEncoderTransformer
from selfsup.errors import BadInput, UserError
from selfsup.uses.detection.column_notes import ColumnWarning
from selfsup.uses.detection.engine import MEASURES
from selfsup.uses.detection.folder import load_detector, save_detector

RANDOM = np.random.default_rng(5)


def rows(count: int, seed: int = 0) -> NDArray[Any]:
    """Six columns on a curved surface of two dimensions."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, count))
    noise = 0.1 * random.normal(size=(count, 6))
    return np.stack([a, b, a * b, a + b, np.sin(2 * a), a - b], 1) + noise


TRAIN, NEW = rows(400), rows(150, 1)
STRANGE = NEW[:, [0, 1, 4, 2, 5, 3]]
BOTH, TRUTH = np.concatenate([NEW, STRANGE]), np.repeat([0, 1], 150)


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_find_what_breaks_the_pattern(measure: str) -> None:
    detector = AutoEncoderDetector(measure, steps=300).fit(TRAIN)
    strange = -detector.score_samples(BOTH)
    assert roc_auc_score(TRUTH, strange) > 0.8
    assert len(np.unique(strange)) == len(strange)
    assert strange.dtype == np.float64


@pytest.mark.parametrize("measure", ["reconstruction", "masked-features"])
def test_training_changes_the_weights_and_is_better_than_none(measure: str) -> None:
    trained = AutoEncoderDetector(measure, steps=300).fit(TRAIN)
    untrained = AutoEncoderDetector(measure, steps=1, learning_rate=1e-30).fit(TRAIN)
    for name, weight in trained.engine_.model.named_parameters():
        assert not torch.equal(weight, dict(untrained.engine_.model.named_parameters())[name])
    found = [roc_auc_score(TRUTH, -d.score_samples(BOTH)) for d in (trained, untrained)]
    assert found[0] > found[1] + 0.03


def test_a_second_fit_is_a_fresh_fit_and_global_generators_stay() -> None:
    detector = AutoEncoderDetector(steps=30).fit(NEW)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = detector.fit(TRAIN).score_samples(BOTH)
    fresh = AutoEncoderDetector(steps=30).fit(TRAIN).score_samples(BOTH)
    assert np.array_equal(again, fresh)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("measure", MEASURES)
def test_scores_do_not_depend_on_the_batch(measure: str) -> None:
    detector = AutoEncoderDetector(measure, steps=30).fit(TRAIN)
    whole = detector.score_samples(NEW)
    single = np.concatenate([detector.score_samples(row[None]) for row in NEW[:20]])
    np.testing.assert_allclose(whole[:20], single, rtol=1e-10)


@pytest.mark.parametrize("regime", ["clean", "contaminated"])
def test_false_alarms_are_as_asked(regime: str) -> None:
    detector = AutoEncoderDetector(train_data=regime, steps=60, false_alarm_rate=0.1)
    detector.fit(TRAIN)
    many = rows(2000, 7)
    p = detector.p_values(many)
    assert 0.05 < (detector.predict(many) == -1).mean() < 0.16
    np.testing.assert_array_equal(detector.predict(many) == -1, p <= 0.1)
    assert abs(p.mean() - 0.5) < 0.06


def test_calibration_asks_the_member_that_has_not_seen_the_row() -> None:
    detector = AutoEncoderDetector(steps=30).fit(TRAIN)
    engine = detector.engine_
    by_member = engine.score(engine.references)
    own = by_member[np.arange(400), engine.folds]
    np.testing.assert_allclose(engine.held_out(), own, rtol=1e-10)
    np.testing.assert_allclose(engine.total(engine.references), own, rtol=1e-10)
    assert engine.held_out().mean() > by_member.mean()


def test_contamination_flags_that_share_of_training_rows() -> None:
    detector = AutoEncoderDetector(train_data="contaminated", steps=30, contamination=0.1)
    assert (detector.fit_predict(TRAIN) == -1).sum() == 40


@pytest.mark.parametrize("regime", ["clean", "contaminated"])
def test_trimmed_rows_calibrate(regime: str, tmp_path: Path) -> None:
    """New rows are like all training rows, not like those that trimming left."""
    found = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        detector = AutoEncoderDetector(train_data=regime, trimming=0.1, random_state=seed)
        detector.fit(random.normal(size=(500, 5)))
        found.append((detector.p_values(random.normal(size=(500, 5))) <= 0.05).mean())
    assert 0.02 < np.mean(found) < 0.09  # of the kept rows alone: 0.14
    assert len(detector.calibration_) == 500
    save_detector(tmp_path, detector)
    more = random.normal(size=(100, 5))
    again = load_detector(tmp_path).partial_fit(more)
    assert len(again.calibration_) == len(detector.partial_fit(more).calibration_) == 600


def test_trimmed_rows_keep_their_share_when_references_are_a_sample() -> None:
    rows = np.random.default_rng(0).normal(size=(9000, 3))
    detector = AutoEncoderDetector(steps=2, trimming=0.25).fit(rows)
    assert len(detector.engine_.references) == 4096
    assert len(detector.engine_.aside) == round(4096 / 3)
    detector.partial_fit(rows[:6750])  # half of the references are new now
    assert len(detector.engine_.aside) == pytest.approx(4096 / 6, rel=0.1)


def test_trimming_helps_where_training_rows_are_contaminated() -> None:
    dirty = np.concatenate([TRAIN, STRANGE[:40]])
    found = []
    for trimming in (0.0, 0.15):
        detector = AutoEncoderDetector(
            "reconstruction", train_data="contaminated", trimming=trimming, steps=200
        )
        found.append(roc_auc_score(TRUTH, -detector.fit(dirty).score_samples(BOTH)))
    assert found[1] > found[0] - 0.01


def test_a_planted_column_is_named() -> None:
    planted = NEW.copy()
    planted[:, 3] += np.where(RANDOM.random(150) < 0.5, -1, 1) * 12
    for measure in MEASURES:
        detector = AutoEncoderDetector(measure, steps=200).fit(TRAIN)
        shares = detector.explain(planted)
        np.testing.assert_allclose(shares.sum(1), 1)
        assert (shares.argmax(1) == 3).mean() > 0.9, measure


def test_partial_fit_learns_what_came_later() -> None:
    shifted = NEW + 5
    detector = AutoEncoderDetector(steps=60).partial_fit(TRAIN)
    before = detector.score_samples(shifted).mean()
    detector.partial_fit(rows(400, 3) + 5)
    assert detector.score_samples(shifted).mean() > before + 1
    assert len(detector.engine_.references) == 800


def test_rows_that_come_one_by_one_are_judged_as_rows_that_come_together() -> None:
    fresh = rows(600, 7)
    one_by_one = AutoEncoderDetector(steps=30).fit(TRAIN[:60])
    for row in range(60, 160):
        one_by_one.partial_fit(TRAIN[row : row + 1])
    together = AutoEncoderDetector(steps=30).fit(TRAIN[:160])
    found = [(d.predict(fresh) == -1).mean() for d in (one_by_one, together)]
    assert found[0] == pytest.approx(found[1], abs=0.04)  # before, rows were their own references
    assert one_by_one.calibration_.min() > 0
    assert (one_by_one.engine_.folds >= 0).all()


def test_equal_dates_are_equal_whatever_their_unit() -> None:
    random = np.random.default_rng(0)
    days = np.datetime64("2020-01-01") + random.integers(0, 5, 200)
    table = {"x": random.normal(size=200), "day": days.astype("datetime64[ns]")}
    detector = AutoEncoderDetector(steps=5).fit(table)
    wanted = detector.score_samples(table)
    for same in (days, days.astype("datetime64[us]"), days.astype(object), days.astype(str)):
        assert (detector.score_samples({**table, "day": same}) == wanted).all()


def test_what_is_kept_with_a_detector_is_json_under_other_names(tmp_path: Path) -> None:
    first, second = (AutoEncoderDetector(steps=2, random_state=s).fit(TRAIN) for s in (0, 1))
    save_detector(tmp_path / "det", first, note="mine")
    for extra in ({"auc": np.float32(0.9)}, {"offset": 99.0}, {"params": "x"}):
        for folder in ("det", "new"):
            with pytest.raises(BadInput, match=next(iter(extra))):
                save_detector(tmp_path / folder, second, **extra)
    assert not (tmp_path / "new").exists()
    again = load_detector(tmp_path / "det", device="auto")
    assert (again.score_samples(NEW) == first.score_samples(NEW)).all()
    with pytest.raises(UserError, match="unknown device 'junk'"):
        load_detector(tmp_path / "det", device="junk")


def test_p_values_of_nothing_are_nothing() -> None:
    found = AutoEncoderDetector(steps=2).fit(TRAIN).p_values_of(np.array([np.nan, 1e9]))
    assert np.isnan(found[0])
    assert found[1] == 1 / (len(TRAIN) + 1)


def test_references_stay_bounded() -> None:
    many = np.random.default_rng(0).normal(size=(9000, 3))
    detector = AutoEncoderDetector(steps=2).fit(many)
    detector.partial_fit(many)
    assert len(detector.engine_.references) == 4096
    assert detector.engine_.seen == 18000


@pytest.mark.parametrize("count", [2, 3, 5, 17])
def test_fewer_rows_than_a_batch(count: int) -> None:
    detector = AutoEncoderDetector(steps=3).fit(TRAIN[:count])
    assert np.isfinite(detector.score_samples(NEW)).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("rows", [150, 2000])
def test_a_mark_of_a_missing_value_blinds_no_column(rows: int, measure: str) -> None:
    random = np.random.default_rng(0)
    train, strange = random.normal(20, 2, (rows, 3)), random.normal(20, 2, (50, 3))
    train[7, 0], strange[:, 0] = -99999, 60
    for regime in ("clean", "contaminated"):
        detector = AutoEncoderDetector(measure, train_data=regime, random_state=0).fit(train)
        assert (detector.predict(strange) == -1).mean() == 1, regime


def test_constant_empty_and_infinite_columns() -> None:
    odd = TRAIN.copy()
    odd[:, 1] = 4.0
    odd[:, 2] = np.nan
    odd[5, 3], odd[6, 3] = np.inf, np.nan
    detector = AutoEncoderDetector(steps=10, missing="impute").fit(odd)
    assert np.isfinite(detector.score_samples(odd)).all()
    assert np.isfinite(detector.score_samples(np.full((2, 6), np.nan))).all()
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        AutoEncoderDetector(steps=10).fit(odd)


@pytest.mark.parametrize("measure", ["default", "reconstruction"])
@pytest.mark.parametrize("rate", [0.002, 0.01, 0.05])
def test_a_rare_gap_alone_is_not_strange(rate: float, measure: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    wide = np.hstack([random.normal(size=(3500, 3)), rows(3500)])
    whole = {str(i): column for i, column in enumerate(wide.T)}
    train = {name: column[:1500].copy() for name, column in whole.items()}
    train["2"][: int(1500 * rate)] = np.nan
    new = {name: column[1500:] for name, column in whole.items()}
    gaps = new | {"2": np.full(2000, np.nan)}
    detector = AutoEncoderDetector(measure, missing="impute").fit(train)
    usual, gap = ((detector.predict(part) == -1).mean() for part in (new, gaps))
    assert usual == pytest.approx(0.04, abs=0.03)
    assert gap < 0.1  # before, all or most of them
    save_detector(tmp_path, detector)
    opened = load_detector(tmp_path).partial_fit(train)
    assert (opened.predict(gaps) == -1).mean() < 0.1


def test_numbers_that_float32_cannot_hold_are_infinite() -> None:
    new = TRAIN[:20].copy()
    new[4, 1] = -1.797e308
    refuse = AutoEncoderDetector(steps=10).fit(TRAIN)
    said = r"column '1', row 5: -1.797e\+308 is too large \(float32\); mend it"
    for act in (refuse.predict, AutoEncoderTransformer(steps=10).fit):
        with pytest.raises(BadInput, match=said):
            act(new)
    with pytest.raises(BadInput, match=said.replace("'1'", "'b'")):
        AutoEncoderDetector(steps=10).fit({"a": TRAIN[:20, 0], "b": new[:, 1]})
    gap = new.copy()
    gap[4, 1] = np.nan
    impute = AutoEncoderDetector(steps=10, missing="impute").fit(TRAIN)
    np.testing.assert_array_equal(impute.score_samples(new), impute.score_samples(gap))
    new[4, 1] = 1e38  # is held, and no floor of a report stumbles over it
    assert np.isfinite(refuse.score_samples(new)).all()
    assert refuse._scaled(new).max() <= np.finfo(np.float32).max


def test_tables_with_words_are_mended_by_name() -> None:
    random = np.random.default_rng(0)
    table = {"size": random.normal(size=200), "kind": np.array(["a", "b"] * 100, object)}
    detector = AutoEncoderDetector(steps=30).fit(table)
    turned = {"kind": table["kind"], "size": table["size"]}
    np.testing.assert_array_equal(detector.score_samples(table), detector.score_samples(turned))
    new = {"size": table["size"][:2], "kind": np.array(["a", "never seen"], object)}
    assert detector.explain(new)[1].argmax() == 1
    assert detector.column_names() == ["size", "kind"]
    with pytest.raises(UserError, match="no names"):
        detector.score_samples(random.normal(size=(3, 2)))
    with pytest.raises(UserError, match="no column 'kind'"):
        detector.score_samples({"size": [1.0]})
    with pytest.raises(ValueError, match="training had no column 'more'"):
        detector.score_samples({**table, "more": table["size"]})


class Frame:
    """As much of a data frame as the estimators look at."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.data = {name: np.asarray(column) for name, column in columns.items()}
        self.columns = list(columns)
        self.dtypes = [column.dtype for column in self.data.values()]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.data[name]


def test_frames_with_words_follow_the_rule_of_frames_of_numbers() -> None:
    random = np.random.default_rng(0)
    size, kind = random.normal(size=60), np.array(["a", "b"] * 30, object)
    detector = AutoEncoderDetector(steps=5).fit(Frame({"kind": kind, "size": size}))
    assert detector.feature_names_in_.tolist() == ["kind", "size"]
    assert detector.n_features_in_ == 2
    assert detector.predict(Frame({"kind": kind, "size": size})).shape == (60,)
    for wrong, message in (
        ({"size": size, "kind": kind}, "another order .* the order was 'kind', 'size'"),
        ({"kind": kind, "size": size, "more": size}, "training had no column 'more'"),
        ({"kind": kind, "sise": size}, "no column 'size', which training had; did you mean 'sise'"),
    ):
        with pytest.raises(ValueError, match=message):
            detector.predict(Frame(wrong))


class NumberFrame:
    """A data frame of numbers, as far as names go."""

    def __init__(self, values: Any, columns: list[Any]) -> None:
        self.values, self.columns = values, columns

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype)


@pytest.mark.parametrize(
    "names", [list(range(6)), [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "a"), "c"]]
)
def test_names_that_are_no_texts_are_compared(names: list[Any], tmp_path: Path) -> None:
    detector = AutoEncoderDetector(steps=5).fit(NumberFrame(TRAIN, names))
    assert detector.column_names() == [str(name) for name in names]
    save_detector(tmp_path, detector)
    for judge in (detector, load_detector(tmp_path)):
        wanted = judge.score_samples(NEW)
        np.testing.assert_array_equal(judge.score_samples(NumberFrame(NEW, names)), wanted)
        swapped = [names[1], names[0], *names[2:]]
        with pytest.raises(BadInput, match="another order than in training"):
            judge.predict(NumberFrame(NEW[:, [1, 0, 2, 3, 4, 5]], swapped))
        with pytest.raises(BadInput, match=r"there is no column .* which training had"):
            judge.predict(NumberFrame(NEW, [*names[:5], "other"]))
    again = detector.fit(TRAIN)  # the names are those of the last fit
    assert again.predict(NumberFrame(NEW, names[::-1])).shape == (150,)


def test_masked_entries_are_gaps() -> None:
    masked = np.ma.masked_greater(TRAIN, 2)
    gaps = masked.filled(np.nan)
    found, wanted = (
        AutoEncoderDetector(steps=5, missing="impute").fit(train) for train in (masked, gaps)
    )
    np.testing.assert_array_equal(found.score_samples(masked), wanted.score_samples(gaps))
    with pytest.raises(BadInput, match="the value is missing"):
        AutoEncoderDetector(steps=5).fit(masked)


def test_frames_without_rows_yet_are_refused() -> None:
    lazy = type("LazyFrame", (Frame,), {})
    with pytest.raises(BadInput, match=r"a LazyFrame has no rows yet; give its \.collect\(\)"):
        AutoEncoderDetector().fit(lazy({"a": [1.0, 2.0]}))


def dated(count: int, seed: int, shift: float = 0.0) -> dict[str, Any]:
    """Two columns that belong together, of 20 rows shifted apart, and a day for nearly each row."""
    random = np.random.default_rng(seed)
    a = random.normal(size=count)
    b = 2 * a + 0.1 * random.normal(size=count)
    b[:20] += shift
    days = np.datetime64("2024-01-01") + random.integers(0, 366, count)
    return {"a": a, "b": b, "city": random.choice(["Ulm", "Bonn"], count), "day": days.astype(str)}


def test_columns_with_a_word_for_nearly_each_row_do_not_decide_the_scores() -> None:
    with pytest.warns(ColumnWarning, match="'day' is not learned from: 300 different words in 600"):
        detector = AutoEncoderDetector().fit(dated(600, 0))
    new = dated(220, 1, shift=3)
    assert roc_auc_score(np.arange(220) < 20, -detector.score_samples(new)) > 0.95
    assert (detector.predict(new)[:20] == -1).mean() > 0.9
    assert detector.column_names() == ["a", "b", "city"]
    assert detector.n_features_in_ == 4
    del new["day"]  # what was not learned from need not be there
    detector.score_samples(new)
    with pytest.raises(ValueError, match="no column is left to learn from without 'day'"):
        AutoEncoderDetector().fit({"day": dated(600, 0)["day"]})


def test_rare_words_are_warned_of_when_they_outnumber_false_alarms() -> None:
    random = np.random.default_rng(0)
    city = random.choice(["Ulm", "Bonn", "Jena"], 400).astype(object)
    city[:40] = [f"village {i}" for i in range(40)]
    train = {"a": random.normal(size=400), "city": city}
    with pytest.warns(ColumnWarning, match=r"in 10% of the rows: more than the 5%"):
        AutoEncoderDetector(steps=5).fit(train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoEncoderDetector(steps=5, false_alarm_rate=0.2).fit(train)
        AutoEncoderTransformer(steps=5).fit(train)


def test_columns_that_say_little_are_named() -> None:
    train = {
        "a": RANDOM.normal(size=50),
        "empty": np.full(50, np.nan),
        "flat": np.ones(50),
        "word": np.array(["x"] * 50, object),
        "id": np.arange(50) + 7,
    }
    with pytest.warns(ColumnWarning) as caught:
        AutoEncoderDetector(steps=5, missing="impute").fit(train)
    said = [str(w.message) for w in caught]
    assert len(said) == 3
    assert said[0].startswith("column 'empty' has no value")
    assert said[1].startswith("columns 'flat', 'word' have one value")
    assert said[2].startswith("column 'id' grows evenly")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AutoEncoderDetector(steps=5).fit(np.ones((40, 3)))  # as the margins of images are


def test_codes_of_tables_come_back_as_their_columns() -> None:
    random = np.random.default_rng(0)
    kind = random.choice(["a", "b", "c"], 200)
    size = random.normal(size=200) + 5 * (kind == "a")
    table = {"kind": kind, "name": [f"row {i}" for i in range(200)], "size": size}
    with pytest.warns(ColumnWarning):
        coder = AutoEncoderTransformer(code_size=3, steps=400).fit(table)
    back = coder.inverse_transform(coder.transform(table))
    assert back.shape == (200, 3)
    assert (back[:, 0] == kind).mean() > 0.95
    assert back[:, 1].tolist() == [None] * 200
    assert np.corrcoef(back[:, 2].astype(float), size)[0, 1] > 0.9


def test_pixels_are_compared_by_where_they_are_and_can_be_had_back() -> None:
    from selfsup.uses.detection.scaling import RangeScale, harden, soften

    rows = np.random.default_rng(0).random((20, 6)) - 0.2
    rows[3] = 0.0  # a black image
    for power in (0.25, 0.5):
        soft = soften(rows, power)
        np.testing.assert_allclose(harden(soft, power), rows, atol=1e-12)
        np.testing.assert_allclose(soften(16 * rows, power), 16 ** (1 - power) * soft)
    scale = RangeScale.fit(rows, "pixels")
    np.testing.assert_allclose(scale.inverse(scale.transform(rows)), rows, atol=1e-12)
    assert np.unique(scale.width).size == 1
    plain = RangeScale.fit(rows, "common")
    assert not np.allclose(plain.transform(rows), scale.transform(rows))


def test_a_saved_detector_of_images_scores_the_same(tmp_path: Path) -> None:
    from selfsup.uses.detection.folder import load_detector, save_detector

    rows = np.random.default_rng(0).random((60, 9))
    detector = AutoEncoderDetector(scaling="pixels").fit(rows[:40])
    save_detector(tmp_path, detector)
    again = load_detector(tmp_path)
    assert again.scale_.power == detector.scale_.power > 0
    np.testing.assert_allclose(again.score_samples(rows), detector.score_samples(rows), rtol=1e-9)


def test_a_folder_of_before_the_power_was_kept_has_a_half(tmp_path: Path) -> None:
    from selfsup.uses.detection.folder import load_detector, save_detector

    detector = AutoEncoderDetector(scaling="pixels").fit(np.random.default_rng(0).random((40, 9)))
    save_detector(tmp_path, detector)
    settings = json.loads((tmp_path / "detector.json").read_text())
    del settings["power"]
    (tmp_path / "detector.json").write_text(json.dumps(settings))
    assert load_detector(tmp_path).scale_.power == 0.5


def test_much_ink_alone_is_not_strange() -> None:
    """Strokes of normal images with twice the ink, against thin strokes elsewhere."""
    random = np.random.default_rng(0)

    def images(count: int, column: int, ink: float) -> NDArray[np.float64]:
        x = np.zeros((count, 8, 8))
        x[:, :, column] = ink * random.uniform(0.3, 1.0, (count, 1))
        return x.reshape(count, -1) + 0.02 * random.random((count, 64))

    train = images(200, 2, 1.0)
    bold, elsewhere = images(50, 2, 2.0), images(50, 5, 0.4)
    share = {}
    for scaling in ("common", "pixels"):
        detector = AutoEncoderDetector(scaling=scaling).fit(train)
        wrong = detector.score_samples(bold)[:, None] < detector.score_samples(elsewhere)[None]
        share[scaling] = float(wrong.mean())
    assert share["pixels"] < 0.2 < share["common"]


def test_codes_come_back_as_rows() -> None:
    coder = AutoEncoderTransformer(code_size=3, steps=1500).fit(TRAIN)
    codes = coder.transform(NEW)
    assert codes.shape == (150, 3)
    error = np.square(coder.inverse_transform(codes) - NEW).sum()
    assert error < 0.4 * np.square(NEW - TRAIN.mean(0)).sum()
    with pytest.raises(UserError, match=r"not \(rows, 3\)"):
        coder.inverse_transform(NEW)


def test_in_a_pipeline_and_a_grid_search() -> None:
    def judge(estimator: Any, X: Any, y: Any) -> float:
        return float(roc_auc_score(y, -estimator.score_samples(X)))

    pipeline = make_pipeline(StandardScaler(), AutoEncoderDetector(steps=20))
    grid = {"autoencoderdetector__measure": ["default", "reconstruction"]}
    search = GridSearchCV(pipeline, grid, scoring=judge, cv=StratifiedKFold(2)).fit(BOTH, TRUTH)
    assert set(search.predict(NEW)) <= {-1, 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contamination": 0.6}, r"contamination: must lie in \(0, 0.5\], this is 0.6"),
        ({"contamination": 0.0}, r"contamination: must lie in \(0, 0.5\], this is 0"),
        ({"trimming": 0.5}, r"trimming: must lie in \[0, 0.5\), this is 0.5"),
        ({"false_alarm_rate": "x"}, r"false_alarm_rate: must lie in \(0, 1\), this is 'x'"),
        ({"measure": "reconstrution"}, "measure: .* did you mean 'reconstruction'"),
        ({"measure": ["code-distance", "reconstruction"]}, "measure: .* use one of default, "),
        ({"train_data": "dirty"}, "train_data: 'dirty' is unknown; use one of clean, contaminated"),
        ({"scaling": None}, "scaling: None is unknown; use one of columns, common, pixels"),
        ({"missing": "drop"}, "missing: 'drop' is unknown; use one of refuse, impute"),
        ({"device": "foo"}, "device: unknown device 'foo'"),
        ({"code_size": 999}, "code_size: 400 rows are fewer than the code's 999 numbers"),
        ({"code_size": 2.5}, "code_size: must be auto or a whole number of at least 1, not 2.5"),
        ({"steps": 0}, "steps: must be auto or a whole number of at least 1, not 0"),
        ({"steps": "x"}, "steps: must be auto or a whole number of at least 1, not 'x'"),
        ({"subset_size": 1e9}, "subset_size: must be auto or a whole number of at least 1"),
        ({"hidden": 0}, "hidden: must be a whole number of at least 1, not 0"),
        ({"members": True}, "members: must be a whole number of at least 1, not True"),
        ({"learning_rate": -1}, "learning_rate: must be greater than 0, this is -1"),
        ({"learning_rate": float("nan")}, "learning_rate: must be greater than 0, this is nan"),
        ({"corruption": -1}, "corruption: must be at least 0, this is -1"),
        ({"random_state": -1}, "random_state: must be at least 0"),
        ({"random_state": 2**63}, "random_state: must be at most 4294967295"),
        ({"random_state": np.random.default_rng(0)}, "random_state: must be a whole number"),
    ],
)
def test_bad_settings_are_said(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoEncoderDetector(**settings).fit(TRAIN)


def test_settings_that_were_changed_are_checked_before_more_is_learned() -> None:
    detector = AutoEncoderDetector(steps=2).fit(TRAIN).set_params(contamination=0.7)
    with pytest.raises(ValueError, match="contamination"):
        detector.partial_fit(TRAIN)


@pytest.mark.parametrize("measure", ["default", "masked-features"])
def test_saved_and_loaded_is_the_same(measure: str, tmp_path: Path) -> None:
    gaps = TRAIN.copy()
    gaps[3, 2] = np.nan
    detector = AutoEncoderDetector(measure, steps=30, missing="impute").fit(gaps)
    save_detector(tmp_path / "det", detector)
    loaded = load_detector(tmp_path / "det")
    for method in ("score_samples", "p_values", "predict", "transform", "explain"):
        assert np.array_equal(getattr(loaded, method)(BOTH), getattr(detector, method)(BOTH))
    assert sorted(p.name for p in (tmp_path / "det").iterdir()) == [
        "detector.json",
        "model.safetensors",
    ]


def test_a_broken_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no detector"):
        load_detector(tmp_path)
    save_detector(tmp_path, AutoEncoderDetector(steps=2).fit(TRAIN))
    file = tmp_path / "detector.json"
    settings = json.loads(file.read_text())
    settings["plan"]["hidden"] = 32
    file.write_text(json.dumps(settings))
    with pytest.raises(UserError, match="has shape"):
        load_detector(tmp_path)


def test_only_fitted_detectors_are_saved(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        save_detector(tmp_path / "det", AutoEncoderDetector())
    with pytest.raises(TypeError, match="not a AutoEncoderTransformer"):
        save_detector(tmp_path / "det", AutoEncoderTransformer(steps=2).fit(TRAIN))  # type: ignore[arg-type]
    assert not (tmp_path / "det").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save_detector(tmp_path / "file" / "detector", AutoEncoderDetector(steps=5).fit(TRAIN))


def flagged(detector: AutoEncoderDetector) -> float:
    return float((detector.predict(rows(1000, 9)) == -1).mean())


@pytest.mark.parametrize("how", ["few", "many", "twice", "in tens"])
def test_false_alarms_are_as_many_as_were_asked_for(how: str) -> None:
    """Every row that calibrates is judged by a member that has not seen it, nor a copy of it."""
    detector = AutoEncoderDetector(steps=60, false_alarm_rate=0.1)
    if how == "in tens":
        for first in range(0, 400, 10):
            detector.partial_fit(TRAIN[first : first + 10])
    else:
        train = {"few": TRAIN[:25], "many": TRAIN, "twice": np.repeat(TRAIN, 2, axis=0)}[how]
        detector.fit(train)
    slack = 0.15 if how == "few" else 0.06  # 25 rows: the rate itself has a deviation of 0.06
    assert abs(flagged(detector) - 0.1) < slack
    assert (detector.p_values(NEW) <= 0.1).mean() == pytest.approx(
        (detector.predict(NEW) == -1).mean()
    )


@pytest.mark.parametrize("rate", [0.05, 0.07, 0.29, 0.57, 0.58])
def test_predictions_are_the_p_values_at_the_rate(rate: float) -> None:
    """Of 99 rows p-values are hundredths: 29 of them are at most 0.29, though 0.29 * 100 is below 29."""
    detector = AutoEncoderDetector(steps=5, false_alarm_rate=rate).fit(TRAIN[:99])
    detector.calibration_ = np.sort(-detector.score_samples(TRAIN[:99]))
    detector.engine_.held_out = lambda: detector.calibration_
    detector._calibrate(TRAIN[:99])
    small = detector.p_values(TRAIN[:99]) <= rate
    assert small.sum() == round(100 * rate) - 1  # a row scored again is one of the 99
    np.testing.assert_array_equal(detector.predict(TRAIN[:99]) == -1, small)


def test_too_few_rows_for_the_rate_flag_nothing() -> None:
    detector = AutoEncoderDetector(steps=20, false_alarm_rate=0.01).fit(TRAIN[:60])
    assert detector.p_values(STRANGE).min() == pytest.approx(1 / 61)
    assert (detector.predict(STRANGE) == 1).all()
    assert np.isfinite(detector.decision_function(STRANGE)).all()


def test_equal_rows_and_a_single_member() -> None:
    detector = AutoEncoderDetector(steps=5).fit(np.ones((40, 3)))
    assert detector.predict([[1.0, 1, 1], [9, 9, 9]]).tolist() == [1, -1]
    with pytest.raises(UserError, match="members: is 1"):
        AutoEncoderDetector(members=1).fit(TRAIN)


def test_a_reference_is_known_by_its_numbers() -> None:
    zeros = np.concatenate([TRAIN, np.zeros((3, TRAIN.shape[1]))])
    engine = AutoEncoderDetector(steps=5, scaling="common").fit(zeros).engine_
    kept, folds = engine.references, engine.folds
    assert len(np.unique(folds)) > 1
    np.testing.assert_array_equal(engine._folds_of_references(kept), folds)
    assert (engine._folds_of_references(kept + 1e-9) == -1).all()
    one = kept[7:8].copy()
    one[0, 0] = 0.0
    engine.references = np.concatenate([kept[:7], one, kept[8:]])
    one[0, 0] = -0.0  # the same number
    assert engine._folds_of_references(one).tolist() == [folds[7]]
    assert engine._folds_of_references(kept[:0]).tolist() == []


def test_pickles_hold_no_caches_and_old_ones_keep_their_scale() -> None:
    from selfsup.uses.detection.scaling import RangeScale

    images = np.random.default_rng(0).random((60, 9))
    detector = AutoEncoderDetector(steps=5, scaling="pixels").fit(images)
    expected = detector.score_samples(images)
    assert not any(name.startswith("_kept_") for name in detector.engine_.__getstate__())
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.score_samples(images), expected)
    assert again.scale_.power == detector.scale_.power
    for softened, power in ((True, 0.5), (False, 0.0)):
        old = RangeScale.__new__(RangeScale)
        old.__setstate__({"center": np.zeros(9), "width": np.ones(9), "softened": softened})
        assert old.power == power


@pytest.mark.parametrize("regime", ["clean", "contaminated"])
def test_a_column_of_many_words_does_not_drown_the_numbers(regime: str) -> None:
    def payments(count: int, seed: int, strange: int) -> dict[str, Any]:
        random = np.random.default_rng(seed)
        amount = random.lognormal(3, 0.5, count)
        amount[:strange] *= 20
        words = np.array([f"m{i}" for i in random.integers(0, 200, count)], object)
        return {"merchant": words, "amount": amount}

    detector = AutoEncoderDetector(train_data=regime, random_state=0).fit(payments(1500, 0, 0))
    new = payments(400, 1, 40)
    strangeness = -detector.score_samples(new)
    assert strangeness[:40].min() > np.quantile(strangeness[40:], 0.99)
    if regime == "clean":
        unseen = new | {"merchant": np.array(["never"] * 400, object)}
        assert (-detector.score_samples(unseen) > strangeness).mean() > 0.8
