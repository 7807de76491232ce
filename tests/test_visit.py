"""First visits: one clean render for everybody who waits."""

from __future__ import annotations

import threading

import pytest
from flask import request
from flask import Response

from flask_prerender.errors import StoreError
from flask_prerender.stores.memory import MemoryStore

SECONDS = 20.0


def is_render():
    return "flask_prerender.render" in request.environ


class Store(MemoryStore):
    """A store that fails when told to, and tells who looked."""

    def __init__(self):
        super().__init__()
        self.fails: set[str] = set()
        self.looked: set[str] = set()
        self.after_get = lambda key: None

    def get(self, key):
        page = super().get(key)
        self.looked.add(threading.current_thread().name)
        if "get" in self.fails:
            raise StoreError("it cannot be read")
        self.after_get(key)
        return page

    def put(self, page, bodies):
        if "put" in self.fails:
            raise StoreError("it is full")
        super().put(page, bodies)


class Gate:
    """A view whose renders wait until the test lets them go."""

    def __init__(self, app, rule="/<name>", **options):
        self.go = threading.Event()
        self.rendering = threading.Event()
        self.calls: list[bool] = []

        @app.route(rule)
        @app.prerender(**options)
        def gated(name):
            self.calls.append(is_render())
            if not is_render():
                return f"{name} for one visitor"
            self.rendering.set()
            assert self.go.wait(SECONDS)
            return f"{name} for everybody"


def visitors(wsgi_get, app, count, path="/page"):
    """Send visitors who ask at the same moment, and return their threads and their answers."""
    start, answers = threading.Barrier(count), []

    def visit():
        start.wait(SECONDS)
        answers.append(wsgi_get(app, path))

    threads = [threading.Thread(target=visit, name=f"visitor {n}") for n in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def end(threads):
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_twenty_visitors_at_once_cost_one_render_and_all_are_answered_from_it(make_app, wsgi_get):
    store = Store()
    app = make_app(store=store)
    gate = Gate(app)
    everybody_looked = threading.Event()

    def note(key):
        if sum(name.startswith("visitor") for name in store.looked) == 20:
            everybody_looked.set()

    store.after_get = note
    threads, answers = visitors(wsgi_get, app, 20)
    assert everybody_looked.wait(SECONDS)
    gate.go.set()
    end(threads)
    assert {answer.body for answer in answers} == {b"page for everybody"}
    assert {answer.status for answer in answers} == {200}
    assert {answer.get("X-Prerendered") for answer in answers} == {"true"}
    assert gate.calls == [True]


def test_who_looked_just_before_the_page_was_stored_does_not_render_it_again(make_app, wsgi_get):
    store = Store()
    app = make_app(store=store)
    gate = Gate(app)
    gate.go.set()
    inner = []

    def visit_meanwhile(key):
        if not inner:
            inner.append(None)
            inner[0] = wsgi_get(app, "/page")

    store.after_get = visit_meanwhile
    outer = wsgi_get(app, "/page")
    assert (inner[0].body, outer.body) == (b"page for everybody", b"page for everybody")
    assert gate.calls == [True]


def test_a_second_look_that_fails_is_no_reason_not_to_render(make_app, wsgi_get):
    store = Store()
    app = make_app(store=store)
    gate = Gate(app)
    gate.go.set()

    def fail_once_in_the_flight(key):
        if threading.current_thread() is not threading.main_thread():
            store.after_get = lambda key: None
            raise StoreError("it cannot be read for a moment")

    store.after_get = fail_once_in_the_flight
    assert wsgi_get(app, "/page").body == b"page for everybody"
    assert gate.calls == [True]


def test_a_visitor_who_has_waited_long_enough_is_answered_by_the_app(
    make_app, wsgi_get, monkeypatch
):
    app = make_app({"PRERENDER_WAIT": 0.05})
    gate = Gate(app)
    answer = wsgi_get(app, "/page")
    assert (answer.status, answer.body) == (200, b"page for one visitor")
    assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=wait"
    assert answer.get("X-Prerendered") is None
    flights = app.extensions["prerender"].flights
    flight = flights._flying["/page"]
    # The next ones do not wait again.
    monkeypatch.setattr(flights, "join", None)
    again = wsgi_get(app, "/page")
    assert again.body == b"page for one visitor"
    assert again.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=wait"
    assert gate.rendering.wait(SECONDS)
    assert sorted(gate.calls) == [False, False, True]
    gate.go.set()
    assert flight.wait(SECONDS).is_stored
    assert wsgi_get(app, "/page").body == b"page for everybody"


def test_while_too_many_pages_are_rendered_the_app_answers_at_once(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_RENDERS": 1})
    gate = Gate(app)
    threads, answers = visitors(wsgi_get, app, 1, "/first")
    assert gate.rendering.wait(SECONDS)
    busy = wsgi_get(app, "/second")
    assert busy.body == b"second for one visitor"
    assert busy.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=busy"
    assert gate.calls == [True, False]
    gate.go.set()
    end(threads)
    assert answers[0].body == b"first for everybody"
    assert wsgi_get(app, "/second").body == b"second for everybody"


def test_a_stored_page_is_served_while_others_are_rendered(make_app, wsgi_get):
    app = make_app({"PRERENDER_MAX_RENDERS": 1})

    @app.route("/stored")
    @app.prerender
    def stored():
        return "stored"

    gate = Gate(app)
    wsgi_get(app, "/stored")
    threads, _ = visitors(wsgi_get, app, 1, "/slow")
    assert gate.rendering.wait(SECONDS)
    assert wsgi_get(app, "/stored").get("Cache-Status") == "flask-prerender; hit"
    gate.go.set()
    end(threads)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (lambda: Response("x", headers={"Set-Cookie": "a=b"}), "set-cookie"),
        (lambda: Response("x", headers={"Cache-Control": "private"}), "private"),
        (lambda: Response("x", headers={"Vary": "Cookie"}), "session"),
        (lambda: Response("x", 404), "status"),
        (lambda: Response(""), "empty"),
    ],
)
def test_what_may_not_be_stored_is_tried_once_in_two_minutes(
    make_app, wsgi_get, clock, response, reason
):
    app = make_app()
    calls = []

    @app.route("/")
    @app.prerender
    def index():
        calls.append(is_render())
        return response()

    for _ in range(4):
        answer = wsgi_get(app, "/")
        assert answer.get("Cache-Status") == f"flask-prerender; fwd=uri-miss; detail={reason}"
    assert calls == [True, False, False, False, False]
    clock.forward(119)
    wsgi_get(app, "/")
    assert calls[5:] == [False]
    clock.forward(1)
    wsgi_get(app, "/")
    assert calls[6:] == [True, False]


def test_what_failed_is_tried_again_after_three_seconds(make_app, wsgi_get, clock):
    app = make_app()
    calls, broken = [], [True]

    @app.route("/")
    @app.prerender
    def index():
        calls.append(is_render())
        if broken[0]:
            raise ValueError("broken")
        return "well again"

    for _ in range(3):
        answer = wsgi_get(app, "/")
        assert answer.status == 500
        assert answer.get("X-Prerendered") is None
    assert calls == [True, False, False, False]
    broken[0] = False
    clock.forward(2.5)
    assert wsgi_get(app, "/").get("X-Prerendered") is None
    clock.forward(0.5)
    assert wsgi_get(app, "/").get("X-Prerendered") == "true"
    assert calls == [True, False, False, False, False, True]


def test_nobody_gets_the_answer_that_was_made_for_another(make_app, wsgi_get):
    """Twenty visitors of a page that turns out personal: each is answered by a view of its own."""
    app = make_app()
    numbers = iter(range(100))

    @app.route("/page")
    @app.prerender
    def page():
        return Response(f"{next(numbers)}", headers={"Cache-Control": "private"})

    threads, answers = visitors(wsgi_get, app, 20)
    end(threads)
    bodies = [answer.body for answer in answers]
    assert len(set(bodies)) == 20
    assert b"0" not in bodies


def test_the_log_says_once_in_a_minute_why_a_page_is_not_stored(make_app, wsgi_get, clock, caplog):
    app = make_app()

    @app.route("/<name>")
    @app.prerender
    def page(name):
        return Response("x", headers={"Set-Cookie": "secret=7"})

    for n in range(5):
        wsgi_get(app, f"/{n}")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "/0 (page) is not stored: set-cookie: sets secret" in line
    assert "7" not in line
    clock.forward(61)
    wsgi_get(app, "/other")
    assert caplog.records[-1].getMessage().endswith("(and 4 more like it)")
    assert len(caplog.records) == 2


def test_a_404_that_nobody_asked_to_store_is_not_worth_a_line(make_app, wsgi_get, caplog):
    app = make_app()

    @app.route("/<name>")
    @app.prerender
    def page(name):
        return "nothing", 404

    wsgi_get(app, "/x")
    assert caplog.records == []


def test_what_cannot_be_stored_is_remembered_for_ten_thousand_keys_at_most(make_app, wsgi_get):
    app = make_app()
    site = app.extensions["prerender"]
    site.unstorable.update((f"/{n}", (float("inf"), "status")) for n in range(10_000))

    @app.route("/<name>")
    @app.prerender
    def page(name):
        return "nothing", 404

    wsgi_get(app, "/new")
    assert list(site.unstorable) == ["/new"]


def test_a_store_that_cannot_write_is_left_in_peace_for_half_a_minute(
    make_app, wsgi_get, clock, caplog
):
    store = Store()
    app = make_app(store=store)
    calls = []

    @app.route("/<name>")
    @app.prerender
    def page(name):
        calls.append(is_render())
        return f"name {name}"

    store.fails = {"put"}
    for name in ("a", "b", "a"):
        answer = wsgi_get(app, f"/{name}")
        assert (answer.status, answer.body) == (200, f"name {name}".encode())
        assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=store"
    assert calls == [True, False, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        "/a (page) is not stored: store: it is full"
    ]
    store.fails = set()
    clock.forward(29)
    assert wsgi_get(app, "/b").get("X-Prerendered") is None
    clock.forward(1)
    assert wsgi_get(app, "/b").get("X-Prerendered") == "true"


def test_a_page_that_was_stored_before_stays_when_the_store_fills_up(make_app, wsgi_get, clock):
    store = Store()
    app = make_app({"PRERENDER_REVALIDATE": 60, "PRERENDER_EXPIRE": 600}, store=store)
    gate = Gate(app)
    gate.go.set()
    wsgi_get(app, "/page")
    store.fails = {"put"}
    clock.forward(601)
    answer = wsgi_get(app, "/page")
    assert answer.body == b"page for everybody"
    assert "s-maxage=2" in answer.get("Cache-Control")
    assert gate.calls == [True, True]


def test_with_the_fallback_pass_the_app_answers_and_nothing_is_rendered(make_app, wsgi_get):
    app = make_app()
    gate = Gate(app, fallback="pass")
    for _ in range(2):
        answer = wsgi_get(app, "/page")
        assert answer.body == b"page for one visitor"
        assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=fallback"
    assert gate.calls == [False, False]
    assert len(list(app.extensions["prerender"].store.pages())) == 0


def test_with_the_fallback_404_there_is_no_page_but_the_listed(make_app, wsgi_get):
    app = make_app()
    gate = Gate(app, fallback="404", params=[{"name": "listed"}])
    gate.go.set()
    app.register_error_handler(404, lambda error: ("the app's own 404 page", 404))
    assert wsgi_get(app, "/other").body == b"other for one visitor"  # nothing was built yet
    gate.calls.clear()
    site = app.extensions["prerender"]
    site.store.finish_build(site.store.next_build())
    answer = wsgi_get(app, "/other")
    assert (answer.status, answer.body) == (404, b"the app's own 404 page")
    assert gate.calls == []
    from flask_prerender.publish import publish

    (target,) = site.routes.targets(print)
    publish(site, target, origin="build")
    assert wsgi_get(app, "/listed").body == b"listed for everybody"
    assert wsgi_get(app, "/other").status == 404
    assert gate.calls == [True]


def test_a_visitors_headers_never_reach_the_render(make_app, wsgi_get):
    """A validator or a range of the visitor's would store a 304 or a part of the page."""
    app = make_app()
    seen = []

    @app.route("/")
    @app.prerender
    def index():
        seen.append({key for key in request.environ if key.startswith("HTTP_")})
        response = Response("the whole page")
        response.set_etag("mine")
        return response.make_conditional(request.environ, accept_ranges=True, complete_length=14)

    headers = {"If-None-Match": '"mine"', "Range": "bytes=0-1", "Cookie": "a=b", "X-Any": "1"}
    first = wsgi_get(app, "/", headers=headers)
    assert (first.status, first.body) == (206, b"th")
    assert wsgi_get(app, "/").body == b"the whole page"
    assert seen == [{"HTTP_HOST", "HTTP_ACCEPT", "HTTP_USER_AGENT"}]


def test_a_page_asked_for_within_a_render_is_answered_by_the_app(make_app, wsgi_get):
    app = make_app()

    @app.route("/outer")
    @app.prerender
    def outer():
        inner = wsgi_get(app, "/inner")
        return f"{inner.body.decode()}, {inner.get('Cache-Status')}"

    @app.route("/inner")
    @app.prerender
    def inner():
        return "inner"

    answer = wsgi_get(app, "/outer")
    assert answer.body == b"inner, flask-prerender; fwd=bypass; detail=render"
    assert [page.key for page in app.extensions["prerender"].store.pages()] == ["/outer"]


@pytest.mark.parametrize(
    ("error", "reason"), [("tags", "tags"), ("bug", "error")], ids=["tags", "bug"]
)
def test_what_goes_wrong_before_the_render_is_told_once_and_remembered(
    make_app, wsgi_get, clock, caplog, monkeypatch, error, reason
):
    app = make_app(store=Store())
    asked = []

    def fail(*values, **more):
        asked.append(True)
        raise LookupError("no tags today")

    @app.route("/<name>")
    @app.prerender(fallback="render", tags=fail if error == "tags" else ())
    def view(name):
        return name

    if error == "bug":
        monkeypatch.setattr("flask_prerender.visit.publish", fail)
    for _ in range(3):
        answer = wsgi_get(app, "/page")
        assert answer.body == b"page"
        assert answer.get("Cache-Status") == f"flask-prerender; fwd=uri-miss; detail={reason}"
    assert len(asked) == 1
    (record,) = caplog.records
    assert "no tags today" in record.getMessage()
    assert bool(record.exc_info) == (error == "bug")
    clock.forward(4)
    wsgi_get(app, "/page")
    assert len(asked) == 2


def test_renders_that_hang_do_not_stop_the_others(make_app, wsgi_get, caplog):
    app = make_app({"PRERENDER_MAX_RENDERS": 1, "PRERENDER_WAIT": 0})
    gate = Gate(app, "/hung/<name>")
    app.add_url_rule("/other", "other", app.prerender(lambda: "other"))
    flights, now = app.extensions["prerender"].flights, [1000.0]
    flights._clock = lambda: now[0]
    answer = wsgi_get(app, "/hung/1")
    assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=wait"
    assert gate.rendering.wait(SECONDS)
    now[0] += 31
    assert "detail=busy" in wsgi_get(app, "/other").get("Cache-Status")
    now[0] += 0.5
    wsgi_get(app, "/other")
    assert "detail=timeout" in wsgi_get(app, "/hung/1").get("Cache-Status")
    assert caplog.text.count("/hung/1 is not stored: its render hangs") == 1
    gate.go.set()
