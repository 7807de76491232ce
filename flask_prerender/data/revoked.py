"""What was taken back of the values of an app, or of a process that has no app."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from collections.abc import Sequence

from ..coordination.base import EVERYTHING
from ..errors import StoreError
from ..revalidate import take_back
from ..revocations import Taken
from ..site import Site
from .flights import renewed

_REMEMBERED = 10_000


class OfSite:
    """What was taken back in an app: its values and its pages together."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known = -1

    def revision(self) -> int:
        return self._site.coordination.revision() or max(0, self._known)

    def since(self, tags: Iterable[str], revision: int) -> Taken:
        site = self._site
        current = site.coordination.revision()
        # Before anything was ever stored or taken back there is no counter to compare with.
        if current != self._known or not current:
            try:
                # What is read, and not the counter: it may be seen before what it counts.
                self._known = site.revocations.follow()
            except StoreError as error:
                site.complain("store", "what was taken back cannot be read: %s", error)
        return site.revocations.since(tags, revision)

    def revoke(self, tags: Sequence[str], *, hard: bool) -> None:
        take_back(self._site, hard=hard, tags=tags)


class OfProcess:
    """What was taken back where there is no app: by this process, of its own values."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, bool], int] = {}
        self._revision = 0
        self.renew_lock()
        renewed.add(self)

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def revision(self) -> int:
        # Of the clock, because values in a shared cache carry the numbers of other processes.
        with self._lock:
            self._revision = max(self._revision + 1, time.time_ns() // 1_000_000)
            return self._revision

    def since(self, tags: Iterable[str], revision: int) -> Taken:
        taken: Taken = ""
        for tag in tags:
            if self._newest.get((tag, True), 0) > revision:
                return "hard"
            if self._newest.get((tag, False), 0) > revision:
                taken = "soft"
        return taken

    def revoke(self, tags: Sequence[str], *, hard: bool) -> None:
        revision = self.revision()
        if len(self._newest) >= _REMEMBERED:
            # Rather too much taken back than a list without end.
            self._newest.clear()
            self._newest[EVERYTHING, True] = revision
        for tag in tags:
            self._newest[tag, hard] = revision
