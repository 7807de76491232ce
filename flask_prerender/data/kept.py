"""The kept values of one function, in each app that asks for them."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import threading
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass

from cachelib import BaseCache
from flask import current_app
from flask import Flask

from ..errors import ConfigError
from ..errors import DataError
from ..site import Clock
from ..site import Site
from .cached import Dumps
from .cached import InCache
from .cached import Loads
from .contracts import check_cache
from .contracts import check_count
from .contracts import check_name
from .contracts import check_seconds
from .contracts import check_tags
from .contracts import full_name
from .flights import Flights
from .flights import renewed
from .flights import settle
from .shelf import Shelf
from .source import Source
from .values import InMemory
from .values import Place
from .values import Stats
from .values import Wanted

_EXTENSION = "prerender-data"
_LONGEST_KEY = 200
#: What is written out in one way only, so that equal keys are equal texts.
_PLAIN = (
    str, int, float, bool, bytes, type(None), decimal.Decimal, uuid.UUID, datetime.date,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """How the values of one function are kept."""

    ttl: float | None = 60.0
    stale_ttl: float | None = 3600.0
    tags: Iterable[str] | Callable[..., Iterable[str]] = ()
    cache: BaseCache | None = None
    max_values: int = 1000
    name: str | None = None
    dumps: Dumps | None = None
    loads: Loads | None = None


class Home:
    """What all kept values of one ``Prerender`` have in common.

    :param apps: the apps it was initialised on.
    """

    def __init__(self, clock: Clock, apps: Iterable[Flask]) -> None:
        self.clock = clock
        self.flights = Flights()
        self._apps = apps
        self.renew_lock()
        renewed.add(self)

    def renew_lock(self) -> None:
        self.lock = threading.Lock()

    def site(self) -> Site | None:
        """Return the site of the current app; outside of any, that of the only app there is."""
        settle()
        if current_app:
            return _site_of(current_app._get_current_object())  # type: ignore[attr-defined]
        apps = list(self._apps)
        return _site_of(apps[0]) if len(apps) == 1 else None


class Kept:
    """The kept values of one function.

    :param where: what an error about an option begins with.
    """

    def __init__(self, home: Home, where: str, function: t.Any, options: Options) -> None:
        self._home = home
        self._ttl = check_seconds(where, "ttl", options.ttl)
        self._stale_ttl = check_seconds(where, "stale_ttl", options.stale_ttl)
        self._limit = check_count(where, "max_values", options.max_values)
        if not callable(options.tags):
            check_tags(where, options.tags)
        if (options.dumps is None) is not (options.loads is None):
            raise ConfigError(f"{where}: dumps= and loads= are given together, or neither of them.")
        if options.cache is None and options.dumps is not None:
            raise ConfigError(f"{where}: dumps= and loads= are for a cache=; memory needs neither.")
        name = full_name(function) if options.name is None else options.name
        self.name = check_name(where, name)
        if options.cache is not None:
            asked = function if options.name is None else None
            check_cache(where, options.cache, self.name, asked, self._limit)
        self._options = options
        self._alone: Source | None = None

    def revalidate(self, *keys: object) -> None:
        """Take values back softly, and the pages that were rendered from them: they are served
        once more while new ones are fetched.

        :param keys: what ``key=`` returns; without a key, all values of this function.
        :raises StoreError: other processes cannot be told.
        """
        self._take_back(keys, hard=False)

    def purge(self, *keys: object) -> None:
        """Take values back hard, and the pages that were rendered from them: they are gone, and
        whoever asks next waits for a new one.

        :param keys: what ``key=`` returns; without a key, all values of this function.
        :raises StoreError: other processes cannot be told.
        """
        self._take_back(keys, hard=True)

    def stats(self) -> Stats:
        """Return what became of the calls in this process, in the current app."""
        return self._source().shelf.stats()

    def _find(
        self,
        key: object,
        fetch: Callable[[], t.Any],
        tags: Callable[[], Iterable[str]],
        *given: object,
    ) -> t.Any:
        return self._source().find(Wanted(self._key_text(key), fetch, tags, given))

    def _take_back(self, keys: tuple[object, ...], *, hard: bool) -> None:
        texts: list[str | None] = [self._key_text(key) for key in keys]
        self._source().shelf.take_back(texts or [None], hard=hard)

    def _source(self) -> Source:
        site = self._home.site()
        if site is None:
            return self._alone or self._open(None)
        sources: dict[Kept, Source] = site.app.extensions.get(_EXTENSION, {})
        return sources.get(self) or self._open(site)

    def _open(self, site: Site | None) -> Source:
        home = self._home
        with home.lock:
            sources = site.app.extensions.setdefault(_EXTENSION, {}) if site else {}
            # Somebody may have opened it while we waited for the lock.
            source: Source | None = sources.get(self) if site else self._alone
            if source is not None:
                return source
            shelf = Shelf(self.name, self._place(site), site, home.clock)
            source = Source(shelf, self._ttl, self._stale_ttl, home.flights, site)
            if site is None:
                self._alone = source
            else:
                sources[self] = source
            return source

    def _place(self, site: Site | None) -> Place:
        options = self._options
        if options.cache is None:
            return InMemory(self._limit)
        name = f"{site.app.name}:{self.name}" if site else self.name
        return InCache(options.cache, name, self._limit, options.dumps, options.loads)

    def _key_text(self, key: object) -> str:
        text = _plain_text(key)
        if text is None:
            raise DataError(
                f"The key of {self.name} is made of {key!r}, and must be a text, a number, or a "
                "tuple of these. Give key=, a function of the same arguments that returns one."
            )
        if len(text) > _LONGEST_KEY:
            return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return text


def _site_of(app: Flask) -> Site | None:
    site = app.extensions.get("prerender")
    return site if isinstance(site, Site) else None


def _plain_text(key: object) -> str | None:
    """Return the one text of a key, or ``None`` when it has none: the text of an object may be that
    of another, or differ from process to process."""
    if type(key) in (tuple, list):
        parts = [_plain_text(part) for part in t.cast("tuple[object, ...]", key)]
        inner = ", ".join(part for part in parts if part is not None)
        if None in parts:
            return None
        return f"({inner})" if type(key) is tuple else f"[{inner}]"
    return repr(key) if type(key) in _PLAIN else None
