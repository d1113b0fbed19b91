"""Using a fine-tuned model: labels with probabilities, tags, answers; and scores on labelled files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

from selfsup.data.files import listed, whole_file
from selfsup.data.inputs import check_text, list_inputs
from selfsup.data.outputs import check_output
from selfsup.data.tokenizer_frames import check_frame
from selfsup.errors import UserError, at_least, counted
from selfsup.finetune_config import LabelledConfig, TaskKind
from selfsup.models.task_hub import Answer, Finetuned, load_finetuned
from selfsup.nn.device import choose_device
from selfsup.tasks.judge import TOKENS_AT_ONCE, read_answers
from selfsup.tasks.label_notes import answer_notes
from selfsup.tasks.labelled import TaggedSentence, TextExample, unknown_labels
from selfsup.tasks.reading import Notes, leave_out_unknown, read_examples
from selfsup.tasks.squad import Question
from selfsup.tasks.task import SCORES, AnySet, Examples, TaskInfo, make_set, set_notes
from selfsup.training.devices import choose_precision
from selfsup.training.progress import Progress

Tell = Callable[[float], None]
_USUAL: dict[str, TaskKind] = {
    "class": "classify",
    "number": "regress",
    "tag": "tag",
    "span": "span",
}
_ANSWERS: dict[TaskKind, tuple[Answer, ...]] = {
    "classify": ("class",),
    "pairs": ("class", "number"),
    "regress": ("number",),
    "tag": ("tag",),
    "span": ("span",),
}
"""What the head of a task may say."""


def task_of(opened: Finetuned) -> TaskInfo:
    """The task of a fine-tuned model; one of another maker has its kind's defaults.

    Raises:
        UserError: what its folder says of the task cannot be, or is not that of its head.
    """
    if opened.task:
        where = f"{opened.path / 'config.json'}: selfsup.task"
        try:
            info = TaskInfo.model_validate(opened.task)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{key}: {first['msg']}".lstrip(": "), where=where) from None
        if opened.answer not in _ANSWERS[info.kind]:
            what = f"the task {info.kind} and the answer {info.answer} do not go together"
            raise UserError(what, where=where)
        if info.outputs != opened.model.spec.outputs:
            what = (
                f"{counted(info.outputs, 'answer')}, and the head has {opened.model.spec.outputs}"
            )
            raise UserError(what, where=where, mend="labels and weights do not belong together")
        if not 0 <= info.fallback < max(1, len(info.labels)):
            raise UserError(f"fallback: there is no label {info.fallback}", where=where)
        return info
    return TaskInfo(
        kind=_USUAL[opened.answer],
        answer=opened.answer,
        labels=opened.labels,
        main=SCORES[opened.answer][0],
        max_length=opened.max_length,
    )


class Predictor:
    """A fine-tuned model, ready to answer.

    >>> predictor = selfsup.Predictor("runs/sst2")
    >>> predictor(["a fine film", "dull"])[0]["label"]

    Args:
        name: a run folder, a model folder or a hub name.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        precision: `auto`, `fp32` or `bf16`.
        batch_tokens: of a batch; changes speed and memory, not the answers.  A CPU reads a batch
            for each of torch's threads at once, at most 8.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_tokens: int = TOKENS_AT_ONCE,
    ) -> None:
        at_least(1, batch_tokens, "--batch-tokens")
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.opened = load_finetuned(name, self.device)
        self.task = task_of(self.opened)
        self.batch_tokens = batch_tokens

    def __call__(self, inputs: Iterable[Any]) -> list[dict[str, Any]]:
        """Answers, one for each input, in order.

        Args:
            inputs: texts; pairs `(first, second)`; lists of words, to be tagged; or, for questions,
                objects with `question` and `passage` or `context` (and `id`).

        Raises:
            UserError: an input of another kind.
        """
        given = list_inputs(inputs, "input")
        examples = [self._example(x, number) for number, x in enumerate(given, start=1)]
        return list(self.predict(cast("Examples", examples)))

    def _example(self, given: Any, number: int) -> TextExample | TaggedSentence | Question:
        where = f"input {number}"
        given = given.tolist() if isinstance(given, np.ndarray) else given
        for text in [given] if isinstance(given, str) else _texts_of(given):
            check_text(text, where)
        match self.task.answer, given:
            case "span", (
                {"question": str(question), "passage": str(passage)}
                | {"question": str(question), "context": str(passage)}
            ):
                name = str(number if given.get("id") is None else given["id"])
                return Question(name, question, passage, (), False, where)
            case "tag", [*words] if all(isinstance(word, str) for word in words):
                return TaggedSentence(tuple(words), None, where)
            case (("class" | "number"), str(text)) if self.task.kind != "pairs":
                return TextExample(text, None, None, where)
            case (
                ("class" | "number"),
                (str(first), str(second)),
            ) if self.task.kind == "pairs" or not self.opened.task:
                return TextExample(first, second, None, where)
        mend = f"it was given {str(given)[:40]} ({type(given).__name__})"
        raise UserError(f"this model reads {self.wanted}", where=where, mend=mend)

    @property
    def wanted(self) -> str:
        """What one input is, in words."""
        return {
            "span": "an object with `question` and `passage` (or `context`)",
            "tag": "a list of words",
        }.get(self.task.answer, "two texts" if self.task.kind == "pairs" else "a text")

    def predict(
        self, examples: Examples, notes: Notes | None = None, progress: Tell | None = None
    ) -> Iterator[dict[str, Any]]:
        """Answers for examples that were read from a file; all are read at once, and then told one by one.

        Args:
            examples: what to answer.
            notes: added to: how many texts were cut.
            progress: called with the share that is done.
        """
        if not examples:
            return iter(())
        collector, _ = read_answers(
            self.opened.model,
            self._set(examples, notes),
            self.device,
            self.precision,
            tokens=self.batch_tokens,
            with_loss=False,
            progress=progress,
        )
        return collector.predictions()

    def score(
        self, examples: Examples, notes: Notes | None = None, progress: Tell | None = None
    ) -> dict[str, float]:
        """Loss and scores on labelled examples.

        Args:
            examples: with their labels.
            notes: added to: how many texts were cut.
            progress: called with the share that is done.

        Raises:
            UserError: a label that the model does not know.
        """
        self._known(examples)
        collector, loss = read_answers(
            self.opened.model,
            self._set(examples, notes),
            self.device,
            self.precision,
            tokens=self.batch_tokens,
            keep=False,
            progress=progress,
        )
        return {"loss": loss, **collector.scores()}

    def _set(self, examples: Examples, notes: Notes | None) -> AnySet:
        types = self.opened.model.encoder.config.type_vocab_size > 1
        if not self.opened.task:
            pair = any(
                isinstance(e, Question) or getattr(e, "pair", None) is not None for e in examples
            )
            where = str(self.opened.path)
            check_frame(self.opened.tokenizer, where, pair=pair, types=types)
        made = make_set(self.opened.tokenizer, examples, self.task, types=types)
        if notes is not None:
            for line in set_notes(made, self.task):
                notes.add(line)
        return made

    def _known(self, examples: Examples) -> None:
        for example in examples if self.task.labels else ():
            if strange := unknown_labels(example, self.task.labels):
                what = f"'{strange[0]}' is no label of this model; it knows {listed(list(self.task.labels))}"
                mend = "mend the label, or leave such rows out with --on-bad-row skip"
                raise UserError(what, where=example.where, mend=mend)

    def read(self, path: str, columns: Mapping[str, Any], notes: Notes, *, labelled: bool) -> Any:
        """The examples of a file laid out as the training file was, or as `columns` says."""
        given = {key: value for key, value in columns.items() if value is not None}
        data = LabelledConfig.model_validate({**self.task.data.model_dump(), **given})
        kind = self.task.kind
        if kind == "classify" and data.pair_column:
            kind = "pairs"
        examples = read_examples(
            path,
            data,
            kind,
            notes,
            numeric=self.task.answer == "number",
            role="score" if labelled else "predict",
        )
        if labelled and data.on_bad_row == "skip":
            return leave_out_unknown(examples, self.task.labels, notes, path)
        return examples


def _texts_of(given: Any) -> list[str]:
    """The texts that an input holds."""
    parts = given.values() if isinstance(given, Mapping) else given
    return [x for x in parts if isinstance(x, str)] if isinstance(parts, Iterable) else []


def predict_texts(predictor: Predictor, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Answers beside texts; those whose words are labelled are parted at white space.

    Raises:
        UserError: the model reads pairs or questions.
    """
    if predictor.task.answer == "span" or predictor.task.kind == "pairs":
        mend = "give them in a file: --input FILE --output FILE"
        raise UserError(f"this model reads {predictor.wanted}", mend=mend)
    tagged = predictor.task.answer == "tag"
    answers = predictor([text.split() if tagged else text for text in texts])
    return [{"text": text, **answer} for text, answer in zip(texts, answers, strict=True)]


def predict_file(
    predictor: Predictor,
    path: str,
    output: Path,
    columns: Mapping[str, Any],
    *,
    overwrite: bool,
    quiet: bool = True,
) -> dict[str, Any]:
    """Write the answers for a file's examples, one JSON object a line, in the file's order.

    Args:
        predictor: answers.
        path: of the examples.
        output: a JSON-lines file.
        columns: where the examples stand in the file, where that is not as in training.
        overwrite: whether the output may be replaced.
        quiet: show no progress.

    Raises:
        UserError: the input cannot be read, or the output is there already.
    """
    if output.is_dir():
        raise UserError("is a folder", where=str(output), mend="name a .jsonl file to write")
    check_output(output, (".jsonl", ".ndjson"), overwrite, path)
    notes = Notes()
    with _progress(path, quiet) as tell:
        examples = predictor.read(path, columns, notes, labelled=False)
        rows = predictor.predict(examples, notes, tell(examples))  # the file is not open yet
    with whole_file(output) as beside, open(beside, "w", encoding="utf-8") as handle:
        for example, row in zip(examples, rows, strict=True):
            name = getattr(example, "name", "")  # of a sequence
            row = {"name": name, **row} if name else row
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    result = {"kind": "predict", "examples": len(examples), "output": str(output)}
    return result | ({"notes": notes.lines} if notes.lines else {})


@contextmanager
def _progress(path: str, quiet: bool) -> Iterator[Callable[[Examples], Tell]]:
    """Shows that a file is read, and then how many of its examples were answered."""
    display = Progress(quiet=quiet, title="reading")
    display.say_reading(path)

    def tell(examples: Examples) -> Tell:
        total = len(examples)
        return lambda share: display.count(
            "read", round(share * total), f"of {total:,} examples", share
        )

    try:
        yield tell
    finally:
        display.close()


def evaluate_file(
    predictor: Predictor, path: str, columns: Mapping[str, Any], *, quiet: bool = True
) -> dict[str, Any]:
    """The scores of a fine-tuned model on a labelled file; unless `quiet`, progress is shown."""
    notes = Notes()
    with _progress(path, quiet) as tell:
        examples = predictor.read(path, columns, notes, labelled=True)
        scores = predictor.score(examples, notes, tell(examples))
    if predictor.task.answer == "span":
        for line in answer_notes(examples, predictor.task.span.language):
            notes.add(line)
    main = {predictor.task.main: scores[predictor.task.main]}
    result = {"kind": "evaluate", "examples": len(examples), **main, **scores}
    if "f1" in scores and predictor.task.answer == "class" and len(predictor.task.labels) == 2:
        result["f1_of"] = predictor.task.labels[1]
    return result | ({"notes": notes.lines} if notes.lines else {})
