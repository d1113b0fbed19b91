"""One process or many: torch's own launcher and process group, and nothing when there is one."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from selfsup.errors import Interrupted, UserError


def rank() -> int:
    """This process's number."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def launched() -> bool:
    """Whether torchrun (or our own launch) started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def join(device_type: str) -> None:
    """Enter the process group that the launcher announced."""
    if launched() and not dist.is_initialized():
        # the others wait while the first prepares the corpus, which may take hours
        backend = "nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))
        if device_type == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


def leave() -> None:
    """Leave the process group, if in one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def add_up(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    if not dist.is_initialized():
        return values
    # nccl adds on the GPU only
    shared = values.cuda() if dist.get_backend() == "nccl" else values.clone()
    dist.all_reduce(shared)
    return shared.to(values.device)


def wait() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def _recorded(function: Callable[..., Any], *arguments: Any) -> None:
    """Run in a child, and leave its error where the launcher finds it."""
    from torch.distributed.elastic.multiprocessing.errors import record

    record(function)(*arguments)


def launch(processes: int, function: Callable[..., Any], *arguments: Any) -> None:
    """Run a function in several processes on this machine through torch's elastic launcher.

    Raises:
        Interrupted: asked to stop.
        UserError: a process failed; says what it said.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    threads = max(1, torch.get_num_threads() // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"selfsup-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        monitor_interval=0.1,
    )
    try:
        elastic_launch(config, _recorded)(function, *arguments)
    except SignalException:  # the launcher has passed it on, and the processes have saved
        raise Interrupted("stopped", "goes on from the last checkpoint") from None
    except ChildFailedError as error:
        failure = error.get_first_failure()[1]
        said: Any = failure.message  # a dictionary when `record` has written it
        if isinstance(said, dict):
            said = said.get("message", "")
        what = str(said).partition(": ")[2] or f"exit {failure.exitcode}"
        raise UserError(f"training process {failure.local_rank} failed: {what}") from None
