"""Tokenizers: trained, fixed or loaded, all with one face over Hugging Face's `tokenizers`."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from selfsup.config import FileTokenizerConfig, TokenizerConfig
from selfsup.data.tokenizer_files import open_tokenizer, save_tokenizer
from selfsup.data.tokenizer_roles import folds, frame_id, mark_special, resolve_names
from selfsup.data.tokenizer_scripts import SENTENCE_ENDS, marked_words, strips_accents
from selfsup.data.tokenizer_training import SPECIAL_TOKENS, Progress, Say, build_tokenizer
from selfsup.errors import UserError, nearest

if TYPE_CHECKING:
    import tokenizers

__all__ = ["SPECIAL_TOKENS", "Encoded", "Tokenizer", "load_tokenizer", "train_tokenizer"]

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_UNUSED = re.compile(r"\[unused\d+\]")
# A line end or a space between visible characters parts words in every tokenizer that splits at spaces.
_CUT = re.compile(r"(?<=\S\n)(?=\S)|(?<=\S)(?= \S)")
_LONG = 100_000
_AT_ONCE = 1 << 21  # characters: what the library says of them takes 32 bytes each
_SMALL = 40


class Encoded(NamedTuple):
    """One encoded text (or pair)."""

    ids: NDArray[np.int64]
    """(tokens,)"""
    words: NDArray[np.int32]
    """(tokens,) number of the word a token belongs to, counted through a pair; -1 for special
    ones, except [UNK]."""
    offsets: NDArray[np.int64]
    """(tokens, 2) begin and end in characters of the token's own text; (0, 0) for added ones."""


class Tokenizer:
    """Text to token ids and back.

    Args:
        inner: the Hugging Face tokenizer.  Padding and truncation that it carries are
            switched off.
        names: role (`pad`, `unknown`, `cls`, `sep`, `mask`; of decoders also `begin` and `end`) to
            token; by default the usual names that the vocabulary holds.
    """

    def __init__(self, inner: tokenizers.Tokenizer, names: dict[str, str] | None = None) -> None:
        # Unset, the library warns and switches itself to one thread after a fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        inner.no_padding()
        inner.no_truncation()
        self.inner = inner
        vocabulary: dict[str, int] = inner.get_vocab(with_added_tokens=True)
        self.names = resolve_names(vocabulary, names or {})
        mark_special(inner, list(self.names.values()))
        ids = {role: vocabulary[token] for role, token in self.names.items()}
        self.pad_id: int | None = ids.get("pad")
        self.unknown_id: int | None = ids.get("unknown")
        self.cls_id: int | None = ids.get("cls")
        self.sep_id: int | None = ids.get("sep")
        self.mask_id: int | None = ids.get("mask")
        self.begin_id: int | None = frame_id(vocabulary, ids, "begin", self.cls_id)
        """What a decoder reads before a text."""
        self.end_id: int | None = frame_id(vocabulary, ids, "end", self.sep_id)
        """What a decoder writes after a text."""
        self.vocab_size: int = max(vocabulary.values()) + 1
        """Rows that an embedding needs: the largest id + 1, also where ids have gaps."""
        added = inner.get_added_tokens_decoder()
        self.special_ids: frozenset[int] = frozenset(ids.values()) | frozenset(
            id for id, token in added.items() if token.special
        )

    def __repr__(self) -> str:
        """Its size and fingerprint."""
        return f"Tokenizer(vocab_size={self.vocab_size}, fingerprint='{self.fingerprint}')"

    @property
    def lost_id(self) -> int:
        """The id of text that the vocabulary does not hold, and of nothing else; -1: there is none.

        GPT-2 names its end token as the unknown one too; no text is lost there.
        """
        others = {self.begin_id, self.end_id, self.pad_id, self.cls_id, self.sep_id}
        unknown = self.unknown_id
        return -1 if unknown is None or unknown in others else unknown

    @cached_property
    def letters(self) -> str:
        """Of a small alphabet, alone or in words of several letters: at most 40; else empty."""
        tokens = [self.token(id) for id in self.ordinary_ids.tolist()]
        single = [token for token in tokens if len(token) == 1]
        small = len(single) <= _SMALL and set("".join(tokens)) <= set(single)
        return "".join(single) if small else ""

    @cached_property
    def ordinary_ids(self) -> NDArray[np.int64]:
        """(ordinary,) sorted ids without the special and the `[unused…]` ones; for random draws."""
        vocabulary: dict[str, int] = self.inner.get_vocab(with_added_tokens=True)
        unused = {id for token, id in vocabulary.items() if _UNUSED.fullmatch(token)}
        return np.array(sorted(set(vocabulary.values()) - self.special_ids - unused), np.int64)

    @cached_property
    def ends_sentence(self) -> NDArray[np.bool_]:
        """(vocab_size,) whether a token's surface ends a sentence: `.!?。！？।؟…` or a line end."""
        ends = np.zeros(self.vocab_size, np.bool_)
        for id in self.ordinary_ids.tolist():
            ends[id] = self._surface(id).endswith(SENTENCE_ENDS)
        return ends

    @cached_property
    def byte_lengths(self) -> NDArray[np.int64] | None:
        """(vocab_size,) bytes of text in each token, 0 for special ones.

        None where tokens do not add up to the text: WordPiece, whole words, and whatever folds letters, but
        for letters that become capitals, as in alphabets of those: then it is the text in capitals.
        A space that the tokenizer puts before a text counts as one of the text's.
        """
        kind = (self._state.get("model") or {}).get("type")
        apart = _of_type(self._state.get("pre_tokenizer"), "WhitespaceSplit")  # drops spaces
        if kind == "WordPiece" or apart or folds(self._state.get("normalizer")):
            return None
        lengths = np.zeros(self.vocab_size, np.int64)
        for id in self.ordinary_ids.tolist():
            token = self.token(id)
            if self._bytes is not None:
                lengths[id] = len(token)  # each letter stands for a byte
            elif _BYTE.fullmatch(token):
                lengths[id] = 1
            else:
                lengths[id] = len(token.replace("▁", " ").encode())
        return lengths

    def for_decoder(self) -> Tokenizer:
        """The same vocabulary with a decoder's frame: a begin token before a text, nothing after it.

        As it is where the tokenizer names such tokens already.
        """
        if {"begin", "end"} <= set(self.names) or self.begin_id is None or self.end_id is None:
            return self
        from tokenizers import Tokenizer as Inner
        from tokenizers.processors import TemplateProcessing

        inner = Inner.from_str(self.inner.to_str())
        begin, end = self.token(self.begin_id), self.token(self.end_id)
        inner.post_processor = TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A $B:1", special_tokens=[(begin, self.begin_id)]
        )
        return Tokenizer(inner, {**self.names, "begin": begin, "end": end})

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of everything that changes ids."""
        state = json.dumps([self._state, self.names], sort_keys=True)
        return hashlib.sha256(state.encode()).hexdigest()[:16]

    @cached_property
    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.inner.to_str())
        return state

    @cached_property
    def _bytes(self) -> dict[str, int] | None:
        """Letter to byte for byte-level vocabularies, else None."""
        if not _of_type(self._state.get("decoder"), "ByteLevel"):
            return None
        # GPT-2's table: printable bytes stand for themselves, the others follow from 256 on.
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        table = {chr(byte): byte for byte in printable}
        return table | {chr(256 + place): byte for place, byte in enumerate(others)}

    @cached_property
    def byte_tokens(self) -> dict[int, int]:
        """Id to byte of the tokens like `<0xE4>` that decoding joins to characters; most have none."""
        decoder = self._state.get("decoder") or {}
        if not any(_of_type(part, "ByteFallback") for part in decoder.get("decoders") or [decoder]):
            return {}
        vocabulary: dict[str, int] = self.inner.get_vocab(with_added_tokens=True)
        found = ((id, token) for token, id in vocabulary.items() if _BYTE.fullmatch(token))
        return {id: int(token[3:5], 16) for id, token in found}

    def _surface(self, id: int) -> str:
        token = self.token(id)
        if self._bytes is None:
            return token
        letters = (self._bytes.get(letter, 0x3F) for letter in token)
        return bytes(letters).decode(errors="replace")

    def token(self, id: int) -> str:
        """The vocabulary's entry for an id, as it is written there (`##ing`, `Ġthe`).

        Raises:
            UserError: there is none.
        """
        token: str | None = self.inner.id_to_token(id) if id >= 0 else None
        if token is None:
            raise UserError(f"no token has the id {id}", mend=f"ids end at {self.vocab_size - 1}")
        return token

    def id(self, token: str) -> int:
        """The id of a vocabulary entry.

        Raises:
            UserError: the vocabulary does not hold it.
        """
        id: int | None = self.inner.token_to_id(token)
        if id is None:
            known = list(self.inner.get_vocab(with_added_tokens=True))
            raise UserError(f"the vocabulary holds no '{token}'", mend=nearest(token, known))
        return id

    def decode(
        self, ids: Sequence[int] | NDArray[np.integer[Any]], skip_special: bool = True
    ) -> str:
        """The text of token ids; letters that the tokenizer took apart (한 to ᄒ, ᅡ, ᆫ) are put together."""
        plain = [int(id) for id in ids]
        text: str = self.inner.decode(plain, skip_special_tokens=skip_special)
        return unicodedata.normalize("NFC", text) if self._apart else text

    @cached_property
    def _apart(self) -> bool:
        return self._bytes is None and strips_accents(self._state.get("normalizer"))

    @cached_property
    def growing(self) -> Tokenizer:
        """The same for text that grows token by token: its `decode` puts no letters together."""
        same = Tokenizer(self.inner, self.names) if self._apart else self
        same._apart = False
        return same

    def encode(self, text: str, pair: str | None = None, special: bool = True) -> Encoded:
        """Encode a text, or two; never truncated.

        Args:
            text: the text; a special token written out in it (`[MASK]`) becomes that token.
            pair: a second text.
            special: put the tokenizer's frame around it: `[CLS] text [SEP] pair [SEP]`.
        """
        found = self.inner.encode(text, pair, add_special_tokens=special)
        ids = np.array(found.ids, np.int64)
        words = np.array([-1 if word is None else word for word in found.word_ids], np.int32)
        second = np.array([part == 1 for part in found.sequence_ids], np.bool_)
        if pair is not None and second.any():
            words[second] += words[~second].max(initial=-1) + 1
        words[np.isin(ids, list(self.special_ids - {self.unknown_id}))] = -1  # unknown: a word
        return Encoded(ids, words, np.array(found.offsets, np.int64).reshape(-1, 2))

    def encode_batch(self, texts: Sequence[str], special: bool = True) -> list[NDArray[np.int64]]:
        """The ids of each text, in parallel; special tokens around each as in `encode`."""
        found = self.inner.encode_batch_fast(list(texts), add_special_tokens=special)
        return [np.array(encoding.ids, np.int64) for encoding in found]

    def encode_documents(
        self, texts: Sequence[str]
    ) -> tuple[list[NDArray[np.int64]], list[NDArray[np.bool_]]]:
        """The ids of each text without a frame, and where its words start: two lists of (tokens,).

        A special token written out in a text is text like other; where words are looked up as a whole it
        is unknown.  Long texts are encoded in parallel parts, cut where the tokenizer would part words
        anyway, a few at a time.
        """
        ids: list[list[NDArray[np.int32]]] = [[] for _ in texts]
        starts: list[list[NDArray[np.bool_]]] = [[] for _ in texts]
        for owners, parts in _groups(texts, self._may_cut):
            # Not `encode_batch_fast`: it knows no word ids.
            found = self._literal.encode_batch(parts, add_special_tokens=False)
            for owner, encoding in zip(owners, found, strict=True):
                ids[owner].append(np.array(encoding.ids, np.int32))
                starts[owner].append(_word_starts(encoding.word_ids))
        whole = [self._as_text[np.concatenate(own)] for own in ids]
        return whole, [np.concatenate(own) for own in starts]

    @cached_property
    def _literal(self) -> tokenizers.Tokenizer:
        """A copy for which a special token in a text is no special token."""
        from tokenizers import Tokenizer as Inner

        inner = Inner.from_str(self.inner.to_str())
        inner.encode_special_tokens = True
        return inner

    @cached_property
    def _as_text(self) -> NDArray[np.int64]:
        """(vocab_size,) what each id is in a text: special ones are unknown, where there is such a token."""
        ids = np.arange(self.vocab_size, dtype=np.int64)
        if self.lost_id >= 0:
            ids[list(self.special_ids)] = self.lost_id
        return ids

    @cached_property
    def _may_cut(self) -> bool:
        """Whether a text may be cut at a line end, or before a space, without changing its tokens."""
        if any(t["rstrip"] or " " in t["content"] for t in self._state.get("added_tokens", ())):
            return False
        normalizer: Any = self._state.get("normalizer")
        splitter: Any = self._state.get("pre_tokenizer")
        if normalizer is not None and not _of_type(normalizer, "BertNormalizer"):
            return False
        if splitter is not None and _of_type(splitter, "ByteLevel"):
            return not splitter["add_prefix_space"] and bool(splitter.get("use_regex", True))
        parts = _of_type(splitter, "BertPreTokenizer") or _of_type(splitter, "WhitespaceSplit")
        return parts or marked_words(splitter)

    def save(self, folder: Path, max_length: int = 512, *, types: bool = False) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json`, as transformers' AutoTokenizer reads.

        Args:
            folder: made when missing.
            max_length: tokens that the model takes.
            types: whether the model tells the first text of a pair from the second.
        """
        save_tokenizer(self.inner, self.names, folder, max_length, types)


def _of_type(part: Any, kind: str) -> bool:
    return isinstance(part, dict) and part.get("type") == kind


def _cut(text: str) -> Iterator[str]:
    """Parts of a long text, each at least `_LONG` characters where there is a place to cut."""
    begin = 0
    while place := _CUT.search(text, begin + _LONG):
        yield text[begin : place.start()]
        begin = place.start()
    yield text[begin:]


def _groups(texts: Sequence[str], may_cut: bool) -> Iterator[tuple[list[int], list[str]]]:
    """Texts, the long ones in parts, so many together as are encoded at once: owners and parts."""
    owners, parts, size = list[int](), list[str](), 0
    for owner, text in enumerate(texts):
        for part in _cut(text) if len(text) > _LONG and may_cut else [text]:
            owners.append(owner)
            parts.append(part)
            size += len(part)
            if size >= _AT_ONCE:
                yield owners, parts
                owners, parts, size = [], [], 0
    if parts:
        yield owners, parts


def _word_starts(words: Sequence[int | None]) -> NDArray[np.bool_]:
    numbers = np.array(cast("list[int]", words), np.int32)  # None only in a frame
    starts = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=starts[1:])
    return starts


def train_tokenizer(
    config: TokenizerConfig,
    texts: Iterable[str],
    progress: Progress | None = None,
    say: Say | None = None,
) -> Tokenizer:
    """Make the tokenizer that a configuration asks for.

    The same texts give the same tokenizer.  Special tokens are `SPECIAL_TOKENS`, at ids 0 to 4.

    Args:
        config: its kind decides; `file`, and `symbols` with an alphabet, do not read the texts.
        texts: documents to learn from, read once.
        progress: called with the characters read since the last call.
        say: called with what was chosen by the text (accents, combining marks, long words).

    Raises:
        UserError: there is no text, or it gives a smaller vocabulary than asked for.
    """
    if isinstance(config, FileTokenizerConfig):
        return load_tokenizer(Path(config.path), config.lowercase)
    return Tokenizer(build_tokenizer(config, texts, progress, say))


def load_tokenizer(path: Path, lowercase: bool = True) -> Tokenizer:
    """Open a tokenizer that exists.

    Args:
        path: a `tokenizer.json`, a `vocab.txt` (WordPiece, one entry a line), or a folder that
            holds one of them; a folder's `tokenizer_config.json` and `special_tokens_map.json` name
            the special tokens.
        lowercase: for `vocab.txt`, fold case and strip accents; what the folder says of it wins.

    Raises:
        UserError: nothing there that can be read, or a folder whose files contradict each other.
    """
    return Tokenizer(*open_tokenizer(path, lowercase))
