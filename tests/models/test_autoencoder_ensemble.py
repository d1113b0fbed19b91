"""The ensemble's gradients by hand, against autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from selfsup.models.autoencoder_ensemble import AutoEncoderEnsemble


@pytest.mark.parametrize(("members", "batch", "width"), [(4, 32, 9), (2, 1, 1)])
def test_gradients_equal_autograds(members: int, batch: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    model = AutoEncoderEnsemble(members, width, 16, 3, generator)
    x, wanted = (3 * torch.randn(members, batch, width, generator=generator) for _ in range(2))
    expected = F.smooth_l1_loss(model(x)[0], wanted)  # both branches of it are met
    expected.backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    loss = model.differentiate(x, wanted)
    torch.testing.assert_close(loss, expected.detach())
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert p.grad.abs().sum() > 0
        torch.testing.assert_close(p.grad, grads[name], msg=name)
