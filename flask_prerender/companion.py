"""What runs in the process that makes pages new for a worker."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import threading
import time
import typing as t

from flask.cli import ScriptInfo

from . import regenerate
from .likeness import likeness
from .site import Site
from .site import site_of

_NICE = 10
_LOOK_SECONDS = 1.0
#: Its memory is the worker's once more: without work for so long, it ends.
_IDLE_SECONDS = 300.0


def main(name: str, parent: str) -> None:
    """Import an app, and make pages new until the parent ends, or says so.

    :param name: of the app, as ``FLASK_APP`` has it.
    :param parent: the number of the process whose child this is.
    """
    # Inherited from the thread that started us: in some servers, threads block all signals.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker is told as well
    os.nice(_NICE)
    wire = _take_wire()
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        site = _load(name)
        greeting: dict[str, t.Any] = {"like": likeness(site)}
    except BaseException as error:
        _say(wire, {"failed": f"{type(error).__name__}: {error}"})
        raise
    signal.signal(signal.SIGTERM, _stop)
    code = 1
    try:
        _say(wire, greeting)
        _Work(site, wire).go_on()
        code = 0
    except (SystemExit, OSError):
        code = 0
    finally:
        site.regenerator.close()
        logging.shutdown()
        # Not the usual end: threads of the app, or of a view that hangs, would hold us for ever.
        os._exit(code)


def _take_wire() -> socket.socket:
    """Return the socket that came as standard input, and leave nothing of it to the app."""
    wire = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return wire


def _end_with(parent: int, sleep: t.Callable[[float], None] = time.sleep) -> None:
    """End with the parent, whatever keeps the main thread. Not left to the kernel
    (PR_SET_PDEATHSIG), for which the thread that started us is the parent."""
    while os.getppid() == parent:
        sleep(_LOOK_SECONDS)
    sleep(2 * _LOOK_SECONDS)  # for what the main thread does when the wire ends
    os._exit(1)


def _load(name: str) -> Site:
    regenerate.processes = False
    os.environ["FLASK_RUN_FROM_CLI"] = "true"  # app.run() does nothing then
    return site_of(ScriptInfo(app_import_path=name, set_debug_flag=False).load_app())


def _say(wire: socket.socket, what: dict[str, t.Any]) -> None:
    wire.sendall(json.dumps(what).encode() + b"\n")


def _stop(*_: object) -> None:
    raise SystemExit


class _Work:
    """The keys that come by a wire, each made new in a thread."""

    def __init__(self, site: Site, wire: socket.socket) -> None:
        self._site, self._wire = site, wire
        self._lock = threading.Lock()
        self._under_way = 0

    def go_on(self) -> None:
        """Begin what is asked for until nothing more can be, or was for a while."""
        rest, idle_since = b"", time.monotonic()
        while True:
            if self._under_way:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _IDLE_SECONDS:
                return
            if not select.select([self._wire], [], [], _LOOK_SECONDS)[0]:
                continue
            chunk = self._wire.recv(65536)
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._begin(**json.loads(line))

    def _begin(self, number: int, key: str) -> None:
        with self._lock:
            self._under_way += 1
        threading.Thread(
            target=self._make_new, args=(number, key), name="prerender-regenerate", daemon=True
        ).start()

    def _make_new(self, number: int, key: str) -> None:
        regenerator = self._site.regenerator
        regenerator.work(key)
        rest, revision = regenerator.rest_of(key)
        with self._lock:
            self._under_way -= 1
            _say(self._wire, {"number": number, "rest": rest, "revision": revision})
