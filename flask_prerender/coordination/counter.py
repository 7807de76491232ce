"""A number in mapped memory, seen by all processes of a host at no cost."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

from ..disk import make_directory
from ..disk import NO_FOLLOW
from ..disk import write_whole

_SIZE = 8


class Counter:
    """The mapped copy of a number.

    :param root: the directory whose ``store/revision`` it is.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "store" / "revision"
        self._root = root
        self.forget()

    def forget(self) -> None:
        # A mapping goes when the last thread that reads it has let go of it.
        #: One number, or ``None`` where there is no file.
        self.cell: memoryview | None = None
        self._stamp: tuple[int, ...] = ()

    def look(self) -> None:
        """Notice that the file was made, replaced or removed; never raises."""
        try:
            found = self.path.lstat()
            stamp = (found.st_dev, found.st_ino, found.st_size)
            if stamp == self._stamp and self.cell is not None:
                return
            self.cell = self._map() if found.st_size == _SIZE else None
            self._stamp = stamp
        except (FileNotFoundError, NotADirectoryError):
            self.cell = None
        except (OSError, ValueError):
            pass

    def writable(self, value: int) -> memoryview:
        """Return the cell, made with `value` where there is none."""
        self.look()
        if self.cell is None or self.cell.readonly:
            tmp = make_directory(self._root, "store", "tmp")
            write_whole(tmp, self.path, value.to_bytes(_SIZE, sys.byteorder))
            self.look()
        if self.cell is None:
            raise OSError(None, "it cannot be mapped", str(self.path))
        return self.cell

    def _map(self) -> memoryview:
        flags = NO_FOLLOW | getattr(os, "O_CLOEXEC", 0)
        access = mmap.ACCESS_WRITE
        try:
            descriptor = os.open(self.path, os.O_RDWR | flags)
        except OSError:
            descriptor = os.open(self.path, os.O_RDONLY | flags)
            access = mmap.ACCESS_READ
        try:
            return memoryview(mmap.mmap(descriptor, _SIZE, access=access)).cast("Q")
        finally:
            os.close(descriptor)
