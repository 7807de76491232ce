"""Processes that render side by side, for views that compute. This one stores what they made."""

from __future__ import annotations

import logging
import pickle
import time
import typing as t
from collections import deque
from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.connection import wait

from .batch import Batch
from .batch import MOST
from .batch import Waiting
from .child import READY
from .errors import RenderError
from .gate import Verdict
from .hired import Child
from .hired import Hire
from .launch import Method
from .making import Judged
from .publish import complete
from .publish import Outcome
from .publish import turn_down
from .render import Render
from .routes import Target
from .site import GRACE_SECONDS
from .site import Site
from .wire import Answer
from .wire import asked
from .wire import heard
from .wire import judged_of
from .wire import send_again

log = logging.getLogger("flask_prerender")

_LOOK_SECONDS = 0.05
_AWAY_SECONDS = 0.5
_START_SECONDS = 60.0
_PARTING_SECONDS = 2.0
#: A process is given what it renders in about this time, and as much again to begin with then.
_SHARE_SECONDS = 0.03
_SHARE = 16
#: The report has the order of the plan. So many pages may be done before an earlier one is.
_AHEAD = 1000
_LOST = 10


class Processes:
    """The processes of one build.

    :param number: of the build. :param count: processes.
    :param together: pages that are stored together; with 1, a process renders one at a time.
    :raises ConfigError: a new process would not find the app.
    """

    def __init__(
        self, site: Site, number: int, count: int, together: int = MOST, *, method: Method
    ) -> None:
        self._site = site
        self._number = number
        self._count = count
        self._batch = Batch(site, together)
        self._share_most = min(_SHARE, together)
        self._hire = Hire(site, number, method)
        self._children: list[Child] = []
        self._lost = 0  # processes that ended between two pages
        self._again: deque[tuple[int, Target]] = deque()
        self._outcomes: dict[int, Outcome] = {}
        self._numbers: dict[int, int] = {}  # of the targets that wait in the batch
        self._asked = self._told = 0
        self._is_all = False
        self._pace = 1.0  # seconds a page
        self._looked_at = time.monotonic()

    def run(self, targets: Iterator[Target]) -> Generator[Outcome, None, None]:
        """Publish each target, yielding what became of it in the order of the targets. Closing the
        iterator ends the processes.

        :raises RenderError: a process could not begin to work.
        """
        try:
            while len(self._children) < self._count:
                self._hire(self._children)
            while True:
                for child in self._children:
                    self._feed(child, targets)
                if self._is_all and self._told == self._asked:
                    return
                self._hear()
                while self._told in self._outcomes:
                    self._told += 1
                    yield self._outcomes.pop(self._told - 1)
        finally:
            self._dismiss()

    # What goes to the processes.

    def _feed(self, child: Child, targets: Iterator[Target]) -> None:
        share = max(1, min(self._share_most, int(_SHARE_SECONDS / self._pace)))
        spare = share if self._share_most > 1 and self._pace < 1.0 else 0
        if not child.is_ready or len(child.waiting) > spare:
            return
        some: list[tuple[int, Target]] = []
        while len(some) < share and (one := self._next(targets)) is not None:
            some.append(one)
        if not some:
            return
        child.waiting.update(some)
        with suppress(OSError):  # it is dead, which is noticed where its answers are heard
            child.wires.asks.send(([asked(*one) for one in some], heard(self._site.app)))

    def _next(self, targets: Iterator[Target]) -> tuple[int, Target] | None:
        if self._again:
            return self._again.popleft()
        if self._asked - self._told >= _AHEAD:
            return None
        target = next(targets, None)
        if target is None:
            self._is_all = True
            return None
        self._asked += 1
        return self._asked - 1, target

    # What comes back.

    def _hear(self) -> None:
        by_wire = {child.wires.answers: child for child in self._children}
        for wire in wait(list(by_wire), _LOOK_SECONDS):
            self._hear_one(by_wire[t.cast(Connection, wire)])
        self._look_after_all()
        is_idle = not any(child.waiting for child in self._children)
        self._store(self._batch.rest() if is_idle else self._batch.overdue())

    def _hear_one(self, child: Child) -> None:
        try:
            said = child.wires.answers.recv_bytes()
        except (EOFError, OSError):
            self._bury(child)
            return
        if child.is_ready:
            for answer in pickle.loads(said):
                self._take(child.waiting.pop(answer.number), answer)
        elif said != READY:
            raise RenderError(f"A process of the build cannot work: {said.decode()}")
        else:
            child.is_ready = True

    def _take(self, target: Target, answer: Answer) -> None:
        send_again(self._site, answer.sent)
        if answer.facts is None:
            outcome = _broken(target, answer.broken)
            self._outcomes[answer.number] = outcome
            return
        judged = judged_of(answer, target, self._number)
        self._pace += 0.2 * (judged.done.duration - self._pace)
        if target.is_visited or not judged.verdict:
            self._outcomes[answer.number] = self._complete(judged)
            return
        self._numbers[id(target)] = answer.number
        self._store(self._batch.add(Waiting(target, judged), is_last=False))

    def _complete(self, judged: Judged) -> Outcome:
        try:
            return complete(self._site, judged, announce=False)
        except Exception as error:
            log.error("%s could not be published", judged.target.key, exc_info=error)
            return _broken(judged.target, repr(error))

    def _store(self, waiting: Sequence[Waiting]) -> None:
        if not waiting:
            return
        try:
            outcomes = self._batch.store(waiting)
        except Exception as error:
            log.error("%d pages could not be published", len(waiting), exc_info=error)
            outcomes = [_broken(one.target, repr(error)) for one in waiting]
        for one, outcome in zip(waiting, outcomes, strict=True):
            self._outcomes[self._numbers.pop(id(one.target))] = outcome

    # Those that die, and those that hang.

    def _look_after_all(self) -> None:
        now = time.monotonic()
        was_away = now - self._looked_at > _AWAY_SECONDS
        self._looked_at = now
        for child in list(self._children):
            if was_away:  # to store, while they could not tell us what they did
                child.since = now
            self._end_if_hung(child, now)

    def _end_if_hung(self, child: Child, now: float) -> None:
        current = child.wires.current.value
        if not child.is_ready:
            if now - child.since > _START_SECONDS:
                raise RenderError("A process of the build did not come to work within a minute.")
            return
        if current != child.current or not child.waiting:
            child.current, child.since = current, now
            return
        timeout = self._site.settings.timeout
        if now - child.since > timeout + GRACE_SECONDS:
            child.process.kill()
            detail = f"took longer than PRERENDER_TIMEOUT ({timeout:g} s)"
            self._bury(child, Verdict("timeout", detail))

    def _bury(self, child: Child, verdict: Verdict | None = None) -> None:
        """Put another in the place of a process that ended. The page that it rendered has failed;
        the others that it was asked for are asked for again."""
        child.process.join(_PARTING_SECONDS)
        if child.process.exitcode is None:
            child.process.kill()
            child.process.join()
        number, how = child.wires.current.value, child.ending()
        self._lost += number not in child.waiting
        if not child.is_ready or self._lost > _LOST:
            raise RenderError(f"A process of the build {how} before it rendered a page.")
        self._children.remove(child)
        child.close()
        if (target := child.waiting.pop(number, None)) is not None:
            if verdict is None:
                verdict = Verdict("error", f"the process that rendered it {how}")
            self._outcomes[number] = self._fail(target, verdict, time.monotonic() - child.since)
        self._again.extendleft(reversed(child.waiting.items()))
        self._hire(self._children)

    def _fail(self, target: Target, verdict: Verdict, duration: float) -> Outcome:
        done = Render(target.key, 0, 0.0, duration=duration)
        origin = "visit" if target.is_visited else "build"
        judged = Judged(target, done, origin, self._number, 0, self._site.clock(), verdict)
        return turn_down(self._site, judged, verdict)

    # Beginning and end.

    def _dismiss(self) -> None:
        """End all: what was rendered is stored, what is being rendered is dropped."""
        for child in self._children:
            child.close()
            if child.waiting:
                child.process.terminate()
        self._store(self._batch.rest())
        deadline = time.monotonic() + _PARTING_SECONDS
        for child in self._children:
            child.process.join(max(0.0, deadline - time.monotonic()))
            if child.process.exitcode is None:
                child.process.kill()
                child.process.join()


def _broken(target: Target, detail: str) -> Outcome:
    return Outcome(target.key, target.endpoint, target.rule, "failed", "internal", detail)
