"""Discrete codes as words: a decoder that was trained on them is a prior over codes.

An example's codes become one line of words, in the order of its places, and whatever reads text reads
them: `selfsup pretrain gpt2-mini --tokenizer.kind words` learns how codes follow one another (the second
stage of van den Oord et al. 2017), and what it writes is decoded.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfsup.errors import UserError, at_least
from selfsup.models.autoencoder import AutoEncoder
from selfsup.models.decoder_hub import PretrainedDecoder, load_decoder
from selfsup.uses.generate import Writer, join
from selfsup.uses.sampling import Sampling

_MOST = 4096
"""Kinds of words up to which the columns of a place are one word."""
_BATCH = 128

Indices = NDArray[np.int64]


class CodeWords:
    """How a model's codes are written as words.

    A place is one word, `17`, where there are few kinds of them (a codebook; a grid of few levels);
    else each of its columns is one, `2:17` (residual codebooks, binary codes).

    Args:
        model: an auto-encoder with discrete codes.

    Raises:
        UserError: its codes are real numbers.
    """

    def __init__(self, model: AutoEncoder) -> None:
        sizes = model.bottleneck.sizes
        if not sizes:
            what = "this model's codes are real numbers, they have no words"
            raise UserError(what, mend="write them into an .npy file")
        self.sizes, self.places = sizes, model.places
        self.together = math.prod(sizes) <= _MOST
        self._shape = model.code_shape[:-1]

    @property
    def length(self) -> int:
        """Words of an example."""
        return self.places * (1 if self.together else len(self.sizes))

    @property
    def kinds(self) -> list[list[str]]:
        """The words that may stand at each place in turn; then the first ones again."""
        if self.together:
            return [[str(i) for i in range(math.prod(self.sizes))]]
        return [[f"{c}:{i}" for i in range(size)] for c, size in enumerate(self.sizes)]

    def write(self, indices: Indices) -> list[str]:
        """A line for each example.

        Args:
            indices: (count, …, columns), as `code_indices` gives them.
        """
        flat = indices.reshape(len(indices), self.places, len(self.sizes))
        if self.together:
            numbers: Any = np.ravel_multi_index(tuple(np.moveaxis(flat, -1, 0)), self.sizes)
            return [" ".join(map(str, row)) for row in numbers.tolist()]
        columns = [f"{c}:" for c in range(len(self.sizes))] * self.places
        rows: Any = flat.reshape(len(flat), self.length).tolist()
        return [" ".join(f"{c}{i}" for c, i in zip(columns, row, strict=True)) for row in rows]

    def read(self, numbers: Indices) -> Indices:
        """(count, …, columns) indices of (count, length) numbers of words among their kinds."""
        if self.together:
            flat = np.stack(np.unravel_index(numbers, self.sizes), -1)
        else:
            flat = numbers.reshape(len(numbers), self.places, len(self.sizes))
        return flat.reshape(len(numbers), *self._shape, len(self.sizes)).astype(np.int64)


def sample_indices(
    model: AutoEncoder,
    prior: PretrainedDecoder | str | Path,
    count: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> Indices:
    """(count, …, columns) codes that a decoder writes from nothing.

    At each place only words of that place's kind may stand, so every line is a code; nothing else is
    cut unless asked.  Words that the decoder never saw have no probability.

    Args:
        model: an auto-encoder with discrete codes.
        prior: a decoder that was trained on lines of `CodeWords.write`.
        count: how many.
        temperature: as in `Sampling`.
        seed: of the draws.

    Raises:
        UserError: the decoder knows none of the words at a place, does not read them whole, or reads
            fewer tokens at once than a code has words.
    """
    at_least(1, count, "--count")
    if not model.bottleneck.sizes:
        what = "a decoder writes discrete codes, this model's are real numbers"
        raise UserError(what, where="--prior", mend="use gaussian or mixture")
    words = CodeWords(model)
    decoder = prior if isinstance(prior, PretrainedDecoder) else load_decoder(prior)
    where = f"--prior {prior}" if isinstance(prior, str | Path) else "prior"
    reads = min(decoder.max_length, decoder.origin.get("length", decoder.max_length))
    if words.length >= reads:
        what = f"reads {reads} tokens at once, a code has {words.length} words"
        mend = f"train it with --data.length {2 * words.length + 2}"
        raise UserError(what, where=where, mend=mend)
    masks, numbers = _words_of(decoder, words, where)
    settings = Sampling(max_tokens=words.length, temperature=temperature, seed=seed)
    allowed = [masks[i % len(masks)] for i in range(words.length)]
    prompts = [""] * count
    pieces = Writer(decoder, batch=_BATCH).generate(prompts, settings, allowed=allowed)
    written: list[Any] = [one.ids for one in join(prompts, pieces)]
    return words.read(numbers[np.array(written, np.int64)])


def _words_of(
    decoder: PretrainedDecoder, words: CodeWords, where: str
) -> tuple[list[torch.Tensor], Indices]:
    """For each kind of word, 0 at its tokens and minus infinity elsewhere; each token's number there."""
    masks, firsts, numbers = [], [], np.full(decoder.tokenizer.vocab_size, -1)
    known: dict[str, int] = decoder.tokenizer.inner.get_vocab()
    for kind in words.kinds:
        found = {i: known[word] for i, word in enumerate(kind) if word in known}
        if not found:
            what = f"knows no word like '{kind[0]}': it was not trained on this model's codes"
            mend = "train it on what `selfsup encode MODEL --output codes.txt` writes"
            raise UserError(what, where=where, mend=mend)
        mask = torch.full((decoder.tokenizer.vocab_size,), -torch.inf)
        mask[list(found.values())] = 0
        numbers[list(found.values())] = list(found)
        masks.append(mask)
        firsts.append(next(word for word in kind if word in known))
    line = " ".join(firsts * 2)
    if decoder.tokenizer.encode(line, special=False).ids.tolist() != [known[w] for w in firsts * 2]:
        what = f"reads '{line}' as other tokens than these words"
        raise UserError(what, where=where, mend="train it with --tokenizer.kind words")
    return masks, numbers
