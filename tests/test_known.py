"""What is remembered of a path, and what makes it be asked for anew."""

from __future__ import annotations

import pytest
from flask import Blueprint
from werkzeug.routing import Rule

from flask_prerender import Prerender
from living import site_of
from living import View

DOORS = ("hook", "wsgi")


def is_stored(answer):
    return answer.get("X-Prerendered") == "true"


@pytest.fixture(params=DOORS)
def app(request, make_app):
    return make_app({"PRERENDER_SERVE_AT": request.param})


def test_a_path_is_resolved_once(app, wsgi_get):
    View(app)
    routes, asked = site_of(app).routes, []
    mark_for = routes.mark_for

    def count(rule, path):
        asked.append(path)
        return mark_for(rule, path)

    wsgi_get(app, "/page")
    routes.mark_for = count
    for _ in range(5):
        assert is_stored(wsgi_get(app, "/page"))
    assert asked == []
    for _ in range(5):
        wsgi_get(app, "/other")
    assert asked == []  # a URL that no route has


def test_a_route_without_a_mark_is_resolved_once(app, wsgi_get):
    app.add_url_rule("/plain", "plain", lambda: "plain")
    wsgi_get(app, "/plain")
    site_of(app).routes.mark_for = None
    for _ in range(3):
        answer = wsgi_get(app, "/plain")
        assert (answer.body, answer.get("Cache-Status")) == (b"plain", None)


def test_marks_that_change_are_seen_at_the_next_request(app, wsgi_get):
    prerender = Prerender()
    prerender._apps.add(app)
    app.add_url_rule("/late", "late", lambda: "late")
    View(app)
    for _ in range(3):
        assert not is_stored(wsgi_get(app, "/late"))
        assert is_stored(wsgi_get(app, "/page"))
    prerender.mark_all("late", revalidate=60)
    for _ in range(3):
        assert is_stored(wsgi_get(app, "/late"))
        assert is_stored(wsgi_get(app, "/page"))
    prerender.mark_all("late", False)
    for _ in range(3):
        assert not is_stored(wsgi_get(app, "/late"))
        assert is_stored(wsgi_get(app, "/page"))


def test_marks_that_change_while_one_is_resolved_are_not_missed(app, wsgi_get):
    app.add_url_rule("/late", "late", lambda: "late")
    routes = site_of(app).routes
    resolve = routes._resolve

    def change(rule, patterns):
        mark = resolve(rule, patterns)
        if not routes._groups:
            routes.add_group(("late", {"revalidate": 60}))
        return mark

    routes._resolve = change
    assert not is_stored(wsgi_get(app, "/late"))
    for _ in range(3):
        assert is_stored(wsgi_get(app, "/late"))


def test_a_rule_that_is_added_later_takes_over_its_path(app, wsgi_get, clock):
    View(app, "/<name>")
    for _ in range(3):
        assert is_stored(wsgi_get(app, "/now"))
    app.view_functions["own"] = lambda: "its own view"
    app.url_map.add(Rule("/now", endpoint="own"))
    clock.forward(1)
    for _ in range(3):
        answer = wsgi_get(app, "/now")
        assert (answer.body, is_stored(answer)) == (b"its own view", False)
        assert is_stored(wsgi_get(app, "/then"))


def test_each_method_has_its_own_rule(app, wsgi_get):
    View(app)
    app.add_url_rule("/page", "send", lambda: "sent", methods=["POST"])
    for _ in range(3):
        assert is_stored(wsgi_get(app, "/page"))
        assert wsgi_get(app, "/page", method="POST").body == b"sent"


def test_two_spellings_of_a_path_have_one_page(app, wsgi_get):
    site = Blueprint("both", "both")

    @site.route("/a/<x>/", strict_slashes=False)
    @app.prerender
    def page(x):
        return f"page {x}"

    app.register_blueprint(site)
    for _ in range(3):
        for path in ("/a/1/", "/a/1"):
            assert is_stored(wsgi_get(app, path))
    assert [page.key for page in site_of(app).store.pages()] == ["/a/1/"]


def test_paths_are_bounded(app, wsgi_get, monkeypatch):
    monkeypatch.setattr("flask_prerender.known._PATHS", 10)
    View(app, "/<name>", fallback="pass")
    (hook,) = [found.__self__ for found in app.before_request_funcs[None]]
    for number in range(35):
        assert wsgi_get(app, f"/{number}").status == 200
        assert len(hook.paths.known) <= 10
