"""A page put in its place in the store, alone or with others, and taken away."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from . import signals
from .errors import BlobMissingError
from .errors import CollisionError
from .errors import StoreError
from .making import Judged
from .making import Made
from .making import make
from .making import packed
from .page import Page
from .ready import Ready
from .render import request_environ
from .site import Site

#: Visitors may bring back, meanwhile, the page that makes room.
_ATTEMPTS = 3


def store(site: Site, judged: Judged) -> Made:
    """Store a page, and return it as it was stored.

    :raises StoreError: it is not stored; what was stored before is whole.
    """
    made = make(site, judged, site.store.get(judged.target.key))
    try:
        _put(site, made.page, made.bodies)
    except BlobMissingError:
        if not made.is_known:
            raise
        # Somebody took a body away: all of them are written again.
        page = replace(made.page, variants=made.page.variants[:1], generated_at=judged.moment)
        made = packed(site, judged, page)
        _put(site, made.page, made.bodies)
    return made


def store_all(site: Site, batch: Sequence[Judged]) -> list[Made | StoreError]:
    """Store pages of a build together; return each as it was stored, or what went wrong. What
    failed may still succeed alone."""
    results: list[Made | StoreError] = []
    try:
        site.claim()
        stored = site.store.get_all([judged.target.key for judged in batch])
        results += [_made(site, judged, stored.get(judged.target.key)) for judged in batch]
        made = [one for one in results if isinstance(one, Made)]
        with site.writing():
            errors = iter(site.store.put_all([(one.page, one.bodies) for one in made]))
    except StoreError as error:
        return [error] * len(batch)
    return [(next(errors) or one) if isinstance(one, Made) else one for one in results]


def _made(site: Site, judged: Judged, previous: Page | None) -> Made | StoreError:
    try:
        return make(site, judged, previous)
    except StoreError as error:
        return error


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
    ready.is_stored = False
    for variant in page.variants:
        body = bodies.get(variant.encoding) or site.store.read(page, variant)
        sent = ready.variant(variant.encoding)
        if body is None or sent is None:
            raise BlobMissingError(f"{page.key}: its {variant.encoding} body is not stored.")
        sent.body = body
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
