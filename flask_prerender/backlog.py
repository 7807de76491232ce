"""Keys that wait for their turn, each once, and the threads that work them off."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .pace import Pace
from .settings import Settings

log = logging.getLogger("flask_prerender")

_IDLE_SECONDS = 1.0
_QUEUED = 1000
_ABANDONED = 4
_SLOW_SECONDS = 1.0
#: So often a thread that rests looks whether it still has to.
_LOOK_SECONDS = 0.25


@dataclass(slots=True, eq=False)
class Worker:
    """A thread at work: its key, and since when."""

    key: str = ""
    since: float = 0.0
    is_abandoned: bool = False


class Backlog:
    """What was asked for first is made first. What is asked for again while it waits keeps its
    place, and what was just made goes to the end: so everything has its turn.

    :param work: called with one key in a thread; never raises.
    :param prepare: called in a thread that is about to take a key; may take its time.
    :param on_hang: called with a key whose work hangs.
    """

    def __init__(
        self,
        settings: Settings,
        work: Callable[[str], None],
        *,
        prepare: Callable[[], object],
        on_hang: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._work_on, self._prepare, self._on_hang = work, prepare, on_hang
        self._pace = Pace()
        self._condition = threading.Condition()
        self.queue: OrderedDict[str, None] = OrderedDict()
        self.workers: set[Worker] = set()
        #: Threads that hang and were given up, but have not ended.
        self.left_behind = 0
        #: How many keys found no room.
        self.dropped = 0
        #: Whether threads can be started here.
        self.has_threads = True
        self.is_closed = False

    def add(self, key: str) -> bool:
        """Put a key at the end, and return whether its work will be done for this call. Never
        waits for work."""
        with self._condition:
            # Also for a key that is known: those queued behind one that hangs are asked for again.
            self._leave_hung_behind()
            is_new = not (key in self.queue or any(one.key == key for one in self.workers))
            if is_new and len(self.queue) >= _QUEUED:
                self.dropped += 1
                return False
            if is_new:
                self.queue[key] = None
                self._condition.notify()
            return self._see_to_workers() and is_new

    def close(self) -> None:
        """Take no more keys, and forget those that wait."""
        with self._condition:
            self.is_closed = True
            self.queue.clear()
            self._condition.notify_all()

    def _see_to_workers(self) -> bool:
        """Start as many threads as there is work for. Called with the condition held."""
        wanted = min(self._wanted(), len(self.queue) + len(self.workers))
        while len(self.workers) < wanted and self.left_behind < _ABANDONED:
            worker = Worker()
            thread = threading.Thread(
                target=self._work, args=(worker,), name="prerender-regenerate", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # at the end of the interpreter, or out of threads
                self.queue.clear()
                self.has_threads = False
                return False
            self.has_threads = True
            self.workers.add(worker)
        return bool(self.workers)

    def _wanted(self) -> int:
        """Return how many threads there may be: those whose work takes long hold nobody up."""
        limit = time.monotonic() - _SLOW_SECONDS
        slow = sum(bool(one.key) and one.since < limit for one in self.workers)
        return self._settings.regenerators + min(slow, _ABANDONED)

    def _leave_hung_behind(self) -> None:
        """A thread cannot be killed: another takes its place, and what it still does is late."""
        limit = time.monotonic() - self._settings.timeout - 1.0
        for worker in [one for one in self.workers if one.key and one.since < limit]:
            worker.is_abandoned = True
            self.workers.discard(worker)
            self.left_behind += 1
            self._on_hang(worker.key)
            log.warning("The render of %s hangs; its thread is left behind.", worker.key)
            if self.left_behind == _ABANDONED:
                log.critical("%s renders hang: no page is made new until one ends.", _ABANDONED)

    def _work(self, worker: Worker) -> None:
        while self._has_work(worker):
            self._prepare()
            if self._take(worker):
                with self._pace.work():
                    self._work_on(worker.key)

    def _has_work(self, worker: Worker) -> bool:
        """Wait until a key may be taken, and return whether one is there; without one for a while,
        the thread ends."""
        with self._condition:
            worker.key = ""
            if not worker.is_abandoned:
                self._condition.wait_for(lambda: self.queue or self.is_closed, _IDLE_SECONDS)
                while self.queue and (seconds := self._pace.rest()) > 0:
                    self._condition.wait(min(seconds, _LOOK_SECONDS))
                has_place = len(self.workers) <= self._wanted()
                if self.queue and has_place and not self.is_closed:
                    return True
            elif self.left_behind:
                self.left_behind -= 1
            self.workers.discard(worker)
            return False

    def _take(self, worker: Worker) -> bool:
        with self._condition:
            if not self.queue:  # somebody was faster
                return False
            worker.key, _ = self.queue.popitem(last=False)
            worker.since = time.monotonic()
            return True
