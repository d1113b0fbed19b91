"""What a sample of a task's examples says of the task, where less is learned from than there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from selfsup.tasks.labelled import TextExample, class_weights
from selfsup.tasks.task import Examples, TaskInfo


def learned_from(
    sample: Examples, info: TaskInfo, *, weighted: bool
) -> tuple[TaskInfo, NDArray[np.float64] | None]:
    """The task as the sample alone tells it: the scale of its numbers, the weights of its classes.

    Args:
        sample: the examples that are learned from.
        info: the task as all examples tell it.
        weighted: whether rare classes weigh more.
    """
    weights = None
    if info.answer == "number":
        values = np.array(text_labels(sample, info), np.float64)
        spread = float(values.std())
        info = info.model_copy(update={"scale": (float(values.mean()), spread or 1.0)})
    if weighted and info.answer == "class":
        labels = [str(label) for label in text_labels(sample, info)]
        names = [name for name in info.labels if name in set(labels)]
        weight = dict(zip(names, class_weights(labels, names), strict=True))
        weights = np.array([weight.get(name, 1.0) for name in info.labels])
    elif weighted:
        found = [
            label for s in sample for label in getattr(s, "labels", None) or ()
        ]  # a small sample may lack a tag; one more of each keeps its weight finite
        weights = class_weights([*found, *info.labels], info.labels)
    return info, weights


def text_labels(examples: Examples, info: TaskInfo) -> list[str] | list[float]:
    """Class names, or numbers, of texts."""
    texts = cast("Sequence[TextExample]", examples)
    if info.answer == "number":
        return [float(e.label or 0) for e in texts]
    return [str(e.label) for e in texts]
