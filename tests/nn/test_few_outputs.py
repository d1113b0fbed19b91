"""The last convolution of a decoder against torch's, whose parameters it has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from selfsup.autoencoder_config import ConvolutionalConfig
from selfsup.nn import few_outputs
from selfsup.nn.convolutions import build_decoder
from selfsup.nn.few_outputs import FewOutputs


def _pair(inputs: int, outputs: int, dtype: torch.dtype) -> tuple[FewOutputs, nn.Conv2d]:
    torch.manual_seed(0)
    ours = FewOutputs(inputs, outputs).to(dtype)
    theirs = nn.Conv2d(inputs, outputs, 3, padding=1).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def _answers(layer: nn.Module, x: Tensor, slope: Tensor) -> list[Tensor]:
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    y.backward(slope.to(y.dtype))
    gradients = [p.grad for p in layer.parameters()]
    assert x.grad is not None
    assert all(g is not None for g in gradients)
    return [y.detach(), x.grad, *[g for g in gradients if g is not None]]


@pytest.mark.parametrize("outputs", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(6, 7), (1, 1), (1, 5), (2, 2)])
@pytest.mark.parametrize("batch", [3, 0])
def test_values_and_gradients_are_those_of_a_plain_convolution(
    outputs: int, size: tuple[int, int], batch: int
) -> None:
    ours, theirs = _pair(4, outputs, torch.float64)
    x, slope = torch.randn(batch, 4, *size).double(), torch.randn(batch, outputs, *size).double()
    for own, usual in zip(_answers(ours, x, slope), _answers(theirs, x, slope), strict=True):
        assert own.shape == usual.shape
        torch.testing.assert_close(own, usual, rtol=1e-10, atol=1e-12)


def test_other_layouts_and_slopes_of_one_number() -> None:
    ours, theirs = _pair(8, 1, torch.float64)
    x = torch.randn(2, 8, 5, 4).double().contiguous(memory_format=torch.channels_last)
    slope = torch.ones(()).double().expand(2, 1, 5, 4)  # as the gradient of a sum comes
    for own, usual in zip(_answers(ours, x, slope), _answers(theirs, x, slope), strict=True):
        torch.testing.assert_close(own, usual, rtol=1e-10, atol=1e-12)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    ours, theirs = _pair(8, 1, torch.float64)
    x = torch.randn(2, 8, 5, 4).double()
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    assert x.grad is None
    ours.zero_grad()
    ours.requires_grad_(False)
    ours(x.requires_grad_()).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert ours.weight.grad is None


def test_second_derivatives_and_functional_gradients() -> None:
    ours, theirs = _pair(3, 1, torch.float64)
    x = torch.randn(2, 3, 4, 5).double().requires_grad_()
    by_taps = few_outputs._ByTaps.apply
    assert torch.autograd.gradcheck(by_taps, (x, ours.weight))
    assert torch.autograd.gradgradcheck(by_taps, (x, ours.weight))

    def penalty(layer: nn.Module, example: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(layer.named_parameters()), (example,)).sum()

    for layer in (ours, theirs):
        assert torch.func.grad(lambda e, own=layer: penalty(own, e))(x.detach()).shape == x.shape
    each = torch.func.vmap(lambda e: ours(e[None])[0])(x.detach())
    torch.testing.assert_close(each, theirs(x.detach()))


def test_taps_are_taken_where_they_are_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, torch.dtype]] = []
    taps = few_outputs._ByTaps.apply

    def watched(x: Tensor, weight: Tensor) -> Tensor:
        taken.append((len(weight), x.dtype))
        return taps(x, weight)

    monkeypatch.setattr(few_outputs._ByTaps, "apply", watched)
    for outputs in (1, 3, 4):
        layer, x = FewOutputs(8, outputs), torch.randn(2, 8, 5, 5)
        layer(x)
        with torch.no_grad():
            layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
            with torch.no_grad():
                assert layer(x).dtype == torch.bfloat16
    single, half = torch.float32, torch.bfloat16
    assert taken == [
        *((1, d) for d in (single, single, half, half)),
        (3, single),
        (3, single),
        (3, half),
    ]


def test_what_is_no_batch_of_images_is_left_to_the_convolution() -> None:
    layer, usual = _pair(4, 1, torch.float32)
    assert layer(torch.randn(4, 5, 6)).shape == (1, 5, 6)
    for wrong in (torch.randn(2, 3, 5, 6), torch.randn(2, 4, 5, 6).double()):
        with pytest.raises(RuntimeError) as own:
            layer(wrong)
        with pytest.raises(RuntimeError) as theirs:
            usual(wrong)
        assert str(own.value) == str(theirs.value)
    assert layer.to("meta")(torch.randn(2, 4, 5, 6, device="meta")).shape == (2, 1, 5, 6)


def test_half_precision_is_as_near_to_the_truth_as_a_plain_convolution() -> None:
    ours, theirs = _pair(16, 1, torch.float32)
    x, slope = torch.randn(4, 16, 12, 12), torch.randn(4, 1, 12, 12)
    exact = _answers(theirs, x, slope)
    for p in (*ours.parameters(), *theirs.parameters()):
        p.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        rough = _answers(theirs, x, slope)
        own = _answers(ours, x, slope)
    for mine, usual, truth in zip(own, rough, exact, strict=True):
        assert (mine.float() - truth).norm() <= 1.2 * (usual.float() - truth).norm() + 1e-6


def test_a_decoder_ends_in_it_and_reads_weights_of_before() -> None:
    decoder = build_decoder(ConvolutionalConfig(), 4, (3, 9, 10))
    last = list(decoder.body)[-1]
    assert isinstance(last, FewOutputs)
    assert {name for name, _ in last.named_parameters()} == {"weight", "bias"}
    assert last.weight.shape == nn.Conv2d(last.in_channels, 3, 3, padding=1).weight.shape
    assert decoder(torch.randn(2, 4)).shape == (2, 3, 9, 10)
