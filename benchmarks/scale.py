"""Few pages and very many: what grows with their number, and what does not.

Each number of pages is built in one process and used in another, which are this module. Pages are
small, so that a million of them is a matter of their number and not of their bytes.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Flask

from flask_prerender import generate
from flask_prerender import manifest
from flask_prerender import Prerender
from flask_prerender import sitemap

from . import child
from .serving import ask
from .serving import caller
from .timing import table

SIZES = (1_000, 10_000, 100_000)
LARGE = 1_000_000
#: Pages that are asked for again and again; that are served to see what one weighs; and that are
#: served to see what the memory for pages keeps.
_HOT, _WEIGHED, _SERVED = 100, 5_000, 100_000
_BODY = "<!doctype html><title>Page {number}</title>\n" + "<p>A line of page {number}.</p>\n" * 20


def _make(directory: Path, pages: int) -> tuple[Flask, Prerender]:
    app = Flask(__name__, static_folder=None)
    app.config.update(
        SECRET_KEY="not a secret",
        PRERENDER_PATH=str(directory),
        PRERENDER_ENABLED=True,
        PRERENDER_SERVE_AT="wsgi",
        PRERENDER_BASE_URL="https://example.com",
        PRERENDER_COMPRESS=False,
    )
    prerender = Prerender()

    @app.get("/pages/<int:number>/")
    @prerender.mark(params=lambda: ({"number": n} for n in range(1, pages + 1)), tags=["all"])
    def page(number: int) -> str:
        return _BODY.format(number=number)

    return app, prerender


def build(directory: Path, pages: int) -> dict[str, float]:
    """Build the pages, then build them again."""
    app, prerender = _make(directory, pages)
    prerender.init_app(app)
    memory, facts = child.peak(), {}
    for name in ("build", "again"):
        started = time.perf_counter()
        report = generate(app)
        facts[name] = (time.perf_counter() - started) / pages
        assert report.is_good, report.to_dict()
        assert report.count("unchanged") == (pages if name == "again" else 0)
        facts.setdefault("build_memory", child.peak() - memory)
    app.extensions["prerender"].close()
    return facts


def use(directory: Path, pages: int) -> dict[str, float]:
    """Do with the pages that are stored what a process does with them."""
    Flask("warm").test_client().get("/")
    app, prerender = _make(directory, pages)
    gc.collect()
    memory, started = child.resident(), time.perf_counter()
    prerender.init_app(app)
    _get(app, 1)
    facts = {"start": time.perf_counter() - started, "start_memory": child.resident() - memory}
    facts["hit"] = _hit(app, pages)
    step = _step(pages)
    facts["disk_hit"] = _time(lambda n: _get(app, (n - 1) * step + 2), _HOT)
    facts |= _memory(app, pages)
    facts |= _regenerating(app, prerender)
    facts |= _purging(app, prerender)
    return {**facts, **_lists(app, pages)}


def _get(app: Flask, number: int) -> None:
    started, _ = ask(app, {"PATH_INFO": f"/pages/{number}/"})
    assert started.status.startswith("200"), (number, started.status)


def _time(work: Callable[[int], object], count: int) -> float:
    """Return the median of the seconds that each of so many pieces of work takes."""
    spans = []
    for number in range(1, count + 1):
        before = time.perf_counter()
        work(number)
        spans.append(time.perf_counter() - before)
    return statistics.median(spans)


def _step(pages: int) -> int:
    """Return how far apart the hot pages are: the first one is hot, the second is not."""
    assert pages >= 2 * _HOT
    return pages // _HOT


def _hit(app: Flask, pages: int) -> float:
    """Return the processor seconds of a hit among the hot pages."""
    paths = [f"/pages/{number * _step(pages) + 1}/" for number in range(_HOT)]
    calls = [caller(app, {"PATH_INFO": path}) for path in paths]
    for call in calls:
        call(3)
    found = []
    for _ in range(15):
        cpu = time.process_time()
        for _ in range(20):
            for call in calls:
                call(1)
        found.append((time.process_time() - cpu) / 20 / len(calls))
    return statistics.median(found)


def _regenerating(app: Flask, prerender: Prerender) -> dict[str, float]:
    """Return what it takes to make a page new, and what of that is writing down that it is."""
    store = app.extensions["prerender"].store
    page = store.get("/pages/7/")

    def note(number: int) -> None:
        store.put(replace(page, checked_at=page.checked_at + number), {})

    with app.app_context():
        regenerated = _time(lambda n: prerender.refresh(f"/pages/{n}/"), 50)
    page = store.get("/pages/7/")
    return {"regenerate": regenerated, "note": _time(note, 200)}


def _lists(app: Flask, pages: int) -> dict[str, float]:
    """Return what it takes to write the manifest and the sitemap, from the index and, where all
    pages can be had in memory, without it."""
    site = app.extensions["prerender"]
    target = site.output / "lists"
    target.mkdir(exist_ok=True)
    named = {"generated_at": site.clock(), "style": site.style, "base_url": site.base_url}

    def listed(_: int) -> None:
        manifest.write(target / "manifest.json", site.store.pages(), **named)

    def mapped(_: int) -> None:
        sitemap.write(target, site.store.pages(), base_url=site.base_url)

    facts = {"manifest": _time(listed, 1), "sitemap": _time(mapped, 1)}
    if pages <= _SERVED:
        known = list(site.store.pages())
        facts["sitemap_alone"] = _time(
            lambda _: sitemap.write(target, known, base_url=site.base_url), 3
        )
    return facts


def _memory(app: Flask, pages: int) -> dict[str, float]:
    """Return what a page weighs above its body, and what all of them take in a process."""
    size = len(_BODY.format(number=pages))
    gc.collect()
    before = child.resident()
    first, last = _HOT * 10, min(pages, _HOT * 10 + _WEIGHED)
    for number in range(first + 1, last + 1):
        _get(app, number)
    gc.collect()
    grown = (child.resident() - before) * 1024 * 1024
    facts = {"weight": grown / (last - first) - size} if last > first else {}
    for number in range(last + 1, min(pages, _SERVED) + 1):
        _get(app, number)
    return {**facts, "served_memory": child.resident() - before}


def _purging(app: Flask, prerender: Prerender) -> dict[str, float]:
    with app.app_context():
        one = _time(lambda n: prerender.purge(f"/pages/{n}/"), 20)
        every = _time(lambda _: prerender.purge(tag="all"), 1)
    after = _time(lambda n: _get(app, n), 1)
    return {"purge": one, "purge_all": every, "after_purge": after}


def measure(directory: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """Return facts by number of pages."""
    found = {}
    for pages in sizes:
        place = directory / str(pages)
        built = child.run("scale", "build", place, pages)
        found[str(pages)] = {**built, **child.run("scale", "use", place, pages)}
    return found


#: In the table: name, fact, and how it is written.
_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("a build, us a page", "build", lambda s: f"{s * 1e6:.0f}"),
    ("the same again, nothing changed, us a page", "again", lambda s: f"{s * 1e6:.0f}"),
    ("memory of the build, MB", "build_memory", lambda m: f"{m:.1f}"),
    ("start to first answer, ms", "start", lambda s: f"{s * 1e3:.1f}"),
    ("memory of the start, MB", "start_memory", lambda m: f"{m:.1f}"),
    ("a hit, 100 hot pages, us CPU", "hit", lambda s: f"{s * 1e6:.2f}"),
    ("a first hit, from disk, us", "disk_hit", lambda s: f"{s * 1e6:.0f}"),
    ("a page made new, ms", "regenerate", lambda s: f"{s * 1e3:.2f}"),
    ("noting that it is new, ms", "note", lambda s: f"{s * 1e3:.3f}"),
    ("memory of a page above its body, KB", "weight", lambda b: f"{b / 1024:.2f}"),
    ("memory of all pages served, MB", "served_memory", lambda m: f"{m:.0f}"),
    ("purge of one page, ms", "purge", lambda s: f"{s * 1e3:.2f}"),
    ("purge of all pages, ms", "purge_all", lambda s: f"{s * 1e3:.2f}"),
    ("first answer after it, ms", "after_purge", lambda s: f"{s * 1e3:.2f}"),
    ("writing the manifest, ms", "manifest", lambda s: f"{s * 1e3:.0f}"),
    ("writing the sitemap, ms", "sitemap", lambda s: f"{s * 1e3:.0f}"),
    ("the same without reading the index, ms", "sitemap_alone", lambda s: f"{s * 1e3:.0f}"),
)


def show(facts: Mapping[str, Any]) -> str:
    head = ("pages", *(f"{int(pages):,}" for pages in facts))
    rows = [
        (name, *(write(found[fact]) if fact in found else "-" for found in facts.values()))
        for name, fact, write in _ROWS
    ]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=("build", "use"))
    parser.add_argument("directory", type=Path)
    parser.add_argument("pages", type=int)
    args = parser.parse_args()
    child.tell((build if args.step == "build" else use)(args.directory, args.pages))


if __name__ == "__main__":
    main()
