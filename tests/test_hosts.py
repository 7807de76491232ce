"""Apps whose pages differ by host, and the sitemap that is served beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import request

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender

HOSTS = ("a.example.com", "b.example.com", "c.example.com")


@pytest.fixture
def make_hosts(tmp_path: Path) -> Any:
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        app = Flask("hosts", instance_path=str(tmp_path), host_matching=True, static_host=HOSTS[0])
        app.config.update(PRERENDER_BASE_URL="http://a.example.com", **config)
        Prerender(app)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["prerender"].close()


def keys(app: Flask) -> list[str]:
    return [page.key for page in app.extensions["prerender"].store.pages()]


def greet(**arguments: str) -> str:
    return f"Hello from {request.host}"


def test_each_of_three_hosts_has_a_page_of_its_own(
    make_hosts: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_hosts()
    for number, host in enumerate(HOSTS):
        app.add_url_rule("/", f"home{number}", mark(greet), host=host)

    report = generate(app)

    assert report.is_good, report.to_dict()
    assert keys(app) == [f"//{host}/" for host in HOSTS]
    for host in HOSTS:
        answer = wsgi_get(app, "/", headers={"Host": host})
        assert answer.get("X-Prerendered") == "true"
        assert answer.body == f"Hello from {host}".encode()
    assert wsgi_get(app, "/", headers={"Host": "evil.example"}).status == 404
    assert len(keys(app)) == len(HOSTS)


@pytest.mark.parametrize(
    ("trusted", "stored"),
    [
        (None, []),
        (["d.example.com"], ["//d.example.com/"]),
        ([".example.com"], ["//d.example.com/"]),  # as Flask reads it: all below it
    ],
)
def test_a_host_that_clients_choose_is_stored_only_when_it_is_trusted(
    make_hosts: Callable[..., Flask],
    wsgi_get: Callable[..., Any],
    trusted: list[str] | None,
    stored: list[str],
) -> None:
    app = make_hosts(TRUSTED_HOSTS=trusted)
    app.add_url_rule("/", "home", mark(greet), host="<name>.example.com")

    answer = wsgi_get(app, "/", headers={"Host": "d.example.com"})

    assert answer.body == b"Hello from d.example.com"
    assert keys(app) == stored


def test_the_sitemap_of_the_last_build_is_served_where_the_app_has_none(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    app.add_url_rule("/about", "about", mark(lambda: "About"))

    assert wsgi_get(app, "/sitemap.xml").status == 404
    generate(app)
    answer = wsgi_get(app, "/sitemap.xml")

    assert answer.status == 200
    assert answer.get("Content-Type") == "application/xml; charset=utf-8"
    assert b"<loc>https://example.com/about</loc>" in answer.body
    assert wsgi_get(app, "/sitemap.xml", method="HEAD").status == 200
    assert wsgi_get(app, "/sitemap.xml", method="POST").status == 404
    assert wsgi_get(app, "/sitemap-1.xml").status == 404
    assert wsgi_get(app, "/sitemap.xml/../../manifest.json").status == 404


@pytest.mark.parametrize("setting", ["PRERENDER_SITEMAP", "PRERENDER_ENABLED"])
def test_no_sitemap_is_served_when_it_is_switched_off(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Any], setting: str
) -> None:
    config = {"PRERENDER_BASE_URL": "https://example.com"}
    app = make_app(config)
    app.add_url_rule("/about", "about", mark(lambda: "About"))
    generate(app)

    assert wsgi_get(make_app({**config, setting: False}), "/sitemap.xml").status == 404


def test_the_apps_own_sitemap_wins(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_app({"PRERENDER_BASE_URL": "https://example.com"})
    app.add_url_rule("/about", "about", mark(lambda: "About"))
    app.add_url_rule("/sitemap.xml", "sitemap", lambda: "mine")

    generate(app)

    assert wsgi_get(app, "/sitemap.xml").body == b"mine"
