"""Servers that run the site of :mod:`stage`, and the herds of clients that come to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from typing import Self

from conftest import Answer
from conftest import free_port
from conftest import LiveServer
from conftest import skip_or_fail
from stage import SECONDS
from stage import Stage
from stage import wait_until

CLIENTS = 50


# Servers.


class Kind(NamedTuple):
    """A way to run the site."""

    program: str
    args: tuple[str, ...]
    workers: int = 4


_GTHREAD = ("--worker-class", "gthread", "--threads", "8")
_UWSGI = ("--enable-threads", "--threads", "8")
HERDS = {
    "gthread": Kind("gunicorn", _GTHREAD),
    "gthread preload": Kind("gunicorn", (*_GTHREAD, "--preload")),
    "gevent": Kind("gunicorn", ("--worker-class", "gevent")),
    "uwsgi": Kind("uwsgi", _UWSGI),
}
#: Others, of which not every one can have two requests at a time.
OTHERS = {
    "sync": Kind("gunicorn", (), 2),
    "sync preload": Kind("gunicorn", ("--preload",), 2),
    "gevent preload": Kind("gunicorn", ("--worker-class", "gevent", "--preload"), 2),
    "uwsgi": Kind("uwsgi", (), 2),
    "uwsgi lazy": Kind("uwsgi", ("--lazy-apps",), 2),
}


def start_server(stage: Stage, kind: Kind, **more: str) -> LiveServer:
    """Start the site in a process group of its own.

    :param more: goes to its environment.
    """
    port = free_port()
    log = stage.folder / "server.log"
    tests = Path(__file__).resolve().parent
    paths = os.pathsep.join([str(tests.parent), str(tests)])
    with log.open("ab") as out:
        process = subprocess.Popen(
            [*_command(kind, port), *kind.args],
            cwd=stage.folder,
            env={**os.environ, "PYTHONPATH": paths, "HERD_STAGE": str(stage.folder), **more},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = LiveServer(process, port, log)
    try:
        wait_until(lambda: _is_up(server))
    except BaseException:
        server.kill()
        raise
    return server


def _command(kind: Kind, port: int) -> list[str]:
    workers = str(kind.workers)
    if kind.program == "gunicorn":
        if "gevent" in kind.args and find_spec("gevent") is None:
            skip_or_fail("gevent is missing: pip install gevent")
        command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "--workers", workers]
        return [*command, "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "5",
                "stage:create_app()"]  # fmt: skip
    uwsgi = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
    if uwsgi is None:
        skip_or_fail("uWSGI is missing: pip install uwsgi")
    return [str(uwsgi), "--http-socket", f"127.0.0.1:{port}", "--module", "stage:create_app()",
            "--master", "--die-on-term", "--need-app", "--processes", workers,
            "--disable-logging"]  # fmt: skip


def _is_up(server: LiveServer) -> bool:
    assert server.process.poll() is None, f"the server ended:\n{server.log.read_text()}"
    try:
        return server.ask("/up").status == 200
    except OSError:
        return False


@contextmanager
def serving(stage: Stage, kind: Kind, **more: str) -> Iterator[LiveServer]:
    """Run the site for the block."""
    server = start_server(stage, kind, **more)
    try:
        yield server
    finally:
        (stage.folder / "held").unlink(missing_ok=True)
        server.stop()


# Clients.


class Herd:
    """Clients that ask for one page at the same moment, each with a connection of its own.

    :param headers: what the client of a number sends.
    """

    def __init__(
        self,
        server: LiveServer,
        path: str,
        headers: Callable[[int], Mapping[str, str]] = lambda number: {},
        clients: int = CLIENTS,
    ) -> None:
        self.answers: dict[int, Answer] = {}
        self.wrong: list[str] = []
        self.asked = 0
        self._server, self._path, self._headers = server, path, headers
        self._clients = clients
        self._lock = threading.Lock()
        self._line = threading.Barrier(clients)
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def gather(self) -> list[Answer]:
        """Return all answers, in the order of the clients."""
        for thread in self._threads:
            thread.join(2 * SECONDS)
        assert self.wrong == []
        assert len(self.answers) == self._clients
        return [self.answers[number] for number in range(self._clients)]

    def wait_until_asked(self) -> Self:
        wait_until(lambda: self.asked == self._clients or self.wrong)
        return self

    def _ask(self, number: int) -> None:
        try:
            self._line.wait(SECONDS)
            answer = self._fetch(number)
        except Exception as error:
            self.wrong.append(f"{number}: {error!r}")
        else:
            self.answers[number] = answer

    def _fetch(self, number: int) -> Answer:
        connection = HTTPConnection(self._server.host, self._server.port, timeout=SECONDS)
        try:
            connection.request("GET", self._path, headers=dict(self._headers(number)))
            with self._lock:
                self.asked += 1
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()


class Load:
    """Clients that ask for one page again and again until the block ends, and check each answer."""

    def __init__(self, server: LiveServer, path: str, clients: int = 4) -> None:
        self.wrong: list[str] = []
        self.answers: Counter[str] = Counter()
        self._server, self._path = server, path
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, true: Callable[[], object]) -> None:
        wait_until(lambda: self.wrong or true())
        assert self.wrong == []

    def _ask(self) -> None:
        while not self._done.is_set() and not self.wrong:
            try:
                answer = self._server.ask(self._path, headers={"Connection": "close"})
                assert answer.status == 200, f"{answer.status} {answer.body[:100]!r}"
                assert answer.get("X-Prerendered") == "true", "it is not from the store"
            except Exception as error:
                self.wrong.append(repr(error))
            else:
                self.answers[answer.body.decode().rpartition(" ")[2]] += 1


def all_from_the_store(answers: list[Answer], body: str) -> None:
    """Fail unless every client was answered with this body from the store."""
    said = Counter((one.status, one.body.decode(), one.get("X-Prerendered")) for one in answers)
    assert said == {(200, body, "true"): len(answers)}
