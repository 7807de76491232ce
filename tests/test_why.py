"""Why a URL is answered as it is."""

from __future__ import annotations

import pytest
from flask import session

from flask_prerender import Prerender
from flask_prerender.why import explain
from living import settle
from living import site_of
from living import View


@pytest.fixture
def app(make_app):
    app = make_app({"SECRET_KEY": "x" * 32})
    app.view = View(app, "/page", expire=600, tags=["news"])
    return app


def why(app, url="/page", **options):
    return explain(site_of(app), url, **options)


def test_a_page_that_nobody_visited_yet(app):
    facts = why(app)
    assert facts["url"] == "/page"
    assert facts["route"] == "/page (page)"
    assert facts["answer"] == "a first visit: rendered, stored, served"
    assert facts["a_render_now"] == "200, 8 bytes, would be stored"
    assert "state" not in facts
    assert list(site_of(app).store.pages()) == []


def test_a_fresh_page_tells_its_age_and_the_life_it_has_left(app, wsgi_get, clock):
    wsgi_get(app, "/page")
    clock.forward(12.5)
    facts = why(app, try_it=False)
    page = site_of(app).store.get("/page")
    assert facts == {
        "url": "/page",
        "route": "/page (page)",
        "answer": "the stored page, fresh",
        "revision": site_of(app).coordination.revision(),
        "state": "fresh",
        "age": 12.5,
        "fresh_for": 47.5,
        "served_for": 587.5,
        "made_at_revision": page.revision,
        "from": "visit",
        "tags": ["news"],
        "file": "page/index.html",
        "bytes": 8,
    }
    assert app.view.renders == 1


def test_a_stale_and_an_expired_page(app, wsgi_get, clock):
    wsgi_get(app, "/page")
    clock.forward(60)
    facts = why(app)
    assert (facts["state"], facts["fresh_for"], facts["served_for"]) == ("stale", 0, 540)
    assert facts["answer"] == "the stored page, stale, and one render in the background"
    clock.forward(540)
    facts = why(app)
    assert (facts["state"], facts["served_for"]) == ("expired", 0)
    assert facts["answer"] == "a new render is waited for; the stored page if that fails"


def test_a_page_without_a_span(make_app, wsgi_get):
    app = make_app()
    View(app, revalidate=None)
    wsgi_get(app, "/page")
    facts = why(app)
    assert (facts["fresh_for"], facts["served_for"]) == (None, None)


@pytest.mark.parametrize("verb", ["revalidate", "purge"])
def test_who_took_the_page_back(app, wsgi_get, verb):
    wsgi_get(app, "/page")
    with app.app_context():
        taken = getattr(Prerender(), verb)(tag="news")
    facts = why(app)
    assert facts["taken_back"] == f"{verb}{'d'} by news at revision {taken.revision}"
    assert (
        facts["answer"]
        == {
            "revalidate": "the stored page, stale, and one render in the background",
            "purge": "a new render is waited for; the stored page if that fails",
        }[verb]
    )
    wsgi_get(app, "/page")
    settle(app)
    assert "taken_back" not in why(app)


def test_failures_and_where_they_happened(app, wsgi_get, clock):
    wsgi_get(app, "/page")

    def fail():
        raise LookupError("no such thing")

    app.view.does = fail
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    facts = why(app)
    assert facts["failures"] == 1
    assert facts["last_failure"].startswith("error: LookupError: no such thing ")
    assert facts["last_failure"].endswith(" in fail")
    assert "test_why.py:" in facts["last_failure"]
    assert 27 <= facts["next_try_in"] <= 33
    assert facts["a_render_now"].startswith("refused: error: LookupError: no such thing (at ")
    assert facts["a_render_now"].endswith(" in fail)")


def test_which_rule_refuses(app, wsgi_get):
    def personal():
        return f"hello {session.get('name')}"

    app.view.does = personal
    assert why(app)["a_render_now"].startswith("refused: session: ")
    wsgi_get(app, "/page")
    assert why(app)["answer"] == "the app: session"


def test_after_a_while_a_page_that_was_refused_is_tried_again(app, wsgi_get, clock):
    app.view.does = lambda: ("no", 200, {"Cache-Control": "no-store"})
    wsgi_get(app, "/page")
    assert why(app)["answer"] == "the app: no-store"
    clock.forward(120)
    assert why(app)["answer"] == "a first visit: rendered, stored, served"


def test_what_other_settings_and_marks_do(make_app):
    app = make_app({"PRERENDER_ENABLED": False})
    View(app)
    assert why(app)["answer"].startswith("the app: serving is off")
    other = make_app({"PRERENDER_REGENERATE": "off"}, instance="other")
    View(other, fallback="404")
    View(other, "/passed", endpoint="passed", fallback="pass")
    assert why(other)["answer"] == "404"
    assert why(other, "/passed")["answer"] == "the app: nothing is stored"


def test_urls_that_are_no_pages(app):
    assert why(app, "/nowhere") == {"url": "/nowhere", "answer": "the app: no marked route has it"}
    assert why(app, "/../x") == {"url": "/../x", "answer": "the app: such a URL is never stored"}


def test_tags_that_raise_are_told(make_app):
    app = make_app()

    def tags():
        raise LookupError("no database")

    View(app, tags=tags)
    assert "no database" in str(why(app))
