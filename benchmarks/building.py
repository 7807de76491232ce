"""A whole site written to files. Each build runs in a fresh process, which is this module."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import Prerender

from .site import create_app
from .site import FAMILIES
from .site import PAGE
from .site import urls
from .timing import ratio
from .timing import table
from .timing import turns

BASE = "Frozen-Flask"

#: Writes a site of so many birds to a directory, and returns how many pages it wrote.
Run = Callable[[], int]


def _frozen(directory: Path, pages: int, **options: Any) -> tuple[Flask, Run]:
    from flask_frozen import Freezer

    app = create_app(pages, FREEZER_DESTINATION=str(directory))
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


def _frozen_unlogged(directory: Path, pages: int) -> tuple[Flask, Run]:
    return _frozen(directory, pages, log_url_for=False)


def _loop(directory: Path, pages: int) -> tuple[Flask, Run]:
    app = create_app(pages)

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


def _ours(workers: int, compress: bool, again: bool = False) -> Callable[..., tuple[Flask, Run]]:
    def prepare(directory: Path, pages: int) -> tuple[Flask, Run]:
        app = _marked(directory, pages, compress)
        if again:
            _build(_marked(directory, pages, compress), workers)
        return app, lambda: _build(app, workers)

    return prepare


def _marked(directory: Path, pages: int, compress: bool) -> Flask:
    config = {"PRERENDER_PATH": str(directory), "PRERENDER_COMPRESS": compress}
    app = create_app(pages, PRERENDER_ENABLED=False, **config)
    params: dict[str, Any] = {
        "bird": lambda: ({"number": number} for number in range(1, pages + 1)),
        "section": [{"family": family} for family in FAMILIES],
    }
    for endpoint, view in app.view_functions.items():
        mark(params=params.get(endpoint))(view)
    Prerender(app)
    return app


def _build(app: Flask, workers: int) -> int:
    report = generate(app, concurrency=workers)
    assert report.is_good, report.to_dict()
    return report.total


CASES: dict[str, Callable[[Path, int], tuple[Flask, Run]]] = {
    BASE: _frozen,
    "Frozen-Flask, log_url_for=False": _frozen_unlogged,
    "test_client in a loop": _loop,
    "Flask-Prerender, 1 worker, not compressed": _ours(1, compress=False),
    "Flask-Prerender, 2 workers, not compressed": _ours(2, compress=False),
    "Flask-Prerender, 1 worker": _ours(1, compress=True),
    "Flask-Prerender, 2 workers": _ours(2, compress=True),
    "Flask-Prerender, 1 worker, nothing changed": _ours(1, compress=True, again=True),
}


def measure(directory: Path, rounds: int, pages: int) -> dict[str, Any]:
    """Run every case in turn, and return facts by case."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for number, name in enumerate(turns(list(CASES), rounds)):
        # Nothing is deleted before the end: a file system may be slow for minutes afterwards.
        runs[name].append(_in_new_process(name, directory / str(number), pages))
    return {name: _facts(found, runs[BASE]) for name, found in runs.items()}


def _facts(found: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, Any]:
    def each(name: str, of: list[dict[str, float]]) -> list[float]:
        return [one[name] / one["pages"] for one in of]

    return {
        "pages": found[0]["pages"],
        "wall": statistics.median(each("wall", found)),
        "cpu": statistics.median(each("cpu", found)),
        "speed": ratio(each("wall", base), each("wall", found)),
        "cpu_ratio": ratio(each("cpu", found), each("cpu", base)),
        "megabytes": statistics.median(one["megabytes"] for one in found),
        "rounds": found,
    }


def _in_new_process(name: str, directory: Path, pages: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.building", name, str(directory), str(pages)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr}")
    facts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return facts


def show(facts: dict[str, Any]) -> str:
    head = ("a build", "pages", "pages/s", "CPU us/page", "speed x", "CPU x", "+MB")
    rows = [
        (
            name,
            f"{fact['pages']:.0f}",
            f"{1 / fact['wall']:.0f}",
            f"{fact['cpu'] * 1e6:.0f}",
            f"{fact['speed']:.2f}",
            f"{fact['cpu_ratio']:.2f}",
            f"{fact['megabytes']:.0f}",
        )
        for name, fact in facts.items()
    ]
    return table(head, rows)


def _peak() -> float:
    """Return the most memory this process had, in megabytes.

    Linux lets a process inherit the ``ru_maxrss`` of the one that started it, but not this.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=CASES)
    parser.add_argument("directory", type=Path)
    parser.add_argument("pages", type=int)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    app, run = CASES[args.case](args.directory, args.pages)
    assert app.test_client().get(PAGE).status_code == 200  # templates are compiled by now
    memory = _peak()
    cpu, started = time.process_time(), time.perf_counter()
    pages = run()
    facts = {
        "pages": pages,
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "megabytes": _peak() - memory,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
