"""A request met by a stored page: look up, choose a variant, answer.

:func:`answer` is the one core. It takes a WSGI environ and knows nothing of Flask's request, so
every door calls the same rules.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

from . import signals
from .budgets import note_at_times
from .compress import decompress
from .headers import Headers
from .negotiate import Crawlers
from .negotiate import Encodings
from .negotiate import has_it
from .negotiate import wanted_range
from .page import IDENTITY
from .ready import Ready
from .ready import Sent
from .site import Site

Environ = Mapping[str, t.Any]

#: The server's own order of preference: by size.
ENCODINGS = ("br", "zstd", "gzip")

#: So many ways to say Accept-Encoding are remembered with a page: clients choose them.
_CHOSEN = 16

_NOT_ACCEPTABLE = b"None of the encodings that your Accept-Encoding allows is available.\n"


@dataclass(slots=True)
class Answer:
    """A whole HTTP answer. `headers` belongs to the receiver and may be changed."""

    status: str
    headers: Headers
    body: bytes
    ready: Ready
    source: str
    encoding: str


class Server:
    """What serving needs to know of a site, made once."""

    def __init__(self, site: Site) -> None:
        self.site = site
        settings = site.settings
        more = tuple(c.encoding for c in site.packer.compressors if c.encoding not in ENCODINGS)
        self.encodings = Encodings((*more, *ENCODINGS), settings.encoding_preference)
        self.crawlers = Crawlers(settings.bots)

    def answer(
        self,
        environ: Environ,
        key: str,
        *,
        last_resort: bool = False,
        may: Callable[[Ready, float], bool] | None = None,
    ) -> Answer | None:
        """Return the answer that the stored page of `key` gives, or ``None`` when there is none
        to give: absent, expired, or for crawlers only.

        :param last_resort: the page could not be made new, so an expired one may do while
            ``PRERENDER_STALE_IF_ERROR`` allows it.
        :param may: says whether a page may be served at a moment, in place of the two rules above.
        :raises StoreError: the store cannot be read.
        """
        found = self._find(key)
        if found is None:
            return None
        ready, source = found
        if ready.bots_only and environ.get("HTTP_USER_AGENT", "") not in self.crawlers:
            return None
        now = self.site.clock()
        if not ready.begins <= now < ready.ends:
            ready.prepare(now)
        if may is not None:
            if not may(ready, now):
                return None
        elif ready.state == "expired" and not (last_resort and self._may_do(ready, now)):
            return None
        ready.used = True
        if now >= ready.note_at:
            self.note(key, ready, now)
        accepted = environ.get("HTTP_ACCEPT_ENCODING")
        sent = ready.chosen.get(accepted) or self._choose(ready, accepted)
        if sent is None:
            return _not_acceptable(environ, ready, source)
        return self._send(environ, ready, sent, source)

    def note(self, key: str, ready: Ready, now: float) -> None:
        """Note that a page of a first visit was asked for, for the next second as well."""
        self.site.asked_for[key] = now
        ready.note_at = now + 1.0

    def _choose(self, ready: Ready, accepted: str | None) -> Sent | None:
        """Return the variant that an Accept-Encoding gets, remembered beside the page; ``None``
        when none of them is acceptable."""
        for coding in self.encodings[accepted]:
            sent = ready.variant(coding)
            if sent is not None:
                if len(ready.chosen) >= _CHOSEN:
                    ready.chosen = {}
                # What many pages were asked by is one text.
                ready.chosen[sys.intern(accepted) if accepted else accepted] = sent
                return sent
        return None

    def _find(self, key: str) -> tuple[Ready, str] | None:
        """Return the page from memory if it is still what is stored, else from the store."""
        site = self.site
        # Before the store is read: what changes meanwhile will be seen at the next request.
        revision = site.coordination.revision()
        ready: Ready | None = site.memory.get(key)
        source = "memory"
        if ready is None:
            ready, source = site.memory.recall(key), "store"
        if ready is not None and ready.revision == revision:
            return ready, source
        site.settle()
        site.follow_build()
        note_at_times(site)
        revision = site.revocations.follow(revision)
        page = site.store.get(key)
        # After the page was read: whoever stored it had said so before.
        if page is None or not self._is_ours():
            site.memory.drop(key)
            return None
        is_new = ready is None or not ready.renew(page)
        if is_new:
            ready, source = Ready(page, site.settings), "store"
        ready = t.cast(Ready, ready)
        ready.take(site.revocations.of(page))
        ready.revision = revision
        if is_new:
            site.memory.put(key, ready)
        return ready, source

    def _may_do(self, ready: Ready, now: float) -> bool:
        page = ready.page
        if ready.taken == "hard":
            return False  # somebody wants it gone: rather no page than this one
        past = 0.0 if page.expire is None else page.age(now) - page.expire
        return past < self.site.settings.stale_if_error

    def knows(self, key: str) -> bool:
        """Return whether a page is stored, however old."""
        return self.site.store.get(key) is not None

    def _is_ours(self) -> bool:
        if self.site.owns_pages():
            return True
        self.site.complain("owner", "Nothing stored is served: another app's pages are there.")
        return False

    def _send(self, environ: Environ, ready: Ready, sent: Sent, source: str) -> Answer | None:
        encoding = sent.variant.encoding
        is_200 = ready.page.status == 200
        if is_200 and has_it(environ, sent.etag, ready):
            return Answer("304 NOT MODIFIED", sent.not_modified[:], b"", ready, source, encoding)
        if environ["REQUEST_METHOD"] == "HEAD":
            return Answer(ready.status, sent.ok[:], b"", ready, source, encoding)
        body = self._body(ready, encoding)
        if body is None:
            return None
        if "HTTP_RANGE" in environ and encoding == IDENTITY and is_200:
            return _part(environ, ready, sent, body, source)
        return Answer(ready.status, sent.ok[:], body, ready, source, encoding)

    def load_body(self, ready: Ready, sent: Sent) -> bytes | None:
        """Read a body from the store, and keep it while there is room."""
        site = self.site
        body = site.store.read(ready.page, sent.variant)
        if body is None:
            site.settle()
            site.memory.drop(ready.page.key)
        elif sent.variant.size <= site.memory.limit // 8:
            sent.body = body
            site.settle()
            if not site.memory.put(ready.page.key, ready):
                sent.body = None
        return body

    def whole_body(self, answer: Answer) -> bytes:
        """Return the uncompressed body of the page that an answer is of."""
        if not answer.encoding:
            return answer.body  # the words of a 406
        body = self._body(answer.ready, IDENTITY)
        if body is not None:
            return body
        # It was damaged since; what was chosen to be sent is whole.
        return decompress(answer.encoding, self._body(answer.ready, answer.encoding) or b"")

    def _body(self, ready: Ready, encoding: str) -> bytes | None:
        sent = t.cast(Sent, ready.variant(encoding))
        body = sent.body  # looked at once: memory may make room meanwhile
        return body if body is not None else self.load_body(ready, sent)

    def load(self, key: str) -> bool:
        """Bring a page into memory with the variant that browsers take, before it is asked for."""
        found = self._find(key)
        if found is None:
            return False
        ready, _ = found
        variants = map(ready.variant, self.encodings["br, zstd, gzip"])
        sent = next(filter(None, variants), None)
        return sent is not None and self.load_body(ready, sent) is not None


def _part(environ: Environ, ready: Ready, sent: Sent, body: bytes, source: str) -> Answer:
    size = len(body)
    wanted = wanted_range(environ, sent.etag, ready.named_by, size)
    if wanted is None:
        return Answer(ready.status, sent.ok[:], body, ready, source, IDENTITY)
    headers = [pair for pair in sent.ok if pair[0] != "Content-Length"]
    if wanted == "unsatisfiable":
        kept = ("accept-ranges", "cache-control", "etag", "vary", "x-prerendered", "cache-status")
        headers = [pair for pair in headers if pair[0].lower() in kept]
        headers += [("Content-Range", f"bytes */{size}"), ("Content-Length", "0")]
        return Answer("416 RANGE NOT SATISFIABLE", headers, b"", ready, source, IDENTITY)
    first, stop = wanted
    headers.append(("Content-Range", f"bytes {first}-{stop - 1}/{size}"))
    headers.append(("Content-Length", str(stop - first)))
    return Answer("206 PARTIAL CONTENT", headers, body[first:stop], ready, source, IDENTITY)


def _not_acceptable(environ: Environ, ready: Ready, source: str) -> Answer:
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(_NOT_ACCEPTABLE))),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Encoding"),
    ]
    body = b"" if environ["REQUEST_METHOD"] == "HEAD" else _NOT_ACCEPTABLE
    return Answer("406 NOT ACCEPTABLE", headers, body, ready, source, "")


def tell(site: Site, answer: Answer) -> None:
    """Send the signal of an answer."""
    if signals.page_served.receivers:
        signals.send(
            signals.page_served,
            site.app,
            key=answer.ready.page.key,
            source=answer.source,
            state=answer.ready.state,
            status=int(answer.status[:3]),
            encoding=answer.encoding,
        )
