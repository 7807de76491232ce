"""The values of one function for one app: looked up, fetched once for everybody, taken back."""

from __future__ import annotations

import contextvars
import hashlib
import logging
import random
import threading
import typing as t
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import nullcontext

from ..claims import rest_after
from ..coordination.base import EVERYTHING
from ..errors import ConfigError
from ..errors import DataError
from ..page import State
from ..revocations import Taken
from ..site import Clock
from ..site import Site
from .contracts import check_tags
from .fetches import Count
from .fetches import Fetches
from .fetches import Flight
from .fetches import renewed
from .fetches import Stats
from .fetches import Wanted
from .inherit import Chain
from .inherit import chain
from .inherit import Fetching
from .inherit import hand_on
from .revoked import OfProcess
from .revoked import OfSite
from .values import Entry
from .values import Fetched
from .values import Place

log = logging.getLogger("flask_prerender")

_PATIENCE = 30.0
_REMEMBERED = 10_000
_LONGEST_REST = 600.0
_TRIES = 3


class Shelf:
    """The values of one function for one app, or for no app.

    :param name: what the function is known by.
    """

    def __init__(
        self,
        name: str,
        ttl: float | None,
        stale_ttl: float | None,
        place: Place,
        fetches: Fetches,
        site: Site | None,
        clock: Clock,
    ) -> None:
        self.name = name
        self._ttl = ttl
        self._stale_ttl = stale_ttl
        self._place = place
        self._fetches = fetches
        self._site = site
        self._clock = site.clock if site else clock
        self._patience = site.settings.timeout if site else _PATIENCE
        self._revoked: OfSite | OfProcess = OfSite(site) if site else OfProcess()
        self._rests: dict[str, tuple[int, float]] = {}
        self._counts: dict[Count, int] = dict.fromkeys(t.get_args(Count), 0)
        self.renew_lock()
        renewed.add(self)

    def renew_lock(self) -> None:
        self._lock = threading.Lock()
        self._place.renew_lock()

    def find(self, wanted: Wanted) -> t.Any:
        """Return a value: at once if there is one, else after a fetch that all who wait share."""
        entry, state = self._find(wanted, chain())
        hand_on(entry, state, self._clock())
        return entry.value

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
        self._revoked.revoke([self._own_tag(key) for key in keys], hard=hard)

    def stats(self) -> Stats:
        with self._lock:
            return Stats(**self._counts, evicted=self._place.evicted, values=len(self._place))

    def _find(self, wanted: Wanted, above: Chain) -> tuple[Entry, State]:
        tries = _TRIES
        while True:
            entry = self._place.get(wanted.key)
            state = self._state(entry)
            if entry is not None and state != "expired":
                self._count("fresh" if state == "fresh" else "stale")
                if state == "stale":
                    self._fetch_behind(wanted)
                return entry, state
            if (self, wanted.key) in above:
                raise DataError(f"{self._label(wanted.key)} asks for itself while it is fetched.")
            entry, is_mine = self._fetch_or_wait(wanted, above)
            tries -= 1
            # A flight that was joined may have begun before its value was taken back.
            if is_mine or not tries or self._taken(entry) != "hard":
                return entry, self._state(entry)

    def _fetch_or_wait(self, wanted: Wanted, above: Chain) -> tuple[Entry, bool]:
        flight, is_mine = self._fetches.join((self, wanted.key), self._patience)
        if is_mine:
            return self._fly(flight, wanted, above), True
        self._count("shared")
        entry = flight.wait(self._patience)
        if entry is None:
            raise DataError(
                f"{self._label(wanted.key)} was not there in time: somebody else has been fetching "
                f"it for more than {self._patience:g} s."
            )
        return entry, False

    def _fetch_behind(self, wanted: Wanted) -> None:
        _, not_before = self._rests.get(wanted.key, (0, 0.0))
        if not 0 < not_before - self._clock() <= _LONGEST_REST:
            self._fetches.start(
                (self, wanted.key), self._patience, lambda flight: self._fly_behind(flight, wanted)
            )

    def _fly_behind(self, flight: Flight, wanted: Wanted) -> None:
        """Fetch in a thread of ours, where nobody is to be told of a failure but the log."""
        key = (self, wanted.key)
        try:
            entry = self._fetch_if_needed(flight, wanted, (), ("fresh",))
        except BaseException as error:
            self._begin_rest(wanted.key, error)
            self._fetches.land(key, flight, error=_as_exception(error))
        else:
            self._fetches.land(key, flight, entry)

    def _fly(self, flight: Flight, wanted: Wanted, above: Chain) -> Entry:
        """Fetch in the thread of whoever asked, who gets the error as well."""
        try:
            entry = self._fetch_if_needed(flight, wanted, above, ("fresh", "stale"))
        except BaseException as error:
            self._fetches.land((self, wanted.key), flight, error=_as_exception(error))
            raise
        self._fetches.land((self, wanted.key), flight, entry)
        return entry

    def _fetch_if_needed(
        self,
        flight: Flight,
        wanted: Wanted,
        above: Chain,
        enough: tuple[State, ...],
    ) -> Entry:
        # Look again: the flight before this one may have landed since its caller had looked.
        entry = self._place.get(wanted.key)
        if entry is not None and self._state(entry) in enough:
            return entry
        try:
            entry = self._fetch(wanted, above)
            # Of a flight that hung and was given up, the value comes too late.
            if self._fetches.is_current((self, wanted.key), flight):
                entry = self._place.put(wanted.key, entry)
        except BaseException:
            self._count("failed")
            raise
        self._count("fetched")
        if self._rests.pop(wanted.key, None):
            log.info("%s is fetched again", self._label(wanted.key))
        return entry

    def _fetch(self, wanted: Wanted, above: Chain) -> Entry:
        """Call the function in an empty context: what it gives is kept for everybody, so it sees
        nothing of the visitor who happens to be the first."""
        fetching = Fetching((*above, (self, wanted.key)))
        revision = self._revoked.revision()
        result, tags = contextvars.Context().run(self._call, wanted, fetching)
        ttl, stale_ttl = self._ttl, self._stale_ttl
        if isinstance(result, Fetched):
            ttl = ttl if result.ttl is ... else result.ttl
            stale_ttl = stale_ttl if result.stale_ttl is ... else result.stale_ttl
            tags = (*tags, *self._checked(result.tags))
            result = result.value
        if fetching.life is not None:
            ttl = fetching.life if ttl is None else min(ttl, fetching.life)
        own = (self._own_tag(None), self._own_tag(wanted.key))
        names = dict.fromkeys((*own, *tags, *sorted(fetching.tags)))
        return Entry(result, self._clock(), ttl, stale_ttl, revision, tuple(names))

    def _call(self, wanted: Wanted, fetching: Fetching) -> tuple[t.Any, tuple[str, ...]]:
        fetching.begin()
        with self._site.app.app_context() if self._site else nullcontext():
            return wanted.fetch(), self._checked(wanted.tags())

    def _checked(self, tags: Iterable[str]) -> tuple[str, ...]:
        try:
            return check_tags(self.name, tags)
        except ConfigError as error:
            raise DataError(str(error)) from None

    def _begin_rest(self, key: str, error: BaseException) -> None:
        failures, _ = self._rests.get(key, (0, 0.0))
        seconds = rest_after(failures, self._ttl)
        if len(self._rests) >= _REMEMBERED:
            self._rests.pop(random.choice(list(self._rests)), None)
        self._rests[key] = (failures + 1, self._clock() + seconds)
        if not failures:
            log.warning(
                "%s could not be fetched: %r. Its value from before is served on; the next try is "
                "in %.0f s.",
                self._label(key),
                error,
                seconds,
                exc_info=error,
            )

    def _state(self, entry: Entry | None) -> State:
        if entry is None:
            return "expired"
        taken = self._taken(entry)
        if taken == "hard":
            return "expired"
        state = entry.state(self._clock())
        return "stale" if taken and state == "fresh" else state

    def _taken(self, entry: Entry) -> Taken:
        return self._revoked.since((EVERYTHING, *entry.tags), entry.revision)

    def _own_tag(self, key: str | None) -> str:
        if key is None:
            return f"data:{self.name}"
        return f"data:{self.name}:{hashlib.sha256(key.encode()).hexdigest()[:16]}"

    def _label(self, key: str) -> str:
        return f"{self.name}({key})"

    def _count(self, what: Count) -> None:
        with self._lock:
            self._counts[what] += 1


def _as_exception(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    return DataError(f"the fetch of this value was ended by {error!r}")
