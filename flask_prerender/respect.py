"""A request to a route whose own headers decide: what an RFC 9111 shared cache answers."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl

from werkzeug.exceptions import NotFound

from .freshness import directives
from .freshness import seconds
from .headers import Headers
from .marks import Mark
from .page import IDENTITY
from .page import Page
from .publish import Outcome
from .ready import Ready
from .render import Render
from .render import request_environ
from .serve import Answer
from .serve import Environ
from .serve import Server
from .site import Site
from .variants import environ_name
from .visit import attempt
from .visit import PASSING

#: The source of an answer that is in no store: the view's, or none at all.
VIEW = "view"

#: What a render may have looked at, whatever a visitor sent: it had the validators of the page.
_OURS = frozenset({"HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH"})

#: Of what an app looks at, this is not noticed.
_UNNOTICED = frozenset({"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "PATH_INFO", "REMOTE_USER"})

#: Refused for what it is: the visitor it was rendered for may have it. Not so what reads a
#: session, sets a cookie, or did not come to its end.
_IMPERSONAL = frozenset(
    {
        "budget", "content-encoding", "empty", "error", "freshness", "no-store", "partial",
        "private", "status", "vary",
    }
)  # fmt: skip
_OF_ONE_CONNECTION = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "te", "trailer",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wish:
    """What ``Cache-Control`` of a request asks for (RFC 9111, section 5.2.1)."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = -1.0

    @property
    def is_for_a_newer_one(self) -> bool:
        return self.no_cache or self.max_age is not None or self.min_fresh > 0


_NOTHING = Wish()


def read_wish(header: str | None) -> Wish:
    """Read ``Cache-Control`` of a request."""
    if not header:
        return _NOTHING
    said = directives([header])
    stale = math.inf if said.get("max-stale", "") is None else seconds(said, "max-stale")
    return Wish(
        no_store="no-store" in said,
        no_cache="no-cache" in said,
        only_if_cached="only-if-cached" in said,
        max_age=seconds(said, "max-age"),
        min_fresh=seconds(said, "min-fresh") or 0.0,
        max_stale=-1.0 if stale is None else stale,
    )


class Respect:
    """Answers requests to routes with ``revalidate="headers"``."""

    def __init__(self, site: Site, server: Server) -> None:
        self._site = site
        self._server = server

    def answer(self, environ: Environ, mark: Mark, key: str, may_store: bool) -> Answer | str:
        """Return an answer, or the part of ``Cache-Status`` that says why the app has to give it.

        :param may_store: whether this request may bring a new page into the store.
        :raises StoreError: the store cannot be read.
        """
        wish = read_wish(environ.get("HTTP_CACHE_CONTROL"))
        is_signed_in = "HTTP_AUTHORIZATION" in environ
        if wish.no_store and not wish.only_if_cached:
            return "fwd=request; detail=no-store"
        suits = _suits(wish, is_signed_in)
        answer = self._server.answer(environ, key, may=suits)
        if answer is not None:
            return answer
        if wish.only_if_cached:
            return _gateway_timeout()
        if is_signed_in:  # what comes may be for them alone
            return "fwd=bypass; detail=authorization"
        page = self._site.store.get(key)
        if page is None and mark.fallback == "404":
            raise NotFound()
        if page is None and (mark.fallback != "render" or not may_store):
            return f"fwd=uri-miss; detail={'host' if mark.fallback == 'render' else 'fallback'}"
        return self._make(environ, mark, key, page, wish)

    def _make(
        self, environ: Environ, mark: Mark, key: str, page: Page | None, wish: Wish
    ) -> Answer | str:
        """Have the page made or validated, and answer with what came of it."""
        is_forced = page is not None and (page.terms is None or wish.is_for_a_newer_one)
        since = self._site.clock() if is_forced else -math.inf
        outcome = attempt(self._site, key, since)
        status = f"fwd={_why(page, wish)}"
        answer = None
        if outcome.is_stored:
            status += "; stored"
            # Whoever took it back while it was made may be the one who asks now.
            answer = self._server.answer(environ, key, may=lambda ready, now: not ready.taken)
        elif outcome.reason in PASSING:
            code = outcome.response.status if outcome.response is not None else 0
            status += f"; fwd-status={code}" if code else f"; detail={outcome.reason}"
            answer = self._server.answer(environ, key, may=_may_stand_in)
        if answer is None and outcome.is_stored:
            return f"fwd={_why(page, wish)}; detail=purged"
        if answer is None:
            status = f"fwd={_why(page, wish)}; detail={outcome.reason}"
            answer = self._hand_over(environ, mark, outcome)
        if answer is None:
            return status
        if self._site.settings.headers:
            own = [pair for pair in answer.headers if pair[0] != "Cache-Status"]
            answer.headers = [*own, ("Cache-Status", f"flask-prerender; {status}")]
        return answer

    def _hand_over(self, environ: Environ, mark: Mark, outcome: Outcome) -> Answer | None:
        """Return what was rendered and not stored to the visitor for whom it was rendered, so that
        the view need not be asked twice; ``None`` where it might have told this visitor something
        else."""
        done = outcome.response
        if done is None or not _is_impersonal(outcome.reason, done):
            return None
        if "HTTP_COOKIE" in environ or not self._would_look_alike(environ, mark, done):
            return None
        dropped = _OF_ONE_CONNECTION | _lower(done, "connection")
        headers: Headers = [pair for pair in done.headers if pair[0].lower() not in dropped]
        if done.status != 204:
            headers.append(("Content-Length", str(len(done.body))))
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else done.body
        return _unstored(_status_line(done.status), headers, body)

    def _would_look_alike(self, environ: Environ, mark: Mark, done: Render) -> bool:
        """Whether all that the app looked at is the same in this visitor's request."""
        if not done.is_dispatched or "*" in done.looked_at:  # a middleware answered; a copy of all
            return False
        declared = {environ_name(name) for name, _ in mark.vary}
        own = request_environ(self._site, done.key)
        looked_at = (done.looked_at - declared - _OURS) | _UNNOTICED
        if any((environ.get(name) or "") != (own.get(name) or "") for name in looked_at):
            return False
        return _query(environ) == _query(own)


def _suits(wish: Wish, is_signed_in: bool) -> t.Callable[[Ready, float], bool]:
    """Return the rule by which a stored page may answer a request as it stands."""
    if wish == _NOTHING and not is_signed_in:
        return _is_usable

    def suits(ready: Ready, now: float) -> bool:
        page, terms = ready.page, ready.page.terms
        if terms is None or (is_signed_in and not terms["is_shared"]) or wish.no_cache:
            return False
        resident = page.age(now)
        left = (page.revalidate or 0.0) - resident
        if wish.max_age is not None and terms["age"] + resident > wish.max_age:
            return False
        if left < wish.min_fresh and wish.min_fresh > 0:
            return False
        # Section 5.2.1.1: who sets a limit wants nothing stale, unless they say so.
        if _is_usable(ready, now) and (ready.state == "fresh" or wish.max_age is None):
            return True
        return not (ready.taken or terms["is_strict"]) and 0 <= -left <= wish.max_stale

    return suits


def _is_usable(ready: Ready, now: float) -> bool:
    terms = ready.page.terms
    if terms is None or ready.state != "stale":
        return terms is not None and ready.state == "fresh"
    # A page from the future is stale whatever its headers say of that.
    return float(terms["while_revalidate"]) > 0


def _may_stand_in(ready: Ready, now: float) -> bool:
    """Whether a page may be served because it could not be made new (RFC 5861, section 4)."""
    page, terms = ready.page, ready.page.terms
    if terms is None or ready.taken:
        return False
    return page.age(now) - (page.revalidate or 0.0) < float(terms["if_error"])


def _why(page: Page | None, wish: Wish) -> str:
    if page is None:
        return "uri-miss"
    return "request" if wish.is_for_a_newer_one else "stale"


def _is_impersonal(reason: str, done: Render) -> bool:
    """Whether nothing in a response says that it is for somebody."""
    if reason not in _IMPERSONAL or done.error is not None or done.reads:
        return False
    if done.status in (206, 304) or not 200 <= done.status < 600:
        return False
    return all(name.lower() != "set-cookie" for name, _ in done.headers)


def _query(environ: Environ) -> list[tuple[str, str]]:
    return sorted(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))


def _lower(done: Render, name: str) -> set[str]:
    lines = [value for found, value in done.headers if found.lower() == name]
    return {part.strip().lower() for line in lines for part in line.split(",") if part.strip()}


def _status_line(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase.upper()}"
    except ValueError:
        return f"{status} UNKNOWN"


def _gateway_timeout() -> Answer:
    headers = [("Content-Length", "0"), ("Cache-Control", "no-store")]
    return _unstored("504 GATEWAY TIMEOUT", headers, b"")


def _unstored(status: str, headers: Headers, body: bytes) -> Answer:
    # There is no page behind it; whoever has to do with pages looks at the source first.
    return Answer(status, headers, body, t.cast(Ready, None), VIEW, IDENTITY)
