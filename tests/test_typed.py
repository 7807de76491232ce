"""The page that a person means by a path."""

from __future__ import annotations

import pytest
from flask import Flask
from flask import request

from flask_prerender import Prerender
from flask_prerender.typed import meant_by
from flask_prerender.typed import prefix_meant_by
from living import site_of

BASE = "https://example.com/shop"


@pytest.fixture
def app(make_app):
    app = make_app({"PRERENDER_BASE_URL": BASE, "PRERENDER_IGNORED_QUERY": ["ref"]})

    def add(rule, **options):
        endpoint = options.pop("endpoint", rule)
        mark = app.prerender(query=options.pop("query", []), vary=options.pop("vary", []))
        app.add_url_rule(rule, endpoint, mark(lambda **values: request.path), **options)

    add("/either", strict_slashes=False)
    add("/both/", strict_slashes=False)
    add("/folder/")
    add("/leaf")
    add("/", strict_slashes=False)
    add("/<name>/<int:n>")
    add("/list", query=["page", "size"])
    add("/any", query=["*"])
    add("/tongues", vary={"Accept-Language": ["en", "de"]})
    add("/open", vary=["Accept-Language"], query=["page"])
    add("/all/", endpoint="all", defaults={"page": 1})
    app.add_url_rule("/all/page/<int:page>", "all")
    app.add_url_rule("/old", "old", app.prerender(lambda: ""), redirect_to="folder/")
    app.add_url_rule(
        "/away", "away", app.prerender(lambda: ""), redirect_to="//evil.example/shop/leaf"
    )
    app.add_url_rule("/out", "out", app.prerender(lambda: ""), redirect_to="/leaf")
    app.add_url_rule("/round", "round", app.prerender(lambda: ""), redirect_to="round")
    app.add_url_rule("/private", "private", lambda: "")
    return app


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("/either", "/either"),
        ("/either/", "/either"),
        ("/both", "/both/"),
        ("/both/", "/both/"),
        ("/folder", "/folder/"),
        ("/folder/", "/folder/"),
        ("/leaf", "/leaf"),
        ("/", "/"),
        ("/old", "/folder/"),
        ("/all/page/1", "/all/"),
        ("/all/page/2", "/all/page/2"),
        ("/all", "/all/"),
        (f"{BASE}/either/", "/either"),
        (f"{BASE}/folder?utm_source=x#top", "/folder/"),
        (BASE, "/"),
        (f"{BASE}/", "/"),
        ("/café/1", "/caf%C3%A9/1"),
        ("/caf%C3%A9/1", "/caf%C3%A9/1"),
        ("/caf%c3%a9/1", "/caf%C3%A9/1"),
        ("/100%25/1", "/100%25/1"),
        ("/a%20b/1", "/a%20b/1"),
        ("/a b/1", "/a%20b/1"),
        ("/leaf#top", "/leaf"),
        ("/leaf#accept-language=de", "/leaf"),
        ("/leaf?ref=x", "/leaf"),
        ("/list?size=2&page=1", "/list?page=1&size=2"),
        ("/list?page=1&utm_medium=x", "/list?page=1"),
        ("/any?b=2&a=%C3%A9", "/any?a=%C3%A9&b=2"),
    ],
)
def test_every_spelling_that_is_answered_with_a_page_means_it(app, typed, key):
    page = meant_by(site_of(app), typed)
    assert page.mark is not None
    assert page.key == key
    assert page.unnamed == ()
    assert meant_by(site_of(app), page.key).key == key
    # As a request finds it.
    with app.test_request_context(key, base_url=BASE, method="GET"):
        assert request.url_rule is not None


@pytest.mark.parametrize(
    "typed",
    ["/leaf/", "/none", "/folder/x", "/private", "/away", "/out", "/round", "/LEAF"],
)
def test_what_has_no_page_of_a_marked_route_says_so(app, typed):
    page = meant_by(site_of(app), typed)
    assert (page.key, page.mark, page.keys) == (typed, None, [])


@pytest.mark.parametrize(
    "typed",
    ["", "leaf", "//leaf", "//example.com/leaf", "///leaf", "/..", "/a//b", "/\\", "/%00", "/%ff",
     "?x",     "https://example.com/leaf", "https://example.com/shopping", "http://example.com/shop/leaf",
     "https://evil.example/shop/leaf", "#x", "/\udcff"],
)  # fmt: skip
def test_what_is_no_page_of_the_site_is_none(app, typed):
    assert meant_by(site_of(app), typed) is None
    assert prefix_meant_by(site_of(app), typed) is None


def test_parameters_that_the_mark_does_not_name_are_told(app):
    page = meant_by(site_of(app), "/list?page=1&x=2&ref=3&y=4")
    assert (page.key, page.unnamed) == ("/list?page=1", ("x", "y"))


def test_unknown_parameters_are_nothing_where_they_are_ignored(make_app):
    app = make_app({"PRERENDER_UNKNOWN_QUERY": "ignore"})
    app.add_url_rule("/leaf", "leaf", app.prerender(lambda: ""))
    page = meant_by(site_of(app), "/leaf?x=1")
    assert (page.key, page.unnamed) == ("/leaf", ())


def test_where_pages_differ_by_a_header_all_of_them_are_meant_or_the_one_of_a_key(app):
    site = site_of(app)
    every = ["/tongues?#accept-language=en", "/tongues?#accept-language=de"]
    assert meant_by(site, "/tongues").keys == every
    assert meant_by(site, every[1]).keys == every[1:]
    assert meant_by(site, "/tongues#top").keys == every
    assert meant_by(site, "/tongues?#accept-language=xx").keys == every
    assert meant_by(site, "/open").keys == ["/open"]
    assert meant_by(site, "/open?page=2#accept-language=fr").keys == [
        "/open?page=2#accept-language=fr"
    ]


def test_a_redirect_is_told(app):
    assert meant_by(site_of(app), "/folder").is_redirected
    assert not meant_by(site_of(app), "/folder/").is_redirected
    assert not meant_by(site_of(app), "/either/").is_redirected


@pytest.mark.parametrize(
    ("typed", "start"),
    [
        ("/blog", "/blog"),
        ("/blog/?x=1#y", "/blog/"),
        ("/", "/"),
        (f"{BASE}/caf\u00e9", "/caf%C3%A9"),
    ],
)
def test_a_prefix_is_written_as_keys_are(app, typed, start):
    assert prefix_meant_by(site_of(app), typed) == start


@pytest.fixture
def hosts(tmp_path):
    app = Flask("site", instance_path=str(tmp_path), host_matching=True, static_host="a.example")
    app.config.update(
        PRERENDER_BASE_URL="http://a.example", TRUSTED_HOSTS=["a.example", "b.example"]
    )
    Prerender(app)
    app.add_url_rule("/folder/", "a", app.prerender(lambda: ""), host="a.example")
    app.add_url_rule(
        "/leaf", "b", app.prerender(lambda: ""), host="b.example", strict_slashes=False
    )
    yield app
    site_of(app).close()


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("//a.example/folder", "//a.example/folder/"),
        ("//A.example/folder/", "//a.example/folder/"),
        ("http://a.example/folder", "//a.example/folder/"),
        ("//b.example/leaf/", "//b.example/leaf"),
    ],
)
def test_where_pages_differ_by_host_it_is_written_before_the_path(hosts, typed, key):
    page = meant_by(site_of(hosts), typed)
    assert page.mark is not None
    assert page.key == key


def test_hosts_that_the_app_does_not_have_or_trust_have_no_page(hosts):
    site = site_of(hosts)
    assert meant_by(site, "//a.example/leaf").mark is None
    assert meant_by(site, "//evil.example/leaf").mark is None
    for typed in ("/leaf", "///leaf", "//", "//b.example", "//b.example:x/leaf"):
        assert meant_by(site, typed) is None
    for typed in ("//b.example/", "//b.example"):
        assert prefix_meant_by(site, typed) == "//b.example/"
    assert prefix_meant_by(site, "/") is None
