"""Hits before Flask: the same answers, at a fraction of the cost, and everything else passed on."""

from __future__ import annotations

import threading

import pytest
from flask import request
from flask import request_started

from flask_prerender import Prerender
from flask_prerender.known import Paths
from living import settle
from living import site_of
from living import View

WSGI = {"PRERENDER_SERVE_AT": "wsgi"}
BODY = "<p>a line that compresses well</p>" * 100


@pytest.fixture
def count_flask():
    """Count the requests of an app that reach Flask."""

    def count(app):
        reached = []
        request_started.connect(lambda *_, **__: reached.append(request.path), app, weak=False)
        return reached

    return count


@pytest.fixture
def site(make_app, wsgi_get):
    """Two apps with the same pages, by the hook and by the lane, each asked once."""

    def make(config=None, path="/page", **options):
        hook, lane = make_app(config), make_app({**WSGI, **(config or {})})
        views = [View(app, path, **options) for app in (hook, lane)]
        for view in views:
            view.does = lambda: BODY
        for app in (hook, lane):
            for _ in range(2):
                wsgi_get(app, path.replace("<name>", "ä b"))
        return hook, lane

    return make


def test_the_second_hit_of_a_path_does_not_reach_flask(make_app, wsgi_get, count_flask):
    app = make_app(WSGI)
    View(app)
    reached = count_flask(app)
    wsgi_get(app, "/page")
    assert reached == ["/page", "/page"]  # the visitor's request, and its render
    first = wsgi_get(app, "/page")
    assert len(reached) == 2
    assert (first.body, first.get("Cache-Status")) == (b"render 1", "flask-prerender; hit; ttl=60")
    for _ in range(5):
        assert wsgi_get(app, "/page") == first
    assert len(reached) == 2


def test_without_the_setting_every_request_reaches_flask(make_app, wsgi_get, count_flask):
    app = make_app()
    View(app)
    reached = count_flask(app)
    for _ in range(4):
        wsgi_get(app, "/page")
    assert len(reached) == 5


@pytest.mark.parametrize(
    "options",
    [{"visitors": "bots"}, {"revalidate": "headers"}, {"vary": {"Accept-Language": ["en", "de"]}}],
    ids=str,
)
def test_pages_that_are_not_the_same_for_every_request_go_by_flask(
    make_app, wsgi_get, count_flask, options
):
    app = make_app(WSGI)
    view = View(app, **options)
    view.does = lambda: ("text", {"Cache-Control": "max-age=60"})
    headers = {"User-Agent": "Googlebot"}
    wsgi_get(app, "/page", headers=headers)
    reached = count_flask(app)
    for number in range(3):
        assert wsgi_get(app, "/page", headers=headers).get("X-Prerendered") == "true"
        assert len(reached) == number + 1


def test_a_stale_page_goes_by_the_hook_and_the_new_one_by_the_lane(
    make_app, wsgi_get, clock, count_flask
):
    app = make_app(WSGI)
    view = View(app)
    for _ in range(2):
        wsgi_get(app, "/page")
    clock.forward(59.5)
    reached = count_flask(app)
    assert wsgi_get(app, "/page").get("Cache-Control") == "public, max-age=0, s-maxage=1"
    clock.forward(0.5)
    assert wsgi_get(app, "/page").get("Cache-Control") == "public, max-age=0, s-maxage=2"
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 2"
    count = len(reached)
    assert wsgi_get(app, "/page").body == b"render 2"
    assert (len(reached), view.renders) == (count, 2)


def test_every_visitor_of_a_stale_page_goes_by_the_hook(make_app, wsgi_get, clock, count_flask):
    app = make_app({**WSGI, "PRERENDER_REGENERATE": "off"})
    View(app)
    for _ in range(2):
        wsgi_get(app, "/page")
    clock.forward(60)
    reached = count_flask(app)
    for number in range(3):
        assert "s-maxage=2" in wsgi_get(app, "/page").get("Cache-Control")
        assert len(reached) == number + 1


def test_a_clock_that_is_set_freezes_nothing(make_app, wsgi_get, clock):
    app = make_app(WSGI)
    View(app)
    for seconds in (0, -3600, 7200, -1_000_000):
        clock.forward(seconds)
        if seconds:
            assert "s-maxage=2" in wsgi_get(app, "/page").get("Cache-Control")
            settle(app)
        for _ in range(2):
            assert wsgi_get(app, "/page").status == 200
            settle(app)
        assert wsgi_get(app, "/page").get("Cache-Control") == "public, max-age=0, s-maxage=60"


def test_the_counter_is_looked_for_again_when_the_clock_is_set(make_app, wsgi_get, clock):
    app = make_app(WSGI)
    View(app, revalidate=None)
    coordination, looks = site_of(app).coordination, []
    cell = coordination.cell

    def look():
        looks.append(clock.now)
        return cell()

    coordination.cell = look
    for count, seconds in enumerate((0, 0.9, 0.1, -3600, 1), 1):
        clock.forward(seconds)
        for _ in range(3):
            wsgi_get(app, "/page")
        assert len(looks) == count - (count > 1)


def test_hits_of_first_visits_are_noted(make_app, wsgi_get, clock):
    app = make_app(WSGI)
    View(app)
    for _ in range(2):
        wsgi_get(app, "/page")
    site = site_of(app)
    for seconds in (5, 0, 1):
        clock.forward(seconds)
        site.asked_for.clear()
        site.memory.get("/page").used = False
        wsgi_get(app, "/page")
        # Once a second is enough: what was not asked for the longest time makes room.
        assert site.asked_for == ({"/page": clock.now} if seconds else {})
        assert site.memory.get("/page").used


def test_a_page_that_left_memory_is_found_again(site, wsgi_get, count_flask):
    _, lane = site()
    reached = count_flask(lane)
    site_of(lane).memory.clear()
    for _ in range(3):
        assert wsgi_get(lane, "/page").body == BODY.encode()
    assert reached == []


def test_what_goes_wrong_in_the_lane_is_flasks(site, wsgi_get, monkeypatch, caplog):
    _, lane = site()
    monkeypatch.setattr(site_of(lane).coordination, "cell", None)
    site_of(lane).clock.forward(1)
    for _ in range(3):
        answer = wsgi_get(lane, "/page")
        assert (answer.status, answer.body) == (200, BODY.encode())
    assert caplog.text.count("a request is passed on to Flask") == 1


def test_what_clients_choose_is_bounded(make_app, wsgi_get, monkeypatch):
    monkeypatch.setattr("flask_prerender.known._PATHS", 10)
    monkeypatch.setattr("flask_prerender.serve._CHOSEN", 10)
    monkeypatch.setattr("flask_prerender.lane._HOSTS", 10)
    app = make_app(WSGI)
    View(app, "/<name>")
    lane = app.wsgi_app
    for number in range(50):
        for _ in range(2):
            headers = {"Accept-Encoding": f"x-{number}", "Host": f"{number}.example"}
            assert wsgi_get(app, f"/{number}", headers=headers).status == 200
            assert wsgi_get(app, "/same", headers=headers).status == 200
    held = [cell.cell_contents for cell in lane.__closure__]
    (paths,) = [one for one in held if isinstance(one, Paths)]
    (hosts,) = [one for one in held if type(one) is set]
    assert 0 < len(paths.known) <= 10
    assert 0 < len(hosts) <= 10
    assert len(site_of(app).memory.get("/same").chosen) <= 10


def test_threads_get_whole_answers_while_the_page_changes(make_app, wsgi_get, clock):
    app = make_app(WSGI)
    view = View(app)
    view.does = lambda: f"{view.renders} " * 500
    wsgi_get(app, "/page")
    wrong, done = [], threading.Event()

    def ask():
        while not done.is_set():
            answer = wsgi_get(app, "/page")
            if answer.status != 200 or len(set(answer.body.split())) != 1:
                wrong.append(answer)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with app.app_context():
            Prerender().refresh("/page")
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
