"""Text out of tokens that come one by one: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Sequence
from itertools import islice

from selfsup.data.tokenizers import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LETTERS = "ï¿½"  # how a byte-level vocabulary writes the bytes of that character
_ASIDE = "ï¿¿"  # and those of U+FFFF, which no text has
_CONTEXT = 8  # tokens of the prompt that decide whether a space stands before the first word


class _WholeCharacters:
    """Tokens, in groups that may be decoded apart from those before and after them.

    A tokenizer that falls back to bytes decodes a run of them at once, and gives up the whole run for one
    byte that is wrong.  So its bytes leave here as whole characters, those that are none not at all.  All
    other tokens, bytes of a byte-level vocabulary too, are groups of their own.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._bytes, self._special = tokenizer.byte_tokens, tokenizer.special_ids
        self._ids = {byte: id for id, byte in self._bytes.items()}
        self._begun = b""

    def add(self, id: int) -> list[int]:
        """The group that one more token makes whole; empty: none yet."""
        if id in self._bytes:
            begun = self._begun + bytes([self._bytes[id]])
            text, used = utf_8_decode(begun, "ignore", False)
            self._begun = begun[used:]
            return [self._ids[byte] for byte in text.encode()]
        if self._bytes and id in self._special:
            return []  # is not decoded, and does not part bytes
        self._begun = b""
        return [id]


class TokenText:
    """The text of one row, as it grows.

    A character whose bytes are spread over tokens is held back until it is whole, and so is what may
    be the beginning of a stop string; bytes that never become a character are left out.  What is given
    out is never taken back.

    Args:
        tokenizer: of the model.
        prompt: its token ids.
        stops: texts at which writing ends.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stops: Sequence[str]) -> None:
        self.tokenizer, self.stops = tokenizer, stops
        self._characters = _WholeCharacters(tokenizer)
        decoder = tokenizer.inner.decoder
        self._byte_level = decoder is not None and decoder.decode([_LETTERS]) == _BROKEN
        groups = [group for id in prompt if (group := self._characters.add(int(id)))]
        self._ids = [id for group in groups[-_CONTEXT:] for id in group]
        self._begin, self._boundary = 0, len(self._ids)
        self._shown = len(self._text())
        self._held = ""
        self.stopped = False
        """A stop string was met."""

    def add(self, id: int) -> str:
        """What can be given out after one more token."""
        group = self._characters.add(id)
        if not group:
            return ""
        self._ids += group
        now = self.tokenizer.decode(self._ids[self._begin :])
        whole = self._whole(now)
        fresh = whole[self._shown :]
        self._shown = max(self._shown, len(whole))
        if fresh and not now.endswith(_BROKEN):  # that one might still become whole
            # tokens before the last boundary no longer matter
            self._begin, self._boundary = self._boundary, len(self._ids)
            self._shown = len(self._text())
        return self._release(fresh)

    def _text(self) -> str:
        return self._whole(self.tokenizer.decode(self._ids[self._begin :]))

    def _whole(self, now: str) -> str:
        """A text without what stands for bytes that are no character, or not yet.

        Other vocabularies than byte-level ones have the replacement character as one like others.
        """
        if not self._byte_level or _BROKEN not in now:
            return now
        special = self.tokenizer.special_ids
        tokens = [self.tokenizer.token(i) for i in self._ids[self._begin :] if i not in special]
        letters = "".join(tokens)
        if _LETTERS in letters:  # the character itself, not what stands for broken bytes
            rest = iter(letters.replace(_LETTERS, _ASIDE))
            now = self.tokenizer.inner.decoder.decode(
                ["".join(islice(rest, len(t))) for t in tokens]
            )
        return now.replace(_BROKEN, "").replace("\uffff", _BROKEN)

    def finish(self) -> str:
        """The rest, when no more tokens come; an unfinished character is left out."""
        rest, self._held = self._held, ""
        return rest

    def _release(self, fresh: str) -> str:
        text = self._held + fresh
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        keep = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that begins the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
