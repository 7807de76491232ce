"""May this response be stored? A verdict with a reason.

A response is judged as the server would get it: after every ``after_request`` function, after the
session has written its headers, after every WSGI middleware around the app.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from .freshness import read_terms
from .freshness import Terms
from .freshness import WITH_EXPLICIT
from .marks import Mark
from .options import is_cache_control
from .options import NOT_STORED
from .page import split_key
from .render import Render
from .site import Site

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]")
_HEADER_BYTES = 8192
_HEADER_COUNT = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a response. `reason` is empty when it may be stored."""

    reason: str = ""
    detail: str = ""

    def __bool__(self) -> bool:
        return not self.reason


_YES = Verdict()

_WHY = {
    "private": "the response says private",
    "no-store": "the response says no-store",
    "freshness": "the response does not say for how long it is fresh, or is stale already",
}


def judge(site: Site, done: Render, mark: Mark) -> Verdict:
    """Return whether a response may be stored, or the first reason why not."""
    for rule in (_failure, _status, _personal, _private, _coded, _headers, _reads, _empty):
        verdict = rule(site, done, mark)
        if not verdict:
            return verdict
    return _YES


def is_failure(verdict: Verdict) -> bool:
    """Whether the view failed, rather than gave a page that is not for everybody."""
    return verdict.reason in ("error", "timeout")


def header_values(done: Render, name: str) -> list[str]:
    """Return the values of a header in lower case, split at commas."""
    if not (found := done.values(name)):
        return []
    parts = (part.strip().lower() for value in found for part in value.split(","))
    return [part for part in parts if part]


def stored_headers(site: Site, done: Render, mark: Mark) -> tuple[tuple[str, str], ...]:
    """Return the response's own headers that are part of the page, and those of the mark."""
    own = {name.lower() for name, _ in mark.headers}
    # RFC 9111, section 3.1: what Connection names is for one connection.
    own.update(header_values(done, "connection"))
    kept: list[tuple[str, str]] = []
    for pair in done.headers:
        name = pair[0].lower()
        if name == "location" and name not in own:
            kept.append((pair[0], _relative(site, done.key, pair[1])))
        elif name not in NOT_STORED and name not in own:
            kept.append(pair)
    return (*kept, *mark.headers)


def _relative(site: Site, key: str, location: str) -> str:
    """Return a redirect within the page's own host without the host."""
    base = urlsplit(site.base_url)
    origin = f"{base.scheme}://{split_key(key)[0] or base.netloc}"
    rest = location.removeprefix(origin)
    is_ours = rest is not location and rest[:1] in ("", "/", "?", "#")
    if rest[1:2] in ("/", "\\"):  # without the host before it, this would name another host
        return location
    return (rest if rest.startswith("/") else f"/{rest}") if is_ours else location


def _failure(site: Site, done: Render, mark: Mark) -> Verdict:
    if done.stopped == "timeout":
        return Verdict(
            "timeout", f"took longer than PRERENDER_TIMEOUT ({site.settings.timeout:g} s)"
        )
    if done.error is not None:
        return Verdict("error", f"{type(done.error).__name__}: {done.error}")
    if done.status >= 500 or done.status < 200:
        return Verdict("error", f"status {done.status}")
    if done.stopped == "size":
        return Verdict(
            "size", f"larger than PRERENDER_MAX_PAGE_BYTES ({site.settings.max_page_bytes})"
        )
    if done.stopped == "stream":
        return Verdict("stream", "an event stream has no end")
    return _YES


def _status(site: Site, done: Render, mark: Mark) -> Verdict:
    if done.status in mark.statuses:
        return _YES
    if mark.respects and done.status in WITH_EXPLICIT:
        return _YES  # if it says for how long it is fresh, which is asked below
    location = next(iter(done.values("location")), "")
    detail = f"{done.status} to {location}" if location else str(done.status)
    return Verdict(
        "status", f"{detail}; the mark allows {', '.join(map(str, sorted(mark.statuses)))}"
    )


_TELLING = frozenset(
    {"set-cookie", "vary", "content-security-policy", "content-security-policy-report-only"}
)


def _personal(site: Site, done: Render, mark: Mark) -> Verdict:
    if _TELLING.isdisjoint(done.names):
        return _YES
    cookies = [value.partition("=")[0] for value in done.values("set-cookie")]
    if cookies:
        return Verdict("set-cookie", f"sets {', '.join(cookies)}")
    if vary := header_values(done, "vary"):
        if "cookie" in vary:
            return Verdict("session", "Vary: Cookie: the session was read or written")
        declared = {"accept-encoding", *(name for name, _ in mark.vary)}
        others = [name for name in vary if name not in declared]
        if others:
            return Verdict("vary", f"Vary: {', '.join(others)}")
    for name in ("content-security-policy", "content-security-policy-report-only"):
        if any("'nonce-" in value for value in header_values(done, name)):
            return Verdict("nonce", f"{name} has a nonce, which is good for one visitor only")
    return _YES


def terms_of(site: Site, done: Render) -> Terms | str:
    """Return under which terms a response may be stored in respect mode, or why it may not be."""
    if done.terms is None:
        done.terms = read_terms(done.headers, site.clock(), done.duration)
    return done.terms


def _private(site: Site, done: Render, mark: Mark) -> Verdict:
    if mark.respects:
        terms = terms_of(site, done)
        return Verdict(terms, _WHY[terms]) if isinstance(terms, str) else _YES
    for name in sorted(filter(is_cache_control, done.names)):
        for directive in header_values(done, name):
            word = directive.partition("=")[0]
            if word in ("private", "no-store"):
                return Verdict(word, f"{name}: {directive}")
    return _YES


def _coded(site: Site, done: Render, mark: Mark) -> Verdict:
    codings = [value for value in header_values(done, "content-encoding") if value != "identity"]
    if codings:
        return Verdict("content-encoding", f"is already {', '.join(codings)}")
    if done.status == 206 or header_values(done, "content-range"):
        return Verdict("partial", "is a part of a page")
    length = header_values(done, "content-length")
    if length and length[0] != str(len(done.body)):
        return Verdict("length", f"says {length[0]} bytes and has {len(done.body)}")
    return _YES


def _headers(site: Site, done: Render, mark: Mark) -> Verdict:
    done.kept = stored_headers(site, done, mark)
    return _sendable(done.kept)


@lru_cache(256)  # most pages of a site have the same ones
def _sendable(kept: tuple[tuple[str, str], ...]) -> Verdict:
    for name, value in kept:
        if not _TOKEN.match(name) or _UNSENDABLE.search(value):
            return Verdict("header", f"{name!r} cannot be sent")
    size = sum(len(name) + len(value) + 4 for name, value in kept)
    if size > _HEADER_BYTES or len(kept) > _HEADER_COUNT:
        return Verdict("header", f"{len(kept)} headers of {size} bytes are too many for proxies")
    return _YES


_SAME = "a page that depends on who asks is not the same for everybody"
_READS = {
    "cookies": ("request.cookies", _SAME),
    "authorization": ("request.authorization", _SAME),
    "session": ("flask.session", _SAME),
    "query": ("request.args", 'name the parameters that change the page: query=["page"]'),
}


def _reads(site: Site, done: Render, mark: Mark) -> Verdict:
    undeclared = done.reads - {"query"} if mark.query else done.reads
    if not undeclared:
        return _YES
    name = min(undeclared)
    what, remedy = _READS[name]
    place = done.read_at.get(name, "")
    return Verdict(name, f"the app reads {what}{place and f' ({place})'}; {remedy}")


def _empty(site: Site, done: Render, mark: Mark) -> Verdict:
    if not done.body and not 300 <= done.status < 400:
        return Verdict("empty", "the body is empty")
    return _YES
