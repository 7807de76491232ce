"""All state of one app: settings, routes, store, memory, coordination, clock."""

from __future__ import annotations

import json
import logging
import os
import threading
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flask import current_app
from flask import Flask

from .compress import Compressor
from .coordination.base import Coordination
from .disk import failures
from .disk import write_whole
from .errors import ConfigError
from .errors import PrerenderError
from .flights import Flights
from .memory import Memory
from .page import Style
from .revocations import Revocations
from .routes import Routes
from .settings import Settings
from .stores.base import Store
from .visitor import base_url
from .visitor import render_environ

log = logging.getLogger("flask_prerender")

Clock = Callable[[], float]
#: Makes the store for a directory.
OpenStore = Callable[[Path], Store]

_LAST_BUILD = "last-build.json"
_QUIET_SECONDS = 60.0


class Site:
    """The state of one app, found at ``app.extensions["prerender"]``."""

    #: Set by ``init_app``: what rooms above this one keep for the site.
    claims: t.Any = None
    regenerator: t.Any = None
    #: How many pages are being written to the store at this moment.
    storing = 0
    #: Until when the store is left in peace after it failed to write.
    store_rests_until = 0.0
    is_started = False
    _build_mtime = 0

    def __init__(
        self,
        app: Flask,
        settings: Settings,
        routes: Routes,
        *,
        open_store: OpenStore,
        coordination: Callable[[Path], Coordination],
        compressors: Sequence[Compressor],
        clock: Clock,
    ) -> None:
        self.app, self.settings, self.routes = app, settings, routes
        self.compressors = tuple(compressors)
        self.clock = clock
        self.base_url, self.script_name = base_url(app, settings)
        self.render_environ = render_environ(self.base_url, self.script_name, settings)
        self.path = _directory(app, settings)
        _refuse_shared(app, self.path)
        self.output = self.path
        self.style: Style = t.cast(Style, settings.style)
        self._open_store = open_store
        self.coordination = coordination(self.path)
        self.store = open_store(self.path)
        self.memory: Memory[t.Any] = Memory(settings.memory_bytes)
        self.flights: Flights[t.Any] = Flights(settings.max_renders)
        self.revocations = Revocations(self.coordination)
        #: Keys whose response was not stored, and until when nobody need try again.
        self.unstorable: dict[str, tuple[float, str]] = {}
        #: When pages of first visits were served, where the store does not know it yet, and when
        #: it is to be told.
        self.asked_for: dict[str, float] = {}
        self.note_again_at = clock() + 60.0
        #: Called in a forked child, by rooms above this one that have threads.
        self.renewals: list[Callable[[], None]] = []
        self._complaints: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._home = (os.getpid(), threading.Lock)
        _sites.add(self)
        self.follow_build()

    @property
    def has_public_url(self) -> bool:
        """Whether somebody said under which address the site is known."""
        return self.settings.base_url is not None or bool(self.app.config["SERVER_NAME"])

    @property
    def serves(self) -> bool:
        enabled = self.settings.enabled
        return not (self.app.debug or self.app.testing) if enabled is None else enabled

    @property
    def public(self) -> Path:
        """The tree of files that a web server can serve as it stands."""
        return self.output / "public"

    def complain(self, kind: str, message: str, *args: object, exc_info: bool = False) -> None:
        """Log one line for each kind of trouble and minute, with the number of those left out."""
        now = self.clock()
        with self._lock:
            since, left_out = self._complaints.get(kind, (float("-inf"), 0))
            if 0 <= now - since < _QUIET_SECONDS:
                self._complaints[kind] = (since, left_out + 1)
                return
            if len(self._complaints) > 1000:
                self._complaints.clear()
            self._complaints[kind] = (now, 0)
        if left_out:
            message += f" (and {left_out} more like it)"
        log.warning(message, *args, exc_info=exc_info)

    def writing(self, change: int) -> None:
        """Count writers, so that the end of the process can wait for them."""
        with self._lock:
            self.storing += change

    def move(self, output: Path, style: str) -> None:
        """Use another directory and style, as a build does that was told to."""
        if output != self.output:
            self.store.close()
            self.output = output
            self.store = self._open_store(output)
            self.memory.clear()
        self.style = t.cast(Style, style)

    def remember_build(self) -> None:
        """Write down where the build went and in which style, so that servers look there.

        :raises StoreError: it cannot be written.
        """
        target = self.path / _LAST_BUILD
        output = str(self.output)
        with suppress(ValueError):  # another drive, on Windows
            # Relative, so that a directory which was copied or moved whole still finds itself.
            output = os.path.relpath(output, self.path)
        facts = json.dumps({"output": output, "style": self.style}) + "\n"
        with failures("write", target):
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, target, facts.encode())

    def follow_build(self) -> None:
        """Look where the last build said it went. Called at the start and when pages changed."""
        target = self.path / _LAST_BUILD
        try:
            mtime = target.stat().st_mtime_ns
            if mtime == self._build_mtime:
                return
            facts = json.loads(target.read_text())
            output, style = (self.path / facts["output"]).resolve(), facts["style"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.complain("last-build", "%s cannot be read: %s", target, error)
            return
        self._build_mtime = mtime
        self.move(output, style)

    def after_fork(self) -> None:
        """Renew what a forked child must not share with its parent."""
        self._lock = threading.Lock()
        self.storing = 0
        self.memory.renew_lock()
        self.revocations.renew_lock()
        for renew in self.renewals:
            renew()
        self.flights.renew_lock()
        self.store.reopen()
        self.coordination.reopen()
        self.is_started = False
        self._home = (os.getpid(), threading.Lock)

    def settle(self) -> None:
        """Begin anew after a fork that nobody told Python of, as uWSGI's, and with locks that suit
        greenlets where gevent came after us."""
        if self._home != (os.getpid(), threading.Lock):
            with _settling:
                if self._home != (os.getpid(), threading.Lock):
                    self.after_fork()

    def close(self) -> None:
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


def _directory(app: Flask, settings: Settings) -> Path:
    path = (Path(app.instance_path) / settings.path).resolve()
    refuse_static(app, path, "PRERENDER_PATH")
    return path


def refuse_static(app: Flask, path: Path, name: str) -> None:
    """
    :param name: the setting or option that gave the directory.
    :raises ConfigError: it is one from which Flask serves files.
    """
    path = path.resolve()
    static = app.static_folder and Path(app.static_folder).resolve()
    if static and (path == static or static in path.parents):
        raise ConfigError(
            f"{name} is {path}, inside the static folder {static}: Flask would serve the "
            "store's own files to everybody. Choose a directory outside of it."
        )


def _refuse_shared(app: Flask, path: Path) -> None:
    """Let no two apps of a process keep their pages in one place: each would serve the other's."""
    for other in list(_sites):
        name = other.app.import_name
        if other.path == path and name != app.import_name:
            raise ConfigError(
                f"The apps {name!r} and {app.import_name!r} would both keep their pages in {path}, "
                "and each would serve the other's. Give one of them another PRERENDER_PATH."
            )
