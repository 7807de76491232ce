"""One SQLite file, shared by the threads of a process and by processes that fork."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Any

from .disk import failures
from .disk import is_busy
from .disk import make_directory
from .disk import patiently
from .disk import set_aside
from .disk import SQL_ERRORS
from .errors import StoreError

_BUSY_SECONDS = 5.0
#: A reader of a write-ahead log waits for nobody; if it has to, a visitor waits with it.
_READ_SECONDS = 0.2
_FORK_SECONDS = 1.0

_databases: weakref.WeakSet[Database] = weakref.WeakSet()
#: Connections of a parent process. SQLite's locks belong to a process, so a child that closed
#: them would take locks away from its own; they are kept for ever instead.
_inherited: list[sqlite3.Connection | None] = []


class Database:
    """A connection that reads and one that writes, each opened at its first use.

    Reading creates nothing: a file that does not exist has no rows. One that is damaged is renamed.

    :param root: what may be a symbolic link; nothing below it may.
    :param name: the file below `root`, with forward slashes.
    :param schema: statements that make the tables, run once.
    :param version: the format; files of another one are refused.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        schema: Sequence[str],
        *,
        version: int = 1,
        durable: bool = False,
    ) -> None:
        self.path = root / name
        self._root = root
        self._parts = name.split("/")[:-1]
        self._schema = schema
        self._version = version
        self._synchronous = "FULL" if durable else "NORMAL"
        self._renew()
        _databases.add(self)

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._held: list[threading.Lock] = []
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._read_stamp: tuple[object, ...] = ()
        self._write_stamp: tuple[object, ...] = ()
        #: Whether the reader was opened as a file that never changes: a read-only directory.
        self._frozen = False

    def read(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query.

        :raises StoreError: the file cannot be read, or is of a newer format.
        """
        self._leave_inherited()
        with self._read_lock, failures("read", self.path):
            try:
                reader = self._current_reader()
                return [] if reader is None else reader.execute(sql, parameters).fetchall()
            except SQL_ERRORS as error:
                self._close_reader()
                if set_aside(self.path, error):
                    return []
                raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction that no other writer, in any process, runs beside.

        :raises StoreError: the file cannot be written; nothing of the transaction remains.
        """
        self._leave_inherited()
        with failures("write", self.path):
            lock, writer = patiently(self._begin, _BUSY_SECONDS)
            try:
                yield writer
                writer.execute("COMMIT")
            except BaseException as error:
                with suppress(sqlite3.Error):
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                self._mistrust(error)
                raise
            finally:
                lock.release()

    def _begin(self) -> tuple[threading.Lock, sqlite3.Connection]:
        lock = self._write_lock
        lock.acquire()
        try:
            writer = self._current_writer()
            writer.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._mistrust(error)
            lock.release()
            raise
        return lock, writer

    def _mistrust(self, error: BaseException) -> None:
        # A connection that met a full or failing disk may stay of that opinion.
        if isinstance(error, SQL_ERRORS) and not is_busy(error):
            self._close_writer()
            set_aside(self.path, error)

    def close(self) -> None:
        """Close both connections; the next use opens them again."""
        self._leave_inherited()
        with self._write_lock, self._read_lock:
            self._close_both()

    def _close_both(self) -> None:
        # The writer last: it takes the write-ahead log into the file, which a reader cannot.
        self._close_reader()
        self._close_writer()

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        _close(reader)

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        _close(writer)

    def _current_reader(self) -> sqlite3.Connection | None:
        stamp = self._stamp(self._frozen)
        if self._reader is not None and stamp == self._read_stamp:
            return self._reader
        self._close_reader()
        if stamp:
            self._frozen = False
            self._read_stamp = self._stamp(frozen=False)
            self._reader = self._open_reader()
        return self._reader

    def _stamp(self, frozen: bool) -> tuple[object, ...]:
        """Return what differs when the file was replaced, or ``()`` when there is none."""
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return ()
        if not frozen:
            return found.st_dev, found.st_ino
        log = self.path.with_name(f"{self.path.name}-wal")
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, log.exists()

    def _open_reader(self) -> sqlite3.Connection | None:
        address = self.path.as_uri()
        try:
            return self._ready(_connect(f"{address}?mode=ro"))
        except sqlite3.OperationalError:
            # A read-only directory has no room for the shared memory of a write-ahead log.
            if _is_writable(self.path.parent):
                raise
            stamp = self._stamp(frozen=True)
            reader = self._ready(_connect(f"{address}?immutable=1"))
            self._frozen, self._read_stamp = True, stamp
            return reader

    def _ready(self, reader: sqlite3.Connection) -> sqlite3.Connection | None:
        try:
            if self._format(reader):
                return reader
        except BaseException:
            reader.close()
            raise
        reader.close()
        return None

    def _current_writer(self) -> sqlite3.Connection:
        stamp = self._stamp(frozen=False)
        if self._writer is not None and stamp == self._write_stamp:
            return self._writer
        self._close_writer()
        make_directory(self._root, *self._parts)
        if self.path.is_symlink():
            raise OSError(errno.ELOOP, "symbolic links are not followed here", str(self.path))
        try:
            self._writer = self._open_writer()
        except SQL_ERRORS as error:
            if not set_aside(self.path, error):
                raise
            self._writer = self._open_writer()
        return self._writer

    def _open_writer(self) -> sqlite3.Connection:
        writer = _connect(f"{self.path.as_uri()}?mode=rwc", 0.0)
        try:
            self._prepare(writer)
            self._write_stamp = self._stamp(frozen=False)
        except BaseException:
            writer.close()
            raise
        return writer

    def _prepare(self, writer: sqlite3.Connection) -> None:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute(f"PRAGMA synchronous={self._synchronous}")
        if self._format(writer):
            return
        writer.execute("BEGIN IMMEDIATE")
        # Another process may have made the tables while we waited.
        if not self._format(writer):
            for statement in self._schema:
                writer.execute(statement)
            writer.execute(f"PRAGMA user_version={self._version}")
        writer.execute("COMMIT")

    def _format(self, connection: sqlite3.Connection) -> int:
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found not in (0, self._version):
            age = "a newer" if found > self._version else "an earlier"
            raise StoreError(
                f"{self.path} was written by {age} Flask-Prerender (its format is {found}, this "
                f"version knows {self._version}). Use that one, or remove {self._root} and build "
                "the pages again."
            )
        return found

    def _leave_inherited(self) -> None:
        if self._pid != os.getpid():
            _inherited.extend((self._reader, self._writer))
            self._renew()

    def before_fork(self) -> None:
        """Close the connections and hold the locks, so that a child inherits neither."""
        for lock in (self._write_lock, self._read_lock):
            if not lock.acquire(timeout=_FORK_SECONDS):
                return
            self._held.append(lock)
        self._close_both()

    def after_fork_in_parent(self) -> None:
        """Release what :meth:`before_fork` held."""
        while self._held:
            self._held.pop().release()

    def after_fork_in_child(self) -> None:
        """Begin anew, with locks that nobody holds."""
        _inherited.extend((self._reader, self._writer))
        self._renew()


def _connect(address: str, seconds: float = _READ_SECONDS) -> sqlite3.Connection:
    return sqlite3.connect(
        address, uri=True, timeout=seconds, isolation_level=None, check_same_thread=False
    )


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()


def _is_writable(directory: Path) -> bool:
    ours = os.access in os.supports_effective_ids
    return os.access(directory, os.W_OK, effective_ids=ours)


def _each(step: str) -> None:
    for database in list(_databases):
        getattr(database, step)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _each("before_fork"),
        after_in_parent=lambda: _each("after_fork_in_parent"),
        after_in_child=lambda: _each("after_fork_in_child"),
    )
