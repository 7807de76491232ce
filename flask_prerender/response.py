"""Stored answers as Flask responses, at the least cost that Flask allows.

A stored answer is an instance of the app's own response class, so that Flask takes it as it is and
``after_request`` functions find what they expect: they may change headers, set cookies, replace the
body. Only what nobody needs is left out: parsing a status and headers that were prepared when the
page entered memory.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from flask import Response
from werkzeug.datastructures import Headers

from .ready import Headers as HeaderList
from .serve import Answer

#: Headers that may differ from answer to answer and say nothing of its visitor.
_IMPERSONAL = frozenset(
    {
        "age", "cache-status", "date", "server", "server-timing", "strict-transport-security",
        "traceparent", "tracestate", "vary", "via", "x-request-id",
    }
)  # fmt: skip


class Responses:
    """Makes stored responses of one app.

    :param base: the app's response class.
    """

    def __init__(self, base: type[Response]) -> None:
        self.kind: t.Any = _stored(base)
        # What is left out by make_fast is known for the Werkzeug of today and for response classes
        # that add nothing to it. Any other is noticed here, and gets the documented constructor.
        self.make: t.Callable[[Answer], Response] = (
            self._make_fast if self._is_fast_right() else self._make_plain
        )

    def is_stored(self, response: object) -> bool:
        return isinstance(response, self.kind)

    def _make_plain(self, answer: Answer) -> Response:
        response = self.kind(_chunks(answer), answer.status, Headers(answer.headers))
        response.given = response.response
        response.given_headers = answer.headers[:]
        return t.cast(Response, response)

    def _make_fast(self, answer: Answer) -> Response:
        kind = self.kind
        response = kind.__new__(kind)
        headers = Headers.__new__(Headers)
        headers._list = answer.headers
        response.headers = headers
        response._status = answer.status
        response._status_code = int(answer.status[:3])
        response.direct_passthrough = False
        response._on_close = []
        response.response = response.given = response.ready_chunks = _chunks(answer)
        response.given_headers = answer.headers[:]
        return t.cast(Response, response)

    def _is_fast_right(self) -> bool:
        """Compare both ways: every attribute, and what is sent."""
        headers = [("Content-Type", "text/html"), ("Content-Length", "2"), ("X-A", "b")]

        def sample() -> Answer:
            return Answer("404 NOT FOUND", headers[:], b"ok", t.cast(t.Any, None), "", "")

        try:
            plain, fast = self._make_plain(sample()), self._make_fast(sample())
            return (
                vars(plain).keys() == vars(fast).keys() - {"ready_chunks"}
                and (plain.status, plain.status_code) == (fast.status, fast.status_code)
                and list(plain.headers) == list(fast.headers)
                and plain.get_data() == fast.get_data()
                and _sent(plain) == _sent(fast)
            )
        except Exception:  # a response class of the app's that wants its own constructor
            return False


def _chunks(answer: Answer) -> list[bytes]:
    # A list with one bytes object: servers send it in one piece.
    return [answer.body] if answer.body else []


def _sent(response: Response) -> tuple[t.Any, ...]:
    started: list[t.Any] = []
    body = response(
        {"REQUEST_METHOD": "GET"},
        lambda status, headers, exc_info=None: started.append((status, headers)),  # type: ignore
    )
    return (*started, b"".join(body))


def _stored(base: type[Response]) -> type[Response]:
    """Return the class of stored answers for a response class."""

    class StoredResponse(base):  # type: ignore[misc, valid-type]
        #: The headers and the body as they were prepared, before ``after_request`` functions.
        given_headers: HeaderList = []  # noqa: RUF012
        given: t.Any = None
        #: The same, or ``None`` when Werkzeug has to look after it.
        ready_chunks: list[bytes] | None = None

        def __call__(self, environ: t.Any, start_response: t.Any) -> Iterable[bytes]:
            if self.response is not self.ready_chunks or self._on_close:
                # Somebody replaced the body, or waits for its end.
                return t.cast("Iterable[bytes]", super().__call__(environ, start_response))
            headers = self.headers._list
            if headers != self.given_headers:
                drop_repeats(self)
                _keep_private(self.headers, self.given_headers)
                headers = self.headers._list
            start_response(self._status, headers)
            return t.cast("list[bytes]", self.ready_chunks)

        def get_wsgi_headers(self, environ: t.Any) -> Headers:
            drop_repeats(self)
            if self.response != self.given:
                # What was made of the page may be for this visitor alone.
                _forbid_sharing(self.headers, "private, no-store")
                for name in ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges"):
                    self.headers.pop(name, None)
            else:
                _keep_private(self.headers, self.given_headers)
            headers: Headers = super().get_wsgi_headers(environ)
            return headers

    return StoredResponse


def _keep_private(headers: Headers, given: HeaderList) -> None:
    """Keep an answer from caches on the way when it became its visitor's own: it gives a cookie, or
    has a header that the page does not have. The page is everybody's, this answer is not.

    An ``after_request`` function that changes ``Cache-Control`` itself has decided, and is obeyed.
    """
    if "Set-Cookie" in headers:
        _forbid_sharing(headers, "private, no-store")
        return
    changed = {name.lower() for name, value in headers if (name, value) not in given}
    if changed - _IMPERSONAL and not any(name.endswith("cache-control") for name in changed):
        _forbid_sharing(headers, "private, no-cache")


def _forbid_sharing(headers: Headers, instead: str) -> None:
    for name in {name.lower() for name, _ in headers}:
        if name.endswith(("cache-control", "surrogate-control")) or name == "expires":
            headers.pop(name)
    headers["Cache-Control"] = instead


def drop_repeats(response: t.Any) -> None:
    """Take away what an ``after_request`` function added to the stored headers a second time.

    The stored page has been through these functions once already, when it was rendered.
    """
    pairs: HeaderList = list(response.headers)
    count = len(response.given_headers)
    stored, added = pairs[:count], pairs[count:]
    response.headers = Headers([*stored, *(pair for pair in added if pair not in stored)])
