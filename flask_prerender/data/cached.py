"""Values in a cachelib cache, as bytes that are checked when they are read."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import typing as t
from collections.abc import Callable
from dataclasses import replace

from cachelib import BaseCache
from cachelib import SimpleCache

from ..errors import DataError
from .values import Entry
from .values import InMemory
from .values import Recent

log = logging.getLogger("flask_prerender")

Dumps = Callable[[t.Any], str | bytes]
Loads = Callable[[bytes], t.Any]

_TEN_YEARS = 10 * 365 * 86400
_MAGIC = b"flask-prerender data 1 "
_FACTS = ("fetched_at", "ttl", "stale_ttl", "revision", "tags")


class InCache:
    """Values in a cachelib cache, which other processes may share.

    What it cannot take or give, because it is down or full, is kept in memory meanwhile.

    :param name: stands before each key in the cache.
    :param limit: how many values this process leaves there.
    """

    def __init__(
        self,
        cache: BaseCache,
        name: str,
        limit: int,
        dumps: Dumps | None = None,
        loads: Loads | None = None,
    ) -> None:
        self._cache = cache
        self.is_shared = not isinstance(cache, SimpleCache)
        self._name = name
        self._dumps = dumps or json.dumps
        self._has_own_form = dumps is not None
        self._loads = loads or json.loads
        self._known: Recent[bool] = Recent(limit)
        self._meanwhile = InMemory(limit)
        self._ill: set[str] = set()

    @property
    def evicted(self) -> int:
        return self._known.evicted

    def __len__(self) -> int:
        return len(self._known)

    def renew_lock(self) -> None:
        self._known.renew_lock()
        self._meanwhile.renew_lock()

    def get(self, key: str) -> Entry | None:
        raw = self._try("read", self._cache.get, self._place(key))
        if not isinstance(raw, bytes):
            return self._meanwhile.get(key)
        try:
            entry = self._read(key, raw)
        except Exception as error:
            what, kind = self._label(key), type(self._cache).__name__
            log.warning("what the %s has for %s is not a value: %s", kind, what, error)
            self.drop(key)
            return None
        self._touch(key)
        return entry

    def put(self, key: str, entry: Entry) -> Entry:
        raw = self._write(key, entry)
        try:
            kept = self._read(key, raw)
        except Exception as error:
            raise DataError(
                f"{self._name}: loads= cannot read what dumps= wrote: {error!r}"
            ) from error
        done = self._try("write", self._cache.set, self._place(key), raw, _timeout(entry))
        if done is False or "read" in self._ill:
            self._meanwhile.put(key, kept)
        else:
            self._meanwhile.drop(key)
            self._touch(key)
        return kept

    def drop(self, key: str) -> None:
        self._meanwhile.drop(key)
        self._known.drop(key)
        self._try("write", self._cache.delete, self._place(key))

    def clear(self) -> None:
        for key in self._known.names():
            self.drop(key)
        self._meanwhile.clear()

    def _touch(self, key: str) -> None:
        for gone in self._known.add(key, True):
            self._try("write", self._cache.delete, self._place(gone))

    def _try(self, verb: str, act: Callable[..., t.Any], *values: object) -> t.Any:
        """Ask the cache, and say once when it begins to fail and when it is well again."""
        kind = type(self._cache).__name__
        try:
            done = act(*values)
        except Exception as error:
            if verb not in self._ill:
                log.warning("%s: the %s cannot %s: %r", self._name, kind, verb, error)
            self._ill.add(verb)
            return False
        if verb in self._ill and done is not False:
            log.info("%s: the %s can %s again", self._name, kind, verb)
            self._ill.discard(verb)
        return done

    def _label(self, key: str) -> str:
        return f"{self._name}({key})"

    def _place(self, key: str) -> str:
        # Some caches take 250 plain characters and no more.
        return f"flask-prerender:{hashlib.sha256(self._label(key).encode()).hexdigest()}"

    def _write(self, key: str, entry: Entry) -> bytes:
        try:
            body = self._dumps(entry.value)
        except (TypeError, ValueError, RecursionError) as error:
            if self._has_own_form:
                raise
            raise DataError(
                f"{self._name} returned a {type(entry.value).__name__} that cannot be written as "
                f"JSON ({error}). In a cachelib cache a value is kept as JSON: return dicts, "
                "lists, texts, numbers, booleans and None, or give dumps= and loads=."
            ) from error
        facts = {name: getattr(entry, name) for name in _FACTS}
        head = json.dumps({"of": self._label(key), **facts}).encode()
        rest = head + b"\n" + (body.encode() if isinstance(body, str) else body)
        return _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest

    def _read(self, key: str, raw: bytes) -> Entry:
        """
        :raises ValueError: these are not the bytes of this value.
        """
        first, _, rest = raw.partition(b"\n")
        if first != _MAGIC + hashlib.sha256(rest).hexdigest().encode():
            raise ValueError("its checksum, or its version, is another")
        head, _, body = rest.partition(b"\n")
        facts = json.loads(head)
        if facts.pop("of") != self._label(key):
            raise ValueError("it is the value of another key")
        entry = Entry(value=self._loads(body), **facts)
        return replace(entry, tags=tuple(entry.tags))


def _timeout(entry: Entry) -> int:
    """Return for how long the cache must keep a value: its whole life, whatever its default is."""
    if entry.ttl is None or entry.stale_ttl is None:
        return 0
    return min(_TEN_YEARS, math.ceil(entry.ttl + entry.stale_ttl) + 1)
