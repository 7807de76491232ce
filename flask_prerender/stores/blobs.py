"""Bodies named by the digest of their bytes, written once and never changed."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..disk import make_directory
from ..disk import PART
from ..disk import read_again
from ..disk import read_stamped
from ..disk import read_whole
from ..disk import Stamp
from ..disk import sync_directory
from ..disk import write_whole
from ..page import digest as digest_of
from ..page import Variant

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_SHARD = re.compile(r"[0-9a-f]{2}\Z")
_PART = re.compile(rf"([0-9]+)-[0-9a-f]+{re.escape(PART)}\Z")
_WARNED = 1000
_CHECKED = 4096
_SETTLED_NS = 2_000_000_000


class Blobs:
    """The files below ``store/blobs``, and the temporary ones that become them."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self._root = root
        self._durable = durable
        self._blobs = root / "store" / "blobs"
        #: As text: joining paths of every body costs more than some of what is done with them.
        self._start = f"{self._blobs}{os.sep}"
        self._tmp = root / "store" / "tmp"
        self._warned: set[str] = set()
        self._known: set[str] = set()
        #: Digests that the bytes of a file were found to have, and the file's stamp then.
        self._checked: dict[str, Stamp] = {}

    def path(self, digest: str) -> str:
        return f"{self._start}{digest[:2]}{os.sep}{digest}"

    def tmp(self) -> str:
        """Return the directory for temporary files."""
        return make_directory(self._root, "store", "tmp")

    def holds(self, variant: Variant) -> bool:
        """Return whether a blob of this digest and size is stored; its bytes are not read."""
        if not _DIGEST.match(variant.digest):
            return False
        try:
            found = os.lstat(self.path(variant.digest))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == variant.size

    def write(self, digest: str, body: bytes) -> None:
        """Store `body`; a blob that has these bytes already is not touched."""
        path = self.path(digest)
        # Asked before it is opened: what is absent is the common case, and an exception dear.
        with suppress(OSError):
            if os.access(path, os.F_OK) and read_whole(path, len(body)) == body:
                return
        shard = not self._durable or Path(path).parent.is_dir()
        if digest[:2] not in self._known:
            make_directory(self._root, "store", "blobs", digest[:2])
            self.tmp()
            self._known.add(digest[:2])
        try:
            write_whole(self._tmp, path, body, durable=self._durable)
        except FileNotFoundError:
            self._known.clear()
            make_directory(self._root, "store", "blobs", digest[:2])
            write_whole(self.tmp(), path, body, durable=self._durable)
        if self._durable and not shard:
            sync_directory(self._blobs)

    def read_again(self, variant: Variant) -> bytes | None:
        """Return the bytes of a variant that was checked before, at the cost of reading a file;
        ``None`` when it was not checked, or its file changed since."""
        stamp = self._checked.get(variant.digest)
        return None if stamp is None else read_again(self.path(variant.digest), variant.size, stamp)

    def read(self, variant: Variant) -> bytes | None:
        """Return the bytes of a variant, or ``None`` when they are gone or are others."""
        if not _DIGEST.match(variant.digest):
            return None
        path = self.path(variant.digest)
        try:
            found = _read_twice(path, variant.size)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            found = None
        if found is not None and digest_of(found[0]) == variant.digest:
            self._remember(variant.digest, path, found[1])
            return found[0]
        self._discard(variant.digest, path)
        return None

    def _remember(self, digest: str, path: str, stamp: Stamp) -> None:
        # A change within the same tick of the file system's clock would not show.
        if time.time_ns() - max(stamp[2:]) > _SETTLED_NS:
            if len(self._checked) >= _CHECKED:
                self._checked = {}
            self._checked[digest] = stamp

    def _discard(self, digest: str, path: str) -> None:
        """Remove a blob that rotted, so that the next put finds it missing and writes it."""
        if digest not in self._warned:
            if len(self._warned) >= _WARNED:
                self._warned.clear()
            self._warned.add(digest)
            log.warning("The stored body %s is damaged; its page will be rendered anew.", path)
        # Another process may have mended it by now: only what is still damaged goes.
        with suppress(OSError):
            found = os.lstat(path)
            body = read_whole(path, found.st_size) if stat.S_ISREG(found.st_mode) else None
            if body is None or digest_of(body) != digest:
                Path(path).unlink()

    def shards(self) -> Iterator[str]:
        """Yield the first two letters that digests of stored blobs begin with."""
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._blobs) as found:
            for entry in found:
                if _SHARD.match(entry.name) and entry.is_dir(follow_symlinks=False):
                    yield entry.name

    def unnamed(
        self, shard: str, named: set[str], before: float
    ) -> tuple[list[str], set[tuple[int, int]]]:
        """Return the digests of blobs that are not in `named` and last changed before a time, and
        the device and inode of those that the tree links to.

        What the tree links to is not returned as a digest: it takes no room of its own, and tells
        whose link it is.
        """
        loose, linked = [], set()
        with suppress(FileNotFoundError), os.scandir(self._blobs / shard) as found:
            for entry in found:
                if entry.name in named or not _DIGEST.match(entry.name):
                    continue
                with suppress(FileNotFoundError):
                    about = entry.stat(follow_symlinks=False)
                    if about.st_nlink > 1:
                        linked.add((about.st_dev, about.st_ino))
                    elif about.st_ctime < before:
                        loose.append(entry.name)
        return loose, linked

    def remove(self, digests: Iterable[str]) -> None:
        for digest in digests:
            Path(self.path(digest)).unlink(missing_ok=True)

    def sweep_parts(self, now: float, grace: float) -> None:
        """Remove temporary files that nobody is going to finish.

        :param grace: seconds that are left to each, and ten times over to a living writer.
        """
        # The first two are where a build writes its manifest, its sitemap, and where it went.
        for directory in (self._root, self._root / "public", self._tmp):
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as found:
                for entry in found:
                    name = _PART.match(entry.name)
                    if name is not None:
                        _sweep_part(entry, int(name[1]), now, grace)


def _read_twice(path: str, size: int) -> tuple[bytes, Stamp] | None:
    try:
        return read_stamped(path, size)
    except OSError as error:
        # A network file system says so once of a file that was replaced.
        if error.errno != errno.ESTALE:
            raise
        return read_stamped(path, size)


def _sweep_part(entry: os.DirEntry[str], pid: int, now: float, grace: float) -> None:
    with suppress(FileNotFoundError):
        age = now - entry.stat(follow_symlinks=False).st_ctime
        if age > grace * 10 or (age > grace and not _is_alive(pid)):
            Path(entry.path).unlink()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 is a signal
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
