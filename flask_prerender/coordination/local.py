"""A revision that all processes of one host share: a counter in mapped memory."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..database import Database
from ..disk import failures
from .base import EVERYTHING
from .base import Lease
from .base import Revocation
from .base import Streak
from .counter import Counter

_SCHEMA = (
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE revocations (
        tag TEXT NOT NULL,
        hard INTEGER NOT NULL,
        revision INTEGER NOT NULL,
        PRIMARY KEY (tag, hard)
    ) WITHOUT ROWID""",
    "CREATE INDEX revocations_by_revision ON revocations (revision)",
    # One row for a key that is being made, or whose last try failed.
    """CREATE TABLE leases (
        key TEXT PRIMARY KEY,
        token INTEGER NOT NULL,
        ends REAL NOT NULL,
        failures INTEGER NOT NULL,
        not_before REAL NOT NULL,
        since REAL NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL,
        revision INTEGER NOT NULL
    ) WITHOUT ROWID""",
    "CREATE TABLE once (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX once_by_until ON once (until)",
)
_LEASE = "SELECT ends, failures, not_before FROM leases WHERE key = ?"
#: No page was ever stored at this revision: as long as there is no counter, whoever asks looks.
_NO_CELL = (-1,)
#: So many revocations of each kind, soft and hard, are kept apart, and so often somebody looks
#: whether there are more.
_REVOCATIONS = 50_000
_FOLD_EACH = 1000
_LOOK_SECONDS = 1.0
_LONGEST_LEASE = 60.0
_LONGEST_REST = 600.0
#: A larger number was not counted, it is what a damaged file holds.
_LIMIT = 2**62


class LocalCoordination:
    """The revision of a directory, for the processes of one host.

    The row in ``store/coordination.sqlite3`` is the truth; ``store/revision`` is its mapped copy,
    which costs a process nothing to read.

    :param root: the same directory as the store's.
    :param clock: seconds that never go back.
    :param first: gives the number from which a new counter counts. Where it is more than any
        counter reached before, pages that a process still has of a directory that was deleted are
        never taken for current ones.
    """

    def __init__(
        self,
        root: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        first: Callable[[], int] = lambda: 0,
    ) -> None:
        self._root = Path(root).absolute()
        self._counter = Counter(self._root)
        self._clock = clock
        self._first = first
        self._database = Database(self._root, "store/coordination.sqlite3", _SCHEMA, version=2)
        self._forget()

    def _forget(self) -> None:
        self._counter.forget()
        self._look_at = float("-inf")
        # The first one here looks as well: processes that live short add up.
        self._added = _FOLD_EACH

    def revision(self) -> int:
        now = self._clock()
        # Before the first page there is no file: whoever makes it is seen at once.
        if now >= self._look_at or self._counter.cell is None:
            self._look_at = now + _LOOK_SECONDS
            self._counter.look()
        cell = self._counter.cell
        return 0 if cell is None else int(cell[0])

    def cell(self) -> Sequence[int]:
        self.revision()
        return _NO_CELL if self._counter.cell is None else self._counter.cell

    def advance(self) -> int:
        return self.revoke((), hard=False)

    def revoke(self, tags: Sequence[str], *, hard: bool) -> int:
        with failures("write", self._counter.path), self._database.write() as connection:
            value = self._advance(connection)
            connection.executemany(
                "INSERT OR REPLACE INTO revocations (tag, hard, revision) VALUES (?, ?, ?)",
                [(tag, hard, value) for tag in tags],
            )
            self._added += len(tags)
            if self._added >= _FOLD_EACH:
                self._added = 0
                _fold(connection)
            # Within the transaction, or a slower writer would put the counter back. Who sees it
            # before the commit finds the row still at the old number, and looks again.
            self._show(value)
        return value

    def revocations(self, since: int) -> tuple[int, list[Revocation]]:
        # The number first: what is committed in between is in the rows and is read once more.
        rows = self._database.read("SELECT value FROM counters WHERE name = 'revision'")
        revision = int(rows[0][0]) if rows else 0
        rows = self._database.read(
            "SELECT tag, revision, hard FROM revocations WHERE revision > ? ORDER BY revision",
            (since,),
        )
        return revision, [Revocation(tag, number, bool(hard)) for tag, number, hard in rows]

    def prune(self, revision: int, now: float) -> None:
        with failures("write", self._counter.path), self._database.write() as connection:
            rows = connection.execute("SELECT value FROM counters WHERE name = 'pruned'")
            (before,) = rows.fetchone() or (0,)
            current = connection.execute("SELECT value FROM counters WHERE name = 'revision'")
            (current_value,) = current.fetchone() or (0,)
            # Values that are no pages carry tags of their own, and may be older than any page.
            connection.execute(
                "DELETE FROM revocations WHERE revision <= ? AND substr(tag, 1, instr(tag, ':'))"
                " IN ('path:', 'under:', 'endpoint:', 'blueprint:', 'template:')",
                (min(revision, before),),
            )
            connection.execute(
                "INSERT OR REPLACE INTO counters VALUES ('pruned', ?)", (current_value,)
            )
            connection.execute(
                "DELETE FROM leases WHERE ends < ? AND not_before < ?", (now, now - _LONGEST_REST)
            )

    def token(self) -> int:
        rows = self._database.read("SELECT value FROM counters WHERE name = 'token'")
        # A counter made anew goes on above every token that a stored page has.
        return int(rows[0][0]) + 1 if rows else self._first()

    def next_token(self) -> int:
        with failures("write", self._counter.path), self._database.write() as connection:
            return self._count_token(connection)

    def claim(self, key: str, seconds: float, now: float, *, anyway: bool = False) -> Lease | None:
        # Whoever comes too late finds out without keeping a writer waiting.
        if not _is_free(self._database.read(_LEASE, (key,)), now, anyway=anyway):
            return None
        with failures("write", self._counter.path), self._database.write() as connection:
            rows = connection.execute(_LEASE, (key,)).fetchall()
            if not _is_free(rows, now, anyway=anyway):
                return None
            token = self._count_token(connection)
            connection.execute(
                "INSERT INTO leases VALUES (?, ?, ?, 0, 0, 0, '', '', 0) ON CONFLICT (key)"
                " DO UPDATE SET token = excluded.token, ends = excluded.ends",
                (key, token, now + seconds),
            )
        return Lease(key, token, now + seconds, rows[0][1] if rows else 0)

    def renew(self, lease: Lease, seconds: float, now: float) -> Lease | None:
        with failures("write", self._counter.path), self._database.write() as connection:
            changed = connection.execute(
                "UPDATE leases SET ends = ? WHERE key = ? AND token = ?",
                (now + seconds, lease.key, lease.token),
            ).rowcount
        return replace(lease, ends=now + seconds) if changed else None

    def release(self, lease: Lease, streak: Streak | None = None) -> None:
        with failures("write", self._counter.path), self._database.write() as connection:
            if streak is None:
                connection.execute(
                    "DELETE FROM leases WHERE key = ? AND token = ?", (lease.key, lease.token)
                )
                return
            connection.execute(
                "UPDATE leases SET ends = 0, failures = ?, not_before = ?, since = ?, reason = ?,"
                " detail = ?, revision = ? WHERE key = ? AND token = ?",
                (
                    streak.failures,
                    streak.not_before,
                    streak.since,
                    streak.reason,
                    streak.detail[:2000],
                    streak.revision,
                    lease.key,
                    lease.token,
                ),
            )

    def streak(self, key: str) -> Streak | None:
        rows = self._database.read(
            "SELECT failures, not_before, reason, detail, since, revision FROM leases"
            " WHERE key = ? AND failures > 0",
            (key,),
        )
        return Streak(*rows[0]) if rows else None

    def once(self, name: str, until: float, now: float) -> bool:
        # Who asks again and again costs a read and no write.
        if self._database.read("SELECT 1 FROM once WHERE name = ? AND until >= ?", (name, now)):
            return False
        with failures("write", self._counter.path), self._database.write() as connection:
            connection.execute("DELETE FROM once WHERE until < ?", (now,))
            added = connection.execute("INSERT OR IGNORE INTO once VALUES (?, ?)", (name, until))
            return added.rowcount == 1

    def _count_token(self, connection: sqlite3.Connection) -> int:
        run = connection.execute
        run("INSERT OR IGNORE INTO counters VALUES ('token', ?)", (self._first(),))
        # By two: in between is the place of work without a claim.
        run("UPDATE counters SET value = value + 2 WHERE name = 'token'")
        (value,) = run("SELECT value FROM counters WHERE name = 'token'").fetchone()
        return int(value)

    def _advance(self, connection: sqlite3.Connection) -> int:
        """Count on from the row or the mapped copy, whichever is ahead: the file was made anew,
        or a writer died before its commit."""
        found = connection.execute("SELECT value FROM counters WHERE name = 'revision'")
        row = found.fetchone() or (self._first(),)
        seen = int(self._counter.writable(row[0])[0])
        value = max(row[0], seen if seen < _LIMIT else 0) + 1
        connection.execute("INSERT OR REPLACE INTO counters VALUES ('revision', ?)", (value,))
        return value

    def _show(self, value: int) -> None:
        self._counter.writable(value)[0] = value

    def reopen(self) -> None:
        self.close()

    def close(self) -> None:
        self._forget()
        self._database.close()


def _is_free(rows: Sequence[tuple[float, int, float]], now: float, *, anyway: bool) -> bool:
    """Whether a lease's row, or its absence, lets somebody claim the key."""
    if not rows:
        return True
    ends, _, not_before = rows[0]
    # An end further off than any lease is long was written by a clock that was set since.
    held = now < ends <= now + _LONGEST_LEASE
    rests = now < not_before <= now + _LONGEST_REST
    return not held and (anyway or not rests)


def _fold(connection: sqlite3.Connection) -> None:
    """Make one revocation of everything from the older half of the soft ones when there are too
    many, and one from that of the hard ones: rather too much is made new than what was taken back
    served as fresh, and what was purged is never served again as merely stale."""
    newest_first = (
        "SELECT revision FROM revocations WHERE hard = ? ORDER BY revision DESC LIMIT 1 OFFSET ?"
    )
    for hard in (False, True):
        if connection.execute(newest_first, (hard, _REVOCATIONS)).fetchone() is None:
            continue
        (last,) = connection.execute(newest_first, (hard, _REVOCATIONS // 2)).fetchone()
        connection.execute(
            "DELETE FROM revocations WHERE hard = ? AND revision <= ? AND tag != ?",
            (hard, last, EVERYTHING),
        )
        connection.execute(
            "INSERT INTO revocations (tag, hard, revision) VALUES (?, ?, ?) ON CONFLICT (tag, hard)"
            " DO UPDATE SET revision = max(revision, excluded.revision)",
            (EVERYTHING, hard, last),
        )
