"""Pages taken back: softly, to be made new while the old one is served, or hard, gone at once.

Whatever the number of pages, one row is written for each path, prefix, endpoint or tag.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from . import signals
from .coordination.base import EVERYTHING
from .errors import RouteError
from .publish import Outcome
from .regenerate import Regenerator
from .render import request_environ
from .revocations import path_tag
from .revocations import prefix_tag
from .site import Site
from .variants import variants_of
from .variants import with_variant

_ASKED_AT_ONCE = 100
_LOOK_SECONDS = 0.05
_TAG_LENGTH = 256


@dataclass(slots=True)
class Taken:
    """What came of taking pages back.

    :ivar affected: paths whose page was stored.
    :ivar unknown: paths of marked routes that have no stored page, and paths of no marked route.
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
    endpoints: Iterable[tuple[str, Mapping[str, Any] | None]] = (),
    tags: Iterable[str] = (),
    everything: bool = False,
) -> Taken:
    """Take pages back, for every process, and return what was affected.

    The caller sees the new state at once, the other processes at their next request.

    :param endpoints: endpoints, each with the arguments of one URL or ``None`` for all of them.
    :raises StoreError: it cannot be written.
    """
    taken = Taken(hard)
    revoked: list[str] = [EVERYTHING] if everything else []
    for path in [*paths, *_built(site, endpoints, revoked, taken)]:
        _add_path(site, path, revoked, taken)
    for prefix in prefixes:
        if prefix.startswith("/") and not prefix.startswith("//"):
            revoked.append(prefix_tag(site.typed_key(prefix) or prefix))
        else:
            taken.refused[prefix] = "a prefix begins with one slash"
    for tag in tags:
        if not tag or len(tag) > _TAG_LENGTH:
            taken.refused[tag] = f"a tag has 1 to {_TAG_LENGTH} characters"
        else:
            revoked.append(tag)
    if revoked:
        taken.tags = list(dict.fromkeys(revoked))
        taken.revision = site.coordination.revoke(taken.tags, hard=hard)
        facts = {"tags": taken.tags, "hard": hard, "revision": taken.revision}
        signals.send(signals.pages_revoked, site.app, **facts)
        site.unstorable.clear()
    return taken


def ask_for(regenerator: Regenerator, taken: Taken) -> None:
    """Have the pages that were named made new without waiting for a visitor."""
    if not taken.hard:
        for path in taken.affected[:_ASKED_AT_ONCE]:
            regenerator.ask(path)


def refresh(
    site: Site, regenerator: Regenerator, paths: Sequence[str], *, wait: float | None = None
) -> list[Outcome]:
    """Render pages now, whatever their age, and return when they are new.

    A page that somebody else is making at this moment is waited for, and then made once more: what
    they began may be older than this call.

    :param wait: seconds for each page; by default ``PRERENDER_TIMEOUT``.
    """
    limit = site.settings.timeout if wait is None else wait
    outcomes = []
    for path in paths:
        keys = _keys(site, path)
        if not keys:
            detail = "no marked route has it"
            outcomes.append(Outcome(path, "", "", "refused", "route", detail))
        outcomes += [_refresh(site, regenerator, key, limit) for key in keys]
    return outcomes


def _keys(site: Site, path: str) -> list[str]:
    """Return the key of a path of a marked route: several where pages differ by a header."""
    key = site.typed_key(path)
    if key is None:
        return []
    try:
        target = site.routes.match(request_environ(site, key), key)
    except Exception:  # from the mark's own tags, which is told when the page is made
        return [key]
    if target is None:
        return []
    return [with_variant(key, variant) for variant in variants_of(target.mark.vary)]


def _refresh(site: Site, regenerator: Regenerator, key: str, limit: float) -> Outcome:
    deadline = time.monotonic() + limit
    while True:
        outcome = regenerator.make_new(key, anyway=True)
        if outcome is not None:
            return outcome
        if time.monotonic() > deadline:
            detail = "somebody else makes it, or it rests after a failure"
            return Outcome(key, "", "", "failed", "wait", detail)
        time.sleep(_LOOK_SECONDS)


def _add_path(site: Site, path: str, revoked: list[str], taken: Taken) -> None:
    key = site.typed_key(path) if path.startswith("/") and not path.startswith("//") else None
    if key is None:
        taken.refused[path] = "it is not a path of this site"
        return
    keys = _keys(site, key)
    stored = [one for one in keys or [key] if site.store.get(one) is not None]
    taken.affected += stored
    if not stored:
        taken.unknown.append(key)
    if stored or keys:
        # What is not stored may be so with a query, or be under way at this moment.
        revoked.append(path_tag(key))


def _built(
    site: Site,
    endpoints: Iterable[tuple[str, Mapping[str, Any] | None]],
    revoked: list[str],
    taken: Taken,
) -> Iterable[str]:
    for endpoint, values in endpoints:
        if endpoint not in site.app.view_functions:
            taken.refused[endpoint] = "there is no such endpoint"
        elif not values:
            revoked.append(f"endpoint:{endpoint}")
        else:
            try:
                yield site.routes.key_of(endpoint, values)
            except RouteError as error:
                taken.refused[endpoint] = str(error)
