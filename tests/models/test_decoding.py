"""The slim path equals the modules; int8 is near."""

from __future__ import annotations

import pytest
import torch
from tests.uses.decoders import model

from selfsup.models.decoding import Decoding, Int8Product, make_product
from selfsup.nn.cache import continuation, continuations
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
