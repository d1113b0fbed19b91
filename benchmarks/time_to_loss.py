"""Wall-clock to the held-out masked loss that transformers + Trainer reaches in 20 minutes.

The peer: BERT 4 x 256 with 30,522 entries, bf16 where that is faster, warm-up and linear decay over
its minutes, the best of three learning rates (each tried over a tenth of the time with a schedule of
its own).  Ours: the `modernbert` kind of the same shape and vocabulary, given 1/6 of the time; and
again with 1/12.  Both are scored on the same held-out rows with the same fixed masks (15 %); scoring
is not counted, the first step's warm-up is.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from selfsup.nn.device import choose_device
from selfsup.training.devices import choose_precision

from _common import arguments, finish, imdb
from _peers import config, peer_heldout, peer_model, prepared, train_peer

SHAPE = "4x256"


def peer(ready: Any, minutes: float, rate: float) -> dict[str, Any]:
    """Train the peer for so many minutes; its schedule is a function of the time used."""
    model = peer_model(SHAPE)
    half = choose_precision("auto", choose_device("auto")).name == "bf16"
    started = time.perf_counter()

    def used() -> float:
        return (time.perf_counter() - started) / 60 / minutes

    def share(_step: int) -> float:
        at = min(1.0, used())
        return at / 0.05 if at < 0.05 else (1 - at) / 0.95

    steps = 0

    def on_step(step: int, _optimizer: Any) -> bool:
        nonlocal steps
        steps = step
        return used() >= 1

    train_peer(
        ready,
        model,
        steps=10**7,
        learning_rate=rate,
        bf16=half,
        schedule=share,
        on_step=on_step,
    )
    loss = peer_heldout(ready, model)
    found = {"learning_rate": rate, "minutes": minutes, "steps": steps, "loss": round(loss, 4)}
    print(f"  peer {found}", flush=True)
    return found


def ours(source: str, minutes: float) -> dict[str, Any]:
    from selfsup.uses.pretraining import pretrain

    chosen = config(source, SHAPE, "modernbert-mini")
    value = chosen.model_dump(mode="json")
    value["train"].update(budget=f"{minutes} minutes", evaluate_every=0.25)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        result = pretrain(type(chosen).model_validate(value), run, quiet=True)
    found = {
        "minutes": round(minutes, 3),
        "steps": result["steps"],
        "loss": round(result["heldout"]["masked_loss"], 4),
    }
    print(f"  ours {found}", flush=True)
    return found


def main() -> None:
    args = arguments(__doc__ or "", minutes=20.0)
    minutes = 0.6 if args.quick else args.minutes
    source = imdb(args)
    ready = prepared(config(source, SHAPE))
    rates = [1e-3] if args.quick else [3e-4, 6e-4, 1.2e-3]
    tried = [peer(ready, minutes / 10, rate) for rate in rates]
    best = min(tried, key=lambda row: row["loss"])["learning_rate"]
    whole = peer(ready, minutes, best)
    sixth = ours(source, minutes / 6)
    twelfth = ours(source, minutes / 12)
    reached = [row["minutes"] for row in (twelfth, sixth) if row["loss"] <= whole["loss"]]
    finish(
        "time_to_loss",
        args,
        {
            "peer_tried": tried,
            "peer": whole,
            "ours": [twelfth, sixth],
            "reached_in_share_of_peers_time": round(min(reached) / minutes, 4) if reached else None,
        },
    )


if __name__ == "__main__":
    main()
