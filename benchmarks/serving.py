"""One request, in process: what a call of the WSGI app costs. No server, no network."""

from __future__ import annotations

import gzip
import io
import statistics
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from flask import request
from flask import Response
from flask import send_file
from flask_caching import Cache

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender

from .site import create_app
from .site import NUMBER
from .site import PAGE
from .timing import in_turn
from .timing import ratio
from .timing import table

BASE = "Flask, constant view"
_PAGES = 1000
_BROWSER = {
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": PAGE,
    "QUERY_STRING": "",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "HTTP_ACCEPT_LANGUAGE": "en",
    "HTTP_CONNECTION": "keep-alive",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
_ENCODINGS = "gzip, deflate, br, zstd"


@dataclass
class Case:
    """What is called, and what its answer must be."""

    app: Flask
    headers: dict[str, str]
    status: int = 200
    encoding: str | None = None


class _Started:
    """The ``start_response`` of one call after another."""

    status = ""
    headers: list[tuple[str, str]]

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> None:
        self.status, self.headers = status, headers

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def _environ(headers: dict[str, str]) -> dict[str, Any]:
    streams = {"wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}
    return {**_BROWSER, **streams, **headers}


def _caller(app: Flask, headers: dict[str, str]) -> Callable[[], None]:
    """Return one request as a server makes it: a new environ, the body sent and closed."""
    new, started = _environ(headers).copy, _Started()

    def call() -> None:
        body: Any = app(new(), started)
        for _ in body:
            pass
        if hasattr(body, "close"):
            body.close()

    return call


def _ask(app: Flask, headers: dict[str, str]) -> tuple[_Started, bytes]:
    started = _Started()
    body: Any = app(_environ(headers), started)
    content = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return started, content


# The others.


def _page() -> bytes:
    return create_app(_PAGES).test_client().get(PAGE).data


def _constant() -> Flask:
    app, text = create_app(_PAGES), _page().decode()
    app.view_functions["bird"] = lambda number: text
    return app


def _cached(**config: Any) -> Flask:
    app = create_app(_PAGES, **config)
    cache = Cache(app)
    app.view_functions["bird"] = cache.cached(timeout=3600)(app.view_functions["bird"])
    return app


def _sending(directory: Path) -> Flask:
    app = create_app(_PAGES)
    file = directory / "page.html"
    file.write_bytes(_page())

    @app.before_request
    def send() -> Response | None:
        return send_file(file, max_age=0) if request.path == PAGE else None

    return app


def _naive() -> Flask:
    """What one writes in an hour: the page and its variants in a dict, and Werkzeug's own verbs."""
    body = _page()
    forms = {"identity": body, "gzip": gzip.compress(body, 6)}
    try:
        import brotli
    except ImportError:
        pass
    else:
        forms["br"] = brotli.compress(body, quality=5)
    pages = {PAGE: forms}
    app = create_app(_PAGES)

    @app.before_request
    def answer() -> Response | None:
        found = pages.get(request.path)
        if found is None or request.method not in ("GET", "HEAD"):
            return None
        wanted = [coding for coding in ("br", "gzip", "identity") if coding in found]
        coding = request.accept_encodings.best_match(wanted) or "identity"
        response = Response(found[coding], mimetype="text/html")
        if coding != "identity":
            response.content_encoding = coding
        response.vary.add("Accept-Encoding")
        response.cache_control.public = True
        response.cache_control.max_age = 0
        response.set_etag(f"{NUMBER}-{coding}")
        return response.make_conditional(request)

    return app


# Ours.


def _ours(directory: Path, **config: Any) -> Flask:
    app = create_app(_PAGES, PRERENDER_PATH=str(directory), PRERENDER_ENABLED=True, **config)
    mark(params=[{"number": NUMBER}])(app.view_functions["bird"])
    Prerender(app)
    report = generate(app)
    assert report.is_good, report.to_dict()
    return app


def _beside(directory: Path) -> Flask:
    """The constant view, not marked, in an app that has the extension."""
    app = _constant()
    app.config.update(PRERENDER_PATH=str(directory), PRERENDER_ENABLED=True)
    Prerender(app)
    return app


def _cases(directory: Path) -> Iterator[tuple[str, Case]]:
    plain: dict[str, str] = {}
    packed = {"HTTP_ACCEPT_ENCODING": _ENCODINGS}
    yield BASE, Case(_constant(), plain)
    yield "Flask, the page from its templates", Case(create_app(_PAGES), plain)
    yield "Flask-Caching, SimpleCache", Case(_cached(CACHE_TYPE="SimpleCache"), plain)
    files = {"CACHE_TYPE": "FileSystemCache", "CACHE_DIR": str(directory / "cachelib")}
    yield "Flask-Caching, FileSystemCache", Case(_cached(**files), plain)
    yield "send_file in a hook", Case(_sending(directory), plain)
    yield from _forms("A hook written by hand", _naive(), packed)
    yield from _forms("Flask-Prerender", _ours(directory / "memory"), packed)
    lasting = _ours(directory / "lasting", PRERENDER_REVALIDATE=3600)
    yield "Flask-Prerender, revalidate=3600", Case(lasting, plain)
    unkept = _ours(directory / "unkept", PRERENDER_MEMORY_BYTES=0)
    yield "Flask-Prerender, no memory", Case(unkept, plain)
    yield "Constant view beside Flask-Prerender", Case(_beside(directory / "beside"), plain)


def _forms(name: str, app: Flask, packed: dict[str, str]) -> Iterator[tuple[str, Case]]:
    """Yield a case for the plain page, one for its smallest variant, and one for a 304."""
    coding = _ask(app, packed)[0].header("content-encoding")
    known = {**packed, "HTTP_IF_NONE_MATCH": _ask(app, packed)[0].header("etag") or ""}
    yield name, Case(app, {})
    yield f"{name}, {coding}", Case(app, packed, encoding=coding)
    yield f"{name}, 304", Case(app, known, status=304)


def _check(name: str, case: Case, page: bytes) -> None:
    """Refuse to time what does not do its work."""
    for _ in range(2):  # a cache fills at the first
        started, body = _ask(case.app, case.headers)
    right = started.status[:3] == str(case.status)
    if case.status == 200:
        right = right and started.header("content-encoding") == case.encoding
        right = right and (case.encoding is not None or body == page)
    if not right or (case.status == 304 and body):
        raise AssertionError(f"{name}: {started.status}, {started.headers}, {len(body)} bytes")


def measure(directory: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Time every case, and return facts by case."""
    cases = dict(_cases(directory))
    page = _page()
    for name, case in cases.items():
        _check(name, case, page)
    calls = {name: _caller(case.app, case.headers) for name, case in cases.items()}
    timed = in_turn(calls, rounds, seconds)
    return {
        name: {
            "cpu": statistics.median(one.cpu),
            "p50": one.quantile(0.5),
            "p99": one.quantile(0.99),
            "ratio": ratio(one.cpu, timed[BASE].cpu),
            "calls": len(one.wall),
            "rounds": one.cpu,
            "core": statistics.fmean(one.cpu) * len(one.wall) / one.busy,
        }
        for name, one in timed.items()
    }


def show(facts: dict[str, Any]) -> str:
    head = ("one request", "CPU us", "p50 us", "p99 us", "x constant view")
    rows = [
        (
            name,
            *(f"{fact[each] * 1e6:.1f}" for each in ("cpu", "p50", "p99")),
            f"{fact['ratio']:.2f}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)
