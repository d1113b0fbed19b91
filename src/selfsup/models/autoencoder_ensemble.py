"""Several small auto-encoders as one network: every layer is one batched matrix product.

Ten auto-encoders of a few thousand weights cost hardly more than one this way; a loop over them
would pay Python's and the kernels' overhead once for each (docs/decisions/0009-detection.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selfsup.nn.bottlenecks import Code


class AutoEncoderEnsemble(nn.Module):
    """Members of one shape, each encoder -> narrow code -> decoder with one hidden layer; made in
    float32 on the CPU.

    Args:
        members: auto-encoders.
        width: numbers in a row.
        hidden: units of the hidden layers.
        code_size: numbers in a code.
        generator: draws the weights; the global generator stays as it is.
    """

    def __init__(
        self, members: int, width: int, hidden: int, code_size: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.members, self.width = members, width
        self.hidden, self.code_size = hidden, code_size

        def weight(inputs: int, outputs: int, gain: float) -> nn.Parameter:
            shape = (members, inputs, outputs)
            drawn = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
            return nn.Parameter(drawn * gain / math.sqrt(inputs))

        def bias(outputs: int) -> nn.Parameter:
            zeros = torch.zeros(members, 1, outputs, dtype=torch.float32, device="cpu")
            return nn.Parameter(zeros)

        self.encoder_weight, self.encoder_bias = weight(width, hidden, 1.4), bias(hidden)
        self.code_weight, self.code_bias = weight(hidden, code_size, 1.0), bias(code_size)
        self.decoder_weight, self.decoder_bias = weight(code_size, hidden, 1.4), bias(hidden)
        self.output_weight, self.output_bias = weight(hidden, width, 0.3), bias(width)

    def encode(self, x: Tensor) -> Code:
        """Codes (members, batch, code_size) of rows (members, batch, width)."""
        h = F.gelu(torch.baddbmm(self.encoder_bias, x, self.encoder_weight))
        return Code(torch.baddbmm(self.code_bias, h, self.code_weight))

    def decode(self, z: Tensor) -> Tensor:
        """Rows (members, batch, width) of codes (members, batch, code_size)."""
        h = F.gelu(torch.baddbmm(self.decoder_bias, z, self.decoder_weight))
        return torch.baddbmm(self.output_bias, h, self.output_weight)

    @torch.no_grad()
    def differentiate(self, x: Tensor, wanted: Tensor) -> Tensor:
        """Set every parameter's `grad` to that of the mean Huber loss of giving back `wanted` for `x`.

        By hand, since in networks this small autograd's bookkeeping costs as much as the products.

        Args:
            x: (members, batch, width) what goes in.
            wanted: (members, batch, width) what shall come out.

        Returns:
            () the loss (Huber 1964, with threshold 1).
        """
        before_code = torch.baddbmm(self.encoder_bias, x, self.encoder_weight)
        encoded = F.gelu(before_code)
        z = torch.baddbmm(self.code_bias, encoded, self.code_weight)
        before_output = torch.baddbmm(self.decoder_bias, z, self.decoder_weight)
        decoded = F.gelu(before_output)
        guess = torch.baddbmm(self.output_bias, decoded, self.output_weight)
        slope = (guess - wanted).clamp_(-1, 1).mul_(1 / guess.numel())

        slope = self._through("output", decoded, slope)
        slope = self._through("decoder", z, torch.ops.aten.gelu_backward(slope, before_output))
        slope = self._through("code", encoded, slope)
        self._through("encoder", x, torch.ops.aten.gelu_backward(slope, before_code), last=True)
        return F.smooth_l1_loss(guess, wanted)

    def _through(self, layer: str, x: Tensor, slope: Tensor, last: bool = False) -> Tensor:
        """Set a layer's gradients and pass the slope on to what went into it (nothing, from the last)."""
        weight, bias = getattr(self, f"{layer}_weight"), getattr(self, f"{layer}_bias")
        weight.grad = torch.bmm(x.transpose(1, 2), slope)
        bias.grad = slope.sum(1, keepdim=True)
        return slope if last else torch.bmm(slope, weight.transpose(1, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Code]:
        """The reconstruction and the code."""
        code = self.encode(x)
        return self.decode(code.z), code
