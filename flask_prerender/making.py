"""A judged render as a page: its life, its bodies, what it shares with the one before."""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from .budgets import check_size
from .compress import compress
from .compress import Packer
from .errors import BlobMissingError
from .errors import StoreError
from .freshness import Terms
from .gate import stored_headers
from .gate import Verdict
from .page import digest
from .page import IDENTITY
from .page import mimetype_of
from .page import Page
from .page import Variant
from .paths import file_for
from .render import Render
from .routes import Target
from .site import Site


@dataclass(slots=True)
class Judged:
    """A render, whether it may be stored, and for whom it was made.

    :ivar moment: the time of day when it was done.
    :ivar where: for a failure, the last frame in the app's own code.
    :ivar packed: its compressed bytes by encoding, where somebody made them already.
    """

    target: Target
    done: Render
    origin: str
    build: int
    token: int
    moment: float
    verdict: Verdict
    where: str = ""
    packed: Mapping[str, bytes] | None = None


@dataclass(slots=True)
class Made:
    """A judged render as a page, on its way to the store.

    :ivar bodies: by encoding; those that are stored already may be missing.
    :ivar is_same: whether it is what was stored before. :ivar is_known: whether its body is.
    """

    judged: Judged
    page: Page
    bodies: Mapping[str, bytes]
    is_same: bool = False
    is_known: bool = False


def make(site: Site, judged: Judged, previous: Page | None) -> Made:
    """Make a page of a judged render.

    :param previous: the page that is stored.
    :raises StoreError: that one cannot be read, or the page can never be stored.
    """
    page = _page(site, judged, previous)
    if previous is not None and previous.identity == page.identity:
        same = previous.headers == page.headers and previous.status == page.status
        if previous.compressors in _packer(site, judged).accepted:
            generated_at = previous.generated_at if same else page.generated_at
            known = page.but(
                variants=previous.variants,
                compressors=previous.compressors,
                generated_at=generated_at,
            )
            check_size(site, judged.target.mark, known)
            with suppress(BlobMissingError):
                bodies = _checked_bodies(site, known, judged.done.body) if judged.build else {}
                same = same and _is_served_alike(site, previous, page)
                return Made(judged, known, bodies, same, is_known=True)
    return packed(site, judged, page)


def packed(site: Site, judged: Judged, page: Page) -> Made:
    """Return a page with new bodies."""
    body = judged.done.body
    packer, small = _packer(site, judged), judged.packed
    if small is None:
        small = pack(site, packer, body, page.mimetype)
    _look_for_localhost(site, page.key, body)
    variants = (page.identity, *_variants(small))
    page = page.but(variants=variants, compressors=packer.signature)
    check_size(site, judged.target.mark, page)
    return Made(judged, page, {IDENTITY: body, **small})


def pack(site: Site, packer: Packer, body: bytes, mimetype: str) -> dict[str, bytes]:
    """Return the compressed bytes of a body that are worth keeping, by encoding."""
    return compress(body, mimetype, packer.compressors, site.settings.compress_min_bytes)


def _packer(site: Site, judged: Judged) -> Packer:
    # A build makes pages of first visits as well, and has time for them too.
    return site.build_packer if judged.build else site.packer


def _checked_bodies(site: Site, page: Page, body: bytes) -> dict[str, bytes]:
    """Return what the store is to compare of a page that was stored before.

    :raises BlobMissingError: a variant is damaged.
    """
    for variant in page.variants[1:]:
        if site.store.read(page, variant) is None:
            raise BlobMissingError(f"{page.key}: its {variant.encoding} body is damaged.")
    return {IDENTITY: body}


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


def _page(site: Site, judged: Judged, previous: Page | None) -> Page:
    """Return a render's page with its body alone."""
    target, done, now = judged.target, judged.done, judged.moment
    origin, build = judged.origin, judged.build
    if origin != "build":
        origin, build = ("visit", 0) if previous is None else (previous.origin, previous.build)
    revalidate, expire = _life(site, target, done, now)
    headers = done.kept
    if headers is None:
        headers = stored_headers(site, done, target.mark)
    variants = _variants({IDENTITY: done.body})
    file = file_for(target.key, mimetype_of(headers), site.style)
    if file is None:
        raise StoreError(f"{target.key}: the file name of this URL would be too long")
    is_known = previous is not None and previous.identity.digest == variants[0].digest
    return Page(
        key=target.key,
        rule=target.rule,
        endpoint=target.endpoint,
        file=file,
        status=done.status,
        headers=headers,
        variants=variants,
        tags=tuple(sorted({*target.tags, *done.tags})),
        revision=done.revision,
        token=judged.token,
        origin=origin,
        build=build,
        generated_at=now,
        changed_at=previous.changed_at if previous is not None and is_known else now,
        checked_at=now,
        revalidate=revalidate,
        expire=expire,
        last_modified=target.last_modified,
        options=target.mark.options(),
        templates=tuple(sorted(done.templates)),
        terms=done.terms.to_dict() if isinstance(done.terms, Terms) else None,
    )


def _variants(bodies: Mapping[str, bytes]) -> tuple[Variant, ...]:
    return tuple(Variant(coding, digest(body), len(body)) for coding, body in bodies.items())
