"""Renders are watched, and visitors pay for it only while there are any."""

from __future__ import annotations

import threading

from flask import before_render_template
from flask import got_request_exception
from flask import Request
from flask import request
from flask import request_started

from flask_prerender.publish import publish
from living import site_of
from living import View

SECONDS = 20.0
SIGNALS = (request_started, got_request_exception, before_render_template)


def test_nobody_listens_to_visitors_once_the_renders_are_over(make_app, wsgi_get):
    before = [set(signal.receivers) for signal in SIGNALS]
    app = make_app()
    View(app)
    assert [set(signal.receivers) for signal in SIGNALS] == before
    for _ in range(2):  # a render, and the visitor after it
        wsgi_get(app, "/page")
    assert [set(signal.receivers) for signal in SIGNALS] == before


def test_urls_that_take_pages_back_cost_other_requests_nothing(make_app, wsgi_get):
    before = set(request_started.receivers)
    app = make_app({"PRERENDER_TOKENS": ["0123456789abcdef" * 4]})
    assert set(request_started.receivers) != before  # until the first request
    wsgi_get(app, "/nowhere")
    assert set(request_started.receivers) == before


def test_a_visitors_request_has_the_apps_own_class(make_app, wsgi_get):
    app = make_app()
    kinds = []
    app.before_request_funcs[None].insert(
        0, lambda: kinds.append(type(request._get_current_object()))
    )
    View(app)
    for query in ("", "", "a=1"):
        kinds.clear()
        wsgi_get(app, "/page", query=query)
        assert kinds[0] is Request
    assert kinds == [Request]


def test_a_visitor_between_the_beginning_of_a_render_and_its_view_changes_nothing(
    make_app, wsgi_get
):
    app = make_app()
    seen = []

    @app.route("/secret")
    @app.prerender
    def secret():
        return f"hello {request.cookies.get('user', 'nobody')}"

    View(app, "/another", endpoint="another")
    app.add_url_rule("/plain", "plain", lambda: "plain")
    inner = app.wsgi_app

    def visit():
        publish(site, targets["/another"], origin="build")  # a render that is over before ours
        seen.append(wsgi_get(app, "/plain").body)

    def ask_first(environ, start_response):
        if "flask_prerender.render" in environ and not seen:
            seen.append(environ["PATH_INFO"])
            visitor = threading.Thread(target=visit)
            visitor.start()
            visitor.join(SECONDS)
        return inner(environ, start_response)

    app.wsgi_app = ask_first
    site = site_of(app)
    targets = {target.key: target for target in site.routes.targets(print)}
    assert publish(site, targets["/secret"], origin="build").reason == "cookies"
    assert seen == ["/secret", b"plain"]


def test_renders_are_watched_again_after_a_rest(make_app, wsgi_get):
    app = make_app()

    @app.route("/<name>")
    @app.prerender
    def page(name):
        return request.cookies.get("user", "nobody") if name == "bad" else name

    for name in ("a", "bad", "b", "bad"):
        for _ in range(2):
            stored = wsgi_get(app, f"/{name}").get("X-Prerendered") == "true"
            assert stored == (name != "bad")
    assert [page.key for page in site_of(app).store.pages()] == ["/a", "/b"]
