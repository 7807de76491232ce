"""Pages that differ by a header of the request: the declared headers, as a part of the key.

A variant is written at the end of a key, after a ``#``, which no URL can bring into a key: it is
percent-encoded in paths and in queries.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from itertools import product
from typing import Any
from urllib.parse import parse_qsl
from urllib.parse import quote
from urllib.parse import urlencode

from werkzeug.datastructures import LanguageAccept
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

#: Lower-case names of request headers; each with the values there are, or none for whatever comes.
Vary = Sequence[tuple[str, tuple[str, ...]]]

#: How many values of headers without a list of values one URL is stored for.
MOST_VARIANTS = 16
_REMEMBERED = 10_000
_VALUE_BYTES = 200
#: Lists of words whose case and spaces mean nothing.
_WORDS = frozenset({"accept-charset", "accept-language"})


def variant_of(vary: Vary, environ: Mapping[str, Any]) -> str | None:
    """Return what a request adds to its key, or ``None`` when such a request is never stored."""
    chosen = []
    for name, allowed in vary:
        sent = environ.get(environ_name(name))
        if allowed:
            chosen.append((name, _best(name, sent or "", allowed)))
        elif sent is not None:
            value = _plain(name, sent)
            if len(value) > _VALUE_BYTES or not value.isprintable():
                return None
            chosen.append((name, value))
    return _written(chosen)


def variants_of(vary: Vary) -> Iterator[str]:
    """Yield what each page of a route adds to its key, as far as the values are known."""
    if not vary:
        yield ""
        return
    named = [[(name, value) for value in allowed] for name, allowed in vary if allowed]
    for chosen in product(*named):
        yield _written(list(chosen))


def with_variant(key: str, variant: str) -> str:
    """Return a key with its variant. The query is always there, so that the path ends before it."""
    if not variant:
        return key
    return f"{key}{'' if '?' in key else '?'}#{variant}"


def split_variant(query: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the query of a key as a request has it, and the headers of its variant."""
    query, _, variant = query.partition("#")
    return query, parse_qsl(variant, keep_blank_values=True)


def environ_name(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def _written(chosen: list[tuple[str, str]]) -> str:
    return urlencode(chosen, quote_via=quote)


def _best(name: str, sent: str, allowed: tuple[str, ...]) -> str:
    """Return the value a request wants most; the first one when it wants none of them."""
    if name == "accept-language":
        found = parse_accept_header(sent, LanguageAccept).best_match(allowed)
    elif name == "accept":
        found = parse_accept_header(sent, MIMEAccept).best_match(allowed)
    else:
        found = next((value for value in allowed if value.lower() == sent.strip().lower()), None)
    return found or allowed[0]


def _plain(name: str, sent: str) -> str:
    """Write values that mean the same in one way, where that is sure (RFC 9111, section 4.1)."""
    if '"' in sent:  # what is quoted is not ours to change
        return sent.strip()
    parts = [" ".join(part.split()) for part in sent.split(",")]
    if name in _WORDS:
        parts = ["".join(part.lower().split()) for part in parts]
    return ", ".join(filter(None, parts))


class Admission:
    """Which variants a URL has had, so that clients cannot make up new ones for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, set[str]] = {}

    def admits(self, key: str, variant: str) -> bool:
        """Return whether a variant is one of the first of its URL."""
        with self._lock:
            if len(self._seen) >= _REMEMBERED and key not in self._seen:
                self._seen.clear()
            seen = self._seen.setdefault(key, set())
            if variant not in seen and len(seen) >= MOST_VARIANTS:
                return False
            seen.add(variant)
            return True

    def key(self, key: str, vary: Vary, environ: Mapping[str, Any]) -> str | None:
        """Return the whole key of a request, or ``None`` when it is one variant too many."""
        variant = variant_of(vary, environ)
        is_open = not all(allowed for _, allowed in vary)
        if variant is None or (is_open and not self.admits(key, variant)):
            return None
        return with_variant(key, variant)

    def renew(self) -> None:
        """Begin with a lock of its own in a forked child."""
        self._lock = threading.Lock()
