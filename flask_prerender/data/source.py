"""Where the values of a function come from: its shelf, or one fetch for everybody who asks."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable
from contextlib import ExitStack
from contextlib import suppress

from flask import after_this_request
from flask import has_request_context
from flask import request
from flask import Response

from ..claims import rest_after
from ..errors import DataError
from ..page import State
from ..settings import IN_BACKGROUND
from ..site import Site
from .fetching import Chain
from .fetching import chain
from .fetching import fetch
from .fetching import hand_on
from .fetching import hand_on_failure
from .flights import Flight
from .flights import Flights
from .shelf import Shelf
from .turns import Turn
from .turns import Turns
from .values import Entry
from .values import own_copy
from .values import Wanted

_PATIENCE = 30.0
_TRIES = 3
_LOOK_SECONDS = 0.05
#: The values that a request has met stale, of those that are fetched after it.
_ASKED = "flask_prerender.data"


class Source:
    """Gives the values of one function for one app: from the shelf, or by one fetch at a time.

    :param ttl: seconds for which a value is fresh, unless the function says something else.
    :param stale_ttl: seconds for which it is served after that.
    """

    def __init__(
        self,
        shelf: Shelf,
        ttl: float | None,
        stale_ttl: float | None,
        flights: Flights,
        site: Site | None,
    ) -> None:
        self.shelf = shelf
        self._ttl = ttl
        self._stale_ttl = stale_ttl
        self._flights = flights
        self._site = site
        self._patience = site.settings.timeout if site else _PATIENCE
        self._turns = Turns(shelf, ttl, site)

    def find(self, wanted: Wanted) -> t.Any:
        """Return a value: at once if there is one, else after a fetch that all who wait share."""
        try:
            entry, state = self._find(wanted, chain())
        except Exception:
            tags = self.shelf.tag(), self.shelf.tag(wanted.key)
            hand_on_failure(tags, rest_after(0, self._ttl))
            raise
        hand_on(entry, state, self.shelf.clock())
        return own_copy(entry.value)

    def _find(self, wanted: Wanted, around: Chain) -> tuple[Entry, State]:
        tries = _TRIES
        while True:
            entry, state = self.shelf.look(wanted.key)
            if entry is not None and state != "expired":
                self.shelf.count("fresh" if state == "fresh" else "stale")
                return self._renewed(wanted, entry) if state == "stale" else (entry, state)
            if (self, wanted.key) in around:
                raise DataError(f"{self._label(wanted)} asks for itself while it is fetched.")
            entry, is_mine = self._fetch_or_wait(wanted, around)
            if entry is None:
                continue
            tries -= 1
            # A flight that was joined may have begun before its value was taken back.
            if is_mine or not tries or self.shelf.taken(entry) != "hard":
                return entry, self.shelf.state(entry)

    def _fetch_or_wait(self, wanted: Wanted, around: Chain) -> tuple[Entry | None, bool]:
        flight, is_mine = self._join(wanted)
        if is_mine:
            return self._fly(flight, wanted, lambda: self._fetch_now(flight, wanted, around)), True
        self.shelf.count("shared")
        try:
            return flight.wait(self._patience), False
        except TimeoutError:
            raise self._too_late(wanted) from None

    def _fetch_now(self, flight: Flight, wanted: Wanted, around: Chain) -> Entry:
        """Fetch in the thread of whoever asked, who gets the error as well, or wait for the process
        that is at it."""
        deadline = time.monotonic() + self._patience
        while True:
            with ExitStack() as stack:
                turn = self._turns.take(stack, wanted.key, anyway=True)
                # Look again: the fetch before this one may be over since its caller had looked.
                entry, state = self.shelf.look(wanted.key)
                if entry is not None and state != "expired":
                    return entry
                if turn is not None:
                    return self._fetch(flight, wanted, around, turn)
            if time.monotonic() > deadline:
                raise self._too_late(wanted)
            time.sleep(_LOOK_SECONDS)

    def _renewed(self, wanted: Wanted, entry: Entry) -> tuple[Entry, State]:
        """Have a stale value fetched where PRERENDER_REGENERATE says, and return what is there."""
        where = self._site.settings.regenerate if self._site else "thread"
        if self._turns.rests(wanted.key):
            return entry, "stale"
        if where in IN_BACKGROUND:
            key, label = (self, wanted.key), self._label(wanted)
            self._flights.start(key, label, self._patience, lambda f: self._fly_behind(f, wanted))
        elif where == "inline" and has_request_context():
            self._renew_after_answer(wanted)
        else:
            self._renew_here(wanted)
            newer, state = self.shelf.look(wanted.key)
            if newer is not None and state == "fresh":
                return newer, state
        return entry, "stale"

    def _renew_after_answer(self, wanted: Wanted) -> None:
        asked = request.environ.setdefault(_ASKED, set())
        if (self, wanted.key) in asked:
            return
        asked.add((self, wanted.key))

        @after_this_request
        def at_close(response: Response) -> Response:
            # Called when the server has sent the answer.
            response.call_on_close(lambda: self._renew_here(wanted))
            return response

    def _renew_here(self, wanted: Wanted) -> None:
        flight, is_mine = self._join(wanted)
        if is_mine:
            self._fly_behind(flight, wanted)

    def _fly_behind(self, flight: Flight, wanted: Wanted) -> None:
        """Fetch where nobody is to be told of a failure but the log."""
        with suppress(Exception):  # told already
            self._fly(flight, wanted, lambda: self._fetch_behind(flight, wanted))

    def _fetch_behind(self, flight: Flight, wanted: Wanted) -> Entry | None:
        key, turn = wanted.key, None
        with ExitStack() as stack:
            try:
                turn = self._turns.take(stack, key, anyway=False)
                entry, state = self.shelf.look(key)
                if turn is None or state == "fresh":
                    return entry if state == "fresh" else None
                return self._fetch(flight, wanted, (), turn)
            except BaseException as error:
                self._turns.failed(key, turn, error)
                raise

    def _fetch(self, flight: Flight, wanted: Wanted, around: Chain, turn: Turn) -> Entry:
        shelf, key, label = self.shelf, wanted.key, self._label(wanted)
        own = (shelf.tag(), shelf.tag(key))
        like = Entry(None, 0.0, self._ttl, self._stale_ttl, shelf.revision(), own)
        app = self._site.app if self._site else None
        try:
            entry = fetch(app, label, wanted, (*around, (self, key)), like, shelf.clock)
            # Of a fetch that hung and was given up, the value comes too late.
            if self._flights.is_current((self, key), flight) and self._turns.is_held(turn):
                entry = shelf.keep(key, entry)
        except BaseException:
            shelf.count("failed")
            raise
        shelf.count("fetched")
        self._turns.succeeded(key, turn)
        return entry

    def _fly(
        self, flight: Flight, wanted: Wanted, work: Callable[[], Entry | None]
    ) -> Entry | None:
        key = (self, wanted.key)
        try:
            entry = work()
        except BaseException as error:
            self._flights.land(key, flight, error=error)
            raise
        self._flights.land(key, flight, entry)
        return entry

    def _join(self, wanted: Wanted) -> tuple[Flight, bool]:
        return self._flights.join((self, wanted.key), self._label(wanted), self._patience)

    def _too_late(self, wanted: Wanted) -> DataError:
        return DataError(
            f"{self._label(wanted)} was not there in time: somebody else has been fetching it for "
            f"more than {self._patience:g} s."
        )

    def _label(self, wanted: Wanted) -> str:
        return self.shelf.label(wanted.key)
