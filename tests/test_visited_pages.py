"""Pages that visitors asked for, when a build meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import abort
from flask import Flask
from flask import redirect

from flask_prerender import generate
from flask_prerender import mark

MakeApp = Callable[..., Flask]
Get = Callable[..., Any]


def stored(app: Flask) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        page.key: (page.origin, page.tags) for page in app.extensions["prerender"].store.pages()
    }


def with_site(make_app: MakeApp, says: dict[str, Any], **options: Any) -> Flask:
    """Make an app whose pages say what stands in a dict, and whose list names ``/a`` alone."""
    app = make_app()

    def page(x: str) -> Any:
        answer = says.get(x, says.get("*"))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            abort(answer)
        return answer

    app.add_url_rule("/<x>", "page", mark(params=[{"x": "a"}], **options)(page))
    return app


def test_a_full_build_makes_visited_pages_again(make_app: MakeApp, wsgi_get: Get) -> None:
    says: dict[str, Any] = {"*": "v1"}
    app = with_site(make_app, says)
    generate(app)
    assert wsgi_get(app, "/b").body == b"v1"
    says["*"] = "v2"
    report = generate(app)
    assert (report.total, report.count("published"), report.removed) == (2, 2, 0)
    answer = wsgi_get(app, "/b")
    assert answer.body == b"v2"
    assert answer.get("Cache-Status") == "flask-prerender; hit"
    assert stored(app) == {"/a": ("build", ()), "/b": ("visit", ())}
    # It is a visitor's page still: the build after that does not take it for one no list names.
    assert generate(app).counts == {"unchanged": 2}
    assert "/b" in stored(app)


def test_the_mark_of_today_reaches_visited_pages(make_app: MakeApp, wsgi_get: Get) -> None:
    wsgi_get(with_site(make_app, {"*": "page"}), "/b")
    app = with_site(make_app, {"*": "page"}, tags=["new"], revalidate=60)
    generate(app)
    assert stored(app)["/b"] == ("visit", ("new",))
    assert "s-maxage=60" in str(wsgi_get(app, "/b").get("Cache-Control"))


@pytest.mark.parametrize("answer", [404, 410, redirect("/a")])
def test_a_visited_page_that_is_gone_is_removed(
    make_app: MakeApp, wsgi_get: Get, answer: Any
) -> None:
    says: dict[str, Any] = {"*": "page"}
    app = with_site(make_app, says)
    wsgi_get(app, "/b")
    says["b"] = answer
    report = generate(app, fail_fast=True)
    assert (report.removed, report.is_good, report.counts) == (1, True, {"published": 1})
    assert list(stored(app)) == ["/a"]


@pytest.mark.parametrize("answer", [ValueError("broken"), ("", 200), 500])
def test_a_visited_page_that_is_turned_down_stays_as_it_was(
    make_app: MakeApp, wsgi_get: Get, answer: Any
) -> None:
    says: dict[str, Any] = {"*": "page"}
    app = with_site(make_app, says)
    wsgi_get(app, "/b")
    says["b"] = answer
    report = generate(app)
    assert [one.key for one in report.turned_down] == ["/b"]
    assert wsgi_get(app, "/b").body == b"page"


def test_paths_and_tags_find_visited_pages(make_app: MakeApp, wsgi_get: Get) -> None:
    says: dict[str, Any] = {"*": "v1"}
    app = with_site(make_app, says, tags=lambda x: [f"tag {x}"])
    for path in ("/b1", "/b2", "/c"):
        wsgi_get(app, path)
    says["*"] = "v2"
    report = generate(app, ["/b*"])
    assert (report.unknown, sorted(report.changed)) == ([], ["/b1", "/b2"])
    report = generate(app, tags=["tag c"])
    assert (report.unknown_tags, report.changed) == ([], ["/c"])
    assert {origin for origin, _ in stored(app).values()} == {"visit"}


def test_an_unknown_tag_is_told(make_app: MakeApp) -> None:
    app = with_site(make_app, {"*": "page"}, tags=["posts"])
    report = generate(app, tags=["post", "posts"])
    assert (report.unknown_tags, report.is_good, report.total) == (["post"], False, 1)
    assert app.test_cli_runner().invoke(args=["prerender", "--tag", "posts"]).exit_code == 0
    result = app.test_cli_runner().invoke(args=["prerender", "--tag", "post"])
    assert (result.exit_code, "no page has the tag 'post'" in result.stderr) == (1, True)


def test_a_visited_page_that_no_parameter_reaches_is_not_made(
    make_app: MakeApp, wsgi_get: Get
) -> None:
    first = with_site(make_app, {"*": "page"}, query=["p"])
    wsgi_get(first, "/b", query="p=1")
    assert list(stored(first)) == ["/b?p=1"]
    assert generate(with_site(make_app, {"*": "page"})).total == 1


def test_a_listed_page_takes_its_file_from_a_visited_one(make_app: MakeApp, wsgi_get: Get) -> None:
    app = make_app()
    listed = [{"x": "about"}, {"x": "doc"}]
    app.add_url_rule("/<path:x>", "page", mark(params=listed)(lambda x: f"page {x}"))
    assert wsgi_get(app, "/about/").get("X-Prerendered") == "true"
    for _ in range(2):
        report = generate(app)
        assert report.is_good, report.turned_down
        assert list(stored(app)) == ["/about", "/doc"]
        # The other way round it is refused: a visitor takes nothing from a build.
        answer = wsgi_get(app, "/about/")
        assert answer.body == b"page about/"
        assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=collision"
        assert wsgi_get(app, "/about").get("Cache-Status") == "flask-prerender; hit"


# With the fallback "404".


def test_before_a_full_build_nobody_knows_which_pages_there_are(
    make_app: MakeApp, wsgi_get: Get
) -> None:
    app = with_site(make_app, {"*": "page"}, fallback="404")
    generate(app, ["/a"])
    assert wsgi_get(app, "/b").status == 200
    generate(app)
    assert (wsgi_get(app, "/a").status, wsgi_get(app, "/b").status) == (200, 404)


def test_an_index_that_was_lost_makes_no_page_a_404(make_app: MakeApp, wsgi_get: Get) -> None:
    app = with_site(make_app, {"*": "page"}, fallback="404")
    generate(app)
    site = app.extensions["prerender"]
    site.close()
    for file in (site.path / "store").glob("index.sqlite3*"):
        file.unlink()
    later = with_site(make_app, {"*": "page"}, fallback="404")
    answer = wsgi_get(later, "/a")
    assert (answer.status, answer.body) == (200, b"page")


def test_a_build_whose_list_failed_does_not_say_which_pages_there_are(
    make_app: MakeApp, wsgi_get: Get
) -> None:
    app = make_app()

    def params() -> Any:
        raise OSError("the database is down")

    options: dict[str, Any] = {"params": params, "fallback": "404"}
    app.add_url_rule("/<x>", "page", mark(**options)(lambda x: x))
    assert not generate(app).is_good
    assert wsgi_get(app, "/b").status == 200


# What is unchanged is looked at.


def test_a_build_mends_bytes_that_rotted(make_app: MakeApp) -> None:
    app = with_site(make_app, {"*": "<p>text</p>" * 1000})
    generate(app)
    public = app.extensions["prerender"].public / "a"
    good = {file: file.read_bytes() for file in public.iterdir()}
    assert len(good) > 1
    for name in good:
        with name.open("r+b") as file:
            file.seek(20)
            file.write(b"\xff\xfe")
        assert name.read_bytes() != good[name]
        generate(app)
        assert {file: file.read_bytes() for file in public.iterdir()} == good
