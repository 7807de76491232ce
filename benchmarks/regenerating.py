"""Hits, while pages are made new in the process that answers them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender
from flask_prerender.stores.files import FileStore

from . import servers
from .apps import WSGIApp
from .load import load
from .load import Server
from .servers import CONNECTIONS
from .serving import ask
from .site import create_app
from .site import NUMBER
from .site import PAGES
from .timing import ratio
from .timing import table
from .timing import turns

REST = "Hits, nothing to do beside"
STEADY = "100 pages/s made new"
HEAVY = "heavy pages made new without end"
HEAVY_PROCESS = "heavy pages, in a process of their own"

#: By name: pages a second that visitors find stale, renders for one of them, and settings.
APPS: dict[str, tuple[int, int, dict[str, Any]]] = {
    REST: (0, 1, {}),
    STEADY: (100, 1, {}),
    HEAVY: (100, 20, {}),
    HEAVY_PROCESS: (100, 20, {"PRERENDER_REGENERATE": "process"}),
}
SERVERS = ("gunicorn gthread", "granian")
_PAGES_OF = "{}-pages"
#: How long the first page may take: a process has to be started for it.
_FIRST_SECONDS = 20.0
#: Threads that ask for one stale page at once, and how long its view takes.
_HERD = 100
_VIEW_SECONDS = 0.2


def make(name: str, directory: Path) -> Flask:
    """Make the site, built, whose pages but one are stale after a second."""
    _, renders, config = APPS[name]
    app = create_app(
        PAGES,
        PRERENDER_PATH=str(directory / _PAGES_OF.format(name)),
        PRERENDER_ENABLED=True,
        PRERENDER_SERVE_AT="wsgi",
        **config,
    )
    prerender = Prerender()
    view, is_built = app.view_functions["bird"], threading.Event()

    def bird(number: int) -> Any:
        if number != NUMBER:
            prerender.revalidate_after(1)
            for _ in range(renders - 1 if is_built.is_set() else 0):
                view(number)
        return view(number)

    numbers = [{"number": number} for number in range(1, PAGES + 1)]
    app.view_functions["bird"] = mark(params=numbers)(bird)
    prerender.init_app(app)
    if not app.extensions["prerender"].store.last_build():
        assert generate(app).is_good
    is_built.set()
    return app


def visited(name: str, app: Flask) -> WSGIApp:
    """Return the app as a server has it. From the first request on, visitors ask for the pages that
    are stale, so many a second, by a thread of the process."""
    begun, rate = threading.Lock(), APPS[name][0]

    def visit() -> None:
        due, number = time.monotonic(), 0
        while True:
            number = number % PAGES + 1
            if number != NUMBER:
                ask(app, {"PATH_INFO": f"/birds/{number}/"})
            due = max(due + 1 / rate, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if rate and begun.acquire(blocking=False):  # after the server has forked
            threading.Thread(target=visit, daemon=True).start()
        return app(environ, start_response)

    return application


def measure(
    directory: Path, rounds: int, seconds: int, names: Sequence[str] = SERVERS
) -> dict[str, Any]:
    """Return facts by server and case."""
    lacking = servers.missing()
    if "wrk" in lacking:
        return {}
    usable = [name for name in names if name not in lacking]
    return {name: _measure(name, directory / name, rounds, seconds) for name in usable}


def _measure(server: str, directory: Path, rounds: int, seconds: int) -> dict[str, Any]:
    runs: dict[str, servers.Runs] = {name: [] for name in APPS}
    running: dict[str, Server] = {}
    try:
        for name in APPS:
            running[name] = servers.start(server, name, directory)
            servers.check(f"{server}, {name}", running[name])
            running[name].pause()
        for name in turns(list(APPS), rounds):
            running[name].resume()
            path = directory / _PAGES_OF.format(name)
            runs[name].append(_one(running[name], name, path, seconds))
            running[name].pause()
    finally:
        for one in running.values():
            one.resume()
            one.__exit__()
    return {name: _facts(found, runs[REST]) for name, found in runs.items()}


def _one(server: Server, name: str, pages: Path, seconds: int) -> dict[str, float]:
    resumed = time.time()
    load(server, CONNECTIONS, 1)  # by now its pages are stale and asked for
    until = time.monotonic() + _FIRST_SECONDS
    while APPS[name][0] and not _made_since(resumed, pages) and time.monotonic() < until:
        time.sleep(0.2)
    began = time.time()
    found = load(server, CONNECTIONS, seconds)
    return {**found, "made": _made_since(began, pages) / (time.time() - began)}


def _made_since(moment: float, pages: Path) -> int:
    store = FileStore(pages)
    count = sum(page.checked_at >= moment for page in store.pages())
    store.close()
    return count


def _facts(runs: servers.Runs, rest: servers.Runs) -> dict[str, Any]:
    return {
        **{fact: servers.middle(runs, fact) for fact in ("rate", "p50", "p99", "made", "others")},
        "share": ratio(servers.each(runs, "rate"), servers.each(rest, "rate")),
        "rounds": runs,
    }


def show(facts: Mapping[str, Any]) -> str:
    return "\n\n".join(_show(server, found) for server, found in facts.items())


def _show(server: str, facts: Mapping[str, Any]) -> str:
    head = (server, "req/s", "x at rest", "p50 ms", "p99 ms", "made new/s")
    rows = [
        (
            name,
            f"{fact['rate']:,.0f}",
            f"{fact['share']:.2f}",
            f"{fact['p50'] * 1e3:.2f}",
            f"{fact['p99'] * 1e3:.2f}",
            f"{fact['made']:.0f}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)


# A herd.


class _Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


def herd(directory: Path, rounds: int) -> dict[str, Any]:
    """Let many threads ask for one stale page at once, and return how long the last one waited and
    how often the page was made, for a view that takes 200 ms."""
    app, clock, made = create_app(PAGES), _Clock(), []
    app.config.update(PRERENDER_PATH=str(directory), PRERENDER_ENABLED=True)
    app.config.update(PRERENDER_REVALIDATE=60, PRERENDER_JITTER=0.0)
    view = app.view_functions["bird"]

    def bird(number: int) -> Any:
        made.append(number)
        time.sleep(_VIEW_SECONDS)
        return view(number)

    app.view_functions["bird"] = mark(params=[{"number": NUMBER}])(bird)
    Prerender(app, clock=clock)
    assert generate(app).is_good
    found = [_herd(app, clock, made) for _ in range(rounds)]
    return {
        "slowest": statistics.median(slowest for slowest, _ in found),
        "renders": max(renders for _, renders in found),
        "rounds": found,
    }


def _herd(app: Flask, clock: _Clock, made: list[int]) -> tuple[float, int]:
    ask(app, {})
    clock.ahead += 120
    made.clear()
    gate, waits = threading.Barrier(_HERD), []

    def visit() -> None:
        gate.wait()
        before = time.perf_counter()
        started, _ = ask(app, {})
        waits.append(time.perf_counter() - before)
        assert started.status.startswith("200")

    threads = [threading.Thread(target=visit) for _ in range(_HERD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(waits) == _HERD
    time.sleep(2 * _VIEW_SECONDS)  # the page is new by then
    return max(waits), len(made)


def show_herd(facts: Mapping[str, Any]) -> str:
    head = (f"{_HERD} threads ask for a stale page", "renders", "slowest answer, ms")
    slowest = f"{facts['slowest'] * 1e3:.1f}"
    return table(head, [("its view takes 200 ms", f"{facts['renders']}", slowest)])
