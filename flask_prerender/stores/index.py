"""The index of the file store: which pages there are, and what belongs to them."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..database import Database
from ..page import Page
from .base import Budget

log = logging.getLogger(__name__)

#: Counted within the transaction that changes a page, so that nobody has to count pages.
_ADD = """INSERT INTO visits VALUES (new.rule, 1, new.bytes) ON CONFLICT (rule) DO UPDATE SET
    pages = pages + 1, bytes = bytes + excluded.bytes;"""
_TAKE = "UPDATE visits SET pages = pages - 1, bytes = bytes - old.bytes WHERE rule = old.rule;"
_CHANGE = "AFTER UPDATE OF rule, origin, bytes ON pages"

_SCHEMA = (
    """CREATE TABLE pages (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        file TEXT NOT NULL UNIQUE,
        rule TEXT NOT NULL,
        origin TEXT NOT NULL,
        build INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        token INTEGER NOT NULL,
        used REAL NOT NULL,
        held TEXT NOT NULL,
        seal TEXT NOT NULL,
        record TEXT NOT NULL
    )""",
    """CREATE TABLE bodies (
        page INTEGER NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY (page, digest)
    ) WITHOUT ROWID""",
    "CREATE INDEX bodies_by_digest ON bodies (digest)",
    "CREATE INDEX visits_by_rule ON pages (rule, used) WHERE origin = 'visit'",
    "CREATE INDEX visits_by_use ON pages (used) WHERE origin = 'visit'",
    """CREATE TABLE visits (
        rule TEXT PRIMARY KEY,
        pages INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) WITHOUT ROWID""",
    *(
        f"CREATE TRIGGER {name} {moment} WHEN {which}.origin = 'visit' BEGIN {what} END"
        for name, moment, which, what in (
            ("visit_came", "AFTER INSERT ON pages", "new", _ADD),
            ("visit_went", "AFTER DELETE ON pages", "old", _TAKE),
            ("visit_was", _CHANGE, "old", _TAKE),
            ("visit_is", _CHANGE, "new", _ADD),
        )
    ),
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)

_INSERT = """INSERT INTO pages
    (key, used, file, rule, origin, build, bytes, token, held, seal, record)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
#: A page that is made again was not asked for thereby: its moment stays.
_UPDATE = """UPDATE pages SET file = ?, rule = ?, origin = ?, build = ?, bytes = ?, token = ?,
    held = ?, seal = ?, record = ? WHERE id = ?"""

_VISITS = """SELECT coalesce(sum(CASE rule WHEN ? THEN pages ELSE 0 END), 0),
    coalesce(sum(bytes), 0) FROM visits"""

_BATCH = 300
_WARNED = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: where the tree has the page, which encodings' files there are ours, its record."""

    id: int
    file: str
    held: frozenset[str]
    seal: str
    record: str
    token: int


class Index:
    """Pages by key, in one SQLite file below the store's root."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self.database = Database(root, "store/index.sqlite3", _SCHEMA, version=2, durable=durable)
        self._warned: set[str] = set()

    def get(self, key: str) -> Page | None:
        rows = self.database.read("SELECT seal, record FROM pages WHERE key = ?", (key,))
        return self._page(key, *rows[0]) if rows else None

    def get_all(self, keys: Sequence[str]) -> dict[str, Page]:
        found = (self._page(*row) for row in self._select("key, seal, record", keys))
        return {page.key: page for page in found if page is not None}

    def seal(self, key: str) -> str | None:
        """Return what differs whenever the page was stored again, or ``None``."""
        return self.seals([key]).get(key)

    def seals(self, keys: Sequence[str]) -> dict[str, str]:
        """Return by key what differs whenever the page was stored again; absent ones are left
        out."""
        return dict(self._select("key, seal", keys))

    def _select(self, columns: str, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of these keys."""
        for start in range(0, len(keys), _BATCH):
            some = keys[start : start + _BATCH]
            marks = ", ".join("?" * len(some))
            yield from self.database.read(
                f"SELECT {columns} FROM pages WHERE key IN ({marks})", some
            )

    def pages(self, before: int | None) -> Iterator[Page]:
        """Yield pages in the order of their keys, with no transaction open in between."""
        sql = "SELECT key, seal, record FROM pages WHERE key > ? AND build < ? ORDER BY key LIMIT ?"
        limit = 2**62 if before is None else before
        last = ""
        while rows := self.database.read(sql, (last, limit, _BATCH)):
            for key, record_seal, record in rows:
                page = self._page(key, record_seal, record)
                if page is not None:
                    yield page
            last = rows[-1][0]

    def visits(self, rule: str) -> tuple[int, int]:
        rows = self.database.read(_VISITS, (rule,))
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def last_build(self) -> int:
        rows = self.database.read("SELECT value FROM counters WHERE name = 'finished'")
        return int(rows[0][0]) if rows else 0

    def named(self, prefix: str) -> set[str]:
        """Return the digests that begin with `prefix` and belong to a page."""
        sql = "SELECT DISTINCT digest FROM bodies WHERE digest >= ? AND digest < ?"
        return {row[0] for row in self.database.read(sql, (prefix, f"{prefix}g"))}

    @contextmanager
    def write(self) -> Iterator[Writing]:
        """Run one transaction."""
        with self.database.write() as connection:
            yield Writing(connection)

    def _page(self, key: str, record_seal: object, record: object) -> Page | None:
        """Read a record; one that rotted, or belongs to another key, is no page."""
        try:
            if not isinstance(record, str) or record_seal != seal(record):
                raise ValueError("its record is damaged")
            page = Page.from_json(record)
            if page.key != key:
                raise ValueError(f"its record is that of {page.key}")
        except ValueError as error:
            if key not in self._warned:
                if len(self._warned) >= _WARNED:
                    self._warned.clear()
                self._warned.add(key)
                log.warning("The stored page %s is not used: %s.", key, error)
            return None
        return page


class Writing:
    """What can be done within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, key: str) -> Entry | None:
        found = self._connection.execute(
            "SELECT id, file, held, seal, record, token FROM pages WHERE key = ?", (key,)
        ).fetchone()
        if found is None:
            return None
        return Entry(found[0], found[1], frozenset(found[2].split()), *found[3:])

    def places(
        self, keys: Sequence[str], files: Sequence[str]
    ) -> tuple[dict[str, Entry], dict[str, str]]:
        """Return the entries of keys, and by file the key of the page that has it."""
        entries, owners = {}, {}
        for name, some in (("key", keys), ("file", files)):
            marks = ", ".join("?" * len(some))
            for key, *rest in self._connection.execute(
                "SELECT key, id, file, held, seal, record, token FROM pages"
                f" WHERE {name} IN ({marks})",
                some,
            ):
                owners[rest[1]] = key
                if name == "key":
                    entries[key] = Entry(rest[0], rest[1], frozenset(rest[2].split()), *rest[3:])
        return entries, owners

    def owner(self, file: str) -> str | None:
        """Return the key of the page that has `file`."""
        sql = "SELECT key FROM pages WHERE file = ?"
        found = self._connection.execute(sql, (file,)).fetchone()
        return str(found[0]) if found else None

    def put(
        self, page: Page, record: str, record_seal: str, held: Iterable[str], former: Entry | None
    ) -> set[str]:
        """Return the digests of the bodies that the page has no more.

        :param former: the page's entry as it is, which :meth:`places` found in this transaction.
        """
        run = self._connection.execute
        kept = (" ".join(sorted(held)), record_seal, record)
        facts = (page.file, page.rule, page.origin, page.build, page.size, page.token, *kept)
        before: set[str] = set()
        if former is None:
            id_ = run(_INSERT, (page.key, page.checked_at, *facts)).lastrowid
        else:
            id_ = former.id
            run(_UPDATE, (*facts, id_))
            before = {row[0] for row in run("SELECT digest FROM bodies WHERE page = ?", (id_,))}
        after = {variant.digest for variant in page.variants}
        for digest in before - after:
            run("DELETE FROM bodies WHERE page = ? AND digest = ?", (id_, digest))
        for digest in after - before:
            run("INSERT INTO bodies (page, digest) VALUES (?, ?)", (id_, digest))
        return before - after

    def remove(self, entry: Entry) -> set[str]:
        """Remove a page, and return the digests of its bodies."""
        run = self._connection.execute
        bodies = {row[0] for row in run("SELECT digest FROM bodies WHERE page = ?", (entry.id,))}
        run("DELETE FROM bodies WHERE page = ?", (entry.id,))
        run("DELETE FROM pages WHERE id = ?", (entry.id,))
        return bodies

    def note_used(self, moments: Mapping[str, float]) -> None:
        self._connection.executemany(
            "UPDATE pages SET used = max(used, ?) WHERE key = ? AND origin = 'visit'",
            ((moment, key) for key, moment in moments.items()),
        )

    def surplus(self, budget: Budget, limit: int) -> dict[str, str]:
        """Return keys of pages that have to go, each with what there is too much of.

        :param limit: how many rows are looked at for each of both.
        """
        run = self._connection.execute
        pages, size = run(_VISITS, (budget.rule,)).fetchone()
        found = {}
        sql = (
            "SELECT key, bytes FROM pages INDEXED BY visits_by_rule"
            " WHERE origin = 'visit' AND rule = ? ORDER BY used, id LIMIT ?"
        )
        for key, freed in run(sql, (budget.rule, max(0, min(limit, pages - budget.pages)))):
            found[key] = "pages"
            size -= freed
        sql = (
            "SELECT key, bytes FROM pages INDEXED BY visits_by_use"
            " WHERE origin = 'visit' ORDER BY used, id LIMIT ?"
        )
        for key, freed in run(sql, (limit if size > budget.bytes else 0,)):
            if size > budget.bytes and key not in found:
                found[key] = "bytes"
                size -= freed
        return found

    def names(self, digest: str) -> bool:
        """Return whether a page has a body with this digest."""
        sql = "SELECT 1 FROM bodies WHERE digest = ? LIMIT 1"
        return self._connection.execute(sql, (digest,)).fetchone() is not None

    def next_build(self) -> int:
        run = self._connection.execute
        run("INSERT OR IGNORE INTO counters VALUES ('build', 0)")
        run("UPDATE counters SET value = value + 1 WHERE name = 'build'")
        (number,) = run("SELECT value FROM counters WHERE name = 'build'").fetchone()
        return int(number)

    def finish_build(self, number: int) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO counters VALUES ('finished', ?)", (number,)
        )


def seal(record: str) -> str:
    """Return the checksum that a record is kept with."""
    return hashlib.sha256(record.encode()).hexdigest()[:32]
