"""The contract between processes that share pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

#: The tag of every page.
EVERYTHING = "all:"


@dataclass(frozen=True, slots=True)
class Revocation:
    """A tag taken back: pages that carry it and began to render earlier are stale, or gone.

    :ivar hard: gone now, where a soft one is served on while it is made new.
    """

    tag: str
    revision: int
    hard: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim with an end.

    :ivar token: grows with every claim, so that the store can turn away a late writer.
    :ivar failures: how often in a row the work failed before.
    """

    key: str
    token: int
    ends: float
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Streak:
    """Failures in a row: how many, when the next try may be, and what was said last.

    :ivar since: when the last of them was.
    :ivar revision: the one that stood before the last try: a page that was taken back later rests
        no longer.
    """

    failures: int
    not_before: float
    reason: str
    detail: str
    since: float
    revision: int = 0


class Coordination(Protocol):
    """A counter that all processes see move, what was taken back, and who is at work.

    The *revision* is a counter and never a clock: hosts need no common time. It moves whenever
    stored pages change or are taken back, so a process that has seen the current revision knows
    that what it keeps in memory is still what is stored.
    """

    def revision(self) -> int:
        """Return the current revision. Called for each request: costs well under a microsecond
        and never raises."""
        ...

    def cell(self) -> Sequence[int]:
        """Return what has the current revision as its first item, for about a second: who looks at
        it for each request pays for no call. What no page can have stands for one that is not known
        yet."""
        ...

    def advance(self) -> int:
        """Move the revision on by one, for every process, and return it.

        :raises StoreError: the counter cannot be written.
        """
        ...

    def revoke(self, tags: Sequence[str], *, hard: bool) -> int:
        """Take back every page that carries one of `tags`, and return the new revision.

        One row for each tag, however many pages there are.

        :raises StoreError: it cannot be written.
        """
        ...

    def revocations(self, since: int) -> tuple[int, Sequence[Revocation]]:
        """Return what was taken back after the revision `since`, and a revision up to which that
        is everything.

        :raises StoreError: it cannot be read.
        """
        ...

    def prune(self, revision: int, now: float) -> None:
        """Forget what nobody needs any more, after a build of all pages.

        :param revision: no stored page is older than this, so what was taken back up to here has
            no page left, but for those that were being made when this was last called.
        :raises StoreError: it cannot be written.
        """
        ...

    def token(self) -> int:
        """Return a token for work without a claim: above all that were given out before it began,
        below the next.

        :raises StoreError: it cannot be read.
        """
        ...

    def next_token(self) -> int:
        """Give out a token that is nobody's claim: work that begins now is newer than all before.

        :raises StoreError: it cannot be written.
        """
        ...

    def claim(self, key: str, seconds: float, now: float, *, anyway: bool = False) -> Lease | None:
        """Claim a key until `seconds` after `now`, or return ``None``: somebody else has it, or it
        failed and rests.

        :param anyway: claim it although it rests.
        :raises StoreError: it cannot be written.
        """
        ...

    def renew(self, lease: Lease, seconds: float, now: float) -> Lease | None:
        """Return the lease with a later end, or ``None`` when it was lost.

        :raises StoreError: it cannot be written.
        """
        ...

    def release(self, lease: Lease, streak: Streak | None = None) -> None:
        """End a lease. With a streak the key rests until its ``not_before``.

        :raises StoreError: it cannot be written.
        """
        ...

    def streak(self, key: str) -> Streak | None:
        """Return the failures in a row of a key, or ``None``.

        :raises StoreError: it cannot be read.
        """
        ...

    def once(self, name: str, until: float, now: float) -> bool:
        """Return whether no process gave this name before, and keep it in mind until the moment
        `until`.

        :raises StoreError: it cannot be written.
        """
        ...

    def reopen(self) -> None:
        """Drop connections and mappings, to be opened again at the next use.

        Called in a forked child, and when the files were replaced from outside.
        """
        ...

    def close(self) -> None:
        """Release connections and mappings."""
        ...
