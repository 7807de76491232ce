"""Which URLs a marked route has, and what is said of a route that cannot give them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from collections.abc import Iterator
from datetime import date
from datetime import datetime
from datetime import timedelta
from datetime import timezone
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint
from flask import Flask
from flask import g
from flask import request
from flask import url_for
from werkzeug.routing import BaseConverter

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender
from flask_prerender import Problem
from flask_prerender.routes import Target

MakeApp = Callable[..., Flask]


def listed(app: Flask) -> tuple[dict[str, Target], list[Problem]]:
    """Every URL that a build would make, and the problems on the way."""
    problems: list[Problem] = []
    with app.app_context():
        targets = list(app.extensions["prerender"].routes.targets(problems.append))
    assert len({target.key for target in targets}) == len(targets)
    return {target.key: target for target in targets}, problems


def urls(app: Flask) -> list[str]:
    targets, problems = listed(app)
    assert problems == []
    return sorted(targets)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Make an app with options of Flask's own, and a ``Prerender`` on it."""
    made: list[Flask] = []

    def make(config: dict[str, Any] | None = None, **options: Any) -> Flask:
        app = Flask("site", instance_path=str(tmp_path / "instance"), **options)
        app.config.from_mapping(config or {})
        Prerender(app)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["prerender"].close()


# What an enumerator may be.


def three() -> list[dict[str, str]]:
    return [{"slug": "a"}, {"slug": "b"}, {"slug": "c"}]


def three_one_by_one() -> Iterator[dict[str, str]]:
    yield from three()


class Posts:
    def __call__(self) -> list[dict[str, str]]:
        return three()

    def __iter__(self) -> Iterator[dict[str, str]]:
        raise AssertionError("it is called, not iterated")


@pytest.mark.parametrize(
    "params",
    [three(), tuple(three()), three, three_one_by_one, lambda: iter(three()), Posts()],
    ids=["list", "tuple", "function", "generator", "lambda", "object"],
)
def test_an_enumerator_may_be_a_list_or_anything_that_gives_one(
    make_app: MakeApp, params: Any
) -> None:
    app = make_app()
    app.add_url_rule("/posts/<slug>", "post", mark(params=params)(lambda slug: slug))
    assert urls(app) == ["/posts/a", "/posts/b", "/posts/c"]
    # And again: nothing is used up.
    assert urls(app) == ["/posts/a", "/posts/b", "/posts/c"]


def test_an_enumerator_is_read_one_by_one(make_app: MakeApp) -> None:
    app, given = make_app(), []

    def endless() -> Iterator[dict[str, int]]:
        for number in range(10**9):
            given.append(number)
            yield {"number": number}

    app.add_url_rule("/<int:number>", "page", mark(params=endless)(lambda number: ""))
    with app.app_context():
        targets = app.extensions["prerender"].routes.targets(lambda problem: None)
        assert [next(targets).key for _ in range(3)] == ["/0", "/1", "/2"]
    assert given == [0, 1, 2]


def test_an_enumerator_runs_in_an_application_context(make_app: MakeApp) -> None:
    app = make_app({"SLUGS": ["x"]})

    def params() -> list[dict[str, str]]:
        from flask import current_app

        return [{"slug": slug} for slug in current_app.config["SLUGS"]]

    app.add_url_rule("/<slug>", "page", mark(params=params)(lambda slug: slug))
    assert generate(app).changed == ["/x"]


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 1767323045.0),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), 1767315845.0),
        (datetime(2026, 1, 2, 3, 4, 5), 1767323045.0),
        (date(2026, 1, 2), 1767312000.0),
        (1767323045.5, 1767323045.5),
        (1767323045, 1767323045.0),
        (None, None),
    ],
    ids=["aware", "elsewhere", "naive", "date", "float", "int", "none"],
)
def test_an_enumerator_tells_when_the_content_changed(
    make_app: MakeApp, moment: Any, seconds: float | None
) -> None:
    app = make_app()
    app.add_url_rule("/<slug>", "page", mark(params=[({"slug": "a"}, moment)])(lambda slug: slug))
    targets, problems = listed(app)
    assert problems == []
    assert targets["/a"].last_modified == seconds


def test_a_moment_that_names_no_zone_is_the_same_on_every_host(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    app = make_app()
    changed = datetime(2026, 1, 2, 3, 4, 5)
    app.add_url_rule("/<slug>", "page", mark(params=[({"slug": "a"}, changed)])(lambda slug: slug))
    found = []
    try:
        for zone in ("Asia/Tokyo", "America/New_York"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            found.append(listed(app)[0]["/a"].last_modified)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == [1767323045.0, 1767323045.0]


def test_a_child_receives_the_arguments_of_its_parent(make_app: MakeApp) -> None:
    app, seen = make_app(), []

    def months(parent: dict[str, int]) -> list[dict[str, int]]:
        seen.append(("months", dict(parent)))
        parent["year"] = 0  # its own copy: nobody else sees it
        return [{"month": 1}, {"month": 2}]

    def days(parent: dict[str, int]) -> list[tuple[dict[str, int], date]]:
        seen.append(("days", dict(parent)))
        return [({"day": 5}, date(2026, 1, 5))]

    def view(**values: Any) -> str:
        return str(values)

    def years() -> list[dict[str, int]]:
        return [{"year": 2025}, {"year": 2026}]

    # The deepest first: the order of the routes does not matter.
    app.add_url_rule("/<int:year>/<int:month>/<int:day>", "day", mark(params=days)(view))
    app.add_url_rule("/<int:year>", "year", mark(params=years)(lambda **values: "y"))
    app.add_url_rule("/<int:year>/<int:month>", "month", mark(params=months)(lambda **values: "m"))
    targets, problems = listed(app)
    assert problems == []
    assert sorted(targets) == [
        "/2025", "/2025/1", "/2025/1/5", "/2025/2", "/2025/2/5",
        "/2026", "/2026/1", "/2026/1/5", "/2026/2", "/2026/2/5",
    ]  # fmt: skip
    assert targets["/2026/2/5"].last_modified == 1767571200.0
    assert ("months", {"year": 2026}) in seen
    assert ("days", {"year": 2026, "month": 2}) in seen


def test_the_parent_is_the_nearest_route_above(make_app: MakeApp) -> None:
    app = make_app()
    by_user = mark(params=[{"name": "ann"}])(lambda name: name)
    by_author = mark(params=[{"name": "bob"}])(lambda name: name)
    works = mark(params=lambda parent: [{"work": "w"}])(lambda name, work: work)
    app.add_url_rule("/a-much-longer-path/<name>", "user", by_user)
    app.add_url_rule("/authors/<name>", "author", by_author)
    app.add_url_rule("/authors/<name>/<work>", "work", works)
    assert "/authors/bob/w" in urls(app)
    assert "/authors/ann/w" not in urls(app)


def test_a_child_without_a_parent_is_a_problem(make_app: MakeApp) -> None:
    app = make_app()
    view = mark(params=lambda parent: [])(lambda a, b: "")
    app.add_url_rule("/<a>/<b>", "child", view)
    _, (problem,) = listed(app)
    assert problem.kind == "enumerator"
    assert "no marked route with an enumerator has a part of the arguments a, b" in problem.message


def test_query_parameters_are_listed_like_arguments(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/news/<section>")
    @mark(
        params=[{"section": "it"}, {"section": "it", "page": 2}, {"section": "it", "page": "a b"}],
        query=["page"],
    )
    def news(section: str) -> str:
        return f"{section} {request.args.get('page', 1)}"

    assert urls(app) == ["/news/it", "/news/it?page=2", "/news/it?page=a%20b"]
    assert generate(app).counts == {"published": 3}
    answer = app.test_client().get("/news/it?page=2")
    assert answer.text == "it 2"
    assert "hit" in answer.headers["Cache-Status"]


def test_query_parameters_of_a_route_without_arguments_are_listed_too(make_app: MakeApp) -> None:
    app = make_app()
    view = mark(params=[{"page": 2}, {"page": 3}], query=["page"])(lambda: "x")
    app.add_url_rule("/news", "news", view)
    assert urls(app) == ["/news", "/news?page=2", "/news?page=3"]


# URLs.


class Letters(BaseConverter):
    regex = "[a-z]+"

    def to_python(self, value: str) -> list[str]:
        return list(value)

    def to_url(self, value: Any) -> str:
        return "".join(value)


ID = uuid.UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("rule", "value", "url"),
    [
        ("/<x>", "plain", "/plain"),
        ("/<x>", "né/e".replace("/", ""), "/n%C3%A9e"),
        ("/<x>", "a b", "/a%20b"),
        ("/<x>", "50%", "/50%25"),
        ("/<x>", "a?b#c", "/a%3Fb%23c"),
        ("/<int:x>", 7, "/7"),
        ("/<int(fixed_digits=3):x>", 7, "/007"),
        ("/<float:x>", 1.5, "/1.5"),
        ("/<path:x>", "a/b/c", "/a/b/c"),
        ("/<uuid:x>", ID, f"/{ID}"),
        ("/<any(help, 'about us'):x>", "help", "/help"),
        ("/<letters:x>", ["a", "b"], "/ab"),
        ("/<x>.json", "a", "/a.json"),
    ],
)
def test_every_converter_makes_its_urls(make_app: MakeApp, rule: str, value: Any, url: str) -> None:
    app = make_app()
    app.url_map.converters["letters"] = Letters
    seen = []

    def view(x: Any) -> str:
        seen.append(x)
        return "page"

    app.add_url_rule(rule, "page", mark(params=[{"x": value}])(view))
    assert urls(app) == [url]
    assert generate(app).counts == {"published": 1}
    assert seen == [value]
    with app.test_request_context():
        assert url_for("page", x=value) == url


def test_no_url_is_a_rule_taken_by_its_letters(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/blog/<slug>", "listed", mark(params=three)(lambda slug: "x"))
    app.add_url_rule("/unlisted/<slug>", "unlisted", mark(lambda slug: "x"))
    report = generate(app)
    assert sorted(report.changed) == ["/blog/a", "/blog/b", "/blog/c"]
    public = app.extensions["prerender"].public
    assert not [path for path in public.rglob("*") if "<" in path.name or "%3c" in path.name]


def test_defaults_give_the_address_that_flask_gives(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/all/", defaults={"page": 1})
    @app.route("/all/page/<int:page>")
    @mark(params=[{"page": number} for number in (1, 2, 3)])
    def pages(page: int) -> str:
        return f"page {page}"

    # /all/page/1 redirects to /all/, so it is no page.
    assert app.test_client().get("/all/page/1").status_code == 308
    targets, problems = listed_with_repeats(app)
    assert problems == []
    assert sorted(targets) == ["/all/", "/all/page/2", "/all/page/3"]
    assert generate(app).counts == {"published": 3}


def listed_with_repeats(app: Flask) -> tuple[set[str], list[Problem]]:
    problems: list[Problem] = []
    with app.app_context():
        keys = {t.key for t in app.extensions["prerender"].routes.targets(problems.append)}
    return keys, problems


def test_the_longest_rule_that_fits_is_taken(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/item/<int:id>")
    @app.route("/item/<int:id>/<slug>")
    @mark(params=[{"id": 1, "slug": "one"}, {"id": 2}])
    def item(id: int, slug: str = "") -> str:
        return f"{id} {slug}"

    assert urls(app) == ["/item/1/one", "/item/2"]


@pytest.mark.parametrize("strict", [True, False])
def test_the_trailing_slash_is_the_url_maps_business(
    root: Callable[..., Flask], strict: bool
) -> None:
    app = root()
    app.url_map.strict_slashes = strict
    app.add_url_rule("/branch/", "branch", mark(lambda: "branch"))
    app.add_url_rule("/leaf", "leaf", mark(lambda: "leaf"))
    assert urls(app) == ["/branch/", "/leaf"]
    assert generate(app).counts == {"published": 2}
    plain = Flask("plain")
    plain.url_map.strict_slashes = strict
    plain.add_url_rule("/branch/", "branch", lambda: "branch")
    plain.add_url_rule("/leaf", "leaf", lambda: "leaf")
    for path in ("/branch", "/branch/", "/leaf", "/leaf/"):
        stored, dynamic = app.test_client().get(path), plain.test_client().get(path)
        assert (stored.status_code, stored.text) == (dynamic.status_code, dynamic.text), path
        assert stored.headers.get("Location") == dynamic.headers.get("Location")
    assert app.test_client().get("/branch/").headers["X-Prerendered"] == "true"


def test_the_prefixes_of_blueprints_are_part_of_the_url(make_app: MakeApp) -> None:
    app = make_app()
    child = Blueprint("child", __name__, url_prefix="/child")
    child.add_url_rule("/<slug>", "page", mark(params=three)(lambda slug: slug))
    parent = Blueprint("parent", __name__, url_prefix="/parent")
    parent.register_blueprint(child)
    app.register_blueprint(parent)
    assert urls(app) == ["/parent/child/a", "/parent/child/b", "/parent/child/c"]
    assert {target.endpoint for target in listed(app)[0].values()} == {"parent.child.page"}


def test_preprocessors_of_values_work_in_renders(make_app: MakeApp) -> None:
    app = make_app()

    @app.url_value_preprocessor
    def pull_language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.lang = (values or {}).pop("lang_code", "none")

    @app.url_defaults
    def put_language(endpoint: str, values: dict[str, Any]) -> None:
        if app.url_map.is_endpoint_expecting(endpoint, "lang_code"):
            values.setdefault("lang_code", g.get("lang", "none"))

    @app.route("/<lang_code>/about")
    @mark(
        params=[{"lang_code": "de"}, {"lang_code": "en"}],
        tags=lambda lang_code: [f"lang:{lang_code}"],
    )
    def about() -> str:
        return f"{g.lang} {url_for('about')}"

    assert urls(app) == ["/de/about", "/en/about"]
    assert generate(app).counts == {"published": 2}
    client = app.test_client()
    assert client.get("/de/about").text == "de /de/about"
    assert client.get("/en/about").text == "en /en/about"
    assert app.extensions["prerender"].store.get("/en/about").tags == ("lang:en",)


def test_pages_of_subdomains_have_keys_of_their_own(root: Callable[..., Flask]) -> None:
    app = root({"SERVER_NAME": "example.com"}, subdomain_matching=True)
    app.add_url_rule("/", "home", mark(lambda: "home"))
    app.add_url_rule("/", "docs", mark(lambda: "docs"), subdomain="docs")
    app.add_url_rule(
        "/", "user", mark(params=[{"user": "ann"}])(lambda user: user), subdomain="<user>"
    )
    assert urls(app) == ["//ann.example.com/", "//docs.example.com/", "//example.com/"]
    assert generate(app).counts == {"published": 3}
    client = app.test_client()
    for host, text in (("", "home"), ("docs.", "docs"), ("ann.", "ann")):
        answer = client.get("/", base_url=f"http://{host}example.com")
        assert (answer.text, answer.headers.get("X-Prerendered")) == (text, "true")


def test_pages_of_three_hosts_are_not_mixed(root: Callable[..., Flask]) -> None:
    app = root(host_matching=True, static_host="static.example")
    hosts = ["a.example", "b.example", "c.example:8080"]

    def view() -> str:
        return request.host

    for number, host in enumerate(hosts):
        app.add_url_rule("/", f"home{number}", mark(lambda: request.host), host=host)
    app.add_url_rule("/dynamic", "dynamic", view, host=hosts[0])
    assert urls(app) == ["//a.example/", "//b.example/", "//c.example:8080/"]
    assert generate(app).counts == {"published": 3}
    client = app.test_client()
    for host in hosts:
        answer = client.get("/", base_url=f"http://{host}")
        assert (answer.text, answer.headers.get("X-Prerendered")) == (host, "true")
    assert client.get("/", base_url="http://d.example").status_code == 404
    assert "X-Prerendered" not in client.get("/dynamic", base_url="http://a.example").headers


def test_a_host_that_is_an_argument_is_listed(root: Callable[..., Flask]) -> None:
    app = root({"TRUSTED_HOSTS": ["ann.example"]}, host_matching=True, static_host="s.example")
    view = mark(params=[{"name": "ann"}])(lambda name: name)
    app.add_url_rule("/", "home", view, host="<name>.example")
    assert urls(app) == ["//ann.example/"]


def test_the_static_files_have_the_same_address_in_a_render(make_app: MakeApp) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    app.add_url_rule("/", "home", mark(lambda: url_for("static", filename="a b.css", v=1)))
    generate(app)
    client = app.test_client()
    stored = client.get("/")
    assert stored.headers["X-Prerendered"] == "true"
    assert stored.text == client.get("/", headers={"Authorization": "x"}).text
    assert stored.text == "/static/a%20b.css?v=1"


# Problems.


def only_problem(app: Flask) -> Problem:
    _, problems = listed(app)
    (problem,) = problems
    return problem


def assert_names_the_route_and_three_ways(problem: Problem, rule: str, endpoint: str) -> None:
    assert (problem.rule, problem.endpoint) == (rule, endpoint)
    assert problem.message.startswith(f"{rule} ({endpoint}): ")
    ways = problem.message.partition("Three ways to mend it: ")[2]
    assert ways.count("; ") == 2
    assert "@app.prerender(False)" in ways


def test_a_route_whose_arguments_nobody_lists_is_a_warning(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/<year>/<slug>", "post", mark(lambda year, slug: ""))
    problem = only_problem(app)
    assert (problem.kind, problem.is_warning) == ("unlisted", True)
    assert_names_the_route_and_three_ways(problem, "/<year>/<slug>", "post")
    # Ready to be pasted.
    assert '@app.prerender(params=lambda: [{"slug": ..., "year": ...}, ...])' in problem.message
    assert '@app.prerender(fallback="render")' in problem.message


@pytest.mark.parametrize("fallback", ["render", "pass", "404"])
def test_who_names_a_fallback_needs_no_list(make_app: MakeApp, fallback: str) -> None:
    app = make_app()
    app.add_url_rule("/<slug>", "post", mark(fallback=fallback)(lambda slug: ""))
    assert urls(app) == []


def test_a_route_that_was_never_rendered_is_a_warning(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/<slug>", "post", mark(params=list)(lambda slug: ""))
    problem = only_problem(app)
    assert (problem.kind, problem.is_warning) == ("empty", True)
    assert "never rendered" in problem.message
    assert_names_the_route_and_three_ways(problem, "/<slug>", "post")


def test_an_enumerator_that_raises_is_an_error(make_app: MakeApp) -> None:
    app = make_app()

    def params() -> Iterator[dict[str, str]]:
        yield {"slug": "a"}
        raise LookupError("no such table: posts")

    app.add_url_rule("/<slug>", "post", mark(params=params)(lambda slug: ""))
    app.add_url_rule("/other", "other", mark(lambda: ""))
    targets, (problem,) = listed(app)
    assert (problem.kind, problem.is_warning) == ("enumerator", False)
    assert "LookupError: no such table: posts. Pages stored earlier stay" in problem.message
    assert_names_the_route_and_three_ways(problem, "/<slug>", "post")
    # The rest goes on.
    assert set(targets) == {"/a", "/other"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a", "its enumerator gave 'a'; a dict such as {'slug': '...'} is wanted"),
        (("slug", "a"), "its enumerator gave ('slug', 'a')"),
        (["slug"], "its enumerator gave ['slug']"),
        (None, "its enumerator gave None"),
        (({"slug": "a"}, "yesterday"), "'yesterday' as the moment of the last change"),
        (({"slug": "a"}, True), "True as the moment of the last change"),
        ({"slugg": "a"}, "{'slugg': 'a'} does not fit /<int:slug>, which takes slug"),
        ({}, "{} does not fit /<int:slug>"),
        ({"slug": "x"}, "ValueError"),
    ],
)
def test_an_enumerator_that_gives_something_else_is_told(
    make_app: MakeApp, item: Any, message: str
) -> None:
    app = make_app()
    app.add_url_rule("/<int:slug>", "post", mark(params=[item])(lambda slug: ""))
    problem = only_problem(app)
    assert problem.kind == "enumerator"
    assert message in problem.message
    assert_names_the_route_and_three_ways(problem, "/<int:slug>", "post")


def test_a_misspelt_argument_does_not_end_at_another_rule(make_app: MakeApp) -> None:
    app = make_app()

    @app.route("/")
    @app.route("/<slug>")
    @mark(params=[{"slugg": "a"}])
    def page(slug: str = "") -> str:
        return slug

    assert only_problem(app).kind == "enumerator"


@pytest.mark.parametrize("params", [lambda: None, lambda: 5], ids=["none", "number"])
def test_an_enumerator_that_returns_no_list_is_told(make_app: MakeApp, params: Any) -> None:
    app = make_app()
    app.add_url_rule("/<slug>", "post", mark(params=params)(lambda slug: ""))
    assert only_problem(app).kind == "enumerator"


@pytest.mark.parametrize("value", ["..", ".", "a\\b", "a\x00b", "", "x" * 3000, "a//b", "../etc"])
def test_a_url_that_is_never_stored_is_told(make_app: MakeApp, value: str) -> None:
    app = make_app()
    params = [{"x": "good"}, {"x": value}, {"x": "better"}]
    app.add_url_rule("/p/<path:x>", "page", mark(params=params)(lambda x: ""))
    targets, problems = listed(app)
    assert {"/p/good", "/p/better"} <= set(targets)
    assert all(problem.kind == "unstorable" for problem in problems)
    assert problems or value == ""  # an empty last segment is another URL, and harmless
    for problem in problems:
        assert not problem.is_warning
        assert_names_the_route_and_three_ways(problem, "/p/<path:x>", "page")


@pytest.mark.parametrize("rule", ["/", "/<slug>"])
def test_tags_that_raise_are_told(make_app: MakeApp, rule: str) -> None:
    app = make_app()

    def tags(**values: Any) -> list[str]:
        raise LookupError("no tags today")

    params = three if "slug" in rule else None
    app.add_url_rule(rule, "page", mark(params=params, tags=tags)(lambda **values: ""))
    problem = only_problem(app)
    assert (problem.kind, problem.is_warning) == ("tags", False)
    assert "tags of its pages failed: LookupError: no tags today. Pages stored" in problem.message
    assert_names_the_route_and_three_ways(problem, rule, "page")


def test_pages_whose_tags_fail_stay_stored(make_app: MakeApp) -> None:
    app = make_app()
    fails: list[bool] = []

    def tags(slug: str) -> list[str]:
        if fails:
            raise LookupError("no tags today")
        return [slug]

    app.add_url_rule("/<slug>", "page", mark(params=three, tags=tags)(lambda slug: slug))
    assert generate(app).counts == {"published": 3}
    fails.append(True)
    report = generate(app)
    assert ([problem.kind for problem in report.problems], report.removed) == (["tags"], 0)
    assert app.extensions["prerender"].store.get("/a").tags == ("a",)


def test_tags_get_the_url_s_values_and_not_those_of_the_view(make_app: MakeApp) -> None:
    app = make_app()

    @app.url_value_preprocessor
    def take_language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.lang = (values or {}).pop("lang", "en")

    view = mark(params=[{"lang": "de", "n": 1}], tags=lambda n: [f"post:{n}"])(
        lambda n: f"{g.lang} {n}"
    )
    app.add_url_rule("/<lang>/<int:n>", "post", view)
    targets, problems = listed(app)
    assert (problems, targets["/de/1"].tags) == ([], ("post:1",))
    assert app.test_client().get("/de/2").text == "de 2"
    assert app.extensions["prerender"].store.get("/de/2").tags == ("post:2",)


def test_a_parameter_without_a_value_is_no_part_of_the_url(make_app: MakeApp) -> None:
    app = make_app()
    params = [{"page": None}, {"page": 2}, {"page": ""}]
    app.add_url_rule("/q", "q", mark(params=params, query=["page"])(lambda: ""))
    with app.app_context():
        found = [t.key for t in app.extensions["prerender"].routes.targets(lambda problem: None)]
    assert sorted(set(found)) == ["/q", "/q?page=", "/q?page=2"]


def test_a_name_that_the_route_does_not_know_is_told(make_app: MakeApp) -> None:
    app = make_app()
    view = mark(params=[{"x": 1, "pag": 2}], query=["page"])(lambda x: "")
    app.add_url_rule("/<x>", "post", view)
    problem = only_problem(app)
    assert problem.kind == "enumerator"
    assert (
        "has 'pag', which is neither an argument of the route nor in the query" in problem.message
    )
    assert "Did you mean 'page'?" in problem.message


def test_a_parent_s_query_is_not_its_child_s(make_app: MakeApp) -> None:
    app = make_app()
    parents = [{"year": 1, "page": 2}]
    app.add_url_rule("/<year>", "year", mark(params=parents, query=["page"])(lambda year: ""))
    view = mark(params=lambda parent: [{"slug": f"on-{parent['page']}"}])(lambda year, slug: "")
    app.add_url_rule("/<year>/<slug>", "post", view)
    assert urls(app) == ["/1/on-2", "/1?page=2"]


def test_an_enumerator_is_asked_once_and_once_for_each_level_below(make_app: MakeApp) -> None:
    app = make_app()
    asked: list[str] = []

    def listing(name: str) -> Callable[..., list[dict[str, str]]]:
        def params() -> list[dict[str, str]]:
            asked.append(name)
            return [{name: name}]

        return params if name == "a" else lambda parent: params()

    for rule, name in (("/<a>", "a"), ("/<a>/<b>", "b"), ("/<a>/<b>/<c>", "c")):
        app.add_url_rule(rule, name, mark(params=listing(name))(lambda **values: ""))
    assert urls(app) == ["/a", "/a/b", "/a/b/c"]
    assert sorted(asked) == ["a", "a", "a", "b", "b", "c"]


# Marks without effect.


def idle(app: Flask) -> list[tuple[str, bool]]:
    report = generate(app)
    assert report.is_good
    return [(p.message.partition(" has no effect")[0], p.is_warning) for p in report.problems]


def test_a_pattern_that_fits_no_route_is_a_warning(make_app: MakeApp) -> None:
    rules: dict[str, Any] = {
        "/nope/*": True,
        "/abou": False,
        "/about": True,
        "/posts/draft-*": False,
        "/posts/1/comments": True,
        "/*": {"revalidate": 60},
        "/static/*": False,
    }
    app = make_app({"PRERENDER_RULES": rules})
    app.add_url_rule("/about", "about", lambda: "about")
    app.add_url_rule("/posts/<n>", "post", mark(params=[{"n": 1}])(lambda n: "post"))
    assert idle(app) == [("PRERENDER_RULES['/abou']", True), ("PRERENDER_RULES['/nope/*']", True)]


def test_params_of_a_pattern_that_fits_only_some_pages_are_a_warning(make_app: MakeApp) -> None:
    params = {"params": [{"n": 1}], "fallback": "render"}
    app = make_app({"PRERENDER_RULES": {"/posts/1*": params, "/tags/*": params}})
    app.add_url_rule("/posts/<n>", "post", lambda n: "post")
    app.add_url_rule("/tags/<n>", "tag", lambda n: "tag")
    assert idle(app) == [("params in PRERENDER_RULES['/posts/1*']", True)]
    assert [page.key for page in app.extensions["prerender"].store.pages()] == ["/tags/1"]


def test_a_group_that_no_route_belongs_to_is_a_warning(tmp_path: Path) -> None:
    app = Flask("site", instance_path=str(tmp_path))
    prerender = Prerender(app)
    blog, unknown = Blueprint("blog", __name__), Blueprint("unknown", __name__)
    blog.add_url_rule("/blog", "index", lambda: "blog")
    app.register_blueprint(blog)
    for target in (blog, unknown, "blog.*", "nothing"):
        prerender.mark_all(target)
    assert idle(app) == [("mark_all('unknown')", True), ("mark_all('nothing')", True)]
    app.extensions["prerender"].close()


def test_problems_of_several_routes_are_all_told(make_app: MakeApp) -> None:
    app = make_app()
    for name in ("a", "b", "c"):
        app.add_url_rule(f"/{name}/<slug>", name, mark(params=list)(lambda slug: ""))
    assert [problem.endpoint for problem in listed(app)[1]] == ["a", "b", "c"]
