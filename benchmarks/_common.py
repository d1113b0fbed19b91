"""What the benchmarks share: flags, the data, the machine, and the line of JSON at the end."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def arguments(description: str, **extra: Any) -> argparse.Namespace:
    """`--quick`, `--data DIR`, and a benchmark's own flags (name=default)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under two minutes; rough")
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="the folder of data sets [../shared/data]; without it the embedded texts are used",
    )
    for name, default in extra.items():
        kind = type(default) if default is not None else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, default=default)
    return parser.parse_args()


def imdb(args: argparse.Namespace) -> str:
    """The path of IMDB's unlabelled reviews, or the embedded texts where it is missing."""
    file = args.data / "text" / "imdb" / "imdb_unlabelled.jsonl.xz"
    if file.is_file():
        return str(file)
    print(f"{file} is not here: using the embedded documentation strings", file=sys.stderr)
    return "docstrings:"


def peak_megabytes() -> float:
    """The most memory this process has held.

    Not `ru_maxrss`: a child inherits its parent's.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return float(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")


def machine() -> dict[str, Any]:
    """Where the figures were measured."""
    import torch

    model = ""
    cpu = Path("/proc/cpuinfo")
    if cpu.is_file():
        lines = cpu.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def measure_apart(system: str, shape: str, source: str, steps: int) -> dict[str, Any] | None:
    """The result of `--worker system|shape|source|steps` of this benchmark, in a process of its own.

    None where it fails; then its last line is shown.
    """
    command = [sys.executable, sys.argv[0], "--worker", f"{system}|{shape}|{source}|{steps}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {system}: failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"  {shape} {system:22s} {found['tokens_per_second']:10,.0f} tokens/s "
        f"{found['peak_megabytes']:8,.0f} MB",
        flush=True,
    )
    return found


def finish(name: str, args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Keep the result (not of a quick run) and print it as the last line."""
    command = shlex.join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])
    result = {"benchmark": name, "command": command, "machine": machine(), **figures}
    if not args.quick:
        folder = ROOT / "benchmarks" / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
