"""The values of one function for one app: looked up, kept, taken back."""

from __future__ import annotations

import hashlib
import threading
import typing as t
from collections.abc import Sequence

from ..coordination.base import EVERYTHING
from ..page import State
from ..revocations import Taken
from ..site import Clock
from ..site import Site
from .flights import renewed
from .revoked import OfProcess
from .revoked import OfSite
from .values import Entry
from .values import Place
from .values import Stats

Count = t.Literal["fresh", "stale", "fetched", "failed", "shared"]


class Shelf:
    """The values of one function for one app, or for no app.

    :param name: what the function is known by.
    """

    def __init__(self, name: str, place: Place, site: Site | None, clock: Clock) -> None:
        self.name = name
        self.clock = site.clock if site else clock
        self._place = place
        self._revoked: OfSite | OfProcess = OfSite(site) if site else OfProcess()
        self._counts: dict[Count, int] = dict.fromkeys(t.get_args(Count), 0)
        self.renew_lock()
        renewed.add(self)

    def renew_lock(self) -> None:
        self._lock = threading.Lock()
        self._place.renew_lock()

    @property
    def is_shared(self) -> bool:
        """Whether other processes may have the same values."""
        return self._place.is_shared

    def look(self, key: str) -> tuple[Entry | None, State]:
        """Return a value and how it is: one that is not there has expired."""
        entry = self._place.get(key)
        return entry, "expired" if entry is None else self.state(entry)

    def state(self, entry: Entry) -> State:
        taken = self.taken(entry)
        state = "expired" if taken == "hard" else entry.state(self.clock())
        return "stale" if taken and state == "fresh" else state

    def taken(self, entry: Entry) -> Taken:
        """Return whether a value was taken back after its fetch began."""
        return self._revoked.since((EVERYTHING, *entry.tags), entry.revision)

    def revision(self) -> int:
        """Return the revision that a fetch which begins now is to remember."""
        return self._revoked.revision()

    def keep(self, key: str, entry: Entry) -> Entry:
        """Keep a value, and return it as it will be read again.

        :raises DataError: such a value cannot be kept here.
        """
        return self._place.put(key, entry)

    def take_back(self, keys: Sequence[str | None], *, hard: bool) -> None:
        """Take values back, and the pages that were rendered from them.

        :param keys: ``None`` among them stands for all.
        :raises StoreError: other processes cannot be told.
        """
        for key in keys if hard else ():
            if key is None:
                self._place.clear()
            else:
                self._place.drop(key)
        tags = [self.tag() if key is None else self.tag(key) for key in keys]
        self._revoked.revoke(tags, hard=hard)

    def tag(self, key: str | None = None) -> str:
        """Return the tag of one value, or of all values of the function."""
        if key is None:
            return f"data:{self.name}"
        return f"data:{self.name}:{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def label(self, key: str) -> str:
        """Return what a value is called in logs and errors."""
        return f"{self.name}({key})"

    def count(self, what: Count) -> None:
        with self._lock:
            self._counts[what] += 1

    def stats(self) -> Stats:
        with self._lock:
            return Stats(**self._counts, evicted=self._place.evicted, values=len(self._place))
