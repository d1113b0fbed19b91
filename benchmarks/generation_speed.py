"""Writing: ours against transformers' `generate`, same trained weights, same prompts, equal tokens.

About 13 million parameters (6 layers of 384, vocabulary 8192), trained for a few minutes on the embedded
texts.  One text and 16 side by side; interleaved; medians.  In float32, bfloat16 and (ours) int8, and what
those cost in perplexity.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import selfsup
from _decoders import write_with_peer
from selfsup import recipes
from selfsup.config import PretrainConfig
from selfsup.data.docstrings import read_docstrings
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.models.decoding import Decoding
from selfsup.nn.sequences import Sequences
from selfsup.uses.generate import Writer, join
from selfsup.uses.sampling import Sampling

from _common import arguments, finish

PROMPT = 16
NUMBERS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "int8": {"int8": True},
    "int8 in bf16": {"int8": True, "precision": "bf16"},
}


def trained(kind: str, minutes: float, folder: Path) -> PretrainedDecoder:
    """A decoder that has seen some text; it never ends one, so that all write as much."""
    value = recipes.get(f"{kind}-mini").model_dump(mode="json")
    value["data"]["sources"] = [{"path": "docstrings:"}]
    value["tokenizer"]["vocab_size"] = 8192
    value["model"].update(num_layers=6, hidden_size=384, num_heads=6)
    value["model"].update(
        num_kv_heads=3 if kind == "llama" else None,
        intermediate_size=1024 if kind == "llama" else 1536,
    )
    value["train"]["budget"] = {"amount": minutes, "unit": "minutes"}
    selfsup.pretrain(PretrainConfig.model_validate(value), folder, quiet=True)
    return replace(load_decoder(folder), end_ids=frozenset())


def prompts_of(decoder: PretrainedDecoder, count: int) -> list[str]:
    """Beginnings of texts with equally many tokens."""
    found = []
    for document in read_docstrings():
        ids = decoder.tokenizer.encode(document.text).ids
        text = decoder.tokenizer.decode(ids[:PROMPT])
        again = decoder.tokenizer.encode(text).ids
        if len(ids) >= PROMPT and np.array_equal(again, ids[:PROMPT]):
            found.append(text)
        if len(found) == count:
            return found
    raise ValueError("too few texts")


def perplexity(decoder: PretrainedDecoder, texts: list[str], **options: Any) -> float:
    decoding = Decoding(decoder.model, rows=16, **options)
    total, count = 0.0, 0
    for text in texts:
        ids = torch.from_numpy(decoder.tokenizer.encode(text).ids[:256])
        batch = Sequences.from_lists([ids.numpy()])
        logits = decoding.logits(decoding.read(batch, decoding.cache(1, len(ids))))[:-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum"))
        count += len(ids) - 1
    return math.exp(total / count)


def measure(
    systems: dict[str, Callable[[], list[list[int]]]], rounds: int, tokens: int
) -> dict[str, Any]:
    """Tokens a second of each, interleaved, and whether greedy tokens are the peer's."""
    written = {name: run() for name, run in systems.items()}  # warm
    times: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(spans) for name, spans in times.items()}
    ours = [name for name in systems if not name.startswith("transformers")]
    pair = zip(written["fp32"], written["transformers"], strict=True)
    same = [a == b for a, b in pair]
    return {
        "tokens_per_second": {name: round(tokens / span, 1) for name, span in middle.items()},
        "times_the_peer_in_fp32": {
            name: round(middle["transformers"] / middle[name], 2) for name in ours
        },
        "bf16_times_the_peer_in_bf16": round(middle["transformers in bf16"] / middle["bf16"], 2),
        "same_tokens_in_fp32": f"{sum(same)} of {len(same)} texts",
    }


def costs(decoder: PretrainedDecoder, texts: list[str]) -> dict[str, Any]:
    """Perplexity in float32, and by which share the other formats change it."""
    exact = perplexity(decoder, texts)
    others: dict[str, dict[str, Any]] = {
        "bf16": {"dtype": torch.bfloat16},
        "int8": {"int8": True},
        "int8 in bf16": {"int8": True, "dtype": torch.bfloat16},
    }
    changes = {n: round(perplexity(decoder, texts, **o) / exact - 1, 5) for n, o in others.items()}
    return {"perplexity": round(exact, 3), "perplexity_change": changes}


def systems_of(
    decoder: PretrainedDecoder, plain: Any, half: Any, rows: int, tokens: int
) -> dict[str, Callable[[], list[list[int]]]]:
    """What is compared: each writes `tokens` tokens behind `rows` prompts."""
    prompts = prompts_of(decoder, rows)
    ids = torch.tensor(np.stack([decoder.tokenizer.encode(p).ids for p in prompts]))
    sampling = Sampling(greedy=True, max_tokens=tokens)

    def ours(writer: Writer) -> list[list[int]]:
        return [one.ids for one in join(prompts, writer.generate(prompts, sampling))]

    writers = {n: partial(ours, Writer(decoder, batch=rows, **o)) for n, o in NUMBERS.items()}
    return {
        "transformers": partial(write_with_peer, plain, ids, tokens),
        "transformers in bf16": partial(write_with_peer, half, ids, tokens),
        **writers,
    }


def main() -> None:
    import transformers

    args = arguments(__doc__ or "", rounds=7, minutes=3.0, tokens=128)
    rounds = 3 if args.quick else args.rounds
    minutes, tokens = (0.2, 32) if args.quick else (args.minutes, args.tokens)
    texts = [d.text for d in read_docstrings()][:: 400 if args.quick else 50][:200]
    figures: dict[str, Any] = {"threads": torch.get_num_threads(), "written": tokens}
    for kind in ("gpt2", "llama"):
        with tempfile.TemporaryDirectory() as folder:
            decoder = trained(kind, minutes, Path(folder) / "run")
            opened = transformers.AutoModelForCausalLM
            plain = opened.from_pretrained(decoder.path, dtype=torch.float32).eval()
            half = opened.from_pretrained(decoder.path, dtype=torch.bfloat16).eval()
        found = {"parameters": sum(p.numel() for p in decoder.model.parameters())}
        found |= costs(decoder, texts)
        for rows in (1, 16):
            systems = systems_of(decoder, plain, half, rows, tokens)
            found[f"batch {rows}"] = measure(systems, rounds, rows * tokens)
        figures[kind] = found
        print(kind, json.dumps(found), file=sys.stderr)
    finish("generation_speed", args, figures)


if __name__ == "__main__":
    main()
