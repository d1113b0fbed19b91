"""What only a GPU shows: a decoder of GPT-2's smallest shape, trained and writing, beside its peers.

12 layers of 768, 32,768 tokens in the vocabulary, in about four minutes.  Training: 64 rows of 1,024
tokens a step in bfloat16; documents of random Zipf-distributed tokens (the time of a step does not
depend on what they say), ours packed without attention across them, the peers' one after another.
Tokens/s, and the share of the GPU's peak.  Writing: 256 tokens behind a short prompt, one text and 16,
random weights, beside transformers' `generate` as it comes and with its compiled static cache.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import _decoders
from selfsup import recipes
from selfsup.config import BytePairConfig, NextTokenConfig
from selfsup.data.corpus import Split
from selfsup.data.rows import PackedRows
from selfsup.data.sampler import Sampler
from selfsup.data.tokenizers import train_tokenizer
from selfsup.models.decoder_hub import load_decoder, save_decoder
from selfsup.models.transformer import CausalLanguageModel
from selfsup.objectives.next_token import NextToken
from selfsup.train_config import AdamWConfig, MuonConfig, TrainConfig
from selfsup.training.loop import Loop
from selfsup.uses.generate import Writer
from selfsup.uses.sampling import Sampling

from _common import arguments, finish

DATASHEET = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s by the vendor's datasheets."""
LENGTH = _decoders.LENGTH = 1024
SHAPE = {"layers": 12, "hidden": 768, "heads": 12, "vocabulary": 32768}
_decoders.SHAPES["small"] = SHAPE
NAMED: Any = SimpleNamespace(begin_id=1, end_id=2, pad_id=0, byte_lengths=None)
"""All that the objective asks a tokenizer for."""


class Ready:
    """Documents of random tokens, as the plain loops of `_decoders` want them."""

    def __init__(self, vocabulary: int, documents: int) -> None:
        random = np.random.default_rng(0)
        lengths = np.clip(random.lognormal(6, 1, documents), 16, 8000).astype(np.int64)
        ends = np.concatenate([[0], lengths.cumsum()])
        tokens = np.minimum(random.zipf(1.2, ends[-1]) + 4, vocabulary - 1)
        self.split = Split(
            tokens.astype(np.uint16),
            np.ones(ends[-1], np.uint8),
            ends,
            np.zeros(documents, np.uint16),
        )
        text = ["The quick brown fox jumps over the lazy dog and writes good or bad reviews."] * 4
        self.tokenizer = train_tokenizer(BytePairConfig(vocab_size=300), text).for_decoder()
        self.vocabulary = vocabulary

    def rows(self) -> PackedRows:
        return PackedRows.build(self.split, LENGTH, 1)

    def stream(self) -> np.ndarray:
        return self.split.tokens.astype(np.int64)


def model_config(kind: str = "gpt2") -> Any:
    config = recipes.get(f"{kind}-small").model
    return config.model_copy(update={"vocab_size": SHAPE["vocabulary"], "max_length": LENGTH})


def train_ours(ready: Ready, steps: int, batch: int, kind: str, **changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    model = CausalLanguageModel(model_config(kind))
    rows = ready.rows()
    base = recipes.get(f"{kind}-small")
    train = TrainConfig(batch_size=batch, precision="bf16", device="cuda", **changes)
    data = base.data.model_copy(update={"length": LENGTH})
    whole = base.model_copy(update={"model": model_config(kind), "data": data})
    loop = Loop(
        model,
        NextToken(NextTokenConfig(), rows, NAMED),
        Sampler([len(rows)], [1.0], 0),
        train,
        matrices=[n for n, p in model.named_parameters() if ".blocks." in n and p.ndim == 2],
        quiet=True,
    )
    loop.model.train()
    flops = recipes.training_flops(whole)
    times, losses = [], []
    for _ in range(steps):
        loss, _ = loop.step()
        loop.state.step += 1
        times.append(time.perf_counter())
        losses.append(loss)
    assert losses[-1] < losses[0]
    return {"times": times, "tokens": batch * LENGTH, "flops": flops, "peak": loop.precision.peak}


def train_plain(ready: Ready, steps: int, batch: int) -> dict[str, Any]:
    """NanoGPT's loop: bf16, SDPA, fused AdamW, clipping, windows of the stream, compiled."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        model: Any = torch.compile(_decoders.PlainGPT("small", SHAPE["vocabulary"]))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        stream = torch.from_numpy(ready.stream())
        times = []
        for _ in range(steps):
            begins = np.random.default_rng(len(times)).integers(
                len(stream) - LENGTH - 1, size=batch
            )
            rows = torch.stack([stream[b : b + LENGTH + 1] for b in begins]).pin_memory()
            rows = rows.to("cuda", non_blocking=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(rows[:, :-1], rows[:, 1:])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            torch.cuda.synchronize()
            times.append(time.perf_counter())
    return {"times": times, "tokens": batch * LENGTH}


def train_trainer(ready: Ready, steps: int, batch: int) -> dict[str, Any]:
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback

    from _peers import trainer_arguments

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=SHAPE["vocabulary"],
            n_positions=LENGTH,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )
    stream = ready.stream()
    rows = stream[: len(stream) // LENGTH * LENGTH].reshape(-1, LENGTH)
    data = [{"input_ids": torch.from_numpy(r), "labels": torch.from_numpy(r)} for r in rows]
    times: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            torch.cuda.synchronize()
            times.append(time.perf_counter())
            return control

    with tempfile.TemporaryDirectory() as folder:
        chosen = trainer_arguments(folder, batch, steps, bf16=True, torch_compile=True)
        Trainer(model, chosen, train_dataset=data, callbacks=[Watch()]).train()
    return {"times": times, "tokens": batch * LENGTH}


def training(ready: Ready, steps: int, batch: int) -> dict[str, Any]:
    systems: dict[str, Callable[[], dict[str, Any]]] = {
        "ours, AdamW": partial(train_ours, ready, steps, batch, "gpt2", optimizer=AdamWConfig()),
        "ours, AdamW, compiled": partial(
            train_ours, ready, steps, batch, "gpt2", optimizer=AdamWConfig(), compile=True
        ),
        "ours, Muon, compiled": partial(
            train_ours, ready, steps, batch, "gpt2", optimizer=MuonConfig(), compile=True
        ),
        "ours, llama, AdamW, compiled": partial(
            train_ours, ready, steps, batch, "llama", optimizer=AdamWConfig(), compile=True
        ),
        "plain, compiled": partial(train_plain, ready, steps, batch),
        "Trainer bf16 compiled": partial(train_trainer, ready, steps, batch),
    }
    found: dict[str, Any] = {}
    attention = 12.0 * SHAPE["layers"] * LENGTH * SHAPE["hidden"]
    for name, run in systems.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch._dynamo.reset()
        started = time.perf_counter()
        seen = attempt(name, run)
        if seen is None:
            continue
        spans = np.diff(seen["times"])[len(seen["times"]) // 3 :]
        speed = seen["tokens"] / statistics.median(spans)
        found[name] = {
            "tokens_per_second": round(speed),
            "gigabytes": round(torch.cuda.max_memory_allocated() / 2**30, 2),
            "seconds_to_first_step": round(seen["times"][0] - started, 1),
        }
        if "flops" in seen:
            rate = speed * seen["flops"]
            card = next((v for k, v in DATASHEET.items() if k in torch.cuda.get_device_name()), 0)
            found[name] |= {
                "teraflops": round(rate / 1e12, 1),
                "measured_peak_teraflops": round(seen["peak"] / 1e12, 1),
                "share_of_measured_peak": round(rate / seen["peak"], 3),
                "share_of_datasheet": round(rate / card, 3) if card else None,
                "share_of_datasheet_without_attention": round(
                    speed * (seen["flops"] - attention) / card, 3
                )
                if card
                else None,
            }
        print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    return found


def attempt(name: str, run: Callable[[], Any]) -> Any:
    """What it gives; None where it fails, with the reason."""
    try:
        return run()
    except Exception:
        traceback.print_exc()
        print(f"{name} failed", file=sys.stderr, flush=True)
        return None


def writing(kind: str, tokens: int, rounds: int) -> dict[str, Any]:
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        ready = Ready(300, 4)
        model = CausalLanguageModel(model_config(kind))
        with torch.no_grad():  # what the tokenizer does not know is never the likeliest
            model.output_matrix()[0][ready.tokenizer.vocab_size :] = 0
        save_decoder(Path(folder), model, ready.tokenizer, {}, "random")
        decoder = replace(load_decoder(folder, "cuda"), end_ids=frozenset())
        opened = transformers.AutoModelForCausalLM
        peers = {
            dtype: opened.from_pretrained(folder, dtype=dtype).cuda().eval()
            for dtype in (torch.float32, torch.bfloat16)
        }
    prompt = "The quick brown fox jumps over the lazy dog and writes"
    ids = torch.from_numpy(decoder.tokenizer.encode(prompt).ids)[None].cuda()
    sampling = Sampling(greedy=True, max_tokens=tokens)
    found: dict[str, Any] = {}

    def ours(writer: Writer, rows: int) -> list[int]:
        pieces = writer.generate([prompt] * rows, sampling)
        return [id for piece in pieces if piece.prompt == 0 for id in piece.ids]

    def theirs(model: Any, rows: int, **options: Any) -> list[int]:
        return _decoders.write_with_peer(model, ids.expand(rows, -1), tokens, **options)[0]

    for rows in (1, 16):
        systems: dict[str, Callable[[], list[int]]] = {
            "ours, fp32": partial(ours, Writer(decoder, batch=rows), rows),
            "ours, bf16": partial(ours, Writer(decoder, batch=rows, precision="bf16"), rows),
            "transformers, fp32": partial(theirs, peers[torch.float32], rows),
            "transformers, bf16": partial(theirs, peers[torch.bfloat16], rows),
            "transformers, bf16, static": partial(
                theirs, peers[torch.bfloat16], rows, cache_implementation="static"
            ),
        }
        written: dict[str, list[int]] = {}
        times: dict[str, list[float]] = {}
        for name in list(systems):
            started = time.perf_counter()
            seen = attempt(name, systems[name])
            print(
                f"{kind} {rows} {name}: first {time.perf_counter() - started:.1f} s",
                file=sys.stderr,
            )
            if seen is None:
                del systems[name]
            else:
                written[name] = seen
        for _ in range(rounds):
            for name, run in systems.items():
                torch.cuda.synchronize()
                started = time.perf_counter()
                run()
                torch.cuda.synchronize()
                times.setdefault(name, []).append(time.perf_counter() - started)
        speeds = {n: round(rows * tokens / statistics.median(t), 1) for n, t in times.items()}
        same = written.get("ours, fp32", []) == written.get("transformers, fp32")
        found[f"{rows} texts"] = {"tokens_per_second": speeds, "same_tokens_in_fp32": same}
        print(kind, json.dumps(found), file=sys.stderr, flush=True)
    return found


def main() -> None:
    args = arguments(__doc__ or "", rounds=3, tokens=256, steps=24, batch=64)
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU")
    steps = 9 if args.quick else args.steps
    figures: dict[str, Any] = {}
    parts: dict[str, Callable[[], Any]] = {
        "training": lambda: training(Ready(SHAPE["vocabulary"], 4000), steps, args.batch),
        **{
            f"writing {kind}": partial(writing, kind, args.tokens, args.rounds)
            for kind in ("gpt2", "llama")
        },
    }
    for name, measure in parts.items():
        figures[name] = attempt(name, measure)
        finish("gpu", args, figures)  # what is measured stays, should the machine be taken back


if __name__ == "__main__":
    main()
