"""Bottlenecks against slow references and hand-worked examples."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from selfsup.autoencoder_config import (
    BinaryConfig,
    BottleneckConfig,
    FSQConfig,
    GaussianConfig,
    IdentityConfig,
    OneHotConfig,
    ResidualVQConfig,
    VQConfig,
)
from selfsup.nn.bottlenecks import divergence, information_loss
from selfsup.nn.quantizers import (
    FiniteScalars,
    ResidualVectors,
    Vectors,
    build_bottleneck,
    cluster_means,
    rotated,
)

ALL: list[BottleneckConfig] = [
    IdentityConfig(size=3),
    GaussianConfig(size=3),
    BinaryConfig(size=3),
    OneHotConfig(classes=4, style=2, balance=1.0),
    FSQConfig(levels=(4, 3)),
    VQConfig(codes=8, size=3),
    ResidualVQConfig(codes=4, size=3, depth=2),
]


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.kind)
def test_a_code_does_not_depend_on_its_company(config: BottleneckConfig) -> None:
    torch.manual_seed(0)
    bottleneck = build_bottleneck(config).eval()
    h = torch.randn(6, bottleneck.width_in)
    noise = torch.rand(6, bottleneck.noise_size)
    whole = bottleneck(h, noise)
    assert whole.z.shape == (6, bottleneck.width_out)
    single = [bottleneck(h[i : i + 1], noise[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(torch.cat([code.z for code in single]), whole.z)
    for name, value in whole.losses.items():
        torch.testing.assert_close(torch.cat([code.losses[name] for code in single]), value)
    if bottleneck.sizes:
        assert whole.bits is not None
        assert whole.indices is not None
        assert float(whole.bits[0]) == pytest.approx(sum(map(math.log2, bottleneck.sizes)))
        if config.kind != "one-hot":  # whose lookup knows no style
            torch.testing.assert_close(bottleneck.lookup(whole.indices), whole.z)


@pytest.mark.parametrize("config", ALL, ids=lambda c: c.kind)
def test_gradients_reach_the_encoder(config: BottleneckConfig) -> None:
    torch.manual_seed(0)
    bottleneck = build_bottleneck(config).train()
    h = torch.randn(16, bottleneck.width_in, requires_grad=True)
    code = bottleneck(h, torch.rand(16, bottleneck.noise_size))
    weights = torch.randn_like(code.z)
    ((code.z * weights).sum() + sum(v.sum() for v in code.losses.values())).backward()
    assert h.grad is not None
    assert (h.grad.abs().sum(0) > 0).all()


def test_the_divergence_is_the_integral() -> None:
    mean, log_variance = 0.7, -0.4
    x = np.linspace(-12, 12, 200_001)
    scale = math.exp(log_variance / 2)
    log_q = -0.5 * ((x - mean) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi)
    log_p = -0.5 * x**2 - 0.5 * math.log(2 * math.pi)
    integral = np.trapezoid(np.exp(log_q) * (log_q - log_p), x)
    found = divergence(torch.tensor(mean).double(), torch.tensor(log_variance).double())
    assert float(found) == pytest.approx(integral, abs=1e-8)


@pytest.mark.parametrize(
    "config", [BinaryConfig(size=5, sample=True), OneHotConfig(groups=2, classes=3, gumbel=True)]
)
def test_discrete_codes_are_exact_and_their_divergence_is_the_sum(
    config: BinaryConfig | OneHotConfig,
) -> None:
    torch.manual_seed(0)
    bottleneck = build_bottleneck(config)
    h, noise = torch.randn(9, bottleneck.width_in), torch.rand(9, bottleneck.noise_size)
    drawn, likeliest = bottleneck.train()(h, noise), bottleneck.eval()(h, noise)
    for code in (drawn, likeliest):
        assert set(code.z.unique().tolist()) == {0.0, 1.0}
    p = drawn.stats["probabilities"]
    p = p if isinstance(config, OneHotConfig) else torch.stack([p, 1 - p], -1)
    by_hand = (p * (p * p.shape[-1]).log()).sum((-2, -1))  # sum of q log(q / prior)
    torch.testing.assert_close(drawn.stats["kl"], by_hand)
    certain = torch.full((9,), p.shape[-2] * math.log(p.shape[-1]))
    torch.testing.assert_close(likeliest.stats["kl"], certain)


def test_a_class_and_its_style_both_count_in_the_divergence() -> None:
    torch.manual_seed(0)
    bottleneck = build_bottleneck(OneHotConfig(classes=4, style=2, beta=0.5)).eval()
    code = bottleneck(torch.randn(3, bottleneck.width_in))
    torch.testing.assert_close(code.stats["kl"], math.log(4) + 2 * code.losses["kl"])


def test_information_is_best_when_sure_and_balanced() -> None:
    sure = torch.eye(4).unsqueeze(1)
    assert float(information_loss(sure)) == pytest.approx(-math.log(4), abs=1e-4)
    assert float(information_loss(torch.full((4, 1, 4), 0.25))) == pytest.approx(0, abs=1e-4)
    assert float(information_loss(sure[:1].repeat(4, 1, 1))) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("levels", [(2,), (3,), (4, 3), (8, 5)])
def test_fsq_has_exactly_its_grid(levels: tuple[int, ...]) -> None:
    fsq = FiniteScalars(levels)
    axis = torch.linspace(-9, 9, 301)
    h = torch.cartesian_prod(*[axis] * len(levels)).reshape(-1, len(levels))
    found = {tuple(row) for row in fsq(h).z.tolist()}
    parts = [[(q - n // 2) / (n // 2) for q in range(n)] for n in levels]
    assert found == set(itertools.product(*parts))
    every = torch.arange(math.prod(levels)).unsqueeze(-1)
    looked_up = fsq.lookup(every)
    assert len({tuple(row) for row in looked_up.tolist()}) == math.prod(levels)
    assert {tuple(row) for row in looked_up.tolist()} == found


def _vq(**changes: object) -> Vectors:
    settings = {"codes": 2, "size": 2, "decay": 0.5, "start": "random", "revive": 0.0, **changes}
    vq = Vectors(VQConfig.model_validate(settings))
    with torch.no_grad():
        vq.book.vectors.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
        vq.book.sums.copy_(vq.book.vectors)
    return vq.train()


def test_vq_by_hand() -> None:
    vq = _vq(commitment=0.25)
    h = torch.tensor([[1.0, 0.0], [3.0, 2.0]], requires_grad=True)
    code = vq(h)
    assert code.indices is not None
    assert code.indices.tolist() == [[0], [1]]
    assert code.z.tolist() == [[0, 0], [4, 0]]
    # |h - q|^2 / 2 numbers is 1/2 and 5/2, weighed by 1/4
    assert code.losses["commitment"].tolist() == pytest.approx([0.125, 0.625])
    (code.z * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward(retain_graph=True)
    assert h.grad is not None
    assert h.grad.tolist() == [[1, 2], [3, 4]]  # straight through
    h.grad = None
    code.losses["commitment"].sum().backward()
    # 1/4 * 2 (h - q) / 2
    assert h.grad is not None
    assert h.grad.tolist() == [[0.25, 0], [-0.25, 0.5]]
    # counts stay 1; sums are half the old vector and half the row
    assert vq.book.vectors.tolist() == [[0.5, 0], [3.5, 1]]


def test_vq_revives_what_is_not_used_and_evaluation_changes_nothing() -> None:
    vq = _vq(decay=0.0, revive=0.1)
    h = torch.full((8, 2), 0.5)
    vq(h)
    assert vq.book.vectors[1].tolist() == [0.5, 0.5]
    before = vq.book.vectors.clone()
    vq.eval()(torch.randn(8, 2))
    assert torch.equal(vq.book.vectors, before)


def test_k_means_start_finds_the_clusters() -> None:
    torch.manual_seed(1)
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    rows = centers.repeat(50, 1) + 0.1 * torch.randn(150, 2)
    means = cluster_means(rows, 3)
    assert len(cluster_means(rows[:2], 5)) == 5
    within = (rows[:, None] - means).square().sum(-1).min(1).values.mean()
    assert within < (rows - rows.mean(0)).square().sum(-1).mean() / 1.5


def test_the_rotation_is_one() -> None:
    torch.manual_seed(0)
    h, q = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4)
    out = rotated(h, q)
    torch.testing.assert_close(out, q)
    (gradient,) = torch.autograd.grad((out * q).sum(), h)
    # the gradient along q becomes one along h, scaled as the vector is
    scale = (q.norm(dim=-1) / h.norm(dim=-1)).unsqueeze(-1)
    expected = scale * q.norm(dim=-1, keepdim=True) * h / h.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(gradient, expected.detach())


def test_more_codebooks_leave_less_over() -> None:
    torch.manual_seed(0)
    h = torch.randn(512, 4)

    def left(depth: int) -> Tensor:
        residual = ResidualVectors(ResidualVQConfig(codes=16, size=4, depth=depth)).train()
        residual(h)
        return residual.eval()(h).stats["distance"].mean()

    assert left(3) < 0.6 * left(1)
