"""The peers of the decoder benchmarks: transformers' GPT-2 with Trainer, and a plain PyTorch loop."""

from __future__ import annotations

import itertools
import lzma
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup import recipes
from selfsup.config import PretrainConfig
from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.uses.preparing import Prepared

from _peers import trainer_arguments

SHAPES = {
    "4x256": {"layers": 4, "hidden": 256, "heads": 4, "vocabulary": 8192},
    "6x384": {"layers": 6, "hidden": 384, "heads": 6, "vocabulary": 8192},
}
LENGTH = 256


def config(
    source: str, shape: str, recipe: str = "gpt2-mini", heldout: float = 0.02
) -> PretrainConfig:
    """Our configuration of a shape."""
    s = SHAPES[shape]
    value = recipes.get(recipe).model_dump(mode="json")
    value["data"].update(sources=[{"path": source}], heldout=heldout, length=LENGTH)
    value["tokenizer"]["vocab_size"] = s["vocabulary"]
    gated = value["model"]["gated"]
    value["model"].update(
        num_layers=s["layers"],
        hidden_size=s["hidden"],
        num_heads=s["heads"],
        num_kv_heads=s["heads"] // 2 if gated else None,
        intermediate_size=s["hidden"] * 8 // 3 // 32 * 32 if gated else 4 * s["hidden"],
    )
    return PretrainConfig.model_validate(value)


def stream(ready: Prepared) -> np.ndarray:
    """All training documents one after another, an end token after each, as GPT-2 was trained."""
    split, end = ready.corpus.train, ready.tokenizer.end_id
    parts = []
    for begin, stop in zip(split.documents[:-1], split.documents[1:], strict=True):
        parts += [split.tokens[begin:stop].astype(np.int64), np.array([end])]
    return np.concatenate(parts)


class Windows(torch.utils.data.Dataset[dict[str, Any]]):
    """The stream in windows, shuffled, as the peer's Trainer wants them."""

    def __init__(self, ready: Prepared) -> None:
        whole = stream(ready)
        self.rows = whole[: len(whole) // LENGTH * LENGTH].reshape(-1, LENGTH)
        self.order = np.random.default_rng(0).permutation(len(self.rows))

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = torch.from_numpy(self.rows[self.order[index]])
        return {"input_ids": row, "labels": row}


def peer_model(shape: str, ready: Prepared) -> Any:
    """Transformers' GPT-2 of a shape."""
    from transformers import GPT2Config, GPT2LMHeadModel

    s = SHAPES[shape]
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=ready.tokenizer.vocab_size,
            n_embd=s["hidden"],
            n_layer=s["layers"],
            n_head=s["heads"],
            n_positions=1024,
            bos_token_id=ready.tokenizer.begin_id,
            eos_token_id=ready.tokenizer.end_id,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )


def train_with_trainer(
    ready: Prepared,
    model: Any,
    *,
    steps: int,
    batch: int,
    on_step: Callable[[int], bool] | None = None,
    schedule: Callable[[int], float] | None = None,
    **options: Any,
) -> list[float]:
    """Train with Trainer; returns the time of each step's end."""
    from transformers import Trainer, TrainerCallback

    times: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            times.append(time.perf_counter())
            if on_step is not None and on_step(state.global_step):
                control.should_training_stop = True
            return control

    with tempfile.TemporaryDirectory() as folder:
        arguments = trainer_arguments(folder, batch, steps, **options)
        trainer = Trainer(model, arguments, train_dataset=Windows(ready), callbacks=[Watch()])
        if schedule is not None:
            trainer.create_optimizer()
            trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, schedule)
        trainer.train()
    return times


def write_with_peer(model: Any, ids: Tensor, count: int, **options: Any) -> list[list[int]]:
    """What `generate` writes greedily behind prompts (rows, length): `count` tokens each, never fewer."""
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        **options,
    )
    return [row[ids.shape[1] :].tolist() for row in found]


class PlainBlock(nn.Module):
    """A pre-norm block as the field's teaching code writes it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, hidden = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.first(x)).split(hidden, 2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, hidden))
        return x + self.down(F.gelu(self.up(self.second(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """GPT-2 in plain PyTorch: padded tensors, all logits at once."""

    def __init__(self, shape: str, vocabulary: int) -> None:
        super().__init__()
        s = SHAPES[shape]
        self.tokens = nn.Embedding(vocabulary, s["hidden"])
        self.places = nn.Embedding(1024, s["hidden"])
        self.blocks = nn.ModuleList(PlainBlock(s["hidden"], s["heads"]) for _ in range(s["layers"]))
        self.norm = nn.LayerNorm(s["hidden"])
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train_plainly(ready: Prepared, shape: str, *, steps: int, batch: int) -> list[float]:
    """A plain loop: random windows, autocast to bf16, fused AdamW, clipping; times of steps' ends."""
    torch.manual_seed(0)
    model = PlainGPT(shape, ready.tokenizer.vocab_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    whole = torch.from_numpy(stream(ready))
    times = []
    for _ in range(steps):
        begins = torch.randint(len(whole) - LENGTH - 1, (batch,))
        ids = torch.stack([whole[b : b + LENGTH] for b in begins])
        targets = torch.stack([whole[b + 1 : b + LENGTH + 1] for b in begins])
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        times.append(time.perf_counter())
    return times


def heldout_batch(ready: Prepared, first: int, last: int) -> Any:
    """Our held-out rows, as ours are scored."""
    rows, epochs = ready.evaluation.examples
    part = Examples(rows[first:last], epochs[first:last])
    return ready.evaluation.objective.batch(part, Key(0, 1))


def peer_bits_per_byte(ready: Prepared, model: Any) -> float:
    """The peer on our held-out rows, each document's piece read alone; bits a byte of text."""
    model.eval()
    nats = size = 0.0
    with torch.no_grad():
        for number in range(len(ready.evaluation.examples.rows)):
            batch = heldout_batch(ready, number, number + 1)
            starts = batch.sequences.starts.tolist()
            for begin, end in itertools.pairwise(starts):
                logits = model(input_ids=batch.sequences.tokens[None, begin:end]).logits[0]
                losses = F.cross_entropy(logits.float(), batch.targets[begin:end], reduction="none")
                nats += float((losses * batch.weights[begin:end]).sum())
            size += batch.bytes
    return nats / math.log(2) / size


class NGrams:
    """Interpolated absolute discounting up to an order, over token ids (Ney et al. 1994).

    Args:
        tokens: the training stream.
        order: 5 looks at four tokens before each.
        vocabulary: its size.
        discount: taken from every count that was seen.
    """

    def __init__(
        self, tokens: np.ndarray, order: int, vocabulary: int, discount: float = 0.75
    ) -> None:
        self.order, self.vocabulary, self.discount = order, vocabulary, discount
        self.tables: list[tuple[np.ndarray, np.ndarray]] = []
        self.contexts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for n in range(1, order + 1):
            codes = self._codes(tokens, n)
            keys, counts = np.unique(codes, return_counts=True)
            self.tables.append((keys, counts))
            if n > 1:
                # a context's total, and how many different tokens followed it
                before = self._codes(tokens[:-1], n - 1)
                context, totals = np.unique(before, return_counts=True)
                _, where = np.unique(codes, return_index=True)
                kinds = np.bincount(np.searchsorted(context, before[where]), minlength=len(context))
                self.contexts.append((context, totals, kinds))
        self.unigrams = np.bincount(tokens, minlength=vocabulary) + 1.0
        self.unigrams /= self.unigrams.sum()

    @staticmethod
    def _codes(tokens: np.ndarray, n: int) -> np.ndarray:
        """A 64-bit hash of each n-gram."""
        length = len(tokens) - n + 1
        codes = np.zeros(length, np.uint64)
        for place in range(n):
            part = tokens[place : place + length].astype(np.uint64)
            codes = codes * np.uint64(0x9E3779B97F4A7C15) + part + np.uint64(1)
            codes ^= codes >> np.uint64(29)
        return codes

    def nats(self, tokens: np.ndarray) -> np.ndarray:
        """Nats of each token but the first `order` - 1, from those before it."""
        targets = tokens[self.order - 1 :]
        chance = self.unigrams[targets]
        for n in range(2, self.order + 1):
            codes = self._codes(tokens, n)[self.order - n :]
            before = self._codes(tokens[:-1], n - 1)[self.order - n :]
            keys, counts = self.tables[n - 1]
            context, totals, kinds = self.contexts[n - 2]
            seen = self._look_up(keys, counts, codes)
            total = self._look_up(context, totals, before)
            kind = self._look_up(context, kinds, before)
            safe = np.maximum(total, 1)
            mixed = (np.maximum(seen - self.discount, 0) + self.discount * kind * chance) / safe
            chance = np.where(total > 0, mixed, chance)
        return -np.log(chance)

    @staticmethod
    def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, values[at], 0).astype(np.float64)


def ngram_bits_per_byte(ready: Prepared, order: int = 5) -> float:
    """An n-gram model on the held-out documents of ours, read whole, over the same tokens."""
    model = NGrams(stream(ready), order, ready.tokenizer.vocab_size)
    split, sizes = ready.corpus.heldout, ready.tokenizer.byte_lengths
    assert sizes is not None
    nats = size = 0.0
    for begin, stop in zip(split.documents[:-1], split.documents[1:], strict=True):
        text = split.tokens[begin:stop].astype(np.int64)
        lead = np.full(order - 1, ready.tokenizer.end_id)
        nats += float(model.nats(np.concatenate([lead, text, [ready.tokenizer.end_id]])).sum())
        size += float(sizes[text].sum())
    return nats / math.log(2) / size


def xz_bits_per_byte(ready: Prepared) -> dict[str, float]:
    """Xz -9e on the held-out text alone, and what it adds behind the training text."""

    def text(split: Any) -> bytes:
        documents = zip(split.documents[:-1], split.documents[1:], strict=True)
        return "\n".join(
            ready.tokenizer.decode(split.tokens[a:b].astype(np.int64)) for a, b in documents
        ).encode()

    def size(data: bytes) -> int:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
        return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=filters))

    heldout, train = text(ready.corpus.heldout), text(ready.corpus.train)
    return {
        "alone": 8 * size(heldout) / len(heldout),
        "behind the training text": 8 * (size(train + heldout) - size(train)) / len(heldout),
    }
