"""One fetch at a time for each value: in the thread that asked, or in a thread of ours."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Hashable
from contextlib import suppress
from contextvars import Context

from ..errors import DataError
from .values import Entry

log = logging.getLogger("flask_prerender")

_THREADS = 4
_LEFT_BEHIND = 4


class Flight:
    """A fetch under way, and what came of it.

    :param label: what is fetched, for the log.
    :param patience: seconds after which it counts as hung, and another may begin.
    """

    def __init__(self, label: str, patience: float) -> None:
        self.label = label
        self._hangs_at = time.monotonic() + patience
        self._landed = threading.Event()
        self._entry: Entry | None = None
        self._error: Exception | None = None

    @property
    def hangs(self) -> bool:
        return time.monotonic() >= self._hangs_at

    def land(self, entry: Entry | None, error: Exception | None) -> None:
        self._entry, self._error = entry, error
        self._landed.set()

    def wait(self, seconds: float) -> Entry | None:
        """Return what was fetched, or raise what the fetch raised.

        :return: ``None`` when nothing was fetched, since another process is at it.
        :raises TimeoutError: it takes longer.
        """
        if not self._landed.wait(seconds):
            raise TimeoutError
        if self._error is not None:
            raise _own_error(self._error)
        return self._entry


class Flights:
    """The fetches under way in this process, by key."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._threads = threads
        self.renew_lock()
        renewed.add(self)

    def renew_lock(self) -> None:
        """Forget the fetches of the parent process, whose threads a forked child does not have."""
        self._lock = threading.Lock()
        self._flying: dict[Hashable, Flight] = {}
        self._in_threads: set[Flight] = set()
        self._left_behind: set[Flight] = set()

    def __len__(self) -> int:
        return len(self._flying)

    def join(self, key: Hashable, label: str, patience: float) -> tuple[Flight, bool]:
        """Return the flight of `key`, and whether the caller is the one to fly it."""
        with self._lock:
            before = self._flying.get(key)
            if before is not None and not before.hangs:
                return before, False
            flight = self._flying[key] = Flight(label, patience)
        if before is not None:
            log.warning("A fetch of %s hangs, and another one takes its place.", label)
        return flight, True

    def start(
        self, key: Hashable, label: str, patience: float, work: Callable[[Flight], object]
    ) -> None:
        """Have a value fetched in a thread, unless it is being fetched or all threads are busy."""
        with self._lock:
            left_behind = self._leave_hung_behind()
            before = self._flying.get(key)
            is_flying = before is not None and not before.hangs
            flight = Flight(label, patience)
            begins = not is_flying and len(self._in_threads) < self._threads
            if begins:
                self._flying[key] = flight
                self._in_threads.add(flight)
            is_last = bool(left_behind) and len(self._left_behind) == _LEFT_BEHIND
        # With no lock held: where a log goes, greenlets may take turns.
        for one in left_behind:
            log.warning("The fetch of %s hangs; its thread is left behind.", one.label)
        if is_last:
            log.critical("%s fetches hang: no others take the place of more.", _LEFT_BEHIND)
        if begins:
            self._start_thread(key, flight, work)

    def is_current(self, key: Hashable, flight: Flight) -> bool:
        """Return whether nobody took the place of a flight that hung."""
        return self._flying.get(key) is flight

    def land(
        self,
        key: Hashable,
        flight: Flight,
        entry: Entry | None = None,
        error: BaseException | None = None,
    ) -> None:
        with self._lock:
            if self._flying.get(key) is flight:
                del self._flying[key]
        if error is not None and not isinstance(error, Exception):
            # What ends one caller must not end those who wait for it.
            error = DataError(f"The fetch of {flight.label} was ended by {error!r}.")
        flight.land(entry, error)

    def _start_thread(
        self, key: Hashable, flight: Flight, work: Callable[[Flight], object]
    ) -> None:
        # Pythons to come let a thread inherit the context of whoever starts it.
        thread = threading.Thread(
            target=Context().run, args=(self._fly, flight, work), name="prerender-data", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # at the end of the interpreter, or out of threads
            self._leave(flight)
            self.land(key, flight)

    def _fly(self, flight: Flight, work: Callable[[Flight], object]) -> None:
        with suppress(BaseException):  # told by the work; what ends it ends this thread, no other
            work(flight)
        self._leave(flight)

    def _leave(self, flight: Flight) -> None:
        with self._lock:
            self._in_threads.discard(flight)
            self._left_behind.discard(flight)

    def _leave_hung_behind(self) -> list[Flight]:
        """A thread cannot be killed: another may take its place, as long as few hang."""
        late = [flight for flight in self._in_threads if flight.hangs]
        late = late[: _LEFT_BEHIND - len(self._left_behind)]
        self._in_threads.difference_update(late)
        self._left_behind.update(late)
        return late


def _own_error(error: Exception) -> Exception:
    """Return an error for one of several who raise it: with one object for all, each would write
    its own traceback, and the errors it was dealing with, into that of the others."""
    try:
        own = copy.copy(error)
    except Exception:
        return error
    if type(own) is not type(error):
        return error
    own.__cause__, own.__suppress_context__ = error.__cause__, error.__suppress_context__
    return own.with_traceback(error.__traceback__)


class Renewed(t.Protocol):
    def renew_lock(self) -> None: ...


#: What takes new locks in a forked child, whose parent may have held the old ones.
renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()
_settling = threading.Lock()
_process = os.getpid()


def settle() -> None:
    """Begin anew after a fork that nobody told Python of, as uWSGI's."""
    if _process != os.getpid():
        with _settling:
            if _process != os.getpid():
                _renew_all()


def _renew_all() -> None:
    global _process
    for one in list(renewed):
        one.renew_lock()
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
