"""Claims on keys, kept while their holder works: one render for all processes of a host."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace

from .coordination.base import Lease
from .coordination.base import Streak
from .errors import StoreError
from .site import Site

LEASE_SECONDS = 15.0
_RENEW_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_FIRST_REST, _LAST_REST, _SPREAD = 3.0, 300.0, 0.1
_FAILURES = 1000
LONGEST_REST = _LAST_REST * (1 + _SPREAD)


@dataclass(slots=True, eq=False)
class Claim:
    """A lease in use. Set `streak` before the end when the work failed, and the key rests.

    :ivar revision: the one that stood before the work began.
    """

    lease: Lease
    since: float
    revision: int
    streak: Streak | None = None

    @property
    def token(self) -> int:
        return self.lease.token


class Claims:
    """The claims of this process, and the thread that renews them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.renew()
        site.renewals.append(self.renew)

    def renew(self) -> None:
        """Begin anew in a forked child: what the parent holds is the parent's."""
        self._held: set[Claim] = set()
        self._changed = threading.Condition()
        self._is_watched = self._used = self._is_over = False
        #: Failures in a row, where they cannot be written.
        self._failures: dict[str, int] = {}

    @contextmanager
    def hold(self, key: str, *, anyway: bool = False) -> Iterator[Claim | None]:
        """Claim a key for the block; ``None`` when somebody else has it, or it rests.

        :param anyway: claim it although it rests.
        :raises StoreError: claims cannot be written.
        """
        site = self._site
        if site.is_read_only:
            with self._unwritten(key) as unwritten:
                yield unwritten
            return
        lease = site.coordination.claim(key, LEASE_SECONDS, site.clock(), anyway=anyway)
        if lease is None:
            yield None
            return
        claim = Claim(lease, site.clock(), site.coordination.revision())
        with self._changed:
            self._held.add(claim)
            self._watch()
        try:
            yield claim
        finally:
            with self._changed:
                self._held.discard(claim)
            # A claim that cannot be released ends by itself.
            streak = claim.streak and replace(claim.streak, revision=claim.revision)
            with suppress(StoreError):
                site.coordination.release(claim.lease, streak)

    @contextmanager
    def _unwritten(self, key: str) -> Iterator[Claim]:
        """Claim a key where nothing can be written: no other process sees it, nor needs to, since
        each makes its own page."""
        site, now = self._site, self._site.clock()
        failures = self._failures.pop(key, 0)
        lease = Lease(key, site.coordination.token(), now + LEASE_SECONDS, failures)
        claim = Claim(lease, now, site.coordination.revision())
        yield claim
        if claim.streak is not None and len(self._failures) < _FAILURES:
            self._failures[key] = claim.streak.failures

    def let_go(self) -> None:
        """End all claims of a process that ends: its work is abandoned, others may begin."""
        with self._changed:
            held, self._held = self._held, set()
            self._is_over = True
            self._changed.notify()
        for claim in held:
            with suppress(StoreError):
                self._site.coordination.renew(claim.lease, 0.0, self._site.clock())

    def _watch(self) -> None:
        self._used, self._is_over = True, False
        if self._is_watched:
            return
        thread = threading.Thread(target=self._renew_held, name="prerender-claims", daemon=True)
        with suppress(RuntimeError):  # at the end of the interpreter
            thread.start()
            self._is_watched = True

    def _renew_held(self) -> None:
        renewed_at = time.monotonic()
        while True:
            with self._changed:
                # A thread for each claim would cost as much as the claim, so it stays for a while.
                self._used = False
                self._changed.wait(_LOOK_SECONDS)
                if self._is_over or not (self._held or self._used):
                    self._is_watched = False
                    return
                if time.monotonic() - renewed_at < _RENEW_SECONDS:
                    continue
                held, renewed_at = list(self._held), time.monotonic()
            for claim in held:
                self._renew_one(claim)

    def _renew_one(self, claim: Claim) -> None:
        site, now = self._site, self._site.clock()
        if now - claim.since > site.settings.timeout:
            return  # its render hangs: let the claim end, and another try
        try:
            claim.lease = site.coordination.renew(claim.lease, LEASE_SECONDS, now) or claim.lease
        except StoreError as error:
            site.complain("store", "a claim could not be renewed: %s", error)


def rest_after(failures: int, revalidate: float | None) -> float:
    """Return how many seconds a page rests after one more failure: growing, capped, spread."""
    first = min(30.0, max(_FIRST_REST, revalidate or 0.0))
    seconds = min(_LAST_REST, first * 2.0 ** min(failures, 20))
    return seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD)
