"""A stored page shown to its view, which may say that it is still the same (RFC 9111, 4.3)."""

from __future__ import annotations

from .errors import StoreError
from .freshness import first
from .freshness import values
from .page import Page
from .render import Render
from .render import render
from .routes import Target
from .site import Site

#: What a 304 says of itself and not of the page (RFC 9111, section 3.2), or what belongs to the
#: bytes that are stored.
_KEPT = frozenset(
    {
        "connection", "content-encoding", "content-length", "content-md5", "content-range", "etag",
        "keep-alive", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
        "set-cookie", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip


def render_again(site: Site, target: Target, revision: int) -> Render:
    """Render a page; in respect mode, show the view the validators of the stored one. A 304 comes
    back as the stored page with the headers that it brought."""
    if not target.mark.respects:
        return render(site, target.key, revision)
    stored = _stored(site, target.key)
    if stored is None:
        return render(site, target.key, revision)
    page, body = stored
    done = render(site, target.key, revision, _validators(page))
    if done.status != 304 or done.error is not None:
        return done
    if not _is_meant(page, done):
        return render(site, target.key, revision)
    _renew(done, page, body)
    return done


def _stored(site: Site, key: str) -> tuple[Page, bytes] | None:
    """Return the page if it is whole, has a validator, and was not taken back for good."""
    try:
        site.revocations.follow()
        page = site.store.get(key)
        if page is None or not page.terms or site.revocations.of(page) == "hard":
            return None
        body = site.store.read(page, page.identity) if _validators(page) else None
    except StoreError:
        return None
    return None if body is None else (page, body)


def _validators(page: Page) -> dict[str, str]:
    terms = page.terms or {}
    found = {"If-None-Match": terms["etag"], "If-Modified-Since": terms["last_modified"]}
    return {name: value for name, value in found.items() if value}


def _is_meant(page: Page, done: Render) -> bool:
    """Whether a 304 speaks of the page that is stored (RFC 9111, section 4.3.4)."""
    terms: dict[str, str] = page.terms or {}
    told = first(done.headers, "etag")
    if told:
        return told.removeprefix("W/") == terms["etag"].removeprefix("W/")
    changed = first(done.headers, "last-modified")
    return not changed or changed == terms["last_modified"]


def _renew(done: Render, page: Page, body: bytes) -> None:
    terms = page.terms or {}
    dropped = _KEPT.union(*map(_named, values(done.headers, "connection")))
    brought = [pair for pair in done.headers if pair[0].lower() not in dropped]
    names = {name.lower() for name, _ in brought}
    kept = [pair for pair in page.headers if pair[0].lower() not in names]
    if terms["etag"]:
        kept.append(("ETag", terms["etag"]))
    if terms["last_modified"] and "last-modified" not in names:
        kept.append(("Last-Modified", terms["last_modified"]))
    done.status, done.body, done.headers = page.status, body, [*kept, *brought]
    # The view that sees nothing new names no tag and uses no template: those of the body stay.
    done.tags.update(page.tags)
    done.templates.update(page.templates)


def _named(line: str) -> set[str]:
    """What ``Connection`` names is for one connection, in a 304 as well (section 3.1)."""
    return {name.strip().lower() for name in line.split(",")}
