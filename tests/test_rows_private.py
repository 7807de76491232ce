"""Who is signed in, guards, other origins: what the app answers itself is nobody else's."""

from __future__ import annotations

import re
import threading
from urllib.parse import unquote

import pytest
from flask import abort
from flask import current_app
from flask import g
from flask import get_flashed_messages
from flask import redirect
from flask import render_template_string
from flask import request
from flask import Response
from flask import session
from flask import url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_prerender import generate
from living import SECONDS
from living import site_of

# Bypasses: an answer that is not from the store says nothing of ours to caches.


def _private():
    return Response("text", headers={"Vary": "Cookie"})


BYPASSES = {
    "basic": ({}, {}, {"headers": {"Authorization": "Basic YTpi"}}, "authorization"),
    "bearer": ({}, {}, {"headers": {"Authorization": "Bearer x"}}, "authorization"),
    "query": ({}, {}, {"query": "page=2"}, "query"),
    "query bytes": ({}, {"query": ["a"]}, {"query": "a=\xff"}, "query"),
    "method": ({}, {}, {"method": "POST"}, "fwd=method"),
    "path bytes": ({}, {}, {"environ": {"PATH_INFO": "/p\xff"}}, "path"),
    "control": ({}, {}, {"environ": {"PATH_INFO": "/p\x07"}}, "path"),
    "backslash": ({}, {}, {"environ": {"PATH_INFO": "/p\\x"}}, "path"),
    "visitors": ({}, {"visitors": "bots"}, {"headers": {"User-Agent": "Firefox"}}, "visitors"),
    "disabled": ({"PRERENDER_ENABLED": False}, {}, {}, "disabled"),
    "fallback": ({}, {"fallback": "pass"}, {}, "fallback"),
    "refused": ({}, {"does": _private}, {}, "session"),
    "rests": ({"PRERENDER_MAX_RENDERS": 1, "PRERENDER_WAIT": 0.0}, {}, {}, "wait"),
    "mount": ({}, {}, {"path": "/other/page", "mounted": True}, "mount"),
}


@pytest.mark.parametrize("name", BYPASSES)
def test_an_answer_of_the_app_is_not_made_public(make_app, wsgi_get, name):
    config, options, asked, reason = BYPASSES[name]
    app = make_app({"PRERENDER_REVALIDATE": 60, **config})
    does = options.get("does", lambda: "text")
    ended = threading.Event()

    def view(**values):
        if name == "rests" and "flask_prerender.render" in request.environ:
            assert ended.wait(SECONDS)
        return does()

    mark = app.prerender(**{key: value for key, value in options.items() if key != "does"})
    app.add_url_rule("/<path:name>", "page", mark(view), methods=["GET", "POST"])
    served = DispatcherMiddleware(app, {"/other": app}) if asked.get("mounted") else app
    more = {key: value for key, value in asked.items() if key not in ("path", "mounted")}
    for _ in range(2):
        answer = wsgi_get(served, asked.get("path", "/page"), **more)
        assert (answer.status, answer.body) == (200, b"text")
        assert reason in answer.get("Cache-Status")
        told = {key.lower(): value for key, value in answer.headers}
        assert told.keys().isdisjoint({"x-prerendered", "age", "etag", "expires", "last-modified"})
        assert not re.search("public|max-?age", f"{told.get('cache-control')} {told.get('vary')}")
    ended.set()


# Guards.


def _decorated_redirect(app, view):
    return lambda: redirect("/login")


def _decorated_abort(app, view):
    return lambda: abort(401)


def _hook_after(app, view):
    app.before_request(lambda: None if "Authorization" in request.headers else abort(401))
    return view


def _hook_before(app, view):
    guard = lambda: None if request.headers.get("X-Key") else redirect("/login")  # noqa: E731
    app.before_request_funcs[None].insert(0, guard)
    return view


@pytest.mark.parametrize(
    "guard", [_decorated_redirect, _decorated_abort, _hook_after, _hook_before]
)
def test_a_guarded_page_is_never_stored_and_the_build_says_so(make_app, wsgi_get, guard):
    app = make_app()
    app.add_url_rule("/", "page", app.prerender(guard(app, lambda: "for members")))
    report = generate(app)
    assert not report.is_good
    assert (report.counts, report.reasons) == ({"refused": 1}, {"status": 1})
    assert wsgi_get(app, "/").status in (302, 401)
    wsgi_get(app, "/", headers={"X-Key": "1", "Authorization": "Bearer x"})
    assert wsgi_get(app, "/").status in (302, 401)
    assert list(site_of(app).store.pages()) == []


# Other origins.


@pytest.mark.parametrize("where", ["view", "hook"])
def test_an_origin_is_in_no_stored_page(make_app, wsgi_get, where):
    app = make_app()

    def share(response):
        if "Origin" in request.headers:
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        return response

    app.add_url_rule("/", "page", app.prerender(lambda: _shared(share, where)))
    if where == "hook":
        app.after_request(share)
    evil, good = {"Origin": "https://evil.example"}, {"Origin": "https://good.example"}
    wsgi_get(app, "/", headers=evil)
    page = site_of(app).store.get("/")
    assert "access-control-allow-origin" not in {name.lower() for name, _ in page.headers}
    named = "https://good.example" if where == "hook" else None
    assert wsgi_get(app, "/", headers=good).get("Access-Control-Allow-Origin") == named
    plain = wsgi_get(app, "/")
    assert plain.get("Access-Control-Allow-Origin") is None
    assert plain.get("X-Prerendered") == "true"


def _shared(share, where):
    response = Response("text")
    return share(response) if where == "view" else response


# Who reads what: nobody is accused who reads nothing of a visitor.

CLEAN = {
    "path": lambda: request.path,
    "url": lambda: f"{request.url} {request.base_url} {request.full_path}",
    "host": lambda: f"{request.host} {request.scheme} {request.is_secure} {request.script_root}",
    "method": lambda: f"{request.method} {request.endpoint} {request.blueprint}",
    "rule": lambda: f"{request.url_rule} {request.view_args}",
    "url_for": lambda: url_for("clean", _external=True),
    "template": lambda: render_template_string("{{ request.path }} {{ config.DEBUG }} {{ g }}"),
    "g": lambda: setattr(g, "name", "value") or g.name,
    "app": lambda: current_app.name,
    "language": lambda: str(request.accept_languages),
    "agent": lambda: request.user_agent.string,
    "header": lambda: str(request.headers.get("X-Anything")),
}
DIRTY = {
    "session": lambda: session.get("user"),
    "session in": lambda: "user" in session,
    "flashed": lambda: get_flashed_messages(),
    "cookie": lambda: request.cookies.get("a"),
    "cookie header": lambda: request.headers.get("Cookie"),
    "authorization": lambda: request.authorization,
    "authorization header": lambda: request.headers.get("Authorization"),
    "args": lambda: request.args.get("page"),
    "args in": lambda: "page" in request.args,
    "values": lambda: request.values.get("page"),
    "template session": lambda: render_template_string("{{ session.user }}"),
    "template cookie": lambda: render_template_string("{{ request.cookies.a }}"),
}


def test_each_view_that_reads_of_its_visitor_is_named_and_no_other(make_app, wsgi_get, caplog):
    app = make_app({"SECRET_KEY": "key"})
    for name, read in CLEAN.items():
        endpoint = "clean" if name == "path" else f"clean {name}"
        view = app.prerender(lambda read=read: f"text {read()}")
        app.add_url_rule(f"/clean/{name}", endpoint, view)
    for name, read in DIRTY.items():
        view = app.prerender(lambda read=read: f"text {read()}")
        app.add_url_rule(f"/dirty/{name}", f"dirty {name}", view)
    report = generate(app)
    assert report.counts == {"published": len(CLEAN), "refused": len(DIRTY)}
    refused = {unquote(outcome.key.removeprefix("/dirty/")) for outcome in report.turned_down}
    assert refused == DIRTY.keys()
    for name in DIRTY:
        for _ in range(3):
            wsgi_get(app, f"/dirty/{name}")
    said = [record.getMessage() for record in caplog.records if record.name == "flask_prerender"]
    assert len([line for line in said if "is not stored" in line]) == len(DIRTY)
    for name in DIRTY:
        assert any(f"(dirty {name})" in line for line in said)
