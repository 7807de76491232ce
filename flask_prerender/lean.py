"""What pages have in common, kept once: thousands of them are in memory at a time."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any
from typing import TypeVar

from .page import Page
from .page import Variant

T = TypeVar("T", bound=tuple[Any, ...])

#: So many things are kept: most sites need a few dozen.
_SHARED = 4096

_shared: dict[tuple[Any, ...], tuple[Any, ...]] = {}
_options: dict[str, dict[str, Any]] = {}


def share(value: T) -> T:
    """Return an equal tuple that others have as well."""
    if len(_shared) >= _SHARED:
        _shared.clear()
    return _shared.setdefault(value, value)  # type: ignore[return-value]


def lean(page: Page) -> Page:
    """Return a page as serving needs it, without what only the store and those who take pages back
    ask for, and with all that it has in common with others."""
    return replace(
        page,
        rule=sys.intern(page.rule),
        endpoint=sys.intern(page.endpoint),
        origin=sys.intern(page.origin),
        headers=share(tuple(map(share, page.headers))),
        variants=tuple(Variant(sys.intern(v.encoding), v.digest, v.size) for v in page.variants),
        options=_same_options(page),
        file="", tags=(), templates=(), compressors="",
    )  # fmt: skip


def _same_options(page: Page) -> dict[str, Any]:
    known = _options.get(page.rule)
    if known is None or known != page.options:
        if len(_options) >= _SHARED:
            _options.clear()
        known = _options[page.rule] = page.options
    return known
