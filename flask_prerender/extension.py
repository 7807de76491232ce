"""``Prerender``: the object that users make. ``init_app`` wires the doors."""

from __future__ import annotations

import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from flask import Blueprint
from flask import Flask

from . import chosen
from . import hook
from .claims import Claims
from .cli import make_group
from .compress import Compressor
from .coordination.base import Coordination
from .data import Data
from .endpoint import Endpoint
from .errors import MarkError
from .errors import PrerenderError
from .groups import Group
from .groups import group
from .hook import Hook
from .marks import mark
from .marks import Marker
from .marks import MarkOptions
from .options import check_options
from .parts import chosen_packers
from .parts import local_coordination
from .parts import store_opener
from .parts import StoreChoice
from .publish import Outcome
from .regenerate import Regenerator
from .regenerate import Runner
from .revalidate import ask_for
from .revalidate import refresh
from .revalidate import take_back
from .revalidate import Taken
from .routes import Routes
from .routes import Select
from .settings import read_settings
from .site import Clock
from .site import current_site
from .site import Site
from .watch import watch


class Prerender:
    """Renders marked routes ahead, serves what is stored, and keeps it fresh.

    ::

        app = Flask(__name__)
        prerender = Prerender(app)

        @app.route("/")
        @app.prerender
        def index():
            return render_template("index.html")

    In a factory, make it without an app and call :meth:`init_app`. One instance may serve several
    apps; it keeps no app's state on itself.

    :param app: the app, if there is one already.
    :param select: marks routes by another convention: called with each
        :class:`~werkzeug.routing.Rule` and its view, it returns options, ``True``, ``False``, or
        ``None`` when it has nothing to say.
    :param compressors: what makes the compressed variants, in place of gzip, Brotli and Zstandard.
    :param store: where pages live, in place of files: a store, or a callable of a directory.
    :param coordination: a callable of a directory that gives the revision shared by processes.
    :param runner: called with the key of each page to be made new, in place of a thread of ours:
        the way into a job queue, whose jobs call :meth:`refresh`.
    :param clock: gives the seconds since the epoch.
    """

    #: The same decorator as :func:`flask_prerender.mark`.
    mark: t.ClassVar[Marker] = t.cast(Marker, staticmethod(mark))

    def __init__(
        self,
        app: Flask | None = None,
        *,
        select: Select | None = None,
        compressors: Sequence[Compressor] | None = None,
        store: StoreChoice | None = None,
        coordination: Callable[[Path], Coordination] | None = None,
        runner: Runner | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._select = select
        self._compressors = compressors
        self._store = store
        self._coordination = coordination or local_coordination
        self._runner = runner
        self._clock = clock
        self._groups: list[Group] = []
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        #: Keeps the values of functions: a decorator, see :class:`flask_prerender.data.Data`.
        self.data = Data(clock, self._apps)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Read the ``PRERENDER_`` settings of `app` and wire its doors.

        Hooks run in the order they were registered: call it before other extensions, and a stored
        page is served before they do anything. Settings changed afterwards have no effect.

        :raises ConfigError: a setting is unknown, or cannot be used.
        :raises PrerenderError: the app has been initialised before.
        """
        if "prerender" in app.extensions:
            raise PrerenderError(
                f"A Prerender instance is already initialised on the app {app.name!r}. "
                "Import and use that instance instead of making another."
            )
        settings = read_settings(app.config)
        routes = Routes(app, settings, self._select)
        for item in self._groups:
            routes.add_group(item)
        site = Site(
            app,
            settings,
            routes,
            open_store=store_opener(self._store, settings),
            coordination=self._coordination,
            packers=chosen_packers(self._compressors, settings),
            clock=self._clock,
        )
        app.extensions["prerender"] = site
        site.claims = Claims(site)
        site.regenerator = Regenerator(site, site.claims, self._runner)
        site.renewals.append(watch(app))
        Hook(site).install(app)
        Endpoint(site).install(app)
        app.cli.add_command(make_group())
        app.prerender = mark  # type: ignore[attr-defined]
        self._apps.add(app)

    @property
    def is_rendering(self) -> bool:
        """Whether the current request is a render, and no visitor's. In templates:
        ``prerendering``."""
        return hook.is_rendering()

    def mark_all(
        self,
        target: str | Blueprint,
        enabled: bool = True,
        /,
        **options: t.Unpack[MarkOptions],
    ) -> None:
        """Mark every route of a blueprint, or every endpoint that matches a pattern (``"blog.*"``).

        What a view says itself wins over its group. ``mark_all(target, False)`` takes a group out.

        :raises MarkError: an option is unknown, or its value cannot be used.
        """
        item = group(target, t.cast("dict[str, t.Any]", options) if enabled else False)
        self._groups.append(item)
        for app in self._apps:
            app.extensions["prerender"].routes.add_group(item)

    @contextmanager
    def marked(self, **options: t.Unpack[MarkOptions]) -> Iterator[None]:
        """Mark every route that is added to an app inside the ``with`` block.

        Routes of a blueprint are added to the app when it is registered, not when they are written
        down: register it inside the block, or mark it with :meth:`mark_all`.

        :raises MarkError: an option is unknown, or its value cannot be used, or no route was added.
        :raises PrerenderError: no app is initialised yet, so no route can be seen coming.
        """
        checked = check_options(t.cast("dict[str, t.Any]", options), "marked()")
        if not self._apps:
            raise PrerenderError(
                "marked() watches the routes of an app, and none is initialised yet. Call "
                "init_app first, or mark a blueprint with mark_all(blueprint)."
            )
        before = {app: set(map(id, app.url_map.iter_rules())) for app in self._apps}
        yield
        count = 0
        for app, rules in before.items():
            added = [rule for rule in app.url_map.iter_rules() if id(rule) not in rules]
            app.extensions["prerender"].routes.add_block(added, checked)
            count += len(added)
        if not count:
            raise MarkError(
                "No route was added to an app inside marked(), so nothing is marked. Routes of a "
                "blueprint are added when it is registered: register it inside the block, or mark "
                "it with mark_all(blueprint)."
            )

    def revalidate(
        self,
        *paths: str,
        endpoint: str | None = None,
        values: Mapping[str, t.Any] | None = None,
        prefix: str | None = None,
        tag: str | Iterable[str] = (),
        everything: bool = False,
    ) -> Taken:
        """Take pages back softly: they are stale, served on, and made new.

        :param paths: URL paths, or URLs of the site; every query of such a page is meant. Where
            pages differ by host, ``//host/path``.
        :param endpoint: all pages of an endpoint, or, with `values`, one URL of it.
        :param prefix: all pages at and under a path.
        :param tag: one tag, or several: those of the marks, or implicit ones such as
            ``"blueprint:blog"`` and ``"template:base.html"``.
        :raises StoreError: it cannot be written.
        """
        site, named = current_site(), _named(paths, endpoint, values, prefix, tag, everything)
        taken = take_back(site, hard=False, **named)
        ask_for(site.regenerator, taken)
        return taken

    def purge(
        self,
        *paths: str,
        endpoint: str | None = None,
        values: Mapping[str, t.Any] | None = None,
        prefix: str | None = None,
        tag: str | Iterable[str] = (),
        everything: bool = False,
    ) -> Taken:
        """Take pages back hard: they are not served any more, and the next visitor waits for a new
        render. The parameters are those of :meth:`revalidate`.

        :raises StoreError: it cannot be written.
        """
        named = _named(paths, endpoint, values, prefix, tag, everything)
        return take_back(current_site(), hard=True, **named)

    def refresh(
        self,
        *paths: str,
        endpoint: str | None = None,
        values: Mapping[str, t.Any] | None = None,
        prefix: str | None = None,
        tag: str | Iterable[str] = (),
        everything: bool = False,
    ) -> list[Outcome]:
        """Render pages now, and return when they are new. The parameters are those of
        :meth:`revalidate`; a path need not be stored yet, by the others stored pages are meant.

        :raises StoreError: the store cannot be used.
        """
        site, named = current_site(), _named(paths, endpoint, values, prefix, tag, everything)
        return list(refresh(site, site.regenerator, **named))

    def revalidate_after(self, seconds: float | None) -> None:
        """Say, in a view, for how long the page that it renders is fresh. The shortest span that is
        said for a page holds; outside a render this does nothing."""
        chosen.revalidate_after(seconds)

    def expires_at(self, moment: datetime | float) -> None:
        """Say, in a view, when the page that it renders is not true any more. The earliest moment
        holds; outside a render this does nothing."""
        chosen.expires_at(moment)

    def add_tags(self, *tags: str) -> None:
        """Add tags, in a view, to the page that it renders; outside a render this does nothing."""
        chosen.add_tags(*tags)


def _named(
    paths: Sequence[str],
    endpoint: str | None,
    values: Mapping[str, t.Any] | None,
    prefix: str | None,
    tag: str | Iterable[str],
    everything: bool,
) -> dict[str, t.Any]:
    if values and not endpoint:
        raise TypeError("values= are the arguments of an endpoint: name it with endpoint=.")
    tags = [tag] if isinstance(tag, str) else tag
    if not isinstance(tags, Iterable) or not all(isinstance(one, str) for one in (*paths, *tags)):
        raise TypeError("Paths and tags are texts.")
    return {
        "paths": paths,
        "prefixes": [] if prefix is None else [prefix],
        "endpoints": [] if endpoint is None else [(endpoint, values)],
        "tags": tags,
        "everything": everything,
    }
