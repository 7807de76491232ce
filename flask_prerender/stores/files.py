"""The default store: an index, bodies in files, and a tree for web servers."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..disk import failures
from ..errors import BlobMissingError
from ..errors import CollisionError
from ..errors import StoreError
from ..page import digest
from ..page import Page
from ..page import SUFFIXES
from ..page import Variant
from .base import Budget
from .base import late
from .blobs import Blobs
from .index import Entry
from .index import Index
from .index import seal
from .index import Writing
from .tree import Tree

log = logging.getLogger(__name__)

_BATCH = 100
_QUIET_SECONDS = 60.0
_GRACE_SECONDS = 60.0
_LET_GO = 20


class FileStore:
    """Pages in a directory of this host, shared by all its processes.

    A page exists from the moment its row in the index is committed. The row names bodies by
    digest, so bytes and headers of two renders never meet; the public tree follows the index.

    :param root: the directory; it is made when the first page is stored.
    :param durability: ``"full"`` waits for the disk at each put.
    :param clock: the time of day, which files' ages are measured by.
    """

    def __init__(
        self,
        root: Path,
        *,
        durability: str = "normal",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.root = Path(root).absolute()
        self._clock = clock
        self._index = Index(self.root, durable=durability == "full")
        self._blobs = Blobs(self.root, durable=durability == "full")
        self._tree = Tree(self.root, self._blobs.tmp, self._blobs.path)
        #: Bodies that pages had until lately, and until when.
        self._loose: deque[tuple[float, str]] = deque()
        self._complained_at, self._left_out = float("-inf"), 0

    def get(self, key: str) -> Page | None:
        return self._index.get(key)

    def read(self, page: Page, variant: Variant) -> bytes | None:
        with failures("read", self.root):
            return self._blobs.read(variant)

    def put(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        _check(page, bodies)
        record = page.to_json()
        paths = self._paths(page)
        with failures("write", self.root):
            for variant in page.variants:
                if variant.encoding in bodies:
                    self._blobs.write(variant.digest, bodies[variant.encoding])
            with self._index.write() as writing:
                former = self._admit(writing, page)
                self._complete(page, bodies)
                held, troubles = self._tree.claim(page.file, paths, former.held if former else ())
                self._let_go(writing, writing.put(page, record, held))
        troubles += self._settle(page, seal(record), held, paths)
        if troubles:
            self._complain(page.key, "; ".join(troubles))

    def _complain(self, key: str, trouble: str) -> None:
        """Log one line a minute: a full disk has the same to say of every page."""
        now = self._clock()
        if 0 <= now - self._complained_at < _QUIET_SECONDS:
            self._left_out += 1
            return
        more = f" (and {self._left_out} more like it)" if self._left_out else ""
        self._complained_at, self._left_out = now, 0
        log.warning("The public tree lacks %s: %s%s", key, trouble, more)

    def _admit(self, writing: Writing, page: Page) -> Entry | None:
        """Return the page's former entry if that has the same file; another file is removed."""
        owner = writing.owner(page.file)
        if owner not in (None, page.key):
            raise CollisionError(page.key, page.file, str(owner))
        former = writing.find(page.key)
        if former is not None and former.token > page.token:
            raise late(page, former.token)
        if former is None or former.file == page.file:
            return former
        self._leave(former)
        return None

    def _leave(self, entry: Entry) -> None:
        try:
            self._tree.remove(entry.file, entry.held)
        except OSError as error:
            log.warning("The public tree still has %s: %s", entry.file, error)

    def _complete(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        """Make sure that each body is stored, within the transaction that a sweep waits for."""
        for variant in page.variants:
            if self._blobs.holds(variant):
                continue
            if variant.encoding not in bodies:
                raise BlobMissingError(
                    f"{page.key}: its {variant.encoding} body {variant.digest} is not stored, "
                    "so it cannot be left out. Store the page again with all its bodies."
                )
            self._blobs.write(variant.digest, bodies[variant.encoding])

    def _let_go(self, writing: Writing, digests: Iterable[str]) -> None:
        """Remove bodies some time after their page let go of them: somebody may be reading them."""
        now = self._clock()
        for _ in range(min(_LET_GO, len(self._loose))):
            if now - self._loose[0][0] < _GRACE_SECONDS:
                break
            _, digest = self._loose.popleft()
            if not writing.names(digest):
                self._blobs.remove([digest])
        self._loose.extend((now, digest) for digest in digests)

    def _settle(
        self, page: Page, page_seal: str, held: set[str], paths: Mapping[str, Path]
    ) -> list[str]:
        """Bring the tree in line with a row just committed, and return what went wrong."""
        changed, troubles = self._tree.set(page.file, paths, held)
        try:
            if changed and self._index.seal(page.key) != page_seal:
                return self._settle_newer(page, held)
        except (StoreError, ValueError) as error:
            troubles.append(str(error))
        return troubles

    def _settle_newer(self, page: Page, held: set[str]) -> list[str]:
        """Set the tree again when somebody stored or deleted the page while we set it."""
        troubles = []
        with self._index.write() as writing:
            owner = writing.owner(page.file)
            if owner is None:
                self._tree.remove(page.file, held)
            for key in {owner or page.key, page.key}:
                entry = writing.find(key)
                if entry is not None:
                    newer = Page.from_json(entry.record)
                    ours = entry.held | held if entry.file == page.file else entry.held
                    troubles += self._tree.set(entry.file, self._paths(newer), ours)[1]
        return troubles

    def _paths(self, page: Page) -> dict[str, Path]:
        """Return the blobs of the encodings that the tree has names for."""
        return {
            variant.encoding: self._blobs.path(variant.digest)
            for variant in page.variants
            if variant.encoding in SUFFIXES
        }

    def delete(self, keys: Iterable[str]) -> int:
        removed, rest = 0, iter(keys)
        while batch := list(islice(rest, _BATCH)):
            if not any(self._index.seal(key) is not None for key in batch):
                continue
            with self._index.write() as writing:
                for key in batch:
                    entry = writing.find(key)
                    if entry is not None:
                        self._tree.remove(entry.file, entry.held)
                        self._let_go(writing, writing.remove(entry))
                        removed += 1
        return removed

    def pages(self) -> Iterator[Page]:
        return self._index.pages()

    def visits(self, rule: str) -> tuple[int, int]:
        return self._index.visits(rule)

    def note_used(self, moments: Mapping[str, float]) -> None:
        with self._index.write() as writing:
            writing.note_used(moments)

    def evict(self, budget: Budget) -> dict[str, str]:
        gone: dict[str, str] = {}
        while True:
            with self._index.write() as writing:
                batch = writing.surplus(budget, _BATCH)
                loose = set().union(*(self._evict(writing, key) for key in batch))
                # Within the transaction: whoever needs one of them looks again in theirs.
                with suppress(OSError):
                    self._blobs.remove(name for name in loose if not writing.names(name))
            gone |= batch
            if len(batch) < _BATCH:
                return gone

    def _evict(self, writing: Writing, key: str) -> set[str]:
        """Remove a page, and return the digests of its bodies."""
        entry = writing.find(key)
        if entry is None:
            return set()
        self._leave(entry)
        return writing.remove(entry)

    def next_build(self) -> int:
        with self._index.write() as writing:
            return writing.next_build()

    def finish_build(self, number: int) -> None:
        with self._index.write() as writing:
            writing.finish_build(number)

    def last_build(self) -> int:
        return self._index.last_build()

    def sweep(self, *, grace: float = _GRACE_SECONDS) -> None:
        """Remove bodies that no page names and files that dead writers left behind.

        :param grace: seconds in which a file may still be waiting for its row.
        """
        now = self._clock()
        with failures("sweep", self.root):
            self._blobs.sweep_parts(now, grace)
            for shard in self._blobs.shards():
                loose = self._blobs.unnamed(shard, self._index.named(shard), now - grace)
                if loose:
                    with self._index.write() as writing:
                        self._blobs.remove(name for name in loose if not writing.names(name))

    def reopen(self) -> None:
        self.close()

    def close(self) -> None:
        self._index.database.close()


def _check(page: Page, bodies: Mapping[str, bytes]) -> None:
    """Refuse what would put a body under a name that is not its digest, or a file outside."""
    parts = page.file.split("/")
    if any(part in ("", ".", "..") for part in parts) or set(page.file) & {"\\", "\0"}:
        raise StoreError(f"{page.key}: {page.file!r} is not a place below the public tree.")
    for variant in page.variants:
        body = bodies.get(variant.encoding)
        if body is not None and (len(body), digest(body)) != (variant.size, variant.digest):
            raise StoreError(f"{page.key}: its {variant.encoding} body is not the one it names.")
