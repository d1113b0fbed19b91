"""Training a tokenizer on a sample of a corpus, and saying how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from selfsup.config import DataConfig, SymbolConfig
from selfsup.data.corpus import training_sample
from selfsup.data.tokenizer_training import TrainableConfig
from selfsup.data.tokenizers import Tokenizer, train_tokenizer
from selfsup.training.progress import Progress


def learn_tokenizer(
    chosen: TrainableConfig, data: DataConfig, megabytes: float, display: Progress
) -> Tokenizer:
    """A tokenizer of text; a large sample takes minutes.

    Args:
        chosen: its kind and size.
        data: the corpus.
        megabytes: of it, at most.
        display: is told what is done.

    Raises:
        UserError: as `training_sample` and `train_tokenizer`.
    """
    if isinstance(chosen, SymbolConfig):
        display.say("looking for the letters of the alphabet")
    else:
        display.say(
            f"training the tokenizer ({chosen.kind}, at most {chosen.vocab_size:,} entries)"
        )

    def sample() -> Iterator[str]:
        yield from training_sample(data, megabytes)
        if chosen.kind in ("wordpiece", "bpe"):  # the others have only to count
            display.say("choosing the entries of the vocabulary")

    watched = counter(display, "reading for the tokenizer")
    return train_tokenizer(chosen, sample(), watched, display.say)


def counter(display: Progress, what: str) -> Callable[[int], None]:
    """Shows how many characters were handled so far."""
    done = 0

    def add(characters: int) -> None:
        nonlocal done
        done += characters
        display.count(what, done / 1e6, "million characters")

    return add
