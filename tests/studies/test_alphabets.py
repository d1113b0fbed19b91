"""The study of other alphabets: words for symbols, its controls, resuming, and what it concludes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfsup.errors import UserError
from selfsup.finetune_config import LabelledConfig
from selfsup.models.hub import load
from selfsup.studies import alphabets
from selfsup.tasks.reading import Notes
from selfsup.tasks.symbols import (
    alphabet_of,
    as_words,
    draw_words,
    read_symbols,
    symbols_of,
)
from tests.tasks.toy import toy_config, write_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("toy") / "encoder")


def write_sequences(path: Path, count: int = 60, seed: int = 0) -> Path:
    """UCI's layout; the class is the sequence's second half, rich in A or in T."""
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        rich = rng.choice("AT")
        letters = [rng.choice("ACGT") for _ in range(6)] + [rich] * 6
        lines.append(f"{'plus' if rich == 'A' else 'minus'}, S{number}, {''.join(letters)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_symbols() -> None:
    assert symbols_of("acGT") == ("A", "C", "G", "T")
    assert symbols_of("c4 d4  e4", words=True) == ("c4", "d4", "e4")
    assert symbols_of("c4", words=True) == ("c4",)
    assert symbols_of([[66, 1.0], [0, 0.5], "x"]) == ("[66, 1.0]", "[0, 0.5]", "x")


def test_every_symbol_gets_a_word_of_its_own(encoder: Path) -> None:
    tokenizer = load(encoder).tokenizer
    one, same, other = (draw_words(tokenizer, list("ACGTN"), d) for d in (0, 0, 1))
    assert one == same != other
    assert len(set(one.values())) == 5
    for identity in one.values():
        assert tokenizer.token(identity).isalpha()
    with pytest.raises(UserError, match="symbols, but only"):
        draw_words(tokenizer, [str(i) for i in range(500)], 0)


def test_unknown_symbols_and_long_sequences(encoder: Path, tmp_path: Path) -> None:
    tokenizer = load(encoder).tokenizer
    data = write_sequences(tmp_path / "a.data", 4)
    examples = read_symbols(str(data), LabelledConfig(), "classify", Notes())
    words = draw_words(tokenizer, ["A", "C", "G"], 0)
    (ids, *_) = as_words(tokenizer, examples, words, 8)
    assert len(ids) == 8
    expected = [words.get(s, tokenizer.unknown_id) for s in examples[0].symbols[:6]]
    assert ids.tolist() == [tokenizer.cls_id, *expected, tokenizer.sep_id]
    assert alphabet_of(examples)[0] in "AT"


def test_lists_in_json(tmp_path: Path) -> None:
    path = tmp_path / "music.jsonl"
    path.write_text('{"class": "bach", "notes": [[66, 1.0], [0, 0.5]]}\n{"class": "x", "notes": 3}')
    data = LabelledConfig(text_column="notes", label_column="class")
    with pytest.raises(UserError, match=r"music\.jsonl:2"):
        read_symbols(str(path), data, "classify", Notes())


def test_shuffling_keeps_the_numbers_and_not_their_places(encoder: Path) -> None:
    pretrained = load(encoder)
    mixed = alphabets.shuffled(pretrained, 0)
    before, after = dict(pretrained.model.named_parameters()), dict(mixed.model.named_parameters())
    name = "encoder.blocks.0.mlp.up.weight"
    assert torch.equal(before[name].flatten().sort()[0], after[name].flatten().sort()[0])
    assert not torch.equal(before[name], after[name])


def test_the_study(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = write_sequences(tmp_path / "train.data")
    test = write_sequences(tmp_path / "test.data", 40, seed=1)
    config = toy_config(encoder, "classify", train, test, train={"budget": "30 steps"})
    out = tmp_path / "study"
    first = alphabets.run(config, out, own=str(encoder), draws=2, seeds=2, quiet=True)
    assert [r["trainings"] for r in first["table"]] == [4, 2, 2, 2]
    assert first["floors"]["majority"] <= first["floors"]["n-grams"] <= 1
    for name in ("alphabets.png", "alphabets.csv"):
        assert (out / "figures" / name).stat().st_size > 100
    assert json.loads((out / "result.json").read_text()) == first
    assert not (out / "work").exists() or not any((out / "work").iterdir())

    trained = []
    run_cell = alphabets.run_cell

    def counted(cell: Any, *rest: Any) -> Any:
        trained.append(cell.name)
        return run_cell(cell, *rest)

    monkeypatch.setattr(alphabets, "run_cell", counted)
    (out / "cells" / "random-0-1.json").unlink()
    again = alphabets.run(config, out, own=str(encoder), draws=2, seeds=2, quiet=True)
    assert trained == ["random-0-1"]
    assert again == first
    other = config.model_copy(update={"lr": 0.5})
    with pytest.raises(UserError, match="a study with another lr"):
        alphabets.run(other, out, own=str(encoder), draws=2, seeds=2, quiet=True)


def test_the_floor_counts_symbols_and_not_their_spelling(encoder: Path, tmp_path: Path) -> None:
    # As words, "-1" and "+1" were one and the same; as characters of their own they decide.
    rng = random.Random(0)
    path = tmp_path / "intervals.jsonl"
    rows = []
    for _ in range(60):
        up = rng.random() < 0.5
        steps = [rng.choice(["-2", "+2"]) for _ in range(5)] + ["+1" if up else "-1"] * 3
        rows.append(json.dumps({"text": steps, "label": "up" if up else "down"}))
    path.write_text("\n".join(rows) + "\n")
    config = toy_config(encoder, "classify", path)
    floors = alphabets.baselines(alphabets.read_material(config, 64))
    assert floors["n-grams"] == 1.0
    examples = read_symbols(str(path), LabelledConfig(), "classify", Notes())
    (text, *_) = alphabets.letters(examples[:1], ["+2", "-2"])
    assert len(text) == 8
    assert len(set(text[5:])) == 1


def test_copies_are_not_scored_on(encoder: Path, tmp_path: Path) -> None:
    path = write_sequences(tmp_path / "a.data", 40)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *lines[:20]]) + "\n")
    config = toy_config(encoder, "classify", path)
    material = alphabets.read_material(config, 64)
    assert len(material.train) + len(material.test) == 60
    assert len(material.test) >= 8
    assert not {e.symbols for e in material.train} & {e.symbols for e in material.test}
    copies = "20 sequences are copies of others: all of one are learned from or held out"
    assert material.notes.lines[0] == copies
    # a held-out copy that alone bears a label goes back, with all the others of its sequence
    strange = material.test[0]
    path.write_text(path.read_text() + f"other, X, {strange.text}\n")
    found = alphabets.read_material(config, 64)
    assert "other" in found.info.labels
    assert sum(e.symbols == strange.symbols for e in found.train) > 1
    assert strange.symbols not in {e.symbols for e in found.test}
    path.write_text("\n".join(lines[:4] * 10) + "\n")
    found = alphabets.read_material(config, 64)  # too few are different
    assert found.notes.lines[0] == "36 sequences are copies of others: some are on both sides"
    assert len(found.test) >= 4


def row(start: str, score: float, seed: int = 0) -> dict[str, Any]:
    return {"start": start, "draw": 0, "seed": seed, "scores": {"accuracy": score}}


def test_the_finding_says_what_the_numbers_say() -> None:
    rows = [row("language", 0.9), row("language", 0.8), row("random", 0.6), row("random", 0.7)]
    said = alphabets.finding(rows, "accuracy", {"n-grams": 0.5})
    assert "ahead of random weights (0.650)" in said
    rows.append(row("random", 0.85))
    assert "not clearly apart" in alphabets.finding(rows, "accuracy", {"n-grams": 0.5})
    assert "better than all" in alphabets.finding(rows, "accuracy", {"n-grams": 0.95})
    assert "behind the same weights" in alphabets.finding(
        [*rows, row("shuffled", 0.95), row("shuffled", 0.96)], "accuracy", {"n-grams": 0.5}
    )
    alone = [row("language", 0.9), row("random", 0.6)]
    assert "beside random weights" in alphabets.finding(alone, "accuracy", {"n-grams": 0.5})


def test_labels_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "music.jsonl"
    path.write_text('{"label": "a", "text": "c4 d4"}\n{"label": null, "text": "c4"}\n')
    with pytest.raises(UserError, match=r"music\.jsonl:2"):
        read_symbols(str(path), LabelledConfig(), "classify", Notes())
    path.write_text('{"label": 1.5, "text": "c4 d4"}\n{"label": "nan", "text": "c4"}\n')
    with pytest.raises(UserError, match=r"music\.jsonl:2.*no number"):
        read_symbols(str(path), LabelledConfig(), "regress", Notes())
    path.write_text('{"label": "a", "text": "c4 d4"}\n{"label": "b", "text": "c4"}\n')
    found = read_symbols(str(path), LabelledConfig(), "classify", Notes())
    assert [e.symbols for e in found] == [("c4", "d4"), ("c4",)]


def test_bad_input(encoder: Path, tmp_path: Path) -> None:
    train = write_sequences(tmp_path / "train.data")
    with pytest.raises(UserError, match="--draws"):
        alphabets.run(toy_config(encoder, "classify", train), tmp_path / "x", draws=0, quiet=True)
    with pytest.raises(UserError, match="not for sequences"):
        alphabets.run(toy_config(encoder, "tag", train), tmp_path / "x", quiet=True)
    one = tmp_path / "one.data"
    one.write_text("plus, a, ACGT\nplus, b, ACGA\n" * 20)
    with pytest.raises(UserError, match="only the class 'plus'"):
        alphabets.run(toy_config(encoder, "classify", one), tmp_path / "x", quiet=True)
    other = tmp_path / "other.data"
    other.write_text("neither, a, ACGT\n")
    with pytest.raises(UserError, match="'neither'"):
        alphabets.run(toy_config(encoder, "classify", train, other), tmp_path / "x", quiet=True)


def test_scores_of_numbers(encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "numbers.csv"
    rows = []
    for _ in range(80):
        letters = rng.choice(list("ACGT"), 10)
        rows.append(f"{''.join(letters)},{(letters == 'A').sum() + 0.5}")
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    config = toy_config(encoder, "regress", path, train={"budget": "4 steps"})
    result = alphabets.run(config, tmp_path / "study", draws=1, seeds=1, quiet=True)
    assert result["score"] == "correlation"
    assert result["floors"]["n-grams"] > 0.8
    assert result["floors"]["majority"] == 0.0


def test_rows_of_json_lines_are_skipped_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    good = ['{"text": ["A", "C"], "label": "x"}', '{"text": "GT", "label": "y"}']
    path.write_text("\n".join([good[0], '{"text"', '{"text": 3, "label": "x"}', good[1]]))
    with pytest.raises(UserError, match="--on-bad-row skip"):
        read_symbols(str(path), LabelledConfig(), "classify", Notes())
    notes = Notes()
    found = read_symbols(str(path), LabelledConfig(on_bad_row="skip"), "classify", notes)
    assert [(e.symbols, e.label) for e in found] == [(("A", "C"), "x"), (("G", "T"), "y")]
    assert notes.lines[0].startswith(f"2 rows of {path} skipped; first: ")
