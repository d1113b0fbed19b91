"""The one transformer, and the masked language model on top of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.config import TransformerConfig
from selfsup.nn.attention import Attending
from selfsup.nn.block import Block, activate, make_norm
from selfsup.nn.cache import KeyValueCache
from selfsup.nn.dropout import Dropout
from selfsup.nn.met_rows import MetRows
from selfsup.nn.precision import planned_rows, plans_products, product_dtype
from selfsup.nn.rotary import rotary_tables
from selfsup.nn.sequences import Sequences


class Embeddings(nn.Module):
    """Token, position and segment vectors, summed and (but for decoders) normed."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.vocab_size is not None, "the vocabulary's size comes from the tokenizer"
        self.tokens: nn.Embedding | MetRows = nn.Embedding(config.vocab_size, config.hidden_size)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.max_length, config.hidden_size) if learned else None
        kinds = config.type_vocab_size
        self.types = nn.Embedding(kinds, config.hidden_size) if kinds else None
        self.norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)

    def forward(self, batch: Sequences) -> Tensor:
        """(N,) ids to (N, hidden)."""
        x = self.tokens(batch.tokens)
        if self.positions is not None:
            x = x + self.positions(batch.positions)
        if self.types is not None:
            # all tokens of one kind: adding the row beats looking it up N times
            one = batch.types is None or self.types.num_embeddings == 1
            x = x + (self.types.weight[0] if one else self.types(batch.types))
        return self.dropout(self.norm(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Embeddings, blocks, and (where the norms stand before) a last norm.

    BERT (Devlin et al. 2019), ModernBERT (Warner et al. 2024), GPT-2 (Radford et al. 2019) and Llama
    (Touvron et al. 2023) are settings of its config.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(
            Block(config, first=config.embedding_norm and i == 0, window=self._window(i))
            for i in range(config.num_layers)
        )
        self.final_norm = make_norm(config) if config.norm_position == "pre" else nn.Identity()
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if config.pooler else None
        self.apply(self._initialize)
        if config.norm_position == "pre":  # keep the residual stream's size over the depth
            std = config.initializer_range / math.sqrt(2 * config.num_layers)
            for name, weight in self.named_parameters():
                if name.endswith(("attention.out.weight", "mlp.down.weight")):
                    nn.init.normal_(weight, std=std)

    def _window(self, layer: int) -> int | None:
        everything = layer % self.config.global_every == 0
        if self.config.window is None or (everything and self.config.global_every > 1):
            return None
        return self.config.window

    def _initialize(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def _rotary(self, positions: Tensor) -> list[tuple[Tensor, Tensor] | None]:
        config = self.config
        if config.positions != "rotary":
            return [None] * config.num_layers
        tables: dict[float, tuple[Tensor, Tensor]] = {}
        chosen: list[tuple[Tensor, Tensor] | None] = []
        for layer in range(config.num_layers):
            local = self._window(layer) is not None and config.local_rope_theta is not None
            theta = config.local_rope_theta if local else config.rope_theta
            assert theta is not None
            if theta not in tables:
                width = config.hidden_size // config.num_heads
                tables[theta] = rotary_tables(positions, width, theta, config.rope_scaling)
            chosen.append(tables[theta])
        return chosen

    def forward(
        self,
        batch: Sequences,
        layers: bool = False,
        cache: KeyValueCache | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (N, hidden); with `layers`, of the embeddings and each layer: (L + 1, N, hidden).

        With a cache, the batch's sequences go on where those in the cache end.  With `places` (M,), the
        vectors at these places of the concatenated tokens alone, (M, hidden): the same numbers, but the
        last layer spends nothing on the others behind attention.
        """
        assert not (layers and places is not None), "places are those of the last layer"
        x = self.embeddings(batch)
        plans: Sequence[Attending]
        positions, fillers = batch.positions, 0
        if cache is not None:
            plans = cache.plans(batch)
        else:
            dtype = product_dtype(x)
            plan = batch.plan_for(dtype, self.config.hidden_size // self.config.num_heads)
            if plans_products(x.device, dtype):
                fillers = planned_rows(len(x)) - len(x)
            if fillers:
                plan = plan.filled(fillers)
                x, positions = F.pad(x, (0, 0, 0, fillers)), F.pad(positions, (0, fillers))
            plans = [plan.causal() if self.config.causal else plan] * self.config.num_layers
        asked = 0 if places is None else len(places)
        if places is not None:  # few different numbers, for the same reason
            places = F.pad(places.to(x.device), (0, planned_rows(asked) - asked))
        kept, last = [x], self.blocks[-1]
        for block, plan_, table in zip(self.blocks, plans, self._rotary(positions), strict=True):
            x = block(x, plan_, table, places if block is last else None)
            if layers:
                kept.append(x)
        found: Tensor = self.final_norm(x)
        if places is not None:
            return found[:asked]
        if layers:
            found = torch.stack([*kept[:-1], found])
        return found[..., : len(batch.tokens), :] if fillers else found

    def pool(self, first: Tensor) -> Tensor:
        """BERT's pooled output: tanh of a dense layer over each sequence's first vector, (B, hidden)."""
        assert self.pooler is not None, "this model has no pooler"
        return torch.tanh(self.pooler(first))


class MaskedLanguageModel(nn.Module):
    """An encoder with the head that guesses hidden tokens and, where asked for, BERT's pair head."""

    def __init__(self, config: TransformerConfig, *, pair_head: bool = False) -> None:
        super().__init__()
        self.config = config
        self.encoder = Transformer(config)
        self.head_dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)
        self.head_norm = make_norm(config)
        assert config.vocab_size is not None
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.pair_head = nn.Linear(config.hidden_size, 2) if pair_head else None
        for layer in (self.head_dense, self.pair_head):
            if layer is not None:
                self.encoder._initialize(layer)

    def forward(self, batch: Sequences, places: Tensor | None = None) -> Tensor:
        """Hidden vectors (N, hidden); with `places` (M,), at these alone: (M, hidden)."""
        return self.encoder(batch, places=places)  # type: ignore[no-any-return]

    def head(self, hidden: Tensor) -> Tensor:
        """What the output matrix is applied to: (M, hidden) to (M, hidden)."""
        return self.head_norm(activate(self.head_dense(hidden), self.config.activation))  # type: ignore[no-any-return]

    def output_matrix(self) -> tuple[Tensor, Tensor]:
        """The vocabulary's matrix (vocabulary, hidden), tied to the token embeddings, and its bias."""
        return self.encoder.embeddings.tokens.weight, self.head_bias

    def predict(self, hidden: Tensor) -> Tensor:
        """Vocabulary logits for chosen hidden vectors: (M, hidden) to (M, vocabulary).

        Give it the scored positions alone: on small models projecting all positions costs more than
        the body.
        """
        return F.linear(self.head(hidden), *self.output_matrix())

    def follows(self, first: Tensor) -> Tensor:
        """Pair logits (B, 2) from each sequence's first vector: 0 the second part is the true one, 1 not."""
        assert self.pair_head is not None, "this model has no pair head"
        return self.pair_head(self.encoder.pool(first))  # type: ignore[no-any-return]


class CausalLanguageModel(nn.Module):
    """A decoder and its output matrix (GPT): each token predicted from those before it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        assert config.causal, "a decoder's config has causal true"
        assert config.vocab_size is not None
        self.config = config
        self.decoder = Transformer(config)
        self.output = (
            None if config.tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        )
        if self.output is not None:
            self.decoder._initialize(self.output)

    def forward(
        self,
        batch: Sequences,
        cache: KeyValueCache | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors (N, hidden); with `places` (M,), at these alone: (M, hidden)."""
        return self.decoder(batch, cache=cache, places=places)  # type: ignore[no-any-return]

    def output_matrix(self) -> tuple[Tensor, None]:
        """The vocabulary's matrix (vocabulary, hidden); there is no bias."""
        if self.output is not None:
            return self.output.weight, None
        return self.decoder.embeddings.tokens.weight, None

    def predict(self, hidden: Tensor) -> Tensor:
        """Logits of the next token for chosen hidden vectors: (M, hidden) to (M, vocabulary)."""
        return F.linear(hidden, self.output_matrix()[0])


def parameter_count(module: nn.Module) -> int:
    """Parameters, each shared one counted once."""
    return sum(p.numel() for p in module.parameters())
