"""Several workers of one site: each sees a build, reloads lose nothing, forks share nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from witness import build
from witness import check
from witness import environment
from witness import fetch
from witness import leftovers
from witness import PATHS
from witness import Readers
from witness import start_build
from witness import write_version

Start = Callable[..., Any]
SITE = "witness:create_app()"
KINDS = {
    "sync": ["--worker-class", "sync"],
    "gthread": ["--worker-class", "gthread", "--threads", "4"],
}
KINDS |= {f"{name} preload": [*args, "--preload"] for name, args in KINDS.items()}


def ask_every_worker(server: Any, workers: int, ask: Callable[[HTTPConnection], Any]) -> None:
    """Call `ask` with new connections until each worker has answered."""
    seen: set[str] = set()
    deadline = time.monotonic() + 20
    while len(seen) < workers:
        assert time.monotonic() < deadline, f"only {seen} answer"
        # Open ones keep their worker busy, so that another one takes the next.
        connections = [HTTPConnection(server.host, server.port, timeout=20) for _ in range(4)]
        for connection in connections:
            seen.add(ask(connection).get("X-Pid"))
        for connection in connections:
            connection.close()


def expect_everywhere(server: Any, path: str, version: str, etag: str | None = None) -> str:
    """Fail unless each worker serves this version from the store; return its tag.

    :param etag: the tag that a visitor has of the version before.
    """
    headers = {"If-None-Match": etag} if etag else {}
    etags = set()

    def ask(connection: HTTPConnection) -> Any:
        answer = fetch(connection, path, headers)
        assert check(path, answer) == version
        assert answer.get("X-Prerendered") == "true"
        etags.add(answer.get("ETag"))
        again = fetch(connection, path, {"If-None-Match": str(answer.get("ETag"))})
        assert (again.status, again.body) == (304, b"")
        return answer

    ask_every_worker(server, 2, ask)
    assert len(etags) == 1
    return str(etags.pop())


def test_every_worker_serves_a_build_from_its_next_request_on(
    tmp_path: Path, live_server: Start
) -> None:
    build(tmp_path, "first")
    servers = [live_server(SITE, args=args, env=environment(tmp_path)) for args in KINDS.values()]
    etags = [expect_everywhere(server, PATHS[1], "first") for server in servers]
    build(tmp_path, "second")
    for server, etag in zip(servers, etags, strict=True):
        assert expect_everywhere(server, PATHS[1], "second", etag) != etag
    # A build of the same content changes nothing for anybody.
    build(tmp_path, "second")
    for server in servers:
        assert expect_everywhere(server, PATHS[1], "second", etags[0])


def test_every_worker_serves_what_another_stored_at_a_first_visit(
    tmp_path: Path, live_server: Start
) -> None:
    build(tmp_path, "first")
    server = live_server(SITE, args=KINDS["gthread preload"], env=environment(tmp_path))
    connection = HTTPConnection(server.host, server.port, timeout=20)
    assert check("/visit/1", fetch(connection, "/visit/1", {})) == "first"
    connection.close()
    write_version(tmp_path, "later")
    expect_everywhere(server, "/visit/1", "first")


class Visitors:
    """Threads that ask with a new connection each time, as the clients of a balancer do."""

    def __init__(self, server: Any, may_be_refused: bool) -> None:
        self.wrong: list[str] = []
        self.count = 0
        self.pids: set[str | None] = set()
        self._server = server
        self._may_be_refused = may_be_refused
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(n,)) for n in range(4)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not done() and not self.wrong:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _visit(self, number: int) -> None:
        while not self._done.is_set() and not self.wrong:
            number += 1
            connection = HTTPConnection(self._server.host, self._server.port, timeout=20)
            path = f"/visit/{self.count}" if number % 5 == 0 else PATHS[number % len(PATHS)]
            try:
                answer = fetch(connection, path, {"Connection": "close"})
                check(path, answer)
            except (ConnectionError, TimeoutError) as error:
                if self._may_be_refused:
                    return  # there is no server any more
                self.wrong.append(f"{path}: {error!r}")
            except Exception as error:
                self.wrong.append(f"{path}: {error!r}")
            else:
                self.count += 1
                self.pids.add(answer.get("X-Pid"))
            finally:
                connection.close()


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_no_visitor_notices_reloads_and_none_gets_half_an_answer_at_the_end(
    kind: str, tmp_path: Path, live_server: Start
) -> None:
    build(tmp_path, "first")
    server = live_server(SITE, args=KINDS[kind], env=environment(tmp_path))
    with Visitors(server, may_be_refused=False) as visitors:
        for workers in (2, 4, 6):
            visitors.wait_for(lambda workers=workers: len(visitors.pids) == workers)
            if workers < 6:
                server.process.send_signal(signal.SIGHUP)
    assert visitors.wrong == []
    with Visitors(server, may_be_refused=True) as visitors:
        visitors.wait_for(lambda: visitors.count > 30)
        server.stop()
    assert visitors.wrong == []
    assert server.process.returncode == 0, server.log.read_text()
    assert leftovers(tmp_path / "instance" / "prerendered") == []


def test_a_build_that_is_stopped_leaves_every_page_whole(tmp_path: Path) -> None:
    build(tmp_path, "first")
    root = tmp_path / "instance" / "prerendered"
    for number in (signal.SIGINT, signal.SIGTERM):
        write_version(tmp_path, f"of {number}")
        process = start_build(tmp_path, WITNESS_ANNOUNCE="1", WITNESS_SLOW="0.1")
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(number)
        process.communicate(timeout=20)
        assert process.returncode != 0
        assert leftovers(root) == []
    build(tmp_path, "last")


# What is opened before a fork is not used after it.

PRELOADED = """
import mmap
import os
import sqlite3
from pathlib import Path

FOREIGN = Path(os.environ["WITNESS_FOLDER"]) / "foreign"


class Owned(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pid = os.getpid()

    def execute(self, *args):
        self.look("execute")
        return super().execute(*args)

    def close(self):
        self.look("close")
        return super().close()

    def look(self, what):
        if self.pid != os.getpid():
            with FOREIGN.open("a") as file:
                file.write(f"{what} in {os.getpid()} of {self.pid}\\n")


connect = sqlite3.connect
sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Owned, **kwargs)

import witness

app = witness.create_app()
for path in ("/page/1", "/visit/0", "/visit/0"):
    answer = app.test_client().get(path)
    assert witness.check(path, type("A", (), {
        "status": answer.status_code, "body": answer.data, "get": answer.headers.get
    })) == "first"
    assert answer.headers["X-Pid"] == str(os.getpid())
(Path(os.environ["WITNESS_FOLDER"]) / "master").write_text(str(os.getpid()))
"""


def test_workers_use_nothing_that_the_master_opened_at_import(
    tmp_path: Path, live_server: Start
) -> None:
    build(tmp_path, "first")
    server = live_server(PRELOADED, args=KINDS["gthread preload"], env=environment(tmp_path))
    assert (tmp_path / "master").read_text() == str(server.process.pid)
    expect_everywhere(server, "/visit/0", "first")
    etag = expect_everywhere(server, PATHS[1], "first")
    numbers = iter(range(1, 10_000))
    with Readers(server.port, lambda: f"/visit/{next(numbers)}") as readers:
        readers.wait_for(100)
    assert readers.wrong == []
    build(tmp_path, "second")
    expect_everywhere(server, PATHS[1], "second", etag)
    expect_everywhere(server, "/visit/0", "second")
    server.stop()
    assert not (tmp_path / "foreign").exists(), (tmp_path / "foreign").read_text()


FORKS = """
import faulthandler
import os
import sys
import threading

from werkzeug.test import Client

import witness

# Werkzeug's client loads this codec late, and a fork could meet the import half done.
"host".encode("idna")

app = witness.create_app()
site = app.extensions["prerender"]


def get(path):
    answer = Client(app).get(path)
    return witness.check(path, type("A", (), {
        "status": answer.status_code, "body": answer.data, "get": answer.headers.get
    }))


def hammer(number):
    while not done.is_set():
        site.memory.clear()
        get(f"/page/{number}")
        number += 4
        get(f"/visit/{number}")
        number %= 20


done = threading.Event()
threads = [threading.Thread(target=hammer, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
failed = 0
for child in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        faulthandler.dump_traceback_later(20, exit=True)
        get("/page/3")
        site.memory.clear()
        get("/page/4")
        get(f"/visit/{1000 + child}")
        get("/live/1")
        os._exit(0)
    failed += os.waitpid(pid, 0)[1] != 0
done.set()
for thread in threads:
    thread.join()
print(failed)
"""


def fork_under_load(folder: Path, forks: int) -> None:
    build(folder, "first")
    (folder / "forks.py").write_text(FORKS)
    done = subprocess.run(
        [sys.executable, "forks.py", str(forks)],
        cwd=folder,
        env={**os.environ, **environment(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout == "0\n", done.stdout + done.stderr


def test_a_process_forked_in_the_midst_of_requests_serves(tmp_path: Path) -> None:
    fork_under_load(tmp_path, 6)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_hundred_processes_forked_in_the_midst_of_requests_serve(tmp_path: Path) -> None:
    fork_under_load(tmp_path, 200)
