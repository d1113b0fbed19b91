"""Encoders and decoders of auto-encoders: dense for vectors, convolutional for images of any size.

No layer looks at other examples of a batch, so a code does not depend on its company.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from selfsup.autoencoder_config import Activation, ConvolutionalConfig, DenseConfig
from selfsup.nn.few_outputs import FewOutputs

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def _groups(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)


def dense_layers(config: DenseConfig, sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers from sizes[0] to sizes[-1], with norm and activation between them."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        layers.append(nn.Linear(before, after))
        if i < len(sizes) - 2:
            layers += [nn.LayerNorm(after)] if config.norm else []
            layers.append(_ACTIVATIONS[config.activation]())
            layers += [nn.Dropout(config.dropout)] if config.dropout else []
    return nn.Sequential(*layers)


class DenseEncoder(nn.Module):
    """(batch, …) to (batch, width): everything but the batch is one vector."""

    def __init__(self, config: DenseConfig, shape: Sequence[int], width: int) -> None:
        super().__init__()
        self.layers = dense_layers(config, [math.prod(shape), *config.widths, width])

    def forward(self, x: Tensor) -> Tensor:
        """The code before the bottleneck, (batch, width)."""
        out: Tensor = self.layers(x.flatten(1))
        return out


def _bias_of(layer: nn.Module) -> nn.Parameter:
    assert isinstance(layer.bias, nn.Parameter)
    return layer.bias


class DenseDecoder(nn.Module):
    """(batch, width) to (batch, *shape)."""

    def __init__(self, config: DenseConfig, width: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.layers = dense_layers(config, [width, *config.widths[::-1], math.prod(shape)])

    @property
    def last_bias(self) -> nn.Parameter:
        """(prod(shape),) what is added to the reconstruction's parameters at last."""
        return _bias_of(self.layers[-1])

    def forward(self, z: Tensor) -> Tensor:
        """The reconstruction's parameters, (batch, *shape)."""
        out: Tensor = self.layers(z)
        return out.reshape(len(z), *self.shape)


class _Residual(nn.Module):
    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _groups(channels),
            _ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 3, padding=1),
            _groups(channels),
            _ACTIVATIONS[activation](),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


def halvings(height: int, width: int, times: int) -> list[tuple[int, int]]:
    """Heights and widths from the image's to the smallest, each half of the one before, rounded up."""
    sizes = [(height, width)]
    for _ in range(times):
        height, width = -(-height // 2), -(-width // 2)
        sizes.append((height, width))
    return sizes


class ConvolutionalEncoder(nn.Module):
    """(batch, channels, height, width) to (batch, width), or (batch, places, width) for a map."""

    def __init__(self, config: ConvolutionalConfig, shape: Sequence[int], width: int) -> None:
        super().__init__()
        channels, height, across = shape
        layers: list[nn.Module] = []
        for after in config.channels:
            layers += [
                nn.Conv2d(channels, after, 3, stride=2, padding=1),
                _groups(after),
                _ACTIVATIONS[config.activation](),
            ]
            channels = after
        layers += [_Residual(channels, config.activation) for _ in range(config.blocks)]
        self.body = nn.Sequential(*layers)
        self.map = config.code == "map"
        last = halvings(height, across, len(config.channels))[-1]
        self.head: nn.Module
        if self.map:
            self.head = nn.Conv2d(channels, width, 1)
        else:
            sizes = [channels * math.prod(last), *([config.width] if config.width else []), width]
            self.head = dense_layers(DenseConfig(activation=config.activation), sizes)

    def forward(self, x: Tensor) -> Tensor:
        """The code before the bottleneck."""
        body = self.body(x)
        if self.map:
            out: Tensor = self.head(body).flatten(2).mT
            return out
        out = self.head(body.flatten(1))
        return out


class ConvolutionalDecoder(nn.Module):
    """The encoder's mirror: (batch, width) or (batch, places, width) to (batch, channels, height, width)."""

    def __init__(self, config: ConvolutionalConfig, width: int, shape: Sequence[int]) -> None:
        super().__init__()
        out_channels, height, across = shape
        sizes = halvings(height, across, len(config.channels))
        self.first, channels = sizes[-1], config.channels[-1]
        self.map = config.code == "map"
        self.head: nn.Module
        if self.map:
            self.head = nn.Conv2d(width, channels, 3, padding=1)
        else:
            inner = [config.width] if config.width else []
            self.head = dense_layers(
                DenseConfig(activation=config.activation),
                [width, *inner, channels * math.prod(self.first)],
            )
        layers: list[nn.Module] = [
            _Residual(channels, config.activation) for _ in range(config.blocks)
        ]
        layers += [_groups(channels), _ACTIVATIONS[config.activation]()]
        afters = [*config.channels[-2::-1], max(config.channels[0] // 2, 8)]
        for after, (rows, columns) in zip(afters, sizes[-2::-1], strict=True):
            # of 2h - 1 or 2h pixels, whichever the encoder came from
            padding = (1 - rows % 2, 1 - columns % 2)
            layers += [
                nn.ConvTranspose2d(channels, after, 3, 2, padding=1, output_padding=padding),
                _groups(after),
                _ACTIVATIONS[config.activation](),
            ]
            channels = after
        layers.append(FewOutputs(channels, out_channels))
        self.body = nn.Sequential(*layers)
        self.channels = config.channels[-1]

    @property
    def last_bias(self) -> nn.Parameter:
        """(channels,) what is added to the reconstruction's parameters at last."""
        return _bias_of(self.body[-1])

    def forward(self, z: Tensor) -> Tensor:
        """The reconstruction's parameters."""
        if self.map:
            z = z.mT.reshape(len(z), -1, *self.first)
            start = self.head(z)
        else:
            start = self.head(z).reshape(len(z), self.channels, *self.first)
        out: Tensor = self.body(start)
        return out


def build_encoder(
    config: DenseConfig | ConvolutionalConfig, shape: Sequence[int], width: int
) -> nn.Module:
    """From observations of a shape to `width` numbers for each code."""
    if config.kind == "dense":
        return DenseEncoder(config, shape, width)
    return ConvolutionalEncoder(config, shape, width)


def build_decoder(
    config: DenseConfig | ConvolutionalConfig, width: int, shape: Sequence[int]
) -> DenseDecoder | ConvolutionalDecoder:
    """From `width` numbers for each code to observations of a shape."""
    if config.kind == "dense":
        return DenseDecoder(config, width, shape)
    return ConvolutionalDecoder(config, width, shape)


def places(config: DenseConfig | ConvolutionalConfig, shape: Sequence[int]) -> int:
    """Codes that an example has: 1, or the places of a map."""
    if config.kind == "dense" or config.code == "vector":
        return 1
    return math.prod(halvings(shape[1], shape[2], len(config.channels))[-1])


def is_map(config: DenseConfig | ConvolutionalConfig) -> bool:
    """Whether codes have a dimension of places."""
    return config.kind == "convolutional" and config.code == "map"
