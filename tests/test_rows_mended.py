"""Faults and attacks that did get through once."""

from __future__ import annotations

import threading

import pytest
from flask import Response

from flask_prerender import generate
from flask_prerender import Prerender
from living import SECONDS
from living import settle
from living import site_of
from living import View


def our_lines(caplog):
    return [r.getMessage() for r in caplog.records if r.name == "flask_prerender"]


# One long URL stops all first visits, and all renewals of expired pages, for half a minute.


def test_a_path_too_long_for_a_file_is_no_trouble_of_other_pages(make_app, wsgi_get, clock):
    app = make_app()
    view = app.prerender(revalidate=60, expire=600)(lambda path: f"{clock.now}")
    app.add_url_rule("/<path:path>", "page", view)
    wsgi_get(app, "/old")
    clock.forward(600)
    wsgi_get(app, "/" + "/".join(["x" * 150] * 7))
    assert wsgi_get(app, "/new").get("Cache-Status") == "flask-prerender; fwd=uri-miss; stored"
    assert wsgi_get(app, "/old").body == f"{clock.now}".encode()


# A render that began before a build, and ends after it, replaces what the build stored.


@pytest.mark.parametrize("who", ["visitor", "regeneration", "build"])
def test_a_render_that_began_before_a_build_does_not_replace_its_page(
    make_app, wsgi_get, clock, who
):
    early, late = make_app(), make_app()
    content, read, go = ["old"], threading.Event(), threading.Event()
    hold = [False]

    def held():
        text = content[0]
        if hold[0]:
            read.set()
            assert go.wait(SECONDS)
        return text

    revalidate = 60 if who == "regeneration" else None
    early.add_url_rule("/page", "page", early.prerender(revalidate=revalidate)(held))
    view = late.prerender(revalidate=revalidate)(lambda: content[0])
    late.add_url_rule("/page", "page", view)
    with site_of(late).claims.hold("/any"):  # a site that has run before
        pass
    if who == "regeneration":
        generate(late)
        clock.forward(60)
    begin = {
        "visitor": lambda: wsgi_get(early, "/page"),
        "regeneration": lambda: site_of(early).regenerator.make_new("/page"),
        "build": lambda: generate(early, concurrency=1),
    }[who]
    hold[0] = True
    thread = threading.Thread(target=begin)
    thread.start()
    assert read.wait(SECONDS)
    content[0] = "new"
    assert generate(late, concurrency=1).is_good
    assert wsgi_get(late, "/page").body == b"new"
    go.set()
    thread.join(SECONDS)
    site_of(late).memory.clear()
    assert wsgi_get(late, "/page").body == b"new"


# B13: the first request of a process that has no thread to spare is not served from the store.


def test_a_process_that_cannot_start_a_thread_serves_its_first_request_from_the_store(
    make_app, wsgi_get, monkeypatch, caplog
):
    before = make_app()
    View(before)
    wsgi_get(before, "/page")
    app = make_app()
    View(app)

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    answer = wsgi_get(app, "/page")
    assert (answer.get("X-Prerendered"), our_lines(caplog)) == ("true", [])


# C9: nothing is said of a loop.


def test_a_loop_of_renders_is_told_once(make_app, wsgi_get, caplog):
    app = make_app()

    def ask(path):
        return app.test_client().get(path).text if Prerender().is_rendering else path

    app.add_url_rule("/a", "a", app.prerender(lambda: f"a {ask('/b')}"))

    @app.route("/b")
    @app.prerender
    def b():
        return "b " + app.test_client(use_cookies=False).get("/a", headers={"X-In": "1"}).text

    wsgi_get(app, "/a")
    assert [line for line in our_lines(caplog) if "render loop /a -> /b -> /a" in line]


# F5: a bypassed answer of a marked route says nothing to caches.


@pytest.mark.parametrize(
    ("options", "sent", "vary", "control"),
    [
        ({}, {"Authorization": "Basic YTpi"}, "Authorization", "private, no-store"),
        ({"visitors": "bots"}, {"User-Agent": "Firefox"}, "User-Agent", None),
    ],
    ids=["authorization", "visitors"],
)
def test_a_bypassed_answer_is_for_no_shared_cache(make_app, wsgi_get, options, sent, vary, control):
    app = make_app()
    app.add_url_rule("/", "page", app.prerender(**options)(lambda: "text"))
    answer = wsgi_get(app, "/", headers=sent)
    assert answer.get("Cache-Control") == control
    assert vary in str(answer.get("Vary"))


# B14 in respect mode: a page that must not be served stale is, once, when the clock was set.


@pytest.mark.parametrize("seconds", [-3600.0, 10 * 365.25 * 86400.0])
def test_a_page_that_must_be_validated_is_so_after_the_clock_was_set(
    make_app, wsgi_get, clock, seconds
):
    app = make_app()
    headers = {"Cache-Control": "max-age=60, must-revalidate"}
    renders = iter(range(9))
    view = app.prerender(revalidate="headers")(
        lambda: Response(f"{next(renders)}", headers=headers)
    )
    app.add_url_rule("/", "page", view)
    assert wsgi_get(app, "/").body == b"0"
    clock.forward(seconds)
    answer = wsgi_get(app, "/")
    settle(app)
    assert (answer.body, answer.get("Age")) == (b"1", "0")


# H11: a line for every page of a route that fails, not one for the route and minute.


def test_a_route_that_fails_is_one_line_a_minute(make_app, wsgi_get, clock, caplog):
    app = make_app()
    well = [True]
    view = app.prerender(revalidate=60)(lambda n: "text" if well[0] else ("no", 503))
    app.add_url_rule("/<int:n>", "page", view)
    for n in range(200):
        wsgi_get(app, f"/{n}")
    well[0] = False
    clock.forward(60)
    for n in range(200):
        wsgi_get(app, f"/{n}")
    settle(app)
    assert len(our_lines(caplog)) < 100
