"""Threads that publish pages side by side. One that hangs in a view is left behind and replaced."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Generator
from collections.abc import Iterator
from contextvars import Context

from .errors import RenderError
from .publish import Outcome
from .publish import publish
from .routes import Target
from .site import GRACE_SECONDS
from .site import Site

log = logging.getLogger("flask_prerender")

_ABANDONED = 4
_LOOK_SECONDS = 0.5
_PARTING_SECONDS = 5.0


class _Worker:
    """A thread that publishes one page after another, and what it is busy with."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.target: Target | None = None
        self.since = 0.0
        self.is_abandoned = False


class Workers:
    """The threads of one build.

    :param number: of the build.
    :param count: pages under way at a time.
    """

    def __init__(self, site: Site, number: int, count: int) -> None:
        self._site = site
        self._number = number
        self._count = count
        self._tasks: queue.SimpleQueue[Target | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[tuple[_Worker, Outcome]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._left_behind = 0

    def run(self, targets: Iterator[Target]) -> Generator[Outcome, None, None]:
        """Publish each target, yielding what became of it. Closing the iterator ends the threads.

        :raises RenderError: so many views hang that going on is of no use.
        """
        under_way = 0
        try:
            while len(self._workers) < self._count:
                self._workers.append(self._hire())
            while True:
                # Two for each worker: enough to keep them busy, few enough to stop at once.
                while under_way < 2 * self._count:
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
                if self._left_behind > _ABANDONED:
                    raise RenderError(
                        f"{self._left_behind} renders hang, so the build stops. Mend these views, "
                        "or raise PRERENDER_TIMEOUT."
                    )
        finally:
            self._dismiss()

    def _next_outcomes(self) -> list[Outcome]:
        try:
            worker, outcome = self._outcomes.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            return self._leave_hung_behind()
        return [] if worker.is_abandoned else [outcome]

    def _leave_hung_behind(self) -> list[Outcome]:
        """Give up on renders past their time. What they still do is judged late and not stored."""
        limit = time.monotonic() - self._site.settings.timeout - GRACE_SECONDS
        outcomes = []
        for number, worker in enumerate(self._workers):
            target = worker.target
            if target is None or worker.since > limit:
                continue
            worker.is_abandoned = True
            self._left_behind += 1
            if self._left_behind <= _ABANDONED:
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
        worker.thread = threading.Thread(
            target=Context().run, args=(self._work, worker), name="prerender-build", daemon=True
        )
        worker.thread.start()
        return worker

    def _work(self, worker: _Worker) -> None:
        while not worker.is_abandoned:
            target = self._tasks.get()
            if target is None:
                return
            worker.since = time.monotonic()
            worker.target = target
            try:
                origin = "visit" if target.is_visited else "build"
                outcome = publish(
                    self._site, target, origin=origin, build=self._number, announce=False
                )
            except Exception as error:
                log.exception("%s could not be published", target.key)
                outcome = Outcome(
                    target.key, target.endpoint, target.rule, "failed", "internal", repr(error)
                )
            worker.target = None
            self._outcomes.put((worker, outcome))

    def _dismiss(self) -> None:
        """Let the threads end: what was not begun is dropped, what is under way may be finished."""
        while not self._tasks.empty():
            try:
                self._tasks.get_nowait()
            except queue.Empty:
                break
        for _ in self._workers:
            self._tasks.put(None)
        deadline = time.monotonic() + min(_PARTING_SECONDS, self._site.settings.timeout)
        for worker in self._workers:
            if worker.thread is not None and not worker.is_abandoned:
                worker.thread.join(max(0.0, deadline - time.monotonic()))
