"""One URL through the whole app, in a clean context.

A render is built from the key and from nothing else. It runs in an empty
:class:`contextvars.Context`, so that neither ``g`` nor a signed-in user nor any context variable of
a request around it can be seen, and it is marked by an object in the WSGI environ, which no client
can send.
"""

from __future__ import annotations

import contextvars
import io
import os
import sys
import sysconfig
import time
import traceback
import typing as t
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

from . import signals
from .freshness import Terms
from .page import split_key
from .page import wsgi_path
from .site import Site
from .variants import environ_name
from .variants import split_variant

#: The environ key of a render. Only an object of ours counts: headers are texts.
ENVIRON_KEY = "flask_prerender.render"

#: The keys being rendered around this one, so that a view which asks for its own page is noticed.
rendering: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar(
    "flask_prerender_rendering", default=()
)

#: The keys that this process renders at this moment, in whatever context.
under_way: list[str] = []

_ENVIRONMENT = f"{os.sep}site-packages{os.sep}"
_STANDARD_LIBRARY = f"{sysconfig.get_path('stdlib')}{os.sep}"
_PACKAGE = f"{Path(__file__).parent}{os.sep}"

_STREAMS = ("text/event-stream", "multipart/x-mixed-replace")


@dataclass(slots=True)
class Render:
    """One render under way, and afterwards what came of it.

    :ivar status: 0 while there is no response.
    :ivar revision: the revision that stood before it began.
    :ivar stopped: why the body was not read to its end: ``"size"``, ``"timeout"`` or ``"stream"``.
    :ivar error: what the view raised.
    :ivar reads: what the app read of a visitor that no render has: ``"cookies"``,
        ``"authorization"``, ``"query"``, ``"session"``.
    :ivar looked_at: the environ keys of the headers, and of the address, that the app looked at in
        its request; ``"*"`` where it may have been anything.
    """

    key: str
    revision: int
    deadline: float
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    duration: float = 0.0
    stopped: str = ""
    error: BaseException | None = None
    reads: set[str] = field(default_factory=set)
    looked_at: set[str] = field(default_factory=set)
    #: What the view said of its page: seconds, a moment, tags; and the templates it used.
    fresh_for: float | None = None
    expires_at: float | None = None
    tags: set[str] = field(default_factory=set)
    templates: set[str] = field(default_factory=set)
    #: In respect mode: what the headers say of storing, once it was asked for.
    terms: Terms | str | None = None
    #: Where it read them first, as far as that is known: ``file:line in function``.
    read_at: dict[str, str] = field(default_factory=dict)
    rule: str = ""
    endpoint: str = ""
    #: The headers that are part of the page, once the gate has looked at them.
    kept: tuple[tuple[str, str], ...] | None = None
    #: Set when Flask has opened the session and matched the URL: from here on, what is read is
    #: read by the app and not by its framework.
    is_dispatched: bool = False
    #: The session, which knows whether it was used, also while a body was streamed.
    session: t.Any = None
    #: The headers by lower-case name, made at the first question, and of which headers.
    _by_name: dict[str, list[str]] = field(default_factory=dict)
    _named: object = None

    def values(self, name: str) -> list[str]:
        """Return the values of a header, which is named in lower case."""
        if self._named is not self.headers:
            self._by_name = {}
            for found, value in self.headers:
                self._by_name.setdefault(found.lower(), []).append(value)
            self._named = self.headers
        return self._by_name.get(name, [])

    @property
    def names(self) -> Collection[str]:
        """The names of the headers, in lower case."""
        self.values("")
        return self._by_name.keys()

    @property
    def failed(self) -> bool:
        return self.error is not None or self.status >= 500 or self.stopped == "timeout"


def render(site: Site, key: str, revision: int, own: Mapping[str, str] | None = None) -> Render:
    """Render one URL, and return what the app answered. Never raises what a view raises.

    :param own: request headers of ours: the validators of the page that is stored.
    """
    done = Render(key, revision, time.monotonic() + site.settings.timeout)
    chain = (*rendering.get(), key)
    signals.send(signals.render_started, site.app, key=key)
    started = time.perf_counter()
    under_way.append(key)
    try:
        contextvars.Context().run(_run, site, done, chain, own or {})
    finally:
        under_way.remove(key)
    done.duration = time.perf_counter() - started
    if done.failed:
        signals.send(
            signals.render_failed, site.app, key=key, error=done.error, duration=done.duration
        )
    else:
        signals.send(
            signals.render_finished,
            site.app,
            key=key,
            status=done.status,
            size=len(done.body),
            duration=done.duration,
        )
    return done


def _run(site: Site, done: Render, chain: tuple[str, ...], own: Mapping[str, str]) -> None:
    rendering.set(chain)
    body = _Body(done, site.settings.max_page_bytes)

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: t.Any = None
    ) -> t.Callable[[bytes], None]:
        done.status = int(status.split(" ", 1)[0])
        done.headers = [(name, value) for name, value in headers]
        if any(n.lower() == "content-type" and v.startswith(_STREAMS) for n, v in headers):
            done.stopped = "stream"
        return body.write

    try:
        environ = request_environ(site, done.key)
        environ.update((environ_name(name), value) for name, value in own.items())
        environ[ENVIRON_KEY] = done
        chunks = site.app(environ, start_response)
        try:
            done.body = body.read(chunks)
            if getattr(done.session, "accessed", False):
                done.reads.add("session")
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        # With TESTING or DEBUG, Flask lets the view's exception through. SystemExit in a view is
        # its failure too, not the end of our thread.
        done.error = error


class _Body:
    """The bytes of a response, as far as they are wanted."""

    def __init__(self, done: Render, limit: int) -> None:
        self._done = done
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Keep a chunk, unless nobody wants more."""
        done = self._done
        self._size += len(chunk)
        if self._size > self._limit:
            done.stopped = done.stopped or "size"
        elif time.monotonic() > done.deadline:
            done.stopped = done.stopped or "timeout"
        if done.stopped:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def read(self, chunks: Iterable[bytes]) -> bytes:
        """Return the whole body, or nothing when it was too much, too late, or has no end."""
        self.write(b"")
        for chunk in () if self._done.stopped else chunks:
            self.write(chunk)
            if self._done.stopped:
                break
        self.write(b"")
        return b"".join(self._chunks)


def request_environ(site: Site, key: str) -> dict[str, t.Any]:
    """Return the WSGI environ of a GET for `key` by the configured visitor."""
    host, path, query = split_key(key)
    environ = site.render_environ.copy()
    if query:
        query, variant = split_variant(query)
        environ.update((environ_name(name), value) for name, value in variant)
    if host:
        port = host.rpartition("]")[2].partition(":")[2]
        environ["HTTP_HOST"] = host
        environ["SERVER_NAME"] = host.removesuffix(f":{port}").strip("[]")
        environ["SERVER_PORT"] = port or environ["SERVER_PORT"]
    environ["PATH_INFO"] = wsgi_path(path)
    environ["QUERY_STRING"] = query
    target = f"{site.script_name}{path}"
    environ["REQUEST_URI"] = environ["RAW_URI"] = f"{target}?{query}" if query else target
    environ["wsgi.input"] = io.BytesIO()
    environ["wsgi.errors"] = sys.stderr
    return environ


def current_render(environ: t.Mapping[str, t.Any]) -> Render | None:
    """Return the render that a request belongs to, or ``None`` for a visitor's request."""
    found = environ.get(ENVIRON_KEY)
    return found if isinstance(found, Render) else None


def last_frame(site: Site, done: Render) -> str:
    """Return ``file:line in function`` of the last frame of a failure in the app's own code."""
    if done.error is None:
        return ""
    frames = traceback.extract_tb(done.error.__traceback__)
    root = f"{site.app.root_path}{os.sep}"
    # A virtual environment often stands within the app's own folder.
    own = [f for f in frames if f.filename.startswith(root)]
    own = [f for f in own if _ENVIRONMENT not in f.filename.removeprefix(root)]
    unknown = [f for f in frames if not f.filename.startswith((_STANDARD_LIBRARY, _PACKAGE))]
    unknown = [f for f in unknown if _ENVIRONMENT not in f.filename]
    chosen = (own or unknown or list(frames))[-1:]
    return "".join(f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in chosen)
