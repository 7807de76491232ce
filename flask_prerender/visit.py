"""The first visit of a page that is not stored: one clean render for everybody who waits."""

from __future__ import annotations

import time
from dataclasses import replace

from .budgets import is_admitted
from .claims import Claim
from .errors import PrerenderError
from .errors import StoreError
from .errors import TagsError
from .page import Page
from .publish import Outcome
from .publish import publish
from .render import request_environ
from .rests import is_wanted
from .rests import known_reason
from .rests import remember
from .rests import streak_after
from .routes import Target
from .site import Site

_STORE_RESTS_SECONDS = 30.0

#: Why a page could not be made that may well be made later: an expired one is better than nothing.
PASSING = frozenset({"busy", "collision", "error", "fenced", "store", "timeout", "wait"})
_LOOK_SECONDS = 0.05


def visit(site: Site, key: str) -> str:
    """Render and store a page, or wait for the one who does, and return ``""`` when it is stored.

    Otherwise the answer says why the app has to answer: ``"wait"`` (took too long), ``"busy"``
    (too many renders), ``"store"`` (the store rests), or the reason of the gate.
    """
    outcome = attempt(site, key)
    return "" if outcome.is_stored else outcome.reason


def attempt(site: Site, key: str, since: float = float("-inf")) -> Outcome:
    """Render and store a page, or wait for the one who does, and return what came of it.

    :param since: a page that was made or confirmed up to this moment will not do.
    """
    for left in site.flights.leave_behind():
        _give_up(site, left)
    reason = known_reason(site, key)
    if reason:
        return Outcome(key, "", "", "refused", reason)
    own: list[Outcome] = []

    def work() -> Outcome:
        own.append(_visit(site, key, since))
        return own[0]

    flight = site.flights.join(key, work)
    if flight is None:
        return Outcome(key, "", "", "failed", "busy")
    outcome: Outcome | None = flight.wait(site.settings.wait)
    if outcome is None:
        # One of them has waited long enough for all, until the render is over.
        late = Outcome(key, "", "", "failed", "wait")
        return remember(site, late, site.settings.timeout)
    # What was not stored is for the one who asked for it, and for nobody who only waited.
    return outcome if own or outcome.response is None else replace(outcome, response=None)


def _give_up(site: Site, key: str) -> None:
    """Leave a page whose render hangs to the app, for as long as a refused one."""
    site.complain(
        "timeout",
        "%s is not stored: its render hangs, longer than PRERENDER_TIMEOUT (%g s)",
        key,
        site.settings.timeout,
    )
    remember(site, Outcome(key, "", "", "refused", "timeout"))


def _just_stored(site: Site, target: Target, since: float) -> Page | None:
    """Return the page if somebody stored it after its visitor had looked and before we began."""
    try:
        page = site.store.get(target.key)
        site.revocations.follow()
        now = site.clock()
        if page is None or page.state(now) == "expired" or not since < page.checked_at <= now:
            return None
        if page.terms is not None and page.state(now) != "fresh":
            return None  # stale ones were looked at already, and may not do
        taken = site.revocations.of(page)
        if taken == "hard" or (taken and page.terms is not None):
            return None
        if page.options != target.mark.options():
            return None
        is_whole = all(site.store.read(page, variant) is not None for variant in page.variants)
    except StoreError:
        return None
    return page if is_whole else None


def _visit(site: Site, key: str, since: float) -> Outcome:
    try:
        return _claim_and_publish(site, key, since)
    except StoreError as error:  # claims cannot be written: a read-only directory, a full disk
        site.store_rests_until = site.clock() + _STORE_RESTS_SECONDS
        site.complain("store", "%s is not stored: %s", key, error)
        return Outcome(key, "", "", "failed", "store", str(error))
    except Exception as error:
        # Told and remembered like any other failure, or each visitor would wait for the next one.
        is_ours = isinstance(error, PrerenderError)
        site.complain("error", "%s is not stored: error: %s", key, error, exc_info=not is_ours)
        return remember(site, Outcome(key, "", "", "failed", "error", str(error)))


def _claim_and_publish(site: Site, key: str, since: float) -> Outcome:
    # From the key, like the render itself: nothing of the request that asked takes part.
    try:
        target = site.routes.match(request_environ(site, key), key)
    except TagsError as error:
        site.complain("tags", "%s is not stored: tags: %s", key, error)
        return remember(site, Outcome(key, "", "", "failed", "tags", str(error)))
    if target is None:
        return remember(site, Outcome(key, "", "", "refused", "route", "no marked route has it"))
    if not is_admitted(site, target.mark, target.rule, key):
        detail = "there is little room: it is stored at its second visit"
        return Outcome(key, target.endpoint, target.rule, "refused", "budget", detail)
    deadline = time.monotonic() + site.settings.wait
    is_purged, was_held = _is_purged(site, key), False
    failures = _failures_of(site, key)
    while True:
        with site.claims.hold(key, anyway=is_purged) as claim:
            # With the claim in hand, or while somebody else has it: they may have stored it.
            page = _just_stored(site, target, since)
            if page is not None:
                site.memory.drop(key)  # whoever stored it says so in a moment
                return Outcome(key, target.endpoint, target.rule, "unchanged", page=page)
            if claim is not None and was_held and since == float("-inf"):
                return _after_waiting(site, target, claim, failures)
            if claim is not None:
                return _publish(site, target, claim)
        streak = site.coordination.streak(key)
        if streak is not None and not is_purged and site.clock() < streak.not_before:
            rests = Outcome(key, "", "", "failed", streak.reason, streak.detail)
            return remember(site, rests)
        was_held = True
        if time.monotonic() > deadline:
            return Outcome(key, target.endpoint, target.rule, "failed", "wait", "another has it")
        time.sleep(_LOOK_SECONDS)


def _after_waiting(site: Site, target: Target, claim: Claim, failures: int) -> Outcome:
    """Return what comes of a page that somebody else made, or tried to, while we waited.

    :param failures: how often in a row it had failed when we began to.
    """
    key = target.key
    if claim.lease.failures > failures and (streak := site.coordination.streak(key)):
        claim.streak = streak  # theirs: it goes on
        return remember(site, Outcome(key, "", "", "failed", streak.reason, streak.detail))
    if site.store.get(key) is not None:  # and will not do: taken back while they made it
        return _publish(site, target, claim)
    # Visitors who waited do not wait for a second try.
    detail = "another process tried, and stored nothing"
    return remember(site, Outcome(key, "", "", "refused", "wait", detail))


def _failures_of(site: Site, key: str) -> int:
    streak = site.coordination.streak(key)
    return 0 if streak is None else streak.failures


def _is_purged(site: Site, key: str) -> bool:
    """Whether somebody wants a page gone, or made new since it failed last, so that its rest is no
    reason to wait."""
    try:
        page = site.store.get(key)
        site.revocations.follow()
        if page is not None and site.revocations.of(page) == "hard":
            return True
        return is_wanted(site, key)
    except StoreError:  # met again, and told, where the page is made
        return False


def _publish(site: Site, target: Target, claim: Claim) -> Outcome:
    outcome = publish(site, target, origin="visit", token=claim.token)
    if outcome.is_stored:
        site.unstorable.pop(target.key, None)
        if not site.is_read_only:
            # The same bytes again are no news: there, the page is still the one that was purged.
            site.memory.drop(target.key)
        return outcome
    if outcome.reason == "store":
        site.store_rests_until = site.clock() + _STORE_RESTS_SECONDS
    if not target.mark.respects and site.store.get(target.key) is not None:
        claim.streak = streak_after(site, outcome, claim.lease.failures)
    elif outcome.reason != "status":
        kind = "store" if outcome.reason == "store" else f"{outcome.reason} {target.endpoint}"
        site.complain(
            kind,
            "%s (%s) is not stored: %s: %s",
            target.key,
            target.endpoint,
            outcome.reason,
            outcome.detail,
        )
    return remember(site, outcome, revision=claim.revision)
