"""ModernBERT on long texts, tokens/s there and there and back, beside transformers with the same weights.

Six layers of 384, each third of them looking everywhere, the others 64 tokens to each side; 8,192 tokens a
batch in texts of equal length, so that nobody pads.  transformers by its `sdpa` attention, interleaved;
medians.  In float32 the hidden vectors are compared first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from selfsup.models.checkpoint_names import from_family, read_settings
from selfsup.models.transformer import MaskedLanguageModel
from selfsup.nn.device import keep_freed_memory
from selfsup.nn.sequences import Sequences

from _common import arguments, finish

TOKENS = 8192
VOCABULARY = 8192


def peer() -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.ModernBertConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        intermediate_size=576,
        max_position_embeddings=TOKENS,
        local_attention=128,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
    )
    return transformers.ModernBertForMaskedLM(config).eval()


def ours(theirs: Any) -> MaskedLanguageModel:
    model = MaskedLanguageModel(read_settings(theirs.config.to_dict(), "config")).eval()
    wanted = [name for name, _ in model.named_parameters()]
    found, _ = from_family("modernbert", theirs.state_dict(), wanted)
    model.load_state_dict(found, strict=False)
    return model


def measure(
    length: int, half: bool, back: bool, pair: tuple[MaskedLanguageModel, Any], times: int
) -> dict[str, Any]:
    mine, theirs = pair
    rows = TOKENS // length
    ids = torch.randint(5, VOCABULARY, (rows, length))
    mask = torch.ones_like(ids)
    systems: dict[str, Callable[[], torch.Tensor]] = {
        "ours": lambda: mine.encoder(Sequences.from_padded(ids, mask)),
        "transformers": lambda: theirs.model(
            input_ids=ids, attention_mask=mask
        ).last_hidden_state.flatten(0, 1),
    }
    bodies: dict[str, nn.Module] = {"ours": mine.encoder, "transformers": theirs.model}
    spans: dict[str, list[float]] = {name: [] for name in systems}
    outputs: dict[str, torch.Tensor] = {}
    for turn in range(times + 1):
        for name, run in systems.items():
            bodies[name].zero_grad()
            started = time.perf_counter()
            with torch.set_grad_enabled(back), torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = run()
            if back:
                out.float().square().mean().backward()
            if turn:
                spans[name].append(time.perf_counter() - started)
            outputs[name] = out.detach().float()
    ratios = [b / a for a, b in zip(spans["ours"], spans["transformers"], strict=True)]
    return {
        "length": length,
        "numbers": "bf16" if half else "fp32",
        "back": back,
        "tokens_per_second": {k: round(TOKENS / statistics.median(v)) for k, v in spans.items()},
        "times_the_peer": round(statistics.median(ratios), 2),
        "largest_difference": float((outputs["ours"] - outputs["transformers"]).abs().max()),
    }


def main() -> None:
    args = arguments(__doc__ or "")
    keep_freed_memory()  # as the loop does
    theirs = peer()
    pair = (ours(theirs), theirs)
    times = 1 if args.quick else 5
    lengths = (512, 2048) if args.quick else (256, 512, 1024, 2048, 4096)
    rows = []
    for length in lengths:
        for half, back in ((False, False), (True, False), (True, True)):
            rows.append(measure(length, half, back, pair, times))
            print(rows[-1], flush=True)
    finish("long_texts", args, {"rows": rows})


if __name__ == "__main__":
    main()
