"""A catch-all view that forwards to a real server: we are the shared cache before it (RFC 9111)."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from io import BytesIO

import pytest
from flask import Flask
from flask import render_template
from flask import request
from flask import Response
from flask import session
from flask.sessions import SecureCookieSession
from flask.sessions import SecureCookieSessionInterface
from jinja2 import DictLoader

from flask_prerender import Prerender
from flask_prerender.errors import MarkError
from flask_prerender.page import http_date
from flask_prerender.publish import publish
from flask_prerender.render import request_environ
from flask_prerender.signals import page_published

BODY = "".join(f"<p>Line {n} of a page that compresses well.</p>\n" for n in range(100))
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "OPTIONS"]
FORWARDED = ["Accept-Language", "Foo", "If-None-Match", "If-Modified-Since"]
HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}


def wait_until(is_so):
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Origin:
    """A server of its own that answers by plan, and remembers what it was asked.

    A path's plan is a list of answers ``(headers, status, body)``; the last one stays. ``None``
    closes the connection. With `validates`, a validator that it sent is answered with 304.
    """

    def __init__(self):
        self.plans = {}
        self.asked = []
        self.validates = True
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        origin = self

        class Asked(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self):
                size = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(size)
                planned, number = origin.next(self)
                origin.gate.wait(20)
                if planned is None:
                    self.close_connection = True
                    return
                headers, status, body = planned
                headers = dict(headers)
                body = body.encode()
                tag, changed = headers.get("ETag"), headers.get("Last-Modified")
                if origin.validates and self.command == "GET" and status == 200 and (
                    (tag and self.headers.get("If-None-Match") == tag)
                    or (not tag and changed and self.headers.get("If-Modified-Since") == changed)
                ):  # fmt: skip
                    status, body = 304, b""
                self.send_response_only(status)
                for name, value in headers.items():
                    for line in value if isinstance(value, list) else [value]:
                        self.send_header(name, line)
                self.send_header("X-Number", str(number))
                self.send_header("Content-Type", "text/html")
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

        setattr(Asked, "do_M-SEARCH", Asked.answer)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def next(self, asked):
        path = asked.path
        with self.lock:
            self.asked.append((asked.command, path, dict(asked.headers.items())))
            plan = self.plans.get(path) or self.plans.get("*") or [answer({})]
            number = sum(one == path for _, one, _ in self.asked)
            return plan[min(number, len(plan)) - 1], number

    def plan(self, *answers, path="*"):
        self.plans[path] = list(answers)

    @property
    def count(self):
        return len(self.asked)

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def answer(headers, status=200, body=BODY):
    return headers, status, body


def said(value, status=200, body=BODY, **more):
    headers = {name.replace("_", "-"): text for name, text in more.items()}
    return {"Cache-Control": value, **headers}, status, body


@pytest.fixture
def origin():
    origin = Origin()
    yield origin
    origin.close()


@pytest.fixture
def proxy(make_app, origin):
    def make(config=None, *, whole=False, **options):
        """Make an app whose view forwards the headers that we know of by name, or the whole of
        them."""
        app = make_app({"PRERENDER_WAIT": 30, **(config or {})})

        @app.route("/<path:path>", methods=METHODS)
        @app.prerender(**{"revalidate": "headers", "query": "*", **options})
        def forward(path):
            target = request.path
            if request.query_string:
                target += f"?{request.query_string.decode()}"
            names = request.headers.keys() if whole else FORWARDED
            headers = {n: request.headers[n] for n in names if n in request.headers}
            headers = {n: v for n, v in headers.items() if n.lower() not in HOP_BY_HOP}
            connection = HTTPConnection("127.0.0.1", origin.server.server_address[1], timeout=30)
            try:
                connection.request(request.method, target, request.get_data() or None, headers)
                got = connection.getresponse()
                body = got.read()
            except (OSError, HTTPException):
                return Response("no gateway", 502)
            finally:
                connection.close()
            response = Response(body, got.status)
            response.headers.clear()
            for name, value in got.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            return response

        return app

    return make


@pytest.fixture
def ask(wsgi_get):
    """Ask for a path, with a query, and with headers by keyword."""

    def ask(app, path="/a", method="GET", environ=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        return wsgi_get(app, path, headers=named, method=method, query=query, environ=environ)

    return ask


def is_from_store(answered):
    return answered.get("X-Prerendered") == "true"


def status_of(answered):
    return (answered.get("Cache-Status") or "").removeprefix("flask-prerender; ")


def keys(app):
    return sorted(page.key for page in app.extensions["prerender"].store.pages())


# Freshness.


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("max-age=60", 60), ("max-age=60, s-maxage=10", 10), ("max-age=1, s-maxage=10", 10)],
)
def test_a_page_is_used_while_its_headers_say_so(proxy, origin, ask, clock, value, seconds):
    origin.plan(said(value))
    app = proxy()
    assert ask(app).get("X-Number") == "1"
    clock.forward(seconds - 0.1)
    assert ask(app).get("X-Number") == "1"
    clock.forward(0.1)
    assert ask(app).get("X-Number") == "2"
    assert origin.count == 2


def test_expires_and_date_and_age_count(proxy, origin, ask, clock):
    now = clock()
    dates = {"Date": http_date(now - 5), "Expires": http_date(now + 55), "Age": "20"}
    origin.plan(answer(dates))
    app = proxy()
    first = ask(app)
    assert int(first.get("Age")) == 20
    assert first.get("Date") == http_date(now - 5)
    clock.forward(39)
    hit = ask(app)
    assert (hit.get("Age"), hit.get("Date"), hit.get("Expires")) == (
        "59", http_date(now - 5), http_date(now + 55)
    )  # fmt: skip
    clock.forward(1)
    ask(app)
    assert origin.count == 2


def test_a_page_that_is_too_old_already_is_not_used(proxy, origin, ask):
    origin.plan(said("max-age=60", Age="90"))
    app = proxy()
    assert [ask(app).get("X-Number") for _ in range(3)] == ["1", "2", "3"]
    assert keys(app) == []


def test_without_a_word_of_freshness_nothing_is_stored(proxy, origin, ask, clock):
    origin.plan(answer({"ETag": '"v1"', "Last-Modified": http_date(clock() - 1e6)}))
    app = proxy()
    answers = [ask(app) for _ in range(3)]
    assert [one.get("X-Number") for one in answers] == ["1", "2", "3"]
    assert status_of(answers[0]) == "fwd=uri-miss; detail=freshness"
    assert keys(app) == []


def test_cdn_cache_control_is_heard_first_and_passed_on(proxy, origin, ask, clock):
    origin.plan(said("max-age=9", CDN_Cache_Control="max-age=60"), path="/a")
    origin.plan(said("max-age=9", CDN_Cache_Control="max-age =60"), path="/b")
    origin.plan(said("no-store", CDN_Cache_Control="max-age=60"), path="/c")
    app = proxy()
    for path in ("/a", "/b", "/c"):
        ask(app, path)
    clock.forward(20)
    hits = {path: ask(app, path) for path in ("/a", "/b", "/c")}
    assert [hit.get("X-Number") for hit in hits.values()] == ["1", "2", "1"]
    assert hits["/a"].get("CDN-Cache-Control") == "max-age=60"
    assert hits["/c"].get("Cache-Control") == "no-store"


def test_a_view_may_say_less_than_its_headers(make_app, wsgi_get, clock):
    app = make_app()
    calls = []

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        calls.append(1)
        Prerender().revalidate_after(10)
        return Response(BODY, headers={"Cache-Control": "max-age=60"})

    wsgi_get(app)
    clock.forward(9)
    wsgi_get(app)
    assert len(calls) == 1
    clock.forward(1)
    wsgi_get(app)
    assert len(calls) == 2


# What is sent.


def test_the_views_headers_are_passed_on_as_they_are(proxy, origin, ask, clock):
    changed = http_date(clock() - 1000)
    own = {"ETag": '"v1"', "Last-Modified": changed, "Expires": http_date(clock() + 9),
           "Pragma": "x", "X-Own": "1", "Vary": "Accept-Encoding"}  # fmt: skip
    origin.plan(said("max-age=60", **own))
    app = proxy()
    for _ in range(2):
        got = ask(app)
        assert {name: got.get(name) for name in own} == own
        assert got.get("Cache-Control") == "max-age=60"
        assert got.body == BODY.encode()
    assert is_from_store(got)
    assert status_of(got) == "hit; ttl=60"


def test_without_own_validators_the_tag_is_ours_and_no_change_is_made_up(proxy, origin, ask):
    origin.plan(said("max-age=60"))
    got = ask(proxy())
    assert got.get("Last-Modified") is None
    assert got.get("ETag").startswith('"')


@pytest.mark.parametrize(("tag", "gzipped"), [('"v1"', '"v1-gz"'), ('W/"v1"', 'W/"v1-gz"')])
def test_each_variant_has_a_tag_of_its_own(proxy, origin, ask, tag, gzipped):
    origin.plan(said("max-age=60", ETag=tag))
    app = proxy()
    ask(app)
    got = ask(app, Accept_Encoding="gzip")
    assert (got.get("ETag"), got.get("Content-Encoding")) == (gzipped, "gzip")
    assert ask(app).get("ETag") == tag
    for known in (tag, gzipped, f'"x", {tag}', "*"):
        assert ask(app, If_None_Match=known).status == 304
    assert ask(app, If_None_Match='"v2"').status == 200
    assert origin.count == 1


def test_a_304_to_a_client_says_how_old_the_page_is(proxy, origin, ask, clock):
    origin.plan(said("max-age=60", ETag='"v1"', Vary="Foo"))
    app = proxy(vary=["Foo"])
    ask(app)
    clock.forward(7)
    got = ask(app, If_None_Match='"v1"')
    assert (got.status, got.body, got.get("Age"), got.get("ETag")) == (304, b"", "7", '"v1"')
    assert (got.get("Cache-Control"), got.get("Content-Type")) == ("max-age=60", None)
    assert got.get("Vary") == "Accept-Encoding, Foo"


def test_if_modified_since_is_compared_with_the_views_own_date(proxy, origin, ask, clock):
    changed = http_date(clock() - 1000)
    origin.plan(said("max-age=60", Last_Modified=changed), path="/a")
    made = http_date(clock() - 5)
    origin.plan(said("max-age=60", Date=made), path="/b")
    app = proxy()
    ask(app, "/a")
    ask(app, "/b")
    assert ask(app, "/a", If_Modified_Since=changed).status == 304
    assert ask(app, "/a", If_Modified_Since=http_date(clock() - 1001)).status == 200
    # Without Last-Modified, the moment it was made stands for it.
    assert ask(app, "/b", If_Modified_Since=made).status == 304
    assert ask(app, "/b", If_Modified_Since=http_date(clock() - 6)).status == 200
    assert ask(app, "/a", If_None_Match='"x"', If_Modified_Since=changed).status == 200


def test_parts_are_cut_from_the_stored_page(proxy, origin, ask):
    origin.plan(said("max-age=60", ETag='"v1"', body="0123456789"))
    app = proxy()
    ask(app)
    cases = {"bytes=0-1": b"01", "bytes=8-": b"89", "bytes=-1": b"9"}
    for wanted, body in cases.items():
        got = ask(app, Range=wanted)
        assert (got.status, got.body, got.get("Age")) == (206, body, "0")
    assert ask(app, Range="bytes=0-1", If_Range='"v1"').status == 206
    assert ask(app, Range="bytes=0-1", If_Range='"v2"').status == 200
    assert ask(app, Range="bytes=20-").status == 416
    assert origin.count == 1


def test_a_weak_tag_is_never_good_enough_for_a_part(proxy, origin, ask):
    origin.plan(said("max-age=60", ETag='W/"v1"', body="0123456789"))
    app = proxy()
    ask(app)
    assert ask(app, Range="bytes=0-1", If_Range='W/"v1"').status == 200


@pytest.mark.parametrize(
    ("changed", "named", "status"),
    [(-1000, -1000, 206), (-6, -6, 206), (-1000, -999, 200), (-5, -5, 200), (None, -5, 200)],
)
def test_a_date_names_a_part_only_where_it_was_sent_and_is_strong(
    proxy, origin, ask, clock, changed, named, status
):
    dates = {"Date": http_date(clock() - 5)}
    if changed is not None:
        dates["Last-Modified"] = http_date(clock() + changed)
    origin.plan(said("max-age=60", body="0123456789", **dates))
    app = proxy()
    ask(app)
    got = ask(app, Range="bytes=0-1", If_Range=http_date(clock() + named))
    assert (got.status, origin.count) == (status, 1)


def test_what_connection_names_is_not_stored(make_app, wsgi_get):
    app = make_app()

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        headers = {"Cache-Control": "max-age=60", "X-A": "1", "X-B": "2", "Connection": "x-a"}
        return Response(BODY, headers=headers)

    got = [wsgi_get(app), wsgi_get(app)][1]
    assert (got.get("X-A"), got.get("X-B"), got.get("Connection")) == (None, "2", None)


# Validation.


def test_the_stored_validators_are_offered_and_a_304_renews_the_page(proxy, origin, ask, clock):
    changed = http_date(clock() - 1000)
    own = {"ETag": '"v1"', "Last-Modified": changed}
    first, second = {**own, "X-Own": "1", "X-Old": "1"}, {**own, "X-Own": "2"}
    origin.plan(said("max-age=60", **first), said("max-age=30", **second))
    app = proxy()
    ask(app)
    clock.forward(60)
    got = ask(app, If_None_Match='"other"', If_Modified_Since=http_date(clock()), Range="bytes=0-")
    sent = origin.asked[1][2]
    assert (sent.get("If-None-Match"), sent.get("If-Modified-Since")) == ('"v1"', changed)
    assert "Range" not in sent
    assert got.status in (200, 206)
    assert got.body == BODY.encode()
    assert (got.get("X-Own"), got.get("X-Old"), got.get("Cache-Control")) == (
        "2",
        "1",
        "max-age=30",
    )
    assert status_of(got) == "fwd=stale; stored"
    clock.forward(29)
    hit = ask(app)
    assert (hit.get("X-Number"), hit.get("ETag"), hit.get("Age")) == ("2", '"v1"', "29")
    clock.forward(1)
    ask(app)
    assert origin.count == 3


def test_only_the_validators_that_the_view_sent_are_offered(proxy, origin, ask, clock):
    origin.plan(said("max-age=60"), path="/a")
    origin.plan(said("max-age=60", Last_Modified=http_date(clock() - 9)), path="/b")
    app = proxy()
    for path in ("/a", "/b"):
        ask(app, path)
    clock.forward(60)
    for path in ("/a", "/b"):
        ask(app, path)
    names = [{n for n in headers if n.startswith("If-")} for _, _, headers in origin.asked[2:]]
    assert names == [set(), {"If-Modified-Since"}]


def test_a_clients_validators_never_reach_a_render(proxy, origin, ask):
    origin.plan(said("max-age=60", ETag='"v1"'))
    app = proxy()
    got = ask(app, If_None_Match='"v1"', If_Modified_Since="Sun, 06 Nov 1994 08:49:37 GMT")
    assert got.status == 304
    assert not any(name.startswith("If-") for name in origin.asked[0][2])
    assert ask(app).body == BODY.encode()


def test_no_cache_is_validated_each_time(proxy, origin, ask):
    origin.plan(said("no-cache", ETag='"v1"'))
    app = proxy()
    answers = [ask(app) for _ in range(3)]
    assert [one.get("X-Number") for one in answers] == ["1", "2", "3"]
    assert [one.body for one in answers] == [BODY.encode()] * 3
    assert [headers.get("If-None-Match") for _, _, headers in origin.asked] == [
        None, '"v1"', '"v1"'
    ]  # fmt: skip


def test_a_purged_page_is_not_shown_to_its_view(proxy, origin, ask):
    origin.plan(said("max-age=60", ETag='"v1"'))
    app = proxy()
    ask(app)
    with app.app_context():
        Prerender().purge("/a")
    assert ask(app).get("X-Number") == "2"
    assert "If-None-Match" not in origin.asked[1][2]


def test_a_new_tag_for_the_same_bytes_is_sent(make_app, wsgi_get, clock):
    app = make_app()
    tags = ['"v1"']

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        return Response(BODY, headers={"ETag": tags[0], "Cache-Control": "max-age=60"})

    wsgi_get(app)
    tags[0] = '"v2"'
    clock.forward(60)
    assert [wsgi_get(app).get("ETag") for _ in range(2)] == ['"v2"', '"v2"']


def test_a_304_for_another_tag_renews_nothing(make_app, wsgi_get, clock):
    app = make_app()
    asked = []

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        tag = request.headers.get("If-None-Match")
        asked.append(tag)
        if tag:
            return Response(status=304, headers={"ETag": '"v2"', "Cache-Control": "max-age=60"})
        body = f"<p>{len(asked)}</p>"
        return Response(body, headers={"ETag": '"v1"', "Cache-Control": "max-age=60"})

    wsgi_get(app)
    clock.forward(60)
    assert wsgi_get(app).body == b"<p>3</p>"
    assert asked == [None, '"v1"', None]


class Bare(Response):
    """A response whose 304 has all the headers that the view gave it."""

    def get_wsgi_headers(self, environ):
        return self.headers


def test_a_304_for_another_change_renews_nothing(make_app, wsgi_get, clock):
    app = make_app()
    asked = []

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        since = request.headers.get("If-Modified-Since")
        asked.append(since)
        headers = {"Cache-Control": "max-age=60", "Last-Modified": http_date(clock() - 50)}
        if since:
            return Bare(status=304, headers=headers)
        return Response(f"<p>{len(asked)}</p>", headers=headers)

    wsgi_get(app)
    first = http_date(clock() - 50)
    clock.forward(60)
    assert wsgi_get(app).body == b"<p>3</p>"
    assert asked == [None, first, None]


def test_what_connection_names_in_a_304_is_not_stored_either(make_app, wsgi_get, clock):
    app = make_app()

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        own = {"ETag": '"v1"', "Cache-Control": "max-age=60"}
        if not request.if_none_match:
            return Response(BODY, headers={**own, "X-A": "1", "X-B": "1"})
        more = {"X-A": "2", "X-B": "2", "X-C": "2", "Connection": "X-A, x-c"}
        return Response(status=304, headers={**own, **more})

    wsgi_get(app)
    clock.forward(60)
    for _ in range(2):
        got = wsgi_get(app)
        assert [got.get(f"X-{name}") for name in "ABC"] == ["1", "2", None]


def test_a_page_that_a_304_renewed_is_taken_back_by_what_its_body_was_made_of(
    make_app, wsgi_get, clock
):
    app = make_app()
    app.jinja_loader = DictLoader({"page.html": "<p>Hello</p>"})

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        own = {"ETag": '"v1"', "Cache-Control": "max-age=60"}
        if request.if_none_match:
            return Response(status=304, headers=own)
        Prerender().add_tags("product")
        return Response(render_template("page.html"), headers=own)

    wsgi_get(app)
    clock.forward(60)
    wsgi_get(app)
    (page,) = app.extensions["prerender"].store.pages()
    assert (page.checked_at, page.tags, page.templates) == (clock(), ("product",), ("page.html",))


def test_a_304_that_nobody_asked_for_is_not_stored(make_app, wsgi_get):
    app = make_app()

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        return Response(status=304, headers={"Cache-Control": "max-age=60"})

    wsgi_get(app)
    assert keys(app) == []


def test_a_new_body_replaces_the_old_one(proxy, origin, ask, clock):
    origin.plan(said("max-age=60", ETag='"v1"'), said("max-age=60", ETag='"v2"', body="new"))
    app = proxy()
    ask(app)
    clock.forward(60)
    assert ask(app).body == b"new"
    assert (ask(app).get("ETag"), origin.count) == ('"v2"', 2)


@pytest.mark.parametrize("value", ["no-store", "private", "max-age=0", "no-cache"])
def test_a_page_that_may_not_be_stored_any_more_is_gone(proxy, origin, ask, clock, value):
    origin.plan(said("max-age=60, stale-if-error=600"), said(value, body="mine"))
    app = proxy()
    ask(app)
    clock.forward(60)
    assert ask(app).body == b"mine"
    assert keys(app) == []


def test_a_build_is_told_by_the_view_as_well(proxy, origin, ask, clock):
    origin.plan(said("max-age=60", ETag='"v1"'))
    app = proxy()
    ask(app)
    site = app.extensions["prerender"]
    target = site.routes.match(request_environ(site, "/a"), "/a")
    changes = []

    def note(app, changed, **extra):
        changes.append(changed)

    with page_published.connected_to(note, app):
        assert publish(site, target, origin="build").result == "published"  # X-Number moved
        clock.forward(59)
    assert (changes, origin.asked[1][2].get("If-None-Match")) == ([True], '"v1"')
    assert ask(app).get("X-Number") == "2"


# After its life.


def test_a_stale_page_waits_for_one_render(proxy, origin, ask, clock):
    origin.plan(said("max-age=60"))
    app = proxy()
    ask(app)
    clock.forward(60)
    origin.gate.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, app) for _ in range(8)]
        wait_until(lambda: origin.count == 2)
        origin.gate.set()
        numbers = {one.result().get("X-Number") for one in asked}
    assert numbers == {"2"}
    assert origin.count == 2


def test_stale_while_revalidate_is_served_at_once_and_made_new(proxy, origin, ask, clock):
    origin.plan(said("max-age=60, stale-while-revalidate=30"))
    app = proxy({"PRERENDER_REGENERATE": "inline"})
    ask(app)
    clock.forward(89)
    stale = ask(app)
    assert (stale.get("X-Number"), stale.get("Age"), status_of(stale)) == (
        "1",
        "89",
        "hit; ttl=-29",
    )
    assert ask(app).get("X-Number") == "2"
    clock.forward(90)
    assert ask(app).get("X-Number") == "3"


def test_a_page_from_the_future_is_stale_and_served_only_where_it_may_be(proxy, origin, ask, clock):
    origin.plan(said("max-age=60"), path="/a")
    origin.plan(said("max-age=60, stale-while-revalidate=30"), path="/b")
    app = proxy({"PRERENDER_REGENERATE": "off"})
    for path in ("/a", "/b"):
        ask(app, path)
    clock.forward(-3600)
    assert ask(app, "/b").get("X-Number") == "1"
    assert ask(app, "/b", Cache_Control="max-stale").get("Age") == "0"
    assert ask(app, "/a", Cache_Control="max-stale").get("X-Number") == "2"
    clock.forward(-3600)
    assert ask(app, "/a").get("X-Number") == "3"


@pytest.mark.parametrize(
    "forbidden", ["", ", must-revalidate", ", proxy-revalidate", ", no-cache", ", s-maxage=60"]
)
def test_an_error_is_passed_on_where_the_page_may_not_be_served(
    proxy, origin, ask, clock, forbidden
):
    window = "" if "s-maxage" in forbidden or not forbidden else ", stale-if-error=600"
    origin.plan(said(f"max-age=60{window}{forbidden}", ETag='"v1"'), None)
    app = proxy()
    ask(app)
    clock.forward(60)
    got = ask(app)
    assert (got.status, got.body) == (502, b"no gateway")
    assert keys(app) == ["/a"]


@pytest.mark.parametrize("failure", [None, answer({}, 503, "down"), answer({}, 500, "down")])
def test_stale_if_error_is_served_for_as_long_as_it_says(proxy, origin, ask, clock, failure):
    origin.plan(said("max-age=60, stale-if-error=30"), failure)
    app = proxy({"PRERENDER_STALE_IF_ERROR": 100_000})
    ask(app)
    clock.forward(80)
    got = ask(app)
    assert (got.status, got.body, got.get("Age")) == (200, BODY.encode(), "80")
    assert status_of(got) == f"fwd=stale; fwd-status={failure[1] if failure else 502}"
    clock.forward(10)
    assert ask(app).status >= 500


def test_a_page_comes_back_when_the_error_is_over(proxy, origin, ask, clock):
    origin.plan(said("max-age=60, stale-if-error=600"), None, said("max-age=60", body="new"))
    app = proxy()
    ask(app)
    clock.forward(60)
    assert ask(app).body == BODY.encode()
    clock.forward(4)
    assert ask(app).body == b"new"


# Statuses.


@pytest.mark.parametrize("status", [200, 203, 300, 301, 308, 404, 410])
def test_these_statuses_are_stored_with_explicit_freshness(proxy, origin, ask, clock, status):
    origin.plan(said("max-age=60", status, Location="/b"))
    app = proxy()
    for _ in range(2):
        got = ask(app)
        assert (got.status, got.body) == (status, BODY.encode())
    assert origin.count == 1
    clock.forward(60)
    ask(app)
    assert origin.count == 2


@pytest.mark.parametrize("status", [203, 300, 301, 308, 404, 410])
def test_and_not_without(proxy, origin, ask, clock, status):
    origin.plan(answer({"Last-Modified": http_date(clock() - 10_000)}, status))
    app = proxy()
    assert [ask(app).status for _ in range(2)] == [status] * 2
    assert (origin.count, keys(app)) == (2, [])


@pytest.mark.parametrize(
    "status", [201, 202, 206, 299, 302, 303, 307, 400, 401, 403, 405, 429, 500, 502, 503, 504, 599]
)
def test_other_statuses_are_passed_on_and_never_stored(proxy, origin, ask, status):
    origin.plan(said("max-age=60", status, body="x"))
    app = proxy()
    assert [ask(app).status for _ in range(2)] == [status] * 2
    assert keys(app) == []


# Asked once for what is not stored.


@pytest.mark.parametrize(
    "planned",
    [said("no-store"), said("max-age=0"), answer({}), answer({}, 404), answer({}, 500, "no")],
)
def test_what_was_rendered_and_not_stored_is_handed_over(proxy, origin, ask, planned):
    origin.plan(planned)
    app = proxy()
    got = ask(app)
    assert (got.status, got.body, got.get("X-Number")) == (planned[1], planned[2].encode(), "1")
    assert got.get("Content-Length") == str(len(planned[2]))
    assert not is_from_store(got)
    assert origin.count == 1


@pytest.mark.parametrize(
    ("planned", "headers"),
    [
        (said("private"), {}),
        (said("no-store", Set_Cookie="a=b"), {}),
        (said("no-store", Vary="X-Other"), {}),
        (said("no-store", Vary="*"), {}),
        (answer({"Vary": "X-Other"}, 404), {}),
        (answer({"Set-Cookie": "a=b"}, 404), {}),
        (said("no-store"), {"Cookie": "a=b"}),
    ],
)
def test_what_may_differ_for_a_visitor_comes_from_the_view(proxy, origin, ask, planned, headers):
    origin.plan(planned)
    app = proxy(whole=True)
    got = ask(app, X_Mine="1", **headers)
    assert got.get("X-Number") == "2"
    assert [asked[2].get("X-Mine") for asked in origin.asked] == [None, "1"]


@pytest.mark.parametrize(
    "planned", [said("private"), said("max-age=60", Vary="*"), said("no-store", Vary="X-Other")]
)
def test_a_view_that_looks_at_nobody_is_asked_once_whatever_it_says(proxy, origin, ask, planned):
    origin.plan(planned)
    app = proxy()
    assert [ask(app, X_Mine="1").get("X-Number") for _ in range(2)] == ["1", "2"]
    assert keys(app) == []


@pytest.mark.parametrize(
    ("planned", "headers"),
    [
        (said("no-store", Set_Cookie="a=b"), {}),
        (answer({"Set-Cookie": "a=b"}, 401), {}),
        (said("no-store"), {"Cookie": "a=b"}),
    ],
)
def test_a_cookie_makes_the_view_be_asked_itself(proxy, origin, ask, planned, headers):
    origin.plan(planned)
    assert ask(proxy(), **headers).get("X-Number") == "2"


LOOKS = {
    "a header": lambda: request.headers.get("X-Key", ""),
    "all headers": lambda: "".join(value for name, value in request.headers if name == "X-Key"),
    "the lines of a header": lambda: "".join(request.headers.getlist("X-Key")),
    "the user agent": lambda: request.user_agent.string,
    "the languages": lambda: request.accept_languages.best or "",
    "the address": lambda: request.remote_addr or "",
    "the addresses": lambda: "".join(request.access_route),
    "the host": lambda: request.host,
    "the environ": lambda: request.environ.get("HTTP_X_KEY", ""),
    "its own state": lambda: "" if Prerender().is_rendering else "no render",
    "the user": lambda: request.remote_user or "",
    "the scheme": lambda: request.scheme.replace("http", "", 1),
    "the whole URL": lambda: request.full_path.partition("?")[2],
    "an undeclared parameter": lambda: request.args.get("utm_source", ""),
    "a body": lambda: request.get_data(as_text=True),
}
UNHEARD = {
    "the address": {"REMOTE_ADDR": "192.0.2.1"}, "the addresses": {"REMOTE_ADDR": "192.0.2.1"},
    "the user": {"REMOTE_USER": "mine"}, "the scheme": {"wsgi.url_scheme": "https"},
    "the whole URL": {"QUERY_STRING": "utm_source=mine"},
    "an undeclared parameter": {"QUERY_STRING": "utm_source=mine"},
    "a body": {"CONTENT_LENGTH": "4"},
}  # fmt: skip
MINE = {"X-Key": "mine", "User-Agent": "mine", "Accept-Language": "mine", "Host": "mine.example"}


@pytest.mark.parametrize("what", LOOKS)
@pytest.mark.parametrize("status", [200, 401])
def test_whoever_a_view_looks_at_gets_its_own_answer(make_app, wsgi_get, what, status):
    """A visitor with a key must not be told what one without is told."""
    app = make_app()
    seen = []

    @app.route("/")
    @app.prerender(revalidate="headers")
    def index():
        seen.append(LOOKS[what]())
        return Response(seen[-1] or "nobody", status, {"Cache-Control": "no-store"})

    environ = {"wsgi.input": BytesIO(b"mine"), **UNHEARD.get(what, {})}
    got = wsgi_get(app, headers=MINE, environ=environ)
    assert len(seen) == 2
    assert seen[0] != seen[1]
    assert got.body.decode() == seen[1]


def test_a_view_that_looks_at_what_all_have_is_asked_once(make_app, wsgi_get):
    app = make_app()
    calls = []

    @app.route("/")
    @app.prerender(revalidate="headers", vary={"Accept-Language": ["en", "mine"]})
    def index():
        calls.append(request.headers.get("X-Key", ""))
        text = request.accept_languages.best_match(["en", "mine"])
        return Response(f"{request.host} {text}", headers={"Cache-Control": "no-store"})

    got = wsgi_get(app, headers={"Accept-Language": "mine;q=0.9, fr", "User-Agent": "mine"})
    assert (got.body, calls) == (b"localhost mine", [""])


def test_the_validators_that_a_view_looks_at_are_ours(proxy, origin, ask, clock):
    origin.plan(said("max-age=60", ETag='"v1"'), said("no-store", body="new"))
    app = proxy()
    ask(app)
    clock.forward(60)
    assert ask(app, If_None_Match='"v0"').get("X-Number") == "2"
    assert origin.asked[1][2].get("If-None-Match") == '"v1"'


def test_what_a_middleware_answers_is_asked_again(make_app, wsgi_get):
    app = make_app()
    app.add_url_rule("/", "index", app.prerender(revalidate="headers")(lambda: "inside"))
    inner = app.wsgi_app

    def guarded(environ, start_response):
        if environ.get("HTTP_X_KEY") == "mine":
            return inner(environ, start_response)
        start_response("401 UNAUTHORIZED", [("Content-Type", "text/plain")])
        return [b"no key"]

    app.wsgi_app = guarded
    assert wsgi_get(app, headers=MINE).body == b"inside"


def test_a_session_makes_the_view_be_asked_itself(make_app, wsgi_get):
    """Also one that comes from another header than ``Cookie``."""

    class Sessions(SecureCookieSessionInterface):
        def open_session(self, app, request):
            return SecureCookieSession({"user": request.headers.get("X-Key", "nobody")})

        def save_session(self, app, session, response):
            pass

    app = make_app()
    app.session_interface = Sessions()
    view = app.prerender(revalidate="headers")(lambda: (session["user"], 401))
    app.add_url_rule("/", "index", view)
    assert wsgi_get(app, headers=MINE).body == b"mine"


def test_a_head_of_what_was_not_stored_has_no_body(proxy, origin, ask):
    origin.plan(said("no-store"))
    got = ask(proxy(), method="HEAD")
    assert (got.body, got.get("Content-Length")) == (b"", str(len(BODY)))


def test_only_the_first_of_those_who_wait_gets_it(proxy, origin, ask):
    origin.plan(said("no-store"))
    app = proxy()
    origin.gate.clear()
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, app) for _ in range(6)]
        wait_until(lambda: origin.count == 1)
        origin.gate.set()
        numbers = sorted(int(one.result().get("X-Number")) for one in asked)
    assert numbers == [1, 2, 3, 4, 5, 6]


# What a request may ask for.


def test_a_client_may_ask_for_a_newer_one(proxy, origin, ask, clock):
    origin.plan(said("max-age=60", ETag='"v1"', Age="5"))
    app = proxy()
    ask(app)
    clock.forward(10)
    # What the renders took is a part of the age.
    cases = [("max-age=16", "1"), ("min-fresh=44", "1"), ("max-age=15", "2"), ("min-fresh=56", "3"),
             ("no-cache", "4"), ("max-age=0", "5"), ("nonsense, no-nonsense=1", "5")]  # fmt: skip
    for wish, number in cases:
        got = ask(app, Cache_Control=wish)
        assert (wish, got.get("X-Number"), got.status) == (wish, number, 200)
    assert origin.asked[-1][2].get("If-None-Match") == '"v1"'


def test_a_client_may_take_a_stale_one(proxy, origin, ask, clock):
    origin.plan(said("max-age=60"), path="/a")
    origin.plan(said("max-age=60, must-revalidate"), path="/b")
    origin.plan(said("s-maxage=60"), path="/c")
    app = proxy()
    for path in ("/a", "/b", "/c"):
        ask(app, path)
    clock.forward(100)
    assert ask(app, "/a", Cache_Control="max-stale=41").get("Age") == "100"
    assert ask(app, "/a", Cache_Control="max-stale").get("X-Number") == "1"
    for path in ("/a", "/b", "/c"):
        wish = "max-stale=39" if path == "/a" else "max-stale=1000"
        assert ask(app, path, Cache_Control=wish).get("X-Number") == "2"


def test_a_client_with_a_limit_wants_nothing_stale(proxy, origin, ask, clock):
    """RFC 9111, section 5.2.1.1: whatever the response allows."""
    origin.plan(said("max-age=60, stale-while-revalidate=600"))
    app = proxy({"PRERENDER_REGENERATE": "off"})
    ask(app)
    clock.forward(100)
    for wish in ("max-stale", "max-age=1000, max-stale=41", "nonsense"):
        assert ask(app, Cache_Control=wish).get("X-Number") == "1"
    assert ask(app, Cache_Control="max-age=1000, max-stale=39").get("X-Number") == "2"
    clock.forward(100)
    assert ask(app, Cache_Control="max-age=1000").get("X-Number") == "3"


def test_a_client_may_want_nothing_but_what_is_stored(proxy, origin, ask):
    origin.plan(said("max-age=60"))
    app = proxy()
    got = ask(app, Cache_Control="only-if-cached")
    assert (got.status, got.body, origin.count) == (504, b"", 0)
    assert ask(app, Cache_Control="no-store, only-if-cached").status == 504
    ask(app)
    assert ask(app, Cache_Control="only-if-cached").status == 200
    assert origin.count == 1


def test_a_client_may_want_to_leave_no_trace(proxy, origin, ask):
    origin.plan(said("max-age=60"))
    app = proxy()
    got = ask(app, Cache_Control="no-store")
    assert (got.get("X-Number"), keys(app)) == ("1", [])
    assert status_of(got) == "fwd=request; detail=no-store"


def test_in_interval_mode_a_client_asks_for_nothing(proxy, origin, ask):
    origin.plan(said("max-age=60"))
    app = proxy(revalidate=60)
    for wish in ("no-cache", "no-store", "max-age=0", "only-if-cached"):
        assert ask(app, Cache_Control=wish).get("X-Number") == "1"


# Who is signed in.


@pytest.mark.parametrize(
    ("value", "number"),
    [("max-age=60", "2"), ("max-age=60, public", "1"), ("s-maxage=60", "1"),
     ("max-age=60, must-revalidate", "1")],
)  # fmt: skip
def test_who_is_signed_in_gets_what_is_declared_to_be_for_all(proxy, origin, ask, value, number):
    origin.plan(said(value))
    app = proxy()
    ask(app)
    assert ask(app, Authorization="Basic x").get("X-Number") == number
    assert ask(app).get("X-Number") == "1"


@pytest.mark.parametrize("value", ["max-age=60", "max-age=60, public"])
def test_an_answer_to_who_is_signed_in_is_never_stored(proxy, origin, ask, value):
    origin.plan(said(value))
    app = proxy(whole=True)
    got = ask(app, Authorization="Basic x")
    assert (origin.asked[0][2].get("Authorization"), keys(app)) == ("Basic x", [])
    assert status_of(got) == "fwd=bypass; detail=authorization"
    ask(app)
    assert "Authorization" not in origin.asked[1][2]


# Keys.


def test_the_whole_query_is_part_of_the_url(proxy, origin, ask):
    origin.plan(said("max-age=60"))
    app = proxy()
    for path in ("/a?x=1", "/a?x=2", "/a", "/a?x=1&y=", "/a?utm_source=z"):
        for _ in range(2):
            assert ask(app, path).get("X-Number") == "1"
    asked = [path for _, path, _ in origin.asked]
    assert asked == ["/a?x=1", "/a?x=2", "/a", "/a?x=1&y=", "/a?utm_source=z"]


@pytest.mark.parametrize("query", ["wsdl", "q=%E9", "a=1&b", "q=%ff%fe"])
def test_a_query_that_a_key_cannot_say_again_is_never_stored(proxy, origin, ask, query):
    origin.plan(said("max-age=60"))
    app = proxy()
    for number in ("1", "2"):
        got = ask(app, f"/a?{query}")
        assert (got.get("X-Number"), status_of(got)) == (number, "fwd=bypass; detail=query")
    assert {path for _, path, _ in origin.asked} == {f"/a?{query}"}
    assert keys(app) == []


@pytest.mark.parametrize("query", ["q=%C3%A9", "q=a+b", "q=", "&q=1&", "=1"])
def test_any_other_query_is(proxy, origin, ask, query):
    origin.plan(said("max-age=60"))
    app = proxy()
    assert [ask(app, f"/a?{query}").get("X-Number") for _ in range(2)] == ["1", "1"]


def test_a_declared_header_chooses_the_page(proxy, origin, ask):
    origin.plan(said("max-age=60", Vary="Accept-Language"))
    app = proxy(vary={"Accept-Language": ["en", "de"]})
    numbers = [
        ask(app, Accept_Language=language).get("X-Number")
        for language in ("de-AT, de;q=0.9", "de", "en;q=0.1, de", "fr", "", "en-US")
    ]
    assert numbers == ["1", "1", "1", "2", "2", "2"]
    assert [headers["Accept-Language"] for _, _, headers in origin.asked] == ["de", "en"]
    assert ask(app, Accept_Language="de").get("Vary") == "Accept-Encoding, Accept-Language"


def test_10_000_values_make_so_many_variants(proxy, origin, ask):
    origin.plan(said("max-age=60", Vary="Foo", body="x"))
    app = proxy(vary=["Foo"])
    for number in range(40):
        assert ask(app, Foo=str(number)).status == 200
    assert len(keys(app)) == 16
    assert ask(app, Foo="3").get("X-Number") == "4"
    assert origin.count == 40
    admits = (
        app.view_functions and app.before_request_funcs[None][0].__self__.wanted.admission.admits
    )
    assert sum(admits("/a", f"foo={number}") for number in range(10_000)) == 16


def test_an_undeclared_header_in_vary_is_not_stored(proxy, origin, ask):
    origin.plan(said("max-age=60", Vary="Foo, Bar"))
    app = proxy(vary=["Foo"])
    ask(app, Foo="1")
    assert keys(app) == []


def test_no_value_crosses_to_another(proxy, ask, make_app, wsgi_get):
    app = make_app()
    names = ("A", "B", "C")

    @app.route("/page")
    @app.prerender(revalidate="headers", vary={name: ["0", "1", "2"] for name in names})
    def page():
        text = "".join(request.headers[name] for name in names)
        return Response(text, headers={"Cache-Control": "max-age=60", "Vary": ", ".join(names)})

    for _ in range(2):
        for number in range(27):
            values = [str(number // 9), str(number // 3 % 3), str(number % 3)]
            got = wsgi_get(app, "/page", headers=dict(zip(names, values, strict=True)))
            assert got.body.decode() == "".join(values)
    assert len(keys(app)) == 27


def test_a_build_makes_every_known_variant(make_app, wsgi_get):
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    calls = []

    @app.route("/page")
    @app.prerender(vary={"Accept-Language": ["en", "de"]})
    def page():
        calls.append(request.headers["Accept-Language"])
        return request.headers["Accept-Language"]

    app.test_cli_runner().invoke(args=["prerender"])
    assert sorted(calls) == ["de", "en"]
    for language, text in (("de", b"de"), ("fr", b"en")):
        got = wsgi_get(app, "/page", headers={"Accept-Language": language})
        assert (got.body, got.get("Vary")) == (text, "Accept-Encoding, Accept-Language")
    assert sorted(calls) == ["de", "en"]
    sitemap = app.extensions["prerender"].public / "sitemap.xml"
    assert sitemap.read_text().count("<loc>") == 1
    assert "#" not in sitemap.read_text()


def test_a_path_means_all_its_variants_when_it_is_taken_back_or_made_new(make_app, wsgi_get):
    app = make_app({"PRERENDER_REGENERATE": "off"})
    calls = []

    @app.route("/page")
    @app.prerender(vary={"Accept-Language": ["en", "de"]})
    def page():
        calls.append(request.headers["Accept-Language"])
        return f"{len(calls)}"

    with app.app_context():
        prerender = Prerender()
        made = prerender.refresh("/page")
        assert [outcome.result for outcome in made] == ["published", "published"]
        assert prerender.refresh("/nothing")[0].reason == "route"
        taken = prerender.purge("/page")
    assert taken.affected == ["/page?#accept-language=en", "/page?#accept-language=de"]
    for language, text in (("de", b"3"), ("en", b"4")):
        assert wsgi_get(app, "/page", headers={"Accept-Language": language}).body == text


@pytest.mark.parametrize(("fallback", "status"), [("pass", 200), ("404", 404)])
def test_a_page_that_is_not_stored_is_the_fallbacks_business(
    proxy, origin, ask, clock, fallback, status
):
    origin.plan(said("max-age=60", ETag='"v1"'))
    app = proxy(fallback=fallback)
    assert ask(app).status == status
    assert keys(app) == []
    site = app.extensions["prerender"]
    target = site.routes.match(request_environ(site, "/a"), "/a")
    publish(site, target, origin="build")
    before = origin.count
    assert (ask(app).status, origin.count) == (200, before)
    clock.forward(60)
    assert (ask(app).status, origin.count) == (200, before + 1)
    assert status_of(ask(app)) == "hit; ttl=60"


def test_the_list_of_routes_says_whose_headers_decide(proxy):
    shown = proxy().test_cli_runner().invoke(args=["prerender", "routes"]).output
    assert "fresh as its headers say" in shown


# Changed by another method.


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize(("status", "number"), [(200, "3"), (204, "3"), (303, "3"), (404, "1"),
                                                (500, "1")])  # fmt: skip
def test_what_was_changed_is_not_used_again_unvalidated(proxy, origin, ask, method, status, number):
    origin.plan(said("max-age=60, stale-while-revalidate=600, stale-if-error=600", ETag='"v1"'),
                answer({}, status, ""), said("max-age=60", body="new"))  # fmt: skip
    app = proxy()
    ask(app)
    assert ask(app, method=method).status == status
    assert ask(app).get("X-Number") == number


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET"])
def test_a_safe_method_changes_nothing(proxy, origin, ask, method):
    origin.plan(said("max-age=60"))
    app = proxy()
    ask(app)
    ask(app, method=method)
    assert ask(app).get("X-Number") == "1"


def test_a_changed_page_is_not_served_even_if_its_view_fails(proxy, origin, ask):
    origin.plan(said("max-age=60, stale-if-error=600"), answer({}), None)
    app = proxy()
    ask(app)
    ask(app, method="POST")
    assert ask(app).status == 502
    assert ask(app, Cache_Control="max-stale").status == 502


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("value", "number"),
    [("/b", "2"), ("b?x=1", "2"), ("http://localhost/b", "2"), ("http://LOCALHOST:80/b", "2"),
     ("http://localhost:8080/b", "1"), ("http://other.example/b", "1"),
     ("https://localhost/b", "1"), ("//other.example/b", "1"), ("/c", "1")],
)  # fmt: skip
def test_what_the_answer_names_goes_with_it(proxy, origin, ask, name, value, number):
    origin.plan(said("max-age=60"), path="/b")
    origin.plan(answer({name: value}, 201, "ok"), path="/a")
    app = proxy()
    ask(app, "/b")
    assert ask(app, "/a", method="POST").status == 201
    assert ask(app, "/b").get("X-Number") == number


@pytest.mark.parametrize(("value", "number"), [("/app/b", "2"), ("b", "2"), ("/b", "1")])
def test_what_the_answer_names_is_below_the_mount(proxy, origin, ask, value, number):
    origin.plan(said("max-age=60"), path="/b")
    origin.plan(answer({"Location": value}, 201, "ok"), path="/a")
    app = proxy({"PRERENDER_BASE_URL": "http://localhost/app"})
    mounted = {"SCRIPT_NAME": "/app"}
    ask(app, "/b", environ=mounted)
    ask(app, "/a", method="POST", environ=mounted)
    assert ask(app, "/b", environ=mounted).get("X-Number") == number


def test_in_interval_mode_a_changed_page_is_stale_and_nothing_else(proxy, origin, ask):
    origin.plan(answer({"Location": "/b"}, 200))
    app = proxy({"PRERENDER_REGENERATE": "off"}, revalidate=600)
    ask(app, "/a")
    ask(app, "/b")
    assert "ttl=0" not in status_of(ask(app, "/a"))
    ask(app, "/a?x=1", method="POST")
    assert (ask(app, "/a").get("X-Number"), status_of(ask(app, "/a"))) == ("1", "hit; ttl=0")
    assert "ttl=0" not in status_of(ask(app, "/b"))


def test_a_change_on_a_path_of_nobodys_mark_takes_nothing_back(make_app, wsgi_get):
    app = make_app()
    app.add_url_rule("/plain", "plain", lambda: "x", methods=["GET", "POST"])
    site = app.extensions["prerender"]
    before = site.coordination.revision()
    assert wsgi_get(app, "/plain", method="POST").status == 200
    assert site.coordination.revision() == before


def test_a_change_behind_another_view_of_the_path_counts(make_app, wsgi_get):
    app = make_app({"PRERENDER_REGENERATE": "off"})
    notes = ["one"]

    @app.get("/notes")
    @app.prerender
    def show():
        return "".join(notes)

    @app.post("/notes")
    def add():
        notes.append("two")
        return "", 303, {"Location": "/notes"}

    wsgi_get(app, "/notes")
    wsgi_get(app, "/notes", method="POST")
    page = app.extensions["prerender"].store.get("/notes")
    app.extensions["prerender"].revocations.follow()
    assert app.extensions["prerender"].revocations.of(page) == "soft"


@pytest.mark.parametrize("asked", ["/notes", "/notes/"])
@pytest.mark.parametrize("changed", ["/notes", "/notes/"])
def test_a_change_counts_for_both_spellings_of_a_url(make_app, wsgi_get, asked, changed):
    app = make_app({"PRERENDER_REGENERATE": "off"})
    view = app.prerender(lambda: request.method)
    app.add_url_rule("/notes/", "notes", view, methods=["GET", "POST"], strict_slashes=False)
    wsgi_get(app, asked)
    assert status_of(wsgi_get(app, asked)) == "hit"
    wsgi_get(app, changed, method="POST")
    site = app.extensions["prerender"]
    (page,) = site.store.pages()
    site.revocations.follow()
    assert site.revocations.of(page) == "soft"


def test_a_host_is_changed_alone(tmp_path, wsgi_get, clock):
    app = Flask("site", host_matching=True, static_host="s", instance_path=str(tmp_path))
    app.config["PRERENDER_REGENERATE"] = "off"
    Prerender(app, clock=clock)
    view = app.prerender(lambda: request.host)
    for number, host in enumerate(("a.example", "b.example")):
        app.add_url_rule("/", str(number), view, host=host, methods=["GET", "POST"])
    site = app.extensions["prerender"]
    for host in ("a.example", "b.example"):
        wsgi_get(app, "/", headers={"Host": host})
    wsgi_get(app, "/", headers={"Host": "a.example"}, method="POST")
    site.revocations.follow()
    taken = {page.key: site.revocations.of(page) for page in site.store.pages()}
    assert taken == {"//a.example/": "soft", "//b.example/": ""}
    site.close()


# Options.


def test_a_mark_says_what_is_wrong_with_its_headers(make_app):
    app = make_app()
    wrong = [{"revalidate": "header"}, {"vary": "Foo"}, {"vary": ["Cookie"]}, {"vary": ["a b"]}]
    wrong += [{"vary": {"A": []}}, {"query": "page"}, {"revalidate": "headers", "expire": 60}]
    for options in wrong:
        with pytest.raises(MarkError):
            app.prerender(**options)


def test_expire_says_nothing_where_headers_do(proxy, origin, ask, clock):
    origin.plan(said("max-age=60"))
    app = proxy({"PRERENDER_EXPIRE": 10, "PRERENDER_REVALIDATE": 5})
    ask(app)
    clock.forward(59)
    assert ask(app).get("X-Number") == "1"
