"""Pages made ready to answer: what is prepared, and when it is prepared again."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from flask_prerender import lean as module
from flask_prerender.headers import entity_tag
from flask_prerender.lean import lean
from flask_prerender.page import digest
from flask_prerender.page import http_date
from flask_prerender.page import Page
from flask_prerender.page import Variant
from flask_prerender.ready import Ready
from flask_prerender.settings import Settings

NOW = 1_800_000_000.0
TYPE = ("Content-Type", "text/html; charset=utf-8")
OWN = {"ETag", "Last-Modified", "Vary", "X-Prerendered", "Cache-Status", "Cache-Control"}


def make_page(**facts):
    body, packed = b"the body", b"packed"
    return Page(
        **{
            "key": "/",
            "rule": "/",
            "endpoint": "index",
            "file": "index.html",
            "status": 200,
            "headers": (TYPE,),
            "variants": (
                Variant("identity", digest(body), len(body)),
                Variant("gzip", digest(packed), len(packed)),
            ),
            "tags": (),
            "revision": 1,
            "token": 1,
            "origin": "visit",
            "build": 0,
            "generated_at": NOW - 50,
            "changed_at": NOW - 90,
            "checked_at": NOW,
            **facts,
        }
    )


def headers_at(now, settings=None, coding="identity", **facts):
    ready = Ready(make_page(**facts), settings or Settings())
    ready.prepare(now)
    found = ready.variant(coding).ok
    assert len(dict(found)) == len(found)
    return dict(found)


def test_each_variant_has_a_finished_header_list():
    ready = Ready(make_page(), Settings())
    ready.prepare(NOW)
    plain, packed = dict(ready.variant("identity").ok), dict(ready.variant("gzip").ok)
    assert set(plain) == OWN | {"Content-Type", "Content-Length", "Accept-Ranges"}
    assert set(packed) == OWN | {"Content-Type", "Content-Length", "Content-Encoding"}
    assert (plain["Content-Length"], packed["Content-Length"]) == ("8", "6")
    assert packed["Content-Encoding"] == "gzip"
    assert plain["Last-Modified"] == packed["Last-Modified"] == http_date(NOW - 90)
    for sent in map(ready.variant, ("identity", "gzip")):
        assert {name for name, _ in sent.not_modified} == OWN - {"Last-Modified"}


def test_tags_follow_the_bytes_and_the_coding():
    page = make_page()
    changed = replace(page, variants=(Variant("identity", digest(b"other"), 5),))
    assert entity_tag(page, "identity") != entity_tag(changed, "identity")
    tag = entity_tag(page, "identity")
    assert entity_tag(page, "gzip") == f'{tag[:-1]}-gz"'
    assert entity_tag(page, "half") == f'{tag[:-1]}-half"'
    assert len(tag) == 24
    assert entity_tag(replace(page, checked_at=NOW + 99, headers=()), "identity") == tag


@pytest.mark.parametrize(
    ("age", "shared", "ttl"),
    [(0, 60, 60), (0.5, 60, 60), (1, 59, 59), (59, 1, 1), (59.9, 1, 1)],
)
def test_a_fresh_page_restates_the_life_it_has_left(age, shared, ttl):
    found = headers_at(NOW + age, revalidate=60.0)
    assert found["Cache-Control"] == f"public, max-age=0, s-maxage={shared}"
    assert found["Cache-Status"] == f"flask-prerender; hit; ttl={ttl}"


@pytest.mark.parametrize(("age", "ttl"), [(60, 0), (61, -1), (61.5, -1), (10_000, -9940)])
def test_a_stale_page_may_be_kept_for_two_seconds(age, ttl):
    found = headers_at(NOW + age, revalidate=60.0)
    assert found["Cache-Control"] == "public, max-age=0, s-maxage=2"
    assert found["Cache-Status"] == f"flask-prerender; hit; ttl={ttl}"


@pytest.mark.parametrize(("age", "window"), [(0, 240), (60, 240), (100, 200), (299, 1)])
def test_the_window_for_a_stale_answer_ends_when_the_page_expires(age, window):
    found = headers_at(NOW + age, revalidate=60.0, expire=300.0)
    assert found["Cache-Control"].endswith(f", stale-while-revalidate={window}")


def test_a_page_without_a_span_is_asked_for_again_each_time():
    for age in (0, 10**6, -(10**6)):
        found = headers_at(NOW + age)
        assert found["Cache-Control"] == "public, max-age=0, must-revalidate"
        assert found["Cache-Status"] == "flask-prerender; hit"


def test_a_page_from_the_future_is_stale():
    ready = Ready(make_page(revalidate=60.0), Settings())
    ready.prepare(NOW - 3600)
    assert ready.state == "stale"
    found = dict(ready.variant("identity").ok)
    assert found["Cache-Control"] == "public, max-age=0, s-maxage=2"
    assert found["Cache-Status"] == "flask-prerender; hit; ttl=0"


def test_an_expired_page_says_so():
    ready = Ready(make_page(revalidate=60.0, expire=300.0), Settings())
    for age, state in ((0, "fresh"), (60, "stale"), (300, "expired")):
        ready.prepare(NOW + age)
        assert ready.state == state


def test_lists_are_true_for_a_second_and_those_without_a_span_for_ever():
    ready = Ready(make_page(revalidate=60.0), Settings())
    assert not ready.begins <= NOW < ready.ends
    ready.prepare(NOW)
    assert (ready.begins, ready.ends) == (NOW, NOW + 1)
    ready = Ready(make_page(), Settings())
    ready.prepare(NOW)
    assert (ready.begins, ready.ends) == (NOW, inf)


@pytest.mark.parametrize("shared", ["revalidate", "expire"])
def test_lists_are_renewed_by_the_second_however_many_ask(
    make_app, wsgi_get, clock, monkeypatch, shared
):
    prepared = []
    prepare = Ready.prepare

    def count(self, now):
        prepared.append(now)
        prepare(self, now)

    monkeypatch.setattr(Ready, "prepare", count)
    app = make_app()

    @app.route("/")
    @app.prerender(**{shared: 60})
    def index():
        return "page"

    wsgi_get(app, "/")
    prepared.clear()
    begin = clock.now
    for seconds in (0, 0.25, 0.5, 0.999, 1, 1.5, 2.5, 30):
        clock.now = begin + seconds
        for _ in range(5):
            assert wsgi_get(app, "/").status == 200
    assert prepared == [begin + 1, begin + 2.5, begin + 30]
    clock.now = begin - 10
    wsgi_get(app, "/")
    assert prepared[3:] == [begin - 10]


def test_lists_of_a_page_without_a_span_are_prepared_once(make_app, wsgi_get, clock, monkeypatch):
    prepared = []
    prepare = Ready.prepare

    def count(self, now):
        prepared.append(now)
        prepare(self, now)

    monkeypatch.setattr(Ready, "prepare", count)
    app = make_app()

    @app.route("/")
    @app.prerender
    def index():
        return "page"

    for _ in range(5):
        wsgi_get(app, "/")
        clock.forward(1000)
    assert len(prepared) == 1


def test_one_answer_may_be_changed_without_harm_to_the_next(make_app, wsgi_get):
    app = make_app()

    @app.route("/")
    @app.prerender
    def index():
        return "page"

    changes = []

    @app.after_request
    def change(response):
        if not changes:
            return response
        response.headers["ETag"] = '"changed"'
        response.headers["X-More"] = "1"
        response.headers.remove("Vary")
        return response

    wsgi_get(app, "/")
    before = wsgi_get(app, "/")
    before_304 = wsgi_get(app, "/", headers={"If-None-Match": "*"})
    changes.append(True)
    assert wsgi_get(app, "/").get("ETag") == '"changed"'
    assert wsgi_get(app, "/", headers={"If-None-Match": "*"}).get("X-More") == "1"
    changes.clear()
    assert wsgi_get(app, "/") == before
    assert wsgi_get(app, "/", headers={"If-None-Match": "*"}) == before_304


def test_the_views_headers_come_first_and_its_vary_is_joined_to_ours():
    own = (TYPE, ("Link", "</a>"), ("Link", "</b>"), ("vary", "X-Kind , accept-encoding,, x-kind"))
    ready = Ready(make_page(headers=own), Settings())
    ready.prepare(NOW)
    found = ready.variant("identity").ok
    assert found[:3] == list(own[:3])
    assert [value for name, value in found if name.lower() == "vary"] == ["Accept-Encoding, X-Kind"]


@pytest.mark.parametrize("status", ["404 NOT FOUND", "410 GONE", "302 FOUND", "200 OK"])
def test_the_status_line_is_whole(status):
    assert Ready(make_page(status=int(status[:3])), Settings()).status == status


def test_a_page_only_checked_again_keeps_what_was_loaded(monkeypatch):
    ready = Ready(make_page(revalidate=60.0), Settings())
    ready.variant("identity").body = b"the body"
    ready.prepare(NOW + 59)
    assert ready.renew(make_page(revalidate=60.0, checked_at=NOW + 59))
    assert not ready.begins <= NOW + 59 < ready.ends
    ready.prepare(NOW + 59)
    assert "s-maxage=60" in dict(ready.variant("identity").ok)["Cache-Control"]
    assert ready.variant("identity").body == b"the body"


@pytest.mark.parametrize(
    "change",
    [
        {"headers": (TYPE, ("X-New", "1"))},
        {"status": 404},
        {"changed_at": NOW},
        {"options": {"visitors": "bots"}},
        {"variants": (Variant("identity", digest(b"other"), 5),)},
    ],
)
def test_a_page_that_is_sent_otherwise_is_made_ready_anew(change):
    ready = Ready(make_page(), Settings())
    assert not ready.renew(make_page(**change))
    assert ready.page == lean(make_page())


def test_a_page_weighs_its_headers_and_the_bodies_that_are_loaded():
    ready = Ready(make_page(), Settings())
    empty = ready.weight
    assert empty > 0
    ready.variant("identity").body = b"x" * 1000
    assert ready.weight == empty + 1000
    ready.variant("gzip").body = b"x" * 10
    assert ready.weight == empty + 1010
    assert Ready(make_page(headers=(("X", "y" * 500),)), Settings()).weight > empty + 500


# What is kept once.


def test_a_variant_that_nobody_asks_for_takes_no_room(make_app, wsgi_get):
    app = make_app()

    @app.route("/")
    @app.prerender
    def index():
        return "page " * 500

    memory = app.extensions["prerender"].memory
    for _ in range(2):
        wsgi_get(app, "/", headers={"Accept-Encoding": "gzip"})
    assert list(memory.get("/").sent) == ["gzip"]
    wsgi_get(app, "/", headers={"If-None-Match": "*", "Accept-Encoding": "br"})
    assert list(memory.get("/").sent) == ["gzip", "br"]
    assert Ready(make_page(), Settings()).variant("br") is None


def test_a_variant_that_is_added_is_true_at_that_moment():
    ready = Ready(make_page(revalidate=60.0), Settings())
    ready.prepare(NOW + 10)
    for encoding in ("identity", "gzip"):
        assert "s-maxage=50" in dict(ready.variant(encoding).ok)["Cache-Control"]
    ready.take("soft")
    ready.prepare(NOW + 10)
    for encoding in ("identity", "gzip"):
        assert "s-maxage=2" in dict(ready.variant(encoding).not_modified)["Cache-Control"]


def test_a_variant_that_is_added_while_the_page_is_prepared_is_true_afterwards(monkeypatch):
    ready = Ready(make_page(revalidate=60.0), Settings())
    ready.prepare(NOW)
    write, turns = Ready._write, []

    def write_late(self, sent):
        write(self, sent)
        if not turns:  # another thread prepares the page between our lists and our place
            turns.append(1)
            ready.take("soft")
            ready.prepare(NOW)

    monkeypatch.setattr(Ready, "_write", write_late)
    sent = ready.variant("gzip")
    assert ready.state == "stale"
    assert "s-maxage=2" in dict(sent.ok)["Cache-Control"]
    assert ready.variant("gzip") is sent


def test_pages_share_what_they_have_in_common():
    one, two = (lean(make_page(key=key, options={"vary": []})) for key in ("/a", "/b"))
    assert one.headers is two.headers
    assert one.options is two.options
    assert one.variants[0].encoding is two.variants[0].encoding
    other = lean(make_page(key="/c", options={"vary": [["Accept", []]]}, headers=(("X", "y"),)))
    assert (other.options, other.headers) == ({"vary": [["Accept", []]]}, (("X", "y"),))
    assert lean(make_page(options={"vary": []})).options == {"vary": []}


def test_what_is_shared_is_bounded(monkeypatch):
    monkeypatch.setattr("flask_prerender.lean._SHARED", 20)
    for number in range(50):
        page = lean(make_page(headers=(("X", str(number)),), rule=f"/{number}"))
        assert (page.headers, page.rule) == ((("X", str(number)),), f"/{number}")
    assert max(len(module._shared), len(module._options)) <= 20
