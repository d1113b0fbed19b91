"""Typed configuration of the loop: budget, optimizer, schedule, and how often it looks and saves."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from selfsup.config_base import Section


class Budget(Section):
    """How long something lasts, in one unit.  Written `20 minutes`, `1000 steps` or `3e6 tokens`."""

    amount: Annotated[float, Field(gt=0)]
    unit: Literal["steps", "tokens", "minutes"]

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"\s*([0-9.eE+_]+)\s*(step|token|minute)s?\s*", value)
        if not found:
            raise ValueError(
                f"'{value}' is no budget; write '20 minutes', '1000 steps' or '3e6 tokens'"
            )
        return {"amount": float(found[1].replace("_", "")), "unit": found[2] + "s"}

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


class AdamWConfig(Section):
    """AdamW (Loshchilov and Hutter 2019), torch's fused kernel; no decay on norms and biases."""

    kind: Literal["adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.01


class MuonConfig(Section):
    """Muon (Jordan et al. 2024) for the matrices of the body, AdamW for all else."""

    kind: Literal["muon"] = "muon"
    lr: Annotated[float, Field(gt=0)] = 5e-3
    """Learning rate of the matrices: each step's update has a root mean square near 0.2 times this."""
    momentum: float = 0.95
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_lr: Annotated[float, Field(gt=0)] = 3e-3
    """Learning rate of embeddings, heads, norms and biases."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6


OptimizerConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="kind")]


class ScheduleConfig(Section):
    """The learning rate as a function of the budget's progress."""

    kind: Literal["linear", "cosine", "trapezoid", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the budget over which the rate rises from 0; of less than one step, it does not."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.4
    """For `trapezoid`: share of the budget, at its end, over which the rate falls."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The rate at the end, as a share of the peak."""

    @model_validator(mode="after")
    def _together(self) -> ScheduleConfig:
        if self.kind == "trapezoid" and self.warmup + self.decay > 1:
            raise ValueError("warmup + decay must not exceed the budget (1.0)")
        return self


class TrainConfig(Section):
    """The loop: how long, how fast, how often it looks and saves."""

    budget: Budget = Budget(amount=20, unit="minutes")
    """How long to train: `20 minutes`, `1000 steps` or `3e6 tokens`."""
    batch_size: Annotated[int, Field(gt=0)] = 32
    """Rows in one optimizer step, over all processes and accumulated parts."""
    accumulate: Annotated[int, Field(gt=0)] = 1
    """Parts into which a step's batch is split to save memory."""
    optimizer: OptimizerConfig = AdamWConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    clip: Annotated[float, Field(ge=0)] = 1.0
    """Largest norm of the gradient; 0: no clipping."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 where the processor has it and a short probe shows gain."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:1`."""
    compile: bool = False
    """Compile the model with torch.compile (slow start, faster steps): for pre-training, whose batches are
    all of one shape.  With the labelled texts of fine-tuning, of mixed lengths, it gains nothing."""
    processes: Annotated[int, Field(gt=0)] = 1
    """Data-parallel processes on this machine."""
    evaluate_every: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the budget between evaluations."""
    evaluate_rows: Annotated[int, Field(gt=0)] = 256
    """Held-out rows in one evaluation (the same ones each time)."""
    save_every: Budget = Budget(amount=5, unit="minutes")
    """Between checkpoints; one is always saved at the end."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Checkpoints kept beside the best one."""
    log_every: Annotated[int, Field(gt=0)] = 10
    """Steps between lines of `metrics.jsonl`."""
    tensorboard: bool = False
    """Write TensorBoard events too (needs the extra `tensorboard`)."""

    @model_validator(mode="after")
    def _together(self) -> TrainConfig:
        if self.batch_size % (self.accumulate * self.processes):
            raise ValueError(
                f"batch_size ({self.batch_size}) must be a multiple of accumulate x processes "
                f"({self.accumulate} x {self.processes})"
            )
        return self
