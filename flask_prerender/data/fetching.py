"""A fetch in an empty context, and what a page, or another value, takes over from a value it is
made of: its tags and its life."""

from __future__ import annotations

import contextvars
import inspect
import typing as t
from collections.abc import AsyncIterator
from collections.abc import Awaitable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field

from flask import Flask
from flask import has_request_context
from flask import Request
from flask import request
from flask.sessions import SessionMixin
from werkzeug.local import LocalProxy

from .. import chosen
from ..errors import ConfigError
from ..errors import DataError
from ..page import State
from ..render import current_render
from ..site import Clock
from .contracts import check_seconds
from .contracts import check_tags
from .values import Entry
from .values import Fetched
from .values import own_copy
from .values import Wanted

#: For how long a page is fresh that was made of a stale value: until the fetch that was begun is
#: likely to be over.
STALE_LIFE = 2.0
#: A page made of a value about to be stale would be rendered at every visit.
_SHORTEST_LIFE = 1.0

#: The values being fetched around this one: for each its source and its key.
Chain = tuple[tuple[object, str], ...]


@dataclass(slots=True)
class _Fetching:
    """A fetch under way, and what it takes over from other values it asks for."""

    chain: Chain
    tags: set[str] = field(default_factory=set)
    life: float | None = None
    ends: float | None = None


_fetching: contextvars.ContextVar[_Fetching | None] = contextvars.ContextVar(
    "flask_prerender_fetching", default=None
)


def chain() -> Chain:
    """Return the values being fetched around this call."""
    fetching = _fetching.get()
    return fetching.chain if fetching else ()


def fetch(
    app: Flask | None, label: str, wanted: Wanted, around: Chain, like: Entry, clock: Clock
) -> Entry:
    """Call a function in an empty context: what it gives is kept for everybody, so it sees nothing
    of the visitor who happens to be the first.

    :param like: has the facts that hold where the function says nothing else.
    :raises DataError: what the function is given, reads or returns cannot be used for everybody.
    """
    _check_given(label, wanted.given)
    fetching = _Fetching(around)
    value, tags = contextvars.Context().run(_call, app, label, wanted, fetching)
    ttl, stale_ttl, tags = like.ttl, like.stale_ttl, (*like.tags, *tags)
    if isinstance(value, Fetched):
        ttl = _seconds(label, "ttl", value.ttl, ttl)
        stale_ttl = _seconds(label, "stale_ttl", value.stale_ttl, stale_ttl)
        tags = (*tags, *_tags(label, value.tags))
        value = value.value
    _check_result(label, value)
    now = clock()
    ttl = _shorter(ttl, fetching.life)
    if fetching.ends is not None:
        stale_ttl = _shorter(stale_ttl, max(0.0, fetching.ends - now - (ttl or 0.0)))
    names = dict.fromkeys((*tags, *sorted(fetching.tags)))
    return Entry(own_copy(value), now, ttl, stale_ttl, like.revision, tuple(names))


def hand_on(entry: Entry, state: State, now: float) -> None:
    """Let the page rendered here, and the value fetched here, have the tags of a value and a life
    no longer than its own."""
    left = entry.left(now) if state == "fresh" else STALE_LIFE
    if left is not None:
        left = max(_SHORTEST_LIFE, left)
    ends = entry.ends()
    # A page that has expired already would not be stored.
    _hand_on(entry.tags, left, ends if ends is None else max(ends, now + (left or 0.0)))


def hand_on_failure(tags: Iterable[str], seconds: float) -> None:
    """Let what is made here without a value that could not be had be made again soon."""
    _hand_on(tags, seconds, None)


def _hand_on(tags: Iterable[str], left: float | None, ends: float | None) -> None:
    if has_request_context() and current_render(request.environ) is not None:
        chosen.add_tags(*tags)
        chosen.revalidate_after(left)
        if ends is not None:
            chosen.expires_at(ends)
    fetching = _fetching.get()
    if fetching is not None:
        fetching.tags.update(tags)
        fetching.life = _shorter(fetching.life, left)
        fetching.ends = _shorter(fetching.ends, ends)


def _call(
    app: Flask | None, label: str, wanted: Wanted, fetching: _Fetching
) -> tuple[t.Any, tuple[str, ...]]:
    _fetching.set(fetching)
    with app.app_context() if app else nullcontext():
        try:
            return wanted.fetch(), _tags(label, wanted.tags())
        except RuntimeError as error:
            if "outside of request context" not in str(error):
                raise
            raise DataError(
                f"{label} reads the request or the session while it is fetched. Its value is kept "
                "for everybody, so it is fetched outside of any request: give it what it needs as "
                "arguments."
            ) from error


def _check_given(label: str, given: Iterable[object]) -> None:
    for one in given:
        # The class of a proxy is that of what it stands for.
        if issubclass(type(one), LocalProxy | Request | SessionMixin):
            raise DataError(
                f"{label} is to be fetched with a {type(one).__name__}, and its value is kept for "
                "everybody. Give it texts and numbers taken from there."
            )


def _check_result(label: str, value: object) -> None:
    if isinstance(value, Iterator | AsyncIterator | Awaitable):
        if inspect.iscoroutine(value):
            value.close()
        raise DataError(
            f"{label} returned a {type(value).__name__}, which can be read only once. Return what "
            "is in it, such as a list."
        )


def _seconds(label: str, name: str, value: t.Any, default: float | None) -> float | None:
    try:
        return default if value is ... else check_seconds(label, name, value)
    except ConfigError as error:
        raise DataError(str(error)) from None


def _tags(label: str, tags: Iterable[str]) -> tuple[str, ...]:
    try:
        return check_tags(label, tags)
    except ConfigError as error:
        raise DataError(str(error)) from None


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
