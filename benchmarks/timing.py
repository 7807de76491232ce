"""Cases timed in turn, so that what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import gc
import platform
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version
from os import cpu_count

_PACKAGES = (
    "Flask-Prerender", "Flask", "Werkzeug", "Jinja2", "WhiteNoise", "Flask-Caching", "cachelib",
    "redis", "Frozen-Flask", "gunicorn", "granian", "waitress", "bjoern", "brotli",
    "backports.zstd",
)  # fmt: skip
#: One call of so many is timed by itself.
_SINGLE = 5


@dataclass
class Timed:
    """One case: CPU seconds a call in each round, and wall seconds of calls timed one by one.

    Looking at the clock costs more than the fastest calls: they are timed many at a time.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    #: Seconds of processor and of the clock.
    busy: float = 0.0
    span: float = 0.0

    def quantile(self, part: float) -> float:
        ordered = sorted(self.wall)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def in_turn(
    cases: Mapping[str, Callable[[int], None]], rounds: int, seconds: float
) -> dict[str, Timed]:
    """Time each case, which does its work so many times, for about `seconds` in each round:
    A B C, C B A, A B C ..."""
    counts = {name: _count(run, seconds) for name, run in cases.items()}
    timed = {name: Timed() for name in cases}
    gc.collect()
    for name in turns(list(cases), rounds):
        _measure(cases[name], counts[name], timed[name])
    return timed


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield every name once a round, each round in the other direction."""
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)


def _count(run: Callable[[int], None], seconds: float) -> int:
    run(3)
    started = time.perf_counter()
    run(10)
    return max(10, int(10 * seconds / (time.perf_counter() - started)))


def _measure(run: Callable[[int], None], count: int, timed: Timed) -> None:
    clock, note = time.perf_counter, timed.wall.append
    cpu, started = time.process_time(), clock()
    run(count)
    cpu = time.process_time() - cpu
    timed.busy += cpu
    timed.span += clock() - started
    timed.cpu.append(cpu / count)
    for _ in range(max(10, count // _SINGLE)):
        before = clock()
        run(1)
        note(clock() - before)


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios within the rounds."""
    return statistics.median(one / other for one, other in zip(values, base, strict=True))


def difference(values: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the differences within the rounds."""
    return statistics.median(one - other for one, other in zip(values, base, strict=True))


def versions() -> dict[str, str]:
    """Return what was measured, and on what."""
    found = {
        "Python": platform.python_version(),
        platform.system(): f"({platform.machine()}, {cpu_count()} processors)",
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    for program in ("nginx", "wrk"):
        if shutil.which(program):
            told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
            number = re.search(r"\d+(\.\d+)+", told.stderr + told.stdout)
            found[program] = number[0] if number else "of unknown version"
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as reStructuredText, the first column to the left and numbers to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: Sequence[str]) -> str:
        first, *rest = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join((first, *rest)).rstrip()

    return "\n".join([rule, line(head), rule, *map(line, rows), rule])
