"""Every marked page made at build time, with a report of what became of each."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import closing
from contextlib import suppress
from pathlib import Path

from flask import Flask

from . import launch
from . import manifest
from . import signals
from . import sitemap
from .address import refusal
from .batch import MOST
from .disk import failures
from .errors import ConfigError
from .errors import RenderError
from .errors import StoreError
from .errors import TagsError
from .page import Page
from .places import refuse_static
from .plan import Plan
from .processes import Processes
from .publish import Outcome
from .render import request_environ
from .site import Site
from .site import site_of
from .tally import Report
from .workers import Workers

_ANNOUNCE_SECONDS = 0.2
#: What was swept at the start of a shorter build needs no sweep at its end: bodies that a page had
#: until lately are left to those who read them.
_SWEEP_SECONDS = 60.0
_SWEEP_EACH = 600.0


class Build:
    """One build: plan, make every page, tidy up, report. It is closed when it has run.

    :param output: the directory to write to. Without it a full build goes where the settings say,
        and a part of one joins what was built last; so it is with the style.
    :param fail_fast: stop at the first page that is not stored.
    :param processes: render in so many processes, and not in threads of this one.
    :param method: how they are started. Forks share whatever connections are open by now.
    """

    def __init__(
        self,
        site: Site,
        paths: Sequence[str] = (),
        tags: Sequence[str] = (),
        *,
        output: Path | None = None,
        style: str | None = None,
        concurrency: int | None = None,
        fail_fast: bool = False,
        processes: int | None = None,
        method: launch.Method = "spawn",
    ) -> None:
        _check(site, output)
        self._site = site
        self._output = output
        self._style = style
        self._concurrency = concurrency or site.settings.concurrency
        self._fail_fast = fail_fast
        self._processes = processes
        self._method = method
        if processes is not None:
            launch.check(site.app, method, concurrency)
        elif method == "fork":
            raise ConfigError("What is to be forked? Say how many processes: --processes N.")
        self._oldest = math.inf
        self._started = time.perf_counter()
        self.plan = plan = Plan(site, paths, tags)
        try:
            plan.fill(self._stored())
        except BaseException:
            self.close()
            raise
        self.report = Report(
            len(plan), problems=plan.problems, unknown=plan.unknown, unknown_tags=plan.unknown_tags
        )

    def close(self) -> None:
        self.plan.close()

    def run(self) -> Iterator[Outcome]:
        """Make the pages, yielding what became of each as it is known.

        :raises StoreError: the store cannot be written at all. What goes wrong later is told in
            the report.
        """
        site, report = self._site, self.report
        with closing(self):
            self._move()
            site.claim()
            number = site.store.next_build()
            self._sweep(number)
            site.coordination.next_token()  # what others began before is older than its pages
            signals.send(signals.generate_started, site.app, total=report.total)
            try:
                yield from self._publish(number)
            except RenderError as error:
                report.was_stopped, report.error = True, str(error)
            finally:
                self._announce()  # however it ended, servers are to see what was stored
            self._finish(number)

    def _sweep(self, number: int) -> None:
        """Sweep at times, and whenever the build before this one did not come to its end."""
        site, now = self._site, self._site.clock()
        was_killed = site.store.last_build() != number - 1
        if site.coordination.once("sweep", now + _SWEEP_EACH, now) or was_killed:
            site.store.sweep()

    def _move(self) -> None:
        site = self._site
        is_elsewhere = site.output != self._destination
        style = site.settings.style if self.plan.is_full else site.style
        site.move(self._destination, self._style or style)
        if is_elsewhere:
            self.plan.add_visited(self._stored())
            self.report.total = len(self.plan)

    @property
    def _destination(self) -> Path:
        usual = self._site.path if self.plan.is_full else self._site.output
        return self._output or usual

    def _stored(self) -> Iterator[Page]:
        """Yield the pages of first visits that are stored where the build goes, while that can be
        told."""
        with suppress(StoreError):  # the build itself will say it
            if self._site.output == self._destination and self._site.owns_pages():
                yield from self._site.store.pages(before=1)

    def _publish(self, number: int) -> Iterator[Outcome]:
        announced = time.monotonic()
        together = 1 if self._fail_fast else MOST
        workers: Workers | Processes
        if self._processes:
            workers = Processes(self._site, number, self._processes, together, method=self._method)
        else:
            workers = Workers(self._site, number, self._concurrency, together)
        with closing(workers.run(iter(self.plan))) as outcomes:
            for outcome in outcomes:
                self.report.add(outcome)
                if time.monotonic() - announced > _ANNOUNCE_SECONDS:
                    self._announce()
                    announced = time.monotonic()
                yield outcome
                if self._fail_fast and self.report.turned_down:
                    self.report.was_stopped = True
                    return

    def _announce(self) -> None:
        # A failure here would be met again, and told, at the end.
        with suppress(StoreError):
            self._site.coordination.advance()

    def _finish(self, number: int) -> None:
        site, report = self._site, self.report
        try:
            if self.plan.is_full and not report.was_stopped:
                report.removed += self._prune(number)
                if not self._broken:
                    site.store.finish_build(number)
            self._list_pages()
            if self.plan.is_full and not report.was_stopped:
                self._forget_revocations()
            site.remember_build()
            site.coordination.advance()
            if time.perf_counter() - self._started > _SWEEP_SECONDS:
                site.store.sweep()
        except StoreError as error:
            report.error = report.error or str(error)
        report.duration = time.perf_counter() - self._started
        signals.send(signals.generate_finished, site.app, report=report, duration=report.duration)

    def _list_pages(self) -> None:
        """Write the manifest and the sitemap, of all that is stored and not of this build alone."""
        site = self._site
        with failures("write", site.public):
            site.public.mkdir(parents=True, exist_ok=True)
        listed = manifest.write_passing(
            site.output / "manifest.json",
            self._noting_the_oldest(),
            generated_at=site.clock(),
            style=site.style,
            base_url=site.base_url,
        )
        # A page that is written where ours would be.
        has_own = site.store.get("/sitemap.xml") is not None
        with closing(listed):
            try:
                if site.settings.sitemap and site.has_public_url and not has_own:
                    self.report.sitemaps = sitemap.write(
                        site.public, listed, base_url=site.base_url
                    )
            finally:  # whatever becomes of the sitemap
                deque(listed, 0)

    def _noting_the_oldest(self) -> Iterator[Page]:
        for page in self._site.store.pages():
            self._oldest = min(self._oldest, page.revision)
            yield page

    def _prune(self, number: int) -> int:
        """Remove pages of earlier builds that no route lists any more, and pages of first visits
        that no marked route answers any more.

        A page that was planned and failed now stays as it was, and so do the pages of a route whose
        enumerator failed.
        """
        site, broken, removed = self._site, self._broken, 0
        for page in site.store.pages(before=number):
            if page.key in self.plan or page.endpoint in broken or self._is_of_a_visit(page):
                continue
            removed += site.store.delete([page.key])
            signals.send(signals.page_removed, site.app, key=page.key, reason="not in this build")
        return removed

    def _forget_revocations(self) -> None:
        """Forget what was taken back before the oldest page that is listed."""
        oldest = 0 if self._oldest == math.inf else int(self._oldest)
        self._site.coordination.prune(oldest, self._site.clock())

    @property
    def _broken(self) -> set[str]:
        """Return the endpoints of whose pages we do not know all, because something failed."""
        return {p.endpoint for p in self.report.problems if p.kind in ("enumerator", "tags")}

    def _is_of_a_visit(self, page: Page) -> bool:
        """Whether a visitor brought the page, and another could bring it today."""
        if page.origin != "visit":
            return False
        with suppress(TagsError):
            environ = request_environ(self._site, page.key)
            return self._site.routes.match(environ, page.key) is not None
        return True


def _check(site: Site, output: Path | None) -> None:
    reason = "" if site.has_hosts else refusal(site.app, site.render_environ)
    if reason:
        raise ConfigError(reason)
    if output is not None:
        refuse_static(site.app, output, "--output")


def generate(
    app: Flask,
    paths: Sequence[str] = (),
    tags: Sequence[str] = (),
    *,
    concurrency: int | None = None,
    fail_fast: bool = False,
    processes: int | None = None,
    fork: bool = False,
) -> Report:
    """Build the pages of an app, as ``flask prerender`` does, and return the report.

    :param paths: only these URLs, exact or with shell wildcards.
    :param tags: only pages with one of these tags.
    :param concurrency: threads, or `processes`: so many pages at a time. One of both.
    :param fork: fork the processes: only for apps that have no connection open.
    :raises PrerenderError: the extension is not initialised on the app.
    :raises ConfigError: new processes would not find the app, or it cannot be forked.
    """
    build = Build(
        site_of(app),
        paths,
        tags,
        concurrency=concurrency,
        fail_fast=fail_fast,
        processes=processes,
        method="fork" if fork else "spawn",
    )
    for _ in build.run():
        pass
    return build.report
