"""Everything once on a GPU, against the same on the CPU.  Skipped where there is none.

`SELFSUP_TEST_DEVICE=cpu` runs the file without a GPU, to find the mistakes of the tests themselves.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

import selfsup
from selfsup import AutoEncoderDetector, autoencoder_recipes
from selfsup.autoencoder_config import AutoEncoderConfig
from selfsup.errors import Interrupted
from selfsup.models.autoencoder_hub import load_autoencoder
from selfsup.models.decoder_hub import load_decoder
from selfsup.models.decoding import Decoding
from selfsup.nn.attention import AttentionPlan, attend
from selfsup.nn.cache import continuation, continuations
from selfsup.nn.cross_entropy import linear_cross_entropy
from selfsup.nn.flash import FlashPlan
from selfsup.nn.rotary import rotary_tables, rotate
from selfsup.nn.sequences import Sequences
from selfsup.uses import codes
from selfsup.uses.autoencoding import train_autoencoder
from selfsup.uses.detection.engine import MEASURES
from selfsup.uses.embed import embed
from selfsup.uses.fill import fill
from selfsup.uses.generate import Writer, complete
from selfsup.uses.likelihood import bits_per_byte, score
from selfsup.uses.predicting import evaluate_file
from selfsup.uses.pretraining import pretrain
from selfsup.uses.sampling import Sampling
from tests.tasks.toy import toy_config, write_encoder, write_questions, write_tags, write_texts
from tests.training.tiny import tiny_config, write_corpus
from tests.uses.decoders import model as decoder_model
from tests.uses.tiny_decoder import tiny_decoder

DEVICE = os.environ.get("SELFSUP_TEST_DEVICE", "cuda")
GPU = DEVICE == "cuda"
pytestmark = pytest.mark.skipif(
    GPU and not torch.cuda.is_available(), reason="no GPU: every model also runs on CUDA"
)
needs_gpu = pytest.mark.skipif(not GPU, reason="a kernel that only GPUs have")
RECIPES = ("bert-tiny", "modernbert-tiny", "electra-tiny", "gpt2-tiny", "llama-tiny")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


# ---- kernels ---------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("form", ["whole", "causal", "windowed"])
@pytest.mark.parametrize("shared", [False, True])
def test_flash_attention_equals_the_plan(form: str, shared: bool) -> None:
    starts = torch.tensor([0, 5, 70, 71, 200, 456, 460, 463])
    torch.manual_seed(0)
    full = [torch.randn(463, 4, 32), *(torch.randn(463, 2 if shared else 4, 32) for _ in range(2))]
    plan = AttentionPlan.build(starts, None, torch.device("cpu"))
    fast = FlashPlan(FlashPlan.bounds_of(starts, torch.device(DEVICE)), 256)
    if form == "causal":
        plan, fast = plan.causal(), fast.causal()
    if form == "windowed":
        plan, fast = plan.windowed(16), fast.windowed(16)
    wanted_inputs = [x.double().requires_grad_() for x in full]
    found_inputs = [x.to(DEVICE, torch.bfloat16).requires_grad_() for x in full]
    wanted, found = attend(*wanted_inputs, plan), fast.attend(*found_inputs)
    pull = torch.randn_like(full[0])
    wanted.backward(pull.double())
    found.backward(pull.to(found))
    assert near(found, wanted, 0.01)
    for mine, theirs in zip(found_inputs, wanted_inputs, strict=True):
        assert near(mine.grad, theirs.grad, 0.02)


def near(found: Any, wanted: Any, bound: float) -> bool:
    """Whether two tensors differ by that share of the second's length at most."""
    found, wanted = (x.detach().double().cpu() for x in (found, wanted))
    return bool((found - wanted).norm() <= bound * wanted.norm())


@needs_gpu
def test_flash_attention_drops_and_says_where_it_fits() -> None:
    device = torch.device(DEVICE)
    fast = FlashPlan(FlashPlan.bounds_of(torch.tensor([0, 300, 1000]), device), 700)
    q, k = (torch.randn(1000, 2, 64, device=device, dtype=torch.bfloat16) for _ in range(2))
    ones = torch.ones_like(q)
    found = fast.attend(q, k, ones, 0.25)
    assert abs(float(found.float().mean()) - 1) < 0.02  # the shares that stay are scaled up
    assert float(found.float().std()) > 0.005
    assert FlashPlan.fits(device, torch.bfloat16, 64)
    assert not FlashPlan.fits(device, torch.float32, 64)
    assert not FlashPlan.fits(device, torch.bfloat16, 20)
    assert not FlashPlan.fits(torch.device("cpu"), torch.bfloat16, 64)


@needs_gpu
@pytest.mark.parametrize(("heads", "shared", "width"), [(4, 4, 16), (6, 2, 24), (4, 1, 64)])
@pytest.mark.parametrize("turned", [False, True])
def test_one_token_over_a_cache(heads: int, shared: int, width: int, turned: bool) -> None:
    from selfsup.nn.decoding_kernel import attend_one

    torch.manual_seed(0)
    positions, length = torch.tensor([0, 7, 280], device=DEVICE), 300
    joined = torch.randn(3, heads + 2 * shared, width, device=DEVICE)
    q, k, v = torch.split(joined, [heads, shared, shared], 1)
    keys, values = torch.randn(2, 3, shared, length, width, device=DEVICE)
    wanted_keys, wanted_values = keys.clone(), values.clone()
    tables = None
    queries, fresh = q, k
    if turned:
        places = torch.arange(length, device=DEVICE)
        cos, sin = (one[:, 0] for one in rotary_tables(places, width, 1e4))
        tables = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        queries, fresh = (
            rotate(x[:, None], (cos[positions][:, None], sin[positions][:, None]))[:, 0]
            for x in (q, k)
        )
    rows = torch.arange(3, device=DEVICE)
    wanted_keys[rows, :, positions], wanted_values[rows, :, positions] = fresh, v
    seen = (torch.arange(length, device=DEVICE) <= positions[:, None])[:, None, None]
    wanted = F.scaled_dot_product_attention(
        queries[:, :, None].double(),
        wanted_keys.double(),
        wanted_values.double(),
        attn_mask=seen,
        enable_gqa=True,
    )[:, :, 0]
    found = attend_one(q, k, v, keys, values, positions, tables)
    assert near(found, wanted, 1e-5)
    assert near(keys, wanted_keys, 1e-6)
    assert torch.equal(values, wanted_values)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("classes", [300, 9001])
def test_cross_entropy_equals_torch(
    biased: bool, dtype: torch.dtype, bound: float, classes: int
) -> None:
    torch.manual_seed(0)
    x, matrix = torch.randn(70, 24), torch.randn(classes, 24)
    bias = torch.randn(classes) if biased else None
    targets, weights = torch.randint(classes, (70,)), torch.rand(70)
    exact = [None if t is None else t.double().requires_grad_() for t in (x, matrix, bias)]
    logits = F.linear(*exact)  # type: ignore[arg-type]
    wanted = (F.cross_entropy(logits, targets, reduction="none") * weights).sum()
    wanted.backward()
    mine = [None if t is None else t.to(DEVICE).requires_grad_() for t in (x, matrix, bias)]
    with torch.autocast(DEVICE, torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss, right = linear_cross_entropy(*mine, targets.to(DEVICE), weights.to(DEVICE))  # type: ignore[arg-type]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=max(bound / 10, 1e-5))
    if dtype == torch.float32:
        hits = float(((logits.argmax(1) == targets) * weights).sum())
        assert float(right) == pytest.approx(hits, abs=1e-4)
    for found, other in zip(mine, exact, strict=True):
        if found is not None and other is not None:
            assert near(found.grad, other.grad, bound)


# ---- text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_pretraining_as_on_the_cpu(recipe: str, corpus: Path, tmp_path: Path) -> None:
    losses = {}
    for name, changes in {
        "cpu": {},
        "fp32": {"device": DEVICE},
        "parts": {"device": DEVICE, "accumulate": 4},
        "bf16": {"device": DEVICE, "precision": "bf16"},
        "compiled": {"device": DEVICE, "precision": "bf16", "compile": True},
    }.items():
        if name == "compiled" and not (GPU and recipe in {"bert-tiny", "gpt2-tiny"}):
            continue
        result = pretrain(tiny_config(corpus, recipe, **changes), tmp_path / name, quiet=True)
        losses[name] = result["heldout"]["loss"]
        assert result["steps"] == 12
    assert losses["fp32"] == pytest.approx(losses["cpu"], rel=1e-3)
    assert losses["parts"] == pytest.approx(losses["cpu"], rel=1e-3)
    for name in {"bf16", "compiled"} & set(losses):
        assert losses[name] == pytest.approx(losses["cpu"], rel=0.03), name


def test_a_run_goes_on_where_it_was_stopped(corpus: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from selfsup.training import loop

    whole = pretrain(tiny_config(corpus, device=DEVICE), tmp_path / "whole", quiet=True)
    step = loop.Loop.step

    def stops(self: Any) -> Any:
        if self.state.step == 6:
            raise Interrupted("stopped")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "step", stops)
        with pytest.raises(Interrupted):
            pretrain(tiny_config(corpus, device=DEVICE), tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "checkpoints").is_dir()
    begun: list[int] = []
    monkeypatch.setattr(loop.Loop, "step", lambda self: begun.append(self.state.step) or step(self))
    again = pretrain(tiny_config(corpus, device=DEVICE), tmp_path / "run", quiet=True)
    assert begun[0] in (4, 6)  # saved every four steps
    assert again["heldout"]["loss"] == pytest.approx(whole["heldout"]["loss"], rel=1e-4)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_embedding_and_filling(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / kind, kind)
    here, there = selfsup.load(folder), selfsup.load(folder, device=DEVICE)
    texts = ["the film is fine", "a", "the house was cold and dull and grey " * 9, ""]
    wanted = embed(here, texts)
    np.testing.assert_allclose(embed(there, texts), wanted, atol=2e-5)
    half = embed(there, texts, precision="bf16")
    lengths = [np.linalg.norm(one, axis=1) for one in (half, wanted)]
    assert ((half * wanted).sum(1) / lengths[0] / lengths[1]).min() > 0.99
    asked = ["the [MASK] is fine", "it was [MASK] and [MASK] ."]
    for mine, theirs in zip(fill(there, asked), fill(here, asked), strict=True):
        assert mine.best == theirs.best


@pytest.mark.parametrize("task", ["classify", "regress", "tag", "span"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fine_tuning(task: str, precision: str, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    write: Any = {"tag": write_tags, "span": write_questions}.get(task, write_texts)
    suffix = {"tag": "conll", "span": "json"}.get(task, "tsv")
    train, dev = (write(tmp_path / f"{n}.{suffix}", seed=i) for i, n in enumerate(("tr", "dev")))
    changes: dict[str, Any] = {"train": {"device": DEVICE, "precision": precision}}
    if task == "regress":
        changes["data"] = {"label_column": "number"}
    if task == "span":
        changes["train"]["budget"] = "150 steps"
    config = toy_config(encoder, task, train, dev, **changes)
    result = selfsup.finetune(config, tmp_path / "run", quiet=True)
    main = result["chosen_by"]
    assert result["dev"][main] >= (0.5 if task == "span" else 0.9)
    if precision == "fp32":
        scores = [
            evaluate_file(
                selfsup.Predictor(tmp_path / "run", precision="fp32", device=device), str(dev), {}
            )
            for device in ("cpu", DEVICE)
        ]
        assert scores[1][main] == pytest.approx(scores[0][main], abs=1e-6)
        assert scores[1]["loss"] == pytest.approx(scores[0]["loss"], rel=1e-3)


# ---- decoders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_replayed_steps_equal_the_plain_forward(kind: str, dtype: torch.dtype) -> None:
    network = decoder_model(kind).to(DEVICE)
    torch.manual_seed(1)
    lengths, more = (1, 7, 12), 30
    ids = [torch.randint(5, 300, (n + more,)) for n in lengths]
    decoding = Decoding(network, rows=3, dtype=dtype)
    cache = decoding.cache(3, 45)
    first = [x[:n] for x, n in zip(ids, lengths, strict=True)]
    batch = continuations(first, cache.lengths).to(torch.device(DEVICE))
    found = [decoding.read(batch, cache)[batch.starts[1:] - 1]]
    for step in range(more):
        tokens = torch.stack([x[n + step] for x, n in zip(ids, lengths, strict=True)])
        if step == 15:  # rows that are over make room
            cache.keep(torch.tensor([0, 2]))
        kept = [0, 2] if step >= 15 else [0, 1, 2]
        read = decoding.read(continuation(tokens[kept].to(DEVICE), cache.lengths), cache)
        found.append(torch.stack([read[kept.index(r)] if r in kept else read[0] for r in range(3)]))
    exact = network.cpu().double() if dtype == torch.float32 else network.cpu()
    for row in (0, 2):
        with torch.no_grad():
            wanted = exact(Sequences.from_lists([ids[row].numpy()]))[lengths[row] - 1 :]
        mine = torch.stack([one[row] for one in found])
        assert near(mine, wanted, 1e-4 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("recipe", ["gpt2-tiny", "llama-tiny"])
def test_greedy_text_is_the_same(recipe: str, tmp_path: Path) -> None:
    tiny_decoder(tmp_path / "decoder", recipe, max_length=700)
    here, there = load_decoder(tmp_path / "decoder"), load_decoder(tmp_path / "decoder", DEVICE)
    prompts = ["The quick", "The lazy dog writes good reviews of", "T"]
    wanted = complete(here, prompts, Sampling(greedy=True, max_tokens=600))
    writer = Writer(there)
    for _ in range(2):
        found = list(writer.generate(prompts, Sampling(greedy=True, max_tokens=600)))
        for number, text in enumerate(wanted):
            ids = [id for p in found if p.prompt == number for id in p.ids]
            assert ids[:200] == text.ids[:200]
    tiny_decoder(tmp_path / "short", recipe, max_length=96)
    full = Sampling(
        greedy=True, max_tokens=150
    )  # the context fills up, and its last half is read again
    texts = [complete(load_decoder(tmp_path / "short", d), prompts, full) for d in ("cpu", DEVICE)]
    assert [t.ids for t in texts[1]] == [t.ids for t in texts[0]]
    drawn = Sampling(temperature=0.9, top_k=40, top_p=0.95, samples=2, max_tokens=40, seed=3)
    for mine, theirs in zip(
        complete(there, prompts, drawn), complete(here, prompts, drawn), strict=True
    ):
        assert mine.ids == theirs.ids
    for options in ({"precision": "bf16"}, {"int8": True}, {"int8": True, "precision": "bf16"}):
        texts = complete(there, prompts, Sampling(greedy=True, max_tokens=20), **options)  # type: ignore[arg-type]
        assert all(len(t.ids) > 0 for t in texts)


@pytest.mark.parametrize("recipe", ["gpt2-tiny", "llama-tiny"])
def test_likelihoods(recipe: str, tmp_path: Path) -> None:
    tiny_decoder(tmp_path / "decoder", recipe)
    opened = [load_decoder(tmp_path / "decoder", device) for device in ("cpu", DEVICE)]
    long = "A long question that is asked with some words before it, is it good or is it bad? "
    pairs = [
        (long, "good"),
        (long, "bad"),
        ("", "The dog"),
        *((f"{long}A:", f" {n}") for n in "ab"),
    ]
    here, there = (score(one, pairs) for one in opened)
    for mine, theirs in zip(there, here, strict=True):
        assert mine.log_probability == pytest.approx(theirs.log_probability, rel=1e-4)
        assert mine.greedy == theirs.greedy
    bits = [bits_per_byte(one, [long * 5, "The dog"]) for one in opened]
    assert bits[1].bits_per_byte == pytest.approx(bits[0].bits_per_byte, rel=1e-4)


def test_prompts_with_examples(tmp_path: Path) -> None:
    from selfsup.cli.app import main

    tiny_decoder(tmp_path / "decoder")
    lines = [
        {"input": w, "output": "good" if i % 2 else "bad"} for i, w in enumerate("abcdefghijkl")
    ]
    task = [{"description": "Good or bad?", "choices": ["good", "bad"]}, *lines]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, task)), encoding="utf-8")
    found = []
    for device in ("cpu", DEVICE):
        out = tmp_path / f"few-{len(found)}"
        arguments = ["fewshot", str(tmp_path / "decoder"), "--task", str(tmp_path / "task.jsonl")]
        arguments += ["--shots", "0,2", "--draws", "2", "--device", device, "--out", str(out)]
        assert main(arguments) == 0
        found.append(json.loads((out / "result.json").read_text()))
    numbers = [
        [v for row in one["table"] for v in row.values() if isinstance(v, (int, float))]
        for one in found
    ]
    assert len(numbers[0]) > 4
    assert numbers[1] == pytest.approx(numbers[0], rel=1e-3)


# ---- auto-encoders ---------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", list(autoencoder_recipes.AUTOENCODERS))
def test_auto_encoders(recipe: str, tmp_path: Path) -> None:
    digits = load_digits()
    images = (digits.images[:300] * 15.9).astype(np.uint8)
    np.savez(tmp_path / "digits.npz", images=images)
    value = autoencoder_recipes.get(recipe).model_dump(mode="json")
    value["data"] |= {"path": str(tmp_path / "digits.npz"), "key": "images"}
    value["train"] |= {"budget": "20 steps", "batch_size": 32, "precision": "fp32"}
    errors = {}
    for device in ("cpu", DEVICE):
        value["train"]["device"] = device
        config = AutoEncoderConfig.model_validate(value)
        out = tmp_path / f"run-{len(errors)}-{device}"
        result = train_autoencoder(config, out, quiet=True)
        errors[out] = result["heldout"]["squared_error"]
        assert result["heldout"]["squared_error"] < result["untrained"]["squared_error"]
    one, two = errors.values()
    # what is drawn on a GPU (noise of a VAE, revived codes) is drawn by another generator
    assert two == pytest.approx(one, rel=0.25 if recipe != "autoencoder" else 0.01)
    here, there = (load_autoencoder(out, device) for device in ("cpu", DEVICE))
    x = (images[:50, None] / 255.0).astype(np.float32)
    wanted = codes.encode(here, x)
    same = np.isclose(codes.encode(there, x), wanted, atol=1e-3).mean()
    # where two codes are equally near, rounding decides
    assert same > (0.97 if here.bottleneck.sizes else 0.999)
    np.testing.assert_allclose(codes.decode(there, wanted), codes.decode(here, wanted), atol=1e-3)
    if recipe == "vae":
        nats = [codes.log_likelihood(one, x[:3].round(), draws=20) for one in (here, there)]
        np.testing.assert_allclose(nats[1], nats[0], rtol=1e-3)
        np.testing.assert_allclose(codes.sample(there, 3), codes.sample(here, 3), atol=1e-3)
    if recipe == "one-hot-autoencoder":
        assert (codes.classes(there, x) == codes.classes(here, x)).mean() > 0.95


@pytest.mark.parametrize("measure", MEASURES)
def test_detection(measure: str) -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 300))
    rows = np.stack([a, b, a * b, a + b, np.sin(2 * a), a - b], 1)
    scores = [
        AutoEncoderDetector(measure, steps=100, device=device).fit(rows[:200]).score_samples(rows)
        for device in ("cpu", DEVICE)
    ]
    assert np.corrcoef(*scores)[0, 1] > 0.99
