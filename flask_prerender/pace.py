"""How long work in the background rests, so that requests do not feel what it costs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager

#: Work that used a second of the processor rests fifteen: a sixteenth is its share, and what hits
#: lose. While it lasts they come to nearly nothing, because a thread at work keeps the interpreter
#: from the others for five milliseconds at a time (sys.getswitchinterval).
_TIMES = 15.0
#: Who rests is woken late, by as much again, and makes up for it: so many seconds of rest.
_CREDIT = 0.05
#: Requests that use a quarter of a processor are busy. Below it, rests are shorter in proportion:
#: where nobody asks for anything, nobody feels anything.
_BUSY = 0.25
#: Without any rest it would not show that somebody wants the processor: a quarter of the cost.
_LEAST = 1 / 60
#: Seconds after which half of what was seen is forgotten.
_MEMORY = 0.25
_LONGEST = 30.0
#: On a crowded machine, a process gets less in a second than it would use. The system's average
#: of those who want to run is that of a minute; this is how often we look, and how far we believe.
_CROWD_SECONDS = 1.0
_MOST_CROWDED = 8.0
#: Greenlets have one processor clock for all, and a view that waits seems to have used what others
#: did meanwhile.
_LONGEST_AMONG_GREENLETS = 0.25


class Pace:
    """What the work of a process has cost of late, and what everything else in the process uses.

    :param now: seconds on the clock.
    :param total: seconds of processor time that the whole process has used.
    :param own: the same of the thread that asks.
    :param crowd: how many want to run on each processor of the machine.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        total: Callable[[], float] = time.process_time,
        own: Callable[[], float] = time.thread_time,
        crowd: Callable[[], float] | None = None,
    ) -> None:
        self._now, self._total, self._own = now, total, own
        self._crowd = crowd or crowd_of_machine
        self._crowded, self._crowded_until = 1.0, float("-inf")
        self._lock = threading.Lock()
        self._under_way = 0
        self._debt = 0.0
        self._begin(now(), total())

    def _begin(self, now: float, total: float) -> None:
        self._seen_at, self._seen_total = now, total
        self._span = self._others = 0.0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Count what the block costs its thread."""
        with self._lock:
            now = self._now()
            if not self._under_way and now - self._seen_at > _MEMORY:
                self._begin(now, self._total())  # nothing is known of a time nobody looked at
            self._under_way += 1
        before = self._own()
        try:
            yield
        finally:
            cost = self._own() - before
            with self._lock:
                self._look(cost)
                self._under_way -= 1
                self._debt = min(self._debt + _TIMES * cost * self._crowded, _longest())

    def rest(self) -> float:
        """Return for how many seconds no more work should begin, as far as is known now. Ask again
        after a part of it: the process may be less busy by then, or more."""
        with self._lock:
            busy = self._look(0.0)
            return max(0.0, self._debt * busy)

    def _look(self, cost: float) -> float:
        """Take in what happened since the last time, and return how busy the others are, up to 1.

        :param cost: of work that has ended since.
        """
        now, total = self._now(), self._total()
        span = max(0.0, now - self._seen_at)
        kept = 0.5 ** (span / _MEMORY)
        self._span = self._span * kept + span
        self._others = self._others * kept + total - self._seen_total - cost
        self._seen_at, self._seen_total = now, total
        if now >= self._crowded_until:
            self._crowded_until = now + _CROWD_SECONDS
            self._crowded = min(_MOST_CROWDED, max(1.0, self._crowd()))
        busy = 1.0 if self._span <= 0 else self._others * self._crowded / self._span / _BUSY
        busy = min(1.0, max(_LEAST, busy))
        # Work is no rest to be credited, but who waits for others to end theirs has rested.
        least = min(self._debt, 0.0) if self._under_way else -_CREDIT
        self._debt = max(least, self._debt - span / busy)
        return busy


def crowd_of_machine() -> float:
    """Return how many want to run on each processor, on the average of the last minute."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return 1.0


def _longest() -> float:
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return _LONGEST_AMONG_GREENLETS
    return _LONGEST
