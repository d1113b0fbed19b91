"""The auto-encoder: encoder, bottleneck, decoder, and how likely an example is under the outcome."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selfsup.autoencoder_config import (
    AutoEncoderConfig,
    AutoEncoderModelConfig,
    AutoNetworkConfig,
    ConvolutionalConfig,
    DenseConfig,
)
from selfsup.data.images import ImageSpec
from selfsup.data.observations import Spec, spec_shape
from selfsup.errors import UserError
from selfsup.nn.bottlenecks import Code
from selfsup.nn.convolutions import build_decoder, build_encoder, is_map, places
from selfsup.nn.likelihoods import ImageLikelihood, Kind, TableLikelihood
from selfsup.nn.quantizers import build_bottleneck

_MAPS = {"fsq", "vq", "residual-vq"}
"""Bottlenecks that have a code for each place of an image, unless told otherwise."""


class AutoEncoder(nn.Module):
    """Encodes examples, and decodes what passed the bottleneck.

    Args:
        config: its shape.
        spec: of the examples; it travels with the weights.
    """

    def __init__(self, config: AutoEncoderModelConfig, spec: Spec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        shape = self.input_shape = spec_shape(spec)
        self.bottleneck = build_bottleneck(config.bottleneck)
        self.encoder = build_encoder(config.network, shape, self.bottleneck.width_in)
        self.decoder = build_decoder(config.network, self.bottleneck.width_out, shape)
        self.places = places(config.network, shape)
        """Codes that an example has."""
        self.likelihood: ImageLikelihood | TableLikelihood
        if isinstance(spec, ImageSpec):
            self.likelihood = ImageLikelihood(config.likelihood, shape)
        else:
            self.likelihood = TableLikelihood(config.likelihood, spec.blocks)

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Let the decoder begin with the mean of examples (batch, *input_shape), and their widths.

        A network that first has to learn what all examples have in common spends hundreds of steps on
        it (docs/log.md).
        """
        bias, mean = self.decoder.last_bias, self.likelihood.mean_of(x)
        by_place = bias.numel() == mean.numel()
        if not by_place:  # of the channels of an image
            mean = mean.mean((1, 2), keepdim=True).expand_as(mean)
        outputs = self.likelihood.outputs(mean)
        bias.copy_(outputs.flatten() if by_place else outputs[:, 0, 0])
        self.likelihood.widen(x, mean)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of an example's `Code.z`: (width,) or (places, width)."""
        width = self.bottleneck.width_out
        return (self.places, width) if is_map(self.config.network) else (width,)

    @property
    def noise_size(self) -> int:
        """Uniform numbers that `encode` may take for an example; 0: it draws nothing."""
        return self.places * self.bottleneck.noise_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def code_numbers(self) -> int:
        """Numbers in an example's code."""
        return self.places * self.bottleneck.width_out

    def encode(self, x: Tensor, noise: Tensor | None = None) -> Code:
        """What passes the bottleneck.

        Args:
            x: (batch, *input_shape), as the spec's `transform` gives them.
            noise: (batch, noise_size) uniform in [0, 1); None: the likeliest code.
        """
        if tuple(x.shape[1:]) != self.input_shape:
            raise ValueError(f"examples of shape {tuple(x.shape[1:])}, not {self.input_shape}")
        h = self.encoder(x)
        if noise is not None:
            noise = noise.reshape(*h.shape[:-1], -1) if self.bottleneck.noise_size else None
        code: Code = self.bottleneck(h, noise)
        return code

    def decode(self, z: Tensor) -> Tensor:
        """The reconstruction, in the space of the inputs, of codes (batch, *code_shape)."""
        return self.likelihood.mean(self.decoder(z))

    def lookup(self, indices: Tensor) -> Tensor:
        """(batch, *code_shape) the codes of indices (batch, …, columns)."""
        return self.bottleneck.lookup(indices)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Code]:
        """The decoder's parameters for `likelihood`, and the code."""
        code = self.encode(x, noise)
        return self.decoder(code.z), code


def parameter_counts(model: AutoEncoder) -> dict[str, int]:
    """Trained and kept numbers of each part."""
    parts = {"encoder": model.encoder, "bottleneck": model.bottleneck, "decoder": model.decoder}
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def settle(config: AutoEncoderConfig, spec: Spec) -> AutoEncoderModelConfig:
    """The model's shape, once the examples are known.

    Raises:
        UserError: convolutions over a table, or a corruption of images for one.
    """
    images = isinstance(spec, ImageSpec)
    network = config.network
    if isinstance(network, AutoNetworkConfig):
        network = _network(spec, config.bottleneck.kind in _MAPS)
    if network.kind == "convolutional" and not images:
        what = "convolutions need images, and the data are a table"
        raise UserError(what, where="network.kind", mend="set network.kind dense")
    if config.corruption.kind in ("patches", "affine") and not images:
        what = f"'{config.corruption.kind}' needs images, and the data are a table"
        raise UserError(what, where="corruption.kind", mend="use masking or gaussian")
    if config.bottleneck.kind == "one-hot" and is_map(network):
        raise UserError("one-hot is one class an example", where="network.code", mend="set vector")
    likelihood: Kind
    if config.objective.likelihood != "auto":
        likelihood = config.objective.likelihood
    elif isinstance(spec, ImageSpec) and spec.channels == 1:
        likelihood = "bernoulli"
    else:
        likelihood = "gaussian" if config.bottleneck.kind == "gaussian" else "squared"
    if likelihood == "bernoulli" and not images:
        what = "bernoulli needs values from 0 to 1, and the data are a table"
        raise UserError(what, where="objective.likelihood", mend="use squared or gaussian")
    return AutoEncoderModelConfig(
        network=network, bottleneck=config.bottleneck, likelihood=likelihood
    )


def _network(spec: Spec, code_map: bool) -> DenseConfig | ConvolutionalConfig:
    if isinstance(spec, ImageSpec):
        side = min(spec.height, spec.width)
        channels: tuple[int, ...] = (32,) if side < 12 else (32, 64)
        if side >= 48:
            channels = (*channels, 64)
        code = "map" if code_map else "vector"
        return ConvolutionalConfig(channels=channels, code=code)
    wide = min(max(2 ** round(4 * spec.width).bit_length(), 64), 512)
    return DenseConfig(widths=(wide, wide // 2))


@contextmanager
def _float32_on_the_cpu() -> Iterator[None]:
    """Make tensors so, whatever defaults are set; these stay as they are."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(default)


def build(config: AutoEncoderModelConfig, spec: Spec, seed: int) -> AutoEncoder:
    """A model with random weights, in float32 on the CPU, a function of the seed alone."""
    with torch.random.fork_rng(devices=[]), _float32_on_the_cpu():
        torch.manual_seed(seed)
        return AutoEncoder(config, spec)
