"""What pre-training needs beside the loop: tokenizer, corpus, rows, objective, order of examples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from selfsup.config import PretrainConfig
from selfsup.data.corpus import Corpus, data_fingerprint, prepare_corpus, refuse_one_document
from selfsup.data.files import FASTA_SUFFIXES, plain_suffix
from selfsup.data.home import cache_folder
from selfsup.data.rows import PackedRows, check_enough
from selfsup.data.sampler import Sampler
from selfsup.data.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from selfsup.data.unknown import known_letters
from selfsup.errors import UserError
from selfsup.objectives.masked_tokens import unigram_baseline
from selfsup.training import checkpoints, distributed
from selfsup.training.evaluation import HELDOUT_KEY, Evaluation
from selfsup.training.progress import Progress
from selfsup.uses.kinds import (
    AnyObjective,
    build_objective,
    floor,
    framed,
    hidden_tokens,
    row_overhead,
    start_of,
)
from selfsup.uses.tokenizing import counter, learn_tokenizer

_MIX_SEED = 0
_TRAINING = "2"  # counts changes of what a tokenizer becomes by the same settings
_ALPHABET_MEGABYTES = 5.0
_MUCH_UNKNOWN = 0.01
_MOST_UNKNOWN = 0.5


@dataclass(frozen=True)
class Prepared:
    """What training needs beside the loop."""

    config: PretrainConfig
    tokenizer: Tokenizer
    corpus: Corpus
    train: PackedRows
    objective: AnyObjective
    evaluation: Evaluation
    sampler: Sampler
    baseline: tuple[float, float]
    """Held-out loss and accuracy of guessing hidden tokens from word frequencies alone."""


def get_tokenizer(config: PretrainConfig, display: Progress) -> Tokenizer:
    """Load or train the tokenizer; a trained one is kept, by data and settings, for the next run."""
    chosen = config.tokenizer
    if chosen.kind == "file":
        return load_tokenizer(Path(chosen.path), chosen.lowercase)
    if chosen.kind == "symbols" and chosen.alphabet:
        return train_tokenizer(chosen, (), None)
    name = hashlib.sha256(
        (_TRAINING + data_fingerprint(config.data) + chosen.model_dump_json()).encode()
    ).hexdigest()[:16]
    folder = cache_folder("tokenizers") / name
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(folder)
    if chosen.kind != "symbols" and any(
        plain_suffix(Path(source.path)) in FASTA_SUFFIXES for source in config.data.sources
    ):
        display.say(
            "sequences are cut into pieces that occur often; "
            "--tokenizer.kind symbols reads them letter by letter"
        )
    megabytes = _ALPHABET_MEGABYTES if chosen.kind == "symbols" else chosen.sample_megabytes
    tokenizer = learn_tokenizer(chosen, config.data, megabytes, display)
    if chosen.kind == "symbols":
        display.say(f"the letters are {tokenizer.letters or 'more than 40'}")
    with checkpoints.written_whole(folder) as new:
        tokenizer.save(new)
    return tokenizer


def read_corpus(
    config: PretrainConfig, display: Progress
) -> tuple[PretrainConfig, Tokenizer, Corpus]:
    """The tokenizer and the corpus, and the configuration with what `init` settles."""
    if not config.data.sources:
        raise UserError("no data given", mend="--data FILE, FOLDER or 'GLOB'")
    refuse_one_document(config.data)
    if config.init:
        tokenizer, shape = start_of(config)
        if config.data.length > shape.max_length:
            what = f"data.length ({config.data.length}) must not exceed its {shape.max_length} positions"
            raise UserError(what, where=f"--init {config.init}", mend="learned positions end there")
        try:
            value = {**config.model_dump(), "model": shape.model_dump()}
            config = PretrainConfig.model_validate(value)
        except ValidationError as error:
            why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            what = f"its shape does not fit these settings: {why}"
            raise UserError(what, where=f"--init {config.init}") from None
    else:
        tokenizer = framed(get_tokenizer(config, display), config.objective)
    corpus = prepare_corpus(config.data, tokenizer, progress=counter(display, "tokenizing"))
    return config, tokenizer, corpus


def prepare(config: PretrainConfig, display: Progress) -> Prepared:
    """Tokenizer, corpus, rows, objective and the order of examples."""
    config, tokenizer, corpus = read_corpus(config, display)
    counts = corpus.meta["splits"]
    display.say(
        f"corpus: {counts['train']['documents']:,} documents, {counts['train']['tokens']:,} tokens; "
        f"held out: {counts['heldout']['documents']:,} documents; "
        f"{corpus.meta['duplicates']:,} duplicates dropped"
    )
    if corpus.meta["bad_rows"]:
        display.say(
            f"{corpus.meta['bad_rows']:,} rows could not be read and were skipped; "
            f"the first: {corpus.meta['bad_examples'][0]}"
        )
    for line in corpus.meta["notes"]:
        display.say(line)
    _tell_unknown(config, tokenizer, corpus.meta["unknown_share"], display)
    model = config.model
    if model.vocab_size is None:
        model = model.model_copy(update={"vocab_size": tokenizer.vocab_size})
    elif model.vocab_size < tokenizer.vocab_size:
        raise UserError(
            f"model.vocab_size ({model.vocab_size}) is smaller than the tokenizer's "
            f"({tokenizer.vocab_size})"
        )
    if model.causal and not config.init:  # places that are never trained on are none
        model = model.model_copy(update={"max_length": config.data.length})
    config = config.model_copy(update={"model": model})
    needed = row_overhead(config.objective)
    train = PackedRows.build(corpus.train, config.data.length, needed, config.data.short)
    heldout = PackedRows.build(corpus.heldout, config.data.length, needed)
    check_enough(train, config.train.batch_size, "training")
    check_enough(heldout, distributed.world_size(), "held-out")
    objective = build_objective(config.objective, train, tokenizer)
    rows = min(config.train.evaluate_rows, len(heldout))
    examples = Sampler([len(heldout)], [1.0], _MIX_SEED).at(0, rows)
    weights = [s.weight for s in config.data.sources][: len(train.counts)]
    sampler = Sampler(train.counts, weights, config.seed)
    question = objective.heldout(heldout)
    baseline = unigram_baseline(hidden_tokens(question), train, examples, HELDOUT_KEY)
    evaluation = Evaluation(question, examples, floor(question, baseline[0]))
    return Prepared(config, tokenizer, corpus, train, objective, evaluation, sampler, baseline)


def _tell_unknown(
    config: PretrainConfig, tokenizer: Tokenizer, share: float, display: Progress
) -> None:
    """Say how much of the text the vocabulary does not hold; refuse where that is most of it."""
    if share < _MUCH_UNKNOWN:
        return
    what = f"{share:.0%} of the tokens are unknown to the tokenizer{known_letters(tokenizer)}"
    symbols = config.tokenizer.kind == "symbols" and not config.init
    # letters that were found: then it is runs of N, and the like
    found = symbols and not getattr(config.tokenizer, "alphabet", "")
    if share < _MOST_UNKNOWN or found:
        display.say(f"{what}; they are read, but never to be guessed")
        return
    mend = (
        "choose another tokenizer, or train one on this text (leave --init and tokenizer.path out)"
    )
    if symbols:
        mend = "leave --tokenizer.alphabet out, and the letters are taken from the data"
    raise UserError(what, where="tokenizer", mend=mend)
