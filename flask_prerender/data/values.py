"""A fetched value and its freshness, and where values are kept: in the memory of a process."""

from __future__ import annotations

import threading
import typing as t
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType

from ..page import State

V = t.TypeVar("V")


@dataclass(frozen=True, slots=True)
class Fetched(t.Generic[V]):
    """A value with a life of its own, returned by a function in place of the value.

    :param ttl: seconds for which it is fresh, ``None`` for ever.
    :param stale_ttl: seconds for which it is served after that, ``None`` for ever.
    :param tags: tags known only now, beside those of the function.
    """

    value: V
    ttl: float | EllipsisType | None = ...
    stale_ttl: float | EllipsisType | None = ...
    tags: Iterable[str] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and its facts.

    :ivar revision: the revision that stood when its fetch began.
    """

    value: t.Any
    fetched_at: float
    ttl: float | None
    stale_ttl: float | None
    revision: int
    tags: tuple[str, ...] = ()

    def state(self, now: float) -> State:
        """Return how old the value is. One from the future has met a clock that was set: stale."""
        age = now - self.fetched_at
        if self.ttl is None or 0 <= age < self.ttl:
            return "fresh"
        if age < 0 or self.stale_ttl is None or age < self.ttl + self.stale_ttl:
            return "stale"
        return "expired"

    def left(self, now: float) -> float | None:
        """Return for how many seconds the value is still fresh; ``None`` for ever."""
        return None if self.ttl is None else self.ttl - (now - self.fetched_at)


class Place(t.Protocol):
    """Where the values of one function are kept."""

    @property
    def evicted(self) -> int: ...

    def __len__(self) -> int: ...

    def get(self, key: str) -> Entry | None: ...

    def put(self, key: str, entry: Entry) -> Entry:
        """Keep a value, and return it as it will be read again.

        :raises DataError: such a value cannot be kept here.
        """
        ...

    def drop(self, key: str) -> None: ...

    def clear(self) -> None: ...

    def renew_lock(self) -> None: ...


class Recent(t.Generic[V]):
    """A dictionary that forgets what was not used lately, bounded in number."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: OrderedDict[str, V] = OrderedDict()
        self.evicted = 0
        self.renew_lock()

    def __len__(self) -> int:
        return len(self._items)

    def renew_lock(self) -> None:
        self._lock = threading.Lock()

    def get(self, key: str) -> V | None:
        with self._lock:
            item = self._items.get(key)
            if item is not None:
                self._items.move_to_end(key)
            return item

    def add(self, key: str, item: V) -> list[str]:
        """Keep an item, and return the keys that had to make room."""
        with self._lock:
            self._items[key] = item
            self._items.move_to_end(key)
            gone = []
            while len(self._items) > self._limit:
                gone.append(self._items.popitem(last=False)[0])
            self.evicted += len(gone)
            return gone

    def names(self) -> list[str]:
        with self._lock:
            return list(self._items)

    def drop(self, key: str) -> None:
        with self._lock:
            self._items.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._items.clear()


class InMemory(Recent[Entry]):
    """Values of this process, the objects themselves."""

    def put(self, key: str, entry: Entry) -> Entry:
        self.add(key, entry)
        return entry
