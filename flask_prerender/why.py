"""Why a URL is answered as it is: what is stored, took it back, failed, and is refused."""

from __future__ import annotations

from typing import Any

from .gate import judge
from .page import Page
from .render import last_frame
from .render import render
from .render import request_environ
from .rests import known_reason
from .routes import Target
from .site import Site


def explain(site: Site, url: str, *, try_it: bool = True) -> dict[str, Any]:
    """Return everything that decides how a URL is answered, as plain values.

    :param try_it: render the page as well, without storing it, to see what the gate would say.
    :raises StoreError: the store cannot be read.
    """
    key = site.typed_key(url)
    if key is None:
        return {"url": url, "answer": "the app: such a URL is never stored"}
    try:
        target = site.routes.match(request_environ(site, key), key)
    except Exception as error:  # from the mark's own tags
        return {"url": key, "answer": f"the app: its tags cannot be told: {error!r}"}
    if target is None:
        return {"url": key, "answer": "the app: no marked route has it"}
    site.revocations.follow()
    page = site.store.get(key)
    facts: dict[str, Any] = {
        "url": key,
        "route": f"{target.rule} ({target.endpoint})",
        "answer": _answer(site, target, page),
        "revision": site.coordination.revision(),
    }
    if page is not None:
        facts |= _page_facts(site, page)
    streak = site.coordination.streak(key)
    if streak is not None:
        facts["failures"] = streak.failures
        facts["last_failure"] = f"{streak.reason}: {streak.detail}"
        facts["next_try_in"] = round(max(0.0, streak.not_before - site.clock()), 1)
    if try_it:
        facts["a_render_now"] = _try(site, target)
    return facts


def _page_facts(site: Site, page: Page) -> dict[str, Any]:
    now = site.clock()
    taken_by = site.revocations.taken_by(page)
    facts: dict[str, Any] = {
        "state": page.state(now),
        "age": round(page.age(now), 1),
        "fresh_for": None
        if page.revalidate is None
        else round(max(0.0, page.revalidate - page.age(now)), 1),
        "served_for": None
        if page.expire is None
        else round(max(0.0, page.expire - page.age(now)), 1),
        "made_at_revision": page.revision,
        "from": page.origin,
        "tags": list(page.tags),
        "file": page.file,
        "bytes": page.size,
    }
    if taken_by is not None:
        tag, revision, hard = taken_by
        how = "purged" if hard else "revalidated"
        facts["taken_back"] = f"{how} by {tag} at revision {revision}"
    return facts


def _answer(site: Site, target: Target, page: Page | None) -> str:
    if not site.serves:
        return "the app: serving is off (PRERENDER_ENABLED, or debug mode)"
    if page is None:
        reason = known_reason(site, target.key)
        if target.mark.fallback == "render":
            return f"the app: {reason}" if reason else "a first visit: rendered, stored, served"
        return "404" if target.mark.fallback == "404" else "the app: nothing is stored"
    taken, state = site.revocations.of(page), page.state(site.clock())
    if taken == "hard" or (taken and page.terms is not None) or state == "expired":
        return "a new render is waited for; the stored page if that fails"
    if taken == "soft" or state == "stale":
        return "the stored page, stale, and one render in the background"
    return "the stored page, fresh"


def _try(site: Site, target: Target) -> str:
    done = render(site, target.key, site.coordination.revision())
    verdict = judge(site, done, target.mark)
    if verdict:
        return f"{done.status}, {len(done.body)} bytes, would be stored"
    where = last_frame(site, done)
    text = f"refused: {verdict.reason}: {verdict.detail}"
    return f"{text} (at {where})" if where else text
