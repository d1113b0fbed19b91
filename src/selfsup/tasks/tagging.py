"""A label for each word of a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfsup.data.tokenizers import Tokenizer
from selfsup.objectives.labels import LabelledBatch, TokenLabels
from selfsup.tasks.encoding import Aligned, align_words
from selfsup.tasks.labelled import TaggedSentence
from selfsup.tasks.metrics import are_entities, entity_scores, tag_scores


@dataclass(frozen=True)
class TagSet:
    """Sentences of words, ready for the model."""

    objective: TokenLabels
    labels: tuple[str, ...]
    main: str
    sentences: Sequence[TaggedSentence]
    aligned: Aligned
    fallback: int
    """The label of a word that the tokenizer drops: the most frequent one."""

    def __len__(self) -> int:
        return len(self.sentences)

    def collector(self, *, keep: bool = True) -> TagCollector:
        """See `LabelledSet.collector`; scores need all there is."""
        return TagCollector(self)


def make_tag_set(
    tokenizer: Tokenizer,
    sentences: Sequence[TaggedSentence],
    labels: tuple[str, ...],
    *,
    longest: int,
    main: str,
    fallback: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> TagSet:
    """Tokenize sentences and put each label on its word's first token (see `align_words`)."""
    aligned = align_words(tokenizer, [s.words for s in sentences], longest)
    number = {name: i for i, name in enumerate(labels)}
    values = []
    for owner, words in zip(aligned.sentences, aligned.words, strict=True):
        given = sentences[owner].labels
        values.append(np.array([number.get(given[w], 0) if given else 0 for w in words], np.int64))
    objective = TokenLabels(aligned.ids, aligned.places, values, weights)
    return TagSet(objective, labels, main, sentences, aligned, fallback)


class TagCollector:
    """Keeps the guessed label of every word; words without tokens get the most frequent label."""

    def __init__(self, part: TagSet) -> None:
        self.part = part
        self.guesses = [np.full(len(s.words), part.fallback, np.int64) for s in part.sentences]

    def add(self, batch: LabelledBatch, answers: Tensor) -> None:
        """Take a batch of pieces."""
        chosen = answers.argmax(-1).numpy()
        at = 0
        for piece in batch.rows:
            words = self.part.aligned.words[piece]
            guesses = self.guesses[self.part.aligned.sentences[piece]]
            guesses[words] = chosen[at : at + len(words)]
            at += len(words)

    def scores(self) -> dict[str, float]:
        """See `score_tags`."""
        return score_tags(
            self.part.labels, self.part.sentences, list(map(self._names, self.guesses))
        )

    def predictions(self) -> Iterator[dict[str, Any]]:
        """The words and their labels."""
        for sentence, row in zip(self.part.sentences, self.guesses, strict=True):
            yield {"words": list(sentence.words), "labels": self._names(row)}

    def _names(self, guesses: NDArray[np.int64]) -> list[str]:
        return [self.part.labels[g] for g in guesses]


def score_tags(
    labels: Sequence[str], sentences: Sequence[TaggedSentence], guesses: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Accuracy over all words; entity F1 where the labels are B-, I-, O ones.

    Args:
        labels: all names, in order.
        sentences: with their true labels.
        guesses: a label for each word of each sentence.
    """
    number = {name: i for i, name in enumerate(labels)}
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    truths = [list(s.labels or ()) for s in sentences]
    for truth, given in zip(truths, guesses, strict=True):
        np.add.at(confusion, ([number[x] for x in truth], [number[x] for x in given]), 1)
    scores = tag_scores(confusion)
    if are_entities(labels):
        scores |= entity_scores(truths, guesses)
    return scores
