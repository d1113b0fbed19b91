"""Where the first number that is none arose: in which layer, and on which examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selfsup.data.keys import Key
from selfsup.data.sampler import Examples
from selfsup.objectives.protocol import AnyObjective
from selfsup.training.devices import Precision


def explain_non_finite(
    model: nn.Module,
    objective: AnyObjective,
    parts: Sequence[Examples],
    key: Key,
    device: torch.device,
    precision: Precision,
) -> str:
    """Say where a step went wrong, by doing its forward passes again with an eye on every layer.

    Args:
        model: as it was in that step, gradients included.
        objective: what was trained.
        parts: the step's examples.
        key: with which they were made into batches.
        device: where the model is.
        precision: in which it runs.
    """
    at_fault: list[str] = []

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, _given: Any, out: Any) -> None:
            if isinstance(out, Tensor) and not bool(out.isfinite().all()):
                at_fault.append(name)

        return hook

    examples = parts[0]
    hooks = [m.register_forward_hook(watch(n)) for n, m in model.named_modules() if n]
    with torch.no_grad(), precision.autocast(device):
        for part in parts:
            if not at_fault:
                examples = part
                objective.loss(model, objective.batch(part, key).to(device))
    for hook in hooks:
        hook.remove()
    weights = [n for n, p in model.named_parameters() if not _finite(p)]
    gradients = [
        n for n, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)
    ]
    if weights:
        place = f"weights of '{weights[0]}' are"
    elif at_fault:
        place = f"output of layer '{at_fault[0]}' is"
    elif gradients:
        place = f"gradient of '{gradients[0]}' is"
    else:
        place = "loss is"
    return f"the {place} not finite, on {objective.describe(examples)}"


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
