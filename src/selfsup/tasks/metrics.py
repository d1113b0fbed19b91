"""How good predictions are.  Shares and scores are in 0 to 1 (correlations in -1 to 1), never percent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfsup.errors import UserError, nearest
from selfsup.tasks.answer_rules import RULES, Language, Prepared, Rule
from selfsup.tasks.squad import Question


def class_scores(confusion: NDArray[np.integer[Any]]) -> dict[str, float]:
    """Scores of a classification, as scikit-learn has them.

    Args:
        confusion: (classes, classes) how many of class `row` were called class `column`.

    Returns:
        `accuracy`; `f1`, of class 1 when there are two, otherwise the mean over the classes that
        occur among the labels or the predictions (macro); `matthews`, the correlation of Matthews
        (1975), for more classes as Gorodkin (2004).  What would divide by zero is 0.

    Raises:
        UserError: nothing was counted.
    """
    counts = np.asarray(confusion, np.float64)
    total = counts.sum()
    if total == 0:
        raise UserError("there are no predictions to score")
    true, predicted, right = counts.sum(1), counts.sum(0), np.diag(counts)
    both = true + predicted
    f1 = 2 * right / np.where(both > 0, both, 1)
    spread = np.sqrt((total**2 - true @ true) * (total**2 - predicted @ predicted))
    shared = right.sum() * total - true @ predicted
    return {
        "accuracy": float(right.sum() / total),
        "f1": float(f1[1] if len(counts) == 2 else f1[both > 0].mean()),
        "matthews": float(shared / spread) if spread > 0 else 0.0,
    }


def regression_scores(
    predicted: NDArray[np.floating[Any]], true: NDArray[np.floating[Any]]
) -> dict[str, float]:
    """Scores of predicted numbers.

    Args:
        predicted: (examples,).
        true: (examples,).

    Returns:
        `pearson` and `spearman`, both 0 where either side is constant, and their mean, `correlation`, as
        GLUE averages them; `mae` and `rmse` in the unit of
        the labels; `r2`, which for constant labels is 1 when all are met and else 0.

    Raises:
        UserError: there are no examples, or a number is not finite.
    """
    from scipy.stats import rankdata

    guesses, labels = np.asarray(predicted, np.float64), np.asarray(true, np.float64)
    if guesses.shape != labels.shape or guesses.ndim != 1:
        raise ValueError(f"predictions of shape {guesses.shape}, labels of shape {labels.shape}")
    if not len(labels):
        raise UserError("there are no predictions to score")
    if not (np.isfinite(guesses).all() and np.isfinite(labels).all()):
        raise UserError("a predicted or a true number is not finite")
    errors = guesses - labels
    unexplained = float(errors @ errors)
    spread = float(np.square(labels - labels.mean()).sum()) if np.ptp(labels) > 0 else 0.0
    pearson = _correlation(guesses, labels)
    spearman = _correlation(rankdata(guesses), rankdata(labels))
    return {
        "correlation": (pearson + spearman) / 2,
        "pearson": pearson,
        "spearman": spearman,
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt(unexplained / len(labels))),
        "r2": 1 - unexplained / spread if spread > 0 else float(unexplained == 0),
    }


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    # The mean of a constant is not always that constant, so that its residue need not be 0.
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    left, right = left - left.mean(), right - right.mean()
    norms = float(np.linalg.norm(left)), float(np.linalg.norm(right))
    if min(norms) == 0:
        return 0.0
    return float(np.clip((left / norms[0]) @ (right / norms[1]), -1, 1))


def tag_scores(confusion: NDArray[np.integer[Any]]) -> dict[str, float]:
    """The share of tokens with the right tag, as `accuracy`.

    Args:
        confusion: (tags, tags) how many tokens of tag `row` were given tag `column`.

    Raises:
        UserError: nothing was counted.
    """
    total = confusion.sum()
    if total == 0:
        raise UserError("there are no predictions to score")
    return {"accuracy": float(np.trace(confusion) / total)}


class Entity(NamedTuple):
    """A named stretch of a sentence."""

    kind: str
    """`PER`; empty where the tags name none (`B`, `I`, `O`)."""
    begin: int
    """Its first token."""
    end: int
    """One past its last token."""


_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "M": "I", "L": "E", "U": "S", "W": "S"}


def find_entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence by the rules of conlleval (Tjong Kim Sang and Buchholz 2000).

    They hold for IOB1, BIO (IOB2), IOE and BIOES, also with the letters of BMES and BILOU, and for
    sequences that break their scheme, as models make them: an `I-` after `O` or after another kind
    begins an entity.  (These are also the rules of seqeval's default mode.)

    Args:
        tags: `O`, or a letter with or without a kind: `B-PER`, `I-PER`, `B`.

    Raises:
        UserError: a tag is of another form.
    """
    found: list[Entity] = []
    inside = False  # an entity is under way that may go on
    kind, begin = "", 0
    for place, tag in enumerate([*tags, "O"]):
        letter, named = _split_tag(tag)
        if inside and letter in ("I", "E") and named == kind:
            if letter == "E":
                found.append(Entity(kind, begin, place + 1))
                inside = False
            continue
        if inside:
            found.append(Entity(kind, begin, place))
        inside = letter in ("B", "I")
        kind, begin = named, place
        if letter in ("S", "E"):
            found.append(Entity(kind, place, place + 1))
    return found


def are_entities(tags: Collection[str]) -> bool:
    """Whether tags mark the begin or the inside of entities, as `find_entities` reads them, and `O`."""
    parts = [tag.partition("-") for tag in tags if tag != "O"]
    known = all(letter in _PREFIXES and (kind or not dash) for letter, dash, kind in parts)
    return "O" in tags and known and any(_PREFIXES[letter] in "BI" for letter, _, _ in parts)


def _split_tag(tag: str) -> tuple[str, str]:
    if tag == "O":
        return "O", ""
    letter, dash, kind = tag.partition("-")
    if letter not in _PREFIXES or (dash and not kind):
        what = f"'{tag}' is not the tag of an entity"
        raise UserError(
            what, mend="known are O and B-, I-, E-, S- (also M-, L-, U-, W-) with a kind"
        )
    return _PREFIXES[letter], kind


def entity_scores(
    true_tags: Sequence[Sequence[str]], predicted_tags: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Precision, recall and F1 of whole entities: right are those with the same ends and kind.

    Args:
        true_tags: (sentences, tokens) tags as `find_entities` takes them.
        predicted_tags: (sentences, tokens).

    Returns:
        `precision`, `recall`, `f1` over all entities (micro), `entities`, the number of true ones, and
        the same for each kind as `PER/f1`.  What would divide by zero is 0.

    Raises:
        UserError: a tag is of another form.
        ValueError: the sentences do not have the same lengths.
    """
    true, predicted, right = Counter[str](), Counter[str](), Counter[str]()
    for number, (labels, guesses) in enumerate(zip(true_tags, predicted_tags, strict=True)):
        if len(labels) != len(guesses):
            raise ValueError(
                f"sentence {number}: {len(labels)} true tags, {len(guesses)} predicted ones"
            )
        wanted, found = find_entities(labels), find_entities(guesses)
        true.update(entity.kind for entity in wanted)
        predicted.update(entity.kind for entity in found)
        right.update(entity.kind for entity in set(wanted) & set(found))
    scores = _retrieval(right.total(), predicted.total(), true.total())
    for kind in sorted(true.keys() | predicted.keys()):
        own = _retrieval(right[kind], predicted[kind], true[kind])
        if kind:
            scores |= {f"{kind}/{name}": value for name, value in own.items()}
    return scores


def _retrieval(right: int, found: int, wanted: int) -> dict[str, float]:
    return {
        "precision": right / found if found else 0.0,
        "recall": right / wanted if wanted else 0.0,
        "f1": 2 * right / (found + wanted) if found + wanted else 0.0,
        "entities": float(wanted),
    }


def answer_scores(
    predictions: Mapping[str, str] | Sequence[str],
    questions: Sequence[Question],
    language: Language = "en",
) -> dict[str, float]:
    """Exact match and F1 of answers, each the best over a question's answers.

    `en` is SQuAD's rule (Rajpurkar et al. 2016, 2018): lower case, without ASCII punctuation, `a`,
    `an`, `the` and needless blanks; F1 of the bags of words.  An unanswerable question wants the empty
    answer.  It is also usual for other languages with spaces (XQuAD).

    `zh` is CMRC 2018's (Cui et al. 2019): lower case, without the punctuation it lists; F1 from the
    longest common substring of segments, which are single Chinese characters and other words.  Other
    words are parted by a rule of our own where CMRC's script uses NLTK; it matters only for F1 of
    answers with Latin words, numbers or leftover punctuation.

    `characters` is for all scripts without spaces (Japanese, Thai): each of their characters is a word, as
    in MLQA's rule for Chinese (Lewis et al. 2020); lower case, without punctuation; F1 of the bags.

    Args:
        predictions: identity to answer, where a missing one scores 0; or one answer a question, in
            order.
        questions: with their answers.
        language: whose rule.

    Returns:
        `exact_match`, `f1`, and `missing`, the number of questions without a prediction; where some
        questions are unanswerable also `has_answer/exact_match`, `has_answer/f1`,
        `no_answer/exact_match` and `no_answer/f1`, for those sides that have questions.

    Raises:
        UserError: no questions, a question without answers that is not unanswerable, or two of the
            same identity with predictions by identity.
    """
    if not questions:
        raise UserError("there is no question to score")
    exact, f1 = question_scores(predictions, questions, language)
    missing = 0
    if isinstance(predictions, Mapping):
        missing = sum(question.identity not in predictions for question in questions)
    scores = {
        "exact_match": float(exact.mean()),
        "f1": float(f1.mean()),
        "missing": float(missing),
    }
    impossible = np.array([question.impossible for question in questions], np.bool_)
    if impossible.any():
        for name, chosen in (("has_answer", ~impossible), ("no_answer", impossible)):
            if chosen.any():
                scores[f"{name}/exact_match"] = float(exact[chosen].mean())
                scores[f"{name}/f1"] = float(f1[chosen].mean())
    return scores


def question_scores(
    predictions: Mapping[str, str] | Sequence[str],
    questions: Sequence[Question],
    language: Language = "en",
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact match and F1 of each question: two of (questions,).  See `answer_scores`."""
    if language not in RULES:
        raise UserError(f"no rule for answers in '{language}'", mend=nearest(language, list(RULES)))
    rule = RULES[language]
    exact, f1 = np.zeros(len(questions)), np.zeros(len(questions))
    for row, (text, question) in enumerate(_paired(predictions, questions)):
        if text is None:
            continue
        guess = rule.prepare(text)
        for wanted in _golds(question, rule):
            exact[row] = max(exact[row], guess.text == wanted.text)
            f1[row] = max(f1[row], _f1(guess.words, wanted.words, rule.overlap))
    return exact, f1


def _paired(
    predictions: Mapping[str, str] | Sequence[str], questions: Sequence[Question]
) -> Iterator[tuple[str | None, Question]]:
    if not isinstance(predictions, Mapping):
        yield from zip(predictions, questions, strict=True)
        return
    known: set[str] = set()
    for question in questions:
        if question.identity in known:
            what = f"another question has the id '{question.identity}' too"
            mend = "give predictions by order, or each question its own id"
            raise UserError(what, where=question.where, mend=mend)
        known.add(question.identity)
        yield predictions.get(question.identity), question


def _golds(question: Question, rule: Rule) -> list[Prepared]:
    if question.impossible:
        return [rule.prepare("")]
    if not question.answers:
        raise UserError("the question has no answers to score with", where=question.where)
    prepared = [rule.prepare(answer.text) for answer in question.answers]
    left = [gold for gold in prepared if gold.text] or [rule.prepare("")]
    return left if rule.voids else prepared


def _f1(
    guess: list[str], wanted: list[str], overlap: Callable[[list[str], list[str]], int]
) -> float:
    if not guess or not wanted:
        return float(guess == wanted)
    return 2 * overlap(guess, wanted) / (len(guess) + len(wanted))
