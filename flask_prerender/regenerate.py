"""A stale page made new in the background, once for all workers of a host."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections.abc import Callable

from . import signals
from .backlog import Backlog
from .claims import Claim
from .claims import Claims
from .claims import LEASE_SECONDS
from .claims import LONGEST_REST
from .claims import rest_after
from .coordination.base import Streak
from .errors import ConfigError
from .errors import StoreError
from .likeness import name_of
from .process import Process
from .publish import Outcome
from .publish import publish
from .render import request_environ
from .rests import is_wanted
from .rests import remember
from .rests import streak_after
from .routes import Target
from .settings import IN_BACKGROUND
from .site import Site
from .stores.memory import MemoryStore

log = logging.getLogger("flask_prerender")

_REMEMBERED = 10_000
_DRAIN_SECONDS = 2.0

#: Whether processes may be started for the work; the processes themselves start none.
processes = True

Runner = Callable[[str], object]


class Regenerator:
    """Makes stale pages new, beside the requests that meet them.

    :param runner: called with each key in place of a thread of ours: the way into a job queue,
        whose jobs call ``prerender.refresh(key)``.
    """

    def __init__(self, site: Site, claims: Claims, runner: Runner | None = None) -> None:
        self._site = site
        self._claims = claims
        self._runner = runner
        self._process = self._make_process() if site.settings.regenerate == "process" else None
        self.renew()
        site.renewals.append(self.renew)
        _regenerators.add(self)

    def _make_process(self) -> Process | None:
        site = self._site
        if self._runner is not None:
            raise ConfigError(
                "PRERENDER_REGENERATE is 'process', and Prerender has a runner: both would make "
                "the pages. Leave one of them out; with a runner, it is 'thread'."
            )
        if isinstance(site.store, MemoryStore):
            raise ConfigError(
                "PRERENDER_REGENERATE is 'process', and the store keeps pages in the memory of "
                "each process: nobody would see what it makes. Use 'thread', or another store."
            )
        if os.name != "posix":
            raise ConfigError("PRERENDER_REGENERATE = 'process' needs POSIX. Use 'thread'.")
        name = name_of(site.app, site.settings.app)
        return Process(site, name, LEASE_SECONDS) if processes else None

    def renew(self) -> None:
        """Begin anew, with locks and threads of this process: a forked child has none."""
        if self._process is not None:
            self._process.renew()
        self.backlog = Backlog(
            self._site.settings,
            self.work,
            prepare=self._process.prepare if self._process else lambda: None,
            on_hang=lambda key: self._rest(key, rest_after(0, None)),
        )
        self._rests: dict[str, tuple[float, int]] = {}

    def ask(self, key: str) -> bool:
        """Ask for a key to be made new, and return whether it will be. Never waits for work.

        Where it will not be because no thread can start, ``backlog.has_threads`` says so.
        """
        if self._site.settings.regenerate not in IN_BACKGROUND:
            return False
        if self.backlog.is_closed or self._rests_now(key):
            return False
        if self._runner is not None:
            return self._hand_over(key, self._runner)
        return self.backlog.add(key)

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
        if not (self.backlog.is_closed or self._rests_now(key)):
            self._try(key)

    def close(self, seconds: float = _DRAIN_SECONDS) -> None:
        """Take no more work, and leave a page that is being stored the time to be whole."""
        self.backlog.close()
        deadline = time.monotonic() + seconds
        while self._site.storing and time.monotonic() < deadline:
            time.sleep(0.01)
        self._claims.let_go()
        if self._process is not None:
            self._process.close()

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

    def work(self, key: str) -> None:
        """Make one page new, in our process if there is one; never raises."""
        if self._process is None or self._process.is_given_up:
            self._try(key)
            return
        made = self._process.make_new(key)
        if made.rest > 0:
            self._rest(key, made.rest, made.revision)

    def rest_of(self, key: str) -> tuple[float, int]:
        """Return for how many seconds a key rests, and since which revision."""
        until, revision = self._rests.get(key, (0.0, 0))
        return max(0.0, until - self._site.clock()), revision

    def _try(self, key: str) -> None:
        try:
            self.make_new(key)
        except StoreError as error:
            self._rest(key, rest_after(0, None))
            self._site.complain("regenerate", "%s could not be made new: %s", key, error)
        except Exception:
            self._rest(key, rest_after(0, None))
            log.exception("%s could not be made new", key)


_regenerators: weakref.WeakSet[Regenerator] = weakref.WeakSet()


@atexit.register
def _drain() -> None:
    for regenerator in list(_regenerators):
        regenerator.close()
