"""Tables become matrices and come back; what does not fit is refused by name."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from selfsup.data.columns import as_columns, as_numbers, as_texts
from selfsup.data.feature_tables import FeatureTable, Scaling
from selfsup.errors import UserError


def mixed() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    size = rng.normal(50, 10, 200)
    size[:5] = np.nan
    size[5] = 1e6
    color = np.array([["red", "green", None][i % 3] for i in range(200)], object)
    return {"size": size, "color": color, "flat": np.full(200, 7.0)}


def test_numbers_are_scaled_robustly_and_gaps_are_marked() -> None:
    table = FeatureTable().fit(mixed())
    matrix = table.transform(mixed())
    assert matrix.shape == (200, table.width) == (200, 2 + 1 + 4)
    assert [b.kind for b in table.blocks] == ["number", "number", "gap", "category"]
    known = matrix[6:, 0]
    assert abs(np.median(known)) < 0.1
    assert 0.8 < np.percentile(known, 84) < 1.2  # the outlier has not changed the scale
    assert 5 < matrix[5, 0] < 20
    assert matrix[:5, 0].tolist() == [0] * 5
    assert matrix[:7, 2].tolist() == [1] * 5 + [0] * 2
    assert not matrix[:, 1].any()


def test_inverse_gives_the_table_back_and_state_is_json() -> None:
    table = FeatureTable().fit(mixed())
    copy = FeatureTable.from_state(json.loads(json.dumps(table.state())))
    matrix = table.transform(mixed())
    np.testing.assert_array_equal(copy.transform(mixed()), matrix)
    back = copy.inverse(matrix)
    np.testing.assert_allclose(back["size"], mixed()["size"], rtol=1e-4)
    assert back["color"].tolist() == mixed()["color"].tolist()


def test_text_columns_of_numbers_are_numbers_and_codes_can_be_categories() -> None:
    given = {"a": np.array(["1", "2.5", "?", ""], object), "b": np.array([1, 2, 2, 3])}
    table = FeatureTable(categorical=["b"]).fit(given)
    assert [n.name for n in table.numbers] == ["a"]
    assert table.categories[0].categories == ("1", "2", "3")
    assert FeatureTable(categorical=["b"]).fit(given).transform(given).shape == (4, 2 + 4)


def test_new_words_go_to_the_unknown_place_and_order_does_not_matter() -> None:
    table = FeatureTable().fit(mixed())
    new = {
        "color": np.array(["blue", "red"], object),
        "other": np.array([1, 2]),
        "flat": np.array([7.0, 7.0]),
        "size": np.array([50.0, 51.0]),
    }
    matrix = table.transform(new)
    block = next(b for b in table.blocks if b.kind == "category")
    assert matrix[0, block.start] == 1
    assert matrix[1, block.start] == 0


def test_columns_without_a_value_are_left_out() -> None:
    table = FeatureTable().fit({"a": np.array([1.0, 2.0]), "b": np.array([np.nan, np.nan])})
    assert table.dropped == ("b",)
    assert table.width == 1
    array = FeatureTable().fit(np.array([[1.0, np.nan], [2.0, np.nan]]))
    assert array.transform(np.array([[1.0, 3.0]])).shape == (1, 1)


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ({"sise": np.ones(2)}, "new.csv: there is no column 'size'; did you mean 'sise'?"),
        (np.ones((2, 5)), "the rows have 5 columns, in training they had 3"),
        (np.ones((2, 3)), "the columns have no names, in training they had"),
        (
            {**mixed(), "size": np.array([1.0] * 199 + [np.inf])},
            "column 'size', row 200: the value is infinite",
        ),
        (
            {**mixed(), "size": np.array(["1"] * 199 + ["1.797e308"], object)},
            r"column 'size', row 200: 1.797e\+308 is too large \(float32\)",
        ),
        (
            {**mixed(), "size": np.array([1] * 199 + [-(10**400)], object)},
            "column 'size', row 200: the value is infinite",
        ),
        (
            {**mixed(), "size": np.array(["1"] * 199 + ["1_3"], object)},
            "column 'size', row 200: '1_3' is no number",
        ),
        (
            {**mixed(), "size": np.array(["1"] * 199 + ["x"], object)},
            "column 'size', row 200: 'x' is no number",
        ),
        ({}, "the table has no rows"),
        (np.ones(4), "a table has two dimensions, this has 1"),
        ({"a": np.ones(2), "b": np.ones(3)}, "unequal lengths"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(new: object, message: str) -> None:
    table = FeatureTable().fit(mixed())
    with pytest.raises(UserError, match="^.*" + message.replace("?", r"\?")):
        table.transform(new, "new.csv")


def test_gaps_can_be_refused_and_infinite_values_imputed() -> None:
    with pytest.raises(UserError, match="column 'a', row 2: the value is missing"):
        FeatureTable(missing="refuse").fit({"a": np.array([1.0, np.nan])})
    with pytest.raises(UserError, match="no column with a value"):
        FeatureTable().fit({"a": np.array([np.nan])})
    table = FeatureTable(infinite="missing").fit({"a": np.array([1.0, 2.0, np.inf])})
    assert table.transform({"a": np.array([np.inf])}).tolist() == [[0, 1]]
    assert table.transform({"a": np.array([1.797e308])}).tolist() == [[0, 1]]


def test_numbers_that_float32_cannot_hold_are_infinite() -> None:
    with pytest.raises(UserError, match=r"column 'a', row 2: 1e\+40 is too large"):
        FeatureTable().fit({"a": np.array([1.0, 1e40])})
    table = FeatureTable(scaling="standard", limit=0).fit({"a": np.array([0.0, 1e-100])})
    with warnings.catch_warnings(action="error"):
        far = table.transform({"a": np.array([1e38, -1e38])})
    largest = float(np.finfo(np.float32).max)
    assert far[:, 0].tolist() == [largest, -largest]


TRUTHS = {
    "lower": ["true", "false", "", "true"],
    "title": ["True", "False", "", "True"],
    "mixed": ["TRUE", " False", "NA", "true"],
    "values": [True, False, None, True],
    "numpy": [np.True_, np.False_, None, np.True_],
}


@pytest.mark.parametrize("given", TRUTHS.values(), ids=TRUTHS.keys())
def test_true_and_false_are_the_same_in_all_files(given: list[object]) -> None:
    table = FeatureTable().fit({"a": np.array(given, object)})
    assert table.categories[0].categories == ("false", "true", None)
    for other in TRUTHS.values():
        matrix = table.transform({"a": np.array(other, object)})
        assert matrix.argmax(1).tolist() == [2, 1, 3, 2]
    other_words = {"a": np.array(["yes", True, "maybe", 0], object)}
    assert table.transform(other_words).argmax(1).tolist() == [0, 2, 0, 0]


def test_tables_that_learned_true_and_false_otherwise_read_all_files() -> None:
    """Before, they were numbers from JSON and parquet, and words in the file's own case from CSV."""
    new = FeatureTable().fit({"a": np.array(TRUTHS["lower"], object)}).state()
    words = FeatureTable.from_state(
        {**new, "categories": [{"name": "a", "categories": ["False", "True", None]}]}
    )
    number = {"name": "a", "center": 0.5, "scale": 0.5, "gaps": True, "constant": None}
    numbers = FeatureTable.from_state({**new, "categories": [], "numbers": [number]})
    for given in TRUTHS.values():
        rows = {"a": np.array(given, object)}
        assert words.transform(rows).argmax(1).tolist() == [2, 1, 3, 2]
        assert numbers.transform(rows).tolist() == [[1, 0], [-1, 0], [0, 1], [1, 0]]
    assert words.inverse(words.transform(rows))["a"].tolist() == ["True", "False", None, "True"]


def test_other_words_keep_their_case() -> None:
    given = {"a": np.array(["true", "True", "maybe"], object)}
    assert FeatureTable().fit(given).categories[0].categories == ("True", "maybe", "true")
    array = FeatureTable().fit(
        {"a": np.array([True, False])}
    )  # what NumPy has as numbers stays one
    assert [n.name for n in array.numbers] == ["a"]


def test_text_with_an_underscore_is_no_number() -> None:
    assert as_numbers(np.array(["1_3", "4"], object)) is None
    assert FeatureTable().fit({"a": np.array(["1_3", "2_4"], object)}).numbers == ()


def test_a_table_comes_back_in_the_order_of_training() -> None:
    given = {
        "word": np.array(["a", "b", "a"], object),
        "gone": np.array([np.nan] * 3),
        "size": np.array([1.0, 2.0, np.nan]),
        "other": np.array(["x", "x", "y"], object),
    }
    table = FeatureTable().fit(given)
    table = FeatureTable.from_state(json.loads(json.dumps(table.state())))
    back = table.inverse(table.transform(given))
    assert list(back) == list(given)
    assert back["word"].tolist() == ["a", "b", "a"]
    assert back["gone"].tolist() == [None] * 3
    np.testing.assert_allclose(back["size"], given["size"])
    old = {name: value for name, value in table.state().items() if name != "order"}
    assert list(FeatureTable.from_state(old).inverse(table.transform(given))) == [
        "size",
        "word",
        "other",
    ]


def test_columns_can_be_left_out_after_learning() -> None:
    table = FeatureTable().fit(mixed())
    table.leave_out(["color"])
    assert table.names == ("size", "flat")
    assert table.dropped == ("color",)
    rest = {name: column for name, column in mixed().items() if name != "color"}
    np.testing.assert_array_equal(
        table.transform(mixed()), FeatureTable().fit(rest).transform(rest)
    )
    with pytest.raises(UserError, match="no column is left to learn from without 'size', 'flat'"):
        table.leave_out(["size", "flat"])


def test_dates_are_words_and_spans_of_time_are_numbers() -> None:
    moments = np.array(["2020-01-05T13:30:00.5", "2020-01-06", "NaT"], "datetime64[ms]")
    assert as_numbers(moments) is as_numbers(moments.astype(object)) is None
    wanted = ["2020-01-05T13:30:00.5", "2020-01-06", None]
    for same in (moments, moments.astype("datetime64[ns]"), moments.astype(object)):
        assert as_texts(same) == wanted
    hours = np.array(["2020-01-05T13", "2020-01-06T00"], "datetime64[h]")
    assert as_texts(hours) == ["2020-01-05T13:00:00", "2020-01-06"]
    spans = as_numbers(np.array([90, "NaT"], "timedelta64[m]"))
    assert spans is not None
    np.testing.assert_array_equal(spans, [5400, np.nan])
    assert as_numbers(np.array([1 + 2j])) is None


SECONDS = datetime(2024, 1, 1, 5)


@pytest.mark.parametrize(
    ("word", "ways"),
    [
        (
            "2024-01-01T05:00:00",
            [SECONDS, "2024-01-01 05:00:00", "2024-01-01T05:00", " 2024-01-01 05:00:00.000 "],
        ),
        (
            "2024-01-01",
            [datetime(2024, 1, 1), "2024-01-01 00:00:00", "2024-01-01T00:00:00", "2024-01-01"],
        ),
        (
            "2024-01-01T05:00:00.5",
            [
                SECONDS.replace(microsecond=500_000),
                "2024-01-01 05:00:00.500",
                "2024-01-01 05:00:00,5",
            ],
        ),
        (
            "2024-01-01T05:00:00.123456789",
            [np.datetime64("2024-01-01T05:00:00.123456789"), "2024-01-01 05:00:00.123456789"],
        ),
        (
            "2024-01-01T00:00:00+00:00",
            [
                datetime(2024, 1, 1, tzinfo=UTC),
                datetime(2024, 1, 1, 5, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
                "2024-01-01 00:00:00+00",
                "2024-01-01T00:00:00Z",
                "2024-01-01 00:00:00 UTC",
                "2024-01-01 02:00:00.000+02:00",
                "2023-12-31 20:30:00-0330",
            ],
        ),
    ],
)
def test_a_moment_is_one_word_however_it_is_written(word: str, ways: list[object]) -> None:
    assert as_texts(np.array(ways, object)) == [word] * len(ways)
    assert as_texts([word]) == [word]
    known = FeatureTable().fit({"when": np.array(["2020-01-01", "x", str(ways[-1])], object)})
    state = known.state()
    state["categories"][0]["categories"] = ["2020-01-01", str(ways[-1])]  # as before 2026-11-27
    old = FeatureTable.from_state(state)
    for table in (known, old):
        assert not table.transform({"when": np.array(ways, object)})[:, 0].any()


def test_texts_that_are_no_whole_moment_stay_as_they_are() -> None:
    others = [
        "2024-13-01 05:00:00",
        "2024-01-01 25:00:00",
        "2024-01-01 at 05:00:00",
        "05:00:00",
        "2024-01-01 05",
        "2024-01-01 05:00.5",
        "0001-01-01 00:00:00+14:00",
        "from 2024-01-01 05:00:00",
    ]
    assert as_texts(others) == others


def test_spans_of_time_in_files_are_seconds_as_those_of_numpy() -> None:
    spans: list[object] = [timedelta(hours=1), np.timedelta64(90, "m"), None, np.timedelta64("NaT")]
    found = as_numbers(np.array(spans, object))
    assert found is not None
    np.testing.assert_array_equal(found, [3600, 5400, np.nan, np.nan])


class Frame:
    """What is a data frame as far as names go."""

    columns = ("a", "b", "a")


def test_two_columns_of_one_name_are_refused() -> None:
    for twins in ({1: [1, 2], "1": [3, 4]}, Frame()):
        with pytest.raises(UserError, match=r"column '[1a]' occurs 2 times; give each"):
            as_columns(twins)


def test_gaps_of_pandas_are_gaps() -> None:
    gap = type("NAType", (), {"__repr__": lambda self: "<NA>"})()
    days = np.array(["2024-01-01", "NaT"], "datetime64[D]")
    table = FeatureTable().fit({"n": np.array([1, gap], object), "day": days})
    assert [n.name for n in table.numbers] == ["n"]
    assert table.categories[0].categories == ("2024-01-01", None)


@pytest.mark.parametrize("scaling", ["robust", "standard", "none"])
def test_a_constant_comes_back_whatever_was_guessed(scaling: Scaling) -> None:
    values = np.array([[7.1, 1.0, 7.0], [7.1, 2.0, np.nan], [7.1, 4.0, 7.0]])
    table = FeatureTable(scaling=scaling).fit(values)
    table = FeatureTable.from_state(json.loads(json.dumps(table.state())))
    matrix = table.transform(values)
    back = table.inverse(matrix + 0.2)
    first, second, third = back.values()
    assert first.tolist() == [7.1] * 3
    assert (second != values[:, 1]).all()
    np.testing.assert_array_equal(third, [7.0, np.nan, 7.0])
    other = values + np.array([1.0, 0, 0])
    assert (table.transform(other)[:, 0] != matrix[:, 0]).all()  # a change is still read
    old = table.state()
    for number in old["numbers"]:
        number.pop("constant", None)  # a model that was saved before
    assert FeatureTable.from_state(old).inverse(matrix)["0"] == pytest.approx(7.1)
