"""A page made ready to answer: everything a response needs that does not depend on the request.

It is made when the page enters memory. A request picks a variant and takes a copy of its header
list; nothing is built but what changes by the second, the life that the page has left.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from http import HTTPStatus

from .freshness import read_date
from .page import http_date
from .page import IDENTITY
from .page import Page
from .page import State
from .page import SUFFIXES
from .page import Variant
from .revocations import Taken
from .settings import Settings

Headers = list[tuple[str, str]]

#: Own headers of a page that its 304 repeats (RFC 9110, section 15.4.5).
_IN_304 = frozenset({"cache-control", "cdn-cache-control", "content-location", "expires"})

#: How long a shared cache may keep a stale page: enough to spare us a herd, and too short to pin
#: an old page for another whole period.
_STALE_SHARED_SECONDS = 2

#: Most shared caches ignore ``Vary: User-Agent`` and would give a crawler's page to everybody.
_FOR_CRAWLERS = "private, max-age=0, must-revalidate"

_OVERHEAD = 800


@dataclass(slots=True)
class Sent:
    """One variant as it is sent: its tag, and the header lists of a 200 and of a 304."""

    variant: Variant
    etag: str
    #: The parts that never change, and the lists with the parts that do.
    fixed: Headers
    fixed_304: Headers
    ok: Headers
    not_modified: Headers
    body: bytes | None = None


class Ready:
    """One page in memory.

    :ivar revision: the revision at which this was known to be what is stored.
    :ivar begins, ends: the moments between which the header lists are true.
    :ivar plain_until: the same as `ends` for a fresh page of status 200 that answers whoever asks,
        so that only the request has to be looked at; for all others in the past.
    :ivar changed_at: the moment that ``If-Modified-Since`` is compared with.
    :ivar chosen: the variants that were chosen, by Accept-Encoding.
    :ivar note_at: from when on it is to be noted again that a page of a first visit was asked for.
    :ivar is_stored: whether the store has it as well.
    :ivar used: whether it was asked for since memory last made room.
    """

    __slots__ = (
        "begins", "bots_only", "changed_at", "chosen", "ends", "etags", "is_stored", "named_by",
        "note_at", "page", "plain_until", "revision", "sent", "settings", "state", "status",
        "taken", "used",
    )  # fmt: skip

    def __init__(self, page: Page, settings: Settings) -> None:
        self.page = page
        self.is_stored = True
        self.note_at = _note_at(page)
        self.settings = settings
        self.status = f"{page.status} {HTTPStatus(page.status).phrase.upper()}"
        self.revision = -2
        self.begins = math.inf
        self._end()
        self.used = True
        self.state: State = "fresh"
        self.chosen: dict[str | None, Sent] = {}
        self.taken: Taken = ""
        self.bots_only = "bots" in (page.options.get("visitors"), settings.visitors)
        self.changed_at = _changed_at(page)
        self.named_by = self.changed_at if _is_date_strong(page, self.changed_at) else None
        self.sent = {v.encoding: _sent(page, v, self.bots_only) for v in page.variants}
        self.etags = tuple(sent.etag for sent in self.sent.values())

    @property
    def is_plain(self) -> bool:
        """Whether the page answers whoever asks, as far as the page decides."""
        page = self.page
        return (
            self.state == "fresh" and page.terms is None
            and not self.bots_only and not page.options.get("vary")
        )  # fmt: skip

    @property
    def weight(self) -> int:
        """Bytes this takes, about: the bodies that were loaded, headers, and our own objects."""
        headers = sum(len(name) + len(value) for name, value in self.page.headers)
        bodies = sum(len(sent.body) for sent in self.sent.values() if sent.body is not None)
        return bodies + (headers + _OVERHEAD) * len(self.sent)

    def lighten(self) -> bool:
        """Let go of the bodies, unless they are stored nowhere."""
        if self.is_stored:
            for sent in self.sent.values():
                sent.body = None
        return self.is_stored

    def _end(self) -> None:
        self.ends = self.plain_until = -math.inf

    def renew(self, page: Page) -> bool:
        """Take over the times of a page that is sent with the same bytes and headers, and return
        whether it is such a page."""
        old = self.page
        if (
            old.variants != page.variants
            or old.headers != page.headers
            or old.status != page.status
            or old.changed_at != page.changed_at
            or old.options != page.options
            or page.terms is not None
        ):
            return False
        self.page = page
        self.is_stored = True
        self.note_at = _note_at(page)
        self._end()
        return True

    def take(self, taken: Taken) -> None:
        """Note whether the page was taken back since it was made."""
        if taken != self.taken:
            self.taken = taken
            self._end()

    def prepare(self, now: float) -> None:
        """Write the header lists that are true at `now`, and note until when they are."""
        page = self.page
        self.state = page.state(now)
        if self.taken == "hard" or (self.taken and page.terms is not None):
            # RFC 9111, section 4.4: what was invalidated is not sent before it was validated.
            self.state = "expired"
        elif self.taken and self.state == "fresh":
            self.state = "stale"
        changing = _changing(self, now)
        for sent in self.sent.values():
            sent.ok = [*sent.fixed, *changing]
            sent.not_modified = [*sent.fixed_304, *changing]
        self.begins, self.ends = now, now + _same_for(page, now)
        self.plain_until = self.ends if self.is_plain and page.status == 200 else -math.inf


def _same_for(page: Page, now: float) -> float:
    """Return for how many seconds what a page says of its age, and its state, stay what they are
    at `now`."""
    age = page.age(now)
    changes = [(page.revalidate or 0) - age, (page.expire or 0) - age]
    if page.terms is not None:
        changes.append(1.0 - (float(page.terms["age"]) + age) % 1.0)
    elif page.revalidate is None and page.expire is None:
        return math.inf
    else:
        changes.append(1.0)
    return min(seconds for seconds in changes if seconds > 0)


def _note_at(page: Page) -> float:
    return -math.inf if page.origin == "visit" else math.inf


def _changed_at(page: Page) -> float:
    if page.terms is None:
        return page.changed_at
    # RFC 9111, section 4.3.2: without Last-Modified, the moment it was made stands for it.
    told = page.terms["last_modified"] or page.terms["date"]
    return read_date(told, page.checked_at) or page.checked_at


def _is_date_strong(page: Page, changed_at: float) -> bool:
    """Whether the date of the last change stands for these bytes alone (RFC 9110, 8.8.2.2); where
    none was sent, `changed_at` is when they were made."""
    if page.terms is None:
        return True
    made = read_date(page.terms["date"], page.checked_at) or page.checked_at
    return made - changed_at >= 1


def entity_tag(page: Page, encoding: str) -> str:
    """Return the strong ETag of one variant: what the body is, and how it is coded."""
    suffix = SUFFIXES.get(encoding, encoding)
    if page.terms is not None and page.terms["etag"]:
        own: str = page.terms["etag"]
        return f'{own[:-1]}-{suffix}"' if suffix and own.endswith('"') else own
    text = base64.urlsafe_b64encode(bytes.fromhex(page.identity.digest)[:16])[:22].decode()
    return f'"{text}-{suffix}"' if suffix else f'"{text}"'


def _sent(page: Page, variant: Variant, bots_only: bool) -> Sent:
    vary = _varies(page, bots_only)
    own = []
    for name, value in page.headers:
        if name.lower() == "vary":
            for part in filter(None, map(str.strip, value.split(","))):
                if part.lower() not in map(str.lower, vary):
                    vary.append(part)
        else:
            own.append((name, value))
    etag = entity_tag(page, variant.encoding)
    tag = ("ETag", etag)
    varies = [("Vary", ", ".join(vary))] if vary else []
    fixed = [*own, ("Content-Length", str(variant.size))]
    if variant.encoding == IDENTITY:
        fixed.append(("Accept-Ranges", "bytes"))
    else:
        fixed.append(("Content-Encoding", variant.encoding))
    fixed += [tag, *_dates(page), *varies]
    fixed_304 = [*(pair for pair in own if pair[0].lower() in _IN_304), tag, *varies]
    if page.terms is not None:
        fixed_304 += [pair for pair in _dates(page) if pair[0] == "Date"]
    return Sent(variant, etag, fixed, fixed_304, [], [])


def _varies(page: Page, bots_only: bool) -> list[str]:
    """Return the request headers that choose among the variants of a page, the view's own aside."""
    vary = [] if page.terms is not None and len(page.variants) == 1 else ["Accept-Encoding"]
    if bots_only:
        vary.append("User-Agent")
    if page.terms is None:
        vary += [name.title() for name, _ in page.options.get("vary", ())]
    return vary


def _dates(page: Page) -> Headers:
    if page.terms is None:
        return [("Last-Modified", http_date(page.changed_at))]
    modified = page.terms["last_modified"]
    date = page.terms["date"] or http_date(page.checked_at)
    return [*([("Last-Modified", modified)] if modified else []), ("Date", date)]


def _changing(ready: Ready, now: float) -> Headers:
    page, settings = ready.page, ready.settings
    left = None if page.revalidate is None else math.ceil(page.revalidate - page.age(now))
    if left is not None and ready.state != "fresh":
        left = min(left, 0)  # a page from the future has no life left either
    headers: Headers = []
    if page.terms is not None:
        headers.append(("Age", str(int(page.terms["age"] + max(0.0, page.age(now))))))
    elif not any(name.lower() == "cache-control" for name, _ in page.headers):
        computed = (
            _FOR_CRAWLERS if ready.bots_only else _cache_control(page, ready.state, left, now)
        )
        headers.append(("Cache-Control", settings.cache_control or computed))
    if settings.headers:
        ttl = "" if left is None else f"; ttl={left}"
        headers += [
            ("X-Prerendered", "true"),
            ("Cache-Status", f"flask-prerender; hit{ttl}"),
        ]
    return headers


def _cache_control(page: Page, state: State, left: int | None, now: float) -> str:
    """Browsers ask again each time, because nobody can purge them; shared caches may keep a page
    for the life it has left, restated as it shrinks, since the commonest proxy ignores ``Age``."""
    if left is None:
        return "public, max-age=0, must-revalidate"
    shared = max(1, left) if state == "fresh" else _STALE_SHARED_SECONDS
    text = f"public, max-age=0, s-maxage={shared}"
    if page.expire is not None and page.revalidate is not None:
        window = int(min(page.expire - page.revalidate, page.expire - page.age(now)))
        if window > 0:
            text += f", stale-while-revalidate={window}"
    return text
