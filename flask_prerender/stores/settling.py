"""The tree brought in line with the index, after a row was committed or when its writer died."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence

from ..errors import StoreError
from ..page import Page
from ..page import SUFFIXES
from .index import Index
from .put import Put
from .tree import Tree

log = logging.getLogger(__name__)

_QUIET_SECONDS = 60.0


class Settling:
    """What follows a commit: places of the tree that become those of the rows.

    :param path: gives the blob that a digest names.
    """

    def __init__(
        self, index: Index, tree: Tree, path: Callable[[str], str], clock: Callable[[], float]
    ) -> None:
        self._index, self._tree, self._path = index, tree, path
        self._clock = clock
        self._complained_at, self._left_out = float("-inf"), 0

    def settle(self, puts: Sequence[Put], known: set[str]) -> None:
        """Bring the tree in line with rows just committed, and tell what went wrong."""
        changed = []
        for put in puts:
            was_changed, troubles = self._tree.set(
                put.page.file, put.paths, put.held, known, is_new=put.is_new
            )
            put.troubles += troubles
            if was_changed:
                changed.append(put)
        try:
            seals = self._index.seals([put.page.key for put in changed])
            for put in changed:
                if seals.get(put.page.key) != put.seal:
                    put.troubles = self._settle_newer(put.page, put.held)
        except (StoreError, ValueError) as error:
            changed[0].troubles.append(str(error))
        for put in puts:
            if put.troubles:
                self._complain(put.page.key, "; ".join(put.troubles))

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
                    troubles += self._tree.set(entry.file, self._paths(newer), ours, set())[1]
        return troubles

    def _paths(self, page: Page) -> dict[str, str]:
        """Return the blobs of the encodings that the tree has names for."""
        return {
            variant.encoding: self._path(variant.digest)
            for variant in page.variants
            if variant.encoding in SUFFIXES
        }

    def settle_behind(self, linked: Collection[tuple[int, int]]) -> None:
        """Set the places of the tree that are still links to bodies which no page names: whoever
        named others died before it came to the tree. Without a row, such a link stays: the index
        may have been lost."""
        for page in self._index.pages(None):
            if self._tree.has_one_of(page.file, linked):
                for trouble in self._settle_newer(page, set()):
                    self._complain(page.key, trouble)

    def _complain(self, key: str, trouble: str) -> None:
        """Log one line a minute: a full disk has the same to say of every page."""
        now = self._clock()
        if 0 <= now - self._complained_at < _QUIET_SECONDS:
            self._left_out += 1
            return
        more = f" (and {self._left_out} more like it)" if self._left_out else ""
        self._complained_at, self._left_out = now, 0
        log.warning("The public tree lacks %s: %s%s", key, trouble, more)
