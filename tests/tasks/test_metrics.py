from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from selfsup.errors import UserError
from selfsup.tasks.answer_rules import _by_character, _chinese, _english
from selfsup.tasks.metrics import (
    Entity,
    answer_scores,
    class_scores,
    entity_scores,
    find_entities,
    question_scores,
    regression_scores,
    tag_scores,
)
from selfsup.tasks.squad import Answer, Question


@given(st.integers(2, 5), st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
@settings(deadline=None, max_examples=100)
def test_class_scores_are_scikit_learns(classes: int, pairs: list[tuple[int, int]]) -> None:
    true, predicted = (np.array(column) % classes for column in zip(*pairs, strict=True))
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (true, predicted), 1)
    average = "binary" if classes == 2 else "macro"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = {
            "accuracy": reference.accuracy_score(true, predicted),
            "f1": reference.f1_score(true, predicted, average=average, zero_division=0),
            "matthews": reference.matthews_corrcoef(true, predicted),
        }
    assert class_scores(confusion) == pytest.approx(wanted, abs=1e-12)
    assert tag_scores(confusion) == {"accuracy": pytest.approx(wanted["accuracy"])}


def test_class_scores_at_the_edges() -> None:
    assert class_scores(np.array([[5, 0], [0, 0]])) == {"accuracy": 1.0, "f1": 0.0, "matthews": 0.0}
    large = class_scores(np.array([[10**9, 0], [0, 10**9]]))  # beyond int64 when squared twice
    assert large == {"accuracy": 1.0, "f1": 1.0, "matthews": 1.0}
    for scores in (class_scores, tag_scores):
        with pytest.raises(UserError, match="no predictions"):
            scores(np.zeros((2, 2), np.int64))


@given(st.lists(st.tuples(st.integers(-6, 6), st.floats(-9, 9)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=100)
def test_regression_scores_are_the_references(pairs: list[tuple[int, float]]) -> None:
    true, predicted = (
        np.round(np.array(column, np.float64), 3) for column in zip(*pairs, strict=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = regression_scores(predicted, true)
    assert scores["mae"] == pytest.approx(reference.mean_absolute_error(true, predicted))
    assert scores["rmse"] == pytest.approx(reference.root_mean_squared_error(true, predicted))
    assert scores["r2"] == pytest.approx(reference.r2_score(true, predicted))
    if np.ptp(true) and np.ptp(predicted):
        assert scores["pearson"] == pytest.approx(stats.pearsonr(predicted, true)[0], abs=1e-9)
        assert scores["spearman"] == pytest.approx(stats.spearmanr(predicted, true)[0], abs=1e-9)
    else:
        assert scores["pearson"] == scores["spearman"] == 0.0


def test_constant_predictions_score_zero_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = regression_scores(np.full(7, 0.1), np.arange(7) / 3)
        assert scores["pearson"] == scores["spearman"] == 0.0
        assert regression_scores(np.full(7, 0.1), np.full(7, 0.1))["r2"] == 1.0
        assert regression_scores(np.arange(7.0), np.full(7, 0.1))["r2"] == 0.0
        one = regression_scores(np.array([2.0]), np.array([3.0]))
    zero = {"correlation": 0.0, "pearson": 0.0, "spearman": 0.0}
    assert one == {**zero, "mae": 1.0, "rmse": 1.0, "r2": 0.0}
    with pytest.raises(UserError, match="not finite"):
        regression_scores(np.array([np.nan]), np.array([3.0]))
    with pytest.raises(UserError, match="no predictions"):
        regression_scores(np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("", []),
        ("O O", []),
        ("B-A I-A O B-B", [("A", 0, 2), ("B", 3, 4)]),
        ("B-A B-A I-A", [("A", 0, 1), ("A", 1, 3)]),
        ("I-A I-A B-A O I-B", [("A", 0, 2), ("A", 2, 3), ("B", 4, 5)]),  # IOB1
        ("B-A I-B", [("A", 0, 1), ("B", 1, 2)]),  # another kind begins anew
        ("O I-A E-A S-B", [("A", 1, 3), ("B", 3, 4)]),
        ("B-A E-A I-A", [("A", 0, 2), ("A", 2, 3)]),
        ("S-A I-A E-A E-A", [("A", 0, 1), ("A", 1, 3), ("A", 3, 4)]),
        ("B-A S-A O E-A", [("A", 0, 1), ("A", 1, 2), ("A", 3, 4)]),
        ("B-A M-A E-A", [("A", 0, 3)]),
        ("B-A I-A L-A U-B W-C", [("A", 0, 3), ("B", 3, 4), ("C", 4, 5)]),
        ("B I O S", [("", 0, 2), ("", 3, 4)]),
        ("B-A-1 I-A-1 I-A", [("A-1", 0, 2), ("A", 2, 3)]),
    ],
)
def test_entities_by_conllevals_rules(tags: str, wanted: list[tuple[str, int, int]]) -> None:
    assert find_entities(tags.split()) == [Entity(*entity) for entity in wanted]


def transcribed_conlleval(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The rules as conlleval states them, case by case."""
    found, begin = [], None
    before, kind_before = "O", ""
    for place, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        changed = letter != "O" and before != "O" and kind != kind_before
        ends = before in "ES" or (before in "BI" and letter in "BSO") or (before != "O" and changed)
        starts = letter in "BS" or (before in "ESO" and letter in "EI") or changed
        if begin is not None and ends:
            found.append((kind_before, begin, place))
            begin = None
        if starts and letter != "O":
            begin = place
        before, kind_before = letter, kind
    return found


def test_entities_of_all_short_sequences() -> None:
    tags = ["O", *(f"{letter}-{kind}" for letter in "BIES" for kind in "XY")]
    for length in range(5):
        for sequence in itertools.product(tags, repeat=length):
            assert find_entities(sequence) == transcribed_conlleval(sequence), sequence


def test_entity_scores() -> None:
    # The example of seqeval's README: 0.5 each, with MISC 0 of 1 and PER 1 of 1.
    true = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    guess = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    scores = entity_scores(true, guess)
    assert [scores[name] for name in ("precision", "recall", "f1", "entities")] == [
        0.5,
        0.5,
        0.5,
        2,
    ]
    assert (scores["MISC/f1"], scores["PER/f1"], scores["PER/entities"]) == (0, 1, 1)
    # Three found, of two wanted, one right: the same stretch with another kind is wrong.
    scores = entity_scores([["B-A", "O", "B-B", "I-B"]], [["B-A", "B-A", "B-A", "I-A"]])
    assert scores["precision"] == pytest.approx(1 / 3)
    assert scores["recall"] == pytest.approx(1 / 2)
    assert scores["f1"] == pytest.approx(2 / 5)
    assert scores["A/precision"] == pytest.approx(1 / 3)
    assert (scores["A/recall"], scores["B/recall"]) == (1, 0)
    assert entity_scores([["O"]], [["O"]])["f1"] == 0
    assert "/f1" not in entity_scores([["B"]], [["B"]])
    with pytest.raises(UserError, match="'NOUN' is not the tag of an entity"):
        entity_scores([["NOUN"]], [["NOUN"]])
    with pytest.raises(ValueError, match="sentence 0: 1 true tags, 2 predicted"):
        entity_scores([["O"]], [["O", "O"]])


def ask(identity: str, *answers: str, impossible: bool = False) -> Question:
    found = tuple(Answer(answer, 0) for answer in answers)
    return Question(identity, "?", "passage", found, impossible, f"at {identity}")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Cat,  a dog & an  owl!", "cat dog owl"),
        ("the-cat", "thecat"),  # punctuation goes before articles
        ("A.", ""),
        ("theatre an' anna", "theatre anna"),
        ("«Été»", "«été»"),  # only ASCII punctuation
    ],
)
def test_english_normalisation(text: str, wanted: str) -> None:
    assert _english(text).text == wanted


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("The cat", ["cat"], 1, 1),
        ("cat sat", ["cat sat down"], 0, 0.8),
        ("cat sat", ["dog", "sat on cat hat"], 0, 2 / 3),
        ("cat cat", ["cat"], 0, 2 / 3),  # a bag, not a set
        ("x", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("the", ["a"], 1, 1),  # nothing is left of either
        ("cat", ["the", "cat dog"], 0, 2 / 3),  # a void answer does not count beside others
    ],
)
def test_english_answers(prediction: str, golds: list[str], exact: float, f1: float) -> None:
    scores = answer_scores({"a": prediction}, [ask("a", *golds)])
    assert scores == {"exact_match": exact, "f1": pytest.approx(f1), "missing": 0}


def test_unanswerable_questions() -> None:
    questions = [
        ask("a", "cat"),
        ask("b", impossible=True),
        ask("c", impossible=True),
        ask("d", "x y"),
    ]
    scores = answer_scores({"a": "", "b": "", "c": "cat", "d": "x"}, questions)
    assert scores == {
        "exact_match": 1 / 4,
        "f1": pytest.approx((1 + 2 / 3) / 4),
        "missing": 0,
        "has_answer/exact_match": 0,
        "has_answer/f1": pytest.approx(1 / 3),
        "no_answer/exact_match": 1 / 2,
        "no_answer/f1": 1 / 2,
    }
    only = answer_scores({}, [ask("b", impossible=True)])  # missing is not the empty answer
    assert only == {
        "exact_match": 0,
        "f1": 0,
        "missing": 1,
        "no_answer/exact_match": 0,
        "no_answer/f1": 0,
    }


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("《战国无双3》，", ["战", "国", "无", "双", "3"]),
        ("ω-Force开发", ["ωforce", "开", "发"]),
        ("约3,000.5米 in 1998", ["约", "3,000.5", "米", "in", "1998"]),
        ("（50%）", ["50", "%"]),
    ],
)
def test_chinese_segments(text: str, wanted: list[str]) -> None:
    assert _chinese(text).words == wanted


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("光荣和ω-force", ["“光荣和ω-force”。"], 1, 1),
        ("光荣和", ["光荣"], 0, 0.8),
        ("北京大学", ["北方大学"], 0, 0.5),  # the common substring 大学, not the subsequence
        ("大的学校", ["学校大"], 0, 4 / 7),
        ("光荣", ["任天堂", "光荣公司"], 0, 2 / 3),
        ("无", ["有"], 0, 0),
        ("", ["有"], 0, 0),
    ],
)
def test_chinese_answers(prediction: str, golds: list[str], exact: float, f1: float) -> None:
    scores = answer_scores([prediction], [ask("a", *golds)], "zh")
    assert scores == {"exact_match": exact, "f1": pytest.approx(f1), "missing": 0}


@given(st.text("大学校长的"), st.text("大学校长的"))
@settings(deadline=None)
def test_chinese_f1_is_of_the_longest_common_substring(left: str, right: str) -> None:
    lengths = [
        j - i for i in range(len(left)) for j in range(i + 1, len(left) + 1) if left[i:j] in right
    ]
    wanted = 2 * max(lengths, default=0) / max(1, len(left) + len(right))
    f1 = question_scores([left], [ask("a", right)], "zh")[1][0]
    assert f1 == pytest.approx(wanted if left or right else 1)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("とても、良い「映画」", list("とても良い映画")),
        ("ทั้งวัน 24 ชม.", [*"ทั้งวัน", "24", *"ชม"]),
        ("Le Cafe\u0301 2.5 हिन्दी", ["le", "café", "25", "हिन्दी"]),
        ("iPhone手机 $5", ["iphone", "手", "机", "$", "5"]),
        ("ဘာ\u200bသာ", list("ဘာသာ")),
    ],
)
def test_by_character(text: str, wanted: list[str]) -> None:
    assert _by_character(text).words == wanted


def test_answers_by_character() -> None:
    asked = [ask("a", "1998年のこと")]
    assert answer_scores(["1998年"], asked)["f1"] == 0
    assert answer_scores(["1998年"], asked, "characters")["f1"] == pytest.approx(4 / 7)
    assert answer_scores(["「1998 年のこと」"], asked, "characters")["exact_match"] == 1


def test_what_cannot_be_scored() -> None:
    cases: list[tuple[Any, list[Question], Any, str]] = [
        ({}, [], "en", "no question"),
        ({}, [ask("a", "x"), ask("a", "y")], "en", "at a: another question has the id 'a' too"),
        ({"a": "x"}, [ask("a")], "en", "at a: the question has no answers"),
        ({}, [ask("a", "x")], "fr", "no rule for answers in 'fr'"),
    ]
    for predictions, questions, language, message in cases:
        with pytest.raises(UserError, match=message):
            answer_scores(predictions, questions, language)
    twins = [ask("a", "x"), ask("a", "y")]
    assert answer_scores(["x", "y"], twins)["exact_match"] == 1
    with pytest.raises(ValueError, match="zip"):
        answer_scores(["x"], twins)
    assert math.isclose(answer_scores({"a": "x"}, [ask("a", "x")])["f1"], 1)
