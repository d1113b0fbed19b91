"""The letters of sequences, found in them: DNA, RNA, proteins, and other small alphabets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from selfsup.errors import UserError

_BASES = "NRYSWKMBDHV"
_SEQUENCES = {"ACGT": _BASES, "ACGU": _BASES, "ACDEFGHIKLMNPQRSTVWY": "X*"}
"""Alphabets of DNA, RNA and proteins, each with what else stands in such sequences: no certain letters."""
_OF_SEQUENCES = 0.98
"""The share of letters that makes a text one of them; a tenth at most, N and X aside, may be uncertain."""
_FOUND_COVERAGE = 0.9999
_LARGEST_FOUND = 256


def found_alphabet(texts: Iterable[str]) -> str:
    """The letters of sequences: those of DNA, RNA or proteins, in capitals, or all but the rarest characters.

    White space is no letter, and gaps (`-`, `.`) are none of sequences.

    Raises:
        UserError: there are more than 256.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts = Counter({c: n for c, n in counts.items() if not c.isspace()})
    capitals: Counter[str] = Counter()
    for character, count in counts.items():
        if character not in "-.":
            capitals[character.upper()] += count
    for alphabet, beside in _SEQUENCES.items():
        known = sum(capitals[c] for c in alphabet)
        unclear = sum(capitals[c] for c in beside)
        enough = all(capitals[c] for c in alphabet) and known >= 9 * (unclear - capitals[beside[0]])
        if enough and known + unclear >= _OF_SEQUENCES * capitals.total():
            return alphabet
    total = counts.total()
    found, covered = "", 0
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= _FOUND_COVERAGE * total:
            break
        found, covered = found + character, covered + count
    if not 0 < len(found) <= _LARGEST_FOUND:
        what = (
            f"the data hold {len(found):,} different characters: no alphabet can be taken from them"
        )
        mend = "name the letters, or use --tokenizer.kind characters"
        raise UserError(what, where="tokenizer.alphabet", mend=mend)
    return "".join(sorted(found))
