"""What the value of a setting must be like.

A check returns the value in its final form, or raises a :exc:`ValueError` that says what is wanted.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from .errors import nearest

Check = Callable[[Any], Any]

#: The levels of each codec: the fastest, and the one that makes the smallest.
LEVELS = {"br": (0, 11), "zstd": (1, 22), "gzip": (1, 9)}


def flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False is wanted")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is wanted")
    return value


def path(value: Any) -> str:
    return text(os.fspath(value) if isinstance(value, os.PathLike) else value)


def any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is wanted")
    return value


def choice(*choices: str) -> Check:
    def check(value: Any) -> str:
        if value not in choices:
            hint = nearest(value, choices) if isinstance(value, str) else ""
            raise ValueError(f"one of {', '.join(map(repr, choices))} is wanted.{hint}")
        return str(value)

    return check


def number(least: float, *, whole: bool = False) -> Check:
    def check(value: Any) -> float | int:
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value < math.inf:
            raise ValueError(f"a {'whole ' if whole else ''}number of at least {least:g} is wanted")
        return value if whole else float(value)

    return check


def seconds(value: Any) -> float | None:
    """Return a span, or ``None`` for no end."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("seconds are wanted, a number of at least 0, or None")
    return float(value)


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def names(value: Any) -> tuple[str, ...]:
    """Return a list of texts as a tuple."""
    every = tuple(value) if isinstance(value, Iterable) else (value,)
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in every):
        raise ValueError("a list of texts is wanted")
    return every


def rules(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise ValueError("a dict of URL pattern to options (or True, or False) is wanted")
    for pattern in value:
        if not pattern.startswith("/"):
            raise ValueError(
                f"the pattern {pattern!r} fits no URL, because paths begin with a slash"
            )
    return dict(value)


def url(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"https?://[^/?#@\s]+(/[^?#\s]*)?\Z", value):
        raise ValueError("a URL such as 'https://example.com' is wanted")
    return value.rstrip("/")


def levels(value: Any) -> dict[str, int]:
    """Return a table of codec and level."""
    if not isinstance(value, Mapping):
        raise ValueError("a dict of codec to level is wanted, such as {'gzip': 6, 'br': 5}")
    for codec, level in value.items():
        if codec not in LEVELS:
            hint = nearest(codec, LEVELS) if isinstance(codec, str) else ""
            known = ", ".join(map(repr, LEVELS))
            raise ValueError(f"there is no codec {codec!r}; one of {known} is wanted.{hint}")
        least, most = LEVELS[codec]
        is_whole = isinstance(level, int) and not isinstance(level, bool)
        if not is_whole or not least <= level <= most:
            raise ValueError(
                f"the level of {codec!r} is {level!r}, and a whole number from {least} to {most} "
                "is wanted"
            )
    return dict(value)


def compress(value: Any) -> bool | dict[str, int]:
    if isinstance(value, bool):
        return value
    try:
        return levels(value)
    except ValueError as error:
        raise ValueError(str(error).replace("a dict", "True, False, or a dict", 1)) from None


def share(value: Any) -> float:
    found = number(0)(value)
    if found >= 1:
        raise ValueError("a number below 1 is wanted")
    return float(found)


def tokens(value: Any) -> tuple[str, ...]:
    every = (value,) if isinstance(value, str) else names(value)
    for token in every:
        if len(token) < 32:
            raise ValueError(
                "a token has 32 characters at least; make one with "
                "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
            )
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError(
                "a token has no spaces, line breaks or letters beyond ASCII: such a one cannot be "
                "sent. Was it read from a file, with the end of the line?"
            )
    return every


def url_path(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"(/[A-Za-z0-9._~-]+)+\Z", value):
        raise ValueError("a URL path such as '/_prerender' is wanted")
    return value


def prewarm(value: Any) -> str | int:
    if value in ("none", "all"):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError("'none', 'all', or a number of pages is wanted")
