"""Fine-tuning and prediction, ours against transformers' Trainer: examples/s and peak memory.

The same encoder (all-MiniLM-L6-v2), the same tokens, 32 examples a step; the peer in its best mode:
bf16, padding to the longest of the batch.  Each system is a process that waits while the other works:
they take their steps in turns, so that both meet the same minutes of a shared machine.  Medians of the
pairs' ratios, with their quarters.  The peer predicts in batches of 64, in the file's order (its way)
and sorted by length.  Both train on a part of the file; ours keeps the token vectors that the *whole*
file uses, as it would there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from _tasks import minilm, peer_model, peer_rows, settings, train_peer

from _common import arguments, finish, peak_megabytes

BATCH = 32
WARM = 3
"""Steps whose times are not counted."""


def prepared(data: Path, task: str, examples: int) -> Any:
    from selfsup.models.hub import load
    from selfsup.tasks.reading import read_parts
    from selfsup.uses.finetuning import make_sets

    config = settings(data, task, train={"batch_size": BATCH})
    pretrained = load(config.model)
    parts = read_parts(config, pretrained.max_length)
    from dataclasses import replace

    order = np.random.default_rng(0).permutation(len(parts.train))[:examples]
    parts = replace(
        parts, train=[parts.train[i] for i in order], dev=parts.dev[: min(400, examples)]
    )
    return config, pretrained, make_sets(parts, pretrained)


def words_met(data: Path, task: str, file: Path) -> int:
    """Write down which token ids the whole training file uses; returns how many those are."""
    from selfsup.models.hub import load
    from selfsup.tasks.reading import read_parts
    from selfsup.uses.finetuning import make_sets

    config = settings(data, task, train={"batch_size": BATCH})
    pretrained = load(config.model)
    sets = make_sets(read_parts(config, pretrained.max_length), pretrained)
    met = np.unique(np.concatenate(list(sets.train.objective.ids)))
    np.save(file, met)
    return len(met)


def heard() -> str:
    """The next word from the benchmark; it ends with this process's input."""
    line = sys.stdin.readline().strip()
    if not line:
        raise SystemExit
    return line


def tell(value: float) -> None:
    print(f"@{value}", flush=True)  # other lines are of the libraries


def work(system: str, data: Path, task: str, steps: int, met: str) -> None:
    """Take a step for each word, then predict for each; tells the seconds."""
    from selfsup.finetune_config import with_budget

    config, pretrained, sets = prepared(data, task, BATCH * steps)
    train = with_budget(config, len(sets.train.objective.ids), pretrained.config.hidden_size)
    tasks: dict[str, Callable[[], Any]] = {}
    if system == "ours":
        from selfsup.data.sampler import Sampler
        from selfsup.tasks.judge import read_answers
        from selfsup.training.loop import Loop
        from selfsup.uses.finetuning import start_model

        model = start_model(config, pretrained, sets.info, 0)
        pretrained.model.to("meta")  # `selfsup finetune` does not keep what it copied
        model.train_met_rows([np.load(met)])
        sampler = Sampler([len(sets.train.objective.ids)], [1.0], 0)
        loop = Loop(model, sets.train.objective, sampler, train, seed=0, quiet=True)
        loop.model.train()
        for _ in range(steps):
            heard()
            started = time.perf_counter()
            loop.step()
            loop.state.step += 1
            tell(time.perf_counter() - started)
        megabytes = peak_megabytes()
        model.train_all_rows()
        tasks["predict"] = lambda: read_answers(
            model, sets.dev, loop.device, loop.precision, with_loss=False
        )
    else:
        peer, done = peer_model(sets, minilm()), 0
        pretrained.model.to("meta")  # Trainer's users would not have it
        heard()
        started = time.perf_counter()

        def stepped() -> None:
            nonlocal done, started
            tell(time.perf_counter() - started)
            done += 1
            if done < steps:
                heard()
            started = time.perf_counter()

        trainer = train_peer(
            peer, sets, pretrained, train, seed=0, steps=steps, on_step=stepped, bf16=True
        )
        megabytes = peak_megabytes()
        rows = peer_rows(sets.dev)
        in_order = sorted(rows, key=lambda row: -len(row["input_ids"]))
        tasks["predict"] = lambda: trainer.predict(rows)
        tasks["predict sorted"] = lambda: trainer.predict(in_order)
    while True:
        word = heard()
        if word == "megabytes":
            tell(megabytes)
        elif word == "examples":
            tell(len(sets.dev.objective.ids))
        else:
            started = time.perf_counter()
            tasks[word]()
            tell(time.perf_counter() - started)


class Worker:
    """A system in a process of its own."""

    def __init__(self, system: str, data: Path, task: str, steps: int, met: Path) -> None:
        command = [sys.executable, __file__, "--worker", f"{system}|{data}|{task}|{steps}|{met}"]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )

    def ask(self, word: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # what it died of is told below
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("@"):
                return float(line[1:])
        self.errors.seek(0)
        raise RuntimeError(self.errors.read()[-2000:])

    def close(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def in_turns(pairs: dict[str, tuple[Worker, str]], times: int, warm: int) -> dict[str, list[float]]:
    """Seconds of each, asked in turns that change their order."""
    found: dict[str, list[float]] = {name: [] for name in pairs}
    for turn in range(warm + times):
        for name in list(pairs)[:: 1 if turn % 2 else -1]:
            worker, word = pairs[name]
            seconds = worker.ask(word)
            if turn >= warm:
                found[name].append(seconds)
    return found


def ratio(peer: list[float], ours: list[float]) -> list[float]:
    """Median of the pairs' ratios, and their quarters."""
    ratios = [a / b for a, b in zip(peer, ours, strict=True)]
    return [round(float(x), 3) for x in np.quantile(ratios, (0.5, 0.25, 0.75))]


def compare(data: Path, task: str, steps: int, rounds: int, met: Path) -> dict[str, Any]:
    with (
        closing(Worker("ours", data, task, steps + WARM, met)) as ours,
        closing(Worker("Trainer", data, task, steps + WARM, met)) as peer,
    ):
        return measure(ours, peer, steps, rounds)


def measure(ours: Worker, peer: Worker, steps: int, rounds: int) -> dict[str, Any]:
    trained = in_turns({"ours": (ours, "step"), "Trainer": (peer, "step")}, steps, WARM)
    megabytes = [w.ask("megabytes") for w in (ours, peer)]
    examples = ours.ask("examples")
    asked = {
        "ours": (ours, "predict"),
        "Trainer": (peer, "predict"),
        "Trainer, sorted": (peer, "predict sorted"),
    }
    read = in_turns(asked, rounds, 1)
    return {
        "examples_per_second": {k: BATCH / statistics.median(v) for k, v in trained.items()},
        "predicted_per_second": {k: examples / statistics.median(v) for k, v in read.items()},
        "peak_megabytes": dict(zip(("ours", "Trainer"), megabytes, strict=True)),
        "training_times_the_peer": ratio(trained["Trainer"], trained["ours"]),
        "prediction_times_the_peer": ratio(read["Trainer"], read["ours"]),
        "prediction_times_the_peer_sorted": ratio(read["Trainer, sorted"], read["ours"]),
        "memory_share_of_the_peer": round(megabytes[0] / megabytes[1], 3),
        "steps": steps,
        "rounds": rounds,
    }


def main() -> None:
    args = arguments(__doc__ or "", worker="", rounds=7)
    if args.worker:
        system, data, task, steps, met = args.worker.split("|")
        work(system, Path(data), task, int(steps), met)
        return
    if not (args.data / "text" / "glue").is_dir():
        print(f"{args.data} is not here: nothing to fine-tune on", file=sys.stderr)
        return
    figures: dict[str, Any] = {}
    scratch = Path(tempfile.mkdtemp())
    for task, steps in (("SST-2", 6 if args.quick else 40), ("SQuAD", 3 if args.quick else 14)):
        met = scratch / f"{task}.npy"
        count = words_met(args.data, task, met)
        found = compare(args.data, task, steps, 1 if args.quick else args.rounds, met)
        figures[task] = {**found, "token_vectors_trained": count}
        print(task, json.dumps(figures[task]), file=sys.stderr, flush=True)
    finish("finetuning_speed", args, figures)


if __name__ == "__main__":
    main()
