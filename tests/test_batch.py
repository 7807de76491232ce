"""Pages of a build that are stored together: how many, how long they wait, what goes wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from conftest import Clock
from flask_prerender import batch as batches
from flask_prerender import generate
from flask_prerender import mark
from flask_prerender import signals
from flask_prerender.batch import Batch
from flask_prerender.batch import Waiting
from flask_prerender.generate import Build
from flask_prerender.publish import prepare
from flask_prerender.stores.files import FileStore

MakeApp = Callable[..., Flask]


def add_numbers(app: Flask, count: int, view: Any = None) -> Any:
    """Add pages ``/0``, ``/1`` and so on; return the site."""
    params = [{"number": number} for number in range(count)]
    view = view or (lambda number: f"page {number}")
    app.add_url_rule("/<int:number>", "page", mark(params=params)(view))
    return app.extensions["prerender"]


@pytest.fixture
def waiting(make_app: MakeApp) -> Iterator[tuple[Any, list[Waiting]]]:
    """A site, and six pages of 2 MB that are rendered and not stored."""
    site = add_numbers(make_app(), 6, lambda number: str(number) * 2_000_000)
    with_plan = Build(site)
    targets = list(with_plan.plan)
    with_plan.close()
    pages = [Waiting(one, prepare(site, one, origin="build", build=1)) for one in targets]
    yield site, pages


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Clock:
    monkeypatch.setattr(batches.time, "monotonic", clock)
    return clock


def test_a_batch_is_full_at_a_number_of_pages(waiting: Any, monotonic: Clock) -> None:
    site, pages = waiting
    batch = Batch(site, 3)
    small = [one._replace(result="no page") for one in pages]
    assert [len(batch.add(one, is_last=False)) for one in small] == [0, 0, 3, 0, 0, 3]


def test_a_batch_is_full_at_a_number_of_bytes(waiting: Any, monotonic: Clock) -> None:
    site, pages = waiting
    batch = Batch(site, 100)
    assert [len(batch.add(one, is_last=False)) for one in pages] == [0, 0, 3, 0, 0, 3]


def test_no_page_waits_for_others_that_may_not_come(waiting: Any, monotonic: Clock) -> None:
    site, pages = waiting
    batch = Batch(site, 100)
    assert batch.add(pages[0], is_last=True) == [pages[0]]
    assert batch.add(pages[1], is_last=False) == []
    monotonic.forward(0.05)
    assert batch.add(pages[2], is_last=False) == [] == batch.overdue()
    monotonic.forward(0.16)
    assert batch.overdue() == pages[1:3]
    assert batch.overdue() == []
    assert batch.add(pages[3], is_last=False) == []
    monotonic.forward(0.11)
    assert batch.add(pages[4], is_last=False) == pages[3:5]
    assert batch.add(pages[5], is_last=False) == []
    assert (batch.rest(), batch.rest()) == ([pages[5]], [])


def test_pages_are_stored_while_a_view_takes_long(make_app: MakeApp) -> None:
    done, seen = threading.Event(), []

    def view(number: int) -> str:
        if number == 3:
            deadline = time.monotonic() + 20
            while len(seen) < 3 and time.monotonic() < deadline:
                done.wait(0.01)
                seen[:] = [page.key for page in site.store.pages()]
        return f"page {number}"

    site = add_numbers(make_app(), 6, view)
    report = generate(site.app, concurrency=1)
    assert seen == ["/0", "/1", "/2"]
    assert report.counts == {"published": 6}


def test_the_order_is_that_of_the_plan_whatever_becomes_of_pages(make_app: MakeApp) -> None:
    def view(number: int) -> Any:
        return ("broken", 500) if number % 7 == 3 else f"page {number}"

    site = add_numbers(make_app(), 80, view)
    told: list[str] = []

    @signals.page_published.connect_via(site.app)
    @signals.page_refused.connect_via(site.app)
    def listen(sender: Flask, key: str, **extra: Any) -> None:
        told.append(key)

    outcomes = list(Build(site, concurrency=1).run())
    assert [outcome.key for outcome in outcomes] == [f"/{number}" for number in range(80)]
    assert sorted(told) == sorted(outcome.key for outcome in outcomes)
    assert {outcome.key for outcome in outcomes if not outcome.is_stored} == {
        f"/{number}" for number in range(3, 80, 7)
    }


class Counting(FileStore):
    """A store that notes how many pages came together, and refuses some batches."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.sizes: list[int] = []

    def put_all(self, batch: Any) -> Any:
        self.sizes.append(len(batch))
        if len(batch) > 1 and any(page.key == "/5" for page, _ in batch):
            raise RuntimeError("a bug of the store")
        return super().put_all(batch)


def test_a_bug_below_fails_the_pages_of_one_batch(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    site = add_numbers(make_app(store=Counting), 100)
    report = generate(site.app, concurrency=1)
    failed = report.count("failed")
    assert 0 < failed <= batches.MOST
    assert report.count("published") == 100 - failed
    assert report.reasons == {"internal": failed}
    assert "/5 could not be published" in caplog.text
    assert "a bug of the store" in caplog.text


def test_a_build_that_stops_at_the_first_failure_stores_each_page_at_once(
    make_app: MakeApp,
) -> None:
    site = add_numbers(make_app(store=Counting), 10)
    generate(site.app, concurrency=1, fail_fast=True)
    assert site.store.sizes == [1] * 10


def test_what_was_rendered_when_a_build_is_closed_is_stored(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_SECONDS", 60.0)  # a full batch, however slow the machine is
    closing, rendered = threading.Event(), []

    def view(number: int) -> str:
        if number == batches.MOST + 5:
            closing.wait(20)
        return f"page {number}"

    site = add_numbers(make_app(), 200, view)
    signals.render_finished.connect(
        lambda sender, key, **extra: rendered.append(key), site.app, weak=False
    )
    outcomes: Any = Build(site, concurrency=1).run()
    next(outcomes)
    closing.set()
    outcomes.close()
    assert len(rendered) > batches.MOST
    assert [page.key for page in site.store.pages()] == sorted(rendered)
