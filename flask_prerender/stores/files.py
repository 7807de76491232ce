"""The default store: an index, bodies in files, and a tree for web servers."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from itertools import islice
from pathlib import Path

from ..disk import failures
from ..errors import BlobMissingError
from ..errors import CollisionError
from ..errors import StoreError
from ..page import Page
from ..page import SUFFIXES
from ..page import Variant
from .base import Batch
from .base import Budget
from .base import late
from .blobs import Blobs
from .index import Entry
from .index import Index
from .index import Writing
from .put import Put
from .settling import Settling
from .tree import Tree

log = logging.getLogger(__name__)

_BATCH = 100
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
        self._settling = Settling(self._index, self._tree, self._blobs.path, clock)
        #: Bodies that pages had until lately, and until when.
        self._loose: deque[tuple[float, str]] = deque()

    def get(self, key: str) -> Page | None:
        return self._index.get(key)

    def get_all(self, keys: Sequence[str]) -> dict[str, Page]:
        return self._index.get_all(keys)

    def read(self, page: Page, variant: Variant) -> bytes | None:
        body = self._blobs.read_again(variant)
        if body is not None:
            return body
        with failures("read", self.root):
            return self._blobs.read(variant)

    def put(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        for error in self.put_all([(page, bodies)]):
            if error is not None:
                raise error

    def put_all(self, batch: Batch) -> list[StoreError | None]:
        puts = [Put(page, bodies) for page, bodies in batch]
        for start in range(0, len(puts), _BATCH):
            self._put_all(puts[start : start + _BATCH])
        return [put.error for put in puts]

    def _put_all(self, puts: Sequence[Put]) -> None:
        known: set[str] = set()  # directories of the tree
        for put in puts:
            try:
                self._write_bodies(put)
            except (OSError, StoreError) as error:
                put.fail(error, self.root)
        wanted = [put for put in puts if put.error is None]
        try:
            if wanted:
                with self._index.write() as writing:
                    self._enter_all(writing, wanted, known)
        except StoreError as error:
            for put in wanted:
                put.error = put.error or error
        self._settling.settle([put for put in wanted if put.error is None], known)

    def _write_bodies(self, put: Put) -> None:
        put.check()
        for variant in put.page.variants:
            if variant.encoding in put.bodies:
                self._blobs.write(variant.digest, put.bodies[variant.encoding])
            if variant.encoding in SUFFIXES:
                put.paths[variant.encoding] = self._blobs.path(variant.digest)

    def _enter_all(self, writing: Writing, puts: Sequence[Put], known: set[str]) -> None:
        keys, files = [put.page.key for put in puts], [put.page.file for put in puts]
        entries, owners = writing.places(keys, files)
        entered: set[str] = set()
        for put in puts:
            # What is wrong with one page is found before anything of it is written. What is wrong
            # with the index ends the transaction.
            page = put.page
            former = entries.get(page.key)
            if page.key in entered:  # twice in one batch
                former = writing.find(page.key)
            entered.add(page.key)
            try:
                self._admit(put, former, owners.get(page.file, page.key))
                held = former.held if former and former.file == page.file else ()
                claimed = self._tree.claim(page.file, put.paths, held, known)
            except (OSError, StoreError) as error:
                put.fail(error, self.root)
                continue
            put.held, put.troubles, put.is_new = claimed
            put.loose = writing.put(page, put.record, put.seal, put.held, former)
            if former is not None:
                owners.pop(former.file, None)
            owners[page.file] = page.key
        self._let_go(writing, chain.from_iterable(put.loose for put in puts))

    def _admit(self, put: Put, former: Entry | None, owner: str) -> None:
        """See to it that the page may be stored. The file of its former entry is removed if it has
        another one now."""
        page = put.page
        if owner != page.key:
            raise CollisionError(page.key, page.file, owner)
        if former is not None and former.token > page.token:
            raise late(page, former.token)
        self._complete(page, put.bodies)
        if former is not None and former.file != page.file:
            self._leave(former)

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

    def pages(self, *, before: int | None = None) -> Iterator[Page]:
        return self._index.pages(before)

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
            if linked := self._sweep_blobs(now - grace):
                self._settling.settle_behind(linked)
                self._sweep_blobs(now - grace)

    def _sweep_blobs(self, before: float) -> set[tuple[int, int]]:
        """Remove bodies that no page names, and return those that the tree still links to."""
        kept = set()
        for shard in self._blobs.shards():
            loose, linked = self._blobs.unnamed(shard, self._index.named(shard), before)
            kept |= linked
            if loose:
                with self._index.write() as writing:
                    self._blobs.remove(name for name in loose if not writing.names(name))
        return kept

    def reopen(self) -> None:
        self.close()

    def close(self) -> None:
        self._index.database.close()
