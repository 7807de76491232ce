"""One piece of work for everybody who asks for it at the same time (single flight)."""

from __future__ import annotations

import logging
import math
import threading
import time
import typing as t
from collections.abc import Callable
from contextvars import Context

R = t.TypeVar("R")

_LEFT_BEHIND = 4

log = logging.getLogger("flask_prerender")


class Flight(t.Generic[R]):
    """Work under way in a thread of its own, and its result."""

    def __init__(self, began: float) -> None:
        self.began = began
        self._landed = threading.Event()
        self.result: R | None = None

    def land(self, result: R | None) -> None:
        self.result = result
        self._landed.set()

    def wait(self, seconds: float) -> R | None:
        """Return the result, or ``None`` when it did not come in time or the work failed."""
        return self.result if self._landed.wait(seconds) else None


class Flights(t.Generic[R]):
    """The work under way in this process, by key.

    :param limit: how many flights there may be at a time.
    :param patience: seconds after which a flight may be given up.
    """

    def __init__(
        self,
        limit: int,
        patience: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._patience = patience
        self._clock = clock
        self._flying: dict[str, Flight[R]] = {}
        self._left_behind: set[int] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flying)

    def join(self, key: str, work: Callable[[], R]) -> Flight[R] | None:
        """Join the flight of `key`, or start it; ``None`` when too many are under way.

        The work runs in a daemon thread, so that whoever waits for it can give up, and so that it
        sees nothing of the request that asked for it.
        """
        with self._lock:
            flight = self._flying.get(key)
            if flight is not None:
                return flight
            if len(self._flying) >= self._limit:
                return None
            flight = self._flying[key] = Flight(self._clock())
        # Pythons to come let a thread inherit the context of whoever starts it.
        thread = threading.Thread(
            target=Context().run,
            args=(self._fly, key, flight, work),
            name=f"prerender-visit {key}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down, or the system is out of threads
            self._end(key, flight, None)
            return None
        return flight

    def leave_behind(self) -> list[str]:
        """Give up the flights that take too long, so that others can start, and return their keys.

        A thread cannot be ended. When several of them hang, the rest keep their places: views that
        hang on every page must not fill the process with threads.
        """
        with self._lock:
            before = self._clock() - self._patience
            late = [key for key, flight in self._flying.items() if flight.began < before]
            late = late[: _LEFT_BEHIND - len(self._left_behind)]
            for key in late:
                self._left_behind.add(id(self._flying.pop(key)))
            return late

    def renew_lock(self) -> None:
        """Forget the flights of the parent process, whose threads a forked child does not have."""
        self._lock = threading.Lock()
        self._flying = {}
        self._left_behind = set()

    def _fly(self, key: str, flight: Flight[R], work: Callable[[], R]) -> None:
        result: R | None = None
        try:
            result = work()
        except Exception:
            log.exception("%s could not be published", key)
        finally:
            self._end(key, flight, result)

    def _end(self, key: str, flight: Flight[R], result: R | None) -> None:
        with self._lock:
            self._left_behind.discard(id(flight))
            if self._flying.get(key) is flight:
                del self._flying[key]
        flight.land(result)
