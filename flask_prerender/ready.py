"""A page made ready to answer: everything a response needs that does not depend on the request.

It is made when the page enters memory. A request picks a variant and takes a copy of its header
list; nothing is built but what changes by the second, the life that the page has left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from http import HTTPStatus

from .freshness import read_date
from .headers import changing_headers
from .headers import entity_tag
from .headers import fixed_headers
from .headers import Headers
from .lean import lean
from .page import Page
from .page import State
from .page import Variant
from .revocations import Taken
from .settings import Settings

#: Measured (tracemalloc), with the page's places in dicts.
_PAGE_BYTES, _SENT_BYTES = 2200, 650


@dataclass(slots=True)
class Sent:
    """One variant as it is sent: its tag, and the header lists of a 200 and of a 304."""

    variant: Variant
    etag: str
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
    :ivar sent: the variants that were asked for, by encoding.
    :ivar chosen: the same by Accept-Encoding.
    :ivar note_at: from when on it is to be noted again that a page of a first visit was asked for.
    :ivar is_stored: whether the store has it as well.
    :ivar used: whether it was asked for since memory last made room.
    """

    __slots__ = (
        "begins", "bots_only", "changed_at", "chosen", "ends", "is_stored", "named_by",
        "note_at", "page", "plain_until", "revision", "sent", "settings", "state", "status",
        "taken", "turn", "used",
    )  # fmt: skip

    def __init__(self, page: Page, settings: Settings) -> None:
        self.page = lean(page)
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
        self.sent: dict[str, Sent] = {}
        self.turn = 0

    def variant(self, encoding: str) -> Sent | None:
        """Return the variant of an encoding, if the page has it."""
        sent = self.sent.get(encoding)
        return sent if sent is not None else self._add(encoding)

    def _add(self, encoding: str) -> Sent | None:
        for variant in self.page.variants:
            if variant.encoding == encoding:
                turn = self.turn
                made = Sent(variant, entity_tag(self.page, encoding), [], [])
                self._write(made)
                sent = self.sent.setdefault(encoding, made)
                if turn != self.turn:  # another thread has prepared the others meanwhile
                    self._write(sent)
                return sent
        return None

    @property
    def etags(self) -> list[str]:
        """The tags of all variants, whether they were asked for or not."""
        return [entity_tag(self.page, variant.encoding) for variant in self.page.variants]

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
        """Bytes this takes at most, about: bodies that were loaded, headers, our own objects."""
        page = self.page
        headers = sum(len(name) + len(value) for name, value in page.headers)
        sent = list(self.sent.values())
        bodies = sum(len(one.body) for one in sent if one.body is not None)
        return bodies + _PAGE_BYTES + (headers + _SENT_BYTES) * len(page.variants)

    def lighten(self) -> bool:
        """Let go of the bodies, unless they are stored nowhere."""
        if self.is_stored:
            for sent in list(self.sent.values()):
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
        self.page = lean(page)
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
        # In this order: a variant that is added meanwhile is written here, or sees the next turn.
        self.begins = now
        self.turn += 1
        for sent in list(self.sent.values()):
            self._write(sent)
        self.ends = now + _same_for(page, now)
        self.plain_until = self.ends if self.is_plain and page.status == 200 else -math.inf

    def _write(self, sent: Sent) -> None:
        if self.turn:  # else it is prepared before it is sent
            page, variant = self.page, sent.variant
            fixed, fixed_304 = fixed_headers(page, variant, sent.etag, self.bots_only)
            changing = changing_headers(
                page, self.settings, self.state, self.bots_only, self.begins
            )
            sent.ok, sent.not_modified = [*fixed, *changing], [*fixed_304, *changing]


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
