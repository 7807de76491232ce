"""What a view says of its own page while it is rendered."""

from __future__ import annotations

from datetime import datetime
from datetime import UTC

import pytest

from flask_prerender import Prerender
from living import settle
from living import site_of
from living import View


def test_a_view_says_how_long_its_page_is_fresh(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    spans = iter((30, 0.5))

    def does():
        Prerender().revalidate_after(next(spans))
        Prerender().revalidate_after(None)
        return "text"

    view.does = does
    wsgi_get(app, "/page")
    assert site_of(app).store.get("/page").revalidate == 30
    clock.forward(30)
    wsgi_get(app, "/page")
    settle(app)
    assert site_of(app).store.get("/page").revalidate == 0.5


@pytest.mark.parametrize(("said", "kept"), [((90, 20, 40), 20), ((90,), 60), ((-5,), 0)])
def test_the_shortest_span_that_is_said_holds(make_app, wsgi_get, said, kept):
    app = make_app()
    view = View(app)

    def does():
        for seconds in said:
            Prerender().revalidate_after(seconds)
        return "text"

    view.does = does
    wsgi_get(app, "/page")
    assert site_of(app).store.get("/page").revalidate == kept


def test_a_view_says_when_its_page_is_not_true_any_more(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    moment = clock.now + 45

    def does():
        Prerender().expires_at(moment + 100)
        Prerender().expires_at(datetime.fromtimestamp(moment, UTC))
        return f"render {view.renders}"

    view.does = does
    assert wsgi_get(app, "/page").body == b"render 1"
    page = site_of(app).store.get("/page")
    assert (page.revalidate, page.expire) == (45, 45)
    clock.forward(44.9)
    assert wsgi_get(app, "/page").body == b"render 1"
    moment += 1000
    clock.forward(0.1)
    assert wsgi_get(app, "/page").body == b"render 2"


def test_a_page_that_has_expired_already_is_not_stored_and_not_tried_each_time(
    make_app, wsgi_get, clock
):
    app = make_app()
    view = View(app)

    def does():
        Prerender().expires_at(clock.now - 1)
        return "old"

    view.does = does
    for _ in range(5):
        answer = wsgi_get(app, "/page")
        assert (answer.status, answer.body) == (200, b"old")
        assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=expired"
    assert (view.renders, view.visits) == (1, 5)


def test_a_view_adds_tags_and_outside_a_render_nothing_happens(make_app, wsgi_get):
    app = make_app()
    prerender = Prerender()
    view = View(app, tags=["b"])

    def does():
        prerender.add_tags("c", "a")
        return "text"

    view.does = does
    wsgi_get(app, "/page")
    assert site_of(app).store.get("/page").tags == ("a", "b", "c")
    assert wsgi_get(app, "/page", method="POST").status == 405
    prerender.add_tags("nowhere")
    prerender.expires_at(1)
    prerender.revalidate_after(1)
