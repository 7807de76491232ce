"""One URL through the whole app: a clean context, a configured visitor, every response."""

from __future__ import annotations

import contextvars
import re
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import copy_current_request_context
from flask import Flask
from flask import g
from flask import has_app_context
from flask import has_request_context
from flask import redirect
from flask import render_template
from flask import request
from flask import Response
from flask import send_file
from flask import stream_template
from flask import stream_with_context
from flask import url_for

import flask_prerender
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender
from flask_prerender import signals
from flask_prerender.publish import Outcome
from flask_prerender.publish import publish
from flask_prerender.render import Render
from flask_prerender.render import render
from flask_prerender.render import request_environ

MakeApp = Callable[..., Flask]

mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nothing")


def rendered(app: Flask, key: str = "/") -> Render:
    return render(app.extensions["prerender"], key, 0)


def outcome(app: Flask, path: str = "/") -> Outcome:
    site = app.extensions["prerender"]
    target = site.routes.match(request_environ(site, path), path)
    assert target is not None
    return publish(site, target, origin="build")


def body_of(app: Flask, path: str = "/") -> bytes:
    """Publish a page, and return what was stored."""
    made = outcome(app, path)
    assert made.page is not None, (made.reason, made.detail)
    body = app.extensions["prerender"].store.read(made.page, made.page.identity)
    assert body is not None
    return bytes(body)


def page(app: Flask, view: Callable[..., Any], path: str = "/", **options: Any) -> None:
    app.add_url_rule(path, f"page {path}", mark(**options)(view))


# The context.


def test_a_render_inside_a_request_sees_nothing_of_it_and_leaves_it_as_it_was(
    make_app: MakeApp,
) -> None:
    app = make_app()
    inside: list[object] = []

    def index() -> str:
        inside.append((mine.get(), dict(g.__dict__), request.headers.get("X-A")))
        mine.set("render")
        g.name = "render"
        return "index"

    page(app, index)
    with app.test_request_context("/outer", headers={"X-A": "visitor"}):
        g.name = "visitor"
        token = mine.set("visitor")
        assert rendered(app).body == b"index"
        assert (mine.get(), g.name, request.path) == ("visitor", "visitor", "/outer")
        mine.reset(token)
    assert inside == [("nothing", {}, None)]


def test_middleware_in_a_render_is_outside_of_every_flask_context(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "index")
    inner, seen = app.wsgi_app, []

    def middleware(environ: Any, start_response: Any) -> Iterable[bytes]:
        seen.append((has_request_context(), has_app_context(), mine.get()))
        return inner(environ, start_response)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    with app.test_request_context("/outer"):
        token = mine.set("visitor")
        rendered(app)
        mine.reset(token)
    assert seen == [(False, False, "nothing")]


def test_a_page_is_rendered_by_its_view_even_when_it_is_stored_and_served(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app = make_app()
    count = iter(range(9))
    page(app, lambda: f"render {next(count)}")
    assert wsgi_get(app).body == b"render 0"
    assert body_of(app) == b"render 1"
    assert wsgi_get(app).body == b"render 1"


# The configured visitor.


def _about(app: Flask) -> None:
    def index() -> str:
        facts = [request.url, request.host, request.scheme, request.script_root, url_for("about")]
        facts += [url_for("about", _external=True), request.environ["REQUEST_URI"]]
        facts += [request.server[0], str(request.server[1])]
        return "\n".join(facts)

    app.add_url_rule("/about", "about", mark(index))


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({}, "http://localhost"),
        ({"SERVER_NAME": "example.org"}, "http://example.org"),
        ({"SERVER_NAME": "example.org", "PREFERRED_URL_SCHEME": "https"}, "https://example.org"),
        ({"SERVER_NAME": "example.org", "APPLICATION_ROOT": "/shop"}, "http://example.org/shop"),
        ({"SERVER_NAME": "example.org:8080"}, "http://example.org:8080"),
        ({"APPLICATION_ROOT": "/shop"}, "http://localhost/shop"),
        ({"PRERENDER_BASE_URL": "https://example.com:8443"}, "https://example.com:8443"),
        ({"PRERENDER_BASE_URL": "https://example.com/a/b/"}, "https://example.com/a/b"),
        (
            {"SERVER_NAME": "example.com", "PRERENDER_BASE_URL": "https://example.com/shop"},
            "https://example.com/shop",
        ),
    ],
    ids=str,
)
def test_scheme_host_and_mount_path_come_from_the_configuration(
    make_app: MakeApp, config: dict[str, str], base: str
) -> None:
    app = make_app(config)
    _about(app)
    scheme, _, rest = base.partition("://")
    host, slash, root = rest.partition("/")
    default = "443" if scheme == "https" else "80"
    facts = body_of(app, "/about").decode().split("\n")
    assert facts[:4] == [f"{base}/about", host, scheme, f"{slash}{root}"]
    assert facts[4:7] == [f"{slash}{root}/about", f"{base}/about", f"{slash}{root}/about"]
    assert facts[7:] == [host.partition(":")[0], host.partition(":")[2] or default]


def test_a_render_comes_from_nobody_in_particular(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "admin bar" if request.remote_addr in ("127.0.0.1", "::1") else "page")
    seen = []
    app.before_request(lambda: seen.append(dict(request.environ)))
    assert body_of(app) == b"page"
    environ = seen[0]
    assert environ["REMOTE_ADDR"] == ""
    assert environ["HTTP_USER_AGENT"] == "flask-prerender"
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["wsgi.input"].read() == b""
    headers = {name for name in environ if name.startswith("HTTP_")}
    assert headers == {"HTTP_HOST", "HTTP_ACCEPT", "HTTP_USER_AGENT"}
    assert not {"CONTENT_TYPE", "CONTENT_LENGTH", "REMOTE_USER"} & environ.keys()


def test_a_render_is_the_visitor_that_was_configured(make_app: MakeApp) -> None:
    app = make_app(
        {
            "PRERENDER_USER_AGENT": "Mozilla/5.0 prerender",
            "PRERENDER_REMOTE_ADDR": "192.0.2.1",
            "PRERENDER_ACCEPT_LANGUAGE": "de, en;q=0.5",
        }
    )
    page(
        app,
        lambda: f"{request.user_agent} {request.remote_addr} {request.accept_languages.best}",
    )
    assert body_of(app) == b"Mozilla/5.0 prerender 192.0.2.1 de"


def test_keys_reach_the_view_as_the_url_they_stand_for(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda name: f"{name} {request.args.getlist('q')}", "/<name>", query=["q"])
    assert body_of(app, "/caf%C3%A9") == "café []".encode()
    assert body_of(app, "/a%20b?q=1%262&q=%C3%A9") == "a b ['1&2', 'é']".encode()


def test_each_host_of_a_site_is_rendered_as_itself(make_app: MakeApp) -> None:
    app = make_app({"SERVER_NAME": "example.com:8080"})
    app.subdomain_matching = True
    rule = {"subdomain": "<name>"}
    view = mark(lambda name: f"{name} {request.url} {request.server}")
    app.add_url_rule("/", "home", view, **rule)
    body = body_of(app, "//a.example.com:8080/")
    assert body == b"a http://a.example.com:8080/ ('a.example.com', 8080)"


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("a.example", "a.example", "8443"),
        ("a.example:9000", "a.example", "9000"),
        ("[::1]:9000", "::1", "9000"),
        ("[::1]", "::1", "8443"),
        ("a.example:99999", "a.example", "99999"),
    ],
)
def test_a_host_is_taken_apart_for_the_server_it_stands_for(
    make_app: MakeApp, host: str, name: str, port: str
) -> None:
    site = make_app({"PRERENDER_BASE_URL": "https://example.com:8443"}).extensions["prerender"]
    environ = request_environ(site, f"//{host}/a")
    assert (environ["HTTP_HOST"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == (
        host,
        name,
        port,
    )
    assert environ["PATH_INFO"] == "/a"


# Knowing that it is a render.


def test_templates_know_that_they_are_prerendered(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    templates = tmp_path / "app" / "templates"
    (templates / "page.html").write_text(
        "{% import 'macros.html' as m with context %}"
        "{{ prerendering }} {% include 'part.html' %} {{ m.told() }}"
    )
    (templates / "part.html").write_text("part {{ prerendering }}")
    (templates / "macros.html").write_text(
        "{% macro told() %}macro {{ prerendering }}{% endmacro %}"
    )
    page(app, lambda: render_template("page.html"))
    app.add_url_rule("/live", "live", lambda: render_template("page.html"))
    assert body_of(app) == b"True part True macro True"
    assert app.test_client().get("/live").text == "False part False macro False"
    with app.app_context():
        assert render_template("page.html") == "False part False macro False"


def test_code_knows_that_it_is_rendering(make_app: MakeApp) -> None:
    app = make_app()
    prerender = Prerender()
    page(app, lambda: f"{prerender.is_rendering}")
    app.add_url_rule("/live", "live", lambda: f"{prerender.is_rendering}")
    assert body_of(app) == b"True"
    assert app.test_client().get("/live").text == "False"
    assert prerender.is_rendering is False
    with app.app_context():
        assert prerender.is_rendering is False


def test_work_that_a_view_hands_to_a_thread_is_still_part_of_the_render(make_app: MakeApp) -> None:
    import threading

    app = make_app()
    told = []

    def index() -> str:
        work = copy_current_request_context(lambda: told.append(Prerender().is_rendering))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return "index"

    page(app, index)
    assert body_of(app) == b"index"
    assert told == [True]


# What goes wrong.


def broken() -> str:
    raise LookupError("no such thing")


MODES: list[dict[str, bool]] = [
    {},
    {"TESTING": True},
    {"DEBUG": True},
    {"PROPAGATE_EXCEPTIONS": True},
    {"TESTING": True, "DEBUG": True, "TRAP_HTTP_EXCEPTIONS": True},
]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_an_exception_is_a_failure_in_every_mode_of_flask(
    make_app: MakeApp, mode: dict[str, bool]
) -> None:
    app = make_app(mode)
    page(app, broken)
    made = outcome(app)
    assert (made.result, made.reason) == ("failed", "error")
    assert made.detail == "LookupError: no such thing"
    assert re.search(r"test_render\.py:\d+ in broken$", made.where)


@pytest.mark.parametrize("status", [500, 200])
def test_an_error_page_is_no_page_and_the_frame_is_the_views(
    make_app: MakeApp, status: int
) -> None:
    app = make_app()
    page(app, broken)

    @app.errorhandler(500)
    def sorry(error: Exception) -> tuple[str, int]:
        return "sorry", status

    made = outcome(app)
    assert (made.result, made.reason) == ("failed", "error")
    assert made.detail == "LookupError: no such thing"
    assert made.where.endswith(" in broken")


def test_an_exception_that_the_app_turns_into_a_page_is_a_page(make_app: MakeApp) -> None:
    app = make_app()
    page(app, broken)

    @app.errorhandler(LookupError)
    def nothing(error: Exception) -> str:
        return "nothing found"

    assert body_of(app) == b"nothing found"


def test_the_frame_is_the_last_one_of_the_app_not_of_a_library(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: url_for("nowhere"))
    made = outcome(app)
    assert made.detail.startswith("BuildError")
    assert re.search(r"test_render\.py:\d+ in <lambda>$", made.where)


@pytest.mark.parametrize("error", [SystemExit(3), SystemExit("bye")], ids=repr)
def test_a_view_that_exits_is_a_failure_and_not_the_end(
    make_app: MakeApp, error: SystemExit
) -> None:
    app = make_app()

    def leave() -> str:
        raise error

    page(app, leave)
    page(app, lambda: "well", "/well")
    made = outcome(app)
    assert (made.result, made.reason) == ("failed", "error")
    assert "SystemExit" in made.detail
    counts = generate(app).counts
    assert counts == {"failed": 1, "published": 1}


def test_a_view_that_fails_while_it_streams_is_a_failure(make_app: MakeApp) -> None:
    app = make_app()

    def parts() -> Iterator[str]:
        yield "first"
        raise LookupError("half way")

    page(app, lambda: Response(parts()))
    made = outcome(app)
    assert (made.result, made.detail) == ("failed", "LookupError: half way")
    assert made.where.endswith(" in parts")


def test_a_url_that_does_not_exist_renders_as_its_status(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "deep", "/a/b/c")
    assert (rendered(app, "/a/b/c").status, rendered(app, "/a/b/c").body) == (200, b"deep")
    missing = rendered(app, "/nowhere")
    assert (missing.status, missing.failed, missing.error) == (404, False, None)


def test_an_app_that_never_answers_is_a_failure(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "index")
    app.wsgi_app = lambda environ, start_response: []  # type: ignore[method-assign]
    made = outcome(app)
    assert (made.result, made.reason) == ("failed", "error")


def test_hooks_that_redirect_leave_nothing_in_the_store(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "index")
    app.before_request(lambda: redirect("https://example.com/login"))
    made = outcome(app)
    assert (made.reason, made.detail.split(";")[0]) == (
        "status",
        "302 to https://example.com/login",
    )


# The end of a render.


def test_teardown_and_close_run_for_every_render(make_app: MakeApp) -> None:
    app = make_app()
    ended: list[str] = []
    app.teardown_request(lambda error: ended.append("request"))
    app.teardown_appcontext(lambda error: ended.append("app"))

    def index() -> Response:
        response = Response("index")
        response.call_on_close(lambda: ended.append("closed"))
        return response

    page(app, index)
    page(app, broken, "/broken")
    rendered(app)
    assert sorted(ended) == ["app", "closed", "request"]
    ended.clear()
    rendered(app, "/broken")
    assert sorted(ended) == ["app", "request"]


@pytest.mark.parametrize("way", ["wsgi.close", "generator"])
@pytest.mark.parametrize("kind", ["endless", "events", "empty chunks"])
def test_a_body_that_is_not_read_to_its_end_is_closed(
    make_app: MakeApp, kind: str, way: str
) -> None:
    app = make_app({"PRERENDER_MAX_PAGE_BYTES": 5000, "PRERENDER_TIMEOUT": 0.2})
    ended: list[object] = []
    chunk = b"" if kind == "empty chunks" else b"x" * 1000

    def parts() -> Iterator[bytes]:
        sent = 0
        try:
            while True:
                sent += 1
                yield chunk
        finally:
            ended.append(sent)

    def index() -> Response:
        response = Response(parts())
        if kind == "events":
            response.mimetype = "text/event-stream"
        if way == "wsgi.close":
            response.call_on_close(lambda: ended.append("closed"))
        return response

    page(app, index)
    made = outcome(app)
    reasons = {"endless": "size", "events": "stream"}
    assert made.reason == reasons.get(kind, "timeout")
    if kind == "endless":
        assert ended[0] == 6
    if kind != "events":  # a generator that never began has nothing to end
        assert isinstance(ended[0], int)
    if way == "wsgi.close":
        assert ended[-1] == "closed"


def test_a_page_of_6_mib_reaches_its_visitor_and_is_not_stored(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app = make_app()
    page(app, lambda: Response(iter([b"x" * 1024 * 1024] * 6)))
    answer = wsgi_get(app)
    assert (answer.status, len(answer.body)) == (200, 6 * 1024 * 1024)
    assert "detail=size" in str(answer.get("Cache-Status"))
    assert len(list(app.extensions["prerender"].store.pages())) == 0


def test_a_visitor_of_an_endless_page_gets_a_stream_of_his_own(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_MAX_PAGE_BYTES": 1000})

    def parts() -> Iterator[str]:
        while True:
            yield f"{Prerender().is_rendering} " * 10

    page(app, lambda: Response(stream_with_context(parts())))
    client = app.test_client()
    for _ in range(2):
        response = client.get("/")
        body = iter(response.response)
        assert [next(body) for _ in range(99)] == [b"False " * 10] * 99
        assert "detail=size" in response.headers["Cache-Status"]
        response.close()


def test_an_event_stream_behind_lazy_middleware_is_not_waited_for(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "index")
    asked = []

    def lazy(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("content-type", "text/event-stream; charset=utf-8")])
        while True:
            asked.append(1)
            yield b"data: x\n\n"

    app.wsgi_app = lazy  # type: ignore[assignment]
    assert outcome(app).reason == "stream"
    assert len(asked) == 1


# Kinds of responses.


def test_streamed_pages_are_stored_whole(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    (tmp_path / "app" / "templates" / "rows.html").write_text(
        "{% for n in rows %}{{ n }}{{ request.path }} {% endfor %}{{ prerendering }}"
    )

    def parts() -> Iterator[str]:
        yield "a"
        yield request.path
        yield str(Prerender().is_rendering)

    page(app, lambda: Response(stream_with_context(parts())), "/stream")
    page(app, lambda: stream_template("rows.html", rows=range(3)), "/template")
    page(app, lambda: Response(iter(["a", "b"]), mimetype="text/plain"), "/plain")
    assert body_of(app, "/stream") == b"a/streamTrue"
    assert body_of(app, "/template") == b"0/template 1/template 2/template True"
    assert body_of(app, "/plain") == b"ab"


def test_files_that_are_sent_are_stored(make_app: MakeApp, tmp_path: Path, wsgi_get: Any) -> None:
    app = make_app()
    file = tmp_path / "notes.txt"
    file.write_bytes(b"notes\n" * 1000)
    page(app, lambda: send_file(file), "/notes.txt")
    page(app, lambda: send_file(file, as_attachment=True, etag=False), "/download")
    assert body_of(app, "/notes.txt") == b"notes\n" * 1000
    assert body_of(app, "/download") == b"notes\n" * 1000
    answer = wsgi_get(app, "/notes.txt")
    assert answer.get("X-Prerendered") == "true"
    assert answer.get("Accept-Ranges") == "bytes"
    assert answer.get("ETag") == wsgi_get(app, "/notes.txt").get("ETag")
    assert "attachment" in str(wsgi_get(app, "/download").get("Content-Disposition"))


def writing(parts: list[bytes], rest: list[bytes]) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI app that uses the old ``write()`` callable."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        for part in parts:
            write(part)
        return rest

    return app


@pytest.mark.parametrize(
    ("parts", "rest", "body"),
    [
        ([b"a", b"b"], [b"c"], b"abc"),
        ([b"a"], [], b"a"),
        ([b"x" * 60] * 2, [], b""),
        ([b"x" * 60], [b"x" * 60], b""),
        ([b"x" * 60] * 1000, [b"y"], b""),
    ],
    ids=["both", "write alone", "write too much", "both too much", "write on and on"],
)
def test_the_old_write_callable_is_heard_within_the_same_limits(
    make_app: MakeApp, parts: list[bytes], rest: list[bytes], body: bytes
) -> None:
    app = make_app({"PRERENDER_MAX_PAGE_BYTES": 100})
    app.wsgi_app = writing(parts, rest)  # type: ignore[method-assign]
    done = rendered(app)
    assert (done.body, done.stopped) == (body, "" if body else "size")


def test_what_middleware_makes_of_a_response_is_what_is_stored(make_app: MakeApp) -> None:
    app = make_app()
    page(app, lambda: "quiet")
    inner = app.wsgi_app

    def loud(environ: Any, start_response: Any) -> Iterable[bytes]:
        return [part.upper() for part in inner(environ, start_response)]

    app.wsgi_app = loud  # type: ignore[method-assign]
    assert body_of(app) == b"QUIET"


# Signals.


def test_signals_tell_of_each_render_and_a_broken_receiver_changes_nothing(
    make_app: MakeApp,
) -> None:
    app = make_app()
    page(app, lambda: "index")
    page(app, broken, "/broken")
    told: list[tuple[str, Any]] = []

    def started(sender: Flask, key: str, **extra: object) -> None:
        told.append(("started", key))
        raise RuntimeError("a broken receiver")

    def finished(sender: Flask, key: str, status: int, size: int, **extra: Any) -> None:
        assert 0 <= extra["duration"] < 60
        told.append(("finished", (key, status, size)))

    def failed(sender: Flask, key: str, error: Exception, **extra: Any) -> None:
        told.append(("failed", (key, str(error))))

    with (
        signals.render_started.connected_to(started, app),
        signals.render_finished.connected_to(finished, app),
        signals.render_failed.connected_to(failed, app),
    ):
        rendered(app)
        rendered(app, "/broken")
    assert told == [
        ("started", "/"),
        ("finished", ("/", 200, 5)),
        ("started", "/broken"),
        ("failed", ("/broken", "no such thing")),
    ]


# The reference renders by its test helper.


def test_no_test_client_is_used_in_production(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    page(app, lambda: "index")
    monkeypatch.setattr(Flask, "test_client", lambda *args, **options: pytest.fail("used"))
    monkeypatch.setattr(Flask, "test_request_context", lambda *args, **options: pytest.fail("used"))
    assert body_of(app) == b"index"
    assert generate(app).is_good
    for file in Path(flask_prerender.__file__).parent.rglob("*.py"):
        assert not re.search(r"test_client|flask\.testing|werkzeug\.test", file.read_text())
