"""What becomes of a page when it is made again, and of the page that was there before."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask import Response
from flask import session

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Outcome
from flask_prerender import Page
from flask_prerender import signals
from flask_prerender import StoreError
from flask_prerender.compress import Gzip
from flask_prerender.publish import publish
from flask_prerender.render import request_environ
from flask_prerender.site import Site
from flask_prerender.stores.files import FileStore
from flask_prerender.stores.memory import MemoryStore

MakeApp = Callable[..., Flask]

TEXT = "a page of some length " * 100


def outcome(app: Flask, path: str = "/", origin: str = "build", **options: Any) -> Outcome:
    site = site_of(app)
    target = site.routes.match(request_environ(site, path), path)
    assert target is not None
    return publish(site, target, origin=origin, **options)


def site_of(app: Flask) -> Site:
    site: Site = app.extensions["prerender"]
    return site


def stored(app: Flask, key: str = "/") -> Page:
    page = site_of(app).store.get(key)
    assert page is not None
    return page


def files(app: Flask) -> dict[str, tuple[int, int, bytes]]:
    """Return every file of the public tree: inode, time, bytes."""
    public = site_of(app).public
    return {
        str(file.relative_to(public)): (
            file.stat().st_ino,
            file.stat().st_mtime_ns,
            file.read_bytes(),
        )
        for file in public.rglob("*")
        if file.is_file()
    }


class Changing:
    """A view that answers what the test gives it, and raises an exception it is given."""

    def __init__(self, app: Flask, path: str = "/", **options: Any) -> None:
        self.answer: Any = TEXT
        app.add_url_rule(path, f"view {path}", mark(**options)(lambda: self()))

    def __call__(self) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


# The same page again.


def test_the_same_bytes_leave_everything_alone_but_the_moment_of_the_check(
    make_app: MakeApp, wsgi_get: Any, clock: Any
) -> None:
    app = make_app()
    Changing(app)
    assert outcome(app).result == "published"
    before, tree, answer = stored(app), files(app), wsgi_get(app)
    assert {"index.html", "index.html.gz"} <= tree.keys()
    clock.forward(3600)
    assert outcome(app).result == "unchanged"
    after = stored(app)
    checked = replace(before, checked_at=before.checked_at + 3600)
    assert after == replace(checked, revision=after.revision, token=after.token)
    assert files(app) == tree
    assert wsgi_get(app) == answer


def test_other_bytes_are_another_page(make_app: MakeApp, wsgi_get: Any, clock: Any) -> None:
    app = make_app()
    view = Changing(app)
    outcome(app)
    before, tree, answer = stored(app), files(app), wsgi_get(app)
    clock.forward(3600)
    view.answer = TEXT.upper()
    assert outcome(app).result == "published"
    after = stored(app)
    assert after.generated_at == after.changed_at == after.checked_at == clock.now
    assert after.identity.digest != before.identity.digest
    assert files(app)["index.html"][2] == TEXT.upper().encode()
    assert files(app).keys() == tree.keys()
    now = wsgi_get(app)
    assert now.body == TEXT.upper().encode()
    assert now.get("ETag") != answer.get("ETag")
    assert now.get("Last-Modified") != answer.get("Last-Modified")


@pytest.mark.parametrize("what", ["headers", "status"])
def test_the_same_body_with_other_facts_is_sent_with_them(
    make_app: MakeApp, wsgi_get: Any, clock: Any, what: str
) -> None:
    app = make_app()
    view = Changing(app, statuses=[200, 404])
    view.answer = lambda: Response(TEXT, 200, {"X-Version": "1", "Content-Language": "en"})
    outcome(app)
    before, tree, answer = stored(app), files(app), wsgi_get(app)
    clock.forward(3600)
    if what == "headers":
        view.answer = lambda: Response(TEXT, 200, {"X-Version": "2"})
    else:
        view.answer = lambda: Response(TEXT, 404, {"X-Version": "1", "Content-Language": "en"})
    assert outcome(app).result == "published"
    after, now = stored(app), wsgi_get(app)
    assert after.variants == before.variants
    assert after.generated_at == clock.now
    assert after.changed_at == before.changed_at
    assert files(app) == tree
    assert now.get("ETag") == answer.get("ETag")
    if what == "headers":
        assert (now.get("X-Version"), now.get("Content-Language")) == ("2", None)
    else:
        assert (now.status, now.get("X-Version")) == (404, "1")


def test_a_first_visit_does_not_take_a_built_page_out_of_its_build(make_app: MakeApp) -> None:
    app = make_app()
    view = Changing(app)
    outcome(app, build=3)
    view.answer = "other"
    outcome(app, origin="visit")
    assert (stored(app).origin, stored(app).build) == ("build", 3)
    assert site_of(app).store.read(stored(app), stored(app).identity) == b"other"


def test_a_page_carries_the_revision_that_stood_before_its_render(make_app: MakeApp) -> None:
    app = make_app()
    view = Changing(app)
    coordination = site_of(app).coordination

    def slow() -> str:
        coordination.advance()
        return "page"

    view.answer = slow
    before = coordination.revision()
    outcome(app)
    assert stored(app).revision == before
    assert coordination.revision() > before + 1


# Failures.


FAILURES: dict[str, Any] = {
    "exception": LookupError("no such thing"),
    "500": ("sorry", 500),
    "503": lambda: Response("later", 503, {"Retry-After": "60"}),
    "599": ("odd", 599),
    "half a stream": lambda: Response(_half()),
    "too large": "x" * 6_000_000,
    "empty": "",
    "404": ("gone", 404),
    "redirect": ("", 302, {"Location": "/login"}),
    "cookie": lambda: Response("mine", headers={"Set-Cookie": "a=b"}),
    "session": lambda: f"{session.get('a')}",
}


def _half() -> Iterator[str]:
    yield "half"
    raise LookupError("no other half")


@pytest.mark.parametrize("failure", FAILURES)
def test_a_page_that_cannot_be_made_again_stays_as_it_was(
    make_app: MakeApp, wsgi_get: Any, failure: str
) -> None:
    app = make_app({"SECRET_KEY": "key"})
    view = Changing(app)
    outcome(app)
    before, tree, answer = stored(app), files(app), wsgi_get(app)
    view.answer = FAILURES[failure]
    made = outcome(app)
    assert made.result in ("failed", "refused")
    assert (made.page, made.is_stored) == (None, False)
    assert stored(app) == before
    assert files(app) == tree
    assert wsgi_get(app) == answer
    report = generate(app)
    assert (report.is_good, report.removed) == (False, 0)
    assert wsgi_get(app).body == answer.body


@pytest.mark.parametrize("word", ["private", "no-store"])
@pytest.mark.parametrize("name", ["Cache-Control", "CDN-Cache-Control"])
def test_a_view_that_says_private_takes_its_page_away(
    make_app: MakeApp, wsgi_get: Any, word: str, name: str
) -> None:
    app = make_app()
    view = Changing(app)
    outcome(app)
    assert wsgi_get(app).get("X-Prerendered") == "true"
    view.answer = lambda: Response("mine", headers={name: word})
    removed = []

    def note(sender: Flask, key: str, reason: str, **extra: object) -> None:
        removed.append((key, reason))

    with signals.page_removed.connected_to(note, app):
        assert outcome(app).reason == word
        assert outcome(app).reason == word
    assert removed == [("/", word)]
    assert site_of(app).store.get("/") is None
    assert files(app) == {}
    now = wsgi_get(app)
    assert (now.body, now.get("X-Prerendered")) == (b"mine", None)


def test_another_process_serves_a_page_that_became_private_no_longer(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    app, other = make_app(), make_app()
    view, _ = Changing(app), Changing(other)
    outcome(app)
    assert wsgi_get(other).get("X-Prerendered") == "true"
    view.answer = lambda: Response("mine", headers={"Cache-Control": "private"})
    outcome(app)
    assert "fwd=uri-miss" in str(wsgi_get(other).get("Cache-Status"))


def test_a_page_answered_by_another_route_than_listed_is_refused(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/<name>", "any", mark(params=[{"name": "about"}])(lambda name: name))
    app.add_url_rule("/about", "about", mark(lambda: "about"))
    (made,) = generate(app).turned_down
    assert (made.key, made.reason) == ("/about", "mismatch")
    assert made.detail == "listed for any, but answered by about (/about)"
    assert len(list(site_of(app).store.pages())) == 0


# Stores that fail.


class Failing(MemoryStore):
    """A store that cannot write while `fails` is true."""

    fails = False

    def put(self, page: Page, bodies: Mapping[str, bytes]) -> None:
        if self.fails:
            raise StoreError("the disk is full")
        super().put(page, bodies)

    def delete(self, keys: Any) -> int:
        if self.fails:
            raise StoreError("the disk is full")
        return super().delete(keys)


def test_a_store_that_cannot_write_is_a_failure_named_store(
    make_app: MakeApp, wsgi_get: Any
) -> None:
    store = Failing()
    app = make_app(store=store)
    view = Changing(app)
    outcome(app)
    view.answer = "new"
    store.fails = True
    made = outcome(app)
    assert (made.result, made.reason, made.detail) == ("failed", "store", "the disk is full")
    assert made.page is None
    assert wsgi_get(app).body == TEXT.encode()
    store.fails = False
    assert outcome(app).result == "published"
    assert wsgi_get(app).body == b"new"


def test_a_visitor_gets_the_page_that_could_not_be_stored(
    make_app: MakeApp, wsgi_get: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing()
    store.fails = True
    app = make_app(store=store)
    Changing(app)
    for _ in range(3):
        answer = wsgi_get(app)
        assert (answer.status, answer.body) == (200, TEXT.encode())
        assert "detail=store" in str(answer.get("Cache-Status"))
    assert len([r for r in caplog.records if "the disk is full" in r.getMessage()]) == 1
    store.fails = False
    clock.forward(31)
    assert "stored" in str(wsgi_get(app).get("Cache-Status"))


def test_a_private_page_that_cannot_be_removed_is_told_and_never_raises(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing()
    app = make_app(store=store)
    view = Changing(app)
    outcome(app)
    view.answer = lambda: Response("mine", headers={"Cache-Control": "private"})
    store.fails = True
    assert outcome(app).reason == "private"
    assert "could not be removed: the disk is full" in caplog.text


def test_a_body_that_somebody_took_away_is_written_again(make_app: MakeApp, wsgi_get: Any) -> None:
    app = make_app()
    Changing(app)
    outcome(app)
    store = site_of(app).store
    assert isinstance(store, FileStore)
    for file in site_of(app).path.rglob("blobs/**/*"):
        if file.is_file():
            file.unlink()
    made = outcome(app)
    assert made.is_stored
    assert all(store.read(stored(app), variant) for variant in stored(app).variants)
    assert wsgi_get(app).body == TEXT.encode()


def test_a_name_too_long_for_a_file_is_refused_for_that_page(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/<path:name>", "any", mark(lambda name: "page"))
    made = outcome(app, "/" + "/".join(["abcdefghi"] * 120))
    assert (made.result, made.reason) == ("refused", "path")
    assert "too long" in made.detail


# Compressors.


class Reversed:
    """A coding of its own, which saves half."""

    encoding = "rev"
    suffix = "rev"
    version = "rev-1"

    def compress(self, body: bytes) -> bytes:
        return body[: len(body) // 2]


class Raising(Reversed):
    encoding = suffix = "bad"

    def compress(self, body: bytes) -> bytes:
        raise ValueError("out of luck")


def test_a_new_compressor_is_noticed_at_the_next_build(
    make_app: MakeApp, wsgi_get: Any, clock: Any
) -> None:
    first = make_app(compressors=[Gzip()])
    Changing(first)
    outcome(first)
    before = stored(first)
    assert [v.encoding for v in before.variants] == ["identity", "gzip"]
    clock.forward(3600)
    second = make_app(compressors=[Gzip(), Reversed()])
    Changing(second)
    outcome(second)
    after = stored(second)
    assert [v.encoding for v in after.variants] == ["identity", "gzip", "rev"]
    assert (after.changed_at, after.identity) == (before.changed_at, before.identity)
    answer = wsgi_get(second, headers={"Accept-Encoding": "rev"})
    assert answer.get("Content-Encoding") == "rev"
    third = make_app({"PRERENDER_COMPRESS": False})
    Changing(third)
    outcome(third)
    assert [v.encoding for v in stored(third).variants] == ["identity"]
    assert not any(name.endswith(".gz") for name in files(third))


def test_a_changed_level_is_noticed_at_the_next_build(make_app: MakeApp, clock: Any) -> None:
    pages = []
    for level in (1, 9):
        app = make_app({"PRERENDER_COMPRESS": {"gzip": level}})
        Changing(app)
        assert outcome(app).result == "published"
        pages.append(stored(app))
        clock.forward(3600)
    fast, small = pages
    assert (fast.compressors, small.compressors) == ("gzip-1", "gzip-9")
    assert fast.variants[1].digest != small.variants[1].digest
    assert (fast.changed_at, fast.identity) == (small.changed_at, small.identity)


def test_a_compressor_that_raises_is_skipped(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(compressors=[Raising(), Gzip()])
    Changing(app)
    assert outcome(app).result == "published"
    assert [v.encoding for v in stored(app).variants] == ["identity", "gzip"]
    assert "The compressor Raising is skipped: it raised ValueError: out of luck." in caplog.text


# Pages that are not HTML.

KINDS = {
    "/data.json": ("application/json", json.dumps({"a": TEXT}), "data.json"),
    "/api/items": ("application/json", "[]", "api/items/index.json"),
    "/sitemap-own.xml": ("application/xml", "<a/>", "sitemap-own.xml"),
    "/feed": ("application/atom+xml", "<feed/>", "feed/index.atom"),
    "/feed.xml": ("application/rss+xml", "<rss/>", "feed.xml"),
    "/robots.txt": ("text/plain; charset=utf-8", "User-agent: *", "robots.txt"),
    "/notes.md": ("text/markdown", "# Notes", "notes.md"),
    "/table.csv": ("text/csv; charset=utf-8", "a,b\n", "table.csv"),
    "/logo.svg": ("image/svg+xml", "<svg/>", "logo.svg"),
    "/logo.png": ("image/png", b"\x89PNG\r\n\x1a\n\x00\xff", "logo.png"),
    "/blob": ("application/x-own", b"\x00\x01\xff" * 9, "blob/index.bin"),
    "/page": ("text/html; charset=latin-1", "caf\u00e9".encode("latin-1"), "page/index.html"),
}


@pytest.mark.parametrize("path", KINDS)
def test_every_kind_of_page_keeps_its_type_and_has_a_file_that_fits(
    make_app: MakeApp, wsgi_get: Any, path: str
) -> None:
    content_type, body, file = KINDS[path]
    expected = body.encode() if isinstance(body, str) else body
    app = make_app()
    app.add_url_rule(path, "page", mark(lambda: Response(body, content_type=content_type)))
    assert outcome(app, path).is_stored
    assert stored(app, path).file == file
    assert files(app)[file][2] == expected
    answer = wsgi_get(app, path)
    assert (answer.body, answer.get("Content-Type")) == (expected, content_type)
    assert answer.get("X-Prerendered") == "true"


def test_a_dict_becomes_json_with_its_variants(make_app: MakeApp, wsgi_get: Any) -> None:
    app = make_app()
    app.add_url_rule("/api", "api", mark(lambda: {"text": TEXT}))
    outcome(app, "/api")
    answer = wsgi_get(app, "/api", headers={"Accept-Encoding": "gzip"})
    assert answer.get("Content-Type") == "application/json"
    assert answer.get("Content-Encoding") == "gzip"


# Telling.


def test_signals_tell_what_was_published_and_what_was_turned_down(make_app: MakeApp) -> None:
    app = make_app()
    view = Changing(app)
    told: list[tuple[str, Any]] = []

    def published(sender: Flask, key: str, page: Page, changed: bool, **extra: Any) -> None:
        assert page.key == key
        assert 0 <= extra["duration"] < 60
        told.append((key, changed))

    def refused(sender: Flask, key: str, reason: str, detail: str, **extra: object) -> None:
        told.append((key, f"{reason}: {detail}"))

    with (
        signals.page_published.connected_to(published, app),
        signals.page_refused.connected_to(refused, app),
    ):
        outcome(app)
        outcome(app)
        view.answer = ""
        outcome(app)
    assert told == [("/", True), ("/", False), ("/", "empty: the body is empty")]


def test_a_receiver_that_raises_changes_nothing(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    Changing(app)

    def broken(sender: Flask, **facts: object) -> None:
        raise RuntimeError("a broken receiver")

    with signals.page_published.connected_to(broken, app):
        assert outcome(app).result == "published"
    assert "page-published" in caplog.text


def test_pages_of_a_visit_are_announced_and_those_of_a_build_together(make_app: MakeApp) -> None:
    app = make_app()
    view = Changing(app)
    revision = site_of(app).coordination.revision
    outcome(app)
    before = revision()
    view.answer = "other"
    outcome(app, announce=False)
    assert revision() == before
    view.answer = "another"
    outcome(app)
    assert revision() == before + 1
    outcome(app)
    assert revision() == before + 1


def test_a_failure_says_where_in_the_app(make_app: MakeApp) -> None:
    app = make_app()
    view = Changing(app)
    view.answer = LookupError("no such thing")
    made = outcome(app)
    name, _, rest = made.where.partition(":")
    assert Path(name).name == "test_publish.py"
    assert rest.endswith(" in __call__")
    assert (made.endpoint, made.rule, made.key) == ("view /", "/", "/")
    assert made.duration > 0


def test_nothing_is_logged_for_a_page_that_is_well(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = make_app()
    Changing(app)
    outcome(app)
    outcome(app)
    assert caplog.records == []
