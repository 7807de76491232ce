"""Many stale pages, late renders, loops: what herds and time do to what is stored."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest

from flask_prerender import backlog
from flask_prerender import generate
from flask_prerender.claims import LEASE_SECONDS
from flask_prerender.stores.memory import MemoryStore
from living import SECONDS
from living import settle
from living import site_of

# Out of order.


class Late:
    """A render of ``/page`` that has read the content and ends when it is told to."""

    def __init__(self, app, content):
        self.read, self.go = threading.Event(), threading.Event()
        self.outcome = None
        self._app, self._content = app, content
        self._thread = threading.Thread(target=self._make)
        self._thread.late = self
        self._thread.start()
        assert self.read.wait(SECONDS)

    def view(self):
        text = str(self._content[0])
        self.read.set()
        assert self.go.wait(SECONDS)
        return text

    def end(self):
        self.go.set()
        self._thread.join(SECONDS)
        return self.outcome

    def _make(self):
        self.outcome = site_of(self._app).regenerator.make_new("/page", anyway=True)


@pytest.mark.parametrize(
    "rounds", [30, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
def test_renders_that_end_in_any_order_never_put_a_page_back(make_app, wsgi_get, clock, rounds):
    apps = [make_app() for _ in range(3)]
    content = [0]
    for app in apps:
        view = app.prerender(lambda: threading.current_thread().late.view())
        app.add_url_rule("/page", "page", view)
    rng, seen, turned_down = random.Random(6), 0, 0
    for _ in range(rounds):
        late = []
        for app in apps:
            clock.forward(LEASE_SECONDS)  # who renders still is thought to be dead
            content[0] += 1
            late.append(Late(app, content))
        rng.shuffle(late)
        for one in late:
            turned_down += one.end().reason == "fenced"
            now = {int(wsgi_get(app, "/page").body) for app in apps}
            assert len(now) == 1
            assert min(now) >= seen
            seen = min(now)
        assert seen == content[0]
    assert turned_down > rounds / 2


# Many stale pages.


class Site:
    """Many pages whose renders are counted, and how many there are at a time."""

    def __init__(self, app, count):
        self.count = count
        self.made = Counter()
        self.most = self.most_queued = 0
        self.app = app
        self._now, self._lock = 0, threading.Lock()
        self.go = threading.Event()
        self.go.set()
        self.version = "old"
        app.add_url_rule("/<int:n>", "page", app.prerender(revalidate=60)(lambda n: self._view(n)))

    def _view(self, n):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.made[n] += 1
        assert self.go.wait(SECONDS)
        try:
            return f"{n} {self.version}"
        finally:
            with self._lock:
                self._now -= 1

    def ask_all(self, wsgi_get):
        """Ask for every page, and return how many answers were of each version."""
        versions = Counter()
        for n in range(self.count):
            answer = wsgi_get(self.app, f"/{n}")
            assert (answer.status, answer.get("X-Prerendered")) == (200, "true")
            number, version = answer.body.decode().split()
            assert number == str(n)
            versions[version] += 1
            queued = len(site_of(self.app).regenerator.backlog.queue)
            self.most_queued = max(self.most_queued, queued)
        return versions

    def ask_until_new(self, wsgi_get, passes=10_000):
        for _ in range(passes):
            versions = self.ask_all(wsgi_get)
            if versions == {self.version: self.count}:
                return
            settle(self.app)
        raise AssertionError(versions)


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.long)])
def test_a_process_that_finds_all_pages_stale_answers_at_once_and_makes_them_one_by_one(
    make_app, wsgi_get, clock, count
):
    before = Site(make_app(), count)
    for n in range(count):
        wsgi_get(before.app, f"/{n}")
    site_of(before.app).close()
    clock.forward(3600)
    after = Site(make_app(), count)
    after.version = "new"
    after.go.clear()
    assert after.ask_all(wsgi_get) == {"old": count}
    assert [t.name for t in threading.enumerate()].count("prerender-regenerate") == 1
    after.go.set()
    settle(after.app)
    after.ask_until_new(wsgi_get, 1)
    assert after.made == dict.fromkeys(range(count), 1)
    assert after.most == 1


@pytest.mark.parametrize(
    ("count", "queued", "hits"),
    [
        (250, 100, 0),
        pytest.param(5000, 1000, 1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_more_stale_pages_than_the_queue_holds_are_made_new_in_the_end_once_each(
    make_app, wsgi_get, clock, monkeypatch, count, queued, hits
):
    assert backlog._QUEUED == 1000
    monkeypatch.setattr(backlog, "_QUEUED", queued)
    config = {"PRERENDER_COMPRESS": False, "PRERENDER_MEMORY_BYTES": 2**30}
    site = Site(make_app(config, store=MemoryStore()), count)
    for n in range(count):
        wsgi_get(site.app, f"/{n}")
    regenerator = site_of(site.app).regenerator
    clock.forward(60)
    site.made.clear()
    site.version = "new"
    site.go.clear()
    assert site.ask_all(wsgi_get) == {"old": count}
    assert (len(regenerator.backlog.queue), regenerator.backlog.dropped) == (
        queued,
        count - queued - 1,
    )
    site.go.set()
    site.ask_until_new(wsgi_get)
    for _ in range(hits // count):
        site.ask_all(wsgi_get)
    assert site.most_queued == queued
    assert site.made == dict.fromkeys(range(count), 1)
    assert len(regenerator.backlog.queue) == 0
    assert len(regenerator._rests) <= 10_000


@pytest.mark.parametrize("jitter", [0.1, 0.0])
def test_pages_built_together_are_not_stale_together(make_app, wsgi_get, clock, jitter):
    count, jobs = 600, []
    app = make_app(
        {"PRERENDER_JITTER": jitter, "PRERENDER_COMPRESS": False},
        store=MemoryStore(),
        runner=jobs.append,
    )
    mark = app.prerender(revalidate=60, params=[{"n": n} for n in range(count)])
    app.add_url_rule("/<int:n>", "page", mark(lambda n: f"{n}"))
    assert generate(app).counts == {"published": count}
    clock.forward(53)
    asked = []
    for _ in range(15):
        before = len(jobs)
        for n in range(count):
            wsgi_get(app, f"/{n}")
        asked.append(len(jobs) - before)
        clock.forward(1)
    assert len(set(jobs)) == count
    renders = [number for number in asked if number]
    if jitter:
        mean = count / len(renders)
        assert 10 <= len(renders) <= 13
        assert max(renders) <= 3 * mean
    else:
        assert renders == [count]
