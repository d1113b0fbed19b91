"""What a task costs without a pre-trained model: n-grams and a linear model, look-ups, the majority."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from selfsup.data.scripts import is_unspaced, word_pattern
from selfsup.errors import UserError
from selfsup.tasks.labelled import TaggedSentence, TextExample

Analyzer = Literal["word", "char", "auto"]
Labels = Sequence[str] | Sequence[float]
Answers = list[str] | list[float]

_PENALTIES = (1.0, 10.0, 100.0)  # C of the logistic regression
_RIDGES = (0.1, 1.0, 10.0)
_FOLDS = 3
_FEWEST = 30  # below it, cross-validation chooses by chance
_SEARCHED = 10_000  # examples among which the penalty is chosen
_MANY = 1000  # examples from which on an n-gram that occurs once is dropped
_FEATURES = 200_000
_SMALL_ALPHABET = 8


def example_texts(examples: Sequence[TextExample]) -> list[str]:
    """The texts; a pair's two joined by a line feed."""
    return [e.text if e.pair is None else f"{e.text}\n{e.pair}" for e in examples]


def majority_baseline(train_labels: Labels, count: int) -> Answers:
    """The most frequent class (of equals the first by name), or the mean of numbers, `count` times."""
    if not len(train_labels):
        raise UserError("there are no labels to learn from")
    if not isinstance(train_labels[0], str):
        return [float(np.mean(np.asarray(train_labels, np.float64)))] * count
    return [_commonest(Counter(map(str, train_labels)))] * count


def _commonest(counts: Counter[str]) -> str:
    """Of equals the first by name."""
    return min(counts, key=lambda name: (-counts[name], name))


def lookup_baseline(
    train: Sequence[TaggedSentence], test: Sequence[TaggedSentence]
) -> list[list[str]]:
    """Each word's most frequent tag in the training sentences; an unseen word has the commonest of all.

    The floor of tagging: words do not look at their neighbours.

    Raises:
        UserError: no training sentence has a word.
    """
    everything: Counter[str] = Counter()
    seen: dict[str, Counter[str]] = {}
    for sentence in train:
        for word, tag in zip(sentence.words, sentence.labels or (), strict=True):
            seen.setdefault(word, Counter())[tag] += 1
            everything[tag] += 1
    if not everything:
        raise UserError("there are no labels to learn from")
    tags = {word: _commonest(counts) for word, counts in seen.items()}
    other = _commonest(everything)
    return [[tags.get(word, other) for word in s.words] for s in test]


def tfidf_baseline(
    train_texts: Sequence[str],
    train_labels: Labels,
    test_texts: Sequence[str],
    *,
    analyzer: Analyzer = "auto",
    seed: int = 0,
) -> Answers:
    """The answers of a linear model over TF-IDF weights of n-grams (Wang and Manning 2012).

    Classes by logistic regression, numbers by ridge regression; 1- and 2-grams of words, or 1- to
    3-grams of characters (1- to 6-grams when there are at most 8 different ones, as in DNA).  The
    penalty is chosen by 3-fold cross-validation on the training part (on 10,000 of its examples when
    it is larger), or scikit-learn's own with fewer than 30.  Test labels are never seen.

    Args:
        train_texts: to learn from; of pairs, see `example_texts`.
        train_labels: class names, or numbers.
        test_texts: to be answered.
        analyzer: parts of the n-grams; `auto`: see `choose_analyzer`.
        seed: of the folds.

    Raises:
        UserError: there is but one class, or no text holds a part to count.
    """
    vectorizer = ngram_weights(train_texts, analyzer)
    try:
        features = vectorizer.fit_transform(train_texts)
    except ValueError as error:  # its own words: empty vocabulary
        what = "the texts hold nothing to count"
        raise UserError(what, mend="analyzer 'char' counts characters") from error
    labels = np.asarray(train_labels)
    is_class = labels.dtype.kind in "UO"
    if is_class and len(set(labels.tolist())) < 2:
        raise UserError(f"there is only the class '{labels[0]}'", mend="two at least are needed")
    model = _chosen(features, labels, is_class, seed)
    answers: Answers = model.predict(vectorizer.transform(test_texts)).tolist()
    return answers


def ngram_weights(texts: Sequence[str], analyzer: Analyzer = "auto") -> Any:
    """A scikit-learn vectorizer of TF-IDF weights as `tfidf_baseline` has them, not fitted yet.

    A letter and its accent are one character, however they are written (NFC).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    parts = choose_analyzer(texts) if analyzer == "auto" else analyzer
    return TfidfVectorizer(
        analyzer=parts,
        ngram_range=(1, 2) if parts == "word" else (1, _longest(texts)),
        preprocessor=_plain,
        token_pattern=word_pattern() if parts == "word" else None,
        sublinear_tf=True,
        min_df=2 if len(texts) > _MANY else 1,
        max_features=_FEATURES,
        dtype=np.float32,
    )


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).lower()


def choose_analyzer(texts: Sequence[str]) -> Literal["word", "char"]:
    """`char` for texts without words to split: Chinese, Japanese, Thai, or with almost no spaces.

    That is when more than half of the letters are of scripts without spaces (`is_unspaced`), or when less
    than one character in 50 is white space (DNA, proteins), by the first 1,000 texts.
    """
    sample = "".join(texts[:1000])
    letters = [character for character in sample if character.isalpha()]
    spaces = sum(map(str.isspace, sample))
    unspaced = sum(map(is_unspaced, letters))
    return "char" if 2 * unspaced > len(letters) or 50 * spaces < len(sample) else "word"


def _longest(texts: Sequence[str]) -> int:
    """Characters in the longest n-gram: with few different ones, 3-grams are too few to tell."""
    return 6 if len(set("".join(texts[:1000]).lower())) <= _SMALL_ALPHABET else 3


def _chosen(features: Any, labels: Any, is_class: bool, seed: int) -> Any:
    """The fitted model with the penalty that was best in cross-validation."""
    from sklearn.base import clone
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier

    if is_class:
        # One class against the rest: as good as all at once on sparse features, and faster.
        one = LogisticRegression(solver="liblinear", tol=0.01, max_iter=500, random_state=seed)
        model, grid = OneVsRestClassifier(one), {"estimator__C": list(_PENALTIES)}
    else:
        model, grid = Ridge(solver="sparse_cg"), {"alpha": list(_RIDGES)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # as good as it gets in 500 steps
        if _can_search(labels, is_class):
            chosen = np.random.default_rng(seed).permutation(len(labels))[:_SEARCHED]
            rare = is_class and min(Counter(labels[chosen].tolist()).values()) < _FOLDS
            fold = StratifiedKFold if is_class and not rare else KFold
            folds = fold(_FOLDS, shuffle=True, random_state=seed)
            score = "accuracy" if is_class else "neg_mean_squared_error"
            search = GridSearchCV(model, grid, scoring=score, cv=folds, refit=False)
            search.fit(features[chosen], labels[chosen])
            model = clone(model).set_params(**search.best_params_)
        return model.fit(features, labels)


def _can_search(labels: Any, is_class: bool) -> bool:
    if len(labels) < _FEWEST:
        return False
    # Two classes must be in every fold's training part.
    return not is_class or sum(c >= _FOLDS for c in Counter(labels.tolist()).values()) >= 2
