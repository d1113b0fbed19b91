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
    """Members of one shape, each encoder -> narrow code -> decoder with one hidden layer.

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
            drawn = torch.randn(members, inputs, outputs, generator=generator)
            return nn.Parameter(drawn * gain / math.sqrt(inputs))

        def bias(outputs: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(members, 1, outputs))

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

    def forward(self, x: Tensor) -> tuple[Tensor, Code]:
        """The reconstruction and the code."""
        code = self.encode(x)
        return self.decode(code.z), code
