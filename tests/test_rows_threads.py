"""Exceptions, pools, threads that do not start, clocks that are set: no page is the worse."""

from __future__ import annotations

import threading

import pytest
from flask import g
from flask import Response
from sqlalchemy import create_engine
from sqlalchemy import text
from sqlalchemy.pool import QueuePool

from flask_prerender import generate
from living import SECONDS
from living import settle
from living import site_of
from living import View
from living import wait_until


def our_lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "flask_prerender"]


# A view that raises behind a visitor.


@pytest.mark.parametrize(
    "mode",
    [
        {"TESTING": True},
        {"DEBUG": True},
        {"PROPAGATE_EXCEPTIONS": True},
        {"TESTING": True, "PROPAGATE_EXCEPTIONS": True, "TRAP_HTTP_EXCEPTIONS": True},
    ],
    ids=str,
)
def test_a_view_that_raises_behind_a_visitor_ends_neither_its_page_nor_the_thread(
    make_app, wsgi_get, clock, caplog, mode
):
    app = make_app({**mode, "PRERENDER_ENABLED": True})
    broken = View(app, "/broken", endpoint="broken")
    well = View(app, "/well", endpoint="well")
    began, go, threads = threading.Event(), threading.Event(), []

    def raises():
        threads.append(threading.current_thread())
        began.set()
        assert go.wait(SECONDS)
        raise LookupError("no such thing")

    def works():
        threads.append(threading.current_thread())
        return "new"

    wsgi_get(app, "/broken")
    wsgi_get(app, "/well")
    broken.does, well.does = raises, works
    clock.forward(60)
    assert wsgi_get(app, "/broken").body == b"render 1"
    assert began.wait(SECONDS)
    assert wsgi_get(app, "/well").body == b"render 1"
    go.set()
    settle(app)
    assert wsgi_get(app, "/well").body == b"new"
    assert threads[0] is threads[1]
    for _ in range(3):
        answer = wsgi_get(app, "/broken")
        assert (answer.status, answer.body) == (200, b"render 1")
        settle(app)
    (line,) = our_lines(caplog)
    assert "/broken could not be made new: error: LookupError: no such thing" in line
    assert (broken.renders, broken.visits) == (2, 0)


# A pool of connections.


def test_fifty_first_visits_hold_none_of_five_connections_while_they_wait(
    make_app, wsgi_get, tmp_path
):
    app = make_app({"PRERENDER_MAX_RENDERS": 50, "PRERENDER_WAIT": 2 * SECONDS})
    engine = create_engine(
        f"sqlite:///{tmp_path}/pool.db",
        poolclass=QueuePool,
        pool_size=5,
        max_overflow=0,
        pool_timeout=SECONDS,
        connect_args={"check_same_thread": False},
    )

    @app.before_request
    def connect():
        g.connection = engine.connect()
        g.one = g.connection.execute(text("select 1")).scalar()

    @app.teardown_request
    def disconnect(error):
        if "connection" in g:
            g.pop("connection").close()

    everybody_waits = threading.Event()

    @app.route("/<int:number>")
    @app.prerender
    def page(number):
        # As long as visitors are to come, no render ends: each of them would hold a connection.
        assert everybody_waits.wait(SECONDS)
        return f"{number} and {g.one}"

    answers = {}

    def visit(number):
        answers[number] = wsgi_get(app, f"/{number}")

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(site_of(app).flights) == 50)
    everybody_waits.set()
    for thread in threads:
        thread.join(2 * SECONDS)
    assert {n: answer.body for n, answer in answers.items()} == {
        n: f"{n} and 1".encode() for n in range(50)
    }
    stored = {answer.get("Cache-Status") for answer in answers.values()}
    assert stored == {"flask-prerender; fwd=uri-miss; stored"}
    assert engine.pool.checkedout() == 0
    engine.dispose()


# Threads that do not start.


def test_where_no_thread_can_start_every_visitor_is_answered(
    make_app, wsgi_get, clock, monkeypatch, caplog
):
    app = make_app()
    old = View(app, "/old", endpoint="old", expire=600)
    new = View(app, "/new", endpoint="new")
    wsgi_get(app, "/old")
    clock.forward(600)

    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for _ in range(3):
            expired = wsgi_get(app, "/old")
            assert (expired.status, expired.body) == (200, b"render 1")
            absent = wsgi_get(app, "/new")
            assert (absent.status, absent.body) == (200, b"for one visitor")
            assert absent.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=busy"
    assert (old.renders, new.renders, new.visits) == (1, 0, 3)
    assert our_lines(caplog) == []
    # And nothing of it stays.
    assert wsgi_get(app, "/new").body == b"render 1"
    assert wsgi_get(app, "/old").body == b"render 2"


# Clocks that are set.


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0, 10 * 365.25 * 86400.0])
def test_a_page_whose_headers_decide_is_made_once_and_never_of_negative_age(
    make_app, wsgi_get, clock, seconds
):
    app = make_app()
    renders = []

    @app.route("/page")
    @app.prerender(revalidate="headers")
    def page():
        renders.append(clock.now)
        return Response(f"render {len(renders)}", headers={"Cache-Control": "max-age=60"})

    def ages():
        answers = [wsgi_get(app, "/page") for _ in range(3)]
        assert {answer.body for answer in answers} == {f"render {len(renders)}".encode()}
        return [int(answer.get("Age")) for answer in answers]

    assert ages() == [0, 0, 0]
    clock.forward(seconds)
    assert int(wsgi_get(app, "/page").get("Age")) >= 0
    settle(app)
    assert ages() == [0, 0, 0]
    assert len(renders) == 2
    clock.forward(59)
    assert ages() == [59, 59, 59]
    clock.forward(1)
    assert ages() == [0, 0, 0]
    assert len(renders) == 3


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0, 10 * 365.25 * 86400.0])
def test_a_page_is_made_once_although_it_is_being_made_when_the_clock_is_set(
    make_app, wsgi_get, clock, seconds
):
    one, two = make_app(), make_app()
    first, second = View(one), View(two)
    began, go = threading.Event(), threading.Event()

    def held():
        began.set()
        assert go.wait(SECONDS)
        return "late"

    wsgi_get(one, "/page")
    first.does = held
    clock.forward(60)
    wsgi_get(one, "/page")
    assert began.wait(SECONDS)
    clock.forward(seconds)
    # Its claim is of another time, so it is none: another process makes the page.
    assert wsgi_get(two, "/page").body == b"render 1"
    settle(two)
    assert wsgi_get(two, "/page").body == b"render 1"
    assert second.renders == 1
    go.set()
    settle(one)
    for app in (one, two):
        assert wsgi_get(app, "/page").body == b"render 1"
    assert site_of(one).store.get("/page").checked_at == clock.now
    clock.forward(60)
    wsgi_get(two, "/page")
    settle(two)
    assert wsgi_get(one, "/page").body == b"render 2"


# A build, and a span for all pages.


def test_a_built_page_is_made_new_by_the_setting_for_all_alone(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REVALIDATE": 60})
    contents = iter(["first", "second"])
    app.add_url_rule("/", "home", app.prerender(lambda: next(contents)))
    assert generate(app).is_good
    assert wsgi_get(app, "/").body == b"first"
    clock.forward(60)
    assert wsgi_get(app, "/").body == b"first"
    settle(app)
    answer = wsgi_get(app, "/")
    assert (answer.body, answer.get("X-Prerendered")) == (b"second", "true")
