"""Which requests a stored page answers, and with which headers."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from flask import abort
from flask import redirect
from flask import request
from flask import Response
from flask import url_for
from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_prerender import Prerender
from flask_prerender.page import http_date
from flask_prerender.publish import publish
from flask_prerender.signals import page_served
from flask_prerender.stores.memory import MemoryStore

BODY = "".join(f"<p>Line {n} of a page that compresses well.</p>\n" for n in range(100))
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def add(app, rule, body=BODY, **options):
    """Add a marked route, and return the list in which it notes whether a render asked."""
    calls = []
    endpoint = f"view_{len(app.view_functions)}"

    def view(**values):
        calls.append(request.environ.get("flask_prerender.render") is not None)
        return body(**values) if callable(body) else body

    app.add_url_rule(rule, endpoint, app.prerender(**options)(view), methods=["GET", "POST"])
    return calls


def keys(app):
    return [page.key for page in app.extensions["prerender"].store.pages()]


def is_stored_answer(answer):
    return answer.get("X-Prerendered") == "true"


# What is a hit.


@pytest.mark.parametrize("path", ["/", "/about", "/docs/terms", "/deep/er/and/deeper"])
@pytest.mark.parametrize("style", ["dir_index", "file"])
def test_a_stored_page_answers_without_the_view(make_app, wsgi_get, path, style):
    app = make_app({"PRERENDER_STYLE": style})
    calls = add(app, path)
    first = wsgi_get(app, path)
    assert first.status == 200
    assert calls == [True]
    hit = wsgi_get(app, path)
    assert (hit.status, hit.body, calls) == (200, BODY.encode(), [True])
    assert hit.get("Content-Type") == "text/html; charset=utf-8"
    assert hit.get("Content-Length") == str(len(BODY))
    assert hit.get("X-Prerendered") == "true"
    assert hit.get("Cache-Status") == "flask-prerender; hit"
    assert hit.get("Cache-Control") == "public, max-age=0, must-revalidate"
    assert hit.get("Vary") == "Accept-Encoding"


def test_the_first_visitor_is_told_that_the_page_was_stored(make_app, wsgi_get):
    app = make_app()
    add(app, "/")
    first = wsgi_get(app, "/")
    assert first.get("Cache-Status") == "flask-prerender; fwd=uri-miss; stored"
    assert is_stored_answer(first)


def test_another_process_finds_the_page_on_disk(make_app, wsgi_get):
    first, second = make_app(), make_app()
    add(first, "/")
    calls = add(second, "/")
    wsgi_get(first, "/")
    sources = []

    def note(app, source, **extra):
        sources.append(source)

    with page_served.connected_to(note, second):
        answers = [wsgi_get(second, "/") for _ in range(3)]
    assert [answer.body for answer in answers] == [BODY.encode()] * 3
    assert (calls, sources) == ([], ["store", "memory", "memory"])


def test_there_is_neither_age_nor_date(make_app, wsgi_get, clock):
    app = make_app({"PRERENDER_REVALIDATE": 60})
    add(app, "/", lambda: Response(BODY, headers={"Age": "5", "Date": http_date(0)}))
    wsgi_get(app, "/")
    clock.forward(10)
    for headers in ({}, {"If-None-Match": "*"}):
        answer = wsgi_get(app, "/", headers=headers)
        assert is_stored_answer(answer)
        assert (answer.get("Age"), answer.get("Date")) == (None, None)


@pytest.mark.parametrize("coding", ["", "gzip", "br"])
@pytest.mark.parametrize("status", [200, 404, 410, 302])
def test_head_has_the_headers_of_get_and_no_body(make_app, wsgi_get, coding, status):
    app = make_app()
    body = BODY if status != 302 else ""
    headers = {"Location": "/other"} if status == 302 else {}
    add(app, "/", lambda: Response(body, status, headers), statuses=[200, 404, 410, 302])
    wsgi_get(app, "/")
    get = wsgi_get(app, "/", headers={"Accept-Encoding": coding})
    head = wsgi_get(app, "/", headers={"Accept-Encoding": coding}, method="HEAD")
    assert (get.status, is_stored_answer(get)) == (status, True)
    assert (head.status, head.headers, head.body) == (get.status, get.headers, b"")
    assert get.get("Content-Length") == str(len(get.body))


def test_head_on_a_page_that_is_not_there_renders_it_as_get(make_app, wsgi_get):
    app = make_app()
    methods = []
    add(app, "/", lambda: methods.append(request.method) or BODY)
    head = wsgi_get(app, "/", method="HEAD")
    assert (head.body, head.get("Content-Length")) == (b"", str(len(BODY)))
    assert wsgi_get(app, "/").body == BODY.encode()
    assert methods == ["GET"]


# Other methods.


def test_a_post_reaches_the_view_whatever_is_stored(make_app, wsgi_get):
    app = make_app()
    calls = add(app, "/", lambda: f"{request.method} answer")
    wsgi_get(app, "/")
    post = wsgi_get(app, "/", method="POST")
    assert (post.status, post.body) == (200, b"POST answer")
    assert post.get("Cache-Status") == "flask-prerender; fwd=method"
    assert (post.get("X-Prerendered"), post.get("Cache-Control")) == (None, None)
    assert calls == [True, False]
    assert wsgi_get(app, "/").body == b"GET answer"


def test_options_and_methods_that_do_not_exist_are_the_apps(make_app, wsgi_get):
    app = make_app()
    add(app, "/")
    wsgi_get(app, "/")
    options = wsgi_get(app, "/", method="OPTIONS")
    assert (options.status, options.body) == (200, b"")
    assert set(options.get("Allow").split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert wsgi_get(app, "/", method="DELETE").status == 405
    assert wsgi_get(app, "/", method="PURGE").status == 405


def test_a_method_override_changes_nothing(make_app, wsgi_get):
    app = make_app()
    calls = add(app, "/", lambda: request.headers.get("X-HTTP-Method-Override", "none"))
    answer = wsgi_get(app, "/", headers={"X-HTTP-Method-Override": "POST"})
    assert (answer.body, calls) == (b"none", [True])


def test_the_body_of_a_get_never_reaches_a_render(make_app, wsgi_get):
    from io import BytesIO

    app = make_app()
    add(app, "/", lambda: f"form: {request.form.get('p')}, data: {request.get_data()!r}")
    length = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "6"}
    fat = wsgi_get(app, "/", headers=length, environ={"wsgi.input": BytesIO(b"p=evil")})
    assert fat.body == b"form: None, data: b''"
    assert wsgi_get(app, "/").body == fat.body


# Freshness as others see it.


def test_shared_caches_may_keep_a_page_for_the_life_it_has_left(make_app, wsgi_get, clock):
    app = make_app()
    calls = add(app, "/", revalidate=60, expire=600)
    wsgi_get(app, "/")
    window = "stale-while-revalidate=540"
    for seconds, left in ((0, 60), (20, 40), (39, 1)):
        clock.forward(seconds)
        answer = wsgi_get(app, "/")
        assert answer.get("Cache-Control") == f"public, max-age=0, s-maxage={left}, {window}"
        assert answer.get("Cache-Status") == f"flask-prerender; hit; ttl={left}"
    assert calls == [True]


def test_a_stale_page_is_served_and_kept_by_nobody_for_long(make_app, wsgi_get, clock):
    app = make_app()
    calls = add(app, "/", revalidate=60, expire=600)
    wsgi_get(app, "/")
    clock.forward(100)
    states = []

    def note(app, state, **extra):
        states.append(state)

    with page_served.connected_to(note, app):
        answer = wsgi_get(app, "/")
    assert (answer.status, answer.body, states) == (200, BODY.encode(), ["stale"])
    window = "stale-while-revalidate=500"
    assert answer.get("Cache-Control") == f"public, max-age=0, s-maxage=2, {window}"
    assert answer.get("Cache-Status") == "flask-prerender; hit; ttl=-40"
    assert calls == [True]


@pytest.mark.parametrize("fallback", ["render", "pass", "404"])
def test_an_expired_page_is_made_again_before_it_answers(make_app, wsgi_get, clock, fallback):
    app = make_app()
    bodies = iter(["first", "second", "third"])
    add(app, "/", lambda: next(bodies), revalidate=60, expire=600, fallback=fallback)
    site = app.extensions["prerender"]
    (target,) = site.routes.targets(print)
    assert publish(site, target, origin="build").is_stored
    assert wsgi_get(app, "/").body == b"first"
    clock.forward(599)
    assert wsgi_get(app, "/").body == b"first"
    clock.forward(1)
    answer = wsgi_get(app, "/")
    assert (answer.status, answer.body, is_stored_answer(answer)) == (200, b"second", True)
    assert answer.get("Cache-Status") == "flask-prerender; fwd=stale; stored"
    answer = wsgi_get(app, "/")
    assert answer.body == b"second"
    assert answer.get("Cache-Status") == "flask-prerender; hit; ttl=60"


def test_a_clock_that_goes_back_makes_a_page_stale_and_never_frozen(make_app, wsgi_get, clock):
    app = make_app()
    add(app, "/", revalidate=60)
    wsgi_get(app, "/")
    assert wsgi_get(app, "/").get("Cache-Control") == "public, max-age=0, s-maxage=60"
    clock.forward(-3600)
    answer = wsgi_get(app, "/")
    assert answer.status == 200
    assert answer.get("Cache-Control") == "public, max-age=0, s-maxage=2"
    assert answer.get("Cache-Status") == "flask-prerender; hit; ttl=0"
    clock.forward(3600)
    assert wsgi_get(app, "/").get("Cache-Control") == "public, max-age=0, s-maxage=60"


@pytest.mark.parametrize("moment", [0, 4_070_908_800])
def test_the_times_of_files_mean_nothing(make_app, wsgi_get, clock, tmp_path, moment):
    app = make_app()
    add(app, "/", revalidate=60)
    wsgi_get(app, "/")
    clock.forward(20)
    before = wsgi_get(app, "/")
    for path in (tmp_path / "instance").rglob("*"):
        os.utime(path, (moment, moment))
    other = make_app()
    add(other, "/", revalidate=60)
    assert wsgi_get(other, "/") == before
    assert wsgi_get(app, "/") == before
    assert "s-maxage=40" in before.get("Cache-Control")


def test_pages_of_equal_size_in_the_same_second_have_other_tags(make_app, wsgi_get):
    app = make_app(store=MemoryStore())
    number = iter(range(1000, 2000))
    add(app, "/", lambda: str(next(number)))
    site = app.extensions["prerender"]
    (target,) = site.routes.targets(print)
    tag = None
    for _ in range(300):
        publish(site, target, origin="build")
        answer = wsgi_get(app, "/", headers={"If-None-Match": tag} if tag else {})
        assert answer.status == 200
        assert answer.get("ETag") != tag
        tag = answer.get("ETag")


def test_headers_and_body_belong_to_one_render_while_pages_change(make_app, wsgi_get):
    app = make_app()
    number = iter(range(1000))
    add(app, "/", lambda: f"{next(number)} {BODY}")
    site = app.extensions["prerender"]
    (target,) = site.routes.targets(print)
    publish(site, target, origin="build")
    ended, wrong, seen = threading.Event(), [], set()

    def read(coding):
        # A breath between requests lets the writer have the interpreter.
        while not ended.wait(0.002):
            answer = wsgi_get(app, "/", headers={"Accept-Encoding": coding})
            body = gzip.decompress(answer.body) if coding else answer.body
            digest = hashlib.sha256(body).digest()[:16]
            tag = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            expected = (200, f'"{tag}-gz"' if coding else f'"{tag}"', str(len(answer.body)))
            found = (answer.status, answer.get("ETag"), answer.get("Content-Length"))
            if found != expected:
                wrong.append((found, expected))
            seen.add(tag)

    readers = [threading.Thread(target=read, args=(coding,)) for coding in ("", "gzip", "")]
    for reader in readers:
        reader.start()
    try:
        for _ in range(60):
            publish(site, target, origin="build")
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert len(seen) > 1


# Headers.


def test_the_views_own_headers_are_sent_but_for_those_of_one_connection(make_app, wsgi_get):
    app = make_app()
    own = {
        "Content-Security-Policy": "default-src 'self'",
        "Content-Language": "de",
        "X-Frame-Options": "DENY",
        "Link": "</a>; rel=preload",
        "Server": "mine",
        "X-Request-Id": "7",
    }
    add(app, "/", lambda: Response(BODY, headers=own))
    wsgi_get(app, "/")
    hit = wsgi_get(app, "/")
    for name in ("Content-Security-Policy", "Content-Language", "X-Frame-Options", "Link"):
        assert hit.get(name) == own[name]
    assert (hit.get("Server"), hit.get("X-Request-Id")) == (None, None)


def test_the_headers_of_the_mark_replace_the_views(make_app, wsgi_get):
    app = make_app()
    marked = {"X-Robots-Tag": "noindex", "Link": "</marked>"}
    add(app, "/", lambda: Response(BODY, headers={"Link": "</view>"}), headers=marked)
    wsgi_get(app, "/")
    hit = wsgi_get(app, "/")
    assert (hit.get("X-Robots-Tag"), hit.get("Link")) == ("noindex", "</marked>")


@pytest.mark.parametrize("own", [None, "public, max-age=77", "no-cache"])
@pytest.mark.parametrize("fixed", [None, "public, max-age=300"])
def test_cache_control_is_the_views_then_the_fixed_one_then_computed(
    make_app, wsgi_get, own, fixed
):
    app = make_app({"PRERENDER_CACHE_CONTROL": fixed, "PRERENDER_REVALIDATE": 60})
    add(app, "/", lambda: Response(BODY, headers={"Cache-Control": own} if own else {}))
    wsgi_get(app, "/")
    expected = own or fixed or "public, max-age=0, s-maxage=60"
    for headers in ({}, {"If-None-Match": "*"}):
        answer = wsgi_get(app, "/", headers=headers)
        assert answer.get("Cache-Control") == expected


def test_a_304_repeats_the_views_caching_headers(make_app, wsgi_get):
    app = make_app()
    own = {
        "CDN-Cache-Control": "max-age=9",
        "Content-Location": "/index",
        "Expires": http_date(0),
        "Content-Language": "de",
    }
    add(app, "/", lambda: Response(BODY, headers=own))
    wsgi_get(app, "/")
    answer = wsgi_get(app, "/", headers={"If-None-Match": "*"})
    assert answer.status == 304
    for name in ("CDN-Cache-Control", "Content-Location", "Expires"):
        assert answer.get(name) == own[name]
    for name in ("Content-Language", "Content-Type", "Content-Length", "Content-Encoding"):
        assert answer.get(name) is None


def test_our_own_headers_can_be_left_out(make_app, wsgi_get):
    app = make_app({"PRERENDER_HEADERS": False})
    calls = add(app, "/")
    answers = [wsgi_get(app, "/") for _ in range(2)]
    answers += [wsgi_get(app, "/", query="x=1"), wsgi_get(app, "/", method="POST")]
    assert calls == [True, False, False]
    for answer in answers:
        assert (answer.get("X-Prerendered"), answer.get("Cache-Status")) == (None, None)
    assert answers[1].get("ETag")


@pytest.mark.parametrize("own", ["Accept-Encoding", "accept-encoding"])
def test_an_existing_vary_is_kept_and_nothing_is_named_twice(make_app, wsgi_get, own):
    app = make_app()
    add(app, "/", headers={"Vary": own})
    wsgi_get(app, "/")
    for headers in ({}, {"Accept-Encoding": "gzip"}, {"If-None-Match": "*"}):
        answer = wsgi_get(app, "/", headers=headers)
        assert answer.get("Vary") == "Accept-Encoding"


# Other statuses.


@pytest.mark.parametrize("status", [404, 410])
def test_a_page_that_says_gone_is_stored_where_the_mark_asks_for_it(make_app, wsgi_get, status):
    app = make_app()
    calls = add(app, "/", lambda: (BODY, status), statuses=[200, status])
    wsgi_get(app, "/")
    hit = wsgi_get(app, "/")
    assert (hit.status, hit.body, calls) == (status, BODY.encode(), [True])
    assert is_stored_answer(hit)
    tag = hit.get("ETag")
    again = wsgi_get(app, "/", headers={"If-None-Match": tag, "Range": "bytes=0-9"})
    assert (again.status, again.body) == (status, BODY.encode())


def test_a_stored_error_page_is_that_of_the_apps_error_view(make_app, wsgi_get):
    app = make_app()
    add(app, "/", lambda: abort(404), statuses=[404])
    app.register_error_handler(404, lambda error: ("<h1>Nothing here</h1>", 404))
    for _ in range(2):
        answer = wsgi_get(app, "/")
        assert (answer.status, answer.body) == (404, b"<h1>Nothing here</h1>")
    assert is_stored_answer(answer)


def test_a_stored_redirect_within_the_site_names_no_host(make_app, wsgi_get):
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    add(app, "/old", lambda: redirect(url_for("old", _external=True)), statuses=[302])
    app.add_url_rule("/new", "old", lambda: "new")
    wsgi_get(app, "/old")
    hit = wsgi_get(app, "/old", environ={"HTTP_HOST": "evil.example"})
    assert (hit.status, hit.get("Location")) == (302, "/new")
    assert is_stored_answer(hit)


def test_without_being_asked_no_other_status_is_stored(make_app, wsgi_get):
    app = make_app()
    statuses = (201, 203, 301, 302, 400, 401, 403, 404, 410, 500, 503)
    add(app, "/<int:status>", lambda status: (BODY, status))
    for status in statuses:
        answer = wsgi_get(app, f"/{status}")
        assert (answer.status, is_stored_answer(answer)) == (status, False)
        assert "fwd=uri-miss; detail=" in answer.get("Cache-Status")
    assert keys(app) == []


# Query.


def query_app(make_app, config=None, store=None):
    app = make_app(config, store=store) if store else make_app(config)

    def shown(**values):
        pairs = sorted(request.args.items(multi=True), key=lambda pair: pair[0])
        return repr([(name, value) for name, value in pairs if name in ("a", "b")])

    calls = add(app, "/list", shown, query=["a", "b"])
    app.add_url_rule("/plain", "plain", shown)
    return app, calls


def test_declared_parameters_are_part_of_the_key_in_one_order(make_app, wsgi_get):
    app, calls = query_app(make_app)
    spellings = ["a=1&b=2", "b=2&a=1", "b=2&a=%31", "%61=1&b=2", "a=1&utm_source=x&b=2"]
    for query in spellings:
        answer = wsgi_get(app, "/list", query=query)
        assert answer.body == b"[('a', '1'), ('b', '2')]"
        assert is_stored_answer(answer)
    assert (keys(app), calls) == (["/list?a=1&b=2"], [True])


def test_two_values_are_two_pages(make_app, wsgi_get):
    app, _ = query_app(make_app)
    shown = {
        "a=1": b"[('a', '1')]",
        "a=2": b"[('a', '2')]",
        "": b"[]",
        "a=": b"[('a', '')]",
        "a=1&a=2": b"[('a', '1'), ('a', '2')]",
        "a=2&a=1": b"[('a', '2'), ('a', '1')]",
        "a=x%26b%3D2": b"[('a', 'x&b=2')]",
        "a=1;b=2": b"[('a', '1;b=2')]",
    }
    for query, body in shown.items():
        for _ in range(2):
            answer = wsgi_get(app, "/list", query=query)
            assert (answer.body, is_stored_answer(answer)) == (body, True)
    assert len(keys(app)) == len(shown)


@pytest.mark.parametrize(
    "query", ["utm_source=mail", "utm_anything=1&fbclid=2", "gclid=1&_ga=2&ref=x", "&", "&&"]
)
def test_where_a_visitor_came_from_is_ignored(make_app, wsgi_get, query):
    app = make_app()
    calls = add(app, "/")
    for _ in range(2):
        assert is_stored_answer(wsgi_get(app, "/", query=query))
    assert is_stored_answer(wsgi_get(app, "/"))
    assert (keys(app), calls) == (["/"], [True])


@pytest.mark.parametrize("query", ["page=2", "A=1", "=x", "x", "utm=1", "a%20=1", "a[]=1"])
def test_with_an_unknown_parameter_the_app_answers(make_app, wsgi_get, query):
    app = make_app()
    calls = add(app, "/", lambda: request.query_string, query=["a"])
    for _ in range(2):
        answer = wsgi_get(app, "/", query=query)
        assert (answer.body.decode(), is_stored_answer(answer)) == (query, False)
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=query"
        assert answer.get("Cache-Control") is None
    assert (keys(app), calls) == ([], [False, False])


def test_unknown_parameters_can_be_ignored(make_app, wsgi_get):
    app, calls = query_app(make_app, {"PRERENDER_UNKNOWN_QUERY": "ignore"})
    for n in range(20):
        answer = wsgi_get(app, "/list", query=f"x={n}&a=1")
        assert (answer.body, is_stored_answer(answer)) == (b"[('a', '1')]", True)
    assert (keys(app), calls) == (["/list?a=1"], [True])


def test_the_list_of_ignored_parameters_can_be_another(make_app, wsgi_get):
    app = make_app({"PRERENDER_IGNORED_QUERY": ["campaign"]})
    add(app, "/")
    assert is_stored_answer(wsgi_get(app, "/", query="campaign=1"))
    assert not is_stored_answer(wsgi_get(app, "/", query="fbclid=1"))


def test_a_declared_parameter_may_be_one_that_others_ignore(make_app, wsgi_get):
    app = make_app()
    add(app, "/", lambda: request.args.get("ref", "none"), query=["ref"])
    assert wsgi_get(app, "/", query="ref=1").body == b"1"
    assert wsgi_get(app, "/", query="ref=2").body == b"2"
    assert keys(app) == ["/?ref=1", "/?ref=2"]


def test_a_query_that_is_no_text_is_the_apps(make_app, wsgi_get, caplog):
    app = make_app()
    calls = add(app, "/", "static", query=["a"])
    answer = wsgi_get(app, "/", query="a=\xff")
    assert (answer.status, is_stored_answer(answer)) == (200, False)
    assert (keys(app), calls, caplog.records) == ([], [False], [])


names = st.sampled_from(["a", "b", "a", "%61", "c", "utm_x", "A", "", "+", "a%20"])
values = st.text(alphabet="ab1%&=;+ äé€\x00/?#'\"<>.", max_size=6) | st.sampled_from(
    ["%31", "%zz", "%ff", "%C3%A4", "%00", "%2B", "a%26b=1"]
)
pairs = st.lists(st.tuples(names, values), max_size=4)


def test_key_and_view_agree_whatever_the_query(make_app, wsgi_get):
    """What a stored page shows is what the app would show for the same query."""
    app, _ = query_app(make_app, store=MemoryStore())
    seen = {True: 0, False: 0}

    @per_example
    @given(pairs)
    def check(chosen):
        query = "&".join(f"{name}={value}" for name, value in chosen)
        query = query.encode().decode("latin-1")
        answer = wsgi_get(app, "/list", query=query)
        assert answer.body == wsgi_get(app, "/plain", query=query).body
        assert wsgi_get(app, "/list", query=query).body == answer.body
        seen[is_stored_answer(answer)] += 1

    check()
    assert min(seen.values()) >= 5, seen


# Paths.


def test_the_trailing_slash_is_the_url_maps_business(make_app, wsgi_get):
    app = make_app()
    add(app, "/about", "about")
    add(app, "/docs/", "docs")
    wsgi_get(app, "/about")
    wsgi_get(app, "/docs/")
    assert wsgi_get(app, "/about/").status == 404
    moved = wsgi_get(app, "/docs")
    assert (moved.status, moved.get("X-Prerendered")) == (308, None)
    assert moved.get("Location").endswith("/docs/")
    assert keys(app) == ["/about", "/docs/"]


def test_a_route_that_takes_both_spellings_is_stored_under_one(make_app, wsgi_get):
    app = make_app()

    @app.route("/both", strict_slashes=False)
    @app.prerender
    def both():
        return f"path {request.path}"

    assert wsgi_get(app, "/both/").body == b"path /both"
    assert is_stored_answer(wsgi_get(app, "/both/"))
    assert wsgi_get(app, "/both").body == b"path /both"
    assert keys(app) == ["/both"]


@pytest.mark.parametrize(
    "path", ["//about", "///about", "/about//", "//example.com/about", "/./about", "/x/../about"]
)
def test_another_spelling_of_a_path_is_never_the_page(make_app, wsgi_get, path):
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    add(app, "/about")
    expected = wsgi_get(app, path).status
    assert keys(app) == []
    wsgi_get(app, "/about")
    answer = wsgi_get(app, path)
    assert (answer.status, is_stored_answer(answer)) == (expected, False)
    assert keys(app) == ["/about"]


@pytest.mark.parametrize("path", ["/About", "/ABOUT", "/about ", "/about.", "/about\\"])
def test_case_and_strange_ends_are_other_pages(make_app, wsgi_get, path):
    app = make_app()
    add(app, "/<name>", lambda name: f"name {name!r}")
    wsgi_get(app, "/about")
    for _ in range(2):
        assert wsgi_get(app, path).body.decode() == f"name {path[1:]!r}"
    assert wsgi_get(app, "/about").body == b"name 'about'"


@pytest.mark.parametrize(
    "name", ["tür", "日本語", "a b", "a+b", "100%", "a%2fb", "a;b", "😀", "a?b"]
)
def test_a_name_in_any_script_is_a_page(make_app, wsgi_get, name):
    app = make_app()
    calls = add(app, "/<name>", lambda name: f"name {name}")
    for _ in range(2):
        answer = wsgi_get(app, f"/{name}")
        assert (answer.body.decode(), is_stored_answer(answer)) == (f"name {name}", True)
    assert calls == [True]
    assert len(keys(app)) == 1
    assert keys(app)[0].isascii()


@pytest.mark.parametrize("raw", ["/\xff\xfe", "/a\xc3", "/a\x00b", "/a\x7f", "/a\\b"])
def test_a_path_with_bad_bytes_is_the_apps_and_never_stored(make_app, wsgi_get, raw):
    app = make_app()
    calls = add(app, "/<path:name>", "the view")
    for _ in range(2):
        answer = wsgi_get(app, environ={"PATH_INFO": raw})
        assert (answer.status, answer.body) == (200, b"the view")
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=path"
    assert (keys(app), calls) == ([], [False, False])


@pytest.mark.parametrize(("rule", "status"), [("/", 200), ("/other", 404)])
def test_a_server_that_leaves_out_empty_variables_is_understood(
    make_app, wsgi_get, caplog, rule, status
):
    app = make_app()
    add(app, rule, "the view")

    def bare(environ, start_response):
        for name in ("PATH_INFO", "SCRIPT_NAME", "QUERY_STRING"):
            del environ[name]
        return app(environ, start_response)

    assert (wsgi_get(bare).status, caplog.records) == (status, [])


@pytest.mark.parametrize(
    "count",
    [
        150,
        pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_no_path_leads_out_of_the_directory(make_app, wsgi_get, tmp_path, count):
    """Whatever is asked for: no 5xx, no file elsewhere, and the view sees what was asked."""
    app = make_app()
    add(app, "/docs/<path:name>", lambda name: f"name {name!r}")
    (tmp_path / "instance" / "secret.html").write_text("secret")
    parts = st.sampled_from(
        ["..", ".", "%2e%2e", "..%2f", "..\\", "etc", "passwd", "~", "con", "a.html", "", "\0",
         "\xff", "ä", "C:", "secret.html", "index.html", "store", "x" * 300]
    )  # fmt: skip

    @settings(per_example, max_examples=count)
    @given(st.lists(parts, min_size=1, max_size=5))
    def check(chosen):
        raw = "/docs/" + "/".join(chosen)
        for _ in range(2):
            answer = wsgi_get(app, environ={"PATH_INFO": raw})
            assert answer.status < 500
            assert b"secret" not in answer.body or "secret" in raw

    check()
    for path in tmp_path.rglob("*"):
        inside = tmp_path / "instance" / "prerendered"
        if path.is_file() and path.name != "secret.html":
            assert path.is_relative_to(inside), path
    assert len(keys(app)) > 3


def test_what_the_index_does_not_list_is_never_served(make_app, wsgi_get, tmp_path):
    app = make_app({"PRERENDER_FALLBACK": "pass"})
    add(app, "/<name>", "the view")
    tree = tmp_path / "instance" / "prerendered" / "public" / "planted"
    tree.mkdir(parents=True)
    (tree / "index.html").write_text("planted")
    answer = wsgi_get(app, "/planted")
    assert (answer.body, is_stored_answer(answer)) == (b"the view", False)


def test_without_any_build_every_page_is_the_apps(make_app, wsgi_get, tmp_path):
    app = make_app({"PRERENDER_FALLBACK": "pass", "PRERENDER_PREWARM": "all"})
    calls = add(app, "/")
    answer = wsgi_get(app, "/")
    assert (answer.body, calls) == (BODY.encode(), [False])
    assert answer.get("Cache-Status") == "flask-prerender; fwd=uri-miss; detail=fallback"
    assert list((tmp_path / "instance").iterdir()) == []


def test_a_route_without_a_mark_is_left_alone(make_app, wsgi_get):
    app = make_app()
    app.add_url_rule("/", "index", lambda: "the view")
    answer = wsgi_get(app, "/")
    assert answer.body == b"the view"
    for name in ("X-Prerendered", "Cache-Status", "Cache-Control", "ETag", "Vary"):
        assert answer.get(name) is None


def test_a_page_whose_mark_was_taken_away_is_not_served(make_app, wsgi_get):
    first, second = make_app(), make_app()
    add(first, "/", "old")
    wsgi_get(first, "/")
    second.add_url_rule("/", "index", lambda: "new")
    assert wsgi_get(second, "/").body == b"new"


# Mounts.


def mounted(app, prefix):
    return DispatcherMiddleware(NotFound(), {prefix: app})


@pytest.mark.parametrize("key", ["PRERENDER_BASE_URL", "APPLICATION_ROOT"])
def test_a_mounted_app_renders_with_its_mount_path(make_app, wsgi_get, key):
    app = make_app({key: "https://example.com/shop" if "URL" in key else "/shop"})
    calls = add(app, "/about", lambda: url_for("target"))
    app.add_url_rule("/target", "target", lambda: "")
    for _ in range(2):
        answer = wsgi_get(mounted(app, "/shop"), "/shop/about")
        assert (answer.body, is_stored_answer(answer)) == (b"/shop/target", True)
    assert (keys(app), calls) == (["/about"], [True])


def test_under_another_mount_path_the_app_answers(make_app, wsgi_get, caplog):
    app = make_app({"PRERENDER_BASE_URL": "https://example.com/shop"})
    calls = add(app, "/about", lambda: url_for("target"))
    app.add_url_rule("/target", "target", lambda: "")
    wsgi_get(mounted(app, "/shop"), "/shop/about")
    for _ in range(2):
        answer = wsgi_get(mounted(app, "/other"), "/other/about")
        assert (answer.body, is_stored_answer(answer)) == (b"/other/target", False)
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=mount"
    assert wsgi_get(app, "/about").body == b"/target"
    assert calls == [True, False, False, False]
    (line,) = [r.getMessage() for r in caplog.records]
    assert "'/other'" in line
    assert "'/shop'" in line


# Who asks.


def test_a_request_with_authorization_is_the_apps(make_app, wsgi_get):
    app = make_app()
    numbers = iter(range(10))
    calls = add(app, "/", lambda: f"answer {next(numbers)}")
    wsgi_get(app, "/")
    answer = wsgi_get(app, "/", headers={"Authorization": "Basic YTpi"})
    assert (answer.body, calls) == (b"answer 1", [True, False])
    assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=authorization"
    assert (answer.get("X-Prerendered"), answer.get("Cache-Control")) == (None, "private, no-store")
    assert wsgi_get(app, "/").body == b"answer 0"


@pytest.mark.parametrize("where", ["mark", "settings"])
def test_only_crawlers_get_pages_that_are_for_crawlers(make_app, wsgi_get, where):
    config = {"PRERENDER_VISITORS": "bots"} if where == "settings" else {}
    app = make_app(config)
    calls = add(app, "/", visitors="bots" if where == "mark" else "all")
    for _ in range(2):
        bot = wsgi_get(app, "/", headers={"User-Agent": GOOGLEBOT})
        assert is_stored_answer(bot)
    assert calls == [True]
    for headers in ({"User-Agent": FIREFOX}, {"User-Agent": ""}, {}):
        answer = wsgi_get(app, "/", headers=headers)
        assert (answer.body, is_stored_answer(answer)) == (BODY.encode(), False)
        assert answer.get("Cache-Status") == "flask-prerender; fwd=bypass; detail=visitors"
    assert calls == [True, False, False, False]


def test_a_page_for_crawlers_is_for_no_shared_cache(make_app, wsgi_get):
    app = make_app({"PRERENDER_REVALIDATE": 60})
    add(app, "/", visitors="bots")
    for extra in ({}, {}, {"If-None-Match": "*"}):
        answer = wsgi_get(app, "/", headers={"User-Agent": GOOGLEBOT, **extra})
        assert is_stored_answer(answer)
        assert answer.get("Vary") == "Accept-Encoding, User-Agent"
        assert answer.get("Cache-Control") == "private, max-age=0, must-revalidate"


def test_pages_stored_for_all_are_for_crawlers_once_the_settings_say_so(make_app, wsgi_get):
    before, after = make_app(), make_app({"PRERENDER_VISITORS": "bots"})
    add(before, "/", visitors="all")
    calls = add(after, "/", visitors="all")
    wsgi_get(before, "/")
    assert not is_stored_answer(wsgi_get(after, "/", headers={"User-Agent": FIREFOX}))
    hit = wsgi_get(after, "/", headers={"User-Agent": GOOGLEBOT})
    assert is_stored_answer(hit)
    assert hit.get("Vary") == "Accept-Encoding, User-Agent"
    assert calls == [False]


@pytest.mark.parametrize("fallback", ["render", "pass", "404"])
def test_a_page_stored_for_crawlers_is_made_again_when_it_is_for_all(make_app, wsgi_get, fallback):
    before, after = make_app(), make_app()
    add(before, "/", visitors="bots")
    calls = add(after, "/", visitors="all", fallback=fallback)
    wsgi_get(before, "/", headers={"User-Agent": GOOGLEBOT})
    assert wsgi_get(after, "/", headers={"User-Agent": GOOGLEBOT}).body == BODY.encode()
    assert calls == []
    for _ in range(2):
        answer = wsgi_get(after, "/", headers={"User-Agent": FIREFOX})
        assert is_stored_answer(answer)
        assert answer.get("Vary") == "Accept-Encoding"
    assert calls == [True]


def test_more_crawlers_can_be_named_in_the_settings(make_app, wsgi_get):
    app = make_app({"PRERENDER_BOTS": ["MySpider"], "PRERENDER_VISITORS": "bots"})
    add(app, "/")
    assert is_stored_answer(wsgi_get(app, "/", headers={"User-Agent": "myspider/1.0"}))


# Damage.


@pytest.mark.parametrize("fallback", ["render", "pass", "404"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_a_damaged_body_is_never_served_and_mended_at_once(
    make_app, wsgi_get, tmp_path, fallback, damage
):
    first, second = make_app(), make_app()
    site = first.extensions["prerender"]
    add(first, "/", fallback=fallback)
    calls = add(second, "/", fallback=fallback)
    (target,) = site.routes.targets(print)
    publish(site, target, origin="build")
    before = wsgi_get(first, "/", headers={"Accept-Encoding": "gzip"})
    assert is_stored_answer(before)
    for blob in (tmp_path / "instance/prerendered/store/blobs").rglob("*"):
        if blob.is_file():
            _damage(blob, damage)
    for coding in ("gzip", ""):
        answer = wsgi_get(second, "/", headers={"Accept-Encoding": coding})
        assert (answer.status, is_stored_answer(answer)) == (200, True)
    assert answer.body == BODY.encode()
    assert wsgi_get(second, "/", headers={"Accept-Encoding": "gzip"}).body == before.body
    assert calls == [True]


def _damage(blob: Path, how: str) -> None:
    content = blob.read_bytes()
    blob.chmod(0o600)
    if how == "flip":
        blob.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif how == "cut":
        blob.write_bytes(content[:-1])
    elif how == "empty":
        blob.write_bytes(b"")
    else:
        blob.unlink()


def test_a_damaged_row_of_the_index_is_a_miss(make_app, wsgi_get, tmp_path):
    first, second = make_app(), make_app({"PRERENDER_PREWARM": "all"})
    for app in (first, second):
        calls = add(app, "/<name>", lambda name: f"name {name}")
    for name in ("a", "b", "c"):
        wsgi_get(first, f"/{name}")
    index = sqlite3.connect(tmp_path / "instance/prerendered/store/index.sqlite3")
    with index:
        index.execute("UPDATE pages SET record = '{\"key\": 7}' WHERE key = '/b'")
    index.close()
    for name in ("a", "b", "c", "b"):
        answer = wsgi_get(second, f"/{name}")
        assert (answer.body, is_stored_answer(answer)) == (f"name {name}".encode(), True)
    assert calls == [True]


# Apps.


def test_two_apps_in_one_process_do_not_mix(make_app, wsgi_get):
    apps = [make_app(instance=name) for name in ("one", "two")]
    for number, app in enumerate(apps):
        add(app, "/", f"app {number}")
    for _ in range(2):
        for number, app in enumerate(apps):
            answer = wsgi_get(app, "/")
            assert (answer.body, is_stored_answer(answer)) == (f"app {number}".encode(), True)


def test_one_instance_serves_apps_of_a_factory(tmp_path, wsgi_get):
    from flask import Flask

    prerender = Prerender()

    def create_app(name):
        app = Flask(name, instance_path=str(tmp_path / name))
        prerender.init_app(app)
        add(app, "/", f"app {name}")
        return app

    apps = {name: create_app(name) for name in ("one", "two")}
    for _ in range(2):
        for name, app in apps.items():
            answer = wsgi_get(app, "/")
            assert (answer.body, is_stored_answer(answer)) == (f"app {name}".encode(), True)
    for app in apps.values():
        assert keys(app) == ["/"]
        app.extensions["prerender"].close()


def test_one_app_mounted_within_another_keeps_its_own_pages(make_app, wsgi_get):
    outer = make_app(instance="outer")
    inner = make_app({"PRERENDER_BASE_URL": "http://localhost/in"}, instance="inner")
    add(outer, "/", "outer")
    add(inner, "/", "inner")
    both = DispatcherMiddleware(outer, {"/in": inner})
    for _ in range(2):
        assert wsgi_get(both, "/").body == b"outer"
        assert wsgi_get(both, "/in/").body == b"inner"
    assert (keys(outer), keys(inner)) == (["/"], ["/"])
