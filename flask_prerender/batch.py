"""Pages of a build that wait to be stored together."""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Sequence

from .making import Judged
from .publish import Outcome
from .publish import store_together
from .routes import Target
from .site import Site

#: So many pages, or bytes of bodies, or what came in so many seconds, go into one transaction.
MOST = 32
_BYTES = 4 * 1024 * 1024
_SECONDS = 0.1


class Waiting(t.NamedTuple):
    """A page, and its render, or what became of it."""

    target: Target
    result: Judged | Outcome


class Batch:
    """What is rendered and not stored yet, and what became of other pages, in the order it came.

    Whoever adds what makes the batch full stores it: a thread of its own would wait for the
    interpreter at every step on its way.

    :param most: pages together; with 1, each is stored at once.
    """

    def __init__(self, site: Site, most: int = MOST) -> None:
        self._site = site
        self._most = most
        self._lock = threading.Lock()
        self._waiting: list[Waiting] = []
        self._bytes = 0
        self._since = 0.0

    def add(self, one: Waiting, *, is_last: bool) -> list[Waiting]:
        """Add a page, and return all that are to be stored now, which are the caller's then.

        :param is_last: nothing may come for a while.
        """
        with self._lock:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append(one)
            self._bytes += len(one.result.done.body) if isinstance(one.result, Judged) else 0
            is_full = len(self._waiting) >= self._most or self._bytes >= _BYTES
            return self._take() if is_full or is_last or self._age() >= _SECONDS else []

    def overdue(self) -> list[Waiting]:
        """Return what waits although nobody adds to it, which is the caller's then."""
        with self._lock:
            return self._take() if self._waiting and self._age() >= 2 * _SECONDS else []

    def rest(self) -> list[Waiting]:
        with self._lock:
            return self._take()

    def store(self, waiting: Sequence[Waiting]) -> list[Outcome]:
        """Store what was taken, and return what became of each page."""
        results = [one.result for one in waiting]
        judged = [one for one in results if isinstance(one, Judged)]
        stored = iter(store_together(self._site, judged) if judged else ())
        return [next(stored) if isinstance(one, Judged) else one for one in results]

    def _age(self) -> float:
        return time.monotonic() - self._since

    def _take(self) -> list[Waiting]:
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        return waiting
