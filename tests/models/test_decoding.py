"""The slim path equals the modules; int8 is near."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from tests.uses.decoders import model
from torch import Tensor

from selfsup.models.decoding import Decoding, Int8Product
from selfsup.models.recorded_step import RecordedStep
from selfsup.nn.cache import continuation, continuations
from selfsup.nn.products import make_product
from selfsup.nn.sequences import Sequences

LENGTHS = (1, 7, 12, 3)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("rows", [1, 4])
def test_equals_the_plain_forward_for_mixed_lengths(kind: str, rows: int) -> None:
    network = model(kind)
    torch.manual_seed(1)
    ids = [torch.randint(5, 300, (n + 6,)) for n in LENGTHS[-rows:]]
    decoding = Decoding(network, rows=rows)
    cache = decoding.cache(rows, 20)
    lengths = LENGTHS[-rows:]
    batch = continuations([x[:n] for x, n in zip(ids, lengths, strict=True)], cache.lengths)
    found = [decoding.read(batch, cache)[batch.starts[1:] - 1]]
    for step in range(6):
        tokens = torch.stack([x[n + step] for x, n in zip(ids, lengths, strict=True)])
        found.append(decoding.read(continuation(tokens, cache.lengths), cache))
    for row, (x, n) in enumerate(zip(ids, lengths, strict=True)):
        with torch.no_grad():
            hidden = network(Sequences.from_lists([x.numpy()]))
            wanted, logits = hidden[n - 1 :], network.predict(hidden[n - 1 :])
        mine = torch.stack([one[row] for one in found])
        torch.testing.assert_close(mine, wanted, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(decoding.logits(mine), logits, atol=2e-3, rtol=2e-4)


def _attend_slowly(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    positions: Tensor,
    tables: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """What the kernel of `nn/decoding_kernel.py` does, row by row."""
    if tables is not None:
        cos, sin = tables[0][positions], tables[1][positions]
        q, k = (x * cos + x.roll(x.shape[-1] // 2, -1) * sin for x in (q, k))
    rows = []
    for row, place in enumerate(positions.tolist()):
        keys[row, :, place], values[row, :, place] = k[row], v[row]
        seen = slice(0, place + 1)
        group = q.shape[1] // keys.shape[1]
        old_keys = keys[row, :, seen].repeat_interleave(group, 0)
        old_values = values[row, :, seen].repeat_interleave(group, 0)
        scores = (old_keys @ q[row, :, :, None])[..., 0] * q.shape[-1] ** -0.5
        rows.append((scores.softmax(-1)[:, None] @ old_values)[:, 0])
    return torch.stack(rows)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_the_step_that_a_gpu_records_equals_the_plain_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = types.ModuleType("selfsup.nn.decoding_kernel")
    kernel.attend_one = _attend_slowly  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "selfsup.nn.decoding_kernel", kernel)
    torch.manual_seed(1)
    decoding, ids = Decoding(model(kind), rows=3), torch.randint(5, 300, (3, 9))
    caches = [decoding.cache(3, 30) for _ in range(2)]
    for cache in caches:
        decoding.read(continuations([ids[r, : 2 + r] for r in range(3)], cache.lengths), cache)
    plain, other = caches
    with torch.inference_mode():
        step = RecordedStep(decoding, decoding._read, other, decoding._tables(30))
        step.positions.copy_(other.lengths)
        for column in range(5, 9):
            step.tokens.copy_(ids[:, column])
            wanted = decoding.read(continuation(ids[:, column], plain.lengths), plain)
            torch.testing.assert_close(step.step(), wanted, atol=1e-4, rtol=1e-4)
            assert torch.equal(step.positions, plain.lengths)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("options", "bound"), [({"dtype": torch.bfloat16}, 0.05), ({"int8": True}, 0.05)]
)
def test_rougher_numbers_stay_near(kind: str, options: dict[str, object], bound: float) -> None:
    network = model(kind)
    torch.manual_seed(1)
    ids = torch.randint(5, 300, (24,))
    batch = Sequences.from_lists([ids.numpy()])
    exact, rough = Decoding(network), Decoding(network, **options)  # type: ignore[arg-type]
    found = [d.logits(d.read(batch, d.cache(1, 24))) for d in (exact, rough)]
    assert float((found[0] - found[1]).norm() / found[0].norm()) < bound


@pytest.mark.parametrize("rows", [1, 3, 8, 20])
def test_int8_errs_by_half_a_step_at_most(rows: int) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 32), torch.randn(24), torch.randn(rows, 32)
    product = Int8Product(weight, bias)
    wide = Int8Product(weight, bias, 16)
    step = weight.abs().amax(1) / 127
    assert float(((product.weight * step[:, None] - weight).abs() / step[:, None]).max()) <= 0.501
    wanted = torch.nn.functional.linear(x, weight, bias)
    assert float((product(x) - wanted).norm() / wanted.norm()) < 0.02
    assert float((wide(x) - product(x)).norm() / wanted.norm()) < 0.01  # how it is laid out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("laid_out_for", [1, 16])
@pytest.mark.parametrize("biased", [True, False])
def test_products_take_any_number_of_rows(
    dtype: torch.dtype, laid_out_for: int, biased: bool
) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(24, 32), torch.randn(24) if biased else None
    product = make_product(weight, bias, dtype, laid_out_for)
    for rows in (1, 5, 40):
        x = torch.randn(rows, 32)
        wanted = torch.nn.functional.linear(x, weight, bias)
        near = 1e-4 if dtype == torch.float32 else 0.2
        torch.testing.assert_close(product(x.to(dtype)).float(), wanted, atol=near, rtol=near)
