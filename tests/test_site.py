"""The state of one app: where its pages are, and how its renders look."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import request
from flask import url_for

from conftest import Clock
from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import StoreError
from flask_prerender.generate import Build
from flask_prerender.site import Site

MakeApp = Callable[..., Flask]


def site(app: Flask) -> Site:
    found: Site = app.extensions["prerender"]
    return found


# Where pages are.


def test_a_relative_path_is_below_the_instance_folder(make_app: MakeApp, tmp_path: Path) -> None:
    assert site(make_app()).path == tmp_path / "instance" / "prerendered"
    app = make_app({"PRERENDER_PATH": "a/b"})
    assert site(app).path == tmp_path / "instance" / "a" / "b"
    assert site(app).public == tmp_path / "instance" / "a" / "b" / "public"


def test_an_absolute_path_is_taken_as_it_is(make_app: MakeApp, tmp_path: Path) -> None:
    for path in (tmp_path / "pages", str(tmp_path / "pages")):
        assert site(make_app({"PRERENDER_PATH": path})).path == tmp_path / "pages"


@pytest.mark.parametrize("path", ["static", "static/pages", "static/../static/x", "link"])
def test_a_path_that_flask_serves_is_refused(make_app: MakeApp, tmp_path: Path, path: str) -> None:
    (tmp_path / "app/static/pages").mkdir(parents=True)
    (tmp_path / "app/link").symlink_to(tmp_path / "app/static/pages")
    with pytest.raises(ConfigError, match=r"PRERENDER_PATH is .* inside the static folder"):
        make_app({"PRERENDER_PATH": str(tmp_path / "app" / path)})


@pytest.mark.parametrize("path", [".", "static-pages", "pages/static"])
def test_a_path_beside_the_static_folder_is_fine(
    make_app: MakeApp, tmp_path: Path, path: str
) -> None:
    app = make_app({"PRERENDER_PATH": str(tmp_path / "app" / path)})
    assert site(app).path == (tmp_path / "app" / path).resolve()


def test_an_app_without_static_files_has_no_forbidden_path(tmp_path: Path) -> None:
    from flask_prerender import Prerender

    app = Flask("site", static_folder=None, instance_path=str(tmp_path))
    app.config["PRERENDER_PATH"] = str(tmp_path / "static")
    Prerender(app)
    assert site(app).path == tmp_path / "static"
    site(app).close()


# Where the last build was.


def build(app: Flask, **options: Any) -> None:
    for _ in Build(site(app), **options).run():
        pass


def with_page(app: Flask, text: str = "home") -> Flask:
    app.add_url_rule("/about", "about", mark(lambda: text))
    return app


def test_a_build_is_remembered_with_its_place_and_style(make_app: MakeApp, tmp_path: Path) -> None:
    app = with_page(make_app())
    build(app, output=tmp_path / "elsewhere", style="file")
    facts = json.loads((site(app).path / "last-build.json").read_text())
    assert facts["style"] == "file"
    # The path may move, with its instance folder, to another machine.
    assert (site(app).path / facts["output"]).resolve() == tmp_path / "elsewhere"
    assert [p.name for p in site(app).path.iterdir() if "last-build" in p.name] == [
        "last-build.json"
    ]


def test_a_worker_follows_a_build_at_its_next_request(make_app: MakeApp, tmp_path: Path) -> None:
    worker, builder = with_page(make_app()), with_page(make_app(), "from elsewhere")
    worker.test_client().get("/about")
    build(builder, output=tmp_path / "elsewhere", style="file")
    answer = worker.test_client().get("/about")
    assert answer.text == "from elsewhere"
    assert (site(worker).output, site(worker).style) == (tmp_path / "elsewhere", "file")
    # And back again.
    build(builder)
    worker.test_client().get("/about")
    assert (site(worker).output, site(worker).style) == (site(worker).path, "dir_index")


def test_what_a_first_visit_stores_is_where_the_build_went(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = with_page(make_app())
    build(app, output=tmp_path / "elsewhere", style="file")
    later = with_page(make_app())
    later.add_url_rule("/new", "new", mark(lambda: "new"))
    later.test_client().get("/new")
    assert (tmp_path / "elsewhere/public/new.html").read_text() == "new"
    assert not (site(later).path / "public").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"output": 5, "style": "file"}', "null"])
def test_what_is_remembered_may_be_damaged(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = site(make_app()).path
    path.mkdir(parents=True)
    (path / "last-build.json").write_text(text)
    app = with_page(make_app())
    assert site(app).output == path
    assert "last-build.json cannot be read" in caplog.text
    assert app.test_client().get("/about").text == "home"
    assert generate(app).is_good


def test_a_place_that_cannot_be_remembered_is_told(make_app: MakeApp) -> None:
    app = with_page(make_app())
    (site(app).path / "last-build.json" / "x").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write .*last-build\.json"):
        site(app).remember_build()
    assert [p.name for p in site(app).path.iterdir()] == ["last-build.json"]


# Whom a render looks like.


def seen_by(app: Flask, view: Callable[[], str], rule: str = "/seen") -> str:
    app.add_url_rule(rule, "seen", mark(view))
    report = generate(app, [rule])
    assert report.is_good, report.turned_down
    page = site(app).store.get(rule)
    assert page is not None
    body = site(app).store.read(page, page.identity)
    assert body is not None
    return body.decode()


def test_a_render_is_a_visitor_without_a_past(make_app: MakeApp) -> None:
    def view() -> str:
        agent = request.headers["User-Agent"]
        return f"{request.method} {request.url} {agent} [{request.environ['REMOTE_ADDR']}]"

    assert seen_by(make_app(), view) == "GET http://localhost/seen flask-prerender []"


def test_a_render_is_the_visitor_that_was_configured(make_app: MakeApp) -> None:
    app = make_app(
        {
            "PRERENDER_BASE_URL": "https://example.com:8443",
            "PRERENDER_USER_AGENT": "me/1.0",
            "PRERENDER_REMOTE_ADDR": "203.0.113.9",
            "PRERENDER_ACCEPT_LANGUAGE": "de",
        }
    )

    def view() -> str:
        return " ".join(
            [
                url_for("seen", _external=True),
                request.headers["User-Agent"],
                str(request.remote_addr),
                request.headers["Accept-Language"],
                request.environ["SERVER_PORT"],
            ]
        )

    assert seen_by(app, view) == "https://example.com:8443/seen me/1.0 203.0.113.9 de 8443"


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({}, "http://localhost/seen"),
        ({"SERVER_NAME": "example.com"}, "http://example.com/seen"),
        (
            {"SERVER_NAME": "example.com", "PREFERRED_URL_SCHEME": "https"},
            "https://example.com/seen",
        ),
        ({"APPLICATION_ROOT": "/app"}, "http://localhost/app/seen"),
        ({"PRERENDER_BASE_URL": "https://example.com/app/"}, "https://example.com/app/seen"),
    ],
)
def test_the_address_of_a_render_comes_from_the_settings(
    make_app: MakeApp, config: dict[str, Any], url: str
) -> None:
    assert seen_by(make_app(config), lambda: request.url) == url


@pytest.mark.parametrize(
    ("config", "is_known"),
    [
        ({}, False),
        ({"SERVER_NAME": "example.com"}, True),
        ({"PRERENDER_BASE_URL": "https://example.com"}, True),
    ],
)
def test_a_sitemap_needs_a_public_address(
    make_app: MakeApp, config: dict[str, Any], is_known: bool
) -> None:
    app = with_page(make_app(config))
    generate(app)
    assert site(app).has_public_url is is_known
    assert (site(app).public / "sitemap.xml").exists() is is_known


# Complaints.


def test_the_same_trouble_is_told_once_a_minute(
    make_app: MakeApp, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    found = site(make_app())
    with caplog.at_level(logging.WARNING, "flask_prerender"):
        for number in range(5):
            found.complain("store", "trouble %d", number)
        found.complain("other", "another trouble")
        assert caplog.messages == ["trouble 0", "another trouble"]
        clock.forward(61)
        found.complain("store", "trouble %d", 5)
        assert caplog.messages[-1] == "trouble 5 (and 4 more like it)"
        clock.forward(61)
        found.complain("store", "trouble %d", 6)
        assert caplog.messages[-1] == "trouble 6"


def test_a_clock_that_goes_back_does_not_silence_anybody(
    make_app: MakeApp, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    found = site(make_app())
    found.complain("store", "before")
    clock.forward(-10_000)
    found.complain("store", "after")
    assert caplog.messages == ["before", "after"]


def test_complaints_of_endless_kinds_are_not_kept_for_ever(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    found = site(make_app())
    with caplog.at_level(logging.CRITICAL, "flask_prerender"):
        for number in range(5000):
            found.complain(f"kind {number}", "trouble")
    assert len(found.complain._told) <= 1001
