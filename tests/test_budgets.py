"""What visitors make up stays small: budgets for first visits, and nothing on disk for the rest."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from flask import abort
from flask import Flask
from flask import request

from conftest import Answer
from conftest import wait_for_our_threads
from flask_prerender import budgets
from flask_prerender import mark
from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender.errors import MarkError
from flask_prerender.errors import StoreError
from flask_prerender.generate import generate
from flask_prerender.publish import Outcome
from flask_prerender.rests import remember
from flask_prerender.stores.memory import MemoryStore
from flask_prerender.variants import Admission
from flask_prerender.visit import visit

MEGABYTE = 1024 * 1024


def memory_in_use() -> int:
    """Return the bytes of memory that this process has, as the system counts them."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files_of(root: Path, *places: str) -> list[Path]:
    """Return bodies and files of the public tree."""
    return [
        path
        for place in places or ("public", "store/blobs", "store/tmp")
        for path in (root / place).rglob("*")
        if path.is_file()
    ]


def a_flood_of_unknown_paths_leaves_nothing(app: Flask, wsgi_get: Callable, count: int) -> None:
    """
    :param count: how many different paths are asked for.
    """

    @app.route("/<path:name>")
    @app.prerender
    def page(name: str) -> str:
        abort(404)

    site = app.extensions["prerender"]
    for number in range(500):
        wsgi_get(app, f"/warm/{number}")
    before = memory_in_use()
    for number in range(count):
        answer = wsgi_get(app, f"/{os.urandom(8).hex()}/{number}")
        assert answer.status == 404
    grown = memory_in_use() - before
    print(f"{count} unknown paths: {grown / MEGABYTE:.1f} MB, {len(files_of(site.path))} files")
    assert files_of(site.path) == []
    assert list(site.store.pages()) == []
    assert len(site.unstorable) <= 10_000
    assert len(site.flights) == 0
    assert grown < 16 * MEGABYTE


@pytest.mark.timeout(300)
def test_unknown_paths_leave_nothing_behind(make_app, wsgi_get):
    a_flood_of_unknown_paths_leaves_nothing(make_app(), wsgi_get, 5_000)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_million_unknown_paths_leave_nothing_behind(make_app, wsgi_get):
    a_flood_of_unknown_paths_leaves_nothing(make_app(), wsgi_get, 1_000_000)


# A flood of pages that there are.


def a_flood_of_pages_stays_within_the_budgets(
    make_app: Callable[..., Flask], wsgi_get: Callable, count: int, pages: int
) -> None:
    """
    :param count: how many different pages are asked for.
    :param pages: how many of a route may be kept.
    """
    bytes_ = pages * 1500
    app = make_app({"PRERENDER_MAX_PAGES": pages, "PRERENDER_MAX_BYTES": bytes_})

    @app.route("/built/<int:number>")
    @app.prerender(params=[{"number": number} for number in range(50)])
    def built(number: int) -> str:
        return f"{number} built"

    @app.route("/small/<name>")
    @app.prerender
    def small(name: str) -> str:
        return f"{name} " * 100

    @app.route("/large/<name>")
    @app.prerender(max_pages=pages // 10)
    def large(name: str) -> str:
        return f"{name} " * 500

    assert generate(app).is_good
    site = app.extensions["prerender"]
    evicted: Counter[str] = Counter()

    def count_it(sender: Flask, key: str, reason: str) -> None:
        evicted.update([reason])

    signals.page_evicted.connect(count_it, sender=app)
    most_bytes = 0
    for number in range(-500, count):
        if number == 0:
            before = memory_in_use()
        name = "small" if number % 2 else "large"
        assert bring(wsgi_get, app, f"/{name}/{os.urandom(4).hex()}-{number}").status == 200
        if number % 1000 == 999:
            most_bytes = max(most_bytes, site.store.visits("/large/<name>")[1])
    grown = memory_in_use() - before
    stored = list(site.store.pages())
    blobs = [path.stat().st_size for path in files_of(site.path, "store/blobs")]
    print(
        f"{count} slugs: {grown / MEGABYTE:.1f} MB, {len(stored)} pages, {len(blobs)} bodies of "
        f"{sum(blobs)} bytes, {len(files_of(site.path))} files, {most_bytes} of {bytes_} bytes"
    )
    visits = [page for page in stored if page.origin == "visit"]
    for rule, most in (("/small/<name>", pages), ("/large/<name>", pages // 10)):
        of_rule = sum(page.rule == rule for page in visits)
        assert 0 < of_rule == site.store.visits(rule)[0] <= most
    assert set(evicted) == {"pages", "bytes"}
    assert evicted.total() + len(visits) == count + 500
    assert most_bytes <= bytes_
    size = sum(page.size for page in visits)
    assert size == site.store.visits("")[1] <= bytes_
    assert sum(blobs) <= size + sum(page.size for page in stored if page.origin == "build")
    named = sum(len(page.variants) for page in stored)
    assert len(files_of(site.path)) == named + len(blobs) <= 2 * named
    for number in range(50):
        answer = wsgi_get(app, f"/built/{number}")
        assert answer.get("Cache-Status") == "flask-prerender; hit"
    assert grown < 64 * MEGABYTE


@pytest.mark.timeout(300)
def test_a_flood_of_slugs_stays_within_the_budgets(make_app, wsgi_get):
    a_flood_of_pages_stays_within_the_budgets(make_app, wsgi_get, 1_200, 200)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_flood_of_a_hundred_thousand_slugs_stays_within_the_budgets(make_app, wsgi_get):
    a_flood_of_pages_stays_within_the_budgets(make_app, wsgi_get, 100_000, 3_000)


# One budget at a time.


def slugs(app: Flask, **options: object) -> list[str]:
    """Add a route whose pages have 1,000 bytes, and return what was rendered of it."""
    made: list[str] = []

    @app.route("/<name>")
    @app.prerender(**options)
    def slug(name: str) -> str:
        if "flask_prerender.render" in request.environ:
            made.append(name)
        return name.ljust(int(request.view_args["name"].partition("-")[2] or 1000), ".")

    return made


def threaded(call: Callable[[], object]) -> object:
    """Call in a thread of its own, and return the result."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join(20)
    return results[0]


def stored(app: Flask) -> list[str]:
    return [page.key for page in app.extensions["prerender"].store.pages()]


def source(answer: Answer) -> str:
    return (answer.get("Cache-Status") or "").removeprefix("flask-prerender; ")


def bring(wsgi_get: Callable[..., Answer], app: Flask, *paths: str) -> Answer:
    """Visit pages, those for which there is little room twice, and return the last answer."""
    for path in paths:
        answer = wsgi_get(app, path)
        if source(answer) == "fwd=uri-miss; detail=budget":
            answer = wsgi_get(app, path)
    return answer


def test_where_there_is_little_room_a_page_comes_at_its_second_visit(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_MAX_PAGES": 5})
    made = slugs(app)
    for path in ("/a", "/b", "/c", "/d"):
        assert source(wsgi_get(app, path)) == "fwd=uri-miss; stored"
    for number in range(100):  # a crawler that asks for everything once
        answer = wsgi_get(app, f"/{number}")
        assert (answer.status, source(answer)) == (200, "fwd=uri-miss; detail=budget")
    assert stored(app) == ["/a", "/b", "/c", "/d"]
    assert made == ["a", "b", "c", "d"]
    clock.forward(600)
    assert source(wsgi_get(app, "/7")) == "fwd=uri-miss; stored"
    clock.forward(0.1)
    assert source(wsgi_get(app, "/8")) == "fwd=uri-miss; detail=budget"
    assert source(wsgi_get(app, "/8")) == "fwd=uri-miss; stored"
    assert len(stored(app)) == 5


def test_little_room_in_bytes_counts_as_well(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_BYTES": 5000, "PRERENDER_COMPRESS": False})
    slugs(app)
    for path in ("/a", "/b", "/c", "/d"):
        assert source(wsgi_get(app, path)) == "fwd=uri-miss; stored"
    assert source(wsgi_get(app, "/e")) == "fwd=uri-miss; detail=budget"
    assert source(wsgi_get(app, "/e")) == "fwd=uri-miss; stored"


def test_a_page_that_is_there_is_made_anew_at_once_however_little_room(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_MAX_PAGES": 1})
    slugs(app, revalidate=10, expire=20)
    wsgi_get(app, "/a")
    clock.forward(20)
    assert source(wsgi_get(app, "/a")) == "fwd=stale; stored"


def test_what_was_asked_for_once_is_not_kept_in_mind_for_ever(make_app, wsgi_get, monkeypatch):
    monkeypatch.setattr(budgets, "_NOTED", 10)
    app = make_app({"PRERENDER_MAX_PAGES": 1})
    slugs(app)
    for number in range(100):
        wsgi_get(app, f"/{number}")
    assert len(app.extensions["prerender"].asked_once) <= 10


def test_the_page_that_was_not_asked_for_longest_makes_room(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_MAX_PAGES": 3})
    slugs(app)
    evicted = []

    def note(sender, key, reason):
        evicted.append((key, reason))

    signals.page_evicted.connect(note, sender=app)
    for path in ("/a", "/b", "/c", "/a", "/d"):
        clock.forward(1)
        bring(wsgi_get, app, path)
    assert stored(app) == ["/a", "/c", "/d"]
    assert evicted == [("/b", "pages")]
    assert app.extensions["prerender"].memory.get("/b") is None
    assert source(wsgi_get(app, "/a")) == "hit"
    assert source(bring(wsgi_get, app, "/b")) == "fwd=uri-miss; stored"
    assert evicted == [("/b", "pages"), ("/c", "pages")]


def test_a_mark_has_a_budget_of_its_own(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_PAGES": 1})
    slugs(app, max_pages=2)

    @app.route("/other/<name>")
    @app.prerender
    def other(name):
        return name

    bring(wsgi_get, app, "/a", "/other/a", "/b", "/other/b", "/c")
    assert stored(app) == ["/b", "/c", "/other/b"]


@pytest.mark.parametrize("value", [-1, 1.5, "10", True, None])
def test_a_budget_that_is_no_count_is_refused(value):
    with pytest.raises(MarkError, match=r"max_pages=.*: a whole number of at least 0 is wanted"):
        mark(max_pages=value)


def test_bytes_are_counted_over_all_routes(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_BYTES": 3500, "PRERENDER_COMPRESS": False})
    slugs(app)

    @app.route("/other/<name>")
    @app.prerender
    def other(name):
        return name * 1500

    bring(wsgi_get, app, "/a", "/b", "/c", "/other/a")
    assert stored(app) == ["/b", "/c", "/other/a"]
    bring(wsgi_get, app, "/other/b")
    assert stored(app) == ["/other/a", "/other/b"]


def test_a_page_larger_than_all_may_be_is_answered_and_not_stored(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_BYTES": 3500, "PRERENDER_COMPRESS": False})
    made = slugs(app)
    wsgi_get(app, "/a")
    for _ in range(2):
        answer = wsgi_get(app, "/large-3501")
        assert answer.body == b"large-3501".ljust(3501, b".")
        assert source(answer) == "fwd=uri-miss; detail=budget"
    assert made == ["a", "large-3501"]
    assert stored(app) == ["/a"]
    wsgi_get(app, "/large-3500")
    assert stored(app) == ["/large-3500"]


def test_a_route_may_keep_no_first_visits_at_all(make_app, wsgi_get):
    app = make_app()
    slugs(app, max_pages=0)
    answer = wsgi_get(app, "/a")
    assert (answer.status, source(answer)) == (200, "fwd=uri-miss; detail=budget")
    assert stored(app) == []


def test_a_page_that_outgrows_the_budget_is_taken_away(make_app, wsgi_get, clock):
    app = make_app(
        {
            "PRERENDER_MAX_BYTES": 3500,
            "PRERENDER_COMPRESS": False,
            "PRERENDER_REGENERATE": "inline",
        }
    )
    size = [3000]

    @app.route("/page")
    @app.prerender(revalidate=60, params=[])
    def page():
        return "." * size[0]

    wsgi_get(app, "/page")
    size[0] = 4000
    clock.forward(61)
    assert len(wsgi_get(app, "/page").body) == 3000
    assert stored(app) == []
    assert len(wsgi_get(app, "/page").body) == 4000


def test_a_page_that_stayed_the_same_outgrows_a_smaller_budget(make_app, wsgi_get):
    first, second = make_app(), make_app({"PRERENDER_MAX_BYTES": 1500})
    for app in (first, second):
        slugs(app)
    for path in ("/a-10", "/b-1501"):
        wsgi_get(first, path)
    with second.app_context():
        (outcome,) = Prerender().refresh("/b-1501")
    assert (outcome.result, outcome.reason) == ("refused", "budget")
    assert stored(first) == ["/a-10"]


def test_pages_of_builds_neither_count_nor_go(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_PAGES": 1, "PRERENDER_MAX_BYTES": 1000})
    slugs(app, params=[{"name": name} for name in ("x-1001", "y", "z")])
    assert generate(app).is_good
    bring(wsgi_get, app, "/y", "/a", "/b")
    assert stored(app) == ["/b", "/x-1001", "/y", "/z"]


def test_a_build_makes_a_page_of_a_visit_its_own(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_PAGES": 1})
    listed: list[dict[str, str]] = []
    slugs(app, params=lambda: listed)
    wsgi_get(app, "/a")
    listed.append({"name": "a"})
    assert generate(app).is_good
    wsgi_get(app, "/b")
    assert stored(app) == ["/a", "/b"]
    bring(wsgi_get, app, "/c")
    assert stored(app) == ["/a", "/c"]


def test_a_build_that_a_visitor_overtook_makes_the_page_its_own_too(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_PAGES": 1})
    overtaken = []

    @app.route("/<name>")
    @app.prerender(params=[{"name": "a"}])
    def page(name):
        if not overtaken:
            overtaken.append(name)
            site = app.extensions["prerender"]
            assert threaded(lambda: visit(site, "/a")) == ""
        return name

    report = generate(app)
    assert report.is_good
    (kept,) = app.extensions["prerender"].store.pages()
    assert (kept.origin, kept.build) == ("build", 1)


def test_what_only_another_process_is_asked_for_is_not_evicted(make_app, wsgi_get, clock):
    busy, other = make_app({"PRERENDER_MAX_PAGES": 2}), make_app({"PRERENDER_MAX_PAGES": 2})
    for app in (busy, other):
        slugs(app)
    for path in ("/a", "/b"):
        wsgi_get(busy, path)
        clock.forward(1)
    wsgi_get(other, "/a")
    other.extensions["prerender"].coordination.advance()
    clock.forward(60)
    wsgi_get(other, "/a")
    wait_for_our_threads()
    bring(wsgi_get, busy, "/c")
    assert stored(busy) == ["/a", "/c"]
    assert source(bring(wsgi_get, other, "/b")) == "fwd=uri-miss; stored"


def test_the_page_that_somebody_waits_for_is_the_last_to_go(make_app, wsgi_get, clock):
    class Busy(MemoryStore):
        def put(self, page, bodies):
            super().put(page, bodies)
            if page.key == "/b":
                clock.forward(1)
                wsgi_get(app, "/a")

    app = make_app({"PRERENDER_MAX_PAGES": 1}, store=Busy())
    slugs(app)
    wsgi_get(app, "/a")
    assert source(bring(wsgi_get, app, "/b")) == "fwd=uri-miss; stored"
    assert stored(app) == ["/b"]


def test_a_page_that_a_build_took_over_is_noted_no_more(make_app, wsgi_get):
    app = make_app()
    slugs(app, params=lambda: listed)
    listed: list[dict[str, str]] = []
    wsgi_get(app, "/a")
    site = app.extensions["prerender"]
    assert list(site.asked_for) == ["/a"]
    listed.append({"name": "a"})
    generate(app)
    site.asked_for.clear()
    assert source(wsgi_get(app, "/a")) == "hit"
    assert site.asked_for == {}


def test_what_is_noted_of_hits_is_bounded(make_app, wsgi_get, monkeypatch):
    monkeypatch.setattr(budgets, "_NOTED", 3)
    app = make_app()
    slugs(app)
    for number in range(30):
        wsgi_get(app, f"/{number}")
        wait_for_our_threads()
        assert len(app.extensions["prerender"].asked_for) <= 4


def test_what_the_budget_refuses_is_handed_over_where_headers_decide(make_app, wsgi_get):
    app = make_app()
    calls = []

    @app.route("/<name>")
    @app.prerender(revalidate="headers", max_pages=0)
    def page(name):
        calls.append(name)
        return name, {"Cache-Control": "max-age=60"}

    assert wsgi_get(app, "/a").body == b"a"
    assert (calls, stored(app)) == (["a"], [])


def test_an_evicted_page_is_gone_for_every_process(make_app, wsgi_get, clock):
    first, second = make_app({"PRERENDER_MAX_PAGES": 1}), make_app({"PRERENDER_MAX_PAGES": 1})
    made = [slugs(app) for app in (first, second)]
    wsgi_get(first, "/a")
    assert source(wsgi_get(second, "/a")) == "hit"
    bring(wsgi_get, first, "/b")
    assert source(bring(wsgi_get, second, "/a")) == "fwd=uri-miss; stored"
    assert made == [["a", "b"], ["a"]]


def test_an_eviction_is_news_although_the_page_that_caused_it_is_the_same(make_app, wsgi_get):
    first, second = make_app(), make_app({"PRERENDER_MAX_PAGES": 1})
    for app in (first, second):
        slugs(app)
    for path in ("/a", "/b", "/a"):
        wsgi_get(first, path)
    with second.app_context():
        (outcome,) = Prerender().refresh("/b")
    assert outcome.result == "unchanged"
    assert stored(first) == ["/b"]
    assert source(wsgi_get(first, "/a")) == "fwd=uri-miss; stored"


def test_a_store_that_cannot_make_room_serves_on(make_app, wsgi_get, caplog):
    class Full(MemoryStore):
        def evict(self, budget):
            raise StoreError("it is locked")

    app = make_app({"PRERENDER_MAX_PAGES": 1}, store=Full())
    slugs(app)
    answer = bring(wsgi_get, app, "/a", "/b")
    assert (answer.status, source(answer)) == (200, "fwd=uri-miss; stored")
    assert "there is no room for /b: it is locked" in caplog.text


def test_a_hit_that_cannot_be_noted_is_a_hit(make_app, wsgi_get, clock, caplog):
    class Frozen(MemoryStore):
        tries = 0

        def note_used(self, moments):
            self.tries += 1
            raise StoreError("it is read-only")

    store = Frozen()
    app = make_app(store=store)
    slugs(app)
    for _ in range(30):
        assert wsgi_get(app, "/a").status == 200
        wait_for_our_threads()
        app.extensions["prerender"].coordination.advance()
        clock.forward(120)
    assert store.tries == 1
    assert caplog.text.count("it is read-only") == 1


def test_noting_who_was_asked_for_costs_a_hit_no_write(make_app, wsgi_get, clock):
    class Counting(MemoryStore):
        noted: ClassVar[list[list[str]]] = []

        def note_used(self, moments):
            self.noted.append(sorted(moments))
            super().note_used(moments)

    store = Counting()
    app = make_app(store=store)
    slugs(app)
    for path in ("/a", "/b", "/a"):
        wsgi_get(app, path)
    clock.forward(61)
    for _ in range(100):
        wsgi_get(app, "/a")
    wait_for_our_threads()
    assert store.noted == []
    app.extensions["prerender"].coordination.advance()
    wsgi_get(app, "/a")
    wait_for_our_threads()
    assert store.noted == [["/a", "/b"]]


def test_a_flood_of_queries_is_one_page(make_app, wsgi_get):
    app = make_app({"PRERENDER_UNKNOWN_QUERY": "ignore"})
    made = slugs(app)
    for number in range(500):
        assert wsgi_get(app, "/a", query=f"x={number}").status == 200
    assert (made, stored(app)) == (["a"], ["/a"])


def test_a_flood_of_queries_that_the_app_answers_leaves_nothing(make_app, wsgi_get):
    app = make_app()
    made = slugs(app)
    for number in range(500):
        assert wsgi_get(app, "/a", query=f"x={number}").status == 200
    assert (made, stored(app)) == ([], [])


def test_what_is_remembered_of_keys_is_bounded(make_app):
    site = make_app().extensions["prerender"]
    admission = Admission()
    for number in range(25_000):
        remember(site, Outcome(f"/{number}", "", "", "refused", "status"))
        site.regenerator._rest(f"/{number}", 60.0)
        admission.admits(f"/{number}", "accept=x")
    kept = (site.unstorable, site.regenerator._rests, admission._seen)
    assert all(0 < len(one) <= 10_000 for one in kept)
