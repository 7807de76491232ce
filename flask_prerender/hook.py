"""The door of ``before_request``: a Flask request turned into a question to the server, and its
answer into a Flask response."""

from __future__ import annotations

import re

from flask import after_this_request
from flask import Flask
from flask import Request
from flask import request
from flask import Response
from flask import send_from_directory
from werkzeug.exceptions import NotFound

from .errors import PrerenderError
from .known import Paths
from .lane import Lane
from .links import tell_templates
from .marks import Mark
from .render import current_render
from .respect import Respect
from .respect import VIEW
from .response import DEPENDS
from .response import keep_apart
from .response import keep_errors
from .response import Responses
from .serve import Answer
from .serve import Server
from .serve import tell
from .settings import IN_BACKGROUND
from .signals import page_served
from .site import Site
from .start import start
from .unsafe import after_unsafe
from .visit import PASSING
from .visit import visit
from .wanted import READING
from .wanted import Wanted

_SITEMAP = re.compile(r"/sitemap(?:-[0-9]+)?\.xml\Z")


class Hook:
    """What `app` does before and after each request."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.server, self.paths = Server(site), Paths(site)
        self.respect = Respect(site, self.server)
        self.lane = (
            Lane(site, self.server, self.paths) if site.settings.serve_at == "wsgi" else None
        )
        self.responses = Responses(site.app.response_class, self.server.whole_body)
        self.wanted = Wanted(site, self.server)

    def install(self, app: Flask) -> None:
        app.before_request(self.before_request)
        if self.lane is not None:
            self.lane.install()
        tell_templates(app, is_rendering)

    def before_request(self) -> Response | None:
        """Answer from the store, or let the app answer, also where something goes wrong in here."""
        current: Request = request._get_current_object()  # type: ignore[attr-defined]
        done = current_render(current.environ)
        if done is not None:
            done.is_dispatched = True
            if current.url_rule is not None:
                done.rule, done.endpoint = current.url_rule.rule, current.url_rule.endpoint
            return None
        try:
            return self._meet(current)
        except NotFound:
            raise
        except Exception as error:
            kind = "store" if isinstance(error, PrerenderError) else type(error).__name__
            self.site.complain(
                kind,
                "%s is answered by the app: %s",
                current.path,
                error,
                exc_info=not isinstance(error, PrerenderError),
            )
            self._forward(f"fwd=uri-miss; detail={'store' if kind == 'store' else 'error'}")
            return None

    def _meet(self, current: Request) -> Response | None:
        environ, rule = current.environ, current.url_rule
        if rule is None or current.routing_exception is not None:
            return self._sitemap(current) if rule is None else None
        known = self.paths.find(rule, environ.get("PATH_INFO", ""))
        mark = known.mark
        if environ["REQUEST_METHOD"] not in READING:
            self.site.settle()
            # Whatever view of the path it is: another one may have the page.
            after_this_request(lambda response: after_unsafe(self.site, current, response))
        if mark is None:
            return None
        if not self.site.is_started:
            start(self.site, self.server)
        key = self.wanted.key(current, known)
        if not isinstance(key, str):
            self._forward_for(*key)
            return None
        if mark.respects:
            return self._respect(current, mark, key)
        answer = self.server.answer(environ, key)
        if answer is None:
            answer = self._first_visit(current, mark, key)
        if answer is None:
            return None
        if self.lane is not None:
            self.lane.learn(environ, known)
        return self._respond(key, answer)

    def _forward_for(self, reason: str, status: str) -> None:
        self._forward(status)
        if reason in DEPENDS:
            after_this_request(lambda response: keep_apart(response, reason))

    def _respect(self, current: Request, mark: Mark, key: str) -> Response | None:
        answer = self.respect.answer(current.environ, mark, key, self.wanted.may_store(current))
        if isinstance(answer, str):
            self._forward(answer)
            return None
        return self.responses.make(answer) if answer.source == VIEW else self._respond(key, answer)

    def _respond(self, key: str, answer: Answer) -> Response:
        if page_served.receivers:
            tell(self.site, answer)
        response = self.responses.make(answer)
        if answer.ready.state == "stale":
            self._make_new(key, response)
        return response

    def _make_new(self, key: str, response: Response) -> None:
        """Have a stale page made new, without waiting for it."""
        self.site.settle()
        mode, regenerator = self.site.settings.regenerate, self.site.regenerator
        if mode == "off":
            return
        if mode in IN_BACKGROUND and (regenerator.ask(key) or regenerator.backlog.has_threads):
            return
        # Called when the server has sent the answer.
        response.call_on_close(lambda: regenerator.make_new_inline(key))

    def _sitemap(self, current: Request) -> Response | None:
        """Send the sitemap of the last build where the app has no such URL itself."""
        site, path = self.site, current.environ.get("PATH_INFO", "")
        if not _SITEMAP.match(path) or current.method not in ("GET", "HEAD"):
            return None
        if not (site.settings.sitemap and site.serves and site.owns_pages()):
            return None
        if not (site.public / path[1:]).is_file():
            return None
        return send_from_directory(site.public, path[1:], mimetype="application/xml")

    def _first_visit(self, current: Request, mark: Mark, key: str) -> Answer | None:
        self.site.settle()
        environ = current.environ
        # A page that has expired, or whose body was damaged, is made again whatever the fallback.
        is_known = self.server.knows(key)
        why = "stale" if is_known else "uri-miss"
        # Without a full build that the index knows of, it may have been lost with its pages.
        if mark.fallback == "404" and not is_known and self.site.store.last_build():
            raise NotFound()
        reason = "fallback"
        if mark.fallback == "render" or is_known:
            reason = self._render(current, key)
        if reason in PASSING and (old := self.server.answer(environ, key, last_resort=True)):
            return self._told(old, f"fwd=stale; detail={reason}")
        answer = None if reason else self.server.answer(environ, key)
        if answer is None:  # not stored, or taken back again since
            self._forward(f"fwd={why}; detail={reason or 'purged'}")
            after_this_request(keep_errors)
            return None
        return self._told(answer, f"fwd={why}; stored")

    def _told(self, answer: Answer, status: str) -> Answer:
        """Say in a stored page's answer that it was no hit."""
        if self.site.settings.headers:
            told = ("Cache-Status", f"flask-prerender; {status}")
            answer.headers = [*(h for h in answer.headers if h[0] != "Cache-Status"), told]
        return answer

    def _render(self, current: Request, key: str) -> str:
        return visit(self.site, key) if self.wanted.may_store(current) else "host"

    def _forward(self, status: str) -> None:
        """Say in the answer of this request why the app gives it."""
        if not self.site.settings.headers:
            return

        @after_this_request
        def tell_why(response: Response) -> Response:
            response.headers.add("Cache-Status", f"flask-prerender; {status}")
            return response


def is_rendering() -> bool:
    """Return whether the current request is a render of ours, and no visitor's."""
    done = current_render(request.environ) if request else None
    if done is not None:
        done.looked_at.add("*")  # who asks may tell visitors something else
    return done is not None
