"""One request, in process: what a call of a WSGI app costs. No server, no network."""

from __future__ import annotations

import io
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from typing import Any

from . import apps
from .apps import WSGIApp
from .site import PAGE
from .site import page
from .timing import in_turn
from .timing import ratio
from .timing import table
from .timing import Timed

BASE = apps.CONSTANT
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
_PACKED = {"HTTP_ACCEPT_ENCODING": "gzip, deflate, br, zstd"}

#: Apps that are asked for the page, and those that are asked for a variant and a 304 as well.
_PLAIN = (
    apps.RAW, apps.CONSTANT, apps.TEMPLATES, apps.SIMPLE, apps.FILES, apps.REDIS, apps.SEND_FILE,
    apps.LASTING, apps.HOOK_DISK, apps.LANE_DISK, apps.BESIDE_HOOK, apps.BESIDE_LANE,
)  # fmt: skip
_FORMS = (apps.LOOKUP, apps.WHITENOISE, apps.NAIVE, apps.HOOK, apps.LANE)
#: As in the table.
ORDER = (
    apps.RAW, apps.LOOKUP, apps.LANE, apps.LANE_DISK, apps.WHITENOISE, apps.HOOK, apps.LASTING,
    apps.HOOK_DISK, apps.CONSTANT, apps.BESIDE_HOOK, apps.BESIDE_LANE, apps.NAIVE, apps.SEND_FILE,
    apps.SIMPLE, apps.FILES, apps.REDIS, apps.TEMPLATES,
)  # fmt: skip


@dataclass
class Case:
    """What is called, and what its answer must be."""

    app: WSGIApp
    headers: dict[str, str]
    status: int = 200
    encoding: str | None = None


class _Started:
    """The ``start_response`` of one call."""

    status = ""
    headers: list[tuple[str, str]]

    def __call__(self, status: str, headers: Any, exc_info: Any = None) -> None:
        self.status, self.headers = status, headers

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)


def _environ(headers: dict[str, str]) -> dict[str, Any]:
    """Return what a server gives an app for the page."""
    streams = {"wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}
    return {**_BROWSER, **streams, **headers}


def caller(app: WSGIApp, headers: dict[str, str]) -> Callable[[int], None]:
    """Return what makes requests as a server does: a new environ, the body sent and closed."""
    new = _environ(headers).copy

    def start(status: str, headers: Any, exc_info: Any = None) -> None:
        pass

    def call(count: int) -> None:
        for _ in repeat(None, count):
            body: Any = app(new(), start)
            for _ in body:
                pass
            if hasattr(body, "close"):
                body.close()

    return call


def ask(app: WSGIApp, headers: dict[str, str]) -> tuple[_Started, bytes]:
    started = _Started()
    body: Any = app(_environ(headers), started)
    content = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    return started, content


#: Apps that need a package, and its module.
_NEEDED = {
    apps.WHITENOISE: ("whitenoise", "whitenoise"),
    apps.SIMPLE: ("flask-caching", "flask_caching"),
    apps.FILES: ("flask-caching", "flask_caching"),
    apps.REDIS: ("redis", "redis"),
}


def missing() -> dict[str, str]:
    """Return the cases that cannot be measured here, each with what would have to be installed."""
    found = {
        name: f"no {package}: pip install {package}"
        for name, (package, module) in _NEEDED.items()
        if find_spec(module) is None
    }
    if apps.REDIS not in found and not shutil.which("redis-server"):
        found[apps.REDIS] = "no redis-server: apt-get install redis-server"
    return found


@contextmanager
def _redis(directory: Path) -> Iterator[None]:
    """Have a Redis server listen at ``redis.sock`` in a directory."""
    if apps.REDIS in missing():
        yield
        return
    # The path of a socket has some hundred bytes at most.
    with tempfile.TemporaryDirectory(prefix="prb-") as short:
        socket = Path(short) / "redis.sock"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=short)
        try:
            until = time.monotonic() + 10
            while not socket.exists() and time.monotonic() < until:
                time.sleep(0.05)
            (directory / "redis.sock").symlink_to(socket)
            yield
        finally:
            server.terminate()
            server.wait()


def _cases(directory: Path) -> Iterator[tuple[str, Case]]:
    for name in ORDER:
        if name in missing():
            continue
        app = apps.make(name, directory)
        if name in _PLAIN:
            yield name, Case(app, {})
        else:
            yield from _forms(name, app)


def _forms(name: str, app: WSGIApp) -> Iterator[tuple[str, Case]]:
    """Yield a case for the plain page, one for its smallest variant, and one for a 304."""
    smallest = ask(app, _PACKED)[0]
    coding = smallest.header("content-encoding")
    known = {**_PACKED, "HTTP_IF_NONE_MATCH": smallest.header("etag") or ""}
    yield name, Case(app, {})
    yield f"{name}, {coding}", Case(app, _PACKED, encoding=coding)
    yield f"{name}, 304", Case(app, known, status=304)


def _check(name: str, case: Case) -> None:
    """Refuse to time what does not do its work."""
    for _ in range(3):  # a cache fills at the first
        started, body = ask(case.app, case.headers)
    right = started.status[:3] == str(case.status)
    if case.status == 200:
        right = right and started.header("content-encoding") == case.encoding
        right = right and (case.encoding is not None or body == page())
    if not right or (case.status == 304 and body):
        raise AssertionError(f"{name}: {started.status}, {started.headers}, {len(body)} bytes")


def measure(directory: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Time every case, and return facts by case."""
    directory.mkdir()
    with _redis(directory):
        cases = dict(_cases(directory))
        for name, case in cases.items():
            _check(name, case)
        calls = {name: caller(case.app, case.headers) for name, case in cases.items()}
        timed = in_turn(calls, rounds, seconds)
    return {name: _facts(one, timed[BASE]) for name, one in timed.items()}


def _facts(one: Timed, base: Timed) -> dict[str, Any]:
    return {
        "cpu": statistics.median(one.cpu),
        "p50": one.quantile(0.5),
        "p99": one.quantile(0.99),
        "ratio": ratio(one.cpu, base.cpu),
        "rounds": one.cpu,
        "core": one.busy / one.span,
    }


def show(facts: dict[str, Any]) -> str:
    head = ("one request", "CPU us", "p50 us", "p99 us", "x constant view")
    rows = [
        (
            name,
            *(_micro(fact[each]) for each in ("cpu", "p50", "p99")),
            f"{fact['ratio']:.3f}" if fact["ratio"] < 0.1 else f"{fact['ratio']:.2f}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)


def _micro(seconds: float) -> str:
    micro = seconds * 1e6
    return f"{micro:.2f}" if micro < 10 else f"{micro:.1f}"
