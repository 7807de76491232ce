"""A site whose renders are counted over all its processes and held until a test lets them go.

Time is a file that the test writes, so that no page is stale and no claim ends by itself. Servers
import this module, so it imports nothing of the tests.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask
from flask import request
from flask import Response
from flask import session

from flask_prerender import Prerender
from flask_prerender import signals

REVALIDATE = 60.0
LEASE = 15.0
SECONDS = 30.0
_NOON = 1_800_000_000.0


# What the test says and hears.


class Stage:
    """A folder by which the test and all processes of a site tell each other things."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        self.write("clock", _NOON)
        self.write("version", "first")

    def write(self, name: str, value: object) -> None:
        new = self.folder / f"{name}.new"
        new.write_text(str(value))
        new.replace(self.folder / name)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def now(self) -> float:
        return float(self.read("clock"))

    def forward(self, seconds: float) -> None:
        self.write("clock", self.now() + seconds)

    def hold(self) -> None:
        """Let renders begin, and none go on, until :meth:`let_go`."""
        (self.folder / "held").touch()

    def let_go(self) -> None:
        (self.folder / "held").unlink()

    def note(self, name: str, what: str) -> None:
        """Write a line beside those of other processes; each comes whole."""
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, f"{os.getpid()} {what}\n".encode())
        finally:
            os.close(descriptor)

    def noted(self, name: str) -> list[tuple[int, str]]:
        """Return process and text of each line."""
        try:
            lines = self.read(name).splitlines()
        except FileNotFoundError:
            return []
        return [(int(pid), what) for pid, _, what in (line.partition(" ") for line in lines)]

    def renders(self, path: str) -> list[int]:
        """Return the process of each render of a page that has begun."""
        return [pid for pid, what in self.noted("renders") if what == path]

    def wait_for_renders(self, path: str, count: int) -> int:
        """Wait until so many renders of a page have begun, and return the last one's process."""
        wait_until(lambda: len(self.renders(path)) >= count)
        return self.renders(path)[-1]


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


# The site.


def create_app() -> Flask:
    """Make the app of one process, on the stage that the environment names."""
    stage = Stage(Path(os.environ["HERD_STAGE"]))
    app = Flask("herd", root_path=str(stage.folder), instance_path=str(stage.folder / "instance"))
    app.config.update(SECRET_KEY="of the herd", PRERENDER_JITTER=0.0, PRERENDER_WAIT=SECONDS)
    app.config.from_prefixed_env("HERD_CONFIG")
    stage.note("imports", "began")
    while (stage.folder / "held at import").exists():
        time.sleep(0.01)
    prerender = Prerender(app, clock=stage.now)

    def render() -> str:
        version = stage.read("version")
        if prerender.is_rendering:
            stage.note("renders", request.path)
            while (stage.folder / "held").exists():
                time.sleep(0.01)
        return f"{request.path} {version}"

    @app.route("/page/<name>")
    @prerender.mark(revalidate=REVALIDATE)
    def page(name: str) -> str:
        return render()

    @app.route("/broken/<name>")
    @prerender.mark(revalidate=REVALIDATE)
    def broken(name: str) -> str:
        text = render()
        return str(1 / 0) if (stage.folder / "broken").exists() else text

    @app.route("/private/<name>")
    @prerender.mark
    def private(name: str) -> str:
        session["visits"] = 1
        return f"{render()} of {request.headers.get('X-Who')}"

    @app.post("/purge/<name>")
    def purge(name: str) -> str:
        return str(prerender.purge(f"/page/{name}").revision)

    @app.route("/fork")
    def fork() -> str:
        if os.fork():
            return "forked"
        while not (stage.folder / "forks end").exists():
            time.sleep(0.01)
        os._exit(0)

    @app.route("/up")
    def up() -> str:
        return "up"

    @app.after_request
    def name_the_process(response: Response) -> Response:
        if not prerender.is_rendering:
            response.headers["X-Pid"] = str(os.getpid())
        return response

    signals.page_refused.connect(
        lambda sender, key, reason, **_: stage.note("refused", f"{key} {reason}"), weak=False
    )
    signals.page_published.connect(lambda sender, key, **_: stage.note("made", key), weak=False)
    if "HERD_AT_IMPORT" in os.environ:
        app.test_client().get(os.environ["HERD_AT_IMPORT"])
        # A fork beside threads is safe only where Python is told of it: by uWSGI from 3.12 on.
        for thread in threading.enumerate():
            if thread.name.startswith("prerender"):
                thread.join()
    return app
