"""Fine-tuning and prediction, ours against transformers' Trainer: examples/s and peak memory.

The same encoder (all-MiniLM-L6-v2), the same tokens, 32 examples a step; the peer in its best mode:
bf16, padding to the longest of the batch.  Every measurement is a process of its own, interleaved,
medians.  The peer predicts in batches of 64, in the file's order (its way) and sorted by length.  Both
train on a part of the file; ours keeps the token vectors that the *whole* file uses, as it would there.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from _tasks import minilm, peer_model, peer_rows, settings, train_peer

from _common import arguments, finish, peak_megabytes

BATCH = 32


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


def work(system: str, data: Path, task: str, steps: int, met: str) -> dict[str, Any]:
    """One measurement, in this process."""
    from selfsup.finetune_config import with_budget

    config, pretrained, sets = prepared(data, task, BATCH * steps * 2)
    train = with_budget(config, len(sets.train.objective.ids), pretrained.config.hidden_size)
    times: list[float] = []
    warm = 3
    if system == "ours":
        from selfsup.data.sampler import Sampler
        from selfsup.tasks.judge import read_answers
        from selfsup.training.loop import Loop
        from selfsup.uses.finetuning import start_model

        model = start_model(config, pretrained, sets.info, 0)
        model.train_met_rows([np.load(met)])
        sampler = Sampler([len(sets.train.objective.ids)], [1.0], 0)
        loop = Loop(model, sets.train.objective, sampler, train, seed=0, quiet=True)
        loop.model.train()
        for _ in range(steps + warm):
            loop.step()
            loop.state.step += 1
            times.append(time.perf_counter())
        megabytes = peak_megabytes()
        model.train_all_rows()

        def predict() -> Any:
            return read_answers(model, sets.dev, loop.device, loop.precision, with_loss=False)

    else:
        peer = peer_model(sets, minilm())
        trainer = train_peer(
            peer,
            sets,
            pretrained,
            train,
            seed=0,
            steps=steps + warm,
            on_step=lambda: times.append(time.perf_counter()),
            bf16=True,
        )
        megabytes = peak_megabytes()
        rows = peer_rows(sets.dev)

        def predict() -> Any:
            return trainer.predict(rows)

        def predict_sorted() -> Any:
            return trainer.predict(sorted(rows, key=lambda row: -len(row["input_ids"])))

    def speed(run: Callable[[], Any]) -> float:
        run()
        started = time.perf_counter()
        run()
        return len(sets.dev.objective.ids) / (time.perf_counter() - started)

    predicted = speed(predict)
    in_order = predicted if system == "ours" else speed(predict_sorted)
    spans = [b - a for a, b in zip(times[warm - 1 :], times[warm:], strict=False)]
    return {
        "examples_per_second": BATCH / statistics.median(spans),
        "predicted_per_second": predicted,
        "predicted_sorted_per_second": in_order,
        "peak_megabytes": megabytes,
    }


def measure(system: str, data: Path, task: str, steps: int, met: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", f"{system}|{data}|{task}|{steps}|{met}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"  {task} {system}: " + ", ".join(f"{k} {v:,.1f}" for k, v in found.items()), flush=True)
    return found


def main() -> None:
    args = arguments(__doc__ or "", worker="", rounds=3)
    if args.worker:
        system, data, task, steps, met = args.worker.split("|")
        print(json.dumps(work(system, Path(data), task, int(steps), met)))
        return
    if not (args.data / "text" / "glue").is_dir():
        print(f"{args.data} is not here: nothing to fine-tune on", file=sys.stderr)
        return
    figures: dict[str, Any] = {}
    scratch = Path(tempfile.mkdtemp())
    for task, steps in (("SST-2", 8 if args.quick else 30), ("SQuAD", 3 if args.quick else 8)):
        met = scratch / f"{task}.npy"
        count = words_met(args.data, task, met)
        runs: dict[str, list[dict[str, Any]]] = {"ours": [], "Trainer": []}
        for _ in range(1 if args.quick else args.rounds):
            for system, rows in runs.items():
                rows.append(measure(system, args.data, task, steps, met))
        middle = {
            system: {key: statistics.median(r[key] for r in rows) for key in rows[0]}
            for system, rows in runs.items()
        }
        ours, peer = middle["ours"], middle["Trainer"]
        figures[task] = {
            "median": middle,
            "training_times_the_peer": ours["examples_per_second"] / peer["examples_per_second"],
            "prediction_times_the_peer": ours["predicted_per_second"]
            / peer["predicted_per_second"],
            "prediction_times_the_peer_sorted": ours["predicted_per_second"]
            / peer["predicted_sorted_per_second"],
            "memory_share_of_the_peer": ours["peak_megabytes"] / peer["peak_megabytes"],
            "token_vectors_trained": count,
            "rounds": len(runs["ours"]),
        }
    finish("finetuning_speed", args, figures)


if __name__ == "__main__":
    main()
