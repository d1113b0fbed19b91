"""Our scorer, the harness over our adapter, and the harness over transformers: the same accuracies?

A small GPT-2 with random weights (or --model) is asked the harness's tasks; the reference is asked at
several batch sizes.  Needs the extra `judge`, and transformers.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from selfsup.models.decoder_hub import load_decoder, save_decoder
from selfsup.models.transformer import CausalLanguageModel
from selfsup.uses.judge import adapter, ask_harness, own_scores
from selfsup.uses.judge_tasks import find_task, read_rows

from _common import arguments, finish


def small_decoder(folder: Path) -> Path:
    """A GPT-2 with wide random weights, so that scores differ, and a byte-level vocabulary."""
    from selfsup import recipes
    from selfsup.data.docstrings import read_docstrings
    from selfsup.data.tokenizers import train_tokenizer

    recipe = recipes.get("gpt2-tiny")
    texts = [document.text for document in read_docstrings()][:300]
    config = recipe.tokenizer.model_copy(update={"vocab_size": 2000})
    tokenizer = train_tokenizer(config, texts).for_decoder()
    shape = recipe.model.model_copy(
        update={"vocab_size": tokenizer.vocab_size, "max_length": 512, "hidden_size": 64}
    )
    torch.manual_seed(0)
    model = CausalLanguageModel(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    folder.mkdir(parents=True, exist_ok=True)
    save_decoder(folder, model, tokenizer, {}, "random weights")
    return folder


def main() -> None:
    from lm_eval.models.huggingface import HFLM

    names = "lambada,piqa,copa,arc_easy,winogrande,blimp"
    args = arguments(__doc__ or "", tasks=names, limit=300, model="")
    limit = 40 if args.quick else args.limit
    tasks = [find_task(name) for name in args.tasks.split(",")]
    rows = {t.name: read_rows(t, args.data / "text", limit) for t in tasks}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(args.model) if args.model else small_decoder(Path(place) / "model")
        decoder = load_decoder(folder)
        found: dict[str, Any] = {}
        seconds: dict[str, float] = {}

        def ask(name: str, run: Any) -> None:
            started = time.perf_counter()
            found[name] = run()
            seconds[name] = round(time.perf_counter() - started, 2)

        def ours(batch: int) -> dict[str, Any]:
            return {t.name: own_scores(decoder, t, rows[t.name], batch_tokens=batch) for t in tasks}

        def theirs(batch: int) -> dict[str, Any]:
            path = str(decoder.path)
            peer = HFLM(pretrained=path, device="cpu", dtype="float32", batch_size=batch)
            return ask_harness(peer, tasks, rows)

        for batch in (4096, 256):
            ask(f"own scorer, {batch} tokens at once", lambda b=batch: ours(b))
        ask("harness, our adapter", lambda: ask_harness(adapter(decoder), tasks, rows))
        for batch in (1, 8):
            ask(f"harness, transformers, batch {batch}", lambda b=batch: theirs(b))
    first = next(iter(found.values()))
    differences = {
        name: max(
            abs(scores[t.name][key] - first[t.name][key])
            for t in tasks
            for key in ("acc", "acc_norm")
            if key in first[t.name]
        )
        for name, scores in found.items()
    }
    figures = {"rows": limit, "largest_difference": differences, "seconds": seconds}
    finish("harness_equality", args, {**figures, "scores": found})


if __name__ == "__main__":
    main()
