"""Stale pages made new: once, in the background, and never worse than before."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import pytest
from flask import abort
from flask import g
from flask import make_response
from flask import redirect
from flask import request
from flask import Response
from flask import session

from conftest import ROOT
from flask_prerender import generate
from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender.claims import rest_after
from flask_prerender.page import http_date
from flask_prerender.stores.memory import MemoryStore
from living import heard_of
from living import SECONDS
from living import settle
from living import site_of
from living import View
from living import wait_until

# Fresh, stale, expired, gone.


def test_a_page_is_fresh_then_stale_then_expired(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app, expire=600)
    assert wsgi_get(app, "/page").body == b"render 1"
    clock.forward(59.9)
    assert wsgi_get(app, "/page").body == b"render 1"
    settle(app)
    assert view.renders == 1
    clock.forward(0.1)
    stale = wsgi_get(app, "/page")
    assert (stale.status, stale.body, stale.get("X-Prerendered")) == (200, b"render 1", "true")
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 2"
    clock.forward(600)
    assert wsgi_get(app, "/page").body == b"render 3"
    assert (view.renders, view.visits) == (3, 0)


def test_a_page_without_a_span_is_fresh_for_ever(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app, revalidate=None)
    wsgi_get(app, "/page")
    clock.forward(10 * 365 * 86400)
    assert wsgi_get(app, "/page").body == b"render 1"
    settle(app)
    assert view.renders == 1


def test_a_conditional_request_makes_a_stale_page_new_too(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    etag = wsgi_get(app, "/page").get("ETag")
    clock.forward(60)
    assert wsgi_get(app, "/page", headers={"If-None-Match": etag}).status == 304
    settle(app)
    clock.forward(60)
    assert wsgi_get(app, "/page", method="HEAD").status == 200
    settle(app)
    assert view.renders == 3


def test_a_page_that_is_the_same_keeps_its_tag_and_its_date_and_is_fresh(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    view.does = lambda: "the same"
    before = wsgi_get(app, "/page")
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    after = wsgi_get(app, "/page")
    settle(app)
    assert view.renders == 2
    assert after.get("ETag") == before.get("ETag")
    assert after.get("Last-Modified") == before.get("Last-Modified") == http_date(clock.now - 60)
    assert "s-maxage=60" in after.get("Cache-Control")


def test_a_page_that_was_built_is_made_new_and_stays_one_of_the_build(make_app, wsgi_get, clock):
    app = make_app()
    View(app)
    generate(app)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    page = site_of(app).store.get("/page")
    assert wsgi_get(app, "/page").body == b"render 2"
    assert (page.origin, page.build) == ("build", 1)


def test_a_setting_for_all_routes_makes_pages_stale(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REVALIDATE": 10, "PRERENDER_EXPIRE": 30})

    @app.route("/")
    @app.prerender
    def home():
        return str(clock.now)

    first = wsgi_get(app, "/").body
    clock.forward(10)
    assert wsgi_get(app, "/").body == first
    settle(app)
    assert wsgi_get(app, "/").body != first


@pytest.mark.parametrize(
    ("name", "fresh", "gone"),
    [("seconds", 1, 60), ("minutes", 60, 3600), ("hours", 3600, 86400), ("days", 86400, 604800)],
)
def test_a_profile_is_a_name_for_two_spans(make_app, wsgi_get, name, fresh, gone):
    app = make_app()
    View(app, revalidate=name)
    wsgi_get(app, "/page")
    page = site_of(app).store.get("/page")
    assert (page.revalidate, page.expire) == (fresh, gone)


def test_lives_differ_by_a_tenth_so_that_pages_are_not_stale_together(make_app, wsgi_get):
    app = make_app({"PRERENDER_JITTER": 0.1})
    View(app, "/<int:n>", revalidate=100, expire=105)
    for n in range(60):
        wsgi_get(app, f"/{n}")
    lives = [page.revalidate for page in site_of(app).store.pages()]
    assert 90 <= min(lives) < 95 < max(lives) <= 105
    assert len(set(lives)) > 30


# What each result does to a page that was there.


def _with_cookie():
    answer = make_response("text")
    answer.set_cookie("name", "value")
    return answer


def _with_session():
    session["name"] = "alice"
    return "text"


def _with_header(name, value):
    return lambda: Response("text", headers={name: value})


def _status(code):
    return lambda: Response("text", code)


def _raises():
    raise ValueError("no")


KEEPS = {
    "error": _raises,
    "500": _status(500),
    "503": _status(503),
    "cookie": _with_cookie,
    "session": _with_session,
    "vary": _with_header("Vary", "X-Theme"),
    "vary *": _with_header("Vary", "*"),
    "nonce": _with_header("Content-Security-Policy", "script-src 'nonce-abc'"),
    "coded": _with_header("Content-Encoding", "gzip"),
    "302": lambda: redirect("/login"),
    "303": lambda: redirect("/login", 303),
    "307": lambda: redirect("/login", 307),
    "204": lambda: ("", 204),
    "206": _status(206),
    "304": lambda: ("", 304),
    "400": lambda: abort(400),
    "401": lambda: abort(401),
    "403": lambda: abort(403),
    "429": lambda: abort(429),
    "empty": lambda: "",
    "stream": _with_header("Content-Type", "text/event-stream"),
}
REMOVES = {
    "404": lambda: abort(404),
    "410": lambda: abort(410),
    "301": lambda: redirect("/new", 301),
    "308": lambda: redirect("/new", 308),
    "private": _with_header("Cache-Control", "private"),
    "no-store": _with_header("Cache-Control", "no-store"),
    "cdn no-store": _with_header("CDN-Cache-Control", "no-store"),
    "surrogate no-store": _with_header("Surrogate-Control", "no-store"),
}


@pytest.mark.parametrize("name", KEEPS)
def test_the_last_good_page_stays_when_the_new_one_may_not_be_stored(
    make_app, wsgi_get, clock, name
):
    app = make_app({"SECRET_KEY": "x" * 32})
    view = View(app)
    wsgi_get(app, "/page")
    view.does = KEEPS[name]
    clock.forward(60)
    for _ in range(5):
        answer = wsgi_get(app, "/page")
        assert (answer.status, answer.body) == (200, b"render 1")
        assert answer.get("X-Prerendered") == "true"
        settle(app)
    assert (view.renders, view.visits) == (2, 0)
    streak = site_of(app).coordination.streak("/page")
    assert streak.failures == 1
    assert 27 <= streak.not_before - clock.now <= 66


@pytest.mark.parametrize("name", REMOVES)
def test_a_page_that_the_view_takes_away_is_gone_at_once(make_app, wsgi_get, clock, name):
    app = make_app()
    view = View(app)
    wsgi_get(app, "/page")
    view.does = REMOVES[name]
    clock.forward(60)
    assert wsgi_get(app, "/page").body == b"render 1"
    settle(app)
    assert site_of(app).store.get("/page") is None
    assert not list(site_of(app).public.rglob("*.html"))
    own = wsgi_get(app, "/page")
    assert own.get("X-Prerendered") is None
    assert view.visits == 1


@pytest.mark.parametrize("name", KEEPS | REMOVES)
def test_what_may_not_be_stored_leaves_nothing_where_nothing_was(make_app, wsgi_get, name):
    app = make_app({"SECRET_KEY": "x" * 32})
    view = View(app)
    view.does = (KEEPS | REMOVES)[name]
    for _ in range(3):
        assert wsgi_get(app, "/page").get("X-Prerendered") is None
    assert (view.renders, view.visits) == (1, 3)
    assert list(site_of(app).store.pages()) == []
    assert not list(site_of(app).public.rglob("*.html"))
    assert site_of(app).coordination.streak("/page") is None


@pytest.mark.parametrize(("revalidate", "seconds"), [(20, 20), (600, 60)])
def test_after_a_page_is_gone_the_app_answers_for_a_while_without_a_new_render(
    make_app, wsgi_get, clock, revalidate, seconds
):
    app = make_app()
    view = View(app, revalidate=revalidate)
    wsgi_get(app, "/page")
    view.does = REMOVES["404"]
    clock.forward(revalidate)
    wsgi_get(app, "/page")
    settle(app)
    clock.forward(seconds - 0.1)
    for _ in range(5):
        assert wsgi_get(app, "/page").status == 404
    assert (view.renders, view.visits) == (2, 5)
    view.does = None
    clock.forward(0.1)
    answer = wsgi_get(app, "/page")
    assert (answer.body, answer.get("X-Prerendered")) == (b"render 3", "true")


@pytest.mark.parametrize("code", [301, 404, 410])
def test_a_status_that_the_mark_allows_is_stored_in_place_of_the_page(
    make_app, wsgi_get, clock, code
):
    app = make_app()
    view = View(app, statuses=[200, code])
    wsgi_get(app, "/page")
    view.does = lambda: Response("moved or gone", code, {"Location": "/new"})
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    answer = wsgi_get(app, "/page")
    assert (answer.status, answer.get("X-Prerendered")) == (code, "true")
    assert view.visits == 0


def test_a_page_that_no_marked_route_has_any_more_is_removed(make_app, wsgi_get, clock):
    before = make_app()
    View(before)
    wsgi_get(before, "/page")
    site_of(before).close()
    app = make_app()
    removed = heard_of(app, signals.page_removed)
    site_of(app).regenerator.make_new("/page", anyway=True)
    assert site_of(app).store.get("/page") is None
    assert removed[1:] == [{"key": "/page", "reason": "route"}]


def test_a_render_that_takes_too_long_keeps_the_page(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_TIMEOUT": 0.05})
    view = View(app)
    wsgi_get(app, "/page")
    go = threading.Event()

    def slow():
        go.wait(0.1)
        return "late"

    view.does = slow
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 1"
    assert site_of(app).coordination.streak("/page").reason == "timeout"


def test_tags_that_raise_are_a_failure_like_another(make_app, wsgi_get, clock, caplog):
    app = make_app()
    fails = []

    def tags():
        if fails:
            raise LookupError("no database")
        return ["a"]

    view = View(app, tags=tags)
    wsgi_get(app, "/page")
    fails.append(True)
    clock.forward(60)
    for _ in range(3):
        assert wsgi_get(app, "/page").body == b"render 1"
        settle(app)
    assert site_of(app).coordination.streak("/page").detail.endswith("LookupError: no database")
    assert len(caplog.records) == 1
    assert view.renders == 1
    with app.app_context():
        taken = Prerender().revalidate("/page")
    assert taken.affected == ["/page"]


def test_a_build_that_a_visitor_overtook_has_nothing_to_complain_of(make_app, wsgi_get):
    app = make_app()
    view = View(app)

    def slow():
        if view.renders == 1:
            view.does = None
            with site_of(app).claims.hold("/other"):  # a newer token is given out
                pass
            site_of(app).regenerator.make_new("/page", anyway=True)
            return "late"
        return f"render {view.renders}"

    view.does = slow
    report = generate(app, concurrency=1)
    assert report.counts == {"unchanged": 1}
    assert report.is_good
    assert wsgi_get(app, "/page").body == b"render 2"


# Failures in a row.


def test_rests_grow_are_spread_and_end_at_five_minutes():
    for revalidate, first in ((None, 3), (1, 3), (20, 20), (3600, 30)):
        for failures, expected in ((0, first), (1, 2 * first), (2, 4 * first), (50, 300)):
            seconds = {rest_after(failures, revalidate) for _ in range(50)}
            wanted = min(300, expected)
            assert wanted * 0.9 <= min(seconds) < wanted < max(seconds) <= wanted * 1.1


def test_an_origin_that_fails_for_ten_minutes_is_asked_twelve_times_at_most(
    make_app, wsgi_get, clock, caplog
):
    caplog.set_level(logging.INFO, "flask_prerender")
    app = make_app()
    view = View(app, revalidate=10)
    wsgi_get(app, "/page")
    view.does = _raises
    app.logger.disabled = True
    clock.forward(10)
    failed = heard_of(app, signals.regenerate_failed)
    statuses = set()
    for _ in range(6000):
        clock.forward(0.1)
        answer = wsgi_get(app, "/page")
        statuses.add((answer.status, answer.body, answer.get("X-Prerendered")))
        settle(app)
    assert statuses == {(200, b"render 1", "true")}
    assert 4 <= view.renders - 1 <= 12
    assert [facts["failures"] for facts in failed[1:]] == list(range(1, view.renders))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "ValueError: no" in caplog.records[0].getMessage()
    view.does = None
    clock.forward(331)
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == f"render {view.renders}".encode()
    assert site_of(app).coordination.streak("/page") is None
    said = [record.getMessage() for record in caplog.records[1:]]
    assert said == [f"/page is made again, after {view.renders - 2} failures"]
    app.logger.disabled = False


def test_an_expired_page_that_cannot_be_made_is_served_and_asked_for_twelve_times_at_most(
    make_app, wsgi_get, clock
):
    app = make_app()
    app.logger.disabled = True
    view = View(app, revalidate=10, expire=20)
    wsgi_get(app, "/page")
    view.does = _raises
    clock.forward(20)
    for _ in range(1200):  # each would take PRERENDER_WAIT if it waited for what rests
        clock.forward(0.5)
        answer = wsgi_get(app, "/page")
        assert (answer.status, answer.body) == (200, b"render 1")
    assert 4 <= view.renders - 1 <= 12
    view.does = None
    clock.forward(331)
    assert wsgi_get(app, "/page").body == f"render {view.renders}".encode()
    assert view.visits == 0
    app.logger.disabled = False


def test_an_expired_page_is_served_no_longer_than_the_window_for_errors(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_STALE_IF_ERROR": 100})
    app.logger.disabled = True
    view = View(app, revalidate=10, expire=20)
    wsgi_get(app, "/page")
    view.does = _raises
    clock.forward(119.9)
    answer = wsgi_get(app, "/page")
    assert answer.body == b"render 1"
    assert answer.get("Cache-Status") == "flask-prerender; fwd=stale; detail=error"
    clock.forward(0.1)
    answer = wsgi_get(app, "/page")
    assert (answer.status, view.visits) == (500, 1)
    assert answer.get("Cache-Status") == "flask-prerender; fwd=stale; detail=error"
    app.logger.disabled = False


def test_a_failed_page_is_not_tried_by_another_process_before_its_time(make_app, wsgi_get, clock):
    one, two = make_app(), make_app()
    first, second = View(one), View(two)
    wsgi_get(one, "/page")
    first.does = second.does = _status(500)
    clock.forward(60)
    wsgi_get(one, "/page")
    settle(one)
    wsgi_get(two, "/page")
    settle(two)
    assert (first.renders, second.renders) == (2, 0)
    clock.forward(34)
    wsgi_get(two, "/page")
    settle(two)
    assert second.renders == 1
    assert site_of(one).coordination.streak("/page").failures == 2


@pytest.mark.parametrize("seconds", [-3600, 3600, 10 * 365 * 86400])
def test_a_clock_that_is_set_freezes_nothing(make_app, wsgi_get, clock, seconds):
    app = make_app()
    view = View(app, revalidate=100)
    refused = View(app, "/refused", endpoint="refused")
    wsgi_get(app, "/page")
    view.does = _status(500)
    clock.forward(100)
    wsgi_get(app, "/page")
    settle(app)
    refused.does = _with_header("Cache-Control", "private")
    wsgi_get(app, "/refused")
    refused.does = view.does = None
    clock.forward(seconds)
    assert wsgi_get(app, "/page").status == 200
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 3"
    assert wsgi_get(app, "/refused").body == b"render 2"
    clock.forward(50)
    wsgi_get(app, "/page")
    settle(app)
    assert view.renders == 3


def test_without_threads_pages_are_made_new_by_the_request_that_met_them(
    make_app, wsgi_get, clock, monkeypatch
):
    app = make_app()
    view = View(app)
    wsgi_get(app, "/page")
    clock.forward(60)

    def start(self):
        raise RuntimeError("can't start new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        for number in (1, 2, 2):
            assert wsgi_get(app, "/page").body == f"render {number}".encode()
        assert wsgi_get(app, "/page", method="HEAD").get("X-Prerendered") == "true"
    assert view.renders == 2
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 3"


# Once.


def test_fifty_visitors_of_a_stale_page_cost_one_render(make_app, wsgi_get, clock):
    one, two = make_app(), make_app()
    first, second = View(one), View(two)
    wsgi_get(one, "/page")
    for round_ in range(5):
        clock.forward(61)
        barrier, answers = threading.Barrier(50), []

        def visit(app, barrier=barrier, answers=answers):
            barrier.wait(SECONDS)
            answers.append(wsgi_get(app, "/page").get("X-Prerendered"))

        threads = [threading.Thread(target=visit, args=(app,)) for app in (one, two) * 25]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        settle(one)
        settle(two)
        assert answers == ["true"] * 50
        assert first.renders + second.renders == round_ + 2
    assert first.visits + second.visits == 0


def test_an_absent_page_is_rendered_once_for_the_visitors_of_two_processes(make_app, wsgi_get):
    one, two = (make_app({"PRERENDER_WAIT": 30}) for _ in range(2))
    go, began = threading.Event(), threading.Event()
    views = View(one), View(two)

    def does():
        began.set()
        assert go.wait(SECONDS)
        return "shared"

    for view in views:
        view.does = does
    barrier, answers = threading.Barrier(20), []

    def visit(app):
        barrier.wait(SECONDS)
        answers.append(wsgi_get(app, "/page"))

    threads = [threading.Thread(target=visit, args=(app,)) for app in (one, two) * 10]
    for thread in threads:
        thread.start()
    assert began.wait(SECONDS)
    wait_until(lambda: len(site_of(one).flights) and len(site_of(two).flights))
    go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert {(answer.body, answer.get("X-Prerendered")) for answer in answers} == {
        (b"shared", "true")
    }
    assert len(answers) == 20
    assert sum(view.renders for view in views) == 1


def test_what_turns_out_private_in_another_process_is_not_tried_again_by_those_who_waited(
    make_app, wsgi_get
):
    one, two = (make_app({"PRERENDER_WAIT": 30}) for _ in range(2))
    go, began = threading.Event(), threading.Event()
    views = View(one), View(two)

    def does():
        if "flask_prerender.render" in request.environ:
            began.set()
            assert go.wait(SECONDS)
        return _with_cookie()

    for view in views:
        view.does = does
    coordination, tried = site_of(two).coordination, threading.Event()
    claim = coordination.claim

    def claim_and_tell(*args, **options):
        lease = claim(*args, **options)
        tried.set()
        return lease

    coordination.claim = claim_and_tell
    answers = []
    threads = [
        threading.Thread(target=lambda app=app: answers.append(wsgi_get(app, "/page")))
        for app in (one, two)
    ]
    threads[0].start()
    assert began.wait(SECONDS)
    threads[1].start()
    assert tried.wait(SECONDS)
    go.set()
    for thread in threads:
        thread.join(SECONDS)
    assert [answer.get("X-Prerendered") for answer in answers] == [None, None]
    assert [view.renders for view in views] == [1, 0]
    assert [view.visits for view in views] == [1, 1]


def test_the_queue_is_a_set_with_a_bound(make_app, wsgi_get, monkeypatch):
    from flask_prerender import backlog

    monkeypatch.setattr(backlog, "_QUEUED", 10)
    app = make_app()
    go, began = threading.Event(), threading.Event()
    made = []

    def view(n):
        made.append(n)
        if n == 0:
            began.set()
            assert go.wait(SECONDS)
        return str(n)

    app.add_url_rule("/<int:n>", "page", app.prerender(view))
    for n in range(1, 20):
        wsgi_get(app, f"/{n}")
    made.clear()
    regenerator = site_of(app).regenerator
    go.clear()
    site_of(app).store.put(*_copy(site_of(app), "/1", "/0"))
    with app.app_context():
        Prerender().revalidate(prefix="/")
    assert regenerator.ask("/0")
    assert began.wait(SECONDS)
    assert [regenerator.ask(f"/{n}") for n in range(1, 16)] == [True] * 10 + [False] * 5
    assert not any(regenerator.ask(f"/{n}") for n in range(16))
    assert regenerator.backlog.dropped == 10
    assert len(regenerator.backlog.queue) == 10
    go.set()
    settle(app)
    assert made == list(range(11))


def _copy(site, source, key):
    page = site.store.get(source)
    bodies = {v.encoding: site.store.read(page, v) for v in page.variants}
    return replace(page, key=key, file=f"copy{key}/index.html"), bodies


def test_as_many_pages_at_a_time_as_the_setting_says(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REGENERATORS": 2})
    barrier = threading.Barrier(2)
    most, now_ = [0], [0]
    lock = threading.Lock()
    waits = []

    def view(n):
        if waits:
            with lock:
                now_[0] += 1
                most[0] = max(most[0], now_[0])
            barrier.wait(SECONDS)
            with lock:
                now_[0] -= 1
        return f"{n}"

    app.add_url_rule("/<int:n>", "page", app.prerender(revalidate=60)(view))
    for n in range(6):
        wsgi_get(app, f"/{n}")
    waits.append(True)
    clock.forward(60)
    for n in range(6):
        wsgi_get(app, f"/{n}")
    settle(app)
    assert most == [2]


# Renders that hang.


def test_a_render_that_hangs_is_left_behind_and_what_it_makes_late_is_not_stored(
    make_app, wsgi_get, clock, caplog
):
    app = make_app({"PRERENDER_TIMEOUT": 1.0})
    go, hangs = threading.Event(), threading.Event()
    view = View(app, "/hung", endpoint="hung")
    other = View(app, "/other")
    wsgi_get(app, "/hung")
    wsgi_get(app, "/other")

    def hang():
        hangs.set()
        assert go.wait(SECONDS)
        return "late"

    view.does = hang
    clock.forward(60)
    wsgi_get(app, "/hung")
    assert hangs.wait(SECONDS)

    def is_told():
        assert wsgi_get(app, "/hung").body == b"render 1"
        return "The render of /hung hangs; its thread is left behind." in caplog.text

    # Its visitors notice, whoever they are.
    wait_until(is_told)
    wsgi_get(app, "/other")
    wait_until(lambda: wsgi_get(app, "/other").body == b"render 2")
    assert other.renders == 2
    view.does = None
    clock.forward(60)  # its claim has ended
    wait_until(lambda: wsgi_get(app, "/hung").body == b"render 3")
    go.set()
    wait_until(lambda: site_of(app).regenerator.backlog.left_behind == 0)
    assert wsgi_get(app, "/hung").body == b"render 3"


def test_a_render_that_takes_long_holds_up_no_other(make_app, wsgi_get, clock, monkeypatch):
    app = make_app()
    go, begun = threading.Event(), threading.Event()
    slow, other = View(app, "/slow", endpoint="slow"), View(app, "/other")
    wsgi_get(app, "/slow")
    wsgi_get(app, "/other")

    def wait():
        begun.set()
        assert go.wait(SECONDS)
        return "slow at last"

    slow.does = wait
    clock.forward(60)
    wsgi_get(app, "/slow")
    assert begun.wait(SECONDS)
    regenerator = site_of(app).regenerator
    wsgi_get(app, "/other")
    assert (len(regenerator.backlog.workers), len(regenerator.backlog.queue)) == (1, 1)
    monkeypatch.setattr("flask_prerender.backlog._SLOW_SECONDS", 0.0)
    wsgi_get(app, "/other")
    wait_until(lambda: wsgi_get(app, "/other").body == b"render 2")
    assert wsgi_get(app, "/slow").body == b"render 1"
    go.set()
    settle(app)
    assert wsgi_get(app, "/slow").body == b"slow at last"
    wait_until(lambda: not regenerator.backlog.workers)
    assert other.renders == 2


def test_after_four_renders_that_hang_no_page_is_made_new_until_one_ends(
    make_app, wsgi_get, clock, caplog
):
    app = make_app({"PRERENDER_TIMEOUT": 0.5, "PRERENDER_REGENERATORS": 4})
    go = threading.Event()
    waits = []

    def hung(n):
        if waits:
            assert go.wait(SECONDS)
        return "page"

    app.add_url_rule("/hung/<int:n>", "hung", app.prerender(revalidate=60)(hung))
    view = View(app, "/other")
    wsgi_get(app, "/other")
    for n in range(4):
        wsgi_get(app, f"/hung/{n}")
    waits.append(True)
    clock.forward(60)
    for n in range(4):
        wsgi_get(app, f"/hung/{n}")

    workers = site_of(app).regenerator.backlog.workers
    wait_until(lambda: sum(worker.key != "" for worker in workers) == 4)
    newest = max(worker.since for worker in workers)
    wait_until(lambda: time.monotonic() > newest + 1.5)
    wsgi_get(app, "/other")
    assert site_of(app).regenerator.backlog.left_behind == 4
    assert wsgi_get(app, "/other").body == b"render 1"
    assert view.renders == 1
    assert [r.levelname for r in caplog.records if "renders hang" in r.message] == ["CRITICAL"]
    threads = [t for t in threading.enumerate() if t.name == "prerender-regenerate"]
    assert len(threads) <= 8
    go.set()
    wait_until(lambda: site_of(app).regenerator.backlog.left_behind == 0)
    wait_until(lambda: wsgi_get(app, "/other").body == b"render 2")


# Where it happens.


def test_off_means_that_stale_pages_stay(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REGENERATE": "off"})
    view = View(app)
    wsgi_get(app, "/page")
    clock.forward(60)
    for _ in range(3):
        assert wsgi_get(app, "/page").body == b"render 1"
    with app.app_context():
        Prerender().revalidate("/page")
    assert wsgi_get(app, "/page").body == b"render 1"
    assert not [t for t in threading.enumerate() if t.name == "prerender-regenerate"]
    assert view.renders == 1


def test_inline_makes_the_page_new_after_the_answer_was_sent(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REGENERATE": "inline"})
    view = View(app)
    wsgi_get(app, "/page")
    clock.forward(60)
    order = []
    view.does = lambda: order.append("render") or "new"

    class Body:
        def __init__(self, body):
            self.body = body

        def __iter__(self):
            yield from self.body
            order.append("sent")

        def close(self):
            self.body.close()

    def server(environ, start_response):
        return Body(app(environ, start_response))

    assert wsgi_get(server, "/page").body == b"render 1"
    assert order == ["sent", "render"]
    assert wsgi_get(app, "/page").body == b"new"
    assert not [t for t in threading.enumerate() if t.name == "prerender-regenerate"]


def test_inline_backs_off_as_a_thread_does(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REGENERATE": "inline"})
    view = View(app)
    wsgi_get(app, "/page")
    view.does = _status(500)
    clock.forward(60)
    for _ in range(5):
        assert wsgi_get(app, "/page").body == b"render 1"
    assert view.renders == 2


def test_a_runner_gets_each_key_and_refresh_does_the_work(make_app, wsgi_get, clock):
    jobs = []
    app = make_app(runner=jobs.append)
    View(app)
    wsgi_get(app, "/page")
    clock.forward(60)
    for _ in range(5):
        assert wsgi_get(app, "/page").body == b"render 1"
    assert jobs == ["/page"]
    with app.app_context():
        (outcome,) = Prerender().refresh(*jobs)
    assert outcome.result == "published"
    assert wsgi_get(app, "/page").body == b"render 2"


def test_a_runner_that_raises_changes_nothing(make_app, wsgi_get, clock, caplog):
    def runner(key):
        raise ConnectionError("no queue")

    app = make_app(runner=runner)
    View(app)
    wsgi_get(app, "/page")
    clock.forward(60)
    answer = wsgi_get(app, "/page")
    assert (answer.body, answer.get("X-Prerendered")) == (b"render 1", "true")
    assert "the runner did not take /page: ConnectionError('no queue')" in caplog.text


def test_what_goes_wrong_in_the_thread_is_logged_and_the_thread_goes_on(
    make_app, wsgi_get, clock, caplog
):
    from flask_prerender.errors import StoreError

    class Store(MemoryStore):
        error = None

        def get(self, key):
            if self.error and threading.current_thread().name == "prerender-regenerate":
                raise self.error
            return super().get(key)

    store = Store()
    app = make_app(store=store)
    View(app)
    wsgi_get(app, "/page")
    clock.forward(60)
    for error in (StoreError("the disk is gone"), RuntimeError("a bug")):
        store.error = error
        assert wsgi_get(app, "/page").body == b"render 1"
        settle(app)
        assert str(error) in caplog.text
        clock.forward(3.4)
    store.error = None
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 2"


def test_signals_tell_of_the_start_the_end_and_what_failed(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    wsgi_get(app, "/page")
    started = heard_of(app, signals.regenerate_started)
    finished = heard_of(app, signals.regenerate_finished)
    failed = heard_of(app, signals.regenerate_failed)

    def bad(sender, **facts):
        raise LookupError("a receiver's own trouble")

    for signal_ in (
        signals.regenerate_started,
        signals.regenerate_finished,
        signals.regenerate_failed,
    ):
        signal_.connect(bad, sender=app)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    view.does = _status(500)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    assert started[1:] == [{"key": "/page"}] * 2
    assert [facts["result"] for facts in finished[1:]] == ["published", "failed"]
    assert all(facts["duration"] > 0 for facts in finished[1:])
    assert failed[1:] == [{"key": "/page", "reason": "error", "failures": 1}]


# What is nobody's business.


@pytest.mark.parametrize("mode", ["thread", "inline"])
def test_nothing_of_the_visitor_who_meets_a_stale_page_is_seen_by_its_render(
    make_app, wsgi_get, clock, mode
):
    app = make_app({"PRERENDER_REGENERATE": mode})
    user = contextvars.ContextVar("user", default="nobody")
    view = View(app)
    view.does = lambda: f"{view.renders} {user.get()} {request.headers.get('X-User')}"
    wsgi_get(app, "/page")
    clock.forward(60)
    token = user.set("alice")
    wsgi_get(app, "/page", headers={"X-User": "alice"})
    settle(app)
    user.reset(token)
    assert wsgi_get(app, "/page").body == b"2 nobody None"


def test_nothing_of_the_visitor_who_asks_for_a_new_page_is_seen_by_its_render(make_app, wsgi_get):
    app = make_app({"SECRET_KEY": "x" * 32})
    view = View(app)
    view.does = lambda: f"{view.renders} {g.get('user', 'nobody')} {request.path}"

    @app.post("/edit")
    def edit():
        g.user = session["user"] = "alice"
        (outcome,) = Prerender().refresh("/page")
        return f"{outcome.result} {request.path} {g.user}"

    assert wsgi_get(app, "/edit", method="POST").body == b"published /edit alice"
    assert wsgi_get(app, "/page").body == b"1 nobody /page"


@pytest.mark.long
def test_more_stale_pages_than_the_queue_holds_are_all_made_new_in_the_end(
    make_app, wsgi_get, clock
):
    app = make_app()
    made = []

    def page(n):
        made.append(n)
        return str(len(made))

    app.add_url_rule("/<int:n>", "page", app.prerender(revalidate=60)(page))
    for n in range(1500):
        wsgi_get(app, f"/{n}")
    assert len(made) == 1500
    clock.forward(60)
    most = 0
    while len(made) < 3000:
        for n in range(1500):
            assert wsgi_get(app, f"/{n}").status == 200
            most = max(most, len(site_of(app).regenerator.backlog.queue))
    settle(app)
    assert most <= 1000
    assert sorted(made) == sorted([*range(1500)] * 2)


# Processes.

PROGRAM = """
import os, sys, threading, time
from flask import Flask, request
from flask_prerender import Prerender

app = Flask("site", instance_path=sys.argv[1])
app.config.update(PRERENDER_JITTER=0.0, PRERENDER_REVALIDATE=0.2, **dict({config}))
prerender = Prerender(app)
wait = None

@app.route("/page")
@app.prerender
def page():
    if "flask_prerender.render" in request.environ and wait:
        wait()
    return open(sys.argv[1] + "/content").read()

def get():
    return app.test_client().get("/page").get_data(as_text=True)

site = app.extensions["prerender"]
{body}
"""


def run_program(tmp_path, body, config="{}"):
    text = PROGRAM.format(body=textwrap.dedent(body), config=config)
    return subprocess.Popen(
        [sys.executable, "-c", text, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_holder_that_was_stopped_comes_too_late(tmp_path):
    (tmp_path / "content").write_text("old")
    holder = run_program(
        tmp_path,
        """
        from flask_prerender import claims
        claims.LEASE_SECONDS = 0.5
        get()
        content = open(sys.argv[1] + "/content").read()
        def wait():
            print("rendering", flush=True)
            sys.stdin.readline()
        outcome = site.regenerator.make_new("/page", anyway=True)
        wait = None
        print(outcome.result, outcome.reason, get(), flush=True)
        """,
    )
    assert holder.stdout.readline() == "rendering\n"
    os.kill(holder.pid, signal.SIGSTOP)
    (tmp_path / "content").write_text("new")
    other = run_program(
        tmp_path,
        """
        while (outcome := site.regenerator.make_new("/page", anyway=True)) is None:
            time.sleep(0.02)
        print(outcome.result, get(), flush=True)
        """,
    )
    out, _ = other.communicate(timeout=SECONDS)
    assert out == "published new\n"
    (tmp_path / "content").write_text("older than new")
    os.kill(holder.pid, signal.SIGCONT)
    out, _ = holder.communicate("\n", timeout=SECONDS)
    assert out == "refused fenced new\n"


def test_a_child_that_is_forked_while_the_parent_works_makes_pages_itself(tmp_path):
    (tmp_path / "content").write_text("1")
    process = run_program(
        tmp_path,
        """
        import warnings
        warnings.simplefilter("ignore")
        go = threading.Event()
        def until(true):
            end = time.monotonic() + 20
            while not true():
                assert time.monotonic() < end, "too long"
                time.sleep(0.01)
        assert get() == "1"
        time.sleep(0.25)
        wait = lambda: go.wait(25)
        get()
        until(lambda: any(worker.key for worker in site.regenerator.backlog.workers))
        pids = []
        for n in range(10):
            pid = os.fork()
            if not pid:
                wait = None
                try:
                    # The parent's claim is the parent's: the page is served as it is.
                    assert get() == "1"
                    with app.app_context():
                        assert site.regenerator.make_new("/page", anyway=True) is None
                    os._exit(0)
                except BaseException as error:
                    print(repr(error), flush=True)
                    os._exit(1)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 10
        open(sys.argv[1] + "/content", "w").write("2")
        go.set()
        until(lambda: get() == "2")
        open(sys.argv[1] + "/content", "w").write("3")
        pid = os.fork()
        if not pid:
            try:
                until(lambda: get() == "3")
                os._exit(0)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        print("good", flush=True)
        """,
    )
    out, _ = process.communicate(timeout=50)
    assert out == "good\n"


def test_the_end_of_a_process_waits_for_a_page_that_is_being_stored_and_not_for_a_render(
    tmp_path,
):
    (tmp_path / "content").write_text("1")
    process = run_program(
        tmp_path,
        """
        get()
        time.sleep(0.25)
        began = threading.Event()
        put = site.store.put
        def slow(page, bodies):
            began.set()
            time.sleep(0.5)
            put(page, bodies)
            print("stored", flush=True)
        site.store.put = slow
        get()
        assert began.wait(10)
        """,
    )
    out, _ = process.communicate(timeout=SECONDS)
    assert out == "stored\n"
    process = run_program(
        tmp_path,
        """
        began = threading.Event()
        def wait():
            began.set()
            time.sleep(100)
        time.sleep(0.25)
        get()
        assert began.wait(10)
        """,
    )
    out, _ = process.communicate(timeout=50)
    assert (out, process.returncode) == ("", 0)
