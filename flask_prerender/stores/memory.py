"""A store for tests and for apps that keep nothing: pages of this process alone."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from ..errors import BlobMissingError
from ..errors import CollisionError
from ..errors import StoreError
from ..page import digest
from ..page import Page
from ..page import Variant


class MemoryStore:
    """Pages in a dictionary. They are gone with the process, and a forked child has a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[str, Page] = {}
        self._owners: dict[str, str] = {}
        self._bodies: dict[str, bytes] = {}
        self._build = self._finished = 0

    def get(self, key: str) -> Page | None:
        return self._pages.get(key)

    def read(self, page: Page, variant: Variant) -> bytes | None:
        return self._bodies.get(variant.digest)

    def put(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        with self._lock:
            owner = self._owners.get(page.file, page.key)
            if owner != page.key:
                raise CollisionError(page.key, page.file, owner)
            self._bodies.update(self._named(page, bodies))
            former = self._pages.get(page.key)
            if former is not None:
                del self._owners[former.file]
            self._owners[page.file] = page.key
            self._pages[page.key] = page

    def _named(self, page: Page, bodies: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the bodies of a page by digest, without those left out."""
        named = {}
        for variant in page.variants:
            body = bodies.get(variant.encoding)
            if body is not None:
                if digest(body) != variant.digest:
                    raise StoreError(
                        f"{page.key}: its {variant.encoding} body is not the one it names."
                    )
                named[variant.digest] = body
        for variant in page.variants:
            if variant.digest not in named and variant.digest not in self._bodies:
                raise BlobMissingError(f"{page.key}: its {variant.encoding} body is not stored.")
        return named

    def delete(self, keys: Iterable[str]) -> int:
        removed = 0
        for key in keys:
            with self._lock:
                page = self._pages.pop(key, None)
                if page is not None:
                    del self._owners[page.file]
                    removed += 1
        return removed

    def pages(self) -> Iterator[Page]:
        with self._lock:
            keys = sorted(self._pages)
        for key in keys:
            page = self._pages.get(key)
            if page is not None:
                yield page

    def next_build(self) -> int:
        with self._lock:
            self._build += 1
            return self._build

    def finish_build(self, number: int) -> None:
        self._finished = number

    def last_build(self) -> int:
        return self._finished

    def sweep(self) -> None:
        with self._lock:
            named = {item.digest for page in self._pages.values() for item in page.variants}
            self._bodies = {name: body for name, body in self._bodies.items() if name in named}

    def reopen(self) -> None:
        # Another thread may have held the lock at the moment of a fork.
        self._lock = threading.Lock()

    def close(self) -> None:
        pass
