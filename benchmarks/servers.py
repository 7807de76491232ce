"""Requests under real servers, one process on one core, with wrk on another."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import apps
from . import serving
from .load import free_port
from .load import load
from .load import program
from .load import Server
from .site import page
from .timing import ratio
from .timing import table
from .timing import turns
from .web import nginx

NGINX = "nginx, static files"
#: Connections that are kept open, all asking at once.
CONNECTIONS = 16
_ENTRY = "benchmarks.entry:application"

APPS = (
    apps.RAW, apps.LANE, apps.WHITENOISE, apps.HOOK, apps.CONSTANT, apps.SIMPLE, apps.TEMPLATES,
)  # fmt: skip
#: Asked by one connection as well.
_ALONE = (apps.RAW, apps.LANE, apps.HOOK, NGINX)


def _gunicorn(port: int) -> list[str]:
    return [
        program("gunicorn") or "", "--no-control-socket", "--worker-class", "gthread", "--workers",
        "1", "--threads", "4", "--keep-alive", "75", "--bind", f"127.0.0.1:{port}", _ENTRY,
    ]  # fmt: skip


def _granian(port: int) -> list[str]:
    return [
        program("granian") or "", "--interface", "wsgi", "--workers", "1", "--runtime-threads", "1",
        "--blocking-threads", "1", "--no-ws", "--http", "1", "--log-level", "error",
        "--host", "127.0.0.1", "--port", str(port), _ENTRY,
    ]  # fmt: skip


def _waitress(port: int) -> list[str]:
    listen = f"--listen=127.0.0.1:{port}"
    return [program("waitress-serve") or "", listen, "--threads=4", _ENTRY]


def _bjoern(port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.entry"]


#: By name: what starts it, and what must be installed for it.
SERVERS: dict[str, tuple[Callable[[int], list[str]], str]] = {
    "gunicorn gthread": (_gunicorn, "gunicorn"),
    "granian": (_granian, "granian"),
    "waitress": (_waitress, "waitress"),
    "bjoern": (_bjoern, "bjoern"),
}


def missing() -> dict[str, str]:
    """Return what cannot be measured here, each with what would have to be installed."""
    found = {}
    for name in ("wrk", "nginx"):
        if program(name) is None:
            found[name] = f"no {name}: apt-get install {name}"
    for name, (_, package) in SERVERS.items():
        if find_spec(package) is None:
            wanted = " (it needs libev-dev and a compiler)" if package == "bjoern" else ""
            found[name] = f"no {package}: pip install {package}{wanted}"
    return found


def start(server: str, app: str, directory: Path) -> Server:
    """Start a server of an app, whose files go below `directory`."""
    port = free_port()
    env = {
        "BENCHMARK_APP": app,
        "BENCHMARK_DIRECTORY": str(directory),
        "BENCHMARK_PORT": str(port),
        "FLASK_APP": "benchmarks.entry:app",
    }
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{port}.log"
    return Server(SERVERS[server][0](port), port, log, **env)


def measure(
    directory: Path, rounds: int, seconds: int, names: Sequence[str] = tuple(SERVERS)
) -> dict[str, Any]:
    """Measure every app under every server that there is, and return facts by server and app."""
    lacking = missing()
    if "wrk" in lacking:
        return {}
    usable = [name for name in names if name not in lacking]
    return {name: _measure(name, directory / name, rounds, seconds) for name in usable}


def _measure(server: str, directory: Path, rounds: int, seconds: int) -> dict[str, Any]:
    lacking = serving.missing()
    wanted = [name for name in APPS if name not in lacking]
    if server == "gunicorn gthread":
        wanted.append(apps.HEAVY)
    with ExitStack() as stack:
        running = {name: stack.enter_context(start(server, name, directory)) for name in wanted}
        if "nginx" not in missing():
            running[NGINX] = stack.enter_context(nginx(directory))
        for name, one in running.items():
            check(f"{server}, {name}", one)
            load(one, CONNECTIONS, 1)
        found = _in_turn(running, CONNECTIONS, rounds, seconds)
        alone = {name: one for name, one in running.items() if name in _ALONE}
        single = _in_turn(alone, 1, rounds, 1)
    return {
        name: _facts(runs, found, single.get(name), single.get(NGINX))
        for name, runs in found.items()
    }


def check(name: str, server: Server) -> None:
    """Refuse to load what does not do its work."""
    server.wait()
    for _ in range(3):  # a cache fills at the first
        answer: Any = server.ask()
    if answer.status != 200 or answer.content != page():
        raise AssertionError(f"{name}: {answer.status}, {len(answer.content)} bytes")


Runs = list[dict[str, float]]


def _in_turn(
    running: Mapping[str, Server], connections: int, rounds: int, seconds: int
) -> dict[str, Runs]:
    runs: dict[str, Runs] = {name: [] for name in running}
    for name in turns(list(running), rounds):
        runs[name].append(load(running[name], connections, seconds))
    return runs


def each(runs: Runs, fact: str) -> list[float]:
    return [one[fact] for one in runs]


def middle(runs: Runs, fact: str) -> float:
    return statistics.median(each(runs, fact))


def _facts(
    runs: Runs, all_runs: Mapping[str, Runs], single: Runs | None, nginx_single: Runs | None
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        fact: middle(runs, fact) for fact in ("rate", "p50", "p99", "cpu", "client", "others")
    }
    facts["ratios"] = {
        name: ratio(each(runs, "rate"), each(other, "rate")) for name, other in all_runs.items()
    }
    facts["rounds"] = runs
    if single:
        facts["alone"] = middle(single, "p50")
        if nginx_single:
            facts["alone_ratio"] = ratio(each(single, "p50"), each(nginx_single, "p50"))
    return facts


def show(facts: Mapping[str, Any]) -> str:
    return "\n\n".join(_show(server, found) for server, found in facts.items())


def _show(server: str, facts: Mapping[str, Any]) -> str:
    head = (server, "req/s", "x raw", "x nginx", "p50 ms", "p99 ms", "CPU us", "alone us", "wrk")
    rows = [
        (
            name,
            f"{fact['rate']:,.0f}",
            _times(fact["ratios"].get(apps.RAW)),
            _times(fact["ratios"].get(NGINX)),
            f"{fact['p50'] * 1e3:.2f}",
            f"{fact['p99'] * 1e3:.2f}",
            f"{fact['cpu'] * 1e6:.1f}",
            f"{fact['alone'] * 1e6:.0f}" if "alone" in fact else "-",
            f"{fact['client']:.0%}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def others(facts: Mapping[str, Any]) -> float:
    """Return the share of a core that other processes had meanwhile."""
    return statistics.median(fact["others"] for found in facts.values() for fact in found.values())
