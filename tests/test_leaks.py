"""Never anybody else's page: what a visitor is, sends or has set is in no stored page."""

from __future__ import annotations

import contextvars
import gzip
import json
import logging
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import current_app
from flask import Flask
from flask import g
from flask import has_request_context
from flask import render_template_string
from flask import Request
from flask import request
from flask import Response
from flask import session
from flask.testing import FlaskClient
from flask_babel import Babel
from flask_babel import get_locale
from flask_login import current_user
from flask_login import login_required
from flask_login import login_user
from flask_login import LoginManager
from flask_login import UserMixin
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_prerender import attach_default_logger
from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Page
from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender.flights import Flight
from flask_prerender.flights import Flights
from flask_prerender.render import ENVIRON_KEY
from flask_prerender.render import Render
from flask_prerender.render import render
from flask_prerender.site import Site

MakeApp = Callable[..., Flask]

VISITORS = [f"zq{name}zq" for name in ("alice", "bob", "carol", "dave", "erin", "frank")]
VISITED = 600
BUILT = 400

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="")
tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="")
log_context: contextvars.ContextVar[dict[str, str]] = contextvars.ContextVar("log_context")


class User(UserMixin):
    def __init__(self, name: str) -> None:
        self.id = name
        self.locale = "de"


class Tenancy:
    """WSGI middleware that keeps its tenant in a context variable, and never takes it back."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "HTTP_X_TENANT" in environ:
            tenant.set(environ["HTTP_X_TENANT"])
        return self.app(environ, start_response)


def choose_locale() -> str | None:
    by = (request.view_args or {}).get("by")
    if by == "cookie":
        return request.cookies.get("lang")
    if by == "session":
        return session.get("lang")
    if by == "user":
        return g.user.locale if "user" in g else None
    return request.accept_languages.best_match(["en", "de"])


def whatever_is_known() -> str:
    """Return everything that the context of this request knows."""
    known: dict[str, Any] = {
        f"context {var.name}": value if isinstance(value, str | dict | tuple) else type(value)
        for var, value in contextvars.copy_context().items()
        if var.name != "flask_prerender_rendering"
    }
    known |= {f"g {name}": getattr(g.get(name), "id", g.get(name)) for name in g}
    known |= {"who": who.get(), "tenant": tenant.get(), "log": log_context.get({})}
    known |= {"locale": str(get_locale()), "address": request.remote_addr}
    return "".join(f"<p>{name}: {known[name]}</p>\n" for name in sorted(known))


def make_site(make_app: MakeApp, instance: str = "instance", built: int = 20) -> Flask:
    app = make_app(
        {
            "BUILT": built,
            "SECRET_KEY": "key",
            "REMEMBER_COOKIE_REFRESH_EACH_REQUEST": True,
            "PRERENDER_MAX_RENDERS": 32,
            "PRERENDER_WAIT": 30,
            "PRERENDER_COMPRESS_MIN_BYTES": 0,
        },
        instance=instance,
    )
    app.wsgi_app = Tenancy(app.wsgi_app)  # type: ignore[method-assign]
    LoginManager(app).user_loader(User)
    Babel(app, locale_selector=choose_locale)
    attach_default_logger(app)

    @app.before_request
    def recognise() -> None:
        if Prerender().is_rendering or not current_user.is_authenticated:
            return
        g.user = current_user._get_current_object()
        g.identity = f"identity of {g.user.id}"
        who.set(g.user.id)
        log_context.set({"user": g.user.id})

    @app.route("/login/<name>")
    def login(name: str) -> str:
        login_user(User(name), remember=True)
        session["lang"] = "de"
        session["secret"] = f"secret of {name}"
        return "welcome"

    add_pages(app)
    return app


def add_pages(app: Flask) -> None:
    @app.route("/page/<by>/<int:n>")
    @mark
    def page(by: str, n: int) -> Response:
        response = Response(f"<h1>{by} {n}</h1>{whatever_is_known()}")
        response.headers["X-User"] = who.get() or "nobody"
        return response

    @app.route("/template/<int:n>")
    @mark
    def template(n: int) -> str:
        return render_template_string(
            "{{ n }} {{ g.user.id if g.user }} {{ known }}", n=n, known=whatever_is_known()
        )

    @app.route("/bar/<int:n>")
    @mark
    def bar(n: int) -> str:
        return render_template_string("{{ n }} Hello {{ current_user.id }}", n=n)

    @app.route("/session/<int:n>")
    @mark
    def from_session(n: int) -> str:
        return f"{n} {session.get('secret')}"

    @app.route("/members/<int:n>")
    @mark
    @login_required
    def members(n: int) -> str:
        return f"{n} for members"

    @app.route("/built/<int:n>")
    @mark(params=listed, tags=lambda n: [f"of {who.get() or 'nobody'}"], fallback="pass")
    def built(n: int) -> str:
        return f"<h1>{n}</h1>{whatever_is_known()}"

    @app.route("/build", methods=["POST"])
    def build() -> dict[str, int]:
        assert g.user.id in VISITORS
        return generate(app, ["/built/*"]).counts


def listed() -> Iterator[dict[str, int]]:
    """List pages for whoever asks: more of them for one who is signed in."""
    is_known = bool(who.get() or "user" in g or has_request_context())
    yield from ({"n": n} for n in range(current_app.config["BUILT"] + (9 if is_known else 0)))


def sign_in(app: Flask, name: str) -> FlaskClient:
    client = app.test_client()
    assert client.get(f"/login/{name}").text == "welcome"
    client.set_cookie("lang", "de")
    return client


def marks_of(clients: Iterable[FlaskClient]) -> list[bytes]:
    """Return the texts that would give a visitor away."""
    cookies = [
        cookie.value
        for client in clients
        for cookie in (client.get_cookie("session"), client.get_cookie("remember_token"))
        if cookie is not None
    ]
    assert len(cookies) > 1
    return [text.encode() for text in (*VISITORS, *cookies, "locale: de", "secret of", "zqtenant")]


def visit(client: FlaskClient, path: str) -> None:
    headers = {"X-Tenant": "zqtenant", "Accept-Language": "de"}
    assert client.get(path, headers=headers).status_code == 200


def traces(app: Flask, marks: Iterable[bytes]) -> list[str]:
    """Return where the store, and any file of it, names one of these texts."""
    site: Site = app.extensions["prerender"]
    found = []
    for page in site.store.pages():
        bodies = [site.store.read(page, variant) or b"" for variant in page.variants]
        unpacked = [gzip.decompress(b) if b[:2] == b"\x1f\x8b" else b for b in bodies]
        whole = b"\n".join([page.to_json().encode(), *unpacked])
        found += [f"{page.key}: {mark!r}" for mark in marks if mark in whole]
    for file in site.path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        found += [f"{file.name}: {mark!r}" for mark in marks if mark in content]
    return found


def facts(page: Page) -> tuple[Any, ...]:
    return page.status, page.headers, page.variants, page.tags, page.options, page.rule


def stored(app: Flask) -> dict[str, Page]:
    return {page.key: page for page in app.extensions["prerender"].store.pages()}


def obvious_render(site: Site, key: str, revision: int) -> Render:
    """Render as everybody would: by the test client, in the request that is under way."""
    done = Render(key, revision, float("inf"))
    headers = list(request.headers.items())
    response = site.app.test_client(use_cookies=False).get(
        key, headers=headers, environ_overrides={ENVIRON_KEY: done}
    )
    done.status, done.body = response.status_code, response.data
    done.headers = [(n, v) for n, v in response.headers if n not in ("Vary", "Set-Cookie")]
    return done


def join_at_once(self: Flights[Any], key: str, work: Callable[[], Any]) -> Flight[Any]:
    flight: Flight[Any] = Flight(0.0)
    flight.land(work())
    return flight


@pytest.fixture
def obvious(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace what is under trial by the obvious implementation, so that the trial can fail."""
    monkeypatch.setattr("flask_prerender.validators.render", obvious_render)
    monkeypatch.setattr(Flights, "join", join_at_once)


# The trial.


def test_nothing_of_a_signed_in_visitor_is_in_any_of_1000_pages(
    make_app: MakeApp, wsgi_get: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_site(make_app, built=BUILT)
    clients = [sign_in(app, name) for name in VISITORS]
    paths = [f"/page/{by}/{n}" for n in range(VISITED // 3) for by in ("header", "user")]
    paths += [f"/template/{n}" for n in range(VISITED // 3)]
    refused = [f"/page/{by}/1" for by in ("cookie", "session")]
    refused += [f"/{kind}/{n}" for kind in ("bar", "session", "members") for n in range(4)]

    with ThreadPoolExecutor(len(clients), "visitor") as pool:
        every = [(clients[n % len(clients)], path) for n, path in enumerate([*paths, *refused])]
        list(pool.map(visit, *zip(*every, strict=True)))
    counts = clients[0].post("/build", headers={"X-Tenant": "zqtenant"}).json

    pages = stored(app)
    assert counts == {"published": BUILT}
    assert len(pages) == VISITED + BUILT == 1000
    assert pages.keys().isdisjoint(refused)
    marks = marks_of(clients)
    assert traces(app, marks) == []
    assert "page-refused" in caplog.text
    assert not any(mark.decode() in caplog.text for mark in marks)
    for key in pages:
        answer = wsgi_get(app, key)
        assert answer.get("X-Prerendered") == "true"
        whole = json.dumps(answer.headers).encode() + answer.body
        assert not any(mark in whole for mark in marks)


def test_pages_are_the_same_whoever_comes_first(make_app: MakeApp) -> None:
    alone, crowd = make_site(make_app, "alone"), make_site(make_app, "crowd")
    paths = [f"/page/user/{n}" for n in range(20)] + [f"/template/{n}" for n in range(20)]
    for path in paths:
        alone.test_client().get(path)
    generate(alone, ["/built/*"])
    client = sign_in(crowd, VISITORS[0])
    for path in paths:
        visit(client, path)
    client.post("/build")

    by_nobody = {key: facts(page) for key, page in stored(alone).items()}
    by_somebody = {key: facts(page) for key, page in stored(crowd).items()}
    assert len(by_nobody) == 40 + 20
    assert by_somebody == by_nobody


def test_the_obvious_implementation_leaks_so_the_trial_can_fail(
    make_app: MakeApp, obvious: None
) -> None:
    app = make_site(make_app)
    client = sign_in(app, VISITORS[0])
    for path in ("/page/header/1", "/page/user/1", "/template/1", "/bar/1"):
        visit(client, path)
    found = traces(app, marks_of([client]))
    for path in ("/page/header/1", "/page/user/1", "/template/1", "/bar/1"):
        assert f"{path}: {VISITORS[0].encode()!r}" in found
    assert "/page/header/1: b'zqtenant'" in found
    assert "/page/header/1: b'locale: de'" in found


def test_a_build_inside_a_request_lists_pages_and_tags_for_nobody(make_app: MakeApp) -> None:
    app = make_site(make_app)
    client = sign_in(app, VISITORS[1])
    client.post("/build")
    assert {page.tags for page in stored(app).values()} == {("of nobody",)}
    manifest = (app.extensions["prerender"].output / "manifest.json").read_text()
    assert "/built/19" in manifest
    assert "/built/20" not in manifest


# Attacks that nobody listed.


def test_tags_of_a_first_visit_are_found_outside_of_the_visitors_request(make_app: MakeApp) -> None:
    app = make_app()

    def tags() -> list[str]:
        seen = [who.get(), g.get("user"), request and request.headers.get("X-Name")]
        return [text for text in ("tag", *seen) if text]

    @app.before_request
    def recognise() -> None:
        if not Prerender().is_rendering:
            g.user = request.headers.get("X-Name")
            who.set(g.user)

    @app.route("/")
    @mark(tags=tags)
    def index() -> str:
        return "index"

    app.test_client().get("/", headers={"X-Name": "zqmallory"})
    assert stored(app)["/"].tags == ("tag",)


def test_what_one_visitors_hook_adds_to_a_stored_answer_is_not_in_the_next(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app = make_app()

    @app.route("/")
    @mark
    def index() -> str:
        return "index"

    @app.after_request
    def sign(response: Response) -> Response:
        name = request.headers.get("X-Name")
        if name:
            response.headers["X-Hello"] = name
            response.headers["Cache-Control"] = f"private, ext={name}"
            response.headers.add("Vary", name)
            response.set_cookie("name", name)
        return response

    first = wsgi_get(app)
    for _ in range(3):
        assert wsgi_get(app, headers={"X-Name": "zqmallory"}).get("X-Hello") == "zqmallory"
        again = wsgi_get(app)
        assert again.get("X-Prerendered") == "true"
        assert "zqmallory" not in str(again)
        assert again.body == first.body


@pytest.mark.parametrize("how", ["set_data", "response", "iterator"])
def test_a_stored_page_that_a_hook_made_personal_is_kept_from_shared_caches(
    make_app: MakeApp, wsgi_get: Any, how: str
) -> None:
    app = make_app()

    @app.route("/")
    @mark(revalidate=60)
    def index() -> str:
        return "Hello"

    @app.after_request
    def greet(response: Response) -> Response:
        name = request.headers.get("X-Name")
        if name and how == "set_data":
            response.set_data(f"Hello {name}")
        elif name and how == "response":
            response.response = [b"Hello ", name.encode()]
        elif name:
            response.response = (part for part in [b"Hello ", name.encode()])
        return response

    shared = wsgi_get(app)
    assert "public" in str(shared.get("Cache-Control"))
    mine = wsgi_get(app, headers={"X-Name": "zqmallory"})
    assert mine.body == b"Hello zqmallory"
    assert mine.get("Cache-Control") == "private, no-store"
    assert mine.get("ETag") is None
    assert mine.get("Last-Modified") is None
    assert mine.get("Content-Length") in (None, "15")
    assert wsgi_get(app) == wsgi_get(app)
    assert wsgi_get(app).body == b"Hello"


@pytest.mark.parametrize("stored", [{}, {"X-User": "nobody"}], ids=["added", "replaced"])
def test_a_header_that_a_hook_made_personal_is_kept_from_shared_caches(
    make_app: MakeApp, wsgi_get: Any, stored: dict[str, str]
) -> None:
    app = make_app()
    app.add_url_rule("/", "index", mark(revalidate=60)(lambda: Response("Hello", headers=stored)))

    @app.after_request
    def greet(response: Response) -> Response:
        if "X-Name" in request.headers:
            response.headers["X-User"] = request.headers["X-Name"]
        return response

    assert "public" in str(wsgi_get(app).get("Cache-Control"))
    mine = wsgi_get(app, headers={"X-Name": "zqmallory"})
    assert mine.get("X-User") == "zqmallory"
    assert "public" not in str(mine.get("Cache-Control"))


def test_no_header_for_caches_survives_beside_a_visitors_cookie(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app = make_app({"SECRET_KEY": "key"})

    @app.route("/")
    @mark
    def index() -> Response:
        caches = "public, max-age=3600"
        names = ("CDN-Cache-Control", "Surrogate-Control", "Cloudflare-CDN-Cache-Control")
        return Response("index", headers=[*((n, caches) for n in names), ("Expires", "Mon")])

    @app.after_request
    def count(response: Response) -> Response:
        if "X-Name" in request.headers:
            session["count"] = "zqmallory"
        return response

    shared = wsgi_get(app)
    assert shared.get("Cloudflare-CDN-Cache-Control") == "public, max-age=3600"
    mine = wsgi_get(app, headers={"X-Name": "zqmallory"})
    assert "session=" in str(mine.get("Set-Cookie"))
    assert mine.body == b"index"
    told = {name.lower(): v for name, v in mine.headers if "control" in name.lower()}
    assert told == {"cache-control": "private, no-store"}
    assert mine.get("Expires") is None


def test_what_a_view_does_to_its_environ_is_gone_at_the_next_render(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/<int:n>")
    @mark
    def page(n: int) -> str:
        seen = sorted(k for k in request.environ if k.startswith("zq") or k == "HTTP_X_LEFT")
        request.environ.update({f"zq{n}": "left", "HTTP_X_LEFT": "left", "HTTP_COOKIE": "zq=1"})
        return f"{n} {seen} {request.environ.get('REMOTE_USER')}"

    generate(app, ["/1", "/2", "/3"])
    site = app.extensions["prerender"]
    for n in (1, 2, 3):
        assert render(site, f"/{n}", 0).body == f"{n} [] None".encode()


def test_a_thread_that_inherits_the_context_of_its_parent_renders_for_nobody(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Free-threaded Pythons from 3.14 on start every thread like this.
    start = threading.Thread.start

    def inheriting(thread: threading.Thread) -> None:
        if thread.name.startswith("prerender"):
            context, run = contextvars.copy_context(), thread.run
            monkeypatch.setattr(thread, "run", lambda: context.run(run))
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", inheriting)
    app = make_site(make_app)
    client = sign_in(app, VISITORS[2])
    heard = set()

    def hear(sender: Flask, **facts: object) -> None:
        heard.add(who.get())

    with signals.page_published.connected_to(hear, app):
        visit(client, "/page/user/1")
        visit(client, "/template/1")
        client.post("/build")
    assert len(stored(app)) == 20 + 2
    assert traces(app, marks_of([client])) == []
    assert heard == {""}


def mounted(folder: Path, name: str, root: str, path: str) -> Flask:
    app = Flask(name, instance_path=str(folder))
    app.config |= {"APPLICATION_ROOT": root, "PRERENDER_PATH": path}
    Prerender(app)
    app.add_url_rule("/", "index", mark(lambda: f"page of {name} at {request.path}"))
    return app


def test_two_apps_of_one_process_cannot_share_their_pages(tmp_path: Path) -> None:
    site = mounted(tmp_path, "site", "/", "prerendered")
    with pytest.raises(ConfigError, match=r"'site' and 'admin', .* PRERENDER_PATH"):
        mounted(tmp_path, "admin", "/admin", "prerendered")
    with pytest.raises(ConfigError, match="'site' and 'site'"):
        mounted(tmp_path, "site", "/", "prerendered")
    site.extensions["prerender"].close()
    mounted(tmp_path, "site", "/", "prerendered").extensions["prerender"].close()


def test_apps_that_are_mounted_side_by_side_keep_to_themselves(
    tmp_path: Path, wsgi_get: Any
) -> None:
    site = mounted(tmp_path, "site", "/", "site")
    admin = mounted(tmp_path, "admin", "/admin", "admin")
    both = DispatcherMiddleware(site, {"/admin": admin, "/elsewhere": admin})
    for _ in range(2):
        assert wsgi_get(both, "/").body == b"page of site at /"
        assert wsgi_get(both, "/admin/").body == b"page of admin at /"
        assert wsgi_get(both, "/admin/").get("X-Prerendered") == "true"
        elsewhere = wsgi_get(both, "/elsewhere/")
        assert elsewhere.body == b"page of admin at /"
        assert "detail=mount" in str(elsewhere.get("Cache-Status"))
    for app in (site, admin):
        assert stored(app).keys() == {"/"}
        app.extensions["prerender"].close()


def test_a_nested_request_inside_a_render_stores_nothing_of_its_own(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/outer")
    @mark
    def outer() -> str:
        who.set("zqmallory")
        g.user = "zqmallory"
        return "outer"

    @app.route("/asks")
    @mark
    def asks() -> str:
        who.set("zqmallory")
        g.user = "zqmallory"
        return "asks " + app.test_client().get("/inner").text

    @app.route("/inner")
    @mark
    def inner() -> str:
        return f"inner {who.get()} {g.get('user')}"

    app.test_client().get("/asks")
    assert stored(app).keys() == {"/asks"}
    app.test_client().get("/inner")
    site = app.extensions["prerender"]
    assert site.store.read(stored(app)["/inner"], stored(app)["/inner"].identity) == b"inner  None"


def test_two_pages_that_ask_for_each_other_come_to_an_end(make_app: MakeApp, wsgi_get: Any) -> None:
    app = make_app()

    @app.route("/a")
    @mark
    def a() -> str:
        return "a" if "X-Deep" in request.headers else "a" + _ask("/b")

    @app.route("/b")
    @mark
    def b() -> str:
        return "b" + _ask("/a")

    def _ask(path: str) -> str:
        return app.test_client().get(path, headers={"X-Deep": "1"}).text

    assert wsgi_get(app, "/a").body == b"aba"
    assert wsgi_get(app, "/b").body == b"ba"
    assert set(stored(app)) == {"/a", "/b"}


def test_one_render_that_sets_a_cookie_gives_it_to_no_other(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/<int:n>")
    @mark
    def page(n: int) -> Response:
        response = Response(f"{n} {request.environ.get('HTTP_COOKIE')}")
        if n % 2:
            response.set_cookie("zq", "zqmallory")
        return response

    site = app.extensions["prerender"]
    bodies = [render(site, f"/{n}", 0).body for n in range(100)]
    assert bodies == [f"{n} None".encode() for n in range(100)]


# What clients send.

SENT = [
    "Accept", "Accept-Charset", "Accept-Datetime", "Accept-Encoding", "Accept-Language",
    "Access-Control-Request-Headers", "Access-Control-Request-Method", "Base-Url", "Cache-Control",
    "Cdn-Loop", "CF-Connecting-IP", "CF-IPCountry", "CF-Ray", "CF-Visitor", "Client-IP", "Cookie",
    "Content-Encoding", "Content-Language", "Content-Type", "DNT", "Destination", "Device-Memory",
    "Downlink", "DPR", "ECT", "Early-Data", "Expect", "Fastly-Client-IP", "Fastly-SSL", "Forwarded",
    "Forwarded-For", "Forwarded-Host", "Forwarded-Proto", "From", "Front-End-Https", "Host",
    "HTTP2-Settings", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
    "If-Unmodified-Since", "Keep-Alive", "Link", "Max-Forwards", "Next-Resume", "Origin", "Pragma",
    "Prefer", "Priority", "Proxy", "Proxy-Authorization", "Proxy-Connection", "Purpose", "Range",
    "Real-IP", "Redirect", "Referer", "Referrer", "RTT", "Save-Data", "Script-Name", "Sec-CH-UA",
    "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site",
    "Sec-Fetch-User", "Sec-GPC", "Sec-WebSocket-Key", "Service-Worker", "SSL-Client-Cert",
    "SSL-Client-S-DN", "Surrogate-Capability", "TE", "Traceparent", "Tracestate", "Trailer",
    "True-Client-IP", "Upgrade", "Upgrade-Insecure-Requests", "User-Agent", "Uri", "Url", "Via",
    "Viewport-Width", "Want-Digest", "Warning", "Width", "X-Accel-Expires", "X-Api-Key",
    "X-Api-Version", "X-Amz-Cf-Id", "X-Amzn-Trace-Id", "X-Appengine-Country", "X-Att-Deviceid",
    "X-Auth-Token", "X-Authenticated-User", "X-Azure-ClientIP", "X-B3-TraceId", "X-Backend-Host",
    "X-Client-Cert", "X-Client-IP", "X-Cluster-Client-IP", "X-Correlation-ID", "X-Country-Code",
    "X-CSRF-Token", "X-Csrftoken", "X-Custom-IP-Authorization", "X-Debug", "X-Device-Type",
    "X-Do-Not-Track", "X-Draft", "X-Dynatrace", "X-Email", "X-Env", "X-Forwarded",
    "X-Forwarded-By", "X-Forwarded-Client-Cert", "X-Forwarded-For", "X-Forwarded-Host",
    "X-Forwarded-HttpHost", "X-Forwarded-Path", "X-Forwarded-Port", "X-Forwarded-Prefix",
    "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Forwarded-Server",
    "X-Forwarded-SSL", "X-Forwarded-Uri", "X-Forwarded-User", "X-Flask-Prerender",
    "X-Flask-Prerender-Key", "X-Flask-Prerender-Render", "X-Forward-For", "X-Geo", "X-Geoip",
    "X-Goog-Authenticated-User-Email", "X-Host", "X-Http-Destinationurl", "X-Http-Host-Override",
    "X-Http-Method", "X-Http-Method-Override", "X-Http-Path-Override", "X-Invoke-Path",
    "X-Invoke-Query", "X-Language", "X-Locale", "X-Matched-Path", "X-Method-Override",
    "X-Middleware-Prefetch", "X-Middleware-Subrequest", "X-Moz", "X-Nextjs-Data",
    "X-Now-Route-Matches", "X-Organization", "X-Original-Forwarded-For", "X-Original-Host",
    "X-Original-Remote-Addr", "X-Original-URL", "X-Original-Uri", "X-Originating-IP",
    "X-Path-Info", "X-Powered-By", "X-Preview", "X-Prerender", "X-Prerender-Key",
    "X-Prerender-Paths", "X-Prerender-Revalidate", "X-Prerender-Token", "X-Prerendered",
    "X-Prerender-Action", "X-ProxyUser-Ip", "X-Proxy-URL", "X-Real-IP", "X-Remote-Addr",
    "X-Remote-IP", "X-Remote-User", "X-Request-ID", "X-Request-URI", "X-Requested-With",
    "X-Rewrite-URL", "X-Scheme", "X-Script-Name", "X-Session", "X-Skin", "X-SSL", "X-Tenant",
    "X-Theme", "X-Token", "X-Trace-Id", "X-Tracking", "X-User", "X-User-Agent", "X-User-ID",
    "X-Username", "X-Variant", "X-Version", "X-Vhost", "X-WAP-Profile", "X-XSRF-Token",
    "Flask-Prerender-Render", "Flask_Prerender.Render", "Authorization",
]  # fmt: skip


def add_echo(app: Flask) -> None:
    def everything() -> str:
        environ = {k: v for k, v in request.environ.items() if isinstance(v, str | bytes)}
        seen = [list(request.headers), sorted(environ.items()), request.get_data(), request.url]
        seen += [request.host, request.remote_addr, request.access_route, request.full_path]
        seen += [request.user_agent.string, request.accept_languages, request.referrer]
        return "".join(f"<p>{part}</p>\n" for part in seen)

    @app.route("/echo/<int:n>", methods=["GET", "POST"])
    @mark
    def echo(n: int) -> str:
        return everything()

    @app.route("/all/<int:n>")
    @mark
    def everything_at_all(n: int) -> str:
        more = [request.cookies, request.args, request.authorization, request.values]
        return f"{everything()} {more}"


ENVIRON = {
    "REMOTE_ADDR": "zqzqaddress",
    "REMOTE_HOST": "zqzqremotehost",
    "REMOTE_USER": "zqzquser",
    "REMOTE_PORT": "zqzqport",
    "AUTH_TYPE": "zqzqauth",
    "SERVER_NAME": "zqzqservername",
    "SERVER_SOFTWARE": "zqzqsoftware",
    "SERVER_PROTOCOL": "zqzqprotocol",
    "GATEWAY_INTERFACE": "zqzqgateway",
    "REQUEST_URI": "/zqzquri",
    "RAW_URI": "/zqzqraw",
    "PATH_TRANSLATED": "/zqzqpath",
    "SSL_CLIENT_S_DN": "zqzqdn",
    "SSL_CLIENT_CERT": "zqzqcert",
    "CONTENT_TYPE": "application/x-www-form-urlencoded",
    "CONTENT_LENGTH": "8",
    "QUERY_STRING": "utm_source=zqzqquery&fbclid=zqzqclick",
    ENVIRON_KEY: "zqzqflag",
}


@pytest.mark.parametrize("fixed", [False, True], ids=["plain", "behind ProxyFix"])
def test_none_of_200_headers_of_the_first_visitor_reaches_a_stored_page(
    make_app: MakeApp, wsgi_get: Any, fixed: bool
) -> None:
    app = make_app()
    add_echo(app)
    if fixed:
        app.wsgi_app = ProxyFix(app.wsgi_app, 1, 1, 1, 1, 1)  # type: ignore[method-assign]
    assert len(set(SENT)) >= 200
    for n, name in enumerate(SENT):
        value = {
            "Cookie": f"a=zqzq{n}",
            "Range": f"bytes=0-{n}, zqzq{n}",
            "Host": f"zqzq{n}.example",
        }
        sent = {name: value.get(name, f"zqzq{n}")}
        own = wsgi_get(app, f"/all/{n}", headers=sent)
        assert own.status == 200
        assert wsgi_get(app, f"/echo/{n}", headers=sent).status in (200, 206)
    everywhere = {name: f"zqzq{n}" for n, name in enumerate(SENT[:-1]) if "Range" not in name}
    environ = ENVIRON | {"wsgi.input": BytesIO(b"p=zqzqbody")}
    wsgi_get(app, "/echo/1000", headers={"Host": "zqzqhost"}, environ=environ)
    wsgi_get(app, "/echo/1001", headers=everywhere, environ=environ)

    pages = stored(app)
    expected = {f"/echo/{n}" for n in range(len(SENT) - 1)} | {"/echo/1000", "/echo/1001"}
    if fixed:  # a mount path that clients send is not the configured one
        expected -= {f"/echo/{SENT.index('X-Forwarded-Prefix')}", "/echo/1001"}
    assert set(pages) == expected
    assert traces(app, [b"zqzq"]) == []
    site = app.extensions["prerender"]
    for page in pages.values():
        assert b"http://localhost/" in (site.store.read(page, page.identity) or b"")


def test_the_obvious_implementation_stores_headers_so_that_trial_can_fail(
    make_app: MakeApp, wsgi_get: Any, obvious: None
) -> None:
    app = make_app()
    add_echo(app)
    for n, name in enumerate(SENT[:40]):
        wsgi_get(app, f"/echo/{n}", headers={name: f"zqzq{n}"})
    assert len(traces(app, [b"zqzq"])) > 40


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_FLASK_PRERENDER_RENDER": "1"},
        {"HTTP_FLASK_PRERENDER.RENDER": "1"},
        {"HTTP_X_PRERENDER": "1", "HTTP_X_PRERENDERED": "true"},
        {"HTTP_X_FLASK_PRERENDER": "1"},
        {ENVIRON_KEY: "1"},
        {ENVIRON_KEY: True},
        {ENVIRON_KEY: Render},
        {ENVIRON_KEY.upper(): "1", ENVIRON_KEY.replace(".", "_"): "1"},
    ],
    ids=str,
)
def test_nothing_that_a_client_can_send_is_taken_for_a_render(
    make_app: MakeApp, wsgi_get: Any, environ: dict[str, Any]
) -> None:
    app = make_app()
    told = []

    @app.route("/")
    @mark
    def index() -> str:
        return "index"

    @app.route("/live")
    def live() -> str:
        told.append(Prerender().is_rendering)
        return render_template_string("{{ prerendering }}")

    wsgi_get(app)
    answer = wsgi_get(app, environ=environ)
    assert answer.get("Cache-Status") == "flask-prerender; hit"
    assert wsgi_get(app, "/live", environ=environ).body == b"False"
    assert told == [False]


def test_a_visitors_own_response_is_never_stored(make_app: MakeApp, wsgi_get: Any) -> None:
    app = make_app()
    renders = []

    @app.route("/")
    @mark
    def index() -> str:
        if Prerender().is_rendering:
            renders.append(1)
            return Response("no", 503)  # type: ignore[return-value]
        return "zqmallory"

    assert wsgi_get(app).body == b"zqmallory"
    assert renders == [1]
    assert stored(app) == {}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"])
def test_other_methods_always_reach_the_view(make_app: MakeApp, wsgi_get: Any, method: str) -> None:
    app = make_app()

    @app.route("/", methods=["GET", method])
    @mark
    def index() -> str:
        return request.method

    assert wsgi_get(app).body == b"GET"
    override = {"X-HTTP-Method-Override": "GET"}
    assert wsgi_get(app, method=method, headers=override).body == method.encode()
    assert wsgi_get(app, headers={"X-HTTP-Method-Override": method}).body == b"GET"


def test_head_of_an_absent_page_renders_and_stores_the_page_of_get(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app = make_app()

    @app.route("/")
    @mark
    def index() -> str:
        return f"body of {request.method}"

    head = wsgi_get(app, method="HEAD")
    assert (head.status, head.body, head.get("Content-Length")) == (200, b"", "11")
    assert wsgi_get(app).body == b"body of GET"


def test_visitors_who_wait_for_one_personal_page_get_their_own(make_app: MakeApp) -> None:
    app = make_site(make_app)
    clients = [sign_in(app, name) for name in VISITORS]
    together = threading.Barrier(len(clients))

    def ask(number: int) -> list[str]:
        texts = []
        for n in range(5):
            together.wait(30)
            texts.append(clients[number].get(f"/bar/{n}").text)
        return texts

    with ThreadPoolExecutor(len(clients), "visitor") as pool:
        everybody = list(pool.map(ask, range(len(clients))))
    for name, texts in zip(VISITORS, everybody, strict=True):
        assert texts == [f"{n} Hello {name}" for n in range(5)]
    assert stored(app) == {}


@pytest.mark.parametrize(
    "sent",
    [
        {"X-Oversized": "a" * 16_384},
        {"X-Control": "a\x00\x07\r\nX-Injected: b"},
        {"Cookie": "a=\x07;;;=;\xff"},
        {"X-Http-Method-Override": "POST"},
        {f"X-Many-{n}": "a" for n in range(500)},
    ],
    ids=["oversized", "control", "cookie", "method", "many"],
)
def test_a_first_visitor_cannot_spoil_a_page(
    make_app: MakeApp, wsgi_get: Any, sent: dict[str, str]
) -> None:
    app = make_app()
    inner = app.wsgi_app

    def refusing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer as a server does that does not like a request."""
        if sum(map(len, map(str, environ.values()))) > 8192 or "HTTP_X_CONTROL" in environ:
            start_response("400 BAD REQUEST", [("Content-Type", "text/plain")])
            return [b"bad request"]
        return inner(environ, start_response)

    app.wsgi_app = refusing  # type: ignore[method-assign]
    app.add_url_rule("/", "index", mark(lambda: f"{len(request.headers)} headers"))
    wsgi_get(app, headers=sent)
    answer = wsgi_get(app)
    assert (answer.status, answer.body) == (200, b"3 headers")
    assert answer.get("X-Prerendered") == "true"


CLOAKED = [
    "a=1", "a=1&utm_source=x;a=2", "a=1;a=2", "a=1&a=2", "a=2&a=1", "A=1", "%61=1", "a=%31", "a",
    "a=", "a=1&b=2&a=3", "a[]=1", "a%00=1", "a=1%26a=2", "a=+", "a=%2B", "a=%20", "a=%ff", "a=é",
    "=1", "&&a=1&&", "a==1", "a=1#a=2", "?a=1", "a=%E2%82", "a=1&%41=2", "fbclid=1&a=9", "a=%00",
]  # fmt: skip


def test_key_and_view_agree_on_every_spelling_of_a_query(make_app: MakeApp, wsgi_get: Any) -> None:
    app = make_app({"PRERENDER_UNKNOWN_QUERY": "ignore"})
    rule = mark(query=["a"])(lambda: f"{request.args.getlist('a')} {sorted(request.args)}")
    app.add_url_rule("/", "index", rule)
    for query in [*CLOAKED, *CLOAKED[::-1]]:
        raw = query.encode().decode("latin-1")
        meant = Request({"QUERY_STRING": raw}).args.getlist("a")
        answer = wsgi_get(app, query=raw)
        assert answer.body.decode() == f"{meant} {['a'] if meant else []}"
        assert answer.get("X-Prerendered") == "true"


def test_a_clients_validators_and_ranges_never_reach_a_render(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app = make_app()

    @app.route("/<int:n>")
    @mark
    def page(n: int) -> Response:
        response = Response(f"page {n}")
        response.set_etag("known")
        return response.make_conditional(request, accept_ranges=True, complete_length=6)

    asked = [{"If-None-Match": '"known"'}, {"If-None-Match": "*"}, {"Range": "bytes=0-1"}]
    for n, headers in enumerate(asked):
        wsgi_get(app, f"/{n}", headers=headers)
        answer = wsgi_get(app, f"/{n}")
        assert (answer.status, answer.body) == (200, f"page {n}".encode())
        assert answer.get("X-Prerendered") == "true"
        assert answer.get("Accept-Ranges") == "bytes"


def test_hosts_that_clients_invent_leave_no_trace(make_app: MakeApp, wsgi_get: Any) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com/"})

    @app.route("/dir/")
    @mark
    def directory() -> str:
        return request.url

    @app.route("/moved")
    @mark(statuses=[301])
    def moved() -> Response:
        return Response("", 301, {"Location": request.host_url + "dir/"})

    for path in ("/dir/", "/moved", "/dir"):
        wsgi_get(app, path, headers={"Host": "zqhost.example"})
    assert wsgi_get(app, "/dir/").body == b"https://example.com/dir/"
    assert wsgi_get(app, "/moved").get("Location") == "/dir/"
    assert set(stored(app)) == {"/dir/", "/moved"}
    assert traces(app, [b"zqhost"]) == []


DECEPTIONS = [
    "", "/", "/x.css", "/x.js", "/x.png", "/..css", "/.css", ".css", ".js", "%2fx.css", ";x.css",
    ";/x.css", "%3bx.css", "%23x.css", "%3fx.css", "%00x.css", "%0ax.css", "%0d%0ax.css",
    "%09.css",
    "%20.css", "/%2e%2e/pub", "/..%2fpub", "/../pub", "/./pub", "//pub", "/;/pub", "/%5c..%5cpub",
    "\\x.css", "/x.css/", "%25%2fx.css", "/~x.css", "!x.css", "$x.css", ",x.css", "@x.css",
    "|x.css", "&x.css", "=x.css", "%c0%afx.css", "/é.css", "%ff.css", "/x.css?v=1", "/x.css#y",
    "/pub/x.css",
]  # fmt: skip


def test_no_spelling_of_an_unmarked_private_route_is_stored_or_shared(make_app: MakeApp) -> None:
    app = make_app({"SECRET_KEY": "key", "PRERENDER_UNKNOWN_QUERY": "ignore"})

    @app.route("/account")
    @app.route("/account/")
    @app.route("/account/<path:rest>")
    @app.route("/account<path:rest>")
    def account(rest: str = "") -> str:
        return "account of zqmallory"

    @app.route("/pub")
    @mark
    def public() -> str:
        return "public"

    assert len(DECEPTIONS) >= 40
    answered = 0
    for ending in DECEPTIONS:
        answer = app.test_client().get(f"/account{ending}")
        answered += "zqmallory" in answer.text
        if "zqmallory" in answer.text:
            told = {name.lower() for name, _ in answer.headers}
            assert told.isdisjoint({"cache-control", "x-prerendered", "cache-status", "age"})
    assert answered >= 40
    assert set(stored(app)) <= {"/pub"}
    assert traces(app, [b"zqmallory"]) == []


@pytest.mark.parametrize("folder", ["store", "public"])
def test_there_is_something_to_look_for_traces_in(make_app: MakeApp, folder: str) -> None:
    app = make_site(make_app)
    visit(app.test_client(), "/page/header/1")
    path = Path(app.extensions["prerender"].path, folder)
    assert any(b"header 1" in file.read_bytes() for file in path.rglob("*") if file.is_file())
