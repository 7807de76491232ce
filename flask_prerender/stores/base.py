"""The contract of every store."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import FencedError
from ..errors import StoreError
from ..page import Page
from ..page import Variant


def late(page: Page, token: int) -> FencedError:
    """Return the error of a page that comes too late."""
    return FencedError(
        f"{page.key} was made under claim {page.token}, and claim {token} has stored it meanwhile."
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """How much pages of first visits may take: those of one rule in number, all of them in bytes
    of all their variants."""

    rule: str
    pages: int
    bytes: int


#: Pages, each with its bodies by encoding.
Batch = Sequence[tuple[Page, Mapping[str, bytes]]]


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

    def get_all(self, keys: Sequence[str]) -> dict[str, Page]:
        """Return the pages that are stored under these keys, by key, as :meth:`get` does.

        :raises StoreError: the store cannot be read.
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
        :raises FencedError: the page that is stored has a higher ``token``.
        :raises StoreError: the store cannot be written. What was stored before is still whole.
        """
        ...

    def put_all(self, batch: Batch) -> list[StoreError | None]:
        """Store several pages, each in a step of its own as :meth:`put` does it, at less cost than
        one after another.

        :return: for each page what :meth:`put` would have raised, or ``None``. What is wrong with
            one page keeps no other from being stored.
        """
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Remove pages, and return how many there were. Unknown keys are no error."""
        ...

    def pages(self, *, before: int | None = None) -> Iterator[Page]:
        """Yield all pages in the order of their keys, holding only a few at a time.

        :param before: only those whose ``build`` is less.
        """
        ...

    def visits(self, rule: str) -> tuple[int, int]:
        """Return the number of pages of first visits (origin ``"visit"``) that one rule has, and
        the bytes of those of all rules. Costs the same however many there are.

        :raises StoreError: the store cannot be read.
        """
        ...

    def note_used(self, moments: Mapping[str, float]) -> None:
        """Note when pages of first visits, by key, were last asked for. A new page counts as asked
        for when it was made (``checked_at``). Earlier moments than a known one, and keys of other
        pages or of none, are passed over.

        :raises StoreError: the store cannot be written.
        """
        ...

    def evict(self, budget: Budget) -> dict[str, str]:
        """Remove pages of first visits, with their bodies, until the budget is kept: what was not
        asked for longest goes first, and of two that are even the one that came first.

        Pages of builds neither count nor go.

        :return: the keys of what was removed, each with what there was too much of, ``"pages"`` or
            ``"bytes"``.
        :raises StoreError: the store cannot be written. What was removed before stays removed.
        """
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
