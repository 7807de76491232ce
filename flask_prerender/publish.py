"""One page rendered, judged, compressed, stored, announced: the one way a page comes to be."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace

from . import signals
from .budgets import make_room
from .errors import BudgetError
from .errors import CollisionError
from .errors import FencedError
from .errors import StoreError
from .gate import is_failure
from .gate import judge
from .gate import Verdict
from .making import Judged
from .making import Made
from .page import mimetype_of
from .page import Page
from .paths import file_for
from .render import last_frame
from .render import Render
from .routes import Target
from .site import Site
from .storing import adopt
from .storing import store
from .storing import store_all
from .storing import take_away
from .validators import render_again

Result = t.Literal["published", "unchanged", "removed", "refused", "failed"]

#: What a page that is gone answers, or one that has moved for good.
_GONE = frozenset({301, 308, 404, 410})
#: Where it was only a visitor who asked for the page, a guard may have appeared before it as well.
_GONE_UNLISTED = _GONE | {302, 303, 307}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one URL.

    :ivar result: ``published`` (stored, new or changed), ``unchanged`` (the same bytes as before),
        ``removed`` (a visitor's page that is gone now, or made room for one that is listed),
        ``refused`` (by the gate: `reason` says why), ``failed`` (the view, or the store).
    :ivar where: for a failure, the last frame in the app's own code.
    """

    key: str
    endpoint: str
    rule: str
    result: Result
    reason: str = ""
    detail: str = ""
    where: str = ""
    duration: float = 0.0
    page: Page | None = None
    #: Whether the page that was stored before was taken away.
    was_removed: bool = False
    revalidate: float | None = None
    #: In respect mode, what a first visit got that was not stored.
    response: Render | None = None

    @property
    def is_stored(self) -> bool:
        return self.page is not None


def publish(
    site: Site,
    target: Target,
    *,
    origin: str,
    build: int = 0,
    announce: bool = True,
    token: int | None = None,
) -> Outcome:
    """Make one page, and store it if it may be.

    Whatever goes wrong, what was stored before is still whole afterwards. What takes a page away is
    a view that now says ``private`` or ``no-store``, and, except in a build, one that says the page
    is gone (404, 410) or has moved for good (301, 308).

    :param origin: ``"build"``, ``"visit"``, or ``"regenerate"``.
    :param token: the claim under which it is made; without one, the newest given out.
    :param announce: tell other processes at once. A build tells them of many pages together.
    """
    judged = look(site, target, origin=origin, build=build, token=token)
    return complete(site, judged, announce=announce)


def look(
    site: Site, target: Target, *, origin: str, build: int, token: int | None = None
) -> Judged:
    """Render and judge one page, and write nothing."""
    revision = site.coordination.revision()
    if token is None:
        token = site.coordination.token()
    done = render_again(site, target, revision)
    verdict = _judge(site, target, done)
    where = "" if verdict else last_frame(site, done)
    return Judged(target, done, origin, build, token, site.clock(), verdict, where)


def complete(site: Site, judged: Judged, *, announce: bool) -> Outcome:
    """Store a page that was judged, or say why not."""
    if not judged.verdict:
        return turn_down(site, judged, judged.verdict)
    try:
        made = store(site, judged)
        page = made.page
        has_room_made = make_room(site, judged.target.mark, page)
        is_news = not (made.is_same and page.revalidate is None and page.expire is None)
        if not site.is_read_only and (has_room_made or (announce and is_news)):
            site.coordination.advance()
    except StoreError as error:
        return _not_stored(site, judged, error)
    return _published(site, made)


def prepare(
    site: Site, target: Target, *, origin: str, build: int, token: int | None = None
) -> Judged | Outcome:
    """Render and judge one page as :func:`publish` does, and leave it to the caller to store it; or
    return what became of it instead."""
    judged = look(site, target, origin=origin, build=build, token=token)
    return judged if judged.verdict else turn_down(site, judged, judged.verdict)


def store_together(site: Site, batch: Sequence[Judged]) -> list[Outcome]:
    """Store pages that a build prepared, and return what became of each."""
    results = zip(batch, store_all(site, batch), strict=True)
    return [
        _published(site, result) if isinstance(result, Made) else _store_alone(site, judged)
        for judged, result in results
    ]


def _store_alone(site: Site, judged: Judged) -> Outcome:
    """Store what could not be stored with others: alone, a page may make room for itself."""
    try:
        return _published(site, store(site, judged))
    except StoreError as error:
        return _not_stored(site, judged, error)


def _published(site: Site, made: Made) -> Outcome:
    page, target, done = made.page, made.judged.target, made.judged.done
    facts = {"key": page.key, "page": page, "changed": not made.is_same, "duration": done.duration}
    signals.send(signals.page_published, site.app, **facts)
    return _outcome(target, done, "unchanged" if made.is_same else "published", page=page)


def _not_stored(site: Site, judged: Judged, error: StoreError) -> Outcome:
    """Return what became of a page that the store did not take."""
    target, done, origin = judged.target, judged.done, judged.origin
    if isinstance(error, FencedError) and origin == "build":
        # A visitor had it made while the build rendered it.
        return _outcome(target, done, "unchanged", page=adopt(site, target.key, judged.build))
    if isinstance(error, CollisionError):
        verdict = Verdict("collision", _collision(site, error))
        if target.is_visited:
            return _outcome(target, done, "removed", verdict)
    elif isinstance(error, FencedError):
        verdict = Verdict("fenced", str(error))
    elif isinstance(error, BudgetError):
        verdict = Verdict("budget", str(error))
    else:
        verdict = Verdict("store", str(error))
    return turn_down(site, judged, verdict)


def _collision(site: Site, error: CollisionError) -> str:
    try:
        owner = site.store.get(error.owner)
    except StoreError:
        owner = None
    route = f" {owner.key} is of the route {owner.rule} ({owner.endpoint})." if owner else ""
    return f"{error}{route}"


def _judge(site: Site, target: Target, done: Render) -> Verdict:
    verdict = judge(site, done, target.mark)
    if verdict and done.endpoint and done.endpoint != target.endpoint:
        return Verdict(
            "mismatch",
            f"listed for {target.endpoint}, but answered by {done.endpoint} ({done.rule})",
        )
    if verdict and file_for(target.key, mimetype_of(done.headers), site.style) is None:
        return Verdict("path", "the file name of this URL would be too long")
    if verdict and done.expires_at is not None and done.expires_at <= site.clock():
        return Verdict("expired", "the view says that it has expired already")
    return verdict


def turn_down(site: Site, judged: Judged, verdict: Verdict) -> Outcome:
    """Say that a page is not stored, and take away the one before it where there is none now."""
    target, done, origin = judged.target, judged.done, judged.origin
    removed = False
    if target.is_visited and verdict.reason == "status" and done.status in _GONE_UNLISTED:
        take_away(site, target.key, str(done.status))
        return _outcome(target, done, "removed", verdict)
    if _says_gone(done, verdict, origin):
        removed = take_away(site, target.key, verdict.reason)
    failed = is_failure(verdict) or verdict.reason in ("store", "collision")
    signals.send(
        signals.page_refused,
        site.app,
        key=target.key,
        reason=verdict.reason,
        detail=verdict.detail,
    )
    result: Result = "failed" if failed else "refused"
    outcome = _outcome(target, done, result, verdict, judged.where)
    response = done if target.mark.respects and origin == "visit" else None
    return replace(outcome, was_removed=removed, response=response)


def _says_gone(done: Render, verdict: Verdict, origin: str) -> bool:
    """Whether there is no such page for everybody any more: the view says so, or it outgrew the
    room that there is for it."""
    if verdict.reason in ("private", "no-store", "freshness", "budget"):
        return True
    return verdict.reason == "status" and done.status in _GONE and origin != "build"


def _outcome(
    target: Target,
    done: Render,
    result: Result,
    verdict: Verdict | None = None,
    where: str = "",
    page: Page | None = None,
) -> Outcome:
    reason, detail = ("", "") if verdict is None else (verdict.reason, verdict.detail)
    return Outcome(
        target.key, target.endpoint, target.rule, result, reason, detail, where, done.duration,
        page, revalidate=target.mark.revalidate,
    )  # fmt: skip
