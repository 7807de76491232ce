"""The door before Flask: a hit answered as WSGI, from what this process has in memory.

The first hit of a path in a process goes by the hook, which knows Flask's rules: whether the view
is marked, what the query means, whose page it is. What it answered for a plain request is answered
here from then on, by the same page, while it is fresh and nobody took it back. Everything else is
passed on.
"""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

from .page import split_key
from .ready import Ready
from .ready import Sent
from .render import ENVIRON_KEY
from .serve import Answer
from .serve import Server
from .serve import tell
from .signals import page_served
from .site import Site

Environ = dict[str, t.Any]
WSGIApp = t.Callable[[Environ, t.Any], t.Iterable[bytes]]

#: No page was ever stored at this revision.
_CLOSED = (-1,)
_NOT_MODIFIED = "304 NOT MODIFIED"
_LOOK_SECONDS = 1.0
#: Clients choose what is asked for, and how.
_PATHS = 100_000
_HOSTS = 1000
_HEADERS = 100


class Lane:
    """The paths whose hits need not go through Flask."""

    def __init__(self, site: Site, server: Server) -> None:
        self.site, self.server = site, server
        #: Keys of pages by path, as WSGI writes it.
        self.keys: dict[str, str] = {}
        #: Hosts that Flask has let in, where the app says which ones it trusts.
        self.hosts: set[str | None] = set()

    def install(self) -> None:
        app = self.site.app
        app.wsgi_app = self.make(app.wsgi_app)  # type: ignore[method-assign,assignment]

    def learn(self, environ: Environ, ready: Ready) -> None:
        """Note that the hook has answered a request with a page."""
        host, _, query = split_key(ready.page.key)
        if host or query:
            return
        if len(self.keys) >= _PATHS:
            self.keys.clear()
        if len(self.hosts) >= _HOSTS:
            self.hosts.clear()
        self.hosts.add(environ.get("HTTP_HOST"))
        self.keys[environ["PATH_INFO"]] = ready.page.key

    def choose(self, ready: Ready, accepted: str | None) -> Sent:
        """Return the variant that an Accept-Encoding gets, and remember it beside the page.

        :raises StopIteration: none of them is acceptable.
        """
        coding = next(c for c in self.server.encodings[accepted] if c in ready.sent)
        if len(ready.chosen) >= _HEADERS:
            ready.chosen = {}
        sent = ready.chosen[accepted] = ready.sent[coding]
        return sent

    def make(self, inner: WSGIApp) -> WSGIApp:
        """Return the WSGI app that answers hits, and passes on everything else to `inner`.

        What does not change is a local name of it: a lookup by ``self`` costs as much as the
        page's own.
        """
        site, keys, hosts, choose = self.site, self.keys, self.hosts, self.choose
        find, clock, coordination = site.memory.get, site.clock, site.coordination
        script_name, receivers = site.script_name, page_served.receivers
        cell: Sequence[int] = _CLOSED
        looked_at = look_at = 0.0
        trusts_all = False

        def lane(environ: Environ, start_response: t.Any) -> t.Iterable[bytes]:
            nonlocal cell, looked_at, look_at, trusts_all
            get = environ.get
            key = keys.get(get("PATH_INFO", ""))
            if key is None:
                return inner(environ, start_response)
            ready: Ready | None = find(key)
            sent = body = wanted = None
            try:
                now = clock()
                if not looked_at <= now < look_at:
                    cell = coordination.cell() if site.serves else _CLOSED
                    looked_at, look_at = now, now + _LOOK_SECONDS
                    trusts_all = not site.app.config.get("TRUSTED_HOSTS")
                if (
                    ready is not None and ready.is_plain and ready.revision == cell[0]
                    and ready.begins <= now < ready.ends
                    and environ["REQUEST_METHOD"] == "GET" and not get("QUERY_STRING")
                    and get("SCRIPT_NAME", "") == script_name
                    and "HTTP_AUTHORIZATION" not in environ and "HTTP_RANGE" not in environ
                    and "HTTP_IF_MODIFIED_SINCE" not in environ and ENVIRON_KEY not in environ
                    and (trusts_all or get("HTTP_HOST") in hosts)
                ):  # fmt: skip
                    accepted, wanted = get("HTTP_ACCEPT_ENCODING"), get("HTTP_IF_NONE_MATCH")
                    sent = ready.chosen.get(accepted) or choose(ready, accepted)
                    body, ready.used = sent.body, True
                    if ready.is_of_visit:
                        site.asked_for[key] = now
            except StopIteration:
                pass  # none of the encodings that there are will do
            except Exception:
                site.complain("lane", "a request is passed on to Flask", exc_info=True)
            if ready is None or sent is None or body is None or (wanted and wanted != sent.etag):
                return inner(environ, start_response)
            status = _NOT_MODIFIED if wanted else ready.status
            if receivers:
                tell(site, Answer(status, [], b"", ready, "memory", sent.variant.encoding))
            start_response(status, sent.not_modified[:] if wanted else sent.ok[:])
            return [] if wanted else [body]

        return lane
