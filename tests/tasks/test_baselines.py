from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selfsup.errors import UserError
from selfsup.tasks.baselines import (
    choose_analyzer,
    example_texts,
    lookup_baseline,
    majority_baseline,
    ngram_weights,
    tfidf_baseline,
)
from selfsup.tasks.labelled import TaggedSentence, TextExample, read_texts, read_uci_classes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}")


def _accuracy(answers: list[str] | list[float], truth: list[str]) -> float:
    return sum(a == b for a, b in zip(answers, truth, strict=True)) / len(truth)


def _words(seed: int, count: int) -> tuple[list[str], list[str]]:
    """Sentences whose class is told by one word among many."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(["good", "bad", "none"], count)
    told = {"good": "fine", "bad": "poor", "none": "the"}
    texts = [f"{' '.join(draw.choice(list('abcdefgh'), 5))} {told[label]} end" for label in labels]
    return texts, labels.tolist()


def test_majority() -> None:
    assert majority_baseline(["b", "a", "b"], 2) == ["b", "b"]
    assert majority_baseline(["b", "a"], 1) == ["a"]
    assert majority_baseline([1.0, 2.0, 6.0], 2) == [3.0, 3.0]
    with pytest.raises(UserError):
        majority_baseline([], 1)


def test_looking_tags_up() -> None:
    def sentence(words: str, tags: str) -> TaggedSentence:
        return TaggedSentence(tuple(words.split()), tuple(tags.split()), "here")

    train = [
        sentence("the run was a run", "D N V D N"),
        sentence("they run", "P V"),
        sentence("light light", "B A"),  # of equals the first by name
    ]
    test = [sentence("a light run they invented", "D A N P V")]
    # D, N and V stand twice and more; D first by name among the commonest
    assert lookup_baseline(train, test) == [["D", "A", "N", "P", "D"]]
    with pytest.raises(UserError, match="no labels"):
        lookup_baseline([], test)


def test_classes_are_learned_and_seeded() -> None:
    texts, labels = _words(0, 300)
    test, truth = _words(1, 100)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    answers = tfidf_baseline(texts, labels, test)
    assert _accuracy(answers, truth) > 0.95
    assert tfidf_baseline(texts, labels, test) == answers
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    shuffled = np.random.default_rng(2).permutation(labels).tolist()
    assert _accuracy(tfidf_baseline(texts, shuffled, test), truth) < 0.6


def test_numbers_are_learned() -> None:
    texts, labels = _words(0, 300)
    test, truth = _words(1, 100)
    values = {"good": 2.0, "bad": -1.0, "none": 0.5}
    answers = tfidf_baseline(texts, [values[x] for x in labels], test)
    assert all(isinstance(answer, float) for answer in answers)
    wanted = np.array([values[x] for x in truth])
    assert np.corrcoef(np.array(answers, float), wanted)[0, 1] > 0.95


@pytest.mark.parametrize("count", [2, 5, 40])
def test_few_and_rare_labels(count: int) -> None:
    texts = ["good film", "bad film"] * count
    labels = ["1", "0"] * count
    assert tfidf_baseline(texts, labels, ["good", "bad"]) == ["1", "0"]
    rare = tfidf_baseline([*texts, "odd thing"], [*labels, "2"], ["good", "bad"])
    assert rare == ["1", "0"]


def test_refusals() -> None:
    with pytest.raises(UserError, match="only the class 'a'"):
        tfidf_baseline(["x y", "z"], ["a", "a"], ["x"])
    with pytest.raises(UserError, match="nothing to count"):
        tfidf_baseline(["! !", "? ?"], ["a", "b"], ["x"], analyzer="word")


def test_analyzer() -> None:
    assert choose_analyzer(["A text of some words.", "And one more."]) == "word"
    assert choose_analyzer(["good", "bad film"]) == "word"
    assert choose_analyzer(["这个宾馆比较陈旧了，一般 wifi", "三つ目のテキスト。"]) == "char"
    assert choose_analyzer(["한국어 문장은 띄어 쓴다"]) == "word"
    assert choose_analyzer(["ACGT" * 20] * 50) == "char"
    assert choose_analyzer(["ACGT"] * 50) == "char"
    for unspaced in (
        "ภาษาไทย ไม่มี ช่องว่าง ระหว่าง คำ",
        "ພາສາ ລາວ ບໍ່ມີ",
        "ភាសា ខ្មែរ មិន",
        "မြန်မာ ဘာသာ စကား",
        "བོད་ སྐད་ ཡིག",
    ):
        assert choose_analyzer([unspaced]) == "char"


def _features(*texts: str) -> list[str]:
    found: list[str] = ngram_weights(texts, "word").fit(texts).get_feature_names_out().tolist()
    return found


def test_words_keep_their_marks() -> None:
    assert _features("में हिन्दी") == ["में", "में हिन्दी", "हिन्दी"]
    assert _features("cafe\u0301", "Café") == ["café"]
    assert _features("ශ්\u200dරී") == ["ශ්\u200dරී"]
    # as before, what goes with symbols is no word, nor part of one
    assert _features("ok \u2764\ufe0f 1\ufe0f\u20e3 don't") == [
        *("1", "1 don", "don", "don t", "ok", "ok 1", "t"),
    ]


def test_pairs_are_joined() -> None:
    pair, single = TextExample("a", "b", "1", "f:1"), TextExample("c", None, "1", "f:2")
    assert example_texts([pair, single]) == ["a\nb", "c"]


def test_scikit_learn_is_imported_late() -> None:
    code = "import sys, selfsup.tasks.baselines; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_data
def test_real_data() -> None:
    folder = SHARED / "text" / "sst2_sentences"
    train = read_texts(folder / "train.tsv", text_column="sentence")
    test = read_texts(folder / "test.tsv", text_column="sentence")
    labels, truth = [str(e.label) for e in train], [str(e.label) for e in test]
    answers = tfidf_baseline(example_texts(train), labels, example_texts(test))
    assert _accuracy(answers, truth) > 0.79  # 0.806; the majority 0.50
    rows = read_uci_classes(SHARED / "sequence" / "splice_junction" / "splice.data")
    order = np.random.default_rng(0).permutation(len(rows))
    first, rest = [rows[i] for i in order[:2000]], [rows[i] for i in order[2000:]]
    answers = tfidf_baseline(
        example_texts(first), [str(e.label) for e in first], example_texts(rest)
    )
    assert _accuracy(answers, [str(e.label) for e in rest]) > 0.7  # 0.74; with 3-grams 0.64
