"""Marks: the decorator, its options, and what a wrong one says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint
from flask import Flask
from flask.views import MethodView
from flask.views import View

import flask_prerender
from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import MarkError
from flask_prerender import Prerender
from flask_prerender import PrerenderError
from flask_prerender import TagsError
from flask_prerender.marks import Mark
from flask_prerender.marks import MarkOptions

MakeApp = Callable[..., Flask]


def marks(app: Flask) -> dict[str, Mark]:
    """The marked rules of an app, and their marks."""
    rules = app.extensions["prerender"].routes.marked_rules()
    return {rule.rule: found for rule, found in rules}


def page(*args: Any, **values: Any) -> str:
    return "a page"


# The decorator.


def test_one_decorator_has_three_names(make_app: MakeApp) -> None:
    app = make_app()
    assert app.prerender is mark is flask_prerender.mark is Prerender.mark  # type: ignore[attr-defined]


def test_a_bare_mark_gives_the_view_back(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/above")
    @mark
    def above() -> str:
        return "above"

    @mark
    @app.route("/below")
    def below() -> str:
        return "below"

    assert (above(), below()) == ("above", "below")
    assert set(marks(app)) == {"/above", "/below"}


def test_a_mark_with_options_works_above_and_below_the_route(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/above")
    @mark(revalidate=60, tags=["a"])
    def above() -> str:
        return ""

    @mark(revalidate=30)
    @app.route("/below")
    def below() -> str:
        return ""

    found = marks(app)
    assert found["/above"].revalidate == 60
    assert found["/above"].tags_for({}) == ("a",)
    assert found["/below"].revalidate == 30


def test_a_mark_with_empty_parentheses_marks(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/", "page", mark()(lambda: "x"))
    app.add_url_rule("/true", "true", mark(True)(lambda: "x"))
    assert set(marks(app)) == {"/", "/true"}


def test_what_is_not_marked_is_left_alone(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/plain", view_func=page)
    assert marks(app) == {}


def test_two_marks_on_one_view_are_read_together(make_app: MakeApp) -> None:
    app = make_app()
    view = mark(revalidate=60)(mark(revalidate=5, tags=["t"])(lambda: "x"))
    app.add_url_rule("/", "page", view)
    assert marks(app)["/"].revalidate == 60
    assert marks(app)["/"].tags_for({}) == ("t",)


def test_false_takes_a_mark_away_and_a_later_mark_brings_it_back(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/off", "off", mark(False)(mark(lambda: "x")))
    app.add_url_rule("/on", "on", mark(mark(False)(lambda: "x")))
    assert set(marks(app)) == {"/on"}


def test_a_mark_is_seen_through_functools_wraps(make_app: MakeApp) -> None:
    app = make_app()

    def counted(view: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(view)
        def inner(**values: Any) -> str:
            return view(**values)

        return inner

    app.add_url_rule("/outside", "outside", counted(mark(revalidate=7)(lambda: "x")))
    app.add_url_rule("/inside", "inside", mark(revalidate=8)(counted(lambda: "x")))
    assert {rule: found.revalidate for rule, found in marks(app).items()} == {
        "/outside": 7,
        "/inside": 8,
    }


def test_a_method_view_is_marked_on_its_class(make_app: MakeApp) -> None:
    app = make_app()

    @mark(revalidate=60)
    class Terms(MethodView):
        def get(self) -> str:
            return "terms"

        def post(self) -> str:
            return "signed"

    app.add_url_rule("/terms", view_func=Terms.as_view("terms"))
    assert marks(app)["/terms"].revalidate == 60
    assert generate(app).counts == {"published": 1}
    assert app.test_client().post("/terms").text == "signed"


def test_a_class_view_is_marked_by_its_decorators(make_app: MakeApp) -> None:
    app = make_app()

    class Terms(MethodView):
        decorators = [mark(revalidate=60)]  # noqa: RUF012

        def get(self) -> str:
            return "terms"

    class Help(View):
        decorators = [mark]  # noqa: RUF012

        def dispatch_request(self) -> str:
            return "help"

    app.add_url_rule("/terms", view_func=Terms.as_view("terms"))
    app.add_url_rule("/help", view_func=Help.as_view("help"))
    assert {rule: found.revalidate for rule, found in marks(app).items()} == {
        "/terms": 60,
        "/help": None,
    }


def test_a_view_of_a_marked_class_can_be_taken_out(make_app: MakeApp) -> None:
    app = make_app()

    @mark
    class Base(MethodView):
        def get(self) -> str:
            return "x"

    @mark(False)
    class Private(Base):
        pass

    app.add_url_rule("/base", view_func=Base.as_view("base"))
    app.add_url_rule("/private", view_func=Private.as_view("private"))
    assert set(marks(app)) == {"/base"}


def test_every_rule_of_a_marked_endpoint_is_marked(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/")
    @app.route("/home")
    @mark
    def home() -> str:
        return "home"

    assert set(marks(app)) == {"/", "/home"}
    assert set(generate(app).changed) == {"/", "/home"}


def test_views_of_a_blueprint_are_marked_before_any_app_is_known(make_app: MakeApp) -> None:
    blog = Blueprint("blog", __name__, url_prefix="/blog")
    blog.add_url_rule("/", "index", mark(lambda: "blog"))
    app = make_app()
    app.register_blueprint(blog)
    assert set(marks(app)) == {"/blog/"}


def test_what_cannot_carry_a_mark_is_told(make_app: MakeApp) -> None:
    class Views:
        def about(self) -> str:
            return "about"

    with pytest.raises(MarkError, match="cannot carry a mark"):
        mark(Views().about)
    with pytest.raises(MarkError, match="marks a view, not 60"):
        mark(60)  # type: ignore[call-overload]


def test_a_method_view_is_marked_on_its_get(make_app: MakeApp) -> None:
    app = make_app()

    @mark(revalidate=60, tags=["class"])
    class Both(MethodView):
        @mark(revalidate=5)
        def get(self) -> str:
            return "both"

    class Method(MethodView):
        @mark
        def get(self) -> str:
            return "method"

    @mark
    class Off(MethodView):
        @mark(False)
        def get(self) -> str:
            return "off"

    @mark(False)
    class Private(Method):
        pass

    for view in (Both, Method, Off, Private):
        name = view.__name__
        app.add_url_rule(f"/{name}", view_func=view.as_view(name))
    found = marks(app)
    assert set(found) == {"/Both", "/Method"}
    assert (found["/Both"].revalidate, found["/Both"].tags_for({})) == (5, ("class",))
    assert set(generate(app).changed) == {"/Both", "/Method"}


# Options.


def test_the_options_are_these() -> None:
    assert {
        "params", "fallback", "revalidate", "expire", "tags", "query", "vary", "statuses",
        "headers", "visitors", "sitemap", "max_pages",
    } == set(MarkOptions.__annotations__)  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("revalidat", "revalidate"),
        ("expires", "expire"),
        ("tag", "tags"),
        ("param", "params"),
        ("visitor", "visitors"),
        ("header", "headers"),
        ("status", "statuses"),
        ("site_map", "sitemap"),
        ("falback", "fallback"),
        ("querys", "query"),
    ],
)
def test_a_wrong_option_fails_at_import_with_the_nearest_right_one(
    wrong: str, nearest: str
) -> None:
    with pytest.raises(MarkError, match=rf"no option '{wrong}'. Did you mean '{nearest}'\?"):
        mark(**{wrong: 1})  # type: ignore[call-overload]


def test_an_option_like_no_other_names_them_all() -> None:
    with pytest.raises(TypeError) as caught:
        mark(zzz=1)  # type: ignore[call-overload]
    assert "Did you mean" not in str(caught.value)
    assert all(option in str(caught.value) for option in MarkOptions.__annotations__)


def test_false_with_options_is_a_contradiction() -> None:
    with pytest.raises(MarkError, match=r"mark\(False\) takes no options"):
        mark(False, revalidate=60)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("params", 5, "an iterable of dicts is wanted"),
        ("params", "abc", "an iterable of dicts is wanted"),
        ("params", {"slug": "a"}, "an iterable of dicts is wanted"),
        ("params", iter([{}]), "used up after one build"),
        ("params", lambda one, two: [], "takes no argument, or one"),
        ("fallback", "rendre", "Did you mean 'render'?"),
        ("fallback", None, "one of 'render', 'pass', '404' is wanted"),
        ("revalidate", "60", "seconds are wanted, None, or one of seconds, minutes"),
        ("revalidate", True, "seconds are wanted, a number of at least 0, or None"),
        ("revalidate", -1, "seconds are wanted, a number of at least 0, or None"),
        ("revalidate", float("nan"), "seconds are wanted, a number of at least 0, or None"),
        ("expire", [], "seconds are wanted, a number of at least 0, or None"),
        ("tags", "news", "a list of texts is wanted"),
        ("tags", 5, "a list of texts is wanted"),
        ("tags", [1], "a list of texts is wanted"),
        ("query", "page", "a list of texts is wanted"),
        ("query", None, "a list of texts is wanted"),
        ("statuses", [200, 500], "500 can never be stored"),
        ("statuses", ["200"], "a list of status numbers is wanted"),
        ("statuses", None, "a list of status numbers is wanted"),
        ("headers", {"Set-Cookie": "a=1"}, "cannot be a header of a stored page"),
        ("headers", {"X-Bad\n": "a"}, "cannot be a header of a stored page"),
        ("headers", {"X-A": "a\r\nX-B: b"}, "the value of X-A cannot be sent"),
        ("headers", {"ETag": '"a"'}, "cannot be a header of a stored page"),
        ("headers", {"content-length": "5"}, "cannot be a header of a stored page"),
        ("headers", {"Transfer-Encoding": "chunked"}, "cannot be a header of a stored page"),
        ("headers", {"Content-Encoding": "gzip"}, "cannot be a header of a stored page"),
        ("headers", {"Content-Range": "bytes 0-1/2"}, "cannot be a header of a stored page"),
        ("headers", {"Date": "now"}, "cannot be a header of a stored page"),
        ("headers", {"Vary": "Accept-Encoding, Cookie"}, "varies by encoding alone"),
        ("headers", {"Vary": "*"}, "varies by encoding alone"),
        ("headers", {"Cache-Control": "max-age=5, private"}, "private cannot be stored"),
        ("headers", {"CDN-Cache-Control": "no-store"}, "no-store cannot be stored"),
        ("headers", {"X-A": 1}, "the value of X-A cannot be sent"),
        ("headers", "X-A: b", "a dict of names and values is wanted"),
        ("visitors", "bot", "Did you mean 'bots'?"),
        ("sitemap", "no", "a dict with priority and changefreq"),
        ("sitemap", {"prio": 1}, "a dict with priority and changefreq"),
        ("sitemap", {"priority": 2}, "a number from 0.0 to 1.0"),
        ("sitemap", {"priority": True}, "a number from 0.0 to 1.0"),
        ("sitemap", {"changefreq": "dayly"}, "Did you mean 'daily'?"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_wanted(
    option: str, value: object, message: str
) -> None:
    with pytest.raises(MarkError) as caught:
        mark(**{option: value})  # type: ignore[call-overload]
    assert f"{option}=" in str(caught.value)
    assert message in str(caught.value)


def test_a_page_may_not_expire_before_it_is_stale() -> None:
    with pytest.raises(MarkError, match="expire is 60 s, which is not longer than revalidate"):
        mark(revalidate=60, expire=60)


@pytest.mark.parametrize("where", ["mark_all", "marked", "select", "PRERENDER_RULES"])
def test_options_are_checked_wherever_they_stand(make_app: MakeApp, where: str) -> None:
    message = "no option 'revalidat'. Did you mean 'revalidate'?"
    with pytest.raises(MarkError) as caught:
        if where == "PRERENDER_RULES":
            make_app({"PRERENDER_RULES": {"/*": {"revalidat": 1}}})
        elif where == "mark_all":
            Prerender().mark_all("*", revalidat=1)  # type: ignore[call-arg]
        elif where == "marked":
            with Prerender().marked(revalidat=1):  # type: ignore[call-arg]
                pass
        else:
            app = make_app(select=lambda rule, view: {"revalidat": 1})
            app.add_url_rule("/", view_func=page)
            marks(app)
    assert message in str(caught.value)
    assert where in str(caught.value)


def test_the_values_of_a_mark_are_kept(make_app: MakeApp) -> None:
    app = make_app()
    view = mark(
        params=[{"slug": "a"}],
        fallback="404",
        revalidate=60,
        expire=120,
        tags=lambda slug: [f"post:{slug}", "posts", "posts"],
        query=["page"],
        statuses=[200, 404],
        headers={"X-Robots-Tag": "noindex"},
        visitors="bots",
        sitemap={"priority": 0.9, "changefreq": "daily"},
    )(page)
    app.add_url_rule("/<slug>", "post", view)
    found = marks(app)["/<slug>"]
    assert found.params == [{"slug": "a"}]
    assert (found.fallback, found.revalidate, found.expire) == ("404", 60, 120)
    assert found.tags_for({"slug": "x"}) == ("post:x", "posts")
    assert found.query == ("page",)
    assert found.statuses == {200, 404}
    assert found.headers == (("X-Robots-Tag", "noindex"),)
    assert found.visitors == "bots"
    assert found.sitemap == {"priority": 0.9, "changefreq": "daily"}


def test_options_that_are_left_out_come_from_the_settings(make_app: MakeApp) -> None:
    app = make_app(
        {
            "PRERENDER_REVALIDATE": 60,
            "PRERENDER_EXPIRE": 600,
            "PRERENDER_FALLBACK": "pass",
        }
    )
    app.add_url_rule("/plain", "plain", mark(lambda: "x"))
    app.add_url_rule("/own", "own", mark(revalidate=None, fallback="404")(lambda: "x"))
    app.add_url_rule("/long", "long", mark(revalidate=6000)(lambda: "x"))
    found = marks(app)
    assert (found["/plain"].revalidate, found["/plain"].expire) == (60, 600)
    assert found["/plain"].fallback == "pass"
    assert (found["/own"].revalidate, found["/own"].fallback) == (None, "404")
    # A default that was meant for others does not make a page expire before it is stale.
    assert (found["/long"].revalidate, found["/long"].expire) == (6000, None)


def test_a_setting_can_keep_all_stored_pages_for_crawlers(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_VISITORS": "bots"})
    app.add_url_rule("/", "page", mark(visitors="all")(lambda: "x"))
    assert marks(app)["/"].visitors == "bots"


def test_headers_that_say_nothing_of_a_visitor_are_taken() -> None:
    headers = {"Vary": "Accept-Encoding", "Cache-Control": "public, max-age=5", "X-A": "private"}
    assert mark(headers=headers)(lambda: "x")


def test_tags_get_the_values_that_they_name(make_app: MakeApp) -> None:
    app = make_app()

    def keyword(*, slug: str, more: str = "none") -> list[str]:
        return [slug, more]

    values = {"lang": "de", "slug": "a"}
    for number, (tags, expected) in enumerate(
        [
            (lambda slug: [slug], ("a",)),
            (lambda: ["plain"], ("plain",)),
            (lambda **found: found, ("lang", "slug")),
            (keyword, ("a", "none")),
            (functools.partial(keyword, more="b"), ("a", "b")),
        ]
    ):
        rule = f"/{number}/<lang>/<slug>"
        app.add_url_rule(rule, f"page{number}", mark(tags=tags)(page))
        assert marks(app)[rule].tags_for(values) == expected


def test_tags_that_are_one_text_are_refused_when_they_are_made(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/", "page", mark(tags=lambda: "news")(lambda: "x"))
    with pytest.raises(TagsError, match="tags gave the text 'news'"):
        marks(app)["/"].tags_for({})


# Groups.


def blog_of(name: str = "blog") -> Blueprint:
    blog = Blueprint(name, __name__, url_prefix=f"/{name}")
    blog.add_url_rule("/", "index", lambda: "index")
    blog.add_url_rule("/drafts", "drafts", mark(False)(lambda: "drafts"))
    blog.add_url_rule("/feed", "feed", mark(revalidate=5)(lambda: "feed"))
    return blog


def new_app(config: dict[str, Any] | None = None) -> Flask:
    app = Flask("site", instance_path="/nonexistent")
    app.config.from_mapping(config or {})
    app.add_url_rule("/", "home", lambda: "home")
    return app


@pytest.mark.parametrize("registered", ["before", "between", "after"])
@pytest.mark.parametrize("initialised", ["before", "after"])
def test_a_blueprint_is_marked_as_a_whole_whatever_comes_first(
    registered: str, initialised: str
) -> None:
    app, blog, prerender = new_app(), blog_of(), Prerender()
    if registered == "before":
        app.register_blueprint(blog)
    if initialised == "before":
        prerender.init_app(app)
    if registered == "between":
        app.register_blueprint(blog)
    prerender.mark_all(blog, revalidate=60)
    if initialised == "after":
        prerender.init_app(app)
    if registered == "after":
        app.register_blueprint(blog)
    found = marks(app)
    assert {rule: one.revalidate for rule, one in found.items()} == {"/blog/": 60, "/blog/feed": 5}


def test_a_blueprint_is_known_under_other_names_and_within_others() -> None:
    app, prerender = new_app(), Prerender()
    child, parent = blog_of("child"), Blueprint("parent", __name__, url_prefix="/parent")
    child.register_blueprint(blog_of("grandchild"))
    parent.register_blueprint(child)
    parent.add_url_rule("/own", "own", lambda: "own")
    app.register_blueprint(parent)
    app.register_blueprint(child, name="other", url_prefix="/other")
    prerender.init_app(app)
    prerender.mark_all(child)
    assert set(marks(app)) == {
        "/parent/child/", "/parent/child/feed",
        "/parent/child/grandchild/", "/parent/child/grandchild/feed",
        "/other/", "/other/feed",
        "/other/grandchild/", "/other/grandchild/feed",
    }  # fmt: skip


def test_a_blueprint_marks_what_is_nested_in_it() -> None:
    app, prerender = new_app(), Prerender()
    parent = Blueprint("parent", __name__, url_prefix="/parent")
    parent.register_blueprint(blog_of("child"))
    parent.add_url_rule("/own", "own", lambda: "own")
    app.register_blueprint(parent)
    prerender.init_app(app)
    prerender.mark_all(parent)
    assert set(marks(app)) == {"/parent/own", "/parent/child/", "/parent/child/feed"}


def test_another_blueprint_of_the_same_name_is_not_meant() -> None:
    app, prerender = new_app(), Prerender(new_app())
    app.register_blueprint(blog_of())
    prerender.init_app(app)
    prerender.mark_all(blog_of())
    assert set(marks(app)) == {"/blog/feed"}


def test_endpoints_are_marked_by_a_pattern() -> None:
    app = new_app()
    app.register_blueprint(blog_of())
    prerender = Prerender(app)
    prerender.mark_all("*.i*")
    assert set(marks(app)) == {"/blog/", "/blog/feed"}
    prerender.mark_all("*", revalidate=9)
    assert marks(app)["/"].revalidate == 9


def test_a_group_is_taken_out_again() -> None:
    app = new_app()
    app.register_blueprint(blog_of())
    prerender = Prerender(app)
    prerender.mark_all("*")
    prerender.mark_all("blog.*", False)
    # What the view says itself stands.
    assert set(marks(app)) == {"/", "/blog/feed"}


def test_only_a_blueprint_or_a_pattern_is_a_group() -> None:
    with pytest.raises(MarkError, match="takes a blueprint or an endpoint pattern, not 5"):
        Prerender().mark_all(5)  # type: ignore[arg-type]


# A block.


def test_routes_added_in_a_block_are_marked() -> None:
    app = new_app()
    prerender = Prerender(app)
    with prerender.marked(revalidate=60):
        app.add_url_rule("/in", "in", lambda: "x")
        app.add_url_rule("/own", "own", mark(revalidate=5)(lambda: "x"))
        app.add_url_rule("/out", "out", mark(False)(lambda: "x"))
        app.register_blueprint(blog_of())
    app.add_url_rule("/after", "after", lambda: "x")
    assert {rule: one.revalidate for rule, one in marks(app).items()} == {
        "/in": 60,
        "/own": 5,
        "/blog/": 60,
        "/blog/feed": 5,
    }


def test_the_inner_block_wins() -> None:
    app = new_app()
    prerender = Prerender(app)
    with prerender.marked(revalidate=60, tags=["outer"]):
        app.add_url_rule("/outer", "outer", lambda: "x")
        with prerender.marked(revalidate=5):
            app.add_url_rule("/inner", "inner", lambda: "x")
    found = marks(app)
    assert (found["/outer"].revalidate, found["/inner"].revalidate) == (60, 5)
    assert found["/inner"].tags_for({}) == ("outer",)


def test_a_block_marks_one_rule_of_an_endpoint_and_not_the_others() -> None:
    app = new_app()
    prerender = Prerender(app)
    with prerender.marked():
        app.add_url_rule("/start", "home")
    assert set(marks(app)) == {"/start"}


def test_a_block_that_adds_no_route_says_what_to_do() -> None:
    app, prerender, blog = new_app(), Prerender(), Blueprint("blog", __name__)
    prerender.init_app(app)
    with (
        pytest.raises(MarkError, match=r"register it inside the block, or mark it with mark_all"),
        prerender.marked(revalidate=60),
    ):
        blog.add_url_rule("/", "index", lambda: "index")
    with pytest.raises(LookupError), prerender.marked():
        raise LookupError("what went wrong inside is not hidden")


def test_a_block_needs_an_app() -> None:
    with pytest.raises(PrerenderError, match="none is initialised yet"):  # noqa: SIM117
        with Prerender().marked():
            raise AssertionError("never reached")


# Configuration, selection, and who wins.


def test_urls_are_marked_by_configuration() -> None:
    rules = {"/blog/*": {"revalidate": 60}, "/blog/feed": {"tags": ["f"]}, "/": True}
    app = new_app({"PRERENDER_RULES": rules})
    app.register_blueprint(blog_of())
    Prerender(app)
    found = marks(app)
    assert set(found) == {"/", "/blog/", "/blog/feed"}
    assert found["/blog/"].revalidate == 60
    assert found["/blog/feed"].tags_for({}) == ("f",)


@pytest.mark.parametrize("order", [1, -1])
def test_the_more_specific_rule_wins(order: int) -> None:
    rules = {
        "/*": {"revalidate": 1, "expire": 100},
        "/blog/*": {"revalidate": 2},
        "/blog/feed": {"revalidate": 3},
    }
    app = new_app({"PRERENDER_RULES": dict(list(rules.items())[::order])})
    app.add_url_rule("/blog/", "blog", lambda: "x")
    app.add_url_rule("/blog/feed", "feed", lambda: "x")
    Prerender(app)
    found = marks(app)
    assert {rule: (one.revalidate, one.expire) for rule, one in found.items()} == {
        "/": (1, 100),
        "/blog/": (2, 100),
        "/blog/feed": (3, 100),
    }


def test_a_rule_speaks_of_paths_and_not_of_routes(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_RULES": {"/posts/draft-*": False, "/posts/hot-*": {"tags": ["h"]}}})
    slugs = ["one", "draft-one", "hot-one"]

    @app.route("/posts/<slug>")
    @mark(params=[{"slug": slug} for slug in slugs])
    def post(slug: str) -> str:
        return slug

    report = generate(app)
    assert set(report.changed) == {"/posts/one", "/posts/hot-one"}
    store = app.extensions["prerender"].store
    assert store.get("/posts/hot-one").tags == ("h",)
    assert app.test_client().get("/posts/draft-one").headers.get("X-Prerendered") is None


def test_no_in_the_configuration_is_not_overruled_by_code() -> None:
    app = new_app({"PRERENDER_RULES": {"/blog/*": False}})
    prerender = Prerender(app, select=lambda rule, view: True)
    with prerender.marked():
        app.register_blueprint(blog_of())
    prerender.mark_all("*")
    assert "/" in marks(app)
    assert not any(rule.startswith("/blog/") for rule in marks(app))


@pytest.mark.parametrize("path", ["/über/*", "/über/secret", "/*/secret"])
def test_a_no_speaks_of_paths_as_people_write_them(make_app: MakeApp, path: str) -> None:
    app = make_app({"PRERENDER_RULES": {path: False}})
    view = mark(params=[{"x": "secret"}])(lambda x: x)
    app.add_url_rule("/über/<x>", "over", view)
    assert app.test_client().get("/über/secret").text == "secret"
    assert generate(app).total == 0
    assert list(app.extensions["prerender"].store.pages()) == []


def test_a_path_that_is_no_text_meets_no_pattern_by_accident(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_RULES": {"/ü*": False}})
    app.add_url_rule("/<x>", "page", mark(fallback="render")(lambda x: "x"))
    (rule, _), *_ = app.extensions["prerender"].routes.marked_rules()
    routes = app.extensions["prerender"].routes
    assert routes.mark_for(rule, "/\xff") is not None
    assert routes.mark_for(rule, "/\xc3\xbc") is None


def test_a_more_specific_yes_beats_a_general_no() -> None:
    app = new_app({"PRERENDER_RULES": {"/*": False, "/blog/": True}})
    app.register_blueprint(blog_of())
    Prerender(app)
    assert set(marks(app)) == {"/blog/"}


def test_a_function_selects_by_a_convention_of_its_own() -> None:
    def select(rule: Any, view: Any) -> Any:
        return {"home": True, "blog.index": {"revalidate": 3}, "blog.feed": False}.get(
            rule.endpoint
        )

    app = new_app()
    app.register_blueprint(blog_of())
    app.add_url_rule("/other", "other", lambda: "x")
    Prerender(app, select=select)
    found = marks(app)
    assert {rule: one.revalidate for rule, one in found.items()} == {
        "/": None,
        "/blog/": 3,
        "/blog/feed": 5,  # the view's own mark wins
    }


def test_a_selection_that_is_neither_options_nor_yes_or_no_is_told() -> None:
    app = new_app()
    Prerender(app, select=lambda rule, view: 5)  # type: ignore[arg-type,return-value]
    with pytest.raises(MarkError, match="endpoint 'home' is 5: a dict of options, True or False"):
        marks(app)


def test_a_selection_that_raises_is_a_named_mistake(make_app: MakeApp) -> None:
    def select(rule: Any, view: Any) -> Any:
        raise RuntimeError("no convention today")

    app = make_app(select=select)
    app.add_url_rule("/about", "about", lambda: "about")
    with pytest.raises(ConfigError) as caught:
        generate(app)
    assert str(caught.value) == (
        "select() failed for /about (about): RuntimeError: no convention today"
    )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.__cause__.__context__ is None  # and not "during handling of a KeyError"
    assert app.test_client().get("/about").text == "about"


def test_the_nearest_wins_option_by_option() -> None:
    app = new_app(
        {
            "PRERENDER_FALLBACK": "pass",
            "PRERENDER_RULES": {"/x": {"revalidate": 1, "tags": ["rules"], "expire": 1000}},
        }
    )

    def options(number: int, name: str, **more: Any) -> dict[str, Any]:
        return {"revalidate": number, "tags": [name], **more}

    prerender = Prerender(app, select=lambda rule, view: options(4, "select", query=["select"]))
    prerender.mark_all("x", **options(2, "group", query=["group"], visitors="bots"))
    with prerender.marked(**options(3, "block", query=["block"], sitemap=False)):
        app.add_url_rule("/x", "x", mark(revalidate=5, tags=["view"])(lambda: "x"))
    found = marks(app)["/x"]
    assert found.fallback == "pass"  # the settings
    assert found.expire == 1000  # the configured rule
    assert found.visitors == "bots"  # the group
    assert found.sitemap is False  # the block
    assert found.query == ("select",)  # the selection
    assert found.revalidate == 5  # the view
    assert found.tags_for({}) == ("view",)


@pytest.mark.parametrize("target", ["group", "block", "select"])
def test_a_view_opts_out_of_whatever_group_it_is_in(target: str) -> None:
    app = new_app()
    prerender = Prerender(app, select=(lambda rule, view: True) if target == "select" else None)
    if target == "group":
        prerender.mark_all("*")
    with prerender.marked() if target == "block" else pytest.MonkeyPatch.context():
        app.add_url_rule("/in", "in", lambda: "x")
        app.add_url_rule("/out", "out", mark(False)(lambda: "x"))
    assert "/in" in marks(app)
    assert "/out" not in marks(app)


def test_routes_that_are_no_pages_are_never_marked() -> None:
    app = new_app()
    Prerender(app).mark_all("*")
    app.add_url_rule("/post-only", "post", lambda: "x", methods=["POST"])
    app.add_url_rule("/old", "old", lambda: "x", redirect_to="/")
    app.add_url_rule("/build-only", "build", lambda: "x", build_only=True)
    app.add_url_rule("/alias", "home", alias=True)
    app.add_url_rule("/socket", "socket", lambda: "x", websocket=True)
    app.add_url_rule("/no-view", "nobody")
    assert set(marks(app)) == {"/"}


def test_no_pattern_marks_the_static_files(tmp_path: Path) -> None:
    app = new_app({"PRERENDER_RULES": {"/*": True}})
    blog = blog_of()
    blog.static_folder = str(tmp_path)
    prerender = Prerender(app)
    prerender.mark_all("*")
    prerender.mark_all(blog)
    with prerender.marked():
        app.register_blueprint(blog)
        app.add_url_rule("/own", "own.static", lambda: "x")
    assert set(marks(app)) == {"/", "/blog/", "/blog/feed", "/own"}


def test_marks_made_after_the_first_question_are_seen() -> None:
    app = new_app()
    prerender = Prerender(app)
    assert marks(app) == {}
    prerender.mark_all("home")
    assert set(marks(app)) == {"/"}


def test_a_date_is_no_number_of_seconds() -> None:
    with pytest.raises(MarkError, match="seconds are wanted"):
        mark(revalidate=date(2026, 1, 1))  # type: ignore[call-overload]
