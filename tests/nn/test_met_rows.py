"""Rows that training meets: the same vectors, the same steps as in the whole matrix, nothing else moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from selfsup.nn.met_rows import MetRows

MET = torch.tensor([0, 3, 4, 9])


def embedding() -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(12, 5)


def test_gives_the_same_vectors_for_every_id() -> None:
    whole = embedding()
    rows = MetRows(whole, MET)
    assert rows.weight.shape == (4, 5)
    everything = torch.randperm(12)
    assert torch.equal(rows.eval()(everything), whole(everything))
    assert torch.equal(rows.train()(MET.flip(0)), whole(MET.flip(0)))
    assert torch.equal(rows.whole().weight, whole.weight)
    assert rows.whole().weight.requires_grad


def test_an_id_that_was_not_named_cannot_be_trained() -> None:
    with pytest.raises(IndexError):
        MetRows(embedding(), MET).train()(torch.tensor([1]))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_are_those_of_the_whole_matrix(weight_decay: float) -> None:
    whole = embedding().double()
    start = whole.weight.detach().clone()
    rows = MetRows(whole, MET)

    def trained(module: nn.Module) -> None:
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=weight_decay)
        for step in range(6):
            ids = MET[torch.tensor([step % 4, 0, (step + 1) % 3])]
            loss: Tensor = (module(ids) * torch.arange(5)).square().sum() + module(ids).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    trained(whole)
    trained(rows)
    after = rows.whole().weight
    torch.testing.assert_close(after[MET], whole.weight[MET], atol=1e-12, rtol=1e-12)
    assert not torch.equal(after[MET], start[MET])
    others = [i for i in range(12) if i not in MET]
    assert torch.equal(after[others], start[others])  # decay reaches them in the whole matrix
    assert torch.equal(whole.weight[others], start[others]) == (weight_decay == 0)
