"""Few-shot prompting: a task is shown in the prompt, and no weight changes (Brown et al. 2020).

Which examples are shown is a keyed draw of the task's pool, and k examples are the first k of a
draw's order, so the prompts of a draw grow; the examples that are asked about are the same for all
draws and numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from selfsup.data.files import listed
from selfsup.data.keys import below, hash64
from selfsup.errors import UserError, at_least
from selfsup.models.decoder_hub import PretrainedDecoder
from selfsup.tasks.prompts import Example, PromptTask
from selfsup.uses.generate import Writer, join
from selfsup.uses.likelihood import BATCH_TOKENS, Likelihood, encode_pairs, score
from selfsup.uses.sampling import Sampling

Normalize = Literal["none", "tokens", "bytes"]
Labels = Literal["true", "shuffled"]
Tell = Callable[[float], None]

NORMALIZE: tuple[Normalize, ...] = ("none", "tokens", "bytes")
_PART, _ORDER, _CYCLE, _CHOICE = range(71, 75)  # purposes of draws


@dataclass(frozen=True)
class Parts:
    """A task's examples, parted."""

    pool: tuple[Example, ...]
    """May be shown."""
    asked: tuple[Example, ...]
    """Are asked about."""


@dataclass(frozen=True)
class Measured:
    """How well a model did on the examples that were asked."""

    accuracy: dict[str, float]
    """Where it chooses, for each way to normalize; else under `exact`."""
    right_nats: float | None
    """Mean of -log p of the right answer, where it chooses."""
    answers: list[str]
    """By the chosen way to normalize, or as they were written."""


def part(task: PromptTask, test: PromptTask | None, *, limit: int | None, seed: int) -> Parts:
    """Which examples may be shown and which are asked about.

    With a test file, all of the task's may be shown and the test file's are asked about; else the
    task's are halved by a keyed draw, the odd one is asked.

    Args:
        task: what is shown.
        test: what is asked about; None: half of the task's.
        limit: ask at most so many, drawn at random; None: all.
        seed: of the draw.

    Raises:
        UserError: one example alone, or a test file of another kind or with other choices.
    """
    if limit is not None:
        at_least(1, limit, "--limit")
    if test is not None:
        _check_test(task, test)
        pool, asked = list(task.examples), list(test.examples)
    else:
        if len(task.examples) < 2:
            what = "holds one example: none is left to ask about"
            raise UserError(what, where=task.examples[0].where, mend="add some, or give --test")
        order = _order(len(task.examples), seed, _PART)
        half = len(order) // 2
        pool = [task.examples[i] for i in sorted(order[:half])]
        asked = [task.examples[i] for i in sorted(order[half:])]
    if limit is not None and limit < len(asked):
        asked = [asked[i] for i in sorted(_order(len(asked), seed, _PART, 1)[:limit])]
    return Parts(tuple(pool), tuple(asked))


def _check_test(task: PromptTask, test: PromptTask) -> None:
    """Refuse a test file whose answers are none that the task's examples show."""
    if test.chooses != task.chooses:
        what = "has choices, the task has none" if test.chooses else "has no choices"
        raise UserError(what, where=test.examples[0].where, mend="give both files the same kind")
    shown, asked = _common_choices(task), _common_choices(test)
    if shown and asked and set(shown) != set(asked):
        what = f"the choices are {listed(list(asked))}, those of the task {listed(list(shown))}"
        raise UserError(
            what, where=_file(test), mend=f"give both files the same choices (task: {_file(task)})"
        )


def have_their_own(examples: Sequence[Example]) -> bool:
    """Whether examples differ in their choices, in whatever order these stand."""
    return any(set(e.choices) != set(examples[0].choices) for e in examples)


def _common_choices(task: PromptTask) -> tuple[str, ...]:
    """The choices that all examples of a file have in common; empty where each has its own."""
    first = task.examples[0].choices
    if have_their_own(task.examples):
        return ()
    return first if len(task.examples) > 1 or first == task.choices else ()


def _file(task: PromptTask) -> str:
    return task.examples[0].where.rpartition(":")[0]


def with_test(task: PromptTask, test: PromptTask | None) -> PromptTask:
    """The task with the examples of the test file, which count where choices are compared."""
    return task if test is None else replace(task, tested=test.examples)


def unused(task: PromptTask, test: PromptTask | None) -> list[str]:
    """What a test file says of the prompt that is not used, because the task says otherwise."""
    if test is None:
        return []
    used = {**vars(task.layout), "description": task.description}
    return [
        f"'{key}' of {_file(test)} ({value!r}) is not used: prompts are written as "
        f"{_file(task)} says ({used[key]!r})"
        for key, value in test.said.items()
        if value != used[key]
    ]


def _order(count: int, *parts: int) -> list[int]:
    """A keyed random order of `count` things."""
    draws: NDArray[np.uint64] = hash64(*parts, np.arange(count))
    return [int(i) for i in np.argsort(draws, kind="stable")]


def shown(
    pool: Sequence[Example], shots: int, *, seed: int, draw: int, labels: Labels
) -> list[Example]:
    """The examples that a draw shows; with shuffled labels, the same inputs with others' outputs.

    Shuffled: around a keyed circle of the whole pool, each example gets the output of the next; one
    with choices of its own gets a random one of them.  So an output says nothing of its input, but
    how often each output stands in the pool is the same.
    """
    order = _order(len(pool), seed, _ORDER, draw)[:shots]
    if labels == "true":
        return [pool[i] for i in order]
    own = have_their_own(pool)
    circle = _order(len(pool), seed, _CYCLE, draw)
    after = dict(zip(circle, [*circle[1:], circle[0]], strict=True))
    found = []
    for i in order:
        example = pool[i]
        output = pool[after[i]].output
        if own:
            output = example.choices[int(below(len(example.choices), seed, _CHOICE, draw, i))]
        found.append(Example(example.input, output, example.choices, example.where))
    return found


def options(task: PromptTask, example: Example) -> list[str]:
    """What is scored behind the prompt, for each choice.

    Where a choice begins another (`1` and `10`), each is scored with what ends an example, else the
    shorter one could not lose.
    """
    closing = task.layout.ending if task.begun_by_another else ""
    return [f"{choice}{closing}" for choice in example.choices]


# ---- what fits -----------------------------------------------------------------------------------


def longest(
    pretrained: PretrainedDecoder,
    task: PromptTask,
    examples: Sequence[Example],
    asked: Sequence[Example],
    max_tokens: int,
) -> tuple[int, Example]:
    """Tokens that the longest prompt with its answer needs, and what it asks about."""
    sizes = prompt_sizes(pretrained, task, examples, asked, max_tokens)
    at = int(np.argmax(sizes))
    return sizes[at], asked[at]


def prompt_sizes(
    pretrained: PretrainedDecoder,
    task: PromptTask,
    examples: Sequence[Example],
    asked: Sequence[Example],
    max_tokens: int,
) -> list[int]:
    """Tokens of each prompt with its longest answer."""
    pairs, owners = [], []
    for number, example in enumerate(asked):
        prompt = task.prompt(examples, example.input)
        for option in options(task, example) or [""]:
            pairs.append((prompt, option))
            owners.append(number)
    sizes = [0] * len(asked)
    beside = 0 if task.chooses else max_tokens + 1  # the last answer token is not read
    for owner, (context, answer) in zip(owners, encode_pairs(pretrained, pairs), strict=True):
        sizes[owner] = max(sizes[owner], len(context) + len(answer) - 1 + beside)
    return sizes


def most_that_fit(
    pretrained: PretrainedDecoder,
    task: PromptTask,
    examples: Sequence[Example],
    asked: Example,
    max_tokens: int,
) -> int:
    """How many of the examples, from the first on, fit before what is asked."""
    fits, too_many = 0, len(examples) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        size = prompt_sizes(pretrained, task, examples[:middle], [asked], max_tokens)[0]
        if size <= pretrained.max_length:
            fits = middle
        else:
            too_many = middle
    return fits


# ---- measuring -----------------------------------------------------------------------------------


def measure(
    pretrained: PretrainedDecoder,
    task: PromptTask,
    examples: Sequence[Example],
    asked: Sequence[Example],
    *,
    normalize: Normalize = "bytes",
    max_tokens: int = 32,
    batch_tokens: int = BATCH_TOKENS,
    writer: Writer | None = None,
) -> Measured:
    """Ask about each example behind the shown ones.

    With choices, the answer is the choice with the largest log-probability: as it is (`none`), for
    each of its tokens, or for each of its bytes.  Without, it is written greedily up to the layout's
    ending and must equal the output, white space around it aside.

    Args:
        pretrained: from `load_decoder`.
        task: gives the layout.
        examples: shown, in this order.
        asked: asked about.
        normalize: which answers `answers` holds; `accuracy` has all.
        max_tokens: of a written answer.
        batch_tokens: tokens read at once.
        writer: writes the answers, where one is here already (see `writer_for`).
    """
    prompts = [task.prompt(examples, e.input) for e in asked]
    if not task.chooses:
        stop = [task.layout.ending] if task.layout.ending else []
        how = Sampling(greedy=True, max_tokens=max_tokens, stop=tuple(stop))
        writer = writer or writer_for(pretrained, batch_tokens)
        written = join(prompts, writer.generate(prompts, how))
        answers = [one.text.strip() for one in written]
        right = [a == e.output.strip() for a, e in zip(answers, asked, strict=True)]
        return Measured({"exact": float(np.mean(right))}, None, answers)
    pairs = [
        (prompt, option)
        for prompt, example in zip(prompts, asked, strict=True)
        for option in options(task, example)
    ]
    found = score(pretrained, pairs, batch_tokens=batch_tokens)
    picked: dict[str, list[str]] = {way: [] for way in NORMALIZE}
    nats, at = [], 0
    for example in asked:
        own = found[at : at + len(example.choices)]
        at += len(own)
        for way in NORMALIZE:
            picked[way].append(example.choices[best(own, way)])
        nats.append(-own[example.choices.index(example.output)].log_probability)
    accuracy = {
        way: float(np.mean([a == e.output for a, e in zip(answers, asked, strict=True)]))
        for way, answers in picked.items()
    }
    return Measured(accuracy, float(np.mean(nats)), picked[normalize])


def writer_for(pretrained: PretrainedDecoder, batch_tokens: int) -> Writer:
    """A writer of as many texts side by side as fill so many tokens at most."""
    return Writer(pretrained, batch=max(1, batch_tokens // pretrained.max_length))


def best(found: Sequence[Likelihood], normalize: Normalize) -> int:
    """The number of the best choice; of equals, the first."""
    sizes = {
        "none": [1] * len(found),
        "tokens": [one.tokens for one in found],
        "bytes": [one.bytes for one in found],
    }[normalize]
    values = [one.log_probability / size for one, size in zip(found, sizes, strict=True)]
    return int(np.argmax(values))


def majority(asked: Sequence[Example]) -> tuple[str, float]:
    """The best of all constant answers, and how often it is right.

    Where each example has choices of its own there is no such answer: the share is that of guessing.
    """
    if have_their_own(asked):
        return "", float(np.mean([1 / len(e.choices) for e in asked]))
    answer, count = max(Counter(e.output for e in asked).items(), key=lambda item: item[::-1])
    return answer, count / len(asked)
