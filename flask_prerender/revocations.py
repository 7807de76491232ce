"""What was taken back: the tags of a page, and whether one was revoked since it was made."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterable
from collections.abc import Iterator

from .coordination.base import Coordination
from .coordination.base import EVERYTHING
from .page import Page
from .page import split_key

#: Not taken back; served on while it is made new; gone.
Taken = t.Literal["", "soft", "hard"]

TAG_LENGTH = 256
#: A process that has learned of more reads anew what is kept apart.
_REMEMBERED = 200_000


def implicit_tags(page: Page) -> Iterator[str]:
    """Yield the tags that every page has by itself.

    Its path, each path it lies under, its endpoint, its blueprints, and its templates: so that a
    part of a site is taken back in one step, without listing its pages.
    """
    yield EVERYTHING
    yield path_tag(page.key)
    yield from _under(page.key)
    yield f"endpoint:{page.endpoint}"
    parts = page.endpoint.split(".")[:-1]
    for count in range(len(parts)):
        yield f"blueprint:{'.'.join(parts[: count + 1])}"
    for name in page.templates:
        yield f"template:{name}"


def is_tag(text: str) -> bool:
    """Whether pages can carry a tag, so that it can be revoked."""
    return 0 < len(text) <= TAG_LENGTH and not any("\ud800" <= c <= "\udfff" for c in text)


def path_tag(key: str) -> str:
    """Return the tag of one URL, whatever its query."""
    host, path, _ = split_key(key)
    return f"path:{f'//{host}' if host else ''}{path}"


def prefix_tag(prefix: str) -> str:
    """Return the tag of all URLs at or under a path: ``/blog`` and ``/blog/`` are the same."""
    return f"under:{prefix.rstrip('/')}/"


def _under(key: str) -> Iterator[str]:
    host, path, _ = split_key(key)
    start = f"//{host}" if host else ""
    yield f"under:{start}/"
    way = start
    for segment in path.strip("/").split("/"):
        if segment:
            way += f"/{segment}"
            yield f"under:{way}/"


class Revocations:
    """The newest revocation of each tag, as far as this process knows."""

    def __init__(self, coordination: Coordination) -> None:
        self._coordination = coordination
        self._lock = threading.Lock()
        self._known = 0
        #: The revision of the last revocation that this process knows of.
        self.last = 0
        self._newest: dict[str, int] = {}
        self._newest_hard: dict[str, int] = {}

    def follow(self, seen: int | None = None) -> int:
        """Learn what was taken back lately, and return the revision up to which all is known.

        :param seen: the current revision, if somebody looked: where it is known there is nothing
            to learn.
        :raises StoreError: it cannot be read.
        """
        if seen == self._known and seen:
            return seen
        with self._lock:
            newest, newest_hard, last = self._newest, self._newest_hard, self.last
            revision, added = self._coordination.revocations(self._known)
            is_full = len(newest) + len(newest_hard) > _REMEMBERED
            if revision < self._known or is_full:  # the counter was made anew, or room is wanted
                newest, newest_hard, last = {}, {}, 0
                revision, added = self._coordination.revocations(0)
            for one in added:
                known = newest_hard if one.hard else newest
                known[one.tag] = max(one.revision, known.get(one.tag, 0))
                last = max(one.revision, last)
            # At once: others look while we read.
            self._newest, self._newest_hard = newest, newest_hard
            self._known, self.last = revision, last
            return revision

    def of(self, page: Page) -> Taken:
        """Return whether a page was taken back after its render began."""
        if not self._newest and not self._newest_hard:
            return ""
        return self.since((*page.tags, *implicit_tags(page)), page.revision)

    def since(self, tags: Iterable[str], revision: int) -> Taken:
        """Return whether one of these tags was revoked after a revision."""
        taken: Taken = ""
        for tag in tags:
            if self._newest_hard.get(tag, 0) > revision:
                return "hard"
            if self._newest.get(tag, 0) > revision:
                taken = "soft"
        return taken

    def taken_by(self, page: Page) -> tuple[str, int, bool] | None:
        """Return the tag that took a page back, its revision, and whether it was hard."""
        for newest, hard in ((self._newest_hard, True), (self._newest, False)):
            for tag in (*page.tags, *implicit_tags(page)):
                if newest.get(tag, 0) > page.revision:
                    return tag, newest[tag], hard
        return None

    def renew_lock(self) -> None:
        self._lock = threading.Lock()
