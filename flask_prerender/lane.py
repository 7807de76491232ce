"""The door before Flask: a hit answered as WSGI, from what this process has in memory.

The first hit of a path in a process goes by the hook, which knows Flask's rules: whether the view
is marked, what the query means, whose page it is. What it answered for a plain request is answered
here from then on, by the same page, while it is fresh and nobody took it back. Everything else is
passed on.
"""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Sequence
from itertools import takewhile

from flask import Flask

from .known import Known
from .known import Paths
from .ready import Ready
from .ready import Sent
from .render import ENVIRON_KEY
from .render import rendering
from .render import under_way
from .serve import Answer
from .serve import Server
from .serve import tell
from .signals import page_served
from .site import Site

log = logging.getLogger("flask_prerender")

Environ = dict[str, t.Any]
WSGIApp = t.Callable[[Environ, t.Any], t.Iterable[bytes]]

_OK = "200 OK"
_NOT_MODIFIED = "304 NOT MODIFIED"
_LOOK_SECONDS = 1.0
#: Clients choose how they ask.
_HOSTS = 1000


class Lane:
    """The paths whose hits need not go through Flask."""

    def __init__(self, site: Site, server: Server, paths: Paths) -> None:
        self.site, self.server, self.paths = site, server, paths
        #: Hosts that Flask has let in, where the app says which ones it trusts.
        self.hosts: set[str | None] = set()
        self._told = False

    def install(self) -> None:
        """Put the lane around the app, unless something else is around it already: that would no
        longer see the requests that are hits."""
        app = self.site.app
        if getattr(app.wsgi_app, "__func__", None) is Flask.wsgi_app:
            app.wsgi_app = self.make(app.wsgi_app)  # type: ignore[method-assign,assignment]
            return
        log.warning(
            "PRERENDER_SERVE_AT is 'wsgi', and hits go by Flask all the same: app.wsgi_app was "
            "wrapped before Prerender came (%r). Wrap it after Prerender(app).",
            app.wsgi_app,
        )

    def learn(self, environ: Environ, known: Known) -> None:
        """Note that the hook has answered a request of a path with a page."""
        if known.is_plain:
            if len(self.hosts) >= _HOSTS:
                self.hosts.clear()
            self.hosts.add(environ.get("HTTP_HOST"))
            known.is_in_lane = True

    def has_guards(self) -> bool:
        """Whether functions of the app run before the hook: one of them may send visitors away, so
        hits have to go by Flask."""
        functions = self.site.app.before_request_funcs.get(None, ())
        guards = list(takewhile(lambda found: not self._is_of_hook(found), functions))
        if guards and not self._told:
            self._told = True
            log.warning(
                "PRERENDER_SERVE_AT is 'wsgi', and hits go by Flask all the same: before_request "
                "functions that were registered before Prerender have to see them (%s). Register "
                "those after Prerender(app) that need not.",
                ", ".join(getattr(found, "__qualname__", repr(found)) for found in guards),
            )
        return bool(guards)

    def _is_of_hook(self, found: t.Callable[..., t.Any]) -> bool:
        return getattr(getattr(found, "__self__", None), "lane", None) is self

    def answer(self, environ: Environ, key: str) -> Answer | None:
        """Return the answer to a request that is not the plainest, where no Flask is needed for
        it: the page is fresh, and whoever asks gets it."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return None
        answer = self.server.answer(environ, key, may=lambda ready, now: ready.is_plain)
        if answer is not None:
            tell(self.site, answer)
        return answer

    def tell(self, ready: Ready, sent: Sent, status: str) -> None:
        """Send the signal of an answer that was not put together by the server."""
        is_kept = self.site.memory.get(ready.page.key) is ready
        source = "memory" if is_kept else "store"
        tell(self.site, Answer(status, [], b"", ready, source, sent.variant.encoding))

    def make(self, inner: WSGIApp) -> WSGIApp:
        """Return the WSGI app that answers hits, and passes on everything else to `inner`.

        The plainest of all requests is answered here, from what the server has prepared. What does
        not change is a local name: a lookup by ``self`` costs as much as the page's own.
        """
        site, paths, hosts, door = self.site, self.paths, self.hosts, self
        server, find, recall = self.server, site.memory.get, site.memory.recall
        clock, receivers = site.clock, page_served.receivers
        script_name = site.script_name
        cell: Sequence[int] = ()
        looked_at = look_at = 0.0
        is_open = trusts_all = False

        def lane(environ: Environ, start_response: t.Any) -> t.Iterable[bytes]:
            nonlocal cell, looked_at, look_at, is_open, trusts_all
            known = paths.known.get(environ.get("PATH_INFO", ""))
            if known is None or not known.is_in_lane:
                return inner(environ, start_response)
            answer = ready = sent = body = None
            try:
                now, key = clock(), known.key
                if not looked_at <= now < look_at:
                    # With rules that were added since, it is Flask's turn for a second.
                    is_open = not paths.follow() and site.serves and not door.has_guards()
                    cell = site.coordination.cell()
                    trusts_all = not site.app.config.get("TRUSTED_HOSTS")
                    looked_at, look_at = now, now + _LOOK_SECONDS
                if (
                    is_open and not environ.get("QUERY_STRING")
                    and environ.get("SCRIPT_NAME", "") == script_name
                    and "HTTP_AUTHORIZATION" not in environ and "HTTP_UPGRADE" not in environ
                    and ENVIRON_KEY not in environ
                    and not (under_way and rendering.get())
                    and (trusts_all or environ.get("HTTP_HOST") in hosts)
                ):  # fmt: skip
                    ready = find(key) or recall(key)
                    wanted = environ.get("HTTP_IF_NONE_MATCH")
                    if (
                        ready is not None and ready.revision == cell[0]
                        and ready.begins <= now < ready.plain_until
                        and environ["REQUEST_METHOD"] == "GET" and "HTTP_RANGE" not in environ
                        and (wanted is not None or "HTTP_IF_MODIFIED_SINCE" not in environ)
                    ):  # fmt: skip
                        sent = ready.chosen.get(environ.get("HTTP_ACCEPT_ENCODING"))
                    if sent is None or ready is None or not (wanted is None or wanted == sent.etag):
                        answer, sent = door.answer(environ, key), None
                    else:
                        ready.used = True
                        if now >= ready.note_at:
                            server.note(key, ready, now)
                        if wanted is None:
                            body = sent.body or server.load_body(ready, sent)
            except Exception:
                site.complain("lane", "a request is passed on to Flask", exc_info=True)
                answer = sent = None
            if answer is not None:
                start_response(answer.status, answer.headers)
                return [answer.body] if answer.body else []
            if sent is None or ready is None or (body is None and wanted is None):
                return inner(environ, start_response)
            if receivers:
                door.tell(ready, sent, _OK if wanted is None else _NOT_MODIFIED)
            if body is None:
                start_response(_NOT_MODIFIED, sent.not_modified.copy())
                return []
            start_response(_OK, sent.ok.copy())
            return [body]

        return lane
