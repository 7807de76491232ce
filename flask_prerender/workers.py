"""Threads that publish pages side by side. One that hangs in a view is left behind and replaced."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from contextvars import Context

from .batch import Batch
from .batch import MOST
from .batch import Waiting
from .errors import RenderError
from .making import Judged
from .publish import Outcome
from .publish import prepare
from .publish import publish
from .routes import Target
from .site import GRACE_SECONDS
from .site import Site
from .tokens import Tokens

log = logging.getLogger("flask_prerender")

_ABANDONED = 4
_LOOK_SECONDS = 0.2
_PARTING_SECONDS = 5.0


class _Worker:
    """A thread that publishes one page after another, and what it is busy with."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        #: The page that it renders, or those that it stores.
        self.targets: Sequence[Target] = ()
        self.since = 0.0
        self.is_abandoned = False


class Workers:
    """The threads of one build.

    :param number: of the build.
    :param count: pages under way at a time.
    :param together: pages that are stored together.
    """

    def __init__(self, site: Site, number: int, count: int, together: int = MOST) -> None:
        self._site = site
        self._number = number
        self._count = count
        self._batch = Batch(site, together)
        self._tokens = Tokens(site)
        # Two for each worker, and a batch that is made while the one before it is stored.
        self._ahead = 2 * (count + together - 1)
        self._tasks: queue.SimpleQueue[Target | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        self._lock = threading.Lock()
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
                while under_way < self._ahead:
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
            return self._outcomes.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            # Those that are busy now may be so for long.
            return self._store(self._batch.overdue()) or self._leave_hung_behind()

    def _leave_hung_behind(self) -> list[Outcome]:
        """Give up on renders past their time. What they still do is judged late and not stored."""
        now, each = time.monotonic(), self._site.settings.timeout + GRACE_SECONDS
        outcomes = []
        for number, worker in enumerate(self._workers):
            with self._lock:
                targets = worker.targets
                # Each page that is stored with others has its time.
                if not targets or now - worker.since < each * len(targets):
                    continue
                worker.is_abandoned = True
                worker.targets = ()
            self._left_behind += 1
            if self._left_behind <= _ABANDONED:
                self._workers[number] = self._hire()
            detail = f"took longer than PRERENDER_TIMEOUT ({self._site.settings.timeout:g} s)"
            outcomes += [
                Outcome(
                    target.key, target.endpoint, target.rule, "failed", "timeout", detail,
                    duration=now - worker.since,
                )
                for target in targets
            ]  # fmt: skip
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
            self._begin(worker, (target,))
            one = Waiting(target, self._publish(target))
            if not self._end(worker):
                return
            if waiting := self._batch.add(one, is_last=self._tasks.empty()):
                self._begin(worker, [one.target for one in waiting])
                outcomes = self._store(waiting)
                if self._end(worker):
                    self._outcomes.put(outcomes)

    def _begin(self, worker: _Worker, targets: Sequence[Target]) -> None:
        worker.since = time.monotonic()
        worker.targets = targets

    def _end(self, worker: _Worker) -> bool:
        """Return whether anybody still waits for what a worker has done."""
        with self._lock:
            worker.targets = ()
            return not worker.is_abandoned

    def _publish(self, target: Target) -> Judged | Outcome:
        try:
            token = self._tokens.read()
            if target.is_visited:  # it may make others go
                return publish(
                    self._site, target, origin="visit", build=self._number, announce=False,
                    token=token,
                )  # fmt: skip
            return prepare(self._site, target, origin="build", build=self._number, token=token)
        except Exception as error:
            return _broken(target, error)

    def _store(self, waiting: Sequence[Waiting]) -> list[Outcome]:
        try:
            return self._batch.store(waiting)
        except Exception as error:
            return [_broken(one.target, error) for one in waiting]

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
        self._store(self._batch.rest())


def _broken(target: Target, error: Exception) -> Outcome:
    log.error("%s could not be published", target.key, exc_info=error)
    return Outcome(target.key, target.endpoint, target.rule, "failed", "internal", repr(error))
