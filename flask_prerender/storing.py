"""A judged render as a page: its life, its compressed bodies, its place in the store."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from . import signals
from .budgets import check_size
from .compress import compress
from .compress import signature
from .errors import BlobMissingError
from .errors import CollisionError
from .errors import StoreError
from .freshness import Terms
from .gate import stored_headers
from .page import digest
from .page import IDENTITY
from .page import Page
from .page import Variant
from .paths import file_for
from .ready import Ready
from .render import Render
from .render import request_environ
from .routes import Target
from .site import Site

#: Visitors may bring back, meanwhile, the page that makes room.
_ATTEMPTS = 3


def store(
    site: Site, target: Target, done: Render, origin: str, build: int, token: int
) -> tuple[Page, bool]:
    """Store a judged render, and return its page and whether it is what was stored before."""
    previous = site.store.get(target.key)
    page = replace(_page(site, target, done), origin=origin, build=build, token=token)
    if origin != "build":
        former = ("visit", 0) if previous is None else (previous.origin, previous.build)
        page = replace(page, origin=former[0], build=former[1])
    if previous is not None and previous.identity.digest == page.identity.digest:
        page = replace(page, changed_at=previous.changed_at)
        same = previous.headers == page.headers and previous.status == page.status
        if previous.compressors == page.compressors:
            generated_at = previous.generated_at if same else page.generated_at
            known = replace(page, variants=previous.variants, generated_at=generated_at)
            check_size(site, target.mark, known)
            try:
                _put(site, known, _checked_bodies(site, known, done.body) if build else {})
                return known, same and _is_served_alike(site, previous, page)
            except BlobMissingError:
                pass  # somebody took a body away: all of them are written again below
    packed = compress(done.body, page.mimetype, site.compressors, site.settings.compress_min_bytes)
    bodies = {IDENTITY: done.body} | packed
    _look_for_localhost(site, page.key, done.body)
    if packed:
        page = replace(page, variants=(*page.variants, *_variants(packed)))
    check_size(site, target.mark, page)
    _put(site, page, bodies)
    return page, False


def _checked_bodies(site: Site, page: Page, body: bytes) -> dict[str, bytes]:
    """Return the bodies of a page that was stored before, for the store to compare them.

    :raises BlobMissingError: a variant is damaged.
    """
    bodies = {IDENTITY: body}
    for variant in page.variants[1:]:
        stored = site.store.read(page, variant)
        if stored is None:
            raise BlobMissingError(f"{page.key}: its {variant.encoding} body is damaged.")
        bodies[variant.encoding] = stored
    return bodies


def _put(site: Site, page: Page, bodies: Mapping[str, bytes]) -> None:
    """Store a page. One that has its file makes room when no marked route answers it any more:
    the route was moved from ``/about`` to ``/about/``. So does one that only a visitor asked for
    when a build lists the other. A directory that cannot be written leaves it in memory."""
    if site.is_read_only:
        _keep(site, page, bodies)
        return
    site.claim()
    for attempt in range(_ATTEMPTS):
        try:
            with site.writing():
                site.store.put(page, bodies)
            return
        except CollisionError as error:
            reason = _why_it_goes(site, page, error.owner)
            if not reason or attempt + 1 == _ATTEMPTS:
                raise
            take_away(site, error.owner, reason)


def _keep(site: Site, page: Page, bodies: Mapping[str, bytes]) -> None:
    """Have this process serve a page that is stored nowhere.

    :raises StoreError: there is no room for it in memory.
    """
    ready = Ready(page, site.settings)
    for encoding, sent in ready.sent.items():
        sent.body = bodies.get(encoding) or site.store.read(page, sent.variant)
        if sent.body is None:
            raise BlobMissingError(f"{page.key}: its {encoding} body is not stored.")
    site.revocations.follow()
    ready.take(site.revocations.of(page))
    ready.revision = site.coordination.revision()
    if not site.memory.put(page.key, ready):
        raise StoreError(
            f"{page.key}: {site.output} cannot be written, and PRERENDER_MEMORY_BYTES "
            f"({site.settings.memory_bytes}) has no room for {ready.weight} bytes"
        )


def _why_it_goes(site: Site, page: Page, key: str) -> str:
    """Return why the page of `key` makes room for another, or ``""``."""
    if site.routes.match(request_environ(site, key), key) is None:
        return "no route"
    owner = site.store.get(key)
    is_visited = owner is None or owner.origin == "visit"
    return "collision" if page.origin == "build" and is_visited else ""


def adopt(site: Site, key: str, build: int) -> Page | None:
    """Make what is stored a page of a build that was overtaken by a visitor, and return it."""
    page = site.store.get(key)
    if page is None:
        return None
    page = replace(page, origin="build", build=build)
    with suppress(StoreError):  # somebody was faster again: the next build takes it over
        site.store.put(page, {})
    return page


def take_away(site: Site, key: str, reason: str) -> bool:
    """Remove a page, and return whether it was there."""
    try:
        removed = site.store.delete([key])
        if removed:
            site.coordination.advance()
    except StoreError as error:
        site.memory.drop(key)
        site.complain("store", "%s is %s now and could not be removed: %s", key, reason, error)
        return False
    if removed:
        signals.send(signals.page_removed, site.app, key=key, reason=reason)
    return bool(removed)


def _look_for_localhost(site: Site, key: str, body: bytes) -> None:
    """Say it when pages carry the address that a render has when nobody gave it one."""
    if not site.has_public_url and b"://localhost" in body:
        site.complain(
            "base-url",
            "%s contains the address http://localhost, because nothing says under which address "
            "the site is known. Set PRERENDER_BASE_URL, such as 'https://example.com'.",
            key,
        )


def _life(
    site: Site, target: Target, done: Render, now: float
) -> tuple[float | None, float | None]:
    """Return for how long the page is fresh and when it expires, in seconds from now: what the mark
    says, or the view if it says less; fresh pages spread a little around their time."""
    if isinstance(done.terms, Terms):
        ends = None if done.expires_at is None else done.expires_at - now
        said = (done.terms.fresh_for, done.fresh_for, ends)
        fresh_for = max(0.0, min(span for span in said if span is not None))
        return fresh_for, fresh_for + done.terms.while_revalidate
    spans = [span for span in (target.mark.revalidate, done.fresh_for) if span is not None]
    revalidate = min(spans, default=None)
    if revalidate is not None:
        share = site.settings.jitter
        revalidate = max(0.0, revalidate * random.uniform(1 - share, 1 + share))
    expire = target.mark.expire
    if done.expires_at is not None:
        expire = max(0.0, min(done.expires_at - now, float("inf") if expire is None else expire))
    if revalidate is not None and expire is not None:
        revalidate = min(revalidate, expire)
    return revalidate, expire


def _is_served_alike(site: Site, previous: Page, page: Page) -> bool:
    """Whether a process that has the previous page in memory need not look again."""
    if (previous.expire, previous.options) != (page.expire, page.options):
        return False
    if previous.revalidate is None or page.revalidate is None:
        return previous.revalidate is page.revalidate
    # The same span was spread twice.
    share = site.settings.jitter
    shorter, longer = sorted((previous.revalidate, page.revalidate))
    return longer * (1 - share) <= shorter * (1 + share)


def _page(site: Site, target: Target, done: Render) -> Page:
    now = site.clock()
    revalidate, expire = _life(site, target, done, now)
    page = Page(
        key=target.key,
        rule=target.rule,
        endpoint=target.endpoint,
        file="",
        status=done.status,
        headers=stored_headers(site, done, target.mark),
        variants=_variants({IDENTITY: done.body}),
        tags=tuple(sorted({*target.tags, *done.tags})),
        revision=done.revision,
        token=0,
        origin="",
        build=0,
        generated_at=now,
        changed_at=now,
        checked_at=now,
        revalidate=revalidate,
        expire=expire,
        last_modified=target.last_modified,
        compressors=signature(site.compressors),
        options=target.mark.options(),
        templates=tuple(sorted(done.templates)),
        terms=done.terms.to_dict() if isinstance(done.terms, Terms) else None,
    )
    file = file_for(page.key, page.mimetype, site.style)
    if file is None:
        raise StoreError(f"{page.key}: the file name of this URL would be too long")
    return replace(page, file=file)


def _variants(bodies: Mapping[str, bytes]) -> tuple[Variant, ...]:
    return tuple(Variant(coding, digest(body), len(body)) for coding, body in bodies.items())
