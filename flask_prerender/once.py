"""What pages of a route have in common, in memory once."""

from __future__ import annotations

import typing as t

# Not by sys.intern, which forgets nothing in some versions: a header may be of one page alone.
_KNOWN: dict[t.Any, t.Any] = {}
_MOST_KNOWN = 10_000


def once(value: t.Any, name: str | None = None) -> t.Any:
    """Return the value that was met before under this name, or as the same text.

    :param name: for values that are no texts: what differs when they do.
    """
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    return _KNOWN.setdefault(value if name is None else (name,), value)
