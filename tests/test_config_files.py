from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfsup import recipes
from selfsup.config import (
    PretrainConfig,
    SourceConfig,
    WordPieceConfig,
)
from selfsup.config_files import dump_yaml, load_config, read_yaml, schema, split_overrides
from selfsup.errors import UserError


def load(tmp_path: Path, text: str = "", *overrides: str, base: Any = None) -> PretrainConfig:
    files = []
    if text:
        file = tmp_path / "run.yaml"
        file.write_text(text, encoding="utf-8")
        files = [file]
    return load_config(PretrainConfig, base=base, files=files, overrides=overrides)


def complaint(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{tmp_path}/", "")


# --- merging


def test_layers_win_in_their_order(tmp_path: Path) -> None:
    base = recipes.get("bert-mini")
    text = "train:\n  batch_size: 64\n  clip: 2\n"
    config = load(tmp_path, text, "--train.batch_size", "128", base=base)
    assert config.train.batch_size == 128
    assert config.train.clip == 2
    assert config.model == base.model


def test_later_files_win(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text("seed: 1\ntrain: {clip: 3}\n")
    second.write_text(json.dumps({"seed": 2, "data": {"cache": "\U0001f600"}}))
    config = load_config(PretrainConfig, files=[first, second])
    assert (config.seed, config.train.clip, config.data.cache) == (2, 3, "\U0001f600")


def test_yaml_numbers_and_words(tmp_path: Path) -> None:
    text = "train: {optimizer: {lr: 1e-4, eps: 1.e-8}}\ndata: {cache: no}\nrecipe: 2020-01-01\n"
    config = load(tmp_path, text)
    assert config.train.optimizer.lr == 1e-4
    assert config.train.optimizer.eps == 1e-8
    assert config.data.cache == "no"
    assert config.recipe == "2020-01-01"


@pytest.mark.parametrize("order", [1, -1])
def test_another_kind_drops_the_old_keys(tmp_path: Path, order: int) -> None:
    base = recipes.get("bert-mini").model_dump()
    base["train"]["optimizer"] |= {"lr": 0.5, "weight_decay": 0.5}
    pairs = [["--train.optimizer.momentum", "0.9"], ["--train.optimizer.kind=muon"]]
    tokens = [token for pair in pairs[::order] for token in pair]
    optimizer = load(tmp_path, "", *tokens, base=base).train.optimizer
    assert optimizer.kind == "muon"
    assert optimizer.momentum == 0.9
    assert (optimizer.lr, optimizer.weight_decay) == (5e-3, 0.01)


def test_the_same_kind_keeps_its_keys(tmp_path: Path) -> None:
    base = {"train": {"optimizer": {"kind": "adamw", "lr": 0.5}}}
    text = "train: {optimizer: {kind: adamw, eps: 1e-3}}\n"
    assert load(tmp_path, text, base=base).train.optimizer.lr == 0.5


def test_a_kind_that_is_a_mere_choice_keeps_its_section(tmp_path: Path) -> None:
    base = {"train": {"schedule": {"kind": "linear", "warmup": 0.2}}}
    config = load(tmp_path, "", "--train.schedule.kind", "cosine", base=base)
    assert (config.train.schedule.kind, config.train.schedule.warmup) == ("cosine", 0.2)


def test_a_section_without_kind_is_the_default_one(tmp_path: Path) -> None:
    config = load(tmp_path, "tokenizer: {vocab_size: 1000}\n")
    assert (config.tokenizer.kind, config.tokenizer.vocab_size) == ("wordpiece", 1000)


@pytest.mark.parametrize(("said", "value"), [("auto", "auto"), ("true", True), ("false", False)])
def test_accents_by_the_text_or_as_said(tmp_path: Path, said: str, value: str | bool) -> None:
    by_file = load(tmp_path, f"tokenizer: {{strip_accents: {said}}}\n")
    by_flag = load(tmp_path, "", "--tokenizer.strip_accents", said)
    assert by_file.tokenizer == by_flag.tokenizer == WordPieceConfig(strip_accents=value)
    assert load(tmp_path, "").tokenizer == WordPieceConfig(strip_accents="auto")


def test_lists_by_number(tmp_path: Path) -> None:
    text = "data: {sources: [{path: a, weight: 2}]}\n"
    flags = ["--data.sources.0.path", "b", "--data.sources.1.path", "c"]
    sources = load(tmp_path, text, *flags, "--train.optimizer.betas.1=0.5")
    assert sources.data.sources == (SourceConfig(path="b", weight=2), SourceConfig(path="c"))
    assert sources.train.optimizer.betas == (0.9, 0.5)
    alone = load(tmp_path, "", "--data.sources.0.path", "x")
    assert alone.data.sources == (SourceConfig(path="x"),)
    after_kind = ["--train.optimizer.kind=muon", "--train.optimizer.betas.0=0.5"]
    assert load(tmp_path, "", *after_kind).train.optimizer.betas == (0.5, 0.98)


def test_a_list_in_a_file_replaces(tmp_path: Path) -> None:
    base = {"data": {"sources": [{"path": "a"}, {"path": "b"}]}}
    config = load(tmp_path, "data: {sources: [{path: c}]}\n", base=base)
    assert [s.path for s in config.data.sources] == ["c"]


def test_flag_values(tmp_path: Path) -> None:
    flags = ["--train.compile", "--train.tensorboard", "false", "--model.window=null"]
    flags += ["--data.cache", "123", "--train.budget", "3e6 tokens", "--seed", "7"]
    flags += ["--train.optimizer.betas", "[0.8, 0.9]", "--train.batch-size=8"]
    config = load(tmp_path, "model: {window: 64}\n", *flags)
    assert config.train.compile is True
    assert config.train.tensorboard is False
    assert config.model.window is None
    assert config.data.cache == "123"
    assert str(config.train.budget) == "3e+06 tokens"
    assert (config.seed, config.train.batch_size) == (7, 8)
    assert config.train.optimizer.betas == (0.8, 0.9)


def test_nothing_given_is_the_default(tmp_path: Path) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    assert load_config(PretrainConfig, files=[empty]) == PretrainConfig()


def test_the_base_is_left_alone(tmp_path: Path) -> None:
    base = {"train": {"clip": 1.0}, "data": {"sources": [{"path": "a"}]}}
    before = json.dumps(base)
    load(tmp_path, "train: {clip: 2}\n", "--data.sources.0.path", "b", base=base)
    assert json.dumps(base) == before


# --- the command line's tokens


def test_split_overrides() -> None:
    tokens = ["bert-mini", "--train.compile", "x.txt", "--train.clip", "-1", "--json", "--a.b=c=d"]
    overrides, rest = split_overrides(PretrainConfig, [*tokens, "--", "--x.y", "1"])
    assert rest == ["bert-mini", "x.txt", "--json", "--", "--x.y", "1"]
    assert [(o.label, o.text) for o in overrides] == [
        ("--train.compile", None),
        ("--train.clip", "-1"),
        ("--a.b", "c=d"),
    ]


# --- complaints


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "train:\n  batch_size: 64\n  warmpup: 3\n",
            "run.yaml:3: unknown key 'train.warmpup'; did you mean 'train.schedule.warmup'?",
        ),
        (
            "train:\n  schedule:\n    warmpup: 3\n",
            "run.yaml:3: unknown key 'train.schedule.warmpup'; did you mean 'warmup'?",
        ),
        (
            "train:\n  learning_rate: 3\n",
            "run.yaml:2: unknown key 'train.learning_rate'; did you mean 'train.optimizer.lr'?",
        ),
        (
            "train.clip: 3\n",
            "run.yaml:1: unknown key 'train.clip'; in a file, sections are nested: one key a level",
        ),
        (
            "tokenizer:\n  kind: bpe\n  lowercase: true\n",
            (
                "run.yaml:3: unknown key 'tokenizer.lowercase'; "
                "it belongs to kind 'wordpiece' or 'file'"
            ),
        ),
        (
            "data:\n  sources:\n    - path: a\n    - pth: b\n",
            "run.yaml:4: unknown key 'data.sources.1.pth'; did you mean 'path'? (and 1 more)",
        ),
        (
            "seed: 1\nqqqqqq: 2\n",
            (
                "run.yaml:2: unknown key 'qqqqqq'; "
                "known here: recipe, seed, init, data, tokenizer, model, objective, train"
            ),
        ),
        (
            "tokenizer: {kind: bpee}\n",
            (
                "run.yaml:1: tokenizer: kind must be one of "
                "wordpiece, bpe, characters, words, symbols, file, not 'bpee'; did you mean 'bpe'?"
            ),
        ),
        (
            "model: {norm: layernrom}\n",
            (
                "run.yaml:1: model.norm: must be one of layernorm, rmsnorm, not 'layernrom'; "
                "did you mean 'layernorm'?"
            ),
        ),
        (
            "train:\n  batch_size: many\n",
            "run.yaml:2: train.batch_size: must be a whole number, not 'many'",
        ),
        (
            "train:\n  batch_size: true\n",
            "run.yaml:2: train.batch_size: must be a number, not true",
        ),
        (
            "train:\n  batch_size: -3\n",
            "run.yaml:2: train.batch_size: must be greater than 0, not -3",
        ),
        (
            "train: {optimizer: {betas: [1, 2, 3]}}\n",
            "run.yaml:1: train.optimizer.betas: must have 2 items, not 3",
        ),
        ("train:\n  - 3\n", "run.yaml:1: train: must be a section of keys, not a list"),
        ("data: {sources: [{weight: 2}]}\n", "run.yaml:1: data.sources.0.path: is missing"),
        (
            "train: {budget: 20 parsecs}\n",
            (
                "run.yaml:1: train.budget: '20 parsecs' is no budget; "
                "write '20 minutes', '1000 steps' or '3e6 tokens'"
            ),
        ),
        (
            "data:\n  length: 1024\n",
            "run.yaml:2: data.length (1024) must not exceed model.max_length (512)",
        ),
        (
            "train:\n  batch_size: 33\n  processes: 2\n",
            (
                "run.yaml:3: train: batch_size (33) must be a multiple of "
                "accumulate x processes (1 x 2)"
            ),
        ),
        (
            "train: {clip: x, log_every: 0}\nseed: -1\n",
            "run.yaml:2: seed: must be at least 0, not -1 (and 2 more)",
        ),
        (
            "train:\n  clip: 1\n  keep: 1\n  clip: 2\n",
            "run.yaml:4: duplicate key 'train.clip' (first on line 2)",
        ),
        ("- 1\n", "run.yaml:1: must be a mapping of keys to values"),
        ("? [a]\n: 1\n", "run.yaml:1: a key must be a plain word"),
        ("a: &x {b: *x}\n", "run.yaml: an alias contains itself"),
    ],
)
def test_complaints_about_files(tmp_path: Path, text: str, message: str) -> None:
    assert complaint(tmp_path, text) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--train.stesp", "5"],
            "--train.stesp: unknown key 'train.stesp'; did you mean 'budget'?",
        ),
        (
            ["--train.batch_size=x"],
            "--train.batch_size: must be a whole number, not 'x'",
        ),
        (["--train.batch_size"], "--train.batch_size: needs a value"),
        (["--train.compile=maybe"], "--train.compile: must be true or false, not 'maybe'"),
        (
            ["--train.optimizer.adam_lr", "1"],
            (
                "--train.optimizer.adam_lr: unknown key 'train.optimizer.adam_lr'; "
                "it belongs to kind 'muon'"
            ),
        ),
        (
            ["--data.sources.1.path", "x"],
            "--data.sources.1.path: data.sources.1: there are 0 items; the next is 0",
        ),
        (
            ["--train.processes", "2", "--train.batch_size", "33"],
            (
                "--train.batch_size: train: batch_size (33) must be a multiple of "
                "accumulate x processes (1 x 2)"
            ),
        ),
        (
            ["--model.causal", "true"],
            (
                "--model.causal: model: a decoder (causal true) has no pooler, no segments "
                "(type_vocab_size 0) and no window"
            ),
        ),
        (["--train", "3"], "--train: must be a section of keys, not 3"),
        (["x"], "'x' is no setting; write --section.key value or --section.key=value"),
    ],
)
def test_complaints_about_flags(tmp_path: Path, flags: list[str], message: str) -> None:
    assert complaint(tmp_path, "", *flags) == message


def test_a_clash_of_file_and_flag_is_shown_at_the_flag(tmp_path: Path) -> None:
    message = complaint(tmp_path, "train: {batch_size: 33}\n", "--train.processes=2")
    assert message.startswith("--train.processes: train: batch_size (33) must be")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nope\.yaml: no such file"):
        read_yaml(tmp_path / "nope.yaml")
    with pytest.raises(UserError, match=r"cannot be read"):
        read_yaml(tmp_path)
    broken = tmp_path / "broken.yaml"
    broken.write_bytes(b"a: \xff\n")
    with pytest.raises(UserError, match=r"broken\.yaml: not UTF-8 \(byte 3\)"):
        read_yaml(broken)
    broken.write_text("a: 1\nb: [1\nc: 2\n")
    with pytest.raises(UserError, match=r"broken\.yaml:3: not YAML: "):
        read_yaml(broken)
    broken.write_text("a: \x01\n")
    with pytest.raises(UserError, match=r"broken\.yaml: not YAML: "):
        read_yaml(broken)


# --- out again


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_recipes_survive_the_way_through_yaml(tmp_path: Path, name: str) -> None:
    config = recipes.get(name)
    text = dump_yaml(config)
    assert text.startswith("# yaml-language-server: $schema=selfsup.schema.json\n")
    assert load(tmp_path, text) == config


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=20)
    | st.sampled_from(["1e-4", "1_0", "null", "true", "no", "~", "2020-01-01", ".5", "0x1F", ""]),
    number=st.floats(min_value=1e-300, max_value=1e300),
)
def test_text_stays_text_and_numbers_numbers(
    tmp_path_factory: pytest.TempPathFactory, text: str, number: float
) -> None:
    config = PretrainConfig.model_validate(
        {"data": {"cache": text, "sources": [{"path": "x", "weight": number}]}}
    )
    file = tmp_path_factory.getbasetemp() / "out.yaml"
    file.write_text(dump_yaml(config), encoding="utf-8", newline="")
    assert load_config(PretrainConfig, files=[file]) == config


def test_schema_describes_every_key() -> None:
    described = schema(PretrainConfig)
    assert described["properties"].keys() == PretrainConfig.model_fields.keys()
    assert "Largest norm of the gradient" in json.dumps(described)
