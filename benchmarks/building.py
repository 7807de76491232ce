"""A whole site written to files. Each build runs in a fresh process, which is this module."""

from __future__ import annotations

import argparse
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from flask import Flask

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender

from . import child
from .serving import ask
from .site import create_app
from .site import FAMILIES
from .site import urls
from .timing import difference
from .timing import ratio
from .timing import table
from .timing import turns

BASE = "Frozen-Flask"
UNLOGGED = "Frozen-Flask, log_url_for=False"
RENDERED = "The app called for each page, nothing written"
ONE = "Flask-Prerender, not compressed"
TWO = "Flask-Prerender, 2 processes, not compressed"
ONE_PACKED = "Flask-Prerender, gzip and br"
TWO_PACKED = "Flask-Prerender, 2 processes, gzip and br"
AGAIN = "Flask-Prerender, not compressed, nothing changed"
SMALL_AGAIN = "Flask-Prerender, br 11, nothing changed"
WAITING = "Views that wait 5 ms: "
WAITING_BASE = f"{WAITING}Frozen-Flask, log_url_for=False"
WAITING_8 = f"{WAITING}Flask-Prerender, 8 threads"
WAITING_32 = f"{WAITING}Flask-Prerender, 32 threads"

#: Writes a site of so many birds to a directory, and returns how many pages it wrote.
Run = Callable[[], int]
_PLAIN: dict[str, Any] = {"PRERENDER_COMPRESS": False}
_PACKED = {"PRERENDER_COMPRESS": {"gzip": 6, "br": 5}}
_SMALL = {**_PACKED, "PRERENDER_COMPRESS_BUILD": {"br": 11}}


@dataclass
class Case:
    """A build: how it is made ready, how long views wait, and against which build it is held."""

    prepare: Callable[[Path, int, float], tuple[Flask, Run]]
    wait: float = 0.0
    base: str = BASE


@dataclass
class Ours:
    """A build of ours."""

    config: Mapping[str, Any] = field(default_factory=lambda: _PLAIN)
    threads: int = 1
    processes: int = 0
    again: bool = False

    def __call__(self, directory: Path, pages: int, wait: float) -> tuple[Flask, Run]:
        app = self._app(directory, pages, wait)
        if self.again:
            self._build(self._app(directory, pages, wait))
        return app, lambda: self._build(app)

    def _app(self, directory: Path, pages: int, wait: float) -> Flask:
        config = {"PRERENDER_PATH": str(directory), **self.config}
        app = create_app(pages, wait, PRERENDER_ENABLED=False, **config)
        params: dict[str, Any] = {
            "bird": lambda: ({"number": number} for number in range(1, pages + 1)),
            "section": [{"family": family} for family in FAMILIES],
        }
        for endpoint, view in app.view_functions.items():
            mark(params=params.get(endpoint))(view)
        Prerender(app)
        return app

    def _build(self, app: Flask) -> int:
        if self.processes:
            report = generate(app, processes=self.processes, fork=True)
        else:
            report = generate(app, concurrency=self.threads)
        assert report.is_good, report.to_dict()
        return report.total


def _frozen(**options: Any) -> Callable[[Path, int, float], tuple[Flask, Run]]:
    def prepare(directory: Path, pages: int, wait: float) -> tuple[Flask, Run]:
        from flask_frozen import Freezer

        app = create_app(pages, wait, FREEZER_DESTINATION=str(directory))
        freezer = Freezer(app, **options)

        @freezer.register_generator
        def bird() -> Any:
            for number in range(1, pages + 1):
                yield {"number": number}

        @freezer.register_generator
        def section() -> Any:
            for family in FAMILIES:
                yield {"family": family}

        return app, lambda: len(freezer.freeze())

    return prepare


def _loop(directory: Path, pages: int, wait: float) -> tuple[Flask, Run]:
    app = create_app(pages, wait)

    def run() -> int:
        client, all_urls = app.test_client(), urls(pages)
        for url in all_urls:
            target = directory / url[1:]
            if url.endswith("/"):
                target /= "index.html"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(client.get(url).data)
        return len(all_urls)

    return app, run


def _rendered(directory: Path, pages: int, wait: float) -> tuple[Flask, Run]:
    app = create_app(pages, wait)

    def run() -> int:
        all_urls = urls(pages)
        for url in all_urls:
            ask(app, {"PATH_INFO": url})
        return len(all_urls)

    return app, run


CASES: dict[str, Case] = {
    BASE: Case(_frozen()),
    UNLOGGED: Case(_frozen(log_url_for=False)),
    "test_client in a loop": Case(_loop),
    RENDERED: Case(_rendered),
    ONE: Case(Ours()),
    TWO: Case(Ours(processes=2)),
    ONE_PACKED: Case(Ours(_PACKED)),
    TWO_PACKED: Case(Ours(_PACKED, processes=2)),
    "Flask-Prerender, 2 threads, gzip and br": Case(Ours(_PACKED, threads=2)),
    "Flask-Prerender, 2 threads, br 11": Case(Ours(_SMALL, threads=2)),
    AGAIN: Case(Ours(again=True)),
    SMALL_AGAIN: Case(Ours(_SMALL, threads=2, again=True)),
    WAITING_BASE: Case(_frozen(log_url_for=False), 0.005, WAITING_BASE),
    WAITING_8: Case(Ours(threads=8), 0.005, WAITING_BASE),
    WAITING_32: Case(Ours(threads=32), 0.005, WAITING_BASE),
}


def measure(directory: Path, rounds: int, pages: int) -> dict[str, Any]:
    """Run every case in turn, and return facts by case."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for number, name in enumerate(turns(list(CASES), rounds)):
        # Nothing is deleted before the end: a file system may be slow for minutes afterwards.
        runs[name].append(child.run("building", name, directory / str(number), pages))
    rendered = _each(runs[RENDERED], "cpu")
    return {name: _facts(found, runs[CASES[name].base], rendered) for name, found in runs.items()}


def _each(found: list[dict[str, float]], fact: str) -> list[float]:
    return [one[fact] / one["pages"] for one in found]


def _facts(
    found: list[dict[str, float]], base: list[dict[str, float]], rendered: list[float]
) -> dict[str, Any]:
    return {
        "pages": found[0]["pages"],
        "wall": statistics.median(_each(found, "wall")),
        "cpu": statistics.median(_each(found, "cpu")),
        "speed": ratio(_each(base, "wall"), _each(found, "wall")),
        "cpu_ratio": ratio(_each(found, "cpu"), _each(base, "cpu")),
        "over_rendering": difference(_each(found, "cpu"), rendered),
        "megabytes": statistics.median(one["megabytes"] for one in found),
        "rewritten": max(one["rewritten"] for one in found),
        "rounds": found,
    }


def show(facts: Mapping[str, Any]) -> str:
    head = (
        "a build",
        "pages",
        "pages/s",
        "CPU us/page",
        "speed x",
        "CPU x",
        "+MB",
        "files written",
    )
    rows = [
        (
            name,
            f"{fact['pages']:.0f}",
            f"{1 / fact['wall']:.0f}",
            f"{fact['cpu'] * 1e6:.0f}",
            f"{fact['speed']:.2f}",
            f"{fact['cpu_ratio']:.2f}",
            f"{fact['megabytes']:.0f}",
            f"{fact['rewritten']:.0f}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)


def _files(directory: Path) -> set[tuple[str, int, int]]:
    """Return name, inode and time of every file that a web server would send."""
    public = directory / "public"
    return {
        (str(file), file.stat().st_ino, file.stat().st_mtime_ns)
        for file in (public if public.exists() else directory).rglob("*")
        if file.is_file()
    }


def _cpu() -> float:
    """Return the processor seconds of this process and of those it waited for."""
    used = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("pages", type=int)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    case = CASES[args.case]
    app, run = case.prepare(args.directory, args.pages, case.wait)
    assert ask(app, {})[0].status.startswith("200")  # templates are compiled by now
    memory, before = child.peak(), _files(args.directory)
    cpu, started = _cpu(), time.perf_counter()
    pages = run()
    child.tell(
        {
            "pages": pages,
            "wall": time.perf_counter() - started,
            "cpu": _cpu() - cpu,
            "megabytes": child.peak() - memory,
            "rewritten": len(_files(args.directory) - before),
        }
    )


if __name__ == "__main__":
    main()
