"""Pre-training tokens/s and peak memory, ours against transformers + Trainer, interleaved.

Every measurement is a process of its own; rounds go ours, defaults, best mode, ours, … and medians are
compared.  The peer's best mode is the fastest of bf16 and bf16 compiled.  Both train a BERT of the
same shape on the same rows of 128 tokens, 32 rows a step.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from _common import arguments, finish, imdb, measure_apart, peak_megabytes
from _peers import SHAPES, config, peer_model, prepared, train_peer

MODES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "bf16": {"bf16": True},
    "bf16 compiled": {"bf16": True, "torch_compile": True},
}


def work(system: str, shape: str, source: str, steps: int) -> dict[str, Any]:
    """One measurement, in this process."""
    chosen = config(source, shape)
    ready = prepared(chosen)
    found: dict[str, Any] = {"system": system}
    warm = 3
    if system == "ours":
        from selfsup.uses.kinds import build_model
        from selfsup.uses.pretraining import make_loop

        loop = make_loop(ready, build_model(ready.config), None, True)
        loop.model.train()
        times = []
        for _ in range(steps + warm):
            loop.step()
            loop.state.step += 1
            times.append(time.perf_counter())
        found["flops_per_token"] = loop.flops_per_token
        found["matrix_product_flops"] = loop.precision.peak
        found["precision"] = loop.precision.name
    else:
        times = train_peer(ready, peer_model(shape), steps=steps + warm, **MODES[system])
    spans = [b - a for a, b in zip(times[warm - 1 :], times[warm:], strict=False)]
    found["tokens_per_second"] = 32 * 128 / statistics.median(spans)
    found["peak_megabytes"] = peak_megabytes()
    return found


def compare(shape: str, source: str, rounds: int, quick: bool) -> dict[str, Any]:
    ours_steps, their_steps = (10, 3) if quick else (40, 8)
    prepared(config(source, shape))  # once: the tokenizer and the shards
    modes = ["bf16"] if quick else ["bf16", "bf16 compiled"]
    tried = {m: measure_apart(m, shape, source, their_steps) for m in modes}
    best = max((m for m in modes if tried[m]), key=lambda m: tried[m]["tokens_per_second"])  # type: ignore[index]
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "defaults": [], best: []}
    for _ in range(rounds):
        for system, rows in runs.items():
            found = measure_apart(
                system, shape, source, ours_steps if system == "ours" else their_steps
            )
            if found:
                rows.append(found)
    middle = {
        key: {system: statistics.median(r[key] for r in rows) for system, rows in runs.items()}
        for key in ("tokens_per_second", "peak_megabytes")
    }
    speed, memory = middle["tokens_per_second"], middle["peak_megabytes"]
    share = statistics.median(
        r["tokens_per_second"] * r["flops_per_token"] / r["matrix_product_flops"]
        for r in runs["ours"]
    )
    return {
        "best_mode": best,
        "tokens_per_second": {k: round(v) for k, v in speed.items()},
        "times_the_defaults": round(speed["ours"] / speed["defaults"], 2),
        "times_the_best_mode": round(speed["ours"] / speed[best], 2),
        "peak_megabytes": {k: round(v) for k, v in memory.items()},
        "memory_share_of_defaults": round(memory["ours"] / memory["defaults"], 2),
        "memory_share_of_best_mode": round(memory["ours"] / memory[best], 2),
        "share_of_matrix_product_rate": round(share, 3),
        "precision": runs["ours"][0]["precision"],
        "rounds": rounds,
    }


def main() -> None:
    args = arguments(__doc__ or "", worker="", rounds=3)
    if args.worker:
        system, shape, source, steps = args.worker.split("|")
        print(json.dumps(work(system, shape, source, int(steps))))
        return
    rounds = 1 if args.quick else args.rounds
    shapes = ["6x384"] if args.quick else list(SHAPES)
    found = {shape: compare(shape, imdb(args), rounds, args.quick) for shape in shapes}
    finish("pretraining_speed", args, found)


if __name__ == "__main__":
    main()
