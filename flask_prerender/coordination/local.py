"""A revision that all processes of one host share: a counter in mapped memory."""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..database import Database
from ..disk import failures
from ..disk import make_directory
from ..disk import NO_FOLLOW
from ..disk import write_whole

_SCHEMA = ("CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",)
_SIZE = 8
_LOOK_SECONDS = 1.0
#: A larger number was not counted, it is what a damaged file holds.
_LIMIT = 2**62


class LocalCoordination:
    """The revision of a directory, for the processes of one host.

    The row in ``store/coordination.sqlite3`` is the truth; ``store/revision`` is its mapped copy,
    which costs a process nothing to read.

    :param root: the same directory as the store's.
    :param clock: seconds that never go back.
    :param first: gives the number from which a new counter counts. Where it is more than any
        counter reached before, pages that a process still has of a directory that was deleted are
        never taken for current ones.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        first: Callable[[], int] = lambda: 0,
    ) -> None:
        self._root = Path(root).absolute()
        self._path = self._root / "store" / "revision"
        self._clock = clock
        self._first = first
        self._database = Database(self._root, "store/coordination.sqlite3", _SCHEMA)
        self._forget()

    def _forget(self) -> None:
        self._counter: memoryview | None = None
        self._stamp: tuple[int, ...] = ()
        self._look_at = float("-inf")

    def revision(self) -> int:
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            self._look()
        counter = self._counter
        return 0 if counter is None else int(counter[0])

    def advance(self) -> int:
        with failures("write", self._path), self._database.write() as connection:
            found = connection.execute("SELECT value FROM counters WHERE name = 'revision'")
            row = found.fetchone() or (self._first(),)
            counter = self._writable(row[0])
            # Either may be behind: the file was made anew, or a writer died before its commit.
            seen = int(counter[0])
            value = max(row[0], seen if seen < _LIMIT else 0) + 1
            connection.execute(
                "INSERT OR REPLACE INTO counters (name, value) VALUES ('revision', ?)", (value,)
            )
            # Within the transaction, or a slower writer would put the counter back.
            counter[0] = value
        return value

    def reopen(self) -> None:
        self.close()

    def close(self) -> None:
        # A mapping goes when the last thread that reads it has let go of it.
        self._forget()
        self._database.close()

    def _look(self) -> None:
        """Notice that the file was made, replaced or removed; never raises."""
        try:
            found = self._path.lstat()
            stamp = (found.st_dev, found.st_ino, found.st_size)
            if stamp == self._stamp and self._counter is not None:
                return
            self._counter = self._map() if found.st_size == _SIZE else None
            self._stamp = stamp
        except (FileNotFoundError, NotADirectoryError):
            self._counter = None
        except (OSError, ValueError):
            pass

    def _map(self) -> memoryview:
        flags = NO_FOLLOW | getattr(os, "O_CLOEXEC", 0)
        access = mmap.ACCESS_WRITE
        try:
            descriptor = os.open(self._path, os.O_RDWR | flags)
        except OSError:
            descriptor = os.open(self._path, os.O_RDONLY | flags)
            access = mmap.ACCESS_READ
        try:
            return memoryview(mmap.mmap(descriptor, _SIZE, access=access)).cast("Q")
        finally:
            os.close(descriptor)

    def _writable(self, value: int) -> memoryview:
        """Return the mapped counter, made from the row's value where there is none."""
        self._look()
        if self._counter is None or self._counter.readonly:
            tmp = make_directory(self._root, "store", "tmp")
            write_whole(tmp, self._path, value.to_bytes(_SIZE, sys.byteorder))
            self._look()
        if self._counter is None:
            raise OSError(None, "it cannot be mapped", str(self._path))
        return self._counter
