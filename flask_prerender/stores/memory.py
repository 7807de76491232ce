"""A store for tests and for apps that keep nothing: pages of this process alone."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence

from ..errors import BlobMissingError
from ..errors import CollisionError
from ..errors import StoreError
from ..page import digest
from ..page import Page
from ..page import Variant
from .base import Batch
from .base import Budget
from .base import late


class MemoryStore:
    """Pages in a dictionary. They are gone with the process, and a forked child has a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pages: dict[str, Page] = {}
        self._owners: dict[str, str] = {}
        self._bodies: dict[str, bytes] = {}
        #: How many pages name each body.
        self._named: Counter[str] = Counter()
        #: Pages of first visits, the one not asked for longest first: those of each rule, and all
        #: with their moments.
        self._visits: dict[str, OrderedDict[str, None]] = {}
        self._all_visits: OrderedDict[str, float] = OrderedDict()
        self._visit_bytes = 0
        self._build = self._finished = 0

    def get(self, key: str) -> Page | None:
        return self._pages.get(key)

    def get_all(self, keys: Sequence[str]) -> dict[str, Page]:
        return {key: page for key in keys if (page := self._pages.get(key)) is not None}

    def read(self, page: Page, variant: Variant) -> bytes | None:
        return self._bodies.get(variant.digest)

    def put(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        with self._lock:
            owner = self._owners.get(page.file, page.key)
            if owner != page.key:
                raise CollisionError(page.key, page.file, owner)
            former = self._pages.get(page.key)
            if former is not None and former.token > page.token:
                raise late(page, former.token)
            self._bodies.update(self._by_digest(page, bodies))
            is_even = former is not None and _place(former) == _place(page)
            if former is not None:
                self._forget(former, keep_place=is_even)
            self._owners[page.file] = page.key
            self._pages[page.key] = page
            self._named.update(variant.digest for variant in page.variants)
            if page.origin == "visit":
                self._visit_bytes += page.size
                if not is_even:
                    self._visits.setdefault(page.rule, OrderedDict())[page.key] = None
                    self._all_visits[page.key] = page.checked_at

    def put_all(self, batch: Batch) -> list[StoreError | None]:
        errors: list[StoreError | None] = []
        for page, bodies in batch:
            try:
                self.put(page, bodies)
            except StoreError as error:
                errors.append(error)
            else:
                errors.append(None)
        return errors

    def _forget(self, page: Page, *, keep_place: bool = False) -> None:
        del self._owners[page.file]
        self._named.subtract(variant.digest for variant in page.variants)
        if page.origin == "visit":
            self._visit_bytes -= page.size
            if not keep_place:
                del self._visits[page.rule][page.key], self._all_visits[page.key]

    def _by_digest(self, page: Page, bodies: Mapping[str, bytes]) -> dict[str, bytes]:
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
                    self._forget(page)
                    removed += 1
        return removed

    def pages(self, *, before: int | None = None) -> Iterator[Page]:
        with self._lock:
            keys = sorted(self._pages)
        for key in keys:
            page = self._pages.get(key)
            if page is not None and (before is None or page.build < before):
                yield page

    def visits(self, rule: str) -> tuple[int, int]:
        return len(self._visits.get(rule, ())), self._visit_bytes

    def note_used(self, moments: Mapping[str, float]) -> None:
        with self._lock:
            for key in sorted(moments, key=moments.__getitem__):
                if self._all_visits.get(key, math.inf) < moments[key]:
                    self._all_visits[key] = moments[key]
                    self._all_visits.move_to_end(key)
                    self._visits[self._pages[key].rule].move_to_end(key)

    def evict(self, budget: Budget) -> dict[str, str]:
        gone: dict[str, str] = {}
        with self._lock:
            visits = self._visits.get(budget.rule, OrderedDict())
            while len(visits) > budget.pages:
                gone[self._evict(next(iter(visits)))] = "pages"
            while self._visit_bytes > budget.bytes:
                gone[self._evict(next(iter(self._all_visits)))] = "bytes"
        return gone

    def _evict(self, key: str) -> str:
        page = self._pages.pop(key)
        self._forget(page)
        for variant in page.variants:
            if not self._named[variant.digest]:
                self._bodies.pop(variant.digest, None)
        return key

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
            self._named = +self._named  # without those that nobody names
            named = self._named
            self._bodies = {name: body for name, body in self._bodies.items() if name in named}

    def reopen(self) -> None:
        # Another thread may have held the lock at the moment of a fork.
        self._lock = threading.Lock()

    def close(self) -> None:
        pass


def _place(page: Page) -> tuple[str, str]:
    """Return what decides where a page stands among first visits."""
    return page.origin, page.rule
