"""The demo: its question is fair, and its quick form tells the whole story."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from selfsup.config import CharacterConfig
from selfsup.data.admission import is_heldout, text_key
from selfsup.data.docstrings import DocString
from selfsup.data.tokenizers import train_tokenizer
from selfsup.studies import demo


def documents() -> list[DocString]:
    return [
        DocString(
            f"Return item {i} of numpy and torch. " * 6, library, f"{library}.m{i % 40}.part"
        )._replace(text=f"{library} {i} returns numpy arrays of sklearn, {i * 7}. " * 5)
        for library in ("python", "numpy", "torch")
        for i in range(200)
    ]


def test_question_gives_no_names_away_and_splits_by_module() -> None:
    docs = documents()
    tokenizer = train_tokenizer(CharacterConfig(), [d.text for d in docs])
    ids, labels, tests, names = demo.labelled_texts(docs, tokenizer)
    assert names == ["numpy", "python", "torch"]
    assert len(ids) == len(labels) == len(tests)
    assert 0 < tests.sum() < len(tests)
    assert max(map(len, ids)) <= demo.TOKENS
    for row in ids[:20]:
        text = tokenizer.decode(row)
        assert not any(name in text for name in ("numpy", "torch", "sklearn", "python"))


def test_test_texts_were_never_trained_on_and_modules_do_not_mix() -> None:
    split = demo.split_by_module(documents())
    modules: dict[bool, set[str]] = {True: set(), False: set()}
    for document, test in split:
        assert is_heldout(text_key(document.text), demo.HELDOUT) == test
        modules[test].add(document.module)
    assert modules[True]
    assert modules[False]
    assert not modules[True] & modules[False]


def test_balanced_draws_equal_shares_without_repeats() -> None:
    labels = np.repeat([0, 1, 2], [50, 70, 90])
    pool = np.arange(5, len(labels))
    chosen = demo.balanced(labels, pool, 20, 1)
    assert np.bincount(labels[chosen]).tolist() == [20, 20, 20]
    assert len(set(chosen.tolist())) == 60
    assert set(chosen.tolist()) <= set(pool.tolist())
    assert not np.array_equal(chosen, demo.balanced(labels, pool, 20, 2))


def test_finding_says_what_the_curves_say() -> None:
    curves = {
        "labels": [20, 80, 320],
        "chance": 0.2,
        "accuracy": {
            "pretrained": [[0.5], [0.7], [0.8]],
            "random": [[0.3], [0.4], [0.65]],
        },
    }
    assert "20 labels after pre-training are worth 80 without it" in demo.finding(curves)
    curves["accuracy"]["random"] = [[0.6], [0.8], [0.9]]  # type: ignore[index]
    assert demo.finding(curves).endswith("pre-training is ahead at 0 of 3 label counts.")


def test_both_starts_are_fine_tuned_alike() -> None:
    warm, cold = (demo.finetune_config(80, scratch=scratch) for scratch in (False, True))
    assert warm.model_copy(update={"scratch": True}) == cold
    assert (warm.train.budget.amount, warm.train.optimizer.betas) == (120, (0.9, 0.99))


@pytest.mark.slow
def test_quick_demo_from_end_to_end(tmp_path: Path) -> None:
    result = demo.run_demo(tmp_path / "demo", quick=True, quiet=True)
    assert result["texts"] > 10_000
    assert result["pretraining"]["heldout"]["masked_loss"] < (
        result["pretraining"]["untrained"]["masked_loss"] - 1
    )
    assert set(result["curves"]["accuracy"]) == {"pretrained", "random"}
    assert json.loads((tmp_path / "demo" / "result.json").read_text())["finding"]
    assert (tmp_path / "demo" / "figures" / "demo.png").stat().st_size > 10_000
