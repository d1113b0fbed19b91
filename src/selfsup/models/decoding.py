"""A decoder's weights laid out for writing: the same function as its modules, with less in between.

One new token reads every weight once and computes next to nothing, so what counts is how many bytes the
weights have and what happens between the products.  Here each product keeps its weight as the
machine reads it fastest, in float32, bfloat16 or int8, and each token costs only the calls it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfsup.models.recorded_step import RecordedStep
from selfsup.models.transformer import CausalLanguageModel
from selfsup.nn.attention import Attending
from selfsup.nn.block import Block, activate
from selfsup.nn.cache import KeyValueCache
from selfsup.nn.gpu import runs_kernels
from selfsup.nn.precision import planned_rows
from selfsup.nn.products import Product, make_product
from selfsup.nn.rotary import rotary_tables
from selfsup.nn.sequences import Sequences

_MANY = 8
"""Rows from which int8 weights are widened once instead of at each row."""
_SIDE_BY_SIDE = 16
"""Tokens up to which a batch is taken for one token of each text, whose number hardly changes."""
_PLAIN = 3
"""Tokens a row that a GPU reads before its kernels are recorded, which does not pay for short answers."""


class Decoding:
    """A decoder for reading and writing, not for training.  Equals the modules (tested).

    The weights are copied, so later changes of the model are not seen.

    Args:
        model: the decoder.
        dtype: of vectors, keys and values, and of the weights that are not int8.
        int8: keep the matrices as int8 with one scale for each output (symmetric, weights only);
            a quarter of float32's bytes, so that a small model fits the processor's caches.
        rows: texts that are written side by side; decides how the weights are laid out.
    """

    def __init__(
        self,
        model: CausalLanguageModel,
        *,
        dtype: torch.dtype = torch.float32,
        int8: bool = False,
        rows: int = 1,
    ) -> None:
        self.config, self.dtype = model.config, dtype
        embeddings = model.decoder.embeddings
        assert embeddings.types is None
        self.device = embeddings.tokens.weight.device

        def prepared(weight: Tensor, bias: Tensor | None = None) -> Product:
            if int8:
                return Int8Product(weight, bias, rows)
            return make_product(weight, bias, dtype, rows)

        with torch.inference_mode():
            self.tokens = embeddings.tokens.weight.detach().to(dtype)
            places = embeddings.positions
            self.places = None if places is None else places.weight.detach().to(dtype)
            blocks = [cast(Block, block) for block in model.decoder.blocks]
            self.layers = [_Layer(block, dtype, prepared) for block in blocks]
            self.final_norm = _Norm(model.decoder.final_norm, dtype)
            self.output = prepared(model.output_matrix()[0])
            self._turns = torch.empty(0), torch.empty(0)

    def cache(self, rows: int, length: int) -> KeyValueCache:
        """An empty cache for so many texts of so many tokens."""
        return KeyValueCache(self.config, rows, length, device=self.device, dtype=self.dtype)

    @torch.inference_mode()
    def read(self, batch: Sequences, cache: KeyValueCache, places: Tensor | None = None) -> Tensor:
        """Hidden vectors (N, hidden) of tokens that go on where the cache's rows end.

        With `places` (M,), at these places of the concatenated tokens alone: (M, hidden).  Without, on a
        GPU, one token for each row is read by replaying what was recorded before.
        """
        tables = self._tables(cache.capacity)
        single = places is None and len(batch.tokens) == len(batch.starts) - 1
        if single and runs_kernels(self.device):
            cache.singles += 1
            if cache.singles > _PLAIN:
                return self._replayed(batch, cache, tables)
        return self._read(batch.tokens, batch.positions, cache.plans(batch), tables, places)

    def _read(
        self,
        tokens: Tensor,
        positions: Tensor,
        plans: Sequence[Attending],
        tables: tuple[Tensor, Tensor] | None,
        places: Tensor | None = None,
    ) -> Tensor:
        heads, shared, count = self.config.num_heads, self.config.kv_heads, len(tokens)
        if fillers := self._fillers(count):
            tokens, positions = F.pad(tokens, (0, fillers)), F.pad(positions, (0, fillers))
        x = self.tokens[tokens]
        if self.places is not None:
            x = x + self.places[positions]
        turns = None if tables is None else (tables[0][positions], tables[1][positions])
        for layer, plan in zip(self.layers, plans, strict=True):
            joined = layer.qkv(layer.attention_norm(x)).view(len(x), heads + 2 * shared, -1)
            if turns is not None:
                joined = _turned(joined, heads + shared, *turns)
            q, k, v = torch.split(joined[:count], [heads, shared, shared], 1)
            mixed = plan.attend(q, k, v).reshape(count, -1)
            if places is not None and layer is self.layers[-1]:
                x, mixed = x[places], mixed[places]
                count, fillers = len(x), 0
            x = x + layer.out(F.pad(mixed, (0, 0, 0, fillers)) if fillers else mixed)
            x = x + layer.feed_forward(layer.mlp_norm(x))
        return self.final_norm(x[:count])

    def _fillers(self, count: int) -> int:
        """Rows that make the number of a prompt's tokens one of few: each new one is planned anew."""
        if self.device.type != "cpu" or count <= _SIDE_BY_SIDE:
            return 0
        return planned_rows(count) - count

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Of the next token, float32, for chosen hidden vectors: (M, hidden) to (M, vocabulary)."""
        return self.output(hidden).float()

    def _replayed(
        self, batch: Sequences, cache: KeyValueCache, tables: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """One token for each row; its kernels are recorded once for these rows."""
        places = cache.lengths
        cache.grow(batch.starts.diff())
        if cache.recorded is None or cache.recorded.owner is not self:
            cache.recorded = RecordedStep(self, self._read, cache, tables)
        found: Tensor = cache.recorded(batch.tokens, places)
        return found

    def _tables(self, length: int) -> tuple[Tensor, Tensor] | None:
        """Rotary cosines and signed sines of all places, (places, 1, width), made once."""
        config = self.config
        if config.positions != "rotary":
            return None
        if len(self._turns[0]) < length:
            places = torch.arange(length, device=self.device)
            width = config.hidden_size // config.num_heads
            tables = rotary_tables(places, width, config.rope_theta, config.rope_scaling)
            cos, sin = (one[:, 0].to(self.dtype) for one in tables)
            self._turns = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        return self._turns


def _turned(x: Tensor, count: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first `count` heads of x (N, heads, width); cos and signed sin are (N, 1, width)."""
    part = x[:, :count]
    swapped = part.roll(part.shape[-1] // 2, -1)
    part.mul_(cos).addcmul_(swapped, sin)
    return x


class _Norm:
    """A norm's weights, without the module around them."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        weight = cast(Tensor, module.weight)
        bias = getattr(module, "bias", None)
        self.eps = float(cast(float, module.eps))
        self.centred = isinstance(module, nn.LayerNorm)
        self.widened = not self.centred and weight.device.type == "cpu"
        self.weight = weight.detach().to(torch.float32 if self.widened else dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, hidden) to (N, hidden)."""
        if self.centred:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)
        if self.widened:  # torch's takes up to 15 times as long in bfloat16 on a CPU (docs/log.md)
            wide = F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)
            return wide.to(x.dtype)
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class _Layer:
    """One block's weights."""

    def __init__(
        self,
        block: Block,
        dtype: torch.dtype,
        prepared: Callable[[Tensor, Tensor | None], Product],
    ) -> None:
        attention, mlp = block.attention, block.mlp
        self.attention_norm = _Norm(block.attention_norm, dtype)
        self.mlp_norm = _Norm(block.mlp_norm, dtype)
        self.qkv = prepared(attention.qkv.weight, attention.qkv.bias)
        self.out = prepared(attention.out.weight, attention.out.bias)
        self.up = prepared(mlp.up.weight, mlp.up.bias)
        self.down = prepared(mlp.down.weight, mlp.down.bias)
        self.activation, self.gated = mlp.activation, mlp.gated

    def feed_forward(self, x: Tensor) -> Tensor:
        """(N, hidden) to (N, hidden)."""
        x = self.up(x)
        if self.gated:
            x, gate = x.chunk(2, -1)
            return self.down(activate(x, self.activation) * gate)
        return self.down(activate(x, self.activation))


class Int8Product:
    """A linear layer with int8 weights: outputs are (x in bfloat16) times integers, times a scale each.

    Args:
        weight: (outputs, inputs).
        bias: (outputs,).
        rows: texts that are written side by side; on a CPU the integers of many are held in bfloat16 too,
            since widening them anew for each token costs more than reading them.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int = 1) -> None:
        full = weight.detach().float()
        scale = full.abs().amax(1).clamp_min(1e-12) / 127
        self.weight = (full / scale[:, None]).round_().to(torch.int8)
        self.scale = scale.to(torch.bfloat16)
        self.bias = None if bias is None else bias.detach()
        self.wide: Product | None = None
        if rows >= _MANY and weight.device.type == "cpu":
            self.wide = make_product(self.weight, None, torch.bfloat16, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, inputs) to (N, outputs), of x's type."""
        half = x.to(torch.bfloat16)
        if len(x) < _MANY and x.device.type == "cpu":
            out = torch.ops.aten._weight_int8pack_mm(half, self.weight, self.scale)
        elif self.wide is not None:
            out = self.wide(half) * self.scale
        else:
            out = F.linear(half, self.weight.to(torch.bfloat16)) * self.scale
        out = cast(Tensor, out).to(x.dtype)
        return out if self.bias is None else out + self.bias.to(x.dtype)
