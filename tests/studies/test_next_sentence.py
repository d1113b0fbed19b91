"""The study of next-sentence prediction: equal tokens, honest sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from selfsup.errors import UserError
from selfsup.studies import next_sentence
from tests.training.tiny import tiny_config, write_corpus


def test_both_kinds_see_equal_tokens_and_the_files_are_there(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "corpus.txt")
    config = tiny_config(data, budget="4000 tokens")
    answer = next_sentence.run(config, tmp_path / "study", seeds=2, quiet=True)
    tokens = [row["tokens"] for row in answer["runs"]]
    assert max(tokens) - min(tokens) <= 8 * 32  # one step
    assert {row["pairs"] for row in answer["runs"]} == {"none", "next-sentence"}
    assert answer["summary"]["none"]["pair_accuracy"] is None
    assert 0 <= answer["summary"]["next-sentence"]["pair_accuracy"] <= 1
    assert "nats" in answer["finding"]
    # scored on the same rows: the plain kind's own score is that very one
    for row in answer["runs"]:
        place = tmp_path / "study" / f"{row['pairs']}-{row['seed']}" / "result.json"
        own = json.loads(place.read_text())["heldout"]["masked_loss"]
        assert (row["masked_loss"] == pytest.approx(own, rel=1e-4)) == (row["pairs"] == "none")
    assert json.loads((tmp_path / "study" / "result.json").read_text())["seeds"] == 2
    assert (tmp_path / "study" / "figures" / "next-sentence.png").stat().st_size > 5000
    lines = (tmp_path / "study" / "figures" / "next-sentence.csv").read_text().splitlines()
    assert lines[0] == "pairs,seed,tokens,masked_loss"
    assert len(lines) > 8
    # again: everything is there already
    assert (
        next_sentence.run(config, tmp_path / "study", seeds=2, quiet=True)["runs"] == answer["runs"]
    )


def test_a_difference_counts_only_when_every_seed_agrees() -> None:
    def rows(gaps: list[float]) -> list[dict[str, object]]:
        return [
            {"seed": seed, "pairs": kind, "masked_loss": 3.0 + (gap if kind != "none" else 0)}
            for seed, gap in enumerate(gaps)
            for kind in ("none", "next-sentence")
        ]

    assert next_sentence.finding(rows([0.1, 0.2, 0.3])).startswith("Next-sentence prediction hurts")
    assert next_sentence.finding(rows([-0.1, -0.2])).startswith("Next-sentence prediction helps")
    assert next_sentence.finding(rows([-0.1, 0.2])).startswith("No clear difference")
    assert next_sentence.finding(rows([0.5])).startswith("No clear difference")


def test_minutes_are_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "x.txt", budget="1 minute")
    with pytest.raises(UserError, match="unequal amounts of text; give --tokens or --steps"):
        next_sentence.run(config, tmp_path / "study")
