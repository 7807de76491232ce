"""``POST /_prerender/revalidate`` and ``/purge``."""

from __future__ import annotations

import hmac
import json
import socket

import pytest
from flask import request
from flask_wtf import CSRFProtect

from flask_prerender import ConfigError
from flask_prerender import endpoint as room
from flask_prerender import Prerender
from flask_prerender import StoreError
from living import settle
from living import site_of
from living import View

TOKEN = "a" * 32
OTHER = "b" * 40
PURGE, REVALIDATE = "/_prerender/purge", "/_prerender/revalidate"


@pytest.fixture
def app(make_app):
    app = make_app({"PRERENDER_TOKENS": [TOKEN, OTHER], "MAX_CONTENT_LENGTH": None})
    app.view = View(app, "/page", tags=["news"])
    assert app.test_client().get("/page").text == "render 1"
    return app


def post(app, path=PURGE, body=None, token=TOKEN, **options):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = body if isinstance(body, bytes) else json.dumps(body)
    return app.test_client().post(path, data=data, headers=headers, **options)


@pytest.mark.parametrize(
    ("body", "affected", "tags"),
    [
        ({"paths": ["/page"]}, ["/page"], ["path:/page"]),
        ({"tags": ["news"]}, [], ["news"]),
        ({"tag": "news"}, [], ["news"]),
        ({"tag": "news", "tags": ["other"]}, [], ["other", "news"]),
        ({"prefixes": ["/"]}, [], ["under:/"]),
        (
            {"paths": ["/page"], "tags": ["news"], "prefixes": ["/p"]},
            ["/page"],
            ["path:/page", "under:/p/", "news"],
        ),
    ],
    ids=str,
)
def test_pages_are_purged(app, body, affected, tags):
    answer = post(app, body=body)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["affected"] == affected
    assert answer.json["tags"] == tags
    assert answer.json["hard"] is True
    assert answer.json["revision"] == site_of(app).coordination.revision()
    if body.get("prefixes") != ["/p"] or affected:
        assert app.test_client().get("/page").text == "render 2"


def test_revalidate_is_soft_and_makes_the_pages_it_names_new(app):
    answer = post(app, REVALIDATE, {"paths": ["/page"]})
    assert (answer.status_code, answer.json["hard"]) == (200, False)
    settle(app)
    assert app.view.renders == 2
    assert app.test_client().get("/page").text == "render 2"
    post(app, REVALIDATE, {"tag": "news"})
    settle(app)
    assert app.view.renders == 2
    assert app.test_client().get("/page").text == "render 2"
    settle(app)
    assert app.test_client().get("/page").text == "render 3"


def test_the_answer_says_what_is_unknown_and_refused(app):
    answer = post(app, body={"paths": ["/none", "//evil", "http://evil/"], "tags": [""]})
    assert answer.status_code == 200
    assert answer.json["unknown"] == ["/none"]
    assert set(answer.json["refused"]) == {"//evil", "http://evil/", ""}


MALFORMED = {
    "no token": (401, b'{"tag": "a"}', {"token": ""}),
    "another token": (401, b'{"tag": "a"}', {"token": "c" * 32}),
    "a token begun": (401, b'{"tag": "a"}', {"token": TOKEN[:-1]}),
    "a token and more": (401, b'{"tag": "a"}', {"token": TOKEN + "a"}),
    "a token of other letters": (401, b'{"tag": "a"}', {"token": "ä" * 32}),
    "both tokens": (401, b'{"tag": "a"}', {"token": TOKEN + OTHER}),
    "nothing": (422, b"", {}),
    "no JSON": (422, b"tag=a", {}),
    "half JSON": (422, b'{"tag": ', {}),
    "no UTF-8": (422, b'{"tag": "\xff"}', {}),
    "deep": (422, b"[" * 60_000, {}),
    "a list": (422, b'["a"]', {}),
    "a number": (422, b"1", {}),
    "null": (422, b"null", {}),
    "an empty object": (422, b"{}", {}),
    "an unknown name": (422, b'{"tag": "a", "path": "/a"}', {}),
    "a text for a list": (422, b'{"paths": "/a"}', {}),
    "a text for tags beside tag": (422, b'{"tag": "a", "tags": "bc"}', {}),
    "a number for tags beside tag": (422, b'{"tag": "a", "tags": 5}', {}),
    "null for a tag": (422, b'{"tag": null}', {}),
    "a number for a path": (422, b'{"paths": [1]}', {}),
    "an object for a path": (422, b'{"paths": [{}]}', {}),
    "half a character": (422, b'{"tags": ["\\ud800"]}', {}),
    "half a character in a path": (422, b'{"paths": ["/\\udfff"]}', {}),
    "too many": (422, json.dumps({"tags": ["a"] * 600, "paths": ["/a"] * 401}).encode(), {}),
    "too large": (413, b'{"tag": "' + b"a" * 65536 + b'"}', {}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_told_so_and_nothing_is_taken_back(app, name):
    status, body, options = MALFORMED[name]
    before = site_of(app).coordination.revision()
    for path in (PURGE, REVALIDATE):
        answer = post(app, path, body, **options)
        assert (answer.status_code, answer.mimetype) == (status, "application/json")
        assert answer.headers["Cache-Control"] == "no-store"
        assert set(answer.json) == {"error"}
        assert TOKEN not in answer.text
        assert OTHER not in answer.text
        if status == 401:
            assert answer.json == {"error": "unauthorized"}
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert site_of(app).coordination.revision() == before


def test_a_body_without_a_length_is_not_read_to_its_end(app):
    class Endless:
        read_ = 0

        def read(self, size=-1):
            assert size > 0
            self.read_ += size
            return b"a" * size

    stream = Endless()
    answer = app.test_client().open(
        PURGE,
        method="POST",
        headers={"Authorization": f"Bearer {TOKEN}", "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input": stream, "wsgi.input_terminated": True},
    )
    assert answer.status_code == 413
    assert stream.read_ < 200_000


@pytest.mark.parametrize("scheme", ["Basic", "Token", "", "BearerX"])
def test_only_a_bearer_is_let_in(app, scheme):
    headers = {"Authorization": f"{scheme} {TOKEN}".strip()}
    assert app.test_client().post(PURGE, data='{"tag": "a"}', headers=headers).status_code == 401


def test_a_token_elsewhere_is_none(app):
    client = app.test_client()
    client.set_cookie("token", TOKEN)
    body = json.dumps({"tag": "a", "token": TOKEN})
    for path in (f"{PURGE}?secret={TOKEN}", f"{PURGE}?token={TOKEN}"):
        assert client.post(path, data=body, headers={"X-Token": TOKEN}).status_code == 401


@pytest.mark.parametrize("token", [TOKEN, OTHER])
def test_several_tokens_are_good_at_a_time(app, token):
    assert post(app, body={"tag": "a"}, token=token).status_code == 200


def test_every_token_is_compared_in_constant_time(app, monkeypatch):
    compared = []

    class Watched:
        @staticmethod
        def compare_digest(one, two):
            compared.append(two)
            return hmac.compare_digest(one, two)

    monkeypatch.setattr(room, "hmac", Watched)
    for token in (TOKEN, OTHER, "c" * 32, ""):
        compared.clear()
        post(app, body={"tag": "a"}, token=token)
        assert compared == [TOKEN.encode(), OTHER.encode()]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_only_post_is_answered(app, method):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = app.test_client().open(PURGE, method=method, headers=headers)
    assert answer.status_code == 405
    assert answer.allow.as_set() == {"options", "post"}


def test_without_a_token_there_are_no_such_urls(make_app):
    app = make_app()
    for path in (PURGE, REVALIDATE):
        assert post(app, path, {"tag": "a"}).status_code == 404
        assert app.test_client().get(path).status_code == 404


@pytest.mark.parametrize("tokens", ["short", ["a" * 31], [TOKEN, "short"], [5], 5], ids=str)
def test_a_short_token_is_refused_at_the_start(make_app, tokens):
    with pytest.raises(ConfigError, match="PRERENDER_TOKENS"):
        make_app({"PRERENDER_TOKENS": tokens})


def test_the_path_is_a_setting(make_app):
    app = make_app({"PRERENDER_TOKENS": TOKEN, "PRERENDER_ENDPOINT_PATH": "/hooks/pages"})
    assert post(app, "/hooks/pages/purge", {"tag": "a"}).status_code == 200
    assert post(app, PURGE, {"tag": "a"}).status_code == 404


@pytest.mark.parametrize(
    "path", ["/?x=/_prerender/purge", "/_prerender/purge/", "/_prerender/", "/a/_prerender/purge",
             "/_PRERENDER/purge", "/_prerender/purge.html", "/_prerender/../_prerender/purge"],
)  # fmt: skip
def test_only_the_exact_url_is_ours(app, path):
    before = site_of(app).coordination.revision()
    assert post(app, path, {"tag": "a"}).status_code in (404, 405)
    assert site_of(app).coordination.revision() == before


def test_its_urls_are_never_marked_nor_stored(make_app):
    app = make_app({"PRERENDER_TOKENS": TOKEN, "PRERENDER_RULES": {"/*": True}})
    assert post(app, PURGE, {"tag": "a"}).headers.get("X-Prerendered") is None
    assert post(app, PURGE, {"tag": "a"}).json["revision"] == 2 + _first(app)
    assert list(site_of(app).store.pages()) == []


def _first(app):
    return site_of(app).coordination.revision() - 2


def test_ten_calls_a_second_are_answered(app, clock):
    codes = [post(app, body={"tag": str(n)}).status_code for n in range(15)]
    assert codes == [200] * 10 + [429] * 5
    answer = post(app, body={"tag": "a"})
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "no-store"
    assert post(app, body={"tag": "a"}, token="").status_code == 401  # and takes nothing
    clock.forward(0.35)
    codes = [post(app, body={"tag": str(n)}).status_code for n in range(5)]
    assert codes == [200] * 3 + [429] * 2
    clock.forward(100)
    codes = [post(app, body={"tag": str(n)}).status_code for n in range(12)]
    assert codes == [200] * 10 + [429] * 2
    clock.forward(-50)
    assert post(app, body={"tag": "a"}).status_code == 429


def test_a_store_that_cannot_be_written_is_told_and_logged(app, monkeypatch, caplog):
    def fail(*args, **more):
        raise StoreError("/secret/place: the disk is full")

    monkeypatch.setattr(site_of(app).coordination, "revoke", fail)
    answer = post(app, body={"tag": "a"})
    assert answer.status_code == 503
    assert "secret" not in answer.text
    assert "the disk is full" in caplog.text


PAYLOADS = [
    "//evil.example/x", "///evil", "http://evil.example/", "https:/evil", "\\\\evil\\x", "/\\evil",
    "/a\r\nHost: evil", "/\x00", "/..", "/../etc/passwd", "/a//b", "/%2e%2e/x", "/a%0d%0ab",
    "file:///etc/passwd", "javascript:1", "evil.example", "", " ", "/./a", "@evil", "?x", "#x",
]  # fmt: skip


def test_no_path_makes_a_request_to_elsewhere(app, monkeypatch, clock):
    def connect(*args, **more):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    for path in (PURGE, REVALIDATE):
        answer = post(app, path, {"paths": PAYLOADS, "prefixes": PAYLOADS})
        assert answer.status_code == 200
        assert answer.json["affected"] == []
        for name in PAYLOADS:
            if not name.startswith("/") or name.startswith("//"):
                assert name in answer.json["refused"]
    settle(app)


@pytest.mark.parametrize("first", ["csrf", "prerender"])
def test_csrf_protection_leaves_its_urls_alone_and_no_others(make_app, tmp_path, first):
    from flask import Flask

    app = Flask("site", root_path=str(tmp_path), instance_path=str(tmp_path / "instance"))
    app.config.update(PRERENDER_TOKENS=TOKEN, SECRET_KEY="x" * 32)
    if first == "csrf":
        CSRFProtect(app)
        Prerender(app)
    else:
        Prerender(app)
        CSRFProtect(app)

    @app.post("/form", endpoint="flask_prerender_form")
    def form():
        return "done"

    for path in (PURGE, REVALIDATE):
        assert post(app, path, {"tag": "a"}).status_code == 200
        assert post(app, path, {"tag": "a"}, token="").status_code == 401
    assert app.test_client().post("/form").status_code == 400
    site_of(app).close()


def test_what_runs_before_requests_runs_for_it_too(app):
    seen = []
    app.before_request_funcs[None].append(lambda: seen.append(request.path) and None)
    post(app, body={"tag": "a"})
    assert seen == [PURGE]
