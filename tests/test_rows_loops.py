"""Pages that ask for each other, and pages that nobody can make new for days."""

from __future__ import annotations

import threading

import pytest
from flask import abort

from flask_prerender import Prerender
from living import SECONDS
from living import settle
from living import site_of
from living import View

DAY = 86400.0


# Pages that ask for each other.


def in_a_thread(call):
    """Call where nothing of this context is to be seen: as a request over HTTP does."""
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join(SECONDS)
    assert not thread.is_alive(), "it waits for itself"
    return results[0]


def loop(app, fetch):
    """Add ``/a`` and ``/b``, whose renders ask for each other."""

    @app.route("/a")
    @app.prerender(revalidate=60)
    def a():
        return f"a({fetch('/b')})" if Prerender().is_rendering else "a"

    @app.route("/b")
    @app.prerender(revalidate=60)
    def b():
        return f"b({fetch('/a')})" if Prerender().is_rendering else "b"


def test_a_render_that_asks_for_a_page_which_asks_for_it_is_answered_by_the_view(
    make_app, wsgi_get
):
    app = make_app()
    loop(app, lambda path: app.test_client().get(path).text)
    assert wsgi_get(app, "/a").body == b"a(b)"
    assert wsgi_get(app, "/b").body == b"b(a)"
    assert [page.key for page in site_of(app).store.pages()] == ["/a", "/b"]
    assert len(site_of(app).flights) == 0


@pytest.mark.parametrize("wait", [0.0, 0.1])
def test_renders_that_wait_for_each_other_end_when_their_wait_does(make_app, wsgi_get, wait):
    app = make_app({"PRERENDER_WAIT": wait})
    loop(app, lambda path: in_a_thread(lambda: wsgi_get(app, path).body.decode()))
    answer = in_a_thread(lambda: wsgi_get(app, "/a"))
    assert answer.status == 200
    assert answer.body[:1] == b"a"
    while len(site_of(app).flights):
        for thread in threading.enumerate():
            if thread.name.startswith("prerender-visit"):
                thread.join(SECONDS)
                assert not thread.is_alive(), "it waits for itself"
    for path in ("/a", "/b"):
        stored = wsgi_get(app, path)
        assert (stored.status, stored.body[:1].decode()) == (200, path[1])


# Stale, and for how long.


def test_a_page_is_not_stale_for_ever(make_app, wsgi_get, clock):
    app = make_app()
    app.logger.disabled = True
    view = View(app, revalidate=3600, expire=DAY)
    wsgi_get(app, "/page")
    clock.forward(DAY - 1)
    assert wsgi_get(app, "/page").body == b"render 1"
    settle(app)
    assert view.renders == 2
    # Nobody came for 25 hours: who comes then waits for a new page.
    clock.forward(DAY + 3600)
    assert wsgi_get(app, "/page").body == b"render 3"
    view.does = lambda: abort(500)
    clock.forward(DAY + 3600)
    for _ in range(2):
        answer = wsgi_get(app, "/page")
        assert (answer.status, answer.body) == (200, b"render 3")
        assert "s-maxage=2" in answer.get("Cache-Control")
    # Seven days past its end, by default, the app's own error is better.
    clock.forward(7 * DAY - 3601)
    assert wsgi_get(app, "/page").body == b"render 3"
    assert view.visits == 0
    clock.forward(1)
    assert (wsgi_get(app, "/page").status, view.visits) == (500, 1)
    view.does = None
    clock.forward(600)
    answer = wsgi_get(app, "/page")
    assert (answer.get("X-Prerendered"), view.visits) == ("true", 1)
    app.logger.disabled = False
