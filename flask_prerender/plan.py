"""What a build is to make: every URL once, in order, held on disk and not in memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextvars import Context
from dataclasses import replace
from fnmatch import fnmatchcase
from urllib.parse import parse_qsl
from urllib.parse import unquote

from .errors import TagsError
from .marks import Mark
from .page import Page
from .page import split_key
from .page import without_base
from .problems import Problem
from .render import request_environ
from .routes import Target
from .site import Site
from .typed import meant_by

#: A list may have a million URLs that are never stored; other problems come once a route.
_PROBLEMS = 1000


class Plan:
    """The URLs of a build.

    :param paths: only these URLs, exact or with shell wildcards. An exact one may be a page that no
        enumerator lists.
    :param tags: only pages with one of these tags.
    """

    def __init__(self, site: Site, paths: Sequence[str] = (), tags: Sequence[str] = ()) -> None:
        self._site = site
        keys = {path: _normal(site, path) for path in paths}
        self._paths = [key for key in keys.values() if key is not None]
        self._has_paths = bool(paths)
        self._tags = frozenset(tags)
        self._met: set[str] = set()
        #: Whether every page of the site is meant.
        self.is_full = not paths and not tags
        self._marks: list[Mark] = []
        self._numbers: dict[int, int] = {}
        self.problems: list[Problem] = []
        #: Paths that were asked for and belong to no marked route.
        self.unknown = [path for path, key in keys.items() if key is None]
        #: Tags that were asked for and no page has.
        self.unknown_tags: list[str] = []
        # "" is a private database on disk that vanishes with its connection.
        self._urls = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._urls.execute(
            "CREATE TABLE urls (n INTEGER PRIMARY KEY, key TEXT UNIQUE, rule TEXT, endpoint TEXT,"
            " tags TEXT, last_modified REAL, mark INTEGER, visited INTEGER)"
        )

    def __len__(self) -> int:
        count: int = self._urls.execute("SELECT count(*) FROM urls").fetchone()[0]
        return count

    def __contains__(self, key: str) -> bool:
        return self._urls.execute("SELECT 1 FROM urls WHERE key = ?", (key,)).fetchone() is not None

    def __iter__(self) -> Iterator[Target]:
        last = 0
        while rows := self._urls.execute(
            "SELECT n, key, rule, endpoint, tags, last_modified, mark, visited FROM urls"
            " WHERE n > ? ORDER BY n LIMIT 500",
            (last,),
        ).fetchall():
            for _, key, rule, endpoint, tags, last_modified, number, visited in rows:
                tags, mark = tuple(json.loads(tags)), self._marks[number]
                yield Target(key, rule, endpoint, mark, tags, last_modified, bool(visited))
            last = rows[-1][0]

    def fill(self, stored: Iterable[Page] = ()) -> None:
        """Ask every enumerator, in a clean context: a build may run inside a visitor's request.

        :param stored: what is stored. Pages that visitors asked for come after those listed.
        """
        Context().run(self._fill, stored)

    def add_visited(self, stored: Iterable[Page]) -> None:
        """Add the pages that visitors asked for and that a marked route still answers."""
        for page in stored:
            if page.origin != "visit" or page.key in self:
                continue
            target = self._answering(page.key)
            if target is not None and self._is_wanted(target):
                self._add(replace(target, is_visited=True))

    def _fill(self, stored: Iterable[Page]) -> None:
        self._urls.execute("BEGIN")
        with self._site.app.app_context():
            for problem in self._site.routes.idle():
                self._note(problem)
            for target in self._site.routes.targets(self._note):
                if self._is_wanted(target):
                    self._add(target)
            self.add_visited(stored)
            for path in self._paths:
                self._add_exact(path)
        self._urls.execute("COMMIT")
        self.unknown_tags += sorted(self._tags - self._met)

    def close(self) -> None:
        self._urls.close()

    def _note(self, problem: Problem) -> None:
        if problem.kind != "unstorable" or len(self.problems) < _PROBLEMS:
            self.problems.append(problem)

    def _is_wanted(self, target: Target) -> bool:
        self._met |= self._tags & set(target.tags)
        if self._tags and self._tags.isdisjoint(target.tags):
            return False
        if not self._has_paths:
            return True
        return any(_fits(target.key, path) for path in self._paths)

    def _add(self, target: Target) -> None:
        number = self._numbers.get(id(target.mark))
        if number is None:
            number = self._numbers[id(target.mark)] = len(self._marks)
            self._marks.append(target.mark)
        self._urls.execute(
            "INSERT OR IGNORE INTO urls (key, rule, endpoint, tags, last_modified, mark, visited)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                target.key,
                target.rule,
                target.endpoint,
                json.dumps(target.tags),
                target.last_modified,
                number,
                target.is_visited,
            ),
        )

    def _add_exact(self, path: str) -> None:
        """Add a page that was asked for by name, as a first visit would find it."""
        if _is_pattern(path):
            if not any(_fits(target.key, path) for target in self):
                self.unknown.append(path)
            return
        if path in self:
            return
        told = len(self.problems)
        target = self._answering(path)
        if target is None:
            if len(self.problems) == told:
                self.unknown.append(path)
        elif self._is_wanted(target):
            self._add(target)

    def _answering(self, key: str) -> Target | None:
        """Return the marked route that would store this page at a first visit, if there is one."""
        try:
            target = self._site.routes.match(request_environ(self._site, key), key)
        except TagsError as error:
            self.problems.append(Problem("tags", "", key, f"{key}: its tags failed: {error}"))
            return None
        names = {name for name, _ in parse_qsl(split_key(key)[2], keep_blank_values=True)}
        return None if target is None or not all(map(target.mark.has_query, names)) else target


def _is_pattern(path: str) -> bool:
    """Whether a path has shell wildcards. The question mark of ``/list?page=2`` is none."""
    return "*" in path or "[" in path or ("?" in path and "=" not in path.partition("?")[2])


def _normal(site: Site, path: str) -> str | None:
    """Return a path as a user types it in the form that keys have, or ``None`` when it has none."""
    typed = without_base(path, site.base_url, has_hosts=site.has_hosts)
    if _is_pattern(typed):
        return typed
    meant = meant_by(site, path)
    return meant.key if meant and not meant.unnamed else site.typed_key(path)


def _fits(key: str, path: str) -> bool:
    return key == path or fnmatchcase(key, path) or fnmatchcase(unquote(key), path)
