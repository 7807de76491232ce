"""Each URL has its own page and only one: spellings, floods of queries, floods of variants."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable

import pytest
from flask import request

from conftest import Answer
from conftest import LiveServer
from flask_prerender.stores.memory import MemoryStore
from living import site_of

# Paths.

PIECES = ["a", "A", "%61", "%2561", "%2F", "%2f", "%252f", "..", ".", "", "é", b"e\xcc\x81",
          b"\xff", b"\xfe", b"\xc3", b"\xe2\x82", b"\xef\xbf\xbd", "+", " ", "%20", "?", "%3F", "#",
          ";", ";a", "a;", "&", "=", "~", "\\", "a.html", "index.html", "a.", ".a", "a ", "\0",
          "\x7f", "con", "//", "a:b", "@", "x" * 210, "x" * 211, "*", "|", "<", "%zz",
          "%"]  # fmt: skip


def piece(rng: random.Random) -> bytes:
    chosen = rng.choice(PIECES)
    return chosen if isinstance(chosen, bytes) else chosen.encode()


def targets(count: int) -> list[str]:
    """Return different raw paths as WSGI has them: neighbours among them, and bytes of any kind."""
    rng, found = random.Random(2), {"/d/a"}
    while len(found) < count:
        parts = [piece(rng) for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.2:
            parts.append(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4))))
        found.add("/d/" + rng.choice([b"/", b""]).join(parts).decode("latin-1"))
    return sorted(found)


@pytest.mark.parametrize("count", [1500, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.timeout(600)
def test_no_two_of_thousands_of_raw_paths_share_a_page(make_app, wsgi_get, count):
    app = make_app(
        {"PRERENDER_COMPRESS": False, "PRERENDER_MAX_PAGES": 2 * count}, store=MemoryStore()
    )
    app.url_map.merge_slashes = False

    @app.route("/d/", defaults={"path": ""})
    @app.route("/d/<path:path>")
    @app.prerender
    def page(path):
        return repr(request.environ["PATH_INFO"])

    paths = targets(count)
    served = {True: 0, False: 0, None: 0}
    # Twice, and in another order: whatever another path has stored would be met.
    for some in (paths, paths[::-1]):
        for path in some:
            answer = wsgi_get(app, environ={"PATH_INFO": path})
            if answer.status == 404:  # no route has it, for a line break, or two slashes at its end
                served[None] += answer.get("X-Prerendered") is None
                continue
            assert (answer.status, answer.body) == (200, repr(path).encode())
            served[answer.get("X-Prerendered") == "true"] += 1
    assert len(list(site_of(app).store.pages())) * 2 <= served[True] + 2
    assert min(served[True], served[False]) > count / 5
    assert sum(served.values()) == 2 * count


SITE = """
from flask import Flask, request, url_for
from flask_prerender import Prerender

app = Flask(__name__, instance_path=__file__ + ".instance")
app.config.update(PRERENDER_BASE_URL="https://example.com")
prerender = Prerender(app)

@app.route("/about")
@app.prerender
def about():
    return url_for("about", _external=True) + " " + request.url

@app.route("/keys")
def keys():
    return "\\n".join(page.key for page in app.extensions["prerender"].store.pages())
"""
#: Spellings of one URL, as servers hand them on.
SAME = ["/about", "/%61bout", "/abou%74", "/about?", "/about?&", "/about?utm_source=x",
        "/about?fbclid=1&gclid=2", "/about#x", "http://evil.example/about",
        "http://evil.example:81/about?ref=a", "https://example.com/about"]  # fmt: skip
#: Other URLs, whatever they look like.
OTHERS = ["//about", "/./about", "/x/../about", "/about/", "/About", "/about%2f", "/about%00",
          "/about;x", "/about.html", "/about%20", "/about%23x", "/%2561bout",
          "//evil.example/about", "/about?a=1"]  # fmt: skip


def ask_raw(server: LiveServer, target: str) -> Answer:
    """Send a request line as it is."""
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        request = f"GET {target} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode("latin-1"))
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(lines[0].split(" ")[1]), headers[1:], body)


def test_the_spellings_of_a_url_are_one_page_with_links_to_itself(
    live_server: Callable[..., LiveServer],
) -> None:
    server = live_server(SITE, workers=1)
    wanted = b"https://example.com/about https://example.com/about"
    for target in SAME:
        answer = ask_raw(server, target)
        assert (answer.status, answer.body) == (200, wanted), target
        assert answer.get("X-Prerendered") == "true"
    for target in OTHERS:
        answer = ask_raw(server, target)
        assert (answer.get("X-Prerendered"), answer.status < 500) == (None, True), target
    assert ask_raw(server, "/keys").body == b"/about"


# Queries.


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_hundred_thousand_queries_are_one_page(make_app, wsgi_get):
    app = make_app({"PRERENDER_UNKNOWN_QUERY": "ignore"})
    renders = []
    app.add_url_rule("/", "page", app.prerender(lambda: renders.append(1) or "text"))
    for number in range(100_000):
        assert wsgi_get(app, query=f"x={number}").get("X-Prerendered") == "true"
    assert (len(renders), len(list(site_of(app).store.pages()))) == (1, 1)


# Headers.


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_flood_of_languages_has_no_more_pages_than_languages(make_app, wsgi_get, count):

    app = make_app()
    renders = []

    @app.route("/")
    @app.prerender(vary={"Accept-Language": ["en", "fr"]})
    def page():
        renders.append(request.headers["Accept-Language"])
        return f"in {request.accept_languages.best}"

    rng = random.Random(4)
    for number in range(count):
        language = (
            rng.choice(["fr;q=0.9, ", "en, ", "", "*;q=0, "]) + f"x{number}-{os.urandom(2).hex()}"
        )
        answer = wsgi_get(app, headers={"Accept-Language": language})
        assert answer.body == (b"in fr" if "fr" in language else b"in en")
        assert answer.get("X-Prerendered") == "true"
        assert "Accept-Language" in answer.get("Vary")
    assert sorted(renders) == ["en", "fr"]
    assert len(list(site_of(app).store.pages())) == 2


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.long)])
def test_a_flood_of_values_that_nobody_listed_has_sixteen_pages(make_app, wsgi_get, count):

    app = make_app()
    renders = []

    @app.route("/")
    @app.prerender(vary=["X-Theme"])
    def page():
        if "flask_prerender.render" in request.environ:
            renders.append(request.headers["X-Theme"])
        return f"theme {request.headers['X-Theme']}"

    for number in range(count):
        answer = wsgi_get(app, headers={"X-Theme": f"t{number}"})
        assert (answer.status, answer.body) == (200, f"theme t{number}".encode())
    assert renders == [f"t{number}" for number in range(16)]
    assert len(list(site_of(app).store.pages())) == 16
    for number in range(20):
        answer = wsgi_get(app, headers={"X-Theme": f"t{number}"})
        assert answer.body == f"theme t{number}".encode()
        assert (answer.get("X-Prerendered") == "true") == (number < 16)
