"""``Prerender``: what it wires, and what it says when it cannot."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import render_template_string
from flask import request

import flask_prerender
from flask_prerender import ConfigError
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender
from flask_prerender import PrerenderError
from flask_prerender.site import Site
from flask_prerender.site import site_of
from flask_prerender.stores.memory import MemoryStore

MakeApp = Callable[..., Flask]


@pytest.fixture
def bare(tmp_path: Path) -> Any:
    """Make an app without ``Prerender`` on it."""
    made: list[Flask] = []

    def make(name: str = "site") -> Flask:
        app = Flask(name, root_path=str(tmp_path), instance_path=str(tmp_path / name))
        made.append(app)
        return app

    yield make
    for app in made:
        if "prerender" in app.extensions:
            app.extensions["prerender"].close()


# The doors.


def test_there_are_two_ways_to_begin(bare: Callable[..., Flask]) -> None:
    direct, later = bare("direct"), bare("later")
    Prerender(direct)
    prerender = Prerender()
    prerender.init_app(later)
    for app in (direct, later):
        assert isinstance(app.extensions["prerender"], Site)
        assert "prerender" in app.cli.commands
        assert app.prerender is mark  # type: ignore[attr-defined]


def test_a_second_init_app_says_what_to_do(bare: Callable[..., Flask]) -> None:
    app = bare()
    prerender = Prerender(app)
    for again in (prerender, Prerender()):
        with pytest.raises(PrerenderError) as caught:
            again.init_app(app)
        assert "already initialised on the app 'site'" in str(caught.value)
        assert "Import and use that instance instead of making another." in str(caught.value)


def test_a_wrong_setting_leaves_the_app_as_it_was(bare: Callable[..., Flask]) -> None:
    app = bare()
    app.config["PRERENDER_STYL"] = "file"
    with pytest.raises(ConfigError):
        Prerender(app)
    assert "prerender" not in app.extensions
    del app.config["PRERENDER_STYL"]
    Prerender(app)


def test_one_instance_serves_several_apps(bare: Callable[..., Flask]) -> None:
    prerender = Prerender()
    prerender.mark_all("home", revalidate=60)
    apps = [bare("one"), bare("two")]
    for app in apps:
        app.add_url_rule("/", "home", lambda name=app.name: name)
        prerender.init_app(app)
    prerender.mark_all("late")
    for app in apps:
        app.add_url_rule("/late", "late", lambda: "late")
        assert generate(app).counts == {"published": 2}
        assert app.test_client().get("/").text == app.name
    assert apps[0].extensions["prerender"] is not apps[1].extensions["prerender"]


def test_starting_touches_no_file(bare: Callable[..., Flask], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    app = bare()
    Prerender(app)
    app.add_url_rule("/plain", "plain", lambda: "plain")
    assert app.test_client().get("/plain").text == "plain"
    assert sorted(tmp_path.rglob("*")) == before


def test_who_is_not_initialised_is_told(bare: Callable[..., Flask]) -> None:
    app = bare()
    for call in (site_of, generate):
        with pytest.raises(PrerenderError, match="not initialised on the app 'site'"):
            call(app)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(flask_prerender, name) for name in flask_prerender.__all__)
    assert sorted(flask_prerender.__all__) == flask_prerender.__all__


# Rendering as it is seen from a view.


def test_a_view_and_a_template_know_that_they_are_rendered(make_app: MakeApp) -> None:
    prerender = Prerender()

    def view() -> str:
        seen = render_template_string("{{ prerendering }}")
        return f"{prerender.is_rendering} {seen}"

    app = make_app()
    app.add_url_rule("/", "home", mark(view))
    app.add_url_rule("/plain", "plain", lambda: view())
    generate(app)
    client = app.test_client()
    assert client.get("/").text == "True True"
    assert client.get("/", headers={"Authorization": "x"}).text == "False False"
    assert client.get("/plain").text == "False False"
    assert prerender.is_rendering is False


def test_no_visitor_can_pass_for_a_render(make_app: MakeApp) -> None:
    prerender, app = Prerender(), make_app()
    app.add_url_rule("/", "home", lambda: str(prerender.is_rendering))
    headers = {"Flask-Prerender.Render": "1", "Flask_prerender.render": "1", "X-Prerender": "1"}
    assert app.test_client().get("/", headers=headers).text == "False"
    environ = {"flask_prerender.render": "a text"}
    assert app.test_client().get("/", environ_overrides=environ).text == "False"


# What may be given.


def test_a_store_may_be_given_as_it_is_or_made_for_a_directory(
    make_app: MakeApp, tmp_path: Path
) -> None:
    store, asked = MemoryStore(), []

    def open_store(path: Path) -> MemoryStore:
        asked.append(path)
        return store

    for given in (store, open_store):
        app = make_app(store=given)
        app.add_url_rule("/", "home", mark(lambda: "home"))
        generate(app)
        assert app.extensions["prerender"].store is store
        assert store.get("/") is not None
    assert asked[0] == tmp_path / "instance" / "prerendered"


def test_compressors_may_be_given_or_switched_off(make_app: MakeApp) -> None:
    class Reverse:
        encoding = suffix = "reverse"
        version = "1"

        def compress(self, body: bytes) -> bytes:
            return body[::-1][:100]

    def variants(app: Flask) -> set[str]:
        app.add_url_rule("/", "home", mark(lambda: "home " * 1000))
        generate(app)
        page = app.extensions["prerender"].store.get("/")
        return {variant.encoding for variant in page.variants}

    assert {"identity", "gzip"} <= variants(make_app(instance="a"))
    assert variants(make_app(instance="b", compressors=[Reverse()])) == {"identity", "reverse"}
    assert variants(make_app(instance="c", compressors=[])) == {"identity"}
    assert variants(make_app({"PRERENDER_COMPRESS": False}, instance="d")) == {"identity"}
    gzip = make_app({"PRERENDER_COMPRESS": {"gzip": 9}}, instance="e")
    assert variants(gzip) == {"identity", "gzip"}
    assert variants(make_app({"PRERENDER_COMPRESS": {}}, instance="f")) == {"identity"}


def test_levels_beside_compressors_of_ones_own_are_an_error(make_app: MakeApp) -> None:
    for name in ("PRERENDER_COMPRESS", "PRERENDER_COMPRESS_BUILD"):
        with pytest.raises(ConfigError) as caught:
            make_app({name: {"gzip": 9}}, compressors=[])
        said = f"{name} is {{'gzip': 9}}, but Prerender(compressors=...) names compressors"
        assert str(caught.value).startswith(said)


def test_a_codec_without_its_library_is_an_error_that_names_the_extra(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("brotli", "backports.zstd", "compression.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    for codec, name in product(("br", "zstd"), ("COMPRESS", "COMPRESS_BUILD")):
        with pytest.raises(ConfigError) as caught:
            make_app({f"PRERENDER_{name}": {"gzip": 6, codec: 3}})
        assert str(caught.value).startswith(f"PRERENDER_{name} is ")
        assert f"the library of {codec!r} is not installed" in str(caught.value)
        assert 'pip install "Flask-Prerender[compress]"' in str(caught.value)


def test_hooks_of_the_app_still_run_for_what_is_not_marked(make_app: MakeApp) -> None:
    app, seen = make_app(), []
    app.before_request(lambda: seen.append(request.path))
    app.add_url_rule("/plain", "plain", lambda: "plain")
    app.test_client().get("/plain")
    assert seen == ["/plain"]


@pytest.mark.parametrize(
    ("config", "debug", "is_served"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"PRERENDER_ENABLED": True}, True, True),
        ({"PRERENDER_ENABLED": False}, False, False),
    ],
)
def test_stored_pages_are_served_unless_debugging_or_switched_off(
    make_app: MakeApp, config: dict[str, Any], debug: bool, is_served: bool
) -> None:
    app = make_app(config)
    app.debug = debug
    app.add_url_rule("/", "home", mark(lambda: "home"))
    assert generate(app).is_good  # a build works all the same
    answer = app.test_client().get("/")
    assert answer.text == "home"
    assert ("X-Prerendered" in answer.headers) is is_served


def test_the_package_adds_no_handler_to_its_logger() -> None:
    assert logging.getLogger("flask_prerender").handlers == []
