"""A build: what it makes, what it keeps, what it takes away, and how it ends."""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import abort
from flask import Flask
from flask import jsonify
from flask import redirect
from flask import Response

from conftest import Clock
from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import manifest
from flask_prerender import mark
from flask_prerender import Outcome
from flask_prerender import Page
from flask_prerender import Report
from flask_prerender import StoreError
from flask_prerender.generate import Build
from flask_prerender.stores.files import FileStore
from flask_prerender.stores.memory import MemoryStore

MakeApp = Callable[..., Flask]
HTML = "<h1>Über uns</h1>" * 200


def add(app: Flask, rule: str, text: str = HTML, **options: Any) -> None:
    app.add_url_rule(rule, rule.strip("/") or "home", mark(**options)(lambda **values: text))


def site(app: Flask) -> Any:
    return app.extensions["prerender"]


def keys(app: Flask) -> list[str]:
    return [page.key for page in site(app).store.pages()]


def files(app: Flask) -> list[str]:
    public = site(app).public
    return sorted(p.relative_to(public).as_posix() for p in public.rglob("*") if p.is_file())


def turned_down(report: Report) -> dict[str, tuple[str, str]]:
    return {one.key: (one.result, one.reason) for one in report.turned_down}


# What a build makes.


def test_a_build_makes_files_manifest_and_sitemap(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    for rule in ("/", "/about", "/docs/", "/docs/terms", "/features", "/news"):
        add(app, rule)
    app.add_url_rule("/contact", "contact", lambda: "dynamic")
    report = generate(app)
    assert report.is_good
    assert (report.total, report.counts, report.removed) == (6, {"published": 6}, 0)
    assert report.sitemaps == ["sitemap.xml"]
    assert [file for file in files(app) if file.endswith(".html")] == [
        "about/index.html", "docs/index.html", "docs/terms/index.html", "features/index.html",
        "index.html", "news/index.html",
    ]  # fmt: skip
    public, output = site(app).public, site(app).output
    assert (public / "about/index.html").read_text() == HTML
    assert gzip.decompress((public / "about/index.html.gz").read_bytes()).decode() == HTML
    entry = manifest.lookup(output / "manifest.json", "/docs/terms")
    assert entry is not None
    assert (entry.file, entry.size) == ("docs/terms/index.html", len(HTML.encode()))
    assert "<loc>https://example.com/docs/terms</loc>" in (public / "sitemap.xml").read_text()
    assert manifest.lookup(output / "manifest.json", "/contact") is None
    client = app.test_client()
    assert client.get("/about").headers["X-Prerendered"] == "true"
    assert "X-Prerendered" not in client.get("/contact").headers


def test_the_file_style_gives_files_of_their_own(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_STYLE": "file", "PRERENDER_COMPRESS": False})
    for rule in ("/", "/about", "/docs/terms"):
        add(app, rule)
    generate(app)
    assert files(app) == ["about.html", "docs/terms.html", "index.html"]
    assert manifest.read(site(app).output / "manifest.json").style == "file"


def test_pages_that_are_no_html_have_files_of_their_type(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_COMPRESS": False})
    app.add_url_rule("/api/list", "json", mark(lambda: jsonify([1])))
    app.add_url_rule("/feed.xml", "feed", mark(lambda: Response("<rss/>", mimetype="text/xml")))
    app.add_url_rule("/robots.txt", "robots", mark(lambda: Response("x", mimetype="text/plain")))
    generate(app)
    assert files(app) == ["api/list/index.json", "feed.xml", "robots.txt"]


def test_a_build_leaves_no_temporary_files(make_app: MakeApp) -> None:
    app = make_app()
    add(app, "/a/b/c/d")
    generate(app)
    assert [p for p in site(app).output.rglob("*") if p.suffix in (".part", ".tmp")] == []


def test_the_report_counts_what_became_of_each_page(make_app: MakeApp) -> None:
    app = make_app()
    add(app, "/good")
    app.add_url_rule("/cookie", "cookie", mark(lambda: Response("x", headers={"Set-Cookie": "a"})))
    app.add_url_rule("/gone", "gone", mark(lambda: abort(410)))
    app.add_url_rule("/broken", "broken", mark(lambda: 1 / 0))
    report = generate(app)
    assert not report.is_good
    assert report.counts == {"published": 1, "refused": 2, "failed": 1}
    assert report.reasons == {"set-cookie": 1, "status": 1, "error": 1}
    assert turned_down(report) == {
        "/cookie": ("refused", "set-cookie"),
        "/gone": ("refused", "status"),
        "/broken": ("failed", "error"),
    }
    assert len(report.slowest) == 4
    assert report.bytes == site(app).store.get("/good").size


def test_a_report_is_json(make_app: MakeApp) -> None:
    app = make_app()
    add(app, "/good")
    app.add_url_rule("/broken", "broken", mark(lambda: 1 / 0))
    app.add_url_rule("/<slug>", "unlisted", mark(lambda slug: "x"))
    facts = json.loads(json.dumps(generate(app, ["/good", "/broken", "/no/such"]).to_dict()))
    assert facts["ok"] is False
    assert facts["changed"] == ["/good"]
    assert facts["unknown"] == ["/no/such"]
    (failure,) = facts["turned_down"]
    assert (failure["key"], failure["endpoint"], failure["rule"]) == (
        "/broken",
        "broken",
        "/broken",
    )
    assert failure["detail"] == "ZeroDivisionError: division by zero"
    assert failure["where"].startswith(__file__)
    assert [problem["kind"] for problem in facts["problems"]] == ["unlisted"]


def test_a_report_of_many_pages_is_cut_and_its_counts_are_whole() -> None:
    report = Report()
    for number in range(1500):
        report.add(Outcome(f"/{number}", "e", "r", "failed", "error", duration=float(number)))
    assert report.counts == {"failed": 1500}
    assert report.reasons == {"error": 1500}
    assert len(report.turned_down) == 1000
    assert [one.key for one in report.slowest[:2]] == ["/1499", "/1498"]
    assert len(report.slowest) == 10


@pytest.mark.parametrize("concurrency", [1, 4])
def test_concurrency_changes_nothing_in_the_report(make_app: MakeApp, concurrency: int) -> None:
    app = make_app(instance=f"instance-{concurrency}")
    params = [{"number": number} for number in range(40)]

    def view(number: int) -> str:
        if number % 10 == 3:
            raise ValueError(str(number))
        return "" if number % 10 == 4 else str(number)

    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))
    report = generate(app, concurrency=concurrency)
    assert report.counts == {"published": 32, "failed": 4, "refused": 4}
    assert report.reasons == {"error": 4, "empty": 4}
    assert sorted(report.changed) == sorted(keys(app))
    assert len(keys(app)) == 32


def test_pages_are_rendered_side_by_side(make_app: MakeApp) -> None:
    app = make_app()
    together = threading.Barrier(3, timeout=30)
    params = [{"number": number} for number in range(3)]

    def view(number: int) -> str:
        return str(together.wait())

    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))
    assert generate(app, concurrency=3).counts == {"published": 3}


def test_one_at_a_time_means_one_thread(make_app: MakeApp) -> None:
    app, threads = make_app({"PRERENDER_CONCURRENCY": 1}), set()
    params = [{"number": number} for number in range(5)]

    def view(number: int) -> str:
        threads.add(threading.get_ident())
        return "x"

    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))
    generate(app)
    assert len(threads) == 1


# Again.


def test_a_second_build_rewrites_nothing(make_app: MakeApp, clock: Clock) -> None:
    def build() -> tuple[Report, dict[str, tuple[int, int]], str, Page]:
        app = make_app()
        add(app, "/")
        add(app, "/about")
        report = generate(app)
        tree = [*site(app).public.rglob("*"), *site(app).output.glob("store/blobs/*/*")]
        stamps = {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in tree}
        etag = app.test_client().get("/about").headers["ETag"]
        return report, stamps, etag, site(app).store.get("/about")

    first, stamps, etag, page = build()
    clock.forward(1000)
    second, stamps_after, etag_after, page_after = build()
    assert first.counts == {"published": 2}
    assert second.counts == {"unchanged": 2}
    assert second.changed == []
    assert second.is_good
    assert stamps_after == stamps
    assert len(stamps) > 6
    assert etag_after == etag
    assert (page_after.generated_at, page_after.changed_at) == (page.generated_at, page.changed_at)
    assert page_after.checked_at == page.checked_at + 1000


def test_only_what_changed_is_written_again(make_app: MakeApp, clock: Clock) -> None:
    app, texts = make_app(), {"a": "one", "b": "one"}
    params = [{"slug": slug} for slug in texts]
    app.add_url_rule("/<slug>", "page", mark(params=params)(lambda slug: texts[slug]))
    generate(app)
    before = (site(app).public / "b/index.html").stat()
    texts["a"] = "two"
    clock.forward(60)
    report = generate(app)
    assert report.changed == ["/a"]
    assert report.counts == {"published": 1, "unchanged": 1}
    after = (site(app).public / "b/index.html").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert (site(app).public / "a/index.html").read_text() == "two"
    assert site(app).store.get("/a").changed_at == clock.now


def test_a_page_that_fails_never_removes_the_stored_one(make_app: MakeApp) -> None:
    app = make_app()
    answers: dict[str, Any] = {}

    def answer(name: str) -> Any:
        given = answers.get(name, f"good {name}")
        if isinstance(given, Exception):
            raise given
        return given

    params = [{"name": name} for name in ("raises", "500", "404", "cookie", "empty", "redirect")]
    app.add_url_rule("/<name>", "page", mark(params=params)(answer))
    generate(app)
    answers.update(
        {
            "raises": ValueError("x"),
            "500": ("down", 500),
            "404": ("gone", 404),
            "cookie": Response("x", headers={"Set-Cookie": "a=b"}),
            "empty": "",
            "redirect": redirect("/elsewhere"),
        }
    )
    report = generate(app)
    assert report.counts == {"failed": 2, "refused": 4}
    assert report.removed == 0
    client = app.test_client()
    for name in answers:
        assert client.get(f"/{name}").text == f"good {name}"
        assert (site(app).public / name / "index.html").read_text() == f"good {name}"


def test_a_full_build_removes_what_no_route_lists_any_more(make_app: MakeApp) -> None:
    app, slugs = make_app(), ["a", "b", "c"]
    app.add_url_rule(
        "/<slug>", "page", mark(params=lambda: [{"slug": s} for s in slugs])(lambda slug: slug)
    )
    generate(app)
    foreign = site(app).public / "b" / "mine.html"
    foreign.write_text("mine")
    (site(app).public / "robots.txt").write_text("mine")
    slugs.remove("b")
    report = generate(app)
    assert report.removed == 1
    assert keys(app) == ["/a", "/c"]
    assert files(app) == ["a/index.html", "b/mine.html", "c/index.html", "robots.txt"]
    listed = manifest.read(site(app).output / "manifest.json").pages
    assert sorted(listed) == ["/a", "/c"]


def test_pages_of_a_route_that_is_gone_are_removed(make_app: MakeApp) -> None:
    first = make_app()
    add(first, "/old")
    add(first, "/kept")
    generate(first)
    second = make_app()
    add(second, "/kept")
    assert generate(second).removed == 1
    assert keys(second) == ["/kept"]


def test_pages_of_first_visits_stay_while_a_marked_route_answers_them(make_app: MakeApp) -> None:
    def make(**options: Any) -> Flask:
        app = make_app()
        app.add_url_rule("/open/<slug>", "open", mark(fallback="render")(lambda slug: slug))
        app.add_url_rule(
            "/private/<slug>", "private", mark(options.get("marked", True))(lambda slug: slug)
        )
        return app

    app = make()
    for path in ("/open/a", "/private/a"):
        assert app.test_client().get(path).status_code == 200
    assert generate(app).removed == 0
    assert keys(app) == ["/open/a", "/private/a"]
    # Somebody has seen that it must not be prerendered: nothing of it may stay in the tree.
    app = make(marked=False)
    assert generate(app).removed == 1
    assert keys(app) == ["/open/a"]
    assert files(app) == ["open/a/index.html"]


def test_pages_whose_enumerator_failed_stay(make_app: MakeApp) -> None:
    app, broken = make_app(), []

    def params() -> Iterator[dict[str, str]]:
        yield {"slug": "a"}
        if broken:
            raise LookupError("no database")
        yield {"slug": "b"}

    app.add_url_rule("/posts/<slug>", "post", mark(params=params)(lambda slug: slug))
    add(app, "/old")
    generate(app)
    broken.append(True)
    report = generate(app)
    assert not report.is_good
    assert [problem.kind for problem in report.problems] == ["enumerator"]
    assert report.removed == 0
    assert keys(app) == ["/old", "/posts/a", "/posts/b"]


# A part.


def test_a_partial_build_merges(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    add(app, "/", visitors="bots", sitemap={"priority": 0.9}, revalidate=60)
    add(app, "/about", tags=["team"])
    add(app, "/news")
    generate(app)
    path = site(app).output / "manifest.json"
    before = manifest.read(path).pages
    sitemap = (site(app).public / "sitemap.xml").read_text()
    report = generate(app, ["/about"])
    assert (report.total, report.removed) == (1, 0)
    assert generate(app, tags=["team"]).total == 1
    assert manifest.read(path).pages == before
    assert before["/"].options["visitors"] == "bots"
    assert before["/"].options["revalidate"] == 60
    assert (site(app).public / "sitemap.xml").read_text() == sitemap
    client = app.test_client()
    assert "X-Prerendered" not in client.get("/").headers
    bot = client.get("/", headers={"User-Agent": "Googlebot/2.1"})
    assert bot.headers["X-Prerendered"] == "true"


def test_only_the_given_paths_are_rendered(make_app: MakeApp) -> None:
    app, rendered = make_app(), []
    params = [{"slug": "a"}, {"slug": "b"}]

    def view(slug: str) -> str:
        rendered.append(slug)
        return slug

    app.add_url_rule("/<slug>", "page", mark(params=params)(view))
    generate(app, ["/b", "/unlisted"])
    assert sorted(rendered) == ["b", "unlisted"]


def test_a_partial_build_stays_where_the_last_build_was(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    add(app, "/")
    add(app, "/about")
    for _ in Build(site(app), output=tmp_path / "elsewhere", style="file").run():
        pass
    later = make_app()
    add(later, "/")
    add(later, "/about", "new")
    assert generate(later, ["/about"]).changed == ["/about"]
    assert site(later).output == tmp_path / "elsewhere"
    assert (tmp_path / "elsewhere/public/about.html").read_text() == "new"
    # A full build goes where the settings say.
    generate(later)
    assert site(later).output == site(later).path
    assert {"about/index.html", "index.html"} <= set(files(later))


# Collisions and mismatches.


def test_two_urls_of_one_file_are_told_with_three_ways_out(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/a", "leaf", mark(lambda: "leaf"))
    app.add_url_rule("/a/", "branch", mark(lambda: "branch"))
    report = generate(app, concurrency=1)
    (outcome,) = report.turned_down
    assert (outcome.result, outcome.reason) == ("failed", "collision")
    stored = site(app).store.get(keys(app)[0])
    assert {outcome.key, stored.key} == {"/a", "/a/"}
    assert {outcome.endpoint, stored.endpoint} == {"leaf", "branch"}
    assert "/a" in outcome.detail
    assert "a/index.html" in outcome.detail
    for way in ("another URL", "@app.prerender(False)", "PRERENDER_STYLE"):
        assert way in outcome.detail
    assert f"{stored.key} is of the route {stored.rule} ({stored.endpoint})" in outcome.detail
    # And it stays so: neither page takes the file of the other.
    assert turned_down(generate(app, concurrency=1)) == {outcome.key: ("failed", "collision")}
    # Both are right for a visitor, whoever answers.
    assert app.test_client().get("/a").text == "leaf"
    assert app.test_client().get("/a/").text == "branch"


@pytest.mark.parametrize("store", [None, MemoryStore()], ids=["files", "memory"])
def test_a_route_that_moved_takes_the_file_over(make_app: MakeApp, store: Any) -> None:
    before = make_app(store=store)
    before.add_url_rule("/about", "about", mark(lambda: "old"))
    generate(before)
    after = make_app(store=store)
    after.add_url_rule("/about/", "about", mark(lambda: "new"))
    removed: list[tuple[str, str]] = []

    from flask_prerender.signals import page_removed

    def note(sender: Flask, key: str, reason: str, **extra: Any) -> None:
        removed.append((key, reason))

    with page_removed.connected_to(note, after):
        report = generate(after)
    assert report.is_good
    assert report.changed == ["/about/"]
    assert keys(after) == ["/about/"]
    assert removed == [("/about", "no route")]
    assert after.test_client().get("/about/").text == "new"
    if store is None:
        assert files(after) == ["about/index.html"]
        assert (site(after).public / "about/index.html").read_text() == "new"


def test_a_page_that_is_the_same_takes_a_file_over_too(make_app: MakeApp) -> None:
    before = make_app()
    before.add_url_rule("/about", "about", mark(lambda: "about"))
    before.add_url_rule("/about.html", "old", mark(lambda: "old"))
    assert generate(before).is_good
    after = make_app({"PRERENDER_STYLE": "file"})
    after.add_url_rule("/about", "about", mark(lambda: "about"))
    report = generate(after)
    assert report.counts == {"unchanged": 1}
    assert files(after) == ["about.html"]
    assert (site(after).public / "about.html").read_text() == "about"


def test_a_first_visit_takes_the_file_over_as_well(make_app: MakeApp) -> None:
    before = make_app()
    before.add_url_rule("/about", "about", mark(lambda: "old"))
    generate(before)
    after = make_app()
    after.add_url_rule("/about/", "about", mark(lambda: "new"))
    answer = after.test_client().get("/about/")
    assert answer.text == "new"
    assert "stored" in answer.headers["Cache-Status"]
    assert keys(after) == ["/about/"]


def test_an_enumerator_that_names_the_page_of_another_route_is_told(make_app: MakeApp) -> None:
    app = make_app()
    params = [{"slug": "a"}, {"slug": "new"}]
    app.add_url_rule("/posts/<slug>", "post", mark(params=params)(lambda slug: slug))
    app.add_url_rule("/posts/new", "new", lambda: "a form")
    report = generate(app)
    (outcome,) = report.turned_down
    assert (outcome.key, outcome.endpoint, outcome.reason) == ("/posts/new", "post", "mismatch")
    assert outcome.detail == "listed for post, but answered by new (/posts/new)"
    assert keys(app) == ["/posts/a"]


# Views that hang.


def our_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("prerender-build")]


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """An event that hanging views wait for; set at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()
    for thread in our_threads():
        thread.join(30)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_view_that_hangs_is_left_behind(
    make_app: MakeApp, hang: threading.Event, concurrency: int
) -> None:
    app = make_app({"PRERENDER_TIMEOUT": 0.2})
    params = [{"number": number} for number in range(20)]

    def view(number: int) -> str:
        if number == 2:
            hang.wait(60)
        return str(number)

    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))
    report = generate(app, concurrency=concurrency)
    assert turned_down(report) == {"/2": ("failed", "timeout")}
    (outcome,) = report.turned_down
    assert outcome.endpoint == "page"
    assert "took longer than PRERENDER_TIMEOUT (0.2 s)" in outcome.detail
    assert outcome.duration > 0.2
    assert report.counts == {"published": 19, "failed": 1}
    # What it still says is late, and is not stored.
    (left,) = our_threads()
    hang.set()
    left.join(30)
    assert "/2" not in keys(app)


def test_what_was_stored_stays_when_a_view_hangs(make_app: MakeApp, hang: threading.Event) -> None:
    app, hangs = make_app({"PRERENDER_TIMEOUT": 0.05}), []

    def view() -> str:
        if hangs:
            hang.wait(60)
            return "late"
        return "good"

    app.add_url_rule("/", "home", mark(view))
    generate(app)
    hangs.append(True)
    assert turned_down(generate(app)) == {"/": ("failed", "timeout")}
    hang.set()
    for thread in our_threads():
        thread.join(30)
    assert app.test_client().get("/").text == "good"


def test_a_build_stops_when_too_many_views_hang(make_app: MakeApp, hang: threading.Event) -> None:
    app = make_app({"PRERENDER_TIMEOUT": 0.05})
    params = [{"number": number} for number in range(20)]

    def view(number: int) -> str:
        if number:
            hang.wait(60)
        return str(number)

    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))
    report = generate(app, concurrency=3)
    assert not report.is_good
    assert report.was_stopped
    assert "renders hang, so the build stops" in report.error
    assert "PRERENDER_TIMEOUT" in report.error
    assert all(one.reason == "timeout" for one in report.turned_down)
    # Those that hang already are told of, and no more are begun.
    assert 5 <= report.count("failed") <= 7
    # What was made before is stored, listed and served.
    assert list(manifest.read(site(app).output / "manifest.json").pages) == ["/0"]
    assert app.test_client().get("/0").headers["X-Prerendered"] == "true"
    hang.set()
    for thread in our_threads():
        thread.join(30)
    assert keys(app) == ["/0"]


def test_a_slow_body_is_over_its_time_too(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_TIMEOUT": 0.05})

    def drip() -> Iterator[str]:
        waiting = threading.Event()
        while True:
            waiting.wait(0.02)
            yield "x"

    app.add_url_rule("/", "home", mark(lambda: Response(drip())))
    assert turned_down(generate(app)) == {"/": ("failed", "timeout")}


# Builds that do not come to their end.


def is_closed(build: Build) -> bool:
    try:
        len(build.plan)
    except Exception as error:
        return "closed" in str(error)
    return False


def numbered(app: Flask, count: int, view: Any = None) -> None:
    params = [{"number": number} for number in range(count)]
    view = view or (lambda number: str(number))
    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))


def with_an_old_page(make_app: MakeApp) -> None:
    """Store a page of a route that the next app does not have."""
    app = make_app()
    add(app, "/old")
    generate(app)


def test_a_finished_build_leaves_no_thread_and_no_plan(make_app: MakeApp) -> None:
    app = make_app()
    numbered(app, 10)
    build = Build(site(app), concurrency=4)
    assert len(list(build.run())) == 10
    assert our_threads() == []
    assert is_closed(build)


def test_a_build_that_is_closed_early_leaves_no_thread_and_no_plan(make_app: MakeApp) -> None:
    app = make_app()
    numbered(app, 50)
    with_an_old_page(make_app)
    revision = site(app).coordination.revision()
    build = Build(site(app), concurrency=2)
    outcomes = build.run()
    first = next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert our_threads() == []
    assert is_closed(build)
    # What was made is there for all to see, and nothing was taken away.
    assert site(app).coordination.revision() > revision
    assert app.test_client().get(first.key).headers["X-Prerendered"] == "true"
    assert "/old" in keys(app)


def test_a_build_never_begun_is_closed_by_hand(make_app: MakeApp) -> None:
    app = make_app()
    numbered(app, 5)
    build = Build(site(app))
    build.close()
    assert is_closed(build)
    assert our_threads() == []
    assert not site(app).output.exists()


def test_whoever_runs_a_build_may_fail(make_app: MakeApp) -> None:
    app = make_app()
    numbered(app, 50)
    build = Build(site(app), concurrency=2)
    outcomes: Any = build.run()
    next(outcomes)
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt())
    assert our_threads() == []
    assert is_closed(build)


def test_fail_fast_stops_at_the_first_page_that_is_not_stored(make_app: MakeApp) -> None:
    app = make_app()

    def view(number: int) -> str:
        if number == 3:
            raise ValueError("three")
        return str(number)

    numbered(app, 200, view)
    with_an_old_page(make_app)
    report = generate(app, concurrency=1, fail_fast=True)
    assert report.was_stopped
    assert not report.is_good
    assert turned_down(report) == {"/3": ("failed", "error")}
    assert report.count("published") == 3
    assert len(keys(app)) < 20
    assert report.removed == 0
    assert "/old" in keys(app)
    assert our_threads() == []
    # What was under way when it stopped is listed as well.
    assert sorted(manifest.read(site(app).output / "manifest.json").pages) == sorted(keys(app))


class Failing(FileStore):
    """A store whose disk fails at a chosen step."""

    def __init__(self, root: Path, step: str = "") -> None:
        super().__init__(root)
        self.step = step

    def _fail(self, step: str) -> None:
        if self.step == step:
            raise StoreError(f"cannot write {self.root}: No space left on device (ENOSPC)")

    def sweep(self, *, grace: float = 60.0) -> None:
        self._fail("sweep")
        super().sweep(grace=grace)

    def next_build(self) -> int:
        self._fail("next_build")
        return super().next_build()

    def put_all(self, batch: Any) -> Any:
        self._fail("put")
        if self.step == "bug":
            raise RuntimeError("a bug of the store")
        return super().put_all(batch)

    def delete(self, keys: Any) -> int:
        self._fail("delete")
        return super().delete(keys)


@pytest.mark.parametrize("step", ["sweep", "next_build"])
def test_a_store_that_cannot_begin_raises(make_app: MakeApp, step: str) -> None:
    app = make_app(store=lambda root: Failing(root, step))
    numbered(app, 5)
    build = Build(site(app))
    with pytest.raises(StoreError, match="No space left on device"):
        list(build.run())
    assert is_closed(build)
    assert our_threads() == []


def test_a_store_that_cannot_write_fails_each_page(make_app: MakeApp) -> None:
    app = make_app(store=lambda root: Failing(root, "put"))
    numbered(app, 3)
    report = generate(app)
    assert report.reasons == {"store": 3}
    assert report.counts == {"failed": 3}
    assert "No space left on device" in report.turned_down[0].detail


def test_a_bug_below_fails_one_page_and_is_logged(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(store=lambda root: Failing(root, "bug"))
    numbered(app, 2)
    report = generate(app)
    assert report.reasons == {"internal": 2}
    assert "a bug of the store" in report.turned_down[0].detail
    assert "/0 could not be published" in caplog.text
    assert our_threads() == []


def test_a_store_that_cannot_delete_is_told_at_the_end(make_app: MakeApp) -> None:
    store: list[Failing] = []

    def open_store(root: Path) -> Failing:
        store.append(Failing(root))
        return store[-1]

    first = make_app()
    add(first, "/old")
    generate(first)
    app = make_app(store=open_store)
    numbered(app, 3)
    store[-1].step = "delete"
    report = generate(app)
    assert report.counts == {"published": 3}
    assert not report.is_good
    assert "No space left on device" in report.error


def test_a_revision_that_cannot_be_moved_is_told_at_the_end(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise StoreError("cannot write revision: No space left on device (ENOSPC)")

    monkeypatch.setattr(sys.modules[Build.__module__], "_ANNOUNCE_SECONDS", -1)
    app = make_app()
    numbered(app, 5)
    monkeypatch.setattr(site(app).coordination, "advance", fail)
    report = generate(app)
    assert report.counts == {"published": 5}
    assert "cannot write revision: No space left" in report.error


@pytest.mark.parametrize("name", ["manifest.json", "last-build.json", "public/sitemap.xml"])
def test_a_list_that_cannot_be_written_is_told_at_the_end(make_app: MakeApp, name: str) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    numbered(app, 3)
    place = site(app).output / name
    (place / "in the way").mkdir(parents=True)
    report = generate(app)
    assert report.counts == {"published": 3}
    if name == "public/sitemap.xml" and not report.error:
        assert report.sitemaps == []  # somebody else's: left alone, and logged
        return
    assert not report.is_good
    assert str(place) in report.error
    # The pages are stored all the same.
    assert len(keys(app)) == 3
    assert app.test_client().get("/1").headers["X-Prerendered"] == "true"


def test_a_place_that_is_a_file_is_told(make_app: MakeApp, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    app = make_app({"PRERENDER_PATH": str(tmp_path / "file")})
    numbered(app, 3)
    with pytest.raises(StoreError, match="file"):
        generate(app)
    assert our_threads() == []


def test_builds_side_by_side_leave_one_whole_site(make_app: MakeApp) -> None:
    apps = []
    for _ in range(2):
        app = make_app()
        numbered(app, 30)
        apps.append(app)
    reports: list[Report] = []
    builders = [
        threading.Thread(target=lambda app=app: reports.append(generate(app))) for app in apps
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(50)
    assert all(report.is_good for report in reports)
    assert len(reports) == 2
    assert len(keys(apps[0])) == 30
    assert [p for p in site(apps[0]).output.rglob("*") if p.suffix in (".part", ".tmp")] == []
    client = apps[1].test_client()
    assert {client.get(f"/{number}").text for number in range(30)} == set(map(str, range(30)))


def test_a_build_tells_running_workers_as_it_goes(make_app: MakeApp) -> None:
    builder, worker, texts = make_app(), make_app(), {"text": "one"}
    for app in (builder, worker):
        app.add_url_rule("/", "home", mark(lambda: texts["text"]))
    generate(builder)
    client = worker.test_client()
    assert client.get("/").text == "one"
    texts["text"] = "two"
    generate(builder)
    answer = client.get("/")
    assert (answer.text, answer.headers["X-Prerendered"]) == ("two", "true")


def test_a_build_takes_time(make_app: MakeApp) -> None:
    app = make_app()
    numbered(app, 3)
    started = time.perf_counter()
    report = generate(app)
    assert 0 < report.duration <= time.perf_counter() - started
    assert all(0 < one.duration < report.duration for one in report.slowest)


def test_a_build_sweeps_at_times_and_after_one_that_was_killed(
    make_app: MakeApp, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, swept = make_app(), []
    app.add_url_rule("/", "page", mark(lambda: "page"))
    store = app.extensions["prerender"].store
    monkeypatch.setattr(store, "sweep", lambda: swept.append(clock()))
    for seconds in (0, 300, 301, 100):
        clock.forward(seconds)
        assert generate(app).is_good
    assert len(swept) == 2
    store.next_build()  # of a build that never ends
    assert generate(app).is_good
    assert len(swept) == 3
    assert generate(app).is_good
    assert len(swept) == 3


def test_a_host_that_is_not_trusted_is_named_with_what_to_do(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app({"TRUSTED_HOSTS": ["good.example"]})
    app.add_url_rule("/", "home", mark(lambda: "home"))
    with pytest.raises(ConfigError, match=r"'localhost'.* TRUSTED_HOSTS .*PRERENDER_BASE_URL"):
        generate(app)
    assert wsgi_get(app, "/", headers={"Host": "good.example"}).body == b"home"
    assert "Set PRERENDER_BASE_URL" in caplog.text
    app = make_app(
        {"TRUSTED_HOSTS": [".good.example"], "PRERENDER_BASE_URL": "https://www.good.example:8000"}
    )
    app.add_url_rule("/", "home", mark(lambda: "home"))
    assert generate(app).is_good
