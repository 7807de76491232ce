"""``POST /_prerender/revalidate`` and ``/purge``."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket

import pytest
from flask import Blueprint
from flask import Flask
from flask import request
from flask_wtf import CSRFProtect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

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


@pytest.mark.parametrize(
    "path", ["//_prerender/purge", "/_prerender//purge", "///_prerender/purge"]
)
def test_more_slashes_are_another_url(app, path):
    before = site_of(app).coordination.revision()
    answer = app.test_client().post(
        "/",
        json={"tag": "a"},
        headers={"Authorization": f"Bearer {TOKEN}"},
        environ_overrides={"PATH_INFO": path},
    )
    assert answer.status_code in (308, 404)
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


@pytest.mark.parametrize("limit", [None, 10])
def test_the_limit_of_the_body_is_its_own_whatever_the_app_has(make_app, limit):
    app = make_app({"PRERENDER_TOKENS": TOKEN, "MAX_CONTENT_LENGTH": limit})
    assert post(app, body={"tag": "a" * 200}).status_code == 200
    assert post(app, body=b"a" * 65537).status_code == 413
    assert post(app, body=b"a" * 65536).status_code == 422


def test_a_body_that_was_read_before_is_read_all_the_same(make_app):
    app = make_app({"PRERENDER_TOKENS": TOKEN})
    app.before_request(lambda: request.get_data() and None)
    assert post(app, body={"tag": "a"}).status_code == 200


# Signed calls.


def sign(clock, body, verb="purge", *, token=TOKEN, moment=None):
    moment = f"{clock():.6f}" if moment is None else moment
    signed = f"{moment} {verb} ".encode() + body
    return f"{moment}:{hmac.new(token.encode(), signed, hashlib.sha256).hexdigest()}"


def call(app, signature, body, verb="purge", scheme="HMAC-SHA256"):
    headers = {"Authorization": f"{scheme} {signature}"}
    return app.test_client().post(f"/_prerender/{verb}", data=body, headers=headers)


BODY = json.dumps({"paths": ["/page"]}).encode()


@pytest.mark.parametrize("token", [TOKEN, OTHER])
@pytest.mark.parametrize("verb", ["purge", "revalidate"])
def test_a_signed_call_sends_no_token(app, clock, token, verb):
    answer = call(app, sign(clock, BODY, verb, token=token), BODY, verb)
    assert answer.status_code == 200
    assert answer.json["affected"] == ["/page"]
    assert answer.json["hard"] == (verb == "purge")


def test_a_signed_call_may_be_up_to_five_minutes_old_or_early(app, clock):
    for seconds, status in ((-300.1, 401), (-300, 200), (300, 200), (300.1, 401), (1e9, 401)):
        moment = f"{clock() + seconds:.1f}"
        answer = call(app, sign(clock, BODY, moment=moment), BODY)
        assert answer.status_code == status, seconds


@pytest.mark.parametrize(
    "moment", ["", "now", "nan", "inf", "-1", "1e9", " ", "1_800_000_000", "١٨٠٠٠٠٠٠٠٠"]
)
def test_a_moment_is_a_number_of_seconds(app, clock, moment):
    assert (
        call(app, sign(clock, BODY, moment=moment).encode().decode("latin-1"), BODY).status_code
        == 401
    )


def test_what_is_signed_is_moment_verb_and_body(app, clock):
    signature = sign(clock, BODY)
    moment, mark = signature.split(":")
    before = site_of(app).coordination.revision()
    for answer in (
        call(app, signature, BODY + b" "),
        call(app, signature, BODY, "revalidate"),
        call(app, f"{float(moment) + 1:.6f}:{mark}", BODY),
        call(app, f"{moment}0:{mark}", BODY),
        call(app, f"{moment}:{mark.upper()}", BODY),
        call(app, f"{moment}:{mark[:-1]}", BODY),
        call(app, f"{moment}:{mark}:", BODY),
        call(app, f"{moment}:\xe4", BODY),
        call(app, f"{moment}:", BODY),
        call(app, moment, BODY),
        call(app, "", BODY),
        call(app, sign(clock, BODY, token="c" * 32), BODY),
        call(app, signature, BODY, scheme="Bearer"),
        call(app, TOKEN, BODY),
    ):
        assert answer.status_code == 401
        assert answer.json == {"error": "unauthorized"}
        assert answer.headers["Cache-Control"] == "no-store"
    assert site_of(app).coordination.revision() == before
    assert call(app, signature, BODY).status_code == 200  # none of them used it up


def test_a_call_that_was_overheard_is_of_no_use_to_any_process(make_app, clock):
    one, two = (make_app({"PRERENDER_TOKENS": TOKEN}) for _ in range(2))
    signature = sign(clock, BODY)
    assert call(one, signature, BODY).status_code == 200
    revision = site_of(one).coordination.revision()
    for app in (one, two, one):
        assert call(app, signature, BODY).status_code == 401
        clock.forward(100)
    clock.forward(1)
    assert call(two, signature, BODY).status_code == 401  # too old by now
    assert site_of(one).coordination.revision() == revision
    assert call(two, sign(clock, BODY), BODY).status_code == 200


def test_calls_sent_again_use_up_nothing_of_the_owners(app, clock):
    signature = sign(clock, BODY)
    assert call(app, signature, BODY).status_code == 200
    for _ in range(50):
        assert call(app, signature, BODY).status_code == 401
    codes = [call(app, sign(clock, BODY, moment=f"{clock() + n:.1f}"), BODY).status_code
             for n in range(1, 12)]  # fmt: skip
    assert codes == [200] * 9 + [429] * 2


def test_a_call_that_came_too_fast_may_be_sent_again(app, clock):
    for n in range(10):
        assert post(app, body={"tag": str(n)}).status_code == 200
    signature = sign(clock, BODY)
    assert call(app, signature, BODY).status_code == 429
    clock.forward(1)
    assert call(app, signature, BODY).status_code == 200


def test_a_signed_body_has_the_limits_of_any_other(app, clock):
    body = b"a" * 65537
    assert call(app, sign(clock, body), body).status_code == 413
    assert call(app, sign(clock, b"{}"), b"{}").status_code == 422


def test_signed_calls_alone_are_taken_where_the_setting_says_so(make_app, clock):
    app = make_app({"PRERENDER_TOKENS": [TOKEN, OTHER], "PRERENDER_SIGNED_CALLS": True})
    answer = post(app, body={"tag": "a"})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "HMAC-SHA256"
    assert call(app, sign(clock, BODY), BODY).status_code == 200


def test_signed_calls_without_a_token_are_an_error(make_app):
    with pytest.raises(ConfigError, match="PRERENDER_TOKENS is empty"):
        make_app({"PRERENDER_SIGNED_CALLS": True})


def test_a_store_that_cannot_keep_a_signature_is_told(app, clock, monkeypatch):
    def fail(*args, **more):
        raise StoreError("the disk is full")

    monkeypatch.setattr(site_of(app).coordination, "once", fail)
    assert call(app, sign(clock, BODY), BODY).status_code == 503


def test_a_flood_of_strangers_does_not_lock_the_owner_out(app, clock):
    for n in range(300):
        stranger = sign(clock, BODY, token="c" * 32)
        answer = (
            call(app, stranger, BODY) if n % 2 else post(app, body={"tag": "a"}, token="c" * 32)
        )
        assert answer.status_code == 401
    codes = [post(app, body={"tag": str(n)}).status_code for n in range(11)]
    assert codes == [200] * 10 + [429]


def test_a_forked_child_counts_calls_with_a_lock_of_its_own(app):
    (bucket,) = {
        renew.__self__
        for renew in site_of(app).renewals
        if isinstance(renew.__self__, room._Bucket)
    }
    with bucket._lock:  # held by a thread that the child does not have
        site_of(app).after_fork()
        assert post(app, body={"tag": "a"}).status_code == 200


# Where it answers.


def test_it_answers_below_a_mount_and_takes_urls_with_it(make_app):
    app = make_app({
        "PRERENDER_TOKENS": TOKEN, "APPLICATION_ROOT": "/shop", "SERVER_NAME": "example.com",
    })  # fmt: skip
    View(app, "/page")
    client = Client(DispatcherMiddleware(Flask("root"), {"/shop": app.wsgi_app}))
    options = {"base_url": "http://example.com/", "headers": {"Authorization": f"Bearer {TOKEN}"}}
    assert client.get("/shop/page", base_url="http://example.com/").text == "render 1"
    for path in ("/page", "http://example.com/shop/page"):
        answer = client.post(f"/shop{PURGE}", json={"paths": [path]}, **options)
        assert answer.json["affected"] == ["/page"]
    answer = client.post(f"/shop{PURGE}", json={"paths": ["http://example.com/page"]}, **options)
    assert set(answer.json["refused"]) == {"http://example.com/page"}
    assert client.post(PURGE, json={"tag": "a"}, **options).status_code == 404


def test_it_answers_on_every_host_of_an_app_whose_pages_differ_by_host(tmp_path):
    app = Flask("site", instance_path=str(tmp_path), host_matching=True, static_host="a.example")
    app.config.update(PRERENDER_TOKENS=TOKEN, PRERENDER_BASE_URL="http://a.example")
    Prerender(app)
    app.add_url_rule("/page", "page", app.prerender(lambda: "page"), host="a.example")
    app.add_url_rule("/page", "other", app.prerender(lambda: "other"), host="b.example")
    client = app.test_client()
    for host in ("a.example", "b.example"):
        client.get("/page", base_url=f"http://{host}")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for host, body, affected in (
        ("a.example", {"paths": ["//b.example/page"]}, ["//b.example/page"]),
        ("b.example", {"paths": ["http://a.example/page"]}, ["//a.example/page"]),
        ("c.example", {"prefixes": ["//b.example/"]}, []),
        ("a.example", {"paths": ["/page", "//evil.example/page"]}, []),
    ):
        answer = client.post(PURGE, json=body, headers=headers, base_url=f"http://{host}")
        assert (answer.status_code, answer.json["affected"]) == (200, affected)
    assert set(answer.json["refused"]) == {"/page"}
    assert "//host/path" in answer.json["refused"]["/page"]
    assert answer.json["unknown"] == ["//evil.example/page"]
    site_of(app).close()


def test_it_answers_in_an_app_with_subdomains_and_blueprints(tmp_path):
    app = Flask("site", instance_path=str(tmp_path), subdomain_matching=True)
    app.config.update(PRERENDER_TOKENS=TOKEN, SERVER_NAME="example.com")
    Prerender(app)
    blog = Blueprint("blog", "blog", subdomain="blog", url_prefix="/posts")
    blog.add_url_rule("/<int:n>", "post", app.prerender(lambda n: f"post {n}"))
    app.register_blueprint(blog)
    client = app.test_client()
    client.get("/posts/1", base_url="http://blog.example.com")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = client.post(
        PURGE, json={"paths": ["//blog.example.com/posts/1"]}, headers=headers,
        base_url="http://example.com",
    )  # fmt: skip
    assert answer.json["affected"] == ["//blog.example.com/posts/1"]
    assert client.get("/posts/1", base_url="http://blog.example.com").status_code == 200
    site_of(app).close()


def test_a_catch_all_route_does_not_take_its_place(make_app, wsgi_get):
    app = make_app({"PRERENDER_TOKENS": TOKEN})
    View(app, "/<path:anything>")
    assert wsgi_get(app, "/_prerender/purge").body == b"render 1"  # an ordinary page
    assert post(app, body={"prefixes": ["/"]}).json["tags"] == ["under:/"]
    assert wsgi_get(app, "/_prerender/purge").body == b"render 2"
