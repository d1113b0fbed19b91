"""The outside judge: EleutherAI's lm-evaluation-harness asks, a decoder answers through our scorer."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from selfsup.data.files import import_extra
from selfsup.data.outputs import check_place
from selfsup.errors import UserError, at_least
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.training.progress import Progress
from selfsup.uses.generate import Writer, join
from selfsup.uses.judge_tasks import JudgeTask, Places, find_task, read_rows, write_rows
from selfsup.uses.likelihood import BATCH_TOKENS, check_length, encode_pairs, rolling, score
from selfsup.uses.run_folder import write_json
from selfsup.uses.sampling import Sampling

_WRITTEN = 256  # tokens that the harness lets a model write where a task says nothing


def judge(
    model: str,
    tasks: Sequence[str],
    data: Path,
    *,
    limit: int | None = None,
    own: bool = False,
    device: str = "auto",
    batch_tokens: int = BATCH_TOKENS,
    out: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Ask a decoder the harness's tasks, without examples in the prompt, on local files.

    Args:
        model: a run folder, a model folder or a hub name.
        tasks: names, see `judge_tasks.known_tasks`.
        data: the folder below which their files lie.
        limit: the first so many rows of each; None: all.
        own: our scorer answers, and the harness is not needed.
        device: `auto`, `cpu`, `cuda`, `cuda:1`.
        batch_tokens: tokens read at once.
        out: a folder that gets `result.json`.
        overwrite: replace a `result.json` that is there.
        quiet: show no progress.

    Raises:
        UserError: no decoder, an unknown task, a missing or broken file, or no harness.
    """
    if limit is not None:
        at_least(1, limit, "--limit")
    if not tasks:
        raise UserError("names no task", where="--tasks")
    if out is not None and (out / "result.json").exists() and not overwrite:
        what = "holds a result already"
        raise UserError(what, where=str(out), mend="--overwrite replaces it")
    if out is not None:
        check_place(out / "result.json")
    chosen = [find_task(name) for name in dict.fromkeys(tasks)]
    places: dict[str, Places] = {task.name: [] for task in chosen}
    rows = {task.name: read_rows(task, data, limit, places[task.name]) for task in chosen}
    if not own:
        import_extra("lm_eval", "judge", "selfsup judge")
    pretrained = load_decoder(model, device)
    for task in chosen:
        _check_lengths(pretrained, task, rows[task.name], places[task.name])
    display = Progress(quiet=quiet, title="judge")
    try:
        if own:
            found = _ask_ourselves(pretrained, chosen, rows, batch_tokens, display)
        else:
            found = ask_harness(adapter(pretrained, batch_tokens), chosen, rows)
    finally:
        display.close()
    result = {
        "kind": "judge",
        "judge": "selfsup's scorer" if own else f"lm-eval {metadata.version('lm_eval')}",
        "model": model,
        "limit": limit,
        "table": [_row(task, rows[task.name], found[task.name]) for task in chosen],
        "notes": [f"the first {limit} rows of each task"] if limit is not None else [],
    }
    if out is not None:
        write_json(out / "result.json", result)
    return result


def _check_lengths(
    pretrained: PretrainedDecoder,
    task: JudgeTask,
    rows: Sequence[Mapping[str, Any]],
    places: Places,
) -> None:
    """Refuse an answer that cannot be scored, before anything is."""
    asked = [task.ask(row).pairs for row in rows]
    encoded = iter(encode_pairs(pretrained, [pair for pairs in asked for pair in pairs]))
    mend = "shorten it, leave the row out, or judge a model that reads more"
    for pairs, where in zip(asked, places, strict=True):
        for number in range(1, len(pairs) + 1):
            _, answer = next(encoded)
            name = f"{where}: answer {number}" if len(pairs) > 1 else f"{where}: the answer"
            check_length(answer, pretrained.max_length, name, mend)


def _row(
    task: JudgeTask, rows: Sequence[Mapping[str, Any]], found: dict[str, Any]
) -> dict[str, Any]:
    """A line of the table: the scores, and what guessing gives."""
    share = [1 / len(task.ask(row).pairs) for row in rows]
    guessing = 0.0 if task.kind == "last word" else float(np.mean(share))
    named = {key: found.get(key) for key in ("acc", "acc_stderr", "acc_norm", "perplexity")}
    right, count = float(found["acc"]), len(rows)
    if count > 1:  # the harness's own formula, which it leaves out without bootstrapping
        named["acc_stderr"] = math.sqrt(right * (1 - right) / (count - 1))
    return {"task": task.name, "rows": count, "guessing": guessing, **named}


def _ask_ourselves(
    pretrained: PretrainedDecoder,
    tasks: Sequence[JudgeTask],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    batch_tokens: int,
    display: Progress,
) -> dict[str, dict[str, Any]]:
    found = {}
    for number, task in enumerate(tasks):
        start, name = number / len(tasks), task.name

        def tell(done: float, start: float = start, name: str = name) -> None:
            display.update(start + done / len(tasks), name)

        found[name] = own_scores(pretrained, task, rows[name], batch_tokens=batch_tokens, tell=tell)
    return found


def own_scores(
    pretrained: PretrainedDecoder,
    task: JudgeTask,
    rows: Sequence[Mapping[str, Any]],
    *,
    batch_tokens: int = BATCH_TOKENS,
    tell: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """The harness's scores by our own scorer.

    Returns:
        `acc`; for choices `acc_norm` (each log-probability for one of its
        characters), for last words `perplexity` (of the word, not of its tokens).
    """
    asked = [task.ask(row) for row in rows]
    pairs = [pair for one in asked for pair in one.pairs]
    found = score(pretrained, pairs, batch_tokens=batch_tokens, tell=tell)
    if task.kind == "last word":
        right = float(np.mean([one.greedy for one in found]))
        mean = float(np.mean([one.log_probability for one in found]))
        return {"acc": right, "perplexity": math.exp(min(-mean, 700.0))}
    plain, normed, at = [], [], 0
    for one in asked:
        logs = np.array([x.log_probability for x in found[at : at + len(one.pairs)]])
        at += len(one.pairs)
        sizes = np.array([len(text) for text in one.texts], np.float64)
        plain.append(float(np.argmax(logs) == one.gold))
        normed.append(float(np.argmax(logs / sizes) == one.gold))
    return {"acc": float(np.mean(plain)), "acc_norm": float(np.mean(normed))}


# ---- the harness ---------------------------------------------------------------------------------


def adapter(pretrained: PretrainedDecoder, batch_tokens: int = BATCH_TOKENS) -> Any:
    """A decoder as the harness's `LM`: `lm_eval.simple_evaluate(adapter(…), tasks=…)`.

    Raises:
        UserError: the harness is not installed.
    """
    api = import_extra("lm_eval.api.model", "judge", "selfsup judge")
    writer = Writer(pretrained)

    class Adapter(api.LM):  # type: ignore[misc, name-defined, unused-ignore]
        """The three questions of the harness."""

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            pairs = [request.args for request in requests]
            found = score(pretrained, pairs, batch_tokens=batch_tokens)
            return [(one.log_probability, one.greedy) for one in found]

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            texts = [request.args[0] for request in requests]
            return rolling(pretrained, texts, batch_tokens=batch_tokens)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return [_written(writer, request.args[0], request.args[1]) for request in requests]

    return Adapter()


def _written(writer: Writer, prompt: str, settings: Mapping[str, Any]) -> str:
    if settings.get("do_sample") and float(settings.get("temperature") or 0) > 0:
        raise UserError("a task asks for samples; this adapter writes greedily", where="--tasks")
    stop = settings.get("until") or []
    stop = [stop] if isinstance(stop, str) else list(stop)
    most = int(settings.get("max_gen_toks") or settings.get("max_new_tokens") or _WRITTEN)
    most = min(most, writer.pretrained.max_length - 1)
    how = Sampling(greedy=True, max_tokens=most, stop=tuple(s for s in stop if s))
    ids = join([prompt], writer.generate([prompt], how, reserve=True))[0].ids
    text = writer.pretrained.tokenizer.decode(
        ids
    )  # unfinished characters too, as the harness has it
    for one in stop:
        text = text.partition(one)[0] if one else text
    return text


def ask_harness(
    model: Any,
    tasks: Sequence[JudgeTask],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """The harness's scores of a model, on given rows; nothing is fetched.

    Args:
        model: an `LM` of the harness: from `adapter`, or its own `HFLM`.
        tasks: which.
        rows: of each.
        options: for `lm_eval.simple_evaluate`.
    """
    with tempfile.TemporaryDirectory(prefix="selfsup-judge-") as folder, _offline():
        import_extra("lm_eval", "judge", "selfsup judge")
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        place = Path(folder)
        configs = [
            task.harness(write_rows(rows[task.name], place / f"{task.name}.jsonl"), place / "cache")
            for task in tasks
        ]
        found = simple_evaluate(
            model=model,
            tasks=configs,
            bootstrap_iters=0,
            log_samples=False,
            verbosity="ERROR",
            task_manager=TaskManager(include_defaults=False),  # its own thousands are not read
            **options,
        )
    assert found is not None
    results: dict[str, Any] = found["results"]
    return {
        task.name: {
            key.partition(",")[0]: value
            for key, value in results[task.name].items()
            if isinstance(value, float)
        }
        for task in tasks
    }


@contextmanager
def _offline() -> Iterator[None]:
    """No hub is asked while the harness works."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
