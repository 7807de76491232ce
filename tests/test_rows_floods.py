"""Work without an end: slow pages, endless pages, large headers, and what the log says of it."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections import Counter

import pytest
from flask import Response

from flask_prerender import Prerender
from living import SECONDS
from living import site_of
from living import wait_until

MEGABYTE = 1024 * 1024


def our_lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "flask_prerender"]


# Slow pages.


def test_two_hundred_slow_pages_take_four_threads_and_no_hit_waits_for_them(make_app, wsgi_get):
    app = make_app({"PRERENDER_WAIT": 2 * SECONDS})
    go, now_, most = threading.Event(), Counter(), [0]
    lock = threading.Lock()

    @app.route("/slow/<int:number>")
    @app.prerender
    def slow(number):
        if not Prerender().is_rendering:
            return f"{number} from the app"
        with lock:
            now_["renders"] += 1
            most[0] = max(most[0], now_["renders"])
        assert go.wait(2 * SECONDS)
        with lock:
            now_["renders"] -= 1
        return f"{number} stored"

    app.add_url_rule("/quick", "quick", app.prerender(lambda: "quick"))
    wsgi_get(app, "/quick")
    answers = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(wsgi_get(app, f"/slow/{n}")))
        for n in range(200)
    ]
    for thread in threads:
        thread.start()
    # All but four are answered while every render is held.
    wait_until(lambda: len(answers) == 196)
    assert all(answer.body.endswith(b"from the app") for answer in answers)
    ours = [t for t in threading.enumerate() if t.name.startswith("prerender-visit")]
    assert len(ours) == 4
    for _ in range(20):
        assert wsgi_get(app, "/quick").get("Cache-Status") == "flask-prerender; hit"
    go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert most == [4]
    assert sum(answer.body.endswith(b"stored") for answer in answers) == 4
    assert len(site_of(app).flights) == 0


# Endless pages.


def test_endless_pages_take_no_memory_and_one_line_of_the_log(make_app, wsgi_get, caplog):
    app = make_app()
    closed = []

    def parts():
        try:
            while True:
                yield b"x" * 65536
        finally:
            closed.append(1)

    app.add_url_rule("/<name>", "page", app.prerender(lambda name: Response(parts())))
    client = app.test_client()
    tracemalloc.start()
    try:
        for number in range(20):
            response = client.get(f"/{number}")
            assert "detail=size" in response.headers["Cache-Status"]
            body = iter(response.response)
            assert sum(len(next(body)) for _ in range(200)) == 200 * 65536
            response.close()
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MEGABYTE
    assert left < 2 * MEGABYTE
    assert len(closed) == 40
    (line,) = our_lines(caplog)
    assert "/0 (page) is not stored: size" in line
    assert list(site_of(app).store.pages()) == []


# Large headers.


def test_five_hundred_tags_are_in_no_header(make_app, wsgi_get):
    app = make_app({"PRERENDER_REVALIDATE": 60})
    tags = [f"a-tag-with-a-long-name-{number}" for number in range(500)]
    app.add_url_rule("/", "page", app.prerender(tags=tags)(lambda: "text " * 1000))
    for headers in ({}, {"Accept-Encoding": "gzip"}, {"If-None-Match": "*"}):
        answer = wsgi_get(app, "/", headers=headers)
        assert answer.get("X-Prerendered") == "true"
        # A proxy with a buffer of 4 KiB for headers can read them.
        assert sum(len(name) + len(value) + 4 for name, value in answer.headers) < 1024
    assert len(site_of(app).store.get("/").tags) == 500
    with app.app_context():
        Prerender().purge(tag=tags[499])
    assert site_of(app).revocations.follow()
    assert site_of(app).revocations.of(site_of(app).store.get("/")) == "hard"


# The log.


def _long(number):
    return {"path": f"/name/{number}-" + "x" * (number % 1500)}


def _deep(number):
    return {"path": "/path/" + "/".join(["y" * (number % 100 + 1)] * 9) + str(number)}


def _bytes(number):
    return {"environ": {"PATH_INFO": f"/path/{number}\xff\x00\\..//{number}"}}


def _query(number):
    return {"path": "/name/a", "query": f"a=%ff&{number}=\xff;{number}"}


def _headers(number):
    sent = {
        "Cookie": f"a={number};=;",
        "Range": f"bytes={number}-x",
        "If-None-Match": "W/" * 9,
        "Accept-Encoding": f"gzip;q=x{number}",
        "Authorization": "?",
        "Host": f"{number}",
    }
    return {"path": "/name/a", "headers": sent}  # fmt: skip


def _kind(number):
    kinds = ["cookie", "private", "vary", "size", "header", "nonce", "empty", "missing", "tags"]
    return {"path": f"/{kinds[number % len(kinds)]}/{number}"}


def _mount(number):
    return {"path": "/name/a", "environ": {"SCRIPT_NAME": f"/{number}"}}


def _method(number):
    return {"path": f"/name/{number}", "method": "POST"}


BAD = [_long, _deep, _bytes, _query, _headers, _kind, _mount, _method]


def add_refused(app):
    """Add a route for each reason that a page may be refused for."""
    headers = {
        "cookie": {"Set-Cookie": "a=b"},
        "private": {"Cache-Control": "private"},
        "vary": {"Vary": "X-Any"},
        "nonce": {"Content-Security-Policy": "script-src 'nonce-a'"},
        "header": {"X-Long": "x" * 9000},
    }
    for name, sent in headers.items():
        view = app.prerender(lambda number, sent=sent: Response("text", headers=sent))
        app.add_url_rule(f"/{name}/<number>", name, view)
    bodies = {"size": "x" * 2000, "empty": ""}
    for name, text in bodies.items():
        view = app.prerender(lambda number, text=text: text)
        app.add_url_rule(f"/{name}/<number>", name, view)
    view = app.prerender(lambda number: ("missing", 404))
    app.add_url_rule("/missing/<number>", "missing", view)
    view = app.prerender(tags=lambda number: [int("x" + number)])(lambda number: "text")
    app.add_url_rule("/tags/<number>", "tags", view)


@pytest.mark.parametrize(
    "count", [1000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]
)
def test_a_flood_of_bad_requests_is_a_line_for_each_kind(make_app, wsgi_get, caplog, count):
    app = make_app({"PRERENDER_MAX_PAGE_BYTES": 1000, "PRERENDER_COMPRESS": False})
    add_refused(app)
    app.add_url_rule("/name/<name>", "name", app.prerender(lambda name: "text"))
    app.add_url_rule("/path/<path:path>", "path", app.prerender(lambda path: "text"))
    statuses = Counter()
    for number in range(count):
        bad = BAD[number % len(BAD)](number)
        statuses[wsgi_get(app, bad.pop("path", "/"), **bad).status] += 1
    assert max(statuses) < 500
    lines = our_lines(caplog)
    print(f"{count} requests, {len(lines)} lines, {dict(statuses)}")
    assert 5 < len(lines) < 100
    assert len(caplog.records) == len(lines)
