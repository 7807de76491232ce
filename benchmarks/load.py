"""Servers on one processor core, and requests from another."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from typing import Any

from .site import PAGE

ROOT = Path(__file__).resolve().parent.parent
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0
#: What wrk calls its units, in seconds.
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def program(name: str) -> str | None:
    """Return the path of a program of this environment, or of the machine."""
    own = Path(sys.executable).with_name(name)
    return str(own) if own.exists() else shutil.which(name)


def cores() -> tuple[int, int] | None:
    """Return the core of the servers and that of the requests; ``None`` where nothing is pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    found = sorted(os.sched_getaffinity(0))
    return (found[0], found[-1]) if len(found) > 1 else None


@contextmanager
def pinned(of: int) -> Iterator[None]:
    """Have what is started meanwhile run on one core: 0 is that of the servers."""
    both = cores()
    if both is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {both[of]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A server of one app, on the core of the servers. It is stopped when the block ends."""

    def __init__(self, command: Sequence[str], port: int, log: Path, **env: str) -> None:
        self.port, self._log = port, log
        with pinned(0), log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._signal(signal.SIGKILL)  # what it left behind

    def pause(self) -> None:
        """Have it do nothing at all until it is resumed."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self) -> None:
        """
        :raises RuntimeError: it ended, or does not listen.
        """
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        end = self._log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(self._process.args)} does not listen:\n{end}")  # type: ignore[arg-type]

    def ask(self, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        """Ask for the page, and return the answer with its ``content``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", PAGE, headers=dict(headers or {}))
        answer: Any = connection.getresponse()
        answer.content = answer.read()
        connection.close()
        return answer  # type: ignore[no-any-return]

    def cpu(self) -> float | None:
        """Return the processor seconds of the server and its children, where that can be told."""
        ticks = None
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:  # the session
                    ticks = (ticks or 0) + int(fields[11]) + int(fields[12])
        return None if ticks is None else ticks / os.sysconf("SC_CLK_TCK")


def _busy() -> float:
    """Return the processor seconds of everybody since the machine started."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system = map(int, stat.read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def load(server: Server, connections: int, seconds: int) -> dict[str, float]:
    """Ask for the page as often as the server answers, with wrk. Return what became of it.

    :return: ``rate`` (requests a second), ``p50`` and ``p99`` (seconds), ``cpu`` (seconds of the
        server a request, 0 where that cannot be told), ``client`` and ``others`` (shares of a core
        that wrk took, and processes that have nothing to do with it).
    :raises RuntimeError: there were errors among the answers.
    """
    url = f"http://127.0.0.1:{server.port}{PAGE}"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    used, own, everybody = server.cpu() or 0.0, os.times(), _busy()
    with pinned(1):
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    used, now, everybody = (server.cpu() or 0.0) - used, os.times(), _busy() - everybody
    client = now.children_user + now.children_system - own.children_user - own.children_system
    return {
        **_told(" ".join(command), done.stdout + done.stderr, used),
        "client": client / seconds,
        "others": max(0.0, everybody - used - client) / seconds,
    }


def _told(command: str, text: str, used: float) -> dict[str, float]:
    """Return what wrk printed."""
    count = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    spans = dict(re.findall(r"^\s+(50|99)%\s+([\d.]+\w+)$", text, re.MULTILINE))
    if not count or not int(count[1]) or not rate or len(spans) < 2:
        raise RuntimeError(f"{command}:\n{text}")
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"{command} met errors:\n{text}")
    return {
        "rate": float(rate[1]),
        "p50": _seconds(spans["50"]),
        "p99": _seconds(spans["99"]),
        "cpu": used / int(count[1]),
    }


def _seconds(span: str) -> float:
    found = re.fullmatch(r"([\d.]+)([a-z]+)", span)
    assert found, span
    return float(found[1]) * _UNITS[found[2]]
