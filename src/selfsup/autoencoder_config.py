"""Typed configuration of auto-encoders: data, network, bottleneck, corruption, loss, training."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from selfsup.config_base import Section
from selfsup.train_config import (
    AdamWConfig,
    Budget,
    ScheduleConfig,
    TrainConfig,
)

Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=1)]


class ObservationConfig(Section):
    """What is read: arrays, tables or pictures."""

    path: str = ""
    """An `.npy`, `.npz`, IDX, CSV, TSV, JSON-lines or parquet file, or a folder of pictures."""
    key: str = ""
    """The array of an `.npz` file; needed when it holds several."""
    kind: Literal["auto", "images", "table"] = "auto"
    """What an array is; `auto`: two dimensions are a table, three or four are images."""
    labels: str = ""
    """Where the classes are: a column, a key of the `.npz`, an IDX or `.npy` file, or `folder` (names of
    the pictures' folders).  They are never trained on; only `cluster` and probes compare with them."""
    ignore: tuple[str, ...] = ()
    """Columns that are not read."""
    categorical: tuple[str, ...] = ()
    """Columns of numbers that are codes of categories."""
    scaling: Literal["robust", "standard", "none"] = "robust"
    """How a table's numbers are brought to one scale: by median and quartiles, or mean and deviation;
    beyond five scales they grow as a logarithm.  `none`: they stay as they are."""
    missing: Literal["impute", "refuse"] = "impute"
    """Gaps in a table: the median and a mark, or an error with row and column."""
    infinite: Literal["refuse", "missing"] = "refuse"
    """Infinite numbers: an error with row and column, or gaps."""
    size: Annotated[int, Field(ge=4)] | None = None
    """Pictures are scaled by their shorter side and cropped to this square; without, all must be equal."""
    color: Literal["auto", "grey", "rgb"] = "auto"
    """Channels of pictures; `auto`: grey when every one of them is."""
    rows: Size | None = None
    """Read at most so many examples, the first ones."""
    heldout: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of the examples held out for evaluation, chosen by their content."""


# --- networks -------------------------------------------------------------------------------------

Activation = Literal["gelu", "relu", "silu", "tanh"]


class AutoNetworkConfig(Section):
    """Convolutional for images, dense for tables, sized for small machines."""

    kind: Literal["auto"] = "auto"


class DenseConfig(Section):
    """Fully connected layers; the decoder mirrors the encoder."""

    kind: Literal["dense"] = "dense"
    widths: Annotated[tuple[Size, ...], Field(max_length=16)] = (256, 128)
    """Widths of the encoder's layers; none: one linear map each way."""
    activation: Activation = "gelu"
    norm: bool = True
    """A layer norm before each activation."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ConvolutionalConfig(Section):
    """Strided convolutions for images of any size and number of channels; the decoder mirrors them."""

    kind: Literal["convolutional"] = "convolutional"
    channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=6)] = (32, 64)
    """Channels after each halving of height and width."""
    blocks: Annotated[int, Field(ge=0, le=8)] = 0
    """Residual blocks at the smallest size, on either side."""
    code: Literal["vector", "map"] = "vector"
    """One code for the image, or one for each place of the smallest size."""
    width: Annotated[int, Field(ge=0)] = 256
    """Of the dense layer between the places and a vector; 0: none."""
    activation: Activation = "gelu"


NetworkConfig = Annotated[
    AutoNetworkConfig | DenseConfig | ConvolutionalConfig, Field(discriminator="kind")
]


# --- bottlenecks ----------------------------------------------------------------------------------


class IdentityConfig(Section):
    """A narrow code of real numbers."""

    kind: Literal["identity"] = "identity"
    size: Size = 32
    """Numbers in the code (in each place of a map)."""


class GaussianConfig(Section):
    """A normal distribution for each example (VAE, Kingma and Welling 2014)."""

    kind: Literal["gaussian"] = "gaussian"
    size: Size = 32
    """Numbers in the code."""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the divergence from the standard normal; 1: the evidence bound (Higgins et al. 2017)."""


class BinaryConfig(Section):
    """Zeros and ones, gradients straight through (Bengio et al. 2013)."""

    kind: Literal["binary"] = "binary"
    size: Size = 64
    """Bits in the code."""
    sample: bool = True
    """In training, draw each bit by its probability; else round."""


class OneHotConfig(Section):
    """The code is a class: a one-hot vector, gradients straight through the probabilities."""

    kind: Literal["one-hot"] = "one-hot"
    classes: Annotated[int, Field(ge=2)] = 10
    groups: Size = 1
    """So many one-hot vectors side by side."""
    gumbel: bool = True
    """In training, draw the class with Gumbel noise (Jang et al. 2017); else take the likeliest."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the probabilities through which gradients flow."""
    balance: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the information between example and class: sure of each example, and all classes used
    (Krause et al. 2010; Hu et al. 2017)."""
    evenness: Annotated[float, Field(ge=1)] = 1.0
    """How much more it counts that all classes are used than that each example's is sure.  Above 1, classes
    are made up less hastily (4 in Hu et al. 2017)."""
    style: Annotated[int, Field(ge=0)] = 0
    """Gaussian numbers beside the class, for what differs within it."""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the style's divergence."""


class FSQConfig(Section):
    """Numbers rounded to a few levels: a grid, with nothing to collapse (Mentzer et al. 2024)."""

    kind: Literal["fsq"] = "fsq"
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 5, 5, 5)
    """Levels of each number; their product is the number of codes."""

    @model_validator(mode="after")
    def _together(self) -> FSQConfig:
        if math.prod(self.levels) >= 2**31:
            raise ValueError("the product of levels must be below 2^31")
        return self


class VQConfig(Section):
    """The nearest vector of a codebook (VQ-VAE, van den Oord et al. 2017), kept alive."""

    kind: Literal["vq"] = "vq"
    codes: Annotated[int, Field(ge=2)] = 512
    """Vectors in the codebook."""
    size: Size = 8
    """Numbers in a vector; few are used better (Yu et al. 2022)."""
    commitment: Annotated[float, Field(ge=0)] = 0.25
    """Weight of the encoder's distance from the chosen vectors."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Of the running means that are the codebook."""
    start: Literal["k-means", "random"] = "k-means"
    """Where the codebook begins: at clusters of the first batch, or at random."""
    revive: Share = 0.1
    """A vector used less than this share of the mean becomes a random input; 0: never."""
    normalize: bool = False
    """Compare directions only."""
    gradient: Literal["straight-through", "rotation"] = "straight-through"
    """How gradients pass: copied, or turned with the vector (Fifty et al. 2025)."""


class ResidualVQConfig(VQConfig):
    """Several codebooks, each for what the ones before left over (Zeghidour et al. 2021)."""

    kind: Literal["residual-vq"] = "residual-vq"  # type: ignore[assignment]
    codes: Annotated[int, Field(ge=2)] = 128
    """Vectors in each codebook."""
    depth: Annotated[int, Field(ge=1, le=32)] = 4
    """Codebooks."""

    @model_validator(mode="after")
    def _together(self) -> ResidualVQConfig:
        if self.normalize:
            raise ValueError("what is left over has a length: residual-vq needs normalize false")
        return self


BottleneckConfig = Annotated[
    IdentityConfig
    | GaussianConfig
    | BinaryConfig
    | OneHotConfig
    | FSQConfig
    | VQConfig
    | ResidualVQConfig,
    Field(discriminator="kind"),
]


# --- corruption -----------------------------------------------------------------------------------


class NoCorruptionConfig(Section):
    """The encoder sees the example as it is."""

    kind: Literal["none"] = "none"


class GaussianNoiseConfig(Section):
    """Normal noise on every number (Vincent et al. 2010)."""

    kind: Literal["gaussian"] = "gaussian"
    sigma: Annotated[float, Field(gt=0)] = 0.3
    """Standard deviation, where an image spans 0 to 1 and a table's column has scale 1."""


class SaltAndPepperConfig(Section):
    """Some values become the least or the largest there is."""

    kind: Literal["salt-and-pepper"] = "salt-and-pepper"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.2


class MaskingConfig(Section):
    """Some values are hidden: pixels become 0, columns of a table their neutral value."""

    kind: Literal["masking"] = "masking"
    rate: Annotated[float, Field(gt=0, le=1)] = 0.3


class PatchesConfig(Section):
    """Some squares of an image become 0."""

    kind: Literal["patches"] = "patches"
    size: Size = 4
    """Side of a square, pixels."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the squares."""


class AffineConfig(Section):
    """An image turned, moved and scaled at random: codes that ignore that."""

    kind: Literal["affine"] = "affine"
    degrees: Annotated[float, Field(ge=0, le=180)] = 15.0
    """At most so far to either side."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """At most this share of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.15
    """Larger or smaller by at most this share."""


CorruptionConfig = Annotated[
    NoCorruptionConfig
    | GaussianNoiseConfig
    | SaltAndPepperConfig
    | MaskingConfig
    | PatchesConfig
    | AffineConfig,
    Field(discriminator="kind"),
]


class ReconstructionConfig(Section):
    """How a reconstruction is scored."""

    likelihood: Literal["auto", "squared", "gaussian", "bernoulli"] = "auto"
    """Squared error, a normal distribution of learned width (Rybkin et al. 2021), or the cross-entropy of
    values in [0, 1].  `auto`: bernoulli for grey images, squared for others, gaussian under a VAE."""
    agreement: Annotated[float, Field(ge=0)] = 0.0
    """For one-hot codes: weight of the agreement between the classes of an example as it is and
    corrupted."""
    neighbours: Annotated[int, Field(ge=0)] = 0
    """The class of a corrupted example agrees with that of the example or of one of so many training
    examples that are nearest to it, drawn anew each time (Van Gansbeke et al. 2020)."""


class AutoEncoderModelConfig(Section):
    """The shape of a model, with nothing left open: what its folder keeps."""

    network: Annotated[DenseConfig | ConvolutionalConfig, Field(discriminator="kind")]
    bottleneck: BottleneckConfig
    likelihood: Literal["squared", "gaussian", "bernoulli"]


class AutoEncoderConfig(Section):
    """Everything that `selfsup pretrain autoencoder` and its siblings need."""

    kind: Literal["autoencoder"] = "autoencoder"
    recipe: str = ""
    """The recipe that this configuration started from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: ObservationConfig = ObservationConfig()
    network: NetworkConfig = AutoNetworkConfig()
    bottleneck: BottleneckConfig = IdentityConfig()
    corruption: CorruptionConfig = NoCorruptionConfig()
    objective: ReconstructionConfig = ReconstructionConfig()
    train: TrainConfig = TrainConfig(
        budget=Budget(amount=5, unit="minutes"),
        batch_size=128,
        optimizer=AdamWConfig(lr=2e-3, betas=(0.9, 0.99)),
        schedule=ScheduleConfig(kind="trapezoid", warmup=0.03),
        evaluate_rows=1024,
        precision="fp32",
    )

    @model_validator(mode="after")
    def _together(self) -> AutoEncoderConfig:
        if self.objective.agreement and self.bottleneck.kind != "one-hot":
            raise ValueError("objective.agreement needs bottleneck kind one-hot")
        unlike = self.corruption.kind != "none" or self.objective.neighbours
        if self.objective.agreement and not unlike:
            raise ValueError("objective.agreement needs a corruption or objective.neighbours")
        if self.objective.neighbours and not self.objective.agreement:
            raise ValueError("objective.neighbours needs objective.agreement above 0")
        if self.bottleneck.kind == "one-hot" and getattr(self.network, "code", "") == "map":
            raise ValueError(
                "bottleneck one-hot is one class an example: network.code must be vector"
            )
        return self
