"""Scores after fine-tuning: ours, the same network from random weights, and transformers' Trainer.

The same checkpoint (all-MiniLM-L6-v2), the same tokens, labels, head, optimizer, rates, steps and
seeds; the last weights, scored by the same code.  Large training files are cut to `--limit` examples, and
the table says so.  Every cell is kept as it is done, so an interrupted run goes on.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from _tasks import minilm, peer_model, peer_scores, settings, train_peer

from _common import ROOT, arguments, finish

NAMES = ("WNLI", "RTE", "MRPC", "SICK", "STS-B", "CoLA", "EWT", "SST-2", "SQuAD")
CELLS = ROOT / "runs" / "bench-scores"


@cache  # the settings and the tokens of a task
def prepared(data: Path, task: str, limit: int, epochs: float) -> Any:
    from selfsup.models.hub import load
    from selfsup.tasks.reading import read_parts
    from selfsup.uses.finetuning import make_sets

    config = settings(data, task)
    pretrained = load(config.model)
    parts = read_parts(config, pretrained.max_length)
    order = np.random.default_rng(0).permutation(len(parts.train))[:limit]
    parts = replace(parts, train=[parts.train[i] for i in order], dev=parts.dev[: max(limit, 400)])
    sets = make_sets(parts, pretrained)
    steps = max(1, round(epochs * len(sets.train.objective.ids) / config.train.batch_size))
    train = {**config.train.model_dump(), "budget": f"{steps} steps"}
    config = type(config).model_validate({**config.model_dump(), "train": train, "epochs": 0})
    return config, pretrained, sets, len(parts.train), steps


def run(system: str, data: Path, task: str, seed: int, limit: int, epochs: float) -> dict[str, Any]:
    """One cell: train, then score the dev part."""
    from selfsup.finetune_config import with_budget
    from selfsup.tasks.judge import read_answers
    from selfsup.uses.finetuning import fit

    config, pretrained, sets, examples, steps = prepared(data, task, limit, epochs)
    started = time.perf_counter()
    if system == "Trainer":
        import torch
        import transformers

        transformers.set_seed(seed)  # the head is drawn before Trainer sets its seed
        torch.manual_seed(seed)
        model = peer_model(sets, minilm())
        train = with_budget(config, examples, pretrained.config.hidden_size)
        train_peer(model, sets, pretrained, train, seed=seed, steps=steps, bf16=True)
        seconds = time.perf_counter() - started
        scores = peer_scores(model, sets.dev)
    else:
        chosen = config.model_copy(update={"scratch": system == "random"})
        fitted = fit(chosen, pretrained, replace(sets, dev=None), seed=seed)
        seconds = time.perf_counter() - started
        loop = fitted.loop
        scores = read_answers(fitted.model, sets.dev, loop.device, loop.precision)[0].scores()
    return {
        "task": task,
        "system": system,
        "seed": seed,
        "score": scores[sets.info.main],
        "metric": sets.info.main,
        "scores": {k: v for k, v in scores.items() if "/" not in k},
        "examples": examples,
        "steps": steps,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    args = arguments(
        __doc__ or "", seeds=3, limit=4000, epochs=3.0, tasks=",".join(NAMES), out=str(CELLS)
    )
    if not (args.data / "text" / "glue").is_dir():
        print(f"{args.data} is not here: nothing to fine-tune on", file=sys.stderr)
        return
    seeds, limit = (1, 64) if args.quick else (args.seeds, args.limit)
    names = ["WNLI", "EWT"] if args.quick else args.tasks.split(",")
    rows: list[dict[str, Any]] = []
    folder = Path(args.out) / ("quick" if args.quick else f"{limit}-{args.epochs:g}")
    folder.mkdir(parents=True, exist_ok=True)
    for task in names:
        for seed in range(seeds):
            for system in ("ours", "random", "Trainer"):
                cell = folder / f"{task}-{system}-{seed}.json"
                if not cell.is_file():
                    found = run(system, args.data, task, seed, limit, args.epochs)
                    cell.write_text(json.dumps(found))
                rows.append(json.loads(cell.read_text()))
                said = rows[-1]
                print(
                    f"{task} seed {seed} {system}: {said['metric']} {said['score']:.3f} "
                    f"({said['steps']} steps, {said['seconds']:.0f} s)",
                    flush=True,
                )
    table = []
    for task in names:
        line: dict[str, Any] = {"task": task}
        for system in ("ours", "random", "Trainer"):
            mine = [r for r in rows if (r["task"], r["system"]) == (task, system)]
            scores = [r["score"] for r in mine]
            line |= {"metric": mine[0]["metric"], "examples": mine[0]["examples"]}
            line[system] = [float(np.median(scores)), min(scores), max(scores)]
        table.append(line)
    finish("finetuning_scores", args, {"seeds": seeds, "epochs": args.epochs, "table": table})


if __name__ == "__main__":
    main()
