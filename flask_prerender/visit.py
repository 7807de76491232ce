"""The first visit of a page that is not stored: one clean render for everybody who waits."""

from __future__ import annotations

from .errors import PrerenderError
from .errors import StoreError
from .errors import TagsError
from .page import Page
from .publish import Outcome
from .publish import publish
from .render import request_environ
from .routes import Target
from .site import Site

#: For how long nobody waits for a page that could not be stored: a refused one goes straight to the
#: app, a failed one may be well again soon.
_REFUSED_SECONDS = 120.0
_FAILED_SECONDS = 3.0
_STORE_RESTS_SECONDS = 30.0
_REMEMBERED = 10_000


def visit(site: Site, key: str) -> str:
    """Render and store a page, or wait for the one who does, and return ``""`` when it is stored.

    Otherwise the answer says why the app has to answer: ``"wait"`` (took too long), ``"busy"``
    (too many renders), ``"store"`` (the store rests), or the reason of the gate.
    """
    for late in site.flights.leave_behind():
        _give_up(site, late)
    reason = _known_reason(site, key)
    if reason:
        return reason
    flight = site.flights.join(key, lambda: _visit(site, key))
    if flight is None:
        return "busy"
    outcome: Outcome | None = flight.wait(site.settings.wait)
    if outcome is None:
        return "wait"
    return "" if outcome.is_stored else outcome.reason


def _give_up(site: Site, key: str) -> None:
    """Leave a page whose render hangs to the app, for as long as a refused one."""
    site.complain(
        "timeout",
        "%s is not stored: its render hangs, longer than PRERENDER_TIMEOUT (%g s)",
        key,
        site.settings.timeout,
    )
    _remember(site, Outcome(key, "", "", "refused", "timeout"))


def _just_stored(site: Site, target: Target) -> Page | None:
    """Return the page if somebody stored it after its visitor had looked and before we began."""
    try:
        page = site.store.get(target.key)
        if page is None or page.state(site.clock()) == "expired":
            return None
        if page.options != target.mark.options():
            return None
        is_whole = all(site.store.read(page, variant) is not None for variant in page.variants)
    except StoreError:
        return None
    return page if is_whole else None


def _known_reason(site: Site, key: str) -> str:
    now = site.clock()
    if now < site.store_rests_until:
        return "store"
    until, reason = site.unstorable.get(key, (0.0, ""))
    return reason if now < until else ""


def _visit(site: Site, key: str) -> Outcome:
    # From the key, like the render itself: nothing of the request that asked takes part.
    try:
        target = site.routes.match(request_environ(site, key), key)
        if target is not None:
            return _publish(site, target)
    except Exception as error:
        # Told and remembered like any other failure, or each visitor would wait for the next one.
        reason = "tags" if isinstance(error, TagsError) else "error"
        is_ours = isinstance(error, PrerenderError)
        site.complain(reason, "%s is not stored: %s: %s", key, reason, error, exc_info=not is_ours)
        return _remember(site, Outcome(key, "", "", "failed", reason, str(error)))
    return _remember(site, Outcome(key, "", "", "refused", "route", "no marked route has it"))


def _publish(site: Site, target: Target) -> Outcome:
    page = _just_stored(site, target)
    if page is not None:
        return Outcome(target.key, target.endpoint, target.rule, "unchanged", page=page)
    outcome = publish(site, target, origin="visit")
    if outcome.is_stored:
        site.unstorable.pop(target.key, None)
        return outcome
    if outcome.reason == "store":
        site.store_rests_until = site.clock() + _STORE_RESTS_SECONDS
    if outcome.reason != "status":
        kind = "store" if outcome.reason == "store" else f"{outcome.reason} {target.endpoint}"
        site.complain(
            kind,
            "%s (%s) is not stored: %s: %s",
            target.key,
            target.endpoint,
            outcome.reason,
            outcome.detail,
        )
    return _remember(site, outcome)


def _remember(site: Site, outcome: Outcome) -> Outcome:
    """Spare the next visitors a wait for a page that was not stored just now."""
    if len(site.unstorable) >= _REMEMBERED:  # visitors choose these keys
        site.unstorable.clear()
    passes = outcome.result == "failed" and outcome.reason != "collision"
    seconds = _FAILED_SECONDS if passes else _REFUSED_SECONDS
    site.unstorable[outcome.key] = (site.clock() + seconds, outcome.reason)
    return outcome
