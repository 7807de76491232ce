"""The headers of a stored page: what never changes, and what does by the second."""

from __future__ import annotations

import base64
import math

from .lean import share
from .page import http_date
from .page import IDENTITY
from .page import Page
from .page import State
from .page import SUFFIXES
from .page import Variant
from .settings import Settings

Headers = list[tuple[str, str]]

#: Own headers of a page that its 304 repeats (RFC 9110, section 15.4.5).
_IN_304 = frozenset({"cache-control", "cdn-cache-control", "content-location", "expires"})

#: How long a shared cache may keep a stale page: enough to spare us a herd, and too short to pin
#: an old page for another whole period.
_STALE_SHARED_SECONDS = 2

#: Most shared caches ignore ``Vary: User-Agent`` and would give a crawler's page to everybody.
_FOR_CRAWLERS = "private, max-age=0, must-revalidate"


def entity_tag(page: Page, encoding: str) -> str:
    """Return the strong ETag of one variant: what the body is, and how it is coded."""
    suffix = SUFFIXES.get(encoding, encoding)
    if page.terms is not None and page.terms["etag"]:
        own: str = page.terms["etag"]
        return f'{own[:-1]}-{suffix}"' if suffix and own.endswith('"') else own
    text = base64.urlsafe_b64encode(bytes.fromhex(page.identity.digest)[:16])[:22].decode()
    return f'"{text}-{suffix}"' if suffix else f'"{text}"'


def fixed_headers(
    page: Page, variant: Variant, etag: str, bots_only: bool
) -> tuple[Headers, Headers]:
    """Return the headers of a 200 and of a 304 that never change."""
    vary = _varies(page, bots_only)
    own = []
    for name, value in page.headers:
        if name.lower() == "vary":
            for part in filter(None, map(str.strip, value.split(","))):
                if part.lower() not in map(str.lower, vary):
                    vary.append(part)
        else:
            own.append((name, value))
    tag = ("ETag", etag)
    varies = [share(("Vary", ", ".join(vary)))] if vary else []
    fixed = [*own, ("Content-Length", str(variant.size))]
    if variant.encoding == IDENTITY:
        fixed.append(("Accept-Ranges", "bytes"))
    else:
        fixed.append(share(("Content-Encoding", variant.encoding)))
    fixed += [tag, *_dates(page), *varies]
    fixed_304 = [*(pair for pair in own if pair[0].lower() in _IN_304), tag, *varies]
    if page.terms is not None:
        fixed_304 += [pair for pair in _dates(page) if pair[0] == "Date"]
    return fixed, fixed_304


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


def changing_headers(
    page: Page, settings: Settings, state: State, bots_only: bool, now: float
) -> Headers:
    """Return the headers that change by the second, the same for a 200 and a 304."""
    left = None if page.revalidate is None else math.ceil(page.revalidate - page.age(now))
    if left is not None and state != "fresh":
        left = min(left, 0)  # a page from the future has no life left either
    headers: Headers = []
    if page.terms is not None:
        headers.append(("Age", str(int(page.terms["age"] + max(0.0, page.age(now))))))
    elif not any(name.lower() == "cache-control" for name, _ in page.headers):
        computed = _FOR_CRAWLERS if bots_only else _cache_control(page, state, left, now)
        headers.append(share(("Cache-Control", settings.cache_control or computed)))
    if settings.headers:
        ttl = "" if left is None else f"; ttl={left}"
        headers += [
            ("X-Prerendered", "true"),
            share(("Cache-Status", f"flask-prerender; hit{ttl}")),
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
