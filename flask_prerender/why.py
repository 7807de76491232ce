"""Why a URL is answered as it is: what is stored, took it back, failed, and is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .coordination.base import Streak
from .gate import judge
from .gate import Verdict
from .page import Page
from .page import State
from .render import last_frame
from .render import render
from .render import request_environ
from .rests import is_wanted
from .rests import known_reason
from .routes import Target
from .site import Site
from .typed import Meant
from .typed import meant_by
from .variants import environ_name
from .variants import variant_of
from .variants import with_variant

_FIRST_VISIT = "a first visit: rendered, and stored and served if it may be"


def explain(
    site: Site, url: str, headers: Mapping[str, str] | None = None, *, try_it: bool = True
) -> dict[str, Any]:
    """Return everything that decides how a URL is answered, as plain values.

    :param headers: request headers, where pages differ by them.
    :param try_it: render the page as well, without storing it, to see what the gate would say.
    :raises StoreError: the store cannot be read.
    """
    meant = meant_by(site, url)
    if meant is None:
        return {"url": url, "answer": "the app: such a URL is never stored"}
    found = _target(site, meant, headers or {})
    if not isinstance(found, Target):
        return found
    site.revocations.follow()
    key, page = found.key, site.store.get(found.key)
    streak = site.coordination.streak(key)
    facts: dict[str, Any] = {
        "url": key,
        "route": f"{found.rule} ({found.endpoint})",
        "answer": _answer(site, found, page, streak),
        "revision": site.coordination.revision(),
    }
    if meant.is_redirected:
        facts["answer"] = f"a redirect by the app; then {facts['answer']}"
    if page is not None:
        facts |= _page_facts(site, page)
    if streak is not None:
        facts |= _failures(site, key, streak)
    if try_it:
        verdict, facts["a_render_now"] = _try(site, found)
        if page is None and not verdict and facts["answer"] == _FIRST_VISIT:
            facts["answer"] = f"the app: a first visit is not stored ({verdict.reason})"
    return facts


def _failures(site: Site, key: str, streak: Streak) -> dict[str, Any]:
    now, rests = site.clock(), _rests(site, key, streak)
    return {
        "failures": streak.failures,
        "last_failure": f"{streak.reason}: {streak.detail}",
        "last_failure_ago": round(max(0.0, now - streak.since), 1),
        "next_try_in": round(max(0.0, streak.not_before - now), 1) if rests else 0.0,
    }


def _target(site: Site, page: Meant, headers: Mapping[str, str]) -> Target | dict[str, Any]:
    """Return the one page that is meant, ready to be rendered, or all there is to say."""
    if page.mark is None:
        return {"url": page.key, "answer": "the app: no marked route has it"}
    if page.unnamed:
        answer = f"the app: its mark does not name the parameter {page.unnamed[0]}"
        return {"url": page.key, "answer": answer}
    sent = {environ_name(name): value for name, value in headers.items()}
    variant = page.variant or variant_of(page.mark.vary, sent)
    if variant is None:
        return {"url": page.key, "answer": "the app: no page is stored for such a header"}
    key = with_variant(page.key, variant)
    try:
        target = site.routes.match(request_environ(site, key), key)
    except Exception as error:  # from the mark's own tags
        return {"url": key, "answer": f"the app: its tags cannot be told: {error!r}"}
    return target or {"url": key, "answer": "the app: no marked route has it"}


def _state(site: Site, page: Page) -> State:
    """Return the state of a page as serving sees it."""
    state, taken = page.state(site.clock()), site.revocations.of(page)
    if taken == "hard" or (taken and page.terms is not None):
        return "expired"
    return "stale" if taken and state == "fresh" else state


def _page_facts(site: Site, page: Page) -> dict[str, Any]:
    now = site.clock()
    taken_by = site.revocations.taken_by(page)
    facts: dict[str, Any] = {
        "state": _state(site, page),
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


def _answer(site: Site, target: Target, page: Page | None, streak: Streak | None) -> str:
    if not site.serves:
        return "the app: serving is off (PRERENDER_ENABLED, or debug mode)"
    if not site.owns_pages():
        return "the app: the pages that are stored here are another app's"
    answer = _without(site, target) if page is None else _with(site, page, streak)
    if target.mark.visitors == "bots":
        return f"for crawlers {answer}; for others the app"
    return answer


def _without(site: Site, target: Target) -> str:
    if target.mark.fallback == "render":
        reason = known_reason(site, target.key)
        return f"the app: {reason}" if reason else _FIRST_VISIT
    if target.mark.fallback == "404" and site.store.last_build():
        return "404: no build has it"
    return "the app: nothing is stored"


def _with(site: Site, page: Page, streak: Streak | None) -> str:
    state, rests = _state(site, page), _rests(site, page.key, streak)
    if state == "fresh":
        return "the stored page, fresh"
    if state == "stale":
        if site.settings.regenerate == "off":
            return "the stored page, stale, and nothing makes it new (PRERENDER_REGENERATE)"
        if rests:
            return "the stored page, stale, and no render before its rest after a failure is over"
        return "the stored page, stale, and one render in the background"
    old = "the stored page" if _may_stand_in(site, page) else "the app"
    if rests and site.revocations.of(page) != "hard":
        return f"{old}, because its render failed, until its rest after that is over"
    return f"a new render is waited for; {old} if that fails"


def _rests(site: Site, key: str, streak: Streak | None) -> bool:
    return streak is not None and site.clock() < streak.not_before and not is_wanted(site, key)


def _may_stand_in(site: Site, page: Page) -> bool:
    """Whether an expired page is served when it cannot be made new."""
    age, taken = page.age(site.clock()), site.revocations.of(page)
    if page.terms is not None:
        return age - (page.revalidate or 0.0) < float(page.terms["if_error"]) and not taken
    if taken == "hard":
        return False
    return page.expire is None or age - page.expire < site.settings.stale_if_error


def _try(site: Site, target: Target) -> tuple[Verdict, str]:
    done = render(site, target.key, site.coordination.revision())
    verdict = judge(site, done, target.mark)
    if verdict:
        return verdict, f"{done.status}, {len(done.body)} bytes, would be stored"
    where = last_frame(site, done)
    text = f"refused: {verdict.reason}: {verdict.detail}"
    return verdict, f"{text} (at {where})" if where else text
