"""The last convolution of a decoder against torch's, whose parameters it has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from selfsup.autoencoder_config import ConvolutionalConfig
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
    ours.requires_grad_(False)
    back = x.clone().requires_grad_()
    ours(back).square().sum().backward()
    assert back.grad is not None
    assert back.grad.abs().sum() > 0


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
