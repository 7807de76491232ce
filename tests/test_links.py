"""URLs that renders remember: the same ones as without, and only where nothing can change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint
from flask import Flask
from flask import render_template_string
from flask import request
from flask import url_for
from werkzeug.routing import BaseConverter
from werkzeug.routing import BuildError
from werkzeug.routing import MapAdapter
from werkzeug.routing import Rule

from flask_prerender import links
from flask_prerender import Prerender
from flask_prerender.render import render

MakeApp = Callable[..., Flask]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoints whose URLs were built and not remembered."""
    endpoints: list[str] = []
    build = MapAdapter.build

    def count(self: MapAdapter, endpoint: str, *args: Any, **more: Any) -> str:
        endpoints.append(endpoint)
        return build(self, endpoint, *args, **more)

    monkeypatch.setattr(MapAdapter, "build", count)
    return endpoints


def text(app: Flask, key: str) -> str:
    done = render(app.extensions["prerender"], key, 0)
    assert done.error is None
    return done.body.decode()


def add_item(app: Flask, rule: str = "/item/<int:number>") -> None:
    app.add_url_rule(rule, "item", lambda number: str(number))


def test_a_url_is_built_once_for_all_renders(make_app: MakeApp, built: list[str]) -> None:
    app = make_app()
    add_item(app)
    app.add_url_rule("/", "home", lambda: url_for("item", number=3) + url_for("item", number=4))
    assert [text(app, "/") for _ in range(3)] == ["/item/3/item/4"] * 3
    assert built == ["item", "item"]


def test_a_visitor_remembers_nothing(make_app: MakeApp, built: list[str]) -> None:
    app = make_app()
    add_item(app)
    app.add_url_rule("/", "home", lambda: url_for("item", number=3))
    assert [app.test_client().get("/").text for _ in range(3)] == ["/item/3"] * 3
    assert built == ["item"] * 3


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("any", {"value": value}) for value in ("1", 1, True, 1.0, "a b", "ü")
]
QUESTIONS += [
    ("any", {"value": "1", "page": value}) for value in (1, "1", True, 1.0, None, [1, 2], (1,), "")
]
QUESTIONS += [
    ("any", {"value": "1", "b": 1, "a": 2}),
    ("any", {"value": "1", "a": 2, "b": 1}),
    ("any", {"value": "1", "_external": True}),
    ("any", {"value": "1", "_scheme": "https"}),
    ("any", {"value": "1", "_anchor": "top"}),
    ("both", {"_method": "GET"}),
    ("both", {"_method": "POST"}),
    ("home", {}),
]


def test_what_is_remembered_is_what_would_be_built(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/any/<value>", "any", lambda value: value)
    app.add_url_rule("/read", "both", lambda: "", methods=["GET"])
    app.add_url_rule("/write", "both", methods=["POST"])
    answers: list[list[str]] = []

    def home() -> str:
        answers.append([url_for(name, **values) for name, values in QUESTIONS])
        return "home"

    app.add_url_rule("/", "home", home)
    for _ in range(2):
        text(app, "/")
    app.test_client().get("/")
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) > 12


def test_a_url_that_cannot_be_built_is_an_error_each_time(make_app: MakeApp) -> None:
    app = make_app()

    def home() -> str:
        with pytest.raises(BuildError):
            url_for("nowhere")
        return "home"

    app.add_url_rule("/", "home", home)
    assert [text(app, "/") for _ in range(2)] == ["home"] * 2


def test_defaults_of_a_request_are_those_of_each_render(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/<lang>/", "home", lambda lang: url_for("about"))
    app.add_url_rule("/<lang>/about", "about", lambda lang: lang)

    @app.url_defaults
    def add_language(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("lang", (request.view_args or {})["lang"])

    assert [text(app, f"/{lang}/") for lang in ("de", "en", "de")] == [
        "/de/about",
        "/en/about",
        "/de/about",
    ]


def test_hosts_are_kept_apart(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_PLACES", 2)
    app = make_app({"SERVER_NAME": "example.com"})
    app.url_map.host_matching = True
    app.add_url_rule("/", "home", lambda host: url_for("home", host=host), host="<host>")
    app.add_url_rule("/", "main", lambda: url_for("main"), host="example.com")
    app.add_url_rule("/to", "to", lambda host: url_for("main"), host="<host>")
    hosts = ["a.example", "b.example", "c.example", "a.example"]
    assert [text(app, f"//{host}/to") for host in hosts] == ["http://example.com/"] * 4
    assert text(app, "//example.com/to") == "/"
    assert len(app.extensions[links._NAME]) <= 2


def test_converters_of_the_app_may_say_something_else_each_time(make_app: MakeApp) -> None:
    app, moments = make_app(), iter("abc")

    class Moment(BaseConverter):
        def to_url(self, value: Any) -> str:
            return next(moments)

    app.url_map.converters["moment"] = Moment
    add_item(app, "/item/<moment:number>")
    app.add_url_rule("/", "home", lambda: url_for("item", number=1))
    assert [text(app, "/") for _ in range(3)] == ["/item/a", "/item/b", "/item/c"]


def test_so_many_are_remembered_and_no_more(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_REMEMBERED", 10)
    app = make_app()
    add_item(app)
    app.add_url_rule("/<int:n>", "page", lambda n: "".join(
        url_for("item", number=n * 7 + k) for k in range(7)
    ))  # fmt: skip
    for number in range(5):
        expected = "".join(f"/item/{number * 7 + k}" for k in range(7))
        assert text(app, f"/{number}") == expected
        (known,) = app.extensions[links._NAME].values()
        assert len(known) <= 10


# Templates, which do not even ask Flask.

PAGE = "{{ url_for('item', number=3) }} {{ url_for('item', number=4, q='a b') }}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoints that Flask's own ``url_for`` was asked for."""
    endpoints: list[str] = []
    handle = Flask.inject_url_defaults

    def note(self: Flask, endpoint: str, values: dict[str, Any]) -> None:
        endpoints.append(endpoint)
        handle(self, endpoint, values)

    monkeypatch.setattr(Flask, "inject_url_defaults", note)
    return endpoints


def add_template(app: Flask, source: str = PAGE) -> None:
    add_item(app)
    app.add_url_rule("/", "home", lambda: render_template_string(source))


def test_a_template_asks_flask_once(make_app: MakeApp, asked: list[str]) -> None:
    app = make_app()
    add_template(app)
    expected = "/item/3 /item/4?q=a+b"
    assert [text(app, "/") for _ in range(3)] == [expected] * 3
    assert asked == ["item", "item"]
    assert app.test_client().get("/").text == expected
    assert len(asked) == 4


def test_a_template_gets_what_it_would_get_without(make_app: MakeApp) -> None:
    calls = [f"url_for({name!r}, **values[{n}])" for n, (name, _) in enumerate(QUESTIONS)]
    app = make_app()
    app.add_url_rule("/any/<value>", "any", lambda value: value)
    app.add_url_rule("/read", "both", lambda: "", methods=["GET"])
    app.add_url_rule("/write", "both", methods=["POST"])
    source = " ".join(f"{{{{ {call} }}}}" for call in calls)
    values = [values for _, values in QUESTIONS]
    app.add_url_rule("/", "home", lambda: render_template_string(source, values=values))
    found = [text(app, "/"), text(app, "/"), app.test_client().get("/").text]
    assert found[0] == found[1] == found[2]
    assert "#top" in found[0]


@pytest.mark.parametrize("where", ["before", "after", "global", "given", "app"])
def test_a_url_for_of_the_app_wins(tmp_path: Path, where: str) -> None:
    app = Flask("own", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))

    def own(endpoint: str, **values: Any) -> str:
        return "own"

    more: dict[str, Any] = {"url_for": own} if where == "given" else {}
    if where == "before":
        app.context_processor(lambda: {"url_for": own})
    if where == "global":
        app.jinja_env.globals["url_for"] = own
    if where == "app":
        app.url_for = own  # type: ignore[method-assign]
    Prerender(app)
    if where == "after":
        app.context_processor(lambda: {"url_for": own})
    add_item(app)
    app.add_url_rule("/", "home", lambda: render_template_string(PAGE, **more))
    assert [text(app, "/") for _ in range(2)] == ["own own"] * 2
    app.extensions["prerender"].close()


def test_templates_of_each_request_have_its_defaults(make_app: MakeApp) -> None:
    app = make_app()
    source = "{{ url_for('about') }}"
    app.add_url_rule("/<lang>/", "home", lambda lang: render_template_string(source))
    app.add_url_rule("/<lang>/about", "about", lambda lang: lang)

    @app.url_defaults
    def add_language(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("lang", (request.view_args or {})["lang"])

    assert [text(app, f"/{one}/") for one in ("de", "en")] == ["/de/about", "/en/about"]


def test_templates_of_each_request_have_what_the_app_gives_when_there_is_no_url(
    make_app: MakeApp,
) -> None:
    app = make_app()
    source = "{{ url_for('elsewhere') }}"
    app.add_url_rule("/<lang>/", "home", lambda lang: render_template_string(source))
    app.url_build_error_handlers.append(
        lambda error, endpoint, values: f"/missing?from={request.path}"
    )
    found = [text(app, f"/{one}/") for one in ("de", "en")]
    assert found == ["/missing?from=/de/", "/missing?from=/en/"]


@pytest.mark.parametrize("name", ["inject_url_defaults", "handle_url_build_error"])
def test_an_app_that_asks_in_its_own_way_is_asked_each_time(tmp_path: Path, name: str) -> None:
    class Own(Flask):
        def inject_url_defaults(self, endpoint: str, values: dict[str, Any]) -> None:
            super().inject_url_defaults(endpoint, values)
            if name == "inject_url_defaults":
                values.setdefault("lang", (request.view_args or {})["lang"])

        def handle_url_build_error(
            self, error: BuildError, endpoint: str, values: dict[str, Any]
        ) -> str:
            return f"{request.path}about"

    if name == "inject_url_defaults":
        del Own.handle_url_build_error
    else:
        del Own.inject_url_defaults
    app = Own("own", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))
    Prerender(app)
    source = "{{ url_for('about') }}"
    app.add_url_rule("/<lang>/", "home", lambda lang: render_template_string(source))
    app.add_url_rule("/<lang>/about", "about", lambda lang: lang)
    assert [text(app, f"/{one}/") for one in ("de", "en")] == ["/de/about", "/en/about"]
    app.extensions["prerender"].close()


def test_rules_of_the_app_may_say_something_else_each_time(make_app: MakeApp) -> None:
    class Own(Rule):
        def build(self, *args: Any, **more: Any) -> tuple[str, str] | None:
            return "", f"{request.path}item"

    app = make_app()
    app.url_rule_class = Own
    add_item(app)
    for key in ("/a", "/b"):
        app.add_url_rule(key, f"home {key}", lambda: url_for("item", number=3))
    assert [text(app, key) for key in ("/a", "/b")] == ["/aitem", "/bitem"]


def test_a_relative_endpoint_is_that_of_its_blueprint(make_app: MakeApp) -> None:
    app = make_app()
    for name in ("one", "two"):
        blueprint = Blueprint(name, __name__, url_prefix=f"/{name}")
        blueprint.add_url_rule(
            "/", "home", lambda: render_template_string("{{ url_for('.home') }}")
        )
        app.register_blueprint(blueprint)
    assert [text(app, f"/{name}/") for name in ("one", "two")] == ["/one/", "/two/"]
