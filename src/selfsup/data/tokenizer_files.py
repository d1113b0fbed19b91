"""Tokenizers as files: `tokenizer.json`, `vocab.txt`, and what a folder says beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfsup.data.paths import expanded
from selfsup.data.tokenizer_roles import FRAME_ROLES, HUB_ROLES
from selfsup.data.tokenizer_training import wordpiece_from_file
from selfsup.errors import UserError

if TYPE_CHECKING:
    import tokenizers

_GENERAL = {"PreTrainedTokenizer", "TokenizersBackend"}
"""What transformers calls a tokenizer that is as its file says."""
_CLASSES = {
    "bert": "BertTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
}
"""Kinds of models, and the tokenizer that transformers takes where a folder names none."""
_PREFIXING = {"GPT2Tokenizer", "Qwen2Tokenizer", "RobertaTokenizer"}
"""They put their own `add_prefix_space` in place of `tokenizer.json`'s."""
_FOLDING = {
    f"{kind}Tokenizer"
    for kind in ("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "Lxmert", "MobileBert")
}
"""They read `vocab.txt` as BERT does, and put their own ways with case in place of `tokenizer.json`'s."""


def open_tokenizer(path: Path, lowercase: bool) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The library's tokenizer, and the names of its special tokens by role; see `load_tokenizer`."""
    settings: dict[str, Any] = {}
    file = expanded(path)
    whole = file.is_dir()
    if whole:
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            settings |= _read_settings(file / name)
        files = [file / name for name in ("tokenizer.json", "vocab.txt")]
        held = next((candidate for candidate in files if candidate.is_file()), None)
        if held is None:
            raise UserError("the folder holds no tokenizer.json and no vocab.txt", where=str(path))
        file = held
    if not file.is_file():
        raise UserError("no such tokenizer", where=str(path))
    names = {
        role: str(value.get("content", "")) if isinstance(value, dict) else str(value)
        for hub, role in (HUB_ROLES | FRAME_ROLES).items()
        if (value := settings.get(hub)) is not None
    }
    named = _class(settings, file)
    if file.suffix == ".txt":
        if whole and named not in {None, *_FOLDING, *_GENERAL}:
            what = f"'{named}' reads texts in its own way, which vocab.txt alone does not tell"
            raise UserError(what, where=str(file), mend="use transformers for this tokenizer")
        return _wordpiece(settings, file, lowercase, names), names
    from tokenizers import Tokenizer as Inner

    try:
        inner = Inner.from_file(str(file))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"no tokenizer can be read ({error})", where=str(file)) from error
    _check_frame(inner, file)
    state = json.loads(file.read_text(encoding="utf-8"))
    if named in _PREFIXING:
        _check_prefix_space(settings, file, state)
    elif named in _FOLDING and whole:
        _check_folding(settings, file, state)
    return inner, names


def _class(settings: Mapping[str, Any], file: Path) -> str | None:
    """The tokenizer's class in transformers, without `Fast`; where none is named, by the model's kind."""
    config = _read_settings(file.with_name("config.json"))
    said = settings.get("tokenizer_class") or config.get("tokenizer_class")
    named = said or _CLASSES.get(str(config.get("model_type")))
    return None if named is None else str(named).removesuffix("Fast")


def _check_frame(inner: tokenizers.Tokenizer, file: Path) -> None:
    """Refuse a template with tokens that it does not define (the library panics there), or that have ids
    beyond the vocabulary.
    """
    if inner.post_processor is None:
        return
    state = json.loads(inner.post_processor.__getstate__())
    for step in state.get("processors") or [state]:
        if step.get("type") != "TemplateProcessing":
            continue
        known = step["special_tokens"]
        for piece in (*step["single"], *step["pair"]):
            token = piece.get("SpecialToken", {}).get("id")
            if token is not None and token not in known:
                what = f"post_processor: '{token}' stands in the template, not in special_tokens"
                raise UserError(what, where=str(file), mend="the file is damaged; fetch it again")
        for token, said in known.items():
            if strange := [id for id in said["ids"] if inner.id_to_token(id) is None]:
                what = f"post_processor: '{token}' has the id {strange[0]}, which is no token's"
                raise UserError(what, where=str(file), mend="the file is damaged; fetch it again")


def _wordpiece(
    settings: Mapping[str, Any], file: Path, lowercase: bool, names: Mapping[str, str]
) -> tokenizers.Tokenizer:
    strip = settings.get("strip_accents")
    return wordpiece_from_file(
        file,
        bool(settings.get("do_lower_case", lowercase)),
        None if strip is None else bool(strip),
        bool(settings.get("tokenize_chinese_chars", True)),
        names,
    )


def _check_folding(settings: Mapping[str, Any], file: Path, state: Mapping[str, Any]) -> None:
    """Refuse a folder whose two files disagree about case, accents, or Chinese characters."""
    here = state.get("normalizer") or {}
    if here.get("type") != "BertNormalizer":
        return
    fold = bool(settings.get("do_lower_case", True))
    strip = settings.get("strip_accents")
    kept = here["strip_accents"]
    ways: list[tuple[str, bool, bool]] = [
        ("lowercase", here["lowercase"], fold),
        (
            "strip_accents",
            here["lowercase"] if kept is None else kept,
            fold if strip is None else bool(strip),
        ),
        (
            "handle_chinese_chars",
            here["handle_chinese_chars"],
            bool(settings.get("tokenize_chinese_chars", True)),
        ),
    ]
    for key, mine, theirs in ways:
        if mine != theirs:
            raise _disagree(key, mine, theirs, file)


def _disagree(key: str, mine: bool, theirs: bool, file: Path) -> UserError:
    here, there = str(mine).lower(), str(theirs).lower()
    what = f"{key} is {here}, and transformers takes {there}, by tokenizer_config.json"
    return UserError(what, where=str(file), mend="make the two files say the same")


def _check_prefix_space(settings: Mapping[str, Any], file: Path, state: Mapping[str, Any]) -> None:
    """Refuse a folder whose two files disagree about the space before a text."""
    said = bool(settings.get("add_prefix_space"))
    first = state.get("pre_tokenizer") or {}
    for step in first.get("pretokenizers") or [first]:
        if step.get("type") == "ByteLevel" and step["add_prefix_space"] != said:
            raise _disagree("add_prefix_space", step["add_prefix_space"], said, file)


def _read_settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"broken JSON ({error})", where=str(file)) from error
    if not isinstance(settings, dict):
        raise UserError("a JSON object is expected", where=str(file))
    return settings


def save_tokenizer(
    inner: tokenizers.Tokenizer,
    names: Mapping[str, str],
    folder: Path,
    max_length: int,
    types: bool,
) -> None:
    """Write a tokenizer and the names of its special tokens by role; see `Tokenizer.save`."""
    folder.mkdir(parents=True, exist_ok=True)
    inner.save(str(folder / "tokenizer.json"))
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        # said, since the default for this class differs between versions of transformers
        "model_input_names": ["input_ids", *(["token_type_ids"] * types), "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    settings |= {
        hub: names[role] for hub, role in (HUB_ROLES | FRAME_ROLES).items() if role in names
    }
    normalizer = json.loads(inner.to_str()).get("normalizer") or {}
    if normalizer.get("strip_accents") is not None:  # else BertTokenizer would strip them by itself
        settings["do_lower_case"] = normalizer["lowercase"]
        settings["strip_accents"] = normalizer["strip_accents"]
    written = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(written, encoding="utf-8")
