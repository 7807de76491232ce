"""A fetched value and its freshness, and the memory of a process, where values are kept."""

from __future__ import annotations

import threading
import typing as t
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from types import EllipsisType

from ..page import State

V = t.TypeVar("V")

_CONTAINERS = frozenset({dict, list, tuple, set, bytearray})


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

    def ends(self) -> float | None:
        """Return when the value will have expired; ``None`` for never."""
        if self.ttl is None or self.stale_ttl is None:
            return None
        return self.fetched_at + self.ttl + self.stale_ttl


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of the calls of one function in this process, for one app.

    :ivar fresh: served without a fetch.
    :ivar stale: met a stale value, which is fetched behind the caller.
    :ivar fetched: fetches that gave a value, in a request and behind one.
    :ivar failed: fetches that raised.
    :ivar shared: callers that waited for the fetch of another one.
    :ivar evicted: values that made room for others.
    :ivar values: values kept now.
    """

    fresh: int
    stale: int
    fetched: int
    failed: int
    shared: int
    evicted: int
    values: int


@dataclass(slots=True)
class Wanted:
    """One call: which value, how it is fetched, and the tags it will have.

    :ivar given: what the fetch is given, which must be nothing of a request.
    """

    key: str
    fetch: Callable[[], t.Any]
    tags: Callable[[], Iterable[str]]
    given: tuple[object, ...] = ()


def own_copy(value: t.Any, known: dict[int, t.Any] | None = None) -> t.Any:
    """Return a value whose dicts, lists, sets and bytearrays, at any depth, are the caller's own.

    A visitor's view may change what it is given, and nobody else is to see that. Objects of other
    classes are handed on as they are: only their class knows what a copy of them is.
    """
    kind = type(value)
    if kind not in _CONTAINERS:
        return value
    known = {} if known is None else known
    made = known.get(id(value))
    if made is not None:
        return made
    if kind is dict:
        made = known[id(value)] = value.copy()
        for name, item in value.items():
            if type(item) in _CONTAINERS:
                made[name] = own_copy(item, known)
        return made
    if kind is list:
        made = known[id(value)] = value.copy()
        for number, item in enumerate(value):
            if type(item) in _CONTAINERS:
                made[number] = own_copy(item, known)
        return made
    if kind is tuple:
        made = tuple(own_copy(one, known) for one in value)
        return value if all(map(_is, made, value)) else made
    return kind(value)


def _is(one: object, other: object) -> bool:
    return one is other


class Place(t.Protocol):
    """Where the values of one function are kept.

    :ivar is_shared: whether other processes may have the same values.
    """

    is_shared: bool

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
    """Values of this process."""

    is_shared = False

    def put(self, key: str, entry: Entry) -> Entry:
        self.add(key, entry)
        return entry
