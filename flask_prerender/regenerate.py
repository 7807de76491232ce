"""A stale page made new in the background, once for all workers of a host."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from . import signals
from .claims import Claim
from .claims import Claims
from .claims import LEASE_SECONDS
from .claims import LONGEST_REST
from .claims import rest_after
from .coordination.base import Streak
from .errors import StoreError
from .publish import Outcome
from .publish import publish
from .render import request_environ
from .rests import is_wanted
from .rests import remember
from .rests import streak_after
from .routes import Target
from .site import Site

log = logging.getLogger("flask_prerender")

_IDLE_SECONDS = 1.0
_QUEUED = 1000
_REMEMBERED = 10_000
_ABANDONED = 4
_SLOW_SECONDS = 1.0
_DRAIN_SECONDS = 2.0

Runner = Callable[[str], object]


@dataclass(slots=True, eq=False)
class _Worker:
    """A thread at work: its key, and since when."""

    key: str = ""
    since: float = 0.0
    is_abandoned: bool = False


class Regenerator:
    """Makes stale pages new, beside the requests that meet them.

    :param runner: called with each key in place of a thread of ours: the way into a job queue,
        whose jobs call ``prerender.refresh(key)``.
    """

    def __init__(self, site: Site, claims: Claims, runner: Runner | None = None) -> None:
        self._site = site
        self._claims = claims
        self._runner = runner
        self.renew()
        site.renewals.append(self.renew)
        _regenerators.add(self)

    def renew(self) -> None:
        """Begin anew, with locks and threads of this process: a forked child has none."""
        self._condition = threading.Condition()
        self._queue: OrderedDict[str, None] = OrderedDict()
        self._workers: set[_Worker] = set()
        self._left_behind = 0
        self.has_threads = True
        self._rests: dict[str, tuple[float, int]] = {}
        self.is_closed = False
        self.dropped = 0

    def ask(self, key: str) -> bool:
        """Ask for a key to be made new, and return whether it will be. Never waits for work.

        Where it will not be because no thread can start, ``has_threads`` says so.
        """
        if self._site.settings.regenerate != "thread":
            return False
        if self.is_closed or self._rests_now(key):
            return False
        if self._runner is not None:
            return self._hand_over(key, self._runner)
        with self._condition:
            # Also for a key that is known: those queued behind one that hangs are asked for again.
            self._leave_hung_behind()
            is_new = not (key in self._queue or any(one.key == key for one in self._workers))
            if is_new and len(self._queue) >= _QUEUED:
                self.dropped += 1
                return False
            if is_new:
                self._queue[key] = None
                self._condition.notify()
            return self._see_to_workers() and is_new

    def _hand_over(self, key: str, runner: Runner) -> bool:
        self._rest(key, LEASE_SECONDS)
        try:
            runner(key)
        except Exception as error:
            self._site.complain("runner", "the runner did not take %s: %r", key, error)
            return False
        return True

    def make_new(self, key: str, *, anyway: bool = False) -> Outcome | None:
        """Make one page new, unless somebody else is at it, it rests, or it is fresh: ``None``.

        :param anyway: make it new although it is fresh, rests, or is not stored yet.
        :raises StoreError: claims, or the store, cannot be used.
        """
        with self._claims.hold(key, anyway=anyway or is_wanted(self._site, key)) as claim:
            if claim is None:
                self._rest(key, 1.0)
                return None
            if not anyway and not self._is_needed(key):
                return None
            outcome = self._publish(key, claim)
            claim.streak = self._streak(outcome, claim)
            return outcome

    def make_new_inline(self, key: str) -> None:
        """Make one page new after its old version was sent; never raises."""
        if self.is_closed or self._rests_now(key):
            return
        self._try(key)

    def close(self, seconds: float = _DRAIN_SECONDS) -> None:
        """Take no more work, and leave a page that is being stored the time to be whole."""
        with self._condition:
            self.is_closed = True
            self._queue.clear()
            self._condition.notify_all()
        deadline = time.monotonic() + seconds
        while self._site.storing and time.monotonic() < deadline:
            time.sleep(0.01)
        self._claims.let_go()

    def _publish(self, key: str, claim: Claim) -> Outcome:
        site = self._site
        signals.send(signals.regenerate_started, site.app, key=key)
        try:
            with site.app.app_context():
                target = site.routes.match(request_environ(site, key), key)
        except Exception as error:  # from the mark's own tags
            detail = f"{type(error).__name__}: {error}"
            outcome = Outcome(key, "", "", "failed", "error", detail)
        else:
            outcome = self._made(key, target, claim)
        facts = {"key": key, "result": outcome.result, "duration": outcome.duration}
        signals.send(signals.regenerate_finished, site.app, **facts)
        return outcome

    def _made(self, key: str, target: Target | None, claim: Claim) -> Outcome:
        site = self._site
        if target is not None:
            return publish(site, target, origin="regenerate", token=claim.token)
        if site.store.delete([key]):
            site.coordination.advance()
            signals.send(signals.page_removed, site.app, key=key, reason="route")
        return Outcome(key, "", "", "refused", "route", "no marked route has it any more")

    def _is_needed(self, key: str) -> bool:
        """Look again with the claim in hand: somebody may just have made the page new."""
        site = self._site
        site.revocations.follow()
        page = site.store.get(key)
        if page is None:
            return False
        return page.state(site.clock()) != "fresh" or site.revocations.of(page) != ""

    def _streak(self, outcome: Outcome, claim: Claim) -> Streak | None:
        """Return how long the key rests, and keep in mind what its next visitors need not try."""
        site, key = self._site, outcome.key
        streak = streak_after(site, outcome, claim.lease.failures)
        if streak is None:
            self._rests.pop(key, None)
        else:
            self._rest(key, streak.not_before - site.clock(), claim.revision)
        if outcome.is_stored:
            site.unstorable.pop(key, None)
        elif outcome.was_removed:
            remember(site, outcome, revision=claim.revision)
        return streak

    def _rests_now(self, key: str) -> bool:
        until, revision = self._rests.get(key, (0.0, 0))
        if self._site.revocations.last > revision:
            return False  # it may have been taken back since; who makes it new finds out
        # A longer rest than any was noted before the clock was set.
        return 0 < until - self._site.clock() <= LONGEST_REST

    def _rest(self, key: str, seconds: float, revision: int | None = None) -> None:
        if len(self._rests) >= _REMEMBERED:
            self._rests.clear()
        before = self._site.coordination.revision() if revision is None else revision
        self._rests[key] = (self._site.clock() + seconds, before)

    def _see_to_workers(self) -> bool:
        """Start as many threads as there is work for. Called with the condition held."""
        wanted = min(self._wanted(), len(self._queue) + len(self._workers))
        while len(self._workers) < wanted and self._left_behind < _ABANDONED:
            worker = _Worker()
            thread = threading.Thread(
                target=self._work, args=(worker,), name="prerender-regenerate", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # at the end of the interpreter, or out of threads
                self._queue.clear()
                self.has_threads = False
                return False
            self.has_threads = True
            self._workers.add(worker)
        return bool(self._workers)

    def _wanted(self) -> int:
        """Return how many threads there may be: those whose render takes long hold nobody up."""
        limit = time.monotonic() - _SLOW_SECONDS
        slow = sum(bool(one.key) and one.since < limit for one in self._workers)
        return self._site.settings.regenerators + min(slow, _ABANDONED)

    def _leave_hung_behind(self) -> None:
        """A thread cannot be killed: another takes its place, and what it still does is late."""
        limit = time.monotonic() - self._site.settings.timeout - 1.0
        for worker in [one for one in self._workers if one.key and one.since < limit]:
            worker.is_abandoned = True
            self._workers.discard(worker)
            self._left_behind += 1
            self._rest(worker.key, rest_after(0, None))
            log.warning("The render of %s hangs; its thread is left behind.", worker.key)
            if self._left_behind == _ABANDONED:
                log.critical("%s renders hang: no page is made new until one ends.", _ABANDONED)

    def _work(self, worker: _Worker) -> None:
        while (key := self._next(worker)) is not None:
            self._try(key)

    def _try(self, key: str) -> None:
        try:
            self.make_new(key)
        except StoreError as error:
            self._rest(key, rest_after(0, None))
            self._site.complain("regenerate", "%s could not be made new: %s", key, error)
        except Exception:
            self._rest(key, rest_after(0, None))
            log.exception("%s could not be made new", key)

    def _next(self, worker: _Worker) -> str | None:
        with self._condition:
            worker.key = ""
            if not worker.is_abandoned:
                self._condition.wait_for(lambda: self._queue or self.is_closed, _IDLE_SECONDS)
                has_place = len(self._workers) <= self._wanted()
                if self._queue and has_place and not self.is_closed:
                    worker.key, _ = self._queue.popitem(last=False)
                    worker.since = time.monotonic()
                    return worker.key
            elif self._left_behind:
                self._left_behind -= 1
            self._workers.discard(worker)
            return None


_regenerators: weakref.WeakSet[Regenerator] = weakref.WeakSet()


@atexit.register
def _drain() -> None:
    for regenerator in list(_regenerators):
        regenerator.close()
