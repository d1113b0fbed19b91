"""The one training loop: any model, any objective, any budget, one process or many."""

from __future__ import annotations

import gc
import json
import math
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from selfsup.config import TrainConfig
from selfsup.data.keys import Key, hash64
from selfsup.data.sampler import Examples, Sampler
from selfsup.errors import Interrupted, NonFiniteLoss, UserError
from selfsup.models.tensors import read_tensors
from selfsup.objectives.protocol import AnyObjective, Ratio, Score
from selfsup.training import checkpoints, distributed
from selfsup.training.devices import (
    Precision,
    choose_device,
    choose_precision,
    keep_freed_memory,
)
from selfsup.training.metrics import MetricsLog
from selfsup.training.optimizers import build_optimizers, set_rate
from selfsup.training.progress import Progress, clock
from selfsup.training.schedules import progress, rate

HELDOUT_KEY = Key(seed=0, purpose=1)
"""Held-out examples are hidden with this key in every run, so that losses compare."""


@dataclass(frozen=True)
class Evaluation:
    """Held-out examples, the same each time."""

    objective: AnyObjective
    examples: Examples


@dataclass
class State:
    """Where a run stands.  With the weights and the optimizers' state it is all that resuming needs:
    order, masks and dropout are functions of the step.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    marks: int = 0
    best: float = math.inf
    best_step: int = -1
    initial: dict[str, float] = field(default_factory=dict)
    heldout: dict[str, float] = field(default_factory=dict)
    saved: tuple[int, int, float] = (0, 0, 0.0)


@dataclass(frozen=True)
class Outcome:
    """What a finished training gives back."""

    state: State
    resumed_from: int
    tokens_per_second: float
    share_of_peak: float
    precision: Precision


class _Scored(nn.Module):
    """Model and objective as one module, so that DDP sees a single forward."""

    def __init__(self, model: nn.Module, objective: AnyObjective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> Score:
        return self.objective.loss(self.model, batch)


class Loop:
    """Trains a model.

    Args:
        model: what is trained.
        objective: makes batches and scores them.
        sampler: the order of the examples.
        config: budget, optimizer, schedule, and how often to look and save.
        seed: of order, masks and dropout.
        folder: the run's folder; None keeps nothing on disk.
        matrices: names of the parameters that Muon may take.
        evaluation: held-out examples; None: no evaluation.
        flops_per_token: of one training step, for the share of peak; 0: not reported.
        fingerprint: what a checkpoint must have been made with to be resumed here.
        quiet: print nothing.
        title: what the progress bar says.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: AnyObjective,
        sampler: Sampler,
        config: TrainConfig,
        *,
        seed: int = 0,
        folder: Path | None = None,
        matrices: Collection[str] = (),
        evaluation: Evaluation | None = None,
        flops_per_token: float = 0.0,
        fingerprint: str = "",
        quiet: bool = False,
        title: str = "training",
    ) -> None:
        self.config, self.seed, self.sampler = config, seed, sampler
        self.rank, self.world = distributed.rank(), distributed.world_size()
        self.device = choose_device(config.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.precision = choose_precision(config.precision, self.device)
        self.model = model.to(self.device)
        self.objective = objective
        self.optimizers = build_optimizers(model, config.optimizer, matrices, self.precision.dtype)
        self.folder = folder
        self.evaluation = evaluation
        self.flops_per_token = flops_per_token
        self.fingerprint = fingerprint
        self.state = State()
        self.scored: nn.Module = _Scored(model, objective)
        if config.compile:
            self.model.compile(dynamic=False)
        self.stopping = False
        self.quiet = quiet or self.rank > 0
        self.title = title
        self._evaluation_batches: list[Any] = []

    # ---- one step ------------------------------------------------------------------------------

    def _examples(self, part: int) -> Examples:
        """This process's share of part `part` of the current step."""
        size = self.config.batch_size // (self.config.accumulate * self.world)
        first = self.state.step * self.config.batch_size + (part * self.world + self.rank) * size
        return self.sampler.at(first, size)

    def _step(self) -> tuple[float, int]:
        """Forward and backward over all parts, one update; returns (mean loss, tokens)."""
        parts = self.config.accumulate
        totals = torch.zeros(3, dtype=torch.float64)
        local_loss = torch.zeros((), device=self.device)
        local_count = torch.zeros((), device=self.device)
        tokens = 0
        for part in range(parts):
            batch = self.objective.batch(self._examples(part), Key(self.seed)).to(self.device)
            torch.manual_seed(int(hash64(self.seed, self.state.step, part, self.rank)) >> 1)
            last = part == parts - 1
            wait = nullcontext() if last or self.world == 1 else self.scored.no_sync()  # type: ignore[operator]
            with wait:
                with self.precision.autocast(self.device):
                    score = self.scored(batch)
                score.loss_sum.backward()
            local_loss += score.loss_sum.detach()
            local_count += score.count
            tokens += batch.token_count
        totals[:] = torch.tensor([float(local_loss), float(local_count), float(tokens)])
        distributed.add_up(totals)
        loss_sum, count, all_tokens = totals.tolist()
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        # DDP has averaged over processes what is to be a sum over them
        scale = self.world / max(count, 1.0)
        norm = scale * float(torch.nn.utils.get_total_norm(grads))
        if not math.isfinite(loss_sum) or not math.isfinite(norm):
            self._explain_non_finite()
        limit = self.config.clip or math.inf
        torch._foreach_mul_(grads, scale * min(1.0, limit / (norm + 1e-6)))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss_sum / max(count, 1.0), int(all_tokens)

    def _explain_non_finite(self) -> None:
        """Find where the first number that is none arose, and stop."""
        bad = [n for n, p in self.model.named_parameters() if not bool(p.isfinite().all())]
        place = f"weights of '{bad[0]}'" if bad else ""
        examples = self._examples(0)
        names: list[str] = []

        def watch(name: str) -> Any:
            def hook(_m: nn.Module, _i: Any, out: Any) -> None:
                if isinstance(out, Tensor) and not bool(out.isfinite().all()):
                    names.append(name)

            return hook

        hooks = [m.register_forward_hook(watch(n)) for n, m in self.model.named_modules() if n]
        with torch.no_grad(), self.precision.autocast(self.device):
            for part in range(self.config.accumulate):
                if not names:
                    examples = self._examples(part)
                    batch = self.objective.batch(examples, Key(self.seed)).to(self.device)
                    self.objective.loss(self.model, batch)
        for hook in hooks:
            hook.remove()
        if not place:
            place = f"output of layer '{names[0]}'" if names else ""
        if not place:
            grads = self.model.named_parameters()
            wrong = [
                n for n, p in grads if p.grad is not None and not bool(p.grad.isfinite().all())
            ]
            place = f"gradient of '{wrong[0]}'" if wrong else "loss"
        raise NonFiniteLoss(
            f"step {self.state.step}: the {place} is not finite, on {self.objective.describe(examples)}",
            where=str(self.folder or ""),
            mend="the last good checkpoint is kept; lower the learning rate or use --precision fp32",
        )

    # ---- looking -------------------------------------------------------------------------------

    def evaluate(self) -> dict[str, float]:
        """Held-out metrics; `loss` and whatever the objective measures."""
        if self.evaluation is None:
            return {}
        if not self._evaluation_batches:
            self._evaluation_batches = list(self._make_evaluation_batches(self.evaluation))
        self.model.eval()
        sums: dict[str, Tensor] = {}
        with torch.no_grad(), self.precision.autocast(self.device):
            for batch in self._evaluation_batches:
                score = self.evaluation.objective.loss(self.model, batch.to(self.device))
                parts = {"loss": Ratio(score.loss_sum, score.count), **score.metrics}
                for name, ratio in parts.items():
                    pair = torch.stack([ratio.total, ratio.count]).double().cpu()
                    sums[name] = sums.get(name, torch.zeros(2, dtype=torch.float64)) + pair
        self.model.train()
        names = sorted(sums)
        joined = distributed.add_up(torch.stack([sums[n] for n in names]))
        return {n: float(t / c) if c else math.nan for n, (t, c) in zip(names, joined, strict=True)}

    def _make_evaluation_batches(self, evaluation: Evaluation) -> Iterator[Any]:
        # of the size of a training step's part, whatever the number of processes
        size = max(1, self.config.batch_size // self.config.accumulate // self.world)
        rows, epochs = evaluation.examples
        rows, epochs = rows[self.rank :: self.world], epochs[self.rank :: self.world]
        for first in range(0, len(rows), size):
            part = Examples(rows[first : first + size], epochs[first : first + size])
            yield evaluation.objective.batch(part, HELDOUT_KEY)

    def _look(self, log: MetricsLog, display: Progress) -> None:
        """Evaluate, log, and keep the best weights."""
        state = self.state
        values = self.evaluate()
        if not values:
            return
        state.heldout = values
        if not state.initial:
            state.initial = values
        elif values["loss"] < state.best:
            state.best, state.best_step = values["loss"], state.step
            if self.folder is not None and self.rank == 0:
                checkpoints.save_weights(
                    self.folder / "checkpoints" / "best", self.model, {"step": state.step, **values}
                )
        log.write(
            step=state.step,
            split="heldout",
            tokens=state.tokens,
            seconds=round(state.seconds, 3),
            **values,
        )
        shown = "  ".join(f"{n.replace('_', ' ')} {v:.3f}" for n, v in values.items())
        display.say(
            f"step {state.step:>6,}  {clock(state.seconds)}  {state.tokens:>11,} tokens  held out: {shown}"
        )

    # ---- the whole -----------------------------------------------------------------------------

    def _save(self) -> None:
        state = self.state
        state.saved = (state.step, state.tokens, state.seconds)
        if self.folder is not None and self.rank == 0:
            extra = {"fingerprint": self.fingerprint, "world_size": self.world}
            checkpoints.save(
                self.folder / "checkpoints",
                state.step,
                self.model,
                self.optimizers,
                {**asdict(state), **extra},
                self.config.keep,
            )
        distributed.wait()

    def _resume(self) -> int:
        """Load the newest whole checkpoint, if there is one; returns its step (0: none)."""
        whole = checkpoints.found(self.folder / "checkpoints") if self.folder else []
        if not whole:
            return 0
        kept = json.loads((whole[-1] / "state.json").read_text(encoding="utf-8"))
        if kept.pop("fingerprint") != self.fingerprint:
            raise UserError(
                "the checkpoint was made with other data, another tokenizer or another configuration",
                where=str(whole[-1]),
                mend="restore them, or start anew with --overwrite or another --out",
            )
        kept.pop("world_size")
        checkpoints.load_weights(whole[-1], self.model)
        tensors = read_tensors(whole[-1] / "optimizer.safetensors")
        checkpoints.restore_optimizers(self.model, self.optimizers, tensors)
        self.state = State(**{**kept, "saved": tuple(kept["saved"])})
        return self.state.step

    def _save_due(self) -> bool:
        step, tokens, seconds = self.state.saved
        state = self.state
        since = {
            "steps": state.step - step,
            "tokens": state.tokens - tokens,
            "seconds": state.seconds - seconds,
        }
        return progress(self.config.save_every, **since) >= 1  # type: ignore[arg-type]

    def run(self) -> Outcome:
        """Train until the budget is used; resumes by itself where a checkpoint lies in the folder.

        Raises:
            Interrupted: asked to stop; the state is saved.
            NonFiniteLoss: with step, layer and documents; the last good checkpoint is kept.
        """
        resumed = self._resume()
        folder = self.folder if self.rank == 0 else None
        log = MetricsLog(
            folder / "metrics.jsonl" if folder else None,
            resumed,
            folder / "tensorboard" if folder and self.config.tensorboard else None,
        )
        if self.world > 1:
            from torch.nn.parallel import DistributedDataParallel

            self.scored = DistributedDataParallel(self.scored, find_unused_parameters=True)
        display = Progress(quiet=self.quiet, title=self.title)
        if resumed:
            display.say(f"resumed at step {resumed:,}")
        threads_rng = torch.random.fork_rng(devices=[])
        try:
            with threads_rng, _signals(self):
                speed = self._steps(log, display)
        finally:
            display.close()
            log.close()
        share = speed * self.flops_per_token / self.precision.peak if self.precision.peak else 0.0
        return Outcome(self.state, resumed, speed, share / self.world, self.precision)

    def _steps(self, log: MetricsLog, display: Progress) -> float:
        """The loop proper; returns the median speed in tokens/s over all steps but the first few."""
        state, config = self.state, self.config
        self.model.train()
        before, started = state.seconds, time.perf_counter()
        speeds: list[float] = []
        if state.step == 0:
            self._look(log, display)
        while (at := self._progress()) < 1:
            step_started = time.perf_counter()
            set_rate(self.optimizers, rate(config.schedule, at))
            loss, tokens = self._step()
            state.step += 1
            state.tokens += tokens
            took = time.perf_counter() - step_started
            speeds.append(tokens / took)
            state.seconds, stop = self._agree(before + time.perf_counter() - started)
            at = self._progress()
            if state.step % config.log_every == 0 or at >= 1:
                log.write(
                    step=state.step,
                    split="train",
                    tokens=state.tokens,
                    seconds=round(state.seconds, 3),
                    loss=loss,
                    learning_rate=self.optimizers[-1].param_groups[0]["lr"],
                    tokens_per_second=round(tokens / took, 1),
                )
            display.update(at, self._text(loss, speeds, at))
            if len(speeds) == 2:  # collections of long-lived objects cost up to half a second each
                gc.collect()
                gc.freeze()
            if (marks := int(min(at, 1.0) / config.evaluate_every + 1e-9)) > state.marks:
                state.marks = marks
                self._look(log, display)
            if stop:
                self._save()
                raise Interrupted(
                    f"stopped at step {state.step}; the same command goes on from here"
                )
            if self._save_due():
                self._save()
        gc.unfreeze()
        if state.saved[0] != state.step or not state.step:
            self._save()
        steady = sorted(speeds[min(3, len(speeds) // 2) :])
        return steady[len(steady) // 2] if steady else 0.0

    def _progress(self) -> float:
        state = self.state
        return progress(
            self.config.budget, steps=state.step, tokens=state.tokens, seconds=state.seconds
        )

    def _agree(self, seconds: float) -> tuple[float, bool]:
        """Rank 0's clock, and whether any process was asked to stop."""
        if self.world == 1:
            return seconds, self.stopping
        mine = torch.tensor(
            [seconds if self.rank == 0 else 0.0, float(self.stopping)], dtype=torch.float64
        )
        shared, stop = distributed.add_up(mine).tolist()
        return shared, stop > 0

    def _text(self, loss: float, speeds: list[float], at: float) -> str:
        recent = sorted(speeds[-20:])
        speed = recent[len(recent) // 2]
        share = speed * self.flops_per_token / self.precision.peak if self.precision.peak else 0
        peak = f"  {share / self.world:.0%} of peak" if share else ""
        left = self.state.seconds * (1 - at) / at if at else 0
        return f"loss {loss:.3f}  {speed:,.0f} tokens/s{peak}  {clock(left)} left"


@contextmanager
def _signals(loop: Loop) -> Iterator[None]:
    """SIGTERM and Ctrl-C finish the step, save, and leave; a second one leaves at once."""

    def stop(number: int, _frame: Any) -> None:
        if loop.stopping:
            raise KeyboardInterrupt
        loop.stopping = True

    try:
        old = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: the caller handles signals
        old = {}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
