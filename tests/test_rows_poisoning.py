"""What clients send and no page may show: headers of ours, bodies, validators, queries."""

from __future__ import annotations

import json
import random
import re
import threading
from io import BytesIO
from pathlib import Path

import pytest
from flask import Request
from flask import request
from flask import Response

import flask_prerender
from flask_prerender.stores.memory import MemoryStore
from living import SECONDS
from living import settle
from living import site_of
from living import View

# Headers of ours: there are none.

#: What may decide something, by its name in the environ.
KNOWN = {
    "ACCEPT", "ACCEPT_ENCODING", "ACCEPT_LANGUAGE", "AUTHORIZATION", "CACHE_CONTROL", "COOKIE",
    "HOST", "IF_MODIFIED_SINCE", "IF_NONE_MATCH", "IF_RANGE", "RANGE", "TRANSFER_ENCODING",
    "UPGRADE", "USER_AGENT",
}  # fmt: skip


def test_no_header_is_looked_at_but_those_of_http():
    found = set()
    for file in Path(flask_prerender.__file__).parent.rglob("*.py"):
        text = file.read_text()
        found |= set(re.findall(r"\bHTTP_([A-Z0-9_]+)", text))
        asked = re.findall(r"""request\.headers(?:\.get\(|\[)\s*["']([^"']+)""", text)
        found |= {name.upper().replace("-", "_") for name in asked}
    assert found <= KNOWN
    assert {"AUTHORIZATION", "IF_NONE_MATCH", "RANGE"} <= found


WORDS = ["Action", "Bypass", "Data", "Key", "Preview", "Purge", "Render", "Resume", "Revalidate",
         "Subrequest", "Token", "Vary"]  # fmt: skip
OURS = [f"{begin}{word}" for word in ("", *(f"-{w}" for w in WORDS))
        for begin in ("X-Prerender", "X-Prerendered", "X-Flask-Prerender", "Flask-Prerender",
                      "Flask_Prerender.Render")]  # fmt: skip


@pytest.mark.parametrize("value", ["1", "true", "/page", "GET"])
def test_headers_with_our_name_change_nothing(make_app, wsgi_get, clock, value):
    app = make_app({"PRERENDER_TOKENS": "t" * 32})
    view = View(app)
    first = wsgi_get(app, "/page", headers=dict.fromkeys(OURS, value))
    assert (first.body, first.get("X-Prerendered")) == (b"render 1", "true")
    hit = wsgi_get(app, "/page")
    for name in OURS:
        assert wsgi_get(app, "/page", headers={name: value}) == hit
    clock.forward(60)
    assert wsgi_get(app, "/page", headers=dict.fromkeys(OURS, value)).body == b"render 1"
    settle(app)
    assert (view.renders, view.visits) == (2, 0)


# Bodies.


class Watched:
    """A request's body that tells whether anybody touched it."""

    def __init__(self, body):
        self._body = BytesIO(body)
        self.touched = 0

    def __getattr__(self, name):
        self.touched += 1
        return getattr(self._body, name)


def test_the_body_of_a_request_is_the_apps_alone(make_app, wsgi_get):
    app = make_app()

    @app.route("/form", methods=["GET", "POST"])
    @app.prerender(query=["p", "q"])
    def form():
        return f"{request.method} {sorted(request.values.items(multi=True))}"

    def ask(method, query="q=1"):
        body = Watched(b"p=evil&q=evil")
        kind = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": "13"}
        environ = {"wsgi.input": body}
        answer = wsgi_get(app, "/form", method=method, query=query, headers=kind, environ=environ)
        return answer, body.touched

    for _ in range(2):
        fat, touched = ask("GET")
        assert (fat.body, touched) == (b"GET [('q', '1')]", 0)
        assert fat.get("X-Prerendered") == "true"
    assert ask("HEAD")[1] == 0
    posted, touched = ask("POST")
    assert posted.body == b"POST [('p', 'evil'), ('q', '1'), ('q', 'evil')]"
    assert touched > 0
    assert wsgi_get(app, "/form", query="q=1").body == b"GET [('q', '1')]"


# Validators.


@pytest.mark.parametrize(
    "headers",
    [
        {"If-None-Match": '"known"'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"Range": "bytes=0-1"},
        {"Range": "bytes=0-1", "If-Range": '"known"'},
    ],
    ids=str,
)
def test_the_validators_of_a_hundred_visitors_do_not_make_a_stale_page_a_304(
    make_app, wsgi_get, clock, headers
):
    app = make_app()
    view = View(app)

    def conditional():
        response = Response(f"the whole page {view.renders}")
        response.set_etag("known")
        response.last_modified = 0
        return response.make_conditional(request, accept_ranges=True, complete_length=16)

    view.does = conditional
    etag = wsgi_get(app, "/page").get("ETag")
    clock.forward(60)
    line, statuses = threading.Barrier(100), []

    def visit(number):
        line.wait(SECONDS)
        sent = headers if number % 2 else {**headers, "If-None-Match": etag}
        statuses.append(wsgi_get(app, "/page", headers=sent).status)

    threads = [threading.Thread(target=visit, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    settle(app)
    assert len(statuses) == 100
    assert 304 in statuses
    assert set(statuses) <= {200, 206, 304}
    answer = wsgi_get(app, "/page")
    assert (answer.status, answer.body) == (200, b"the whole page 2")
    assert answer.get("X-Prerendered") == "true"
    assert view.visits == 0


# Queries.

NAMES = [
    *["a", "b"] * 4,
    "A",
    "%61",
    "a ",
    "a%20",
    "c",
    "utm_x",
    "",
    "a[]",
    "%62",
    "fbclid",
    "a%00",
]
VALUES = [*["1"] * 7, "2", "", "%31", "x;a=2", "%26a=2", "+", "%2B", "%20", "%zz", "%C3%A4", "é"]
BETWEEN = ["&", "&", "&", "&&", ";", "&;&", "?", "#"]


def fuzzed(rng):
    query = ""
    for _ in range(rng.randrange(5)):
        name, value = rng.choice(NAMES), rng.choice(VALUES)
        query += f"{rng.choice(BETWEEN)}{name}{rng.choice(['=', '=', ''])}{value}"
    return query[rng.randrange(2) :].encode().decode("latin-1")


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_key_and_view_agree_on_thousands_of_queries(make_app, wsgi_get, count):
    app = make_app({"PRERENDER_UNKNOWN_QUERY": "ignore"}, store=MemoryStore())
    seen = []

    @app.route("/list")
    @app.prerender(query=["a", "b"])
    def shown():
        seen.append(request.query_string)
        return json.dumps({name: request.args.getlist(name) for name in sorted(request.args)})

    rng, meant_by = random.Random(7), {}
    for _ in range(count):
        query = fuzzed(rng)
        args = Request({"QUERY_STRING": query}).args
        meant = {name: args.getlist(name) for name in ("a", "b") if name in args}
        answer = wsgi_get(app, "/list", query=query)
        assert (json.loads(answer.body), answer.get("X-Prerendered")) == (meant, "true")
        meant_by[json.dumps(meant)] = query
    # One render and one page for each meaning, however it was spelt.
    assert len(seen) == len(meant_by) == len(list(site_of(app).store.pages()))
    assert len(meant_by) < count * 0.9
