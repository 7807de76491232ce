"""The laws every test keeps, and the real things tests are made of."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from typing import NamedTuple

import hypothesis
import pytest
from flask import Flask
from flask import has_app_context
from flask import has_request_context

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"
BOOT_SECONDS = 30.0

# Werkzeug loads this codec late; a forked child, or one of another user, may be unable to.
"host".encode("idna")

hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")


# Laws.


@pytest.fixture(autouse=True)
def no_context_is_left_pushed() -> Iterator[None]:
    yield
    left = [has_request_context() and "request", has_app_context() and "app"]
    assert not any(left), f"a context is still pushed: {left}"


def wait_for_our_threads() -> None:
    """Wait until every thread of the package has ended, or fail."""
    deadline = time.monotonic() + 10
    for thread in threading.enumerate():
        if thread.name.startswith("prerender"):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"the thread {thread.name} is still alive"


@pytest.fixture(autouse=True)
def no_thread_of_ours_is_left_alive() -> Iterator[None]:
    yield
    wait_for_our_threads()


@pytest.fixture(autouse=True)
def nothing_is_written_outside_tmp_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    places = [ROOT / name for name in ("instance", "prerendered", "tests/instance")]
    before = [place.exists() for place in places]
    monkeypatch.chdir(tmp_path)
    yield
    for place, was_there in zip(places, before, strict=True):
        assert place.exists() == was_there, f"{place} came or went"


def skip_or_fail(reason: str) -> None:
    """Skip the test at home; fail it in CI, where everything is to be had."""
    if CI:
        pytest.fail(reason)
    pytest.skip(reason)


# Time.


@dataclass
class Clock:
    """A clock that only the test moves."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


# Apps.


@pytest.fixture
def make_app(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Flask]]:
    """Make an app with ``Prerender`` on it: ``make_app({"PRERENDER_REVALIDATE": 60}, select=f)``.

    Options go to ``Prerender``. Apps made by one test share the instance folder, and so the
    stored pages, as two processes of a site do; ``instance="other"`` gives one of its own.
    Templates are ``tmp_path / "app" / "templates"``.
    """
    from flask_prerender import Prerender

    made: list[Flask] = []

    def make(
        config: Mapping[str, Any] | None = None, *, instance: str = "instance", **options: Any
    ) -> Flask:
        root = tmp_path / "app"
        (root / "templates").mkdir(parents=True, exist_ok=True)
        folder = tmp_path / instance
        folder.mkdir(exist_ok=True)
        app = Flask("site", root_path=str(root), instance_path=str(folder))
        # Lives are exact here; what spreads them is tested where it is wanted.
        app.config.from_mapping({"PRERENDER_JITTER": 0.0, **(config or {})})
        testing, app.testing = app.testing, True  # apps of one folder are allowed to tests alone
        Prerender(app, **{"clock": clock, **options})
        app.testing = testing
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["prerender"].regenerator.close()
    wait_for_our_threads()
    for app in made:
        app.extensions["prerender"].close()


class Answer(NamedTuple):
    """What a WSGI app or a server said."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        """Return the value of a header, or ``None``. Headers sent twice are joined by a comma."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(found) if found else None


def _environ(path: str, method: str, query: str, headers: Mapping[str, str]) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "203.0.113.7",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    return environ


@pytest.fixture
def wsgi_get() -> Callable[..., Answer]:
    """Call an app as a server does, without the test client.

    ``wsgi_get(app, "/päth", headers={"Accept-Encoding": "gzip"}, method="HEAD", query="a=1",
    environ={"REMOTE_ADDR": "..."})``. The path is the decoded one: nothing is unquoted or joined.
    """

    def get(
        app: Callable[..., Iterable[bytes]],
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        query: str = "",
        environ: Mapping[str, Any] | None = None,
    ) -> Answer:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, response_headers: Any, exc_info: Any = None) -> None:
            started.append((status, list(response_headers)))

        request = {**_environ(path, method, query, headers or {}), **(environ or {})}
        body = app(request, start_response)
        try:
            content = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        status, response_headers = started[-1]
        return Answer(int(status.split(" ", 1)[0]), response_headers, content)

    return get


# Servers.


@dataclass
class LiveServer:
    """A gunicorn of its own, in a process group of its own."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    host: str = "127.0.0.1"
    stopped: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def ask(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        seconds: float = 30.0,
    ) -> Answer:
        connection = HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def wait_until_answering(self) -> None:
        """Wait for a worker that has loaded the app; the app itself is not asked."""
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the server ended:\n{self.log.read_text()}"
            if self._answers():
                return
            time.sleep(0.02)
        raise AssertionError(f"the server does not answer:\n{self.log.read_text()}")

    def _answers(self) -> bool:
        # No HTTP at all: gunicorn refuses it by itself, with a 400.
        try:
            with socket.create_connection((self.host, self.port), timeout=5) as probe:
                probe.sendall(b"?\r\n\r\n")
                return probe.recv(100).startswith(b"HTTP/1.1 400")
        except OSError:
            return False

    def stop(self) -> None:
        """End the server as an operator does; kill the whole group when it does not go."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.stopped = True

    def kill(self) -> None:
        """End master and workers at once, with no time to finish anything."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)
        self.stopped = True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def live_server(tmp_path: Path) -> Iterator[Callable[..., LiveServer]]:
    """Start gunicorn: ``live_server(module_text_or_import_string, workers=2, env={}, port=0)``.

    A text with line breaks is written to a module of its own in ``tmp_path`` whose ``app`` is
    served; another is taken as an import string, looked for in ``tmp_path`` and the checkout.
    """
    if not shutil.which("gunicorn", path=str(Path(sys.executable).parent)):
        skip_or_fail("gunicorn is missing: pip install gunicorn")
    servers: list[LiveServer] = []

    def start(
        app: str,
        *,
        workers: int = 2,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        args: Iterable[str] = (),
    ) -> LiveServer:
        if "\n" in app:
            name = f"site_{len(servers)}"
            (tmp_path / f"{name}.py").write_text(app)
            app = f"{name}:app"
        port = port or free_port()
        log = tmp_path / f"gunicorn-{len(servers)}.log"
        command = [sys.executable, "-m", "gunicorn", "--no-control-socket"]
        command += ["--bind", f"127.0.0.1:{port}", "--workers", str(workers)]
        command += ["--graceful-timeout", "5", *args, app]
        paths = f"{tmp_path}{os.pathsep}{ROOT}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": paths, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = LiveServer(process, port, log)
        servers.append(server)
        server.wait_until_answering()
        return server

    yield start
    for server in servers:
        if not server.stopped:
            server.stop()
