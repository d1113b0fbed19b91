"""`metrics.jsonl`: one JSON object a line, flushed as it is written, cut back on resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends measurements; on resume drops lines past the resumed step.

    Args:
        path: the file; None writes nothing (other ranks).
        resumed_step: lines with a larger step are removed.
        tensorboard: a folder for TensorBoard events too, or None.
    """

    def __init__(self, path: Path | None, resumed_step: int, tensorboard: Path | None) -> None:
        self.path = path
        self.board: Any = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [x for x in read_metrics(path) if x["step"] <= resumed_step] if resumed_step else []
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(x) + "\n" for x in kept), encoding="utf-8")
        os.replace(temporary, path)
        self.handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open for the run
        if tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(tensorboard), purge_step=resumed_step + 1)

    def write(self, **values: Any) -> None:
        """Append one line: `step`, `split` and whatever was measured."""
        if self.path is None:
            return
        self.handle.write(json.dumps(values) + "\n")
        self.handle.flush()
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)) and name != "step":
                    self.board.add_scalar(f"{values['split']}/{name}", value, values["step"])

    def close(self) -> None:
        """Close the files."""
        if self.path is not None:
            self.handle.close()
        if self.board is not None:
            self.board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The measurements of a run; a line cut short by a crash, or otherwise damaged, is left out."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and isinstance(value.get("step"), int):
            lines.append(value)
    return lines
