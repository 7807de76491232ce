"""Pages that somebody wants gone: nobody gets them any more, whatever happens meanwhile."""

from __future__ import annotations

import threading

import pytest

from flask_prerender import Prerender
from living import SECONDS
from living import settle
from living import site_of
from living import View
from living import wait_until


class Held:
    """A view whose renders read their content, and then wait for the test."""

    def __init__(self, app, rule="/page", **options):
        self.content, self.is_held = "old", False
        headers = options.get("revalidate") == "headers"
        self.headers = {"Cache-Control": "max-age=60"} if headers else {}
        self.read, self.go = threading.Event(), threading.Event()
        app.add_url_rule(rule, rule, app.prerender(**options)(lambda: self.page()))

    def page(self):
        text = self.content
        if self.is_held and Prerender().is_rendering:
            self.is_held = False
            self.read.set()
            assert self.go.wait(SECONDS)
        return text, self.headers


def purge(app, *paths):
    with app.app_context():
        return Prerender().purge(*paths)


@pytest.mark.parametrize("who", ["here", "another process"])
def test_a_purge_during_a_regeneration_leaves_no_old_page(make_app, wsgi_get, clock, who):
    app = make_app()
    asked = app if who == "here" else make_app()
    view = Held(app, revalidate=60)
    if asked is not app:
        asked.add_url_rule("/page", "page", asked.prerender(revalidate=60)(lambda: view.page()))
    wsgi_get(app, "/page")
    clock.forward(60)
    view.is_held = True
    wsgi_get(app, "/page")
    assert view.read.wait(SECONDS)
    view.content = "new"
    purge(asked, "/page")
    answers = []
    visitor = threading.Thread(target=lambda: answers.append(wsgi_get(asked, "/page")))
    visitor.start()
    view.go.set()
    visitor.join(SECONDS)
    settle(app)
    answers.append(wsgi_get(asked, "/page"))
    assert [answer.body for answer in answers] == [b"new", b"new"]
    assert answers[-1].get("Cache-Status") == "flask-prerender; hit; ttl=60"


@pytest.mark.parametrize("life", [None, 60, "headers"])
def test_a_purge_during_a_first_visit_leaves_no_old_page(make_app, wsgi_get, life):
    app = make_app()
    view = Held(app, revalidate=life)
    view.is_held = True
    answers = []
    first = threading.Thread(target=lambda: wsgi_get(app, "/page"))
    first.start()
    assert view.read.wait(SECONDS)
    view.content = "new"
    purge(app, "/page")
    second = threading.Thread(target=lambda: answers.append(wsgi_get(app, "/page")))
    second.start()
    view.go.set()
    for thread in (first, second):
        thread.join(SECONDS)
    answers += [wsgi_get(app, "/page"), wsgi_get(app, "/page")]
    assert {answer.body for answer in answers} == {b"new"}


@pytest.mark.parametrize("how", ["wait", "busy", "error"])
def test_a_purged_page_is_no_last_resort(make_app, wsgi_get, clock, how):
    app = make_app({"PRERENDER_WAIT": 0.0 if how == "wait" else 5.0, "PRERENDER_MAX_RENDERS": 1})
    app.logger.disabled = True
    view = View(app)
    go = threading.Event()
    with_view = app.prerender(lambda: str(go.wait(SECONDS)))
    app.add_url_rule("/slow", "slow", with_view)
    if how == "wait":
        site_of(app).regenerator.make_new("/page", anyway=True)
    else:
        wsgi_get(app, "/page")
    assert site_of(app).store.get("/page") is not None
    slow = threading.Thread(target=lambda: wsgi_get(app, "/slow"))
    if how == "busy":
        slow.start()
        wait_until(lambda: len(site_of(app).flights))
    if how == "error":
        view.does = lambda: ("down", 503)
    purge(app, "/page")
    answer = wsgi_get(app, "/page")
    assert answer.body == (b"down" if how == "error" else b"for one visitor")
    assert answer.get("X-Prerendered") is None
    assert answer.get("Cache-Status") == f"flask-prerender; fwd=stale; detail={how}"
    go.set()
    if how == "busy":
        slow.join(SECONDS)
    app.logger.disabled = False


def test_a_page_that_purges_itself_is_answered_by_the_app_which_says_so(make_app, wsgi_get):
    app = make_app()
    view = View(app, tags=["own"])

    def does():
        Prerender().purge(tag="own")
        return "purged"

    view.does = does
    for _ in range(2):
        answer = wsgi_get(app, "/page")
        assert (answer.body, answer.get("X-Prerendered")) == (b"purged", None)
        assert "detail=purged" in answer.get("Cache-Status")


def test_a_page_that_refreshes_itself_does_not_wait_for_itself(make_app, wsgi_get):
    app = make_app()
    view = View(app)
    outcomes = []

    def does():
        if Prerender().is_rendering:
            outcomes.extend(Prerender().refresh("/page"))
        return "made"

    view.does = does
    assert wsgi_get(app, "/page").body == b"made"
    assert [(one.result, one.reason) for one in outcomes] == [("refused", "loop")]


def test_an_error_of_a_first_visit_is_for_no_cache(make_app, wsgi_get):
    app = make_app()
    app.logger.disabled = True
    view = View(app)
    for said, kept in (({}, "no-store"), ({"Cache-Control": "max-age=5"}, "max-age=5")):
        view.does = lambda: ("down", 503, said)  # noqa: B023
        answer = wsgi_get(app, "/page")
        assert (answer.status, answer.get("Cache-Control")) == (503, kept)
    app.logger.disabled = False


def test_who_waited_in_vain_for_another_process_does_not_wait_again(
    make_app, wsgi_get, clock, monkeypatch
):
    one, two = make_app(), make_app()
    views = [View(app) for app in (one, two)]
    for view in views:
        view.does = lambda: ("mine", 200, {"Cache-Control": "private"})
    coordination, claims = site_of(two).coordination, []
    claim = coordination.claim

    def note(*args, **options):
        claims.append(claim(*args, **options))
        return claims[-1]

    monkeypatch.setattr(coordination, "claim", note)
    with site_of(one).claims.hold("/page"):
        visitor = threading.Thread(target=lambda: wsgi_get(two, "/page"))
        visitor.start()
        wait_until(lambda: None in claims)
    visitor.join(SECONDS)
    clock.forward(100)
    answer = wsgi_get(two, "/page")
    assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=wait"
    assert views[1].renders == 0


def test_a_page_is_served_as_soon_as_another_process_has_stored_it(make_app, wsgi_get, clock):
    one, two = make_app(), make_app()
    for app in (one, two):
        View(app, expire=120)
    wsgi_get(one, "/page")
    wsgi_get(two, "/page")
    clock.forward(120)
    announce, stored, go = site_of(one).coordination.advance, threading.Event(), threading.Event()

    def hesitate():
        stored.set()
        assert go.wait(SECONDS)
        return announce()

    site_of(one).coordination.advance = hesitate
    first = threading.Thread(target=lambda: wsgi_get(one, "/page"))
    first.start()
    assert stored.wait(SECONDS)
    answer = wsgi_get(two, "/page")
    assert (answer.body, answer.get("X-Prerendered")) == (b"render 2", "true")
    go.set()
    first.join(SECONDS)
