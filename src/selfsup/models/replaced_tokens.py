"""An encoder that tells replaced tokens from true ones, and the small generator that replaces them."""

from __future__ import annotations

from torch import Tensor, nn

from selfsup.config import TransformerConfig
from selfsup.models.transformer import Embeddings, Transformer
from selfsup.nn.block import activate, make_norm
from selfsup.nn.sequences import Sequences


class NarrowedEmbeddings(nn.Module):
    """Another transformer's embeddings, brought to a smaller width by a linear layer and normed."""

    def __init__(self, shared: Embeddings, config: TransformerConfig) -> None:
        super().__init__()
        self.shared = shared
        self.narrow = nn.Linear(shared.tokens.weight.shape[1], config.hidden_size, bias=config.bias)
        # blocks with the norm before expect embeddings that were just normed
        self.norm = make_norm(config)

    def forward(self, batch: Sequences) -> Tensor:
        """(N,) ids to (N, narrow hidden)."""
        return self.norm(self.narrow(self.shared(batch)))  # type: ignore[no-any-return]


class Generator(nn.Module):
    """A narrow masked language model on the embeddings of a wider encoder.

    All embeddings are the encoder's, as in the authors' code: a linear layer leads from them to the
    generator's width, and the head's dense layer leads back, so that the output matrix can be the
    encoder's token embeddings too.

    Args:
        encoder: whose embeddings are shared.
        config: of the generator.
    """

    def __init__(self, encoder: Transformer, config: TransformerConfig) -> None:
        super().__init__()
        wide = encoder.config
        assert wide.vocab_size is not None
        self.config = config
        narrowed = NarrowedEmbeddings(encoder.embeddings, config)
        self.body = Transformer(config)
        self.body.embeddings = narrowed  # type: ignore[assignment]  # same face: ids to vectors
        self.head_dense = nn.Linear(config.hidden_size, wide.hidden_size, bias=config.bias)
        self.head_norm = make_norm(wide)
        self.head_bias = nn.Parameter(encoder.embeddings.tokens.weight.new_zeros(wide.vocab_size))
        self.output = encoder.embeddings.tokens
        for layer in (narrowed.narrow, self.head_dense):
            encoder._initialize(layer)

    def forward(self, batch: Sequences, places: Tensor | None = None) -> Tensor:
        """Hidden vectors (N, narrow hidden); with `places` (M,), at these alone: (M, narrow hidden)."""
        return self.body(batch, places=places)  # type: ignore[no-any-return]

    def head(self, hidden: Tensor) -> Tensor:
        """What the output matrix is applied to: (M, narrow hidden) to (M, the encoder's hidden)."""
        return self.head_norm(activate(self.head_dense(hidden), self.config.activation))  # type: ignore[no-any-return]

    def output_matrix(self) -> tuple[Tensor, Tensor]:
        """The vocabulary's matrix (vocabulary, the encoder's hidden), tied, and its bias."""
        return self.output.weight, self.head_bias


class ReplacedTokenModel(nn.Module):
    """ELECTRA (Clark et al. 2020): an encoder with a detection head, and its generator.

    The encoder is what is kept after training.

    Args:
        config: of the encoder.
        generator: of the generator; its depth may differ, its vocabulary is the encoder's.
    """

    def __init__(self, config: TransformerConfig, generator: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Transformer(config)
        self.detector_dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.detector_out = nn.Linear(config.hidden_size, 1)
        for layer in (self.detector_dense, self.detector_out):
            self.encoder._initialize(layer)
        self.generator = Generator(self.encoder, generator)

    def forward(self, batch: Sequences) -> Tensor:
        """The encoder's hidden vectors (N, hidden)."""
        return self.encoder(batch)  # type: ignore[no-any-return]

    def detect(self, hidden: Tensor) -> Tensor:
        """For each hidden vector the logit that its token was replaced: (N, hidden) to (N,)."""
        inner = activate(self.detector_dense(hidden), self.config.activation)
        return self.detector_out(inner)[:, 0]  # type: ignore[no-any-return]
