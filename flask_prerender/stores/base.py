"""The contract of every store."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Protocol

from ..page import Page
from ..page import Variant


class Store(Protocol):
    """Where pages live: facts by key, bodies by the digest of their bytes.

    A store is used by many threads and processes at once. What :meth:`get` returns is always one
    whole page: status, headers, tags, times, and the digests of its body and variants belong to
    one render.
    """

    def get(self, key: str) -> Page | None:
        """Return the page stored under exactly `key`, or ``None``.

        :raises StoreError: the store cannot be read (not: the page is absent).
        """
        ...

    def read(self, page: Page, variant: Variant) -> bytes | None:
        """Return the bytes of one variant, or ``None`` when they are gone or are not the bytes
        that their digest names (torn, foreign or rotten: logged, and never returned).

        :raises StoreError: the store cannot be read.
        """
        ...

    def put(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        """Store a page in one atomic step: before it the old page is whole, after it the new one.

        :param bodies: bytes by encoding (``"identity"``, ``"gzip"``, ...). An encoding of
            ``page.variants`` may be left out when its bytes are stored already.
        :raises BlobMissingError: a variant was left out and is not stored.
        :raises CollisionError: ``page.file`` belongs to another key.
        :raises StoreError: the store cannot be written. What was stored before is still whole.
        """
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Remove pages, and return how many there were. Unknown keys are no error."""
        ...

    def pages(self) -> Iterator[Page]:
        """Yield all pages in the order of their keys, holding only a few at a time."""
        ...

    def next_build(self) -> int:
        """Begin a build: return a number greater than that of every build before, and keep it.

        :raises StoreError: the number cannot be written.
        """
        ...

    def finish_build(self, number: int) -> None:
        """Keep in mind that a build of the whole site came to its end.

        :raises StoreError: it cannot be written.
        """
        ...

    def last_build(self) -> int:
        """Return the number of the last build of the whole site that came to its end, or 0.

        A store that lost its pages has forgotten the build with them.

        :raises StoreError: the store cannot be read.
        """
        ...

    def sweep(self) -> None:
        """Remove bodies that no page names and files that dead writers left behind."""
        ...

    def reopen(self) -> None:
        """Drop connections, to be opened again at the next use (after a fork, or a move)."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...
