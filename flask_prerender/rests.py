"""For how long a key is left in peace after its page could not be made."""

from __future__ import annotations

import logging

from . import signals
from .claims import rest_after
from .coordination.base import Streak
from .publish import Outcome
from .revocations import implicit_tags
from .site import Site

log = logging.getLogger("flask_prerender")

#: For how long nobody waits for a page that could not be stored: a refused one goes straight to the
#: app, one that the view took away may come back, a failed one may be well again soon.
_REFUSED_SECONDS = 120.0
_GONE_SECONDS = 60.0
_FAILED_SECONDS = 3.0
_REMEMBERED = 10_000


def known_reason(site: Site, key: str) -> str:
    """Return why nobody need try to store a page just now, or ``""``."""
    now = site.clock()
    # What is further off than anything that is noted here was noted before the clock was set.
    longest = max(_REFUSED_SECONDS, site.settings.timeout)
    if 0 < site.store_rests_until - now <= longest:
        return "store"
    until, reason, revision = site.unstorable.get(key, (0.0, "", 0))
    if site.revocations.last > revision:
        return ""  # pages were taken back since, and this may be one of them
    return reason if 0 < until - now <= longest else ""


def is_wanted(site: Site, key: str) -> bool:
    """Return whether a page was taken back after its last try failed, which ends its rest."""
    streak = site.coordination.streak(key)
    page = None if streak is None else site.store.get(key)
    if streak is None or page is None:
        return False
    site.revocations.follow()
    return site.revocations.since((*page.tags, *implicit_tags(page)), streak.revision) != ""


def remember(
    site: Site, outcome: Outcome, seconds: float | None = None, revision: int | None = None
) -> Outcome:
    """Spare the next visitors a wait for a page that was not stored just now.

    :param seconds: for how long; by default as the outcome is.
    :param revision: the one that stood before the try; by default the present one.
    """
    if len(site.unstorable) >= _REMEMBERED:  # visitors choose these keys
        site.unstorable.clear()
    if seconds is None:
        seconds = _seconds(outcome)
    facts = {"key": outcome.key, "reason": outcome.reason, "seconds": seconds}
    signals.send(signals.page_unstorable, site.app, **facts)
    before = site.coordination.revision() if revision is None else revision
    site.unstorable[outcome.key] = (site.clock() + seconds, outcome.reason, before)
    return outcome


def _seconds(outcome: Outcome) -> float:
    if outcome.was_removed and outcome.reason == "status":
        return min(_GONE_SECONDS, outcome.revalidate or _GONE_SECONDS)
    passes = outcome.result == "failed" and outcome.reason != "collision"
    return _FAILED_SECONDS if passes else _REFUSED_SECONDS


def streak_after(site: Site, outcome: Outcome, failures: int) -> Streak | None:
    """Return how long a stored page that could not be made new rests, and say so once for each
    streak; ``None`` when it does not rest.

    :param failures: how often in a row it had failed before.
    """
    key = outcome.key
    if outcome.is_stored or outcome.was_removed or outcome.reason in ("route", "fenced"):
        if failures:
            log.info("%s is made again, after %s failures", key, failures)
        return None
    seconds = rest_after(failures, outcome.revalidate)
    what = f"{outcome.detail} {outcome.where}".strip()
    if not failures:
        site.complain(
            f"stale {outcome.endpoint}",
            "%s could not be made new: %s: %s. The page stored before is served on; the next try "
            "is in %.0f s.",
            key,
            outcome.reason,
            what,
            seconds,
        )
    facts = {"key": key, "reason": outcome.reason, "failures": failures + 1}
    signals.send(signals.regenerate_failed, site.app, **facts)
    now = site.clock()
    return Streak(failures + 1, now + seconds, outcome.reason, what, now)
