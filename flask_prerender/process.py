"""The process beside a worker that makes its stale pages new, at lower priority.

It is a fresh interpreter that imports the app by its name (:mod:`flask_prerender.companion`), so
that nothing of the worker's threads, locks and connections is in it. Each worker starts its own, at
its first stale page: pages are made by the version of the app that met them, and a process that
only forks workers has none. It ends when the worker's end of their socket is closed, for any
reason.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .flights import Flight
from .likeness import differences
from .likeness import Likeness
from .likeness import likeness
from .site import Site

log = logging.getLogger("flask_prerender")

#: For how long the app may be imported, and how long a worker that could not have a process waits
#: until it tries again.
_START_SECONDS = 120.0
_GIVEN_UP_SECONDS = 300.0
_FIRST_REST, _LAST_REST = 1.0, 60.0
#: More than a render that is late needs to say so.
_GRACE_SECONDS = 0.5
_END_SECONDS = 2.5
_PART_SECONDS = 0.5

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from flask_prerender.companion import main; main(*sys.argv[2:])"
)
_INTERPRETER = re.compile(r"(python|pypy)[0-9.]*t?(\.exe)?\Z")
#: Of the parent: a forked child must not take them for its own, not even to be rid of them.
_inherited: list[object] = []


class Made(t.NamedTuple):
    """What came of one key: for how many seconds it rests, and since which revision."""

    rest: float = 0.0
    revision: int | None = None


class Process:
    """Starts the process when it is needed, hands it keys, and starts it anew when it died.

    :param name: of the app, as an import string.
    :param lease: for how many seconds the claims of a process that died still stand.
    """

    def __init__(self, site: Site, name: str, lease: float) -> None:
        self._site, self._name, self._lease = site, name, lease
        self._child: _Child | None = None
        self.renew()

    def renew(self) -> None:
        """Begin anew in a forked child: the process is the parent's."""
        if self._child is not None:
            self._child.leave_to_parent()
        self._child = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._deaths = 0
        self._again_at = self._given_up_until = float("-inf")
        self._reason = ""

    @property
    def is_given_up(self) -> bool:
        """Whether there can be none just now, so that a thread of the worker has to do."""
        return time.monotonic() < self._given_up_until

    def prepare(self) -> None:
        """See to it that there is a process, unless it is given up. Takes its time."""
        with self._lock:
            is_up = self._child is not None and self._child.is_up
            if is_up or self.is_given_up or self._closing.is_set():
                return
            if self._closing.wait(max(0.0, self._again_at - time.monotonic())):
                return
            try:
                reason = self._start()
            except Exception as error:  # in what the user's configuration holds, say
                reason = repr(error)
            if reason and self._child is not None:
                self._child.end(0.0)
            if reason and not self._closing.is_set():
                self._give_up(reason)

    def make_new(self, key: str) -> Made:
        """Have one page made new, and wait until it is."""
        child = self._child
        if child is None or not child.is_up:
            return Made(_FIRST_REST)
        try:
            made = child.make_new(key, self._site.settings.timeout + _GRACE_SECONDS)
        except TimeoutError:
            log.warning("The render of %s hangs; the process that does it is ended.", key)
            child.end(0.0)
            made = None
        if made is None:  # it ended; if it died, its claim stands
            return Made(self._lease if child.exit_code else 0.0)
        self._deaths = 0
        return made

    def close(self) -> None:
        """End the process, which has the time to let a page that is being stored be whole."""
        self._closing.set()
        if self._child is not None:
            self._child.end(_END_SECONDS if self._child.is_up else 0.0)

    def _start(self) -> str:
        """Start the process and wait until it has the app. Return why it could not, or ``""``."""
        if self._site.is_read_only:
            return f"{self._site.output} cannot be written, and pages live in each worker's memory"
        interpreter = _interpreter()
        if not interpreter:
            return f"no Python interpreter is found beside {sys.executable or sys.prefix!r}"
        command = [interpreter, "-c", _CODE, json.dumps([*map(str, sys.path)])]
        command += [self._name, str(os.getpid())]
        try:
            child = self._child = _Child(command, self._mourn)
        except OSError as error:
            return str(error)
        return "the worker ends" if self._closing.is_set() else child.greet(likeness(self._site))

    def _mourn(self, code: int) -> None:
        """Have a process that died started anew, but not at once."""
        if code == 0 or self._closing.is_set():
            return
        rest = min(_LAST_REST, _FIRST_REST * 2.0 ** min(self._deaths, 10))
        rest *= random.uniform(0.9, 1.1)
        self._deaths += 1
        self._again_at = time.monotonic() + rest
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        text = "The process that makes pages new ended (%s). Another may start in %.0f s."
        self._site.complain("process", text, how, rest)

    def _give_up(self, reason: str) -> None:
        self._given_up_until = time.monotonic() + _GIVEN_UP_SECONDS
        if reason == self._reason:
            return
        self._reason = reason
        log.warning(
            "Pages are made new in a thread, and not in a process as PRERENDER_REGENERATE says: "
            "%s. The process looked for the app at %r; PRERENDER_APP says where it is, such as "
            "'package.module:app' or 'package.module:create_app()'.",
            reason,
            self._name,
        )


class _Child:
    """One process, and the socket by which it is told what to do.

    :param on_end: called with its exit code when it had the app and has ended.
    :raises OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], on_end: Callable[[int], None]) -> None:
        self._on_end = on_end
        self._lock = threading.Lock()
        self._flights: dict[int, Flight[Made]] = {}
        self._numbers = itertools.count(1)
        self.is_up = False
        self._socket, theirs = socket.socketpair()
        try:
            # In the session and the group of the worker: where the kernel schedules sessions
            # against each other, a priority counts only within one.
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=2)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._answers = self._read()

    def _read(self) -> Generator[dict[str, t.Any], None, None]:
        with self._socket.makefile("rb") as lines:
            for line in lines:
                yield json.loads(line)

    @property
    def exit_code(self) -> int | None:
        """What it ended with; the number of a signal is negative."""
        return self._process.returncode

    def greet(self, like: Likeness) -> str:
        """Wait until it has the app. Return why it is of no use, or ``""``."""
        self._socket.settimeout(_START_SECONDS)
        try:
            answer = next(self._answers, None)
            self._socket.settimeout(None)
        except (OSError, ValueError) as error:
            return f"it did not say whether it has the app ({error})"
        if answer is None:
            return "it ended while it imported the app"
        if "like" not in answer:
            return str(answer["failed"])
        others = differences(like, answer["like"])
        if others:
            return f"what it imports is another app: {', '.join(others)} differ"
        self.is_up = True
        try:
            threading.Thread(target=self._listen, name="prerender-process", daemon=True).start()
        except RuntimeError as error:
            self.is_up = False
            return str(error)
        return ""

    def make_new(self, key: str, seconds: float) -> Made | None:
        """Return what came of a key, or ``None`` when the process has ended instead.

        :raises TimeoutError: nothing did.
        """
        number, flight = next(self._numbers), Flight[Made](time.monotonic())
        with self._lock:
            if not self.is_up:
                return None
            self._flights[number] = flight
            with suppress(OSError):  # it has ended: whoever listens says so
                self._socket.sendall(json.dumps({"number": number, "key": key}).encode() + b"\n")
        # In parts: where everybody was stopped for a while, nobody was slow.
        for _ in range(math.ceil(seconds / _PART_SECONDS)):
            flight.wait(_PART_SECONDS)
            if number not in self._flights:
                break
        if self._flights.pop(number, None) is not None:
            raise TimeoutError
        return flight.wait(_PART_SECONDS)  # whoever took it lands it now

    def _listen(self) -> None:
        """Hand out what it answers until it ends."""
        with suppress(OSError, ValueError):
            for answer in self._answers:
                flight = self._flights.pop(answer["number"], None)
                if flight is not None:
                    flight.land(Made(answer["rest"], answer["revision"]))
        with self._lock:
            self.is_up = False
        self.end(_END_SECONDS)
        self._on_end(self._process.returncode or 0)
        while self._flights:
            self._flights.popitem()[1].land(None)

    def end(self, seconds: float) -> None:
        """End it, by force if it takes longer than `seconds`."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ValueError):  # who listens has them, and comes by here at the end
            self._answers.close()
        self._socket.close()

    def leave_to_parent(self) -> None:
        """Close our copy of the socket, which the parent still uses: the process ends when nobody
        has it any more."""
        _inherited.append(self._process)
        with suppress(OSError):  # it had ended, and the socket was closed
            os.close(self._socket.detach())


def _interpreter() -> str:
    """Return the interpreter to start. Servers that embed Python name themselves instead."""
    found = Path(sys.executable or "?")
    if _INTERPRETER.match(found.name):
        return str(found)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    beside = [found.parent] if found.is_absolute() else []
    for root in (*beside, Path(sys.exec_prefix) / "bin"):
        for name in (f"python{version}", "python3", "python"):
            if os.access(root / name, os.X_OK):
                return str(root / name)
    return ""
