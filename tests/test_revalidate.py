"""Pages taken back: softly, hard, and made new at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from flask import Blueprint
from flask import Flask
from flask import render_template
from flask import request

from conftest import ROOT
from flask_prerender import generate
from flask_prerender import Prerender
from flask_prerender import PrerenderError
from flask_prerender import signals
from flask_prerender.coordination.base import Revocation
from flask_prerender.errors import StoreError
from flask_prerender.revalidate import take_back
from flask_prerender.stores.index import seal
from living import heard_of
from living import SECONDS
from living import settle
from living import site_of
from living import View
from living import wait_until


@pytest.fixture
def blog(make_app, wsgi_get, tmp_path):
    """An app with a blog whose pages say how often they were rendered, all of them stored."""
    app = make_app()
    counts = {}
    outer, inner = Blueprint("site", __name__), Blueprint("posts", __name__)

    def counted(text):
        counts[text] = counts.get(text, 0) + 1
        return f"{text} {counts[text]}"

    @inner.route("/<int:n>")
    @app.prerender(tags=lambda n: [f"post-{n}", "posts"], query=["page"])
    def post(n):
        return counted(f"post {n} {request.args.get('page', '')}")

    @inner.route("/")
    @app.prerender
    def index():
        return counted("index")

    outer.register_blueprint(inner, url_prefix="/posts")
    app.register_blueprint(outer, url_prefix="/blog")

    @app.route("/blogger")
    @app.prerender
    def blogger():
        return counted("blogger")

    for path in ("/blog/posts/1", "/blog/posts/2", "/blog/posts/", "/blogger"):
        wsgi_get(app, path)
    wsgi_get(app, "/blog/posts/1", query="page=2")
    app.counts = counts
    return app


PATHS = ("/blog/posts/1", "/blog/posts/2", "/blog/posts/", "/blogger", "/blog/posts/1?page=2")


def taken_back(app):
    """Return which of the pages were taken back."""
    site = site_of(app)
    site.revocations.follow()
    return {key for key in PATHS if site.revocations.of(site.store.get(key))}


ONE, TWO, INDEX, BLOGGER, SECOND = PATHS


def name_of(value):
    """Return the same text in every process."""
    return str(sorted(value) if isinstance(value, set) else value)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ({"path": ONE}, {ONE, SECOND}),
        ({"endpoint": "site.posts.post"}, {ONE, TWO, SECOND}),
        ({"endpoint": "site.posts.post", "values": {"n": 2}}, {TWO}),
        ({"prefix": "/blog"}, {ONE, TWO, INDEX, SECOND}),
        ({"prefix": "/blog/"}, {ONE, TWO, INDEX, SECOND}),
        ({"prefix": "/blog/posts/1"}, {ONE, SECOND}),
        ({"prefix": "/"}, set(PATHS)),
        ({"tag": "post-2"}, {TWO}),
        ({"tag": ["post-2", "post-1"]}, {ONE, TWO, SECOND}),
        ({"tag": "blueprint:site"}, {ONE, TWO, INDEX, SECOND}),
        ({"tag": "blueprint:site.posts"}, {ONE, TWO, INDEX, SECOND}),
        ({"tag": "blueprint:posts"}, set()),
        ({"tag": "endpoint:blogger"}, {BLOGGER}),
        ({"everything": True}, set(PATHS)),
        ({}, set()),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("verb", ["revalidate", "purge"])
def test_pages_are_taken_back_by_what_they_have_in_common(blog, call, found, verb):
    site_of(blog).settings.__dict__["regenerate"] = "off"
    with blog.app_context():
        call = dict(call)
        paths = [call.pop("path")] if "path" in call else []
        taken = getattr(Prerender(), verb)(*paths, **call)
    assert taken_back(blog) == found
    assert taken.hard == (verb == "purge")
    assert (taken.unknown, taken.refused) == ([], {})


def test_the_answer_says_what_was_affected_unknown_and_refused(blog):
    heard = heard_of(blog, signals.pages_revoked)
    with blog.app_context():
        taken = Prerender().purge(
            ONE, "/blog/posts/99", "/nowhere", "//evil/x", "http://evil/", "no", "/a\\b", "/../x",
            tag=["", "x" * 257],
        )  # fmt: skip
        more = Prerender().purge(endpoint="none", prefix="relative")
        again = Prerender().purge(endpoint="site.posts.post", values={"m": 1})
    assert taken.affected == [ONE]
    assert taken.unknown == ["/blog/posts/99", "/nowhere"]
    assert set(taken.refused) == {"//evil/x", "http://evil/", "no", "/a\\b", "/../x", "", "x" * 257}
    assert taken.tags == [f"path:{ONE}", "path:/blog/posts/99"]
    assert set(more.refused) == {"none", "relative"}
    assert set(again.refused) == {"site.posts.post"}
    assert more.revision == again.revision == 0
    assert taken.to_dict()["revision"] == taken.revision == site_of(blog).coordination.revision()
    assert heard[1:] == [{"tags": taken.tags, "hard": True, "revision": taken.revision}]


@pytest.fixture
def spelled(make_app, wsgi_get):
    """An app whose pages have more than one spelling, all of them stored."""
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    for rule, options in (
        ("/either", {"strict_slashes": False}),
        ("/folder/", {}),
        ("/<name>", {}),
    ):
        view = app.prerender(query=["page"])(lambda **values: "text")
        app.add_url_rule(rule, rule, view, **options)
    for path in ("/either/", "/folder/", "/café"):
        wsgi_get(app, path)
    wsgi_get(app, "/either", query="page=2")
    app.stored = ["/caf%C3%A9", "/either", "/either?page=2", "/folder/"]
    assert [page.key for page in site_of(app).store.pages()] == app.stored
    return app


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("/either", "/either"),
        ("/either/", "/either"),
        ("/folder", "/folder/"),
        ("https://example.com/folder", "/folder/"),
        ("https://example.com/either/?utm_source=mail#top", "/either"),
        ("/café", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("https://example.com/caf%C3%A9", "/caf%C3%A9"),
        ("/either/?page=2", "/either?page=2"),
        ("/either?x=1", "/either"),
    ],
)
@pytest.mark.parametrize("verb", ["revalidate", "purge"])
def test_a_page_is_taken_back_however_its_path_is_written(spelled, typed, key, verb):
    site = site_of(spelled)
    site.settings.__dict__["regenerate"] = "off"
    with spelled.app_context():
        taken = getattr(Prerender(), verb)(typed)
    assert (taken.affected, taken.unknown, taken.refused) == ([key], [], {})
    site.revocations.follow()
    found = [one for one in spelled.stored if site.revocations.of(site.store.get(one))]
    assert found == [
        one for one in spelled.stored if one.partition("?")[0] == key.partition("?")[0]
    ]


@pytest.mark.parametrize(
    "typed", ["/either/", "https://example.com/folder", "/café", "/either?page=2"]
)
def test_a_page_is_refreshed_however_its_path_is_written(spelled, typed):
    with spelled.app_context():
        (outcome,) = Prerender().refresh(typed)
    assert outcome.is_stored
    assert [page.key for page in site_of(spelled).store.pages()] == spelled.stored


@pytest.mark.parametrize("prefix", ["/caf%C3%A9", "/café/", "https://example.com/café?x=1"])
def test_a_prefix_is_understood_however_it_is_written(spelled, prefix):
    site = site_of(spelled)
    with spelled.app_context():
        taken = Prerender().purge(prefix=prefix)
    assert taken.tags == ["under:/caf%C3%A9/"]
    site.revocations.follow()
    assert site.revocations.of(site.store.get("/caf%C3%A9")) == "hard"


def test_a_page_that_is_named_twice_is_told_once(spelled):
    with spelled.app_context():
        taken = Prerender().purge(
            "/either", "/either/", "/either?x=1", "/folder", "/folder/", "/none/x", "/none/x"
        )
        outcomes = Prerender().refresh("/either", "/either/", prefix="/either")
    assert (taken.affected, taken.unknown) == (["/either", "/folder/"], ["/none/x"])
    assert [one.key for one in outcomes] == ["/either", "/either?page=2"]


@pytest.mark.parametrize("prefix", ["", "blog", "//evil", "/..", "https://evil.example/"])
def test_a_prefix_that_no_page_can_have_is_refused(spelled, prefix):
    with spelled.app_context():
        taken = Prerender().purge(prefix=prefix)
    assert taken.refused == {prefix: "it is not a prefix of this site"}
    assert taken.revision == 0


@pytest.mark.parametrize("tag", ["", "x" * 257, "half \ud800"])
def test_a_tag_that_no_page_can_have_is_refused(spelled, tag):
    with spelled.app_context():
        assert set(Prerender().purge(tag=tag).refused) == {tag}


def test_values_without_an_endpoint_are_an_error(spelled):
    with spelled.app_context(), pytest.raises(TypeError, match="endpoint="):
        Prerender().purge(values={"n": 1})


def test_where_pages_differ_by_host_the_host_is_named(tmp_path):
    app = Flask("site", instance_path=str(tmp_path), host_matching=True, static_host="a.example")
    app.config.update(PRERENDER_BASE_URL="http://a.example")
    prerender = Prerender(app)
    for host in ("a.example", "b.example"):
        view = app.prerender(lambda name: f"hello {name}")
        app.add_url_rule("/<name>", host.partition(".")[0], view, host=host)
    for host in ("a.example", "b.example"):
        app.test_client().get("/me", base_url=f"http://{host}")
    with app.app_context():
        one = prerender.purge("//b.example/me", "/me", "//c.example/me")
        two = prerender.purge(endpoint="b", values={"name": "me"})
        three = prerender.purge(prefix="//b.example/")
        four = prerender.purge(prefix="/")
        (outcome,) = prerender.refresh("//b.example/me")
        again = prerender.refresh(prefix="//a.example")
    assert (one.affected, one.unknown) == (["//b.example/me"], ["//c.example/me"])
    assert list(one.refused) == ["/me"]
    assert "//host/path" in one.refused["/me"]
    assert two.affected == ["//b.example/me"]
    assert three.tags == ["under://b.example/"]
    assert list(four.refused) == ["/"]
    assert outcome.is_stored
    assert [made.key for made in again] == ["//a.example/me"]
    site_of(app).close()


def test_naming_a_thousand_paths_asks_no_mark_for_its_tags(make_app):
    app = make_app()
    asked = []

    @app.route("/<int:n>")
    @app.prerender(tags=lambda n: asked.append(n) or [])
    def page(n):
        return "text"

    with app.app_context():
        assert len(Prerender().purge(*(f"/{n}" for n in range(1000))).unknown) == 1000
    assert asked == []


def test_soft_is_served_on_while_it_is_made_new(blog, wsgi_get):
    go = threading.Event()
    site = site_of(blog)
    make_new = site.regenerator.make_new
    site.regenerator.make_new = lambda key: go.wait(SECONDS) and make_new(key)
    with blog.app_context():
        Prerender().revalidate(tag="post-2")
    answer = wsgi_get(blog, TWO)
    assert (answer.body, answer.get("X-Prerendered")) == (b"post 2  1", "true")
    go.set()
    settle(blog)
    assert wsgi_get(blog, TWO).body == b"post 2  2"


def test_a_path_that_is_named_is_made_new_without_a_visitor(blog, wsgi_get):
    with blog.app_context():
        Prerender().revalidate(TWO, INDEX)
    settle(blog)
    assert (blog.counts["post 2 "], blog.counts["index"]) == (2, 2)
    assert taken_back(blog) == set()


def test_hard_is_not_served_any_more(blog, wsgi_get):
    with blog.app_context():
        Prerender().purge(tag="post-2")
    assert wsgi_get(blog, TWO).body == b"post 2  2"
    with blog.app_context():
        Prerender().purge(TWO)
    settle(blog)
    assert blog.counts["post 2 "] == 2  # nobody came yet
    assert wsgi_get(blog, TWO).body == b"post 2  3"
    assert wsgi_get(blog, ONE).body == b"post 1  1"


def test_a_page_that_was_purged_and_cannot_be_made_is_tried_again_though_it_rests(
    make_app, wsgi_get, clock
):
    app = make_app({"PROPAGATE_EXCEPTIONS": False})
    view = View(app)
    wsgi_get(app, "/page")
    view.does = lambda: ("down", 500)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    with app.app_context():
        Prerender().purge("/page")
    answer = wsgi_get(app, "/page")  # an error rather than what is to be gone
    assert (answer.status, answer.body, answer.get("Cache-Control")) == (500, b"down", "no-store")
    assert view.renders == 3
    view.does = None
    clock.forward(3)
    assert wsgi_get(app, "/page").body == b"render 4"


def test_other_processes_serve_the_new_state_at_their_next_request(make_app, wsgi_get, tmp_path):
    one, two = make_app(), make_app()
    views = View(one), View(two)
    wsgi_get(one, "/page")
    assert wsgi_get(two, "/page").body == b"render 1"
    views[1].does = lambda: "of the other"
    for verb in ("purge", "revalidate"):
        with one.app_context():
            getattr(Prerender(), verb)(tag="under:/")
        answer = wsgi_get(two, "/page")
        if verb == "purge":
            assert answer.body == b"of the other"
            views[1].does = lambda: "again"
        else:
            assert "s-maxage=2" in answer.get("Cache-Control")
            settle(two)
            assert wsgi_get(two, "/page").body == wsgi_get(one, "/page").body == b"again"


def test_a_process_of_its_own_takes_pages_back_for_all(make_app, wsgi_get, tmp_path):
    app = make_app()
    View(app)
    wsgi_get(app, "/page")
    program = f"""
from flask import Flask
from flask_prerender import Prerender
app = Flask("site", instance_path={str(tmp_path / "instance")!r})
prerender = Prerender(app)
with app.app_context():
    assert prerender.purge(tag="path:/page").revision
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True, timeout=50)
    assert wsgi_get(app, "/page").body == b"render 2"


def test_templates_are_tags_those_that_are_extended_and_included_too(make_app, wsgi_get, tmp_path):
    app = make_app()
    folder = tmp_path / "app" / "templates"
    (folder / "base.html").write_text("<main>{% block main %}{% endblock %}</main>")
    (folder / "part.html").write_text("a part")
    (folder / "macros.html").write_text("{% macro hello() %}hello{% endmacro %}")
    (folder / "page.html").write_text(
        '{% extends "base.html" %}{% import "macros.html" as m %}'
        '{% block main %}{% include "part.html" %} {{ m.hello() }}{% endblock %}'
    )
    (folder / "other.html").write_text("other")

    @app.route("/page")
    @app.prerender
    def page():
        return render_template("page.html")

    @app.route("/other")
    @app.prerender
    def other():
        return render_template("other.html")

    site = site_of(app)
    for _ in range(2):  # templates are loaded once and used again
        wsgi_get(app, "/page")
        wsgi_get(app, "/other")
        names = site.store.get("/page").templates
        assert {"base.html", "part.html", "page.html", "macros.html"} <= set(names)
        assert "other.html" not in names
        with app.app_context():
            Prerender().purge(tag="template:base.html")
        site.revocations.follow()
        assert site.revocations.of(site.store.get("/page")) == "hard"
        assert site.revocations.of(site.store.get("/other")) == ""


@pytest.mark.parametrize("rounds", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_changes_during_a_render_are_never_lost(make_app, wsgi_get, rounds):
    app = make_app()
    content = [0]
    read, told = threading.Event(), threading.Event()
    rng = random.Random(7)
    where = ["before"]

    @app.route("/page")
    @app.prerender
    def page():
        if where[0] == "before":
            read.set()
            told.wait(SECONDS)
        text = str(content[0])
        if where[0] == "after":
            read.set()
            told.wait(SECONDS)
        return text

    site = site_of(app)
    wsgi_get_body = lambda: wsgi_get(app, "/page").body  # noqa: E731
    told.set()
    wsgi_get_body()
    for round_ in range(rounds):
        where[0] = rng.choice(("before", "after"))
        read.clear()
        told.clear()
        thread = threading.Thread(
            target=site.regenerator.make_new, args=("/page",), kwargs={"anyway": True}
        )
        thread.start()
        assert read.wait(SECONDS)
        content[0] = round_ + 1
        take_back(site, hard=round_ % 2 == 0, paths=["/page"])
        told.set()
        thread.join(SECONDS)
        where[0] = ""
        answer = wsgi_get_body()
        if answer != str(round_ + 1).encode():
            assert round_ % 2  # it was softly taken back: served on, and made new
            settle(app)
            answer = wsgi_get_body()
        assert answer == str(round_ + 1).encode()
        settle(app)


def _fill(app, count):
    """Store many pages under one tag, the fast way."""
    site = site_of(app)
    wsgi = app.test_client().get("/0")
    assert wsgi.status_code == 200
    page = site.store.get("/0")
    with site.store._index.write() as writing:
        for n in range(1, count):
            copy = replace(page, key=f"/{n}", file=f"{n}/index.html")
            record = copy.to_json()
            writing.put(copy, record, seal(record), set(), None)


def _times_of_revoking(make_app, counts):
    times = {}
    for count in counts:
        app = make_app(instance=str(count))
        site = site_of(app)
        View(app, "/<int:n>", tags=["all of them"])
        _fill(app, count)
        started = time.perf_counter()
        taken = take_back(site, hard=False, tags=["all of them"])
        times[count] = time.perf_counter() - started
        row = Revocation("all of them", taken.revision, False)
        assert site.coordination.revocations(taken.revision - 1)[1] == [row]
        site.revocations.follow()
        for n in (0, 1, count - 1):
            assert site.revocations.of(site.store.get(f"/{n}")) == "soft"
    print({count: f"{seconds * 1000:.2f} ms" for count, seconds in times.items()})


def test_one_revocation_is_one_row_however_many_pages_there_are(make_app):
    _times_of_revoking(make_app, (10, 1000))


@pytest.mark.long
def test_a_hundred_thousand_pages_under_one_tag_are_one_row(make_app):
    _times_of_revoking(make_app, (10, 100_000))


# Refresh.


def test_refresh_returns_when_the_page_is_new(blog, wsgi_get):
    with blog.app_context():
        first, second, third = Prerender().refresh(ONE, "/blog/posts/7", "/nowhere")
    assert (first.result, second.result, third.reason) == ("published", "published", "route")
    assert wsgi_get(blog, ONE).body == b"post 1  2"
    assert wsgi_get(blog, "/blog/posts/7").body == b"post 7  1"


def test_refresh_makes_new_what_rests_after_a_failure(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    wsgi_get(app, "/page")
    view.does = lambda: ("down", 500)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    view.does = None
    with app.app_context():
        (outcome,) = Prerender().refresh("/page")
    assert outcome.result == "published"
    assert wsgi_get(app, "/page").body == b"render 3"
    assert site_of(app).coordination.streak("/page") is None


def test_refresh_waits_for_who_is_at_it_and_makes_the_page_once_more(make_app, wsgi_get, clock):
    app = make_app()
    view = View(app)
    wsgi_get(app, "/page")
    go, began = threading.Event(), threading.Event()

    def slow():
        began.set()
        assert go.wait(SECONDS)
        return f"render {view.renders}"

    view.does = slow
    clock.forward(60)
    wsgi_get(app, "/page")
    assert began.wait(SECONDS)
    outcomes = []

    def refresh():
        with app.app_context():
            outcomes.extend(Prerender().refresh("/page"))

    thread = threading.Thread(target=refresh)
    thread.start()
    wait_until(lambda: "/page" in site_of(app).regenerator._rests)
    go.set()
    thread.join(SECONDS)
    assert [outcome.result for outcome in outcomes] == ["published"]
    assert view.renders == 3
    assert wsgi_get(app, "/page").body == b"render 3"


def test_refresh_gives_up_after_the_timeout(make_app, wsgi_get):
    app = make_app({"PRERENDER_TIMEOUT": 0.05})
    View(app)
    with app.app_context(), site_of(app).claims.hold("/page"):
        (outcome,) = Prerender().refresh("/page")
    assert (outcome.result, outcome.reason) == ("failed", "wait")


def test_a_failed_refresh_keeps_the_page_and_says_why(make_app, wsgi_get):
    app = make_app()
    view = View(app)
    wsgi_get(app, "/page")
    view.does = lambda: ("down", 503)
    with app.app_context():
        (outcome,) = Prerender().refresh("/page")
    assert (outcome.result, outcome.reason, outcome.detail) == ("failed", "error", "status 503")
    assert wsgi_get(app, "/page").body == b"render 1"


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ({"endpoint": "site.posts.post"}, {ONE, TWO, SECOND}),
        ({"endpoint": "site.posts.post", "values": {"n": 2}}, {TWO}),
        ({"prefix": "/blog/posts/1"}, {ONE, SECOND}),
        ({"tag": "post-2"}, {TWO}),
        ({"tag": ["post-2", "blueprint:site"]}, {ONE, TWO, INDEX, SECOND}),
        ({"everything": True}, set(PATHS)),
        ({}, set()),
    ],
    ids=name_of,
)
def test_refresh_makes_what_pages_have_in_common_new(blog, call, found):
    site = site_of(blog)
    before = {key: site.store.get(key).changed_at for key in PATHS}
    site.clock.forward(10)
    with blog.app_context():
        outcomes = Prerender().refresh(**call)
    assert {one.key for one in outcomes} == found
    assert len(outcomes) == len(found)
    assert {one.result for one in outcomes} <= {"published"}
    assert {key for key in PATHS if site.store.get(key).changed_at > before[key]} == found


def test_refresh_says_what_there_is_none_of(blog):
    with blog.app_context():
        outcomes = Prerender().refresh(
            "/nowhere", "no path", "/blogger?x=1", endpoint="none", prefix="/none", tag="none"
        )
    assert [(one.key, one.result, one.reason) for one in outcomes] == [
        ("none", "refused", "name"),
        ("no path", "refused", "name"),
        ("/nowhere", "refused", "route"),
        ("/blogger?x=1", "refused", "query"),
        ("under:/none/", "refused", "unknown"),
        ("none", "refused", "unknown"),
    ]
    assert all(one.detail for one in outcomes)
    assert {page.key for page in site_of(blog).store.pages()} == set(PATHS)


def test_refresh_makes_every_variant_of_a_page_or_the_one_that_a_key_says(make_app):
    app = make_app()
    view = View(app, vary={"Accept-Language": ["en", "de"]})
    with app.app_context():
        every = Prerender().refresh("/page")
        one = Prerender().refresh(every[1].key)
        taken = Prerender().purge("/page")
    assert [made.key for made in every] == [
        "/page?#accept-language=en", "/page?#accept-language=de",
    ]  # fmt: skip
    assert [made.key for made in one] == [every[1].key]
    assert view.renders == 3
    assert taken.affected == [made.key for made in every]


# The owner says "now".


@pytest.fixture
def resting(make_app, wsgi_get, clock):
    """An app whose page could not be made new, and rests; its view is well again."""
    app = make_app()
    app.view = View(app, tags=["news"])
    wsgi_get(app, "/page")
    app.view.does = lambda: ("down", 500)
    clock.forward(60)
    wsgi_get(app, "/page")
    settle(app)
    wsgi_get(app, "/page")
    settle(app)
    assert app.view.renders == 2
    app.view.does = None
    return app


@pytest.mark.parametrize("named", [{"paths": ["/page"]}, {"tags": ["news"]}, {"everything": True}])
def test_a_page_that_rests_is_made_new_when_it_is_revalidated(resting, wsgi_get, named):
    take_back(site_of(resting), hard=False, **named)
    assert wsgi_get(resting, "/page").body == b"render 1"
    settle(resting)
    assert wsgi_get(resting, "/page").body == b"render 3"
    assert site_of(resting).coordination.streak("/page") is None


def test_a_path_that_rests_is_made_new_without_a_visitor(resting):
    with resting.app_context():
        Prerender().revalidate("/page")
    settle(resting)
    assert resting.view.renders == 3


def test_what_another_process_revalidates_ends_the_rest_here(make_app, resting, wsgi_get):
    other = make_app()
    View(other, tags=["news"])
    take_back(site_of(other), hard=False, tags=["news"])
    wsgi_get(resting, "/page")
    settle(resting)
    assert wsgi_get(resting, "/page").body == b"render 3"


def test_other_pages_that_are_revalidated_end_no_rest(resting, wsgi_get):
    take_back(site_of(resting), hard=False, tags=["other"])
    wsgi_get(resting, "/page")
    settle(resting)
    assert resting.view.renders == 2


def test_a_page_that_fails_once_more_rests_for_longer(make_app, resting, wsgi_get, clock):
    site, other = site_of(resting), make_app()
    elsewhere = View(other, tags=["news"])
    resting.view.does = lambda: ("down", 500)
    take_back(site, hard=False, paths=["/page"])
    for _ in range(5):
        assert wsgi_get(resting, "/page").body == b"render 1"
        settle(resting)
        assert wsgi_get(other, "/page").body == b"render 1"
        settle(other)
    assert (resting.view.renders, elsewhere.renders) == (3, 0)
    streak = site.coordination.streak("/page")
    assert streak.failures == 2
    assert 54 <= streak.not_before - clock() <= 66


def test_what_is_revalidated_while_it_fails_is_tried_again_at_once(resting, wsgi_get, clock):
    site = site_of(resting)

    def fail():
        resting.view.does = None
        take_back(site, hard=False, paths=["/page"])
        return "down", 500

    resting.view.does = fail
    clock.forward(60)
    wsgi_get(resting, "/page")
    settle(resting)
    wsgi_get(resting, "/page")
    settle(resting)
    assert wsgi_get(resting, "/page").body == b"render 4"


def test_an_expired_page_that_rests_is_waited_for_when_it_was_revalidated(
    make_app, wsgi_get, clock
):
    app = make_app()
    view = View(app, expire=600)
    wsgi_get(app, "/page")
    view.does = lambda: ("down", 500)
    clock.forward(600)
    assert wsgi_get(app, "/page").body == b"render 1"
    clock.forward(4)
    view.does = None
    assert wsgi_get(app, "/page").body == b"render 1"  # it rests
    clock.forward(4)
    take_back(site_of(app), hard=False, paths=["/page"])
    assert wsgi_get(app, "/page").body == b"render 3"


def test_what_could_not_be_stored_may_be_tried_again_once_another_process_took_it_back(
    make_app, wsgi_get
):
    one, other = make_app(), make_app()
    view = View(one)
    View(other)
    view.does = lambda: ("text", 200, {"Cache-Control": "no-store"})
    wsgi_get(one, "/page")
    view.does = None
    assert wsgi_get(one, "/page").body == b"for one visitor"
    take_back(site_of(other), hard=True, paths=["/page"])
    assert wsgi_get(one, "/page").body == b"render 2"


def test_what_is_taken_back_while_it_is_not_stored_may_be_tried_again(make_app, wsgi_get):
    app = make_app()
    view = View(app)

    def refuse():
        view.does = None
        take_back(site_of(app), hard=False, paths=["/page"])
        return "text", 200, {"Cache-Control": "no-store"}

    view.does = refuse
    wsgi_get(app, "/page")
    assert wsgi_get(app, "/page").body == b"render 2"


# What is needed, and what goes.


def test_taking_back_needs_a_context_and_a_store_that_can_be_written(make_app, monkeypatch):
    app = make_app()
    with pytest.raises(PrerenderError, match="application context"):
        Prerender().purge("/page")
    with Flask("other").app_context(), pytest.raises(PrerenderError, match="not initialised"):
        Prerender().revalidate("/page")

    def fail(*args, **more):
        raise StoreError("the disk is full")

    monkeypatch.setattr(site_of(app).coordination, "revoke", fail)
    with app.app_context(), pytest.raises(StoreError):
        Prerender().purge(tag="a")


def test_what_could_not_be_stored_may_be_tried_again_once_it_was_taken_back(make_app, wsgi_get):
    app = make_app()
    view = View(app)
    view.does = lambda: ("text", 200, {"Cache-Control": "no-store"})
    wsgi_get(app, "/page")
    view.does = None
    assert wsgi_get(app, "/page").body == b"for one visitor"
    with app.app_context():
        Prerender().revalidate("/page")
    assert wsgi_get(app, "/page").body == b"render 2"


def test_full_builds_forget_what_no_page_needs(make_app, wsgi_get):
    app = make_app()
    View(app)
    generate(app)
    with app.app_context():
        Prerender().purge("/page", tag="own")
    generate(app)
    coordination = site_of(app).coordination
    assert {row.tag for row in coordination.revocations(0)[1]} == {"path:/page", "own"}
    generate(app)
    assert {row.tag for row in coordination.revocations(0)[1]} == {"own"}
    assert wsgi_get(app, "/page").body == b"render 3"


@pytest.mark.parametrize("status", [200, 201, 302, 303])
def test_a_change_that_went_well_makes_its_page_stale(make_app, wsgi_get, status):
    app = make_app()
    view = View(app)
    app.add_url_rule("/page", "change", lambda: ("done", status), methods=["POST", "PUT"])
    wsgi_get(app, "/page")
    wsgi_get(app, "/page", method="POST")
    wsgi_get(app, "/page")
    settle(app)
    assert wsgi_get(app, "/page").body == b"render 2"
    assert view.visits == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_a_change_that_went_wrong_changes_nothing(make_app, wsgi_get, status):
    app = make_app()
    view = View(app)
    app.add_url_rule("/page", "change", lambda: ("no", status), methods=["POST"])
    wsgi_get(app, "/page")
    wsgi_get(app, "/page", method="POST")
    wsgi_get(app, "/page")
    settle(app)
    assert view.renders == 1
