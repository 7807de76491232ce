"""Cases timed in turn, so that what the machine does meanwhile meets all of them alike."""

from __future__ import annotations

import gc
import platform
import statistics
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
    "Flask-Prerender", "Flask", "Werkzeug", "Jinja2", "Flask-Caching", "cachelib", "Frozen-Flask",
    "brotli", "backports.zstd",
)  # fmt: skip


@dataclass
class Timed:
    """One case: CPU seconds a call in each round, and wall seconds of each call."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    busy: float = 0.0

    def quantile(self, part: float) -> float:
        ordered = sorted(self.wall)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def in_turn(
    cases: Mapping[str, Callable[[], None]], rounds: int, seconds: float
) -> dict[str, Timed]:
    """Time each case for about `seconds` in each round: A B C, C B A, A B C ..."""
    counts = {name: _count(call, seconds) for name, call in cases.items()}
    timed = {name: Timed() for name in cases}
    gc.collect()
    for name in turns(list(cases), rounds):
        _measure(cases[name], counts[name], timed[name])
    return timed


def turns(names: Sequence[str], rounds: int) -> Iterator[str]:
    """Yield every name once a round, each round in the other direction."""
    for number in range(rounds):
        yield from names if number % 2 == 0 else reversed(names)


def _count(call: Callable[[], None], seconds: float) -> int:
    for _ in range(3):
        call()
    started = time.perf_counter()
    for _ in range(10):
        call()
    return max(10, int(10 * seconds / (time.perf_counter() - started)))


def _measure(call: Callable[[], None], count: int, timed: Timed) -> None:
    clock, note = time.perf_counter, timed.wall.append
    cpu, started = time.process_time(), clock()
    for _ in range(count):
        before = clock()
        call()
        note(clock() - before)
    cpu = time.process_time() - cpu
    timed.busy += clock() - started
    timed.cpu.append(cpu / count)


def ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios within the rounds."""
    return statistics.median(one / other for one, other in zip(values, base, strict=True))


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
