"""What a fine-tuned model got wrong: which classes it takes for which, and its worst answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from selfsup.tasks.answers import SpanCollector
from selfsup.tasks.judge import Collector
from selfsup.tasks.labelled import TaggedSentence, TextExample
from selfsup.tasks.metrics import answer_scores
from selfsup.tasks.squad import Question
from selfsup.tasks.tagging import TagCollector
from selfsup.tasks.task import Examples, TaskInfo
from selfsup.tasks.texts import ClassCollector, NumberCollector

_SHOWN = 20
_LONGEST = 600  # characters of a text
_LIKELY = 3  # classes of which the probability is told


def mistakes(info: TaskInfo, examples: Examples, collector: Collector) -> dict[str, Any]:
    """Up to 20 wrong answers, the most confident (or the farthest) first.

    Args:
        info: the task.
        examples: with their labels.
        collector: has seen the answers to all of them.

    Returns:
        `wrong` (how many of `of`), `examples` (texts and answers as strings), and for classes
        `confusion`: rows are true classes, columns the given ones.
    """
    if isinstance(collector, ClassCollector):
        return _classes(cast("Sequence[TextExample]", examples), collector)
    if isinstance(collector, NumberCollector):
        return _numbers(cast("Sequence[TextExample]", examples), collector)
    if isinstance(collector, TagCollector):
        return _tags(cast("Sequence[TaggedSentence]", examples), collector)
    assert isinstance(collector, SpanCollector)
    return _spans(cast("Sequence[Question]", examples), collector, info)


def _texts(example: TextExample) -> dict[str, str]:
    second = {} if example.pair is None else {"second text": _short(example.pair)}
    return {"text": _short(example.text)} | second


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def _classes(examples: Sequence[TextExample], collector: ClassCollector) -> dict[str, Any]:
    names, chances = collector.labels, collector.probabilities
    number = {name: i for i, name in enumerate(names)}
    truth = np.array([number[str(e.label)] for e in examples])
    given = chances.argmax(1)
    wrong = np.flatnonzero(truth != given)
    shown = wrong[np.argsort(-chances[wrong].max(1), kind="stable")][:_SHOWN]
    rows = []
    for i in shown:
        likely = np.argsort(-chances[i], kind="stable")[:_LIKELY]
        said = ", ".join(f"{names[k]} {chances[i, k]:.2f}" for k in likely)
        rows.append({**_texts(examples[i]), "true": names[truth[i]], "probabilities": said})
    return {
        "wrong": len(wrong),
        "of": len(examples),
        "examples": rows,
        "confusion": {"labels": list(names), "counts": collector.confusion.tolist()},
    }


def _numbers(examples: Sequence[TextExample], collector: NumberCollector) -> dict[str, Any]:
    errors = np.abs(collector.guesses - collector.truth)
    rows = [
        {
            **_texts(examples[i]),
            "true": f"{collector.truth[i]:.4g}",
            "answered": f"{collector.guesses[i]:.4g}",
        }
        for i in np.argsort(-errors, kind="stable")[:_SHOWN]
    ]
    return {"wrong": len(examples), "of": len(examples), "examples": rows}


def _tags(examples: Sequence[TaggedSentence], collector: TagCollector) -> dict[str, Any]:
    names, rows = collector.part.labels, []
    for sentence, guesses in zip(examples, collector.guesses, strict=True):
        triples = zip(sentence.words, sentence.labels or (), guesses, strict=True)
        bad = [
            f"{word}: {names[g]}, not {label}" for word, label, g in triples if names[g] != label
        ]
        if bad:
            rows.append((len(bad), " ".join(sentence.words), "; ".join(bad)))
    worst = sorted(rows, key=lambda row: -row[0])[:_SHOWN]
    return {
        "wrong": len(rows),
        "of": len(examples),
        "examples": [
            {"sentence": _short(text), "wrong words": _short(bad)} for _, text, bad in worst
        ],
    }


def _spans(
    examples: Sequence[Question], collector: SpanCollector, info: TaskInfo
) -> dict[str, Any]:
    rows = []
    for question, answer in zip(examples, collector.predictions(), strict=True):
        scores = answer_scores([answer["text"]], [question], language=info.span.language)
        if scores["f1"] < 1:
            right = " / ".join(dict.fromkeys(a.text for a in question.answers)) or "(no answer)"
            rows.append((answer["probability"], scores["f1"], question, right, answer["text"]))
    worst = sorted(rows, key=lambda row: (row[1], -row[0]))[:_SHOWN]
    return {
        "wrong": len(rows),
        "of": len(examples),
        "examples": [
            {
                "question": _short(question.question),
                "passage": _short(question.passage),
                "true": right,
                "answered": text or "(no answer)",
                "probability": f"{chance:.2f}",
            }
            for chance, _, question, right, text in worst
        ],
    }
