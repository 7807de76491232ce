"""The contract between processes that share pages."""

from __future__ import annotations

from typing import Protocol


class Coordination(Protocol):
    """A counter that all processes see move.

    The *revision* is a counter and never a clock: hosts need no common time. It moves whenever
    stored pages change, so a process that has seen the current revision knows that what it keeps
    in memory is still what is stored.
    """

    def revision(self) -> int:
        """Return the current revision. Called for each request: costs well under a microsecond
        and never raises."""
        ...

    def advance(self) -> int:
        """Move the revision on by one, for every process, and return it.

        :raises StoreError: the counter cannot be written.
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
