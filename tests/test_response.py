"""Stored answers in the hands of ``after_request`` functions."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask import request
from flask import Response

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender.response import Responses

TEXT = "<html>" + "hello world " * 500 + "</html>"
PACKED = {"Accept-Encoding": "gzip"}
Change = Callable[[Response], None]


@pytest.fixture(params=[{}, {"PRERENDER_MEMORY_BYTES": 0}], ids=["memory", "disk"])
def make_site(
    make_app: Callable[..., Flask], request: pytest.FixtureRequest
) -> Callable[[Change], Flask]:
    """Make an app with one stored page, whose after_request function changes only what visitors
    get, so that the page itself is plain."""

    def make(change: Change) -> Flask:
        app = make_app(request.param)
        app.add_url_rule("/", "index", mark(lambda: TEXT))
        generate(app)
        app.after_request_funcs.setdefault(None, []).append(lambda r: (change(r), r)[1])
        return app

    return make


def append_mark(response: Response) -> None:
    response.set_data(response.get_data(as_text=True) + "<!-- mine -->")


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity"])
def test_a_function_that_changes_text_gets_text_whatever_variant_was_chosen(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any], coding: str
) -> None:
    app = make_site(append_mark)

    answer = wsgi_get(app, headers={"Accept-Encoding": coding})

    assert answer.status == 200
    assert answer.body.decode() == TEXT + "<!-- mine -->"
    assert answer.get("Content-Encoding") is None
    assert answer.get("Content-Length") == str(len(answer.body))
    assert answer.get("ETag") is None
    assert answer.get("Cache-Control") == "private, no-store"
    assert answer.get("Content-Type") == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-3"},
        {"Range": "bytes=999999-"},
        {"If-None-Match": "*"},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    ],
    ids=["part", "unsatisfiable", "tag", "date"],
)
def test_a_changed_body_is_sent_whole_whatever_was_asked_of_the_stored_one(
    make_site: Callable[[Change], Flask],
    wsgi_get: Callable[..., Any],
    headers: dict[str, str],
) -> None:
    app = make_site(append_mark)

    answer = wsgi_get(app, headers=headers)

    assert answer.status == 200
    assert answer.body.decode() == TEXT + "<!-- mine -->"
    assert answer.get("Content-Range") is None


def test_head_of_a_changed_body_has_its_length_and_nothing_else(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_site(append_mark)

    head, get = wsgi_get(app, method="HEAD"), wsgi_get(app)

    assert head.body == b""
    assert sorted(head.headers) == sorted(get.headers)


def test_a_function_that_only_reads_leaves_the_variant_as_it_is(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    seen: list[str] = []
    app = make_site(lambda response: seen.append(response.get_data(as_text=True)))

    answer = wsgi_get(app, headers=PACKED)

    assert seen == [TEXT]
    assert answer.get("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.body).decode() == TEXT
    assert "public" in answer.get("Cache-Control")


def test_a_function_that_compresses_sees_that_it_is_done(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    def compress(response: Response) -> None:
        if "Content-Encoding" not in response.headers:
            response.set_data(gzip.compress(response.get_data()))
            response.headers["Content-Encoding"] = "gzip"

    answer = wsgi_get(make_site(compress), headers=PACKED)

    assert gzip.decompress(answer.body).decode() == TEXT
    assert answer.get("ETag").endswith('-gz"')


def test_a_chunk_put_beside_the_body_is_a_change(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_site(lambda response: response.response.append(b"!"))

    assert wsgi_get(app).body.decode() == TEXT + "!"


def test_another_status_is_another_answer(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    def refuse(response: Response) -> None:
        response.status_code = 503
        response.set_data("Closed")

    answer = wsgi_get(make_site(refuse), headers=PACKED)

    assert (answer.status, answer.body) == (503, b"Closed")


def test_a_response_waits_for_its_end_like_any_other(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    ended: list[bool] = []
    app = make_site(lambda response: (response.call_on_close(lambda: ended.append(True)), None)[1])

    answer = wsgi_get(app, headers=PACKED)

    assert gzip.decompress(answer.body).decode() == TEXT
    assert ended == [True]


def test_a_body_that_was_damaged_since_is_unpacked_from_the_variant(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_site(append_mark)
    site = app.extensions["prerender"]
    page = site.store.get("/")
    blob = site.output / "store" / "blobs" / page.identity.digest[:2] / page.identity.digest
    blob.unlink()

    assert wsgi_get(app, headers=PACKED).body.decode() == TEXT + "<!-- mine -->"


@pytest.mark.parametrize(
    ("name", "value", "shared"),
    [
        ("X-Request-Id", "17", True),
        ("X-Frame-Options", "DENY", False),
        ("Content-Type", "text/html; charset=utf-8", True),
    ],
)
def test_a_header_of_ones_own_keeps_the_answer_from_shared_caches(
    make_site: Callable[[Change], Flask],
    wsgi_get: Callable[..., Any],
    name: str,
    value: str,
    shared: bool,
) -> None:
    app = make_site(lambda response: response.headers.add(name, value))

    answer = wsgi_get(app)

    assert [v for n, v in answer.headers if n == name] == [value]
    assert answer.get("Cache-Control").startswith("public" if shared else "private")


def test_a_header_can_be_taken_away(
    make_site: Callable[[Change], Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_site(lambda response: response.headers.pop("X-Prerendered"))

    assert wsgi_get(app).get("X-Prerendered") is None


class Loud(Response):
    """A response class with a constructor of its own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.volume = 11


def test_a_response_class_with_its_own_constructor_is_constructed(
    make_app: Callable[..., Flask], wsgi_get: Callable[..., Any]
) -> None:
    app = make_app()
    plain = Responses(Response, lambda answer: b"")
    loud = Responses(Loud, lambda answer: b"")

    assert plain._fill == plain._fill_fast
    assert loud._fill == loud._fill_plain
    assert app.response_class is Response


def test_a_stored_answer_of_such_a_class_is_served(
    clock: Any, tmp_path: Any, wsgi_get: Callable[..., Any]
) -> None:
    from flask_prerender import Prerender

    seen: list[int] = []
    app = Flask("loud", instance_path=str(tmp_path))
    app.response_class = Loud
    Prerender(app, clock=clock)
    app.add_url_rule("/", "index", mark(lambda: TEXT))

    @app.after_request
    def note(response: Loud) -> Loud:
        if request.headers.get("X-Visitor"):
            seen.append(response.volume)
        return response

    generate(app)
    answer = wsgi_get(app, headers={"X-Visitor": "1", **PACKED})
    app.extensions["prerender"].close()

    assert seen == [11]
    assert gzip.decompress(answer.body).decode() == TEXT
