"""The one training loop: any model, any objective, any budget, one process or many."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfsup.data.files import import_extra
from selfsup.data.keys import Key, hash64
from selfsup.data.sampler import Examples, Sampler
from selfsup.errors import Interrupted, NonFiniteLoss, UserError
from selfsup.models.model_folder import read_json
from selfsup.nn.device import choose_device
from selfsup.objectives.protocol import AnyObjective, Score
from selfsup.train_config import TrainConfig
from selfsup.training import checkpoints, distributed
from selfsup.training.devices import choose_precision, seed_draws
from selfsup.training.diagnosis import explain_non_finite
from selfsup.training.evaluation import Examination
from selfsup.training.feed import Feed
from selfsup.training.metrics import MetricsLog
from selfsup.training.optimizers import build_optimizers, set_rate, take_step
from selfsup.training.progress import Progress, clock
from selfsup.training.schedules import progress, rate, step_share
from selfsup.training.signals import StopRequest, stop_requests
from selfsup.training.state import Outcome, State

_LONG = 5.0  # seconds, from which a run is worth a clean-up
_LATE = 0.3
"""Share of the budget from which a loss that sits at its floor is worth a word."""


class _Scored(nn.Module):
    """Model and objective as one module, so that DDP sees a single forward."""

    def __init__(self, model: nn.Module, objective: AnyObjective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> Score:
        return self.objective.loss(self.model, batch)


def _precision(config: TrainConfig, folder: Path | None) -> str:
    """What was asked for; where `auto` was decided in an earlier part of the run, that."""
    kept = checkpoints.latest_state(folder / "checkpoints") if folder else None
    return str(kept["precision"]) if kept and config.precision == "auto" else config.precision


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
        unit: what batches count as `token_count`, for people; files keep the name `tokens`.
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
        evaluation: Examination | None = None,
        flops_per_token: float = 0.0,
        fingerprint: str = "",
        quiet: bool = False,
        title: str = "training",
        unit: str = "tokens",
    ) -> None:
        if config.tensorboard:
            import_extra("tensorboard", "tensorboard", "train.tensorboard")
        self.config, self.seed, self.sampler = config, seed, sampler
        self.rank, self.world = distributed.rank(), distributed.world_size()
        if config.batch_size % (config.accumulate * self.world):
            raise UserError(
                f"batch_size ({config.batch_size}) must be a multiple of accumulate x processes "
                f"({config.accumulate} x {self.world})",
                where="train.batch_size",
            )
        self.device = choose_device(config.device)
        self.precision = choose_precision(_precision(config, folder), self.device)
        self.model, self.objective = model.to(self.device), objective
        self.optimizers = build_optimizers(model, config.optimizer, matrices, self.precision.dtype)
        self.folder, self.fingerprint = folder, fingerprint
        self.flops_per_token = flops_per_token
        self.quiet, self.title, self.unit = quiet or self.rank > 0, title, unit
        self.state = State()
        self.scored: nn.Module = _Scored(model, objective)
        self.part_size = config.batch_size // (config.accumulate * self.world)
        """Examples that one process handles at once."""
        self.feed = Feed(self._batch, self.device)
        self.examination = evaluation
        self.evaluate = (
            evaluation.evaluator(self.part_size, self.device, self.precision)
            if evaluation
            else None
        )
        self.best_weights: dict[str, torch.Tensor] = {}
        self.best_scores: dict[str, float] = {}
        """Where there is no folder: the best weights, for `take_best`, and their scores."""
        if config.compile:
            for module in model.modules():
                if isinstance(module, nn.ModuleList):
                    for layer in module:  # one after another, so that equal layers compile once
                        layer.compile(dynamic=False)

    # ---- one step ------------------------------------------------------------------------------

    def examples(self, step: int, part: int) -> Examples:
        """This process's share of part `part` of a step."""
        first = step * self.config.batch_size
        return self.sampler.at(
            first + (part * self.world + self.rank) * self.part_size, self.part_size
        )

    def _batch(self, step: int, part: int) -> Any:
        return self.objective.batch(self.examples(step, part), Key(self.seed))

    def step(self) -> tuple[float, int]:
        """Forward and backward over all parts, one update.

        Returns:
            The mean loss and the number of tokens, over all processes.

        Raises:
            NonFiniteLoss: the loss or the gradient is no number; weights are as before.
        """
        parts = self.config.accumulate
        local = torch.zeros(2, dtype=torch.float64, device=self.device)
        tokens = 0
        for part in range(parts):
            batch = self.feed.take(self.state.step, part)
            seed_draws(int(hash64(self.seed, self.state.step, part, self.rank)) >> 1, self.device)
            last = part == parts - 1
            wait = nullcontext() if last or self.world == 1 else self.scored.no_sync()  # type: ignore[operator]
            with wait:
                with self.precision.autocast(self.device):
                    score = self.scored(batch)
                score.loss_sum.backward()
            self.feed.prepare(self.state.step + last, 0 if last else part + 1)
            local += torch.stack([score.loss_sum.detach(), score.count]).double()
            tokens += batch.token_count
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        raw_norm = torch.nn.utils.get_total_norm(grads)
        totals = torch.tensor([*local.tolist(), tokens], dtype=torch.float64)
        loss_sum, count, all_tokens = distributed.add_up(totals).tolist()
        # DDP has averaged over processes what is to be a sum over them
        scale = self.world / max(count, 1.0)
        norm = scale * float(raw_norm)
        if not math.isfinite(loss_sum) or not math.isfinite(norm):
            self._refuse_non_finite()
        limit = self.config.clip or math.inf
        for optimizer in self.optimizers:
            take_step(optimizer, scale * min(1.0, limit / (norm + 1e-6)))
        return loss_sum / max(count, 1.0), int(all_tokens)

    def _refuse_non_finite(self) -> None:
        parts = [self.examples(self.state.step, part) for part in range(self.config.accumulate)]
        what = explain_non_finite(
            self.model, self.objective, parts, Key(self.seed), self.device, self.precision
        )
        raise NonFiniteLoss(
            f"step {self.state.step}: {what}",
            where=str(self.folder or ""),
            mend="the last good checkpoint is kept; lower the learning rate or use --precision fp32",
        )

    # ---- looking and saving --------------------------------------------------------------------

    def _look(self, log: MetricsLog, display: Progress) -> None:
        """Evaluate, log, and keep the best weights."""
        if self.evaluate is None or self.examination is None:
            return
        state, values = self.state, self.evaluate(self.model)
        state.heldout, badness = values, self.examination.badness(values)
        if not state.initial:
            state.initial = values
        elif badness < state.best:
            state.best, state.best_step = badness, state.step
            if self.folder is None:
                weights = self.model.named_parameters()
                self.best_weights = {name: p.detach().clone() for name, p in weights}
                self.best_scores = values
            elif self.rank == 0:
                best = self.folder / "checkpoints" / "best"
                checkpoints.save_weights(best, self.model, {"step": state.step, **values})
        seconds = round(state.seconds, 3)
        log.write(step=state.step, split="heldout", tokens=state.tokens, seconds=seconds, **values)
        if (at := self._progress()) >= _LATE and (why := self.examination.stuck(values)):
            display.say(
                f"nothing learned from context yet at {min(at, 1):.0%} of the budget ({why}); if it "
                "stays so: a longer budget, another learning rate, or more text"
            )
        shown = "  ".join(f"{n.replace('_', ' ')} {v:.3f}" for n, v in values.items())
        display.say(
            f"step {state.step:>6,}  {clock(state.seconds)}  {state.tokens:>11,} {self.unit}  "
            f"held out: {shown}"
        )

    def take_best(self) -> None:
        """Put back the weights that were best when looked at, and their scores, where the last are not."""
        state = self.state
        if state.best_step in (-1, state.step):
            return
        if self.folder is not None:
            best = self.folder / "checkpoints" / "best"
            checkpoints.load_weights(best, self.model)
            kept = read_json(best / "state.json", mend="--overwrite starts anew")
            state.heldout = {name: value for name, value in kept.items() if name != "step"}
        else:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(self.best_weights[name])
            state.heldout = self.best_scores

    def _save(self) -> None:
        state = self.state
        state.saved = (state.step, state.tokens, state.seconds)
        if self.folder is not None and self.rank == 0:
            kept = {
                **asdict(state),
                "fingerprint": self.fingerprint,
                "precision": self.precision.name,
            }
            folder = self.folder / "checkpoints"
            checkpoints.save(
                folder, state.step, self.model, self.optimizers, kept, self.config.keep
            )
        distributed.wait()

    def _save_due(self) -> bool:
        step, tokens, seconds = self.state.saved
        state = self.state
        since = progress(
            self.config.save_every,
            steps=state.step - step,
            tokens=state.tokens - tokens,
            seconds=state.seconds - seconds,
        )
        return since >= 1

    def _resume(self) -> int:
        """Load the newest whole checkpoint, if there is one; returns its step (0: none)."""
        if self.folder is None:
            return 0
        kept = checkpoints.load_latest(
            self.folder / "checkpoints", self.model, self.optimizers, self.fingerprint
        )
        if kept is not None:
            kept.pop("precision")
            self.state = State(**{**kept, "saved": tuple(kept["saved"])})
        return self.state.step

    # ---- the whole -----------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train until the budget is used; resumes by itself where a checkpoint lies in the folder.

        Raises:
            Interrupted: asked to stop; the state is saved.
            NonFiniteLoss: with step, layer and documents; the last good checkpoint is kept.
        """
        resumed = self._resume()
        folder = self.folder if self.rank == 0 else None
        board = folder / "tensorboard" if folder and self.config.tensorboard else None
        log = MetricsLog(folder / "metrics.jsonl" if folder else None, resumed, board)
        if self.world > 1:
            from torch.nn.parallel import DistributedDataParallel

            self.scored = DistributedDataParallel(self.scored, find_unused_parameters=True)
        display = Progress(quiet=self.quiet, title=self.title)
        if resumed:
            display.say(f"resumed at step {resumed:,}")
        try:
            gpus = self._generators()
            with torch.random.fork_rng(devices=gpus), stop_requests() as stop:
                speed = self._steps(log, display, stop)
            if not speed and self.state.seconds:  # all steps were taken before
                speed = self.state.tokens / self.state.seconds
        finally:
            gc.unfreeze()
            display.close()
            log.close()
        return Outcome(self.state, resumed, speed, self._share_of_peak(speed), self.precision)

    def _generators(self) -> list[int]:
        """GPUs whose draws are put back afterwards."""
        if self.device.type != "cuda":
            return []
        index = self.device.index
        return [torch.cuda.current_device() if index is None else index]

    def _steps(self, log: MetricsLog, display: Progress, asked: StopRequest) -> float:
        """Step after step; returns the median speed in tokens/s over all but the first few."""
        state, config = self.state, self.config
        self.model.train()
        before, started = state.seconds, time.perf_counter()
        speeds: list[float] = []
        frozen = False
        if state.step == 0:
            self._look(log, display)
        while (at := self._progress()) < 1:
            step_started = time.perf_counter()
            set_rate(self.optimizers, rate(config.schedule, at, step_share(config.budget)))
            loss, tokens = self.step()
            state.step += 1
            state.tokens += tokens
            speeds.append(tokens / (time.perf_counter() - step_started))
            state.seconds, stop = self._agree(before + time.perf_counter() - started, bool(asked))
            at = self._progress()
            if state.step % config.log_every == 0 or at >= 1:
                self._log_step(log, loss, speeds[-1])
            display.update(at, self._text(loss, speeds, at))
            if not frozen and time.perf_counter() - started > _LONG:
                frozen = True  # collections of long-lived objects cost up to half a second each
                gc.collect()
                gc.freeze()
            marks = int(min(at, 1.0) / config.evaluate_every + 1e-9)
            if marks > state.marks or at >= 1:  # the end is always looked at
                state.marks = marks
                self._look(log, display)
            if stop:
                self._save()
                then = "goes on from here" if self.folder else ""
                raise Interrupted(f"stopped at step {state.step}", then)
            if self._save_due():
                self._save()
        if state.saved[0] != state.step or not state.step:
            self._save()
        steady = sorted(speeds[min(3, len(speeds) // 2) :])
        return steady[len(steady) // 2] if steady else 0.0

    def _log_step(self, log: MetricsLog, loss: float, speed: float) -> None:
        log.write(
            step=self.state.step,
            split="train",
            tokens=self.state.tokens,
            seconds=round(self.state.seconds, 3),
            loss=loss,
            learning_rate=self.optimizers[-1].param_groups[0]["lr"],
            tokens_per_second=round(speed, 1),
        )

    def _progress(self) -> float:
        state = self.state
        return progress(
            self.config.budget, steps=state.step, tokens=state.tokens, seconds=state.seconds
        )

    def _agree(self, seconds: float, asked: bool) -> tuple[float, bool]:
        """Rank 0's clock, and whether any process was asked to stop."""
        if self.world == 1:
            return seconds, asked
        mine = [seconds if self.rank == 0 else 0.0, float(asked)]
        shared, stop = distributed.add_up(torch.tensor(mine, dtype=torch.float64)).tolist()
        return shared, stop > 0

    def _share_of_peak(self, speed: float) -> float:
        if not self.precision.peak:
            return 0.0
        return speed * self.flops_per_token / self.precision.peak / self.world

    def _text(self, loss: float, speeds: list[float], at: float) -> str:
        recent = sorted(speeds[-20:])
        speed = recent[len(recent) // 2]
        share = self._share_of_peak(speed)
        peak = f"  {share:.0%} of peak" if share else ""
        left = self.state.seconds * (1 - at) / at if at else 0
        return f"loss {loss:.3f}  {speed:,.0f} {self.unit}/s{peak}  {clock(left)} left"
