"""Every WSGI app that is measured, by name. All of them answer with the same page."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flask import Flask
from flask import request
from flask import Response
from flask import send_file

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender

from .site import create_app
from .site import NUMBER
from .site import PAGE
from .site import page
from .site import PAGES

WSGIApp = Callable[[dict[str, Any], Any], Iterable[bytes]]
#: Makes an app that keeps its files, if it has any, in a directory of its own.
Make = Callable[[Path], WSGIApp]

RAW = "Raw WSGI, constant"
LOOKUP = "A dict and every check, no Flask"
WHITENOISE = "WhiteNoise"
CONSTANT = "Flask, constant view"
TEMPLATES = "Flask, the page from its templates"
HEAVY = "Flask, a page of 22 ms"
SIMPLE = "Flask-Caching, SimpleCache"
FILES = "Flask-Caching, FileSystemCache"
REDIS = "Flask-Caching, RedisCache"
SEND_FILE = "send_file in a hook"
NAIVE = "A hook written by hand"
HOOK = "Flask-Prerender"
LANE = "Flask-Prerender, WSGI"
LASTING = "Flask-Prerender, revalidate=3600"
HOOK_DISK = "Flask-Prerender, no memory"
LANE_DISK = "Flask-Prerender, WSGI, no memory"
BESIDE_HOOK = "Constant view beside Flask-Prerender"
BESIDE_LANE = "Constant view beside Flask-Prerender, WSGI"

#: Processor seconds of the page of 22 ms.
_HEAVY_SECONDS = 0.022


def _headers(size: int, etag: str) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(size)),
        ("Cache-Control", "public, max-age=0"),
        ("ETag", etag),
        ("Last-Modified", "Tue, 03 Mar 2026 09:00:00 GMT"),
        ("Vary", "Accept-Encoding"),
    ]


def raw(directory: Path) -> WSGIApp:
    body = page()
    headers = _headers(len(body), f'"{NUMBER}"')

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [body]

    return app


def whitenoise(directory: Path) -> WSGIApp:
    from whitenoise import WhiteNoise

    app: WSGIApp = WhiteNoise(constant(directory), root=tree(directory), index_file=True)
    return app


def constant(directory: Path) -> Flask:
    app, text = create_app(PAGES), page().decode()
    app.view_functions["bird"] = lambda number: text
    return app


def templates(directory: Path) -> Flask:
    return create_app(PAGES)


def _spin(app: Flask) -> None:
    """Have the page cost as much as one of a database and a slow template."""
    view = app.view_functions["bird"]

    def heavy(number: int) -> Any:
        until = time.thread_time() + _HEAVY_SECONDS
        found = view(number)
        while time.thread_time() < until:
            pass
        return found

    app.view_functions["bird"] = heavy


def heavy(directory: Path) -> Flask:
    app = create_app(PAGES)
    _spin(app)
    return app


def _cached(**config: Any) -> Flask:
    from flask_caching import Cache

    app = create_app(PAGES, **config)
    cache = Cache(app)
    app.view_functions["bird"] = cache.cached(timeout=3600)(app.view_functions["bird"])
    return app


def simple(directory: Path) -> Flask:
    return _cached(CACHE_TYPE="SimpleCache")


def filed(directory: Path) -> Flask:
    return _cached(CACHE_TYPE="FileSystemCache", CACHE_DIR=str(directory / "cachelib"))


def redis(directory: Path) -> Flask:
    """The server is one that listens at ``redis.sock`` in the directory above."""
    url = f"unix://{directory.parent / 'redis.sock'}"
    return _cached(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=url)


def sending(directory: Path) -> Flask:
    app = create_app(PAGES)
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "page.html"
    file.write_bytes(page())

    @app.before_request
    def send() -> Response | None:
        return send_file(file, max_age=0) if request.path == PAGE else None

    return app


def packed_forms() -> dict[str, bytes]:
    """Return the page by encoding, packed as we do, the smallest first."""
    body, forms = page(), {}
    try:
        import brotli
    except ImportError:
        pass
    else:
        forms["br"] = brotli.compress(body, quality=5)
    return {**forms, "gzip": gzip.compress(body, 6), "identity": body}


def naive(directory: Path) -> Flask:
    """What one writes in an hour: the page and its variants in a dict, and Werkzeug's own verbs."""
    pages = {PAGE: packed_forms()}
    app = create_app(PAGES)

    @app.before_request
    def answer() -> Response | None:
        found = pages.get(request.path)
        if found is None or request.method not in ("GET", "HEAD"):
            return None
        coding = request.accept_encodings.best_match(list(found)) or "identity"
        response = Response(found[coding], mimetype="text/html")
        if coding != "identity":
            response.content_encoding = coding
        response.vary.add("Accept-Encoding")
        response.cache_control.public = True
        response.cache_control.max_age = 0
        response.set_etag(f"{NUMBER}-{coding}")
        return response.make_conditional(request)

    return app


def ours(directory: Path, **config: Any) -> Flask:
    """The site with the page built and served."""
    app = create_app(PAGES, PRERENDER_PATH=str(directory), PRERENDER_ENABLED=True, **config)
    mark(params=[{"number": NUMBER}])(app.view_functions["bird"])
    Prerender(app)
    report = generate(app)
    assert report.is_good, report.to_dict()
    return app


def tree(directory: Path) -> Path:
    """Return the directory of files that a web server can serve as it stands."""
    app = ours(directory, PRERENDER_COMPRESS={"gzip": 6, "br": 5})
    app.extensions["prerender"].close()
    return directory / "public"


def _ours(**config: Any) -> Make:
    return lambda directory: ours(directory, **config)


def _beside(serve_at: str) -> Make:
    """Make the constant view, not marked, in an app that has the extension."""

    def make(directory: Path) -> Flask:
        app = constant(directory)
        app.config.update(PRERENDER_PATH=str(directory), PRERENDER_ENABLED=True)
        app.config.update(PRERENDER_SERVE_AT=serve_at)
        Prerender(app)
        return app

    return make


def _lookup(directory: Path) -> WSGIApp:
    from .lookup import make_lookup

    return make_lookup({PAGE: packed_forms()}, _headers)


APPS: dict[str, Make] = {
    RAW: raw,
    LOOKUP: _lookup,
    WHITENOISE: whitenoise,
    CONSTANT: constant,
    TEMPLATES: templates,
    HEAVY: heavy,
    SIMPLE: simple,
    FILES: filed,
    REDIS: redis,
    SEND_FILE: sending,
    NAIVE: naive,
    HOOK: _ours(),
    LASTING: _ours(PRERENDER_REVALIDATE=3600),
    LANE: _ours(PRERENDER_SERVE_AT="wsgi"),
    HOOK_DISK: _ours(PRERENDER_MEMORY_BYTES=0),
    LANE_DISK: _ours(PRERENDER_MEMORY_BYTES=0, PRERENDER_SERVE_AT="wsgi"),
    BESIDE_HOOK: _beside("hook"),
    BESIDE_LANE: _beside("wsgi"),
}


def make(name: str, directory: Path) -> WSGIApp:
    """Make an app by name. Its files go below `directory`."""
    return APPS[name](directory / "".join(c if c.isalnum() else "-" for c in name))
