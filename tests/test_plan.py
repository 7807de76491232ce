"""The plan of a build: every URL once, in order, held on disk."""

from __future__ import annotations

import gc
import sqlite3
import tracemalloc
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import MarkError
from flask_prerender import Prerender
from flask_prerender.generate import Build
from flask_prerender.plan import Plan

MakeApp = Callable[..., Flask]


def plan(app: Flask, paths: Any = (), tags: Any = ()) -> tuple[list[str], list[str]]:
    """The URLs of a plan, and the paths that it does not know."""
    found = Plan(app.extensions["prerender"], paths, tags)
    with closing(found):
        found.fill()
        keys = [target.key for target in found]
        assert len(found) == len(keys)
        assert all(key in found for key in keys)
        return keys, found.unknown


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    app = make_app()
    slugs = [{"slug": slug} for slug in ("one", "two", "näh", "50%")]

    def tags(slug: str) -> list[str]:
        return ["posts", f"post:{slug}"]

    app.add_url_rule("/", "home", mark(tags=["front"])(lambda: "home"))
    app.add_url_rule("/posts/", "posts", mark(tags=["posts"])(lambda: "posts"))
    app.add_url_rule("/posts/<slug>", "post", mark(params=slugs, tags=tags)(lambda slug: slug))
    app.add_url_rule("/list", "list", mark(query=["page"])(lambda: "list"))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    return app


ALL = ["/", "/posts/", "/posts/one", "/posts/two", "/posts/n%C3%A4h", "/posts/50%25", "/list"]


def test_a_full_plan_has_every_url_once(app: Flask) -> None:
    assert plan(app) == (ALL, [])


def test_a_url_that_is_listed_twice_is_made_once(make_app: MakeApp) -> None:
    app = make_app()
    params = [{"slug": "a"}, {"slug": "b"}, {"slug": "a"}]
    app.add_url_rule("/<slug>", "page", mark(params=params)(lambda slug: slug))
    assert plan(app) == (["/a", "/b"], [])


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/", ["/"]),
        ("/posts/", ["/posts/"]),
        ("/posts/one", ["/posts/one"]),
        ("/posts/*", ["/posts/", "/posts/one", "/posts/two", "/posts/n%C3%A4h", "/posts/50%25"]),
        ("/posts/?*", ["/posts/one", "/posts/two", "/posts/n%C3%A4h", "/posts/50%25"]),
        ("/posts/[ot]*", ["/posts/one", "/posts/two"]),
        ("*", ALL),
        # As people type it, and as a browser shows it.
        ("/posts/näh", ["/posts/n%C3%A4h"]),
        ("/posts/n%c3%a4h", ["/posts/n%C3%A4h"]),
        ("/posts/nä*", ["/posts/n%C3%A4h"]),
        ("/posts/50%25", ["/posts/50%25"]),
        # A page that nobody lists.
        ("/posts/unlisted", ["/posts/unlisted"]),
        ("/list?page=2", ["/list?page=2"]),
        ("/list?page=a%20b", ["/list?page=a%20b"]),
        ("/list?page=a+b", ["/list?page=a%20b"]),
        ("/list?page=", ["/list?page="]),
        ("http://localhost/posts/one", ["/posts/one"]),
        ("http://localhost/posts/t*", ["/posts/two"]),
        ("http://localhost", ["/"]),
        ("/posts", ["/posts/"]),  # as Flask redirects it
        ("/lis?", ["/list"]),
    ],
)
def test_paths_are_exact_or_patterns(app: Flask, path: str, keys: list[str]) -> None:
    assert plan(app, [path]) == (keys, [])


def test_a_path_means_the_page_that_flask_would_answer_it_with(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/either", "either", mark(lambda: "either"), strict_slashes=False)
    assert plan(app, ["/either/"]) == (["/either"], [])


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/plain",
        "/nothing/*",
        "nothing",
        "",
        "/../etc",
        "/posts/a//b",
        "posts/one",
        "//evil.com/posts/one",
        "//posts/one",
        "http://evil.com/posts/one",
        "http://localhost.evil.com/posts/one",
        "/posts/%FF",
        "/posts/\udcff",
        "/list?x=1",
    ],
)
def test_paths_of_no_page_are_told(app: Flask, path: str) -> None:
    assert plan(app, [path]) == ([], [path])


def test_paths_name_hosts_where_pages_differ_by_host(tmp_path: Path) -> None:
    app = Flask("hosts", instance_path=str(tmp_path), host_matching=True, static_host="a.example")
    app.config["PRERENDER_BASE_URL"] = "https://a.example"
    Prerender(app)
    app.add_url_rule("/<x>", "page", mark(fallback="render")(lambda x: x), host="a.example")
    assert plan(app, ["//A.example/p", "https://a.example/q"]) == (
        ["//a.example/p", "//a.example/q"],
        [],
    )
    assert plan(app, ["//b.example/p"]) == ([], ["//b.example/p"])
    assert plan(app, ["/p"]) == ([], ["/p"])
    app.extensions["prerender"].close()


def test_nothing_but_keys_is_stored_for_a_path(app: Flask) -> None:
    report = generate(app, ["posts/5", "//evil.com/posts/5", "/posts/5"])
    assert report.unknown == ["posts/5", "//evil.com/posts/5"]
    assert [page.key for page in app.extensions["prerender"].store.pages()] == ["/posts/5"]


def test_several_paths_are_read_together(app: Flask) -> None:
    keys, unknown = plan(app, ["/posts/t*", "/", "/no", "/posts/new", "/"])
    assert keys == ["/", "/posts/two", "/posts/new"]
    assert unknown == ["/no"]


def test_tags_choose_pages(app: Flask) -> None:
    assert plan(app, tags=["front"]) == (["/"], [])
    assert plan(app, tags=["post:two", "front"]) == (["/", "/posts/two"], [])
    assert plan(app, tags=["nothing"]) == ([], [])


def test_paths_and_tags_together_choose_what_has_both(app: Flask) -> None:
    assert plan(app, ["/posts/*"], ["post:one", "front"]) == (["/posts/one"], [])
    assert plan(app, ["/posts/new"], ["post:new"]) == (["/posts/new"], [])
    assert plan(app, ["/posts/new"], ["post:old"]) == ([], [])


def test_tags_that_raise_for_a_page_asked_for_are_told(make_app: MakeApp) -> None:
    app = make_app()

    def tags(slug: str) -> list[str]:
        raise LookupError("no tags today")

    app.add_url_rule("/<slug>", "page", mark(fallback="render", tags=tags)(lambda slug: slug))
    report = generate(app, ["/a"])
    assert not report.is_good
    assert [(p.kind, p.message) for p in report.problems] == [
        ("tags", "/a: its tags failed: LookupError: no tags today")
    ]


def test_only_a_plan_without_paths_and_tags_is_full(app: Flask) -> None:
    site = app.extensions["prerender"]
    found = [Plan(site), Plan(site, ["/"]), Plan(site, (), ["front"])]
    assert [one.is_full for one in found] == [True, False, False]
    for one in found:
        one.close()


def test_a_target_comes_back_whole(make_app: MakeApp) -> None:
    app = make_app()
    view = mark(params=[({"slug": "a"}, 5)], tags=["t", "é"], revalidate=60)(lambda slug: slug)
    app.add_url_rule("/<slug>", "page", view)
    with closing(Plan(app.extensions["prerender"])) as found:
        found.fill()
        (target,) = found
    assert (target.key, target.rule, target.endpoint) == ("/a", "/<slug>", "page")
    assert (target.tags, target.last_modified, target.mark.revalidate) == (("t", "é"), 5.0, 60)


def many(app: Flask, count: int) -> None:
    def params() -> Iterator[dict[str, int]]:
        for number in range(count):
            yield {"number": number}

    view = mark(params=params, tags=["a"])(lambda number: "")
    app.add_url_rule("/items/<int:number>", "item", view)


def peak_of_a_plan(app: Flask, count: int) -> int:
    many(app, count)
    found = Plan(app.extensions["prerender"])
    tracemalloc.start()
    try:
        found.fill()
        assert len(found) == count
        assert sum(1 for _ in found) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        found.close()


def test_a_plan_does_not_grow_in_memory(make_app: MakeApp) -> None:
    # 10,000 targets kept as objects would take over 3 MB.
    assert peak_of_a_plan(make_app(), 10_000) < 1_000_000


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_million_pages_are_planned_in_little_memory(make_app: MakeApp) -> None:
    assert peak_of_a_plan(make_app(), 1_000_000) < 1_000_000


def test_the_same_problem_is_not_told_for_ever(make_app: MakeApp) -> None:
    app = make_app()
    params = [{"path": f"a//{number}"} for number in range(1500)]
    app.add_url_rule("/<path:path>", "page", mark(params=params)(lambda path: ""))
    app.add_url_rule("/z/<slug>", "broken", mark(params=lambda: 5)(lambda slug: ""))
    with closing(Plan(app.extensions["prerender"])) as found:
        found.fill()
        assert len(found) == 0
        kinds = [problem.kind for problem in found.problems]
    # What comes once a route is never left out.
    assert (kinds.count("unstorable"), kinds.count("empty"), kinds.count("enumerator")) == (
        1000,
        0,
        1,
    )


def test_a_plan_leaves_nothing_behind(app: Flask, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    plan(app)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_plan_that_cannot_be_filled_is_closed(make_app: MakeApp) -> None:
    app = make_app(select=lambda rule, view: 5)
    app.add_url_rule("/", "page", lambda: "x")
    opened: list[Any] = []
    connect = sqlite3.connect

    def counted(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        opened.append(connection)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flask_prerender.plan.sqlite3.connect", counted)
        with pytest.raises(MarkError):
            Build(app.extensions["prerender"])
    (connection,) = opened
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_an_app_is_not_kept_alive(tmp_path: Path) -> None:
    app = Flask("short-lived", instance_path=str(tmp_path))
    prerender = Prerender(app)
    app.add_url_rule("/", "home", mark(lambda: "home"))
    plan(app)
    app.extensions["prerender"].close()
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None
    assert prerender.is_rendering is False
