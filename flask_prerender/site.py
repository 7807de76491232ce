"""All state of one app: settings, routes, store, memory, coordination, clock."""

from __future__ import annotations

import gc
import os
import threading
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from flask import current_app
from flask import Flask

from .address import base_url
from .address import render_environ
from .complaints import Complaints
from .compress import Packer
from .coordination.base import Coordination
from .errors import ConfigError
from .errors import PrerenderError
from .errors import StoreError
from .flights import Flights
from .memory import Memory
from .memory import RECORD_BYTES
from .owner import claim
from .owner import owner_of
from .page import Style
from .page import typed_key
from .places import directory
from .places import is_read_only
from .places import read_last_build
from .places import write_last_build
from .revocations import Revocations
from .routes import Routes
from .settings import Settings
from .stores.base import Store

Clock = Callable[[], float]
#: Makes the store for a directory.
OpenStore = Callable[[Path], Store]

#: How much longer than its timeout a render is waited for: by then it knows it is late.
GRACE_SECONDS = 1.0


class Site:
    """The state of one app, found at ``app.extensions["prerender"]``."""

    #: Set by ``init_app``: what rooms above this one keep for the site.
    claims: t.Any = None
    regenerator: t.Any = None
    #: How many pages are being written to the store at this moment.
    storing = 0
    #: Until when the store is left in peace after it failed to write.
    store_rests_until = 0.0
    is_started = is_closed = False
    _build_mtime = 0
    _owner: str | None = None

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        routes: Routes,
        *,
        open_store: OpenStore,
        coordination: Callable[[Path], Coordination],
        packers: tuple[Packer, Packer],
        clock: Clock,
    ) -> None:
        self.app, self.settings, self.routes = app, settings, routes
        self.packer, self.build_packer = packers
        self.clock, self.complain = clock, Complaints(clock)
        self.base_url, self.script_name = base_url(app, settings)
        self.render_environ = render_environ(self.base_url, self.script_name, settings)
        self.path = self.output = directory(app, settings)
        _refuse_shared(app, settings, self.path)
        self.style: Style = t.cast(Style, settings.style)
        self._open_store = open_store
        self.coordination = coordination(self.path)
        self.store = open_store(self.path)
        self.memory: Memory[t.Any] = Memory(settings.memory_bytes, Memory(RECORD_BYTES))
        longest = settings.timeout + GRACE_SECONDS
        self.flights: Flights[t.Any] = Flights(settings.max_renders, longest)
        self.revocations = Revocations(self.coordination)
        #: Not stored: until when nobody need try again, why, and the revision before the try.
        self.unstorable: dict[str, tuple[float, str, int]] = {}
        #: When pages of first visits were served, for the store to learn at times; and when those
        #: for which there is little room were asked for.
        self.asked_for: dict[str, float] = {}
        self.asked_once: dict[str, float] = {}
        self.note_again_at = clock() + 60.0
        #: Called in a forked child, by rooms above this one that have threads.
        self.renewals: list[Callable[[], None]] = []
        self._lock, self._pid, self._lock_kind = threading.Lock(), os.getpid(), threading.Lock
        self.follow_build()
        self._refuse_foreign()
        _sites.add(self)

    @property
    def has_public_url(self) -> bool:
        """Whether somebody said under which address the site is known."""
        return self.settings.base_url is not None or bool(self.app.config["SERVER_NAME"])

    @property
    def serves(self) -> bool:
        enabled, config = self.settings.enabled, self.app.config
        return not (config["DEBUG"] or config["TESTING"]) if enabled is None else enabled

    def typed_key(self, path: str) -> str | None:
        """Return the key of a path, or of a URL of the site, as a person types it; ``None`` when no
        such URL is ever stored."""
        return typed_key(path, self.base_url, has_hosts=self.has_hosts)

    @property
    def has_hosts(self) -> bool:
        """Whether pages differ by host, so that their keys begin with it."""
        return bool(self.routes.key_host("x"))

    @property
    def public(self) -> Path:
        """The tree of files that a web server can serve as it stands."""
        return self.output / "public"

    @cached_property
    def is_read_only(self) -> bool:
        """Whether new pages live in memory alone; found out in each process, at its first one."""
        return is_read_only(self.output, self.complain)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count the writers, so that the end of the process can wait for them."""
        with self._lock:
            self.storing += 1
        try:
            yield
        finally:
            with self._lock:
                self.storing -= 1

    def move(self, output: Path, style: str) -> None:
        """Use another directory and style, as a build does that was told to."""
        if output != self.output:
            self.store.close()
            self.output = output
            self._owner = None
            self.__dict__.pop("is_read_only", None)
            self.store = self._open_store(output)
            self.memory.clear()
        self.style = t.cast(Style, style)

    def remember_build(self) -> None:
        """Write down where the build went and in which style, so that servers look there.

        :raises StoreError: it cannot be written.
        """
        write_last_build(self.path, self.output, self.style)

    def follow_build(self) -> None:
        """Look where the last build said it went. Called at the start and when pages changed."""
        try:
            found = read_last_build(self.path, self._build_mtime)
        except StoreError as error:
            self.complain("last-build", "%s", error)
            return
        if found is not None:
            self._build_mtime, output, style = found
            self.move(output, style)

    def owns_pages(self) -> bool:
        """Whether what is stored was stored by this app.

        :raises StoreError: it cannot be read who did.
        """
        if self._owner is None:
            self._owner = owner_of(self.output)
        return self._owner in (None, self.app.name)

    def claim(self) -> None:
        """Write the app's name beside its pages, before the first of them.

        :raises StoreError: another app has its pages there, or the name cannot be written.
        """
        if self._owner is None:
            self._owner = claim(self.output, self.app.name)
        if self._owner != self.app.name:
            raise StoreError(self._foreign())

    def _foreign(self) -> str:
        return (
            f"The pages in {self.output} are those of the app {self._owner!r}, and this one is "
            f"{self.app.name!r}: each would serve the other's. Give it a PRERENDER_PATH of its "
            "own; or, if the app was renamed, remove the directory."
        )

    def _refuse_foreign(self) -> None:
        with suppress(StoreError):  # where nothing can be read, nothing will be served
            if not self.owns_pages():
                self.close()
                raise ConfigError(self._foreign())

    def after_fork(self) -> None:
        """Renew what a forked child must not share with its parent."""
        self._lock = threading.Lock()
        self.complain.renew_lock()
        self.storing = 0
        self.__dict__.pop("is_read_only", None)
        self.memory.renew_lock()
        self.revocations.renew_lock()
        for renew in self.renewals:
            renew()
        self.flights.renew_lock()
        self.store.reopen()
        self.coordination.reopen()
        self.is_started = False
        self._pid, self._lock_kind = os.getpid(), threading.Lock

    def settle(self) -> None:
        """Begin anew after a fork that nobody told Python of, as uWSGI's, and with locks that suit
        greenlets where gevent came after us."""
        if self._pid != os.getpid() or self._lock_kind is not threading.Lock:
            with _settling:
                if (self._pid, self._lock_kind) != (os.getpid(), threading.Lock):
                    self.after_fork()

    def close(self) -> None:
        self.is_closed = True
        self.store.close()
        self.coordination.close()


_sites: weakref.WeakSet[Site] = weakref.WeakSet()
_settling = threading.Lock()


def _renew_all() -> None:
    for site in list(_sites):
        site.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


def current_site() -> Site:
    """Return the site of the current app.

    :raises PrerenderError: there is none.
    """
    if not current_app:
        raise PrerenderError(
            "This needs an application context. Call it in a request or a command, or within "
            "`with app.app_context():`."
        )
    return site_of(current_app._get_current_object())  # type: ignore[attr-defined]


def site_of(app: Flask) -> Site:
    """Return the site of an app.

    :raises PrerenderError: the extension was not initialised on it.
    """
    site = app.extensions.get("prerender")
    if not isinstance(site, Site):
        raise PrerenderError(
            f"Flask-Prerender is not initialised on the app {app.name!r}. Call Prerender(app), or "
            "prerender.init_app(app) in your factory."
        )
    return site


def _refuse_shared(app: Flask, settings: Settings, path: Path) -> None:
    """Let no two apps of a process keep their pages in one place: each would serve the other's.

    Tests may, and do: they make one app again and again.
    """
    if app.testing or settings.enabled is False or not _rivals(path):
        return
    gc.collect()  # an app that was dropped is a ring of references
    for other in _rivals(path):
        raise ConfigError(
            f"Two apps of this process, {other.app.name!r} and {app.name!r}, would both keep their "
            f"pages in {path}, and each would serve the other's. Give each a PRERENDER_PATH of its "
            "own; or, if they are the same site, set PRERENDER_ENABLED = False for one of them."
        )


def _rivals(path: Path) -> list[Site]:
    sites = [site for site in list(_sites) if site.path == path and not site.is_closed]
    return [one for one in sites if not one.app.testing and one.settings.enabled is not False]
