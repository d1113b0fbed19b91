"""Making tokenizers: WordPiece, byte-level BPE, characters, words, and fixed alphabets.

This is the workshop behind `tokenizers.py`, which holds the face.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, assert_never

from selfsup.config import (
    BytePairConfig,
    CharacterConfig,
    SymbolConfig,
    WordPieceConfig,
    WordsConfig,
)
from selfsup.data.alphabets import found_alphabet
from selfsup.data.tokenizer_scripts import FEW, MARKED_STEPS, letter_shares
from selfsup.errors import UserError

if TYPE_CHECKING:
    import tokenizers

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""At ids 0 to 4 of every tokenizer made here."""

Progress = Callable[[int], None]
"""Called with the characters read since the last call."""
Say = Callable[[str], None]
"""Called with what was chosen by the text, in a line."""

_MIN_FREQUENCY = 2  # an entry seen once teaches nothing
_LARGEST_FIXED = 1 << 20
# As many characters as BERT keeps; beyond them only what running text needs.
_USUAL_ALPHABET = 1000
_ALPHABET_COVERAGE = 0.9999
# Sequences without spaces (DNA, URLs) would otherwise be learned whole:
# huggingface/tokenizers#1313.
_LONGEST_MERGE = 32
# BERT gives up longer words, and so do we unless the text has them: Thai and Khmer without spaces.
_USUAL_WORD = 100
# Junk of 10,000 characters in words this long takes 1.6 s to encode, in words of 100 it takes 0.09 s.
_LONGEST_WORD = 1000
_FEW_LONG = 0.001  # of the characters
_LONG_RUN = re.compile(r"[^\s!-/:-@\[-`{-~\u3000-\u303f\u3400-\u9fff\uff00-\uff0f]{101,}")


TrainableConfig = WordPieceConfig | BytePairConfig | CharacterConfig | WordsConfig | SymbolConfig


def build_tokenizer(
    config: TrainableConfig,
    texts: Iterable[str],
    progress: Progress | None = None,
    say: Say | None = None,
) -> tokenizers.Tokenizer:
    """Hugging Face's tokenizer for a configuration; `tokenizers.train_tokenizer` says more."""
    say = say or (lambda _: None)
    watched = _watched(texts, progress)
    if isinstance(config, SymbolConfig):
        return _symbols(config, config.alphabet or found_alphabet(watched))
    if isinstance(config, CharacterConfig):
        return _characters(config, watched)
    if isinstance(config, WordsConfig):
        return _words(config, watched)
    if isinstance(config, WordPieceConfig):
        sample = list(watched)
        style = _style(config, sample, say)
        inner = _wordpiece(config.vocab_size, style, sample)
        size: int = inner.get_vocab_size()
        if size < config.vocab_size:
            # Less room can also mean fewer characters, so ask until the answer stands.
            while (smaller := _wordpiece(size, style, sample).get_vocab_size()) < size:
                size = smaller
            raise _too_small(size, config.vocab_size)
        return inner
    if isinstance(config, BytePairConfig):
        sample = list(watched)
        marks = letter_shares(sample).marks
        if marks > FEW:
            say(f"words go on through combining marks: {marks:.1%} of the letters are such")
        inner = _byte_pairs(config.vocab_size, sample, marks > FEW)
        if inner.get_vocab_size() < config.vocab_size:
            raise _too_small(inner.get_vocab_size(), config.vocab_size)
        return inner
    assert_never(config)


def _too_small(size: int, asked: int) -> UserError:
    return UserError(
        f"the text gives a vocabulary of {size} entries, {asked} were asked for",
        where="tokenizer.vocab_size",
        mend=f"--tokenizer.vocab_size {size}, or more text",
    )


def _watched(texts: Iterable[str], progress: Progress | None) -> Iterator[str]:
    characters = 0
    for text in texts:
        characters += len(text)
        if progress is not None:
            progress(len(text))
        yield text
    if not characters:
        raise UserError("there is no text to make a tokenizer from", where="data.sources")


def _framed(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Add the special tokens and the frame [CLS] A [SEP] B [SEP]."""
    from tokenizers import AddedToken, processors

    inner.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, inner.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return inner


class _Style(NamedTuple):
    """How WordPiece reads text."""

    lowercase: bool
    strip_accents: bool | None = None
    """None: where case is folded, as in BERT."""
    longest: int = _USUAL_WORD
    """Characters; longer words are unknown."""
    chinese: bool = True
    """Each Chinese character is a word."""


def _style(config: WordPieceConfig, texts: list[str], say: Say) -> _Style:
    """What the configuration says, or leaves to the text."""
    strip = None if config.strip_accents == "auto" else config.strip_accents
    if config.strip_accents == "auto" and config.lowercase:
        share = letter_shares(texts).accented
        if share > FEW:
            strip = False
            say(f"accents are kept: {share:.1%} of the letters carry them, or are marks")
    style = _Style(config.lowercase, strip)
    if _share_of_long(texts, style) > _FEW_LONG:
        style = style._replace(longest=_LONGEST_WORD)
        say(f"words may have {_LONGEST_WORD:,} characters: the text has long runs without a space")
    return style


def _share_of_long(texts: list[str], style: _Style) -> float:
    """The share of characters in words that are longer than usual, once accents are stripped."""
    from tokenizers import models

    inner = _bert(models.WordPiece(unk_token="[UNK]"), style)
    long = 0
    for text in texts:
        for run in _LONG_RUN.findall(text):
            words = inner.pre_tokenizer.pre_tokenize_str(inner.normalizer.normalize_str(run))
            long += sum(len(word) for word, _ in words if len(word) > _USUAL_WORD)
    return long / sum(map(len, texts))


def _bert(model: tokenizers.models.WordPiece, style: _Style) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, normalizers, pre_tokenizers

    inner = Inner(model)
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=style.chinese,
        strip_accents=style.strip_accents,
        lowercase=style.lowercase,
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece(prefix="##")
    return inner


def _wordpiece(vocab_size: int, style: _Style, texts: list[str]) -> tokenizers.Tokenizer:
    from tokenizers import models, trainers

    inner = _bert(models.WordPiece(unk_token="[UNK]"), style)
    letters, inner_letters = _alphabet(inner, texts, vocab_size - len(SPECIAL_TOKENS))
    # Named as special while training, because the trainer else numbers the continuations in the
    # order of a random hash map, and ties between merges fall by number: the same text would give
    # another vocabulary each time (huggingface/tokenizers#1794).
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=[*SPECIAL_TOKENS, *(f"##{letter}" for letter in inner_letters)],
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer, length=len(texts))
    vocabulary = inner.get_vocab(with_added_tokens=False)
    model = models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=style.longest)
    return _framed(_bert(model, style))


def _alphabet(
    inner: tokenizers.Tokenizer, texts: list[str], room: int
) -> tuple[list[str], list[str]]:
    """The most frequent characters that fit, and those of them that continue words.

    A letter takes two entries (`a` and `##a`); what always stands alone (a comma, a Chinese
    character), one.
    """
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for letter in "".join(inner.normalizer.normalize_str(character).split()):
            counts[letter] += count
    total, covered, used = sum(counts.values()), 0, 0
    letters: list[str] = []
    inner_letters: list[str] = []
    for letter, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        within = inner.normalizer.normalize_str(f"a{letter}a")
        joins = len(inner.pre_tokenizer.pre_tokenize_str(within)) == 1
        used += 1 + joins
        needed = covered < _ALPHABET_COVERAGE * total
        usual = len(letters) < _USUAL_ALPHABET and used <= room / 2
        if used > room or not (needed or usual):
            break
        covered += count
        letters.append(letter)
        if joins:
            inner_letters.append(letter)
    return letters, inner_letters


def wordpiece_from_file(
    file: Path,
    lowercase: bool,
    strip_accents: bool | None = None,
    chinese: bool = True,
    names: Mapping[str, str] | None = None,
) -> tokenizers.Tokenizer:
    """The WordPiece tokenizer of a `vocab.txt`: one entry a line, the first has the id 0.

    Args:
        file: its path.
        lowercase: fold case.
        strip_accents: None: where case is folded, as in BERT.
        chinese: each Chinese character is a word.
        names: role to special token, where they are not BERT's.

    Raises:
        UserError: it is no such file, or holds no [UNK].
    """
    from tokenizers import models, processors

    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except ValueError as error:
        raise UserError("not UTF-8", where=str(file)) from error
    vocabulary = {line.rstrip("\r"): id for id, line in enumerate(lines) if line.strip()}
    called = {"unknown": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", **(names or {})}
    unknown, first, last = (called[role] for role in ("unknown", "cls", "sep"))
    if unknown not in vocabulary:
        raise UserError(f"the vocabulary holds no {unknown}", where=str(file))
    model = models.WordPiece(vocabulary, unk_token=unknown)
    inner = _bert(model, _Style(lowercase, strip_accents, chinese=chinese))
    if first in vocabulary and last in vocabulary:
        inner.post_processor = processors.TemplateProcessing(
            single=f"{first}:0 $A:0 {last}:0",
            pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
            special_tokens=[(name, vocabulary[name]) for name in (first, last)],
        )
    return inner


def _byte_pairs(vocab_size: int, texts: list[str], marked: bool) -> tokenizers.Tokenizer:
    """Byte-level BPE; `marked`: GPT-2's splitter, which parts words at combining marks, must not."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    from tokenizers import Tokenizer as Inner

    inner = Inner(models.BPE())
    if marked:
        words, to_bytes = MARKED_STEPS
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(words["pattern"]["Regex"]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=to_bytes["use_regex"]),
            ]
        )
    else:
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=_LONGEST_MERGE,
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return _framed(inner)


def _single_symbols(vocabulary: Iterable[str], pattern: str) -> tokenizers.Tokenizer:
    """A tokenizer whose every match of a pattern is looked up whole."""
    from tokenizers import Regex, decoders, models, pre_tokenizers
    from tokenizers import Tokenizer as Inner

    entries = {entry: id for id, entry in enumerate([*SPECIAL_TOKENS, *vocabulary])}
    inner = Inner(models.WordLevel(entries, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    inner.decoder = decoders.Fuse()
    return inner


def _most_frequent(symbols: Iterable[Iterable[str]], vocab_size: int) -> list[str]:
    """The symbols of all texts that fit into a vocabulary beside the special ones."""
    counts: Counter[str] = Counter()
    for text in symbols:
        counts.update(text)
    ranked = sorted(counts, key=lambda symbol: (-counts[symbol], symbol))
    return ranked[: vocab_size - len(SPECIAL_TOKENS)]


def _characters(config: CharacterConfig, texts: Iterable[str]) -> tokenizers.Tokenizer:
    return _framed(_single_symbols(_most_frequent(texts, config.vocab_size), r"[\s\S]"))


def _words(config: WordsConfig, texts: Iterable[str]) -> tokenizers.Tokenizer:
    kept = _most_frequent((text.split() for text in texts), config.vocab_size)
    return _framed(whole_words([*SPECIAL_TOKENS, *(w for w in kept if w not in SPECIAL_TOKENS)]))


def whole_words(entries: Sequence[str], unknown: str = "[UNK]") -> tokenizers.Tokenizer:
    """A tokenizer for given words that spaces part, without a frame."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models, pre_tokenizers

    ids = {entry: id for id, entry in enumerate(entries)}
    inner = Inner(models.WordLevel(ids, unk_token=unknown))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return inner


def _symbols(config: SymbolConfig, alphabet: str) -> tokenizers.Tokenizer:
    from tokenizers import normalizers

    letters = list(dict.fromkeys(alphabet))
    where = "tokenizer.alphabet"
    if len(letters) < len(alphabet):
        mend = f"--tokenizer.alphabet {''.join(letters)}"
        raise UserError("the alphabet repeats a letter", where=where, mend=mend)
    size = len(letters) + (len(letters) ** config.k if config.k > 1 else 0)
    if size > _LARGEST_FIXED:
        what = f"{len(letters)} letters in {config.k}-mers make {size:,} entries"
        raise UserError(what, where="tokenizer.k", mend=f"at most {_LARGEST_FIXED:,}; a smaller k")
    vocabulary = letters.copy()
    pattern = r"[\s\S]"
    if config.k > 1:
        vocabulary += map("".join, itertools.product(letters, repeat=config.k))
        escaped = "".join(letter if letter.isalnum() else "\\" + letter for letter in letters)
        pattern = f"[{escaped}]{{{config.k}}}|{pattern}"
    inner = _single_symbols(vocabulary, pattern)
    cased = [letter for letter in letters if letter.lower() != letter.upper()]
    if cased and all(letter.isupper() for letter in cased):
        folds = [normalizers.Replace(letter.lower(), letter) for letter in cased]
        inner.normalizer = normalizers.Sequence(folds)
    return _framed(inner)
