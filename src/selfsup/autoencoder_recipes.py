"""The recipes of auto-encoders: named, complete configurations, as Python functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfsup.autoencoder_config import (
    AffineConfig,
    AutoEncoderConfig,
    BinaryConfig,
    BottleneckConfig,
    FSQConfig,
    GaussianConfig,
    GaussianNoiseConfig,
    IdentityConfig,
    OneHotConfig,
    ReconstructionConfig,
    ResidualVQConfig,
    VQConfig,
)
from selfsup.errors import UserError, nearest


def _with(recipe: str, bottleneck: BottleneckConfig) -> AutoEncoderConfig:
    return AutoEncoderConfig(recipe=recipe, bottleneck=bottleneck)


def autoencoder() -> AutoEncoderConfig:
    """A narrow code of 32 numbers (Hinton and Salakhutdinov 2006)."""
    return _with("autoencoder", IdentityConfig())


def denoising_autoencoder() -> AutoEncoderConfig:
    """The clean example from a noisy one (Vincent et al. 2010)."""
    return AutoEncoderConfig(
        recipe="denoising-autoencoder",
        bottleneck=IdentityConfig(size=64),
        corruption=GaussianNoiseConfig(),
        objective=ReconstructionConfig(likelihood="squared"),
    )


def vae() -> AutoEncoderConfig:
    """A code that one can sample from (Kingma and Welling 2014)."""
    return _with("vae", GaussianConfig())


def binary_autoencoder() -> AutoEncoderConfig:
    """Codes of 64 bits."""
    return _with("binary-autoencoder", BinaryConfig())


def one_hot_autoencoder() -> AutoEncoderConfig:
    """The code is a class, the same for an image that is turned, moved or scaled, and for its neighbours;
    style is beside it.
    """
    return AutoEncoderConfig(
        recipe="one-hot-autoencoder",
        bottleneck=OneHotConfig(gumbel=False, balance=2.0, evenness=4.0, style=8),
        corruption=AffineConfig(degrees=20.0, shift=0.12, scale=0.2),
        objective=ReconstructionConfig(agreement=2.0, neighbours=10),
    )


def vq_autoencoder() -> AutoEncoderConfig:
    """A code of the nearest vectors of a codebook (van den Oord et al. 2017)."""
    return _with("vq-autoencoder", VQConfig())


def fsq_autoencoder() -> AutoEncoderConfig:
    """A code on a grid of 1,000 points (Mentzer et al. 2024): the discrete code to begin with."""
    return _with("fsq-autoencoder", FSQConfig())


def residual_vq() -> AutoEncoderConfig:
    """Four codebooks, each for what the ones before left over (Zeghidour et al. 2021)."""
    return _with("residual-vq", ResidualVQConfig())


AUTOENCODERS: dict[str, Callable[[], AutoEncoderConfig]] = {
    "autoencoder": autoencoder,
    "denoising-autoencoder": denoising_autoencoder,
    "vae": vae,
    "binary-autoencoder": binary_autoencoder,
    "one-hot-autoencoder": one_hot_autoencoder,
    "vq-autoencoder": vq_autoencoder,
    "fsq-autoencoder": fsq_autoencoder,
    "residual-vq": residual_vq,
}


def get(name: str) -> AutoEncoderConfig:
    """The recipe of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in AUTOENCODERS:
        mend = nearest(name, list(AUTOENCODERS)) or "`selfsup recipes` lists them"
        raise UserError(f"unknown recipe '{name}'", mend=mend)
    return AUTOENCODERS[name]()


def described(bottleneck: BottleneckConfig) -> str:
    """A bottleneck in a few words: `32 numbers`, `one of 10 classes`, `512 vectors of 8`."""
    if bottleneck.kind == "identity":
        return f"{bottleneck.size} numbers"
    if bottleneck.kind == "gaussian":
        return f"{bottleneck.size} numbers, beta {bottleneck.beta:g}"
    if bottleneck.kind == "binary":
        return f"{bottleneck.size} bits"
    if bottleneck.kind == "one-hot":
        groups = f"{bottleneck.groups} x " if bottleneck.groups > 1 else ""
        style = f", style of {bottleneck.style}" if bottleneck.style else ""
        return f"{groups}one of {bottleneck.classes} classes{style}"
    if bottleneck.kind == "fsq":
        return f"levels {' x '.join(map(str, bottleneck.levels))}"
    depth = f"{bottleneck.depth} x " if isinstance(bottleneck, ResidualVQConfig) else ""
    return f"{depth}{bottleneck.codes} vectors of {bottleneck.size}"


def table() -> list[dict[str, Any]]:
    """The recipes with their codes and corruption, for `selfsup recipes`."""
    return [
        {
            "recipe": name,
            "code": described(config.bottleneck),
            "corruption": config.corruption.kind,
            "optimizer": config.train.optimizer.kind,
            "objective": "reconstruction",
        }
        for name, config in ((name, get(name)) for name in AUTOENCODERS)
    ]
