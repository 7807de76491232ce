"""The example site, page by page: what is stored is what the app answers with serving off."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask

from flask_prerender import generate
from flask_prerender.page import Page

#: What a stored answer has beside the app's own headers.
ADDED = {
    "accept-ranges",
    "cache-control",
    "cache-status",
    "content-length",
    "etag",
    "last-modified",
    "vary",
    "x-prerendered",
}
SAMPLE = ("/", "/letters/*", "/library/json/*", "/library/collections*", "/feed.xml")


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    from example_app import create_app

    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        app = create_app(
            {
                "PRERENDER_PATH": str(tmp_path / "prerendered"),
                "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/notes.sqlite3",
                **config,
            }
        )
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["prerender"].close()
        with app.app_context():
            app.extensions["sqlalchemy"].engine.dispose()


def differences(site: Flask, plain: Flask, wsgi_get: Callable[..., Any]) -> Iterator[str]:
    """Ask both for every stored page, and tell what differs."""
    count = 0
    for page in site.extensions["prerender"].store.pages():
        count += 1
        path, _, query = page.key.partition("?")
        stored = wsgi_get(site, unquote(path), query=query)
        answered = wsgi_get(plain, unquote(path), query=query)
        if stored.get("X-Prerendered") != "true":
            yield f"{page.key} was not served from the store"
        if (stored.status, stored.body) != (answered.status, answered.body):
            yield f"{page.key} differs"
        if own(stored.headers) != own(answered.headers):
            yield f"{page.key}: {own(stored.headers)} for {own(answered.headers)}"
        packed = wsgi_get(site, unquote(path), query=query, headers={"Accept-Encoding": "gzip"})
        if packed.get("Content-Encoding") and gzip.decompress(packed.body) != answered.body:
            yield f"{page.key} differs when it is compressed"
        if wrong := wrong_file(site, page, answered.body):
            yield wrong
    if not count:
        yield "nothing is stored"


def own(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted((name, value) for name, value in headers if name.lower() not in ADDED)


def wrong_file(site: Flask, page: Page, body: bytes) -> str:
    file = site.extensions["prerender"].public / page.file
    return "" if file.read_bytes() == body else f"{file} differs from {page.key}"


def test_a_part_of_the_site_is_stored_as_the_app_answers_it(
    make_site: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    site = make_site()

    report = generate(site, paths=SAMPLE)

    assert report.is_good, report.to_dict()
    assert report.total > 60
    assert list(differences(site, make_site(PRERENDER_ENABLED=False), wsgi_get)) == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_whole_site_is_stored_as_the_app_answers_it(
    make_site: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    site = make_site()

    report = generate(site)

    assert report.is_good, report.to_dict()
    assert report.total >= 3000
    assert list(differences(site, make_site(PRERENDER_ENABLED=False), wsgi_get)) == []


def test_a_second_build_of_an_unchanged_site_rewrites_no_file(
    make_site: Callable[..., Flask],
) -> None:
    site = make_site()
    generate(site, paths=SAMPLE)
    before = snapshot(site)

    report = generate(site, paths=SAMPLE)

    assert report.counts == {"unchanged": report.total}
    assert snapshot(site) == before


def snapshot(site: Flask) -> dict[str, tuple[int, int, str]]:
    public = site.extensions["prerender"].public
    return {
        str(path): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in public.rglob("*")
        if path.is_file() and not path.name.startswith("sitemap")
    }
