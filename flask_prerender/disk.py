"""Files written whole, and errors that name them: what all rooms that keep files share."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

from .errors import StoreError

R = TypeVar("R")
Place = str | os.PathLike[str]

log = logging.getLogger(__name__)

PART = ".part"
_AGAIN_SECONDS = 0.003
#: Another container on the same disk may have a process of our number.
_OURS = secrets.token_hex(8)
_count = count()

#: Flags that do not exist everywhere.
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# A planted FIFO must not make a reader wait for ever.
_READ = os.O_RDONLY | NO_FOLLOW | _BINARY | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | _BINARY


#: What SQLite quotes of a damaged file need not be text.
SQL_ERRORS = (sqlite3.Error, UnicodeDecodeError)


@contextmanager
def failures(verb: str, path: Path) -> Iterator[None]:
    """Turn the system's errors into a :class:`StoreError` that says what could not be done.

    :param path: named when the error itself names no file.
    """
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, type(error).__name__)
        reason = error.strerror or str(error)
        where = error.filename2 or error.filename or path
        raise StoreError(f"cannot {verb} {where}: {reason} ({name})") from error
    except SQL_ERRORS as error:
        raise StoreError(f"cannot {verb} {path}: {error}") from error


def set_aside(path: Path, error: Exception) -> bool:
    """Rename an SQLite file that is damaged, so that a new one is begun, and return whether.

    :param error: what SQLite said; only damage counts, and only what is still damaged goes.
    """
    if not (_is_damage(error) and _is_damaged(path)):
        return False
    try:
        # Its log goes first: beside a new file it would be taken for that file's own.
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        path.replace(path.with_name(f"{path.name}.bad"))
    except OSError:
        return False
    log.warning("%s is damaged (%s). It was renamed to %s.bad.", path, error, path.name)
    return True


def is_busy(error: BaseException) -> bool:
    """Return whether SQLite only says that another process is at it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def patiently(begin: Callable[[], R], seconds: float) -> R:
    """Wait for other processes asleep, holding nothing: SQLite itself would stop all greenlets,
    and it does not wait when several switch to a write-ahead log at once."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return begin()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(_AGAIN_SECONDS)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_damaged(path: Path) -> bool:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except SQL_ERRORS as error:
        return _is_damage(error)
    finally:
        connection.close()


def find_directory(root: Path, *parts: str, known: set[str] | None = None) -> str | None:
    """Return the directory below `root`, or ``None`` when it is absent, a file, or would be
    reached through a symbolic link.

    :param known: directories that were found a moment ago; what is found is added.
    """
    path = str(root)
    known = set() if known is None else known
    for part in parts:
        path = f"{path}/{part}"
        if path in known:
            continue
        try:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return None
        except (FileNotFoundError, NotADirectoryError):
            return None
        known.add(path)
    return path


def make_directory(
    root: Path, *parts: str, known: set[str] | None = None, is_absent: bool = False
) -> str:
    """Return the directory below `root`, made where it is absent.

    `root` itself may be a symbolic link; below it none is followed.

    :param known: directories that were found a moment ago; what is found or made is added.
    :param is_absent: the last one was not there a moment ago.
    :raises OSError: a part of the way is a file or a symbolic link, or cannot be made.
    """
    path = str(root)
    known = set() if known is None else known
    for left, part in zip(range(len(parts), 0, -1), parts, strict=True):
        path = f"{path}/{part}"
        if path in known:
            continue
        if is_absent and left == 1 and _is_made(path):
            known.add(path)
            continue
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            if _is_made(path):
                known.add(path)
                continue
            mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, "symbolic links are not followed here", path)
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
        known.add(path)
    return path


def _is_made(path: str) -> bool:
    """Make a directory, and return whether nobody else was faster."""
    try:
        os.mkdir(path)  # noqa: PTH102
        return True
    except FileNotFoundError:
        Path(path).mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        pass
    return False


def part_name(directory: Path) -> Path:
    """Return a temporary name that says who writes there, so that a sweep knows the dead."""
    return directory / _own_name()


def _own_name() -> str:
    return f"{os.getpid()}-{_OURS}{next(_count):x}{PART}"


@contextmanager
def part_file(directory: Path) -> Iterator[Path]:
    """Yield a temporary name that nobody else has; what still has it at the end is removed."""
    path = part_name(directory)
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def write_new(path: Place, body: bytes, *, durable: bool = False) -> None:
    """Write a file that must not exist yet.

    :param durable: wait until the bytes are on the disk.
    """
    descriptor = os.open(path, _CREATE, 0o666)
    try:
        rest = memoryview(body)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(directory: Place, path: Place, body: bytes, *, durable: bool = False) -> None:
    """Put a file in its place in one step: who reads it sees the old bytes or the new ones.

    :param directory: where the temporary file is written, on the same file system.
    """
    part = f"{directory}/{_own_name()}"
    try:
        write_new(part, body, durable=durable)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            Path(part).unlink()
        raise
    if durable:
        sync_directory(Path(path).parent)


def sync_directory(path: Place) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


#: What differs when a file was changed or replaced: where it is, and when that was, in ns.
Stamp = tuple[int, int, int, int]


def read_whole(path: Place, size: int) -> bytes | None:
    """Return the bytes of a regular file, or ``None`` when it is not one of exactly `size` bytes.

    :raises OSError: the file is absent or cannot be read.
    """
    found = read_stamped(path, size)
    return None if found is None else found[0]


def read_stamped(path: Place, size: int) -> tuple[bytes, Stamp] | None:
    """Do the same as :func:`read_whole`, and return the stamp that the file had afterwards.

    :raises OSError: the file is absent or cannot be read.
    """
    descriptor = os.open(path, _READ)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return None
        chunks = []
        while size > 0 and (chunk := os.read(descriptor, size)):
            chunks.append(chunk)
            size -= len(chunk)
        return None if size else (b"".join(chunks), _stamp(os.fstat(descriptor)))
    finally:
        os.close(descriptor)


def read_again(path: str, size: int, stamp: Stamp) -> bytes | None:
    """Return the bytes of a file that was read before, or ``None`` when it is not the same file any
    more, or cannot be read."""
    try:
        descriptor = os.open(path, _READ)
        try:
            body = os.read(descriptor, size)
            # Afterwards: a change before the bytes were read shows.
            return body if _stamp(os.fstat(descriptor)) == stamp and len(body) == size else None
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns
