"""Which page a Flask request asks for, or why the app answers it whatever is stored."""

from __future__ import annotations

import typing as t

from flask import after_this_request
from flask import Request
from flask import Response
from werkzeug.sansio.utils import host_is_trusted

from .known import Known
from .marks import Mark
from .options import EVERY
from .page import is_same_anew
from .page import make_key
from .page import path_key
from .render import rendering
from .serve import Server
from .site import Site
from .typed import sort_query
from .variants import Admission

#: So many pages that each ask for the next one are a loop, though their paths differ.
_DEEP = 4
#: The methods that a stored page answers.
READING = ("GET", "HEAD")


class Wanted:
    """What the requests of one app ask for."""

    def __init__(self, site: Site, server: Server) -> None:
        self.site, self.server = site, server
        self.admission, self._has_hosts = Admission(), site.has_hosts
        site.renewals.append(self.admission.renew)

    def key(self, current: Request, known: Known) -> str | tuple[str, str]:
        """Return the key of the page; or the reason not to serve it, and what is to be told."""
        site, environ = self.site, current.environ
        if (
            known.is_plain and environ["REQUEST_METHOD"] in READING
            and not environ.get("QUERY_STRING") and "HTTP_AUTHORIZATION" not in environ
            and environ.get("SCRIPT_NAME", "") == site.script_name
            and not rendering.get() and site.serves
        ):  # fmt: skip
            return known.key  # nothing in the request is a reason to look at it more closely
        site.settle()
        mark = t.cast(Mark, known.mark)
        reason = self._bypass(current, mark)
        key = None if reason else self._key(current, mark, known)
        return (reason, _bypassed(environ, reason)) if key is None else key

    def _bypass(self, current: Request, mark: Mark) -> str:
        """Return why this request is the app's whatever is stored, or ``""``."""
        environ = current.environ
        if environ["REQUEST_METHOD"] not in READING:
            return "method"
        if not self.site.serves:
            return "disabled"
        if "HTTP_AUTHORIZATION" in environ and not mark.respects:
            return "authorization"
        script_name = environ.get("SCRIPT_NAME", "")
        if script_name != self.site.script_name:
            self._complain_of_mount(script_name)
            return "mount"
        if chain := rendering.get():
            self._nest(chain, current.path)
            return "render"  # a view that asks for another page while it is rendered
        if mark.visitors == "bots":
            agent = environ.get("HTTP_USER_AGENT", "")
            return "" if agent in self.server.crawlers else "visitors"
        return ""

    def _complain_of_mount(self, script_name: str) -> None:
        self.site.complain(
            "mount",
            "A request came with SCRIPT_NAME %r, pages are rendered for %r, so the app answers. If "
            "the app is mounted there, say so in PRERENDER_BASE_URL or APPLICATION_ROOT.",
            script_name,
            self.site.script_name,
        )

    def _nest(self, chain: tuple[str, ...], path: str) -> None:
        """Follow a render that asks for another page, and tell when it goes round."""
        way = (*chain, path)
        if path in chain or len(chain) > _DEEP:
            text = "render loop %s: pages that ask for each other are answered by their views"
            self.site.complain("loop", text, " -> ".join(way))
        token = rendering.set(way)

        @after_this_request
        def leave(response: Response) -> Response:
            rendering.reset(token)
            return response

    def _key(self, current: Request, mark: Mark, known: Known) -> str | None:
        environ = current.environ
        query: list[tuple[str, str]] = []
        if text := environ.get("QUERY_STRING"):
            if EVERY in mark.query and not is_same_anew(text):
                return None
            try:
                pairs = current.args.items(multi=True)
            except UnicodeDecodeError:
                return None
            query, unnamed = sort_query(self.site.settings, mark, pairs)
            if unnamed:
                return None
        key = make_key(known.path, query, self._host(current))
        if key is None or not mark.vary:
            return key
        return self.admission.key(key, mark.vary, environ)

    def _host(self, current: Request) -> str:
        return current.host.lower() if self._has_hosts else ""

    def may_store(self, current: Request) -> bool:
        """Whether a visitor may bring this host into the store: not one that clients can invent."""
        rule = current.url_rule
        if rule is None or not self._host(current):
            return True
        variable = "<" in (rule.host or "") + (rule.subdomain or "")
        anything = self.site.app.url_map.host_matching and not rule.host
        if not (variable or anything):
            return True
        trusted = self.site.app.config.get("TRUSTED_HOSTS") or ()
        return bool(trusted) and host_is_trusted(current.host, trusted)


def _bypassed(environ: dict[str, t.Any], reason: str) -> str:
    if reason == "method":
        return "fwd=method"
    if not reason:
        reason = "path" if path_key(environ.get("PATH_INFO", "")) is None else "query"
    return f"fwd=bypass; detail={reason}"
