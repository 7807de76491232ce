"""Values kept in memory, bounded in bytes."""

from __future__ import annotations

import threading
import typing as t

#: For what is known of pages whose bodies are read for each request: memory is off, or full.
RECORD_BYTES = 2 * 1024 * 1024


class Kept(t.Protocol):
    """What may be kept: it says how many bytes it takes, and remembers that it was used."""

    used: bool

    @property
    def weight(self) -> int: ...

    def lighten(self) -> bool:
        """Let go of what can be read again from a place that is known, and return whether there is
        such a place."""
        ...


K = t.TypeVar("K", bound=Kept)


class Memory(t.Generic[K]):
    """A dictionary that forgets what was not used lately.

    A hit is one dictionary lookup and takes no lock: the caller sets ``used`` on what it found,
    and whoever makes room later gives such a value a second chance.

    :param limit: bytes that all values together may take. One value may take an eighth of it.
    :param below: where values go, lightened, for which there is no room here.
    """

    def __init__(self, limit: int, below: Memory[K] | None = None) -> None:
        self.limit = limit
        self.weight = 0
        self._below = below
        self._values: dict[str, K] = {}
        self._weights: dict[str, int] = {}
        self._lock = threading.Lock()
        self.get = self._values.get
        #: The same of what is below.
        self.recall: t.Callable[[str], K | None] = (
            (lambda key: None) if below is None else below.get
        )

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: str, value: K) -> bool:
        """Keep a value, or weigh it again, and return whether there was room for it here."""
        weight = value.weight
        with self._lock:
            self._drop(key)
            if weight > self.limit // 8:
                self._hand_down(key, value)
                return False
            while self.weight + weight > self.limit:
                self._make_room()
            self._values[key] = value
            self._weights[key] = weight
            self.weight += weight
        return True

    def drop(self, key: str) -> None:
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._weights.clear()
            self.weight = 0
            if self._below is not None:
                self._below.clear()

    def renew_lock(self) -> None:
        """Take a new lock, in a forked child whose parent may have held the old one."""
        self._lock = threading.Lock()
        if self._below is not None:
            self._below.renew_lock()

    def _drop(self, key: str) -> None:
        if self._values.pop(key, None) is not None:
            self.weight -= self._weights.pop(key)
        if self._below is not None and self.recall(key) is not None:
            self._below.drop(key)

    def _make_room(self) -> None:
        oldest = next(iter(self._values))
        value = self._values[oldest]
        if value.used:
            value.used = False
            # To the end of the order: pop and insert again.
            self._values[oldest] = self._values.pop(oldest)
        else:
            self._drop(oldest)
            self._hand_down(oldest, value)

    def _hand_down(self, key: str, value: K) -> None:
        if self._below is not None and value.lighten():
            self._below.put(key, value)


def _nothing(key: str) -> None:
    return None
