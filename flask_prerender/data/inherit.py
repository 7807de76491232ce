"""What a page, or another value, takes over from a value it is made of: its tags and its life."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from dataclasses import field

from flask import has_request_context
from flask import request

from .. import chosen
from ..page import State
from ..render import current_render
from .values import Entry

#: For how long a page is fresh that was made of a stale value: until the fetch that was begun is
#: likely to be over.
STALE_LIFE = 2.0
#: A page made of a value about to be stale would be rendered at every visit.
_SHORTEST_LIFE = 1.0

#: The values being fetched around this one: for each its shelf and its key.
Chain = tuple[tuple[object, str], ...]


@dataclass(slots=True)
class Fetching:
    """A fetch under way, and what it takes over from other values it asks for."""

    chain: Chain
    tags: set[str] = field(default_factory=set)
    life: float | None = None

    def begin(self) -> None:
        """Be the fetch of this context."""
        _fetching.set(self)


_fetching: contextvars.ContextVar[Fetching | None] = contextvars.ContextVar(
    "flask_prerender_fetching", default=None
)


def chain() -> Chain:
    """Return the values being fetched around this call."""
    fetching = _fetching.get()
    return fetching.chain if fetching else ()


def hand_on(entry: Entry, state: State, now: float) -> None:
    """Let the page rendered here, and the value fetched here, have the tags of a value and a life
    no longer than its own."""
    in_render = has_request_context() and current_render(request.environ) is not None
    fetching = _fetching.get()
    if not in_render and fetching is None:
        return
    left = entry.left(now) if state == "fresh" else STALE_LIFE
    if left is not None:
        left = max(_SHORTEST_LIFE, left)
    chosen.add_tags(*entry.tags)
    chosen.revalidate_after(left)
    if fetching is not None:
        fetching.tags.update(entry.tags)
        if left is not None:
            fetching.life = left if fetching.life is None else min(left, fetching.life)
