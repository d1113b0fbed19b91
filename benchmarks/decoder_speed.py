"""Training tokens/s and memory of a decoder: ours, transformers + Trainer, and a plain PyTorch loop.

Every measurement is a process of its own; rounds are interleaved and medians compared.  All train a
GPT-2 of the same shape on rows of 256 tokens, 16 rows a step.  Trainer's best mode is the fastest of
bf16 and bf16 compiled; the plain loop is what nanoGPT does (bf16, SDPA, fused AdamW), not compiled.
Ours is the recipe, whose Muon multiplies more in a step, and with the peers' AdamW, also compiled.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from typing import Any

from _decoders import LENGTH, config, peer_model, train_plainly, train_with_trainer
from selfsup.train_config import AdamWConfig

from _common import arguments, finish, measure_apart, peak_megabytes
from _peers import prepared

BATCH = 16
MODES: dict[str, dict[str, Any]] = {
    "Trainer defaults": {},
    "Trainer bf16": {"bf16": True},
    "Trainer bf16 compiled": {"bf16": True, "torch_compile": True},
}
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, AdamW": {"optimizer": AdamWConfig()},
    "ours, AdamW, compiled": {"optimizer": AdamWConfig(), "compile": True},
}


def work(system: str, shape: str, source: str, steps: int) -> dict[str, Any]:
    """One measurement, in this process."""
    ready = prepared(config(source, shape, heldout=0.1))
    found: dict[str, Any] = {"system": system}
    warm = 3
    if system in OURS:
        from selfsup.uses.kinds import build_model
        from selfsup.uses.pretraining import make_loop

        asked = ready.config
        train = asked.train.model_copy(update=OURS[system])
        ready = replace(ready, config=asked.model_copy(update={"train": train}))
        loop = make_loop(ready, build_model(ready.config), None, True)
        loop.model.train()
        times = []
        for _ in range(steps + warm):
            loop.step()
            loop.state.step += 1
            times.append(time.perf_counter())
        found |= {"flops_per_token": loop.flops_per_token, "peak": loop.precision.peak}
    elif system == "plain":
        times = train_plainly(ready, shape, steps=steps + warm, batch=BATCH)
    else:
        model = peer_model(shape, ready)
        times = train_with_trainer(ready, model, steps=steps + warm, batch=BATCH, **MODES[system])
    spans = [b - a for a, b in zip(times[warm - 1 :], times[warm:], strict=False)]
    found["tokens_per_second"] = BATCH * LENGTH / statistics.median(spans)
    found["peak_megabytes"] = peak_megabytes()
    return found


def compare(shape: str, source: str, rounds: int, steps: int) -> dict[str, Any]:
    prepared(config(source, shape, heldout=0.1))  # once: the tokenizer and the shards
    tried = {m: measure_apart(m, shape, source, steps) for m in MODES if m != "Trainer defaults"}
    best = max((m for m in tried if tried[m]), key=lambda m: tried[m]["tokens_per_second"])  # type: ignore[index]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*OURS, "plain", best)}
    for _ in range(rounds):
        for system, rows in runs.items():
            found = measure_apart(system, shape, source, steps)
            if found:
                rows.append(found)
    speed = {s: statistics.median(r["tokens_per_second"] for r in rows) for s, rows in runs.items()}
    memory = {s: statistics.median(r["peak_megabytes"] for r in rows) for s, rows in runs.items()}
    share = statistics.median(
        r["tokens_per_second"] * r["flops_per_token"] / r["peak"] for r in runs["ours"]
    )
    return {
        "best_mode": best,
        "tokens_per_second": {k: round(v) for k, v in speed.items()},
        "times_trainer": {name: round(speed[name] / speed[best], 2) for name in OURS},
        "times_plain": {name: round(speed[name] / speed["plain"], 2) for name in OURS},
        "peak_megabytes": {k: round(v) for k, v in memory.items()},
        "share_of_matrix_product_rate": round(share, 3),
        "rounds": rounds,
    }


def main() -> None:
    args = arguments(__doc__ or "", worker="", rounds=3, steps=8)
    if args.worker:
        system, shape, source, steps = args.worker.split("|")
        print(json.dumps(work(system, shape, source, int(steps))))
        return
    file = args.data / "text" / "english_novels" / "english_novels.jsonl.xz"
    source = str(file) if file.is_file() else "docstrings:"
    rounds, steps = (1, 3) if args.quick else (args.rounds, args.steps)
    shapes = ["4x256"] if args.quick else ["4x256", "6x384"]
    found = {shape: compare(shape, source, rounds, steps) for shape in shapes}
    finish("decoder_speed", args, found)


if __name__ == "__main__":
    main()
