"""Packed equals padded: whatever way sequences lie in memory, results and gradients are the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfsup.config import TransformerConfig
from selfsup.models.transformer import MaskedLanguageModel, Transformer
from selfsup.nn.attention import AttentionPlan, attend
from selfsup.nn.cross_entropy import linear_cross_entropy
from selfsup.nn.precision import planned_rows
from selfsup.nn.rotary import rotary_tables, rotate
from selfsup.nn.sequences import Sequences

CLASSIC = TransformerConfig(
    vocab_size=60, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32, max_length=64
)
MODERN = TransformerConfig(
    vocab_size=60,
    hidden_size=16,
    num_layers=3,
    num_heads=2,
    intermediate_size=24,
    max_length=64,
    norm_position="pre",
    norm_eps=1e-5,
    positions="rotary",
    window=8,
    global_every=2,
    gated=True,
    bias=False,
    type_vocab_size=0,
    pooler=False,
)


def build(config: TransformerConfig) -> MaskedLanguageModel:
    torch.manual_seed(0)
    return MaskedLanguageModel(config).double()


def alone(model: MaskedLanguageModel, ids: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([model(Sequences.from_lists([x.numpy()])) for x in ids])


@pytest.mark.parametrize("config", [CLASSIC, MODERN], ids=["classic", "modern"])
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_batched_equals_one_by_one(config: TransformerConfig, lengths: list[int]) -> None:
    model = build(config)
    torch.manual_seed(1)
    ids = [torch.randint(0, 60, (n,)) for n in lengths]
    together = model(Sequences.from_lists([x.numpy() for x in ids]))
    torch.testing.assert_close(together, alone(model, ids), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("config", [CLASSIC, MODERN], ids=["classic", "modern"])
def test_rows_of_packed_sequences_equal_separate_ones(config: TransformerConfig) -> None:
    """Loss and every gradient, with several sequences to a row."""
    model = build(config)
    torch.manual_seed(1)
    ids = [torch.randint(0, 60, (n,)) for n in (10, 22, 32, 5, 20, 7)]
    rows = Sequences.from_lists([x.numpy() for x in ids])
    packed = Sequences(rows.tokens, rows.positions, rows.starts, row_length=32)
    assert len(packed.plan.groups) == 1
    assert packed.plan.groups[0].mask is not None
    targets = torch.randint(0, 60, (len(rows.tokens),))
    gradients = []
    losses = []
    for hidden in (model(packed), model(rows), alone(model, ids)):
        loss = torch.nn.functional.cross_entropy(model.predict(hidden), targets)
        losses.append(loss)
        names = [n for n, _ in model.named_parameters() if "pooler" not in n]
        wanted = [p for n, p in model.named_parameters() if n in names]
        gradients.append(torch.autograd.grad(loss, wanted))
    for other in (1, 2):
        torch.testing.assert_close(losses[0], losses[other], atol=1e-12, rtol=1e-12)
        for name, a, b in zip(names, gradients[0], gradients[other], strict=True):
            torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9, msg=name)


def test_padding_at_the_edge_is_dropped() -> None:
    model = build(CLASSIC)
    tokens = torch.randint(0, 60, (3, 12))
    mask = torch.ones(3, 12)
    mask[0, 5:] = 0
    mask[2, 9:] = 0
    batch = Sequences.from_padded(tokens, mask)
    assert batch.starts.tolist() == [0, 5, 17, 26]
    expected = alone(model, [tokens[0, :5], tokens[1], tokens[2, :9]])
    torch.testing.assert_close(model(batch), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("reach", [None, 3])
def test_attention_against_a_slow_reference(reach: int | None) -> None:
    torch.manual_seed(0)
    lengths = [5, 19, 130, 1]
    starts = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    q, k, v = torch.randn(3, sum(lengths), 2, 4, dtype=torch.float64)
    plan = AttentionPlan.build(starts, None, torch.device("cpu"))
    got = attend(q, k, v, plan if reach is None else plan.windowed(reach))
    for low, high in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        for i in range(low, high):
            seen = [j for j in range(low, high) if reach is None or abs(i - j) <= reach]
            scores = torch.einsum("hd,jhd->hj", q[i], k[seen]) / 2
            expected = torch.einsum("hj,jhd->hd", scores.softmax(-1), v[seen])
            torch.testing.assert_close(got[i], expected, atol=1e-10, rtol=1e-10)


def test_rotation_gradient_and_length() -> None:
    positions = torch.arange(6)
    tables = tuple(t.double() for t in rotary_tables(positions, 8, 100.0))
    x = torch.randn(6, 2, 3, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(rotate(x, tables).norm(dim=-1), x.norm(dim=-1))  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda t: rotate(t, tables), (x,))  # type: ignore[arg-type]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("block", [1 << 20, 25, 3])
def test_linear_cross_entropy_in_blocks_is_the_same(
    block: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rows, one row, and all rows at once through the wide buffer."""
    monkeypatch.setattr("selfsup.nn.cross_entropy.BLOCK", block)
    torch.manual_seed(0)
    x, matrix = torch.randn(9, 5, requires_grad=True), torch.randn(11, 5, requires_grad=True)
    bias, targets = torch.randn(11, requires_grad=True), torch.randint(0, 11, (9,))
    weights = torch.tensor([1.0, 1, 0, 1, 1, 2, 1, 0, 1])
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, right = linear_cross_entropy(x, matrix, bias, targets, weights)
        with torch.no_grad():
            unasked = linear_cross_entropy(x, matrix, bias, targets, weights)
    kind = torch.bfloat16 if half else torch.float32
    logits = (x.to(kind) @ matrix.to(kind).T).float() + bias
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="none") @ weights
    torch.testing.assert_close(loss, plain)
    assert torch.equal(torch.stack(unasked), torch.stack([loss.detach(), right]))
    assert float(right) == float(((logits.argmax(1) == targets) * weights).sum())
    mine = torch.autograd.grad(loss, (x, matrix, bias))
    theirs = torch.autograd.grad(plain, (x, matrix, bias))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=0.05 if half else 1e-5, rtol=0.02 if half else 1e-5)


@pytest.mark.parametrize("chunk", [1 << 24, 7])
def test_linear_cross_entropy_equals_the_plain_one(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfsup.nn.cross_entropy.CHUNK", chunk)
    torch.manual_seed(0)
    x = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    matrix = (3 * torch.randn(11, 5, dtype=torch.float64)).requires_grad_()
    bias = torch.randn(11, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 11, (9,))
    weights = torch.tensor([1.0, 1, 0, 1, 1, 2, 1, 0, 1], dtype=torch.float64)
    loss, right = linear_cross_entropy(x, matrix, bias, targets, weights)
    logits = x @ matrix.T + bias
    plain = torch.nn.functional.cross_entropy(logits, targets, reduction="none") @ weights
    torch.testing.assert_close(loss, plain)
    assert float(right) == float(((logits.argmax(1) == targets) * weights).sum())
    mine = torch.autograd.grad(3 * loss, (x, matrix, bias))
    theirs = torch.autograd.grad(3 * plain, (x, matrix, bias))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_linear_cross_entropy_of_a_hopeless_guess_is_exact() -> None:
    x = torch.tensor([[300.0]], requires_grad=True)
    matrix = torch.tensor([[1.0], [-1.0]])
    ones = torch.ones(1)
    loss, _ = linear_cross_entropy(x, matrix, torch.zeros(2), torch.tensor([1]), ones)
    assert float(loss.detach()) == pytest.approx(600.0)


@pytest.mark.parametrize("kind", ["classic", "modern", "causal"])
@pytest.mark.parametrize("lengths", [(10, 22, 37, 5, 7), (9, 9, 9)])
def test_rows_that_fill_up_products_change_nothing(
    kind: str, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs of all layers and every gradient, as where a CPU multiplies in bfloat16."""
    config = CLASSIC if kind == "classic" else MODERN
    if kind == "causal":
        changes = {"causal": True, "window": None, "embedding_norm": False}
        config = config.model_copy(update=changes)
    torch.manual_seed(0)
    model = Transformer(config).double()
    ids = [torch.randint(0, 60, (n,)) for n in lengths]
    batch = Sequences.from_lists([x.numpy() for x in ids])
    wanted_width = planned_rows(sum(lengths))
    assert wanted_width > sum(lengths)
    found = []
    for filled in (False, True):
        monkeypatch.setattr("selfsup.models.transformer.plans_products", lambda *_, f=filled: f)
        seen: list[int] = []
        with_hook = model.blocks[0].register_forward_hook(lambda *a: seen.append(len(a[2])))  # noqa: B023
        hidden = model(batch, layers=True)
        with_hook.remove()
        assert seen == [wanted_width if filled else sum(lengths)]
        pull = torch.linspace(-1, 1, hidden.numel(), dtype=torch.float64).view_as(hidden)
        parameters = [p for n, p in model.named_parameters() if "pooler" not in n]
        found.append([hidden, *torch.autograd.grad((hidden * pull).sum(), parameters)])
    for plain, filled_up in zip(*found, strict=True):
        torch.testing.assert_close(filled_up, plain, atol=1e-9, rtol=1e-9)


def test_products_meet_few_numbers_of_rows() -> None:
    numbers = {planned_rows(n) for n in range(1, 10_000)}
    assert len(numbers) < 100
    assert all(n <= planned_rows(n) <= max(n + 7, n * 9 / 8) for n in range(1, 10_000))
