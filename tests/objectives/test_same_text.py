"""The contrastive question: halves of one piece, against a slow reference, and what it teaches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.tiny import tiny_config, write_corpus

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.nn.sequences import Sequences
from selfsup.objectives.same_text import TEMPERATURE, Halves, same_text_loss
from selfsup.training.progress import Progress
from selfsup.uses.kinds import build_model
from selfsup.uses.preparing import prepare
from selfsup.uses.pretraining import pretrain


def contrastive(path: Path, **train: object) -> object:
    config = tiny_config(path, "modernbert-tiny", **train)
    value = config.model_dump(mode="json")
    value["objective"]["pairs"] = "same-text"
    return type(config).model_validate(value)


def test_against_a_slow_reference() -> None:
    torch.manual_seed(0)
    lengths = [7, 9, 6, 8, 6, 6, 7, 10]
    batch = Sequences.from_lists([np.arange(n) for n in lengths])
    hidden = torch.randn(sum(lengths), 5).double()
    halves = Halves(
        torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]]),
        torch.tensor([2.0, 3.0, 0.0, 1.0]),
        torch.tensor([4, 9, 1, 4]),
    )
    loss, found = same_text_loss(hidden, batch, halves)
    parts = hidden.split(lengths)
    vectors = [p.mean(0) / p.mean(0).norm() for p in parts]
    total, right, asked = 0.0, 0, [0, 1, 3]
    for i in asked:
        # pair 2 is too short, and 0 and 3 are pieces of one document
        others = [j for j in asked if j == i or halves.documents[j] != halves.documents[i]]
        for one, two in ((0, 1), (1, 0)):
            scores = torch.stack(
                [vectors[2 * i + one] @ vectors[2 * j + two] / TEMPERATURE for j in others]
            )
            total -= float(halves.weights[i] * scores.log_softmax(0)[others.index(i)]) / 2
            right += one == 0 and int(scores.argmax()) == others.index(i)
    assert float(loss) == pytest.approx(total, rel=1e-6)
    assert float(found.total) == right
    assert float(found.count) == 3


def test_halves_make_up_the_pieces(tmp_path: Path) -> None:
    config = contrastive(write_corpus(tmp_path / "corpus.txt"))
    prepared = prepare(config, Progress(quiet=True, title=""))  # type: ignore[arg-type]
    rows = np.arange(8)
    batch = prepared.objective.batch(Examples(rows, rows * 0), Key(0))
    assert batch.halves is not None
    starts, tokens = batch.sequences.starts, batch.sequences.tokens.clone()
    tokens[batch.scored] = batch.targets
    pieces = prepared.train.pieces_of(rows)
    stretches = list(zip(pieces.begins, pieces.ends, strict=True))
    assert len(batch.halves.places) == len(stretches)
    for (one, two), (begin, end) in zip(batch.halves.places.tolist(), stretches, strict=True):
        halves = [tokens[starts[i] + 1 : starts[i + 1] - 1] for i in (one, two)]
        whole = np.asarray(prepared.train.split.tokens[begin:end])
        assert torch.cat(halves).tolist() == whole.tolist()
    scored = batch.halves.weights.sum()
    assert 0 < float(scored) <= float(batch.weights.sum())


def test_it_learns_to_find_the_other_half(tmp_path: Path) -> None:
    config = contrastive(
        write_corpus(tmp_path / "corpus.txt", documents=300), budget="120 steps", batch_size=16
    )
    result = pretrain(config, tmp_path / "run", quiet=True)  # type: ignore[arg-type]
    assert result["heldout"]["pair_loss"] < result["untrained"]["pair_loss"]
    assert result["heldout"]["pair_accuracy"] > result["untrained"]["pair_accuracy"]


def test_it_is_refused_where_a_step_is_parted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accumulate"):
        contrastive(tmp_path / "corpus.txt", accumulate=2)


def test_going_on_from_a_model(tmp_path: Path) -> None:
    data = write_corpus(tmp_path / "corpus.txt")
    first = tiny_config(data, "modernbert-tiny")
    pretrain(first, tmp_path / "one", quiet=True)
    second = first.model_copy(update={"init": str(tmp_path / "one"), "seed": 5})
    prepared = prepare(second, Progress(quiet=True, title=""))
    model = build_model(prepared.config)
    from selfsup.models.hub import load

    started = load(tmp_path / "one")
    assert prepared.tokenizer.fingerprint == started.tokenizer.fingerprint
    own = dict(model.named_parameters())
    for name, parameter in started.model.named_parameters():
        assert torch.equal(own[name], parameter), name
    result = pretrain(second, tmp_path / "two", quiet=True)
    before = pretrain(first, tmp_path / "one", quiet=True)
    assert result["untrained"]["masked_loss"] == pytest.approx(
        before["heldout"]["masked_loss"], rel=1e-4
    )
