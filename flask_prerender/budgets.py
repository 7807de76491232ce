"""Room for first visits: what their pages may take, and which of them make room.

Visitors choose which URLs they ask for, so what they bring into the store is bounded. Pages of
builds neither count nor go.
"""

from __future__ import annotations

import math

from . import signals
from .errors import BudgetError
from .errors import StoreError
from .marks import Mark
from .page import Page
from .site import Site
from .stores.base import Budget

_NOTE_SECONDS = 60.0
_NOTED = 10_000
_REST_SECONDS = 3600.0
#: From here on a page has to be asked for twice within so many seconds: whoever asks for every URL
#: once, as crawlers do, drives out nothing that is wanted.
_FULL = 0.8
_TWICE_SECONDS = 600.0


def check_size(site: Site, mark: Mark, page: Page) -> None:
    """
    :raises BudgetError: there would be no room for the page of a first visit if it were alone.
    """
    if page.origin != "visit":
        return
    if not mark.max_pages:
        raise BudgetError(f"{page.key}: its route keeps no pages of first visits (max_pages=0)")
    limit = site.settings.max_bytes
    if page.size > limit:
        raise BudgetError(f"{page.key}: {page.size} bytes, PRERENDER_MAX_BYTES allows {limit}")


def is_admitted(site: Site, mark: Mark, rule: str, key: str) -> bool:
    """Whether a first visit may bring its page: at the second visit only where there is not much
    room left.

    :raises StoreError: the store cannot be read.
    """
    pages, size = site.store.visits(rule)
    if pages < _FULL * mark.max_pages and size < _FULL * site.settings.max_bytes:
        return True
    now, seen = site.clock(), site.asked_once
    if 0 <= now - seen.pop(key, -math.inf) <= _TWICE_SECONDS or site.store.get(key) is not None:
        return True
    if len(seen) >= _NOTED:
        seen.clear()
    seen[key] = now
    return False


def make_room(site: Site, mark: Mark, page: Page) -> bool:
    """Remove what is over budget now that a page was stored, and return whether a page went."""
    if page.origin != "visit":
        return False
    budget = Budget(page.rule, mark.max_pages, site.settings.max_bytes)
    try:
        pages, size = site.store.visits(page.rule)
        if pages <= budget.pages and size <= budget.bytes:
            return False
        # Its visitor waits for it: of all pages it is the last to go.
        site.asked_for[page.key] = site.clock()
        _note(site)
        gone = site.store.evict(budget)
    except StoreError as error:
        site.complain("store", "there is no room for %s: %s", page.key, error)
        return False
    for key, reason in gone.items():
        site.memory.drop(key)
        signals.send(signals.page_evicted, site.app, key=key, reason=reason)
    return bool(gone)


def note_at_times(site: Site) -> None:
    """Tell the store, about once a minute and beside the requests, which pages were asked for: so
    that other processes do not evict what only this one is asked for."""
    is_early = 0 < site.note_again_at - site.clock() <= _REST_SECONDS
    if site.asked_for and (not is_early or len(site.asked_for) >= _NOTED):
        site.flights.join("used", lambda: _note_beside(site))


def _note_beside(site: Site) -> None:
    try:
        _note(site)
    except StoreError as error:
        site.note_again_at = site.clock() + _REST_SECONDS
        site.complain("store", "which pages were asked for lately is not known: %s", error)


def _note(site: Site) -> None:
    # Exchanged before it is read: requests go on adding to the one that is there.
    asked_for, site.asked_for = site.asked_for, {}
    site.note_again_at = site.clock() + _NOTE_SECONDS
    if not site.is_read_only:
        site.store.note_used(asked_for.copy())
