"""What special tokens are for, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tokenizers

ROLES = ("pad", "unknown", "cls", "sep", "mask")
"""What the special tokens are for, in the order of `SPECIAL_TOKENS`."""

HUB_ROLES = dict(
    zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), ROLES, strict=True)
)
FRAME_ROLES = {"bos_token": "begin", "eos_token": "end"}
"""What decoders call the tokens around a text; only where a folder or `for_decoder` names them."""
_USUAL_FRAMES = {"begin": ("<|endoftext|>", "<s>"), "end": ("<|endoftext|>", "</s>")}
_USUAL_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unknown": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}


def resolve_names(vocabulary: dict[str, int], given: dict[str, str]) -> dict[str, str]:
    """Role to token: the given ones, else the usual ones that the vocabulary holds."""
    names: dict[str, str] = {}
    for role in (*ROLES, *FRAME_ROLES.values()):
        candidates = (given[role],) if role in given else _USUAL_NAMES.get(role, ())
        token = next((token for token in candidates if token in vocabulary), None)
        if token is not None:
            names[role] = token
    return names


def frame_id(
    vocabulary: dict[str, int], ids: dict[str, int], role: str, otherwise: int | None
) -> int | None:
    """A decoder's begin or end token: the named one, a usual one, or that of encoders."""
    if role in ids:
        return ids[role]
    usual = (vocabulary[token] for token in _USUAL_FRAMES[role] if token in vocabulary)
    return next(usual, otherwise)


def folds(normalizer: Any) -> bool:
    """Whether a normalizer may change how many bytes a text has."""
    if not isinstance(normalizer, dict):
        return False
    if normalizer.get("type") == "Sequence":
        return any(folds(part) for part in normalizer["normalizers"])
    given = str((normalizer.get("pattern") or {}).get("String", ""))
    content = str(normalizer.get("content", ""))
    space = given == " " and content == "▁"
    capital = (
        bool(given) and given.upper() == content and len(given.encode()) == len(content.encode())
    )
    return not (space or capital or (normalizer.get("type") == "Prepend"))


def mark_special(inner: tokenizers.Tokenizer, tokens: list[str]) -> None:
    """Let the tokens be recognized in running text; ids do not change."""
    from tokenizers import AddedToken

    known = {token.content for token in inner.get_added_tokens_decoder().values() if token.special}
    missing = [token for token in tokens if token not in known]
    inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in missing])
