"""Every marked page made at build time, with a report of what became of each."""

from __future__ import annotations

import logging
import queue
import threading
import time
import typing as t
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from datetime import datetime
from datetime import UTC

from flask import Flask

from . import manifest
from . import signals
from . import sitemap
from .errors import StoreError
from .plan import Plan
from .problems import Problem
from .publish import Outcome
from .publish import publish
from .routes import Target
from .site import Site
from .site import site_of

log = logging.getLogger("flask_prerender")

_SLOWEST = 10
_LISTED = 1000
_ABANDONED = 4
_ANNOUNCE_SECONDS = 0.2


@dataclass(slots=True)
class Report:
    """What a build did. Lists are cut after 1,000 entries; the counts are whole.

    :ivar total: pages planned. :ivar counts: pages by result (``published``, ``unchanged``,
        ``refused``, ``failed``). :ivar reasons: pages refused or failed, by reason.
    """

    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    turned_down: list[Outcome] = field(default_factory=list)
    slowest: list[Outcome] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    removed: int = 0
    bytes: int = 0
    duration: float = 0.0
    sitemaps: list[str] = field(default_factory=list)
    was_stopped: bool = False

    @property
    def is_good(self) -> bool:
        """Whether every page that was planned is stored, and no route has more than a warning."""
        return not (
            self.turned_down
            or self.unknown
            or self.was_stopped
            or any(not problem.is_warning for problem in self.problems)
        )

    def count(self, result: str) -> int:
        return self.counts.get(result, 0)

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.result] = self.count(outcome.result) + 1
        if outcome.page is not None:
            self.bytes += outcome.page.size
        if outcome.result == "published" and len(self.changed) < _LISTED:
            self.changed.append(outcome.key)
        if not outcome.is_stored:
            self.reasons[outcome.reason] = self.reasons.get(outcome.reason, 0) + 1
            if len(self.turned_down) < _LISTED:
                self.turned_down.append(outcome)
        if len(self.slowest) < _SLOWEST or outcome.duration > self.slowest[-1].duration:
            self.slowest.append(outcome)
            self.slowest.sort(key=lambda one: -one.duration)
            del self.slowest[_SLOWEST:]

    def to_dict(self) -> dict[str, t.Any]:
        """Return the report as plain values, for JSON."""
        brief = ("key", "endpoint", "rule", "result", "reason", "detail", "where", "duration")
        facts = {name: getattr(self, name) for name in self.__slots__}
        facts["turned_down"] = [{n: getattr(o, n) for n in brief} for o in self.turned_down]
        facts["slowest"] = [{"key": o.key, "duration": o.duration} for o in self.slowest]
        facts["problems"] = [asdict(problem) for problem in self.problems]
        return {"ok": self.is_good, **facts}


class Build:
    """One build: plan, make every page, tidy up, report.

    :param fail_fast: stop at the first page that is not stored.
    """

    def __init__(
        self,
        site: Site,
        paths: Sequence[str] = (),
        tags: Sequence[str] = (),
        *,
        concurrency: int | None = None,
        fail_fast: bool = False,
    ) -> None:
        self._site = site
        self._concurrency = concurrency or site.settings.concurrency
        self._fail_fast = fail_fast
        self._started = time.perf_counter()
        self.plan = Plan(site, paths, tags)
        self.plan.fill()
        self.report = Report(
            total=len(self.plan), problems=self.plan.problems, unknown=self.plan.unknown
        )

    def run(self) -> Iterator[Outcome]:
        """Make the pages, yielding what became of each as it is known."""
        site = self._site
        site.store.sweep()
        number = site.store.next_build()
        signals.send(signals.generate_started, site.app, total=self.report.total)
        announced = time.monotonic()
        for outcome in _Workers(site, number, self._concurrency).run(iter(self.plan)):
            self.report.add(outcome)
            if time.monotonic() - announced > _ANNOUNCE_SECONDS:
                site.coordination.advance()
                announced = time.monotonic()
            yield outcome
            if self._fail_fast and not outcome.is_stored:
                self.report.was_stopped = True
                break
        self._finish(number)

    def _finish(self, number: int) -> None:
        site, report = self._site, self.report
        if self.plan.is_full and not report.was_stopped:
            report.removed = self._prune(number)
        self.plan.close()
        site.public.mkdir(parents=True, exist_ok=True)
        manifest.write(
            site.output / "manifest.json",
            site.store.pages(),
            generated_at=site.clock(),
            style=site.style,
            base_url=site.base_url,
        )
        if site.settings.sitemap and site.has_public_url and not self._has_own_sitemap():
            report.sitemaps = sitemap.write(site.public, site.store.pages(), base_url=site.base_url)
        site.remember_build()
        site.coordination.advance()
        site.store.sweep()
        report.duration = time.perf_counter() - self._started
        signals.send(signals.generate_finished, site.app, report=report, duration=report.duration)

    def _has_own_sitemap(self) -> bool:
        """Whether the site has a page that is written where ours would be."""
        return self._site.store.get("/sitemap.xml") is not None

    def _prune(self, number: int) -> int:
        """Remove pages of earlier builds that no route has any more.

        A page that was planned and failed now stays as it was, and so do the pages of a route whose
        enumerator failed.
        """
        broken = {p.endpoint for p in self.report.problems if p.kind == "enumerator"}
        removed = 0
        for page in self._site.store.pages(built_before=number):
            if page.endpoint in broken or page.key in self.plan:
                continue
            removed += self._site.store.delete([page.key])
            signals.send(
                signals.page_removed, self._site.app, key=page.key, reason="not in this build"
            )
        return removed


class _Worker:
    """A thread that publishes one page after another, and what it is busy with."""

    def __init__(self) -> None:
        self.target: Target | None = None
        self.since = 0.0
        self.is_abandoned = False


class _Workers:
    """Threads that publish pages. One that hangs in a view is left behind and replaced."""

    def __init__(self, site: Site, number: int, count: int) -> None:
        self._site = site
        self._number = number
        self._tasks: queue.SimpleQueue[Target | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[_Worker, Outcome]] = queue.SimpleQueue()
        self._workers = [self._hire() for _ in range(count)]
        self._left_behind = 0

    def run(self, targets: Iterator[Target]) -> Iterator[Outcome]:
        under_way = 0
        try:
            while True:
                # Two for each worker: enough to keep them busy, few enough to stop at once.
                while under_way < 2 * len(self._workers):
                    target = next(targets, None)
                    if target is None:
                        break
                    self._tasks.put(target)
                    under_way += 1
                if not under_way:
                    return
                for outcome in self._next_outcomes():
                    under_way -= 1
                    yield outcome
        finally:
            self._dismiss()

    def _next_outcomes(self) -> list[Outcome]:
        try:
            worker, outcome = self._outcomes.get(timeout=0.5)
        except queue.Empty:
            return self._leave_hung_behind()
        return [] if worker.is_abandoned else [outcome]

    def _leave_hung_behind(self) -> list[Outcome]:
        """Give up on renders past their time. What they still do is judged late and not stored."""
        limit = time.monotonic() - self._site.settings.timeout - 1.0
        outcomes = []
        for number, worker in enumerate(self._workers):
            target = worker.target
            if target is None or worker.since > limit:
                continue
            worker.is_abandoned = True
            self._left_behind += 1
            if self._left_behind > _ABANDONED:
                raise StoreError(
                    f"{self._left_behind} renders hang (the last: {target.key}); the build stops. "
                    "Mend these views, or raise PRERENDER_TIMEOUT."
                )
            self._workers[number] = self._hire()
            detail = f"took longer than PRERENDER_TIMEOUT ({self._site.settings.timeout:g} s)"
            outcomes.append(
                Outcome(
                    target.key, target.endpoint, target.rule, "failed", "timeout", detail,
                    duration=time.monotonic() - worker.since,
                )
            )  # fmt: skip
        return outcomes

    def _hire(self) -> _Worker:
        worker = _Worker()
        threading.Thread(
            target=self._work, args=(worker,), name="prerender-build", daemon=True
        ).start()
        return worker

    def _work(self, worker: _Worker) -> None:
        while not worker.is_abandoned:
            target = self._tasks.get()
            if target is None:
                return
            worker.since = time.monotonic()
            worker.target = target
            try:
                outcome = publish(
                    self._site, target, origin="build", build=self._number, announce=False
                )
            except Exception as error:
                log.exception("%s could not be published", target.key)
                outcome = Outcome(
                    target.key, target.endpoint, target.rule, "failed", "internal", repr(error)
                )
            worker.target = None
            self._outcomes.put((worker, outcome))

    def _dismiss(self) -> None:
        while not self._tasks.empty():
            try:
                self._tasks.get_nowait()
            except queue.Empty:
                break
        for _ in self._workers:
            self._tasks.put(None)


def generate(
    app: Flask,
    paths: Sequence[str] = (),
    tags: Sequence[str] = (),
    *,
    concurrency: int | None = None,
    fail_fast: bool = False,
) -> Report:
    """Build the pages of an app, as ``flask prerender`` does, and return the report.

    :param paths: only these URLs, exact or with shell wildcards.
    :param tags: only pages with one of these tags.
    :raises PrerenderError: the extension is not initialised on the app.
    """
    build = Build(site_of(app), paths, tags, concurrency=concurrency, fail_fast=fail_fast)
    for _ in build.run():
        pass
    return build.report


def moment(seconds: float) -> str:
    """Return a time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
