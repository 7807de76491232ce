"""Work in a process of its own, which tells what it found as JSON."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def run(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module of this package, and return what its last line says.

    :raises RuntimeError: it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def tell(facts: dict[str, Any]) -> None:
    """Be understood by :func:`run`."""
    print(json.dumps(facts))


def peak() -> float:
    """Return the most memory that this process had, in megabytes.

    Linux lets a process inherit the ``ru_maxrss`` of the one that started it, but not this.
    """
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def resident() -> float:
    """Return the memory that this process has now, in megabytes; its peak where that is unknown."""
    return _status("VmRSS") or peak()


def _status(name: str) -> float | None:
    status = Path(f"/proc/{os.getpid()}/status")
    if not status.exists():
        return None
    lines = status.read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024
