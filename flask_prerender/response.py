"""Stored answers as Flask responses, at the least cost that Flask allows.

``after_request`` functions get an instance of the app's own response class with the status and the
headers that are about to be sent. Its body is the page's, uncompressed and whole, read only if
somebody asks for it: a function that changes text gets text, whichever variant was chosen. When
nobody has touched it, the prepared bytes are sent; else what was made of it.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from flask import Response
from werkzeug.datastructures import Headers
from werkzeug.wsgi import ClosingIterator

from .headers import Headers as HeaderList
from .page import IDENTITY
from .page import Page
from .ready import Sent
from .serve import Answer

#: Headers that may differ from answer to answer and say nothing of its visitor.
_IMPERSONAL = frozenset(
    {
        "age", "cache-status", "date", "server", "server-timing", "strict-transport-security",
        "traceparent", "tracestate", "vary", "via", "x-request-id", "x-runtime",
    }
)  # fmt: skip

#: What is true of the stored bytes and of no others.
_OF_THE_BYTES = (
    "Accept-Ranges", "Content-Encoding", "Content-Length", "Content-Range", "ETag",
    "Last-Modified",
)  # fmt: skip

#: Request headers for whose sake the app answers what others get from the store.
DEPENDS = {"authorization": "Authorization", "visitors": "User-Agent"}

Read = Callable[[Answer], bytes]


class Responses:
    """Makes stored responses of one app.

    :param base: the app's response class.
    :param read: gives the uncompressed body of an answer's page.
    """

    def __init__(self, base: type[Response], read: Read) -> None:
        self.kind: t.Any = _stored(base)
        self._read = read
        # What is left out by make_fast is known for the Werkzeug of today and for response classes
        # that add nothing to it. Any other is noticed here, and gets the documented constructor.
        self._fill = self._fill_fast if self._is_fast_right() else self._fill_plain

    def is_stored(self, response: object) -> bool:
        return isinstance(response, self.kind)

    def make(self, answer: Answer) -> Response:
        body = _Body()
        body.answer, body.read, body.seen = answer, self._read, None
        response = self._fill(body, answer.status, answer.headers[:])
        response.answer, response.given = answer, body
        return t.cast(Response, response)

    def _fill_plain(self, body: _Body, status: str, headers: HeaderList) -> t.Any:
        return self.kind(body, status, Headers(headers))

    def _fill_fast(self, body: _Body, status: str, headers: HeaderList) -> t.Any:
        kind = self.kind
        response = kind.__new__(kind)
        response.headers = Headers.__new__(Headers)
        response.headers._list = headers
        response._status = status
        response._status_code = int(status[:3])
        response.direct_passthrough = False
        response._on_close = []
        response.response = body
        return response

    def _is_fast_right(self) -> bool:
        """Compare both ways: every attribute, and what is sent."""
        headers = [("Content-Type", "text/html"), ("Content-Length", "2"), ("X-A", "b")]
        try:
            plain, fast = (
                fill(_constant(b"ok"), "404 NOT FOUND", headers[:])
                for fill in (self._fill_plain, self._fill_fast)
            )
            return bool(
                vars(plain).keys() == vars(fast).keys()
                and (plain.status, plain.status_code) == (fast.status, fast.status_code)
                and list(plain.headers) == list(fast.headers)
                and plain.get_data() == fast.get_data() == b"ok"
                and _sent(plain) == _sent(fast)
            )
        except Exception:  # a response class of the app's that wants its own constructor
            return False


class _Body(list[bytes]):
    """The uncompressed body of a page, as the list of chunks that Werkzeug knows, read when it is
    first looked at."""

    # No __init__: one is made for each hit.
    __slots__ = ("answer", "read", "seen")

    answer: t.Any
    read: Callable[[t.Any], bytes]
    seen: bytes | None

    @property
    def is_untouched(self) -> bool:
        if self.seen is None:
            return not super().__len__()
        return super().__len__() == 1 and super().__getitem__(0) is self.seen

    def _look(self) -> None:
        if self.seen is None:
            self.seen = self.read(self.answer)
            self[:0] = [self.seen]

    def __iter__(self) -> Iterator[bytes]:
        self._look()
        return super().__iter__()

    def __len__(self) -> int:
        self._look()
        return super().__len__()

    def __getitem__(self, index: t.Any) -> t.Any:
        self._look()
        return super().__getitem__(index)


def _constant(text: bytes) -> _Body:
    body = _Body()
    body.answer, body.read, body.seen = None, lambda answer: text, None
    return body


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
        #: What is to be sent, and the body that after_request functions were given.
        answer: Answer | None = None
        given: _Body | None = None

        def __call__(self, environ: t.Any, start_response: t.Any) -> Iterable[bytes]:
            answer, body = self.answer, self.given
            if answer is None or body is None or self._status != answer.status:
                return t.cast("Iterable[bytes]", super().__call__(environ, start_response))
            if self.response is not body or not body.is_untouched:
                _become_own(self, answer)
                return t.cast("Iterable[bytes]", super().__call__(environ, start_response))
            headers = self.headers._list
            if headers != answer.headers:
                headers = _settle(answer, headers)
            start_response(answer.status, headers)
            # A list with one bytes object: servers send it in one piece.
            chunks = [answer.body] if answer.body else []
            return ClosingIterator(chunks, self.close) if self._on_close else chunks

    return StoredResponse


def _become_own(response: t.Any, answer: Answer) -> None:
    """Make a whole answer of its own of a page whose body was changed on the way: it may be for
    this visitor alone, and nothing that was said of the stored bytes is true of it."""
    changes = _changes(answer.headers, list(response.headers))
    own = t.cast(Sent, answer.ready.variant(IDENTITY)).ok
    kept = [pair for pair in own if pair[0].lower() not in changes]
    headers = Headers([*kept, *(pair for pairs in changes.values() for pair in pairs)])
    for name in _OF_THE_BYTES:
        headers.pop(name, None)
    _forbid_sharing(headers, "private, no-store")
    response.headers = headers
    response.status = answer.ready.status


def _settle(answer: Answer, now: HeaderList) -> HeaderList:
    """Return the headers to send when ``after_request`` functions changed those of an answer."""
    changes = _changes(answer.headers, now)
    headers = Headers([pair for pair in answer.headers if pair[0].lower() not in changes])
    for pairs in changes.values():
        headers.extend(pairs)
    if "set-cookie" in changes:
        _forbid_sharing(headers, "private, no-store")
    elif _are_personal(changes, answer.ready.page) and not any(
        name.endswith("cache-control") for name in changes
    ):
        # A function that changes Cache-Control itself has decided, and is obeyed.
        _forbid_sharing(headers, "private, no-cache")
    return list(headers)


def _are_personal(changes: dict[str, HeaderList], page: Page) -> bool:
    """Whether a header was changed that may be its visitor's own: one that the page itself does not
    have. A 304 repeats few of those it has."""
    return any(
        not pairs or any(pair not in page.headers for pair in pairs)
        for name, pairs in changes.items()
        if name not in _IMPERSONAL
    )


def _changes(given: HeaderList, now: HeaderList) -> dict[str, HeaderList]:
    """Return the headers that were changed, by name in lower case: empty lists for removed ones.

    A header that was added once more with the value it has is no change: the stored page has been
    through these functions already, when it was rendered.
    """
    before, after = _by_name(given), _by_name(now)
    changes = {}
    for name in before.keys() | after.keys():
        old, new = before.get(name, []), after.get(name, [])
        if set(old) != set(new) or len(new) < len(old):
            fresh = [pair for pair in new if pair not in old]
            changes[name] = [*(pair for pair in old if pair in new), *fresh]
    return changes


def _by_name(headers: HeaderList) -> dict[str, HeaderList]:
    named: dict[str, HeaderList] = {}
    for pair in headers:
        named.setdefault(pair[0].lower(), []).append(pair)
    return named


def _forbid_sharing(headers: Headers, instead: str) -> None:
    """Keep an answer from caches on the way: the page is everybody's, this answer is not."""
    for name in {name.lower() for name, _ in headers}:
        if name.endswith(("cache-control", "surrogate-control")) or name == "expires":
            headers.pop(name)
    headers["Cache-Control"] = instead


def keep_apart(response: Response, reason: str) -> Response:
    """Let no cache give what the app answered one visitor to another (CVE-2024-46982)."""
    response.vary.add(DEPENDS[reason])
    if reason == "authorization" and "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "private, no-store"
    return response


def keep_errors(response: Response) -> Response:
    """Let no cache keep the error of one moment (the attacks of cpdos.org)."""
    if response.status_code >= 500 and "Cache-Control" not in response.headers:
        response.headers["Cache-Control"] = "no-store"
    return response
