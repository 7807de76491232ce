"""One fetch at a time for each value: in the thread that asked, or in a thread of ours."""

from __future__ import annotations

import logging
import os
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from dataclasses import dataclass

from .values import Entry

log = logging.getLogger("flask_prerender")

_THREADS = 4

Count = t.Literal["fresh", "stale", "fetched", "failed", "shared"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the calls of one function in this process, for one app.

    :ivar fresh: served without a fetch.
    :ivar stale: served while the value is fetched behind the caller.
    :ivar fetched: fetches that gave a value, in a request and behind one.
    :ivar failed: fetches that raised.
    :ivar shared: callers that waited for the fetch of another one.
    :ivar evicted: values that made room for others.
    :ivar values: values kept now.
    """

    fresh: int
    stale: int
    fetched: int
    failed: int
    shared: int
    evicted: int
    values: int


@dataclass(slots=True)
class Wanted:
    """One call: which value, how it is fetched, and the tags it will have."""

    key: str
    fetch: Callable[[], t.Any]
    tags: Callable[[], Iterable[str]]


class Flight:
    """A fetch under way, and what came of it."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self._landed = threading.Event()
        self._entry: Entry | None = None
        self._error: Exception | None = None

    def land(self, entry: Entry | None, error: Exception | None) -> None:
        self._entry, self._error = entry, error
        self._landed.set()

    def wait(self, seconds: float) -> Entry | None:
        """Return what was fetched, or raise what the fetch raised; ``None``: it takes longer."""
        if not self._landed.wait(seconds):
            return None
        if self._error is not None:
            # Many raise this one object: without this its traceback would grow with each of them.
            raise self._error.with_traceback(None)
        return self._entry


class Fetches:
    """The fetches under way in this process, by key."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = threads
        self.renew_lock()
        renewed.add(self)

    def renew_lock(self) -> None:
        """Forget the fetches of the parent process, whose threads a forked child does not have."""
        self._lock = threading.Lock()
        self._flying: dict[Hashable, Flight] = {}
        self._busy = 0

    def __len__(self) -> int:
        return len(self._flying)

    def join(self, key: Hashable, patience: float) -> tuple[Flight, bool]:
        """Return the flight of `key`, and whether the caller is the one to fly it.

        :param patience: seconds after which a fetch counts as hung, and another may begin.
        """
        with self._lock:
            flight = self._current(key, patience)
            if flight is not None:
                return flight, False
            flight = self._flying[key] = Flight()
            return flight, True

    def start(self, key: Hashable, patience: float, work: Callable[[Flight], object]) -> bool:
        """Have a value fetched in a thread, unless it is being fetched or all threads are busy."""
        with self._lock:
            if self._busy >= self._threads or self._current(key, patience) is not None:
                return False
            flight = self._flying[key] = Flight()
            self._busy += 1
        thread = threading.Thread(
            target=self._fly, args=(flight, work), name="prerender-data", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # at the end of the interpreter, or out of threads
            self._leave()
            self.land(key, flight, error=error)
            return False
        return True

    def is_current(self, key: Hashable, flight: Flight) -> bool:
        """Return whether nobody took the place of a flight that hung."""
        return self._flying.get(key) is flight

    def land(
        self,
        key: Hashable,
        flight: Flight,
        entry: Entry | None = None,
        error: Exception | None = None,
    ) -> None:
        with self._lock:
            if self._flying.get(key) is flight:
                del self._flying[key]
        flight.land(entry, error)

    def _current(self, key: Hashable, patience: float) -> Flight | None:
        flight = self._flying.get(key)
        return flight if flight and time.monotonic() - flight.since < patience else None

    def _fly(self, flight: Flight, work: Callable[[Flight], object]) -> None:
        try:
            work(flight)
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._busy -= 1


class Renewed(t.Protocol):
    def renew_lock(self) -> None: ...


#: What takes new locks in a forked child, whose parent may have held the old ones.
renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def _renew_all() -> None:
    for one in list(renewed):
        one.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
