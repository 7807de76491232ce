"""Whose turn it is to fetch a value: claims over processes, and rests after failures."""

from __future__ import annotations

import logging
import random
import typing as t
from contextlib import ExitStack

from ..claims import Claim
from ..claims import LEASE_SECONDS
from ..claims import LONGEST_REST
from ..claims import rest_after
from ..coordination.base import Streak
from ..errors import StoreError
from ..site import Site
from .shelf import Shelf

log = logging.getLogger("flask_prerender")

_REMEMBERED = 10_000
_LOOK_SECONDS = 1.0

#: ``None``: somebody else is at it. ``True``: there is no need of a claim, or none to be had.
Turn = Claim | t.Literal[True] | None


class Turns:
    """Who may fetch the values of one shelf, and when.

    :param ttl: seconds for which a value is fresh: a rest begins with about as many.
    """

    def __init__(self, shelf: Shelf, ttl: float | None, site: Site | None) -> None:
        self._shelf = shelf
        self._ttl = ttl
        self._site = site
        #: For each key how often it failed in a row, and until when it rests.
        self._rests: dict[str, tuple[int, float]] = {}

    def take(self, stack: ExitStack, key: str, *, anyway: bool) -> Turn:
        """Claim a value that other processes fetch as well, until the stack is left.

        :param anyway: also while the value rests.
        """
        site = self._site
        if site is None or not self._shelf.is_shared:
            return True
        try:
            hold = site.claims.hold(self._shelf.tag(key), anyway=anyway)
            claim: Claim | None = stack.enter_context(hold)
        except StoreError as error:
            site.complain("store", "%s is fetched by each process: %s", self._shelf.name, error)
            return True
        if claim is None and not anyway:
            self._rest(key, self._rests.get(key, (0, 0.0))[0], _LOOK_SECONDS)
        return claim

    def is_held(self, turn: Turn) -> bool:
        """Whether a claim still holds: a process that was stopped may wake long after its end."""
        site = self._site
        if site is None or not isinstance(turn, Claim):
            return True
        try:
            return site.coordination.renew(turn.lease, LEASE_SECONDS, site.clock()) is not None
        except StoreError:
            return True

    def rests(self, key: str) -> bool:
        _, not_before = self._rests.get(key, (0, 0.0))
        # A longer rest than any was noted before the clock was set.
        return 0 < not_before - self._shelf.clock() <= LONGEST_REST

    def failed(self, key: str, turn: Turn, error: BaseException) -> None:
        """Let a value rest, in every process that shares it, and say so once for each streak."""
        now = self._shelf.clock()
        failures = self._failures(key, turn)
        seconds = rest_after(failures, self._ttl)
        if isinstance(turn, Claim):
            detail = f"{type(error).__name__}: {error}"
            turn.streak = Streak(failures + 1, now + seconds, "error", detail, now)
        self._rest(key, failures + 1, seconds)
        if not failures:
            log.warning(
                "%s could not be fetched: %r. Its value from before is served on; the next try is "
                "in %.0f s.",
                self._shelf.label(key),
                error,
                seconds,
                exc_info=error,
            )

    def succeeded(self, key: str, turn: Turn) -> None:
        if self._failures(key, turn):
            log.info("%s is fetched again", self._shelf.label(key))
        self._rests.pop(key, None)

    def _failures(self, key: str, turn: Turn) -> int:
        failures, _ = self._rests.get(key, (0, 0.0))
        return max(failures, turn.lease.failures) if isinstance(turn, Claim) else failures

    def _rest(self, key: str, failures: int, seconds: float) -> None:
        if len(self._rests) >= _REMEMBERED:
            self._rests.pop(random.choice(list(self._rests)), None)
        self._rests[key] = (failures, self._shelf.clock() + seconds)
