"""The door of ``before_request``: what an app sees of it, and what happens when it breaks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import g
from flask import render_template
from flask import request
from flask import Response
from flask import session

from flask_prerender import mark
from flask_prerender import Prerender
from flask_prerender.errors import StoreError
from flask_prerender.serve import Server
from flask_prerender.signals import page_served
from flask_prerender.signals import pages_prewarmed
from flask_prerender.stores.memory import MemoryStore

SECONDS = 20.0
BODY = "".join(f"<p>Line {n} of a page that compresses well.</p>\n" for n in range(100))


def add(app, rule="/", body=BODY, **options):
    """Add a marked route, and return the list in which it notes whether a render asked."""
    calls = []

    @app.route(rule)
    @app.prerender(**options)
    def page(**values):
        calls.append("flask_prerender.render" in request.environ)
        return body(**values) if callable(body) else body

    return calls


def is_hit(answer):
    return answer.get("Cache-Status") == "flask-prerender; hit"


# After the answer.


def test_after_request_functions_see_stored_answers(make_app, wsgi_get):
    app = make_app()
    add(app)
    seen = []

    @app.after_request
    def note(response):
        seen.append((isinstance(response, Response), response.status_code, response.mimetype))
        response.headers["X-Visitor"] = request.headers.get("X-Name", "none")
        return response

    wsgi_get(app)
    seen.clear()
    answers = [wsgi_get(app, headers={"X-Name": f"{n}"}) for n in range(3)]
    assert all(map(is_hit, answers))
    assert [answer.get("X-Visitor") for answer in answers] == ["0", "1", "2"]
    assert seen == [(True, 200, "text/html")] * 3


def test_a_header_added_to_every_response_is_not_sent_twice(make_app, wsgi_get):
    app = make_app()
    add(app)

    @app.after_request
    def secure(response):
        response.headers.add("Link", "</a.css>; rel=preload")
        response.headers["X-Frame-Options"] = "DENY"
        response.headers.setdefault("Referrer-Policy", "same-origin")
        return response

    for _ in range(3):
        answer = wsgi_get(app)
        for name in ("Link", "X-Frame-Options", "Referrer-Policy"):
            assert len([1 for found, _ in answer.headers if found == name]) == 1
    assert is_hit(answer)


def test_an_after_request_function_that_was_there_before_us_counts_too(tmp_path, wsgi_get):
    app = Flask("site", instance_path=str(tmp_path / "instance"))
    app.after_request(lambda response: response.headers.add("Link", "</a>") or response)
    Prerender(app)
    add(app)
    for _ in range(2):
        answer = wsgi_get(app)
        assert answer.get("Link") == "</a>"
    assert is_hit(answer)
    app.extensions["prerender"].close()


def test_a_header_that_the_page_itself_has_twice_stays_twice(make_app, wsgi_get):
    app = make_app()
    add(app, body=lambda: Response(BODY, headers=[("Link", "</a>"), ("Link", "</a>")]))
    app.after_request(lambda response: response.headers.add("X-More", "1") or response)
    for _ in range(2):
        answer = wsgi_get(app)
        assert answer.get("Link") == "</a>, </a>"
        assert answer.get("X-More") == "1"


def test_an_after_request_function_may_answer_something_else(make_app, wsgi_get):
    app = make_app()
    add(app)
    app.after_request(
        lambda response: Response("replaced", 503) if "HTTP_X_DOWN" in request.environ else response
    )
    wsgi_get(app)
    answer = wsgi_get(app, headers={"X-Down": "1"})
    assert (answer.status, answer.body, answer.get("Content-Length")) == (503, b"replaced", "8")
    assert is_hit(wsgi_get(app))


def test_an_after_request_function_may_replace_the_body(make_app, wsgi_get):
    app = make_app()
    add(app)

    @app.after_request
    def stamp(response):
        if "HTTP_X_STAMP" in request.environ:
            response.data = response.data + b"<!-- stamped -->"
        return response

    wsgi_get(app)
    answer = wsgi_get(app, headers={"X-Stamp": "1"})
    assert is_hit(answer)
    assert answer.body == BODY.encode() + b"<!-- stamped -->"
    assert answer.get("Content-Length") == str(len(answer.body))
    assert answer.get("Cache-Control") == "private, no-store"
    assert answer.get("ETag") is None
    plain = wsgi_get(app)
    assert (plain.body, bool(plain.get("ETag"))) == (BODY.encode(), True)


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": "*"}, {"Accept-Encoding": "gzip"}])
def test_a_cookie_for_the_visitor_keeps_the_answer_out_of_every_cache(make_app, wsgi_get, headers):
    app = make_app()
    own = {"CDN-Cache-Control": "max-age=99", "Expires": "Thu, 01 Jan 2099 00:00:00 GMT"}
    add(app, body=lambda: Response(BODY, headers=own))

    @app.after_request
    def count(response):
        if "visits" in request.environ.get("HTTP_COOKIE", ""):
            response.set_cookie("visits", "2")
        return response

    wsgi_get(app)
    answer = wsgi_get(app, headers={"Cookie": "visits=1", **headers})
    assert answer.get("Set-Cookie") == "visits=2; Path=/"
    assert answer.get("Cache-Control") == "private, no-store"
    assert (answer.get("CDN-Cache-Control"), answer.get("Expires")) == (None, None)
    assert answer.get("X-Prerendered") == "true"
    plain = wsgi_get(app, headers=headers)
    assert plain.get("Cache-Control") == "public, max-age=0, must-revalidate"
    assert plain.get("CDN-Cache-Control") == "max-age=99"
    assert plain.get("Set-Cookie") is None


@pytest.mark.parametrize("drop", ["Vary", "Cache-Status"])
def test_a_cookie_is_noticed_whatever_else_was_changed(make_app, wsgi_get, drop):
    app = make_app()
    add(app)

    @app.after_request
    def change(response):
        if "HTTP_COOKIE" in request.environ:
            del response.headers[drop]
            response.set_cookie("a", "b")
        return response

    wsgi_get(app)
    answer = wsgi_get(app, headers={"Cookie": "x=y"})
    assert answer.get("Set-Cookie") == "a=b; Path=/"
    assert answer.get("Cache-Control") == "private, no-store"


def test_the_cookie_of_a_permanent_session_goes_to_its_visitor_alone(make_app, wsgi_get):
    app = make_app()
    app.secret_key = "secret"
    calls = add(app)

    @app.route("/login")
    def login():
        session.permanent = True
        session["user"] = "alice"
        return "hello"

    morsels = SimpleCookie(wsgi_get(app, "/login").get("Set-Cookie"))
    cookie = f"session={morsels['session'].value}"
    first = wsgi_get(app, headers={"Cookie": cookie})
    hit = wsgi_get(app, headers={"Cookie": cookie})
    assert calls == [True]
    for answer in (first, hit):
        assert answer.body == BODY.encode()
        assert answer.get("Set-Cookie").startswith("session=")
        assert answer.get("Cache-Control") == "private, no-store"
        assert "Cookie" in answer.get("Vary")
    other = wsgi_get(app)
    assert (other.get("Set-Cookie"), other.get("Vary")) == (None, "Accept-Encoding")
    assert other.get("Cache-Control") == "public, max-age=0, must-revalidate"


def test_teardown_functions_and_close_callbacks_run(make_app, wsgi_get):
    app = make_app()
    add(app)
    ended = []
    app.teardown_request(lambda error: ended.append("request"))
    app.teardown_appcontext(lambda error: ended.append("app"))

    @app.after_request
    def later(response):
        response.call_on_close(lambda: ended.append("closed"))
        return response

    wsgi_get(app)
    ended.clear()
    assert is_hit(wsgi_get(app))
    assert sorted(ended) == ["app", "closed", "request"]


def test_a_response_class_of_the_apps_own_is_kept(tmp_path, wsgi_get):
    class Mine(Response):
        default_mimetype = "text/plain"

        @property
        def shout(self):
            return self.status.upper()

    class App(Flask):
        response_class = Mine

    app = App("site", instance_path=str(tmp_path / "instance"))
    Prerender(app)
    add(app, body="mine")
    shouted = []
    app.after_request(lambda response: shouted.append(response.shout) or response)
    for _ in range(2):
        answer = wsgi_get(app)
        assert (answer.body, answer.get("Content-Type")) == (b"mine", "text/plain; charset=utf-8")
    assert is_hit(answer)
    assert len(shouted) == 3
    app.extensions["prerender"].close()


# Before the answer.


def test_functions_registered_before_are_run_and_may_answer(make_app, wsgi_get, tmp_path):
    app = Flask("site", instance_path=str(tmp_path / "instance"))
    ran = []

    @app.before_request
    def maintenance():
        ran.append("before")
        return ("closed", 503) if "HTTP_X_CLOSED" in request.environ else None

    Prerender(app)
    app.before_request(lambda: ran.append("after"))
    add(app)
    wsgi_get(app)
    ran.clear()
    assert is_hit(wsgi_get(app))
    assert ran == ["before"]
    assert wsgi_get(app, headers={"X-Closed": "1"}).status == 503
    app.extensions["prerender"].close()


def test_templates_and_code_know_that_they_are_rendered(make_app, wsgi_get):
    prerender = Prerender()
    app = make_app()
    template = Path(app.root_path) / "templates" / "page.html"
    template.write_text("{{ 'render' if prerendering else 'visitor' }}")

    @app.route("/")
    @app.prerender
    def index():
        return f"{render_template('page.html')} {prerender.is_rendering}"

    assert wsgi_get(app).body == b"render True"
    assert wsgi_get(app, query="x=1").body == b"visitor False"
    assert prerender.is_rendering is False


def test_nothing_of_the_visitors_context_is_in_a_page(make_app, wsgi_get, tmp_path):
    app = Flask("site", instance_path=str(tmp_path / "instance"))
    app.before_request(lambda: setattr(g, "user", request.headers.get("X-User", "nobody")))
    Prerender(app)
    add(app, body=lambda: f"hello {g.user}")
    assert wsgi_get(app, headers={"X-User": "alice"}).body == b"hello nobody"
    assert wsgi_get(app, headers={"X-User": "bob"}).body == b"hello nobody"
    app.extensions["prerender"].close()


@pytest.mark.parametrize(
    "name", ["flask_prerender.render", "HTTP_FLASK_PRERENDER_RENDER", "HTTP_X_PRERENDER"]
)
def test_no_client_can_pretend_to_be_a_render(make_app, wsgi_get, name):
    app = make_app()
    add(app)
    wsgi_get(app)
    assert is_hit(wsgi_get(app, environ={name: "1"}))


# On and off.


@pytest.mark.parametrize(
    ("enabled", "debug", "served"),
    [
        (None, False, True),
        (None, True, False),
        (True, False, True),
        (True, True, True),
        (False, False, False),
        (False, True, False),
    ],
)
def test_pages_are_served_unless_it_is_off_or_a_debug_mode(
    make_app, wsgi_get, enabled, debug, served
):
    make = make_app({"PRERENDER_ENABLED": True})
    add(make)
    wsgi_get(make)
    app = make_app({"PRERENDER_ENABLED": enabled})
    app.debug = debug
    calls = add(app)
    for _ in range(2):
        answer = wsgi_get(app)
        assert (answer.status, answer.body) == (200, BODY.encode())
        assert (answer.get("X-Prerendered") == "true") == served
    assert calls == ([] if served else [False, False])
    if not served:
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=disabled"


def test_when_off_nothing_is_stored(make_app, wsgi_get, tmp_path):
    app = make_app({"PRERENDER_ENABLED": False})
    add(app)
    wsgi_get(app)
    assert list((tmp_path / "instance").iterdir()) == []


# Trouble.


class Broken(MemoryStore):
    """A store that raises when told to."""

    def __init__(self):
        super().__init__()
        self.errors = {}

    def get(self, key):
        if "get" in self.errors:
            raise self.errors["get"]
        return super().get(key)

    def read(self, page, variant):
        if "read" in self.errors:
            raise self.errors["read"]
        return super().read(page, variant)


@pytest.mark.parametrize("verb", ["get", "read"])
@pytest.mark.parametrize("error", [StoreError("down"), OSError(5, "I/O"), ZeroDivisionError()])
def test_whatever_the_store_raises_the_app_answers(make_app, wsgi_get, caplog, verb, error):
    store = Broken()
    app = make_app({"PRERENDER_MEMORY_BYTES": 0}, store=store)
    calls = add(app)
    wsgi_get(app)
    store.errors = {verb: error}
    for _ in range(3):
        app.extensions["prerender"].coordination.advance()  # or nobody asks for what is known
        answer = wsgi_get(app)
        assert (answer.status, answer.body) == (200, BODY.encode())
        assert answer.get("X-Prerendered") is None
    assert calls == [True, False, False, False]
    assert len(caplog.records) == 1
    assert bool(caplog.records[0].exc_info) == (not isinstance(error, StoreError))
    store.errors = {}
    assert is_hit(wsgi_get(app))


def test_trouble_is_told_once_a_minute_with_the_number_left_out(make_app, wsgi_get, clock, caplog):
    store = Broken()
    app = make_app(store=store)
    add(app)
    store.errors = {"get": StoreError("down")}
    for _ in range(5):
        wsgi_get(app)
    clock.forward(61)
    wsgi_get(app)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "/ is answered by the app: down",
        "/ is answered by the app: down (and 4 more like it)",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_an_error_of_our_own_is_never_the_visitors(make_app, wsgi_get, monkeypatch, caplog):
    app = make_app({"PRERENDER_ENABLED": True})
    app.testing = True
    add(app)
    wsgi_get(app)

    def fail(self, environ, key):
        raise KeyError("a bug")

    monkeypatch.setattr(Server, "answer", fail)
    answer = wsgi_get(app)
    assert (answer.status, answer.body) == (200, BODY.encode())
    assert caplog.records[0].exc_info[0] is KeyError


def test_a_receiver_that_raises_changes_nothing(make_app, wsgi_get, caplog):
    app = make_app()
    add(app)
    wsgi_get(app)

    def fail(sender, **facts):
        raise ValueError("a receiver's bug")

    with page_served.connected_to(fail, app):
        assert is_hit(wsgi_get(app))
    assert "page-served" in caplog.text


def test_the_signal_of_an_answer_says_what_was_sent(make_app, wsgi_get):
    app, other = make_app(), make_app(instance="other")
    add(app)
    add(other)
    told = []

    def note(sender, **facts):
        told.append((sender, facts))

    wsgi_get(other)
    wsgi_get(app)
    with page_served.connected_to(note, app):
        wsgi_get(other)
        wsgi_get(app, headers={"Accept-Encoding": "gzip"})
        wsgi_get(app, headers={"If-None-Match": "*"})
        wsgi_get(app, query="x=1")
    assert [sender for sender, _ in told] == [app, app]
    common = {"key": "/", "source": "memory", "state": "fresh"}
    assert [facts for _, facts in told] == [
        {**common, "status": 200, "encoding": "gzip"},
        {**common, "status": 304, "encoding": "identity"},
    ]


# The start of a process.


class Slow(Broken):
    """A store whose list of pages waits until the test lets it go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.gets = 0
        self.swept = 0

    def pages(self):
        assert self.go.wait(SECONDS)
        return super().pages()

    def get(self, key):
        self.gets += 1
        return super().get(key)

    def sweep(self):
        self.swept += 1
        super().sweep()


def wait_for_the_start():
    for thread in threading.enumerate():
        if thread.name == "prerender-start":
            thread.join(SECONDS)
            assert not thread.is_alive()


@pytest.mark.parametrize(("prewarm", "warm"), [("none", 0), (0, 0), (3, 3), ("all", 10), (99, 10)])
def test_pages_are_loaded_beside_the_first_request(make_app, wsgi_get, prewarm, warm):
    store = Slow()
    first = make_app(store=store)
    add(first, "/<name>", lambda name: name)
    for n in range(10):
        wsgi_get(first, f"/{n}")
    app = make_app({"PRERENDER_PREWARM": prewarm}, store=store)
    add(app, "/<name>", lambda name: name)
    told = []

    def note(sender, count, duration, **facts):
        told.append(count)

    with pages_prewarmed.connected_to(note, app):
        assert wsgi_get(app, "/9").body == b"9"  # while the list is held back
        site = app.extensions["prerender"]
        assert len(site.memory) == 1
        if warm:
            assert "prerender-start" in [thread.name for thread in threading.enumerate()]
            store.go.set()
            wait_for_the_start()
    assert told == ([warm] if warm else [])
    store.gets = 0
    for n in range(10):
        assert wsgi_get(app, f"/{n}").body == str(n).encode()
    assert store.gets == 10 - warm - (warm not in (10,))


def test_a_page_loaded_ahead_is_as_old_as_it_is(make_app, wsgi_get, clock):
    """When it was made counts, not when it was loaded."""
    first = make_app({"PRERENDER_REVALIDATE": 60})
    add(first)
    wsgi_get(first)
    clock.forward(100)
    config = {"PRERENDER_PREWARM": "all", "PRERENDER_REGENERATE": "off"}
    app = make_app({"PRERENDER_REVALIDATE": 60, **config})
    add(app)
    wsgi_get(app)
    wait_for_the_start()
    assert len(app.extensions["prerender"].memory) == 1
    answer = wsgi_get(app)
    assert answer.get("Cache-Status") == "flask-prerender; hit; ttl=-40"
    assert answer.get("Cache-Control") == "public, max-age=0, s-maxage=2"


def test_loading_ahead_stops_where_memory_is_full(make_app, wsgi_get):
    store = MemoryStore()
    first = make_app(store=store)
    add(first, "/<name>", lambda name: f"{name}{BODY}")
    for n in range(40):
        wsgi_get(first, f"/{n}")
    config = {"PRERENDER_PREWARM": "all", "PRERENDER_MEMORY_BYTES": 50_000}
    app = make_app(config, store=store)
    add(app, "/<name>", lambda name: f"{name}{BODY}")
    told = []

    def note(sender, count, **facts):
        told.append(count)

    with pages_prewarmed.connected_to(note, app):
        wsgi_get(app, "/0")
        wait_for_the_start()
    assert 5 < told[0] < 40
    assert app.extensions["prerender"].memory.weight <= 50_000


@pytest.mark.parametrize("error", [StoreError("down"), OSError(5, "down")])
def test_a_store_that_cannot_be_read_at_the_start_is_told_and_no_more(
    make_app, wsgi_get, caplog, error
):
    store = Slow()
    store.go.set()
    first = make_app(store=store)
    add(first)
    wsgi_get(first)
    app = make_app({"PRERENDER_PREWARM": "all"}, store=store)
    add(app)
    store.errors = {"get": error}
    assert wsgi_get(app).body == BODY.encode()
    wait_for_the_start()
    assert "down" in caplog.text
    assert "prepared after the start" in caplog.text
    store.errors = {}
    assert is_hit(wsgi_get(app))


def test_a_process_tidies_up_once(make_app, wsgi_get):
    store = Slow()
    first = make_app(store=store)
    add(first)
    wsgi_get(first)
    app = make_app(store=store)
    add(app)
    for _ in range(3):
        wsgi_get(app)
        wait_for_the_start()
    assert store.swept == 1


@pytest.mark.parametrize(("rule", "key"), [("/a/<x>/", "/a/1/"), ("/a/<x>", "/a/1")])
def test_both_spellings_of_a_url_without_strict_slashes_are_one_page(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Any], rule: str, key: str
) -> None:
    app = make_app()
    renders: list[str] = []

    @app.route(rule, strict_slashes=False)
    @mark
    def page(x: str) -> str:
        renders.append(x)
        return f"page {x}"

    answers = [wsgi_get(app, path) for path in ("/a/1/", "/a/1", "/a/1/")]

    assert [answer.body for answer in answers] == [b"page 1"] * 3
    assert [answer.get("X-Prerendered") for answer in answers] == ["true"] * 3
    assert renders == ["1"]
    assert [page.key for page in app.extensions["prerender"].store.pages()] == [key]
