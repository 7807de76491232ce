"""What may be stored: each reason of the gate, and none where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from functools import cached_property
from functools import partial
from pathlib import Path
from typing import Any

import flask
import pytest
from flask import abort
from flask import Flask
from flask import redirect
from flask import render_template_string
from flask import Request
from flask import request
from flask import Response
from flask import session
from flask import stream_template
from flask import stream_with_context
from flask import url_for
from flask.sessions import SecureCookieSessionInterface
from flask_login import current_user
from flask_login import login_required
from flask_login import login_user
from flask_login import LoginManager
from flask_login import UserMixin
from jinja2 import DictLoader
from werkzeug.datastructures import ImmutableMultiDict

from flask_prerender import mark
from flask_prerender import MarkError
from flask_prerender import Outcome
from flask_prerender import Page
from flask_prerender import Prerender
from flask_prerender.options import STATUSES
from flask_prerender.publish import publish
from flask_prerender.render import request_environ

MakeApp = Callable[..., Flask]
View = Callable[[], Any]


def outcome(app: Flask, path: str = "/") -> Outcome:
    """Publish one page as a build does."""
    site = app.extensions["prerender"]
    target = site.routes.match(request_environ(site, path), path)
    assert target is not None
    return publish(site, target, origin="build")


def judged(make_app: MakeApp, view: View, config: Any = None, **options: Any) -> Outcome:
    app = make_app({"SECRET_KEY": "key", **(config or {})})
    app.add_url_rule("/", "index", mark(**options)(view))
    return outcome(app)


def page_of(made: Outcome) -> Page:
    assert made.page is not None, (made.reason, made.detail)
    return made.page


# Statuses.


@pytest.mark.parametrize("declared", [{200}, STATUSES], ids=["200 alone", "all that are possible"])
def test_of_all_statuses_only_those_declared_and_possible_are_stored(
    make_app: MakeApp, wsgi_get: Any, declared: set[int]
) -> None:
    app = make_app()

    @app.route("/<int:status>")
    @mark(statuses=declared)
    def page(status: int) -> Response:
        location = {"Location": "/elsewhere"} if 300 <= status < 400 else {}
        return Response(f"page {status}", status, location)

    stored = set()
    for status in range(100, 600):
        made = outcome(app, f"/{status}")
        if made.is_stored:
            stored.add(status)
            assert page_of(made).status == status
            assert wsgi_get(app, f"/{status}").status == status
        elif status >= 500 or status < 200:
            assert (made.result, made.reason) == ("failed", "error")
        else:
            assert (made.result, made.reason) == ("refused", "status")
    assert stored == declared


def test_no_mark_can_ask_for_a_server_error() -> None:
    for status in (100, 204, 206, 304, 500, 503):
        with pytest.raises(MarkError, match="can never be stored"):
            mark(statuses=[status])


def test_a_refused_redirect_says_where_it_goes(make_app: MakeApp) -> None:
    made = judged(make_app, lambda: redirect("/login"))
    assert (made.reason, made.detail) == ("status", "302 to /login; the mark allows 200")


@pytest.mark.parametrize(
    ("location", "stored"),
    [
        ("https://example.com/new?a=1#b", "/new?a=1#b"),
        ("https://example.com", "/"),
        ("https://example.com?a=1", "/?a=1"),
        ("/new", "/new"),
        ("new", "new"),
        ("https://example.com.evil.example/new", "https://example.com.evil.example/new"),
        ("https://example.com:8443/new", "https://example.com:8443/new"),
        ("https://example.com@evil.example/", "https://example.com@evil.example/"),
        ("http://example.com/new", "http://example.com/new"),
        ("https://other.example/new", "https://other.example/new"),
        ("https://example.com//evil.example/", "https://example.com//evil.example/"),
        ("https://example.com/\\evil.example/", "/%5Cevil.example/"),
    ],
)
def test_a_stored_redirect_is_relative_within_its_own_origin_alone(
    make_app: MakeApp, location: str, stored: str
) -> None:
    made = judged(
        make_app,
        lambda: Response("moved", 301, {"Location": location}),
        {"PRERENDER_BASE_URL": "https://example.com"},
        statuses=[301],
    )
    assert dict(page_of(made).headers)["Location"] == stored


@pytest.mark.parametrize("rest", ["//evil.example/", "/\\evil.example/", "/\\/evil.example"])
def test_a_redirect_that_would_leave_the_site_without_its_host_keeps_it(
    make_app: MakeApp, rest: str
) -> None:
    app = make_app()
    app.add_url_rule("/", "index", mark(statuses=[301])(lambda: Response("moved", 301)))
    _add_headers(app, [("Location", f"http://localhost{rest}")])
    assert dict(page_of(outcome(app)).headers)["Location"] == f"http://localhost{rest}"


def test_a_redirect_to_another_host_of_the_site_keeps_that_host(make_app: MakeApp) -> None:
    app = app_with_subdomains(make_app)
    rule = {"subdomain": "<name>", "view_func": mark(statuses=[301])(_to_the_shop)}
    app.add_url_rule("/", "home", **rule)
    there = page_of(outcome(app, "//a.example.com/"))
    assert dict(there.headers)["Location"] == "http://example.com/shop"
    own = page_of(outcome(app, "//b.example.com/"))
    assert dict(own.headers)["Location"] == "/shop"


def _to_the_shop(name: str) -> Response:
    host = "example.com" if name == "a" else "b.example.com"
    return Response("moved", 301, {"Location": f"http://{host}/shop"})


def app_with_subdomains(make_app: MakeApp) -> Flask:
    app = make_app({"SERVER_NAME": "example.com"})
    app.subdomain_matching = True
    app.url_map.default_subdomain = ""
    return app


# Cookies and sessions.


def _cookie_in_view(app: Flask) -> None:
    @app.route("/")
    @mark
    def index() -> Response:
        response = Response("index")
        response.set_cookie("mine", "secret-value")
        return response


def _cookie_after_request(app: Flask) -> None:
    _plain(app)

    @app.after_request
    def add(response: Response) -> Response:
        response.set_cookie("mine", "secret-value")
        return response


def _cookie_of_middleware(app: Flask) -> None:
    _plain(app)
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("set-COOKIE", "mine=secret-value")], exc_info)

        return inner(environ, start)

    app.wsgi_app = middleware  # type: ignore[method-assign]


def _cookie_of_login(app: Flask) -> None:
    manager = LoginManager(app)
    manager.user_loader(lambda name: None)

    @app.route("/")
    @mark
    def index() -> str:
        user = UserMixin()
        user.id = "secret-value"
        login_user(user, remember=True)
        return "index"


def _cookie_of_permanent_session(app: Flask) -> None:
    _plain(app)

    @app.before_request
    def remember() -> None:
        session.permanent = True
        session["who"] = "secret-value"


def _plain(app: Flask) -> None:
    @app.route("/")
    @mark
    def index() -> str:
        return "index"


@pytest.mark.parametrize(
    "add",
    [
        _cookie_in_view,
        _cookie_after_request,
        _cookie_of_middleware,
        _cookie_of_login,
        _cookie_of_permanent_session,
    ],
)
def test_a_response_that_sets_a_cookie_is_refused_by_name_and_never_by_value(
    make_app: MakeApp, add: Callable[[Flask], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_app({"SECRET_KEY": "key"})
    add(app)
    made = outcome(app)
    app.test_client().get("/")
    assert made.reason == "set-cookie"
    assert ("mine" if "mine" in made.detail else "session") in made.detail
    assert "is not stored: set-cookie" in caplog.text
    assert "secret-value" not in made.detail + caplog.text
    assert len(list(app.extensions["prerender"].store.pages())) == 0


SESSION_USES: dict[str, Callable[[], object]] = {
    "get": lambda: session.get("user"),
    "in": lambda: "user" in session,
    "len": lambda: len(session),
    "flash": lambda: flask.flash("hello"),
    "flashed": lambda: flask.get_flashed_messages(),
    "write": lambda: session.update(user=1),
    "permanent": lambda: setattr(session, "permanent", True),
    "template": lambda: render_template_string("{{ session.user }}"),
}


@pytest.mark.parametrize("use", SESSION_USES)
def test_every_use_of_the_session_is_refused(make_app: MakeApp, use: str) -> None:
    made = judged(make_app, lambda: f"index {SESSION_USES[use]()}")
    assert made.result == "refused"
    assert made.reason in ("session", "set-cookie")


class SilentInterface(SecureCookieSessionInterface):
    """Sessions of an app's own that never tell caches about cookies."""

    def save_session(self, app: Flask, session: Any, response: Response) -> None:
        pass


@pytest.mark.parametrize("use", SESSION_USES)
def test_a_session_is_noticed_when_its_interface_says_nothing(make_app: MakeApp, use: str) -> None:
    app = make_app({"SECRET_KEY": "key"})
    app.session_interface = SilentInterface()
    app.add_url_rule("/", "index", mark(lambda: f"index {SESSION_USES[use]()}"))
    app.add_url_rule("/plain", "plain", mark(lambda: "plain"))
    assert outcome(app).reason == "session"
    assert outcome(app, "/plain").is_stored


@pytest.mark.parametrize("config", [{}, {"SECRET_KEY": None}], ids=["a key", "no key"])
def test_a_session_read_while_the_body_is_streamed_is_noticed(
    make_app: MakeApp, config: dict[str, None]
) -> None:
    def parts() -> Iterator[str]:
        yield "Hello "
        yield str(session.get("user"))

    made = judged(make_app, lambda: Response(stream_with_context(parts())), config)
    assert (made.reason, made.detail.split(";")[0]) == ("session", "the app reads flask.session")


def test_cookies_read_while_the_body_is_streamed_are_noticed(make_app: MakeApp) -> None:
    def parts() -> Iterator[str]:
        yield str(request.cookies)

    made = judged(make_app, lambda: Response(stream_with_context(parts())))
    assert made.reason == "cookies"


def test_who_is_there_is_noticed_in_a_streamed_template(make_app: MakeApp, tmp_path: Path) -> None:
    app = login_app(make_app)
    templates = tmp_path / "app" / "templates"
    (templates / "user.html").write_text("Hello {{ current_user.is_authenticated }}")
    (templates / "all.html").write_text("Hello everybody")
    app.add_url_rule("/", "index", mark(lambda: stream_template("user.html")))
    app.add_url_rule("/all", "all", mark(lambda: stream_template("all.html")))
    assert outcome(app).reason in ("authorization", "cookies", "session")
    assert outcome(app, "/all").is_stored


def test_an_async_view_is_judged_like_any_other(make_app: MakeApp) -> None:
    pytest.importorskip("asgiref")
    app = make_app({"SECRET_KEY": "key"})

    async def reads() -> str:
        return str(session.get("user"))

    async def plain() -> str:
        return "plain"

    app.add_url_rule("/", "reads", mark(reads))
    app.add_url_rule("/plain", "plain", mark(plain))
    assert outcome(app).reason == "session"
    assert outcome(app, "/plain").is_stored


def test_a_page_that_leaves_the_session_alone_is_stored_without_vary(make_app: MakeApp) -> None:
    made = judged(make_app, lambda: render_template_string("{{ request.path }} {{ g }}"))
    assert "Vary" not in dict(page_of(made).headers)


# Flask-Login.


def login_app(make_app: MakeApp) -> Flask:
    app = make_app({"SECRET_KEY": "key", "REMEMBER_COOKIE_REFRESH_EACH_REQUEST": True})
    manager = LoginManager(app)
    manager.login_view = "login"

    @manager.user_loader
    def load(name: str) -> UserMixin:
        user = UserMixin()
        user.id = name
        return user

    @app.route("/login")
    def login() -> str:
        login_user(load("alice"), remember=True)
        return "welcome"

    return app


def test_a_page_that_does_not_ask_who_is_there_is_stored_beside_flask_login(
    make_app: MakeApp,
) -> None:
    app = login_app(make_app)
    app.add_url_rule("/", "index", mark(lambda: render_template_string("for everybody")))
    for _ in range(2):
        assert outcome(app).is_stored


@pytest.mark.parametrize(
    "text",
    [
        "{{ current_user.is_authenticated }}",
        "{{ current_user }}",
        "{% if current_user %}a{% endif %}",
        "{% include 'bar' %}",
    ],
)
def test_a_template_that_asks_who_is_there_is_refused(make_app: MakeApp, text: str) -> None:
    app = login_app(make_app)
    app.jinja_loader = DictLoader({"bar": "{{ current_user.is_active }}"})
    app.add_url_rule("/", "index", mark(lambda: render_template_string(f"page {text}")))
    assert outcome(app).reason == "session"


def test_a_view_that_asks_who_is_there_is_refused(make_app: MakeApp) -> None:
    app = login_app(make_app)
    app.add_url_rule("/", "index", mark(lambda: f"{current_user.is_authenticated}"))
    assert outcome(app).reason == "session"


@pytest.mark.parametrize("statuses", [[200], [200, 302]])
def test_a_page_behind_login_required_is_never_stored(
    make_app: MakeApp, statuses: list[int]
) -> None:
    app = login_app(make_app)
    app.add_url_rule("/", "index", mark(statuses=statuses)(login_required(lambda: "members")))
    assert outcome(app).reason in ("status", "set-cookie", "session")
    client = app.test_client()
    client.get("/login")
    assert client.get("/").text == "members"
    assert app.test_client().get("/").status_code == 302
    assert len(list(app.extensions["prerender"].store.pages())) == 0


def test_flask_login_still_works_for_visitors_after_a_render(make_app: MakeApp) -> None:
    app = login_app(make_app)
    app.context_processor(partial(dict, more=1))
    app.add_url_rule("/", "index", mark(lambda: render_template_string("for everybody")))
    app.add_url_rule("/me", "me", lambda: render_template_string("{{ current_user.id }}"))
    assert outcome(app).is_stored
    client = app.test_client()
    client.get("/login")
    assert client.get_cookie("remember_token") is not None
    assert client.get("/me").text == "alice"
    client.delete_cookie("session")
    assert client.get("/me").text == "alice"
    assert "remember_token" in str(client.get("/me").headers.getlist("Set-Cookie"))


def test_a_form_with_a_csrf_token_of_flask_wtf_is_refused(make_app: MakeApp) -> None:
    wtf = pytest.importorskip("flask_wtf")
    app = make_app({"SECRET_KEY": "key"})
    wtf.CSRFProtect(app)
    app.add_url_rule("/", "index", mark(lambda: render_template_string("{{ csrf_token() }}")))
    app.add_url_rule("/plain", "plain", mark(lambda: render_template_string("no form")))
    assert outcome(app).reason == "set-cookie"
    assert outcome(app, "/plain").is_stored


def test_a_page_with_a_nonce_of_flask_talisman_is_refused(make_app: MakeApp) -> None:
    talisman = pytest.importorskip("flask_talisman")
    app = make_app({"SECRET_KEY": "key"})
    policy = {"script-src": "'self'"}
    talisman.Talisman(
        app,
        force_https=False,
        content_security_policy=policy,
        content_security_policy_nonce_in=["script-src"],
    )
    app.add_url_rule("/", "index", mark(lambda: render_template_string("{{ csp_nonce() }}")))
    assert outcome(app).reason == "nonce"


# Vary, Cache-Control, nonces.


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (["Cookie"], "session"),
        (["cookie"], "session"),
        (["Accept-Encoding, COOKIE"], "session"),
        (["Accept-Encoding", "Cookie"], "session"),
        (["*"], "vary"),
        (["Accept-Encoding, *"], "vary"),
        (["Origin"], "vary"),
        (["Authorization"], "vary"),
        (["accept-encoding", "accept-language"], "vary"),
        (["User-Agent"], "vary"),
        (["Accept-Encoding"], ""),
        (["accept-ENCODING ,Accept-Encoding"], ""),
        (["", " , "], ""),
    ],
)
def test_vary(make_app: MakeApp, headers: list[str], reason: str) -> None:
    made = judged(make_app, lambda: Response("i", headers=[("vary", each) for each in headers]))
    assert made.reason == reason


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("Cache-Control", "private", "private"),
        ("cache-control", "max-age=60, PRIVATE", "private"),
        ("Cache-Control", 'private="x"', "private"),
        ("Cache-Control", 'max-age=1, private="x, y"', "private"),
        ("Cache-Control", "no-store", "no-store"),
        ("Cache-Control", "no-store=1", "no-store"),
        ("CDN-Cache-Control", "no-store", "no-store"),
        ("Cloudflare-CDN-Cache-Control", "private", "private"),
        ("Surrogate-Control", "no-store, content=x", "no-store"),
        ("Cache-Control", "public, max-age=60", ""),
        ("Cache-Control", "privately, no-storeroom", ""),
        ("X-Cache", "private", ""),
    ],
)
def test_cache_control(make_app: MakeApp, header: str, value: str, reason: str) -> None:
    made = judged(make_app, lambda: Response("index", headers={header: value}))
    assert made.reason == reason
    if reason:
        assert value.split(",")[0].lower() in made.detail or reason in made.detail


@pytest.mark.parametrize("name", ["Content-Security-Policy", "content-security-policy-report-only"])
def test_a_nonce_is_for_one_visitor(make_app: MakeApp, name: str) -> None:
    policy = "default-src 'self'; script-src 'self' 'nonce-abc', style-src 'NONCE-x'"
    assert judged(make_app, lambda: Response("i", headers={name: policy})).reason == "nonce"


def test_a_policy_without_a_nonce_is_stored(make_app: MakeApp) -> None:
    policy = "script-src 'self' 'sha256-abc' https://nonce-.example"
    made = judged(make_app, lambda: Response("i", headers={"Content-Security-Policy": policy}))
    assert dict(page_of(made).headers)["Content-Security-Policy"] == policy


def test_an_answer_to_one_origin_is_refused(make_app: MakeApp) -> None:
    app = make_app()
    _plain(app)

    @app.after_request
    def share(response: Response) -> Response:
        origin = request.headers.get("Origin")
        if origin:
            response.headers["Access-Control-Allow-Origin"] = origin
        response.vary.add("Origin")
        return response

    headers = {"Origin": "https://evil.example"}
    assert app.test_client().get("/", headers=headers).status_code == 200
    assert outcome(app).reason == "vary"
    assert len(list(app.extensions["prerender"].store.pages())) == 0


# The body.


def _gzipped() -> Response:
    return Response(b"\x1f\x8b...", headers={"Content-Encoding": "gzip"})


def _wrong_length() -> Response:
    response = Response(iter(["abc"]))
    response.headers["Content-Length"] = "4"
    return response


def _part() -> Response:
    return Response("abc", headers={"Content-Range": "bytes 0-2/9"})


BODIES: dict[str, tuple[View, str]] = {
    "no text": (lambda: "", "empty"),
    "no chunks": (lambda: Response(iter([])), "empty"),
    "empty chunks": (lambda: Response(iter([b"", b""])), "empty"),
    "gzipped": (_gzipped, "content-encoding"),
    "not coded": (lambda: Response("plain", headers={"Content-Encoding": "identity"}), ""),
    "wrong length": (_wrong_length, "length"),
    "a part": (_part, "partial"),
    "events": (lambda: Response("data: x\n\n", mimetype="text/event-stream"), "stream"),
    "frames": (lambda: Response("--x", content_type="multipart/x-mixed-replace; b=x"), "stream"),
    "too large": (lambda: "x" * 101, "size"),
    "too many chunks": (lambda: Response(iter(["x" * 50] * 3)), "size"),
    "just fitting": (lambda: "x" * 100, ""),
}


@pytest.mark.parametrize("body", BODIES)
def test_bodies(make_app: MakeApp, body: str) -> None:
    view, reason = BODIES[body]
    made = judged(make_app, view, {"PRERENDER_MAX_PAGE_BYTES": 100})
    assert made.reason == reason
    assert made.is_stored == (not reason)


# Headers.


def test_headers_that_belong_to_one_answer_are_not_stored(make_app: MakeApp) -> None:
    one_time = {
        "Age": "3", "Connection": "keep-alive", "Date": "now", "Server": "x", "ETag": '"x"',
        "Keep-Alive": "timeout=5", "Server-Timing": "a", "Traceparent": "b", "X-Request-Id": "c",
        "Last-Modified": "Mon", "Accept-Ranges": "bytes", "Content-Length": "5", "Trailer": "x",
    }  # fmt: skip
    kept = {"Content-Type": "text/html; charset=utf-8", "X-Own": "d", "Link": "</a>; rel=next"}
    made = judged(make_app, lambda: Response("index", headers={**one_time, **kept}))
    assert dict(page_of(made).headers) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nSet-Cookie: b=c"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\0b"),
        ("X-A", "a\x7fb"),
        ("X-A", "\u0141\u00f3d\u017a"),
        ("X A", "a"),
        ("X-A\r\nB", "a"),
        ("Set-Cookie ", "a=b"),
        ("", "a"),
        ("X-\u00e9", "a"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(make_app: MakeApp, name: str, value: str) -> None:
    app = make_app()
    _plain(app)
    _add_headers(app, [(name, value)])
    assert outcome(app).reason == "header"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("X-A", "a" * 9000)], "header"),
        ([(f"X-{n}", "a") for n in range(65)], "header"),
        ([("X-A", "a" * 8000), ("X-Tab", "a\tb"), ("X-Latin", "caf\u00e9")], ""),
        ([(f"X-{n}", "a") for n in range(60)], ""),
    ],
)
def test_header_blocks_that_proxies_would_choke_on_are_refused(
    make_app: MakeApp, headers: list[tuple[str, str]], reason: str
) -> None:
    app = make_app()
    _plain(app)
    _add_headers(app, headers)
    assert outcome(app).reason == reason


def _add_headers(app: Flask, more: list[tuple[str, str]]) -> None:
    """Add headers below Werkzeug, which would refuse some of them."""
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Iterable[bytes]:
        return inner(environ, lambda s, headers, *more_: start_response(s, [*headers, *more]))

    app.wsgi_app = middleware  # type: ignore[method-assign]


# What a view reads.


SAME = "not the same for everybody"
READS: dict[str, tuple[Callable[[], object], str, str]] = {
    "cookies": (lambda: request.cookies.get("a"), "cookies", SAME),
    "cookie header": (lambda: request.headers.get("Cookie"), "cookies", SAME),
    "cookie header in": (lambda: "cookie" in request.headers, "cookies", SAME),
    "authorization": (lambda: request.authorization, "authorization", SAME),
    "authorization header": (lambda: request.headers.get("Authorization"), "authorization", SAME),
    "args": (lambda: request.args.get("page"), "query", 'query=["page"]'),
    "values": (lambda: request.values.get("page"), "query", 'query=["page"]'),
}


@pytest.mark.parametrize("name", READS)
def test_a_view_that_reads_what_no_render_has_is_refused_with_a_remedy(
    make_app: MakeApp, name: str
) -> None:
    read, reason, remedy = READS[name]
    made = judged(make_app, lambda: f"index {read()}")
    assert (made.result, made.reason) == ("refused", reason)
    assert remedy in made.detail


def _ask_for_a_cookie() -> None:
    request.cookies.get("lang")


@pytest.mark.parametrize("reader", ["view", "before_request", "header", "template"])
def test_it_is_told_where_the_app_read_it(make_app: MakeApp, reader: str) -> None:
    app = make_app()
    place = f"({__file__}:{_ask_for_a_cookie.__code__.co_firstlineno + 1} in _ask_for_a_cookie)"
    if reader == "before_request":
        _plain(app)
        app.before_request(_ask_for_a_cookie)
    elif reader == "view":
        app.add_url_rule("/", "index", mark(lambda: str(_ask_for_a_cookie())))
    elif reader == "header":
        app.add_url_rule("/", "index", mark(lambda: f"{request.headers.get('Cookie')}"))
        place = f"({__file__}:"
    else:
        app.jinja_loader = DictLoader({"page.html": "one\n{{ request.cookies }}"})
        app.add_url_rule("/", "index", mark(lambda: flask.render_template("page.html")))
        place = "(page.html:2);"
    made = outcome(app)
    assert made.detail.startswith(f"the app reads request.cookies {place}"), made.detail
    assert made.detail.endswith("; a page that depends on who asks is not the same for everybody")


def test_a_declared_query_may_be_read(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/", "index", mark(query=["page"])(lambda: f"page {request.args.get('page')}"))
    assert outcome(app).is_stored
    made = outcome(app, "/?page=2")
    site = app.extensions["prerender"]
    assert site.store.read(made.page, page_of(made).identity) == b"page 2"


def test_a_declared_query_does_not_excuse_cookies(make_app: MakeApp) -> None:
    made = judged(make_app, lambda: f"{request.args} {request.cookies}", query=["page"])
    assert made.reason == "cookies"


def test_what_the_framework_reads_does_not_count(make_app: MakeApp) -> None:
    made = judged(make_app, lambda: f"{url_for('index')} {request.host} {list(request.headers)}")
    assert made.is_stored


@pytest.mark.parametrize("when", ["before", "after", "preprocessor", "after_request"])
def test_what_a_hook_reads_counts_wherever_it_was_registered(
    make_app: MakeApp, tmp_path: Any, when: str
) -> None:
    app = make_app()
    _plain(app)
    if when == "before":
        app.before_request_funcs[None].insert(0, lambda: request.cookies.get("lang") and None)
    elif when == "after":
        app.before_request(lambda: request.cookies.get("lang") and None)
    elif when == "preprocessor":
        app.url_value_preprocessor(lambda endpoint, values: request.cookies.get("lang"))
    else:
        app.after_request(_note_language)
    assert outcome(app).reason == "cookies"


def _note_language(response: Response) -> Response:
    response.headers["X-Language"] = request.cookies.get("lang", "en")
    return response


def test_a_visitors_request_may_read_what_it_likes(make_app: MakeApp) -> None:
    app = make_app()
    _plain(app)
    app.add_url_rule("/live", "live", lambda: f"{request.cookies['a']} {request.args['b']}")
    assert outcome(app).is_stored
    client = app.test_client()
    client.set_cookie("a", "1")
    assert client.get("/live?b=2").text == "1 2"
    assert outcome(app).is_stored


# Request classes.


class Tenanted(Request):
    """An app's own request class, with an attribute of each kind."""

    trusted = True

    @cached_property
    def cookies(self) -> Any:
        return ImmutableMultiDict({"own": "cookie"})

    @property
    def tenant(self) -> str:
        return self.host.partition(".")[0]


def test_an_apps_own_request_class_keeps_working(make_app: MakeApp, tmp_path: Any) -> None:
    app = Flask("own", root_path=str(tmp_path), instance_path=str(tmp_path / "own"))
    app.request_class = Tenanted
    Prerender(app)

    @app.route("/")
    @mark
    def index() -> str:
        own = request._get_current_object()  # type: ignore[attr-defined]
        assert isinstance(own, Tenanted)
        assert type(own).__name__ == "Tenanted"
        own.args = ImmutableMultiDict({"a": "1"})
        own.authorization = None
        return f"{own.tenant} {own.trusted} {own.args['a']}"

    @app.route("/cookies")
    @mark
    def cookies() -> str:
        request.cookies = ImmutableMultiDict({"a": "b"})
        return f"{dict(request.cookies)}"

    @app.route("/own")
    def own_cookies() -> str:
        return request.cookies["own"]

    assert app.test_client().get("/").text == "localhost True 1"
    assert app.test_client().get("/cookies").text == "{'a': 'b'}"
    assert app.test_client().get("/own").text == "cookie"
    made = outcome(app)
    assert made.reason == "query"
    assert outcome(app, "/cookies").reason == "cookies"
    app.extensions["prerender"].close()


def test_a_request_class_set_later_keeps_working(make_app: MakeApp) -> None:
    app = make_app()
    app.request_class = Tenanted
    app.add_url_rule("/", "index", mark(lambda: request.tenant))
    assert outcome(app).is_stored


def test_plain_requests_can_be_written_to(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/")
    def index() -> str:
        request.args = ImmutableMultiDict({"a": "1"})
        request.cookies = ImmutableMultiDict({"b": "2"})
        return f"{request.args['a']} {request.cookies['b']} {request.values['a']}"

    assert app.test_client().get("/?a=9").text == "1 2 1"


def test_a_view_that_aborts_is_refused_by_its_status(make_app: MakeApp) -> None:
    def denied() -> str:
        abort(403)

    made = judged(make_app, denied)
    assert (made.result, made.reason) == ("refused", "status")
    assert made.detail.startswith("403;")
