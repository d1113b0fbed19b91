"""Bits per byte on held-out text: ours, transformers' Trainer, a 5-gram model and xz.

Ours (`--recipe` at 4 x 256, 8,192 entries) trains for `--steps` and again for a quarter of them; the peer
trains a GPT-2 of that size, bf16, with warm-up and linear decay, for as many minutes of processor time
as the longer of ours took.  Processor time, with one thread, so that other work on the machine counts
for neither.  All are scored on the same held-out rows.  `--text english` reads 45 novels, `--text
chinese` articles and histories.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch

from _decoders import (
    config,
    ngram_bits_per_byte,
    peer_bits_per_byte,
    peer_model,
    train_with_trainer,
    xz_bits_per_byte,
)

from _common import ROOT, arguments, finish
from _peers import prepared

SHAPE = "4x256"
TEXTS = {"english": "english_novels/english_novels.jsonl.xz", "chinese": "chinese_text"}
HELDOUT = {"english": 0.1, "chinese": 0.02}


def peer(ready: Any, minutes: float, rate: float) -> dict[str, Any]:
    """Train the peer for so many minutes; its schedule is a function of the time used."""
    model = peer_model(SHAPE, ready)
    started, steps = time.process_time(), 0

    def used() -> float:
        return (time.process_time() - started) / 60 / minutes

    def share(_step: int) -> float:
        at = min(1.0, used())
        return at / 0.05 if at < 0.05 else (1 - at) / 0.95

    def on_step(step: int) -> bool:
        nonlocal steps
        steps = step
        return used() >= 1

    options: dict[str, Any] = {"bf16": True, "schedule": share, "on_step": on_step}
    train_with_trainer(ready, model, steps=10**7, batch=16, learning_rate=rate, **options)
    bits = peer_bits_per_byte(ready, model)
    found = {"minutes": minutes, "rate": rate, "steps": steps, "bits_per_byte": round(bits, 4)}
    print(f"  Trainer {found}", flush=True)
    return found


def ours(chosen: Any, steps: int, out: Path) -> dict[str, Any]:
    from selfsup.uses.pretraining import pretrain

    value = chosen.model_dump(mode="json")
    value["train"].update(budget=f"{steps} steps", evaluate_every=1.0)
    started = time.process_time()
    result = pretrain(type(chosen).model_validate(value), out, overwrite=True, quiet=True)
    found = {
        "minutes": round((time.process_time() - started) / 60, 2),
        "steps": result["steps"],
        "tokens": result["tokens"],
        "bits_per_byte": round(result["heldout"]["bits_per_byte"], 4),
    }
    print(f"  ours {found}", flush=True)
    return found


def main() -> None:
    args = arguments(
        __doc__ or "",
        steps=1000,
        text="english",
        recipe="llama-mini",
        rate=1e-3,
        out=str(ROOT / "runs" / "bench-decoder"),
    )
    source = args.data / "text" / TEXTS[args.text]
    if not source.exists():
        print(f"{source} is not here: nothing to train on", file=sys.stderr)
        return
    steps = 12 if args.quick else args.steps
    torch.set_num_threads(1)
    chosen = config(str(source), SHAPE, args.recipe, HELDOUT[args.text])
    ready = prepared(chosen)
    floors = {"xz": xz_bits_per_byte(ready), "5-gram": round(ngram_bits_per_byte(ready), 4)}
    print(f"  floors {floors}", flush=True)
    folder = Path(args.out) / args.text
    quarter, whole = (ours(chosen, n, folder / str(n)) for n in (steps // 4, steps))
    figures = {
        "text": args.text,
        "recipe": args.recipe,
        "heldout_documents": ready.corpus.meta["splits"]["heldout"]["documents"],
        "floors": floors,
        "ours": [quarter, whole],
        "trainer": peer(ready, whole["minutes"], args.rate),
    }
    finish(f"decoder_losses_{args.text}", args, figures)


if __name__ == "__main__":
    main()
