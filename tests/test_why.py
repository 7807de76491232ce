"""Why a URL is answered as it is."""

from __future__ import annotations

import pytest
from flask import session

from flask_prerender import Prerender
from flask_prerender.revalidate import take_back
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
    assert facts["answer"] == "a first visit: rendered, and stored and served if it may be"
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
            "purge": "a new render is waited for; the app if that fails",
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
    answer = "a first visit: rendered, and stored and served if it may be"
    assert why(app, try_it=False)["answer"] == answer
    assert why(app)["answer"] == "the app: a first visit is not stored (no-store)"


def test_what_other_settings_and_marks_do(make_app):
    app = make_app({"PRERENDER_ENABLED": False})
    View(app)
    assert why(app)["answer"].startswith("the app: serving is off")
    other = make_app({"PRERENDER_REGENERATE": "off"}, instance="other")
    View(other, fallback="404")
    View(other, "/passed", endpoint="passed", fallback="pass")
    assert why(other)["answer"] == "the app: nothing is stored"
    site_of(other).store.finish_build(site_of(other).store.next_build())
    assert why(other)["answer"] == "404: no build has it"
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


@pytest.mark.parametrize(("verb", "state"), [("revalidate", "stale"), ("purge", "expired")])
def test_the_state_of_a_page_that_was_taken_back(app, wsgi_get, verb, state):
    wsgi_get(app, "/page")
    with app.app_context():
        getattr(Prerender(), verb)(tag="news")
    assert why(app)["state"] == state


def test_a_page_is_explained_however_its_path_is_written(make_app, wsgi_get):
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    View(app, "/page", query=["n"])
    app.add_url_rule("/either/", "either", app.prerender(lambda: "either"), strict_slashes=False)
    wsgi_get(app, "/page")
    wsgi_get(app, "/either/")
    for url, key in (
        ("https://example.com/page?utm_source=x", "/page"),
        ("/either", "/either/"),
    ):
        facts = why(app, url, try_it=False)
        assert (facts["url"], facts["state"]) == (key, "fresh")


def test_parameters_that_the_mark_does_not_name_are_why_the_app_answers(app, wsgi_get):
    wsgi_get(app, "/page")
    assert wsgi_get(app, "/page", query="x=1").body == b"for one visitor"
    answer = "the app: its mark does not name the parameter x"
    assert why(app, "/page?x=1") == {"url": "/page", "answer": answer}


def test_a_redirect_comes_before_its_page(make_app, wsgi_get):
    app = make_app()
    app.add_url_rule("/folder/", "folder", app.prerender(lambda: "text"))
    wsgi_get(app, "/folder/")
    assert wsgi_get(app, "/folder").status == 308
    facts = why(app, "/folder", try_it=False)
    assert facts["url"] == "/folder/"
    assert facts["answer"] == "a redirect by the app; then the stored page, fresh"


def test_pages_that_differ_by_a_header(make_app, wsgi_get):
    app = make_app()
    View(app, vary={"Accept-Language": ["en", "de"]})
    wsgi_get(app, "/page", headers={"Accept-Language": "de;q=1, en;q=0.5"})
    site = site_of(app)
    german = explain(site, "/page", {"accept-language": "de-DE, de"}, try_it=False)
    assert (german["url"], german["state"]) == ("/page?#accept-language=de", "fresh")
    assert explain(site, german["url"], try_it=False) == german
    english = explain(site, "/page", try_it=False)
    assert english["url"] == "/page?#accept-language=en"
    assert english["answer"] == "a first visit: rendered, and stored and served if it may be"


def test_a_header_with_which_nothing_is_stored(make_app):
    app = make_app()
    View(app, vary=["Accept-Language"])
    answer = why(app, headers={"Accept-Language": "x" * 300})["answer"]
    assert answer == "the app: no page is stored for such a header"


@pytest.fixture
def failing(app, wsgi_get, clock):
    """An app whose page could not be made new just now."""
    wsgi_get(app, "/page")
    app.view.does = lambda: ("down", 503)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    return app


def test_what_a_request_gets_while_a_page_rests(failing, wsgi_get, clock):
    resting = "the stored page, stale, and no render before its rest after a failure is over"
    clock.forward(7)
    facts = why(failing, try_it=False)
    assert (facts["answer"], facts["last_failure_ago"]) == (resting, 7)
    assert facts["last_failure"].startswith("error: status 503")
    wsgi_get(failing, "/page")
    settle(failing)
    assert failing.view.renders == 2  # as it says
    take_back(site_of(failing), hard=False, paths=["/page"])
    facts = why(failing, try_it=False)
    assert facts["answer"] == "the stored page, stale, and one render in the background"
    assert facts["next_try_in"] == 0
    wsgi_get(failing, "/page")
    settle(failing)
    assert failing.view.renders == 3


def test_what_a_request_gets_while_an_expired_page_rests(app, wsgi_get, clock):
    wsgi_get(app, "/page")
    app.view.does = lambda: ("down", 503)
    clock.forward(600)
    assert wsgi_get(app, "/page").body == b"render 1"
    answer = "the stored page, because its render failed, until its rest after that is over"
    assert why(app, try_it=False)["answer"] == answer
    clock.forward(3)
    assert wsgi_get(app, "/page").body == b"render 1"
    assert app.view.renders == 2
    clock.forward(600)
    answer = "a new render is waited for; the stored page if that fails"
    assert why(app, try_it=False)["answer"] == answer
    take_back(site_of(app), hard=True, paths=["/page"])
    answer = "a new render is waited for; the app if that fails"
    assert why(app, try_it=False)["answer"] == answer
    assert wsgi_get(app, "/page").status == 503


def test_a_page_that_was_purged_is_tried_though_its_render_failed(app, wsgi_get, clock):
    wsgi_get(app, "/page")
    take_back(site_of(app), hard=True, paths=["/page"])
    app.view.does = lambda: ("down", 503)
    wsgi_get(app, "/page")
    answer = "a new render is waited for; the app if that fails"
    assert why(app, try_it=False)["answer"] == answer
    clock.forward(3)
    wsgi_get(app, "/page")
    assert app.view.renders == 3


def test_what_a_request_gets_where_nothing_makes_pages_new(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REGENERATE": "off"})
    view = View(app)
    wsgi_get(app, "/page")
    clock.forward(60)
    assert "nothing makes it new" in why(app, try_it=False)["answer"]
    wsgi_get(app, "/page")
    assert view.renders == 1


def test_pages_for_crawlers_alone(make_app):
    app = make_app()
    View(app, visitors="bots")
    first = "a first visit: rendered, and stored and served if it may be"
    answer = f"for crawlers {first}; for others the app"
    assert why(app, try_it=False)["answer"] == answer


def test_a_directory_of_another_app(make_app):
    app = make_app()
    View(app)
    site_of(app)._owner = "another"
    assert why(app, try_it=False)["answer"].startswith("the app: the pages that are stored here")


def test_a_page_whose_own_headers_decide(make_app, wsgi_get, clock):
    app = make_app()

    @app.route("/page")
    @app.prerender(revalidate="headers")
    def page():
        return "text", 200, {"Cache-Control": "max-age=60, stale-if-error=60"}

    wsgi_get(app, "/page")
    assert why(app)["answer"] == "the stored page, fresh"
    clock.forward(60)
    facts = why(app)
    assert facts["state"] == "expired"
    assert facts["answer"] == "a new render is waited for; the stored page if that fails"
    clock.forward(60)
    assert why(app)["answer"] == "a new render is waited for; the app if that fails"
