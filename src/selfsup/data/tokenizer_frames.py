"""The special tokens around a text: those that encoders are trained with, and those of a tokenizer's own."""

from __future__ import annotations

from selfsup.data.tokenizers import Tokenizer
from selfsup.errors import UserError


def for_encoder(tokenizer: Tokenizer) -> Tokenizer:
    """The same vocabulary with the frame of training: `[CLS] A [SEP]`, `[CLS] A [SEP] B [SEP]`.

    As it is where that is its frame already, or where it has no such tokens.
    """
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    usual = _usual(tokenizer, pair=False, types=False) and _usual(tokenizer, pair=True, types=True)
    if cls is None or sep is None or usual:
        return tokenizer
    from tokenizers import Tokenizer as Inner
    from tokenizers.processors import TemplateProcessing

    inner = Inner.from_str(tokenizer.inner.to_str())
    first, last = tokenizer.token(cls), tokenizer.token(sep)
    inner.post_processor = TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=[(first, cls), (last, sep)],
    )
    return Tokenizer(inner, tokenizer.names)


def check_frame(tokenizer: Tokenizer, where: str, *, pair: bool, types: bool) -> None:
    """Refuse a tokenizer that puts other special tokens around a text than `[CLS] A [SEP]`.

    Args:
        tokenizer: of a model of another maker, which was trained with its frame.
        where: the model's folder, for messages.
        pair: two texts are read at once.
        types: the model tells them apart by their types.

    Raises:
        UserError: it does.
    """
    if not _usual(tokenizer, pair=pair, types=types):
        read = tokenizer.inner.encode("a", "b" if pair else None).tokens
        what = f"its tokenizer reads {'two texts' if pair else 'a text'} as '{' '.join(read)}'"
        usual = "[CLS] a [SEP] b [SEP]" if pair else "[CLS] a [SEP]"
        mend = f"selfsup reads '{usual}' alone here; use transformers for this model"
        raise UserError(what, where=where, mend=mend)


def _usual(tokenizer: Tokenizer, *, pair: bool, types: bool) -> bool:
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    first, second = (tokenizer.encode(text, special=False).ids.tolist() for text in ("a", "b"))
    found = tokenizer.inner.encode("a", "b" if pair else None)
    ids = [cls, *first, sep, *second, sep] if pair else [cls, *first, sep]
    kinds = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    return found.ids == ids and (not (pair and types) or found.type_ids == kinds)
