"""One process of a build: how it begins, and how it ended."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
import typing as t
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

from .child import forked
from .child import spawned
from .child import Wires
from .launch import app_path
from .launch import Method
from .launch import without_interrupts
from .launch import without_main
from .routes import Target
from .site import Site

_PIPE_BYTES = 1024 * 1024


class Child:
    """One process, and what it was asked for."""

    def __init__(self, process: t.Any, wires: Wires) -> None:
        self.process = process
        self.wires = wires
        self.waiting: dict[int, Target] = {}
        self.is_ready = False
        self.current, self.since = -1, time.monotonic()

    def close(self) -> None:
        """Let the process end when it has done what it is at."""
        self.wires.asks.close()
        self.wires.answers.close()

    def ending(self) -> str:
        """Return how it ended, in words."""
        code = self.process.exitcode
        if code >= 0:
            return f"ended with the exit code {code}"
        name = next((one.name for one in signal.Signals if one == -code), "")
        return f"was killed by signal {-code}{f' ({name})' if name else ''}"


class Hire:
    """Starts the processes of a build.

    :raises ConfigError: a new process would not find the app.
    """

    def __init__(self, site: Site, number: int, method: Method) -> None:
        self._site = site
        self._number = number
        self._context: t.Any = multiprocessing.get_context(method)
        self._path = app_path(site.app) if method == "spawn" else None

    def __call__(self, others: list[Child]) -> None:
        """Start one.

        :param others: those that live; it is added.
        """
        asks, our_asks = self._context.Pipe(duplex=False)
        our_answers, answers = self._context.Pipe(duplex=False)
        _widen(our_answers)
        wires = Wires(asks, answers, self._context.RawValue("q", -1))
        ours = Wires(our_asks, our_answers, wires.current)
        with without_interrupts():
            others.append(Child(self._start(wires, ours, others), ours))
        asks.close()
        answers.close()

    def _start(self, wires: Wires, ours: Wires, others: Sequence[Child]) -> t.Any:
        if self._path is None:
            ends = [end for one in others for end in one.wires[:2]]
            args: tuple[t.Any, ...] = (wires, [*ours[:2], *ends], self._site, self._number)
            process = self._context.Process(target=forked, args=args, name="prerender-build")
            process.start()
            return process
        args = (wires, self._path, (self._site.output, self._site.style), self._number)
        process = self._context.Process(target=spawned, args=args, name="prerender-build")
        with without_main():
            process.start()
        return process


def _widen(pipe: Connection) -> None:
    """Let a process go on rendering while this one stores."""
    if sys.platform == "linux":
        import fcntl

        with suppress(OSError):
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
