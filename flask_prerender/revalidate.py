"""Pages taken back: softly, to be made new while the old one is served, or hard, gone at once.

Whatever the number of pages, one row is written for each path, prefix, endpoint or tag.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from . import signals
from .coordination.base import EVERYTHING
from .errors import RouteError
from .publish import Outcome
from .regenerate import Regenerator
from .render import rendering
from .revocations import implicit_tags
from .revocations import is_tag
from .revocations import path_tag
from .revocations import prefix_tag
from .revocations import TAG_LENGTH
from .site import Site
from .typed import Meant
from .typed import meant_by
from .typed import prefix_meant_by

#: Endpoints, each with the arguments of one URL, or ``None`` for all of its pages.
Endpoints = Iterable[tuple[str, Mapping[str, Any] | None]]

_ASKED_AT_ONCE = 100
_LOOK_SECONDS = 0.05


@dataclass(slots=True)
class Taken:
    """What came of taking pages back.

    :ivar affected: keys of the pages that were named and are stored.
    :ivar unknown: paths of marked routes that have no stored page, and paths of no marked route.
        Queries that were not named go with their path, and are looked for neither here nor there.
    :ivar refused: what cannot be taken back, with the reason.
    :ivar tags: every tag that was revoked, the implicit ones of paths and prefixes included.
    :ivar revision: the revision from which on it holds, for every process.
    """

    hard: bool
    affected: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    revision: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "hard": self.hard,
            "revision": self.revision,
            "affected": self.affected,
            "unknown": self.unknown,
            "refused": self.refused,
            "tags": self.tags,
        }


def take_back(
    site: Site,
    *,
    hard: bool,
    paths: Iterable[str] = (),
    prefixes: Iterable[str] = (),
    endpoints: Endpoints = (),
    tags: Iterable[str] = (),
    everything: bool = False,
) -> Taken:
    """Take pages back, for every process, and return what was affected.

    The caller sees the new state at once, the other processes at their next request.

    :param paths: paths and URLs of the site in any form that is answered with the page; where pages
        differ by host, ``//host/path``. The same is true of prefixes.
    :raises StoreError: it cannot be written.
    """
    named = _named(site, paths, prefixes, endpoints, tags, everything)
    taken = Taken(hard, refused=named.refused)
    revoked = []
    for page in named.pages.values():
        stored = [key for key in page.keys or [page.key] if site.store.get(key) is not None]
        taken.affected += stored
        if not stored:
            taken.unknown.append(page.key)
        if stored or page.mark is not None:
            # What is not stored may be so with a query, or be under way at this moment.
            revoked.append(path_tag(page.key))
    taken.affected = list(dict.fromkeys(taken.affected))
    taken.unknown = list(dict.fromkeys(taken.unknown))
    revoked += named.tags
    if revoked:
        taken.tags = list(dict.fromkeys(revoked))
        taken.revision = site.coordination.revoke(taken.tags, hard=hard)
        facts = {"tags": taken.tags, "hard": hard, "revision": taken.revision}
        signals.send(signals.pages_revoked, site.app, **facts)
        site.revocations.follow()
    return taken


def ask_for(regenerator: Regenerator, taken: Taken) -> None:
    """Have the pages that were named made new without waiting for a visitor."""
    if not taken.hard:
        for path in taken.affected[:_ASKED_AT_ONCE]:
            regenerator.ask(path)


def refresh(
    site: Site,
    regenerator: Regenerator,
    *,
    paths: Iterable[str] = (),
    prefixes: Iterable[str] = (),
    endpoints: Endpoints = (),
    tags: Iterable[str] = (),
    everything: bool = False,
    wait: float | None = None,
) -> Iterator[Outcome]:
    """Render pages now, whatever their age, and yield what came of each when it is new.

    A path may be of a page that is not stored yet; by prefix, endpoint or tag those are meant that
    are stored. A page that somebody else is making at this moment is waited for, and then made once
    more: what they began may be older than this call.

    :param wait: seconds for each page; by default ``PRERENDER_TIMEOUT``.
    """
    limit = site.settings.timeout if wait is None else wait
    named = _named(site, paths, prefixes, endpoints, tags, everything)
    for what, reason in named.refused.items():
        yield _refused(what, "name", reason)
    done: set[str] = set()
    for path, page in named.pages.items():
        if page.mark is None:
            yield _refused(path, "route", "no marked route has it")
        elif page.unnamed:
            yield _refused(path, "query", f"its mark does not name {page.unnamed[0]}")
        else:
            done.update(page.keys)
            yield from (_refresh(site, regenerator, key, limit) for key in page.keys)
    keys, missing = _tagged(site, named.tags)
    for key in keys:
        if key not in done:
            yield _refresh(site, regenerator, key, limit)
    for tag in missing:
        yield _refused(tag, "unknown", "no stored page has it")


def _refused(what: str, reason: str, detail: str) -> Outcome:
    return Outcome(what, "", "", "refused", reason, detail)


def _tagged(site: Site, tags: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the keys of stored pages that have one of these tags, and the tags that none has."""
    missing = dict.fromkeys(tags)
    wanted = frozenset(missing)
    keys = []
    for page in site.store.pages() if wanted else ():
        found = wanted.intersection((*page.tags, *implicit_tags(page)))
        if found:
            keys.append(page.key)
            for tag in found:
                missing.pop(tag, None)
    return keys, list(missing)


def _refresh(site: Site, regenerator: Regenerator, key: str, limit: float) -> Outcome:
    if key in rendering.get():
        return _refused(key, "loop", "it is being rendered, by whoever asks for it")
    deadline = time.monotonic() + limit
    while True:
        outcome = regenerator.make_new(key, anyway=True)
        if outcome is not None:
            return outcome
        if time.monotonic() > deadline:
            return Outcome(key, "", "", "failed", "wait", "somebody else makes it")
        time.sleep(_LOOK_SECONDS)


@dataclass(slots=True)
class _Named:
    """What a caller named: pages, by what was said for each of them first, and tags."""

    pages: dict[str, Meant] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def _named(
    site: Site,
    paths: Iterable[str],
    prefixes: Iterable[str],
    endpoints: Endpoints,
    tags: Iterable[str],
    everything: bool,
) -> _Named:
    named = _Named(tags=[EVERYTHING] if everything else [])
    seen: set[str] = set()
    for path in [*paths, *_built(site, endpoints, named)]:
        page = meant_by(site, path)
        if page is None:
            named.refused[path] = _no_path(site, "path")
        elif (whole := f"{page.key}#{page.variant}{page.unnamed}") not in seen:
            seen.add(whole)
            named.pages[path] = page
    for prefix in prefixes:
        start = prefix_meant_by(site, prefix)
        if start is None:
            named.refused[prefix] = _no_path(site, "prefix")
        else:
            named.tags.append(prefix_tag(start))
    for tag in tags:
        if not is_tag(tag):
            named.refused[tag] = f"a tag is a text of 1 to {TAG_LENGTH} characters"
        else:
            named.tags.append(tag)
    return named


def _no_path(site: Site, what: str) -> str:
    if site.has_hosts:
        return f"it is not a {what} of this site, whose pages differ by host: write //host/path"
    return f"it is not a {what} of this site"


def _built(site: Site, endpoints: Endpoints, named: _Named) -> Iterator[str]:
    for endpoint, values in endpoints:
        if endpoint not in site.app.view_functions:
            named.refused[endpoint] = "there is no such endpoint"
        elif not values:
            named.tags.append(f"endpoint:{endpoint}")
        else:
            try:
                yield site.routes.key_of(endpoint, values)
            except RouteError as error:
                named.refused[endpoint] = str(error)
