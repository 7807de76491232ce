"""One page rendered, judged, compressed, stored, announced: the one way a page comes to be."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace

from . import signals
from .compress import compress
from .compress import signature
from .errors import BlobMissingError
from .errors import CollisionError
from .errors import StoreError
from .gate import is_failure
from .gate import judge
from .gate import stored_headers
from .gate import Verdict
from .page import digest
from .page import IDENTITY
from .page import Page
from .page import Variant
from .paths import file_for
from .render import last_frame
from .render import Render
from .render import render
from .render import request_environ
from .routes import Target
from .site import Site

Result = t.Literal["published", "unchanged", "removed", "refused", "failed"]

#: Visitors may bring back, meanwhile, the page that makes room.
_ATTEMPTS = 3
#: What a page that is gone answers, or one that has moved.
_GONE = frozenset({301, 302, 303, 307, 308, 404, 410})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one URL.

    :ivar result: ``published`` (stored, new or changed), ``unchanged`` (the same bytes as before),
        ``removed`` (a visitor's page that is gone now, or made room for one that is listed),
        ``refused`` (by the gate: `reason` says why), ``failed`` (the view, or the store).
    :ivar where: for a failure, the last frame in the app's own code.
    """

    key: str
    endpoint: str
    rule: str
    result: Result
    reason: str = ""
    detail: str = ""
    where: str = ""
    duration: float = 0.0
    page: Page | None = None

    @property
    def is_stored(self) -> bool:
        return self.page is not None


def publish(
    site: Site, target: Target, *, origin: str, build: int = 0, announce: bool = True
) -> Outcome:
    """Make one page, and store it if it may be.

    Whatever goes wrong, what was stored before is still whole afterwards. Only a view that now says
    ``private`` or ``no-store`` takes its page away.

    :param origin: ``"build"`` or ``"visit"``.
    :param announce: tell other processes at once. A build tells them of many pages together.
    """
    revision = site.coordination.revision()
    done = render(site, target.key, revision)
    verdict = _judge(site, target, done)
    if not verdict:
        return _turn_down(site, target, done, verdict)
    try:
        page, unchanged = _store(site, target, done, origin, build)
        if announce and not (unchanged and page.revalidate is None and page.expire is None):
            site.coordination.advance()
    except CollisionError as error:
        collision = Verdict("collision", _collision(site, error))
        if target.is_visited:
            return _outcome(target, done, "removed", collision)
        return _turn_down(site, target, done, collision)
    except StoreError as error:
        return _turn_down(site, target, done, Verdict("store", str(error)))
    signals.send(
        signals.page_published,
        site.app,
        key=page.key,
        page=page,
        changed=not unchanged,
        duration=done.duration,
    )
    return _outcome(target, done, "unchanged" if unchanged else "published", page=page)


def _judge(site: Site, target: Target, done: Render) -> Verdict:
    verdict = judge(site, done, target.mark)
    if verdict and done.endpoint and done.endpoint != target.endpoint:
        return Verdict(
            "mismatch",
            f"listed for {target.endpoint}, but answered by {done.endpoint} ({done.rule})",
        )
    return verdict


def _turn_down(site: Site, target: Target, done: Render, verdict: Verdict) -> Outcome:
    if target.is_visited and verdict.reason == "status" and done.status in _GONE:
        _take_away(site, target.key, str(done.status))
        return _outcome(target, done, "removed", verdict)
    if verdict.reason in ("private", "no-store"):
        _take_away(site, target.key, verdict.reason)
    failed = is_failure(verdict) or verdict.reason in ("store", "collision")
    signals.send(
        signals.page_refused,
        site.app,
        key=target.key,
        reason=verdict.reason,
        detail=verdict.detail,
    )
    return _outcome(
        target, done, "failed" if failed else "refused", verdict, last_frame(site, done)
    )


def _take_away(site: Site, key: str, reason: str) -> None:
    """Remove a page that is personal now, is gone, or makes room."""
    try:
        removed = site.store.delete([key])
        if removed:
            site.coordination.advance()
    except StoreError as error:
        site.memory.drop(key)
        site.complain("store", "%s is %s now and could not be removed: %s", key, reason, error)
        return
    if removed:
        signals.send(signals.page_removed, site.app, key=key, reason=reason)


def _outcome(
    target: Target,
    done: Render,
    result: Result,
    verdict: Verdict | None = None,
    where: str = "",
    page: Page | None = None,
) -> Outcome:
    reason, detail = ("", "") if verdict is None else (verdict.reason, verdict.detail)
    return Outcome(
        target.key, target.endpoint, target.rule, result, reason, detail, where, done.duration, page
    )


def _store(site: Site, target: Target, done: Render, origin: str, build: int) -> tuple[Page, bool]:
    """Store a judged render, and return its page and whether it is what was stored before."""
    previous = site.store.get(target.key)
    page = _page(site, target, done, origin, build)
    if previous is not None and origin == "visit":
        page = replace(page, origin=previous.origin, build=previous.build)
    if previous is not None and previous.identity.digest == page.identity.digest:
        page = replace(page, changed_at=previous.changed_at)
        same = previous.headers == page.headers and previous.status == page.status
        if previous.compressors == page.compressors:
            generated_at = previous.generated_at if same else page.generated_at
            known = replace(page, variants=previous.variants, generated_at=generated_at)
            try:
                _put(site, known, _checked_bodies(site, known, done.body) if build else {})
                return known, same and _is_served_alike(previous, page)
            except BlobMissingError:
                pass  # somebody took a body away: all of them are written again below
    packed = compress(done.body, page.mimetype, site.compressors, site.settings.compress_min_bytes)
    bodies = {IDENTITY: done.body} | packed
    _look_for_localhost(site, page.key, done.body)
    if packed:
        page = replace(page, variants=(*page.variants, *_variants(packed)))
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
    when a build lists the other."""
    site.claim()
    for attempt in range(_ATTEMPTS):
        try:
            site.store.put(page, bodies)
            return
        except CollisionError as error:
            reason = _why_it_goes(site, page, error.owner)
            if not reason or attempt + 1 == _ATTEMPTS:
                raise
            _take_away(site, error.owner, reason)


def _why_it_goes(site: Site, page: Page, key: str) -> str:
    """Return why the page of `key` makes room for another, or ``""``."""
    if site.routes.match(request_environ(site, key), key) is None:
        return "no route"
    owner = site.store.get(key)
    is_visited = owner is None or owner.origin == "visit"
    return "collision" if page.origin == "build" and is_visited else ""


def _collision(site: Site, error: CollisionError) -> str:
    try:
        owner = site.store.get(error.owner)
    except StoreError:
        owner = None
    route = f" {owner.key} is of the route {owner.rule} ({owner.endpoint})." if owner else ""
    return f"{error}{route}"


def _look_for_localhost(site: Site, key: str, body: bytes) -> None:
    """Say it when pages carry the address that a render has when nobody gave it one."""
    if not site.has_public_url and b"://localhost" in body:
        site.complain(
            "base-url",
            "%s contains the address http://localhost, because nothing says under which address "
            "the site is known. Set PRERENDER_BASE_URL, such as 'https://example.com'.",
            key,
        )


def _is_served_alike(previous: Page, page: Page) -> bool:
    """Whether a process that has the previous page in memory need not look again."""
    return (previous.revalidate, previous.expire, previous.options) == (
        page.revalidate,
        page.expire,
        page.options,
    )


def _page(site: Site, target: Target, done: Render, origin: str, build: int) -> Page:
    now = site.clock()
    page = Page(
        key=target.key,
        rule=target.rule,
        endpoint=target.endpoint,
        file="",
        status=done.status,
        headers=stored_headers(site, done, target.mark),
        variants=_variants({IDENTITY: done.body}),
        tags=target.tags,
        revision=done.revision,
        origin=origin,
        build=build,
        generated_at=now,
        changed_at=now,
        checked_at=now,
        revalidate=target.mark.revalidate,
        expire=target.mark.expire,
        last_modified=target.last_modified,
        compressors=signature(site.compressors),
        options=target.mark.options(),
    )
    file = file_for(page.key, page.mimetype, site.style)
    if file is None:
        raise StoreError(f"{page.key}: the file name of this URL would be too long")
    return replace(page, file=file)


def _variants(bodies: Mapping[str, bytes]) -> tuple[Variant, ...]:
    return tuple(Variant(coding, digest(body), len(body)) for coding, body in bodies.items())
